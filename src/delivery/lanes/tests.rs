use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    number: u32,
    detached: bool,
    gate: Gate,
}

impl Cargo for Event {
    fn settle_in(&mut self) {
        self.detached = true;
    }

    fn size(&self) -> usize {
        10
    }

    fn gate(&self) -> Gate {
        self.gate
    }
}

fn event(number: u32) -> Event {
    Event { number, detached: false, gate: Gate::None }
}

fn detached(number: u32) -> Event {
    Event { detached: true, ..event(number) }
}

fn barrier(number: u32, gate: u64) -> Event {
    Event { gate: Gate::Barrier(gate), ..event(number) }
}

fn behind(number: u32, gate: u64) -> Event {
    Event { gate: Gate::Behind(gate), ..event(number) }
}

/// Lanes for tests: what comes back of a request is told in one call.
struct Requests {
    lanes: Lanes<Event>,
    classes: BTreeMap<LaneKey, Class>,
    now: Instant,
}

impl Requests {
    fn singly(concurrency: usize) -> Self {
        Self::new(Limits::singly(concurrency))
    }

    fn new(limits: Limits) -> Self {
        Self { lanes: Lanes::new(limits), classes: BTreeMap::new(), now: Instant::now() }
    }

    fn push(&mut self, key: LaneKey, event: Event) {
        self.lanes.push(key, event, self.now);
    }

    /// The lanes and numbers on board of the next request.
    fn depart(&mut self, allowed: Classes) -> Option<(Departure, Vec<u32>)> {
        let mut numbers = Vec::new();
        let take = |event: &Event| {
            numbers.push(event.number);
            true
        };
        let departure = self.lanes.start(allowed, self.now, take)?;
        for passengers in departure.passengers() {
            self.classes.insert(passengers.lane, departure.class);
        }
        Some((departure, numbers))
    }

    fn start(&mut self) -> Option<(LaneKey, u32)> {
        self.depart(Classes::ALL).map(|(departure, numbers)| (departure.first.lane, numbers[0]))
    }

    fn numbers(&mut self) -> Vec<u32> {
        self.depart(Classes::ALL).map(|(_, numbers)| numbers).unwrap_or_default()
    }

    fn settle(&mut self, key: LaneKey) -> Option<(Event, bool)> {
        self.lanes.arrived(self.classes[&key]);
        self.lanes.settle(key, self.now)
    }

    fn retry(&mut self, key: LaneKey, pause: Duration, parked: bool) -> bool {
        self.lanes.arrived(self.classes[&key]);
        self.lanes.retry(key, self.now + pause, parked, self.now)
    }

    fn divert(&mut self, key: LaneKey) -> bool {
        self.lanes.arrived(self.classes[&key]);
        self.lanes.divert(key, self.now)
    }
}

const FRESH: Classes = Classes { fresh: true, repeats: false, letters: false };
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
        requests.depart(FRESH);
        if key < 6 {
            requests.divert(key)
        } else {
            requests.retry(key, Duration::ZERO, false)
        };
    }
    let letters = Classes { letters: true, ..Classes::default() };
    let gone = std::iter::from_fn(|| requests.depart(letters)).count();
    assert_eq!(gone, 2, "a dead-letter sink that hangs takes the places of the others");
    let repeats = std::iter::from_fn(|| requests.depart(Classes::ALL)).count();
    assert_eq!(repeats, 2, "both together take more than half");
}

#[test]
fn dead_letters_and_retries_take_turns_where_there_is_one_place_for_both() {
    let mut requests = Requests::singly(2);
    for key in 0..4 {
        requests.push(key, event(0));
        requests.depart(FRESH);
        if key < 2 {
            requests.divert(key)
        } else {
            requests.retry(key, Duration::ZERO, false)
        };
    }
    let mut classes = Vec::new();
    for _ in 0..4 {
        let (departure, _) = requests.depart(Classes::ALL).expect("somebody waits");
        classes.push(departure.class);
        requests.retry(departure.first.lane, Duration::ZERO, false);
    }
    assert!(classes.contains(&Class::Letter) && classes.contains(&Class::Repeat), "{classes:?}");
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
    let (departure, numbers) = requests.depart(Classes::ALL).expect("it goes to the other sink");
    assert_eq!((departure.class, numbers), (Class::Letter, vec![10]));
    requests.retry(1, SECOND, false);
    assert_eq!(requests.start(), None, "the item's next event overtook the dead letter");
    requests.lanes.end_all_pauses();
    assert_eq!(requests.start(), None, "that the sink works again says nothing of the other one");
    requests.now += SECOND;
    assert_eq!(requests.depart(Classes::ALL).map(|(departure, _)| departure.class), Some(Class::Letter));
    assert_eq!(requests.settle(1), Some((detached(10), false)));
    let (departure, numbers) = requests.depart(Classes::ALL).expect("the next one goes to the sink");
    assert_eq!((departure.class, numbers), (Class::Fresh, vec![11]));
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
    assert_eq!(requests.lanes.waiting(requests.now), Classes::default());
    requests.lanes.end_all_pauses();
    assert_eq!(requests.lanes.waiting(requests.now), Classes { repeats: true, ..Classes::default() });
    assert!(requests.start().is_some());
}

