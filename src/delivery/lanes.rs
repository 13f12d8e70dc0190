//! Per-item order with many in flight. Pure: time is an argument.
//!
//! Contract:
//! - Every event belongs to the lane of its key. A lane's events leave in the order in which they came. The next one is
//!   not started before the previous one was settled, except that several may leave together, in one request.
//! - At most `concurrency` requests are under way. Whose turn it is `queues` decides.
//! - Only events that were never tried leave together: whoever was in a request that failed travels alone, so that it
//!   harms nobody else.
//! - A lane that waits for a retry delays itself alone.
//! - A lane's events take at most its share of memory; what is beyond goes back to the caller, and behind an event that fails all but
//!   that one. Memory is given back as lanes end, and no step takes longer the more lanes there are.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tokio::time::Instant;

use super::barriers::Barriers;
use super::lane::{Lane, State, WaitingEvent};
use super::queues::{FailedKind, Found, LaneSearch, Pause, Place, Queues, Turn};
use super::request::LaneLoad;
pub use super::request::{BarrierRole, Kinds, LaneItem, LaneKey, LaneSlice, Request, RequestLimits};
use super::retry::RetryPause;
use super::sink_controller::AttemptKind;

/// Behind a parked event waits at most so small a part of what may wait in another lane.
const PARKED_PART: usize = 8;

/// The lanes of all tables.
#[derive(Debug)]
pub struct Lanes<T> {
    /// Boxed, so that an insert moves little and memory goes back lane by lane.
    lanes: BTreeMap<LaneKey, Box<Lane<T>>>,
    barriers: Barriers<T>,
    queues: Queues,
    /// The most bytes that may wait in one lane, unless it is one event.
    share: usize,
    arrivals: u64,
    parked: LaneLoad,
    /// Lanes whose first event is kept by nobody and never tried.
    held: usize,
    /// Events that were left out while they waited behind a barrier that was tried.
    left_out: Vec<T>,
    /// The lane in which the most events waited when it was looked at last, or one that has more since, and how many.
    longest: Option<(LaneKey, usize)>,
}

/// The withdrawal of all that waits of one table, and how far it has come.
#[derive(Debug)]
pub struct Withdrawal {
    table: usize,
    search: LaneSearch,
}

impl Withdrawal {
    /// Of this table, not begun.
    pub fn of(table: usize) -> Self {
        Self { table, search: LaneSearch::of(table) }
    }

    /// Which table's.
    pub fn table(&self) -> usize {
        self.table
    }
}

impl<T: LaneItem> Lanes<T> {
    /// No lanes yet. What waits in one lane takes at most about `share` bytes.
    pub fn new(limits: RequestLimits, share: usize) -> Self {
        Self {
            lanes: BTreeMap::new(),
            barriers: Barriers::default(),
            queues: Queues::new(limits),
            share,
            arrivals: 0,
            parked: LaneLoad::default(),
            held: 0,
            left_out: Vec::new(),
            longest: None,
        }
    }

    /// Puts an event at the end of its lane, or behind the barrier that it has to wait for. Returns the lane's events for which its
    /// share has no room, in order: the caller has to bring them again.
    pub fn push(&mut self, key: LaneKey, event: T, now: Instant) -> Vec<T> {
        let fails = || self.lanes.get(&key).is_some_and(|lane| lane.has_failed());
        match self.barriers.admit(key, event, fails) {
            Some(event) => self.join(key, event, now),
            None => Vec::new(),
        }
    }

    /// Starts the next request that may go, and counts it as under way. `take` is shown the events for it one after the
    /// other and says whether there is room for them. `probe`: it takes one event, drawn by this chance from 0 to 1, and waits for no company.
    pub fn begin(
        &mut self,
        permitted: Kinds,
        probe: Option<f64>,
        now: Instant,
        mut take: impl FnMut(&T) -> bool,
    ) -> Option<Request<T>> {
        self.queues.end_pauses(now);
        if !self.queues.has_place() {
            return None;
        }
        let turn = self.queues.next(permitted, probe, now)?;
        let request = self.load(turn, probe.is_some(), now, &mut take)?;
        self.queues.left(request.kind);
        Some(request)
    }

