//! The AWS SDK's own deserializer as the judge of ours: generated pages, every field of every record.

#![allow(clippy::disallowed_types)] // the SDK gives items as hash maps

use std::sync::{Arc, Mutex};

use aws_sdk_dynamodbstreams::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodbstreams::operation::get_records::GetRecordsOutput;
use aws_sdk_dynamodbstreams::types::{AttributeValue, Record as TypedRecord};
use aws_sdk_dynamodbstreams::{Client, Config};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::Blob;
use aws_smithy_types::body::SdkBody;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::generator::{self, Choices, page, record};
use crate::records::{KeyType, Page, Record};

/// The SDK's client on a wire that answers every request with the same body.
#[derive(Clone)]
pub(crate) struct Oracle {
    client: Client,
    body: Arc<Mutex<Bytes>>,
}

#[derive(Debug, Clone)]
struct Canned(Arc<Mutex<Bytes>>);

impl HttpClient for Canned {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Canned {
    fn call(&self, _request: HttpRequest) -> HttpConnectorFuture {
        let body = SdkBody::from(self.0.lock().expect("no test panicked here").clone());
        HttpConnectorFuture::ready(Ok(HttpResponse::new(200.try_into().expect("a status"), body)))
    }
}

impl Oracle {
    pub(crate) fn new() -> Self {
        let body = Arc::default();
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-west-1"))
            .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
            .http_client(Canned(Arc::clone(&body)))
            .build();
        Self { client: Client::from_conf(config), body }
    }