fn batches() -> Limits {
    Limits { concurrency: 4, events: 4, bytes: 1000, wait: SECOND }
}

#[test]
fn a_request_leaves_when_it_is_full_or_its_oldest_event_has_waited_long_enough() {
    let mut requests = Requests::new(batches());
    for key in 0..3 {
        requests.push(key, event(key as u32));
        requests.now += SECOND / 10;
    }
    assert_eq!(requests.numbers(), [0; 0], "it left with an empty place although others may come");
    assert_eq!(requests.lanes.next_change(requests.now), Some(requests.now + SECOND * 7 / 10));
    requests.push(3, event(3));
    assert_eq!(requests.numbers(), [0, 1, 2, 3]);

    requests.push(9, event(9));
    requests.now += SECOND;
    assert_eq!(requests.numbers(), [9], "it waits for company for ever");
}

#[test]
fn a_request_is_full_by_bytes_too() {
    let mut requests = Requests::new(Limits { bytes: 20, ..batches() });
    requests.push(0, event(0));
    assert_eq!(requests.numbers(), [0; 0]);
    requests.push(1, event(1));
    requests.push(2, event(2));
    let mut shown = Vec::new();
    let departure = requests.lanes.start(Classes::ALL, requests.now, |event| {
        shown.push(event.number);
        shown.len() <= 2
    });
    assert_eq!(departure.map(|departure| departure.events()), Some(2), "what did not fit is on board");
    assert_eq!(requests.numbers(), [0; 0], "the third one waits for company");
    requests.now += SECOND;
    assert_eq!(requests.numbers(), [2]);
}

#[test]
fn events_of_one_item_may_leave_together_in_their_order() {
    let mut requests = Requests::new(batches());
    for number in 0..6 {
        requests.push(7, event(number));
    }
    let (departure, numbers) = requests.depart(Classes::ALL).expect("more than enough");
    assert_eq!(numbers, [0, 1, 2, 3]);
    assert_eq!((departure.first.events, departure.more.len()), (4, 0));
    requests.now += SECOND;
    assert_eq!(requests.start(), None, "the item has events under way");
    requests.lanes.arrived(Class::Fresh);
    for number in 0..4 {
        assert_eq!(requests.lanes.settle(7, requests.now), Some((event(number), false)));
    }
    requests.now += SECOND;
    assert_eq!(requests.numbers(), [4, 5]);
}

#[test]
fn what_fails_in_company_is_tried_alone_and_its_followers_behind_it() {
    let mut requests = Requests::new(batches());
    for number in 0..3 {
        requests.push(7, event(number));
    }
    requests.push(8, event(80));
    assert_eq!(requests.numbers(), [0, 1, 2, 80]);
    requests.lanes.arrived(Class::Fresh);
    requests.lanes.settle(7, requests.now);
    requests.lanes.retry(7, requests.now, false, requests.now);
    requests.lanes.settle(8, requests.now);
    let (departure, numbers) = requests.depart(Classes::ALL).expect("due at once");
    assert_eq!((departure.class, numbers), (Class::Repeat, vec![1]), "a poisoned event took others with it");
    requests.settle(7);
    assert_eq!(requests.numbers(), [2]);
}

