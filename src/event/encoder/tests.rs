//! Nine hard records against what a Lambda function gets of them, and the attributes of their events.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::config::EventMode;
use crate::records::Page;

mod gaps;
mod lengths;

const TABLE: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders";
const STREAM: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-01-02T03:04:05.678";

fn encoder() -> Encoder {
    Encoder::new(settings())
}

fn settings() -> EncoderSettings {
    EncoderSettings {
        profile: EventProfile::Aws,
        data: EventData::DynamodbJson,
        packaging: Packaging::new(EventMode::Binary, &BTreeMap::new()),
        table_arn: TABLE.to_owned(),
        stream_arn: STREAM.to_owned(),
        key_schema: vec!["orderId".to_owned(), "line".to_owned()],
        sequence_width: 40,
    }
}

fn recorded() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_767_323_060_042)
}

fn hard_records() -> Vec<Record> {
    let page = Page::parse(Bytes::from_static(include_bytes!("../../../tests/data/aws-record.json"))).expect("a page");
    page.records.into_iter().map(|record| record.expect("a record")).collect()
}

fn record(json: &str) -> Record {
    let page = Page::parse(format!("{{\"Records\":[{json}]}}").into()).expect("a page");
    page.records.into_iter().next().expect("one record").expect("it can be decoded")
}

/// A record of the item with these keys.
fn record_of(keys: &str) -> Record {
    record(&format!(
        r#"{{"eventID":"e","eventName":"INSERT","dynamodb":{{"Keys":{keys},"SequenceNumber":"300000000000000499659"}}}}"#
    ))
}

fn message(record: &Record) -> Message {
    encoder().encode(record, recorded())
}

/// All headers of a message, in the order of their names.
fn headers(message: &Message) -> Vec<(&str, &str)> {
    let named = message.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("printable ASCII")));
    let mut all: Vec<_> = named.collect();
    all.sort_unstable();
    all
}

fn header<'m>(message: &'m Message, name: &str) -> Option<&'m str> {
    message.headers.get(name).map(|value| value.to_str().expect("printable ASCII"))
}

