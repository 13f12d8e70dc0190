//! Any event of the SDK, with any text in it, becomes a message that gives the text back.

use std::collections::BTreeMap;

use cloudevents::{Data, EventBuilder, EventBuilderV10};
use proptest::prelude::*;

use super::*;

mod packaging;
mod structured;

fn send(event: cloudevents::Event) -> Message {
    Packaging::new(EventMode::Binary, &BTreeMap::new()).message_of(&event)
}

fn minimal() -> EventBuilderV10 {
    EventBuilderV10::new().id("1").source("/s").ty("t")
}

/// What a receiver makes of a header, by section 3.1.3.3 of the binding.
fn decode(value: &HeaderValue) -> String {
    let mut bytes = value.as_bytes().iter();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        if *byte == b'%' {
            let digits = [*bytes.next().expect("two digits"), *bytes.next().expect("two digits")];
            let digits = std::str::from_utf8(&digits).expect("ASCII");
            decoded.push(u8::from_str_radix(digits, 16).expect("hexadecimal"));
        } else {
            decoded.push(*byte);
        }
    }
    String::from_utf8(decoded).expect("UTF-8")
}

#[test]
fn the_bindings_own_example_is_encoded_as_printed() {
    let message = send(minimal().subject("Euro € 😀").build().expect("valid"));
    assert_eq!(message.headers["ce-subject"], "Euro%20%E2%82%AC%20%F0%9F%98%80");
}

#[test]
fn a_line_feed_in_a_subject_is_sent_not_refused() {
    let message = send(minimal().subject("a\r\nx: b\0\u{7f}").build().expect("valid"));
    assert_eq!(message.headers["ce-subject"], "a%0D%0Ax:%20b%00%7F");
}

#[test]
fn an_event_of_the_sdk_keeps_its_attributes_extensions_and_data() {
    let event = minimal()
        .time("2026-01-02T03:04:05.123456Z")
        .extension("whole", 7_i64)
        .extension("flag", true)
        .data_with_schema("application/json; charset=utf-8", "https://example.com/a%20b", Data::String("{}".to_owned()))
        .build()
        .expect("valid");
    let message = send(event);
    let headers: BTreeMap<_, _> =
        message.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().expect("ASCII"))).collect();
    let expected = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("ce-time", "2026-01-02T03:04:05.123456Z"),
        ("ce-dataschema", "https://example.com/a%2520b"),
        ("ce-whole", "7"),
        ("ce-flag", "true"),
        ("content-type", "application/json; charset=utf-8"),
    ];
    assert_eq!(headers, BTreeMap::from(expected));
    assert_eq!(message.body, "{}");
}

#[test]
fn a_name_that_cloudevents_forbids_is_no_headers() {
    for name in ["", "Upper", "under_score", "with-dash", "é"] {
        assert_eq!(other_header_name(name), None, "{name:?}");
    }
    assert_eq!(other_header_name("knativeerrorcode2"), Some(HeaderName::from_static("ce-knativeerrorcode2")));
}

proptest! {
    #[test]
    fn any_text_comes_back_from_its_header(text in any::<String>()) {
        let message = send(minimal().subject(&text).build().expect("valid"));
        let value = &message.headers["ce-subject"];
        prop_assert_eq!(decode(value), text.as_str());
        prop_assert_eq!(value.len(), wire_len(&text));
        prop_assert!(value.as_bytes().iter().all(|b| b.is_ascii_graphic() && *b != b'"'));
    }
}
