//! Which form data has, and how long it can get in each.

use super::{integration_source, json, triggermesh, write_dynamodb_json};
use crate::config::{EventData, EventProfile};
use crate::event::EventContext;
use crate::event::output::{Output, json_len};
use crate::records::Record;

/// More than all names and fixed members of a record need, in any form.
const FRAME: usize = 512;

/// The forms that data can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::event) enum DataForm {
    /// The record as AWS Lambda gets it.
    DynamodbJson,
    /// The item in plain JSON.
    Json,
    Triggermesh,
    IntegrationSource,
}

impl DataForm {
    /// What a profile's data look like; only ours leaves a choice.
    pub(in crate::event) fn of(profile: EventProfile, data: EventData) -> Self {
        match (profile, data) {
            (EventProfile::Aws, EventData::DynamodbJson) => Self::DynamodbJson,
            (EventProfile::Aws, EventData::Json) => Self::Json,
            (EventProfile::Triggermesh, _) => Self::Triggermesh,
            (EventProfile::IntegrationSource, _) => Self::IntegrationSource,
        }
    }

    /// Appends a record's data.
    pub(in crate::event) fn write(self, context: &EventContext, record: &Record, json: &mut impl Output) {
        match self {
            Self::DynamodbJson => write_dynamodb_json(context, record, json),
            Self::Json => json::write(record, json),
            Self::Triggermesh => triggermesh::write(record, json),
            Self::IntegrationSource => integration_source::write(record, json),
        }
    }

    /// About how long a record's data is. What is not needed is kept as long as the event is.
    pub(in crate::event) fn usual_len(self, context: &EventContext, record: &Record) -> usize {
        match self {
            Self::DynamodbJson => {
                FRAME + context.stream_arn.json().len() + record.keys_as_sent().len() + record.images_len()
            }
            Self::Json => record.len(),
            // A short value takes six or ten times the space that it had, a long text no more.
            Self::Triggermesh | Self::IntegrationSource => record.len() * 2,
        }
    }

    /// A length that a record's data never exceeds; it costs next to nothing. A record's own text is at least as long as what is
    /// taken from it, since JSON writes no text shorter than a form without substitutes of its own does.
    pub(in crate::event) fn max_len(self, context: &EventContext, record: &Record) -> usize {
        match self {
            // Copied from the record, and what every event of the stream says of it.
            Self::DynamodbJson => record.len() + json_len(&context.region) + context.stream_arn.json().len() + FRAME,
            // A value loses its type's name, and only that makes room for what a number may gain.
            Self::Json => record.len() + FRAME,
            Self::Triggermesh => triggermesh::GROWTH.of(record.len()) + FRAME,
            Self::IntegrationSource => integration_source::GROWTH.of(record.len()) + FRAME,
        }
    }
}
