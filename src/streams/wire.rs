//! Zero-copy view of a `GetRecords` answer.
//!
//! The answer's body is parsed once for its structure; no attribute value is decoded. A [`Record`] holds the body and
//! where its members lie in it, so that images reach the sink byte for byte as AWS sent them.

use std::time::SystemTime;

use bytes::Bytes;

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

/// One change of one item, as views into the page that brought it.
#[derive(Debug, Clone)]
pub struct Record {
    _todo: (Bytes, SystemTime),
}
