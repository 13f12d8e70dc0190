//! What a record of 2.4 KB costs on its way to a request: `cargo bench --bench event`.
//!
//! Prints the fastest of several rounds, in nanoseconds for one record: the others were disturbed.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant, UNIX_EPOCH};

use dynamodb_streams_adapter::event::{DataForm, Encoder, EncoderSettings, Mode, Packaging, Profile};
use dynamodb_streams_adapter::streams::wire::{Page, Record};

const ROUNDS: usize = 20;
const RECORDS: u32 = 20_000;

const TABLE: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders";

fn main() {
    let record = record();
    let encoder = encoder();
    let recorded = UNIX_EPOCH + Duration::from_millis(1_767_323_060_042);
    let message = encoder.encode(&record, recorded);
    println!("a record of {} bytes of data, {} headers", message.body.len(), message.headers.len());
    measure("encode", || drop(black_box(encoder.encode(black_box(&record), recorded))));
    measure("lane key", || {
        black_box(encoder.lane_key(black_box(&record)));
    });
    measure("clone a message for an attempt", || drop(black_box(black_box(&message).clone())));
}

fn measure(what: &str, mut step: impl FnMut()) {
    // Under `cargo test` it only has to run.
    let (rounds, records) =
        if std::env::args().any(|argument| argument == "--bench") { (ROUNDS, RECORDS) } else { (1, 1) };
    let round = |_| {
        let begun = Instant::now();
        (0..records).for_each(|_| step());
        begun.elapsed() / records
    };
    let fastest = (0..rounds).map(round).min().unwrap_or_default();
    println!("{what}: {} ns", fastest.as_nanos());
}

fn record() -> Record {
    let image =
        format!(r#"{{"orderId":{{"S":"order-1001"}},"line":{{"N":"7"}},"text":{{"S":"{}"}}}}"#, "x".repeat(960));
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

fn encoder() -> Encoder {
    Encoder::new(EncoderSettings {
        profile: Profile::Aws,
        data: DataForm::DynamodbJson,
        packaging: Packaging::new(Mode::Binary, &BTreeMap::new()),
        table_arn: TABLE.to_owned(),
        stream_arn: format!("{TABLE}/stream/2026-01-02T03:04:05.678"),
        key_schema: vec!["orderId".to_owned(), "line".to_owned()],
    })
}