#[test]
fn nothing_overtakes_a_barrier_before_it_was_tried() {
    let mut requests = Requests::singly(8);
    requests.push(100, barrier(1, 5));
    requests.push(1, behind(2, 5));
    requests.push(2, event(3));
    assert_eq!(requests.start(), Some((100, 1)));
    assert_eq!(requests.start(), Some((2, 3)), "what is not behind it does not wait");
    assert_eq!(requests.start(), None, "it overtook the barrier");
    requests.settle(100);
    assert_eq!(requests.start(), Some((1, 2)));
}

#[test]
fn a_barrier_that_fails_holds_nobody() {
    let mut requests = Requests::singly(8);
    requests.push(100, barrier(1, 5));
    requests.push(1, behind(2, 5));
    requests.push(100, barrier(3, 5));
    requests.push(1, behind(4, 5));
    requests.start();
    requests.retry(100, 30 * SECOND, true);
    assert_eq!(requests.start(), Some((1, 2)));
    requests.settle(1);
    assert_eq!(requests.start(), Some((1, 4)), "a barrier that cannot be tried for long holds others");
    requests.now += 30 * SECOND;
    assert_eq!(requests.start(), Some((100, 1)));
    requests.settle(100);
    assert_eq!(requests.start(), Some((100, 3)), "barriers come in their order");
}

#[test]
fn several_barriers_are_passed_one_after_the_other() {
    let mut requests = Requests::singly(8);
    requests.push(100, barrier(1, 5));
    requests.push(1, behind(2, 5));
    requests.push(100, barrier(3, 5));
    requests.push(2, behind(4, 5));
    assert_eq!((requests.start(), requests.start()), (Some((100, 1)), None));
    requests.settle(100);
    assert_eq!((requests.start(), requests.start(), requests.start()), (Some((1, 2)), Some((100, 3)), None));
    requests.settle(100);
    assert_eq!(requests.start(), Some((2, 4)));
}

#[test]
fn an_items_events_stay_in_order_when_only_some_of_them_are_behind_a_barrier() {
    // A table's next stream knows nothing of the gaps in the one before.
    let mut requests = Requests::singly(8);
    requests.push(100, barrier(1, 5));
    requests.push(1, behind(2, 5));
    requests.push(1, event(3));
    requests.push(2, event(4));
    assert_eq!((requests.start(), requests.start()), (Some((100, 1)), Some((2, 4))));
    assert_eq!(requests.start(), None, "the item's newer event overtook the older one");
    requests.settle(100);
    assert_eq!((requests.start(), requests.start()), (Some((1, 2)), None));
    requests.settle(1);
    assert_eq!(requests.start(), Some((1, 3)));
    requests.settle(1);
    requests.push(100, barrier(5, 5));
    requests.push(1, event(6));
    assert_eq!(
        (requests.start(), requests.start()),
        (Some((100, 5)), Some((1, 6))),
        "a barrier holds it that it is not behind"
    );
}

#[test]
fn an_item_behind_two_barriers_waits_for_one_after_the_other_in_its_order() {
    let mut requests = Requests::singly(8);
    requests.push(100, barrier(1, 5));
    requests.push(200, barrier(2, 6));
    requests.push(1, behind(3, 5));
    requests.push(1, behind(4, 6));
    requests.push(1, event(5));
    assert_eq!((requests.start(), requests.start(), requests.start()), (Some((100, 1)), Some((200, 2)), None));
    requests.settle(200);
    assert_eq!(requests.start(), None, "it overtook the first barrier");
    requests.settle(100);
    for number in 3..=5 {
        assert_eq!((requests.start(), requests.start()), (Some((1, number)), None));
        requests.settle(1);
    }
}

#[test]
fn a_barrier_that_waits_in_its_lane_is_not_passed_when_the_one_before_it_was_taken() {
    let mut requests = Requests::singly(8);
    requests.push(100, barrier(1, 5));
    requests.start();
    requests.retry(100, Duration::ZERO, false);
    requests.push(100, barrier(2, 5));
    requests.start();
    requests.settle(100);
    requests.push(100, barrier(3, 5));
    requests.push(1, behind(4, 5));
    assert_eq!((requests.start(), requests.start()), (Some((100, 2)), None));
    requests.settle(100);
    assert_eq!((requests.start(), requests.start()), (Some((100, 3)), None), "the last barrier was never tried");
    requests.settle(100);
    assert_eq!(requests.start(), Some((1, 4)));
}

