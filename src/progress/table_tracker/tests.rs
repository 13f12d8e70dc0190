//! What is stored of a table, against a small model that knows everything: over listings, splits, restarts and saves that fail.

use std::collections::VecDeque;
use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;
use crate::checkpoint::StoredStream;
use crate::progress::catch_up::{CatchUp, PassCause};
use crate::progress::left_out::{Place, Reread};
use crate::progress::page_entry::{Owed, PageEntry};
use crate::records::{Gap, LaneId, LossReason};

const ARN: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-01-01T00:00:00.000";

fn details(arn: &str) -> Arc<StreamDetails> {
    Arc::new(StreamDetails::from_arn(arn))
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_225_600 + seconds)
}

fn sequence(number: u64) -> SequenceNumber {
    number.to_string().parse().unwrap()
}

fn lane(item: u8) -> LaneId {
    LaneId::of_shard(&format!("item {item}"))
}

/// The truth: shards with their records, each of an item. An item's records lie in one path from a root downwards, in order.
#[derive(Debug, Clone)]
struct World {
    shards: Vec<TrueShard>,
    /// Each item's records in order: in which shard, and which of its records.
    items: Vec<Vec<(usize, usize)>>,
}

#[derive(Debug, Clone)]
struct TrueShard {
    parent: Option<usize>,
    records: Vec<u8>,
}

const ITEMS: u8 = 5;

fn world() -> impl Strategy<Value = World> {
    let shard = (prop::option::weighted(0.8, any::<prop::sample::Index>()), prop::collection::vec(0..ITEMS, 0..8));
    prop::collection::vec(shard, 1..9).prop_map(|drawn| {
        let mut shards: Vec<TrueShard> = Vec::new();
        for (number, (parent, records)) in drawn.into_iter().enumerate() {
            let parent = parent.filter(|_| number > 0).map(|parent| parent.index(number));
            shards.push(TrueShard { parent, records });
        }
        // An item goes to one child of each shard, and to one root.
        let siblings = |shards: &[TrueShard], parent| -> Vec<usize> {
            (0..shards.len()).filter(|shard| shards[*shard].parent == parent).collect()
        };
        let mut items = Vec::new();
        let mut owners: Vec<Vec<u8>> = vec![Vec::new(); shards.len()];
        for item in 0..ITEMS {
            let mut parent = None;
            loop {
                let next = siblings(&shards, parent);
                let Some(shard) = (!next.is_empty()).then(|| next[usize::from(item) % next.len()]) else { break };
                owners[shard].push(item);
                parent = Some(shard);
            }
        }
        for (shard, owners) in shards.iter_mut().zip(&owners) {
            shard.records.retain(|item| owners.contains(item));
        }
        for item in 0..ITEMS {
            let of = |shard: usize| shards[shard].records.iter().enumerate().filter(move |(_, it)| **it == item);
            // A shard comes before those that continue it.
            let all = (0..shards.len()).flat_map(|shard| of(shard).map(move |(record, _)| (shard, record)));
            items.push(all.collect());
        }
        World { shards, items }
    })
}

impl World {
    fn number(&self, shard: usize, record: usize) -> SequenceNumber {
        sequence((shard * 100 + record + 1) as u64)
    }

    fn is_stored_as_settled(&self, stored: &StoredTable, shard: usize, record: usize) -> bool {
        let entry = stored.streams.first().and_then(|stream| stream.shards.get(&shard.to_string()));
        let is_done = stored.streams.first().is_some_and(|stream| stream.done);
        let (number, lane) = (self.number(shard, record), lane(self.shards[shard].records[record]));
        is_done || entry.is_some_and(|entry| !entry.owes(lane, number.into()))
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A listing shows a shard and its ancestors.
    Learn(prop::sample::Index),
    /// A listing reaches its end.
    Pass,
    /// A reader gets its next record, or its shard's end.
    Read(prop::sample::Index),
    /// The sink takes an item's next event.
    Settle(u8),
    /// An item's lane is too long: it keeps so many events, so many more are given up, and the others are on their way.
    LeaveOut(u8, usize, usize),
    Readmit,
    /// A reader begins a pass over its shard, goes on with it, or breaks it off.
    BeginPass(prop::sample::Index),
    GoOn(prop::sample::Index),
    EndPass(prop::sample::Index),
    Save(Saved),
    Restart,
}

/// What becomes of a save.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Saved {
    Confirmed,
    NotStored,
    /// It is stored, and nobody knows.
    Unknown,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let saved = prop_oneof![4 => Just(Saved::Confirmed), 1 => Just(Saved::NotStored), 1 => Just(Saved::Unknown)];
    let step = prop_oneof![
        3 => any::<prop::sample::Index>().prop_map(Step::Learn),
        1 => Just(Step::Pass),
        12 => any::<prop::sample::Index>().prop_map(Step::Read),
        8 => (0..ITEMS).prop_map(Step::Settle),
        3 => (0..ITEMS, 0usize..3, 0usize..3).prop_map(|(item, keep, given)| Step::LeaveOut(item, keep, given)),
        1 => Just(Step::Readmit),
        3 => any::<prop::sample::Index>().prop_map(Step::BeginPass),
        8 => any::<prop::sample::Index>().prop_map(Step::GoOn),
        1 => any::<prop::sample::Index>().prop_map(Step::EndPass),
        4 => saved.prop_map(Step::Save),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..250)
}

/// A process that reads the world.
struct Run<'w> {
    world: &'w World,
    tracker: TableTracker,
    stream: StreamHandle,
    /// Shards that are being read: which, by which handle, and their next record.
    reading: Vec<(usize, ShardHandle, usize)>,
    /// Shards that were read to their ends.
    ended: Vec<(usize, ShardHandle)>,
    /// What was read and is not settled, by item.
    owed: BTreeMap<u8, VecDeque<(usize, usize, AckToken)>>,
    /// How many of each item's records this run has entered or need not enter, and how many were handed on or need not be.
    entered: Vec<usize>,
    handed_on: Vec<usize>,
    /// The items that are left out, and what they wait for.
    left_out: BTreeMap<u8, Waits>,
    /// The next record of each pass that is under way.
    passes: BTreeMap<usize, usize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Waits {
    Head,
    Room,
    Nothing,
}

