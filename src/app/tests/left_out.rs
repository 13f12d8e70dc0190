//! What is left out of a lane that is too long comes again by passes over its shards, whatever AWS does: in each item's order, nothing
//! missing and nothing twice. A small consumer stands in for delivery.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use super::harness::{FakeServices, NEW, Setup, event};
use crate::app::table_task::{TableStop, TableTask};
use crate::clock;
use crate::delivery::handover::Handover;
use crate::delivery::pending_event::BoxedEvent;
use crate::progress::TableProgress;
use crate::progress::catch_up::CatchUp;
use crate::readiness::Health;
use crate::records::{Entry, Position, SequenceNumber};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The item whose lane is too long.
const HOT: u64 = 9_000_000;

/// What the consumer does, and what came of it.
#[derive(Default)]
struct Orders {
    /// Items of which it takes nothing.
    parked: BTreeSet<u64>,
    /// Lanes that are too long are left out with their heads.
    leaves_heads_out: bool,
    /// Numbers of changes in the order in which they were taken; gaps as the lanes that they name and the number behind them.
    taken: Vec<u64>,
    gaps: Vec<(Option<usize>, Option<u64>)>,
    /// The most events that a lane held.
    longest: usize,
}

/// Keeps at most `most` events of a lane, and leaves out the others.
struct Consumer {
    orders: Arc<Mutex<Orders>>,
    lanes: BTreeMap<u64, VecDeque<BoxedEvent>>,
    most: usize,
    /// How long it takes for each event of a lane.
    turn: Duration,
}

impl Consumer {
    async fn run(mut self, mut events: mpsc::Receiver<Handover>) {
        let mut turns = interval(self.turn);
        loop {
            tokio::select! {
                Some(Handover::Events(page)) = events.recv() => page.into_iter().for_each(|event| self.hold(event)),
                _ = turns.tick() => self.take(),
            }
        }
    }

    fn hold(&mut self, mut event: BoxedEvent) {
        let acknowledger = event.acknowledger.clone();
        if event.token.as_ref().is_some_and(|token| acknowledger.is_left_out(token)) {
            return acknowledger.leave_out(vec![(event.token.take().unwrap(), event.cost)]);
        }
        let mut orders = self.orders.lock().unwrap();
        let lane = self.lanes.entry(event.lane).or_default();
        lane.push_back(event);
        orders.longest = orders.longest.max(lane.len());
        if lane.len() <= self.most {
            return;
        }
        let kept = if orders.leaves_heads_out { 0 } else { self.most };
        let may_leave =
            |event: &&BoxedEvent| event.token.as_ref().is_some_and(|token| acknowledger.may_leave_out(token));
        let leaving = lane.iter().skip(kept).rev().take_while(may_leave).count();
        let leaving = lane.split_off(lane.len() - leaving);
        acknowledger.leave_out(leaving.into_iter().map(|event| (event.token.unwrap(), event.cost)).collect());
    }

    /// Takes the first event of each lane that is not parked.
    fn take(&mut self) {
        let mut orders = self.orders.lock().unwrap();
        for lane in self.lanes.values_mut() {
            let Some(first) = lane.pop_front_if(|first| !is_parked(&orders.parked, first)) else { continue };
            match &first.content {
                Entry::Record(record) => orders.taken.push(record.event_id().parse().unwrap()),
                Entry::Gap(gap) => {
                    let before = gap.before.map(|number| number.to_string().parse().unwrap());
                    orders.gaps.push((gap.lanes, before));
                }
            }
            first.acknowledger.acknowledge(first.token, first.cost);
        }
        self.lanes.retain(|_, lane| !lane.is_empty());
    }
}

fn is_parked(parked: &BTreeSet<u64>, event: &BoxedEvent) -> bool {
    let Entry::Record(record) = &event.content else { return false };
    let is = |item: &u64| record.lane_id() == lane_of(*item);
    parked.iter().any(is)
}

fn lane_of(item: u64) -> crate::records::LaneId {
    let text = format!(
        r#"{{"Records":[{{"eventID":"1","eventName":"MODIFY","dynamodb":{{"Keys":{{"id":{{"N":"{item}"}}}},"SequenceNumber":"1"}}}}]}}"#
    );
    let page = crate::records::Page::parse(bytes::Bytes::from(text)).unwrap();
    page.records.into_iter().next().unwrap().unwrap().lane_id()
}

