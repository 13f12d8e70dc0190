//! The foreign profiles' attributes against those of the originals.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use crate::config::{EventData, EventMode, EventProfile};
use crate::event::{Encoder, EncoderSettings, Packaging};
use crate::records::{Page, Record};

mod keys;

const TABLE: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders";
const READ: &str = "2026-01-02T03:04:20.042Z";

/// Names and values, as the samples have them.
type Attributes = BTreeMap<String, String>;

fn hard_records() -> Vec<Record> {
    let page = Page::parse(Bytes::from_static(include_bytes!("../../../tests/data/aws-record.json"))).expect("a page");
    page.records.into_iter().map(|record| record.expect("a record")).collect()
}

fn attributes(record: &Record, profile: EventProfile, key_schema: &[&str]) -> Attributes {
    let encoder = Encoder::new(EncoderSettings {
        profile,
        data: EventData::DynamodbJson,
        packaging: Packaging::new(EventMode::Binary, &Default::default()),
        table_arn: TABLE.to_owned(),
        stream_arn: format!("{TABLE}/stream/2026-01-02T03:04:05.678"),
        key_schema: key_schema.iter().map(|name| (*name).to_owned()).collect(),
        sequence_width: 40,
    });
    let message = encoder.encode(record, UNIX_EPOCH + Duration::from_millis(1_767_323_060_042));
    let headers = message.headers.iter().map(|(name, value)| {
        let name = name.as_str().strip_prefix("ce-").unwrap_or("datacontenttype");
        (name.to_owned(), value.to_str().expect("printable ASCII").to_owned())
    });
    headers.collect()
}

fn samples(file: &str) -> Vec<Attributes> {
    serde_json::from_str(file).expect("a list of objects of texts")
}

#[test]
fn triggermesh_users_get_the_attributes_that_they_got() {
    let (records, samples) = (hard_records(), samples(include_str!("../../../tests/data/triggermesh-headers.json")));
    assert_eq!((records.len(), samples.len()), (9, 9));
    for (record, mut expected) in records.iter().zip(samples) {
        expected.insert("time".to_owned(), READ.to_owned());
        assert_eq!(attributes(record, EventProfile::Triggermesh, &["orderId", "line"]), expected);
    }
}

#[test]
fn integration_source_users_get_the_attributes_that_they_got_with_an_id_that_stays() {
    let (records, samples) =
        (hard_records(), samples(include_str!("../../../tests/data/integration-source-headers.json")));
    assert_eq!((records.len(), samples.len()), (9, 9));
    for (record, mut expected) in records.iter().zip(samples) {
        expected.insert("id".to_owned(), record.event_id().to_owned());
        expected.insert("time".to_owned(), READ.to_owned());
        assert_eq!(attributes(record, EventProfile::IntegrationSource, &["orderId", "line"]), expected);
    }
}

#[test]
fn a_triggermesh_subject_names_the_key_in_the_order_of_its_schema() {
    let record = &hard_records()[0];
    let subject = |schema: &[&str]| attributes(record, EventProfile::Triggermesh, schema)["subject"].clone();
    assert_eq!(subject(&["orderId", "line"]), "orderId,line");
    assert_eq!(subject(&["line", "orderId"]), "line,orderId");
    assert_eq!(subject(&[]), "line,orderId", "a schema that is not known: the names' own order");
}

#[test]
fn a_triggermesh_subject_takes_every_name() {
    let page = r#"{"Records":[{"eventID":"e","eventName":"INSERT","dynamodb":{"Keys":{"<name>":{"S":"a"}},
        "SequenceNumber":"300000000000000499659"}}]}"#;
    let subject = |name: &str| {
        let page = Page::parse(page.replace("<name>", name).into()).expect("a page");
        let record = page.records[0].as_ref().expect("a record").clone();
        attributes(&record, EventProfile::Triggermesh, &[]).remove("subject")
    };
    assert_eq!(subject(r"a \u00e9\n").as_deref(), Some("a%20%C3%A9%0A"));
    assert_eq!(subject(""), None, "CloudEvents has no empty subject");
}
