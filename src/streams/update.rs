//! What reading a table hands down, in the order in which it happened.

use std::sync::Arc;
use std::time::SystemTime;

use crate::records::{Entry, Position, ShardId, ShardNumber, StreamDetails};

/// One step of reading a table.
#[derive(Debug)]
pub enum Update {
    /// A stream is going to be read. Shards that are not known yet are read from `start`.
    StreamOpened {
        facts: Arc<StreamDetails>,
        /// Where shards begin that were never seen.
        start: Position,
    },
    /// The whole stream was listed for the first time in this process.
    StreamListed,
    /// The stream was read to its end, or it is gone: another one may follow.
    StreamEnded { facts: Arc<StreamDetails> },
    /// A shard is going to be read. Everything of it comes behind everything of its ancestors.
    ShardOpened {
        shard: ShardNumber,
        id: ShardId,
        facts: Arc<StreamDetails>,
        from: Position,
        /// The shard that it continues, by id, if it is known.
        parent: Option<ShardId>,
    },
    /// A shard will never be read: it lies before the start, or an earlier run has finished it at this time.
    ShardSkipped {
        shard: ShardNumber,
        id: ShardId,
        facts: Arc<StreamDetails>,
        /// The shard that it continues, by id, if it is known.
        parent: Option<ShardId>,
        /// When it was finished.
        at: SystemTime,
    },
    /// A page of a shard.
    Page(ShardPage),
    /// A shard was read to its end.
    ShardEnded { shard: ShardNumber },
    /// A finished shard is listed no more and was kept long enough.
    ShardForgotten { shard: ShardNumber },
}

/// What one page of a shard brought.
#[derive(Debug)]
pub struct ShardPage {
    pub shard: ShardNumber,
    pub facts: Arc<StreamDetails>,
    /// Records and gaps, in order.
    pub entries: Vec<Entry>,
    /// When the page was read.
    pub read_at: SystemTime,
    /// Whether the page held all there was, as far as one can know.
    pub caught_up: bool,
}
