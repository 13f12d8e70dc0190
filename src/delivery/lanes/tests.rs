use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    number: u32,
    detached: bool,
}

impl Cargo for Event {
    fn settle_in(&mut self) {
        self.detached = true;
    }
}

fn event(number: u32) -> Event {
    Event {
        number,
        detached: false,
    }
}

fn start(lanes: &mut Lanes<Event>, now: Instant) -> Option<(LaneKey, u32)> {
    lanes
        .start(Allowed::All, now)
        .map(|departure| (departure.lane, departure.event.number))
}

#[test]
fn the_next_event_of_an_item_waits_until_the_previous_one_is_settled() {
    let (mut lanes, now) = (Lanes::new(8), Instant::now());
    lanes.push(1, event(10));
    lanes.push(1, event(11));
    assert_eq!(start(&mut lanes, now), Some((1, 10)));
    assert_eq!(start(&mut lanes, now), None, "the item's next event left early");
    assert_eq!(lanes.settle(1), Some(event(10)));
    assert_eq!(start(&mut lanes, now), Some((1, 11)));
}

#[test]
fn a_failing_item_delays_itself_alone() {
    let (mut lanes, now) = (Lanes::new(8), Instant::now());
    lanes.push(1, event(10));
    lanes.push(1, event(11));
    lanes.push(2, event(20));
    start(&mut lanes, now);
    lanes.retry(1, now + Duration::from_secs(30), false);
    assert_eq!(start(&mut lanes, now), Some((2, 20)));
    lanes.settle(2);
    lanes.push(2, event(21));
    assert_eq!(start(&mut lanes, now), Some((2, 21)));
    assert_eq!(start(&mut lanes, now), None);
    assert_eq!(
        start(&mut lanes, now + Duration::from_secs(30)),
        Some((1, 10)),
        "the same event again"
    );
}

#[test]
fn events_that_fail_take_at_most_half_of_the_places() {
    let (mut lanes, now) = (Lanes::new(4), Instant::now());
    for key in 0..4 {
        lanes.push(key, event(0));
        start(&mut lanes, now);
        lanes.retry(key, now + Duration::from_secs(1), false);
    }
    let later = now + Duration::from_secs(1);
    let repeats = std::iter::from_fn(|| start(&mut lanes, later)).count();
    assert_eq!(repeats, 2, "retries took the places of events that were never tried");
    lanes.push(100, event(1));
    assert_eq!(start(&mut lanes, later), Some((100, 1)));
}

#[test]
fn a_parked_item_is_counted_until_it_is_settled() {
    let (mut lanes, now) = (Lanes::new(4), Instant::now());
    lanes.push(1, event(10));
    start(&mut lanes, now);
    assert!(lanes.retry(1, now, true), "parking is news");
    assert_eq!(lanes.parked(), 1);
    start(&mut lanes, now);
    assert!(!lanes.retry(1, now, true), "it was parked before");
    start(&mut lanes, now);
    lanes.settle(1);
    assert_eq!(lanes.parked(), 0);
}

#[test]
fn what_waits_behind_a_failure_lets_go_of_its_page() {
    let (mut lanes, now) = (Lanes::new(4), Instant::now());
    lanes.push(1, event(10));
    lanes.push(1, event(11));
    start(&mut lanes, now);
    lanes.retry(1, now, false);
    lanes.push(1, event(12));
    start(&mut lanes, now);
    for number in 10..=12 {
        assert_eq!(lanes.settle(1), Some(Event { number, detached: true }));
        start(&mut lanes, now);
    }
}

#[test]
fn when_the_sink_works_again_nobody_waits_for_the_end_of_its_pause() {
    let (mut lanes, now) = (Lanes::new(4), Instant::now());
    for key in 0..3 {
        lanes.push(key, event(0));
        start(&mut lanes, now);
    }
    for key in 0..3 {
        lanes.retry(key, now + Duration::from_secs(30), false);
    }
    assert_eq!(lanes.waiting(now), (false, false));
    lanes.end_all_pauses(now);
    assert_eq!(lanes.waiting(now), (false, true));
    assert!(start(&mut lanes, now).is_some());
    assert_eq!(lanes.next_pause_end(), None);
}