impl<'w> Run<'w> {
    fn begin(world: &'w World, stored: &StoredTable, settled: &[Vec<bool>]) -> Self {
        let mut tracker = TableTracker::restored(stored.clone(), false);
        let stream = tracker.open_stream(details(ARN), Position::Start, true, at(0));
        let entered = settled.iter().map(|item| item.iter().take_while(|settled| **settled).count());
        let entered: Vec<usize> = entered.collect();
        let (handed_on, left_out, passes) = (entered.clone(), BTreeMap::new(), BTreeMap::new());
        let (reading, ended, owed) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut run = Self { world, tracker, stream, reading, ended, owed, entered, handed_on, left_out, passes };
        run.open_ready();
        run
    }

    fn open_ready(&mut self) {
        for opened in self.tracker.open_ready(self.stream) {
            let shard: usize = opened.id.parse().unwrap();
            let records = self.world.shards[shard].records.len();
            let next = (0..records).find(|record| !opened.from.is_behind(self.world.number(shard, *record).into()));
            assert!(self.reading.iter().all(|(other, ..)| *other != shard), "two readers of shard {shard}");
            self.reading.push((shard, opened.handle, next.unwrap_or(records)));
        }
    }

    fn learn(&mut self, shard: usize) {
        let parent = self.world.shards[shard].parent;
        parent.into_iter().for_each(|parent| self.learn(parent));
        let parent = parent.map(|parent| parent.to_string());
        self.tracker.learn(self.stream, &shard.to_string(), parent.as_deref());
    }

    fn read(&mut self, reader: usize) {
        let (shard, handle, next) = self.reading[reader];
        if self.passes.contains_key(&shard) {
            // It has one reader.
            return;
        }
        let page = |is_last| PageRead { asked_at: at(1), is_caught_up: true, is_last };
        let Some(item) = self.world.shards[shard].records.get(next).copied() else {
            PageEntry::of(&mut self.tracker, handle).read(page(true));
            self.reading.remove(reader);
            self.ended.push((shard, handle));
            self.tracker.read_to_end(handle, Instant::now());
            return self.open_ready();
        };
        let mut entry = PageEntry::of(&mut self.tracker, handle);
        let owed = entry.record(self.world.number(shard, next), lane(item), None);
        entry.read(page(false));
        self.reading[reader].2 += 1;
        let (place, entered) = (self.place(item, (shard, next)), self.entered[usize::from(item)]);
        let is_new = place == entered;
        assert!(place <= entered, "item {item}: a change is entered before an older one");
        let is_expected = is_new && !self.left_out.contains_key(&item);
        assert_eq!(owed.is_some(), is_expected, "item {item}: {place} of {entered}");
        self.entered[usize::from(item)] += usize::from(is_new);
        if let Some(owed) = owed {
            self.hand_on(item, (shard, next), owed);
        }
    }

    /// Which of its item's changes it is.
    fn place(&self, item: u8, change: (usize, usize)) -> usize {
        self.world.items[usize::from(item)].iter().position(|at| *at == change).unwrap()
    }

    fn hand_on(&mut self, item: u8, (shard, record): (usize, usize), owed: Owed) {
        let place = self.place(item, (shard, record));
        assert_eq!(place, self.handed_on[usize::from(item)], "item {item}: not the next of its changes");
        self.handed_on[usize::from(item)] += 1;
        self.owed.entry(item).or_default().push_back((shard, record, owed.token.unwrap()));
    }

    /// The sink takes an item's next event; the change that it tells.
    fn settle(&mut self, item: u8) -> Option<(usize, usize)> {
        let owed = self.owed.get_mut(&item)?;
        let (shard, record, token) = owed.pop_front()?;
        self.tracker.settle(&token);
        if let Some(waits) = self.left_out.get_mut(&item).filter(|waits| **waits == Waits::Head && owed.is_empty()) {
            *waits = Waits::Nothing;
        }
        Some((shard, record))
    }

    fn leave_out(&mut self, item: u8, keep: usize, given: usize) {
        let Some(owed) = self.owed.get_mut(&item).filter(|owed| owed.len() > keep) else { return };
        let leaving: Vec<_> = owed.split_off(keep).into();
        let given = given.clamp(1, leaving.len());
        let mut catch_up = CatchUp::of(&mut self.tracker);
        assert!(leaving.iter().all(|(.., token)| catch_up.may_leave_out(token, at(0)) && !catch_up.is_left_out(token)));
        catch_up.leave_out(leaving[..given].iter().map(|(.., token)| token));
        assert!(leaving.iter().all(|(.., token)| catch_up.is_left_out(token)), "what is on its way is left out, too");
        assert!(owed.iter().all(|(.., token)| !catch_up.is_left_out(token)), "what is before it is not");
        catch_up.leave_out(leaving[given..].iter().map(|(.., token)| token));
        self.left_out.insert(item, if keep == 0 { Waits::Room } else { Waits::Head });
        self.handed_on[usize::from(item)] -= leaving.len();
    }

    fn readmit(&mut self) {
        CatchUp::of(&mut self.tracker).readmit();
        self.left_out.values_mut().filter(|waits| **waits == Waits::Room).for_each(|waits| *waits = Waits::Nothing);
    }

    /// The shards over which passes may be made.
    fn known(&self) -> Vec<(usize, ShardHandle)> {
        let reading = self.reading.iter().map(|(shard, handle, _)| (*shard, *handle));
        self.ended.iter().copied().chain(reading).collect()
    }

    fn begin_pass(&mut self, (shard, handle): (usize, ShardHandle)) -> bool {
        let mut catch_up = CatchUp::of(&mut self.tracker);
        let begun = catch_up.begin_pass(handle, PassCause::Due);
        if self.passes.contains_key(&shard) {
            assert_eq!(begun, None, "two passes over one shard");
            return false;
        }
        for (item, waits) in &self.left_out {
            let next = self.world.items[usize::from(*item)][self.handed_on[usize::from(*item)]..].first();
            let is_here = next.is_some_and(|(first, _)| *first == shard);
            let is_in_pass = catch_up.in_pass(handle, [Some(lane(*item))])[0];
            // One of which all was brought back leaves the table at the end of a pass.
            if *waits != Waits::Nothing || is_here {
                assert_eq!(is_in_pass, *waits == Waits::Nothing && is_here, "item {item} {waits:?}");
            }
        }
        let Some(start) = begun else { return false };
        let records = 0..self.world.shards[shard].records.len();
        let mut records =
            records.skip_while(|record| start.from.position.is_behind(self.world.number(shard, *record).into()));
        self.passes.insert(shard, records.next().unwrap());
        true
    }

