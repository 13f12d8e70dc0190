//! One lane: its events, and what its first one is doing.

use std::collections::VecDeque;
use std::ops::{AddAssign, SubAssign};

use tokio::time::Instant;

use super::{Cargo, LaneKey, Passengers};

#[derive(Debug)]
pub(super) struct Lane<T> {
    pub(super) head: T,
    rest: VecDeque<T>,
    /// Of all its events.
    pub(super) load: Load,
    pub(super) failures: u32,
    first_try: Option<Instant>,
    /// So many events behind the first one were with it in a request that failed.
    loners: usize,
    pub(super) state: State,
    pub(super) parked: bool,
    /// The first event goes to the dead-letter sink.
    pub(super) diverted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// In the queue of lanes whose first event was never tried.
    Fresh,
    Queued,
    /// So many of the first events are under way.
    UnderWay(usize),
    /// Its pause is not over.
    Pausing,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

impl Load {
    pub(super) fn of(event: &impl Cargo) -> Self {
        Self { events: 1, bytes: event.size() }
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.bytes += other.bytes;
    }
}

impl SubAssign for Load {
    fn sub_assign(&mut self, other: Self) {
        self.events -= other.events;
        self.bytes -= other.bytes;
    }
}

impl<T: Cargo> Lane<T> {
    pub(super) fn new(head: T) -> Self {
        Self {
            load: Load::of(&head),
            head,
            rest: VecDeque::new(),
            failures: 0,
            first_try: None,
            loners: 0,
            state: State::Fresh,
            parked: false,
            diverted: false,
        }
    }

    /// Whether its first event was tried in vain.
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0 || self.diverted
    }

    pub(super) fn push(&mut self, mut event: T) {
        self.load += Load::of(&event);
        if self.has_failed() {
            event.settle_in();
        }
        self.rest.push_back(event);
    }

    /// Puts the first events under way, as many as there is room for; nothing if there is none for the first.
    pub(super) fn board(
        &mut self,
        lane: LaneKey,
        room: usize,
        now: Instant,
        take: &mut impl FnMut(&T) -> bool,
    ) -> Option<Passengers> {
        let events = self.events().take(room).take_while(|event| take(event)).count();
        if events == 0 {
            return None;
        }
        self.state = State::UnderWay(events);
        let first_try = *self.first_try.get_or_insert(now);
        Some(Passengers { lane, events, failures: self.failures, first_try })
    }

    /// Replaces the first event, which is settled, by the next, and returns it with whether it was parked. Does
    /// nothing where there is no next one.
    pub(super) fn advance(&mut self) -> Option<(T, bool)> {
        let next = self.rest.pop_front()?;
        let settled = std::mem::replace(&mut self.head, next);
        self.load -= Load::of(&settled);
        (self.failures, self.diverted) = (0, false);
        match self.state {
            // What left together was tried together.
            State::UnderWay(events) if events > 1 => self.state = State::UnderWay(events - 1),
            _ if self.loners > 0 => {
                self.loners -= 1;
                (self.failures, self.state) = (1, State::Queued);
            }
            _ => (self.state, self.first_try) = (State::Fresh, None),
        }
        Some((settled, std::mem::take(&mut self.parked)))
    }

    /// The first event failed, and with it whatever was under way behind it.
    pub(super) fn fail(&mut self, parked: bool) {
        debug_assert!(matches!(self.state, State::UnderWay(_)), "only an event under way can fail");
        self.settle_in();
        self.separate();
        self.failures += 1;
        self.parked |= parked;
        self.state = State::Pausing;
    }

    /// The first event goes elsewhere from now on. Returns whether it was parked.
    pub(super) fn divert(&mut self) -> bool {
        debug_assert!(matches!(self.state, State::UnderWay(_)), "only an event under way can be diverted");
        self.settle_in();
        self.separate();
        (self.failures, self.diverted, self.state) = (0, true, State::Queued);
        std::mem::take(&mut self.parked)
    }

    /// The first events are under way no more: their request failed. Says whether they were.
    pub(super) fn disembark(&mut self) -> bool {
        let was_under_way = matches!(self.state, State::UnderWay(_));
        if was_under_way {
            self.settle_in();
            self.separate();
            (self.failures, self.state) = (1, State::Queued);
        }
        was_under_way
    }

    /// Its events, in order.
    pub(super) fn events(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.head).chain(&self.rest)
    }

    /// Whoever was on board behind the first event travels alone from now on.
    fn separate(&mut self) {
        if let State::UnderWay(events) = self.state {
            self.loners = self.loners.max(events - 1);
        }
    }

    fn settle_in(&mut self) {
        if !self.has_failed() {
            self.head.settle_in();
            self.rest.iter_mut().for_each(Cargo::settle_in);
        }
    }
}
