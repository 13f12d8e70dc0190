//! Stores a table's positions: soon after they change, and once at the end.
//!
//! Contract: what has changed is stored as soon as the store's interval allows, and as long as the store takes; one save is under way at a time. What
//! could not be stored, or may not be, is stored together with what has changed since. It runs once what an earlier run, or another
//! process, has left was taken over, and ends when another process has taken over from this one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Acknowledger as _, TableProgress};
use crate::checkpoint::{CheckpointStore, SaveError};
use crate::clock;
use crate::telemetry::events;

/// The kind of report under which failed writes are limited.
const STORE_FAILURE: &str = "checkpoint";

/// After a save that failed the next one begins so much later.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The last save is tried again for so long, after pauses of so much: who goes on repeats what it does not bring.
const LAST_TRIES: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_millis(100);

/// How often shards are looked for whose continuity was stored too long ago.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// Keeps one table's positions in the store.
pub struct Checkpointer {
    pub progress: Arc<TableProgress>,
    pub store: Arc<dyn CheckpointStore>,
    /// The table's name in the store.
    pub key: String,
    /// What it is doing, for those who watch that it goes on.
    pub activity: Arc<CheckpointerActivity>,
}

/// What a checkpointer tries to store.
#[derive(Debug, Default)]
pub struct CheckpointerActivity(Mutex<Attempts>);

#[derive(Debug, Default)]
struct Attempts {
    begun: u64,
    /// The store has not answered yet.
    under_way: bool,
}

impl CheckpointerActivity {
    /// How often it has tried to store, if it does not try at the moment.
    pub fn waiting(&self) -> Option<u64> {
        let attempts = self.attempts();
        (!attempts.under_way).then_some(attempts.begun)
    }

    /// A try begins; it ends with what is returned.
    fn begin(&self) -> Trying<'_> {
        let mut attempts = self.attempts();
        attempts.begun += 1;
        attempts.under_way = true;
        Trying(self)
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A try to store, until it has ended or was given up.
struct Trying<'a>(&'a CheckpointerActivity);

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        self.0.attempts().under_way = false;
    }
}

/// Another process has taken over the table: nothing of it is stored here any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another process has taken over the positions")]
pub struct Fenced;

#[derive(Default)]
struct LastSave {
    begun: Option<Instant>,
    /// Since when there has been something to store.
    behind_since: Option<Instant>,
}

impl LastSave {
    /// When the next one may begin, in a store of which saves lie so far apart. The first one may at once: reading waits for it.
    fn next(&self, interval: Duration) -> Instant {
        let pause = if self.behind_since.is_some() { RETRY_INTERVAL.max(interval) } else { interval };
        self.begun.map_or_else(Instant::now, |begun| begun + pause)
    }
}

