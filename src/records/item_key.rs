//! The key of the item that a record is about: one or two attributes, each with exactly one value of type S, N or B.
//!
//! An item keeps its key for life, so records with the same key belong into the same lane. A record's key is parsed
//! once, with its page: the record keeps where names and values lie. The order in which AWS sends a key's two attributes
//! means nothing: [`ItemKey::ordered_by`] gives them another.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// A key's one or two attributes. `T` is a decoded text, or the place of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ItemKey<T> {
    first: KeyAttribute<T>,
    second: Option<KeyAttribute<T>>,
}

/// One attribute of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyAttribute<T> {
    pub(crate) name: T,
    pub(crate) kind: KeyType,
    /// Text, the decimal text of a number, or base64.
    pub(crate) value: T,
}

/// The types that a key attribute can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
pub(crate) enum KeyType {
    /// `S`
    #[serde(rename = "S")]
    String,
    /// `N`
    #[serde(rename = "N")]
    Number,
    /// `B`
    #[serde(rename = "B")]
    Binary,
}

/// The text is no item's key. It never repeats the key's values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidKey {
    /// Not one or two attributes with one value each.
    #[error("Keys is not an object of one or two attributes, each with exactly one text as S, N or B")]
    Shape,
    /// Two attributes of one name.
    #[error("Keys names one attribute twice")]
    NamedTwice,
    /// A binary value that cannot be decoded.
    #[error("the value of key attribute {name:?} is not base64")]
    NotBase64 { name: String },
}

impl<T> ItemKey<T> {
    /// The key's attributes, in the order that it was given last.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = &KeyAttribute<T>> + Clone {
        std::iter::once(&self.first).chain(&self.second)
    }

    /// The same key with its names and values held in another way.
    pub(super) fn map<U>(self, mut convert: impl FnMut(T) -> U) -> ItemKey<U> {
        let mut attribute =
            |of: KeyAttribute<T>| KeyAttribute { name: convert(of.name), kind: of.kind, value: convert(of.value) };
        ItemKey { first: attribute(self.first), second: self.second.map(attribute) }
    }
}

impl<T: AsRef<str>> ItemKey<T> {
    /// Orders the attributes as the key schema does: `schema` names them, partition key first. Where it does not name
    /// exactly the attributes at hand, they come in the byte order of their names.
    pub(super) fn ordered_by<S: AsRef<str>>(self, schema: &[S]) -> Self {
        let Self { first, second: Some(second) } = self else {
            return self;
        };
        let names = [first.name.as_ref(), second.name.as_ref()];
        let swap = match schema {
            [partition, sort] if [partition.as_ref(), sort.as_ref()] == names => false,
            [partition, sort] if [sort.as_ref(), partition.as_ref()] == names => true,
            _ => names[1] < names[0],
        };
        let (first, second) = if swap { (second, first) } else { (first, second) };
        Self { first, second: Some(second) }
    }
}

impl<T> ItemKey<Option<T>> {
    /// The key, if nothing of it is absent.
    pub(super) fn complete(self) -> Option<ItemKey<T>> {
        let attribute =
            |of: KeyAttribute<Option<T>>| Some(KeyAttribute { name: of.name?, kind: of.kind, value: of.value? });
        let second = match self.second {
            Some(second) => Some(attribute(second)?),
            None => None,
        };
        Some(ItemKey { first: attribute(self.first)?, second })
    }
}

/// Reads and checks the text of a record's `Keys`; the attributes stay in its order.
pub(super) fn parse(raw: &str) -> Result<ItemKey<Cow<'_, str>>, InvalidKey> {
    let Keys(key) = serde_json::from_str(raw).map_err(|_| InvalidKey::Shape)?;
    if key.second.as_ref().is_some_and(|second| second.name == key.first.name) {
        return Err(InvalidKey::NamedTwice);
    }
    for attribute in key.attributes().filter(|attribute| attribute.kind == KeyType::Binary) {
        BASE64
            .decode(attribute.value.as_bytes())
            .map_err(|_| InvalidKey::NotBase64 { name: attribute.name.clone().into_owned() })?;
    }
    Ok(key)
}