#[test]
fn with_one_place_what_fails_and_what_is_new_take_turns() {
    let mut requests = Requests::singly(1);
    for key in 0..4 {
        requests.push(key, event(0));
        requests.depart(FRESH);
        if key < 2 {
            requests.divert(key)
        } else {
            requests.retry(key, Duration::ZERO, false)
        };
    }
    for key in 10..13 {
        requests.push(key, event(0));
    }
    let mut classes = Vec::new();
    for _ in 0..12 {
        let (departure, _) = requests.depart(Classes::ALL).expect("somebody waits");
        classes.push(departure.class);
        if departure.class == Class::Fresh {
            requests.settle(departure.first.lane);
        } else {
            requests.retry(departure.first.lane, Duration::ZERO, false);
        }
    }
    let turns = |class| classes.iter().filter(|turn| **turn == class).count();
    assert_eq!(classes.iter().rposition(|class| *class == Class::Fresh), Some(5), "what fails keeps the rest waiting");
    assert!(turns(Class::Letter) >= 4 && turns(Class::Repeat) >= 4, "{classes:?}");
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
        requests.lanes.end_all_pauses();
        while let Some((key, _)) = requests.start() {
            requests.retry(key, 1000 * SECOND, false);
        }
        assert_eq!(requests.lanes.pausing.len(), 3, "it grows with every outage");
    }
    assert_eq!(requests.lanes.next_change(requests.now), Some(requests.now + 500 * SECOND));
}

#[test]
fn whoever_was_in_a_request_that_failed_never_travels_with_others_again() {
    let mut requests = Requests::new(batches());
    for number in 0..4 {
        requests.push(7, event(number));
    }
    assert_eq!(requests.numbers(), [0, 1, 2, 3]);
    requests.retry(7, Duration::ZERO, false);
    requests.push(7, event(4));
    requests.push(7, event(5));
    for number in 0..4 {
        requests.push(8, event(80 + number));
        let (departure, numbers) = requests.depart(Classes { fresh: false, ..Classes::ALL }).expect("due");
        assert_eq!((departure.class, numbers), (Class::Repeat, vec![number]));
        assert_eq!(departure.first.failures, 1, "it was in one request that failed");
        requests.settle(7);
    }
    requests.now += SECOND;
    assert_eq!(requests.numbers(), [80, 81, 82, 83]);
    assert_eq!(requests.numbers(), [4, 5], "these were in none");
}

#[test]
fn what_was_behind_a_dropped_event_in_its_request_goes_alone_and_at_once() {
    let mut requests = Requests::new(batches());
    for number in 0..4 {
        requests.push(7, event(number));
    }
    assert_eq!(requests.numbers(), [0, 1, 2, 3]);
    requests.settle(7);
    requests.lanes.put_back(7);
    for number in 1..4 {
        assert_eq!((requests.numbers(), requests.start()), (vec![number], None));
        requests.settle(7);
    }
    assert!(requests.lanes.is_empty());
}

#[test]
fn a_barrier_that_becomes_a_dead_letter_holds_nobody() {
    let mut requests = Requests::singly(8);
    requests.push(100, barrier(1, 5));
    requests.push(1, behind(2, 5));
    requests.start();
    requests.divert(100);
    assert_eq!(requests.depart(FRESH).map(|(_, numbers)| numbers), Some(vec![2]), "it waits for the dead-letter sink");
}

#[test]
fn who_did_not_fit_into_a_request_goes_first_into_the_next() {
    let mut requests = Requests::new(Limits { events: 3, ..batches() });
    for key in 0..6 {
        requests.push(key, event(key as u32));
    }
    let mut room = 1;
    let small = requests.lanes.start(Classes::ALL, requests.now, |_| std::mem::take(&mut room) > 0);
    assert_eq!(small.map(|departure| departure.first.lane), Some(0));
    assert_eq!(requests.numbers(), [1, 2, 3], "it lost its turn");
}

#[test]
fn an_events_age_counts_from_its_own_first_attempt() {
    let mut requests = Requests::new(batches());
    let begun = requests.now;
    let first_try = |requests: &mut Requests| {
        requests.now += SECOND;
        let (departure, _) = requests.depart(Classes::ALL).expect("it has waited long enough");
        departure.first.first_try - begun
    };
    requests.push(7, event(0));
    requests.push(7, event(1));
    assert_eq!(first_try(&mut requests), SECOND);
    requests.push(7, event(2));
    requests.retry(7, Duration::ZERO, false);
    assert_eq!(first_try(&mut requests), SECOND, "another attempt makes it no younger");
    requests.settle(7);
    assert_eq!(first_try(&mut requests), SECOND, "it was on board of the first request too");
    requests.settle(7);
    assert_eq!(first_try(&mut requests), 4 * SECOND, "it was never tried before");
}

