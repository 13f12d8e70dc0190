//! The record as TriggerMesh's AWSDynamoDBSource sends it: the structs of the AWS SDK for Go 1, as Go's
//! `encoding/json` writes them.
//!
//! Members are in PascalCase and in byte order, those of items too; nothing is left out, and what is not set is `null`.
//! Every attribute value has all ten members. One that is no attribute value, or lies deeper than
//! [`MAX_DEPTH`], which the original loses or refuses, is passed on as AWS sent it.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::attribute::{Attribute, Content, GO, MAX_DEPTH, Map, Text, Texts};
use super::{Growth, Object, push_parts};
use crate::clock;
use crate::event::output::Output;
use crate::records::Record;

/// An attribute value of which nothing is set.
const UNSET: &str =
    r#"{"B":null,"BOOL":null,"BS":null,"L":null,"M":null,"N":null,"NS":null,"NULL":null,"S":null,"SS":null}"#;

/// The shortest value that has all ten members: one of them is not `null` but an empty text, list or map.
pub(super) const GROWTH: Growth = Growth::by_frame(UNSET.len() - "null".len() + "\"\"".len());

/// Writes a record's data.
pub(super) fn write(record: &Record, json: &mut impl Output) {
    let mut data = Object::open(json);
    text(&mut data, "AwsRegion", record.region());
    data.nested("Dynamodb", |change| write_change(change, record));
    text(&mut data, "EventID", Some(record.event_id()));
    text(&mut data, "EventName", Some(record.operation_name()));
    text(&mut data, "EventSource", record.event_source());
    text(&mut data, "EventVersion", record.event_version());
    match record.identity() {
        None => data.raw("UserIdentity", "null"),
        Some(identity) => data.nested("UserIdentity", |user| {
            text(user, "PrincipalId", identity.principal_id);
            text(user, "Type", identity.kind);
        }),
    }
    data.close();
}

fn write_change(change: &mut Object<'_, impl Output>, record: &Record) {
    let created = record.created_at_millis().and_then(clock::utc_from_millis).map(clock::rfc3339);
    text(change, "ApproximateCreationDateTime", created.as_deref().map(without_trailing_zeros).as_deref());
    let mut items = Items::default();
    items.write(change, "Keys", Some(record.keys()));
    items.write(change, "NewImage", record.new_image());
    items.write(change, "OldImage", record.old_image());
    text(change, "SequenceNumber", Some(record.sequence_number().as_str()));
    match record.size_bytes() {
        Some(size) => change.number("SizeBytes", size),
        None => change.raw("SizeBytes", "null"),
    }
    text(change, "StreamViewType", record.view_type());
}

fn text(object: &mut Object<'_, impl Output>, name: &'static str, text: Option<&str>) {
    match text {
        Some(text) => object.member(name, |json| GO.push_text(json, text)),
        None => object.raw(name, "null"),
    }
}

/// A moment as Go writes it: no zero ends a fraction.
fn without_trailing_zeros(moment: &str) -> Cow<'_, str> {
    match moment.strip_suffix('Z') {
        Some(digits) if digits.contains('.') && digits.ends_with('0') => {
            Cow::Owned(format!("{}Z", digits.trim_end_matches('0')))
        }
        _ => Cow::Borrowed(moment),
    }
}

/// Writes items. Of the maps that are being written it holds what is still to come, each in byte order.
#[derive(Default)]
struct Items<'r> {
    waiting: Vec<(Cow<'r, str>, Attribute<'r>)>,
}

impl<'r> Items<'r> {
    fn write(&mut self, change: &mut Object<'_, impl Output>, name: &'static str, item: Option<&'r str>) {
        match item {
            Some(item) => change.member(name, |json| self.write_map(json, Map::of_item(item), 1)),
            None => change.raw(name, "null"),
        }
    }

    /// Of a name that is sent twice the last one counts, as in Go.
    fn write_map<O: Output>(&mut self, json: &mut O, map: Map<'r>, depth: usize) {
        json.push(b'{');
        // Only who reads it sees the order, and a map of very many members takes much memory to sort.
        if O::IS_READ || has_repeated_name(map) {
            self.write_sorted(json, map, depth);
        } else {
            push_parts(json, map.iter(), |json, (name, attribute)| {
                self.write_member(json, &name.decoded(), attribute, depth);
            });
        }
        json.push(b'}');
    }

