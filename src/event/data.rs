//! What an event's data looks like: the form that AWS itself uses, and what all forms write JSON with.
//!
//! A form writes one JSON value from the record's members, which it copies as AWS sent them wherever the form allows. The
//! forms that write items in another way have a file each: they walk through AWS's text once and build no tree.

mod attribute;
mod form;
mod integration_source;
mod json;
mod triggermesh;

pub(super) use self::form::DataForm;
use super::EventContext;
use super::output::{Output, push_text};
use crate::records::Record;

/// How much longer than on the wire a value becomes at most: `longest` bytes for `shortest`.
#[derive(Debug, Clone, Copy)]
struct Growth {
    longest: usize,
    shortest: usize,
}

impl Growth {
    /// A character of one byte, such as `<`, is written as `\u003c`; no other becomes so much longer.
    const OF_TEXT: usize = 6;

    /// Of a form that puts at most `frame` bytes around a value. The shortest value, `{"S":""}`, has eight.
    const fn by_frame(frame: usize) -> Self {
        let shortest = r#"{"S":""}"#.len();
        assert!(frame >= Self::OF_TEXT * shortest, "else texts would grow more than values");
        Self { longest: frame, shortest }
    }

    fn of(self, len: usize) -> usize {
        len.saturating_mul(self.longest).div_ceil(self.shortest)
    }
}

/// The record as an AWS Lambda function gets it.
///
/// Members are the Lambda event's, absent ones left out; keys and images are copied byte for byte. `eventID`,
/// `eventName`, `awsRegion` and `dynamodb.SizeBytes` are always there, because `aws_lambda_events` refuses a record
/// without them, and the time is in whole seconds, because it misreads a fraction.
fn write_dynamodb_json(context: &EventContext, record: &Record, json: &mut impl Output) {
    let mut data = Object::open(json);
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
    data.raw("eventSourceARN", context.stream_arn.json());
    data.close();
}

fn write_change(change: &mut Object<'_, impl Output>, record: &Record) {
    if let Some(millis) = record.created_at_millis() {
        change.number("ApproximateCreationDateTime", millis.div_euclid(1000));
    }
    change.raw("Keys", record.keys_as_sent());
    change.optional_raw("NewImage", record.new_image_as_sent());
    change.optional_raw("OldImage", record.old_image_as_sent());
    change.text("SequenceNumber", record.sequence_number().as_str());
    change.number("SizeBytes", record.size_bytes().unwrap_or(0));
    change.optional_text("StreamViewType", record.view_type());
}

/// A JSON object under construction. Member names are written as they are: they must need no escaping.
struct Object<'o, O> {
    json: &'o mut O,
    empty: bool,
}

impl<'o, O: Output> Object<'o, O> {
    /// An object that continues `json`.
    fn open(json: &'o mut O) -> Self {
        json.push(b'{');
        Self { json, empty: true }
    }

    fn close(self) {
        self.json.push(b'}');
    }

    fn name(&mut self, name: &'static str) {
        self.json.extend_from_slice(if self.empty { b"\"" } else { b",\"" });
        self.json.extend_from_slice(name.as_bytes());
        self.json.extend_from_slice(b"\":");
        self.empty = false;
    }

    /// A member whose value is what `write` appends.
    fn member(&mut self, name: &'static str, write: impl FnOnce(&mut O)) {
        self.name(name);
        write(self.json);
    }

    fn raw(&mut self, name: &'static str, json: impl AsRef<[u8]>) {
        self.name(name);
        self.json.extend_from_slice(json.as_ref());
    }

    fn optional_raw(&mut self, name: &'static str, json: Option<&[u8]>) {
        if let Some(json) = json {
            self.raw(name, json);
        }
    }

    fn text(&mut self, name: &'static str, text: &str) {
        self.name(name);
        push_text(self.json, text);
    }

    fn optional_text(&mut self, name: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    fn number(&mut self, name: &'static str, number: impl serde::Serialize) {
        self.name(name);
        serde_json::to_writer(&mut *self.json, &number).expect("an integer is JSON, and an output takes it");
    }

    fn nested(&mut self, name: &'static str, members: impl FnOnce(&mut Object<'_, O>)) {
        self.name(name);
        let mut inner = Object::open(&mut *self.json);
        members(&mut inner);
        inner.close();
    }
}

/// Appends what `write` makes of each part, with commas between.
fn push_parts<T, O: Output>(json: &mut O, parts: impl Iterator<Item = T>, mut write: impl FnMut(&mut O, T)) {
    for (index, part) in parts.enumerate() {
        if index > 0 {
            json.push(b',');
        }
        write(json, part);
    }
}

#[cfg(test)]
mod tests;
