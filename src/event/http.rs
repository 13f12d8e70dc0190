//! CloudEvents as HTTP messages, by the CloudEvents HTTP protocol binding 1.0.2 and the JSON format 1.0.2.
//!
//! [`Packaging`] makes a [`Message`] of whatever can [`Describe`] itself as an event: a record's event without ever becoming an
//! SDK [`Event`], and an `Event` as well. Overrides and further extensions are added on the way. [`BinaryMode`] and
//! [`StructuredMode`] take the attributes; [`batch`] puts several structured messages into one.
//!
//! The SDK's own HTTP serializer is not used: it does no percent-encoding and refuses line feeds, so a single item
//! could stop its shard. These take every text.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use cloudevents::event::AttributeValue;
use cloudevents::message::MessageAttributeValue;
use cloudevents::{Data, Event};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::output::{Length, Output, json_len, push_text};
use crate::clock::Rfc3339;
use crate::config::EventMode;

/// How many headers an event of this program has at most, so that the map is allocated once.
const USUAL_HEADERS: usize = 16;

/// The media type of one event.
const ONE: HeaderValue = HeaderValue::from_static("application/cloudevents+json");

/// The media type of several.
const SEVERAL: HeaderValue = HeaderValue::from_static("application/cloudevents-batch+json");

/// More than the attributes of an event usually take, as JSON.
const USUAL_ATTRIBUTES: usize = 1024;

/// More than the values usually take that are an event's own.
const USUAL_VALUES: usize = 320;

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

/// An event that tells what it consists of.
pub(super) trait Describe {
    /// Names the attributes one by one, each once, `specversion` first.
    fn attributes(&self, visitor: &mut impl Visitor);

    fn has_data(&self) -> bool;

    /// About how long the data is.
    fn usual_data_len(&self) -> usize;

    /// Appends the data, which must be JSON, as those of all events here are.
    fn write_data(&self, json: &mut impl Output);
}

