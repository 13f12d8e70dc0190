//! What a record costs on its way from a page to a request, part by part, for every form and mode: `cargo bench --bench event`.
//!
//! Prints the fastest of several rounds, in nanoseconds of one core for one record: the others were disturbed. Beside it the ratio
//! to two yardsticks that are measured in the same run: copying the record's bytes, and having serde look at them and keep nothing.
//! Figures change from machine to machine; a regression shows as a ratio. Allocations are counted in a round of their own.
//!
//! Attributes are measured as the event without its data; what the data adds is the rest of the whole. What delivery does with a
//! message, and the client, are not in here: `end_to_end` has them.
#![allow(clippy::disallowed_methods)] // it measures real time

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dynamodb_streams_adapter::config::{EventData, EventMode, EventProfile};
use dynamodb_streams_adapter::event::{Encoder, EncoderSettings, Packaging};
use dynamodb_streams_adapter::progress::page_entry::PageEntry;
use dynamodb_streams_adapter::progress::table_tracker::{PageRead, ShardHandle, TableTracker};
use dynamodb_streams_adapter::records::{Page, Position, Record, SequenceNumber, StreamDetails};
use dynamodb_streams_adapter::telemetry::TableTelemetry;
use dynamodb_streams_adapter::telemetry::metrics::Metrics;
use serde::de::IgnoredAny;

const ROUNDS: usize = 300;
/// As many as a page can hold of the largest records here.
const RECORDS: usize = 400;

const TABLE: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders";

/// Every form that data can have, the default one first.
const FORMS: [(&str, EventProfile, EventData); 4] = [
    ("aws, dynamodb-json", EventProfile::Aws, EventData::DynamodbJson),
    ("aws, json", EventProfile::Aws, EventData::Json),
    ("triggermesh", EventProfile::Triggermesh, EventData::DynamodbJson),
    ("integration-source", EventProfile::IntegrationSource, EventData::DynamodbJson),
];

const MODES: [(&str, EventMode); 2] = [("binary", EventMode::Binary), ("structured", EventMode::Structured)];

fn main() {
    parts("only the key", "");
    parts("two images of 20 short attributes each", &short_attributes());
    parts("two images with a text of 960 characters each", &long_texts());
    worst();
}

/// One part's cost, an average over the page's records.
struct Part {
    nanos: f64,
    allocations: f64,
}

/// The yardsticks of one kind of record.
struct Yardsticks {
    copy: f64,
    serde: f64,
}

impl Yardsticks {
    fn of(body: &Bytes) -> Self {
        let copy = part(|| discard(black_box(body).to_vec()));
        let serde = part(|| discard(serde_json::from_slice::<IgnoredAny>(black_box(body))));
        println!("  {:<38} {:>6.0} ns", "yardstick: copy the bytes", copy.nanos);
        println!("  {:<38} {:>6.0} ns", "yardstick: serde keeps nothing", serde.nanos);
        Self { copy: copy.nanos, serde: serde.nanos }
    }

    fn row(&self, what: &str, part: &Part) {
        let Part { nanos, allocations } = part;
        let (copies, parses) = (nanos / self.copy, nanos / self.serde);
        println!(
            "  {what:<38} {nanos:>6.0} ns  {copies:>6.2} copies  {parses:>5.2} parses  {allocations:>5.2} allocations"
        );
    }
}

fn parts(what: &str, attributes: &str) {
    let body = page(attributes);
    let records = parsed(&body);
    println!("{what}: {RECORDS} records of {} bytes", body.len() / RECORDS);
    let yardsticks = Yardsticks::of(&body);
    yardsticks.row("page to records", &part(|| discard(parsed(black_box(&body)))));
    yardsticks.row("names of lanes", &part(|| discard(records.iter().map(Record::lane_id).max())));
    progress(&records, &yardsticks);
    metrics(&yardsticks);
    for (form, profile, data) in FORMS {
        for (mode_name, mode) in MODES {
            encoding(&format!("{form}, {mode_name}"), &encoder(profile, data, mode), &records, &yardsticks);
        }
    }
    println!();
}

