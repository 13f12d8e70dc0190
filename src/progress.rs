//! What is known of a table's shards, from listing to stored position: one state machine a table, [`table_tracker::TableTracker`].
//!
//! Contract:
//! - What was read is entered before it is handed to delivery, in the order in which it was read.
//! - The tracker is locked for single steps and whole pages, never across an await.

pub mod buffer;
pub mod catch_up;
pub mod checkpointer;
pub mod left_out;
mod left_out_lanes;
pub mod lineage;
pub mod ownership;
pub mod page_entry;
pub mod shard_progress;
pub mod table_tracker;
mod tracked_shard;
mod tracked_stream;
mod unstored;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use self::buffer::Buffer;
use self::catch_up::CatchUp;
use self::ownership::Ownership;
pub use self::table_tracker::AckToken;
use self::table_tracker::{ShardHandle, StreamHandle, TableTracker};
use crate::backoff::pause_after;
use crate::checkpoint::{CheckpointStore, StoredChanges, StoredTable};
use crate::clock;
use crate::lease::Tenure;
use crate::readiness::TableHealth;
use crate::telemetry::{TableTelemetry, events};

/// The pauses between tries to read what is stored.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Waits for stored positions that cannot be read now; logs the first failure and its end.
pub struct PositionsWait<'t> {
    /// None: they are the whole process's.
    table: Option<&'t str>,
    failures: u32,
}

impl<'t> PositionsWait<'t> {
    /// Of a table, or of the whole process; no try has failed.
    pub fn new(table: Option<&'t str>) -> Self {
        Self { table, failures: 0 }
    }

    /// A try has failed: waits until the next one.
    pub async fn failed(&mut self, why: &str) {
        if self.failures == 0 {
            events::PositionsAwaited { table: self.table, why }.emit();
        }
        self.failures += 1;
        sleep(pause_after(self.failures, PAUSE_MIN, PAUSE_MAX, fastrand::f64())).await;
    }

    /// Whether a try has failed.
    fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// A try has worked.
    pub fn succeeded(&self) {
        if self.failures > 0 {
            events::PositionsThere { table: self.table }.emit();
        }
    }
}

/// A table's progress as delivery sees it: it is told when an event has reached its end.
pub trait Acknowledger: Send + Sync {
    /// An event reached its end; called once for each. `cost` is what it took of the buffer.
    fn acknowledge(&self, token: Option<AckToken>, cost: usize);

    /// An event stays owed although nobody keeps it: what it took of the buffer is free.
    fn release(&self, cost: usize);

    /// Whether an event may be left out: those of gaps may not, nor what is about to be trimmed and could not be read again; with order
    /// by shard none may. Where one may, so may those that follow it in its lane.
    fn may_leave_out(&self, _token: &AckToken) -> bool {
        false
    }

    /// Events of one lane, in its order and up to the last one that was handed on, are given up for now because the lane is too long:
    /// each with its `cost`, what it took of the buffer, which is given back. They stay owed, take no memory, and come again, by one
    /// more reading of their shard: once everything before them in their lane is settled, or, if nothing is, after
    /// [`Acknowledger::readmit`]. So does what was handed on behind them and is still on its way: see [`Acknowledger::is_left_out`].
    fn leave_out(&self, left_out: Vec<(AckToken, usize)>) {
        debug_assert!(left_out.is_empty(), "who leaves nothing out was asked to");
    }

    /// Whether this event was left out since it was handed on, together with one before it: then it is not to be delivered, and is
    /// given back by [`Acknowledger::leave_out`]. Cheap while no lane of the table is left out.
    fn is_left_out(&self, _token: &AckToken) -> bool {
        false
    }

    /// There is room again: lanes that were left out as a whole may come again.
    fn readmit(&self) {}

    /// Which table of the process it is, counted from 0.
    fn table(&self) -> usize {
        0
    }

    /// The tenure during which the table's events may be delivered, or the last one, which is over; none where the table is nobody else's.
    /// Cheap there.
    fn tenure(&self) -> Option<Arc<Tenure>> {
        None
    }

    /// What the table says about itself.
    fn telemetry(&self) -> &TableTelemetry;

    /// The table's part in readiness.
    fn health(&self) -> &TableHealth;
}

