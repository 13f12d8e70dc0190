//! An item's key as text: the attributes `subject` and `partitionkey`.
//!
//! Both are functions of the key alone, never of the order in which a record lists it. Of one table's keys, no two
//! share a text, up to collisions of a 128-bit hash. The rules are written down for users in `docs/cloudevents.md`
//! and never change: consumers partition and compact by them.

use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};

use super::http::wire_len;
use crate::config::is_forbidden_in_attributes;
use crate::records::{ItemKey, KeyType, Record};

/// The most characters of a `subject` in a header.
const MAX_SUBJECT: usize = 512;

/// The most characters of a `partitionkey`.
const MAX_PARTITION_KEY: usize = 128;

/// Hexadecimal digits of a hash: 128 bits.
const HASH_DIGITS: usize = 32;

/// The texts of one item's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Texts {
    /// For people and filters: readable.
    pub(super) subject: String,
    /// For brokers that partition: short, printable ASCII without space, quote or percent.
    pub(super) partition_key: String,
}

/// The texts of a record's key.
pub(super) fn texts(record: &Record, schema: &[String]) -> Texts {
    let key = record.item_key(schema);
    Texts { subject: subject(&key), partition_key: partition_key(&key) }
}

/// Feeds a record's key to a hasher: equal keys alike, in whatever order the record lists their attributes.
pub(super) fn hash_item(record: &Record, schema: &[String], hasher: &mut impl Hasher) {
    let key = record.item_key(schema);
    key.attributes().for_each(|attribute| (prefix(attribute.kind), attribute.value).hash(hasher));
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
    if plain { text } else { format!("~{}", hash(&text)) }
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
    format!("{kept}~{}", hash(canonical))
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
pub(super) fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut digits = String::with_capacity(HASH_DIGITS);
    for byte in &digest[..HASH_DIGITS / 2] {
        for nibble in [byte >> 4, byte & 0xf] {
            digits.push(char::from_digit(u32::from(nibble), 16).expect("four bits are a hexadecimal digit"));
        }
    }
    digits
}

#[cfg(test)]
mod tests;
