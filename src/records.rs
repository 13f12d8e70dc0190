//! What is read, as AWS sent it: pages of records, the parts of a record, and places in a shard. No I/O, no clock.

mod assemble;
mod epoch;
mod found;
mod item_key;
mod keys;
mod members;
mod page;
mod position;
mod record;
mod text;

pub use self::item_key::{InvalidKey, ItemKey, KeyAttribute, KeyType};
pub use self::page::{MalformedPage, Operation, Page, Undecodable};
pub use self::position::{InvalidSequenceNumber, MAX_DIGITS, Position, SequenceNumber};
pub use self::record::{Identity, Record};

#[cfg(test)]
pub(crate) mod tests;