#[derive(Debug, Clone)]
enum Step {
    Push(LaneKey),
    Start(Classes),
    Answer(prop::sample::Index, Vec<Fate>),
    Wait(u64),
    EndPauses,
}

/// What becomes of one lane's events in an answer.
#[derive(Debug, Clone)]
struct Fate {
    settled: prop::sample::Index,
    pause: u64,
    park: bool,
    divert: bool,
    put_back: bool,
}

fn fate() -> impl Strategy<Value = Fate> {
    (any::<prop::sample::Index>(), 0u64..50, any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.2))
        .prop_map(|(settled, pause, park, divert, put_back)| Fate { settled, pause, park, divert, put_back })
}

fn step() -> impl Strategy<Value = Step> {
    let classes = any::<(bool, bool, bool)>().prop_map(|(fresh, repeats, letters)| Classes { fresh, repeats, letters });
    prop_oneof![
        6 => (0u64..6).prop_map(Step::Push),
        6 => classes.prop_map(Step::Start),
        3 => Just(Step::Start(Classes::ALL)),
        6 => (any::<prop::sample::Index>(), prop::collection::vec(fate(), 6)).prop_map(|(i, fates)| Step::Answer(i, fates)),
        2 => (0u64..60).prop_map(Step::Wait),
        1 => Just(Step::EndPauses),
    ]
}

/// The reference: a plain list of events for each item, with what the first ones of each are doing.
#[derive(Default)]
struct Reference {
    items: BTreeMap<LaneKey, Item>,
    requests: Vec<Departure>,
}

#[derive(Default)]
struct Item {
    events: Vec<u32>,
    /// Since when its first event waits, if it was never tried.
    since: Option<Instant>,
    under_way: usize,
    pausing: Option<Instant>,
    failures: u32,
    parked: bool,
    diverted: bool,
    /// How many behind the first one were in a request that failed.
    loners: usize,
}

impl Item {
    fn class(&self) -> Class {
        match (self.diverted, self.failures) {
            (true, _) => Class::Letter,
            (false, 0) => Class::Fresh,
            (false, _) => Class::Repeat,
        }
    }

    fn waits(&self, now: Instant) -> bool {
        self.under_way == 0 && self.pausing.is_none_or(|end| end <= now)
    }

    fn is_new_head(&mut self, now: Instant) {
        (self.failures, self.parked, self.diverted, self.pausing) = (0, false, false, None);
        if self.under_way == 0 && self.loners > 0 {
            (self.loners, self.failures) = (self.loners - 1, 1);
        }
        self.since = (self.under_way == 0 && self.failures == 0).then_some(now);
    }
}

impl Reference {
    /// The items whose first event may leave now.
    fn candidates(&self, allowed: Classes, limits: Limits, now: Instant) -> Vec<LaneKey> {
        let under_way = |class: Class| self.requests.iter().filter(|request| request.class == class).count();
        let failed = under_way(Class::Repeat) + under_way(Class::Letter);
        let half = failed < (limits.concurrency / 2).max(1);
        let quarter = under_way(Class::Letter) < (limits.concurrency / 4).max(1);
        let fresh = || self.items.values().filter(|item| item.class() == Class::Fresh && item.waits(now));
        let full = fresh().map(|item| item.events.len()).sum::<usize>() >= limits.events;
        let waited = fresh().filter_map(|item| item.since).min().is_some_and(|since| since + limits.wait <= now);
        let may = |item: &Item| {
            item.waits(now)
                && match item.class() {
                    Class::Fresh => allowed.fresh && (full || waited),
                    Class::Repeat => allowed.repeats && half,
                    Class::Letter => allowed.letters && half && quarter,
                }
        };
        if self.requests.len() >= limits.concurrency {
            return Vec::new();
        }
        self.items.iter().filter(|(_, item)| may(item)).map(|(key, _)| *key).collect()
    }