/// A table whose events the consumer takes.
struct Line {
    services: Arc<FakeServices>,
    progress: Arc<TableProgress>,
    orders: Arc<Mutex<Orders>>,
    tasks: JoinSet<()>,
}

impl Line {
    fn new(services: Arc<FakeServices>, most: usize, setup: Setup) -> Self {
        Self::at_pace(Duration::from_millis(20), services, most, setup)
    }

    fn at_pace(turn: Duration, services: Arc<FakeServices>, most: usize, setup: Setup) -> Self {
        let health = Health::default();
        let table = services.table(setup, &health);
        let progress = table.progress.clone();
        let (sender, events) = mpsc::channel(64);
        let orders = Arc::new(Mutex::new(Orders { parked: BTreeSet::from([HOT]), ..Orders::default() }));
        let consumer = Consumer { orders: orders.clone(), lanes: BTreeMap::new(), most, turn };
        let mut tasks = JoinSet::new();
        let task = TableTask { table, event: event(), events: sender };
        tasks.spawn(async move { task.run(TableStop::default()).await.expect("it is not told to end") });
        tasks.spawn(consumer.run(events));
        Self { services, progress, orders, tasks }
    }

    fn orders<T>(&self, look: impl FnOnce(&mut Orders) -> T) -> T {
        look(&mut self.orders.lock().unwrap())
    }

    /// How many events are unsettled, and how many lanes left out.
    fn owed(&self) -> (usize, usize) {
        let mut tracker = self.progress.tracker();
        (tracker.unsettled(), CatchUp::of(&mut tracker).lanes())
    }

    /// The hot item's event is taken from now on.
    fn unpark(&self) {
        self.orders(|orders| orders.parked.clear());
    }

