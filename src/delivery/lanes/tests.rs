//! What lanes promise, rule by rule; `model` holds them against plain lists.

mod barriers;
mod batches;
mod model;
mod withdrawals;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;

/// What each event weighs.
const SIZE: usize = 10;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    number: u32,
    detached: bool,
    role: BarrierRole,
    table: usize,
}

impl LaneItem for Event {
    fn detach(&mut self) {
        self.detached = true;
    }

    fn size(&self) -> usize {
        SIZE
    }

    fn barrier_role(&self) -> BarrierRole {
        self.role
    }

    fn table(&self) -> usize {
        self.table
    }
}

fn event(number: u32) -> Event {
    Event { number, detached: false, role: BarrierRole::None, table: 0 }
}

fn detached(number: u32) -> Event {
    Event { detached: true, ..event(number) }
}

fn barrier(number: u32, name: u64) -> Event {
    Event { role: BarrierRole::Barrier(name), ..event(number) }
}

fn after(number: u32, name: u64) -> Event {
    Event { role: BarrierRole::After(name), ..event(number) }
}

/// No lane of these tests is too long.
const ROOM: usize = usize::MAX;

/// Lanes for tests: what is under way is remembered, by lane.
struct Requests {
    lanes: Lanes<Event>,
    under_way: BTreeMap<LaneKey, (AttemptKind, LaneSlice<Event>)>,
    now: Instant,
}

/// What left.
#[derive(Debug)]
struct Left {
    kind: AttemptKind,
    /// By lane: how many events, how many attempts have failed, and when the first was tried first.
    slices: Vec<(LaneKey, usize, u32, Instant)>,
    numbers: Vec<u32>,
}

impl Requests {
    fn singly(concurrency: usize) -> Self {
        Self::new(RequestLimits::singly(concurrency))
    }

    fn new(limits: RequestLimits) -> Self {
        Self { lanes: Lanes::new(limits, ROOM), under_way: BTreeMap::new(), now: Instant::now() }
    }

    fn push(&mut self, key: LaneKey, event: Event) {
        assert_eq!(self.lanes.push(key, event, self.now), [], "left out");
    }

    fn begin(&mut self, permitted: Kinds, take: impl FnMut(&Event) -> bool) -> Option<Left> {
        let request = self.lanes.begin(permitted, None, self.now, take)?;
        Some(self.note(request))
    }

    fn note(&mut self, request: Request<Event>) -> Left {
        let of = |slice: &LaneSlice<Event>| (slice.lane, slice.len(), slice.failures, slice.first_try);
        let slices = request.slices().map(of).collect();
        let numbers = request.slices().flat_map(LaneSlice::events).map(|event| event.number).collect();
        let kind = request.kind;
        self.under_way.extend(request.into_slices().map(|slice| (slice.lane, (kind, slice))));
        Left { kind, slices, numbers }
    }

    /// The next request, whatever it carries.
    fn depart(&mut self, permitted: Kinds) -> Option<Left> {
        self.begin(permitted, |_| true)
    }

    fn start(&mut self) -> Option<(LaneKey, u32)> {
        self.depart(Kinds::ALL).map(|left| (left.slices[0].0, left.numbers[0]))
    }

    fn numbers(&mut self) -> Vec<u32> {
        self.depart(Kinds::ALL).map(|left| left.numbers).unwrap_or_default()
    }

    /// The request of this lane has ended.
    fn arrived(&mut self, key: LaneKey) {
        self.lanes.ended(self.under_way[&key].0);
    }

    fn take(&mut self, key: LaneKey) -> LaneSlice<Event> {
        self.under_way.remove(&key).expect("it is under way").1
    }

    /// The lane's first event under way is settled, in a request that has ended.
    fn settle_one(&mut self, key: LaneKey) -> (Event, bool) {
        let (kind, slice) = self.under_way.remove(&key).expect("it is under way");
        let mut settled = Vec::new();
        let rest = self.lanes.settle(slice, 1, self.now, |event, parked| settled.push((event, parked)));
        if let Some(rest) = rest.expect("it is in its lane") {
            self.under_way.insert(key, (kind, rest));
        }
        settled.remove(0)
    }

    fn settle(&mut self, key: LaneKey) -> Option<(Event, bool)> {
        self.arrived(key);
        Some(self.settle_one(key))
    }

    fn retry(&mut self, key: LaneKey, pause: Duration, parked: bool) -> bool {
        self.arrived(key);
        self.retry_one(key, pause, parked)
    }