    fn write_sorted(&mut self, json: &mut impl Output, map: Map<'r>, depth: usize) {
        let first = self.waiting.len();
        self.waiting.extend(map.iter().map(|(name, attribute)| (name.decoded(), attribute)));
        self.waiting[first..].sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut separator: &[u8] = b"";
        let end = self.waiting.len();
        for at in first..end {
            let (name, attribute) = std::mem::replace(&mut self.waiting[at], (Cow::Borrowed(""), NOTHING));
            if at + 1 < end && self.waiting[at + 1].0 == name {
                continue;
            }
            json.extend_from_slice(separator);
            separator = b",";
            self.write_member(json, &name, attribute, depth);
        }
        self.waiting.truncate(first);
    }

    fn write_member(&mut self, json: &mut impl Output, name: &str, attribute: Attribute<'r>, depth: usize) {
        GO.push_text(json, name);
        json.push(b':');
        self.write_attribute(json, attribute, depth);
    }

    fn write_attribute(&mut self, json: &mut impl Output, attribute: Attribute<'r>, depth: usize) {
        let (before, after) = match frame(attribute.content) {
            Some(frame) if depth <= MAX_DEPTH => frame,
            _ => return json.extend_from_slice(attribute.raw.as_bytes()),
        };
        json.extend_from_slice(before.as_bytes());
        match attribute.content {
            Content::Text(text) | Content::Number(text) | Content::Binary(text) => GO.push_sent(json, text),
            Content::Flag(flag) | Content::Null(flag) => json.extend_from_slice(if flag { b"true" } else { b"false" }),
            Content::TextSet(set) | Content::NumberSet(set) | Content::BinarySet(set) => write_set(json, set),
            Content::List(list) => {
                json.push(b'[');
                push_parts(json, list.iter(), |json, value| self.write_attribute(json, value, depth + 1));
                json.push(b']');
            }
            Content::Map(map) => self.write_map(json, map, depth + 1),
            Content::Unknown => {}
        }
        json.extend_from_slice(after.as_bytes());
    }
}

/// Whether a name may stand twice in a map: two that only share a hash count as one.
fn has_repeated_name(map: Map<'_>) -> bool {
    let hashed = |(name, _): (Text<'_>, Attribute<'_>)| {
        let mut hash = DefaultHasher::new();
        name.decoded().hash(&mut hash);
        hash.finish()
    };
    let mut hashes: Vec<u64> = map.iter().map(hashed).collect();
    hashes.sort_unstable();
    hashes.windows(2).any(|pair| pair[0] == pair[1])
}

const NOTHING: Attribute<'static> = Attribute { raw: "", content: Content::Unknown };

fn write_set(json: &mut impl Output, set: Texts<'_>) {
    json.push(b'[');
    push_parts(json, set.iter(), |json, text| GO.push_sent(json, text));
    json.push(b']');
}

/// What stands before and after the content of an attribute value.
fn frame(content: Content<'_>) -> Option<(&'static str, &'static str)> {
    Some(match content {
        Content::Binary(_) => const { around("\"B\":") },
        Content::Flag(_) => const { around("\"BOOL\":") },
        Content::BinarySet(_) => const { around("\"BS\":") },
        Content::List(_) => const { around("\"L\":") },
        Content::Map(_) => const { around("\"M\":") },
        Content::Number(_) => const { around("\"N\":") },
        Content::NumberSet(_) => const { around("\"NS\":") },
        Content::Null(_) => const { around("\"NULL\":") },
        Content::Text(_) => const { around("\"S\":") },
        Content::TextSet(_) => const { around("\"SS\":") },
        Content::Unknown => return None,
    })
}

/// [`UNSET`] up to the end of a member's name, and from behind its `null`.
const fn around(name: &str) -> (&'static str, &'static str) {
    let (unset, name) = (UNSET.as_bytes(), name.as_bytes());
    let mut start = 0;
    loop {
        let mut same = 0;
        while same < name.len() && unset[start + same] == name[same] {
            same += 1;
        }
        if same == name.len() {
            let (before, rest) = UNSET.split_at(start + same);
            return (before, rest.split_at("null".len()).1);
        }
        start += 1;
    }
}
