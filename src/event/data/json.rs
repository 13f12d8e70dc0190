//! The item in plain JSON: `{"operation":"MODIFY","keys":{"id":7},"new":{..},"old":{..}}`.
//!
//! A number is a JSON number with AWS's own digits, a set is an array, binary is its base64, null is null; an absent
//! image is absent. Texts and names are copied as AWS sent them. A number that JSON cannot write stays a string. What
//! is no attribute value, or lies deeper than [`MAX_DEPTH`], is passed on as AWS sent it.

use super::attribute::{Attribute, Content, MAX_DEPTH, Map, Text, Texts};
use super::{Object, push_parts};
use crate::event::output::Output;
use crate::records::Record;

/// Writes a record's data.
pub(super) fn write(record: &Record, json: &mut impl Output) {
    let mut data = Object::open(json);
    data.text("operation", record.operation_name());
    for (name, item) in [("keys", Some(record.keys())), ("new", record.new_image()), ("old", record.old_image())] {
        if let Some(item) = item {
            data.member(name, |json| write_map(json, Map::of_item(item), 1));
        }
    }
    data.close();
}

fn write_map(json: &mut impl Output, map: Map<'_>, depth: usize) {
    json.push(b'{');
    push_parts(json, map.iter(), |json, (name, attribute)| {
        write_text(json, name);
        json.push(b':');
        write_attribute(json, attribute, depth);
    });
    json.push(b'}');
}

fn write_attribute(json: &mut impl Output, attribute: Attribute<'_>, depth: usize) {
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

fn write_set<O: Output>(json: &mut O, set: Texts<'_>, write: impl FnMut(&mut O, Text<'_>)) {
    json.push(b'[');
    push_parts(json, set.iter(), write);
    json.push(b']');
}

fn write_text(json: &mut impl Output, text: Text<'_>) {
    json.push(b'"');
    json.extend_from_slice(text.as_sent().as_bytes());
    json.push(b'"');
}

fn write_number(json: &mut impl Output, text: Text<'_>) {
    if !push_number(json, &text.decoded()) {
        write_text(json, text);
    }
}

/// Appends the JSON number (RFC 8259, section 6) that a decimal text stands for, all its digits kept; tells whether it
/// stands for one.
///
/// What JSON forbids is put right: `+1` is 1, `007` is 7, `.5` is 0.5, `1.` is 1.
fn push_number(json: &mut impl Output, text: &str) -> bool {
    let Some(number) = Decimal::parse(text) else {
        return false;
    };
    json.extend_from_slice(if number.negative { b"-" } else { b"" });
    let whole = number.whole.trim_start_matches('0');
    json.extend_from_slice(if whole.is_empty() { b"0" } else { whole.as_bytes() });
    if !number.fraction.is_empty() {
        json.push(b'.');
        json.extend_from_slice(number.fraction.as_bytes());
    }
    json.extend_from_slice(number.exponent.as_bytes());
    true
}

/// The parts of a decimal number.
struct Decimal<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    /// With its letter, or nothing.
    exponent: &'a str,
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(unsigned) => (true, unsigned),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = unsigned.split_at(unsigned.find(['e', 'E']).unwrap_or(unsigned.len()));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_decimal = are_digits(whole) && are_digits(fraction) && !(whole.is_empty() && fraction.is_empty());
        (is_decimal && is_exponent(exponent)).then_some(Self { negative, whole, fraction, exponent })
    }
}

fn are_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_exponent(text: &str) -> bool {
    let digits = text.get(1..).map(|signed| signed.strip_prefix(['+', '-']).unwrap_or(signed));
    digits.is_none_or(|digits| !digits.is_empty() && are_digits(digits))
}

#[cfg(test)]
mod tests {
    use super::push_number;

    fn written(text: &str) -> Option<String> {
        let mut json = Vec::new();
        push_number(&mut json, text).then(|| String::from_utf8(json).expect("ASCII"))
    }

    #[test]
    fn what_json_can_write_stays_as_it_is() {
        for text in ["0", "-0", "7", "-12.5", "0.5", "10", "1E-130", "9.9E+125", "1e007", "1.50", "0E0"] {
            assert_eq!(written(text).as_deref(), Some(text));
        }
        let digits = "-1.2345678901234567890123456789012345678";
        assert_eq!(written(digits).as_deref(), Some(digits));
    }

    #[test]
    fn what_json_forbids_becomes_the_same_number_as_json_writes_it() {
        for (text, number) in [
            ("+1", "1"),
            (".5", "0.5"),
            ("-.5", "-0.5"),
            ("1.", "1"),
            ("-1.E5", "-1E5"),
            ("007", "7"),
            ("-007.10", "-7.10"),
            ("00", "0"),
            ("+00.5e+3", "0.5e+3"),
        ] {
            assert_eq!(written(text).as_deref(), Some(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "", ".", "-", "+", "+-1", "e5", ".e5", "1e", "1e+", "1e5.5", "1.2.3", "NaN", "Infinity", " 1", "1 ", "0x1",
            "１",
        ] {
            assert_eq!(written(text), None, "{text:?}");
        }
    }
}
