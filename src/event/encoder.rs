//! Makes the messages of what a stream brings: its records, and the gaps where changes may be missing.
//!
//! The same record and moment always give the same message. Both kinds of event [describe](Describe) themselves, attribute by
//! attribute, then their data. A record does so without becoming an SDK [`Event`] first, so the item is copied once, from AWS's
//! answer into the request's body.

use std::time::SystemTime;

use cloudevents::{Event, EventBuilder, EventBuilderV10};
use serde_json::json;

use super::data::DataForm;
use super::http::{Describe, Extension, Message, Packaging, Visitor, wire_len};
use super::output::Output;
use super::profile::{Telling, hash_text};
use super::{EventContext, profile};
use crate::clock;
use crate::config::{EventData, EventProfile};
use crate::records::{Gap, LaneId, Record, SequenceNumber};

/// What the events of one stream have in common.
#[derive(Debug, Clone)]
pub struct EncoderSettings {
    /// Which attributes the events have.
    pub profile: EventProfile,
    /// What their data looks like, where the profile leaves a choice.
    pub data: EventData,
    pub packaging: Packaging,
    /// The table's ARN: the events' `source`.
    pub table_arn: String,
    /// The stream's ARN; its region stands in where a record names none.
    pub stream_arn: String,
    /// The names of the key's attributes, partition key first, as `DescribeStream` tells them.
    pub key_schema: Vec<String>,
    /// To how many digits the stream's sequence numbers are padded.
    pub sequence_width: usize,
}

/// Makes messages of one stream's records.
#[derive(Debug, Clone)]
pub struct Encoder {
    profile: EventProfile,
    data: DataForm,
    packaging: Packaging,
    context: EventContext,
    /// The table, as a part of its lanes' keys.
    table: LaneId,
}

impl Encoder {
    /// An encoder for one stream.
    pub fn new(settings: EncoderSettings) -> Self {
        let EncoderSettings { profile, data, packaging, table_arn, stream_arn, key_schema, sequence_width } = settings;
        let (table, data) = (LaneId::of_table(&table_arn), DataForm::of(profile, data));
        let context = EventContext { sequence_width, ..EventContext::new(table_arn, stream_arn, key_schema) };
        Self { profile, data, packaging, context, table }
    }

    /// The text of the extension `sequence`: it orders the stream's events as text.
    pub(crate) fn sequence(&self, record: &Record) -> String {
        self.context.sequence(record)
    }

    /// The message that tells a record, read at `recorded`.
    pub fn encode(&self, record: &Record, recorded: SystemTime) -> Message {
        self.encode_with(record, recorded, &[])
    }

    /// The same message with further extensions.
    pub(crate) fn encode_with(&self, record: &Record, recorded: SystemTime, extensions: &[Extension]) -> Message {
        let telling = Telling { recorded, has_data: true };
        self.packaging.message(&RecordEvent { encoder: self, record, telling }, extensions)
    }

    /// The same event with further extensions and without its data, for one whose body would be too long.
    ///
    /// It has no `datacontenttype` either, so that nobody takes an empty body for JSON. CloudEvents 1.0.2 demands neither of the
    /// two, and Knative's brokers and channels pass such events on.
    pub fn encode_without_data(&self, record: &Record, recorded: SystemTime, extensions: &[Extension]) -> Message {
        let telling = Telling { recorded, has_data: false };
        self.packaging.message(&RecordEvent { encoder: self, record, telling }, extensions)
    }

    /// The length in bytes of the body that [`Encoder::encode`] would make, to the byte, without making it: it takes as long as
    /// writing, and memory for the attributes and for a hash of each name of the largest map. In batch mode that is one element,
    /// without bracket or comma.
    pub fn body_len(&self, record: &Record, recorded: SystemTime) -> usize {
        let telling = Telling { recorded, has_data: true };
        self.packaging.body_len(&RecordEvent { encoder: self, record, telling })
    }

    /// A length that [`Encoder::body_len`] never exceeds, whatever the record holds, from the record's own length: it costs next to
    /// nothing. What lies below a limit by it needs no exact length.
    pub fn body_bound(&self, record: &Record) -> usize {
        let attributes = if self.packaging.is_structured() { profile::max_len(&self.context, record) } else { 0 };
        self.data.max_len(&self.context, record) + attributes + self.packaging.max_frame_len()
    }