    /// Waits until everything that was written was taken, as long as that takes; each item's changes came in order, none twice. Those
    /// below `trimmed` may be missing.
    async fn assert_complete(&self, trimmed: u64) {
        let begun = Instant::now();
        while self.owed() != (0, 0) {
            sleep(Duration::from_secs(1)).await;
            assert!(begun.elapsed() < 10 * MINUTE, "{:?}: left out for ever", self.owed());
        }
        let (written, items) = self.services.script(|script| {
            let shards = script.streams.values().flat_map(|stream| stream.shards.values());
            let mut written: Vec<u64> = shards.flat_map(|shard| shard.records.iter().copied()).collect();
            written.sort_unstable();
            (written, script.items.clone())
        });
        let item = |number: &u64| items.get(number).copied().unwrap_or(*number);
        let by_item = |numbers: &[u64]| {
            let mut all: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            numbers.iter().for_each(|number| all.entry(item(number)).or_default().push(*number));
            all
        };
        let (taken, mut written) = (by_item(&self.orders(|orders| orders.taken.clone())), by_item(&written));
        for (item, numbers) in &mut written {
            let got = taken.get(item);
            numbers.retain(|number| *number >= trimmed || got.is_some_and(|got| got.contains(number)));
        }
        written.retain(|_, numbers| !numbers.is_empty());
        assert_eq!(taken, written);
        assert!(self.services.script(|script| script.most_readers) <= 1, "a shard had two readers");
        assert_eq!(self.progress.buffer().held(), 0, "all room is given back");
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

/// A stream with one shard whose every other record changes the hot item.
fn services(shard: &str, records: std::ops::Range<u64>, closed: bool) -> Arc<FakeServices> {
    let services = FakeServices::with_shards(&[]);
    add(&services, shard, None, records, closed);
    services.script(|script| script.records_a_page = 10);
    services
}

fn add(services: &FakeServices, shard: &str, parent: Option<&str>, records: std::ops::Range<u64>, closed: bool) {
    services.shard(NEW, shard, parent, &records.clone().collect::<Vec<_>>(), closed);
    services.script(|script| script.items.extend(records.step_by(2).map(|number| (number, HOT))));
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_is_too_long_keeps_its_head_and_all_of_it_comes_in_order_once_that_is_settled() {
    let line = Line::new(services("a", 1..401, false), 4, Setup::default());
    sleep(MINUTE).await;
    assert_eq!(line.orders(|orders| orders.taken.len()), 200, "nobody else waits");
    assert_eq!(line.owed(), (4, 1), "only what fits is here");
    let view = line.progress.tracker().view().remove(0);
    assert_eq!((view.left_out, view.left_out_records), (1, 196));
    line.unpark();
    line.assert_complete(0).await;
    assert!(line.orders(|orders| orders.longest) <= 5);
    let pages = line.services.script(|script| script.reads.iter().filter(|(_, from, to)| from < to).count());
    assert!(pages < 40 * 4, "{pages} pages for 40");
}

#[tokio::test(start_paused = true)]
async fn what_is_written_during_passes_is_neither_missing_nor_before_its_turn() {
    let line = Line::new(services("a", 1..201, false), 4, Setup::default());
    sleep(MINUTE).await;
    line.unpark();
    for number in 201..400 {
        line.services.script(|script| script.items.extend([(number, HOT)]));
        line.services.write(NEW, "a", number);
        sleep(Duration::from_millis(70)).await;
    }
    sleep(MINUTE).await;
    line.assert_complete(0).await;
}

#[tokio::test(start_paused = true)]
async fn shards_that_were_read_to_their_ends_are_passed_ancestors_first() {
    let services = services("a", 1..101, true);
    add(&services, "b", Some("a"), 101..201, true);
    add(&services, "c", Some("b"), 201..301, false);
    let line = Line::new(services, 4, Setup::default());
    sleep(3 * MINUTE).await;
    let views = line.progress.tracker().view();
    let left_out: Vec<u64> = views.iter().map(|shard| shard.left_out_records).collect();
    assert_eq!(left_out, [46, 50, 50]);
    assert!(views.iter().all(|shard| !shard.is_finished), "what is left out is owed");
    line.unpark();
    line.assert_complete(0).await;
    let finished = line.progress.tracker().view().iter().filter(|shard| shard.is_finished).count();
    assert_eq!(finished, 2);
}

#[tokio::test(start_paused = true)]
async fn iterators_that_are_too_old_lose_and_repeat_nothing_of_a_pass() {
    let services = services("a", 1..201, true);
    add(&services, "b", Some("a"), 201..401, false);
    services.script(|script| script.expires_each = 3);
    let line = Line::new(services, 4, Setup::default());
    sleep(3 * MINUTE).await;
    line.unpark();
    line.assert_complete(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_is_left_out_with_its_head_comes_again_when_there_is_room() {
    let services = services("a", 1..101, false);
    let line = Line::new(services, 4, Setup::default());
    line.orders(|orders| orders.leaves_heads_out = true);
    sleep(MINUTE).await;
    assert_eq!(line.owed(), (0, 1));
    line.unpark();
    sleep(MINUTE).await;
    assert_eq!(line.orders(|orders| orders.taken.len()), 50, "nobody has said that there is room");
    line.orders(|orders| orders.leaves_heads_out = false);
    crate::progress::Acknowledger::readmit(&*line.progress);
    line.assert_complete(0).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_trimmed_before_it_could_be_read_again_is_one_gap_of_its_shard() {
    for (is_closed, trimmed, before) in
        [(false, 101, Some(101)), (true, 101, Some(101)), (true, 1_000, None), (false, 1_000, None)]
    {
        let line = Line::new(services("a", 1..201, is_closed), 4, Setup::default());
        sleep(MINUTE).await;
        line.services.script(|script| script.trimmed = trimmed);
        line.unpark();
        sleep(3 * MINUTE).await;
        line.assert_complete(trimmed).await;
        assert_eq!(line.orders(|orders| orders.gaps.clone()), [(Some(1), before)], "closed: {is_closed}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_out_of_a_shard_that_is_gone_is_one_gap() {
    for is_closed in [false, true] {
        let line = Line::new(services("a", 1..201, is_closed), 4, Setup::default());
        sleep(MINUTE).await;
        line.services.script(|script| script.gone.extend(["a"]));
        line.unpark();
        sleep(5 * MINUTE).await;
        line.assert_complete(1_000).await;
        let gaps = line.orders(|orders| orders.gaps.clone());
        assert_eq!(gaps, [(Some(1).filter(|_| is_closed), None)], "closed: {is_closed}");
    }
}

/// The pass breaks off in the middle: some of its records are gone, and there are only empty pages.
#[tokio::test(start_paused = true)]
async fn what_vanishes_behind_the_position_of_a_pass_is_a_gap() {
    let line = Line::new(services("a", 1..201, false), 4, Setup::default());
    sleep(MINUTE).await;
    line.services.script(|script| {
        let shard = script.streams.get_mut(NEW).unwrap().shards.get_mut("a").unwrap();
        shard.records.truncate(100);
    });
    line.unpark();
    sleep(5 * MINUTE).await;
    assert_eq!(line.orders(|orders| orders.gaps.clone()), [(Some(1), None)]);
    assert_eq!(line.owed(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_restart_delivers_what_was_left_out() {
    let services = services("a", 1..201, true);
    add(&services, "b", Some("a"), 201..301, false);
    let line = Line::new(services.clone(), 4, Setup::default());
    sleep(3 * MINUTE).await;
    line.unpark();
    sleep(Duration::from_millis(1_500)).await;
    line.orders(|orders| orders.parked.extend([HOT]));
    sleep(MINUTE).await;
    let (taken, stored) = (line.orders(|orders| orders.taken.clone()), services.script(|script| script.stored.clone()));
    assert!(taken.len() < 300 && line.owed().1 == 1);
    drop(line);
    let line = Line::new(services, 4, Setup { stored, ..Setup::default() });
    sleep(3 * MINUTE).await;
    line.unpark();
    line.orders(|orders| orders.taken = taken);
    line.assert_complete(0).await;
}

/// Nothing was written for ten hours: the next page would be asked for an hour later.
#[tokio::test(start_paused = true)]
async fn a_reader_of_a_quiet_shard_begins_a_pass_at_once() {
    let setup = Setup { idle_max: HOUR, ..Setup::default() };
    let line = Line::at_pace(Duration::from_secs(1), services("a", 1..41, false), 4, setup);
    sleep(10 * HOUR).await;
    assert_eq!(line.owed(), (4, 1));
    line.unpark();
    sleep(2 * MINUTE).await;
    assert_eq!(line.owed(), (0, 0));
    line.assert_complete(0).await;
}

/// Else a restart reads again, and for ever, what is settled.
#[tokio::test(start_paused = true)]
async fn a_position_lies_right_before_what_came_again_and_is_owed() {
    let line = Line::new(services("a", 1..401, false), 4, Setup::default());
    sleep(MINUTE).await;
    line.unpark();
    sleep(Duration::from_secs(2)).await;
    line.orders(|orders| orders.parked.extend([HOT]));
    sleep(MINUTE).await;
    let last = line.orders(|orders| *orders.taken.iter().rfind(|number| *number % 2 == 1).unwrap());
    assert!(last > 9, "passes have begun: {last}");
    let before: SequenceNumber = format!("{:021}", last + 1).parse().unwrap();
    assert_eq!(line.progress.tracker().view()[0].safe, Position::after(before));
}

/// Its head is refused for a day.
#[tokio::test(start_paused = true)]
async fn what_is_about_to_be_trimmed_is_brought_back_behind_its_head_and_what_is_younger_later() {
    let _clock = clock::start_at(UNIX_EPOCH + 24 * HOUR);
    let services = services("a", 1..401, false);
    // One change in six minutes: 200 of the hot item in 40 hours, of which the last ones come later.
    let begun = 24 * 3600;
    services.script(|script| {
        script.created = (1..401).map(|number| (number, begun + number * 60)).collect();
        script.streams.get_mut(NEW).unwrap().shards.get_mut("a").unwrap().records.truncate(120);
    });
    let setup = Setup { idle_max: MINUTE, ..Setup::default() };
    let line = Line::at_pace(Duration::from_secs(10), services, 1, setup);
    sleep(19 * HOUR).await;
    assert_eq!(line.progress.tracker().unsettled(), 1);
    sleep(HOUR + 10 * MINUTE).await;
    let first = line.progress.tracker().unsettled();
    assert!((5..40).contains(&first), "{first} of the oldest");
    assert_eq!(line.owed().1, 1, "the younger ones are still left out");
    sleep(HOUR).await;
    let then = line.progress.tracker().unsettled();
    assert!(then > first && then <= 60, "{then}");
    sleep(2 * HOUR).await;
    assert_eq!(line.owed(), (60, 0), "the head and all that follows it");
    line.unpark();
    line.assert_complete(0).await;
    assert_eq!(line.orders(|orders| orders.gaps.len()), 0);
}

/// How many histories are generated.
const SEEDS: u64 = 10;

/// The shards of the generated histories: a root that splits, and a child that continues the first of its two.
const LINEAGE: [(&str, Option<&str>); 4] = [("a", None), ("b", Some("a")), ("c", Some("a")), ("d", Some("b"))];

/// Items of which each belongs to one of the two lineages.
const ITEMS: u64 = 7;

/// Writes so many changes of random items to a shard.
fn write(services: &FakeServices, dice: &mut fastrand::Rng, shard: usize, next: &mut u64, count: u64) {
    for _ in 0..count {
        *next += 1;
        let item = HOT + dice.u64(..ITEMS);
        let is_here = match shard {
            0 => true,
            2 => !item.is_multiple_of(2),
            _ => item.is_multiple_of(2),
        };
        if is_here {
            services.script(|script| script.items.extend([(*next, item)]));
            services.write(NEW, LINEAGE[shard].0, *next);
        }
    }
}

/// A minute and more of chance: items are parked and taken again, lanes are left out with their heads and without, iterators expire,
/// the shards close one after the other, and the process is restarted.
async fn generated(seed: u64) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let services = FakeServices::with_shards(&[]);
    let (mut shard, mut next) = (0, 0);
    services.shard(NEW, "a", None, &[], false);
    services.script(|script| {
        (script.records_a_page, script.expires_each) = (dice.usize(1..12), [0, 3, 7][dice.usize(..3)]);
    });
    let most = dice.usize(1..6);
    let mut line = Line::new(services.clone(), most, Setup::default());
    for _ in 0..dice.usize(20..80) {
        match dice.u8(..12) {
            0..3 => line.orders(|orders| orders.parked.extend([HOT + dice.u64(..ITEMS)])),
            3..5 => {
                line.orders(|orders| orders.parked.pop_first());
            }
            5 => line.orders(|orders| orders.leaves_heads_out ^= true),
            6 => crate::progress::Acknowledger::readmit(&*line.progress),
            7 if shard + 1 < LINEAGE.len() => {
                shard += 1;
                services.script(|script| {
                    let shards = &mut script.streams.get_mut(NEW).unwrap().shards;
                    shards.get_mut(LINEAGE[shard].1.unwrap()).unwrap().closed = true;
                });
                services.shard(NEW, LINEAGE[shard].0, LINEAGE[shard].1, &[], false);
            }
            8 if dice.u8(..4) == 0 => {
                line.orders(|orders| orders.parked.extend(HOT..HOT + ITEMS));
                sleep(Duration::from_secs(5)).await;
                let (taken, stored) =
                    (line.orders(|orders| orders.taken.clone()), services.script(|script| script.stored.clone()));
                drop(line);
                services.script(|script| script.reading.clear());
                line = Line::new(services.clone(), most, Setup { stored, ..Setup::default() });
                line.orders(|orders| orders.taken = taken);
            }
            _ => {
                // With both children open the last one is written to, and the first one too until it is closed.
                let to = if shard == 2 && dice.bool() { 1 } else { shard };
                let count = dice.u64(..40);
                write(&services, &mut dice, to, &mut next, count);
            }
        }
        sleep(Duration::from_millis(dice.u64(..3_000))).await;
    }
    line.orders(|orders| (orders.parked, orders.leaves_heads_out) = (BTreeSet::new(), false));
    sleep(2 * MINUTE).await;
    crate::progress::Acknowledger::readmit(&*line.progress);
    line.assert_complete(0).await;
    assert_eq!(line.orders(|orders| orders.gaps.len()), 0);
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_each_items_changes_come_once_and_in_order() {
    for seed in 0..SEEDS {
        let result = tokio::spawn(generated(seed)).await;
        assert!(result.is_ok(), "seed {seed}");
    }
}
