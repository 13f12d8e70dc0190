//! What a record costs on its way to a request, in every form: `cargo bench --bench event`.
//!
//! Prints the fastest of several rounds, in nanoseconds for one record: the others were disturbed.
#![allow(clippy::disallowed_methods)] // it measures real time

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dynamodb_streams_adapter::config::{EventData, EventMode, EventProfile};
use dynamodb_streams_adapter::event::{Encoder, EncoderSettings, Packaging};
use dynamodb_streams_adapter::records::{Page, Record};

const ROUNDS: usize = 20;
const RECORDS: u32 = 20_000;

const TABLE: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders";

/// Every form that data can have, the default one first.
const FORMS: [(&str, EventProfile, EventData); 4] = [
    ("aws, dynamodb-json", EventProfile::Aws, EventData::DynamodbJson),
    ("aws, json", EventProfile::Aws, EventData::Json),
    ("triggermesh", EventProfile::Triggermesh, EventData::DynamodbJson),
    ("integration-source", EventProfile::IntegrationSource, EventData::DynamodbJson),
];

fn main() {
    let encoder = encoder(EventProfile::Aws, EventData::DynamodbJson);
    let record = long_texts();
    let message = encoder.encode(&record, recorded());
    measure("lane key", || {
        black_box(encoder.lane_key(black_box(&record).lane_id()));
    });
    measure("clone a message for an attempt", || drop(black_box(black_box(&message).clone())));
    measure_forms("two images with a text of 960 characters each", &record);
    measure_forms("two images of 20 short attributes each", &short_attributes());
}

/// What each form costs, also as a ratio to the default form in the same run.
fn measure_forms(what: &str, record: &Record) {
    println!("{what}, {} bytes on the wire:", record.len());
    let mut default = None;
    for (form, profile, data) in FORMS {
        let encoder = encoder(profile, data);
        let bytes = encoder.encode(record, recorded()).body.len();
        let cost = fastest(|| drop(black_box(encoder.encode(black_box(record), recorded()))));
        let ratio = cost.as_secs_f64() / default.get_or_insert(cost).as_secs_f64().max(f64::MIN_POSITIVE);
        println!("  {form}: {} ns, {ratio:.2} of the default form, {bytes} bytes of data", cost.as_nanos());
    }
}

fn measure(what: &str, step: impl FnMut()) {
    println!("{what}: {} ns", fastest(step).as_nanos());
}

fn fastest(mut step: impl FnMut()) -> Duration {
    // Under `cargo test` it only has to run.
    let (rounds, records) =
        if std::env::args().any(|argument| argument == "--bench") { (ROUNDS, RECORDS) } else { (1, 1) };
    let round = |_| {
        let begun = Instant::now();
        (0..records).for_each(|_| step());
        begun.elapsed() / records
    };
    (0..rounds).map(round).min().unwrap_or_default()
}

fn recorded() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_767_323_060_042)
}

fn long_texts() -> Record {
    record(&format!(r#""text":{{"S":"{}"}}"#, "x".repeat(960)))
}

fn short_attributes() -> Record {
    let attributes = (0..5).map(|number| {
        format!(
            r#""title{number}":{{"S":"a few words"}},"price{number}":{{"N":"{number}9.95"}},"open{number}":{{"BOOL":true}},"sizes{number}":{{"L":[{{"N":"38"}},{{"S":"M"}}]}}"#
        )
    });
    record(&attributes.collect::<Vec<_>>().join(","))
}

/// A change of an item that has these attributes besides its key.
fn record(attributes: &str) -> Record {
    let image = format!(r#"{{"orderId":{{"S":"order-1001"}},"line":{{"N":"7"}},{attributes}}}"#);
    let body = format!(
        r#"{{"Records":[{{"awsRegion":"eu-west-1","dynamodb":{{"ApproximateCreationDateTime":1767323045,
        "Keys":{{"line":{{"N":"7"}},"orderId":{{"S":"order-1001"}}}},"NewImage":{image},"OldImage":{image},
        "SequenceNumber":"300000000000000499659","SizeBytes":2100,"StreamViewType":"NEW_AND_OLD_IMAGES"}},
        "eventID":"0a1b2c3d4e5f60718293a4b5c6d7e8f9","eventName":"MODIFY","eventSource":"aws:dynamodb",
        "eventVersion":"1.1"}}]}}"#
    );
    let mut records = Page::parse(body.into()).expect("a page").records;
    records.pop().expect("one record").expect("it can be decoded")
}

fn encoder(profile: EventProfile, data: EventData) -> Encoder {
    Encoder::new(EncoderSettings {
        profile,
        data,
        packaging: Packaging::new(EventMode::Binary, &BTreeMap::new()),
        table_arn: TABLE.to_owned(),
        stream_arn: format!("{TABLE}/stream/2026-01-02T03:04:05.678"),
        key_schema: vec!["orderId".to_owned(), "line".to_owned()],
        sequence_width: 40,
    })
}
