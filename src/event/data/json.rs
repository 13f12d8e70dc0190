//! The item in plain JSON: `{"operation":"MODIFY","keys":{"id":7},"new":{..},"old":{..}}`.
//!
//! A number is a JSON number with AWS's own digits, a set is an array, binary is its base64, null is null; an absent
//! image is absent. Texts and names are copied as AWS sent them. A number that JSON cannot write stays a string. What
//! is no attribute value, or lies deeper than [`MAX_DEPTH`], is passed on as AWS sent it.

use super::attribute::{Attribute, Content, MAX_DEPTH, Map, Texts};
use super::json_text::Text;
use super::number;
use super::writer::{Object, push_parts};
use crate::records::Record;

/// Writes a record's data.
pub(in crate::event) fn write(record: &Record) -> Vec<u8> {
    let mut data = Object::open(Vec::with_capacity(record.len()));
    data.text("operation", record.operation_name());
    for (name, item) in [("keys", Some(record.keys())), ("new", record.new_image()), ("old", record.old_image())] {
        if let Some(item) = item {
            data.member(name, |json| write_map(json, Map::of_item(item), 1));
        }
    }
    data.close()
}

fn write_map(json: &mut Vec<u8>, map: Map<'_>, depth: usize) {
    json.push(b'{');
    push_parts(json, map.iter(), |json, (name, attribute)| {
        write_text(json, name);
        json.push(b':');
        write_attribute(json, attribute, depth);
    });
    json.push(b'}');
}

fn write_attribute(json: &mut Vec<u8>, attribute: Attribute<'_>, depth: usize) {
    match attribute.content {
        _ if depth > MAX_DEPTH => json.extend_from_slice(attribute.raw.as_bytes()),
        Content::Text(text) | Content::Binary(text) => write_text(json, text),
        Content::Number(number) => write_number(json, number),
        Content::Flag(flag) => json.extend_from_slice(if flag { b"true" } else { b"false" }),
        Content::Null(true) => json.extend_from_slice(b"null"),
        Content::TextSet(set) | Content::BinarySet(set) => write_set(json, set, write_text),
        Content::NumberSet(set) => write_set(json, set, write_number),
        Content::List(list) => {
            json.push(b'[');
            push_parts(json, list.iter(), |json, value| write_attribute(json, value, depth + 1));
            json.push(b']');
        }
        Content::Map(map) => write_map(json, map, depth + 1),
        Content::Null(false) | Content::Unknown => json.extend_from_slice(attribute.raw.as_bytes()),
    }
}

fn write_set(json: &mut Vec<u8>, set: Texts<'_>, write: impl FnMut(&mut Vec<u8>, Text<'_>)) {
    json.push(b'[');
    push_parts(json, set.iter(), write);
    json.push(b']');
}

fn write_text(json: &mut Vec<u8>, text: Text<'_>) {
    json.push(b'"');
    json.extend_from_slice(text.as_sent().as_bytes());
    json.push(b'"');
}

fn write_number(json: &mut Vec<u8>, text: Text<'_>) {
    if !number::push(json, &text.decoded()) {
        write_text(json, text);
    }
}
