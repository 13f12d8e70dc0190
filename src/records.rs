//! What is read, as AWS sent it: pages of records, the parts of a record, and places in a shard. No I/O, no look at the clock.

mod item_key;
mod page;
mod position;
mod record;

pub use self::item_key::LaneId;
pub(crate) use self::item_key::{ItemKey, KeyType};
pub use self::page::{MalformedPage, Page};
pub(crate) use self::position::PADDED_DIGITS;
pub(crate) use self::position::{CLOCK_MARGIN, RETENTION, ShardId, ShardNumber};
pub use self::position::{InitialPosition, Position, RecordNumber, SequenceNumber, StreamDetails};
pub use self::record::{Entry, Gap, Record, Undecodable};
pub(crate) use self::record::{LossReason, Operation};

#[cfg(test)]
pub(crate) mod tests;