    fn pass(&mut self, (shard, handle): (usize, ShardHandle), is_cut: bool) {
        let Some(next) = self.passes.get(&shard).copied() else { return };
        let place = |record: usize| match record.checked_sub(1) {
            None => Place { position: Position::Start, created: None },
            Some(last) => Place { position: Position::after(self.world.number(shard, last)), created: None },
        };
        let position = place(next).position;
        if is_cut || !CatchUp::of(&mut self.tracker).has_more_behind(handle, position) {
            PageEntry::of(&mut self.tracker, handle).passed(place(next), true);
            self.passes.remove(&shard);
            self.look_for_caught_up();
            return;
        }
        let (item, number) = (self.world.shards[shard].records[next], self.world.number(shard, next).into());
        let mut entry = PageEntry::of(&mut self.tracker, handle);
        let owed = entry.again(Reread { number, before: place(next) }, lane(item), None);
        entry.passed(place(next + 1), false);
        self.passes.insert(shard, next + 1);
        if let Some(owed) = owed {
            assert_eq!(self.left_out.get(&item), Some(&Waits::Nothing));
            self.hand_on(item, (shard, next), owed);
        }
        self.look_for_caught_up();
    }

    /// What was brought back as a whole is left out no more.
    fn look_for_caught_up(&mut self) {
        let (entered, handed_on, tracker) = (&self.entered, &self.handed_on, &self.tracker);
        self.left_out.retain(|item, _| {
            let is_left_out = tracker.left_out.contains(lane(*item));
            let item = usize::from(*item);
            assert!(is_left_out || handed_on[item] == entered[item], "item {item} still owes what is left out");
            is_left_out
        });
    }

    fn save(&mut self, stored: &mut StoredTable, saved: Saved) {
        let changes = self.tracker.take_changes();
        if saved != Saved::NotStored {
            stored.apply(&changes);
        }
        if saved != Saved::Confirmed {
            self.tracker.put_back(changes);
        }
    }
}

/// Each item's records in order: whether they are stored as settled.
fn stored_as_settled(world: &World, stored: &StoredTable) -> Vec<Vec<bool>> {
    let of = |item: &Vec<(usize, usize)>| {
        item.iter().map(|(shard, record)| world.is_stored_as_settled(stored, *shard, *record)).collect()
    };
    world.items.iter().map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_stored_as_settled_is_a_prefix_of_each_items_history_and_a_restart_loses_and_repeats_nothing_of_it(
        world in world(),
        steps in steps(),
    ) {
        let mut stored = StoredTable::default();
        let mut settled = stored_as_settled(&world, &stored);
        let mut run = Run::begin(&world, &stored, &settled);
        for step in steps {
            match step {
                Step::Learn(shard) => {
                    run.learn(shard.index(world.shards.len()));
                    run.open_ready();
                }
                Step::Pass => run.tracker.complete_pass(run.stream),
                Step::Read(_) if run.reading.is_empty() => {}
                Step::Read(reader) => run.read(reader.index(run.reading.len())),
                Step::Settle(item) => {
                    if let Some(change) = run.settle(item) {
                        let item = usize::from(item);
                        let place = world.items[item].iter().position(|at| *at == change).unwrap();
                        settled[item][place] = true;
                    }
                }
                Step::LeaveOut(item, keep, given) => run.leave_out(item, keep, given),
                Step::Readmit => run.readmit(),
                Step::BeginPass(shard) => {
                    let known = run.known();
                    if !known.is_empty() {
                        run.begin_pass(known[shard.index(known.len())]);
                    }
                }
                Step::GoOn(shard) | Step::EndPass(shard) => {
                    let known: Vec<_> = run.known().into_iter().filter(|(it, _)| run.passes.contains_key(it)).collect();
                    if !known.is_empty() {
                        run.pass(known[shard.index(known.len())], matches!(step, Step::EndPass(_)));
                    }
                }
                Step::Save(saved) => {
                    run.save(&mut stored, saved);
                    if saved == Saved::Confirmed {
                        prop_assert!(!run.tracker.has_changes());
                        prop_assert_eq!(&stored_as_settled(&world, &stored), &settled, "{:?}", stored);
                    }
                }
                Step::Restart => {
                    settled = stored_as_settled(&world, &stored);
                    run = Run::begin(&world, &stored, &settled);
                }
            }
            for (item, records) in stored_as_settled(&world, &stored).iter().enumerate() {
                prop_assert!(records.is_sorted_by(|one, next| one >= next), "item {}: {:?} by {:?}", item, records, stored);
                let is_true = records.iter().zip(&settled[item]).all(|(stored, settled)| settled | !stored);
                prop_assert!(is_true, "item {}: stored as settled, and nobody has it: {:?}", item, stored);
            }
        }
        // Everything comes in the end, and then the stream is done.
        (0..world.shards.len()).for_each(|shard| run.learn(shard));
        run.tracker.complete_pass(run.stream);
        run.open_ready();
        run.known().into_iter().for_each(|shard| run.pass(shard, true));
        while !run.reading.is_empty() {
            run.read(0);
        }
        prop_assert!(run.tracker.is_drained(run.stream));
        run.readmit();
        loop {
            for item in 0..ITEMS {
                while run.settle(item).is_some() {}
            }
            let begun = run.known().into_iter().find(|shard| run.begin_pass(*shard));
            let Some(shard) = begun else { break };
            while run.passes.contains_key(&shard.0) {
                run.pass(shard, false);
            }
        }
        prop_assert_eq!((CatchUp::of(&mut run.tracker).lanes(), &run.left_out), (0, &BTreeMap::new()));
        prop_assert!(run.tracker.left_out.is_empty());
        prop_assert_eq!(&run.handed_on, &run.entered);
        let complete: Vec<usize> = world.items.iter().map(Vec::len).collect();
        prop_assert_eq!((&run.entered, run.tracker.unsettled()), (&complete, 0));
        run.tracker.end_stream(run.stream);
        run.save(&mut stored, Saved::Confirmed);
        prop_assert!(stored.streams[0].done && stored.streams[0].shards.is_empty(), "{:?}", stored);
    }
}

/// A table with one stream, of which nothing is known.
fn table() -> (TableTracker, StreamHandle) {
    let mut tracker = TableTracker::default();
    let stream = tracker.open_stream(details(ARN), Position::Start, true, at(0));
    (tracker, stream)
}

