//! One `GetRecords` answer, read without a copy.
//!
//! The answer's body is parsed once for its structure; no attribute value is decoded. A [`Record`] holds the body and
//! where its members lie in it, so that images reach the sink byte for byte as AWS sent them.
//!
//! One record that cannot be decoded never costs its neighbours: it becomes an [`Undecodable`] in its place. Only an
//! answer that is no `GetRecords` answer at all is [`MalformedPage`], a fault of the transport: fetch it again.
//!
//! What the AWS SDK's own deserializer takes is taken, and means the same: members that are absent or null, a page without
//! `Records`. Not so a body without a single byte, which the SDK takes for `{}` and so for the shard's end: an
//! answer that was cut off looks the same.
//!
//! A record is decoded in two steps. First its members are found, as raw JSON texts: for all records in one pass over the
//! page, or, where some record is not plain, for each record by itself. Then the members are judged. That is strict where
//! a wrong value would lose or misplace a change: `eventID`, `eventName`, `SequenceNumber`, `Keys`, and images that are no
//! objects. It is lenient with the rest: a creation time, size, version, source, region, view type or identity that is
//! not of its type counts as not sent.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::item_key::{self, ItemKey};
use super::position::SequenceNumber;
use super::record::{Operation, Record, Span, Undecodable};

/// One `GetRecords` answer.
#[derive(Debug, Clone)]
pub struct Page {
    /// In the shard's order; a record that cannot be decoded holds the place it had.
    pub records: Vec<Result<Record, Undecodable>>,
    /// Absent when the shard has ended; that same answer may still carry records. An empty one is no end, and no way on either.
    pub next_iterator: Option<String>,
    /// Size of the body.
    pub bytes: usize,
}

/// The whole body is no `GetRecords` answer: a fault of the transport, to be fetched again.
#[derive(Debug, thiserror::Error)]
pub enum MalformedPage {
    /// The body is not text.
    #[error("the answer is not UTF-8: {0}")]
    NotText(#[from] std::str::Utf8Error),
    /// The body is not JSON, or cut off.
    #[error("the answer is not JSON: {0}")]
    NotJson(serde_json::Error),
    /// The body is no object, its `Records` no array, or its `NextShardIterator` no text.
    #[error("the answer is not a page of records: a member of the wrong type, line {line} column {column}")]
    NotAPage {
        /// Where in the body, from 1.
        line: usize,
        /// Where in that line, in bytes from 1.
        column: usize,
    },
    /// A record's members are addressed with 32 bits; AWS answers with 1 MB at most, its JSON form is a few times that.
    #[error("the answer has {0} bytes, more than 4 GiB")]
    TooLarge(usize),
}

impl MalformedPage {
    /// A wrong type's message would repeat the value, which may be item data.
    fn from_json(error: serde_json::Error) -> Self {
        if error.is_data() {
            Self::NotAPage { line: error.line(), column: error.column() }
        } else {
            Self::NotJson(error)
        }
    }
}

impl Page {
    /// Reads the body of a successful `GetRecords` answer.
    ///
    /// # Errors
    /// [`MalformedPage`] if the body is no JSON object, its `Records` no array, or its iterator no text. What is
    /// wrong with a single record is in that record's place instead.
    pub fn parse(body: Bytes) -> Result<Self, MalformedPage> {
        u32::try_from(body.len()).map_err(|_| MalformedPage::TooLarge(body.len()))?;
        let text = std::str::from_utf8(&body)?;
        let (records, next_iterator) = match serde_json::from_str::<RawPage<ScannedRecord<'_>>>(text) {
            Ok(page) => (page.records().map(|found| decode_scanned(&body, text, found)).collect(), page.next),
            Err(_) => {
                let page: RawPage<&RawValue> = serde_json::from_str(text).map_err(MalformedPage::from_json)?;
                (page.records().map(|raw| decode_alone(&body, text, raw.get())).collect(), page.next)
            }
        };
        Ok(Self { records, next_iterator, bytes: body.len() })
    }
}

/// The fast path: the one pass over the page has found the record's members already.
fn decode_scanned(body: &Bytes, text: &str, found: &ScannedRecord<'_>) -> Result<Record, Undecodable> {
    match found.extent(text) {
        Some(extent) => decode(body, &text[extent.clone()], extent, &found.members),
        None => Err(Undecodable { reason: "the record is empty".into(), sequence_number: None }),
    }
}

/// The slow path: some record of the page is not shaped like one, so each is parsed by itself.
fn decode_alone(body: &Bytes, text: &str, raw: &str) -> Result<Record, Undecodable> {
    let extent = range_in(text, raw);
    match Members::parse(raw) {
        Ok(members) => decode(body, raw, extent, &members),
        Err(reason) => Err(Undecodable { reason: reason.into(), sequence_number: None }),
    }
}