    fn retry_one(&mut self, key: LaneKey, pause: Duration, parked: bool) -> bool {
        let (slice, until) = (self.take(key), self.now + pause);
        let pause = if parked { RetryPause::parked(until) } else { RetryPause::backoff(until) };
        self.lanes.retry(slice, pause, self.now)
    }

    fn divert(&mut self, key: LaneKey) -> bool {
        self.arrived(key);
        let slice = self.take(key);
        self.lanes.divert(slice, self.now)
    }

    fn put_back(&mut self, key: LaneKey) {
        let slice = self.take(key);
        self.lanes.put_back(slice, self.now);
    }
}

const FIRST: Kinds = Kinds { first_attempts: true, retries: false, dead_letters: false };
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_next_event_of_an_item_waits_until_the_previous_one_is_settled() {
    let mut requests = Requests::singly(8);
    requests.push(1, event(10));
    requests.push(1, event(11));
    assert_eq!(requests.start(), Some((1, 10)));
    assert_eq!(requests.start(), None, "the item's next event left early");
    assert_eq!(requests.settle(1), Some((event(10), false)));
    assert_eq!(requests.start(), Some((1, 11)));
}

#[test]
fn a_failing_item_delays_itself_alone() {
    let mut requests = Requests::singly(8);
    requests.push(1, event(10));
    requests.push(1, event(11));
    requests.push(2, event(20));
    requests.start();
    requests.retry(1, 30 * SECOND, false);
    assert_eq!(requests.start(), Some((2, 20)));
    requests.settle(2);
    requests.push(2, event(21));
    assert_eq!(requests.start(), Some((2, 21)));
    assert_eq!(requests.start(), None);
    requests.now += 30 * SECOND;
    assert_eq!(requests.start(), Some((1, 10)), "the same event again");
}

#[test]
fn events_that_fail_take_at_most_half_of_the_places() {
    let mut requests = Requests::singly(4);
    for key in 0..4 {
        requests.push(key, event(0));
        requests.start();
        requests.retry(key, SECOND, false);
    }
    requests.now += SECOND;
    let repeats = std::iter::from_fn(|| requests.start()).count();
    assert_eq!(repeats, 2, "retries took the places of events that were never tried");
    requests.push(100, event(1));
    assert_eq!(requests.start(), Some((100, 1)));
}

#[test]
fn dead_letters_take_at_most_a_quarter_of_the_places_and_half_together_with_retries() {
    let mut requests = Requests::singly(8);
    for key in 0..12 {
        requests.push(key, event(0));
        requests.depart(FIRST);
        if key < 6 {
            requests.divert(key)
        } else {
            requests.retry(key, Duration::ZERO, false)
        };
    }
    let letters = Kinds { dead_letters: true, ..Kinds::default() };
    let gone = std::iter::from_fn(|| requests.depart(letters)).count();
    assert_eq!(gone, 2, "a dead-letter sink that hangs takes the places of the others");
    let repeats = std::iter::from_fn(|| requests.depart(Kinds::ALL)).count();
    assert_eq!(repeats, 2, "both together take more than half");
}

#[test]
fn dead_letters_and_retries_take_turns_where_there_is_one_place_for_both() {
    let mut requests = Requests::singly(2);
    for key in 0..4 {
        requests.push(key, event(0));
        requests.depart(FIRST);
        if key < 2 {
            requests.divert(key)
        } else {
            requests.retry(key, Duration::ZERO, false)
        };
    }
    let mut kinds = Vec::new();
    for _ in 0..4 {
        let left = requests.depart(Kinds::ALL).expect("somebody waits");
        kinds.push(left.kind);
        requests.retry(left.slices[0].0, Duration::ZERO, false);
    }
    assert!(kinds.contains(&AttemptKind::DeadLetter) && kinds.contains(&AttemptKind::Retry), "{kinds:?}");
}

#[test]
fn a_dead_letter_holds_its_item_until_it_is_settled() {
    let mut requests = Requests::singly(4);
    requests.push(1, event(10));
    requests.push(1, event(11));
    requests.start();
    requests.retry(1, Duration::ZERO, true);
    requests.start();
    assert!(requests.divert(1), "it was parked");
    assert_eq!(requests.lanes.parked(), 0);
    let left = requests.depart(Kinds::ALL).expect("it goes to the other sink");
    assert_eq!((left.kind, left.numbers), (AttemptKind::DeadLetter, vec![10]));
    requests.retry(1, SECOND, false);
    assert_eq!(requests.start(), None, "the item's next event overtook the dead letter");
    requests.lanes.end_backoffs();
    assert_eq!(requests.start(), None, "that the sink works again says nothing of the other one");
    requests.now += SECOND;
    assert_eq!(requests.depart(Kinds::ALL).map(|left| left.kind), Some(AttemptKind::DeadLetter));
    assert_eq!(requests.settle(1), Some((detached(10), false)));
    let left = requests.depart(Kinds::ALL).expect("the next one goes to the sink");
    assert_eq!((left.kind, left.numbers), (AttemptKind::FirstAttempt, vec![11]));
}

