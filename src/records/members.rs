//! The members of a record as the body holds them: raw JSON texts, not yet judged.
//!
//! Two ways lead here: the one pass over the whole page, [`found`](super::found), and [`Members::parse`], which reads
//! one record by itself and takes what the other refuses.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A record's members. Absent: not sent, or sent as null. Of a name that is sent twice the last one counts, as in the
/// AWS SDK.
#[derive(Default)]
pub(super) struct Members<'a> {
    pub event_id: Option<&'a str>,
    pub event_name: Option<&'a str>,
    pub event_version: Option<&'a str>,
    pub event_source: Option<&'a str>,
    pub region: Option<&'a str>,
    pub identity: Option<&'a str>,
    pub change: Option<Change<'a>>,
}

/// The members of a record's `dynamodb`.
#[derive(Default)]
pub(super) struct Change<'a> {
    pub created_at: Option<&'a str>,
    pub keys: Option<&'a str>,
    pub new_image: Option<&'a str>,
    pub old_image: Option<&'a str>,
    pub sequence_number: Option<&'a str>,
    pub size_bytes: Option<&'a str>,
    pub view_type: Option<&'a str>,
}

impl<'a> Members<'a> {
    /// Reads one record by itself.
    pub(super) fn parse(raw: &'a str) -> Result<Self, &'static str> {
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

    pub(super) fn set(&mut self, name: &str, value: &'a str) {
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

    pub(super) fn set(&mut self, name: &str, value: &'a str) {
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
pub(super) fn object(raw: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
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
