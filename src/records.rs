//! What is read, as AWS sent it: pages of records, the parts of a record, and places in a shard. No I/O, no clock.

mod item_key;
mod page;
mod position;
mod record;

pub(crate) use self::item_key::{ItemKey, KeyType};
pub use self::page::{MalformedPage, Page};
pub use self::position::{
    InvalidSequenceNumber, MAX_DIGITS, Position, RETENTION, SequenceNumber, ShardId, ShardNumber, StreamDetails,
};
pub use self::record::{Entry, Gap, LossReason, Operation, Record, Undecodable, UserIdentity};

#[cfg(test)]
pub(crate) mod tests;