#[test]
fn a_parked_item_is_counted_until_it_is_settled() {
    let mut requests = Requests::singly(4);
    requests.push(1, event(10));
    requests.start();
    assert!(requests.retry(1, Duration::ZERO, true), "parking is news");
    assert_eq!(requests.lanes.parked(), 1);
    requests.start();
    assert!(!requests.retry(1, Duration::ZERO, true), "it was parked before");
    requests.start();
    assert_eq!(requests.settle(1), Some((detached(10), true)));
    assert_eq!(requests.lanes.parked(), 0);
}

#[test]
fn what_waits_behind_a_failure_lets_go_of_its_page() {
    let mut requests = Requests::singly(4);
    requests.push(1, event(10));
    requests.push(1, event(11));
    requests.start();
    requests.retry(1, Duration::ZERO, false);
    requests.push(1, event(12));
    requests.start();
    for number in 10..=12 {
        assert_eq!(requests.settle(1), Some((detached(number), false)));
        requests.start();
    }
}

#[test]
fn when_the_sink_works_again_nobody_waits_for_the_end_of_its_pause() {
    let mut requests = Requests::singly(4);
    for key in 0..3 {
        requests.push(key, event(0));
        requests.start();
    }
    for key in 0..3 {
        requests.retry(key, 30 * SECOND, false);
    }
    assert_eq!(requests.lanes.waiting(requests.now), Kinds::default());
    requests.lanes.end_backoffs();
    assert_eq!(requests.lanes.waiting(requests.now), Kinds { retries: true, ..Kinds::default() });
    assert!(requests.start().is_some());
}

#[test]
fn with_one_place_what_fails_and_what_is_new_take_turns() {
    let mut requests = Requests::singly(1);
    for key in 0..4 {
        requests.push(key, event(0));
        requests.depart(FIRST);
        if key < 2 {
            requests.divert(key)
        } else {
            requests.retry(key, Duration::ZERO, false)
        };
    }
    for key in 10..13 {
        requests.push(key, event(0));
    }
    let mut kinds = Vec::new();
    for _ in 0..12 {
        let left = requests.depart(Kinds::ALL).expect("somebody waits");
        kinds.push(left.kind);
        if left.kind == AttemptKind::FirstAttempt {
            requests.settle(left.slices[0].0);
        } else {
            requests.retry(left.slices[0].0, Duration::ZERO, false);
        }
    }
    let turns = |class| kinds.iter().filter(|turn| **turn == class).count();
    assert_eq!(
        kinds.iter().rposition(|class| *class == AttemptKind::FirstAttempt),
        Some(5),
        "what fails keeps the rest waiting"
    );
    assert!(turns(AttemptKind::DeadLetter) >= 4 && turns(AttemptKind::Retry) >= 4, "{kinds:?}");
}

#[test]
fn a_sink_that_goes_and_comes_leaves_no_old_pauses_behind() {
    let mut requests = Requests::singly(8);
    for key in 0..3 {
        requests.push(key, event(0));
        requests.start();
        if key == 2 {
            requests.divert(key)
        } else {
            requests.retry(key, 1000 * SECOND, false)
        };
    }
    requests.start();
    requests.retry(2, 500 * SECOND, false);
    for _ in 0..50 {
        requests.lanes.end_backoffs();
        while let Some((key, _)) = requests.start() {
            requests.retry(key, 1000 * SECOND, false);
        }
        assert_eq!(requests.lanes.queues.pausing(), 3, "it grows with every outage");
    }
    assert_eq!(requests.lanes.next_change(requests.now), Some(requests.now + 500 * SECOND));
}

#[test]
fn what_waits_behind_a_dead_letter_lets_go_of_its_page() {
    let mut requests = Requests::singly(4);
    requests.push(1, event(10));
    requests.start();
    requests.divert(1);
    requests.push(1, event(11));
    requests.start();
    for number in 10..=11 {
        assert_eq!(requests.settle(1), Some((detached(number), false)));
        requests.start();
    }
}
