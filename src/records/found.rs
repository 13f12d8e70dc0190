//! The one pass over a whole page: where each record lies and what its members are.
//!
//! It refuses whatever is not plain (a record or `dynamodb` that is no object, a member's name with escapes); then each
//! record of the page is read by itself instead.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::members::{Change, Members};
use super::text::range_in;

/// A page whose records are not yet decoded.
#[derive(serde::Deserialize)]
pub(super) struct RawPage<R> {
    #[serde(rename = "Records")]
    pub records: Vec<R>,
    #[serde(rename = "NextShardIterator")]
    pub next: Option<String>,
}

/// A record met on the one pass over the page.
pub(super) struct Found<'a> {
    pub members: Members<'a>,
    /// The first member's name and the last member's value; between them and the record's braces is white space only.
    edges: Option<(&'a str, Last<'a>)>,
}

/// The last text seen in an object, and how many objects end behind it.
#[derive(Clone, Copy)]
struct Last<'a> {
    text: &'a str,
    braces: usize,
}

impl Found<'_> {
    /// Where in the page the record lies, braces included; absent if it has no members.
    pub(super) fn extent(&self, page: &str) -> Option<Range<usize>> {
        let (first, last) = self.edges?;
        let start = page[..range_in(page, first).start].rfind('{')?;
        let mut end = range_in(page, last.text).end;
        for _ in 0..last.braces {
            end += page[end..].find('}')? + 1;
        }
        Some(start..end)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Found<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RecordVisitor(PhantomData))
    }
}

struct RecordVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for RecordVisitor<'a> {
    type Value = Found<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        let mut edges = None;
        while let Some(name) = map.next_key::<&'de str>()? {
            let last = if name == "dynamodb" {
                let FoundChange { change, last } = map.next_value()?;
                members.change = Some(change);
                Last { braces: last.braces + 1, ..last }
            } else {
                let text = map.next_value::<&'de RawValue>()?.get();
                members.set(name, text);
                Last { text, braces: 1 }
            };
            edges = Some((edges.map_or(name, |(first, _)| first), last));
        }
        Ok(Found { members, edges })
    }
}

struct FoundChange<'a> {
    change: Change<'a>,
    last: Last<'a>,
}

impl<'de: 'a, 'a> Deserialize<'de> for FoundChange<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ChangeVisitor(PhantomData))
    }
}

struct ChangeVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for ChangeVisitor<'a> {
    type Value = FoundChange<'a>;

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
        Ok(FoundChange { change, last })
    }
}
