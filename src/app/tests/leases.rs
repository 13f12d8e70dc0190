//! Two processes and one table: one reads it at a time, and what it leaves the other one goes on with.

mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};

use self::processes::{LEASE, Post, Process, World, in_batches};
use super::harness::{FakeServices, NEW, Setup};
use crate::clock::{self, SimulatedClock};
use crate::config::{DeliveryOrder, OnDataLoss, StartPosition};
use crate::progress::Acknowledger as _;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const CUSTOMERS: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Customers/stream/2026-03-03T00:00:00.000";

/// Ten items whose changes are written, one after the other.
struct Writer {
    services: Arc<FakeServices>,
    stream: &'static str,
    written: u64,
}

impl Writer {
    fn new() -> Self {
        let services = FakeServices::with_shards(&["a", "b"]);
        services.script(|script| (script.sink_takes, script.records_a_page) = (Duration::from_millis(20), 50));
        Self { services, stream: NEW, written: 0 }
    }

    fn write(&mut self, changes: u64) {
        for _ in 0..changes {
            self.written += 1;
            let (number, item) = (self.written, self.written % 10);
            self.services.script(|script| script.items.insert(number, item));
            self.services.write(self.stream, if item < 5 { "a" } else { "b" }, number);
        }
    }

    /// Writes so many changes a second for so long.
    async fn write_for(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / 100 {
            self.write(5);
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn table(&self) -> [(&'static str, Arc<FakeServices>); 1] {
        [("Orders", self.services.clone())]
    }

    /// Waits until the sink has taken everything; how often something was taken again.
    async fn assert_all_taken(&self, world: &World, limit: Duration) -> usize {
        let begun = Instant::now();
        loop {
            let taken = world.taken();
            let distinct: BTreeSet<u64> = taken.iter().map(|id| id.parse().unwrap()).collect();
            if distinct.len() as u64 == self.written {
                assert_in_order(&world.posts());
                return taken.len() - distinct.len();
            }
            let lost: Vec<u64> = (1..=self.written).filter(|number| !distinct.contains(number)).take(10).collect();
            assert!(begun.elapsed() < limit, "never taken: {lost:?} ...");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Whoever posts has the lease at that moment, and during each tenure every item's changes are posted in order.
fn assert_in_order(posts: &[Post]) {
    let mut newest: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for Post { by, ids, owner, epoch, .. } in posts {
        assert_eq!(owner.as_deref(), Some(*by), "{ids:?} were posted by one who has no lease");
        for number in ids.iter().map(|id| id.parse::<u64>().unwrap()) {
            let newest = newest.entry((*epoch, number % 10)).or_default();
            assert!(*newest <= number, "{by} posted {number} behind {newest}");
            *newest = number;
        }
    }
}

fn simulated_clock() -> SimulatedClock {
    clock::start_at(SystemTime::now())
}

/// Delivery as it may be configured.
fn setups() -> [Setup; 3] {
    let mut batch = Setup::default();
    in_batches(&mut batch);
    [Setup::default(), batch, Setup { order: DeliveryOrder::Shard, ..Setup::default() }]
}

/// Two processes, of which the first one reads.
async fn two(world: &Arc<World>, writer: &Writer, setup: &Setup) -> (Process, Process) {
    let first = world.start("first", &writer.table(), setup);
    sleep(5 * SECOND).await;
    assert_eq!(world.owner("Orders").as_deref(), Some("first"));
    let second = world.start("second", &writer.table(), setup);
    sleep(5 * SECOND).await;
    (first, second)
}

#[tokio::test(start_paused = true)]
async fn a_process_that_waits_for_another_ones_table_is_ready_and_shows_nothing_of_it() {
    let (_clock, world, mut writer) = (simulated_clock(), Arc::new(World::default()), Writer::new());
    let (first, second) = two(&world, &writer, &Setup::default()).await;
    writer.write(100);
    sleep(MINUTE).await;
    assert_eq!((first.not_ready(), second.not_ready()), (None, None));
    assert!(world.posts().iter().all(|post| post.by == "first"));
    let (held, waits) = (&first.progress[0], &second.progress[0]);
    let view = held.ownership().view(Instant::now()).unwrap();
    assert!(view.owner == "first" && view.ends_in.is_some_and(|it| it > LEASE / 2) && view.waits_for.is_none());
    let view = waits.ownership().view(Instant::now()).unwrap();
    assert_eq!((view.ends_in, view.waits_for.as_deref()), (None, Some("first")));
    assert_eq!(waits.health().awaited().as_deref(), Some("the lease of first"));
    assert_eq!(waits.tracker().lag(clock::now()), Duration::ZERO);
    assert!(second.health.not_live().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_orderly_stop_hands_over_within_a_second_and_nothing_is_sent_twice() {
    for setup in setups() {
        let (_clock, world, mut writer) = (simulated_clock(), Arc::new(World::default()), Writer::new());
        let (mut first, second) = two(&world, &writer, &setup).await;
        writer.write_for(10 * SECOND).await;
        writer.write(500);
        sleep(Duration::from_millis(700)).await;
        let took = first.stop().await;
        let stopped = Instant::now();
        assert!(took < SECOND, "the orderly stop took {took:?}");
        while world.owner("Orders").as_deref() != Some("second") {
            sleep(Duration::from_millis(10)).await;
            assert!(stopped.elapsed() < SECOND, "nobody takes over");
        }
        writer.write_for(10 * SECOND).await;
        assert_eq!(writer.assert_all_taken(&world, MINUTE).await, 0, "sent twice");
        assert_eq!(second.not_ready(), None);
        assert!(world.posts().iter().any(|post| post.by == "first"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_stopped_while_it_claims_keeps_nobody_waiting() {
    let (_clock, world, mut writer) = (simulated_clock(), Arc::new(World::default()), Writer::new());
    let (mut first, mut second) = two(&world, &writer, &Setup::default()).await;
    let third = world.start("third", &writer.table(), &Setup::default());
    second.lose_claim();
    third.cut_off(true);
    first.stop().await;
    sleep(SECOND).await;
    assert_eq!(world.owner("Orders").as_deref(), Some("second"));
    let took = second.stop().await;
    assert!(took < SECOND, "{took:?}");
    assert_eq!(world.owner("Orders"), None, "others wait for a lease of nobody");
    third.cut_off(false);
    writer.write(10);
    assert_eq!(writer.assert_all_taken(&world, LEASE / 2).await, 0, "sent twice");
}

/// Its table of positions refuses a write: a throttle, or a moment without a network.
#[tokio::test(start_paused = true)]
async fn an_orderly_stop_repeats_nothing_although_its_last_save_fails_at_first() {
    let (_clock, world, mut writer) = (simulated_clock(), Arc::new(World::default()), Writer::new());
    let (mut first, _second) = two(&world, &writer, &Setup::default()).await;
    first.refuse_saves(u32::MAX);
    writer.write(50);
    sleep(2 * SECOND).await;
    first.refuse_saves(1);
    let took = first.stop().await;
    assert!(took < SECOND, "{took:?}");
    sleep(5 * SECOND).await;
    assert_eq!(writer.assert_all_taken(&world, MINUTE).await, 0, "sent twice");
}

/// Requests take nearly as long as the lease, and the stop may come at any moment of it.
#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_while_the_last_answers_are_waited_for() {
    for offset in [0, 3, 6, 9] {
        let (_clock, world, mut writer) = (simulated_clock(), Arc::new(World::default()), Writer::new());
        writer.services.script(|script| script.sink_takes = 22 * SECOND);
        let (mut first, _second) = two(&world, &writer, &Setup::default()).await;
        sleep(offset * SECOND).await;
        writer.write(10);
        while world.posts().is_empty() {
            sleep(Duration::from_millis(100)).await;
        }
        let took = first.stop().await;
        assert!(took > 20 * SECOND, "{took:?}");
        writer.write(10);
        assert_eq!(writer.assert_all_taken(&world, 2 * MINUTE).await, 0, "sent twice");
    }
}

/// A rolling update that goes on and on: each process is ready all the time, and each change comes once.
#[tokio::test(start_paused = true)]
async fn a_row_of_rolling_updates_repeats_nothing() {
    let (_clock, world, mut writer) = (simulated_clock(), Arc::new(World::default()), Writer::new());
    let names = ["v1", "v2", "v3", "v4", "v5"];
    let mut running = world.start(names[0], &writer.table(), &Setup::default());
    for name in &names[1..] {
        writer.write_for(3 * SECOND).await;
        let next = world.start(name, &writer.table(), &Setup::default());
        writer.write_for(2 * SECOND).await;
        assert_eq!(next.not_ready(), None, "an update would wait for it for ever");
        running.stop().await;
        for _ in 0..20 {
            writer.write_for(Duration::from_millis(100)).await;
            assert_eq!(next.not_ready(), None, "{name} takes over");
        }
        running = next;
    }
    assert_eq!(writer.assert_all_taken(&world, MINUTE).await, 0, "sent twice");
}

/// Its network to the store is gone, that to the sink is not.
#[tokio::test(start_paused = true)]
async fn a_process_that_is_cut_off_from_the_store_ends_before_another_one_begins() {
    for setup in setups() {
        let (_clock, world, mut writer) = (simulated_clock(), Arc::new(World::default()), Writer::new());
        let (first, second) = two(&world, &writer, &setup).await;
        writer.write_for(10 * SECOND).await;
        first.cut_off(true);
        writer.write_for(2 * LEASE).await;
        assert_eq!(world.owner("Orders").as_deref(), Some("second"));
        let last = world.posts().iter().rposition(|post| post.by == "first").unwrap();
        let begun = world.posts()[last + 1..].iter().find(|post| post.by == "second").map(|post| post.at);
        let pause = begun.expect("the second one goes on") - world.posts()[last].at;
        assert!(pause < LEASE / 2, "nobody delivered for {pause:?}");
        writer.assert_all_taken(&world, MINUTE).await;
        assert!(first.not_ready().is_some_and(|why| why.contains("the store is away")), "{:?}", first.not_ready());
        assert_eq!(second.not_ready(), None);
        // Back again, it waits.
        first.cut_off(false);
        writer.write_for(10 * SECOND).await;
        writer.assert_all_taken(&world, MINUTE).await;
        assert_eq!(first.not_ready(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_store_is_away_for_minutes_delivery_ends_and_goes_on_by_itself() {
    let (_clock, world, mut writer) = (simulated_clock(), Arc::new(World::default()), Writer::new());
    let (first, second) = two(&world, &writer, &Setup::default()).await;
    writer.write_for(5 * SECOND).await;
    let away = Instant::now();
    [&first, &second].iter().for_each(|process| process.cut_off(true));
    writer.write_for(5 * MINUTE).await;
    let late: Vec<Post> = world.posts().into_iter().filter(|post| post.at > away + LEASE).collect();
    assert!(late.is_empty(), "sent after the lease had ended: {:?}", late[0]);
    assert!(first.not_ready().is_some() && second.not_ready().is_some());
    assert!(first.health.not_live().is_none(), "a restart helps nobody");
    [&first, &second].iter().for_each(|process| process.cut_off(false));
    let back = Instant::now();
    writer.assert_all_taken(&world, 2 * MINUTE).await;
    let pause = world.posts().iter().find(|post| post.at > back).unwrap().at - back;
    assert!(pause < 10 * SECOND, "it took {pause:?} to go on");
    assert_eq!((first.not_ready(), second.not_ready()), (None, None));
}

/// An operator forced it, or a clock went wrong: the store says so.
#[tokio::test(start_paused = true)]
async fn an_owner_whose_table_was_taken_stops_at_its_next_save_and_stores_nothing() {
    let (_clock, world, mut writer) = (simulated_clock(), Arc::new(World::default()), Writer::new());
    let (first, _second) = two(&world, &writer, &Setup::default()).await;
    writer.write_for(5 * SECOND).await;
    world.take_over("Orders");
    let (taken, stored) = (Instant::now(), world.stored("Orders"));
    writer.write_for(5 * SECOND).await;
    let last = world.posts().last().unwrap().at;
    assert!(last < taken + SECOND, "it went on for {:?}", last - taken);
    assert_eq!(world.stored("Orders"), stored, "a deposed owner has moved positions");
    let progress = &first.progress[0];
    let tracker = progress.tracker();
    assert_eq!(
        (progress.buffer().used(), tracker.unsettled(), tracker.view()),
        (0, 0, Vec::new()),
        "something is left"
    );
    assert_eq!(progress.telemetry().metrics().in_flight.get(), 0);
}

/// What is parked here is parked there, and comes once the sink takes it.
#[tokio::test(start_paused = true)]
async fn an_item_that_is_parked_during_a_takeover_comes_in_its_order_and_holds_nobody_up() {
    let (_clock, world, mut writer) = (simulated_clock(), Arc::new(World::default()), Writer::new());
    let refused: BTreeSet<String> =
        (1..10_000).filter(|number| number % 10 == 3).map(|it: u64| it.to_string()).collect();
    writer.services.script(|script| script.refused = refused);
    let (first, second) = two(&world, &writer, &Setup::default()).await;
    writer.write_for(10 * SECOND).await;
    assert_eq!(first.progress[0].telemetry().metrics().parked.get(), 1);
    first.cut_off(true);
    writer.write_for(MINUTE).await;
    assert_eq!(first.progress[0].telemetry().metrics().parked.get(), 0, "the item is another process's");
    assert_eq!(second.progress[0].telemetry().metrics().parked.get(), 1);
    sleep(2 * SECOND).await;
    let taken: BTreeSet<String> = world.taken().into_iter().collect();
    assert_eq!(taken.len() as u64, writer.written - writer.written / 10, "others wait for it");
    writer.services.script(|script| script.refused.clear());
    writer.assert_all_taken(&world, 2 * MINUTE).await;
}

/// Each process has its own table, and waits for the other one's.
#[tokio::test(start_paused = true)]
async fn two_tables_may_have_two_owners_and_the_loss_of_one_leaves_the_other_alone() {
    let (_clock, world, mut writer) = (simulated_clock(), Arc::new(World::default()), Writer::new());
    let customers = FakeServices::with_shards(&[]);
    customers.shard(CUSTOMERS, "a", None, &[], false);
    customers.shard(CUSTOMERS, "b", None, &[], false);
    let both = [("Orders", writer.services.clone()), ("Customers", customers.clone())];
    let setup = Setup::default();
    let first = world.start("first", &both[..1], &setup);
    sleep(5 * SECOND).await;
    let second = world.start("second", &both, &setup);
    sleep(5 * SECOND).await;
    let third = world.start("third", &both, &setup);
    sleep(5 * SECOND).await;
    let owners = || (world.owner("Orders").unwrap(), world.owner("Customers").unwrap());
    assert_eq!(owners(), ("first".to_owned(), "second".to_owned()));
    writer.write_for(5 * SECOND).await;
    for number in 100_001..100_101 {
        customers.write(CUSTOMERS, "a", number);
    }
    sleep(2 * SECOND).await;
    drop(first);
    writer.write_for(2 * LEASE).await;
    world.take_over("Customers");
    writer.write_for(10 * SECOND).await;
    sleep(2 * SECOND).await;
    assert_ne!(owners().0, "first");
    let customers = world.taken().into_iter().filter(|id| id.len() == 6).count();
    assert_eq!(customers, 100);
    let orders: BTreeSet<String> = world.taken().into_iter().filter(|id| id.len() < 6).collect();
    assert_eq!(orders.len() as u64, writer.written, "the loss of one table holds up the other");
    assert_eq!(third.not_ready(), None);
    drop(second);
}

/// `START_POSITION=latest` means: from when the first one began. Who was kept waiting must not begin later than it would have alone.
#[tokio::test(start_paused = true)]
async fn who_waited_for_an_owner_that_stored_nothing_begins_where_it_would_have_begun_alone() {
    let (_clock, world, mut writer) = (simulated_clock(), Arc::new(World::default()), Writer::new());
    let setup = Setup { start: StartPosition::Latest, ..Setup::default() };
    writer.services.script(|script| script.denied.extend(["DescribeStream"]));
    let first = world.start("first", &writer.table(), &setup);
    sleep(SECOND).await;
    let second = world.start("second", &writer.table(), &setup);
    sleep(10 * SECOND).await;
    assert_eq!(world.stored("Orders").streams, []);
    writer.write(20);
    drop(first);
    writer.services.script(|script| script.denied.clear());
    writer.assert_all_taken(&world, 2 * LEASE).await;
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn the_start_that_the_first_owner_stored_is_everybodys() {
    let (_clock, world, mut writer) = (simulated_clock(), Arc::new(World::default()), Writer::new());
    let setup = Setup { start: StartPosition::Latest, ..Setup::default() };
    let first = world.start("first", &writer.table(), &setup);
    sleep(10 * SECOND).await;
    drop(first);
    writer.write(20);
    sleep(MINUTE).await;
    let second = world.start("second", &writer.table(), &setup);
    writer.assert_all_taken(&world, 2 * LEASE).await;
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a_stop_over_a_loss_holds_for_every_process_until_one_may_continue() {
    let (_clock, world, mut writer) = (simulated_clock(), Arc::new(World::default()), Writer::new());
    let setup = Setup { on_data_loss: OnDataLoss::Stop, ..Setup::default() };
    let (mut first, mut second) = two(&world, &writer, &setup).await;
    writer.write_for(5 * SECOND).await;
    sleep(5 * SECOND).await;
    let delivered = world.taken().len();
    writer.services.script(|script| script.gone.extend(["a", "b"]));
    sleep(10 * MINUTE).await;
    assert_eq!(world.owner("Orders").as_deref(), Some("first"), "who is stopped keeps the table");
    assert!(first.not_ready().is_some_and(|why| why.contains("ON_DATA_LOSS=continue")), "{:?}", first.not_ready());
    assert_eq!(second.not_ready(), None);
    first.stop().await;
    writer.services.script(|script| script.gone.clear());
    writer.write_for(10 * SECOND).await;
    sleep(MINUTE).await;
    assert_eq!(world.owner("Orders").as_deref(), Some("second"));
    let taken: Vec<String> = world.taken().into_iter().filter(|id| !id.starts_with("gap-")).collect();
    assert_eq!(taken.len(), delivered, "the next process reads on");
    assert!(second.not_ready().is_some_and(|why| why.contains("ON_DATA_LOSS=continue")), "{:?}", second.not_ready());
    let third = world.start("third", &writer.table(), &Setup::default());
    second.stop().await;
    sleep(MINUTE).await;
    let taken: BTreeSet<String> = world.taken().into_iter().filter(|id| !id.starts_with("gap-")).collect();
    assert_eq!(taken.len() as u64, writer.written);
    assert_eq!((world.stored("Orders").stopped, third.not_ready()), (None, None));
}

/// What was on its way when reading stopped is settled later, and stored: then the store says that the table is another one's.
#[tokio::test(start_paused = true)]
async fn a_stopped_table_whose_owner_is_deposed_is_waited_for_as_any_other() {
    let (_clock, world, mut writer) = (simulated_clock(), Arc::new(World::default()), Writer::new());
    let setup = Setup { on_data_loss: OnDataLoss::Stop, ..Setup::default() };
    let mut first = world.start("first", &writer.table(), &setup);
    sleep(5 * SECOND).await;
    writer.write_for(5 * SECOND).await;
    writer.services.script(|script| script.gone.extend(["a", "b"]));
    sleep(10 * MINUTE).await;
    assert!(first.not_ready().is_some_and(|why| why.contains("ON_DATA_LOSS=continue")), "{:?}", first.not_ready());
    world.take_over("Orders");
    first.progress[0].change(|tracker| tracker.set_stopped(None));
    sleep(SECOND).await;
    assert!(first.progress[0].ownership().is_waiting(), "it has learned that the table is another one's");
    first.stop().await;
}

/// Whoever waited is ready; when the table is its own and what is stored cannot be read, nobody reads the table.
#[tokio::test(start_paused = true)]
async fn an_owner_that_cannot_read_what_is_stored_is_not_ready_and_says_why() {
    let (_clock, world, mut writer) = (simulated_clock(), Arc::new(World::default()), Writer::new());
    let (mut first, second) = two(&world, &writer, &Setup::default()).await;
    writer.write(10);
    sleep(SECOND).await;
    second.garble(true);
    first.stop().await;
    sleep(10 * SECOND).await;
    assert_eq!(world.owner("Orders").as_deref(), Some("second"));
    let why = second.not_ready().expect("nobody reads the table");
    assert!(why.contains("waiting for its stored positions (an entry is strange)"), "{why}");
    second.garble(false);
    writer.write(10);
    assert_eq!(writer.assert_all_taken(&world, MINUTE).await, 0, "sent twice");
    assert_eq!(second.not_ready(), None);
}

/// Both find nothing stored, and one of them stores where the table begins.
#[tokio::test(start_paused = true)]
async fn two_first_starts_at_once_have_one_start_and_one_owner() {
    let (_clock, world, mut writer) = (simulated_clock(), Arc::new(World::default()), Writer::new());
    let setup = Setup { start: StartPosition::Latest, ..Setup::default() };
    writer.write(50);
    let old = writer.written;
    let [one, other] = ["one", "other"].map(|name| world.start(name, &writer.table(), &setup));
    sleep(5 * SECOND).await;
    writer.write_for(5 * SECOND).await;
    sleep(5 * SECOND).await;
    let start = world.stored("Orders").streams[0].start;
    let (owner, waiting) = if world.owner("Orders").as_deref() == Some("one") { (one, other) } else { (other, one) };
    drop(owner);
    writer.write_for(2 * LEASE).await;
    sleep(5 * SECOND).await;
    assert_eq!(world.stored("Orders").streams[0].start, start, "the second one has moved the start");
    let taken: BTreeSet<u64> = world.taken().iter().map(|id| id.parse().unwrap()).collect();
    assert_eq!(taken, (old + 1..=writer.written).collect::<BTreeSet<u64>>());
    assert_in_order(&world.posts());
    drop(waiting);
}

/// Both stood still for longer than the lease: when they go on, the owner does not know that it was one for too long.
#[tokio::test(start_paused = true)]
async fn after_a_pause_longer_than_the_lease_one_process_goes_on() {
    for setup in setups() {
        let (_clock, world, mut writer) = (simulated_clock(), Arc::new(World::default()), Writer::new());
        writer.services.script(|script| script.sink_takes = SECOND / 2);
        let (first, second) = two(&world, &writer, &setup).await;
        for _ in 0..5 {
            writer.write(30);
            sleep(3 * SECOND).await;
            tokio::time::advance(2 * LEASE).await;
            writer.write(30);
            sleep(5 * SECOND).await;
        }
        writer.assert_all_taken(&world, 2 * MINUTE).await;
        assert_eq!((first.health.not_live(), second.health.not_live()), (None, None));
    }
}
