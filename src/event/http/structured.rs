//! Events in the CloudEvents JSON format 1.0.2: one by itself, and several as a batch.
//!
//! Nothing is percent-encoded here: a JSON text takes every character.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use cloudevents::event::SpecVersion;
use cloudevents::message::{BinarySerializer, MessageAttributeValue, Result};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};

use super::{Message, attribute_text};

/// The media type of one event.
const ONE: HeaderValue = HeaderValue::from_static("application/cloudevents+json");

/// The media type of several.
const SEVERAL: HeaderValue = HeaderValue::from_static("application/cloudevents-batch+json");

/// More than the attributes of an event usually take.
const USUAL_ATTRIBUTES: usize = 1024;

/// Serializes one event in structured mode: everything in the body.
///
/// Data of a JSON media type become the member `data` as they are, so they must be valid JSON; others become
/// `data_base64`.
#[derive(Debug)]
pub struct StructuredMode {
    json: Vec<u8>,
    data_is_json: bool,
}

impl StructuredMode {
    /// A serializer for one event.
    pub fn new() -> Self {
        let mut json = Vec::with_capacity(USUAL_ATTRIBUTES);
        json.push(b'{');
        Self { json, data_is_json: true }
    }

    fn set(mut self, name: &str, value: MessageAttributeValue) -> Self {
        self.name(name);
        match value {
            MessageAttributeValue::Boolean(flag) => self.value(flag),
            MessageAttributeValue::Integer(number) => self.value(number),
            other => self.value(attribute_text(other)),
        }
        self
    }

    fn name(&mut self, name: &str) {
        if self.json.len() > 1 {
            self.json.push(b',');
        }
        self.value(name);
        self.json.push(b':');
    }

    fn value(&mut self, value: impl serde::Serialize) {
        serde_json::to_writer(&mut self.json, &value).expect("a scalar is JSON, and memory takes it");
    }

    fn close(mut self) -> Message {
        self.json.push(b'}');
        Message { headers: HeaderMap::from_iter([(CONTENT_TYPE, ONE)]), body: Bytes::from(self.json) }
    }
}

impl Default for StructuredMode {
    fn default() -> Self {
        Self::new()
    }
}

impl BinarySerializer<Message> for StructuredMode {
    fn set_spec_version(self, version: SpecVersion) -> Result<Self> {
        Ok(self.set("specversion", MessageAttributeValue::String(version.to_string())))
    }

    fn set_attribute(mut self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        if name == "datacontenttype"
            && let MessageAttributeValue::String(media_type) = &value
        {
            self.data_is_json = is_json(media_type);
        }
        Ok(self.set(name, value))
    }

    fn set_extension(self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        Ok(self.set(name, value))
    }

    fn end_with_data(mut self, data: Vec<u8>) -> Result<Message> {
        if self.data_is_json {
            self.json.reserve(data.len() + 16);
            self.name("data");
            self.json.extend_from_slice(&data);
        } else {
            self.name("data_base64");
            self.value(BASE64_STANDARD.encode(data));
        }
        Ok(self.close())
    }

    fn end(self) -> Result<Message> {
        Ok(self.close())
    }
}

/// Whether a media type means JSON, by section 3.1 of the JSON format.
fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let (_, subtype) = essence.split_once('/').unwrap_or_default();
    subtype.eq_ignore_ascii_case("json") || subtype.to_ascii_lowercase().ends_with("+json")
}

/// Puts structured messages into one, in their order.
///
/// Of the messages only the bodies are looked at: each must be one that [`StructuredMode`] has made.
pub fn batch<'m>(messages: impl Iterator<Item = &'m Message> + Clone) -> Message {
    let length = messages.clone().map(|message| message.body.len() + 1).sum::<usize>() + 2;
    let mut json = Vec::with_capacity(length);
    for message in messages {
        json.push(if json.is_empty() { b'[' } else { b',' });
        json.extend_from_slice(&message.body);
    }
    if json.is_empty() {
        json.push(b'[');
    }
    json.push(b']');
    Message { headers: HeaderMap::from_iter([(CONTENT_TYPE, SEVERAL)]), body: Bytes::from(json) }
}

#[cfg(test)]
mod tests {
    use cloudevents::message::BinaryDeserializer;
    use cloudevents::{Data, EventBuilder, EventBuilderV10};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn structured(builder: EventBuilderV10) -> (Message, Value) {
        let event = builder.id("1").source("/s").ty("t").build().expect("valid");
        let message = event.deserialize_binary(StructuredMode::new()).expect("serialized");
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
    fn data_that_are_no_json_are_base64() {
        let (_, value) = structured(EventBuilderV10::new().data("text/plain", Data::Binary(vec![0xff])));
        assert_eq!(value["data_base64"], "/w==");
        let (_, value) = structured(EventBuilderV10::new().data("application/x+JSON; a=b", Data::Binary(b"[]".into())));
        assert_eq!(value["data"], json!([]));
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
            let message = event.clone().deserialize_binary(StructuredMode::new()).expect("serialized");
            let read: cloudevents::Event = serde_json::from_slice(&message.body).expect("an event");
            prop_assert_eq!(read, event);
        }
    }
}
