//! The key of the item that a record is about: one or two attributes, each with exactly one value of type S, N or B.
//!
//! An item keeps its key for life, so records with the same key belong into the same lane. The order in which AWS
//! sends a key's two attributes means nothing; neither the order of [`ItemKey::attributes`] nor
//! [`ItemKey::lane_hash`] depends on it.

use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// A key's attributes, decoded, partition key first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemKey<'a> {
    first: KeyAttribute<'a>,
    second: Option<KeyAttribute<'a>>,
}

/// One attribute of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAttribute<'a> {
    /// The attribute's name.
    pub name: Cow<'a, str>,
    /// The type of its value.
    pub kind: KeyType,
    /// Its value: text, the decimal text of a number, or base64.
    pub value: Cow<'a, str>,
}

/// The types that a key attribute can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
pub enum KeyType {
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

impl KeyType {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "S",
            Self::Number => "N",
            Self::Binary => "B",
        }
    }
}

/// The text is no item's key. It never repeats the key's values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Not one or two attributes with one value each.
    #[error("Keys is not an object of one or two attributes, each with exactly one text as S, N or B")]
    Shape,
    /// Two attributes of one name.
    #[error("Keys names one attribute twice")]
    NamedTwice,
    /// A binary value that cannot be decoded.
    #[error("the value of key attribute {name:?} is not base64")]
    NotBase64 {
        /// The attribute's name.
        name: String,
    },
}

impl<'a> ItemKey<'a> {
    /// Decodes the text of a record's `Keys`. `schema` names the key's attributes, partition key first; where it does
    /// not name exactly the attributes at hand, they come in the byte order of their names.
    ///
    /// # Errors
    /// [`InvalidKey`]; never for the `Keys` of a [`Record`](super::Record), which has been checked.
    pub fn parse<S: AsRef<str>>(keys: &'a str, schema: &[S]) -> Result<Self, InvalidKey> {
        let (first, second) = parse(keys)?;
        let Some(second) = second else {
            return Ok(Self { first, second: None });
        };
        let swap = match schema {
            [partition, sort] if [partition.as_ref(), sort.as_ref()] == [&*first.name, &*second.name] => false,
            [partition, sort] if [partition.as_ref(), sort.as_ref()] == [&*second.name, &*first.name] => true,
            _ => second.name < first.name,
        };
        let (first, second) = if swap { (second, first) } else { (first, second) };
        Ok(Self { first, second: Some(second) })
    }

    /// The key's one or two attributes, in the order of the key schema.
    pub fn attributes(&self) -> impl Iterator<Item = &KeyAttribute<'a>> + Clone {
        std::iter::once(&self.first).chain(&self.second)
    }

    /// A hash of the key's content: the same for the same item, whatever the order on the wire or in the key schema.
    pub fn lane_hash(&self, state: &impl BuildHasher) -> u64 {
        state.hash_one(self.canonical().map(|attribute| attribute.map(KeyAttribute::content)))
    }

    /// The attributes in the byte order of their names.
    fn canonical(&self) -> [Option<&KeyAttribute<'a>>; 2] {
        match &self.second {
            Some(second) if second.name < self.first.name => [Some(second), Some(&self.first)],
            second => [Some(&self.first), second.as_ref()],
        }
    }
}

impl KeyAttribute<'_> {
    /// What makes two attributes the same; borrowed and owned text hash alike.
    fn content(&self) -> impl Hash + use<'_> {
        (&*self.name, self.kind, &*self.value)
    }
}

/// The first attribute on the wire, and the second if there is one.
type Attributes<'a> = (KeyAttribute<'a>, Option<KeyAttribute<'a>>);

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

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::{InvalidKey, ItemKey, KeyType};

    const UNKNOWN: &[&str] = &[];

    fn names(keys: &str, schema: &[&str]) -> Vec<String> {
        let key = ItemKey::parse(keys, schema).expect("a key");
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
        let key = ItemKey::parse(r#"{"\u0061\"":{"S":"\u00e9\n"}, "b" : { "B" : "q83\/" }}"#, UNKNOWN).expect("a key");
        let attributes: Vec<_> = key.attributes().map(|a| (&*a.name, a.kind, &*a.value)).collect();
        assert_eq!(attributes, [("a\"", KeyType::String, "é\n"), ("b", KeyType::Binary, "q83/")]);
    }

    #[test]
    fn the_same_item_has_the_same_lane_whatever_the_order_or_the_escapes() {
        let state = RandomState::new();
        let spellings = [r#"{"a":{"S":"x"},"b":{"N":"1"}}"#, r#"{"b":{"N":"1"},"a":{"S":"\u0078"}}"#];
        let schemas: [&[&str]; 3] = [UNKNOWN, &["a", "b"], &["b", "a"]];
        let lanes =
            spellings.iter().flat_map(|keys| schemas.map(|schema| ItemKey::parse(keys, schema).expect("a key")));
        let mut lanes: Vec<u64> = lanes.map(|key| key.lane_hash(&state)).collect();
        lanes.dedup();
        assert_eq!(lanes.len(), 1);
    }

    #[test]
    fn items_that_differ_only_a_little_have_lanes_of_their_own() {
        let state = RandomState::new();
        let keys = [
            r#"{"a":{"S":"1"}}"#,
            r#"{"a":{"N":"1"}}"#,
            r#"{"b":{"S":"1"}}"#,
            r#"{"a":{"S":"1"},"b":{"S":"2"}}"#,
            r#"{"a":{"S":"2"},"b":{"S":"1"}}"#,
            r#"{"a":{"S":"12"},"b":{"S":""}}"#,
            r#"{"a":{"S":""},"b":{"S":"12"}}"#,
        ];
        let lanes: std::collections::HashSet<u64> =
            keys.iter().map(|keys| ItemKey::parse(keys, UNKNOWN).expect("a key").lane_hash(&state)).collect();
        assert_eq!(lanes.len(), keys.len());
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
            assert_eq!(ItemKey::parse(keys, UNKNOWN), Err(InvalidKey::Shape), "{keys}");
        }
        let twice = r#"{"a":{"S":"x"},"\u0061":{"S":"y"}}"#;
        assert_eq!(ItemKey::parse(twice, UNKNOWN), Err(InvalidKey::NamedTwice));
        for value in ["q83", "q83?", "a===", "*"] {
            let keys = format!(r#"{{"a":{{"B":"{value}"}}}}"#);
            assert_eq!(ItemKey::parse(&keys, UNKNOWN), Err(InvalidKey::NotBase64 { name: "a".into() }), "{value}");
        }
    }
}