/// The lines of a sample file that are records, without the comma at their end.
fn sample_lines(file: &'static str) -> Vec<&'static str> {
    file.lines().filter(|line| line.starts_with("{\"event")).map(|line| line.trim_end_matches(',')).collect()
}

#[test]
fn a_lambda_function_reads_the_data_of_every_hard_record() {
    let samples = sample_lines(include_str!("../../../tests/data/lambda-record.json"));
    let records = hard_records();
    assert_eq!(samples.len(), records.len());
    for (record, sample) in records.iter().zip(samples) {
        let mut expected: Value = serde_json::from_str(sample).expect("a sample");
        if let Some(time) = expected["dynamodb"].get_mut("ApproximateCreationDateTime") {
            *time = Value::from(time.as_f64().expect("a number").floor() as i64);
        }
        let data: Value = serde_json::from_slice(&message(record).body).expect("the data is JSON");
        assert_eq!(data, expected);
    }
}

#[test]
fn the_data_is_the_lambda_sample_byte_for_byte_where_that_has_whole_seconds() {
    let samples = sample_lines(include_str!("../../../tests/data/lambda-record.json"));
    let mut compared = 0;
    for (record, sample) in hard_records().iter().zip(samples) {
        if sample.contains("E9,") || sample.contains(".789,") {
            continue;
        }
        compared += 1;
        assert_eq!(std::str::from_utf8(&message(record).body).expect("UTF-8"), sample);
    }
    assert_eq!(compared, 6);
}

#[test]
fn what_aws_lambda_events_insists_on_is_there_even_if_the_record_lacks_it() {
    let bare = record(
        r#"{"eventID":"e1","eventName":"INSERT","dynamodb":{"Keys":{"k":{"S":"a"}},"SequenceNumber":"000000000000000000001"}}"#,
    );
    assert_eq!(
        std::str::from_utf8(&message(&bare).body).expect("UTF-8"),
        format!(
            r#"{{"eventID":"e1","eventName":"INSERT","awsRegion":"eu-west-1","dynamodb":{{"Keys":{{"k":{{"S":"a"}}}},"SequenceNumber":"000000000000000000001","SizeBytes":0}},"eventSourceARN":"{STREAM}"}}"#
        )
    );
}

#[test]
fn an_event_has_exactly_the_documented_attributes() {
    assert_eq!(
        headers(&message(&hard_records()[0])),
        [
            ("ce-dynamodboperation", "INSERT"),
            ("ce-id", "0a1b2c3d4e5f60718293a4b5c6d7e8f9"),
            ("ce-partitionkey", "S:order-1001/N:7"),
            ("ce-recordedtime", "2026-01-02T03:04:20.042Z"),
            ("ce-sequence", "0000000000000000000300000000000000499659"),
            ("ce-source", TABLE),
            ("ce-specversion", "1.0"),
            ("ce-subject", "order-1001/7"),
            ("ce-time", "2026-01-02T03:04:05Z"),
            ("ce-type", "com.amazonaws.dynamodb.insert"),
            ("content-type", "application/json"),
        ]
    );
}

#[test]
fn only_a_ttl_delete_names_its_author() {
    for (index, record) in hard_records().iter().enumerate() {
        let message = message(record);
        let author = (header(&message, "ce-authtype"), header(&message, "ce-authid"));
        let expected = if index == 2 { (Some("system"), Some("dynamodb.amazonaws.com")) } else { (None, None) };
        assert_eq!(author, expected, "record {index}");
    }
}

#[test]
fn the_time_has_a_fraction_only_where_aws_sent_one_and_is_absent_where_it_sent_none() {
    let records = hard_records();
    let time = |index: usize| header(&message(&records[index]), "ce-time").map(str::to_owned);
    assert_eq!(time(1).as_deref(), Some("2026-01-02T03:04:06Z"), "sent as 1.767323046E9");
    assert_eq!(time(7).as_deref(), Some("2026-01-02T03:04:11.789Z"));
    assert_eq!(time(6), None);
}

#[test]
fn every_text_of_a_key_travels_in_a_header() {
    let records = hard_records();
    let message = message(&records[4]);
    assert_eq!(
        header(&message, "ce-subject"),
        Some("%E6%B3%A8%E6%96%87~1%F0%9F%98%80%20%22q%22%2050%25%20#1/12345678901234567890123456789012345678")
    );
    assert_eq!(header(&message, "ce-partitionkey").map(str::len), Some(33), "a hash: it would need encoding");
}

#[test]
fn one_item_has_one_lane_whatever_the_order_of_its_keys_and_whichever_stream_tells() {
    let lane = |keys: &str, encoder: &Encoder| encoder.lane_key(record_of(keys).lane_id());
    let here = encoder();
    let later = Encoder::new(EncoderSettings { stream_arn: format!("{TABLE}/stream/2026-02-02"), ..settings() });
    let elsewhere = Encoder::new(EncoderSettings { table_arn: format!("{TABLE}2"), ..settings() });

    let one = lane(r#"{"orderId":{"S":"a"},"line":{"N":"1"}}"#, &here);
    assert_eq!(one, lane(r#"{"line":{"N":"1"},"orderId":{"S":"a"}}"#, &later));
    assert_ne!(one, lane(r#"{"orderId":{"S":"a"},"line":{"N":"2"}}"#, &here));
    assert_ne!(one, lane(r#"{"orderId":{"S":"a"},"line":{"S":"1"}}"#, &here));
    assert_ne!(one, lane(r#"{"orderId":{"S":"a"},"line":{"N":"1"}}"#, &elsewhere));
    assert_eq!(one, lane(r#"{"orderId":{"S":"\u0061"},"line":{"N":"1"}}"#, &here));
}

#[test]
fn items_that_differ_only_a_little_have_lanes_of_their_own() {
    let keys = [
        r#"{"orderId":{"S":"1"}}"#,
        r#"{"orderId":{"N":"1"}}"#,
        r#"{"orderId":{"S":"1"},"line":{"S":"2"}}"#,
        r#"{"orderId":{"S":"2"},"line":{"S":"1"}}"#,
        r#"{"orderId":{"S":"12"},"line":{"S":""}}"#,
        r#"{"orderId":{"S":""},"line":{"S":"12"}}"#,
    ];
    let encoder = encoder();
    let lanes: BTreeSet<u64> = keys.iter().map(|keys| encoder.lane_key(record_of(keys).lane_id())).collect();
    assert_eq!(lanes.len(), keys.len());
}