struct Keys<'a>(ItemKey<Cow<'a, str>>);

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
            None => Ok(Keys(ItemKey { first, second })),
            Some(_) => Err(A::Error::custom("more than two key attributes")),
        }
    }
}

fn next<'de: 'a, 'a, A: MapAccess<'de>>(map: &mut A) -> Result<Option<KeyAttribute<Cow<'a, str>>>, A::Error> {
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

#[cfg(test)]
mod tests {
    use super::{InvalidKey, KeyType, parse};

    const UNKNOWN: &[&str] = &[];

    fn names(keys: &str, schema: &[&str]) -> Vec<String> {
        let key = parse(keys).expect("a key").ordered_by(schema);
        key.attributes().map(|attribute| attribute.name.clone().into_owned()).collect()
    }

    #[test]
    fn attributes_come_in_the_order_of_the_key_schema() {
        for keys in [r#"{"line":{"N":"7"},"orderId":{"S":"a"}}"#, r#"{"orderId":{"S":"a"},"line":{"N":"7"}}"#] {
            assert_eq!(names(keys, &["orderId", "line"]), ["orderId", "line"]);
            assert_eq!(names(keys, &["line", "orderId"]), ["line", "orderId"]);
            assert_eq!(names(keys, UNKNOWN), ["line", "orderId"]);
            assert_eq!(names(keys, &["orderId", "other"]), ["line", "orderId"]);
            assert_eq!(names(keys, &["orderId"]), ["line", "orderId"]);
        }
        assert_eq!(names(r#"{"only":{"S":"a"}}"#, &["other"]), ["only"]);
    }

    #[test]
    fn values_are_decoded_and_binary_stays_base64() {
        let key =
            parse(r#"{"\u0061\"":{"S":"\u00e9\n"}, "b" : { "B" : "q83\/" }}"#).expect("a key").ordered_by(UNKNOWN);
        let attributes: Vec<_> = key.attributes().map(|a| (&*a.name, a.kind, &*a.value)).collect();
        assert_eq!(attributes, [("a\"", KeyType::String, "é\n"), ("b", KeyType::Binary, "q83/")]);
    }

    #[test]
    fn the_same_item_has_the_same_key_whatever_the_order_or_the_escapes() {
        let spellings = [r#"{"a":{"S":"x"},"b":{"N":"1"}}"#, r#"{"b":{"N":"1"},"a":{"S":"\u0078"}}"#];
        let schemas: [&[&str]; 3] = [UNKNOWN, &["a", "b"], &["b", "a"]];
        for schema in schemas {
            let [one, other] = spellings.map(|keys| parse(keys).expect("a key").ordered_by(schema));
            assert_eq!(one, other, "{schema:?}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let shapes = [
            "{}",
            "[]",
            "null",
            r#"{"a":{}}"#,
            r#"{"a":{"S":7}}"#,
            r#"{"a":{"S":null}}"#,
            r#"{"a":{"BOOL":"true"}}"#,
            r#"{"a":{"S":"x","N":"1"}}"#,
            r#"{"a":{"S":"x"},"b":{"S":"x"},"c":{"S":"x"}}"#,
            r#"{"a":{"S":"\ud800"}}"#,
            r#"{"a":{"S":"x"}} "trailing""#,
        ];
        for keys in shapes {
            assert_eq!(parse(keys), Err(InvalidKey::Shape), "{keys}");
        }
        let twice = r#"{"a":{"S":"x"},"\u0061":{"S":"y"}}"#;
        assert_eq!(parse(twice), Err(InvalidKey::NamedTwice));
        for value in ["q83", "q83?", "a===", "*"] {
            let keys = format!(r#"{{"a":{{"B":"{value}"}}}}"#);
            assert_eq!(parse(&keys), Err(InvalidKey::NotBase64 { name: "a".into() }), "{value}");
        }
    }
}
