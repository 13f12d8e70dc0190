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
mod lane;

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use self::barriers::Barriers;
use self::lane::{Lane, Load, State};

/// Identifies a lane. Two items whose keys collide share a lane, which costs some speed and no order.
pub type LaneKey = u64;

/// What lanes carry.
pub trait Cargo {
    /// Called when the event is going to be kept for long: let go of what it shares with others.
    fn settle_in(&mut self) {}

    /// About how many bytes it adds to a request.
    fn size(&self) -> usize {
        0
    }

    /// What it has to do with barriers.
    fn gate(&self) -> Gate {
        Gate::None
    }
}

/// What an event has to do with barriers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Nothing.
    None,
    /// It waits while a barrier of this number is there that was never tried.
    Behind(u64),
    /// It is a barrier, and it waits for an earlier one of the same number.
    Barrier(u64),
}

/// How many requests, and what goes into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests under way; at least one is allowed.
    pub concurrency: usize,
    /// The most events in one request; 1 where requests carry one.
    pub events: usize,
    /// From about so many bytes on, a request is full.
    pub bytes: usize,
    /// How long an event waits for others to leave with it.
    pub wait: Duration,
}

impl Limits {
    /// One event a request, and so many requests.
    pub fn singly(concurrency: usize) -> Self {
        Self { concurrency, events: 1, bytes: usize::MAX, wait: Duration::ZERO }
    }
}

/// The kinds of departures; each has its own queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Events that were never tried.
    Fresh,
    /// One event that failed before.
    Repeat,
    /// One event to the dead-letter sink.
    Letter,
}

/// A yes or no for each kind of departure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Classes {
    /// For [`Class::Fresh`].
    pub fresh: bool,
    /// For [`Class::Repeat`].
    pub repeats: bool,
    /// For [`Class::Letter`].
    pub letters: bool,
}

impl Classes {
    /// Yes for each.
    pub const ALL: Self = Self { fresh: true, repeats: true, letters: true };
}

/// One request's load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// Its kind.
    pub class: Class,
    /// The first lane that takes part: there always is one.
    pub first: Passengers,
    /// Further lanes.
    pub more: Vec<Passengers>,
}

/// The first events of one lane: they stay in it until they are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passengers {
    /// Their lane.
    pub lane: LaneKey,
    /// How many, at least one.
    pub events: usize,
    /// How many attempts of the first one have failed so far.
    pub failures: u32,
    /// When the first one was tried for the first time; now, if this is that.
    pub first_try: Instant,
}

impl Departure {
    /// Everybody on board, lane by lane.
    pub fn passengers(&self) -> impl Iterator<Item = &Passengers> + Clone {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// Events on board.
    pub fn events(&self) -> usize {
        self.passengers().map(|passengers| passengers.events).sum()
    }
}

/// The lanes of all tables.
#[derive(Debug)]
pub struct Lanes<T> {
    lanes: HashMap<LaneKey, Lane<T>>,
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
    /// Empty lanes.
    pub fn new(limits: Limits) -> Self {
        Self {
            lanes: HashMap::new(),
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
            self.tried(gate, now);
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
        self.tried(gate, now);
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
        self.tried(gate, now);
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

    /// Requests under way.
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

    fn queue_fresh(&mut self, key: LaneKey, since: Instant) {
        if let Some(lane) = self.lanes.get(&key) {
            self.fresh_load += lane.load;
            self.fresh.push_back((key, since));
        }
    }

    fn pop_fresh(&mut self) -> Option<(LaneKey, Instant)> {
        let (key, since) = self.fresh.pop_front()?;
        if let Some(lane) = self.lanes.get(&key) {
            self.fresh_load -= lane.load;
        }
        Some((key, since))
    }

    /// Takes on board what may leave together: the first lane's event, and of fresh lanes as much as there is room for.
    fn load(
        &mut self,
        class: Class,
        first: (LaneKey, Instant),
        now: Instant,
        take: &mut impl FnMut(&T) -> bool,
    ) -> Option<Departure> {
        let mut room = if class == Class::Fresh { self.limits.events } else { 1 };
        let mut departure: Option<Departure> = None;
        let mut next = Some(first);
        while let Some((key, since)) = next {
            let lane = self.lanes.get_mut(&key)?;
            let Some(passengers) = lane.board(key, room, now, take) else {
                self.fresh_load += lane.load;
                self.fresh.push_front((key, since));
                break;
            };
            room -= passengers.events;
            let goes_on = class == Class::Fresh && room > 0 && passengers.events == lane.load.events;
            match &mut departure {
                None => departure = Some(Departure { class, first: passengers, more: Vec::new() }),
                Some(departure) => departure.more.push(passengers),
            }
            next = if goes_on { self.pop_fresh() } else { None };
        }
        departure
    }

    /// What has failed goes first: it has waited longer, and there are never more than half of the places for it. The only
    /// place cannot be halved: there they take turns.
    fn next_lane(&mut self, allowed: Classes, now: Instant) -> Option<(Class, LaneKey, Instant)> {
        let fresh = allowed.fresh && self.fresh_leave_at().is_some_and(|leave| leave <= now);
        let gives_way = fresh && self.fresh_next && self.limits.concurrency == 1;
        let class = if gives_way { None } else { self.next_failed(allowed) };
        let class = class.or(fresh.then_some(Class::Fresh))?;
        self.fresh_next = class != Class::Fresh;
        match class {
            Class::Letter => Some((class, self.letters.pop_front()?, now)),
            Class::Repeat => Some((class, self.due.pop_front()?, now)),
            Class::Fresh => self.pop_fresh().map(|(key, since)| (class, key, since)),
        }
    }

    fn next_failed(&mut self, allowed: Classes) -> Option<Class> {
        let letters = allowed.letters && !self.letters.is_empty() && self.has_place_for(Class::Letter);
        let repeats = allowed.repeats && !self.due.is_empty() && self.has_place_for(Class::Repeat);
        let class = match (letters, repeats) {
            (false, false) => return None,
            (true, false) => Class::Letter,
            (false, true) => Class::Repeat,
            (true, true) if self.letter_next => Class::Letter,
            (true, true) => Class::Repeat,
        };
        self.letter_next = class == Class::Repeat;
        Some(class)
    }

    fn has_place_for(&self, class: Class) -> bool {
        let half = (self.limits.concurrency / 2).max(1);
        let quarter = (self.limits.concurrency / 4).max(1);
        self.repeats_under_way < half && (class != Class::Letter || self.letters_under_way < quarter)
    }

    /// When fresh events leave: at once if they fill a request, else when the oldest has waited long enough.
    fn fresh_leave_at(&self) -> Option<Instant> {
        let (_, since) = self.fresh.front()?;
        let full = self.fresh_load.events >= self.limits.events || self.fresh_load.bytes >= self.limits.bytes;
        Some(if full { *since } else { *since + self.limits.wait })
    }

    fn end_pauses(&mut self, now: Instant) {
        while let Some(Reverse((end, key))) = self.pausing.peek().copied() {
            if end > now {
                return;
            }
            self.pausing.pop();
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.state = State::Queued;
                if lane.diverted { self.letters.push_back(key) } else { self.due.push_back(key) }
            }
        }
    }

    /// An event was tried: if it is a barrier, what is behind it may go.
    fn tried(&mut self, gate: Gate, now: Instant) {
        if let Gate::Barrier(number) = gate {
            for (key, event) in self.barriers.open(number) {
                self.push(key, event, now);
            }
        }
    }
}

#[cfg(test)]
mod tests;
