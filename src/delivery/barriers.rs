//! Events that others wait for, and those that wait. Pure.
//!
//! Contract: an event that waits behind a barrier, or behind an earlier event of its lane that does, is in no lane before that barrier
//! was tried once.

use std::collections::{BTreeMap, VecDeque};

use super::request::{BarrierRole, LaneItem, LaneKey};

/// Barriers that were never tried, with what waits behind them, in order.
#[derive(Debug)]
pub(super) struct Barriers<T> {
    closed: BTreeMap<u64, Closed<T>>,
    /// The lanes of which an event waits, and behind which barrier.
    held: BTreeMap<LaneKey, u64>,
}

/// A barrier that was never tried.
#[derive(Debug)]
struct Closed<T> {
    table: usize,
    lane: LaneKey,
    waiting: VecDeque<(LaneKey, T)>,
}

impl<T> Default for Barriers<T> {
    fn default() -> Self {
        Self { closed: BTreeMap::new(), held: BTreeMap::new() }
    }
}

impl<T: LaneItem> Barriers<T> {
    /// Gives the event back if it may join its lane, else keeps it: behind its barrier, or behind an earlier event of its
    /// lane.
    ///
    /// A barrier that joins a lane which is failing would be tried too late: nobody waits for it.
    pub(super) fn admit(&mut self, key: LaneKey, mut event: T, lane_fails: impl FnOnce() -> bool) -> Option<T> {
        let role = event.barrier_role();
        let own = match role {
            BarrierRole::None => None,
            BarrierRole::After(number) | BarrierRole::Barrier(number) => Some(number),
        };
        for number in self.held.get(&key).copied().into_iter().chain(own) {
            if let Some(closed) = self.closed.get_mut(&number) {
                event.detach();
                closed.waiting.push_back((key, event));
                self.held.insert(key, number);
                return None;
            }
        }
        if let BarrierRole::Barrier(number) = role
            && !lane_fails()
        {
            let table = event.table();
            self.closed.insert(number, Closed { table, lane: key, waiting: VecDeque::new() });
        }
        Some(event)
    }

    /// What waited behind the barrier of this number in this lane, which was tried; they must be admitted anew, because there may be
    /// another barrier among them.
    pub(super) fn open(&mut self, number: u64, lane: LaneKey) -> VecDeque<(LaneKey, T)> {
        // One that was tried before may be tried again while the next one waits for its turn.
        let is_it = self.closed.get(&number).is_some_and(|closed| closed.lane == lane);
        let waiting = if is_it { self.closed.remove(&number).map(|closed| closed.waiting) } else { None };
        let waiting = waiting.unwrap_or_default();
        for (key, _) in &waiting {
            self.held.remove(key);
        }
        waiting
    }

    /// Takes away the next of a table's events that wait behind a barrier; in the end the table has no barrier any more. Meanwhile nothing
    /// of the table is admitted.
    pub(super) fn take_waiting(&mut self, table: usize) -> Option<T> {
        loop {
            let (number, closed) = self.closed.iter_mut().find(|(_, closed)| closed.table == table)?;
            if let Some((key, event)) = closed.waiting.pop_front() {
                self.held.remove(&key);
                return Some(event);
            }
            let number = *number;
            self.closed.remove(&number);
        }
    }
}
