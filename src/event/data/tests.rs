//! Every form against what others make of the same records, and against what no one should send.

use bytes::Bytes;

use crate::config::{EventData, EventMode, EventProfile};
use crate::event::{Encoder, EncoderSettings, Packaging};
use crate::records::{Page, Record};

mod escapes;
mod generated;
mod malformed;
mod naive;
mod plain;
mod samples;
mod schemas;

const TABLE: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders";

/// Every form that data can have.
const FORMS: [(EventProfile, EventData); 4] = [DYNAMODB_JSON, JSON, TRIGGERMESH, INTEGRATION_SOURCE];

const DYNAMODB_JSON: (EventProfile, EventData) = (EventProfile::Aws, EventData::DynamodbJson);
const JSON: (EventProfile, EventData) = (EventProfile::Aws, EventData::Json);
const TRIGGERMESH: (EventProfile, EventData) = (EventProfile::Triggermesh, EventData::DynamodbJson);
const INTEGRATION_SOURCE: (EventProfile, EventData) = (EventProfile::IntegrationSource, EventData::DynamodbJson);

fn hard_records() -> Vec<Record> {
    let page = Page::parse(Bytes::from_static(include_bytes!("../../../tests/data/aws-record.json"))).expect("a page");
    page.records.into_iter().map(|record| record.expect("a record")).collect()
}

fn record(json: &str) -> Record {
    let page = Page::parse(format!("{{\"Records\":[{json}]}}").into()).expect("a page");
    page.records.into_iter().next().expect("one record").expect("it can be decoded")
}

/// A record whose item after the change is this.
fn record_of(new_image: &str) -> Record {
    record(&format!(
        r#"{{"eventID":"e","eventName":"INSERT","dynamodb":{{"Keys":{{"k":{{"S":"a"}}}},"NewImage":{new_image},"SequenceNumber":"300000000000000499659"}}}}"#
    ))
}

/// The data of a record's event.
fn data_of(record: &Record, (profile, data): (EventProfile, EventData)) -> String {
    let encoder = Encoder::new(EncoderSettings {
        profile,
        data,
        packaging: Packaging::new(EventMode::Binary, &Default::default()),
        table_arn: TABLE.to_owned(),
        stream_arn: format!("{TABLE}/stream/2026-01-02T03:04:05.678"),
        key_schema: vec!["orderId".to_owned(), "line".to_owned()],
        sequence_width: 40,
    });
    let body = encoder.encode(record, std::time::UNIX_EPOCH).body;
    String::from_utf8(body.into()).expect("JSON is UTF-8")
}

/// The bodies of a sample file: each stands alone on a line, behind it a comma.
fn bodies(file: &'static str) -> Vec<&'static str> {
    file.lines().filter(|line| line.starts_with('{')).map(|line| line.strip_suffix(',').unwrap_or(line)).collect()
}