fn encoding(name: &str, encoder: &Encoder, records: &[Record], yardsticks: &Yardsticks) {
    let each = |work: &dyn Fn(&Record)| part(|| records.iter().for_each(|record| work(black_box(record))));
    let whole = each(&|record| discard(encoder.encode(record, recorded())));
    let attributes = each(&|record| discard(encoder.encode_without_data(record, recorded(), &[])));
    let message = encoder.encode(&records[0], recorded());
    let clone = each(&|_| discard(black_box(&message).clone()));
    let length = each(&|record| discard(encoder.body_len(record, recorded())));
    let bound = each(&|record| discard(encoder.body_bound(record)));
    println!(" {name}, {} bytes:", message.body.len());
    yardsticks.row("message", &whole);
    yardsticks.row("  its attributes", &attributes);
    let data = Part { nanos: whole.nanos - attributes.nanos, allocations: whole.allocations - attributes.allocations };
    yardsticks.row("  its data", &data);
    yardsticks.row("a clone for an attempt", &clone);
    yardsticks.row("the body's length alone", &length);
    yardsticks.row("a bound of it", &bound);
}

/// Entering a page in the table's tracker, and settling its events in order.
fn progress(records: &[Record], yardsticks: &Yardsticks) {
    let lanes: Vec<_> = records.iter().map(Record::lane_id).collect();
    // One page for each round, and one whose allocations are counted.
    let numbers = 1..=(rounds() + 1) * RECORDS;
    let numbers: Vec<SequenceNumber> = numbers.map(|number| number.to_string().parse().expect("digits")).collect();
    let mut pages = numbers.chunks(RECORDS);
    let (mut tracker, shard) = opened();
    let mut tokens = Vec::with_capacity(RECORDS);
    let both = part(|| {
        let mut page = PageEntry::of(&mut tracker, shard);
        for (number, lane) in pages.next().expect("a page a round").iter().zip(&lanes) {
            tokens.extend(page.record(*number, *lane, Some(recorded())).and_then(|owed| owed.token));
        }
        page.read(PageRead { asked_at: recorded(), is_caught_up: true, is_last: false });
        tokens.drain(..).for_each(|token| tracker.settle(&token));
    });
    yardsticks.row("progress: enter and settle", &both);
}

fn opened() -> (TableTracker, ShardHandle) {
    let mut tracker = TableTracker::default();
    let details = Arc::new(StreamDetails::from_arn(&format!("{TABLE}/stream/2026-01-02T03:04:05.678")));
    let stream = tracker.open_stream(details, Position::Start, false, UNIX_EPOCH);
    tracker.learn(stream, "shardId-00000001767323045000-0a1b2c3d", None);
    let shard = tracker.open_ready(stream)[0].handle;
    (tracker, shard)
}

/// What counts a delivered event and its attempt.
fn metrics(yardsticks: &Yardsticks) {
    let telemetry = TableTelemetry::new("Orders", &Metrics::new("bench", "bench").expect("valid names"));
    for code in ["202", "200"] {
        let counted = part(|| {
            (0..RECORDS).for_each(|_| {
                telemetry.delivery_attempt(black_box(code), Duration::from_millis(1));
                telemetry.delivered(Some(recorded()));
            });
        });
        yardsticks.row(&format!("metrics of an event, {code}"), &counted);
    }
}

