//! What the state that a table keeps about its shards costs: `cargo bench --bench state`, on Linux.
//!
//! - Shards: seconds of CPU to take up what an earlier run has stored and the whole listing, and for handovers, as
//!   `StreamReader` and the pipeline make them, without tasks, calls and waits. Beside them their ratio to a bare map that is
//!   told of as many shards, and how they grow: k where time ~ partitions^k. A fixed number of handovers that grows with k = 1
//!   is one whose every handover looks at all shards.
//! - Records: entering pages in the tracker and settling their events, the fastest of some rounds, and the ratio to removing
//!   as many keys from a bare map behind a lock. The allocator counts, which is part of the time of all of them.
//! - Lanes: bytes that a lane takes besides its event where each event is of an item of its own, and the longest single step.
#![allow(clippy::disallowed_methods)] // it measures real time

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use dynamodb_streams_adapter::checkpoint::{StoredShard, StoredStream, StoredTable};
use dynamodb_streams_adapter::config::{Event, EventData, EventMode, EventProfile};
use dynamodb_streams_adapter::delivery::handover::Handover;
use dynamodb_streams_adapter::delivery::lanes::{Kinds, LaneItem, Lanes, RequestLimits};
use dynamodb_streams_adapter::delivery::pending_event::BoxedEvent;
use dynamodb_streams_adapter::delivery::retry::RetryPause;
use dynamodb_streams_adapter::pipeline::Pipeline;
use dynamodb_streams_adapter::progress::TableProgress;
use dynamodb_streams_adapter::progress::buffer::Buffer;
use dynamodb_streams_adapter::progress::page_entry::PageEntry;
use dynamodb_streams_adapter::progress::table_tracker::{PageRead, ShardHandle, StreamHandle, TableTracker};
use dynamodb_streams_adapter::readiness::Health;
use dynamodb_streams_adapter::records::{Entry, LaneId, Page, Position, Record, StreamDetails};
use dynamodb_streams_adapter::streams::ShardPage;
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
const DISTINCT_ITEMS: u64 = 1_000_000;

const ARN: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-01-02T03:04:05.678";

fn main() {
    // Under `cargo test` it only has to run.
    let measures = std::env::args().any(|argument| argument == "--bench");
    let (partitions, open) = if measures { (&PARTITIONS[..], &OPEN_SHARDS[..]) } else { (&[10][..], &[1][..]) };
    shards(partitions);
    records(open, if measures { ROUNDS } else { 1 });
    lanes(if measures { DISTINCT_ITEMS } else { 1_000 });
}

type Measure = fn(&[Shard], usize) -> f64;

