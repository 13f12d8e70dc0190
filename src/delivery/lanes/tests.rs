//! What lanes promise, rule by rule; `model` holds them against plain lists.

mod barriers;
mod batches;
mod model;

use std::collections::BTreeMap;
use std::time::Duration;

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
