//! Per-item order with many in flight. Pure: time is an argument.
//!
//! Contract:
//! - Every event belongs to the lane of its key. A lane's events leave in the order in which they came. The next one is
//!   not started before the previous one was settled, except that several may leave together, in one request.
//! - At most `concurrency` requests are under way; those whose event failed before take at most half of the places, and
//!   those to the dead-letter sink at most a quarter, so that what hangs or fails never keeps the rest from being tried.
//!   Where there is one place, they take at most every second turn.
//! - Only events that were never tried leave together: whoever was in a request that failed travels alone, so that it
//!   harms nobody else.
//! - A lane that waits for a retry delays itself alone.
//! - What is behind a barrier is not started before the barrier was tried once.
//! - Lanes take turns; none waits for ever while another one is served twice.

mod barriers;
mod cargo;
mod departure;
mod lane;
mod queues;

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use tokio::time::Instant;

use self::barriers::Barriers;
pub use self::cargo::{Cargo, Gate};
pub use self::departure::{Class, Classes, Departure, Limits, Passengers};
use self::lane::{Lane, Load, State};

/// Identifies a lane. Two items whose keys collide share a lane, which costs some speed and no order.
pub type LaneKey = u64;

/// The lanes of all tables.
#[derive(Debug)]
pub struct Lanes<T> {
    lanes: BTreeMap<LaneKey, Lane<T>>,
    barriers: Barriers<T>,
    /// Lanes whose first event was never tried, and since when they wait.
    fresh: VecDeque<(LaneKey, Instant)>,
    fresh_load: Load,
    /// Lanes whose first event failed and whose pause is over.
    due: VecDeque<LaneKey>,
    /// The same for events that go to the dead-letter sink.
    letters: VecDeque<LaneKey>,
    /// Lanes whose first event failed, by the end of their pause.
    pausing: BinaryHeap<Reverse<(Instant, LaneKey)>>,
    limits: Limits,
    under_way: usize,
    /// Those to the dead-letter sink included.
    repeats_under_way: usize,
    letters_under_way: usize,
    /// Whose turn it is, of what has failed.
    letter_next: bool,
    /// Whether it is the turn of what was never tried, where there is one place for all.
    fresh_next: bool,
    parked: usize,
}

impl<T: Cargo> Lanes<T> {
    pub fn new(limits: Limits) -> Self {
        Self {
            lanes: BTreeMap::new(),
            barriers: Barriers::default(),
            fresh: VecDeque::new(),
            fresh_load: Load::default(),
            due: VecDeque::new(),
            letters: VecDeque::new(),
            pausing: BinaryHeap::new(),
            limits: Limits { concurrency: limits.concurrency.max(1), events: limits.events.max(1), ..limits },
            under_way: 0,
            repeats_under_way: 0,
            letters_under_way: 0,
            letter_next: false,
            fresh_next: false,
            parked: 0,
        }
    }

    /// Puts an event at the end of its lane, or behind the barrier that it has to wait for.
    pub fn push(&mut self, key: LaneKey, event: T, now: Instant) {
        let failing = || self.lanes.get(&key).is_some_and(Lane::has_failed);
        if let Some(event) = self.barriers.admit(key, event, failing) {
            self.join(key, event, now);
        }
    }

    /// Starts the next request that may go, and counts it as under way. `take` is shown the events for it one after the
    /// other and says whether there is room for them; it must say yes to the first.
    pub fn start(&mut self, allowed: Classes, now: Instant, mut take: impl FnMut(&T) -> bool) -> Option<Departure> {
        self.end_pauses(now);
        if !self.has_place() {
            return None;
        }
        let (class, key, since) = self.next_lane(allowed, now)?;
        let departure = self.load(class, (key, since), now, &mut take)?;
        self.under_way += 1;
        self.repeats_under_way += usize::from(class != Class::Fresh);
        self.letters_under_way += usize::from(class == Class::Letter);
        Some(departure)
    }

    /// Which kinds of requests are waiting for nothing but permission.
    pub fn waiting(&mut self, now: Instant) -> Classes {
        self.end_pauses(now);
        Classes {
            fresh: self.fresh_leave_at().is_some_and(|leave| leave <= now),
            repeats: !self.due.is_empty() && self.has_place_for(Class::Repeat),
            letters: !self.letters.is_empty() && self.has_place_for(Class::Letter),
        }
    }

    /// Whether another request may be under way.
    pub fn has_place(&self) -> bool {
        self.under_way < self.limits.concurrency
    }

    /// When a pause ends, or a request will have waited long enough for company.
    pub fn next_change(&self, now: Instant) -> Option<Instant> {
        let pause = self.pausing.peek().map(|Reverse((end, _))| *end);
        let company = self.fresh_leave_at().filter(|leave| *leave > now);
        pause.into_iter().chain(company).min()
    }