/// A page whose records are not yet decoded. Of a member that is sent twice the last one counts, as in the AWS SDK.
struct RawPage<R> {
    records: Option<Vec<R>>,
    next: Option<String>,
}

impl<'de, R: Deserialize<'de>> Deserialize<'de> for RawPage<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PageVisitor(PhantomData))
    }
}

struct PageVisitor<R>(PhantomData<R>);

impl<'de, R: Deserialize<'de>> Visitor<'de> for PageVisitor<R> {
    type Value = RawPage<R>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a page of records")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut page = RawPage { records: None, next: None };
        while let Some(name) = map.next_key::<Name<'de>>()? {
            match &*name.0 {
                "Records" => page.records = map.next_value()?,
                "NextShardIterator" => page.next = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(page)
    }
}

impl<R> RawPage<R> {
    fn records(&self) -> impl Iterator<Item = &R> {
        self.records.iter().flatten()
    }
}

/// A record met on the one pass over the page.
///
/// The pass refuses whatever is not plain (a record or `dynamodb` that is no object, a member's name with escapes); then
/// each record of the page is read by itself instead, by [`Members::parse`].
struct ScannedRecord<'a> {
    members: Members<'a>,
    /// The first member's name and the last member's value; between them and the record's braces is white space only.
    edges: Option<(&'a str, Last<'a>)>,
}

/// The last text seen in an object, and how many objects end behind it.
#[derive(Clone, Copy)]
struct Last<'a> {
    text: &'a str,
    braces: usize,
}

impl ScannedRecord<'_> {
    /// Where in the page the record lies, braces included; absent if it has no members.
    fn extent(&self, page: &str) -> Option<Range<usize>> {
        let (first, last) = self.edges?;
        let start = page[..range_in(page, first).start].rfind('{')?;
        let mut end = range_in(page, last.text).end;
        for _ in 0..last.braces {
            end += page[end..].find('}')? + 1;
        }
        Some(start..end)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ScannedRecord<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RecordVisitor(PhantomData))
    }
}

struct RecordVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for RecordVisitor<'a> {
    type Value = ScannedRecord<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        let mut edges = None;
        while let Some(name) = map.next_key::<&'de str>()? {
            let last = if name == "dynamodb" {
                let ScannedChange { change, last } = map.next_value()?;
                members.change = Some(change);
                Last { braces: last.braces + 1, ..last }
            } else {
                let text = map.next_value::<&'de RawValue>()?.get();
                members.set(name, text);
                Last { text, braces: 1 }
            };
            edges = Some((edges.map_or(name, |(first, _)| first), last));
        }
        Ok(ScannedRecord { members, edges })
    }
}

struct ScannedChange<'a> {
    change: Change<'a>,
    last: Last<'a>,
}

impl<'de: 'a, 'a> Deserialize<'de> for ScannedChange<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ChangeVisitor(PhantomData))
    }
}

struct ChangeVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for ChangeVisitor<'a> {
    type Value = ScannedChange<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record's dynamodb")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut change = Change::default();
        let mut last = None;
        while let Some(name) = map.next_key::<&'de str>()? {
            let text = map.next_value::<&'de RawValue>()?.get();
            change.set(name, text);
            last = Some(Last { text, braces: 1 });
        }
        let last = last.ok_or_else(|| A::Error::custom("a record's dynamodb is empty"))?;
        Ok(ScannedChange { change, last })
    }
}

/// A record's members as the body holds them: raw JSON texts, not yet judged. Absent: not sent, or sent as null. Of a name
/// that is sent twice the last one counts, as in the AWS SDK.
#[derive(Default)]
struct Members<'a> {
    event_id: Option<&'a str>,
    event_name: Option<&'a str>,
    event_version: Option<&'a str>,
    event_source: Option<&'a str>,
    region: Option<&'a str>,
    identity: Option<&'a str>,
    change: Option<Change<'a>>,
}

/// The members of a record's `dynamodb`.
#[derive(Default)]
struct Change<'a> {
    created_at: Option<&'a str>,
    keys: Option<&'a str>,
    new_image: Option<&'a str>,
    old_image: Option<&'a str>,
    sequence_number: Option<&'a str>,
    size_bytes: Option<&'a str>,
    view_type: Option<&'a str>,
}