fn open(tracker: &mut TableTracker, stream: StreamHandle, id: &str, parent: Option<&str>) -> ShardHandle {
    tracker.learn(stream, id, parent);
    tracker.open_ready(stream).pop().expect("it may be read").handle
}

fn read(tracker: &mut TableTracker, shard: ShardHandle, number: u64, item: u8, created: u64) -> AckToken {
    PageEntry::of(tracker, shard).record(sequence(number), lane(item), Some(at(created))).unwrap().token.unwrap()
}

fn page(tracker: &mut TableTracker, shard: ShardHandle, asked: u64, is_caught_up: bool, is_last: bool) {
    PageEntry::of(tracker, shard).read(PageRead { asked_at: at(asked), is_caught_up, is_last });
}

fn stored(tracker: &mut TableTracker) -> StoredTable {
    let mut stored = StoredTable::default();
    stored.apply(&tracker.take_changes());
    stored
}

/// e1 in the parent, e2 in the child, both acknowledged, the process killed: were the child's entry stored without the parent's, e1
/// would come again behind e2 and stay the item's last state.
#[test]
fn a_childs_acknowledgement_is_stored_together_with_its_parents() {
    let (mut tracker, stream) = table();
    let parent = open(&mut tracker, stream, "parent", None);
    let first = read(&mut tracker, parent, 1, 0, 0);
    page(&mut tracker, parent, 1, true, true);
    tracker.read_to_end(parent, Instant::now());
    let child = open(&mut tracker, stream, "child", Some("parent"));
    let second = read(&mut tracker, child, 2, 0, 1);
    tracker.settle(&first);
    tracker.settle(&second);
    let changes = tracker.take_changes();
    let told: Vec<&String> = changes.streams[0].shards.keys().collect();
    assert_eq!(told, ["child", "parent"]);
    // What was not stored comes again as a whole.
    tracker.put_back(changes.clone());
    assert_eq!(tracker.take_changes(), changes);
}

#[test]
fn a_child_has_a_position_while_its_parent_owes_something() {
    let (mut tracker, stream) = table();
    let parent = open(&mut tracker, stream, "parent", None);
    let _parked = read(&mut tracker, parent, 1, 0, 0);
    page(&mut tracker, parent, 1, true, true);
    tracker.read_to_end(parent, Instant::now());
    let child = open(&mut tracker, stream, "child", Some("parent"));
    let other = read(&mut tracker, child, 7, 1, 1);
    tracker.settle(&other);
    let stored = stored(&mut tracker);
    let shards = &stored.streams[0].shards;
    assert_eq!(
        (shards["parent"].safe(), shards["child"].safe()),
        (Some(Position::Start), Some(Position::after(sequence(7))))
    );
    // After a restart the parent is read again first.
    let mut tracker = TableTracker::restored(stored, false);
    let stream = tracker.open_stream(details(ARN), Position::Start, true, at(9));
    let opened = tracker.open_ready(stream);
    assert_eq!(opened.iter().map(|shard| &*shard.id).collect::<Vec<_>>(), ["parent"]);
    tracker.read_to_end(opened[0].handle, Instant::now());
    let next: Vec<_> = tracker.open_ready(stream).into_iter().map(|shard| (shard.id.to_string(), shard.from)).collect();
    assert_eq!(next, [("child".to_owned(), Position::after(sequence(7)))]);
}

#[test]
fn what_an_earlier_run_has_stored_stays_stored_until_reading_has_taken_it_over() {
    let shard = |number| StoredShard::at(Position::after(sequence(number)), at(0), None);
    let finished = StoredShard::Finished { at: at(0), parent: None };
    let old = StoredStream { arn: "arn:old".to_owned(), start: Position::Start, done: true, shards: BTreeMap::new() };
    let shards = [("a", shard(1)), ("b", shard(2)), ("c", finished)].map(|(id, shard)| (id.to_owned(), shard));
    let new = StoredStream { arn: ARN.to_owned(), start: Position::Start, done: false, shards: shards.into() };
    let before = StoredTable { streams: vec![old, new], stopped: None };
    let mut tracker = TableTracker::restored(before.clone(), false);
    assert!(!tracker.has_changes(), "nothing is written before something has changed");
    let stream = tracker.open_stream(details(ARN), Position::Start, true, at(1));
    let opened = tracker.open_ready(stream);
    let a = opened.iter().find(|shard| &*shard.id == "a").unwrap().handle;
    let token = read(&mut tracker, a, 7, 0, 1);
    tracker.settle(&token);
    let mut after = before.clone();
    after.apply(&tracker.take_changes());
    let safe = |id: &str| after.streams[1].shards[id].safe();
    assert_eq!(
        (safe("a"), safe("b"), safe("c")),
        (Some(Position::after(sequence(7))), Some(Position::after(sequence(2))), None)
    );
    assert_eq!(after.streams[0], before.streams[0]);
}

/// Who left for more than a day must not find a day's loss proved away by the moment of the last write.
#[test]
fn continuity_is_stored_as_the_moment_before_which_nothing_unread_was_created() {
    let (mut tracker, stream) = table();
    let shard = open(&mut tracker, stream, "a", None);
    let verified = |tracker: &mut TableTracker| match &stored(tracker).streams[0].shards["a"] {
        StoredShard::Unfinished(shard) => shard.verified_at,
        StoredShard::Finished { at, .. } => *at,
    };
    assert_eq!(verified(&mut tracker), at(0), "the first listing");
    let first = read(&mut tracker, shard, 1, 0, 100);
    let second = read(&mut tracker, shard, 2, 1, 200);
    page(&mut tracker, shard, 5_000, false, false);
    tracker.settle(&first);
    assert_eq!(verified(&mut tracker), at(200), "the second record was created then, and is owed");
    tracker.settle(&second);
    assert_eq!(verified(&mut tracker), at(200), "a full page: what follows may be as old as its last record");
    for asked in [5_000, 5_030, 5_060] {
        page(&mut tracker, shard, asked, true, false);
    }
    tracker.dirty.insert(shard);
    assert_eq!(verified(&mut tracker), at(5_000), "a minute of empty pages proves that nothing was left");
    tracker.verify(Duration::from_secs(300), at(5_000 + 299));
    assert!(!tracker.has_changes());
    page(&mut tracker, shard, 5_400, true, false);
    tracker.verify(Duration::from_secs(300), at(5_400));
    assert!(tracker.has_changes(), "what does not change is verified anew");
    page(&mut tracker, shard, 9_000, true, true);
    tracker.read_to_end(shard, Instant::now());
    let child = open(&mut tracker, stream, "b", Some("a"));
    assert_eq!(tracker.shard(child).verified_at, at(5_340), "the end of a shard says nothing of what follows it");
}

