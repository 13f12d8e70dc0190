//! Stores a table's positions: at most once a second while something changes, at once where it matters, once at the end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Books;
use crate::checkpoint::CheckpointStore;

const INTERVAL: Duration = Duration::from_secs(1);

/// Positions that do not change are stored anew this often: their age tells a later run whether anything can have been
/// trimmed in the meantime.
const REFRESH: Duration = Duration::from_secs(60 * 60);

/// Keeps one table's positions in the store.
pub struct Keeper {
    /// The books.
    pub books: Arc<Books>,
    /// The store.
    pub store: Arc<dyn CheckpointStore>,
    /// The table's name in it.
    pub table: String,
}

struct Kept {
    changes: Option<u64>,
    at: Instant,
    /// Since when there has been something to store.
    behind_since: Option<Instant>,
}

impl Keeper {
    /// Stores until told to stop, and then once more.
    pub async fn run(self, stop: CancellationToken) {
        let mut kept = Kept { changes: None, at: Instant::now(), behind_since: None };
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.books.urgent.notified() => {}
                () = stop.cancelled() => break,
            }
            self.keep(&mut kept).await;
        }
        self.keep(&mut kept).await;
    }

    async fn keep(&self, kept: &mut Kept) {
        let changes = self.books.ledger().changes();
        let stale = kept.at.elapsed() >= REFRESH;
        let gauge = &self.books.telemetry.metrics().checkpoint_age;
        if kept.changes == Some(changes) && !stale {
            gauge.set(0.0);
            self.announce(kept);
            return;
        }
        let behind_since = *kept.behind_since.get_or_insert_with(Instant::now);
        let state = self.books.ledger().state(SystemTime::now());
        if state.streams.is_empty() {
            return;
        }
        match self.store.save(&self.table, state).await {
            Ok(()) => {
                *kept = Kept { changes: Some(changes), at: Instant::now(), behind_since: None };
                self.books.telemetry.checkpoint_written(Ok(()));
                gauge.set(0.0);
                self.announce(kept);
            }
            Err(error) => {
                self.books.telemetry.checkpoint_written(Err(&error.to_string()));
                gauge.set(behind_since.elapsed().as_secs_f64());
            }
        }
    }

    /// Ready is who has been listed and has stored where it began.
    fn announce(&self, kept: &Kept) {
        if self.books.is_listed() && kept.changes.is_some() {
            self.books.telemetry.health().is_ready();
        }
    }
}
