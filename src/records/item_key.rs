//! The key of the item that a record is about: one or two attributes, each with exactly one value of type S, N or B.
//!
//! An item keeps its key for life, so records with the same key belong into the same lane. A record's key is parsed
//! once, with its page: the record keeps where names and values lie. The order in which AWS sends a key's two attributes
//! means nothing: [`ItemKey::ordered_by`] gives them another.
//!
//! [`LaneId`] names a lane in what is stored: it must never change from one build to another.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::str::FromStr;
use std::{fmt, io};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

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

impl<T: AsRef<str> + Copy> ItemKey<T> {
    /// The lane of the item, however its key's attributes are ordered here.
    pub(super) fn lane_id(&self) -> LaneId {
        let Self { first, second } = self.ordered_by::<&str>(&[]);
        match &second {
            None => LaneId::of(&[first.texts()]),
            Some(second) => LaneId::of(&[first.texts(), second.texts()]),
        }
    }
}

impl<T: AsRef<str>> KeyAttribute<T> {
    fn texts(&self) -> [&str; 3] {
        [self.name.as_ref(), self.kind.name(), self.value.as_ref()]
    }
}

impl KeyType {
    fn name(self) -> &'static str {
        match self {
            Self::String => "S",
            Self::Number => "N",
            Self::Binary => "B",
        }
    }
}

/// The stable name of a lane, for what is stored: 32 hexadecimal digits.
///
/// It is the first 128 bits of the SHA-256 of a canonical text, compact JSON: of an item's lane `[[name,type,value],…]` with the
/// attributes of its key in the byte order of their names, of a shard's lane the shard's id. Two lanes never share it in practice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(u128);

/// The text is no lane's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a lane's name has 32 hexadecimal digits in lower case")]
pub struct InvalidLaneId;

impl LaneId {
    /// The lane of everything in a shard and in what continues it, for order by shard: that of the shard where the lineage began.
    /// In what is stored it is that of the shard's gaps.
    pub fn of_shard(id: &str) -> Self {
        Self::of(id)
    }

    /// The lane of one gap, by the `id` of its event.
    pub(crate) fn of_gap(id: &str) -> Self {
        Self::of(id)
    }

    /// What tells a table's lanes from those of others.
    pub(crate) fn of_table(arn: &str) -> Self {
        Self::of(arn)
    }

    /// A short key of it among all tables' lanes; two of them may be the same.
    pub(crate) fn key_in(self, table: Self) -> u64 {
        ((self.0 ^ table.0) >> 64) as u64
    }

    fn of(canonical: &(impl Serialize + ?Sized)) -> Self {
        let mut hash = Hash(Sha256::new());
        serde_json::to_writer(&mut hash, canonical).expect("texts are always JSON, and a hash takes them all");
        Self(hash.0.finalize().iter().take(16).fold(0, |bits, byte| bits << 8 | u128::from(*byte)))
    }
}

/// The hash of what is written to it.
struct Hash(Sha256);

impl io::Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LaneId {
    type Err = InvalidLaneId;

    fn from_str(text: &str) -> Result<Self, InvalidLaneId> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match text.len() == 32 && text.bytes().all(is_digit) {
            true => u128::from_str_radix(text, 16).map(Self).map_err(|_| InvalidLaneId),
            false => Err(InvalidLaneId),
        }
    }
}

impl Serialize for LaneId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LaneId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(Error::custom)
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
    use super::{InvalidKey, InvalidLaneId, KeyType, LaneId, parse};

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

    fn lane(keys: &str, schema: &[&str]) -> LaneId {
        let key = parse(keys).expect("a key").ordered_by(schema).map(|text| &*text.into_owned().leak());
        key.lane_id()
    }

    /// Names that are stored: they are the same in every build, or a restart delivers what was settled.
    #[test]
    fn the_name_of_a_lane_never_changes() {
        for (keys, name) in [
            (r#"{"id":{"S":"a"}}"#, "a897fb799442ab47ef81cddc70d154c0"),
            (r#"{"id":{"N":"7"}}"#, "8dfcf5e90886b7099df649c8f2b050ca"),
            (r#"{"id":{"B":"q83/"}}"#, "1f3c686796b4d38574048e4bd9bb7511"),
            (r#"{"orderId":{"S":"\u00e9\n\""},"line":{"N":"7"}}"#, "6a32389ab9c4c2dc62646b50a4c067f5"),
        ] {
            assert_eq!(lane(keys, UNKNOWN).to_string(), name, "{keys}");
            assert_eq!(name.parse(), Ok(lane(keys, UNKNOWN)));
        }
        let shard = "shardId-00000001767323045000-0a1b2c3d";
        assert_eq!(LaneId::of_shard(shard).to_string(), "3766c54c00e4ab49d1bc36fa1e49afa5");
    }

    #[test]
    fn an_item_has_one_lane_whatever_the_order_of_its_keys_attributes_or_the_escapes() {
        let spellings = [r#"{"a":{"S":"x"},"b":{"N":"1"}}"#, r#"{"b":{"N":"1"},"a":{"S":"\u0078"}}"#];
        let schemas: [&[&str]; 3] = [UNKNOWN, &["a", "b"], &["b", "a"]];
        let lanes = schemas.map(|schema| spellings.map(|keys| lane(keys, schema))).concat();
        assert!(lanes.windows(2).all(|pair| pair[0] == pair[1]), "{lanes:?}");
    }

    #[test]
    fn other_items_have_other_lanes() {
        let keys = [
            r#"{"a":{"S":"x"}}"#,
            r#"{"a":{"S":"1"}}"#,
            r#"{"a":{"N":"1"}}"#,
            r#"{"b":{"N":"1"}}"#,
            r#"{"a":{"S":"x"},"b":{"N":"1"}}"#,
            r#"{"a":{"S":"x\",\"b"},"b":{"N":"1"}}"#,
        ];
        let lanes: std::collections::BTreeSet<_> = keys.map(|keys| lane(keys, UNKNOWN)).into();
        assert_eq!(lanes.len(), keys.len());
    }

    #[test]
    fn what_names_no_lane_is_refused() {
        for text in [
            "",
            "0",
            &"0".repeat(31),
            &"0".repeat(33),
            &"G".repeat(32),
            &"A".repeat(32),
            "+0000000000000000000000000000000",
        ] {
            assert_eq!(text.parse::<LaneId>(), Err(InvalidLaneId), "{text}");
        }
    }
}
