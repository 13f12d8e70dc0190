//! Lanes beside a model of plain lists.

use proptest::prelude::*;

use super::*;

/// Items by table: an item's table is its key modulo this.
const TABLES: u64 = 3;

#[derive(Debug, Clone)]
enum Step {
    Push(LaneKey),
    Start(Kinds, Option<f64>),
    Answer(prop::sample::Index, Vec<Fate>),
    Wait(u64),
    EndBackoffs,
    Places(usize),
    /// All that waits of a table, so many events a step from now on; what is under way is cut off.
    Withdraw(u64, usize),
}

/// What becomes of one lane's events in an answer.
#[derive(Debug, Clone)]
struct Fate {
    settled: prop::sample::Index,
    pause: u64,
    kind: FateKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FateKind {
    Backoff,
    Asked,
    Park,
    Divert,
    PutBack,
    LeaveOut,
}

fn fate() -> impl Strategy<Value = Fate> {
    let kind = prop_oneof![
        4 => Just(FateKind::Backoff),
        1 => Just(FateKind::Asked),
        2 => Just(FateKind::Park),
        1 => Just(FateKind::Divert),
        1 => Just(FateKind::PutBack),
        1 => Just(FateKind::LeaveOut),
    ];
    (any::<prop::sample::Index>(), 0u64..50, kind).prop_map(|(settled, pause, kind)| Fate { settled, pause, kind })
}

fn step() -> impl Strategy<Value = Step> {
    let kinds = any::<(bool, bool, bool)>().prop_map(|(first_attempts, retries, dead_letters)| Kinds {
        first_attempts,
        retries,
        dead_letters,
    });
    prop_oneof![
        6 => (0u64..9).prop_map(Step::Push),
        6 => (kinds, prop::option::weighted(0.2, 0.0..1.0)).prop_map(|(kinds, probe)| Step::Start(kinds, probe)),
        3 => Just(Step::Start(Kinds::ALL, None)),
        6 => (any::<prop::sample::Index>(), prop::collection::vec(fate(), 9)).prop_map(|(i, fates)| Step::Answer(i, fates)),
        2 => (0u64..60).prop_map(Step::Wait),
        1 => Just(Step::EndBackoffs),
        1 => (1usize..9).prop_map(Step::Places),
        1 => (0..TABLES, 1usize..9).prop_map(|(table, most)| Step::Withdraw(table, most)),
    ]
}

/// The reference: a plain list of events for each item, with what the first ones of each are doing.
#[derive(Default)]
struct Reference {
    items: BTreeMap<LaneKey, Item>,
    requests: Vec<Request<Event>>,
    places: usize,
    withdrawing: Option<Withdrawing>,
}

/// A table that is being withdrawn, and what of it is still to come.
struct Withdrawing {
    withdrawal: Withdrawal,
    most: usize,
    owed: Vec<u32>,
}

impl Withdrawing {
    fn is_of(&self, key: LaneKey) -> bool {
        (key % TABLES) as usize == self.withdrawal.table()
    }

    /// These came out.
    fn came(&mut self, events: &[Event]) {
        for event in events {
            let place = self.owed.iter().position(|number| *number == event.number);
            self.owed
                .remove(place.unwrap_or_else(|| panic!("{} came out twice, or is of another table", event.number)));
        }
    }
}

#[derive(Default)]
struct Item {
    /// Its events, with the moments at which they came.
    events: Vec<(u32, Option<Instant>)>,
    under_way: usize,
    pausing: Option<Instant>,
    /// The pause ends when the sink works again.
    is_backoff: bool,
    failures: u32,
    is_parked: bool,
    is_dead_letter: bool,
    /// How many behind the first one were in a request that failed.
    isolated: usize,
}

impl Item {
    fn kind(&self) -> AttemptKind {
        match (self.is_dead_letter, self.failures) {
            (true, _) => AttemptKind::DeadLetter,
            (false, 0) => AttemptKind::FirstAttempt,
            (false, _) => AttemptKind::Retry,
        }
    }

    fn waits(&self, now: Instant) -> bool {
        self.under_way == 0 && self.pausing.is_none_or(|end| end <= now)
    }

