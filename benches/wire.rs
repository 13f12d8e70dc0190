//! What reading a page costs, per record of 2.4 KB: our view of the body against the AWS SDK's decoding of it.
//!
//! `cargo bench --bench wire`. Prints nanoseconds of one core, the median of some rounds. Both ways through the SDK
//! share everything but the deserializer: signing, retries and a connection that answers from memory.
#![allow(clippy::disallowed_methods)] // it measures real time

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use dynamodb_streams_adapter::config::{EventData, EventMode, EventProfile};
use dynamodb_streams_adapter::event::{Encoder, EncoderSettings, Packaging};
use dynamodb_streams_adapter::records::Page;
use dynamodb_streams_adapter::streams::client::StreamsClient as _;
use dynamodb_streams_adapter::streams::client::aws::AwsClient;

const RECORDS: usize = 400;
const ROUNDS: usize = 41;

#[derive(Debug, Clone)]
struct FromMemory(Bytes);

impl HttpClient for FromMemory {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for FromMemory {
    fn call(&self, _request: HttpRequest) -> HttpConnectorFuture {
        let answer = HttpResponse::new(200.try_into().expect("a status"), SdkBody::from(self.0.clone()));
        HttpConnectorFuture::ready(Ok(answer))
    }
}

fn main() {
    let body = page();
    println!("{RECORDS} records of {} bytes", body.len() / RECORDS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("key", "secret", None, None, "bench")))
        .http_client(FromMemory(body.clone()))
        .build();
    let ours = AwsClient::new(&config);
    let typed = aws_sdk_dynamodbstreams::Client::new(&config);

    report("Page::parse", || Page::parse(body.clone()).expect("a page"));
    let page = Page::parse(body.clone()).expect("a page");
    let encoder = encoder();
    report("lane keys", || lanes(&encoder, &page));
    report("GetRecords, raw", || runtime.block_on(ours.get_records("iterator", 1_000)).expect("a page"));
    report("GetRecords, typed", || {
        runtime.block_on(typed.get_records().shard_iterator("iterator").send()).expect("a page")
    });
}

/// The pipeline asks an encoder for each record's lane.
fn lanes(encoder: &Encoder, page: &Page) -> u64 {
    page.records.iter().flatten().map(|record| encoder.lane_key(record.lane_id())).fold(0, u64::wrapping_add)
}

fn encoder() -> Encoder {
    let table_arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders".to_owned();
    Encoder::new(EncoderSettings {
        profile: EventProfile::Aws,
        data: EventData::DynamodbJson,
        packaging: Packaging::new(EventMode::Binary, &BTreeMap::new()),
        stream_arn: format!("{table_arn}/stream/2026-01-02T03:04:05.678"),
        table_arn,
        key_schema: vec!["orderId".to_owned(), "line".to_owned()],
        sequence_width: 40,
    })
}

fn report<T>(name: &str, mut work: impl FnMut() -> T) {
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            black_box(work());
            start.elapsed()
        })
        .collect();
    rounds.sort_unstable();
    println!("{name:<18} {:>7} ns a record", rounds[ROUNDS / 2].as_nanos() / RECORDS as u128);
}

fn page() -> Bytes {
    let records: Vec<String> = (0..RECORDS).map(record).collect();
    format!(r#"{{"NextShardIterator":"next","Records":[{}]}}"#, records.join(",")).into()
}

/// An order before and after its change, about as much text as numbers, lists and maps.
fn record(number: usize) -> String {
    let keys = format!(r#""line":{{"N":"7"}},"orderId":{{"S":"order-{number}"}}"#);
    let fields: String = (0..14)
        .map(|field| {
            format!(r#","field{field}":{{"S":"a value of some length {number}"}},"n{field}":{{"N":"{number}.5"}}"#)
        })
        .collect();
    let nested = r#","tags":{"SS":["a","b","c"]},"items":{"L":[{"M":{"sku":{"S":"x"},"count":{"N":"2"}}}]}"#;
    let image = format!("{{{keys}{fields}{nested}}}");
    format!(
        r#"{{"awsRegion":"eu-west-1","dynamodb":{{"ApproximateCreationDateTime":1767323045,"Keys":{{{keys}}},"NewImage":{image},"OldImage":{image},"SequenceNumber":"{:021}","SizeBytes":512,"StreamViewType":"NEW_AND_OLD_IMAGES"}},"eventID":"{number:032x}","eventName":"MODIFY","eventSource":"aws:dynamodb","eventVersion":"1.1"}}"#,
        300_000_000_000_000_499_659_u128 + number as u128
    )
}
