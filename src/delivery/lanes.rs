//! Per-item order with many in flight. Pure: time is an argument.
//!
//! Contract:
//! - Every event belongs to the lane of its key. A lane's events leave in the order in which they came, and the next
//!   one is not started before the previous one was settled.
//! - At most `concurrency` events are under way; those whose last attempt failed take at most half of the places, so
//!   that events which hang or fail never keep the others from being tried.
//! - A lane that waits for a retry delays itself alone.
//! - Lanes take turns; none waits for ever while another one is served twice.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use tokio::time::Instant;

/// Identifies a lane. Two items whose keys collide share a lane, which costs some speed and no order.
pub type LaneKey = u64;

/// What lanes carry.
pub trait Cargo {
    /// Called when the event is going to be kept for long: let go of what it shares with others.
    fn settle_in(&mut self) {}
}

/// The lanes of all tables.
#[derive(Debug)]
pub struct Lanes<T> {
    lanes: HashMap<LaneKey, Lane<T>>,
    /// Lanes whose first event was never tried.
    fresh: VecDeque<LaneKey>,
    /// Lanes whose first event failed and whose pause is over.
    due: VecDeque<LaneKey>,
    /// Lanes whose first event failed, by the end of their pause.
    pausing: BinaryHeap<Reverse<(Instant, LaneKey)>>,
    concurrency: usize,
    under_way: usize,
    repeats_under_way: usize,
    parked: usize,
}

#[derive(Debug)]
struct Lane<T> {
    head: T,
    rest: VecDeque<T>,
    failures: u32,
    first_try: Option<Instant>,
    state: State,
    parked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    UnderWay,
    Pausing(Instant),
}

/// An event that is to be sent now.
#[derive(Debug)]
pub struct Departure<'a, T> {
    /// Its lane.
    pub lane: LaneKey,
    /// The event itself; it stays in the lane until it is settled.
    pub event: &'a T,
    /// How many attempts have failed so far.
    pub failures: u32,
    /// When it was tried for the first time; now, if this is the first.
    pub first_try: Instant,
}

/// Which events may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Any.
    All,
    /// Only those that were never tried.
    Fresh,
    /// Only those that were tried before.
    Repeats,
}

