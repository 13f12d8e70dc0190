//! What others see of the dispatcher: people, and those who watch that it goes on.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::time::Instant;

use super::sink_controller::ControllerView;

/// What people see of delivery.
#[derive(Debug, Clone, Default)]
pub struct DeliveryView {
    /// The sink fails as a whole.
    pub outage: Option<SinkOutage>,
    /// How much the sink takes.
    pub sink: Option<ControllerView>,
    /// How much the dead-letter sink takes.
    pub dead_letters: Option<ControllerView>,
    /// The item of which the most events wait, where several do: they go one after the other.
    pub longest_lane: Option<LongestLane>,
}

/// The sink fails as a whole, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkOutage {
    /// When that was noticed.
    pub since: SystemTime,
    /// It refuses every event for the event's own sake; else it cannot be reached or has a fault.
    pub is_refusing: bool,
    /// What it said last.
    pub why: String,
}

/// An item of which several events wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LongestLane {
    /// A hash of its key, as the log shows it.
    pub item: String,
    /// How many of its events wait.
    pub events: usize,
}

/// What a dispatcher is doing, so that one that stands still can be found.
#[derive(Debug, Default)]
pub struct DispatcherActivity(Mutex<Turn>);

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Turn {
    /// How often it has looked around, and how many requests it has started.
    pub(super) turns: u64,
    pub(super) started: u64,
    /// When it wants to look around again, if nothing happens before.
    pub(super) wake: Option<Instant>,
    /// Something may start and has not, or nothing is under way and no moment is waited for, and there are events.
    pub(super) can_start: bool,
    /// The oldest attempt under way, and when it must have ended.
    pub(super) oldest: Option<(u64, Instant)>,
}

impl DispatcherActivity {
    /// Why it should not be waiting at this moment, and a number that changes when it goes on: if it is still the same
    /// much later, it stands still. `handed_in` says whether there are events that it has not taken in.
    pub fn overdue(&self, handed_in: bool, now: Instant) -> Option<(&'static str, u64)> {
        let turn = *self.turn();
        if let Some((attempt, _)) = turn.oldest.filter(|(_, deadline)| *deadline < now) {
            return Some(("sees no end of a request after DELIVERY_TIMEOUT", attempt));
        }
        match turn {
            Turn { can_start: true, started, .. } => Some(("starts no request although events wait", started)),
            Turn { wake: Some(wake), turns, .. } if wake < now => Some(("did not go on after a pause", turns)),
            Turn { turns, .. } if handed_in => Some(("takes in no events", turns)),
            _ => None,
        }
    }

    /// How often it has looked around, for tests.
    #[cfg(test)]
    pub(super) fn turns(&self) -> u64 {
        self.turn().turns
    }

    /// What it did at the end of its last turn.
    pub(super) fn turn(&self) -> MutexGuard<'_, Turn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
