//! Lanes beside a model of plain lists.

use proptest::prelude::*;

use super::*;

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
