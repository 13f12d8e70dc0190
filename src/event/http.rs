//! CloudEvents as HTTP messages, by the CloudEvents HTTP protocol binding 1.0.2.
//!
//! [`BinaryMode`] is a serializer of the CloudEvents SDK's own kind, so whatever can describe itself to one goes out
//! through it: a record's event without ever becoming an SDK [`Event`](cloudevents::Event), and an `Event` as well.
//! [`StructuredMode`] is another one beside it, and [`batch`] puts several of its messages into one.
//!
//! The SDK's own HTTP serializer is not used: it does no percent-encoding and refuses line feeds, so a single item
//! could stop its shard. This one takes every text.

mod percent;
mod structured;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use cloudevents::event::SpecVersion;
use cloudevents::message::{BinarySerializer, Error, MessageAttributeValue, Result};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::clock;

pub use structured::{StructuredMode, batch};

pub(super) use percent::wire_len;

/// How many headers an event of this program has at most, so that the map is allocated once.
const USUAL_HEADERS: usize = 16;

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

/// Serializes one event in binary mode: attributes as `ce-` headers, the data as the body.
///
/// Values are percent-encoded as section 3.1.3.2 of the binding says, so no text can make it fail. It refuses only a
/// name that CloudEvents forbids, and a `datacontenttype` that is no header value: both are the program's own words,
/// never an item's.
#[derive(Debug)]
pub struct BinaryMode {
    headers: HeaderMap,
}

impl BinaryMode {
    /// A serializer for one event.
    pub fn new() -> Self {
        Self { headers: HeaderMap::with_capacity(USUAL_HEADERS) }
    }

    fn set(mut self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        let header = header_name(name)?;
        self.headers.insert(header, percent::header_value(attribute_text(value)));
        Ok(self)
    }
}

impl Default for BinaryMode {
    fn default() -> Self {
        Self::new()
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

#[cfg(test)]
mod tests;
