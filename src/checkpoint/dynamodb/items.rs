//! What the store asks of a table of items: read one, read a partition, write one on a condition.
//!
//! Contract:
//! - Reads are strongly consistent: what was written before they begin is in them.
//! - A write happens as a whole or not at all, and only if the item is then as expected. Who does not learn what came of it may see it
//!   happen later, once, under the same condition.

use std::fmt;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use crate::aws::errors::CallError;

/// An item's members besides its key: texts, whole numbers, truth values, and maps of these.
pub type Members = Map<String, Value>;

/// Which item.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ItemKey {
    /// The partition key `group_table`: the consumer group and the table's ARN.
    pub partition: String,
    /// The sort key `entry`.
    pub entry: String,
}

/// An item of a partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub key: ItemKey,
    pub members: Members,
}

/// Which state of an item: the claim under which it was written, and how often it was written. Both are members of each item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    pub epoch: u64,
    pub version: u64,
}

/// What an item must be for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Absent,
    /// With exactly this stamp.
    Is(Stamp),
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    pub key: ItemKey,
    pub expected: Expected,
    /// What the item becomes; none: it is deleted.
    pub to: Option<Members>,
}

/// What became of a write that was decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    Done,
    /// The item was not as expected, and is as it was: this, or absent.
    Conflict(Option<Members>),
}

/// A read or a write that was not decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// It was refused before anything happened: throttled, denied, no such table.
    #[error("{0}")]
    NotDone(ItemFailure),
    /// It may have happened, or may still happen: no answer, an answer too late, a fault of the service.
    #[error("{0}")]
    Unknown(ItemFailure),
}

impl ItemError {
    /// The call that failed, where one was made.
    pub fn call(&self) -> Option<&CallError> {
        let (Self::NotDone(failure) | Self::Unknown(failure)) = self;
        failure.call.as_ref()
    }
}

/// What happened, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemFailure {
    text: String,
    call: Option<CallError>,
}

impl ItemFailure {
    /// Of a call to AWS, with what to do about it where that is known.
    pub fn of(call: CallError, advice: Option<&str>) -> Self {
        let text = advice.map_or_else(|| call.to_string(), |advice| format!("{call}; {advice}"));
        Self { text, call: Some(call) }
    }
}

impl From<&str> for ItemFailure {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), call: None }
    }
}

impl fmt::Display for ItemFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A table of items, as far as the store needs one.
pub trait ItemTable: Send + Sync {
    fn get<'a>(&'a self, key: &'a ItemKey) -> BoxFuture<'a, Result<Option<Members>, ItemError>>;

    /// All items of a partition, in the order of their sort keys. Not of one moment: each is as it was at some moment of the call.
    fn query<'a>(&'a self, partition: &'a str) -> BoxFuture<'a, Result<Vec<Item>, ItemError>>;

    fn write(&self, write: Write) -> BoxFuture<'_, Result<Written, ItemError>>;
}