fn shards(sizes: &[usize]) {
    println!(
        "{GENERATIONS} shards a partition, one of them open: seconds of CPU, ratio to a bare map, growth by partitions^k"
    );
    let measures: [(&str, Measure); 5] = [
        ("bare map: insert, find", |listing, _| bare_map(listing)),
        ("restore, list, open", |listing, open| restore_and_list(listing, open).1),
        ("1,000 handovers", hand_over),
        ("all changes to store", |listing, open| {
            let (mut tracker, _, open) = restored(listing, open);
            settle_one_each(&mut tracker, &open, page()[0].lane_id());
            timed(1, |_| tracker.take_changes())
        }),
        ("one change to store", |listing, open| {
            let (mut tracker, _, open) = restored(listing, open);
            let lane = page()[0].lane_id();
            timed(1, |_| {
                settle_one_each(&mut tracker, &open[..1], lane);
                tracker.take_changes()
            })
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

/// What an earlier run has stored: all but the open shards are finished.
fn stored(listing: &[Shard], open: usize) -> StoredTable {
    let shards = listing.iter().enumerate().map(|(number, shard)| {
        let parent = shard.parent.as_deref().map(str::to_owned);
        let state = match number < open {
            true => StoredShard::Finished { at: UNIX_EPOCH, parent },
            false => StoredShard::at(Position::Start, UNIX_EPOCH, parent),
        };
        (shard.id.to_string(), state)
    });
    let stream = StoredStream { arn: ARN.to_owned(), start: Position::Start, done: false, shards: shards.collect() };
    StoredTable { streams: vec![stream], stopped: None }
}

type Restored = (TableTracker, StreamHandle, Vec<ShardHandle>);

fn restored(listing: &[Shard], open: usize) -> Restored {
    restore_and_list(listing, open).0
}

/// Takes up what is stored, and the whole listing page by page, as a stream's reader does.
fn restore_and_list(listing: &[Shard], open: usize) -> (Restored, f64) {
    let (stored, details) = (stored(listing, open), Arc::new(StreamDetails::from_arn(ARN)));
    let (mut tracker, mut opened, mut stream) = (TableTracker::default(), Vec::new(), None);
    let restoring = timed(1, |_| {
        tracker = TableTracker::restored(stored.clone(), false);
        let handle = tracker.open_stream(details.clone(), Position::Start, true, UNIX_EPOCH);
        opened = tracker.open_ready(handle).into_iter().map(|shard| shard.handle).collect();
        stream = Some(handle);
    });
    let stream = stream.expect("it was opened");
    assert_eq!(opened.len(), listing.len() - open);
    let pages: Vec<&[Shard]> = listing.chunks(LISTED_A_PAGE).collect();
    let listed = timed(pages.len(), |page| {
        pages[page].iter().for_each(|shard| tracker.learn(stream, &shard.id, shard.parent.as_deref()));
        if page + 1 == pages.len() {
            tracker.complete_pass(stream);
            assert_eq!(tracker.take_unlisted_parents(stream, UNIX_EPOCH), []);
        }
        assert_eq!(tracker.open_ready(stream).len(), 0);
    });
    ((tracker, stream, opened), restoring + listed)
}

/// Each open shard is handed over once, in as many batches as that takes: a small table does not become a larger one.
fn hand_over(listing: &[Shard], open: usize) -> f64 {
    let parents = HANDOVERS.min(listing.len() - open);
    let batch = || {
        let (mut tracker, stream, handles) = restored(listing, open);
        timed(parents, |number| {
            let (handle, parent) = (handles[number], &*listing[open + number].id);
            PageEntry::of(&mut tracker, handle).read(PageRead {
                asked_at: UNIX_EPOCH,
                is_caught_up: true,
                is_last: true,
            });
            tracker.read_to_end(handle, tokio::time::Instant::now());
            assert!(!tracker.has_child(stream, parent));
            assert_eq!(tracker.open_ready(stream).len(), 0);
            tracker.learn(stream, &shard_id(listing.len() + number, listing.len() - open), Some(parent));
            assert_eq!(tracker.open_ready(stream).len(), 1);
            black_box((tracker.take_closed(stream), tracker.counts(stream), tracker.is_drained(stream)));
        })
    };
    (0..HANDOVERS / parents).map(|_| batch()).sum()
}

/// A record of each of these shards is read and settled.
fn settle_one_each(tracker: &mut TableTracker, shards: &[ShardHandle], lane: LaneId) {
    for shard in shards {
        let sequence = "300000000000000499659".parse().expect("digits");
        let owed = PageEntry::of(tracker, *shard).record(sequence, lane, Some(UNIX_EPOCH)).expect("it was never read");
        tracker.settle(&owed.token.expect("it may be settled"));
    }
}

/// A table's tracker and pipeline.
struct Table {
    runtime: Runtime,
    progress: Arc<TableProgress>,
    pages: mpsc::Sender<ShardPage>,
    events: mpsc::Receiver<Handover>,
    details: Arc<StreamDetails>,
    shards: Vec<ShardHandle>,
    /// The next record's number: those of a shard ascend.
    next: u64,
}

impl Table {
    fn new(shards: u32) -> Self {
        let telemetry = TableTelemetry::new("Orders", &Metrics::new("bench", "bench").expect("valid names"));
        let health = Health::default().table("Orders");
        let progress = TableProgress::new(false, Buffer::new(1 << 30), telemetry, health);
        let ((pages, taken), (sender, events)) = (mpsc::channel(1), mpsc::channel(1));
        let event = Event {
            profile: EventProfile::Aws,
            data: EventData::DynamodbJson,
            mode: EventMode::Binary,
            overrides: BTreeMap::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.spawn(Pipeline::new(progress.clone(), event, sender, Arc::default()).run(taken));
        let details = Arc::new(StreamDetails::from_arn(ARN));
        let opened = progress.change(|tracker| {
            let stream = tracker.open_stream(details.clone(), Position::Start, false, UNIX_EPOCH);
            (0..shards).for_each(|shard| tracker.learn(stream, &shard_id(shard as usize, 1), None));
            tracker.open_ready(stream)
        });
        let shards = opened.into_iter().map(|shard| shard.handle).collect();
        Self { runtime, progress, pages, events, details, shards, next: 0 }
    }

    /// A page of so many records.
    fn page(&mut self, records: usize) -> Vec<Entry> {
        let page = page_from(self.next, records);
        self.next += records as u64;
        page.into_iter().map(Entry::Record).collect()
    }

    /// The events of a page, and how long it took to enter it.
    fn enter(&mut self, shard: u32, entries: Vec<Entry>) -> (Vec<BoxedEvent>, Duration) {
        let (shard, details) = (self.shards[shard as usize], self.details.clone());
        let (asked_at, read_at, is_caught_up, is_last) = (UNIX_EPOCH, UNIX_EPOCH, true, false);
        let page = ShardPage { shard, details, entries, asked_at, read_at, is_caught_up, is_last, pass: None };
        let begun = Instant::now();
        self.runtime.block_on(self.pages.send(page)).expect("the pipeline runs");
        let handed_on = self.runtime.block_on(self.events.recv()).expect("the pipeline runs");
        let took = begun.elapsed();
        let Handover::Events(events) = handed_on else { unreachable!("a pipeline hands on events") };
        self.progress.buffer().charge(events.iter().map(|event| event.cost).sum());
        (events, took)
    }
}

fn records(open: &[u32], rounds: usize) {
    entering(rounds * RECORDS / RECORDS_A_PAGE);
    println!("settling an event: fastest of {rounds} rounds of {RECORDS}, ratio to a bare map behind a lock");
    for shards in open {
        settling(*shards, "in order", rounds, |_| {});
        settling(*shards, "in random order", rounds, |events| fastrand::Rng::with_seed(1).shuffle(events));
    }
}

fn settle(events: Vec<BoxedEvent>) {
    events.into_iter().for_each(|event| event.acknowledger.acknowledge(event.token, event.cost));
}

/// A page's time bounds how long the tracker is locked; the names of lanes are made before. Another thread that takes the lock all
/// the time waits for about as long as it is held, the time to wake up included; but only while a core is free for it: on a busy
/// machine its figure says nothing.
fn entering(pages: usize) {
    let (mut table, mut entered, mut lanes, mut allocations) = (Table::new(1), Vec::new(), Vec::new(), 0);
    let page = page();
    for _ in 0..pages {
        let entries = table.page(RECORDS_A_PAGE);
        let ((events, took), counted) = count(|| table.enter(0, entries));
        entered.push(took);
        lanes.push(time(|| page.iter().map(Record::lane_id).max()));
        allocations = counted;
        settle(events);
    }
    let (looks, stop, progress) = (AtomicBool::new(false), AtomicBool::new(false), table.progress.clone());
    let look = || (!stop.load(Relaxed)).then(|| time(|| drop(progress.tracker())));
    let waited = |wait: &Duration| *wait > Duration::from_micros(1);
    let waits: Vec<Duration> = std::thread::scope(|scope| {
        let watch =
            scope.spawn(|| std::iter::from_fn(look).inspect(|_| looks.store(true, Relaxed)).filter(waited).collect());
        for _ in 0..pages {
            looks.store(false, Relaxed);
            while !looks.load(Relaxed) {
                std::thread::yield_now();
            }
            let entries = table.page(RECORDS_A_PAGE);
            drop(table.enter(0, entries)); // nothing is settled, which would take the lock too
        }
        stop.store(true, Relaxed);
        watch.join().expect("it only looks")
    });
    let seen = waits.len();
    let [entered, lanes, waited] = [entered, lanes, waits].map(|mut times| {
        times.sort_unstable();
        times.get(times.len() / 2).map_or(f64::NAN, |median| median.as_secs_f64() * 1e6)
    });
    println!(
        "entering a page of {RECORDS_A_PAGE} records, median of {pages}: {entered:.0} us, {allocations} allocations"
    );
    println!("  of that the names of lanes {lanes:.0} us; another thread waited {seen} times, {waited:.0} us");
}

fn settling(shards: u32, order: &str, rounds: usize, arrange: fn(&mut [BoxedEvent])) {
    let pages = shards.max(u32::try_from(RECORDS / RECORDS_A_PAGE).expect("few pages"));
    let (mut best, mut bare, mut allocations) = (Duration::MAX, Duration::MAX, 0);
    let mut table = Table::new(shards);
    for _ in 0..rounds {
        let records = RECORDS / pages as usize;
        let mut enter = |page| {
            let entries = table.page(records);
            table.enter(page % shards, entries).0
        };
        let mut events: Vec<BoxedEvent> = (0..pages).flat_map(&mut enter).collect();
        arrange(&mut events);
        let keys: Vec<u64> = events.iter().map(|event| event.lane).collect();
        let map = Mutex::new(keys.iter().copied().collect::<BTreeSet<_>>());
        bare = bare.min(time(|| keys.iter().filter(|key| map.lock().expect("no panic").remove(key)).count()));
        let settled: Vec<_> = events.into_iter().map(|it| (it.acknowledger, it.token, it.cost)).collect();
        let acknowledge = || settled.into_iter().for_each(|(to, token, cost)| to.acknowledge(token, cost));
        let (took, counted) = count(|| time(acknowledge));
        (best, allocations) = (best.min(took), counted);
        assert_eq!(table.progress.tracker().unsettled(), 0);
    }
    let [nanos, bare] = [best, bare].map(|time| time.as_nanos() as f64 / RECORDS as f64);
    let (ratio, allocations) = (nanos / bare, allocations as f64 / RECORDS as f64);
    println!("  {shards:>5} open shards, {order:<15} {nanos:>5.0} ns, {ratio:>4.1}; {allocations:.2} allocations");
}

/// As small as an event of which only the pointer is kept.
struct Item(#[expect(dead_code, reason = "it has a size")] usize);

impl LaneItem for Item {}

/// So many items wait, all fail once, all pauses end at once, and all are settled.
fn lanes(items: u64) {
    let limits = RequestLimits::singly(1);
    let mut lanes = Lanes::new(limits, usize::MAX);
    let mut steps = [Duration::ZERO; 4];
    let key = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut step = |kind: usize, work: &mut dyn FnMut()| {
        let took = time(work);
        steps[kind] = steps[kind].max(took);
    };
    let begun = tokio::time::Instant::now();
    let counted = allocation_counter::measure(|| {
        for number in 0..items {
            step(0, &mut || drop(lanes.push(key(number), Item(1), begun)));
        }
    });
    let mut slices = Vec::with_capacity(items as usize);
    for _ in 0..items {
        step(1, &mut || {
            let request = lanes.begin(Kinds::ALL, None, begun, |_| true).expect("one waits");
            lanes.ended(request.kind);
            slices.push(request.first);
        });
    }
    for slice in slices.drain(..) {
        lanes.retry(slice, RetryPause::backoff(begun + LIMIT), begun);
    }
    step(2, &mut || lanes.end_backoffs());
    for _ in 0..items {
        step(3, &mut || {
            let request = lanes.begin(Kinds::ALL, None, begun, |_| true).expect("one waits");
            lanes.ended(request.kind);
            lanes.settle(request.first, 1, begun, |_, _| {}).expect("it is under way");
        });
    }
    assert!(lanes.is_empty());
    let [push, begin, end, settle] = steps.map(|longest| longest.as_secs_f64() * 1e3);
    println!("lanes of {items} items: {} bytes a lane besides its event", counted.bytes_current / items as i64 - 8);
    println!(
        "  longest step: push {push:.2} ms, begin {begin:.2} ms, end of all backoffs {end:.2} ms, begin and settle {settle:.2} ms"
    );
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
    page_from(0, RECORDS_A_PAGE)
}

fn page_from(first: u64, records: usize) -> Vec<Record> {
    let record = |number| {
        format!(
            r#"{{"dynamodb":{{"ApproximateCreationDateTime":1767323045,"Keys":{{"line":{{"N":"7"}},"orderId":{{"S":"order-{number}"}}}},"SequenceNumber":"{number:021}"}},"eventID":"{number:032x}","eventName":"MODIFY"}}"#
        )
    };
    let records: Vec<String> = (first + 1..=first + records as u64).map(record).collect();
    let page = Page::parse(Bytes::from(format!(r#"{{"Records":[{}]}}"#, records.join(",")))).expect("a page");
    page.records.into_iter().map(|record| record.expect("it can be decoded")).collect()
}
