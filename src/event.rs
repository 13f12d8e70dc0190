//! A record becomes a CloudEvent, and a CloudEvent an HTTP message. Nothing here does I/O, reads a clock or fails.
//!
//! Three things are chosen independently and live apart: which attributes an event has ([`Profile`]), what its data
//! looks like ([`DataForm`]), and how both travel ([`Packaging`]). They meet in the CloudEvents SDK's own traits: an
//! event describes itself to a serializer, attribute by attribute, then its data. A record does so without becoming
//! an SDK [`Event`](cloudevents::Event) first, so the item is copied once, from AWS's answer into the request's body.

pub mod gap;
pub mod http;

mod data;
mod key;
mod packaging;
mod profile;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::SystemTime;

use cloudevents::event::SpecVersion;
use cloudevents::message::{BinaryDeserializer, BinarySerializer, Result};

use crate::streams::wire::Record;

pub use crate::config::{EventData as DataForm, EventMode as Mode, EventProfile as Profile};

pub use self::http::Message;
pub use self::packaging::{Extension, Packaging};

/// What the events of one stream have in common.
#[derive(Debug, Clone)]
pub struct EncoderSettings {
    /// Which attributes the events have.
    pub profile: Profile,
    /// What their data looks like, where the profile leaves a choice.
    pub data: DataForm,
    /// How they travel.
    pub packaging: Packaging,
    /// The table's ARN: the events' `source`.
    pub table_arn: String,
    /// The stream's ARN; its region stands in where a record names none.
    pub stream_arn: String,
    /// The names of the key's attributes, partition key first, as `DescribeStream` tells them.
    pub key_schema: Vec<String>,
}

/// Makes messages of one stream's records.
#[derive(Debug, Clone)]
pub struct Encoder {
    packaging: Packaging,
    stream: Stream,
    lanes: DefaultHasher,
}

/// What a profile and a data form may know besides the record.
#[derive(Debug, Clone)]
struct Stream {
    profile: Profile,
    data: DataForm,
    table_arn: String,
    stream_arn: String,
    region: String,
    key_schema: Vec<String>,
}

impl Encoder {
    /// An encoder for one stream.
    pub fn new(settings: EncoderSettings) -> Self {
        let EncoderSettings { profile, data, packaging, table_arn, stream_arn, key_schema } = settings;
        let region = region_of(&stream_arn).to_owned();
        let mut lanes = DefaultHasher::new();
        table_arn.hash(&mut lanes);
        Self { packaging, stream: Stream { profile, data, table_arn, stream_arn, region, key_schema }, lanes }
    }

    /// The message that tells a record, read at `recorded`.
    ///
    /// The same record and moment always give the same message.
    pub fn encode(&self, record: &Record, recorded: SystemTime) -> Message {
        self.packaging.message(RecordEvent { stream: &self.stream, record, recorded })
    }

    /// The same message with further extensions.
    pub fn encode_with(&self, record: &Record, recorded: SystemTime, extensions: &[Extension]) -> Message {
        self.packaging.message_with(RecordEvent { stream: &self.stream, record, recorded }, extensions)
    }

    /// How its messages travel.
    pub fn packaging(&self) -> &Packaging {
        &self.packaging
    }

    /// Which lane keeps the order of a record's item: the same number for all records of one item, whichever of the
    /// table's streams they come from.
    ///
    /// Two items may share a number, and then wait for each other. It differs from one build to another: never store it.
    pub fn lane_key(&self, record: &Record) -> u64 {
        let mut lane = self.lanes.clone();
        key::hash_item(record, &self.stream.key_schema, &mut lane);
        lane.finish()
    }
}

/// A record as a CloudEvent that describes itself to any serializer of the SDK.
#[derive(Debug, Clone, Copy)]
struct RecordEvent<'r> {
    stream: &'r Stream,
    record: &'r Record,
    recorded: SystemTime,
}

impl BinaryDeserializer for RecordEvent<'_> {
    fn deserialize_binary<R: Sized, V: BinarySerializer<R>>(self, visitor: V) -> Result<R> {
        let visitor = visitor.set_spec_version(SpecVersion::V10)?;
        let visitor = match self.stream.profile {
            Profile::Aws => profile::aws::visit(&self, visitor)?,
            Profile::Triggermesh => profile::triggermesh::visit(&self, visitor)?,
            Profile::IntegrationSource => profile::integration_source::visit(&self, visitor)?,
        };
        visitor.end_with_data(match (self.stream.profile, self.stream.data) {
            (Profile::Aws, DataForm::DynamodbJson) => data::dynamodb_json::write(self.stream, self.record),
            (Profile::Aws, DataForm::Json) => data::json::write(self.record),
            (Profile::Triggermesh, _) => data::triggermesh::write(self.record),
            (Profile::IntegrationSource, _) => data::integration_source::write(self.record),
        })
    }
}

/// The fourth part of an ARN; empty where the text is none.
fn region_of(arn: &str) -> &str {
    arn.split(':').nth(3).unwrap_or_default()
}

#[cfg(test)]
mod tests;
