//! The structure of a page, borrowed from its body.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::item_key::ItemKey;
use super::{MalformedPage, Operation, Page, Record, Span, Spans, Undecodable, decimal};
use crate::streams::position::SequenceNumber;

#[derive(Deserialize)]
struct PageView<R> {
    #[serde(rename = "Records")]
    records: Vec<R>,
    #[serde(rename = "NextShardIterator")]
    next_iterator: Option<String>,
}

#[derive(Deserialize)]
struct RecordView<'a> {
    #[serde(rename = "eventID", borrow)]
    event_id: &'a str,
    #[serde(rename = "eventName")]
    event_name: &'a str,
    #[serde(rename = "eventVersion")]
    event_version: Option<&'a str>,
    #[serde(rename = "eventSource")]
    event_source: Option<&'a str>,
    #[serde(rename = "awsRegion")]
    region: Option<&'a str>,
    dynamodb: ChangeView<'a>,
    #[serde(rename = "userIdentity")]
    identity: Option<IdentityView<'a>>,
}

#[derive(Deserialize)]
struct ChangeView<'a> {
    #[serde(rename = "ApproximateCreationDateTime", borrow)]
    created_at: Option<&'a RawValue>,
    #[serde(rename = "Keys")]
    keys: &'a RawValue,
    #[serde(rename = "NewImage")]
    new_image: Option<&'a RawValue>,
    #[serde(rename = "OldImage")]
    old_image: Option<&'a RawValue>,
    #[serde(rename = "SequenceNumber")]
    sequence_number: &'a str,
    #[serde(rename = "SizeBytes")]
    size_bytes: Option<u64>,
    #[serde(rename = "StreamViewType")]
    view_type: Option<&'a str>,
}

#[derive(Deserialize)]
struct IdentityView<'a> {
    #[serde(rename = "PrincipalId", alias = "principalId", borrow)]
    principal_id: Option<&'a str>,
    #[serde(rename = "Type", alias = "type")]
    kind: Option<&'a str>,
}

/// What can be told of a record that is otherwise malformed.
#[derive(Deserialize, Default)]
struct RemainsView {
    #[serde(rename = "eventID", default, deserialize_with = "text_or_nothing")]
    event_id: Option<String>,
    #[serde(default, deserialize_with = "place_or_nothing")]
    dynamodb: Option<SequenceNumber>,
}

/// Reads a page: in one pass if all of it is well-formed, record by record if not.
pub(super) fn parse(body: &Bytes) -> Result<Page, MalformedPage> {
    if u32::try_from(body.len()).is_err() {
        return Err(MalformedPage("it is larger than 4 GiB".to_owned()));
    }
    let bytes = body.len();
    if let Ok(page) = serde_json::from_slice::<PageView<RecordView<'_>>>(body) {
        let records = page.records.iter().map(|record| take(body, record)).collect();
        return Ok(Page {
            records,
            next_iterator: page.next_iterator,
            bytes,
        });
    }
    let page: PageView<&RawValue> = serde_json::from_slice(body).map_err(|error| MalformedPage(brief(&error)))?;
    let records = page.records.iter().map(|raw| take_alone(body, raw)).collect();
    Ok(Page {
        records,
        next_iterator: page.next_iterator,
        bytes,
    })
}

fn take_alone(body: &Bytes, raw: &RawValue) -> Result<Record, Undecodable> {
    match serde_json::from_str::<RecordView<'_>>(raw.get()) {
        Ok(record) => take(body, &record),
        Err(error) => Err(remains(raw.get(), brief(&error))),
    }
}

fn take(body: &Bytes, view: &RecordView<'_>) -> Result<Record, Undecodable> {
    let undecodable = |reason: String| Undecodable {
        reason,
        sequence_number: view.dynamodb.sequence_number.parse().ok(),
        event_id: Some(view.event_id.to_owned()),
    };
    if view.event_id.is_empty() {
        return Err(undecodable("its eventID is empty".to_owned()));
    }
    let change = &view.dynamodb;
    let operation = operation(view.event_name).ok_or_else(|| undecodable("its eventName is unknown".to_owned()))?;
    let sequence_number = change
        .sequence_number
        .parse()
        .map_err(|error| undecodable(format!("its SequenceNumber is none: {error}")))?;
    ItemKey::parse(change.keys.get(), &[]).map_err(|error| undecodable(error.to_string()))?;
    let created_at_millis = match change.created_at {
        None => None,
        Some(raw) => Some(decimal::millis(raw.get()).ok_or_else(|| undecodable("its creation time is none".into()))?),
    };
    if !change.new_image.into_iter().chain(change.old_image).all(is_object) {
        return Err(undecodable("an image of it is not an object".to_owned()));
    }
    let text = |text: &str| span(body, text);
    let raw = |raw: &RawValue| span(body, raw.get());
    let spans = Spans {
        event_id: text(view.event_id),
        keys: raw(change.keys),
        new_image: change.new_image.map(raw),
        old_image: change.old_image.map(raw),
        event_version: view.event_version.map(text),
        event_source: view.event_source.map(text),
        region: view.region.map(text),
        view_type: change.view_type.map(text),
        identity: view
            .identity
            .as_ref()
            .map(|who| (who.principal_id.map(text), who.kind.map(text))),
    };
    let (page, size_bytes) = (body.clone(), change.size_bytes);
    Ok(Record {
        page,
        spans,
        operation,
        sequence_number,
        created_at_millis,
        size_bytes,
    })
}

fn operation(name: &str) -> Option<Operation> {
    match name {
        "INSERT" => Some(Operation::Insert),
        "MODIFY" => Some(Operation::Modify),
        "REMOVE" => Some(Operation::Remove),
        _ => None,
    }
}

fn is_object(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}

/// Where a text borrowed from the body lies in it.
fn span(body: &Bytes, text: &str) -> Span {
    let start = text.as_ptr() as usize - body.as_ptr() as usize;
    let offset = |at: usize| u32::try_from(at).expect("a body is smaller than 4 GiB");
    Span {
        start: offset(start),
        end: offset(start + text.len()),
    }
}

fn remains(raw: &str, reason: String) -> Undecodable {
    let RemainsView { event_id, dynamodb } = serde_json::from_str(raw).unwrap_or_default();
    Undecodable {
        reason,
        sequence_number: dynamodb,
        event_id,
    }
}

/// What is wrong, without the place: serde's messages quote no data except a misplaced value, which may be an item's.
fn brief(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let end = message.find([':', '"', '`']).unwrap_or(message.len());
    match message.strip_prefix("missing field ") {
        Some(field) => format!(
            "a member is missing: {}",
            field.split(" at ").next().unwrap_or_default()
        ),
        None => format!("{} (column {})", message[..end].trim_end(), error.column()),
    }
}

fn text_or_nothing<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value.as_str().map(str::to_owned))
}

fn place_or_nothing<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SequenceNumber>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value
        .get("SequenceNumber")
        .and_then(|number| number.as_str())
        .and_then(|number| number.parse().ok()))
}
