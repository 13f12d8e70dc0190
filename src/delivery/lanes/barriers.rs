//! Events that others wait for, and those that wait.

use std::collections::{HashMap, VecDeque};

use super::{Cargo, Gate, LaneKey};

/// Barriers that were never tried, with what waits behind them, in order.
#[derive(Debug)]
pub(super) struct Barriers<T> {
    closed: HashMap<u64, VecDeque<(LaneKey, T)>>,
}

impl<T> Default for Barriers<T> {
    fn default() -> Self {
        Self { closed: HashMap::new() }
    }
}

impl<T: Cargo> Barriers<T> {
    /// Gives the event back if it may join its lane, else keeps it.
    ///
    /// A barrier that joins a lane which is failing would be tried too late: nobody waits for it.
    pub(super) fn admit(&mut self, key: LaneKey, event: T, lane_fails: impl FnOnce() -> bool) -> Option<T> {
        let (number, is_barrier) = match event.gate() {
            Gate::None => return Some(event),
            Gate::Behind(number) => (number, false),
            Gate::Barrier(number) => (number, true),
        };
        if let Some(waiting) = self.closed.get_mut(&number) {
            waiting.push_back((key, event));
            return None;
        }
        if is_barrier && !lane_fails() {
            self.closed.insert(number, VecDeque::new());
        }
        Some(event)
    }

    /// What waited behind this barrier; they must be admitted anew, because there may be another barrier among them.
    pub(super) fn open(&mut self, number: u64) -> VecDeque<(LaneKey, T)> {
        self.closed.remove(&number).unwrap_or_default()
    }
}
