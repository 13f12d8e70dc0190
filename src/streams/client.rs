//! The calls to AWS that reading needs, behind one trait.
//!
//! Everything above this file speaks in these types, so that tests can put a scripted service in AWS's place and the
//! SDK stays in `client/aws.rs`.

pub mod aws;
pub mod observed;
#[cfg(test)]
pub(crate) mod tests;

use std::future::Future;
use std::pin::Pin;
use std::time::SystemTime;

use crate::aws::errors::CallError;
use crate::records::{Page, SequenceNumber};

/// What a call returns.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, CallError>> + Send + 'a>>;

/// DynamoDB and DynamoDB Streams as this program uses them.
///
/// Each call is one logical request: the SDK's own short retries happen inside. No call is bounded by the caller's
/// patience alone: every one ends by itself in well under a minute.
pub trait StreamsClient: Send + Sync {
    /// The region that is asked, where that is known.
    fn region(&self) -> Option<&str> {
        None
    }

    /// Which stream a table has now.
    fn describe_table<'a>(&'a self, table: &'a str) -> Call<'a, TableDescription>;

    /// All streams that a table has or had in the last 24 hours, all pages of them, in no order.
    fn list_streams<'a>(&'a self, table: &'a str) -> Call<'a, Vec<String>>;

    /// One page of a stream's shards.
    fn describe_stream<'a>(&'a self, stream: &'a str, shards: ShardQuery<'a>) -> Call<'a, StreamDescription>;

    /// A token that `get_records` takes; it lives 15 minutes.
    fn get_shard_iterator<'a>(&'a self, stream: &'a str, shard: &'a str, from: IteratorStart) -> Call<'a, String>;

    /// The next page of a shard, of so many records at most.
    fn get_records<'a>(&'a self, iterator: &'a str, limit: u32) -> Call<'a, Page>;
}

/// What `DescribeTable` says about a table's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDescription {
    pub arn: String,
    /// The newest stream's ARN; it stays after the stream was disabled.
    pub latest_stream: Option<String>,
}

/// The most records that a page can hold.
///
/// Source: the `Limit` parameter of `GetRecords` in the DynamoDB Streams API reference.
pub const PAGE_RECORDS: u32 = 1_000;

/// Which shards to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardQuery<'a> {
    /// The first page of all.
    First,
    /// The page behind this shard.
    Behind(&'a str),
    /// Only the children of this shard. A service that does not know the filter answers with ordinary shards: check
    /// each one's parent.
    ChildrenOf(&'a str),
}

/// What `DescribeStream` says: the stream and one page of its shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamDescription {
    pub table: String,
    /// Whether the stream is still written to.
    pub status: StreamStatus,
    /// `KEYS_ONLY`, `NEW_IMAGE`, `OLD_IMAGE` or `NEW_AND_OLD_IMAGES`.
    pub view_type: Option<String>,
    /// The names of the key's attributes, partition key first.
    pub key_schema: Vec<String>,
    pub shards: Vec<ListedShard>,
    /// Where the next page begins; absent on the last one.
    pub next: Option<String>,
    /// AWS's clock when it answered, in whole seconds; absent where the answer carried none.
    pub answered_at: Option<SystemTime>,
}

/// Whether a stream is still written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamStatus {
    /// Being enabled, or enabled.
    Enabled,
    /// Being disabled, or disabled: no record will be added.
    Disabled,
}

/// A shard as a listing shows it. A listing is not consistent: see `lineage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedShard {
    /// The shard's id, opaque.
    pub id: String,
    /// The shard that it continues; it may have been trimmed long ago.
    pub parent: Option<String>,
    /// It has a last sequence number: nothing more is written to it.
    pub has_ended: bool,
}

/// Where an iterator starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IteratorStart {
    /// `TRIM_HORIZON`.
    Oldest,
    /// `LATEST`.
    Latest,
    /// `AT_SEQUENCE_NUMBER`.
    At(SequenceNumber),
}