    fn begin_next_head(&mut self) {
        (self.failures, self.is_parked, self.is_dead_letter, self.pausing) = (0, false, false, None);
        if self.under_way == 0 && self.isolated > 0 {
            (self.isolated, self.failures) = (self.isolated - 1, 1);
        }
    }
}

impl Reference {
    /// The items whose first event may leave now.
    fn candidates(&self, permitted: Kinds, is_probe: bool, limits: RequestLimits, now: Instant) -> Vec<LaneKey> {
        let under_way = |kind: AttemptKind| self.requests.iter().filter(|request| request.kind == kind).count();
        let retries = under_way(AttemptKind::Retry);
        let half = retries + under_way(AttemptKind::DeadLetter) < (limits.concurrency / 2).max(1);
        let half_of_places = retries < (self.places.min(limits.concurrency) / 2).max(1);
        let quarter = under_way(AttemptKind::DeadLetter) < (limits.concurrency / 4).max(1);
        let new = || self.items.values().filter(|item| item.kind() == AttemptKind::FirstAttempt && item.waits(now));
        let is_full = new().map(|item| item.events.len()).sum::<usize>() >= limits.events;
        let oldest = new().filter_map(|item| item.events[0].1).min();
        let leaves = is_probe || is_full || oldest.is_some_and(|since| since + limits.wait <= now);
        let may = |item: &Item| {
            item.waits(now)
                && match item.kind() {
                    AttemptKind::FirstAttempt => permitted.first_attempts && leaves,
                    AttemptKind::Retry => permitted.retries && half && half_of_places,
                    AttemptKind::DeadLetter => permitted.dead_letters && half && quarter,
                }
        };
        if self.requests.len() >= limits.concurrency {
            return Vec::new();
        }
        self.items.iter().filter(|(_, item)| may(item)).map(|(key, _)| *key).collect()
    }

    /// What the items that were never tried of one table have read first.
    fn first_of_table(&self, table: u64, now: Instant) -> Option<u32> {
        let items = self.items.iter().filter(|(key, item)| {
            **key % TABLES == table && item.kind() == AttemptKind::FirstAttempt && item.waits(now)
        });
        items.map(|(_, item)| item.events[0].0).min()
    }

    /// A table's lanes are withdrawn from now on.
    fn withdraw(&mut self, table: u64, most: usize, lanes: &mut Lanes<Event>, now: Instant) {
        let mut withdrawing = Withdrawing { withdrawal: Withdrawal::of(table as usize), most, owed: Vec::new() };
        for (_, item) in self.items.extract_if(.., |key, _| key % TABLES == table) {
            withdrawing.owed.extend(item.events.iter().map(|event| event.0));
        }
        let is_cut_off = |request: &mut Request<Event>| request.slices().any(|slice| withdrawing.is_of(slice.lane));
        let cut_off: Vec<_> = self.requests.extract_if(.., is_cut_off).collect();
        for request in cut_off {
            lanes.ended(request.kind);
            for slice in request.into_slices() {
                if withdrawing.is_of(slice.lane) {
                    withdrawing.came(&lanes.give_up(slice));
                    continue;
                }
                let item = self.items.get_mut(&slice.lane).unwrap();
                (item.isolated, item.under_way) = (item.isolated.max(item.under_way - 1), 0);
                (item.failures, item.pausing) = (1, None);
                lanes.put_back(slice, now);
            }
        }
        self.withdrawing = Some(withdrawing);
    }

    /// The next step of a withdrawal, if there is one.
    fn go_on_withdrawing(&mut self, lanes: &mut Lanes<Event>) {
        let Some(withdrawing) = &mut self.withdrawing else { return };
        match lanes.withdraw(&mut withdrawing.withdrawal, withdrawing.most) {
            Some(events) => withdrawing.came(&events),
            None => {
                assert_eq!(withdrawing.owed, Vec::<u32>::new(), "left behind");
                self.withdrawing = None;
            }
        }
    }

    /// While a table is withdrawn: what is left of a request, to which only the order of lanes is asked.
    fn keep_lasting(&mut self, lanes: &mut Lanes<Event>, request: Request<Event>) {
        let Some(withdrawing) = &mut self.withdrawing else { return };
        let kind = request.kind;
        let (gone, kept): (Vec<_>, Vec<_>) = request.into_slices().partition(|slice| withdrawing.is_of(slice.lane));
        gone.into_iter().for_each(|slice| withdrawing.came(&lanes.give_up(slice)));
        for slice in &kept {
            let item = self.items.get_mut(&slice.lane).unwrap();
            assert!(
                slice.events().map(|event| event.number).eq(item.events[..slice.len()].iter().map(|event| event.0))
            );
            (item.under_way, item.pausing) = (slice.len(), None);
        }
        let mut kept = kept.into_iter();
        match kept.next() {
            Some(first) => self.requests.push(Request { kind, first, more: kept.collect() }),
            None => lanes.ended(kind),
        }
    }