/// Takes an event's attributes, one after the other.
pub(super) trait Visitor {
    fn attribute(&mut self, name: &str, value: Value<'_>);
}

/// An attribute's value.
#[derive(Debug, Clone)]
pub(super) enum Value<'v> {
    Text(Cow<'v, str>),
    /// The program's own word: it needs no encoding in either mode.
    Fixed(&'static str),
    /// The same in many events.
    Shared(&'v SharedText),
    Moment(Rfc3339),
    Integer(i64),
    Flag(bool),
}

impl Value<'_> {
    /// Gives the canonical text by the CloudEvents type system.
    fn with_text<T>(&self, take: impl FnOnce(&str) -> T) -> T {
        match self {
            Self::Text(text) => take(text),
            Self::Fixed(text) => take(text),
            Self::Shared(shared) => take(&shared.text),
            Self::Moment(moment) => take(moment.as_str()),
            Self::Integer(number) => take(&number.to_string()),
            Self::Flag(flag) => take(if *flag { "true" } else { "false" }),
        }
    }
}

/// A text that stands in every event of a stream, made ready for either mode once.
#[derive(Debug, Clone)]
pub(super) struct SharedText {
    text: String,
    json: String,
    header: HeaderValue,
}

impl SharedText {
    pub(super) fn new(text: &str) -> Self {
        let mut json = Vec::new();
        push_text(&mut json, text);
        let json = String::from_utf8(json).expect("JSON of a text is text");
        let mut buffer = BytesMut::new();
        let header = header_value(text, &mut buffer);
        Self { text: text.to_owned(), json, header }
    }

    /// As JSON, its quotes included.
    pub(super) fn json(&self) -> &str {
        &self.json
    }
}

impl<'v> From<&'v str> for Value<'v> {
    fn from(text: &'v str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl<'v> From<&'v MessageAttributeValue> for Value<'v> {
    fn from(value: &'v MessageAttributeValue) -> Self {
        match value {
            MessageAttributeValue::String(text) | MessageAttributeValue::UriRef(text) => text.as_str().into(),
            MessageAttributeValue::DateTime(moment) => Self::Moment(Rfc3339::of(*moment)),
            MessageAttributeValue::Boolean(flag) => Self::Flag(*flag),
            MessageAttributeValue::Integer(number) => Self::Integer(*number),
            MessageAttributeValue::Binary(bytes) => BASE64_STANDARD.encode(bytes).into(),
            MessageAttributeValue::Uri(uri) => uri.as_str().into(),
        }
    }
}

/// An event of the SDK.
impl Describe for Event {
    fn attributes(&self, visitor: &mut impl Visitor) {
        for (name, value) in self.iter() {
            visitor.attribute(
                name,
                match value {
                    AttributeValue::String(text) => text.into(),
                    AttributeValue::URIRef(uri) => uri.as_str().into(),
                    AttributeValue::URI(uri) => uri.as_str().into(),
                    AttributeValue::Binary(bytes) => BASE64_STANDARD.encode(bytes).into(),
                    AttributeValue::SpecVersion(version) => version.to_string().into(),
                    AttributeValue::Time(moment) => Value::Moment(Rfc3339::of(*moment)),
                    AttributeValue::Integer(number) => Value::Integer(*number),
                    AttributeValue::Boolean(flag) => Value::Flag(*flag),
                },
            );
        }
    }

    fn has_data(&self) -> bool {
        self.data().is_some()
    }

    fn usual_data_len(&self) -> usize {
        USUAL_ATTRIBUTES
    }

    fn write_data(&self, json: &mut impl Output) {
        match self.data() {
            Some(Data::Json(value)) => {
                serde_json::to_writer(json, value).expect("a value is JSON, and an output takes it")
            }
            Some(Data::String(text)) => json.extend_from_slice(text.as_bytes()),
            Some(Data::Binary(bytes)) => json.extend_from_slice(bytes),
            None => {}
        }
    }
}

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

    /// The message that carries one event of the SDK. In batch mode it is one element of the batch.
    pub(crate) fn message_of(&self, event: &Event) -> Message {
        self.message(event, &[])
    }

    /// The message that carries one event, with further extensions, which replace any of their name. In batch mode it is one
    /// element of the batch.
    pub(super) fn message(&self, event: &impl Describe, extensions: &[Extension]) -> Message {
        match self.mode {
            EventMode::Binary => {
                let mut headers = BinaryMode::new();
                self.attributes(event, extensions, &mut headers);
                let mut data = Vec::new();
                if event.has_data() {
                    data.reserve(event.usual_data_len());
                    event.write_data(&mut data);
                }
                Message { headers: headers.headers, body: Bytes::from(data) }
            }
            EventMode::Structured | EventMode::Batch => {
                let mut json = Vec::with_capacity(USUAL_ATTRIBUTES + event.usual_data_len());
                self.write_json(event, extensions, &mut json);
                Message { headers: HeaderMap::from_iter([(CONTENT_TYPE, ONE)]), body: Bytes::from(json) }
            }
        }
    }

    /// The length of the message's body, and no more memory than that of the attributes.
    pub(super) fn body_len(&self, event: &impl Describe) -> usize {
        let mut length = Length::default();
        match self.mode {
            EventMode::Binary if event.has_data() => event.write_data(&mut length),
            EventMode::Binary => {}
            EventMode::Structured | EventMode::Batch => self.write_json(event, &[], &mut length),
        }
        length.len()
    }

    /// What a body holds besides the event's own attributes and data, at most.
    pub(super) fn max_frame_len(&self) -> usize {
        /// Around a member: quotes of the name, colon, comma.
        const MEMBER: usize = 4;
        let length = |(name, value): &Extension| name.len() + MEMBER + Value::from(value).with_text(json_len);
        match self.mode {
            EventMode::Binary => 0,
            EventMode::Structured | EventMode::Batch => {
                r#"{,"data":}"#.len() + self.overrides.iter().map(length).sum::<usize>()
            }
        }
    }

    /// Whether the attributes are a part of the body.
    pub(super) fn is_structured(&self) -> bool {
        self.mode != EventMode::Binary
    }

    fn write_json(&self, event: &impl Describe, extensions: &[Extension], json: &mut impl Output) {
        let mut members = StructuredMode::open(json);
        self.attributes(event, extensions, &mut members);
        if event.has_data() {
            members.name("data");
            event.write_data(members.json);
        }
        members.close();
    }

    fn attributes(&self, event: &impl Describe, extensions: &[Extension], visitor: &mut impl Visitor) {
        if self.overrides.is_empty() && extensions.is_empty() {
            return event.attributes(visitor);
        }
        event.attributes(&mut Replacing { visitor, with: [&self.overrides, extensions] });
        let replaced = |name: &str| extensions.iter().any(|(replaced, _)| replaced == name);
        for (name, value) in self.overrides.iter().filter(|(name, _)| !replaced(name)).chain(extensions) {
            visitor.attribute(name, value.into());
        }
    }
}

/// Hands attributes on to another visitor, less those that are replaced.
struct Replacing<'x, V> {
    visitor: &'x mut V,
    with: [&'x [Extension]; 2],
}

impl<V: Visitor> Visitor for Replacing<'_, V> {
    fn attribute(&mut self, name: &str, value: Value<'_>) {
        if !self.with.into_iter().flatten().any(|(replaced, _)| replaced == name) {
            self.visitor.attribute(name, value);
        }
    }
}

/// The attributes of an event in binary mode: `ce-` headers. The data is the body.
///
/// Values are percent-encoded as section 3.1.3.2 of the binding says, so no text can make it fail. What names an attribute, and
/// what says of which type the data is, are the program's own words, or were checked with the configuration: never an item's.
#[derive(Debug)]
struct BinaryMode {
    headers: HeaderMap,
    /// The values that are the event's own: one piece of memory for all of them.
    values: BytesMut,
}

impl BinaryMode {
    fn new() -> Self {
        Self { headers: HeaderMap::with_capacity(USUAL_HEADERS), values: BytesMut::with_capacity(USUAL_VALUES) }
    }
}

impl Visitor for BinaryMode {
    fn attribute(&mut self, name: &str, value: Value<'_>) {
        let is_media_type = name == "datacontenttype";
        let name = if is_media_type { CONTENT_TYPE } else { header_name(name) };
        let value = match value {
            Value::Fixed(text) => HeaderValue::from_static(text),
            Value::Shared(shared) => shared.header.clone(),
            // It may hold blanks, and is no item's.
            text if is_media_type => text.with_text(HeaderValue::from_str).expect("a media type is a header value"),
            text => text.with_text(|text| header_value(text, &mut self.values)),
        };
        self.headers.insert(name, value);
    }
}

/// The header of an attribute. The names that every event has are looked up, not built.
fn header_name(attribute: &str) -> HeaderName {
    match attribute {
        "specversion" => const { HeaderName::from_static("ce-specversion") },
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
        other => other_header_name(other).expect("names of attributes are checked where they enter"),
    }
}

/// CloudEvents 1.0.2, "Attribute naming convention": lower-case ASCII letters and digits.
fn other_header_name(attribute: &str) -> Option<HeaderName> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_allowed = !attribute.is_empty() && attribute.bytes().all(allowed);
    if is_allowed { HeaderName::try_from(format!("ce-{attribute}")).ok() } else { None }
}