impl<T: Cargo> Lanes<T> {
    /// Lanes for so many events under way, at least one.
    pub fn new(concurrency: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            fresh: VecDeque::new(),
            due: VecDeque::new(),
            pausing: BinaryHeap::new(),
            concurrency: concurrency.max(1),
            under_way: 0,
            repeats_under_way: 0,
            parked: 0,
        }
    }

    /// Puts an event at the end of its lane.
    pub fn push(&mut self, key: LaneKey, mut event: T) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            if lane.failures > 0 {
                event.settle_in();
            }
            lane.rest.push_back(event);
            return;
        }
        self.lanes.insert(key, Lane::new(event));
        self.fresh.push_back(key);
    }

    /// Starts the next event that may go, and counts it as under way.
    pub fn start(&mut self, allowed: Allowed, now: Instant) -> Option<Departure<'_, T>> {
        self.end_pauses(now);
        if self.under_way >= self.concurrency {
            return None;
        }
        let key = self.next_key(allowed)?;
        let lane = self.lanes.get_mut(&key)?;
        lane.state = State::UnderWay;
        self.under_way += 1;
        self.repeats_under_way += usize::from(lane.failures > 0);
        let first_try = *lane.first_try.get_or_insert(now);
        Some(Departure {
            lane: key,
            event: &lane.head,
            failures: lane.failures,
            first_try,
        })
    }

    /// Whether an event that was never tried is waiting for its turn, and whether one that failed is.
    pub fn waiting(&mut self, now: Instant) -> (bool, bool) {
        self.end_pauses(now);
        (
            !self.fresh.is_empty(),
            !self.due.is_empty() && self.has_place_for_repeat(),
        )
    }

    /// Whether another event may be under way.
    pub fn has_place(&self) -> bool {
        self.under_way < self.concurrency
    }

    /// When the next pause ends, if a lane is pausing.
    pub fn next_pause_end(&self) -> Option<Instant> {
        self.pausing.peek().map(|Reverse((end, _))| *end)
    }

    /// The event under way in this lane is settled: returns it and lets the lane's next one queue up.
    pub fn settle(&mut self, key: LaneKey) -> Option<T> {
        let mut lane = self.lanes.remove(&key)?;
        debug_assert_eq!(lane.state, State::UnderWay, "only an event under way can be settled");
        self.leave(&lane);
        self.parked -= usize::from(lane.parked);
        match lane.rest.pop_front() {
            None => Some(lane.head),
            Some(next) => {
                let settled = std::mem::replace(&mut lane.head, next);
                let rest = std::mem::take(&mut lane.rest);
                self.lanes.insert(
                    key,
                    Lane {
                        rest,
                        ..Lane::new(lane.head)
                    },
                );
                self.fresh.push_back(key);
                Some(settled)
            }
        }
    }

    /// The event under way in this lane failed: the lane pauses until `due`. A parked event is one that is expected to
    /// fail for long; returns whether that is news.
    pub fn retry(&mut self, key: LaneKey, due: Instant, parked: bool) -> bool {
        let Some(lane) = self.lanes.get_mut(&key) else {
            return false;
        };
        debug_assert_eq!(lane.state, State::UnderWay, "only an event under way can fail");
        if lane.failures == 0 {
            lane.head.settle_in();
            lane.rest.iter_mut().for_each(Cargo::settle_in);
        }
        let news = parked && !lane.parked;
        self.under_way -= 1;
        self.repeats_under_way -= usize::from(lane.failures > 0);
        lane.failures += 1;
        lane.parked |= parked;
        lane.state = State::Pausing(due);
        self.parked += usize::from(news);
        self.pausing.push(Reverse((due, key)));
        news
    }

    /// Ends all pauses: whatever caused them is over.
    pub fn end_all_pauses(&mut self, now: Instant) {
        for (key, lane) in &mut self.lanes {
            if matches!(lane.state, State::Pausing(_)) {
                lane.state = State::Pausing(now);
                self.pausing.push(Reverse((now, *key)));
            }
        }
        self.end_pauses(now);
        self.pausing.clear();
    }

    /// Events under way.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Lanes whose first event is parked.
    pub fn parked(&self) -> usize {
        self.parked
    }

    /// Lanes that hold an event.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether no lane holds an event.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// The events whose last attempt failed, with the number of failures and whether they are parked.
    pub fn failing(&self) -> impl Iterator<Item = (LaneKey, &T, u32, bool)> {
        self.lanes
            .iter()
            .filter(|(_, lane)| lane.failures > 0)
            .map(|(key, lane)| (*key, &lane.head, lane.failures, lane.parked))
    }

    fn leave(&mut self, lane: &Lane<T>) {
        self.under_way -= 1;
        self.repeats_under_way -= usize::from(lane.failures > 0);
    }

    fn has_place_for_repeat(&self) -> bool {
        self.repeats_under_way < (self.concurrency / 2).max(1)
    }

    /// Repeats first: they have waited longer, and there are never more than half of the places for them.
    fn next_key(&mut self, allowed: Allowed) -> Option<LaneKey> {
        if allowed != Allowed::Fresh
            && self.has_place_for_repeat()
            && let Some(key) = self.due.pop_front()
        {
            return Some(key);
        }
        if allowed == Allowed::Repeats {
            None
        } else {
            self.fresh.pop_front()
        }
    }

    fn end_pauses(&mut self, now: Instant) {
        while let Some(Reverse((end, key))) = self.pausing.peek().copied() {
            if end > now {
                return;
            }
            self.pausing.pop();
            // An entry may be left over from a pause that was cut short.
            if let Some(lane) = self.lanes.get_mut(&key)
                && lane.state == State::Pausing(end)
            {
                lane.state = State::Queued;
                self.due.push_back(key);
            }
        }
    }
}

impl<T> Lane<T> {
    fn new(head: T) -> Self {
        Self {
            head,
            rest: VecDeque::new(),
            failures: 0,
            first_try: None,
            state: State::Queued,
            parked: false,
        }
    }
}

#[cfg(test)]
mod tests;
