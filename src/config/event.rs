//! What events look like.

use std::collections::BTreeMap;

use super::catalog;
use super::choice::{Choice, choices};
use super::overrides;
use super::reader::{Reader, Reported};

/// What events look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which attributes and which data they have.
    pub profile: EventProfile,
    /// The form of the data.
    pub data: EventData,
    /// How they are put into requests.
    pub mode: EventMode,
    /// Extensions to set on every event, replacing one of that name; the names are what CloudEvents allows.
    pub overrides: BTreeMap<String, String>,
}

choices! {
    /// Which attributes and which data events have.
    EventProfile {
        /// This program's own.
        Aws = "aws",
        /// Those of TriggerMesh's AWSDynamoDBSource.
        Triggermesh = "triggermesh",
        /// Those of Knative's IntegrationSource with `aws.ddbStreams`.
        IntegrationSource = "integration-source",
    }
}

choices! {
    /// The form of an event's data.
    EventData {
        /// The record as AWS Lambda gets it; with a profile that has a form of its own, that form.
        DynamodbJson = "dynamodb-json",
        /// The item in plain JSON; only with [`EventProfile::Aws`].
        Json = "json",
    }
}

choices! {
    /// The CloudEvents content mode of requests.
    EventMode {
        /// Attributes as headers, data as the body.
        Binary = "binary",
        /// Attributes and data as the body, one event a request.
        Structured = "structured",
        /// Several events a request.
        Batch = "batch",
    }
}

impl Event {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, Reported> {
        let profile = reader.value(&catalog::EVENT_PROFILE, EventProfile::parse);
        let data = data(reader, profile);
        let mode = reader.value(&catalog::EVENT_MODE, EventMode::parse);
        let overrides = reader.optional(&catalog::K_CE_OVERRIDES, overrides::parse);
        Ok(Self { profile: profile?, data: data?, mode: mode?, overrides: overrides?.unwrap_or_default() })
    }
}

/// A profile other than ours has one form of data, which is part of it.
fn data(reader: &mut Reader, profile: Result<EventProfile, Reported>) -> Result<EventData, Reported> {
    let data = reader.value(&catalog::EVENT_DATA, EventData::parse)?;
    match (data, profile) {
        (EventData::Json, Ok(EventProfile::Triggermesh | EventProfile::IntegrationSource)) => {
            Err(reader.refused(&catalog::EVENT_DATA, "only EVENT_PROFILE=aws supports this format".into()))
        }
        _ => Ok(data),
    }
}
