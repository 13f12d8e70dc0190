//! Zero-copy view of a `GetRecords` answer.
//!
//! The answer's body is parsed once for its structure; no attribute value is decoded. A [`Record`] holds the body and
//! where its members lie in it, so that images reach the sink byte for byte as AWS sent them.
//!
//! One malformed record does not cost its neighbours: it becomes an [`Undecodable`] in its place. An answer that is not
//! a page at all is [`MalformedPage`], a fault of the transport: it is fetched again. A page without `Records` is
//! malformed too, because taking it for the end of a shard would lose what follows.

pub mod item_key;

mod decimal;
mod view;

use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use self::item_key::{InvalidKey, ItemKey};
use super::position::SequenceNumber;

/// One `GetRecords` answer.
#[derive(Debug, Clone)]
pub struct Page {
    /// In the shard's order; a record that cannot be decoded holds the place it had.
    pub records: Vec<Result<Record, Undecodable>>,
    /// Absent when the shard has ended; that same answer may still carry records.
    pub next_iterator: Option<String>,
    /// Size of the body.
    pub bytes: usize,
}

/// The answer is not a page of records.
#[derive(Debug, thiserror::Error)]
#[error("the answer is not a page of records: {0}")]
pub struct MalformedPage(String);

/// Why one record of a page could not be decoded; its neighbours could.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Undecodable {
    /// What is wrong with it; no item data.
    pub reason: String,
    /// The record's own place, where that at least could be read.
    pub sequence_number: Option<SequenceNumber>,
    /// Its `eventID`, where that could be read.
    pub event_id: Option<String>,
}

/// What happened to the item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `INSERT`
    Insert,
    /// `MODIFY`
    Modify,
    /// `REMOVE`
    Remove,
}

/// Who made a change, if it was not the user: DynamoDB itself, when it deletes an expired item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Such as `dynamodb.amazonaws.com`.
    pub principal_id: Option<&'a str>,
    /// Such as `Service`.
    pub kind: Option<&'a str>,
}

/// One change of one item, as views into the page that brought it. A clone shares the page.
#[derive(Debug, Clone)]
pub struct Record {
    page: Bytes,
    spans: Spans,
    operation: Operation,
    sequence_number: SequenceNumber,
    created_at_millis: Option<i64>,
    size_bytes: Option<u64>,
}

/// A part of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

#[derive(Debug, Clone, Copy)]
struct Spans {
    event_id: Span,
    keys: Span,
    new_image: Option<Span>,
    old_image: Option<Span>,
    event_version: Option<Span>,
    event_source: Option<Span>,
    region: Option<Span>,
    view_type: Option<Span>,
    /// Principal and type.
    identity: Option<(Option<Span>, Option<Span>)>,
}

impl Page {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is not a page of records.
    pub fn parse(body: Bytes) -> Result<Self, MalformedPage> {
        view::parse(&body)
    }
}

impl Record {
    /// What a record takes besides its text: this struct, its place in a lane and its entry in the progress.
    const OVERHEAD: usize = 768;

    /// The change's globally unique id.
    pub fn event_id(&self) -> &str {
        self.text(self.spans.event_id)
    }