/// The item that grows most: 390 KB by AWS's rule.
fn worst() {
    let image = format!(r#"{{"id":{{"S":"a"}},"l":{{"L":[{}]}}}}"#, vec![r#"{"S":""}"#; 390_000].join(","));
    let body = format!(r#"{{"Records":[{}]}}"#, record_of(1, r#"{"id":{"S":"a"}}"#, &image));
    let record = parsed(&body.into()).remove(0);
    println!("390,000 empty texts, twice, {} bytes on the wire: the body's length alone", record.len());
    for (form, profile, data) in FORMS {
        let encoder = encoder(profile, data, EventMode::Binary);
        let (mut best, mut len) = (Duration::MAX, 0);
        for _ in 0..rounds().min(10) {
            let begun = cpu_time();
            len = black_box(encoder.body_len(&record, recorded()));
            best = best.min(cpu_time() - begun);
        }
        println!(
            "  {form:<38} {:>6.1} ms for {len} bytes, bound {}",
            best.as_secs_f64() * 1e3,
            encoder.body_bound(&record)
        );
    }
}

/// Under `cargo test` it only has to run.
fn rounds() -> usize {
    if std::env::args().any(|argument| argument == "--bench") { ROUNDS } else { 1 }
}

/// Drops a value, and lets the compiler believe that it was needed.
fn discard<T>(value: T) {
    let _ = black_box(value);
}

/// What it costs to work on a page, for each of its records.
fn part(mut page: impl FnMut()) -> Part {
    let mut round = || {
        let begun = Instant::now();
        page();
        begun.elapsed()
    };
    let fastest = (0..rounds()).map(|_| round()).min().unwrap_or_default();
    let counted = allocation_counter::measure(&mut page);
    Part {
        nanos: fastest.as_secs_f64() * 1e9 / RECORDS as f64,
        allocations: counted.count_total as f64 / RECORDS as f64,
    }
}

/// What the kernel says of this thread: a round that takes so long is always disturbed by others.
fn cpu_time() -> Duration {
    std::thread::yield_now();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells a thread's time");
    Duration::from_nanos(told.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("nanoseconds"))
}

fn recorded() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_767_323_060_042)
}

fn parsed(body: &Bytes) -> Vec<Record> {
    let page = Page::parse(body.clone()).expect("a page");
    page.records.into_iter().map(|record| record.expect("it can be decoded")).collect()
}

fn long_texts() -> String {
    format!(r#","text":{{"S":"{}"}}"#, "x".repeat(960))
}

fn short_attributes() -> String {
    let attributes = (0..5).map(|number| {
        format!(
            r#","title{number}":{{"S":"a few words"}},"price{number}":{{"N":"{number}9.95"}},"open{number}":{{"BOOL":true}},"sizes{number}":{{"L":[{{"N":"38"}},{{"S":"M"}}]}}"#
        )
    });
    attributes.collect()
}

/// A page of changes of items that have these attributes besides their keys.
fn page(attributes: &str) -> Bytes {
    let record = |number: usize| {
        let keys = format!(r#""line":{{"N":"7"}},"orderId":{{"S":"order-{number}"}}"#);
        record_of(number, &format!("{{{keys}}}"), &format!("{{{keys}{attributes}}}"))
    };
    let records: Vec<String> = (1..=RECORDS).map(record).collect();
    format!(r#"{{"NextShardIterator":"next","Records":[{}]}}"#, records.join(",")).into()
}

fn record_of(number: usize, keys: &str, image: &str) -> String {
    format!(
        r#"{{"awsRegion":"eu-west-1","dynamodb":{{"ApproximateCreationDateTime":1767323045,"Keys":{keys},"NewImage":{image},"OldImage":{image},"SequenceNumber":"{number:021}","SizeBytes":512,"StreamViewType":"NEW_AND_OLD_IMAGES"}},"eventID":"{number:032x}","eventName":"MODIFY","eventSource":"aws:dynamodb","eventVersion":"1.1"}}"#
    )
}

fn encoder(profile: EventProfile, data: EventData, mode: EventMode) -> Encoder {
    Encoder::new(EncoderSettings {
        profile,
        data,
        packaging: Packaging::new(mode, &BTreeMap::new()),
        table_arn: TABLE.to_owned(),
        stream_arn: format!("{TABLE}/stream/2026-01-02T03:04:05.678"),
        key_schema: vec!["orderId".to_owned(), "line".to_owned()],
        sequence_width: 40,
    })
}