impl<'a> Members<'a> {
    /// Reads one record by itself.
    fn parse(raw: &'a str) -> Result<Self, &'static str> {
        let mut members = Self::default();
        for (name, value) in object(raw).ok_or("the record is not an object")? {
            if name == "dynamodb" {
                members.change = Change::parse(value);
            } else {
                members.set(&name, value);
            }
        }
        Ok(members)
    }

    fn set(&mut self, name: &str, value: &'a str) {
        let member = match name {
            "eventID" => &mut self.event_id,
            "eventName" => &mut self.event_name,
            "eventVersion" => &mut self.event_version,
            "eventSource" => &mut self.event_source,
            "awsRegion" => &mut self.region,
            "userIdentity" => &mut self.identity,
            _ => return,
        };
        *member = unless_null(value);
    }
}

impl<'a> Change<'a> {
    fn parse(raw: &'a str) -> Option<Self> {
        let mut change = Self::default();
        for (name, value) in object(raw)? {
            change.set(&name, value);
        }
        Some(change)
    }

    fn set(&mut self, name: &str, value: &'a str) {
        let member = match name {
            "ApproximateCreationDateTime" => &mut self.created_at,
            "Keys" => &mut self.keys,
            "NewImage" => &mut self.new_image,
            "OldImage" => &mut self.old_image,
            "SequenceNumber" => &mut self.sequence_number,
            "SizeBytes" => &mut self.size_bytes,
            "StreamViewType" => &mut self.view_type,
            _ => return,
        };
        *member = unless_null(value);
    }
}

fn unless_null(value: &str) -> Option<&str> {
    (value != "null").then_some(value)
}

/// The members of a JSON object in their order; absent if the text is none.
fn object(raw: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
    serde_json::from_str::<Object<'_>>(raw).ok().map(|object| object.0)
}

struct Object<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for ObjectVisitor<'a> {
    type Value = Object<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key::<Name<'de>>()? {
            members.push((name.0, map.next_value::<&'de RawValue>()?.get()));
        }
        Ok(Object(members))
    }
}

/// A member's name, borrowed where it can be.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Builds the record that lies at `extent` of the page; `raw` is its text.
fn decode(page: &Bytes, raw: &str, extent: Range<usize>, members: &Members<'_>) -> Result<Record, Undecodable> {
    build(page, raw, extent, members)
        .map_err(|reason| Undecodable { reason, sequence_number: members.change.as_ref().and_then(sequence_number) })
}

fn build(page: &Bytes, raw: &str, extent: Range<usize>, members: &Members<'_>) -> Result<Record, String> {
    let change = members.change.as_ref().ok_or("dynamodb is missing or not an object")?;
    let places = &mut Places::new(raw);
    let event_id = members.event_id.and_then(|raw| places.string(raw)).ok_or("eventID is missing or not a text")?;
    let operation = members.event_name.and_then(operation).ok_or("eventName is not INSERT, MODIFY or REMOVE")?;
    let sequence_number = sequence_number(change).ok_or("SequenceNumber is missing or not a run of 1 to 79 digits")?;
    let mut text = |member: Option<&str>| member.and_then(|raw| places.string(raw));
    let (event_version, event_source) = (text(members.event_version), text(members.event_source));
    let (region, view_type) = (text(members.region), text(change.view_type));
    let identity = members.identity.and_then(|raw| identity(places, raw));
    let (keys, item_key) = keys(places, change)?;
    Ok(Record {
        len: raw.len(),
        operation,
        sequence_number,
        created_at: change.created_at.and_then(epoch_millis),
        size_bytes: change.size_bytes.and_then(|raw| raw.parse().ok()),
        event_id,
        keys,
        item_key,
        new_image: image(places, change.new_image, "NewImage")?,
        old_image: image(places, change.old_image, "OldImage")?,
        event_version,
        event_source,
        region,
        view_type,
        identity,
        bytes: places.bytes(page, extent),
    })
}

fn operation(raw: &str) -> Option<Operation> {
    Operation::from_name(&string(raw)?)
}

fn sequence_number(change: &Change<'_>) -> Option<SequenceNumber> {
    string(change.sequence_number?)?.parse().ok()
}

/// Where the whole `Keys` lies, and where each name and value of it.
fn keys(places: &mut Places<'_>, change: &Change<'_>) -> Result<(Span, ItemKey<Span>), String> {
    let raw = change.keys.ok_or("Keys is missing")?;
    let key = item_key::parse(raw).map_err(|invalid| invalid.to_string())?;
    let key = key.map(|text| places.content(text)).complete();
    places.json(raw).zip(key).ok_or_else(|| "Keys is out of reach".into())
}

fn image(places: &Places<'_>, raw: Option<&str>, name: &str) -> Result<Option<Span>, String> {
    match raw {
        Some(raw) if !raw.starts_with('{') => Err(format!("{name} is not an object")),
        raw => Ok(raw.and_then(|raw| places.json(raw))),
    }
}