/// What [`stays`] does not let stand; characters outside ASCII are encoded anyway.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The header value that stands for a text, percent-encoded by section 3.1.3.2 of the binding.
///
/// Space, double quote, percent and everything outside U+0021 to U+007E become `%XX` for each byte of their UTF-8
/// form; the rest stays. The outcome is always a legal header value, and decoding gives the text back. It is a part of the
/// buffer's memory.
fn header_value(text: &str, buffer: &mut BytesMut) -> HeaderValue {
    // Nearly every text stays: found at a glance.
    if text.bytes().fold(true, |all, byte| all & stays(byte)) {
        buffer.extend_from_slice(text.as_bytes());
    } else {
        utf8_percent_encode(text, ENCODED).for_each(|piece| buffer.extend_from_slice(piece.as_bytes()));
    }
    HeaderValue::from_maybe_shared(buffer.split().freeze()).expect("percent-encoded text is printable ASCII")
}

/// How many characters a text has in a header.
pub(super) fn wire_len(text: &str) -> usize {
    text.bytes().map(|byte| if stays(byte) { 1 } else { 3 }).sum()
}

/// Whether a byte of UTF-8 goes into a header as it is.
fn stays(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'"' && byte != b'%'
}

/// The attributes of an event in structured mode: members of the object that holds the data as well.
struct StructuredMode<'o, O> {
    json: &'o mut O,
    is_empty: bool,
}

impl<'o, O: Output> StructuredMode<'o, O> {
    fn open(json: &'o mut O) -> Self {
        json.push(b'{');
        Self { json, is_empty: true }
    }

    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.is_empty) {
            self.json.push(b',');
        }
        push_text(self.json, name);
        self.json.push(b':');
    }

    fn close(self) {
        self.json.push(b'}');
    }
}

impl<O: Output> Visitor for StructuredMode<'_, O> {
    fn attribute(&mut self, name: &str, value: Value<'_>) {
        self.name(name);
        match value {
            Value::Shared(shared) => self.json.extend_from_slice(shared.json.as_bytes()),
            Value::Flag(_) | Value::Integer(_) => value.with_text(|bare| self.json.extend_from_slice(bare.as_bytes())),
            text => text.with_text(|text| push_text(self.json, text)),
        }
    }
}

/// Puts structured messages into one, in their order.
///
/// Of the messages only the bodies are looked at: each must be one event in structured mode.
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

#[cfg(test)]
mod tests;
