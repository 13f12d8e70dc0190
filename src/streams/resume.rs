//! What is known of a table's reading, so that a later run goes on where this one stood.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::records::Position;

/// One table's streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableState {
    /// Oldest first: a table gets a new stream when its stream is disabled and enabled again.
    pub streams: Vec<StreamState>,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// The stream's ARN, opaque.
    pub arn: String,
    /// Where shards begin that were never seen.
    pub start: Position,
    /// Everything in it is settled, and nothing more will come.
    pub drained: bool,
    /// When all of this was last known to be true.
    pub saved_at: SystemTime,
    /// Its shards by id.
    pub shards: BTreeMap<String, ShardState>,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardState {
    /// Reading goes on here; everything in the shard's ancestors is settled.
    Reading {
        /// Where.
        position: Position,
        /// The shard that it continues, if that was known.
        parent: Option<String>,
    },
    /// Everything in it is settled: it must not be read again, though it stays listed for a day.
    Finished {
        /// Since when.
        at: SystemTime,
        /// The shard that it continues, if that was known.
        parent: Option<String>,
    },
}
