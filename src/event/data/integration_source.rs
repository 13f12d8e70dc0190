//! The record as Knative's IntegrationSource sends it: the classes of the AWS SDK for Java 2, as Gson writes them.
//!
//! Members are in camelCase and in the order of those classes, items in the order of the wire. What is not set is left
//! out, except that an absent image is `{}` and that every attribute value has its five collections. Binary is a list
//! of signed bytes. What is no attribute value, or binary that is not base64, or lies deeper than [`MAX_DEPTH`], is
//! passed on as AWS sent it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::attribute::{Attribute, Content, GSON, MAX_DEPTH, Map, Text, Texts};
use super::{Growth, Object, push_parts};
use crate::event::output::Output;
use crate::records::Record;

/// Most is written around binary values; bytes become up to four characters and a comma, of which base64 needs one and a third.
pub(super) const GROWTH: Growth =
    Growth::by_frame(r#"{"b":{"bytes":[]},"ss":[],"ns":[],"bs":[],"m":{},"l":[],"type":"B"}"#.len());

/// Writes a record's data.
pub(super) fn write(record: &Record, json: &mut impl Output) {
    let mut data = Object::open(json);
    text(&mut data, "eventID", Some(record.event_id()));
    text(&mut data, "eventName", Some(record.operation_name()));
    text(&mut data, "eventVersion", record.event_version());
    text(&mut data, "eventSource", record.event_source());
    text(&mut data, "awsRegion", record.region());
    data.nested("dynamodb", |change| write_change(change, record));
    if let Some(identity) = record.identity() {
        data.nested("userIdentity", |user| {
            text(user, "principalId", identity.principal_id);
            text(user, "type", identity.kind);
        });
    }
    data.close();
}

fn write_change(change: &mut Object<'_, impl Output>, record: &Record) {
    if let Some(millis) = record.created_at_millis() {
        change.number("approximateCreationDateTime", millis - millis.rem_euclid(1000));
    }
    for (name, item) in
        [("keys", Some(record.keys())), ("newImage", record.new_image()), ("oldImage", record.old_image())]
    {
        change.member(name, |json| write_map(json, Map::of_item(item.unwrap_or("{}")), 1));
    }
    text(change, "sequenceNumber", Some(record.sequence_number().as_str()));
    if let Some(size) = record.size_bytes() {
        change.number("sizeBytes", size);
    }
    text(change, "streamViewType", record.view_type());
}

fn text(object: &mut Object<'_, impl Output>, name: &'static str, text: Option<&str>) {
    if let Some(text) = text {
        object.member(name, |json| GSON.push_text(json, text));
    }
}

fn write_map(json: &mut impl Output, map: Map<'_>, depth: usize) {
    json.push(b'{');
    push_parts(json, map.iter(), |json, (name, attribute)| {
        GSON.push_sent(json, name);
        json.push(b':');
        write_attribute(json, attribute, depth);
    });
    json.push(b'}');
}

fn write_attribute(json: &mut impl Output, attribute: Attribute<'_>, depth: usize) {
    let start = json.len();
    if depth > MAX_DEPTH || write_known(json, attribute.content, depth).is_none() {
        json.truncate(start);
        json.extend_from_slice(attribute.raw.as_bytes());
    }
}

/// Writes an attribute value; nothing comes back if it cannot be written, possibly after a part of it was.
fn write_known(json: &mut impl Output, content: Content<'_>, depth: usize) -> Option<()> {
    let (before, after) = frame(content)?;
    json.extend_from_slice(before.as_bytes());
    match content {
        Content::Text(text) | Content::Number(text) => GSON.push_sent(json, text),
        Content::Binary(base64) => write_binary(json, base64)?,
        Content::Flag(flag) | Content::Null(flag) => json.extend_from_slice(if flag { b"true" } else { b"false" }),
        Content::TextSet(set) | Content::NumberSet(set) => push_parts(json, set.iter(), |json, text| {
            GSON.push_sent(json, text);
        }),
        Content::BinarySet(set) => write_binaries(json, set)?,
        Content::List(list) => push_parts(json, list.iter(), |json, value| write_attribute(json, value, depth + 1)),
        Content::Map(map) => write_map(json, map, depth + 1),
        Content::Unknown => return None,
    }
    json.extend_from_slice(after.as_bytes());
    Some(())
}

fn write_binaries(json: &mut impl Output, set: Texts<'_>) -> Option<()> {
    let mut all_known = true;
    push_parts(json, set.iter(), |json, base64| all_known &= write_binary(json, base64).is_some());
    all_known.then_some(())
}

/// `{"bytes":[0,-1]}`
fn write_binary(json: &mut impl Output, base64: Text<'_>) -> Option<()> {
    json.extend_from_slice(b"{\"bytes\":[");
    let mut is_first = true;
    each_decoded_byte(&base64.decoded(), |byte| {
        if !std::mem::take(&mut is_first) {
            json.push(b',');
        }
        push_signed(json, byte.cast_signed());
    })?;
    json.extend_from_slice(b"]}");
    Some(())
}

/// Decodes base64 piece by piece; nothing comes back where it is none, possibly after some of its bytes.
fn each_decoded_byte(base64: &str, mut each: impl FnMut(u8)) -> Option<()> {
    let mut decoded = [0; 3 * 256];
    let mut pieces = base64.as_bytes().chunks(4 * 256).peekable();
    while let Some(piece) = pieces.next() {
        let len = BASE64_STANDARD.decode_slice(piece, &mut decoded).ok()?;
        if len < decoded.len() && pieces.peek().is_some() {
            // Padding stands at the end alone.
            return None;
        }
        decoded[..len].iter().copied().for_each(&mut each);
    }
    Some(())
}

fn push_signed(json: &mut impl Output, byte: i8) {
    if byte < 0 {
        json.push(b'-');
    }
    let digits = byte.unsigned_abs();
    if digits >= 100 {
        json.push(b'1');
    }
    if digits >= 10 {
        json.push(b'0' + digits / 10 % 10);
    }
    json.push(b'0' + digits % 10);
}

/// What stands before and after the content of an attribute value.
fn frame(content: Content<'_>) -> Option<(&'static str, &'static str)> {
    Some(match content {
        Content::Text(_) => (r#"{"s":"#, r#","ss":[],"ns":[],"bs":[],"m":{},"l":[],"type":"S"}"#),
        Content::Number(_) => (r#"{"n":"#, r#","ss":[],"ns":[],"bs":[],"m":{},"l":[],"type":"N"}"#),
        Content::Binary(_) => (r#"{"b":"#, r#","ss":[],"ns":[],"bs":[],"m":{},"l":[],"type":"B"}"#),
        Content::TextSet(_) => (r#"{"ss":["#, r#"],"ns":[],"bs":[],"m":{},"l":[],"type":"SS"}"#),
        Content::NumberSet(_) => (r#"{"ss":[],"ns":["#, r#"],"bs":[],"m":{},"l":[],"type":"NS"}"#),
        Content::BinarySet(_) => (r#"{"ss":[],"ns":[],"bs":["#, r#"],"m":{},"l":[],"type":"BS"}"#),
        Content::Map(_) => (r#"{"ss":[],"ns":[],"bs":[],"m":"#, r#","l":[],"type":"M"}"#),
        Content::List(_) => (r#"{"ss":[],"ns":[],"bs":[],"m":{},"l":["#, r#"],"type":"L"}"#),
        Content::Flag(_) => (r#"{"ss":[],"ns":[],"bs":[],"m":{},"l":[],"bool":"#, r#","type":"BOOL"}"#),
        Content::Null(_) => (r#"{"ss":[],"ns":[],"bs":[],"m":{},"l":[],"nul":"#, r#","type":"NUL"}"#),
        Content::Unknown => return None,
    })
}
