//! Stores a table's positions: at most once a second while something changes, at once where it matters, once at the end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Books;
use crate::checkpoint::CheckpointStore;
use crate::clock;
use crate::progress::ledger::VERIFICATION;
use crate::telemetry::events;

/// The kind of report under which failed writes are limited.
const STORE_FAILURE: &str = "checkpoint";

const INTERVAL: Duration = Duration::from_secs(1);

/// Keeps one table's positions in the store.
pub struct Keeper {
    pub books: Arc<Books>,
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
            select! {
                () = stop.cancelled() => break,
                () = self.books.urgent.notified() => {}
                _ = ticks.tick() => {}
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
        let stale = kept.at.elapsed() >= VERIFICATION;
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

    /// Counts a write and tells readiness. The first failure is logged, then one a minute, and the end of it.
    fn written(&self, result: Result<(), &str>) {
        let telemetry = &self.books.telemetry;
        self.books.health.record_store_error(result.err());
        let outcome = if result.is_ok() { "ok" } else { "error" };
        telemetry.metrics().checkpoint_writes.with_label_values(&[telemetry.table(), outcome]).inc();
        match result {
            Ok(()) => {
                if let Some(failed) = telemetry.report_over(STORE_FAILURE) {
                    events::CheckpointRecovered { failed }.emit(telemetry);
                }
            }
            Err(error) => {
                if telemetry.report_due(STORE_FAILURE).is_some() {
                    events::CheckpointFailed { error }.emit(telemetry);
                }
            }
        }
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
    use crate::telemetry::logs::capture;
    use crate::telemetry::metrics::Metrics;

    #[tokio::test(start_paused = true)]
    async fn positions_that_cannot_be_stored_are_logged_at_first_and_at_last_and_keep_a_table_from_being_ready() {
        let (health, metrics) = (Health::default(), Metrics::new("t", "t").unwrap());
        let telemetry = TableTelemetry::new("orders", &metrics);
        let table = health.table("orders");
        let books = Books::new(Ledger::default(), Budget::new(1 << 20), telemetry, table.clone());
        let store = Arc::new(MemoryStore::default());
        let keeper = Keeper { books, store, table: "orders".to_owned(), activity: Arc::default() };
        table.mark_reading();
        let lines = capture::objects(|| {
            keeper.written(Ok(()));
            for _ in 0..5 {
                keeper.written(Err("no space left"));
            }
            assert!(health.not_ready(Instant::now()).unwrap().contains("no space left"));
            keeper.written(Ok(()));
            keeper.written(Ok(()));
            assert!(!health.not_ready(Instant::now()).unwrap().contains("no space left"));
        });
        let codes: Vec<&str> = lines.iter().filter_map(|line| line["code"].as_str()).collect();
        assert_eq!(codes, ["DSA-CHECKPOINT-FAILED"]);
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[1]["message"], &lines[1]["failed"]), (&"positions are stored again".into(), &5.into()));
        let text = metrics.encode().unwrap();
        assert!(text.contains(r#"checkpoint_writes_total{result="error",table="orders"} 5"#), "{text}");
        assert!(text.contains(r#"checkpoint_writes_total{result="ok",table="orders"} 3"#), "{text}");
    }
}
