//! Which attributes an event has: three profiles, and an item's key as the texts `subject` and `partitionkey`.
//!
//! A profile names a record's attributes to a [`Visitor`]. It knows neither the form of the data nor the encoding of the whole.
//! What replaces or adds attributes later (overrides, dead-letter attributes) stands between the two.

use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::EventContext;
use super::http::{Value, Visitor, wire_len};
use crate::clock::{self, Rfc3339};
use crate::config::is_forbidden_in_attributes;
use crate::records::{ItemKey, KeyType, Operation, Record};

/// Who deletes expired items, as `userIdentity` names it.
const TTL_PRINCIPAL: &str = "dynamodb.amazonaws.com";

/// TriggerMesh's type of every event, whatever happened to the item.
const TRIGGERMESH_TYPE: &str = "com.amazon.dynamodb.stream_record";

const INTEGRATION_SOURCE_TYPE: &str = "dev.knative.eventing.aws-ddb-streams";
const INTEGRATION_SOURCE: &str = "dev.knative.eventing.aws-ddb-streams-source";
const INTEGRATION_SOURCE_SUBJECT: &str = "aws-ddb-streams-source";

/// The most characters of a `subject` in a header.
const MAX_SUBJECT: usize = 512;

/// The most characters of a `partitionkey`.
const MAX_PARTITION_KEY: usize = 128;

/// Hexadecimal digits of a hash: 128 bits.
const HASH_DIGITS: usize = 32;

/// What is told of a record besides its own members.
#[derive(Debug, Clone, Copy)]
pub(super) struct Telling {
    pub(super) recorded: SystemTime,
    /// Whether the event has data, and so a `datacontenttype`.
    pub(super) has_data: bool,
}

/// The default profile: attributes by the CloudEvents specification and its documented extensions.
///
/// `partitionkey`: Partitioning; `sequence`: Sequence; `recordedtime`: Recorded Time; `authtype` and `authid`: Auth
/// Context.
pub(super) fn visit_aws(context: &EventContext, record: &Record, telling: Telling, visitor: &mut impl Visitor) {
    let key = KeyTexts::of(&record.item_key(&context.key_schema));
    visit_core(Value::Shared(&context.table_arn), record, event_type(record.operation()), telling, visitor);
    // CloudEvents asks for one rule for all events of a source: never a substitute for a creation time.
    if let Some(created) = record.created_at_millis().and_then(clock::utc_from_millis) {
        visitor.attribute("time", Value::Moment(Rfc3339::of(created)));
    }
    visitor.attribute("subject", key.subject.into());
    visitor.attribute("partitionkey", key.partition_key.into());
    visitor.attribute("sequence", context.sequence(record).into());
    visitor.attribute("dynamodboperation", Value::Fixed(record.operation_name()));
    if let Some(recorded) = clock::utc_in_millis(telling.recorded) {
        visitor.attribute("recordedtime", Value::Moment(Rfc3339::of(recorded)));
    }
    if record.is_ttl_delete() {
        visitor.attribute("authtype", Value::Fixed("system"));
        visitor.attribute("authid", Value::Fixed(TTL_PRINCIPAL));
    }
}

fn event_type(operation: Operation) -> &'static str {
    match operation {
        Operation::Insert => "com.amazonaws.dynamodb.insert",
        Operation::Modify => "com.amazonaws.dynamodb.modify",
        Operation::Remove => "com.amazonaws.dynamodb.remove",
    }
}

/// The attributes that TriggerMesh's AWSDynamoDBSource sets.
///
/// Two differ from the original, which is no loss to who read it: the key's names in `subject` have a fixed order, that
/// of the key schema, where the original's is random; and `time`, the original's time of sending, is the time of
/// reading, so that an event that is sent again is the same.
pub(super) fn visit_triggermesh(context: &EventContext, record: &Record, telling: Telling, visitor: &mut impl Visitor) {
    visit_core(Value::Shared(&context.table_arn), record, TRIGGERMESH_TYPE, telling, visitor);
    visit_time_of_reading(telling, visitor);
    // The names of the key's attributes, never their values.
    let key = record.item_key(&context.key_schema);
    let names: Vec<&str> = key.attributes().map(|attribute| attribute.name).collect();
    let subject = names.join(",");
    if !subject.is_empty() {
        visitor.attribute("subject", subject.into());
    }
    visitor.attribute("dynamodboperation", Value::Fixed(record.operation_name()));
}

/// The attributes that Knative's IntegrationSource sets with `aws.ddbStreams`.
///
/// Two differ from the original: `id`, which there is another at every read, is the record's own; and `time` is the
/// time of reading.
pub(super) fn visit_integration_source(record: &Record, telling: Telling, visitor: &mut impl Visitor) {
    visit_core(Value::Fixed(INTEGRATION_SOURCE), record, INTEGRATION_SOURCE_TYPE, telling, visitor);
    visit_time_of_reading(telling, visitor);
    visitor.attribute("subject", Value::Fixed(INTEGRATION_SOURCE_SUBJECT));
}

/// The attributes that every event has.
fn visit_core(source: Value<'_>, record: &Record, kind: &'static str, telling: Telling, visitor: &mut impl Visitor) {
    visitor.attribute("specversion", Value::Fixed("1.0"));
    visitor.attribute("id", record.event_id().into());
    visitor.attribute("source", source);
    visitor.attribute("type", Value::Fixed(kind));
    if telling.has_data {
        visitor.attribute("datacontenttype", Value::Fixed("application/json"));
    }
}

