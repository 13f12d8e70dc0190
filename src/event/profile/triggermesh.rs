//! The attributes that TriggerMesh's AWSDynamoDBSource sets.
//!
//! Two differ from the original, which is no loss to who read it: the key's names in `subject` have a fixed order, that
//! of the key schema, where the original's is random; and `time`, the original's time of sending, is the time of
//! reading, so that an event that is sent again is the same.

use cloudevents::message::{BinarySerializer, Result};

use super::{core, text};
use crate::event::RecordEvent;

/// Of every event, whatever happened to the item.
const TYPE: &str = "com.amazon.dynamodb.stream_record";

/// Hands all attributes of a record's event to `visitor`.
pub(in crate::event) fn visit<R, V: BinarySerializer<R>>(event: &RecordEvent<'_>, visitor: V) -> Result<V> {
    let visitor = core(event, visitor, &event.stream.table_arn, TYPE)?;
    let subject = subject(event);
    let visitor = if subject.is_empty() { visitor } else { visitor.set_attribute("subject", text(&subject))? };
    visitor.set_extension("dynamodboperation", text(event.record.operation_name()))
}

/// The names of the key's attributes, never their values.
fn subject(event: &RecordEvent<'_>) -> String {
    let key = event.record.item_key(&event.stream.key_schema);
    let names: Vec<&str> = key.attributes().map(|attribute| attribute.name).collect();
    names.join(",")
}
