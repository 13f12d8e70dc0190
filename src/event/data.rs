//! What an event's data looks like: the form that AWS itself uses, and what all forms write JSON with.
//!
//! A form writes one JSON value from the record's members, which it copies as AWS sent them wherever the form allows. The
//! forms that write items in another way have a file each: they walk through AWS's text once and build no tree.

pub(super) mod integration_source;
pub(super) mod json;
pub(super) mod triggermesh;

mod attribute;

use super::EventContext;
use crate::records::Record;

/// More than all names and fixed members of a record need.
const FRAME: usize = 512;

/// The record as an AWS Lambda function gets it.
///
/// Members are the Lambda event's, absent ones left out; keys and images are copied byte for byte. `eventID`,
/// `eventName`, `awsRegion` and `dynamodb.SizeBytes` are always there, because `aws_lambda_events` refuses a record
/// without them, and the time is in whole seconds, because it misreads a fraction.
pub(super) fn write_dynamodb_json(context: &EventContext, record: &Record) -> Vec<u8> {
    let images = record.new_image().map_or(0, str::len) + record.old_image().map_or(0, str::len);
    let expected = FRAME + context.stream_arn.len() + record.keys().len() + images;
    let mut data = Object::open(Vec::with_capacity(expected));
    data.text("eventID", record.event_id());
    data.text("eventName", record.operation_name());
    data.optional_text("eventVersion", record.event_version());
    data.optional_text("eventSource", record.event_source());
    data.text("awsRegion", record.region().unwrap_or(&context.region));
    data.nested("dynamodb", |change| write_change(change, record));
    if let Some(identity) = record.identity() {
        data.nested("userIdentity", |user| {
            user.optional_text("principalId", identity.principal_id);
            user.optional_text("type", identity.kind);
        });
    }
    data.text("eventSourceARN", &context.stream_arn);
    data.close()
}

fn write_change(change: &mut Object, record: &Record) {
    if let Some(millis) = record.created_at_millis() {
        change.number("ApproximateCreationDateTime", millis.div_euclid(1000));
    }
    change.raw("Keys", record.keys());
    change.optional_raw("NewImage", record.new_image());
    change.optional_raw("OldImage", record.old_image());
    change.raw("SequenceNumber", &format!("\"{}\"", record.sequence_number()));
    change.number("SizeBytes", record.size_bytes().unwrap_or(0));
    change.optional_text("StreamViewType", record.view_type());
}

/// A JSON object under construction. Member names are written as they are: they must need no escaping.
pub(super) struct Object {
    json: Vec<u8>,
    empty: bool,
}

impl Object {
    /// An object that continues `json`.
    pub(super) fn open(mut json: Vec<u8>) -> Self {
        json.push(b'{');
        Self { json, empty: true }
    }

    pub(super) fn close(mut self) -> Vec<u8> {
        self.json.push(b'}');
        self.json
    }

    fn name(&mut self, name: &'static str) {
        self.json.extend_from_slice(if self.empty { b"\"" } else { b",\"" });
        self.json.extend_from_slice(name.as_bytes());
        self.json.extend_from_slice(b"\":");
        self.empty = false;
    }

    /// A member whose value is what `write` appends.
    pub(super) fn member(&mut self, name: &'static str, write: impl FnOnce(&mut Vec<u8>)) {
        self.name(name);
        write(&mut self.json);
    }

    pub(super) fn raw(&mut self, name: &'static str, json: &str) {
        self.name(name);
        self.json.extend_from_slice(json.as_bytes());
    }

    pub(super) fn optional_raw(&mut self, name: &'static str, json: Option<&str>) {
        if let Some(json) = json {
            self.raw(name, json);
        }
    }

    pub(super) fn text(&mut self, name: &'static str, text: &str) {
        self.name(name);
        serde_json::to_writer(&mut self.json, text).expect("a text is JSON, and memory takes it");
    }

    pub(super) fn optional_text(&mut self, name: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    pub(super) fn number(&mut self, name: &'static str, number: impl serde::Serialize) {
        self.name(name);
        serde_json::to_writer(&mut self.json, &number).expect("an integer is JSON, and memory takes it");
    }

    pub(super) fn nested(&mut self, name: &'static str, members: impl FnOnce(&mut Self)) {
        self.name(name);
        let mut inner = Self::open(std::mem::take(&mut self.json));
        members(&mut inner);
        self.json = inner.close();
    }
}

/// Appends what `write` makes of each part, with commas between.
pub(super) fn push_parts<T>(
    json: &mut Vec<u8>,
    parts: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    for (index, part) in parts.enumerate() {
        if index > 0 {
            json.push(b',');
        }
        write(json, part);
    }
}

#[cfg(test)]
mod tests;