impl Checkpointer {
    /// Stores until told to stop, and then once more, which is tried again for a second.
    ///
    /// # Errors
    /// When another process has taken over.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Fenced> {
        let mut last = LastSave::default();
        let mut look = Instant::now() + LOOK_INTERVAL;
        while !stop.is_cancelled() {
            select! {
                () = stop.cancelled() => break,
                () = self.progress.changed() => {}
                () = sleep_until(look) => {}
            }
            if look <= Instant::now() {
                look = Instant::now() + LOOK_INTERVAL;
                self.progress.tracker().verify(self.store.verification_age(), clock::now());
            }
            select! {
                () = stop.cancelled() => break,
                () = sleep_until(last.next(self.store.interval())) => {}
            }
            self.store_changes(&mut last).await?;
        }
        let told_to_stop = Instant::now();
        self.store_changes(&mut last).await?;
        while self.progress.tracker().has_changes() && told_to_stop.elapsed() < LAST_TRIES {
            sleep(LAST_PAUSE).await;
            self.store_changes(&mut last).await?;
        }
        Ok(())
    }

    async fn store_changes(&self, last: &mut LastSave) -> Result<(), Fenced> {
        let gauge = &self.progress.telemetry().metrics().checkpoint_age;
        let (has_moved, changes) = {
            let mut tracker = self.progress.tracker();
            (tracker.dirty.have_moved(), tracker.take_changes())
        };
        if changes.is_empty() {
            self.announce();
            return Ok(());
        }
        let now = Instant::now();
        last.begun = Some(now);
        let behind_since = *last.behind_since.get_or_insert(now);
        let trying = self.activity.begin();
        let saved = self.store.save(&self.key, changes.clone()).await;
        drop(trying);
        match saved {
            Ok(()) => {
                last.behind_since = None;
                self.progress.confirm(&changes);
                self.written(Ok(()));
                if has_moved {
                    self.progress.telemetry().progress_stored(clock::now());
                }
                gauge.set(0.0);
                self.announce();
            }
            Err(SaveError::Fenced(_)) => return Err(Fenced),
            Err(error) => {
                self.progress.change(|tracker| tracker.put_back(changes));
                self.written(Err(&error.to_string()));
                gauge.set(behind_since.elapsed().as_secs_f64());
            }
        }
        Ok(())
    }

    /// Counts a write and tells readiness. The first failure is logged, then one a minute, and the end of it.
    fn written(&self, result: Result<(), &str>) {
        let telemetry = self.progress.telemetry();
        self.progress.health().record_store_error(result.err());
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
    fn announce(&self) {
        if self.progress.is_listed() {
            self.progress.health().mark_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{MemoryStore, StoredShard, StoredStream, StoredTable};
    use crate::progress::buffer::Buffer;
    use crate::progress::page_entry::PageEntry;
    use crate::progress::table_tracker::PageRead;
    use crate::readiness::Health;
    use crate::records::{LaneId, Position, StreamDetails};
    use crate::telemetry::TableTelemetry;
    use crate::telemetry::logs::capture;
    use crate::telemetry::metrics::Metrics;

    /// Who has lost the stored positions begins at the last progress: an idle table's may be long ago, and nothing was written since.
    #[tokio::test(start_paused = true)]
    async fn that_a_position_still_holds_is_stored_and_is_no_progress() {
        const STREAM: &str = "arn:aws:dynamodb:eu-west-1:111122223333:table/orders/stream/2026-01-01T00:00:00.000";
        let metrics = Metrics::new("t", "t").unwrap();
        let telemetry = TableTelemetry::new("orders", &metrics);
        let progress =
            TableProgress::new(false, Buffer::new(1 << 20), telemetry.clone(), Health::default().table("orders"));
        let (hour, now) = (Duration::from_hours(1), clock::now());
        let shards = [("shard".to_owned(), StoredShard::at(Position::Start, now - 2 * hour, None))].into();
        let stream = StoredStream { arn: STREAM.to_owned(), start: Position::Start, done: false, shards };
        progress.restore(StoredTable { streams: vec![stream], stopped: None });
        let store = Arc::new(MemoryStore::default());
        let checkpointer =
            Checkpointer { progress: progress.clone(), store, key: "orders".to_owned(), activity: Arc::default() };
        let mut last = LastSave::default();
        let shard = {
            let mut tracker = progress.tracker();
            let details = Arc::new(StreamDetails::from_arn(STREAM));
            let stream = tracker.open_stream(details, Position::Start, true, now);
            let shard = tracker.open_ready(stream)[0].handle;
            for asked_at in [now - hour, now] {
                PageEntry::of(&mut tracker, shard).read(PageRead { asked_at, is_caught_up: true, is_last: false });
            }
            shard
        };
        let moved = || metrics.encode().unwrap().contains("last_progress_timestamp_seconds{");
        let stored = |times| {
            metrics.encode().unwrap().contains(&format!("writes_total{{result=\"ok\",table=\"orders\"}} {times}"))
        };
        for (hours, times) in [(2, 1), (3, 2)] {
            let at = now + hours * hour;
            let page = PageRead { asked_at: at, is_caught_up: true, is_last: false };
            PageEntry::of(&mut progress.tracker(), shard).read(page);
            progress.tracker().verify(5 * hour / 60, at);
            checkpointer.store_changes(&mut last).await.unwrap();
            assert!(stored(times) && !moved(), "hour {hours}: {}", metrics.encode().unwrap());
        }
        let sequence = "1".parse().unwrap();
        let owed = PageEntry::of(&mut progress.tracker(), shard).record(sequence, LaneId::of_shard("item"), Some(now));
        let token = owed.unwrap().token.unwrap();
        progress.change(|tracker| tracker.settle(&token));
        checkpointer.store_changes(&mut last).await.unwrap();
        assert!(moved());
    }

    #[tokio::test(start_paused = true)]
    async fn positions_that_cannot_be_stored_are_logged_at_first_and_at_last_and_keep_a_table_from_being_ready() {
        let (health, metrics) = (Health::default(), Metrics::new("t", "t").unwrap());
        let telemetry = TableTelemetry::new("orders", &metrics);
        let table = health.table("orders");
        let progress = TableProgress::new(false, Buffer::new(1 << 20), telemetry, table.clone());
        let store = Arc::new(MemoryStore::default());
        let checkpointer = Checkpointer { progress, store, key: "orders".to_owned(), activity: Arc::default() };
        table.mark_reading();
        let lines = capture::objects(|| {
            checkpointer.written(Ok(()));
            for _ in 0..5 {
                checkpointer.written(Err("no space left"));
            }
            assert!(health.not_ready(Instant::now()).unwrap().contains("no space left"));
            checkpointer.written(Ok(()));
            checkpointer.written(Ok(()));
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