    /// What happened.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// What happened, as on the wire: `INSERT`, `MODIFY` or `REMOVE`.
    pub fn operation_name(&self) -> &'static str {
        match self.operation {
            Operation::Insert => "INSERT",
            Operation::Modify => "MODIFY",
            Operation::Remove => "REMOVE",
        }
    }

    /// The version of the record's form.
    pub fn event_version(&self) -> Option<&str> {
        self.spans.event_version.map(|span| self.text(span))
    }

    /// `aws:dynamodb`.
    pub fn event_source(&self) -> Option<&str> {
        self.spans.event_source.map(|span| self.text(span))
    }

    /// The region that the record names.
    pub fn region(&self) -> Option<&str> {
        self.spans.region.map(|span| self.text(span))
    }

    /// Its place in the shard.
    pub fn sequence_number(&self) -> SequenceNumber {
        self.sequence_number
    }

    /// When DynamoDB wrote the change; AWS rounds down to the second.
    pub fn created_at(&self) -> Option<SystemTime> {
        let millis = self.created_at_millis?;
        let distance = Duration::from_millis(millis.unsigned_abs());
        match millis >= 0 {
            true => SystemTime::UNIX_EPOCH.checked_add(distance),
            false => SystemTime::UNIX_EPOCH.checked_sub(distance),
        }
    }

    /// The same in milliseconds since the epoch, a finer fraction cut off.
    pub fn created_at_millis(&self) -> Option<i64> {
        self.created_at_millis
    }

    /// The key's attributes, in AWS's JSON exactly as sent.
    pub fn keys(&self) -> &str {
        self.text(self.spans.keys)
    }

    /// The key, decoded, its attributes ordered by the table's key schema.
    ///
    /// # Errors
    /// Never for a record of a parsed page: its key was checked.
    pub fn item_key(&self, schema: &[String]) -> Result<ItemKey<'_>, InvalidKey> {
        ItemKey::parse(self.keys(), schema)
    }

    /// The item after the change, in AWS's JSON exactly as sent.
    pub fn new_image(&self) -> Option<&str> {
        self.spans.new_image.map(|span| self.text(span))
    }

    /// The item before the change, in AWS's JSON exactly as sent.
    pub fn old_image(&self) -> Option<&str> {
        self.spans.old_image.map(|span| self.text(span))
    }

    /// The record's size as AWS counts it.
    pub fn size_bytes(&self) -> Option<u64> {
        self.size_bytes
    }

    /// `KEYS_ONLY`, `NEW_IMAGE`, `OLD_IMAGE` or `NEW_AND_OLD_IMAGES`.
    pub fn view_type(&self) -> Option<&str> {
        self.spans.view_type.map(|span| self.text(span))
    }

    /// Who made the change, if the record says so.
    pub fn identity(&self) -> Option<Identity<'_>> {
        let (principal_id, kind) = self.spans.identity?;
        let text = |span: Option<Span>| span.map(|span| self.text(span));
        Some(Identity {
            principal_id: text(principal_id),
            kind: text(kind),
        })
    }

    /// Whether DynamoDB deleted the item because its time to live was over.
    ///
    /// Source: "DynamoDB Streams and Time to Live" in the DynamoDB Developer Guide.
    pub fn is_ttl_delete(&self) -> bool {
        self.operation == Operation::Remove
            && self.identity().is_some_and(|identity| {
                identity.kind == Some("Service") && identity.principal_id == Some("dynamodb.amazonaws.com")
            })
    }

    /// What the record takes of the buffer until it is settled, in bytes.
    pub fn cost(&self) -> usize {
        self.spans.extent().len() + Self::OVERHEAD
    }

    /// Copies the record out of its page, so that the page's memory can be freed while the record is kept.
    pub fn detach(&mut self) {
        let extent = self.spans.extent();
        if extent.len() < self.page.len() {
            self.page = Bytes::copy_from_slice(&self.page[extent.clone()]);
            self.spans = self.spans.shifted(extent.start);
        }
    }

    fn text(&self, span: Span) -> &str {
        std::str::from_utf8(&self.page[span.range()]).expect("spans are taken from text")
    }
}

impl Span {
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    fn shifted(self, by: u32) -> Self {
        Self {
            start: self.start - by,
            end: self.end - by,
        }
    }
}

impl Spans {
    /// From the first byte that any member needs to the last.
    fn extent(&self) -> Range<usize> {
        let (principal, kind) = self.identity.unwrap_or_default();
        let optional = [
            self.new_image,
            self.old_image,
            self.event_version,
            self.event_source,
            self.region,
            self.view_type,
            principal,
            kind,
        ];
        let all = || optional.iter().flatten().chain([&self.event_id, &self.keys]);
        let start = all().map(|span| span.start).min().unwrap_or_default();
        let end = all().map(|span| span.end).max().unwrap_or_default();
        start as usize..end as usize
    }

    fn shifted(&self, by: usize) -> Self {
        let by = u32::try_from(by).expect("an offset within a page");
        let shift = |span: Option<Span>| span.map(|span| span.shifted(by));
        Self {
            event_id: self.event_id.shifted(by),
            keys: self.keys.shifted(by),
            new_image: shift(self.new_image),
            old_image: shift(self.old_image),
            event_version: shift(self.event_version),
            event_source: shift(self.event_source),
            region: shift(self.region),
            view_type: shift(self.view_type),
            identity: self.identity.map(|(principal, kind)| (shift(principal), shift(kind))),
        }
    }
}

#[cfg(test)]
mod tests;
