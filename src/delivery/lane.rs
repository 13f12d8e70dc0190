//! One lane: its events in their order, and what its first one is doing. Pure: time is an argument.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::request::{LaneItem, LaneKey, LaneLoad, LaneSlice};

/// One lane: its events that are not under way, and what its first one is doing.
#[derive(Debug)]
pub(super) struct Lane<T> {
    pub(super) table: usize,
    pub(super) state: State,
    /// Not under way, so not there while the lane is.
    pub(super) first: Option<WaitingEvent<T>>,
    pub(super) rest: VecDeque<WaitingEvent<T>>,
    /// Of those.
    pub(super) load: LaneLoad,
    pub(super) failures: u32,
    pub(super) first_try: Option<Instant>,
    /// So many events behind the first one were with it in a request that failed.
    pub(super) isolated: usize,
    /// The first event was in a request that failed, and never in one of its own.
    pub(super) is_untested: bool,
    pub(super) is_parked: bool,
    /// The first event goes to the dead-letter sink.
    pub(super) is_dead_letter: bool,
}

#[derive(Debug)]
pub(super) struct WaitingEvent<T> {
    pub(super) arrival: u64,
    /// When it was read.
    pub(super) since: Instant,
    pub(super) event: T,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// In the queue of lanes whose first event was never tried.
    NeverTried,
    /// Its first event has failed: it pauses, or waits for its turn.
    Failed,
    /// So many of the first events are under way.
    UnderWay(usize),
    /// Its first event will never be tried by this process.
    Held,
}

impl<T: LaneItem> Lane<T> {
    /// A lane that begins.
    pub(super) fn new(first: WaitingEvent<T>) -> Self {
        Self {
            table: first.event.table(),
            state: State::NeverTried,
            load: LaneLoad::of(&first.event),
            first: Some(first),
            rest: VecDeque::new(),
            failures: 0,
            first_try: None,
            isolated: 0,
            is_untested: false,
            is_parked: false,
            is_dead_letter: false,
        }
    }

    /// Whether an attempt at its first event has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0 || self.is_dead_letter
    }

    /// What its first event weighs, unless that is under way.
    pub(super) fn load_of_first(&self) -> LaneLoad {
        self.first.as_ref().map(|first| LaneLoad::of(&first.event)).unwrap_or_default()
    }

    /// An event that waits behind another one can wait for long.
    pub(super) fn push(&mut self, mut waiting: WaitingEvent<T>) {
        waiting.event.detach();
        self.load += LaneLoad::of(&waiting.event);
        match self.first {
            None => self.first = Some(waiting),
            Some(_) => self.rest.push_back(waiting),
        }
    }

    /// Gives back what is behind its first event, as far as that comes again.
    pub(super) fn shed(&mut self) -> Vec<T> {
        let has_head_here = matches!(self.state, State::NeverTried | State::Failed);
        let stays = self.rest.iter().rposition(|waiting| !waiting.event.may_be_left_out()).map_or(0, |last| last + 1);
        let mut beyond = VecDeque::from_iter(self.rest.drain(stays..).map(|waiting| waiting.event));
        if !has_head_here && stays == 0 && self.first.as_ref().is_some_and(|first| first.event.may_be_left_out()) {
            beyond.extend(self.first.take().map(|first| first.event));
            beyond.rotate_right(1);
        }
        let behind_first = self.rest.len() + usize::from(!has_head_here && self.first.is_some());
        self.isolated = self.isolated.min(behind_first);
        beyond.iter().for_each(|event| self.load -= LaneLoad::of(event));
        beyond.into()
    }

    /// Gives back the event that came last, if it is not the only one that waits and comes again.
    pub(super) fn shed_last(&mut self) -> Vec<T> {
        let last = self.rest.pop_back_if(|last| last.event.may_be_left_out()).map(|last| last.event);
        last.iter().for_each(|event| self.load -= LaneLoad::of(event));
        last.into_iter().collect()
    }

    /// Puts the first events under way, as many as there is room for; nothing if there is none for the first.
    pub(super) fn board(
        &mut self,
        lane: LaneKey,
        room: usize,
        now: Instant,
        take: &mut impl FnMut(&T) -> bool,
    ) -> Option<LaneSlice<T>> {
        let head = self.first.take_if(|first| take(&first.event))?.event;
        let mut rest = Vec::new();
        while rest.len() + 1 < room
            && let Some(next) = self.rest.pop_front_if(|next| take(&next.event))
        {
            rest.push(next.event);
        }
        self.load -= std::iter::once(&head).chain(&rest).fold(LaneLoad::default(), |mut sum, event| {
            sum += LaneLoad::of(event);
            sum
        });
        self.first = self.rest.pop_front();
        self.state = State::UnderWay(1 + rest.len());
        let first_try = *self.first_try.get_or_insert(now);
        let (failures, is_untested) = (self.failures, self.failures == 0 || self.is_untested);
        Some(LaneSlice { lane, head, rest, failures, first_try, is_alone: true, is_untested })
    }

    /// Events that were under way wait again, each alone from now on.
    pub(super) fn take_back(&mut self, slice: LaneSlice<T>, now: Instant) {
        debug_assert!(matches!(self.state, State::UnderWay(_)), "only what is under way comes back");
        self.isolated = self.isolated.max(slice.rest.len());
        for mut event in slice.into_events().rev() {
            event.detach();
            self.load += LaneLoad::of(&event);
            // Whoever was under way stands in no queue by its arrival any more.
            let waiting = WaitingEvent { arrival: 0, since: now, event };
            if let Some(behind) = self.first.replace(waiting) {
                self.rest.push_front(behind);
            }
        }
        self.state = State::Failed;
    }

    /// All that waits in it, in order.
    pub(super) fn into_waiting(self) -> impl Iterator<Item = T> {
        self.first.into_iter().chain(self.rest).map(|waiting| waiting.event)
    }
}
