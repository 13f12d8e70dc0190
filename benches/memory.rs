//! The process's memory against its bound: `cargo bench --bench memory`, with `--features jemalloc` for the image's allocator.
//!
//! The bound is `BUFFER_MEMORY` and 48 MiB with the system's allocator, 64 MiB with jemalloc. The real binary is started with its
//! defaults while the sink is down, until it has read what its buffer takes; then the sink works again, until everything is
//! delivered. Records are small, usual and as large as they can be, of few items and of as many as there are records. The kernel
//! says how much the process had at most (`VmHWM`).
//!
//! Beside it, what an event takes while the sink is down: what is resident beyond what the process has without any record, divided by
//! the records that it has read. That is what a record's cost in the buffer has to cover.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // it runs in real time

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use dynamodb_streams_adapter::delivery::pending_event::PendingEvent;
use dynamodb_streams_adapter::progress::page_entry::PageEntry;
use dynamodb_streams_adapter::progress::table_tracker::{AckToken, PageRead, TableTracker};
use dynamodb_streams_adapter::records::{Page, Position, Record, StreamDetails};
use support::adapter::{Adapter, Plan};
use support::aws::FakeAws;
use support::sink::TestSink;

const MIB: u64 = 1 << 20;
/// The default of `BUFFER_MEMORY`.
const BUFFER: u64 = 64 * MIB;
const BEYOND: u64 = if cfg!(feature = "jemalloc") { 64 * MIB } else { 48 * MIB };
const ALLOCATOR: &str = if cfg!(feature = "jemalloc") { "jemalloc" } else { "system" };

const SHARDS: usize = 4;
/// For how long nothing more is read before the buffer counts as full.
const STILL: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(180);

/// What a table holds.
struct Load {
    name: &'static str,
    /// Characters of an item's text. The first change of an item has one image, the others have two.
    payload: usize,
    records: usize,
    items: usize,
    /// AWS puts at most 1 MB into a page.
    records_a_page: usize,
}

const LOADS: [Load; 6] = [
    Load { name: "small, many items", payload: 0, records: 300_000, items: 300_000, records_a_page: 1000 },
    Load { name: "small, 20 items", payload: 0, records: 200_000, items: 20, records_a_page: 1000 },
    Load { name: "2.4 KB, many items", payload: 1_950, records: 80_000, items: 80_000, records_a_page: 400 },
    Load { name: "2.4 KB, 20 items", payload: 940, records: 60_000, items: 20, records_a_page: 400 },
    Load { name: "400 KB, many items", payload: 400_000, records: 500, items: 500, records_a_page: 2 },
    Load { name: "400 KB, 20 items", payload: 200_000, records: 500, items: 20, records_a_page: 2 },
];

#[tokio::main]
async fn main() {
    // Under `cargo test` there is nothing to see: it takes minutes, and gigabytes for the records.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    held();
    let wanted = std::env::var("LOAD").unwrap_or_default();
    let bound = BUFFER + BEYOND;
    println!("{ALLOCATOR} allocator, BUFFER_MEMORY of 64 MiB, bound {} MiB; MiB resident", bound / MIB);
    println!(
        "{:<20} {:>8} {:>9} {:>9} {:>9} {:>9} {:>12} {:>10}",
        "records", "bytes", "read", "outage", "draining", "after", "an event", "of bound"
    );
    for load in LOADS.iter().filter(|load| load.name.contains(&wanted)) {
        let seen = run(load).await;
        let share = seen.draining as f64 / bound as f64;
        let mib = |bytes: u64| bytes as f64 / MIB as f64;
        println!(
            "{:<20} {:>8} {:>9} {:>9.1} {:>9.1} {:>9.1} {:>10} B {:>9.2}{}",
            load.name,
            seen.bytes,
            seen.read,
            mib(seen.outage),
            mib(seen.draining),
            mib(seen.after),
            seen.an_event,
            share,
            if share > 1.0 { "  OVER" } else { "" }
        );
    }
}