#[derive(Debug, Clone)]
enum Step {
    Push(LaneKey),
    Start(bool, bool),
    Settle(prop::sample::Index),
    Retry(prop::sample::Index, u64, bool),
    Wait(u64),
    EndPauses,
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>();
    prop_oneof![
        6 => (0u64..6).prop_map(Step::Push),
        8 => any::<(bool, bool)>().prop_map(|(fresh, repeats)| Step::Start(fresh, repeats)),
        4 => index.clone().prop_map(Step::Settle),
        4 => (index, 0u64..50, any::<bool>()).prop_map(|(i, pause, park)| Step::Retry(i, pause, park)),
        2 => (0u64..60).prop_map(Step::Wait),
        1 => Just(Step::EndPauses),
    ]
}

/// The reference: a plain list of events for each item, with what the first one of each is doing.
#[derive(Default)]
struct Reference {
    items: BTreeMap<LaneKey, Vec<u32>>,
    under_way: Vec<LaneKey>,
    pausing: BTreeMap<LaneKey, Instant>,
    failed: BTreeMap<LaneKey, u32>,
    parked: BTreeMap<LaneKey, ()>,
}

impl Reference {
    fn may_start(&self, key: LaneKey, now: Instant) -> bool {
        !self.under_way.contains(&key) && self.pausing.get(&key).is_none_or(|end| *end <= now)
    }
}

proptest! {
    #[test]
    fn lanes_agree_with_a_model_of_plain_lists(
        concurrency in 1usize..5,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut lanes = Lanes::new(concurrency);
        let mut model = Reference::default();
        let mut now = Instant::now();
        let mut number = 0;
        for step in steps {
            match step {
                Step::Push(key) => {
                    number += 1;
                    lanes.push(key, event(number));
                    model.items.entry(key).or_default().push(number);
                }
                Step::Start(fresh, repeats) => {
                    let allowed = match (fresh, repeats) {
                        (true, false) => Allowed::Fresh,
                        (false, true) => Allowed::Repeats,
                        _ => Allowed::All,
                    };
                    let repeats_under_way = model.under_way.iter().filter(|key| model.failed.contains_key(key)).count();
                    let place = model.under_way.len() < concurrency;
                    let repeat_place = repeats_under_way < (concurrency / 2).max(1);
                    let may = |key: &LaneKey| {
                        let repeat = model.failed.contains_key(key);
                        let wanted = match allowed {
                            Allowed::All => true,
                            Allowed::Fresh => !repeat,
                            Allowed::Repeats => repeat,
                        };
                        place && wanted && model.may_start(*key, now) && (!repeat || repeat_place)
                    };
                    let candidates: Vec<LaneKey> = model.items.keys().copied().filter(may).collect();
                    match lanes.start(allowed, now) {
                        None => prop_assert!(candidates.is_empty(), "{:?} could have started", candidates),
                        Some(departure) => {
                            let key = departure.lane;
                            prop_assert!(candidates.contains(&key), "{} should not have started", key);
                            prop_assert_eq!(departure.event.number, model.items[&key][0], "out of order");
                            prop_assert_eq!(departure.failures, model.failed.get(&key).copied().unwrap_or(0));
                            model.under_way.push(key);
                            model.pausing.remove(&key);
                        }
                    }
                }
                Step::Settle(index) if !model.under_way.is_empty() => {
                    let key = model.under_way.swap_remove(index.index(model.under_way.len()));
                    let list = model.items.get_mut(&key).unwrap();
                    let oldest = list.remove(0);
                    if list.is_empty() {
                        model.items.remove(&key);
                    }
                    model.failed.remove(&key);
                    model.parked.remove(&key);
                    prop_assert_eq!(lanes.settle(key).map(|event| event.number), Some(oldest));
                }
                Step::Retry(index, pause, park) if !model.under_way.is_empty() => {
                    let key = model.under_way.swap_remove(index.index(model.under_way.len()));
                    let end = now + Duration::from_millis(pause);
                    model.pausing.insert(key, end);
                    *model.failed.entry(key).or_default() += 1;
                    let news = park && model.parked.insert(key, ()).is_none();
                    prop_assert_eq!(lanes.retry(key, end, park), news);
                }
                Step::Wait(pause) => now += Duration::from_millis(pause),
                Step::EndPauses => {
                    model.pausing.clear();
                    lanes.end_all_pauses(now);
                }
                _ => {}
            }
            prop_assert_eq!(lanes.under_way(), model.under_way.len());
            prop_assert_eq!(lanes.len(), model.items.len());
            prop_assert_eq!(lanes.parked(), model.parked.len());
        }
    }
}