/// A day, and what a process that was away for longer may find.
const DAY: u64 = 24 * 60 * 60;

#[test]
fn a_loss_is_what_lies_before_the_first_record_that_is_still_there() {
    let shard = |heads: &[(u8, u64)], verified: u64| {
        StoredShard::Unfinished(UnfinishedShard {
            safe: Position::after(sequence(10)),
            newest_settled: Position::after(sequence(20)),
            heads: heads.iter().map(|(item, number)| (lane(*item), sequence(*number).into())).collect(),
            oldest_owed: None,
            verified_at: at(verified),
            newest_record: None,
            parent: None,
        })
    };
    let loss = |shard: StoredShard, first: Option<u64>, now: u64| {
        let shards = BTreeMap::from([("a".to_owned(), shard)]);
        let stream = StoredStream { arn: ARN.to_owned(), start: Position::Start, done: false, shards };
        let mut tracker = TableTracker::restored(StoredTable { streams: vec![stream], stopped: None }, false);
        let stream = tracker.open_stream(details(ARN), Position::Start, true, at(now));
        let shard = tracker.open_ready(stream)[0].handle;
        tracker.loss_before(shard, first.map(sequence), false, at(now))
    };
    let heads = [(0, 12), (1, 15)];
    let lanes = |count| Some(Loss { lanes: Some(count) });
    assert_eq!(
        loss(shard(&heads, 0), Some(12), 2 * DAY),
        None,
        "no head lies below it, so nothing was lost, after days too"
    );
    assert_eq!(loss(shard(&heads, 0), Some(13), 2 * DAY), lanes(1));
    assert_eq!(loss(shard(&heads, 0), Some(16), 2 * DAY), lanes(2));
    assert_eq!(loss(shard(&heads, 0), Some(21), DAY - 1), lanes(2), "nothing that was not read can be a day old");
    let unknown = Some(Loss { lanes: None });
    assert_eq!(loss(shard(&heads, 0), Some(21), DAY), unknown, "between 20 and 21 there may have been anybody's");
    assert_eq!(loss(shard(&[], 0), None, DAY), unknown);
    assert_eq!(loss(shard(&[], 0), None, DAY - 1), None);
    assert_eq!(loss(shard(&heads, 0), None, DAY - 1), lanes(2));
}

/// AWS has trimmed the record at the position. Is there anything behind it that is not there any more?
#[test]
fn a_record_that_was_trimmed_at_its_time_is_no_loss_and_one_that_was_trimmed_early_proves_nothing() {
    let (mut tracker, stream) = table();
    let shard = open(&mut tracker, stream, "a", None);
    let token = read(&mut tracker, shard, 10, 0, 100);
    tracker.settle(&token);
    let early = stored(&mut tracker);
    for asked in [200, DAY, DAY + 100] {
        page(&mut tracker, shard, asked, true, false);
    }
    tracker.dirty.insert(shard);
    let late = stored(&mut tracker);
    let loss = |mut stored: StoredTable, now: u64| {
        stored.streams[0].arn = ARN.to_owned();
        let mut tracker = TableTracker::restored(stored, false);
        let stream = tracker.open_stream(details(ARN), Position::Start, true, at(now));
        let shard = tracker.open_ready(stream)[0].handle;
        tracker.loss_before(shard, Some(sequence(90)), true, at(now))
    };
    assert_eq!(loss(late, DAY + 200), None, "the shard was quiet for a day");
    assert_eq!(loss(early, 200), Some(Loss { lanes: None }), "it is 100 s old, and gone: so may be others");
}

/// The gap's event did not reach the sink: it is told again.
#[test]
fn a_gap_that_is_owed_is_found_again_after_a_restart() {
    let (mut tracker, stream) = table();
    let shard = open(&mut tracker, stream, "a", None);
    let first = read(&mut tracker, shard, 1, 0, 0);
    tracker.settle(&first);
    let gap = Gap::at(&details(ARN), Some("a"), Position::after(sequence(1)), LossReason::Trimmed);
    let owed = PageEntry::of(&mut tracker, shard).gap(&gap, LaneId::of_gap("gap")).unwrap();
    let next = read(&mut tracker, shard, 50, 1, 60);
    tracker.settle(&next);
    let stored = stored(&mut tracker);
    let restarted = |stored: StoredTable| {
        let mut tracker = TableTracker::restored(stored, false);
        let stream = tracker.open_stream(details(ARN), Position::Start, true, at(0));
        let opened = tracker.open_ready(stream).remove(0);
        (tracker.loss_before(opened.handle, Some(sequence(50)), false, at(100)), opened.from)
    };
    assert_eq!(restarted(stored), (Some(Loss { lanes: None }), Position::after(sequence(1))));
    tracker.settle(&owed.token.unwrap());
    let mut after = StoredTable::default();
    tracker.dirty_streams.insert(stream);
    after.apply(&tracker.take_changes());
    assert_eq!(restarted(after), (None, Position::after(sequence(50))));
}

/// A reader opens the child as soon as it has handed down the parent's last page, which may wait to be entered.
#[test]
fn a_child_is_behind_a_gap_that_is_entered_after_it_was_opened() {
    let (mut tracker, stream) = table();
    let parent = open(&mut tracker, stream, "parent", None);
    tracker.read_to_end(parent, Instant::now());
    let child = open(&mut tracker, stream, "child", Some("parent"));
    let gap = Gap::at(&details(ARN), Some("parent"), Position::Start, LossReason::ShardMissing);
    PageEntry::of(&mut tracker, parent).gap(&gap, LaneId::of_gap("gap")).unwrap();
    let owed = PageEntry::of(&mut tracker, child).record(sequence(1), lane(0), None).unwrap();
    assert_eq!(owed.barrier, Some(LaneId::of_gap("gap")));
}

