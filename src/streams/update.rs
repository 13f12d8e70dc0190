//! What reading a table hands down, in the order in which it happened.

use std::sync::Arc;
use std::time::SystemTime;

use super::lineage::ShardId;
use crate::records::Record;
use crate::records::{Position, SequenceNumber};

/// A shard's number within one table; never used twice in a process.
pub type ShardNumber = u32;

/// What is known of a stream besides its shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFacts {
    /// The stream's ARN, opaque.
    pub arn: String,
    /// The table's ARN.
    pub table_arn: String,
    /// The table's name.
    pub table: String,
    /// The names of the key's attributes, partition key first.
    pub key_schema: Vec<String>,
    /// `KEYS_ONLY`, `NEW_IMAGE`, `OLD_IMAGE` or `NEW_AND_OLD_IMAGES`.
    pub view_type: Option<String>,
}

/// One step of reading a table.
#[derive(Debug)]
pub enum Update {
    /// A stream is going to be read. Shards that are not known yet are read from `start`.
    StreamOpened {
        /// The stream.
        facts: Arc<StreamFacts>,
        /// Where shards begin that were never seen.
        start: Position,
    },
    /// The whole stream was listed for the first time in this process.
    StreamListed,
    /// The stream was read to its end, or it is gone: another one may follow.
    StreamEnded {
        /// The stream.
        facts: Arc<StreamFacts>,
    },
    /// A shard is going to be read. Everything of it comes behind everything of its ancestors.
    ShardOpened {
        /// The shard.
        shard: ShardNumber,
        /// Its id.
        id: ShardId,
        /// Its stream.
        facts: Arc<StreamFacts>,
        /// Where reading begins.
        from: Position,
        /// The shard that it continues, by id, if it is known.
        parent: Option<ShardId>,
    },
    /// A shard will never be read: it lies before the start, or an earlier run has finished it at this time.
    ShardSkipped {
        /// The shard.
        shard: ShardNumber,
        /// Its id.
        id: ShardId,
        /// Its stream.
        facts: Arc<StreamFacts>,
        /// The shard that it continues, by id, if it is known.
        parent: Option<ShardId>,
        /// When it was finished.
        at: SystemTime,
    },
    /// A page of a shard.
    Page(ShardPage),
    /// A shard was read to its end.
    ShardEnded {
        /// The shard.
        shard: ShardNumber,
    },
    /// A finished shard is listed no more and was kept long enough.
    ShardForgotten {
        /// The shard.
        shard: ShardNumber,
    },
}

/// What one page of a shard brought.
#[derive(Debug)]
pub struct ShardPage {
    /// The shard.
    pub shard: ShardNumber,
    /// Its stream.
    pub facts: Arc<StreamFacts>,
    /// Records and gaps, in order.
    pub items: Vec<Item>,
    /// When the page was read.
    pub read_at: SystemTime,
    /// Whether the page held all there was, as far as one can know.
    pub caught_up: bool,
}

/// One thing on a page.
#[derive(Debug)]
pub enum Item {
    /// A change.
    Record(Record),
    /// Something is missing here.
    Gap(Gap),
}

impl Item {
    /// What it takes of the buffer until it is settled, in bytes.
    pub fn cost(&self) -> usize {
        match self {
            Item::Record(record) => record.cost(),
            Item::Gap(_) => Gap::COST,
        }
    }

    /// Whether reading stops here.
    pub fn stops(&self) -> bool {
        matches!(self, Item::Gap(Gap { resume: None, .. }))
    }
}

impl Gap {
    /// What a gap takes of the buffer.
    const COST: usize = 1024;

    /// A gap behind a position, after which reading goes on at that same position.
    pub fn at(facts: &StreamFacts, shard: Option<&str>, position: Position, reason: LossReason) -> Self {
        let after = match position {
            Position::After(sequence) => Some(sequence),
            Position::Start | Position::Since(_) => None,
        };
        Self {
            table_arn: facts.table_arn.clone(),
            stream_arn: facts.arn.clone(),
            shard: shard.map(str::to_owned),
            after,
            before: None,
            lost: None,
            reason,
            resume: Some(position),
        }
    }
}

/// A place in a stream where continuity cannot be proved: changes may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The table's ARN.
    pub table_arn: String,
    /// The stream's ARN.
    pub stream_arn: String,
    /// The shard; none where the whole stream is gone.
    pub shard: Option<String>,
    /// The last record before the gap; none where nothing was read before it.
    pub after: Option<SequenceNumber>,
    /// The first record behind the gap, where it is known.
    pub before: Option<SequenceNumber>,
    /// The lost record's own place, where a single record is lost and its place is known.
    pub lost: Option<SequenceNumber>,
    /// Why.
    pub reason: LossReason,
    /// Where reading goes on behind the gap; none where it stops here and the position stays.
    pub resume: Option<Position>,
}

/// Why data was lost, or may have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LossReason {
    /// The position has been trimmed.
    Trimmed,
    /// The shard is gone and was not read to its end.
    ShardMissing,
    /// The stream is gone and was not read to its end.
    StreamMissing,
    /// One record could not be decoded.
    Undecodable,
}

impl LossReason {
    /// The name in metrics, logs and events.
    pub fn as_str(self) -> &'static str {
        match self {
            LossReason::Trimmed => "trimmed",
            LossReason::ShardMissing => "shard-missing",
            LossReason::StreamMissing => "stream-missing",
            LossReason::Undecodable => "undecodable",
        }
    }
}
