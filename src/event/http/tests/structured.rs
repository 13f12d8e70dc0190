//! One event as JSON, and several as a batch.

use cloudevents::{EventBuilder, EventBuilderV10};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn structured(builder: EventBuilderV10) -> (Message, Value) {
    let event = builder.id("1").source("/s").ty("t").build().expect("valid");
    let message = Packaging::new(EventMode::Structured, &BTreeMap::new()).message_of(&event);
    let value = serde_json::from_slice(&message.body).expect("JSON");
    (message, value)
}

#[test]
fn an_events_json_has_its_attributes_by_their_types_and_its_data() {
    let event = EventBuilderV10::new()
        .subject("Euro € \" \n")
        .time("2026-01-02T03:04:05.5Z")
        .extension("whole", 7_i64)
        .extension("flag", true)
        .data("application/json", json!({"a": [1, null]}));
    let (message, value) = structured(event);
    assert_eq!(message.headers["content-type"], "application/cloudevents+json");
    assert_eq!(message.headers.len(), 1, "attributes belong into the body alone");
    let expected = json!({
        "specversion": "1.0", "id": "1", "source": "/s", "type": "t", "subject": "Euro € \" \n",
        "time": "2026-01-02T03:04:05.500Z", "datacontenttype": "application/json", "whole": 7, "flag": true,
        "data": {"a": [1, null]},
    });
    assert_eq!(value, expected);
}

#[test]
fn an_event_without_data_has_no_such_member() {
    let (_, value) = structured(EventBuilderV10::new());
    assert_eq!(value, json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}));
}

#[test]
fn a_batch_holds_the_events_in_their_order() {
    let one = structured(EventBuilderV10::new().subject("a")).0;
    let two = structured(EventBuilderV10::new().subject("b")).0;
    let message = batch([&one, &two].into_iter());
    assert_eq!(message.headers["content-type"], "application/cloudevents-batch+json");
    assert_eq!(message.headers.len(), 1);
    let events: Value = serde_json::from_slice(&message.body).expect("JSON");
    assert_eq!(events[0]["subject"], "a");
    assert_eq!(events[1]["subject"], "b");
    assert_eq!(events.as_array().map(Vec::len), Some(2));
    assert_eq!(message.body.len(), one.body.len() + two.body.len() + 3);
    assert_eq!(batch(std::iter::empty()).body, "[]");
}

proptest! {
    #[test]
    fn the_sdks_own_reader_gets_back_what_was_put_in(subject in ".+", text in ".*", number in any::<i64>()) {
        let event = EventBuilderV10::new()
            .id("1").source("/s").ty("t").subject(subject).extension("text", text)
            .data("application/json", json!({"n": number})).build().expect("valid");
        let message = Packaging::new(EventMode::Structured, &BTreeMap::new()).message_of(&event);
        let read: cloudevents::Event = serde_json::from_slice(&message.body).expect("an event");
        prop_assert_eq!(read, event);
    }
}
