//! The default profile: attributes by the CloudEvents specification and its documented extensions.
//!
//! `partitionkey`: Partitioning; `sequence`: Sequence; `recordedtime`: Recorded Time; `authtype` and `authid`: Auth
//! Context.

use cloudevents::message::{BinarySerializer, MessageAttributeValue, Result};

use crate::clock;
use crate::event::{RecordEvent, key};
use crate::streams::wire::Operation;

/// Who deletes expired items, as `userIdentity` names it.
const TTL_PRINCIPAL: &str = "dynamodb.amazonaws.com";

/// Hands all attributes of a record's event to `visitor`.
pub(in crate::event) fn visit<R, V: BinarySerializer<R>>(event: &RecordEvent<'_>, visitor: V) -> Result<V> {
    let visitor = visit_core(event, visitor)?;
    let visitor = visit_key(event, visitor)?;
    visit_extensions(event, visitor)
}

fn visit_core<R, V: BinarySerializer<R>>(event: &RecordEvent<'_>, visitor: V) -> Result<V> {
    let record = event.record;
    let visitor = visitor
        .set_attribute("id", text(record.event_id()))?
        .set_attribute("source", MessageAttributeValue::UriRef(event.stream.table_arn.clone()))?
        .set_attribute("type", text(event_type(record.operation())))?
        .set_attribute("datacontenttype", text("application/json"))?;
    // CloudEvents asks for one rule for all events of a source: never a substitute for a creation time.
    match record.created_at_millis().and_then(clock::utc_from_millis) {
        Some(created) => visitor.set_attribute("time", MessageAttributeValue::DateTime(created)),
        None => Ok(visitor),
    }
}

fn visit_key<R, V: BinarySerializer<R>>(event: &RecordEvent<'_>, visitor: V) -> Result<V> {
    let texts = key::texts(event.record, &event.stream.key_schema);
    visitor
        .set_attribute("subject", MessageAttributeValue::String(texts.subject))?
        .set_extension("partitionkey", MessageAttributeValue::String(texts.partition_key))
}

fn visit_extensions<R, V: BinarySerializer<R>>(event: &RecordEvent<'_>, visitor: V) -> Result<V> {
    let record = event.record;
    let mut visitor = visitor
        .set_extension("sequence", MessageAttributeValue::String(record.sequence_number().padded()))?
        .set_extension("dynamodboperation", text(record.operation_name()))?;
    if let Some(recorded) = clock::utc_in_millis(event.recorded) {
        visitor = visitor.set_extension("recordedtime", MessageAttributeValue::DateTime(recorded))?;
    }
    if record.is_ttl_delete() {
        visitor = visitor.set_extension("authtype", text("system"))?.set_extension("authid", text(TTL_PRINCIPAL))?;
    }
    Ok(visitor)
}

fn event_type(operation: Operation) -> &'static str {
    match operation {
        Operation::Insert => "com.amazonaws.dynamodb.insert",
        Operation::Modify => "com.amazonaws.dynamodb.modify",
        Operation::Remove => "com.amazonaws.dynamodb.remove",
    }
}

fn text(value: &str) -> MessageAttributeValue {
    MessageAttributeValue::String(value.to_owned())
}