/// The `time` of the foreign profiles.
fn visit_time_of_reading(telling: Telling, visitor: &mut impl Visitor) {
    if let Some(read) = clock::utc_in_millis(telling.recorded) {
        visitor.attribute("time", Value::Moment(Rfc3339::of(read)));
    }
}

/// A length that the attributes of a record's event never exceed as members of a JSON object; it costs next to nothing.
pub(super) fn max_len(context: &EventContext, record: &Record) -> usize {
    // In JSON a byte becomes six at most, and a text that was sent never longer than it was sent. A `subject` of ours has at
    // most so many characters in a header, where a quote counts more and a backslash half; TriggerMesh's are names of the key.
    let subject = (2 * MAX_SUBJECT).max(record.keys().len());
    let sequence = context.sequence_width.max(record.sequence_number().as_str().len());
    FIXED_ATTRIBUTES + context.table_arn.json().len() + 6 * record.event_id().len() + subject + sequence
}

/// More than all other attributes need, with the names of all of them.
const FIXED_ATTRIBUTES: usize = 512 + 2 * MAX_PARTITION_KEY;

/// An item's key as text.
///
/// Both texts are functions of the key alone, never of the order in which a record lists it. Of one table's keys, no two
/// share a text, up to collisions of a 128-bit hash. The rules are written down for users in `docs/cloudevents.md`
/// and never change: consumers partition and compact by them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyTexts {
    /// For people and filters: readable.
    subject: String,
    /// For brokers that partition: short, printable ASCII without space, quote or percent.
    partition_key: String,
}

impl KeyTexts {
    fn of(key: &ItemKey<&str>) -> Self {
        Self { subject: subject(key), partition_key: partition_key(key) }
    }
}

/// The key's values, joined by `/`; in a key of several values `~` and `/` are written `~0` and `~1`, as in a JSON
/// pointer. What is too long, or holds what CloudEvents forbids, is cut there and completed by `~` and a hash.
fn subject(key: &ItemKey<&str>) -> String {
    let mut attributes = key.attributes();
    let text = match (attributes.next(), attributes.next()) {
        (Some(only), None) => only.value.to_owned(),
        _ => join(key.attributes().map(|attribute| ("", attribute.value))),
    };
    let whole = !text.is_empty() && !looks_completed(&text) && legal_within(&text, MAX_SUBJECT) == text.len();
    if whole { text } else { complete(&text, &canonical(key)) }
}

/// The key's canonical text where that is short and needs no percent-encoding, else `~` and the hash of it.
fn partition_key(key: &ItemKey<&str>) -> String {
    let text = canonical(key);
    let plain = text.len() <= MAX_PARTITION_KEY && wire_len(&text) == text.len();
    if plain { text } else { format!("~{}", hash_text(&text)) }
}

/// `S:order-1001/N:7`: each value with its type, escaped as in a JSON pointer, partition key first.
fn canonical(key: &ItemKey<&str>) -> String {
    join(key.attributes().map(|attribute| (prefix(attribute.kind), attribute.value)))
}

fn prefix(kind: KeyType) -> &'static str {
    match kind {
        KeyType::String => "S:",
        KeyType::Number => "N:",
        KeyType::Binary => "B:",
    }
}

/// The text up to its first unusable place, then `~` and the hash of the canonical text.
///
/// A text that merely looks like that is completed as well, so that nobody can name an item like another's subject.
fn complete(text: &str, canonical: &str) -> String {
    let room = MAX_SUBJECT - HASH_DIGITS - 1;
    let kept = &text[..legal_within(text, room)];
    format!("{kept}~{}", hash_text(canonical))
}

/// Whether a text ends like one that [`complete`] has made.
fn looks_completed(text: &str) -> bool {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let Some(start) = text.len().checked_sub(HASH_DIGITS + 1) else {
        return false;
    };
    let (tilde, digits) = (text.as_bytes()[start], &text.as_bytes()[start + 1..]);
    tilde == b'~' && digits.iter().all(is_hex)
}

/// How many bytes of a text can stand in a `subject` of at most `room` characters on the wire.
fn legal_within(text: &str, room: usize) -> usize {
    if text.len() <= room && wire_len(text) == text.len() {
        return text.len();
    }
    let mut used = 0;
    for (start, character) in text.char_indices() {
        let encoded = wire_len(&text[start..start + character.len_utf8()]);
        used += encoded;
        if used > room || is_forbidden_in_attributes(character) {
            return start;
        }
    }
    text.len()
}

/// Values joined by `/`, each behind its prefix; `~` and `/` inside a value are written `~0` and `~1`.
fn join<'v>(values: impl Iterator<Item = (&'static str, &'v str)> + Clone) -> String {
    let length = values.clone().map(|(prefix, value)| prefix.len() + value.len() + 1).sum();
    let mut text = String::with_capacity(length);
    for (index, (prefix, value)) in values.enumerate() {
        if index > 0 {
            text.push('/');
        }
        text.push_str(prefix);
        push_escaped(&mut text, value);
    }
    text
}

fn push_escaped(text: &mut String, value: &str) {
    let mut rest = value;
    while let Some(at) = rest.find(['~', '/']) {
        text.push_str(&rest[..at]);
        text.push_str(if rest[at..].starts_with('~') { "~0" } else { "~1" });
        rest = &rest[at + 1..];
    }
    text.push_str(rest);
}

/// The first 128 bits of a text's SHA-256, as 32 lower-case hexadecimal digits.
pub(super) fn hash_text(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let bits = digest.first_chunk().expect("a SHA-256 has 256 bits");
    format!("{:0HASH_DIGITS$x}", u128::from_be_bytes(*bits))
}

#[cfg(test)]
mod tests;
