//! Zero-copy view of a `GetRecords` answer.
//!
//! The answer's body is parsed once for its structure; no attribute value is decoded. A [`Record`] holds the body and
//! where its members lie in it, so that images reach the sink byte for byte as AWS sent them.
//!
//! One record that cannot be decoded never costs its neighbours: it becomes an [`Undecodable`] in its place. Only an
//! answer that is no `GetRecords` answer at all is [`MalformedPage`], a fault of the transport: fetch it again.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::found::{Found, RawPage};
use super::members::Members;
use super::position::SequenceNumber;
use super::record::Record;
use super::{assemble, text};

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

/// The whole body is no `GetRecords` answer: a fault of the transport, to be fetched again.
#[derive(Debug, thiserror::Error)]
pub enum MalformedPage {
    /// The body is not text.
    #[error("the answer is not UTF-8: {0}")]
    NotText(#[from] std::str::Utf8Error),
    /// The body is not JSON, or cut off.
    #[error("the answer is not JSON: {0}")]
    NotJson(serde_json::Error),
    /// The body's `Records` is no array, or its `NextShardIterator` no text.
    #[error("the answer is not a page of records: a member of the wrong type, line {line} column {column}")]
    NotAPage {
        /// Where in the body, from 1.
        line: usize,
        /// Where in that line, in bytes from 1.
        column: usize,
    },
    /// An iterator without a single character is neither the shard's end nor a way on.
    #[error("the answer's NextShardIterator is empty")]
    EmptyIterator,
    /// A record's members are addressed with 32 bits; AWS answers with 1 MB at most, its JSON form is a few times that.
    #[error("the answer has {0} bytes, more than 4 GiB")]
    TooLarge(usize),
}

/// What happened to the item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `INSERT`
    Insert,
    /// `MODIFY`
    Modify,
    /// `REMOVE`
    Remove,
}

impl Operation {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Modify => "MODIFY",
            Self::Remove => "REMOVE",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Insert, Self::Modify, Self::Remove].into_iter().find(|operation| operation.name() == name)
    }
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
    /// [`MalformedPage`] if the body is no JSON object with an array `Records`, or its iterator is no text. What is
    /// wrong with a single record is in that record's place instead.
    pub fn parse(body: Bytes) -> Result<Self, MalformedPage> {
        u32::try_from(body.len()).map_err(|_| MalformedPage::TooLarge(body.len()))?;
        let text = std::str::from_utf8(&body)?;
        let (records, next_iterator) = match serde_json::from_str::<RawPage<Found<'_>>>(text) {
            Ok(page) => (page.records.iter().map(|found| decode_found(&body, text, found)).collect(), page.next),
            Err(_) => {
                let page: RawPage<&RawValue> = serde_json::from_str(text).map_err(MalformedPage::from_json)?;
                (page.records.iter().map(|raw| decode_alone(&body, text, raw.get())).collect(), page.next)
            }
        };
        if next_iterator.as_deref() == Some("") {
            return Err(MalformedPage::EmptyIterator);
        }
        Ok(Self { records, next_iterator, bytes: body.len() })
    }
}

/// The fast path: the one pass over the page has found the record's members already.
fn decode_found(body: &Bytes, text: &str, found: &Found<'_>) -> Result<Record, Undecodable> {
    match found.extent(text) {
        Some(extent) => assemble::record(body, &text[extent.clone()], extent, &found.members),
        None => Err(Undecodable { reason: "the record is empty".into(), sequence_number: None, event_id: None }),
    }
}

/// The slow path: some record of the page is not shaped like one, so each is parsed by itself.
fn decode_alone(body: &Bytes, text: &str, raw: &str) -> Result<Record, Undecodable> {
    let extent = text::range_in(text, raw);
    match Members::parse(raw) {
        Ok(members) => assemble::record(body, raw, extent, &members),
        Err(reason) => Err(Undecodable { reason: reason.into(), sequence_number: None, event_id: None }),
    }
}
