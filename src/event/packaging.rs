//! How events travel: the content mode, and the extensions that are added on the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloudevents::event::SpecVersion;
use cloudevents::message::{BinaryDeserializer, BinarySerializer, MessageAttributeValue, Result};

use super::Mode;
use super::http::{BinaryMode, Message, StructuredMode};

/// An extension and its value.
pub type Extension = (String, MessageAttributeValue);

/// Turns whatever describes itself as an event into a message.
#[derive(Debug, Clone)]
pub struct Packaging {
    mode: Mode,
    /// Set on every event, replacing one of that name.
    overrides: Arc<[Extension]>,
}

impl Packaging {
    /// Messages in this mode, with these extensions on every event: they replace one of that name.
    ///
    /// The names must be what CloudEvents allows.
    pub fn new(mode: Mode, overrides: &BTreeMap<String, String>) -> Self {
        let text = |(name, value): (&String, &String)| (name.clone(), MessageAttributeValue::String(value.clone()));
        Self { mode, overrides: overrides.iter().map(text).collect() }
    }

    /// The mode of the requests.
    pub fn mode(&self) -> Mode {
        self.mode
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
            Mode::Binary => event.deserialize_binary(BinaryMode::new()),
            Mode::Structured | Mode::Batch => event.deserialize_binary(StructuredMode::new()),
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

#[cfg(test)]
mod tests {
    use cloudevents::{Event, EventBuilder, EventBuilderV10};

    use super::*;

    fn event() -> Event {
        EventBuilderV10::new().id("1").source("/s").ty("t").subject("own").extension("sequence", "7").build().unwrap()
    }

    fn overrides(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_override_is_set_and_replaces_the_events_own() {
        let overrides = overrides(&[("cluster", "a b"), ("sequence", "theirs"), ("subject", "fixed")]);
        let message = Packaging::new(Mode::Binary, &overrides).message(event());
        assert_eq!(message.headers["ce-cluster"], "a%20b");
        assert_eq!(message.headers["ce-sequence"], "theirs");
        assert_eq!(message.headers["ce-subject"], "fixed");
        assert_eq!(message.headers.get_all("ce-sequence").iter().count(), 1);

        let message = Packaging::new(Mode::Structured, &overrides).message(event());
        let text = std::str::from_utf8(&message.body).unwrap();
        assert_eq!(text.matches("\"sequence\"").count(), 1, "a name twice in {text}");
        assert!(text.contains(r#""sequence":"theirs""#) && text.contains(r#""cluster":"a b""#), "{text}");
    }

    #[test]
    fn what_is_added_on_the_way_wins_over_an_override() {
        let packaging = Packaging::new(Mode::Binary, &overrides(&[("knativeerrorcode", "0"), ("kept", "k")]));
        let extension = ("knativeerrorcode".to_owned(), MessageAttributeValue::Integer(500));
        let message = packaging.message_with(event(), &[extension]);
        assert_eq!(message.headers["ce-knativeerrorcode"], "500");
        assert_eq!(message.headers["ce-kept"], "k");
        assert_eq!(message.headers["ce-sequence"], "7");
    }
}
