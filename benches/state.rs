//! What the state that a table keeps about its shards costs: `cargo bench --bench state`, on Linux.
//!
//! - Shards: seconds of CPU to take up what an earlier run has stored and the whole listing, and for handovers, as
//!   `StreamReader` and the pipeline make them, without tasks, calls and waits. Beside them their ratio to a bare map that is
//!   told of as many shards, and how they grow: k where time ~ partitions^k. A fixed number of handovers that grows with k = 1
//!   is one whose every handover looks at all shards.
//! - Records: entering pages in the books and settling their events, the fastest of some rounds, and the ratio to removing
//!   as many keys from a bare map behind a lock. The allocator counts, which is part of the time of all of them.
#![allow(clippy::disallowed_methods)] // it measures real time

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use dynamodb_streams_adapter::config::{DeliveryOrder, Event, EventData, EventMode, EventProfile};
use dynamodb_streams_adapter::delivery::parcel::Parcel;
use dynamodb_streams_adapter::pipeline::{Books, Pipeline};
use dynamodb_streams_adapter::progress::ledger::Ledger;
use dynamodb_streams_adapter::readiness::Health;
use dynamodb_streams_adapter::records::{Entry, Page, Position, Record, StreamDetails};
use dynamodb_streams_adapter::streams::budget::Budget;
use dynamodb_streams_adapter::streams::lineage::Lineage;
use dynamodb_streams_adapter::streams::update::{ShardPage, Update};
use dynamodb_streams_adapter::telemetry::TableTelemetry;
use dynamodb_streams_adapter::telemetry::metrics::Metrics;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

const PARTITIONS: [usize; 4] = [100, 1_000, 3_000, 10_000];
/// A shard is followed by another after four hours and stays listed for a day.
const GENERATIONS: usize = 7;
const LISTED_A_PAGE: usize = 100;
const HANDOVERS: usize = 1_000;
/// What takes longer is broken off.
const LIMIT: Duration = Duration::from_secs(60);

const OPEN_SHARDS: [u32; 3] = [1, 100, 5_000];
const RECORDS: usize = 20_000;
const RECORDS_A_PAGE: usize = 1_000;
const ROUNDS: usize = 7;

const ARN: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-01-02T03:04:05.678";

fn main() {
    // Under `cargo test` it only has to run.
    let measures = std::env::args().any(|argument| argument == "--bench");
    let (partitions, open) = if measures { (&PARTITIONS[..], &OPEN_SHARDS[..]) } else { (&[10][..], &[1][..]) };
    shards(partitions);
    records(open, if measures { ROUNDS } else { 1 });
}

type Measure = fn(&[Shard], usize) -> f64;

fn shards(sizes: &[usize]) {
    println!(
        "{GENERATIONS} shards a partition, one of them open: seconds of CPU, ratio to a bare map, growth by partitions^k"
    );
    let measures: [(&str, Measure); 6] = [
        ("bare map: insert, find", |listing, _| bare_map(listing)),
        ("lineage: restore, list", restore_and_list),
        ("lineage: 1,000 handovers", hand_over_in_lineage),
        ("books: restore", |listing, open| restore_books(listing, open).1),
        ("books: 1,000 handovers", hand_over_in_books),
        ("books: a state to store", |listing, open| {
            let (mut ledger, _) = restore_books(listing, open);
            timed(1, |_| ledger.state(UNIX_EPOCH))
        }),
    ];
    let mut bare = Vec::new();
    for (name, measure) in measures {
        let mut last: Option<(usize, f64)> = None;
        for (index, partitions) in sizes.iter().enumerate() {
            let listing = listing(*partitions);
            let rounds = (1_000 / partitions).clamp(1, 10);
            let taken: f64 = (0..rounds).map(|_| measure(&listing, listing.len() - partitions)).sum();
            let seconds = taken / rounds as f64;
            if bare.len() == index {
                bare.push(seconds / listing.len() as f64); // the first measure
            }
            let shards = if name.ends_with("handovers") { HANDOVERS } else { listing.len() };
            let ratio = seconds / (bare[index] * shards as f64);
            print!("{name:<24} {partitions:>6} partitions {seconds:>8.4} s {ratio:>8.1}");
            if let Some((fewer, before)) = last.replace((*partitions, seconds)) {
                print!("  ^{:.2}", (seconds / before).ln() / (*partitions as f64 / fewer as f64).ln());
            }
            println!();
        }
    }
}

