//! From a record's raw members to a [`Record`], or to what is wrong with it.
//!
//! Strict where a wrong value would lose or misplace a change: `eventID`, `eventName`, `SequenceNumber`, `Keys`, and
//! images that are no objects. Lenient with the rest: a creation time, size, version, source, region, view type or
//! identity that is not of its type counts as not sent.

use std::ops::Range;

use bytes::Bytes;

use super::members::{Change, Members, object};
use super::position::SequenceNumber;
use super::text::{Places, Span, string};
use super::{Operation, Record, Undecodable, epoch, keys};

/// Builds the record that lies at `extent` of the page; `raw` is its text.
pub(super) fn record(
    page: &Bytes,
    raw: &str,
    extent: Range<usize>,
    members: &Members<'_>,
) -> Result<Record, Undecodable> {
    build(page, raw, extent, members).map_err(|reason| Undecodable {
        reason,
        sequence_number: members.change.as_ref().and_then(sequence_number),
        event_id: members.event_id.and_then(string).map(Into::into),
    })
}

fn build(page: &Bytes, raw: &str, extent: Range<usize>, members: &Members<'_>) -> Result<Record, String> {
    let change = members.change.as_ref().ok_or("dynamodb is missing or not an object")?;
    let places = &mut Places::new(raw);
    let event_id = members.event_id.and_then(|raw| places.string(raw)).ok_or("eventID is missing or not a text")?;
    let operation = members.event_name.and_then(operation).ok_or("eventName is not INSERT, MODIFY or REMOVE")?;
    let sequence_number = sequence_number(change).ok_or("SequenceNumber is missing or not 1 to 40 digits")?;
    let mut text = |member: Option<&str>| member.and_then(|raw| places.string(raw));
    let (event_version, event_source) = (text(members.event_version), text(members.event_source));
    let (region, view_type) = (text(members.region), text(change.view_type));
    let identity = members.identity.and_then(|raw| identity(places, raw));
    Ok(Record {
        len: raw.len(),
        operation,
        sequence_number,
        created_at: change.created_at.and_then(epoch::millis),
        size_bytes: change.size_bytes.and_then(|raw| raw.parse().ok()),
        event_id,
        keys: checked_keys(places, change)?,
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

fn checked_keys(places: &Places<'_>, change: &Change<'_>) -> Result<Span, String> {
    let raw = change.keys.ok_or("Keys is missing")?;
    keys::parse(raw).map_err(|invalid| invalid.to_string())?;
    places.json(raw).ok_or_else(|| "Keys is out of reach".into())
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