/// One table's tracker behind its lock; changes wake those who wait for them.
pub struct TableProgress {
    tracker: Mutex<TableTracker>,
    is_ordered_by_shard: bool,
    ownership: Ownership,
    buffer: Arc<Buffer>,
    telemetry: Arc<TableTelemetry>,
    health: Arc<TableHealth>,
    settled: Notify,
    changed: Notify,
    is_listed: AtomicBool,
    /// What an earlier run has stored was taken over, or that it has stored nothing. Changed only while the tracker is locked: whoever
    /// holds the tracker sees both as of one moment.
    is_restored: AtomicBool,
    /// Whether it is stored where the table's first stream begins.
    is_start_stored: watch::Sender<bool>,
    /// What was handed on before this entry may have been left out since.
    left_out_before: AtomicU64,
    /// How often passes have become due.
    passes_due: watch::Sender<u64>,
}

impl TableProgress {
    /// A table of which nothing is known. `is_ordered_by_shard`: lanes are of shards, not of items.
    pub fn new(
        is_ordered_by_shard: bool,
        buffer: Arc<Buffer>,
        telemetry: Arc<TableTelemetry>,
        health: Arc<TableHealth>,
    ) -> Arc<Self> {
        Arc::new(Self {
            tracker: Mutex::new(TableTracker::restored(StoredTable::default(), is_ordered_by_shard)),
            is_ordered_by_shard,
            ownership: Ownership::default(),
            buffer,
            telemetry,
            health,
            settled: Notify::new(),
            changed: Notify::new(),
            is_listed: AtomicBool::new(false),
            is_restored: AtomicBool::new(false),
            is_start_stored: watch::Sender::new(false),
            left_out_before: AtomicU64::new(0),
            passes_due: watch::Sender::new(0),
        })
    }

    /// Takes over what an earlier run has stored under this name, however long it takes.
    pub async fn load(&self, store: &dyn CheckpointStore, key: &str) {
        let mut wait = PositionsWait::new(Some(self.telemetry.table()));
        loop {
            match store.load(key).await {
                Ok(stored) => {
                    self.health.record_store_error(None);
                    if wait.has_failed() {
                        self.health.mark_reading();
                    }
                    wait.succeeded();
                    return self.restore(stored.unwrap_or_default());
                }
                Err(error) => {
                    let why = error.to_string();
                    self.health.record_store_error(Some(&why));
                    // Also of one that was ready before: nobody reads the table meanwhile.
                    self.health.mark_waiting_for("its stored positions");
                    wait.failed(&why).await;
                }
            }
        }
    }

    /// Takes over what an earlier run, or another process, has stored. Before that nothing is stored.
    pub fn restore(&self, stored: StoredTable) {
        self.replace_tracker(stored, true);
    }

    fn replace_tracker(&self, stored: StoredTable, is_restored: bool) {
        self.is_start_stored.send_replace(!stored.streams.is_empty());
        let mut tracker = self.tracker();
        let numbered = tracker.next_ordinal();
        *tracker = TableTracker::restored(stored, self.is_ordered_by_shard);
        // No two entries of this process have the same number.
        tracker.number_from(numbered);
        self.is_restored.store(is_restored, Ordering::Release);
        drop(tracker);
        self.changed.notify_one();
    }

    /// Whether nobody here knows how far behind the table is: what an earlier run has stored of it was not found or not read yet, and no
    /// other process is known to have its lease. What the tracker says belongs to the answer only if it is held meanwhile.
    pub fn is_unknown(&self) -> bool {
        !self.is_restored.load(Ordering::Acquire) && self.ownership.awaited().is_none()
    }

    /// Forgets all that is known of the table: it is another process's now, or may be. Nobody here reads it any more, and no event of it is
    /// on its way.
    pub fn reset(&self) {
        self.replace_tracker(StoredTable::default(), false);
        self.is_listed.store(false, Ordering::Release);
        self.buffer.clear();
        self.telemetry.metrics().checkpoint_age.set(0.0);
        self.telemetry.shards(0, 0, 0);
    }

    /// What the table says about itself, for whoever says something of it besides.
    pub fn shared_telemetry(&self) -> Arc<TableTelemetry> {
        self.telemetry.clone()
    }