    /// A request got its answer, or none: its place is free. What became of the events is told one by one.
    pub fn arrived(&mut self, class: Class) {
        self.under_way -= 1;
        self.repeats_under_way -= usize::from(class != Class::Fresh);
        self.letters_under_way -= usize::from(class == Class::Letter);
    }

    /// The lane's first event, which was under way, is settled. Returns it, and whether it was parked.
    pub fn settle(&mut self, key: LaneKey, now: Instant) -> Option<(T, bool)> {
        let Entry::Occupied(mut entry) = self.lanes.entry(key) else { return None };
        debug_assert!(matches!(entry.get().state, State::UnderWay(_)), "only an event under way can be settled");
        let (settled, parked) = match entry.get_mut().advance() {
            Some(settled) => settled,
            None => {
                let lane = entry.remove();
                (lane.head, lane.parked)
            }
        };
        self.parked -= usize::from(parked);
        match self.lanes.get(&key).map(|lane| lane.state) {
            Some(State::Fresh) => self.queue_fresh(key, now),
            Some(State::Queued) => self.due.push_back(key),
            _ => {}
        }
        let gate = settled.gate();
        // Where another barrier of the same number follows at once, what is behind both waits for that one.
        let followed = || self.first(key).is_some_and(|next| next.gate() == gate);
        if matches!(gate, Gate::Barrier(_)) && !followed() {
            self.tried(key, gate, now);
        }
        Some((settled, parked))
    }

    /// The lane's first event, which was under way, failed: the lane pauses until `due`. A parked event is one that is
    /// expected to fail for long; returns whether that is news.
    pub fn retry(&mut self, key: LaneKey, due: Instant, parked: bool, now: Instant) -> bool {
        let Some(lane) = self.lanes.get_mut(&key) else { return false };
        let news = parked && !lane.parked;
        lane.fail(parked);
        let gate = lane.head.gate();
        self.parked += usize::from(news);
        self.pausing.push(Reverse((due, key)));
        self.tried(key, gate, now);
        news
    }

    /// The lane's first event, which was under way, goes to the dead-letter sink from now on. Returns whether it was
    /// parked; it is not any more.
    pub fn divert(&mut self, key: LaneKey, now: Instant) -> bool {
        let Some(lane) = self.lanes.get_mut(&key) else { return false };
        let was_parked = lane.divert();
        let gate = lane.head.gate();
        self.parked -= usize::from(was_parked);
        self.letters.push_back(key);
        self.tried(key, gate, now);
        was_parked
    }

    /// The lane's first event is not under way any more: its request failed, through the fault of one before it. It is
    /// tried again at once.
    pub fn put_back(&mut self, key: LaneKey) {
        if self.lanes.get_mut(&key).is_some_and(Lane::disembark) {
            self.due.push_back(key);
        }
    }

    /// Ends all pauses of events for the sink: what they waited for has happened.
    pub fn end_all_pauses(&mut self) {
        for Reverse((end, key)) in std::mem::take(&mut self.pausing).into_sorted_vec().into_iter().rev() {
            match self.lanes.get_mut(&key) {
                Some(lane) if lane.diverted => self.pausing.push(Reverse((end, key))),
                Some(lane) => {
                    lane.state = State::Queued;
                    self.due.push_back(key);
                }
                None => {}
            }
        }
    }

    /// The lane's first event.
    pub fn first(&self, key: LaneKey) -> Option<&T> {
        self.lanes.get(&key).map(|lane| &lane.head)
    }

    /// The lane's first event, to be changed.
    pub fn first_mut(&mut self, key: LaneKey) -> Option<&mut T> {
        self.lanes.get_mut(&key).map(|lane| &mut lane.head)
    }

    /// Whether the lane's first event is parked.
    pub fn is_parked(&self, key: LaneKey) -> bool {
        self.lanes.get(&key).is_some_and(|lane| lane.parked)
    }

    /// The lane's events, in order.
    pub fn events(&self, key: LaneKey) -> impl Iterator<Item = &T> {
        self.lanes.get(&key).into_iter().flat_map(Lane::events)
    }

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

    fn join(&mut self, key: LaneKey, event: T, now: Instant) {
        match self.lanes.get_mut(&key) {
            Some(lane) => {
                if lane.state == State::Fresh {
                    self.fresh_load += Load::of(&event);
                }
                lane.push(event);
            }
            None => {
                self.lanes.insert(key, Lane::new(event));
                self.queue_fresh(key, now);
            }
        }
    }

    /// An event was tried: if it is a barrier, what is behind it may go.
    fn tried(&mut self, lane: LaneKey, gate: Gate, now: Instant) {
        if let Gate::Barrier(number) = gate {
            for (key, event) in self.barriers.open(number, lane) {
                self.push(key, event, now);
            }
        }
    }
}

#[cfg(test)]
mod tests;