fn identity(places: &mut Places<'_>, raw: &str) -> Option<(Option<Span>, Option<Span>)> {
    let members = object(raw)?;
    let mut text = |wanted: &str| {
        let (_, value) = members.iter().rev().find(|(name, _)| name == wanted)?;
        places.string(value)
    };
    Some((text("PrincipalId"), text("Type")))
}

/// Where `part`, a slice of `whole`, lies in it.
fn range_in(whole: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

/// The content of a JSON string; absent if the value is none, or if it is no valid text once decoded.
fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(raw).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// Places values in a record. What has escapes is decoded into a tail that is kept behind the record's own text, so
/// that a place is always enough to find a value.
struct Places<'a> {
    raw: &'a str,
    tail: String,
}

impl<'a> Places<'a> {
    fn new(raw: &'a str) -> Self {
        Self { raw, tail: String::new() }
    }

    /// The place of a value's JSON text.
    fn json(&self, value: &str) -> Option<Span> {
        Span::new(range_in(self.raw, value))
    }

    /// The place of a JSON string's content.
    fn string(&mut self, value: &str) -> Option<Span> {
        self.content(string(value)?)
    }

    /// The place of a text: where it was borrowed from, or in the tail.
    fn content(&mut self, content: Cow<'_, str>) -> Option<Span> {
        match content {
            Cow::Borrowed(content) => Span::new(range_in(self.raw, content)),
            Cow::Owned(content) => {
                let start = self.raw.len() + self.tail.len();
                self.tail.push_str(&content);
                Span::new(start..start + content.len())
            }
        }
    }

    /// The record's bytes: a view into its page, or a copy if something had to be decoded.
    fn bytes(&self, page: &Bytes, extent: Range<usize>) -> Bytes {
        if self.tail.is_empty() { page.slice(extent) } else { [self.raw, &self.tail].concat().into() }
    }
}

/// A moment as AWS's JSON writes it: seconds since 1970 as a number, whole or with a fraction, sometimes with an exponent
/// (`1.767323046E9`), from emulators also as text (`"1795225260.000"`).
///
/// The milliseconds since 1970 that a JSON number, or a JSON string that holds one, stands for; what is finer is cut
/// off. Computed in integers, so no digit is lost. Absent for what is no such moment or lies before 1970.
fn epoch_millis(raw: &str) -> Option<i64> {
    let number = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or(raw);
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_number = !whole.is_empty() && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_number {
        return None;
    }
    let places = i32::try_from(whole.len()).ok()?.checked_add(exponent)?.checked_add(3)?;
    shifted(whole.bytes().chain(fraction.bytes()), places)
}

/// The first `places` digits as a number; zeros follow where there are fewer.
fn shifted(digits: impl Iterator<Item = u8>, places: i32) -> Option<i64> {
    let mut number: i64 = 0;
    let mut left = places;
    for digit in digits {
        if left <= 0 {
            return Some(number);
        }
        number = number.checked_mul(10)?.checked_add(i64::from(digit - b'0'))?;
        left -= 1;
    }
    if number == 0 { Some(0) } else { 10_i64.checked_pow(u32::try_from(left.max(0)).ok()?)?.checked_mul(number) }
}

#[cfg(test)]
mod tests {
    use super::epoch_millis;

    #[test]
    fn every_form_on_the_wire_is_exact_to_the_millisecond() {
        let forms = [
            ("1767323045", 1_767_323_045_000),
            ("1.767323046E9", 1_767_323_046_000),
            ("1.767323046e+9", 1_767_323_046_000),
            ("1767323051.789", 1_767_323_051_789),
            ("\"1795225260.000\"", 1_795_225_260_000),
            ("1767323051.7899999", 1_767_323_051_789),
            ("17673230517890000E-7", 1_767_323_051_789),
            ("0", 0),
            ("0.0005", 0),
            ("0E99", 0),
            ("00000000000000000000000000001", 1_000),
        ];
        for (raw, expected) in forms {
            assert_eq!(epoch_millis(raw), Some(expected), "{raw}");
        }
    }

    #[test]
    fn what_is_no_moment_is_absent() {
        for raw in
            ["", "\"\"", "null", "true", "-1", "1E", "1E9999999999", "1E30", ".5", "1.2.3", "12a", "\"soon\"", "{}"]
        {
            assert_eq!(epoch_millis(raw), None, "{raw}");
        }
    }

    #[test]
    fn no_millisecond_of_a_thousand_is_rounded_away() {
        for milli in 0..1000_i64 {
            assert_eq!(epoch_millis(&format!("1767323051.{milli:03}")), Some(1_767_323_051_000 + milli));
        }
    }
}