    fn answer(&mut self, share: usize, lanes: &mut Lanes<Event>, index: usize, fates: &[Fate], now: Instant) {
        let request = self.requests.swap_remove(index);
        let kind = request.kind;
        lanes.ended(kind);
        for (slice, fate) in request.into_slices().zip(fates) {
            let (key, count) = (slice.lane, fate.settled.index(slice.len() + 1));
            let mut expected = Vec::new();
            for _ in 0..count {
                let item = self.items.get_mut(&key).unwrap();
                expected.push((item.events.remove(0).0, item.is_parked));
                item.under_way -= 1;
                item.begin_next_head();
                if item.events.is_empty() {
                    self.items.remove(&key);
                }
            }
            let mut settled = Vec::new();
            let rest = lanes.settle(slice, count, now, |event, was_parked| settled.push((event.number, was_parked)));
            assert_eq!(settled, expected, "other events were settled");
            if let Some(rest) = rest.unwrap() {
                self.fail(share, lanes, kind, rest, fate, count > 0, now);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a step of the model")]
    fn fail(
        &mut self,
        share: usize,
        lanes: &mut Lanes<Event>,
        kind: AttemptKind,
        slice: LaneSlice<Event>,
        fate: &Fate,
        follows: bool,
        now: Instant,
    ) {
        let key = slice.lane;
        let item = self.items.get_mut(&key).unwrap();
        item.isolated = item.isolated.max(item.under_way - 1);
        item.under_way = 0;
        let end = now + Duration::from_millis(fate.pause);
        match fate.kind {
            FateKind::PutBack if follows => {
                lanes.put_back(slice, now);
                (item.failures, item.pausing) = (1, None);
            }
            FateKind::Divert if kind != AttemptKind::DeadLetter => {
                assert_eq!(lanes.divert(slice, now), item.is_parked);
                (item.failures, item.is_parked, item.is_dead_letter, item.pausing) = (0, false, true, None);
            }
            FateKind::LeaveOut if !item.is_parked => {
                let left_out: Vec<u32> = lanes.leave_out(slice, now).iter().map(|event| event.number).collect();
                let expected: Vec<u32> = self.items.remove(&key).unwrap().events.iter().map(|event| event.0).collect();
                assert_eq!(left_out, expected, "left out, but not in their order");
            }
            kind => {
                let pause = match kind {
                    FateKind::Park => RetryPause::parked(end),
                    FateKind::Asked => RetryPause::asked(end),
                    _ => RetryPause::backoff(end),
                };
                let is_parked = kind == FateKind::Park;
                let is_news = is_parked && !item.is_parked;
                assert_eq!(lanes.retry(slice, pause, now), is_news);
                let left_out: Vec<u32> = lanes.take_left_out().iter().map(|event| event.number).collect();
                let is_too_much = is_news && (item.events.len() - 1) * SIZE > share / PARKED_PART;
                let expected = if is_too_much { item.events.split_off(1) } else { Vec::new() };
                assert_eq!(left_out, expected.iter().map(|event| event.0).collect::<Vec<_>>(), "behind a parked event");
                item.isolated = item.isolated.min(item.events.len() - 1);
                item.is_parked |= is_parked;
                item.is_backoff = kind != FateKind::Asked && !item.is_parked && !item.is_dead_letter;
                (item.failures, item.pausing) = (item.failures + 1, Some(end));
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
        share in prop_oneof![Just(usize::MAX), 5usize..60],
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let limits = RequestLimits { concurrency, events, bytes: usize::MAX, wait: Duration::from_millis(wait) };
        let mut lanes = Lanes::new(limits, share);
        let mut model = Reference { places: concurrency, ..Reference::default() };
        let mut now = Instant::now();
        let mut number = 0;
        for step in steps {
            model.go_on_withdrawing(&mut lanes);
            match step {
                // What is withdrawn comes no more.
                Step::Push(key) if model.withdrawing.as_ref().is_some_and(|it| it.is_of(key)) => {}
                Step::Withdraw(table, most) if model.withdrawing.is_none() => model.withdraw(table, most, &mut lanes, now),
                Step::Withdraw(..) => {}
                Step::Start(permitted, probe) if model.withdrawing.is_some() => {
                    if let Some(request) = lanes.begin(permitted, probe, now, |_| true) {
                        model.keep_lasting(&mut lanes, request);
                    }
                }
                Step::Push(key) => {
                    number += 1;
                    let pushed = Event { table: (key % TABLES) as usize, ..event(number) };
                    let left_out: Vec<u32> = lanes.push(key, pushed, now).iter().map(|event| event.number).collect();
                    let item = model.items.entry(key).or_default();
                    item.events.push((number, Some(now)));
                    let waiting = item.events.len() - item.under_way;
                    let has_failed = item.failures > 0 || item.is_dead_letter;
                    let share = if item.is_parked { share / PARKED_PART } else { share };
                    let kept = match (has_failed, item.under_way) {
                        (true, 0) => 1,
                        (true, under_way) => under_way,
                        // Only the last one goes, and not if it is the only one that waits.
                        (false, under_way) => (item.events.len() - 1).max(under_way + 1),
                    };
                    if waiting * SIZE > share && item.events.len() > kept {
                        let expected: Vec<u32> = item.events.split_off(kept).iter().map(|event| event.0).collect();
                        prop_assert_eq!(left_out, expected, "beyond the share other events were left out");
                        item.isolated = item.isolated.min(kept.saturating_sub(item.under_way.max(1)));
                    } else {
                        prop_assert_eq!(left_out, Vec::<u32>::new());
                    }
                }
                Step::Start(permitted, probe) => {
                    let is_probe = probe.is_some();
                    let candidates = model.candidates(permitted, is_probe, limits, now);
                    let mut shown = Vec::new();
                    let request = lanes.begin(permitted, probe, now, |event| { shown.push(event.number); true });
                    let Some(request) = request else {
                        prop_assert!(candidates.is_empty(), "{:?} could have started", candidates);
                        continue;
                    };
                    let is_new = request.kind == AttemptKind::FirstAttempt;
                    let most = if is_new && !is_probe { events } else { 1 };
                    prop_assert!(request.events() <= most, "more than may leave together");
                    if is_new && !is_probe {
                        let first = model.first_of_table(request.first.lane % TABLES, now);
                        prop_assert_eq!(first, Some(request.first.head.number), "what was read first does not go first");
                    }
                    let mut expected = Vec::new();
                    for slice in request.slices() {
                        prop_assert!(candidates.contains(&slice.lane), "{} should not have started", slice.lane);
                        let item = model.items.get_mut(&slice.lane).unwrap();
                        prop_assert_eq!(item.kind(), request.kind);
                        prop_assert_eq!(slice.failures, item.failures);
                        expected.extend(item.events[..slice.len()].iter().map(|event| event.0));
                        (item.under_way, item.pausing) = (slice.len(), None);
                    }
                    prop_assert_eq!(shown, expected, "not the first events of the lanes, in their order");
                    let patient = RequestLimits { wait: Duration::ZERO, concurrency: usize::MAX, ..limits };
                    let others = model.candidates(FIRST, false, patient, now);
                    prop_assert!(request.events() == most || others.is_empty() || !is_new, "room was left for {:?}", others);
                    model.requests.push(request);
                }
                Step::Answer(index, fates) if !model.requests.is_empty() => {
                    model.answer(share, &mut lanes, index.index(model.requests.len()), &fates, now);
                }
                Step::Wait(pause) => now += Duration::from_millis(pause),
                Step::EndBackoffs => {
                    model.items.values_mut().filter(|item| item.is_backoff).for_each(|item| item.pausing = None);
                    lanes.end_backoffs();
                }
                Step::Places(places) => {
                    model.places = places;
                    lanes.set_places(places);
                }
                Step::Answer(..) => {}
            }
            prop_assert_eq!(lanes.under_way(), model.requests.len());
            if model.withdrawing.is_some() {
                continue;
            }
            prop_assert_eq!(lanes.len(), model.items.len());
            let parked = model.items.values().filter(|item| item.is_parked).count();
            prop_assert_eq!((lanes.parked(), lanes.parked_bytes()), (parked, parked * SIZE));
        }
    }
}
