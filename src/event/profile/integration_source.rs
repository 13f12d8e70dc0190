//! The attributes that Knative's IntegrationSource sets with `aws.ddbStreams`.
//!
//! Two differ from the original: `id`, which there is another at every read, is the record's own; and `time` is the
//! time of reading.

use cloudevents::message::{BinarySerializer, Result};

use super::{core, text};
use crate::event::RecordEvent;

const TYPE: &str = "dev.knative.eventing.aws-ddb-streams";
const SOURCE: &str = "dev.knative.eventing.aws-ddb-streams-source";
const SUBJECT: &str = "aws-ddb-streams-source";

/// Hands all attributes of a record's event to `visitor`.
pub(in crate::event) fn visit<R, V: BinarySerializer<R>>(event: &RecordEvent<'_>, visitor: V) -> Result<V> {
    core(event, visitor, SOURCE, TYPE)?.set_attribute("subject", text(SUBJECT))
}
