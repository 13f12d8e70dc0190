//! CloudEvents as HTTP messages, by the CloudEvents HTTP protocol binding 1.0.2 and the JSON format 1.0.2.
//!
//! [`Packaging`] makes a [`Message`] of anything that describes itself to a serializer of the CloudEvents SDK's kind: a
//! record's event without ever becoming an SDK [`Event`](cloudevents::Event), and an `Event` as well. Overrides and further
//! extensions are added on the way. [`BinaryMode`] and [`StructuredMode`] are the serializers; [`batch`] puts several
//! structured messages into one.
//!
//! The SDK's own HTTP serializer is not used: it does no percent-encoding and refuses line feeds, so a single item
//! could stop its shard. These take every text.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use cloudevents::event::SpecVersion;
use cloudevents::message::{BinaryDeserializer, BinarySerializer, Error, MessageAttributeValue, Result};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::clock;
use crate::config::EventMode;

/// How many headers an event of this program has at most, so that the map is allocated once.
const USUAL_HEADERS: usize = 16;

/// The media type of one event.
const ONE: HeaderValue = HeaderValue::from_static("application/cloudevents+json");

/// The media type of several.
const SEVERAL: HeaderValue = HeaderValue::from_static("application/cloudevents-batch+json");

/// More than the attributes of an event usually take.
const USUAL_ATTRIBUTES: usize = 1024;

/// One HTTP request's headers and body: one event, or a batch of them.
///
/// A clone shares the body and every header's value, so an attempt costs no copy of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// In binary mode the event's attributes, and `content-type`; nothing of the connection.
    pub headers: HeaderMap,
    /// In binary mode the event's data, else the event or the events.
    pub body: Bytes,
}

/// An extension and its value.
pub(crate) type Extension = (String, MessageAttributeValue);

/// Turns whatever describes itself as an event into a message.
#[derive(Debug, Clone)]
pub struct Packaging {
    mode: EventMode,
    /// Set on every event, replacing one of that name.
    overrides: Arc<[Extension]>,
}

impl Packaging {
    /// Messages in this mode, with these extensions on every event: they replace one of that name.
    ///
    /// The names must be what CloudEvents allows.
    pub fn new(mode: EventMode, overrides: &BTreeMap<String, String>) -> Self {
        let text = |(name, value): (&String, &String)| (name.clone(), MessageAttributeValue::String(value.clone()));
        Self { mode, overrides: overrides.iter().map(text).collect() }
    }

    /// The message that carries one event. In batch mode it is one element of the batch.
    pub(super) fn message(&self, event: impl BinaryDeserializer) -> Message {
        if self.overrides.is_empty() { self.plain(event) } else { self.plain(Extended::new(event, &self.overrides)) }
    }

    /// The same event with further extensions, which replace any of that name.
    pub(super) fn message_with(&self, event: impl BinaryDeserializer, extensions: &[Extension]) -> Message {
        self.plain(Extended::new(Extended::new(event, &self.overrides), extensions))
    }

    fn plain(&self, event: impl BinaryDeserializer) -> Message {
        match self.mode {
            EventMode::Binary => event.deserialize_binary(BinaryMode::new()),
            EventMode::Structured | EventMode::Batch => event.deserialize_binary(StructuredMode::new()),
        }
        .expect("attribute names and media types are legal, and every other text is encoded")
    }
}

/// An event with further extensions.
struct Extended<'x, E> {
    event: E,
    extensions: &'x [Extension],
}

impl<'x, E> Extended<'x, E> {
    fn new(event: E, extensions: &'x [Extension]) -> Self {
        Self { event, extensions }
    }
}

impl<E: BinaryDeserializer> BinaryDeserializer for Extended<'_, E> {
    fn deserialize_binary<R: Sized, V: BinarySerializer<R>>(self, visitor: V) -> Result<R> {
        self.event.deserialize_binary(Extending { visitor, extensions: self.extensions })
    }
}

