//! Finds parts of the process that stand still although nothing hinders them.
//!
//! Contract: such a part fails the liveness probe once it has stood still for [`PATIENCE`], and no longer than it does. A
//! part that waits for AWS, the sink or the store is not blocked, nor is a table that is read no further.
//!
//! The parts publish what they wait for. A part is suspected when it should not be waiting at the moment; it stands still when
//! it is suspected of the same step at every look for so long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::table::Table;
use crate::delivery::dispatch::DispatcherActivity;
use crate::delivery::parcel::{Account, Parcel};
use crate::pipeline::Books;
use crate::pipeline::keeper::KeeperActivity;
use crate::readiness::Health;
use crate::streams::reading::{Activity, Reading, Room};
use crate::streams::update::Update;
use crate::telemetry::events;

/// How long a part may stand still.
const PATIENCE: Duration = Duration::from_secs(120);

const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// All parts that are watched.
pub(super) struct Watched {
    tables: Vec<WatchedTable>,
    dispatcher: Arc<DispatcherActivity>,
    parcels: mpsc::WeakSender<Vec<Parcel>>,
}

struct WatchedTable {
    books: Arc<Books>,
    reading: Arc<Activity>,
    keeper: Arc<KeeperActivity>,
    updates: mpsc::WeakSender<Update>,
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
        health.stalled(stalled);
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
        parcels: mpsc::WeakSender<Vec<Parcel>>,
    ) -> Self {
        Self { tables: tables.iter().map(WatchedTable::of).collect(), dispatcher, parcels }
    }

    fn suspects(&self, now: Instant) -> Vec<Suspect> {
        let handed_in = holds_any(&self.parcels);
        let dispatcher = self.dispatcher.overdue(handed_in, now);
        let dispatcher = dispatcher.map(|(what, step)| (format!("the dispatcher {what}"), step));
        self.tables.iter().flat_map(|table| table.suspects(now)).chain(dispatcher).collect()
    }
}

impl WatchedTable {
    fn of(table: &Table) -> Self {
        let Reading { activity, updates, .. } = &*table.follower.reading;
        Self {
            books: table.books.clone(),
            reading: activity.clone(),
            keeper: table.keeper.activity.clone(),
            updates: updates.downgrade(),
        }
    }

    fn suspects(&self, now: Instant) -> Vec<Suspect> {
        let telemetry = self.books.telemetry();
        if self.books.health().has_stopped() {
            return Vec::new();
        }
        let (unsettled, changes) = {
            let ledger = self.books.ledger();
            (ledger.unsettled(), ledger.changes())
        };
        let room = Room {
            free: self.books.budget().has_room(),
            held: unsettled > 0,
            below: self.updates.upgrade().is_some_and(|updates| updates.capacity() > 0),
        };
        let overdue = self.reading.overdue(room, now);
        let mut suspects: Vec<Suspect> =
            overdue.into_iter().map(|(task, step)| (format!("{task} does not go on"), step)).collect();
        if let Some(taken) = self.books.updates_taken().filter(|_| holds_any(&self.updates)) {
            suspects.push(("the pipeline takes in no pages".to_owned(), taken));
        }
        if let Some(stored) = self.keeper.behind(changes) {
            suspects.push(("changed positions are not written".to_owned(), stored));
        }
        let table = telemetry.table();
        suspects.into_iter().map(|(what, step)| (format!("table {table}: {what}"), step)).collect()
    }
}

/// Whether anything waits in a channel.
fn holds_any<T>(sender: &mpsc::WeakSender<T>) -> bool {
    sender.upgrade().is_some_and(|sender| sender.capacity() < sender.max_capacity())
}

#[cfg(test)]
mod tests;
