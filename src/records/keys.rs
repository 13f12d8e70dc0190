//! A record's `Keys`: one or two attributes, each with exactly one value of type S, N or B.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::item_key::{InvalidKey, KeyAttribute, KeyType};

/// The first attribute on the wire, and the second if there is one.
pub(super) type Attributes<'a> = (KeyAttribute<'a>, Option<KeyAttribute<'a>>);

/// Reads and checks the text of `Keys`.
pub(super) fn parse(raw: &str) -> Result<Attributes<'_>, InvalidKey> {
    let Keys(first, second) = serde_json::from_str(raw).map_err(|_| InvalidKey::Shape)?;
    if second.as_ref().is_some_and(|second| second.name == first.name) {
        return Err(InvalidKey::NamedTwice);
    }
    let binary = [Some(&first), second.as_ref()].into_iter().flatten().filter(|key| key.kind == KeyType::Binary);
    for key in binary {
        BASE64
            .decode(key.value.as_bytes())
            .map_err(|_| InvalidKey::NotBase64 { name: key.name.clone().into_owned() })?;
    }
    Ok((first, second))
}

struct Keys<'a>(KeyAttribute<'a>, Option<KeyAttribute<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Keys<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KeysVisitor(PhantomData))
    }
}

struct KeysVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for KeysVisitor<'a> {
    type Value = Keys<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one or two key attributes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let first = next(&mut map)?.ok_or_else(|| A::Error::custom("no key attribute"))?;
        let second = next(&mut map)?;
        match map.next_key::<Text<'de>>()? {
            None => Ok(Keys(first, second)),
            Some(_) => Err(A::Error::custom("more than two key attributes")),
        }
    }
}

fn next<'de: 'a, 'a, A: MapAccess<'de>>(map: &mut A) -> Result<Option<KeyAttribute<'a>>, A::Error> {
    let entry = map.next_entry::<Text<'de>, Scalar<'de>>()?;
    Ok(entry.map(|(Text(name), Scalar(kind, value))| KeyAttribute { name, kind, value }))
}

struct Scalar<'a>(KeyType, Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ScalarVisitor(PhantomData))
    }
}

struct ScalarVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for ScalarVisitor<'a> {
    type Value = Scalar<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one value of type S, N or B")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let entry = map.next_entry::<KeyType, Text<'de>>()?;
        let (kind, Text(value)) = entry.ok_or_else(|| A::Error::custom("no value"))?;
        match map.next_key::<Text<'de>>()? {
            None => Ok(Scalar(kind, value)),
            Some(_) => Err(A::Error::custom("more than one value")),
        }
    }
}

/// A JSON string, borrowed where it can be.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