    /// What the SDK reads out of this body.
    pub(crate) fn decode(&self, body: &Bytes) -> GetRecordsOutput {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        *self.body.lock().expect("no test panicked here") = body.clone();
        runtime.block_on(self.client.get_records().shard_iterator("any").send()).expect("the SDK reads the page")
    }
}

/// Every field of every record of the page is what the SDK read.
pub(crate) fn assert_same(page: &Page, typed: &GetRecordsOutput) {
    assert_eq!(page.next_iterator.as_deref(), typed.next_shard_iterator());
    assert_eq!(page.records.len(), typed.records().len());
    for (record, typed) in page.records.iter().zip(typed.records()) {
        assert_same_record(record.as_ref().expect("the SDK can decode it"), typed);
    }
}

fn assert_same_record(record: &Record, typed: &TypedRecord) {
    let change = typed.dynamodb().expect("generated with one");
    assert_eq!(Some(record.event_id()), typed.event_id());
    assert_eq!(Some(record.operation_name()), typed.event_name().map(|name| name.as_str()));
    assert_eq!(record.event_version(), typed.event_version());
    assert_eq!(record.event_source(), typed.event_source());
    assert_eq!(record.region(), typed.aws_region());
    assert_eq!(Some(record.sequence_number().as_str()), change.sequence_number());
    assert_eq!(record.created_at_millis(), change.approximate_creation_date_time().map(rounded_millis));
    assert_eq!(record.size_bytes(), change.size_bytes().and_then(|size| u64::try_from(size).ok()));
    assert_eq!(record.view_type(), change.stream_view_type().map(|view| view.as_str()));
    let identity = record.identity().map(|identity| (identity.principal_id, identity.kind));
    assert_eq!(identity, typed.user_identity().map(|identity| (identity.principal_id(), identity.r#type())));
    let images = [Some(record.keys()), record.new_image(), record.old_image()];
    let typed = [change.keys(), change.new_image(), change.old_image()];
    for (raw, typed) in images.into_iter().zip(typed) {
        assert_eq!(raw.map(parsed), typed.map(attributes));
    }
    assert_eq!(parsed(record.raw())["eventID"], record.event_id(), "the whole record and nothing else");
    assert_same_key(record, change.keys().expect("generated with keys"));
}

fn assert_same_key(record: &Record, typed: &std::collections::HashMap<String, AttributeValue>) {
    let key = record.item_key(&[] as &[&str]);
    assert_eq!(key.attributes().count(), typed.len());
    for attribute in key.attributes() {
        let typed = canonical(&typed[attribute.name]);
        let (kind, value) = typed.as_object().and_then(|one| one.iter().next()).expect("one member");
        let kind: KeyType = serde_json::from_value(json!(kind)).expect("S, N or B");
        assert_eq!((kind, value.as_str()), (attribute.kind, Some(attribute.value)));
    }
}

/// The SDK goes through a float, so that 1.789 becomes 1.788999….
fn rounded_millis(moment: &aws_sdk_dynamodbstreams::primitives::DateTime) -> i64 {
    moment.secs() * 1000 + i64::from((moment.subsec_nanos() + 500_000) / 1_000_000)
}

fn parsed(raw: &str) -> Value {
    serde_json::from_str(raw).expect("raw JSON text")
}

fn attributes(typed: &std::collections::HashMap<String, AttributeValue>) -> Value {
    typed.iter().map(|(name, value)| (name.clone(), canonical(value))).collect::<serde_json::Map<_, _>>().into()
}

fn canonical(value: &AttributeValue) -> Value {
    let base64 = |blob: &Blob| BASE64.encode(blob);
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::B(blob) => json!({ "B": base64(blob) }),
        AttributeValue::Bool(flag) => json!({ "BOOL": flag }),
        AttributeValue::Null(flag) => json!({ "NULL": flag }),
        AttributeValue::Ss(texts) => json!({ "SS": texts }),
        AttributeValue::Ns(numbers) => json!({ "NS": numbers }),
        AttributeValue::Bs(blobs) => json!({ "BS": blobs.iter().map(base64).collect::<Vec<_>>() }),
        AttributeValue::L(list) => json!({ "L": list.iter().map(canonical).collect::<Vec<_>>() }),
        AttributeValue::M(map) => json!({ "M": attributes(map) }),
        other => panic!("a type that was not generated: {other:?}"),
    }
}

/// A failure that was shrunk becomes a test with a name, not a file of seeds.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

#[test]
fn the_sample_reads_as_the_sdk_reads_it() {
    let body = Bytes::from_static(include_bytes!("../../../tests/data/aws-record.json"));
    assert_same(&Page::parse(body.clone()).expect("a page"), &Oracle::new().decode(&body));
}

#[test]
fn any_page_reads_as_the_sdk_reads_it() {
    let oracle = Oracle::new();
    proptest!(cases(300), |(page in page(), choices in any::<Choices>())| {
        let body = Bytes::from(page.write(choices));
        assert_same(&Page::parse(body.clone()).expect("a page"), &oracle.decode(&body));
    });
}

/// Whether the SDK's record lacks what no change can be told without.
fn lacks_something(typed: &TypedRecord) -> bool {
    let change = typed.dynamodb();
    let sequence = change.and_then(|change| change.sequence_number()).unwrap_or_default();
    let has_keys = change.and_then(|change| change.keys()).is_some_and(|keys| !keys.is_empty());
    let is_number = !sequence.is_empty() && sequence.bytes().all(|byte| byte.is_ascii_digit());
    let is_known = typed.event_name().is_some_and(|name| name.as_str() == "INSERT");
    typed.event_id().is_none() || !is_known || !has_keys || !is_number
}

#[test]
fn members_that_are_absent_null_or_empty_mean_what_they_mean_to_the_sdk() {
    let oracle = Oracle::new();
    proptest!(cases(600), |(page in generator::loose_page(), choices in any::<Choices>())| {
        let body = Bytes::from(page.write(choices));
        let (page, typed) = (Page::parse(body.clone()).expect("a page"), oracle.decode(&body));
        prop_assert_eq!(page.next_iterator.as_deref(), typed.next_shard_iterator());
        prop_assert_eq!(page.records.len(), typed.records().len());
        for (record, typed) in page.records.iter().zip(typed.records()) {
            match record {
                Ok(record) => assert_same_record(record, typed),
                Err(undecodable) => prop_assert!(lacks_something(typed), "{}: {:?}", undecodable, typed),
            }
        }
    });
}

#[test]
fn whole_answers_that_the_sdk_takes_are_taken() {
    let oracle = Oracle::new();
    for body in [
        r#"{}"#,
        r#"{"NextShardIterator":"x"}"#,
        r#"{"NextShardIterator":null}"#,
        r#"{"NextShardIterator":""}"#,
        r#"{"Records":null,"NextShardIterator":"x"}"#,
        r#"{"Records":[],"NextShardIterator":"x"}"#,
        r#"{"Added":[{"Later":[]}],"NextShardIterator":"x"}"#,
        " \n{ } \n",
    ] {
        let body = Bytes::from(body);
        assert_same(&Page::parse(body.clone()).expect("a page"), &oracle.decode(&body));
    }
}

#[test]
fn malformed_records_anywhere_leave_the_others_as_they_are() {
    let records = proptest::collection::vec((record(), any::<bool>()), 1..6);
    proptest!(cases(200), |(records in records, choices in any::<Choices>())| {
        let (good, bad): (Vec<_>, Vec<_>) = records.iter().cloned().partition(|(_, malformed)| !malformed);
        let undecodable = bad.len();
        let mixed = generator::page_of(records.into_iter().map(|(record, malformed)| {
            if malformed { generator::spoilt(record, choices) } else { record }
        }));
        let good = generator::page_of(good.into_iter().map(|(record, _)| record));
        let mut page = Page::parse(Bytes::from(mixed.write(choices))).expect("a page");
        prop_assert_eq!(page.records.iter().filter(|record| record.is_err()).count(), undecodable);
        page.records.retain(Result::is_ok);
        assert_same(&page, &Oracle::new().decode(&Bytes::from(good.write(choices))));
    });
}
