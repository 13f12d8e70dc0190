//! The key of an item, decoded from a record's `Keys`.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

/// The type of a key's attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// `S`
    String,
    /// `N`, as decimal text
    Number,
    /// `B`, as base64 text
    Binary,
}

/// One attribute of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAttribute<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its type.
    pub kind: KeyType,
    /// Its value: text, a decimal number, or base64.
    pub value: Cow<'a, str>,
}

/// An item's key: one attribute or two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemKey<'a>(Vec<KeyAttribute<'a>>);

/// The text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its Keys are not one or two attributes of type S, N or B")]
pub struct InvalidKey;

impl<'a> ItemKey<'a> {
    /// Decodes a record's `Keys`. Attributes come in the order of `schema`, and by name where it does not list them.
    ///
    /// # Errors
    /// When it is not an object of one or two attributes of type `S`, `N` or `B`.
    pub fn parse(keys: &'a str, schema: &[String]) -> Result<Self, InvalidKey> {
        let Attributes(mut attributes) = serde_json::from_str(keys).map_err(|_| InvalidKey)?;
        if attributes.is_empty() || attributes.len() > 2 {
            return Err(InvalidKey);
        }
        let place = |attribute: &KeyAttribute<'_>| {
            schema
                .iter()
                .position(|name| *name == attribute.name)
                .unwrap_or(schema.len())
        };
        if let [first, second] = attributes.as_slice()
            && (place(first), &first.name) > (place(second), &second.name)
        {
            attributes.swap(0, 1);
        }
        Ok(Self(attributes))
    }

    /// The attributes, partition key first.
    pub fn attributes(&self) -> &[KeyAttribute<'a>] {
        &self.0
    }
}

struct Attributes<'a>(Vec<KeyAttribute<'a>>);

impl<'de> Deserialize<'de> for Attributes<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AttributesVisitor)
    }
}

struct AttributesVisitor;

impl<'de> Visitor<'de> for AttributesVisitor {
    type Value = Attributes<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut attributes = Vec::with_capacity(2);
        while let Some((Text(name), Typed { kind, value })) = map.next_entry()? {
            attributes.push(KeyAttribute { name, kind, value });
        }
        Ok(Attributes(attributes))
    }
}

/// A text that is borrowed unless it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Typed<'a> {
    kind: KeyType,
    value: Cow<'a, str>,
}

impl<'de> Deserialize<'de> for Typed<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TypedVisitor)
    }
}

struct TypedVisitor;

impl<'de> Visitor<'de> for TypedVisitor {
    type Value = Typed<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute of type S, N or B")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (Text(kind), Text(value)) = map.next_entry()?.ok_or_else(|| de::Error::custom("no type"))?;
        let kind = match &*kind {
            "S" => KeyType::String,
            "N" => KeyType::Number,
            "B" => KeyType::Binary,
            _ => return Err(de::Error::custom("another type")),
        };
        if map.next_entry::<de::IgnoredAny, de::IgnoredAny>()?.is_some() {
            return Err(de::Error::custom("several types"));
        }
        Ok(Typed { kind, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_partition_key_comes_first_whatever_the_order_on_the_wire() {
        let schema = schema(&["orderId", "line"]);
        for keys in [
            r#"{"line":{"N":"7"},"orderId":{"S":"a"}}"#,
            r#"{"orderId":{"S":"a"},"line":{"N":"7"}}"#,
        ] {
            let key = ItemKey::parse(keys, &schema).unwrap();
            let values: Vec<&str> = key.attributes().iter().map(|attribute| &*attribute.value).collect();
            assert_eq!(values, ["a", "7"]);
        }
    }

    #[test]
    fn escapes_are_decoded() {
        let key = ItemKey::parse(r#"{"k\u0041":{"S":"a\"\u00e9\n"}}"#, &[]).unwrap();
        assert_eq!(key.attributes()[0].name, "kA");
        assert_eq!(key.attributes()[0].value, "a\"é\n");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for keys in [
            "null",
            "{}",
            "[]",
            r#"{"a":{}}"#,
            r#"{"a":{"S":1}}"#,
            r#"{"a":{"BOOL":true}}"#,
            r#"{"a":{"S":"1","N":"1"}}"#,
            r#"{"a":"1"}"#,
            r#"{"a":{"S":"1"},"b":{"S":"1"},"c":{"S":"1"}}"#,
            r#"{"a":{"S":"\ud800"}}"#,
        ] {
            assert_eq!(ItemKey::parse(keys, &[]), Err(InvalidKey), "{keys}");
        }
    }
}
