//! From settled events to the positions that are safe to store. Pure: no I/O, no clock.
//!
//! Contract:
//! - A shard's [`Standing::Reading`] position lies before every record of it that was read and is not settled, and
//!   behind everything before the first such record.
//! - A shard has a standing only when everything in its ancestors is settled. So whatever is replayed after a crash is
//!   *everything since some point* of a lineage, and an item's last delivery is its newest state.
//! - A shard is [`Standing::Finished`] once it was read to its end and all of it is settled; in the same step its
//!   children get their standing.
//! - What concerns a shard that was never opened, or is forgotten, is [`BrokenBooks`]: from then on nothing of the table
//!   may be stored, since nobody knows what is missing in it.
//! - Memory grows with the records that are read and not settled, and with the number of shards; not with the records
//!   that were settled behind an unsettled one.

pub mod ledger;

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::records::{Position, ShardNumber};

/// Names one record that was read and is not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    pub shard: ShardNumber,
    ordinal: u64,
}

/// What may be stored of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Reading may go on here after a restart.
    Reading(Position),
    /// Everything in it is settled: it must not be read again.
    Finished,
}

/// A state that cannot be: the books do not know what they are told about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenBooks {
    /// A shard that was never opened, or is forgotten.
    #[error("the table's books do not know shard number {0}")]
    UnknownShard(ShardNumber),
    /// A stream that was never opened.
    #[error("the table's books do not know stream {0}")]
    UnknownStream(String),
}

/// The progress of one table's shards.
#[derive(Debug, Default)]
pub struct Progress {
    shards: BTreeMap<ShardNumber, Shard>,
    unsettled: usize,
    changes: u64,
}

#[derive(Debug)]
struct Shard {
    /// Shards whose records come before any of this one's.
    ancestors: Vec<ShardNumber>,
    /// Behind the last record that was read.
    read_to: Position,
    /// What was read and is not settled, in the order of reading.
    unsettled: BTreeMap<u64, Unsettled>,
    next_ordinal: u64,
    ended: bool,
    finished: bool,
}

#[derive(Debug)]
struct Unsettled {
    /// Where reading must go on for this record to come again.
    before: Position,
    created: Option<SystemTime>,
}

impl Progress {
    /// Begins a shard. `ancestors` are the shards that must be finished before this one's position may be stored;
    /// those that are not known here count as finished.
    pub fn open(&mut self, shard: ShardNumber, from: Position, ancestors: Vec<ShardNumber>) {
        let opened = Shard {
            ancestors,
            read_to: from,
            unsettled: BTreeMap::new(),
            next_ordinal: 0,
            ended: false,
            finished: false,
        };
        self.shards.insert(shard, opened);
        self.changes += 1;
    }

    /// Records that a record was read; records of a shard come in its order. `position` is the one behind the record.
    ///
    /// # Errors
    /// When the shard is unknown.
    pub fn read(
        &mut self,
        shard: ShardNumber,
        position: Position,
        created: Option<SystemTime>,
    ) -> Result<Ticket, BrokenBooks> {
        let state = self.known(shard)?;
        let ordinal = state.next_ordinal;
        state.next_ordinal += 1;
        state.unsettled.insert(ordinal, Unsettled { before: state.read_to, created });
        state.read_to = position;
        self.unsettled += 1;
        Ok(Ticket { shard, ordinal })
    }

    /// An event reached its end: acknowledged, or given up by policy. Settling twice changes nothing.
    ///
    /// # Errors
    /// When the ticket's shard is unknown.
    pub fn settle(&mut self, ticket: Ticket) -> Result<(), BrokenBooks> {
        let state = self.known(ticket.shard)?;
        if state.unsettled.remove(&ticket.ordinal).is_some() {
            self.unsettled -= 1;
            self.changes += 1;
            self.finish_from(ticket.shard);
        }
        Ok(())
    }

    /// A shard was read to its end.
    ///
    /// # Errors
    /// When the shard is unknown.
    pub fn end(&mut self, shard: ShardNumber) -> Result<(), BrokenBooks> {
        self.known(shard)?.ended = true;
        self.changes += 1;
        self.finish_from(shard);
        Ok(())
    }

    /// What may be stored of a shard; nothing while something in an ancestor is not settled.
    pub fn standing(&self, shard: ShardNumber) -> Option<Standing> {
        let state = self.shards.get(&shard)?;
        if state.finished {
            return Some(Standing::Finished);
        }
        if !self.ancestors_finished(state) {
            return None;
        }
        let safe = state.unsettled.values().next().map_or(state.read_to, |oldest| oldest.before);
        Some(Standing::Reading(safe))
    }

    /// Counts changes that may alter a standing: a new value means that there may be something to store.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Records read and not settled.
    pub fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// The creation time of the oldest record that is not settled, as far as records say theirs.
    pub fn oldest_unsettled(&self) -> Option<SystemTime> {
        self.shards.values().filter_map(|shard| shard.unsettled.values().find_map(|record| record.created)).min()
    }

    /// Behind the last record read of a shard.
    pub fn read_to(&self, shard: ShardNumber) -> Option<Position> {
        self.shards.get(&shard).map(|state| state.read_to)
    }

    /// Records of one shard that were read and are not settled.
    pub fn unsettled_in(&self, shard: ShardNumber) -> usize {
        self.shards.get(&shard).map_or(0, |state| state.unsettled.len())
    }

    /// The creation time of the oldest record of one shard that is not settled, as far as records say theirs.
    pub fn oldest_unsettled_in(&self, shard: ShardNumber) -> Option<SystemTime> {
        self.shards.get(&shard)?.unsettled.values().find_map(|record| record.created)
    }

    /// Whether a shard was read to its end.
    pub fn has_ended(&self, shard: ShardNumber) -> bool {
        self.shards.get(&shard).is_some_and(|state| state.ended)
    }

    /// Forgets a finished shard.
    pub fn forget(&mut self, shard: ShardNumber) {
        if self.shards.get(&shard).is_some_and(|state| state.finished) {
            self.shards.remove(&shard);
            self.changes += 1;
        }
    }

    fn known(&mut self, shard: ShardNumber) -> Result<&mut Shard, BrokenBooks> {
        self.shards.get_mut(&shard).ok_or(BrokenBooks::UnknownShard(shard))
    }

    /// Marks `shard` finished if it is, and then every shard for which that was the last thing missing.
    fn finish_from(&mut self, shard: ShardNumber) {
        let mut candidates = vec![shard];
        while let Some(candidate) = candidates.pop() {
            let complete = self.shards.get(&candidate).is_some_and(|state| {
                !state.finished && state.ended && state.unsettled.is_empty() && self.ancestors_finished(state)
            });
            if complete {
                if let Some(state) = self.shards.get_mut(&candidate) {
                    state.finished = true;
                }
                let heirs = self.shards.iter().filter(|(_, state)| state.ancestors.contains(&candidate));
                candidates.extend(heirs.map(|(number, _)| *number));
            }
        }
    }

    fn ancestors_finished(&self, shard: &Shard) -> bool {
        shard.ancestors.iter().all(|ancestor| self.shards.get(ancestor).is_none_or(|state| state.finished))
    }
}

#[cfg(test)]
mod tests;