    /// Whose the table is.
    pub fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// The tracker, for one step or one look.
    pub fn tracker(&self) -> MutexGuard<'_, TableTracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the tracker, and wakes whoever stores it.
    pub fn change<T>(&self, change: impl FnOnce(&mut TableTracker) -> T) -> T {
        let (changed, has_finished, is_pass_due) = {
            let mut tracker = self.tracker();
            let before = tracker.finished();
            let changed = change(&mut tracker);
            let is_pass_due = CatchUp::of(&mut tracker).take_news();
            (changed, tracker.finished() != before, is_pass_due)
        };
        self.changed.notify_one();
        if is_pass_due {
            self.passes_due.send_modify(|times| *times += 1);
        }
        if has_finished {
            self.settled.notify_waiters();
        }
        changed
    }

    /// The table's part of the memory for records.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// Changes when a pass over what is left out of a shard has become due.
    pub fn passes_due(&self) -> watch::Receiver<u64> {
        self.passes_due.subscribe()
    }

    /// Waits until something may have changed that is to be stored.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// These changes are stored for certain.
    pub fn confirm(&self, changes: &StoredChanges) {
        if !changes.streams.is_empty() {
            self.is_start_stored.send_replace(true);
        }
    }

    /// Waits until it is stored where the table begins. Who delivers before that and is killed leaves nothing behind: the next one
    /// begins at a moment of its own, and what was written in between is lost.
    pub async fn start_is_stored(&self) {
        // The sender is part of this.
        let _ = self.is_start_stored.subscribe().wait_for(|is_stored| *is_stored).await;
    }

    /// The table's stream was listed as a whole.
    pub fn mark_listed(&self) {
        self.is_listed.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Whether the table's stream was listed as a whole.
    pub fn is_listed(&self) -> bool {
        self.is_listed.load(Ordering::Acquire)
    }

    /// With order by shard nothing else keeps an item's order across two streams: waits until everything in earlier ones is
    /// settled. With order by item there is nothing to wait for.
    pub async fn earlier_streams_are_settled(&self, stream: StreamHandle) {
        self.is_settled(|tracker| tracker.is_settled_before(stream)).await;
    }

    /// The same for two shards of which one continues the other, as its child or further down. Says whether there was anything to wait
    /// for.
    pub async fn ancestors_are_settled(&self, shard: ShardHandle) -> bool {
        self.is_settled(|tracker| tracker.ancestors_are_settled(shard)).await
    }

    /// With order by shard, waits until this is so; says whether it was not yet.
    async fn is_settled(&self, is_settled: impl Fn(&TableTracker) -> bool) -> bool {
        if !self.is_ordered_by_shard {
            return false;
        }
        let mut has_waited = false;
        loop {
            let settled = self.settled.notified();
            if is_settled(&self.tracker()) {
                return has_waited;
            }
            has_waited = true;
            settled.await;
        }
    }
}

impl Acknowledger for TableProgress {
    fn acknowledge(&self, token: Option<AckToken>, cost: usize) {
        if let Some(token) = token {
            self.change(|tracker| tracker.settle(&token));
        }
        self.buffer.release(cost);
    }

    fn release(&self, cost: usize) {
        self.buffer.release(cost);
    }

    fn may_leave_out(&self, token: &AckToken) -> bool {
        CatchUp::of(&mut self.tracker()).may_leave_out(token, clock::now())
    }

    fn leave_out(&self, left_out: Vec<(AckToken, usize)>) {
        let next = self.change(|tracker| {
            CatchUp::of(tracker).leave_out(left_out.iter().map(|(token, _)| token));
            tracker.next_ordinal()
        });
        self.left_out_before.fetch_max(next, Ordering::AcqRel);
        self.buffer.release(left_out.iter().map(|(_, cost)| cost).sum());
    }

    fn is_left_out(&self, token: &AckToken) -> bool {
        let may_be = token.is_before(self.left_out_before.load(Ordering::Acquire));
        may_be && CatchUp::of(&mut self.tracker()).is_left_out(token)
    }

    fn readmit(&self) {
        self.change(|tracker| CatchUp::of(tracker).readmit());
    }

    fn table(&self) -> usize {
        self.buffer.table()
    }

    fn tenure(&self) -> Option<Arc<Tenure>> {
        self.ownership.tenure()
    }

    fn telemetry(&self) -> &TableTelemetry {
        &self.telemetry
    }

    fn health(&self) -> &TableHealth {
        &self.health
    }
}
