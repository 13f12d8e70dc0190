//! Which attributes an event has: one file for each profile.
//!
//! A profile hands a record's attributes to a serializer of the CloudEvents SDK's kind. It knows neither the form of
//! the data nor the encoding of the whole. Those that replace or add attributes later (overrides, dead-letter
//! attributes) stand between it and the serializer, as a serializer that passes the rest on.

pub(super) mod aws;
pub(super) mod integration_source;
pub(super) mod triggermesh;

use cloudevents::message::{BinarySerializer, MessageAttributeValue, Result};

use super::RecordEvent;
use crate::clock;

/// The attributes that the foreign profiles share: their `time` is when the record was read.
fn core<R, V: BinarySerializer<R>>(event: &RecordEvent<'_>, visitor: V, source: &str, kind: &str) -> Result<V> {
    let visitor = visitor
        .set_attribute("id", text(event.record.event_id()))?
        .set_attribute("source", MessageAttributeValue::UriRef(source.to_owned()))?
        .set_attribute("type", text(kind))?
        .set_attribute("datacontenttype", text("application/json"))?;
    match clock::utc_in_millis(event.recorded) {
        Some(read) => visitor.set_attribute("time", MessageAttributeValue::DateTime(read)),
        None => Ok(visitor),
    }
}

fn text(value: &str) -> MessageAttributeValue {
    MessageAttributeValue::String(value.to_owned())
}

#[cfg(test)]
mod tests;
