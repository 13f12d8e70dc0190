//! Stores a table's positions: at most once a second while something changes, at once where it matters, once at the end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Books;
use crate::checkpoint::CheckpointStore;
use crate::clock;

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
    /// What it is doing, for those who watch that it goes on.
    pub activity: Arc<KeeperActivity>,
}

/// What a keeper has stored and tries to store.
#[derive(Debug, Default)]
pub struct KeeperActivity(Mutex<Attempts>);

#[derive(Debug, Default)]
struct Attempts {
    /// [`crate::progress::ledger::Ledger::changes`] as they were stored last.
    stored: Option<u64>,
    begun: u64,
    /// The store has not answered yet.
    under_way: bool,
}

impl KeeperActivity {
    /// How often it has tried to store, if the changes of the books are others now than those stored, and it does not try
    /// at the moment.
    pub fn behind(&self, changes: u64) -> Option<u64> {
        let attempts = self.attempts();
        let behind = changes > 0 && attempts.stored != Some(changes) && !attempts.under_way;
        behind.then_some(attempts.begun)
    }

    fn begin(&self) {
        let mut attempts = self.attempts();
        attempts.begun += 1;
        attempts.under_way = true;
    }

    fn end(&self, stored: Option<u64>) {
        let mut attempts = self.attempts();
        attempts.stored = stored;
        attempts.under_way = false;
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        if self.books.are_broken() {
            return;
        }
        let changes = self.books.ledger().changes();
        let stale = kept.at.elapsed() >= REFRESH;
        let gauge = &self.books.telemetry.metrics().checkpoint_age;
        if kept.changes == Some(changes) && !stale {
            gauge.set(0.0);
            self.announce(kept);
            return;
        }
        let behind_since = *kept.behind_since.get_or_insert_with(Instant::now);
        let state = self.books.ledger().state(clock::now());
        if state.streams.is_empty() {
            return;
        }
        self.activity.begin();
        let saved = self.store.save(&self.table, state).await;
        match saved {
            Ok(()) => {
                self.activity.end(Some(changes));
                *kept = Kept { changes: Some(changes), at: Instant::now(), behind_since: None };
                self.written(Ok(()));
                gauge.set(0.0);
                self.announce(kept);
            }
            Err(error) => {
                self.activity.end(kept.changes);
                self.written(Err(&error.to_string()));
                gauge.set(behind_since.elapsed().as_secs_f64());
            }
        }
    }

    fn written(&self, result: Result<(), &str>) {
        self.books.health.record_store_error(result.err());
        self.books.telemetry.checkpoint_written(result);
    }

    /// A table is ready once its shards are listed and its start position is stored.
    fn announce(&self, kept: &Kept) {
        if self.books.is_listed() && kept.changes.is_some() {
            self.books.health.mark_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::MemoryStore;
    use crate::progress::ledger::Ledger;
    use crate::readiness::Health;
    use crate::streams::budget::Budget;
    use crate::telemetry::TableTelemetry;
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn positions_that_cannot_be_stored_are_the_reason_why_a_table_is_not_ready() {
        let (health, metrics) = (Health::default(), Metrics::new("t", "t").unwrap());
        let telemetry = TableTelemetry::new("orders", &metrics);
        let table = health.table("orders");
        let books = Books::new(Ledger::default(), Budget::new(1 << 20), telemetry, table.clone());
        let store = Arc::new(MemoryStore::default());
        let keeper = Keeper { books, store, table: "orders".to_owned(), activity: Arc::default() };
        table.mark_reading();
        keeper.written(Err("no space left"));
        assert!(health.not_ready(Instant::now()).unwrap().contains("no space left"));
        keeper.written(Ok(()));
        assert!(!health.not_ready(Instant::now()).unwrap().contains("no space left"));
    }
}