/// While nothing can be stored for two days, what has changed waits, and a shard among it is forgotten.
#[test]
fn a_shard_that_is_forgotten_before_its_end_was_stored_is_not_stored_any_more() {
    let (mut tracker, stream) = table();
    let shard = open(&mut tracker, stream, "a", None);
    let unstored = tracker.take_changes();
    page(&mut tracker, shard, 0, true, true);
    tracker.read_to_end(shard, Instant::now());
    tracker.put_back(unstored);
    tracker.complete_pass(stream);
    tracker.complete_pass(stream);
    tracker.forget_finished(stream, at(3 * DAY));
    let changes = tracker.take_changes();
    assert_eq!(changes.streams[0].shards, BTreeMap::from([("a".to_owned(), None)]));
}

/// Its parent was created and trimmed while AWS denied the listing; another lineage was read all the time.
#[test]
fn a_shard_whose_ancestors_were_never_seen_may_lack_as_much_as_the_end_of_the_lineage_that_it_continues() {
    let (mut tracker, stream) = table();
    let [old, other] = ["old", "other"].map(|id| open(&mut tracker, stream, id, None));
    page(&mut tracker, old, 0, true, true);
    tracker.read_to_end(old, Instant::now());
    let _owed = read(&mut tracker, other, 1, 0, DAY);
    tracker.learn(stream, "orphan", Some("never seen"));
    tracker.complete_pass(stream);
    let (unlisted, _) = tracker.take_unlisted_parents(stream, at(DAY)).remove(0);
    // AWS does not know it.
    tracker.open_unlisted(unlisted);
    assert!(!tracker.is_loss(unlisted, at(DAY - 1)) && tracker.is_loss(unlisted, at(DAY + 1)));
    page(&mut tracker, unlisted, DAY, true, true);
    tracker.read_to_end(unlisted, Instant::now());
    let orphan = tracker.open_ready(stream).remove(0).handle;
    let loss = |now| tracker.loss_before(orphan, Some(sequence(9)), false, at(now));
    assert_eq!(loss(DAY - 1), None);
    assert_eq!(loss(DAY + 1), Some(Loss { lanes: None }), "what came between is a day old");
}

#[test]
fn with_order_by_shard_a_finished_shard_between_two_that_owe_something_does_not_end_the_wait() {
    let (mut tracker, stream) = table();
    let mut parent: Option<&str> = None;
    for (id, number) in [("a", Some(1)), ("b", None), ("c", Some(3))] {
        let shard = open(&mut tracker, stream, id, parent);
        if let Some(number) = number {
            let _parked = read(&mut tracker, shard, number, 0, 0);
        }
        page(&mut tracker, shard, 0, true, true);
        tracker.read_to_end(shard, Instant::now());
        parent = Some(id);
    }
    let stored = stored(&mut tracker);
    assert!(matches!(stored.streams[0].shards["b"], StoredShard::Finished { .. }));
    let mut tracker = TableTracker::restored(stored, true);
    let stream = tracker.open_stream(details(ARN), Position::Start, true, at(0));
    let a = tracker.open_ready(stream).remove(0).handle;
    let first = PageEntry::of(&mut tracker, a).record(sequence(1), lane(0), None).unwrap();
    page(&mut tracker, a, 0, true, true);
    tracker.read_to_end(a, Instant::now());
    let c = tracker.open_ready(stream).remove(0).handle;
    assert!(!tracker.ancestors_are_settled(c), "a owes something");
    let before = tracker.finished();
    tracker.settle(&first.token.unwrap());
    assert!(tracker.ancestors_are_settled(c) && tracker.finished() > before);
    let third = PageEntry::of(&mut tracker, c).record(sequence(3), lane(1), None).unwrap();
    assert_ne!(third.lane, first.lane, "each has a lane of its own");
}

#[test]
fn ancestors_are_settled_once_the_last_page_of_each_was_entered_and_everything_in_it_was_settled() {
    let (mut tracker, stream) = table();
    let root = open(&mut tracker, stream, "root", None);
    let token = read(&mut tracker, root, 1, 0, 0);
    tracker.read_to_end(root, Instant::now());
    let child = open(&mut tracker, stream, "child", Some("root"));
    tracker.settle(&token);
    assert!(!tracker.ancestors_are_settled(child), "its last page is on its way");
    page(&mut tracker, root, 0, true, true);
    assert!(tracker.ancestors_are_settled(child));
    page(&mut tracker, child, 0, true, false);
    tracker.read_to_end(child, Instant::now());
    let grandchild = open(&mut tracker, stream, "grandchild", Some("child"));
    assert!(!tracker.ancestors_are_settled(grandchild) && tracker.ancestors_are_settled(root));
}

#[test]
fn the_lag_is_the_age_of_the_oldest_owed_record_and_zero_when_caught_up() {
    let (mut tracker, stream) = table();
    let shard = open(&mut tracker, stream, "a", None);
    let (old, young) = (read(&mut tracker, shard, 1, 0, 40), read(&mut tracker, shard, 2, 1, 90));
    page(&mut tracker, shard, 95, false, false);
    let lags = |tracker: &TableTracker| (tracker.lag(at(100)).as_secs(), tracker.view()[0].lag(at(100)).as_secs());
    assert_eq!(lags(&tracker), (60, 60));
    let stored = stored(&mut tracker);
    tracker.settle(&old);
    tracker.settle(&young);
    assert_eq!(lags(&tracker), (10, 10), "a full page: more is waiting behind it");
    page(&mut tracker, shard, 95, true, false);
    assert_eq!(lags(&tracker), (0, 0));
    // A process that has just started knows it from what is stored.
    let restarted = TableTracker::restored(stored, false);
    assert_eq!(restarted.lag(at(100)).as_secs(), 60);
}

/// A restored shard whose last record was `at(0)`, with a record of item 0 owed behind it, all trimmed since.
/// The moment of a first start is a guess for shards of which nothing was read; a record that was read says more.
#[test]
fn what_was_trimmed_while_a_first_start_waited_for_the_sink_is_a_loss() {
    let mut tracker = TableTracker::default();
    let stream = tracker.open_stream(details(ARN), Position::Start, true, at(DAY));
    let shard = open(&mut tracker, stream, "a", None);
    read(&mut tracker, shard, 1, 0, DAY / 2);
    page(&mut tracker, shard, DAY, false, false);
    let later = DAY / 2 + DAY + 100;
    assert_eq!(tracker.loss_before(shard, None, true, at(later)), Some(Loss { lanes: None }));
}