    /// How its messages travel.
    pub(crate) fn packaging(&self) -> &Packaging {
        &self.packaging
    }

    /// A lane of the table among those of all tables. Two lanes may share a number, and then wait for each other.
    pub fn lane_key(&self, lane: LaneId) -> u64 {
        lane.key_in(self.table)
    }
}

/// A record as a CloudEvent.
#[derive(Debug, Clone, Copy)]
struct RecordEvent<'r> {
    encoder: &'r Encoder,
    record: &'r Record,
    telling: Telling,
}

impl Describe for RecordEvent<'_> {
    fn attributes(&self, visitor: &mut impl Visitor) {
        let Self { encoder: Encoder { profile, context, .. }, record, telling } = *self;
        match profile {
            EventProfile::Aws => profile::visit_aws(context, record, telling, visitor),
            EventProfile::Triggermesh => profile::visit_triggermesh(context, record, telling, visitor),
            EventProfile::IntegrationSource => profile::visit_integration_source(record, telling, visitor),
        }
    }

    fn has_data(&self) -> bool {
        self.telling.has_data
    }

    fn usual_data_len(&self) -> usize {
        self.encoder.data.usual_len(&self.encoder.context, self.record)
    }

    fn write_data(&self, json: &mut impl Output) {
        self.encoder.data.write(&self.encoder.context, self.record, json);
    }
}

/// The type of the events that tell gaps.
const GAP_TYPE: &str = "com.amazonaws.dynamodb.gap";

/// The `id` of a gap's event: a function of the stream, the shard and the position alone, so that consumers recognise by
/// `source` and `id` a gap that is noticed twice.
///
/// The position is that of the lost record where it is known, else that of the last record before the gap. What
/// follows the gap has no part in it: it moves while the gap is noticed again.
pub(crate) fn gap_id(gap: &Gap) -> String {
    let position = match (gap.lost, gap.after) {
        (Some(lost), _) => format!("at {lost}"),
        (None, Some(after)) => format!("after {after}"),
        (None, None) => "start".to_owned(),
    };
    let place = json!([gap.stream_arn, gap.shard, position]).to_string();
    format!("gap-{}", hash_text(&place))
}

/// The message that tells the gap, which was noticed at `noticed`, with further extensions. It travels like every other.
pub(crate) fn encode_gap(gap: &Gap, packaging: &Packaging, noticed: SystemTime, extensions: &[Extension]) -> Message {
    packaging.message(&gap_event(gap, noticed), extensions)
}

/// The event; `time` is the moment at which the gap was noticed.
fn gap_event(gap: &Gap, noticed: SystemTime) -> Event {
    let place = gap.shard.as_deref().unwrap_or(&gap.stream_arn);
    let mut event = EventBuilderV10::new()
        .id(gap_id(gap))
        .ty(GAP_TYPE)
        .source(&gap.table_arn)
        .subject(place)
        .extension("partitionkey", printable(place))
        .data("application/json", gap_data(gap));
    if let Some(time) = clock::utc_in_millis(noticed) {
        event = event.extension("recordedtime", clock::rfc3339(time)).time(time);
    }
    event.build().expect("id, source and type are set, and an ARN is never empty")
}

fn gap_data(gap: &Gap) -> serde_json::Value {
    json!({
        "table": table_name(&gap.table_arn),
        "stream": gap.stream_arn,
        "shard": gap.shard,
        "after": gap.after.map(|after| after.sequence).filter(|after| *after != SequenceNumber::ZERO),
        "before": gap.before,
        "reason": gap.reason.as_str(),
        "lanes": gap.lanes,
    })
}

/// The name in a table's ARN; the whole text where it is none.
fn table_name(arn: &str) -> &str {
    arn.split_once(":table/").map_or(arn, |(_, name)| name)
}

/// A text that needs no percent-encoding: itself, or its hash.
fn printable(text: &str) -> String {
    if wire_len(text) == text.len() { text.to_owned() } else { format!("~{}", hash_text(text)) }
}

#[cfg(test)]
mod tests;