/// Seconds for so many steps; infinite if they are too many for the limit.
fn timed<T>(steps: usize, mut step: impl FnMut(usize) -> T) -> f64 {
    let (begun, limit) = (cpu_time(), Instant::now() + LIMIT);
    for number in 0..steps {
        if number % LISTED_A_PAGE == 0 && Instant::now() > limit {
            return f64::INFINITY;
        }
        black_box(step(number));
    }
    (cpu_time() - begun).as_secs_f64()
}

/// What the kernel says of this thread; it counts when another thread's turn could be.
fn cpu_time() -> Duration {
    std::thread::yield_now();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells a thread's time");
    Duration::from_nanos(told.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds"))
}

struct Shard {
    id: Arc<str>,
    parent: Option<Arc<str>>,
}

/// The listing in the order of ids, which is that of creation: the last of it are the open shards.
fn listing(partitions: usize) -> Vec<Shard> {
    (0..GENERATIONS * partitions)
        .map(|number| {
            let parent = number.checked_sub(partitions).map(|parent| shard_id(parent, partitions));
            Shard { id: shard_id(number, partitions), parent }
        })
        .collect()
}

/// As those of AWS: the milliseconds of its creation, and digits that say nothing.
fn shard_id(number: usize, partitions: usize) -> Arc<str> {
    let millis = 1_767_323_045_000 + number * (4 * 60 * 60 * 1000) / partitions;
    format!("shardId-{millis:020}-{:08x}", (number * 2_654_435_761) & 0xFFFF_FFFF).into()
}

fn bare_map(listing: &[Shard]) -> f64 {
    let mut map = BTreeMap::new();
    let inserted = timed(listing.len(), |number| map.insert(listing[number].id.clone(), number));
    inserted + timed(listing.len(), |number| map.get(&listing[number].id).copied())
}

fn restored(listing: &[Shard], open: usize) -> Lineage {
    let mut lineage = Lineage::new();
    listing[..open].iter().for_each(|shard| lineage.restore_read(&shard.id, shard.parent.as_deref()));
    for shard in &listing[open..] {
        lineage.restore_reading(&shard.id, shard.parent.as_deref());
    }
    lineage
}

fn restore_and_list(listing: &[Shard], open: usize) -> f64 {
    let pages: Vec<&[Shard]> = listing.chunks(LISTED_A_PAGE).collect();
    let mut lineage = Lineage::new();
    let restoring = timed(1, |_| lineage = restored(listing, open));
    let listed = timed(pages.len(), |page| {
        pages[page].iter().for_each(|shard| lineage.learn(&shard.id, shard.parent.as_deref()));
        if page + 1 == pages.len() {
            lineage.complete_pass();
            assert!(!lineage.is_in_doubt());
        }
        assert_eq!(open_ready(&mut lineage, None), 0);
    });
    restoring + listed
}

/// What `StreamReader` asks after each answer; it may be hunting for a child.
fn open_ready(lineage: &mut Lineage, hunted: Option<&str>) -> usize {
    let ready = lineage.take_ready().len();
    black_box(hunted.map(|parent| lineage.has_child(parent)));
    black_box(lineage.closed_while_reading().count());
    black_box(lineage.counts());
    ready
}

/// Each open shard is handed over once, in as many batches as that takes: a small table does not become a larger one.
fn batches(open: usize, listing: &[Shard], batch: impl Fn(&[Shard]) -> f64) -> f64 {
    let parents = &listing[open..][..HANDOVERS.min(listing.len() - open)];
    (0..HANDOVERS / parents.len()).map(|_| batch(parents)).sum()
}

fn hand_over_in_lineage(listing: &[Shard], open: usize) -> f64 {
    batches(open, listing, |parents| {
        let mut lineage = restored(listing, open);
        listing.iter().for_each(|shard| lineage.learn(&shard.id, shard.parent.as_deref()));
        lineage.complete_pass();
        timed(parents.len(), |number| {
            let parent = &*parents[number].id;
            lineage.read_to_end(parent);
            assert!(!lineage.has_child(parent));
            assert_eq!(open_ready(&mut lineage, Some(parent)), 0);
            lineage.learn(&shard_id(listing.len() + number, listing.len() - open), Some(parent));
            assert_eq!(open_ready(&mut lineage, Some(parent)), 1);
        })
    })
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("few shards")
}

fn restore_books(listing: &[Shard], open: usize) -> (Ledger, f64) {
    let mut ledger = Ledger::default();
    ledger.open_stream(&Arc::new(StreamDetails::from_arn(ARN)), Position::Start);
    let taken = timed(listing.len(), |index| {
        let Shard { id, parent } = &listing[index];
        let told = match index < open {
            true => ledger.skip_shard(number(index), id, ARN, parent.clone(), UNIX_EPOCH),
            false => ledger.open_shard(number(index), id, ARN, parent.clone(), Position::Start),
        };
        told.expect("a known stream");
    });
    (ledger, taken)
}

fn hand_over_in_books(listing: &[Shard], open: usize) -> f64 {
    batches(open, listing, |parents| {
        let (mut ledger, _) = restore_books(listing, open);
        timed(parents.len(), |index| {
            let (child, parent) = (listing.len() + index, Some(parents[index].id.clone()));
            let id = shard_id(child, listing.len() - open);
            ledger.end_shard(number(open + index)).expect("an open shard");
            ledger.open_shard(number(child), &id, ARN, parent, Position::Start).expect("a known stream");
        })
    })
}

/// A table's books and pipeline.
struct Table {
    runtime: Runtime,
    books: Arc<Books>,
    updates: mpsc::Sender<Update>,
    parcels: mpsc::Receiver<Vec<Parcel>>,
    facts: Arc<StreamDetails>,
}

impl Table {
    fn new(shards: u32) -> Self {
        let telemetry = TableTelemetry::new("Orders", &Metrics::new("bench", "bench").expect("valid names"));
        let health = Health::default().table("Orders");
        let books = Books::new(Ledger::default(), Budget::new(1 << 30), telemetry, health);
        let ((updates, taken), (sender, parcels)) = (mpsc::channel(1), mpsc::channel(1));
        let event = Event {
            profile: EventProfile::Aws,
            data: EventData::DynamodbJson,
            mode: EventMode::Binary,
            overrides: BTreeMap::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.spawn(Pipeline::new(books.clone(), DeliveryOrder::Item, event, sender).run(taken));
        let table = Self { runtime, books, updates, parcels, facts: Arc::new(StreamDetails::from_arn(ARN)) };
        table.tell(Update::StreamOpened { facts: table.facts.clone(), start: Position::Start });
        for shard in 0..shards {
            let (id, facts) = (shard_id(shard as usize, 1), table.facts.clone());
            table.tell(Update::ShardOpened { shard, id, facts, from: Position::Start, parent: None });
        }
        table
    }

    fn tell(&self, update: Update) {
        self.runtime.block_on(self.updates.send(update)).expect("the pipeline runs");
    }

    /// The parcels of a page, and how long it took to enter it.
    fn enter(&mut self, shard: u32, records: &[Record]) -> (Vec<Parcel>, Duration) {
        let entries = records.iter().cloned().map(Entry::Record).collect();
        let page = ShardPage { shard, facts: self.facts.clone(), entries, read_at: UNIX_EPOCH, caught_up: true };
        let begun = Instant::now();
        self.tell(Update::Page(page));
        let parcels = self.runtime.block_on(self.parcels.recv()).expect("the pipeline runs");
        let took = begun.elapsed();
        self.books.budget().charge(parcels.iter().map(|parcel| parcel.cost).sum());
        (parcels, took)
    }
}

fn records(open: &[u32], rounds: usize) {
    let page = page();
    entering(&page, rounds * RECORDS / RECORDS_A_PAGE);
    println!("settling an event: fastest of {rounds} rounds of {RECORDS}, ratio to a bare map behind a lock");
    for shards in open {
        settling(*shards, "in order", &page, rounds, |_| {});
        settling(*shards, "in random order", &page, rounds, |parcels| fastrand::Rng::with_seed(1).shuffle(parcels));
    }
}

fn settle(parcels: &[Parcel]) {
    parcels.iter().for_each(|parcel| parcel.account.settled(parcel.ticket, parcel.cost));
}

/// A page's time bounds how long the books are locked. Another thread that takes the lock all the time waits for about as long,
/// the time to wake up included; but only while a core is free for it: on a busy machine its figure says nothing.
fn entering(page: &[Record], pages: usize) {
    let (mut table, mut entered, mut keys, mut allocations) = (Table::new(1), Vec::new(), Vec::new(), 0);
    for _ in 0..pages {
        let ((parcels, took), counted) = count(|| table.enter(0, page));
        let lanes = || page.iter().map(|record| parcels[0].encoder.lane_key(record)).fold(0, u64::wrapping_add);
        entered.push(took);
        keys.push(time(lanes));
        allocations = counted;
        settle(&parcels);
    }
    let (looks, stop, books) = (AtomicBool::new(false), AtomicBool::new(false), table.books.clone());
    let look = || (!stop.load(Relaxed)).then(|| time(|| drop(books.ledger())));
    let waited = |wait: &Duration| *wait > Duration::from_micros(1);
    let waits: Vec<Duration> = std::thread::scope(|scope| {
        let watch =
            scope.spawn(|| std::iter::from_fn(look).inspect(|_| looks.store(true, Relaxed)).filter(waited).collect());
        for _ in 0..pages {
            looks.store(false, Relaxed);
            while !looks.load(Relaxed) {
                std::thread::yield_now();
            }
            drop(table.enter(0, page)); // nothing is settled, which would lock the books too
        }
        stop.store(true, Relaxed);
        watch.join().expect("it only looks")
    });
    let seen = waits.len();
    let [entered, keys, waited] = [entered, keys, waits].map(|mut times| {
        times.sort_unstable();
        times.get(times.len() / 2).map_or(f64::NAN, |median| median.as_secs_f64() * 1e6)
    });
    println!(
        "entering a page of {RECORDS_A_PAGE} records, median of {pages}: {entered:.0} us, {allocations} allocations"
    );
    println!("  of that its lane keys {keys:.0} us; another thread waited for the books {seen} times, {waited:.0} us");
}

fn settling(shards: u32, order: &str, page: &[Record], rounds: usize, arrange: fn(&mut [Parcel])) {
    let pages = shards.max(number(RECORDS / RECORDS_A_PAGE));
    let (mut best, mut bare, mut allocations) = (Duration::MAX, Duration::MAX, 0);
    let mut table = Table::new(shards);
    for _ in 0..rounds {
        let part = &page[..RECORDS / pages as usize];
        let mut parcels: Vec<Parcel> = (0..pages).flat_map(|page| table.enter(page % shards, part).0).collect();
        arrange(&mut parcels);
        let tickets = Mutex::new(parcels.iter().map(|parcel| parcel.ticket).collect::<BTreeSet<_>>());
        bare = bare.min(time(|| {
            parcels.iter().filter(|parcel| tickets.lock().expect("no panic").remove(&parcel.ticket)).count()
        }));
        let (took, counted) = count(|| time(|| settle(&parcels)));
        (best, allocations) = (best.min(took), counted);
        assert_eq!(table.books.ledger().unsettled(), 0);
    }
    let [nanos, bare] = [best, bare].map(|time| time.as_nanos() as f64 / RECORDS as f64);
    let (ratio, allocations) = (nanos / bare, allocations as f64 / RECORDS as f64);
    println!("  {shards:>5} open shards, {order:<15} {nanos:>5.0} ns, {ratio:>4.1}; {allocations:.2} allocations");
}

/// What `work` returns, and its allocations.
fn count<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let mut result = None;
    let counted = allocation_counter::measure(|| result = Some(work()));
    (result.expect("it was called"), counted.count_total)
}

fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let begun = Instant::now();
    black_box(work());
    begun.elapsed()
}

/// A full page of small changes.
fn page() -> Vec<Record> {
    let record = |number| {
        format!(
            r#"{{"dynamodb":{{"ApproximateCreationDateTime":1767323045,"Keys":{{"line":{{"N":"7"}},"orderId":{{"S":"order-{number}"}}}},"SequenceNumber":"{number:021}"}},"eventID":"{number:032x}","eventName":"MODIFY"}}"#
        )
    };
    let records: Vec<String> = (0..RECORDS_A_PAGE).map(record).collect();
    let page = Page::parse(Bytes::from(format!(r#"{{"Records":[{}]}}"#, records.join(",")))).expect("a page");
    page.records.into_iter().map(|record| record.expect("it can be decoded")).collect()
}