fn trimmed_shard() -> (TableTracker, ShardHandle) {
    let shard = StoredShard::Unfinished(UnfinishedShard {
        safe: Position::after(sequence(4)),
        newest_settled: Position::after(sequence(10)),
        heads: BTreeMap::from([(lane(0), sequence(5).into())]),
        oldest_owed: None,
        verified_at: at(DAY),
        newest_record: Some(at(0)),
        parent: None,
    });
    restarted(BTreeMap::from([("a".to_owned(), shard)]), DAY + 100)
}

fn restarted(shards: BTreeMap<String, StoredShard>, now: u64) -> (TableTracker, ShardHandle) {
    let stream = StoredStream { arn: ARN.to_owned(), start: Position::Start, done: false, shards };
    let mut tracker = TableTracker::restored(StoredTable { streams: vec![stream], stopped: None }, false);
    let stream = tracker.open_stream(details(ARN), Position::Start, true, at(now));
    let shard = tracker.open_ready(stream)[0].handle;
    (tracker, shard)
}

/// Enters a gap behind 4, and the first record behind it.
fn enter_gap(tracker: &mut TableTracker, shard: ShardHandle, before: Option<u64>) -> Owed {
    let gap = Gap::at(&details(ARN), Some("a"), Position::after(sequence(4)), LossReason::Trimmed);
    let gap = Gap { before: before.map(sequence), lanes: Some(1), ..gap };
    let owed = PageEntry::of(tracker, shard).gap(&gap, LaneId::of_gap("gap")).unwrap();
    if let Some(number) = before {
        let _owed = read(tracker, shard, number, 1, DAY + 50);
    }
    owed
}

fn restart(tracker: &mut TableTracker, shard: ShardHandle, now: u64) -> (TableTracker, ShardHandle) {
    tracker.dirty.insert(shard);
    restarted(stored(tracker).streams.remove(0).shards, now)
}

#[test]
fn a_gap_that_is_settled_is_not_told_again_in_a_shard_in_which_nothing_is_left() {
    let (mut tracker, shard) = trimmed_shard();
    let owed = enter_gap(&mut tracker, shard, None);
    tracker.settle(&owed.token.unwrap());
    let (tracker, shard) = restart(&mut tracker, shard, DAY + 200);
    assert_eq!(tracker.loss_before(shard, None, true, at(DAY + 200)), None);
}

/// The process stops before anything behind the gap, or the gap itself, was settled.
#[test]
fn a_gap_that_is_owed_is_found_again_although_nothing_behind_it_is_settled() {
    let (mut tracker, shard) = trimmed_shard();
    enter_gap(&mut tracker, shard, Some(20));
    let (tracker, shard) = restart(&mut tracker, shard, DAY + 200);
    let loss = tracker.loss_before(shard, Some(sequence(20)), true, at(DAY + 200));
    assert_eq!(loss, Some(Loss { lanes: Some(1) }));
}

/// A shard was quiet for a day; then something came, and its sink is down. That the last record before it is gone is no loss.
#[test]
fn a_record_that_is_owed_does_not_make_the_one_before_it_younger() {
    let (mut tracker, stream) = table();
    let shard = open(&mut tracker, stream, "a", None);
    let token = read(&mut tracker, shard, 10, 0, 0);
    tracker.settle(&token);
    for asked in [100, DAY, DAY + 100] {
        page(&mut tracker, shard, asked, true, false);
    }
    let _owed = read(&mut tracker, shard, 90, 0, DAY + 150);
    let (tracker, shard) = restart(&mut tracker, shard, DAY + 600);
    assert_eq!(tracker.loss_before(shard, Some(sequence(90)), true, at(DAY + 600)), None);
}

/// A reader opens the child as soon as it has handed down the parent's last page, which may wait to be entered. What was read of
/// the parent tells how old the child's first record can be.
#[test]
fn a_child_holds_nothing_older_than_what_was_read_of_its_parent_although_that_is_not_entered_yet() {
    let shards = BTreeMap::from([("a".to_owned(), StoredShard::at(Position::after(sequence(4)), at(0), None))]);
    let (mut tracker, parent) = restarted(shards, DAY + 100);
    let stream = parent.stream;
    tracker.hand_over(parent, Some(at(DAY + 50)));
    tracker.read_to_end(parent, Instant::now());
    let child = open(&mut tracker, stream, "child", Some("a"));
    assert_eq!(tracker.loss_before(child, Some(sequence(90)), false, at(DAY + 100)), None);
    tracker.dirty.insert(parent);
    let stored = stored(&mut tracker).streams.remove(0).shards.remove("a").unwrap();
    assert_eq!(stored, StoredShard::at(Position::after(sequence(4)), at(0), None), "a restart has to find that gap");
}

/// A gap is told once a minute of empty pages has proved that nothing is left. An orderly stop does not repeat it.
#[test]
fn behind_a_gap_with_nothing_behind_it_nothing_is_older_than_the_proof_of_that() {
    let shards = BTreeMap::from([("a".to_owned(), StoredShard::at(Position::after(sequence(4)), at(0), None))]);
    let (mut tracker, shard) = restarted(shards, DAY + 100);
    let gap = Gap::at(&details(ARN), Some("a"), Position::after(sequence(4)), LossReason::Trimmed);
    let mut entry = PageEntry::of(&mut tracker, shard);
    let owed = entry.gap(&gap, LaneId::of_gap("gap")).unwrap();
    entry.read(PageRead { asked_at: at(DAY + 200), is_caught_up: true, is_last: false });
    tracker.settle(&owed.token.unwrap());
    let (tracker, shard) = restart(&mut tracker, shard, DAY + 210);
    assert_eq!(tracker.loss_before(shard, None, false, at(DAY + 270)), None);
}

/// A listing may contradict itself.
#[test]
fn a_lineage_that_is_a_circle_holds_nobody() {
    let (mut tracker, stream) = table();
    for (id, parent) in [("a", "b"), ("b", "a"), ("c", "a")] {
        tracker.learn(stream, id, Some(parent));
    }
    tracker.complete_pass(stream);
    tracker.skip_parents(stream, at(0));
    assert_eq!(tracker.open_leaves(stream).len(), 1);
}