    fn answer(&mut self, lanes: &mut Lanes<Event>, index: usize, fates: &[Fate], now: Instant) {
        let request = self.requests.swap_remove(index);
        lanes.arrived(request.class);
        for (passengers, fate) in request.passengers().zip(fates) {
            let key = passengers.lane;
            let settled = fate.settled.index(passengers.events + 1);
            for _ in 0..settled {
                let item = self.items.get_mut(&key).unwrap();
                let (number, parked) = (item.events.remove(0), item.parked);
                item.under_way -= 1;
                item.is_new_head(now);
                if item.events.is_empty() {
                    self.items.remove(&key);
                }
                let settled = lanes.settle(key, now).map(|(event, parked)| (event.number, parked));
                assert_eq!(settled, Some((number, parked)), "another event was settled");
            }
            if settled == passengers.events {
                continue;
            }
            let item = self.items.get_mut(&key).unwrap();
            item.loners = item.loners.max(item.under_way - 1);
            item.under_way = 0;
            item.since = None;
            if fate.put_back && settled > 0 {
                lanes.put_back(key);
                (item.failures, item.pausing) = (1, None);
                continue;
            }
            if fate.divert && request.class != Class::Letter {
                assert_eq!(lanes.divert(key, now), item.parked);
                (item.failures, item.parked, item.diverted, item.pausing) = (0, false, true, None);
            } else {
                let end = now + Duration::from_millis(fate.pause);
                assert_eq!(lanes.retry(key, end, fate.park, now), fate.park && !item.parked);
                (item.failures, item.parked, item.pausing) = (item.failures + 1, item.parked || fate.park, Some(end));
            }
        }
    }
}

proptest! {
    #[test]
    fn lanes_agree_with_a_model_of_plain_lists(
        concurrency in 1usize..9,
        events in 1usize..5,
        wait in 0u64..30,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let limits = Limits { concurrency, events, bytes: usize::MAX, wait: Duration::from_millis(wait) };
        let mut lanes = Lanes::new(limits);
        let mut model = Reference::default();
        let mut now = Instant::now();
        let mut number = 0;
        for step in steps {
            match step {
                Step::Push(key) => {
                    number += 1;
                    lanes.push(key, event(number), now);
                    let item = model.items.entry(key).or_insert_with(|| Item { since: Some(now), ..Item::default() });
                    item.events.push(number);
                }
                Step::Start(allowed) => {
                    let candidates = model.candidates(allowed, limits, now);
                    let mut shown = Vec::new();
                    let departure = lanes.start(allowed, now, |event| { shown.push(event.number); true });
                    let Some(departure) = departure else {
                        prop_assert!(candidates.is_empty(), "{:?} could have started", candidates);
                        continue;
                    };
                    prop_assert!(departure.class == Class::Fresh || departure.events() == 1, "company for a failed event");
                    prop_assert!(departure.events() <= events, "more than a request takes");
                    let mut expected = Vec::new();
                    for passengers in departure.passengers() {
                        prop_assert!(candidates.contains(&passengers.lane), "{} should not have started", passengers.lane);
                        let item = model.items.get_mut(&passengers.lane).unwrap();
                        prop_assert_eq!(item.class(), departure.class);
                        prop_assert_eq!(passengers.failures, item.failures);
                        expected.extend_from_slice(&item.events[..passengers.events]);
                        (item.under_way, item.pausing, item.since) = (passengers.events, None, None);
                    }
                    prop_assert_eq!(shown, expected, "not the first events of the lanes, in their order");
                    let others = model.candidates(FRESH, Limits { wait: Duration::ZERO, concurrency: usize::MAX, ..limits }, now);
                    let left_room = departure.class == Class::Fresh && departure.events() < events;
                    prop_assert!(!left_room || others.is_empty(), "room was left for {:?}", others);
                    model.requests.push(departure);
                }
                Step::Answer(index, fates) if !model.requests.is_empty() => {
                    model.answer(&mut lanes, index.index(model.requests.len()), &fates, now);
                }
                Step::Wait(pause) => now += Duration::from_millis(pause),
                Step::EndPauses => {
                    model.items.values_mut().filter(|item| !item.diverted).for_each(|item| item.pausing = None);
                    lanes.end_all_pauses();
                }
                Step::Answer(..) => {}
            }
            prop_assert_eq!(lanes.under_way(), model.requests.len());
            prop_assert_eq!(lanes.len(), model.items.len());
            prop_assert_eq!(lanes.parked(), model.items.values().filter(|item| item.parked).count());
        }
    }
}