    /// A request got its answer, or none: its place is free. What became of the events is told slice by slice.
    pub fn ended(&mut self, kind: AttemptKind) {
        self.queues.ended(kind);
    }

    /// The first `count` events of a slice that was under way are settled: each is handed over with whether it was parked. Returns
    /// what is left of the slice, if anything is.
    ///
    /// # Errors
    /// The slice is of a lane that has no such events under way.
    pub fn settle(
        &mut self,
        slice: LaneSlice<T>,
        count: usize,
        now: Instant,
        mut settled: impl FnMut(T, bool),
    ) -> Result<Option<LaneSlice<T>>, UnknownLane> {
        let (key, failures, first_try) = (slice.lane, slice.failures, slice.first_try);
        let (is_alone, is_untested) = (slice.is_alone, slice.is_untested);
        let mut events = slice.into_events();
        let mut next = events.next();
        for place in 0..count {
            let Some(event) = next.take() else { break };
            next = events.next();
            let was_parked = self.settle_first(key, &event, next.as_ref(), now)?;
            settled(event, was_parked);
            debug_assert!(place == 0 || !was_parked, "what travels in company is not parked");
        }
        let failures = if count == 0 { failures } else { 0 };
        Ok(next.map(|head| LaneSlice {
            lane: key,
            head,
            rest: events.collect(),
            failures,
            first_try,
            is_alone,
            is_untested,
        }))
    }

    /// The first event of a slice that was under way failed: the lane pauses. Returns whether its event is parked from now on and
    /// was not before.
    pub fn retry(&mut self, slice: LaneSlice<T>, pause: RetryPause, now: Instant) -> bool {
        let key = slice.lane;
        let Some(lane) = self.lanes.get_mut(&key) else { return false };
        let role = slice.head.barrier_role();
        lane.is_untested = !slice.is_alone;
        lane.take_back(slice, now);
        lane.failures += 1;
        let is_news = pause.is_parked && !lane.is_parked;
        lane.is_parked |= pause.is_parked;
        // A parked event is not tried earlier because others work.
        let is_backoff = pause.is_backoff && !lane.is_parked && !lane.is_dead_letter;
        let kind = if lane.is_dead_letter { FailedKind::DeadLetter } else { FailedKind::Retry };
        self.queues.push_pause(Pause { end: pause.until, lane: key, table: lane.table, kind }, is_backoff);
        if is_news {
            self.parked += lane.load_of_first();
            if lane.load.bytes - lane.load_of_first().bytes > self.share / PARKED_PART {
                self.left_out.extend(lane.shed());
            }
        }
        self.tried(key, role, now);
        is_news
    }

    /// The first event of a slice that was under way goes to the dead-letter sink from now on. Returns whether it was
    /// parked; it is not any more.
    pub fn divert(&mut self, slice: LaneSlice<T>, now: Instant) -> bool {
        let key = slice.lane;
        let Some(lane) = self.lanes.get_mut(&key) else { return false };
        let role = slice.head.barrier_role();
        lane.take_back(slice, now);
        (lane.failures, lane.is_dead_letter) = (0, true);
        let was_parked = std::mem::take(&mut lane.is_parked);
        if was_parked {
            self.parked -= lane.load_of_first();
        }
        self.queues.push_failed(lane.table, key, FailedKind::DeadLetter);
        self.tried(key, role, now);
        was_parked
    }