/// Hands an event on to another serializer, with the extensions in the places of those that the event has.
struct Extending<'x, V> {
    visitor: V,
    extensions: &'x [Extension],
}

impl<V> Extending<'_, V> {
    fn replaces(&self, name: &str) -> bool {
        self.extensions.iter().any(|(replaced, _)| replaced == name)
    }

    fn finish<R>(self) -> Result<V>
    where
        V: BinarySerializer<R>,
    {
        self.extensions
            .iter()
            .try_fold(self.visitor, |visitor, (name, value)| visitor.set_extension(name, value.clone()))
    }
}

impl<R, V: BinarySerializer<R>> BinarySerializer<R> for Extending<'_, V> {
    fn set_spec_version(self, version: SpecVersion) -> Result<Self> {
        Ok(Self { visitor: self.visitor.set_spec_version(version)?, ..self })
    }

    fn set_attribute(self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        if self.replaces(name) {
            return Ok(self);
        }
        Ok(Self { visitor: self.visitor.set_attribute(name, value)?, ..self })
    }

    fn set_extension(self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        if self.replaces(name) {
            return Ok(self);
        }
        Ok(Self { visitor: self.visitor.set_extension(name, value)?, ..self })
    }

    fn end_with_data(self, data: Vec<u8>) -> Result<R> {
        self.finish()?.end_with_data(data)
    }

    fn end(self) -> Result<R> {
        self.finish()?.end()
    }
}

/// Serializes one event in binary mode: attributes as `ce-` headers, the data as the body.
///
/// Values are percent-encoded as section 3.1.3.2 of the binding says, so no text can make it fail. It refuses only a
/// name that CloudEvents forbids, and a `datacontenttype` that is no header value: both are the program's own words,
/// never an item's.
#[derive(Debug)]
pub(crate) struct BinaryMode {
    headers: HeaderMap,
}

impl BinaryMode {
    pub(crate) fn new() -> Self {
        Self { headers: HeaderMap::with_capacity(USUAL_HEADERS) }
    }

    fn set(mut self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        let header = header_name(name)?;
        self.headers.insert(header, header_value(attribute_text(value)));
        Ok(self)
    }
}

impl BinarySerializer<Message> for BinaryMode {
    fn set_spec_version(mut self, version: SpecVersion) -> Result<Self> {
        let text = match version {
            SpecVersion::V03 => "0.3",
            SpecVersion::V10 => "1.0",
        };
        self.headers.insert(CE_SPECVERSION, HeaderValue::from_static(text));
        Ok(self)
    }

    fn set_attribute(mut self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        if name == "datacontenttype" {
            let media_type =
                HeaderValue::try_from(attribute_text(value)).map_err(|e| Error::Other { source: e.into() })?;
            self.headers.insert(CONTENT_TYPE, media_type);
            return Ok(self);
        }
        self.set(name, value)
    }

    fn set_extension(self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        self.set(name, value)
    }

    fn end_with_data(self, data: Vec<u8>) -> Result<Message> {
        Ok(Message { headers: self.headers, body: Bytes::from(data) })
    }

    fn end(self) -> Result<Message> {
        Ok(Message { headers: self.headers, body: Bytes::new() })
    }
}

const CE_SPECVERSION: HeaderName = HeaderName::from_static("ce-specversion");

/// The header of an attribute. The names that every event has are looked up, not built.
fn header_name(attribute: &str) -> Result<HeaderName> {
    Ok(match attribute {
        "id" => const { HeaderName::from_static("ce-id") },
        "type" => const { HeaderName::from_static("ce-type") },
        "source" => const { HeaderName::from_static("ce-source") },
        "subject" => const { HeaderName::from_static("ce-subject") },
        "time" => const { HeaderName::from_static("ce-time") },
        "partitionkey" => const { HeaderName::from_static("ce-partitionkey") },
        "sequence" => const { HeaderName::from_static("ce-sequence") },
        "recordedtime" => const { HeaderName::from_static("ce-recordedtime") },
        "dynamodboperation" => const { HeaderName::from_static("ce-dynamodboperation") },
        "authtype" => const { HeaderName::from_static("ce-authtype") },
        "authid" => const { HeaderName::from_static("ce-authid") },
        other => other_header_name(other)?,
    })
}