/// What is allocated for a record from its page until it is settled, besides what delivery holds.
fn held() {
    const RECORDS: usize = 1000;
    let record = |number: usize| {
        format!(
            r#"{{"awsRegion":"eu-west-1","dynamodb":{{"ApproximateCreationDateTime":1767323045,"Keys":{{"id":{{"S":"item-{number:06}"}}}},"NewImage":{{"id":{{"S":"item-{number:06}"}}}},"SequenceNumber":"{number:021}","SizeBytes":40,"StreamViewType":"NEW_AND_OLD_IMAGES"}},"eventID":"{number:032x}","eventName":"INSERT","eventSource":"aws:dynamodb","eventVersion":"1.1"}}"#
        )
    };
    let body = format!(r#"{{"Records":[{}]}}"#, (0..RECORDS).map(record).collect::<Vec<_>>().join(","));
    let mut page = None;
    let body = Bytes::from(body);
    let parsed = allocation_counter::measure(|| page = Page::parse(body.clone()).ok());
    let records: Vec<Record> = page.into_iter().flat_map(|page| page.records).flatten().collect();
    let mut tracker = TableTracker::default();
    let details =
        Arc::new(StreamDetails::from_arn("arn:aws:dynamodb:eu-west-1:1:table/Orders/stream/2026-01-02T03:04:05.678"));
    let stream = tracker.open_stream(details, Position::Start, false, UNIX_EPOCH);
    tracker.learn(stream, "shardId-00000001767323045000-0a1b2c3d", None);
    let shard = tracker.open_ready(stream)[0].handle;
    let mut owed = Vec::with_capacity(RECORDS);
    let entered = allocation_counter::measure(|| {
        let mut page = PageEntry::of(&mut tracker, shard);
        // The first page sets up the shard.
        for (record, number) in records.iter().zip(1_u64..) {
            owed.push(page.record(number.to_string().parse().unwrap(), record.lane_id(), Some(UNIX_EPOCH)));
        }
        page.read(PageRead { asked_at: UNIX_EPOCH, is_caught_up: true, is_last: false });
    });
    let an_event = |bytes: i64| bytes / RECORDS as i64;
    println!("a record of {} bytes in a page of {RECORDS}, bytes allocated beyond them:", body.len() / RECORDS);
    println!("  records of the page {:>4} (one is {})", an_event(parsed.bytes_current), size_of::<Record>());
    println!("  the table's tracker {:>4}", an_event(entered.bytes_current));
    println!("  a token to settle   {:>4}", size_of::<AckToken>());
    println!("  a pending event     {:>4}", size_of::<PendingEvent>());
}

struct Seen {
    /// Of a body.
    bytes: usize,
    read: usize,
    outage: u64,
    draining: u64,
    after: u64,
    an_event: u64,
}

async fn run(load: &Load) -> Seen {
    let (aws, mut sink) = (FakeAws::with_table("orders", SHARDS).await, TestSink::start().await);
    sink.count_only();
    sink.down();
    let plan = Plan::new(&aws, &sink, "orders").without("RETRY_BACKOFF_MIN").without("RETRY_BACKOFF_MAX");
    let idle = resident(&plan).await;
    aws.script().payload = load.payload;
    aws.script().page_records = load.records_a_page;
    aws.write("orders", load.items, load.records / load.items);
    let adapter = plan.start().await;
    let read = full(&adapter).await;
    let (outage, now) = (memory(&adapter, "VmHWM"), memory(&adapter, "VmRSS"));
    sink.up().await;
    let begun = Instant::now();
    while sink.counted().0 < load.records && begun.elapsed() < LIMIT {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if sink.counted().0 < load.records {
        println!("  not all were delivered: {} of {}", sink.counted().0, load.records);
    }
    let draining = memory(&adapter, "VmHWM");
    tokio::time::sleep(STILL).await;
    let after = memory(&adapter, "VmRSS");
    let bytes = sink.counted().1 / load.records;
    Seen { bytes, read, outage, draining, after, an_event: now.saturating_sub(idle) / read.max(1) as u64 }
}

/// What the process has when there is nothing to read.
async fn resident(plan: &Plan) -> u64 {
    let adapter = plan.start_ready().await;
    tokio::time::sleep(STILL).await;
    memory(&adapter, "VmRSS")
}

/// Waits until nothing more is read; the records that were.
async fn full(adapter: &Adapter) -> usize {
    let (mut read, mut since) = (0, Instant::now());
    while since.elapsed() < STILL {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = adapter.metric("records_read_total", &[]).await as usize;
        if now != read {
            (read, since) = (now, Instant::now());
        }
    }
    read
}

/// Bytes of one of the kernel's figures.
fn memory(adapter: &Adapter, figure: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", adapter.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(figure)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