/// Whose changes a gap took is not known. After a restart it is not either, whatever was delivered behind it.
#[test]
fn a_gap_that_may_be_anybodys_is_nobody_elses_after_a_restart() {
    for is_next_settled in [false, true] {
        let (mut tracker, shard) = trimmed_shard();
        let verified_at = at(0);
        (tracker.shard_mut(shard).verified_at, tracker.shard_mut(shard).stored_verification) =
            (verified_at, verified_at);
        let unknown = Some(Loss { lanes: None });
        assert_eq!(tracker.loss_before(shard, Some(sequence(20)), true, at(DAY + 100)), unknown);
        let gap = Gap::at(&details(ARN), Some("a"), Position::after(sequence(4)), LossReason::Trimmed);
        let gap = Gap { before: Some(sequence(20)), ..gap };
        let _owed = PageEntry::of(&mut tracker, shard).gap(&gap, LaneId::of_gap("gap")).unwrap();
        let next = read(&mut tracker, shard, 20, 1, DAY + 50);
        if is_next_settled {
            tracker.settle(&next);
        }
        let (tracker, shard) = restart(&mut tracker, shard, DAY + 200);
        let loss = tracker.loss_before(shard, Some(sequence(20)), true, at(DAY + 200));
        assert_eq!(loss, unknown, "settled behind it: {is_next_settled}");
    }
}

/// A service that does not say when records were created: none was created after it was read.
#[test]
fn a_record_without_a_time_that_was_trimmed_a_day_after_it_was_read_is_no_loss() {
    let (mut tracker, stream) = table();
    let shard = open(&mut tracker, stream, "a", None);
    let mut entry = PageEntry::of(&mut tracker, shard);
    let token = entry.record(sequence(10), lane(0), None).unwrap().token.unwrap();
    entry.read(PageRead { asked_at: at(50), is_caught_up: true, is_last: false });
    tracker.settle(&token);
    for asked in [100, DAY, DAY + 100] {
        page(&mut tracker, shard, asked, true, false);
    }
    assert_eq!(tracker.loss_before(shard, Some(sequence(90)), true, at(DAY + 200)), None);
}

/// Known: all of a shard's gaps have one lane in what is stored. While the sink refuses the first, a restart tells those behind it
/// again although it has taken them.
#[test]
#[should_panic(expected = "it is told again")]
fn a_gap_that_is_settled_behind_one_that_is_refused_is_not_told_again() {
    let (mut tracker, stream) = table();
    let shard = open(&mut tracker, stream, "a", None);
    let gap = |number: u64| {
        let after = Position::after(sequence(number - 1));
        let gap = Gap::at(&details(ARN), Some("a"), after, LossReason::Undecodable);
        Gap { lost: Some(sequence(number)), lanes: Some(1), ..gap }
    };
    let _refused = PageEntry::of(&mut tracker, shard).gap(&gap(3), LaneId::of_gap("3")).unwrap();
    let taken = PageEntry::of(&mut tracker, shard).gap(&gap(7), LaneId::of_gap("7")).unwrap();
    tracker.settle(&taken.token.unwrap());
    let (mut tracker, shard) = restart(&mut tracker, shard, 10);
    assert!(PageEntry::of(&mut tracker, shard).gap(&gap(3), LaneId::of_gap("3")).is_some());
    assert!(PageEntry::of(&mut tracker, shard).gap(&gap(7), LaneId::of_gap("7")).is_none(), "it is told again");
}

/// A gap in a child is entered before anything was stored of the child. Another shard of the stream was read until now.
#[test]
fn a_gap_at_the_start_of_a_child_is_found_again_after_a_restart() {
    let shard = |verified| StoredShard::at(Position::after(sequence(4)), at(verified), None);
    let shards = BTreeMap::from([("a".to_owned(), shard(0)), ("b".to_owned(), shard(DAY))]);
    let (mut tracker, parent) = restarted(shards, DAY + 100);
    tracker.read_to_end(parent, Instant::now());
    let child = open(&mut tracker, parent.stream, "child", Some("a"));
    let first = Some(sequence(20));
    let unknown = Some(Loss { lanes: None });
    assert_eq!(tracker.loss_before(child, first, false, at(DAY + 100)), unknown);
    let gap = Gap::at(&details(ARN), Some("child"), Position::Start, LossReason::Trimmed);
    PageEntry::of(&mut tracker, child).gap(&Gap { before: first, ..gap }, LaneId::of_gap("gap")).unwrap();
    let shards = stored(&mut tracker).streams.remove(0).shards;
    let (tracker, child) = restarted(shards, DAY + 200);
    assert_eq!(tracker.shard_id(child).as_ref(), "child");
    assert_eq!(tracker.loss_before(child, first, false, at(DAY + 200)), unknown);
}

/// A service that does not say when records were created, and a shard that was never quiet: how old it may be is no reason to forget
/// it. One listing leaves it out.
#[test]
fn a_shard_that_has_just_ended_is_not_read_again_whatever_is_known_of_its_age() {
    let (mut tracker, stream) = table();
    let shard = open(&mut tracker, stream, "a", None);
    tracker.complete_pass(stream);
    let mut entry = PageEntry::of(&mut tracker, shard);
    let token = entry.record(sequence(10), lane(0), None).unwrap().token.unwrap();
    entry.read(PageRead { asked_at: at(3 * DAY), is_caught_up: true, is_last: true });
    tracker.read_to_end(shard, Instant::now());
    tracker.settle(&token);
    tracker.complete_pass(stream);
    tracker.forget_finished(stream, at(3 * DAY + 100));
    tracker.learn(stream, "a", None);
    assert_eq!(tracker.open_ready(stream), []);
}

/// What was written between the end of a stream and the beginning of the next one is in neither.
#[test]
fn a_stream_that_was_created_long_after_the_one_before_lacks_nothing() {
    for (label, is_unknown) in [(crate::clock::rfc3339(at(3 * DAY)), false), ("not-a-time".to_owned(), true)] {
        let (mut tracker, stream) = table();
        let old = open(&mut tracker, stream, "old", None);
        page(&mut tracker, old, 0, true, true);
        let arn = format!("{}/stream/{}", ARN.split_once("/stream/").unwrap().0, label.trim_end_matches('Z'));
        let now = at(3 * DAY + 100);
        let next = tracker.open_stream(Arc::new(StreamDetails::from_arn(&arn)), Position::Start, true, now);
        let shard = open(&mut tracker, next, "new", None);
        let loss = tracker.loss_before(shard, Some(sequence(1)), false, now);
        assert_eq!(loss.is_some(), is_unknown, "{arn}: {loss:?}");
    }
}