/// CloudEvents 1.0.2, "Attribute naming convention": lower-case ASCII letters and digits.
fn other_header_name(attribute: &str) -> Result<HeaderName> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let unknown = || Error::UnknownAttribute { name: attribute.to_owned() };
    if attribute.is_empty() || !attribute.bytes().all(allowed) {
        return Err(unknown());
    }
    HeaderName::try_from(format!("ce-{attribute}")).map_err(|_| unknown())
}

/// What [`stays`] does not let stand; characters outside ASCII are encoded anyway.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The header value that stands for a text, percent-encoded by section 3.1.3.2 of the binding.
///
/// Space, double quote, percent and everything outside U+0021 to U+007E become `%XX` for each byte of their UTF-8
/// form; the rest stays. The outcome is always a legal header value, and decoding gives the text back.
fn header_value(text: String) -> HeaderValue {
    // Nearly every text stays: found at a glance, and not copied.
    let encoded = if text.bytes().all(stays) { text } else { utf8_percent_encode(&text, ENCODED).to_string() };
    HeaderValue::from_maybe_shared(Bytes::from(encoded)).expect("percent-encoded text is printable ASCII")
}

/// How many characters a text has in a header.
pub(super) fn wire_len(text: &str) -> usize {
    text.bytes().map(|byte| if stays(byte) { 1 } else { 3 }).sum()
}

/// Whether a byte of UTF-8 goes into a header as it is.
fn stays(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'"' && byte != b'%'
}

/// Serializes one event in structured mode: everything in the body.
///
/// The data become the member `data` as they are: they must be JSON, as those of all events here are.
#[derive(Debug)]
pub(crate) struct StructuredMode {
    json: Vec<u8>,
}

impl StructuredMode {
    pub(crate) fn new() -> Self {
        let mut json = Vec::with_capacity(USUAL_ATTRIBUTES);
        json.push(b'{');
        Self { json }
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

impl BinarySerializer<Message> for StructuredMode {
    fn set_spec_version(self, version: SpecVersion) -> Result<Self> {
        Ok(self.set("specversion", MessageAttributeValue::String(version.to_string())))
    }

    fn set_attribute(self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        Ok(self.set(name, value))
    }

    fn set_extension(self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        Ok(self.set(name, value))
    }

    fn end_with_data(mut self, data: Vec<u8>) -> Result<Message> {
        self.json.reserve(data.len() + 16);
        self.name("data");
        self.json.extend_from_slice(&data);
        Ok(self.close())
    }

    fn end(self) -> Result<Message> {
        Ok(self.close())
    }
}

/// Puts structured messages into one, in their order.
///
/// Of the messages only the bodies are looked at: each must be one that [`StructuredMode`] has made.
pub(crate) fn batch<'m>(messages: impl Iterator<Item = &'m Message> + Clone) -> Message {
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

/// An attribute's canonical text by the CloudEvents type system.
fn attribute_text(value: MessageAttributeValue) -> String {
    match value {
        MessageAttributeValue::String(text) | MessageAttributeValue::UriRef(text) => text,
        MessageAttributeValue::DateTime(time) => clock::rfc3339(time),
        MessageAttributeValue::Boolean(flag) => flag.to_string(),
        MessageAttributeValue::Integer(number) => number.to_string(),
        MessageAttributeValue::Binary(bytes) => BASE64_STANDARD.encode(bytes),
        MessageAttributeValue::Uri(uri) => uri.into(),
    }
}

#[cfg(test)]
mod tests;
