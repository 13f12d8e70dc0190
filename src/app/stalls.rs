//! Finds parts of the process that stand still although nothing hinders them.
//!
//! Contract: such a part fails the liveness probe once it has stood still for [`PATIENCE`], and no longer than it does. A
//! part that waits for AWS, the sink or the store is not blocked, nor is a table that is read no further, or that is another process's.
//!
//! The parts publish what they wait for. A part is suspected when it should not be waiting at the moment; it stands still when
//! it is suspected of the same step at every look for so long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::table::{PagesWaiting, Table};
use crate::delivery::dispatcher::DispatcherActivity;
use crate::delivery::handover::Handover;
use crate::pipeline::PipelineActivity;
use crate::progress::catch_up::CatchUp;
use crate::progress::checkpointer::CheckpointerActivity;
use crate::progress::{Acknowledger as _, TableProgress};
use crate::readiness::Health;
use crate::streams::{Activity, Room};
use crate::telemetry::events;

/// How long a part may stand still.
const PATIENCE: Duration = Duration::from_secs(120);

const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// All parts that are watched.
pub(super) struct Watched {
    tables: Vec<WatchedTable>,
    dispatcher: Arc<DispatcherActivity>,
    events: mpsc::WeakSender<Handover>,
}

struct WatchedTable {
    progress: Arc<TableProgress>,
    reading: Arc<Activity>,
    pipeline: Arc<PipelineActivity>,
    checkpointer: Arc<CheckpointerActivity>,
    pages: Arc<PagesWaiting>,
}

/// A part that should not be waiting: who does not do what, and the number of the step in which it waits.
type Suspect = (String, u64);

/// The suspects, and since when each has been one.
#[derive(Debug, Default)]
struct Suspects(BTreeMap<Suspect, Instant>);

/// Looks until it is ended.
pub(super) async fn watch(watched: Watched, health: Arc<Health>) {
    let mut suspects = Suspects::default();
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = ticks.tick().await;
        let stalled = suspects.seen(watched.suspects(now), now);
        if health.not_live().is_some() != stalled.is_some() {
            events::Stalled { what: stalled.as_deref() }.emit();
        }
        health.set_stalled(stalled);
    }
}

impl Suspects {
    /// Takes in who is suspected now. Returns who has been for so long that it stands still.
    fn seen(&mut self, now_suspected: Vec<Suspect>, now: Instant) -> Option<String> {
        let since = now_suspected.into_iter().map(|suspect| {
            let since = self.0.get(&suspect).copied().unwrap_or(now);
            (suspect, since)
        });
        self.0 = since.collect();
        let ((what, _), since) = self.0.iter().min_by_key(|(_, since)| **since)?;
        let lasts = now.duration_since(*since);
        (lasts >= PATIENCE).then(|| {
            format!(
                "{what}, for {} s, and neither AWS, the sink nor the store of positions is the cause",
                lasts.as_secs()
            )
        })
    }
}

impl Watched {
    pub(super) fn new(
        tables: &[Table],
        dispatcher: Arc<DispatcherActivity>,
        events: mpsc::WeakSender<Handover>,
    ) -> Self {
        Self { tables: tables.iter().map(WatchedTable::of).collect(), dispatcher, events }
    }

    fn suspects(&self, now: Instant) -> Vec<Suspect> {
        let handed_in = self.events.upgrade().is_some_and(|events| holds_any(&events));
        let dispatcher = self.dispatcher.overdue(handed_in, now);
        let dispatcher = dispatcher.map(|(what, step)| (format!("the dispatcher {what}"), step));
        self.tables.iter().flat_map(|table| table.suspects(now)).chain(dispatcher).collect()
    }
}

impl WatchedTable {
    fn of(table: &Table) -> Self {
        Self {
            progress: table.progress.clone(),
            reading: table.reading.clone(),
            pipeline: table.pipeline.clone(),
            checkpointer: table.checkpointer.clone(),
            pages: table.pages.clone(),
        }
    }

    fn suspects(&self, now: Instant) -> Vec<Suspect> {
        let telemetry = self.progress.telemetry();
        if self.progress.health().has_stopped() || self.progress.ownership().is_waiting() {
            return Vec::new();
        }
        let pages = self.pages.sender();
        let (unsettled, has_changes, overdue_pass) = {
            let mut tracker = self.progress.tracker();
            let overdue_pass = CatchUp::of(&mut tracker).overdue(now);
            (tracker.unsettled(), tracker.has_changes(), overdue_pass)
        };
        let room = Room {
            free: self.progress.buffer().has_room(),
            held: unsettled > 0,
            below: pages.as_ref().is_some_and(|pages| pages.capacity() > 0),
        };
        let overdue = self.reading.overdue(room, now);
        let mut suspects: Vec<Suspect> =
            overdue.into_iter().map(|(task, step)| (format!("{task} does not go on"), step)).collect();
        // Where a shard's existence is in doubt, so is when it can be read again.
        let may_pass = room.free && room.below && !self.reading.awaits_listing();
        if let Some(passes) = overdue_pass.filter(|_| may_pass) {
            suspects.push(("what was left out is not read again".to_owned(), passes));
        }
        if pages.is_some_and(|pages| holds_any(&pages)) {
            suspects.push(("the pipeline takes in no pages".to_owned(), self.pipeline.pages_taken()));
        }
        if let Some(tried) = self.checkpointer.waiting().filter(|_| has_changes) {
            suspects.push(("changed positions are not written".to_owned(), tried));
        }
        let table = telemetry.table();
        suspects.into_iter().map(|(what, step)| (format!("table {table}: {what}"), step)).collect()
    }
}

/// Whether anything waits in a channel.
fn holds_any<T>(sender: &mpsc::Sender<T>) -> bool {
    sender.capacity() < sender.max_capacity()
}

#[cfg(test)]
mod tests;