    /// A slice's request failed through the fault of an event before it: it is tried again at once, alone.
    pub fn put_back(&mut self, slice: LaneSlice<T>, now: Instant) {
        let key = slice.lane;
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.is_untested = true;
            lane.take_back(slice, now);
            lane.failures = 1;
            self.queues.push_failed(lane.table, key, FailedKind::Retry);
        }
    }

    /// The only event of a slice will never be tried by this process, and was not before: its lane stands still, and nobody keeps
    /// the event. Returns it.
    pub fn hold(&mut self, slice: LaneSlice<T>, now: Instant) -> Option<T> {
        let lane = self.lanes.get_mut(&slice.lane)?;
        debug_assert!(slice.rest.is_empty() && !lane.is_parked, "it was never tried");
        (lane.state, lane.isolated) = (State::Held, 0);
        self.queues.hold(lane.table, slice.lane);
        self.held += 1;
        self.tried(slice.lane, slice.head.barrier_role(), now);
        Some(slice.head)
    }

    /// A slice that was under way is left out, with all that waits behind it: the lane ends. Its first event was not parked. Returns
    /// all of its events, in order.
    pub fn leave_out(&mut self, slice: LaneSlice<T>, now: Instant) -> Vec<T> {
        let (key, role) = (slice.lane, slice.head.barrier_role());
        let events = self.give_up(slice);
        self.tried(key, role, now);
        events
    }

    /// A slice that was under way is given up with all that waits behind it: the lane ends, and nobody tries it again. What waits for its
    /// events to be tried waits on. Returns all of them, in order.
    pub fn give_up(&mut self, slice: LaneSlice<T>) -> Vec<T> {
        let waiting = self.lanes.remove(&slice.lane).map(|lane| {
            if lane.is_parked {
                self.parked -= LaneLoad::of(&slice.head);
            }
            lane.into_waiting()
        });
        slice.into_events().chain(waiting.into_iter().flatten()).collect()
    }

    /// Takes out about so many events of a table of which nothing is under way, and comes, any more. In the end nothing is left of it: then
    /// there is none.
    pub fn withdraw(&mut self, withdrawal: &mut Withdrawal, most: usize) -> Option<Vec<T>> {
        let table = withdrawal.table;
        let mut events: Vec<T> = self.left_out.extract_if(.., |event| event.table() == table).collect();
        for _ in 0..most {
            if events.len() >= most {
                break;
            }
            if let Some(event) = self.barriers.take_waiting(table) {
                events.push(event);
                continue;
            }
            match self.queues.take_waiting(&mut withdrawal.search) {
                Found::Lane(key) => events.extend(self.end_lane(key)),
                Found::Nothing => break,
                Found::End if events.is_empty() => return None,
                Found::End => break,
            }
        }
        Some(events)
    }

    /// A lane that waits for nothing any more ends. What waited in it.
    fn end_lane(&mut self, key: LaneKey) -> impl Iterator<Item = T> + use<T> {
        let lane = self.lanes.remove(&key);
        if let Some(lane) = &lane {
            match lane.state {
                State::NeverTried => self.queues.shrink(lane.load),
                State::Held => self.held -= 1,
                State::Failed if lane.is_parked => self.parked -= lane.load_of_first(),
                State::Failed | State::UnderWay(_) => {}
            }
        }
        lane.into_iter().flat_map(|lane| lane.into_waiting())
    }

    /// Events whose lane was left out while they waited behind a barrier, and what was too much behind events that were parked: the caller
    /// has to bring them again.
    pub fn take_left_out(&mut self) -> Vec<T> {
        std::mem::take(&mut self.left_out)
    }

    /// The sink works again: nobody waits for the end of a backoff.
    pub fn end_backoffs(&mut self) {
        self.queues.end_backoffs();
    }

    /// Which kinds of requests wait for nothing but permission.
    pub fn waiting(&mut self, now: Instant) -> Kinds {
        self.queues.end_pauses(now);
        self.queues.waiting(now)
    }

    /// Makes ready what may probe a sink that is down: if nothing else waits, the lane whose backoff would end first. Says whether
    /// there is something.
    pub fn prepare_probe(&mut self, now: Instant) -> bool {
        self.queues.end_pauses(now);
        self.queues.prepare_probe()
    }

    /// Whether there is something that could probe a sink that is down.
    pub fn has_probe(&self) -> bool {
        self.queues.has_probe()
    }

    /// So many requests may be under way, if that is less than the configured number.
    pub fn set_places(&mut self, places: usize) {
        self.queues.set_places(places);
    }

    /// Whether another request may be under way.
    pub fn has_place(&self) -> bool {
        self.queues.has_place()
    }

    /// When a pause ends, or a request will have waited long enough for company.
    pub fn next_change(&self, now: Instant) -> Option<Instant> {
        self.queues.next_change(now)
    }

    /// The lane's first event that is not under way.
    pub fn first(&self, key: LaneKey) -> Option<&T> {
        self.lanes.get(&key)?.first.as_ref().map(|first| &first.event)
    }

    /// Whether the lane's first event is parked.
    pub fn is_parked(&self, key: LaneKey) -> bool {
        self.lanes.get(&key).is_some_and(|lane| lane.is_parked)
    }

    /// Whether all that waits in the lane comes again if it is not kept.
    pub fn may_leave_out(&self, key: LaneKey) -> bool {
        let waiting = |lane: &Lane<T>| lane.first.iter().chain(&lane.rest).all(|it| it.event.may_be_left_out());
        self.lanes.get(&key).is_none_or(|lane| waiting(lane))
    }

    /// The lane in which the most events wait, where several do, and how many.
    pub fn longest(&mut self) -> Option<(LaneKey, usize)> {
        let waiting = |key| self.lanes.get(&key).map_or(0, |lane| lane.load.events);
        self.longest = self.longest.map(|(key, _)| (key, waiting(key)));
        self.longest.filter(|(_, events)| *events > 1)
    }

    /// How many requests are being tried now.
    pub fn under_way(&self) -> usize {
        self.queues.under_way()
    }

    /// Lanes whose first event is parked.
    pub fn parked(&self) -> usize {
        self.parked.events
    }

    /// Bytes of the events that are parked.
    pub fn parked_bytes(&self) -> usize {
        self.parked.bytes
    }

    /// Lanes that hold an event.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Of those, the lanes whose first event is neither parked nor held.
    pub fn in_progress(&self) -> usize {
        self.lanes.len() - self.parked.events - self.held
    }

    /// Whether no lane holds an event.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Whether no lane holds an event that this process can still try.
    pub fn is_done(&self) -> bool {
        self.lanes.len() == self.held
    }

    fn join(&mut self, key: LaneKey, event: T, now: Instant) -> Vec<T> {
        let arrival = self.arrivals;
        self.arrivals += 1;
        let waiting = WaitingEvent { arrival, since: now, event };
        match self.lanes.entry(key) {
            Entry::Vacant(entry) => {
                let lane = entry.insert(Box::new(Lane::new(waiting)));
                self.queues.push_first_attempt(key, Place { table: lane.table, arrival, since: now }, lane.load);
                Vec::new()
            }
            Entry::Occupied(mut entry) => {
                let lane = entry.get_mut();
                if lane.state == State::NeverTried {
                    self.queues.grow(LaneLoad::of(&waiting.event));
                }
                lane.push(waiting);
                if self.longest.is_none_or(|(_, longest)| lane.load.events > longest) {
                    self.longest = Some((key, lane.load.events));
                }
                let share = if lane.is_parked { self.share / PARKED_PART } else { self.share };
                if lane.load.bytes <= share {
                    return Vec::new();
                }
                // Behind an event that fails nothing is needed soon. Else what fits stays, or a pass would bring one event at a time.
                let (before, beyond) = (lane.load, if lane.has_failed() { lane.shed() } else { lane.shed_last() });
                if lane.state == State::NeverTried {
                    self.queues.grow(lane.load);
                    self.queues.shrink(before);
                }
                beyond
            }
        }
    }

    /// Takes on board what may leave together: the first lane's event, and of lanes that were never tried as much as there is room for.
    fn load(
        &mut self,
        turn: Turn,
        is_probe: bool,
        now: Instant,
        take: &mut impl FnMut(&T) -> bool,
    ) -> Option<Request<T>> {
        let kind = turn.kind();
        let is_shared = kind == AttemptKind::FirstAttempt && !is_probe;
        let mut room = if is_shared { self.queues.limits().events } else { 1 };
        let mut request: Option<Request<T>> = None;
        let mut next = Some(turn);
        while let Some(turn) = next {
            let lane = self.lanes.get_mut(&turn.lane)?;
            let before = lane.load;
            if kind == AttemptKind::FirstAttempt {
                self.queues.shrink(before);
            }
            let Some(slice) = lane.board(turn.lane, room, now, take) else {
                self.queues.give_back(&turn, lane.table, before);
                break;
            };
            room -= slice.len();
            let goes_on = is_shared && room > 0 && lane.first.is_none();
            match &mut request {
                None => request = Some(Request { kind, first: slice, more: Vec::new() }),
                Some(request) => request.more.push(slice),
            }
            next = if goes_on { self.queues.next_first_attempt() } else { None };
        }
        let mut request = request?;
        let is_alone = request.events() == 1;
        std::iter::once(&mut request.first).chain(&mut request.more).for_each(|slice| slice.is_alone = is_alone);
        Some(request)
    }

    fn settle_first(&mut self, key: LaneKey, event: &T, next: Option<&T>, now: Instant) -> Result<bool, UnknownLane> {
        let Entry::Occupied(mut entry) = self.lanes.entry(key) else { return Err(UnknownLane) };
        let lane = entry.get_mut();
        let State::UnderWay(under_way) = lane.state else { return Err(UnknownLane) };
        let was_parked = std::mem::take(&mut lane.is_parked);
        if was_parked {
            self.parked -= LaneLoad::of(event);
        }
        (lane.failures, lane.is_dead_letter) = (0, false);
        if under_way > 1 {
            // What left together was tried together.
            lane.state = State::UnderWay(under_way - 1);
        } else if let Some(first) = &lane.first {
            if lane.isolated > 0 {
                lane.isolated -= 1;
                (lane.failures, lane.state, lane.is_untested) = (1, State::Failed, true);
                self.queues.push_failed(lane.table, key, FailedKind::Retry);
            } else {
                (lane.state, lane.first_try) = (State::NeverTried, None);
                let place = Place { table: lane.table, arrival: first.arrival, since: first.since };
                self.queues.push_first_attempt(key, place, lane.load);
            }
        } else {
            entry.remove();
        }
        let role = event.barrier_role();
        // Where another barrier of the same number follows at once, what is behind both waits for that one.
        let is_followed = next.or_else(|| self.first(key)).is_some_and(|next| next.barrier_role() == role);
        if matches!(role, BarrierRole::Barrier(_)) && !is_followed {
            self.tried(key, role, now);
        }
        Ok(was_parked)
    }

    /// An event was tried: if it is a barrier, what is behind it may go.
    fn tried(&mut self, lane: LaneKey, role: BarrierRole, now: Instant) {
        if let BarrierRole::Barrier(number) = role {
            for (key, event) in self.barriers.open(number, lane) {
                if event.is_left_out() {
                    self.left_out.push(event);
                    continue;
                }
                // These have let go of their pages, and barriers are few: a lane's share is not looked at.
                let fails = || self.lanes.get(&key).is_some_and(|lane| lane.has_failed());
                if let Some(event) = self.barriers.admit(key, event, fails) {
                    self.join_whole(key, event, now);
                }
            }
        }
    }

    fn join_whole(&mut self, key: LaneKey, event: T, now: Instant) {
        let share = std::mem::replace(&mut self.share, usize::MAX);
        self.join(key, event, now);
        self.share = share;
    }
}

/// A state that cannot be: what was under way is in no lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a request has ended whose event is in no lane")]
pub struct UnknownLane;

#[cfg(test)]
mod tests;
