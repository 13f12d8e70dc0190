//! Where positions live between two runs: what is stored of a table, its text, the contract of a store, and the store in memory.
//!
//! Contract:
//! - What [`CheckpointStore::save`] has confirmed is what the next [`CheckpointStore::load`] returns, whole, also after a crash at
//!   any moment. Until then the earlier state is there, whole; of a save whose outcome is unknown either of the two.
//! - A save brings what has changed of a table since its last confirmed save, taken at one moment. All of it is stored or nothing;
//!   a store that can only write entry by entry writes a shard after its unfinished ancestors. So at every moment, for each item,
//!   what is stored as settled is a prefix of the item's history over shards and streams.
//! - That a table is read no further (`ON_DATA_LOSS=stop`) is stored like its positions: no restart and no other process reads on.
//! - A stream's start is stored once: a later save does not move it.
//! - Saving never changes what is stored for other tables or consumer groups.

pub mod dynamodb;
mod journal;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::{parse_rfc3339, rfc3339};
use crate::lease::{HeldLease, LeaseStore};
use crate::records::{LaneId, Position, RecordNumber};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use journal::fuzz_file;
pub use journal::{Disk, FileStore, FileSystem, OpenError, Shortcoming};
pub(crate) use journal::{MAKE_ROOM, lacks_locks, lock_path};

/// What is stored of all tables, by consumer group and table.
pub type StoredPositions = BTreeMap<String, BTreeMap<String, StoredTable>>;

/// Keeps the state of tables.
pub trait CheckpointStore: Send + Sync {
    /// What is stored of a table; none if nothing is.
    fn load<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<Option<StoredTable>, StoreError>>;

    /// What is stored of the only table of this name, and of this region where one is known; none if nothing is, or of several, or if the
    /// store cannot tell. For those who look at how old it is before AWS has said which table is meant; what is read begins with
    /// [`CheckpointStore::load`].
    fn load_by_name(&self, _name: &str, _region: Option<&str>) -> Option<StoredTable> {
        None
    }

    /// Changes what is stored of a table; success means that it will be there. Saves of one table come one after the other, and
    /// one that follows a save without success brings all that one brought, or newer.
    fn save<'a>(&'a self, table: &'a str, changes: StoredChanges) -> BoxFuture<'a, Result<(), SaveError>>;

    /// How far the beginnings of two saves of a table lie apart at least. What was acknowledged since the last one comes again after
    /// a kill.
    fn interval(&self) -> Duration {
        Duration::from_millis(100)
    }

    /// What is stored of a shard that does not change is stored anew this often: its age tells a later run whether anything can have
    /// been trimmed in the meantime. A process that was away for a day less this age can prove that nothing was.
    fn verification_age(&self) -> Duration {
        Duration::from_mins(5)
    }
}

/// A store whose tables have one owner at a time: what is stored of a table is read and written under a lease.
pub trait LeasedStore: LeaseStore {
    /// What is stored of a table, for the owner of this lease. Its first [`CheckpointStore::load`] keeps earlier owners from writing
    /// before it returns; a save after another process has claimed the table is [`SaveError::Fenced`].
    fn positions(&self, table: &str, lease: &HeldLease) -> Arc<dyn CheckpointStore>;
}

/// The store does not do now what it was asked for. Another try may work.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// Why a save is not confirmed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SaveError {
    /// It is not stored as a whole. What is missing may still be stored together with a later save, but never after a newer one of
    /// its table.
    #[error(transparent)]
    NotStored(StoreError),
    /// It may be stored, or the earlier state is. The store confirms nothing more before it knows.
    #[error(transparent)]
    Unknown(StoreError),
    /// Another process owns the table now, or somebody has changed what is stored: nothing more of this tenure will be stored.
    #[error("the stored positions are not this process's any more: {0}")]
    Fenced(StoreError),
}

/// One table's streams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredTable {
    /// Oldest first: a table gets a new stream when its stream is disabled and enabled again.
    pub streams: Vec<StoredStream>,
    /// The table is read no further, until somebody says that it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<StoredStop>,
}

/// That a table is read no further.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredStop {
    /// What was lost, for people.
    pub why: String,
    #[serde(with = "moment")]
    pub at: SystemTime,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredStream {
    /// The stream's ARN, opaque.
    pub arn: String,
    /// Where shards begin that were never seen.
    pub start: Position,
    /// Everything in it is settled, and nothing more will come.
    pub done: bool,
    /// Its shards by id.
    pub shards: BTreeMap<String, StoredShard>,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ShardText", into = "ShardText")]
#[expect(clippy::large_enum_variant, reason = "there are a few thousand of them at most, of 300 bytes")]
pub enum StoredShard {
    /// Something in it is not settled, or may still come.
    Unfinished(UnfinishedShard),
    /// Everything in it is settled: it must not be read again, though it stays listed for a day.
    Finished {
        at: SystemTime,
        /// The shard that it continues, if that was known.
        parent: Option<String>,
    },
}

/// What is settled of a shard, exactly: everything up to `safe`, and up to `newest_settled` what no head stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedShard {
    /// Everything in the shard up to here is settled; reading goes on behind it.
    pub safe: Position,
    /// Everything behind this is owed.
    pub newest_settled: Position,
    /// The first record that a lane owes, of each lane that owes one at or before `newest_settled`. A lane is an item's; a gap has
    /// the lane of its shard.
    pub heads: BTreeMap<LaneId, RecordNumber>,
    /// When the oldest owed record was created, by AWS's clock; none if none is known.
    pub oldest_owed: Option<SystemTime>,
    /// Everything behind `newest_settled` was created at this moment or later: until a day after it nothing of that can have been
    /// trimmed.
    pub verified_at: SystemTime,
    /// When the last record up to `safe` was created, or a moment behind that, if it was before `verified_at`.
    pub newest_record: Option<SystemTime>,
    /// The shard that it continues, if that was known.
    pub parent: Option<String>,
}

/// What changes of what is stored of a table, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredChanges {
    /// Each stream once.
    pub streams: Vec<StreamChanges>,
    /// Whether the table is read any further; none: that stays as it is.
    pub stopped: Option<StopChange>,
}

/// Whether a table is read any further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopChange {
    /// No: not until somebody says that it may.
    Stop(StoredStop),
    /// Yes, also after a stop.
    Continue,
}

/// What changes of what is stored of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamChanges {
    pub arn: String,
    /// How many streams of the table are older.
    pub place: usize,
    /// Where shards begin that were never seen; it counts only if the stream is not stored yet.
    pub start: Position,
    /// Everything in it is settled, and nothing more will come: nothing is stored of its shards any more.
    pub done: bool,
    /// The shards that change, by id; none: it is not stored any more.
    pub shards: BTreeMap<String, Option<StoredShard>>,
}

impl StoredTable {
    /// Takes these changes in.
    pub fn apply(&mut self, changes: &StoredChanges) {
        for StreamChanges { arn, place, start, done, shards } in &changes.streams {
            let index = self.streams.iter().position(|stream| stream.arn == *arn).unwrap_or_else(|| {
                let (arn, start, shards) = (arn.clone(), *start, BTreeMap::new());
                let place = (*place).min(self.streams.len());
                self.streams.insert(place, StoredStream { arn, start, done: false, shards });
                place
            });
            let stream = &mut self.streams[index];
            stream.done = *done;
            for (id, shard) in shards {
                match shard {
                    Some(shard) => stream.shards.insert(id.clone(), shard.clone()),
                    None => stream.shards.remove(id),
                };
            }
            if *done {
                stream.shards.clear();
            }
        }
        match &changes.stopped {
            Some(StopChange::Stop(stop)) => self.stopped = Some(stop.clone()),
            Some(StopChange::Continue) => self.stopped = None,
            None => {}
        }
    }
}

/// What brings a table to this state from one that has no other shards and streams.
impl From<StoredTable> for StoredChanges {
    fn from(stored: StoredTable) -> Self {
        let streams = stored.streams.into_iter().enumerate().map(|(place, stream)| {
            let StoredStream { arn, start, done, shards } = stream;
            let shards = shards.into_iter().map(|(id, shard)| (id, Some(shard))).collect();
            StreamChanges { arn, place, start, done, shards }
        });
        Self { streams: streams.collect(), stopped: stored.stopped.map(StopChange::Stop) }
    }
}

impl StoredChanges {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.stopped.is_none()
    }
}

impl StoredShard {
    /// A shard that is settled up to `position` and in which nothing behind it is.
    pub fn at(position: Position, verified_at: SystemTime, parent: Option<String>) -> Self {
        Self::Unfinished(UnfinishedShard {
            safe: position,
            newest_settled: position,
            heads: BTreeMap::new(),
            oldest_owed: None,
            verified_at,
            newest_record: None,
            parent,
        })
    }

    /// The shard that it continues, if that was known.
    pub fn parent(&self) -> Option<&str> {
        match self {
            Self::Unfinished(UnfinishedShard { parent, .. }) | Self::Finished { parent, .. } => parent.as_deref(),
        }
    }

    /// Where reading goes on; nowhere if the shard is finished.
    pub fn safe(&self) -> Option<Position> {
        match self {
            Self::Unfinished(shard) => Some(shard.safe),
            Self::Finished { .. } => None,
        }
    }

    /// Whether a record of this lane is owed. A start at a moment is not looked at: whoever reads knows when a record was created.
    pub fn owes(&self, lane: LaneId, record: RecordNumber) -> bool {
        let Self::Unfinished(shard) = self else { return false };
        if shard.safe.is_behind(record) {
            return false;
        }
        !shard.newest_settled.is_behind(record) || shard.heads.get(&lane).is_some_and(|head| *head <= record)
    }
}

/// A text is no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    /// Not exactly one of the two.
    #[error("a shard has either `safe` with `verified_at`, or `finished`")]
    NeitherNorBoth,
    /// Something is settled before that before which everything is.
    #[error("`newest_settled` lies before `safe`")]
    Backwards,
    /// A lane owes what is settled, or what nobody said that it owes.
    #[error("the head of lane {0} does not lie behind `safe` and up to `newest_settled`")]
    Head(LaneId),
    /// No number or moment.
    #[error("it contains the invalid value {0:?}")]
    Value(String),
}

/// A shard's text. Members that this version does not know are refused: a newer one has written them, and dropping them would lose
/// what it meant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShardText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    safe: Option<Position>,
    /// Absent where it is `safe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    newest_settled: Option<Position>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    heads: BTreeMap<LaneId, RecordNumber>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    oldest_owed: Option<Moment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verified_at: Option<Moment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    newest_record: Option<Moment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finished: Option<Moment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
}

impl From<StoredShard> for ShardText {
    fn from(shard: StoredShard) -> Self {
        match shard {
            StoredShard::Unfinished(shard) => Self {
                safe: Some(shard.safe),
                newest_settled: Some(shard.newest_settled).filter(|newest| *newest != shard.safe),
                heads: shard.heads,
                oldest_owed: shard.oldest_owed.map(Moment),
                verified_at: Some(Moment(shard.verified_at)),
                newest_record: shard.newest_record.map(Moment),
                finished: None,
                parent: shard.parent,
            },
            StoredShard::Finished { at, parent } => Self { finished: Some(Moment(at)), parent, ..Self::default() },
        }
    }
}

impl TryFrom<ShardText> for StoredShard {
    type Error = InvalidEntry;

    fn try_from(text: ShardText) -> Result<Self, InvalidEntry> {
        let ShardText { safe, newest_settled, heads, oldest_owed, verified_at, newest_record, finished, parent } = text;
        let is_bare = newest_settled.is_none() && heads.is_empty() && oldest_owed.is_none() && newest_record.is_none();
        let (safe, verified_at) = match (safe, verified_at, finished) {
            (Some(safe), Some(verified_at), None) => (safe, verified_at.0),
            (None, None, Some(at)) if is_bare => return Ok(Self::Finished { at: at.0, parent }),
            _ => return Err(InvalidEntry::NeitherNorBoth),
        };
        let shard = UnfinishedShard {
            safe,
            newest_settled: newest_settled.unwrap_or(safe),
            heads,
            oldest_owed: oldest_owed.map(|oldest| oldest.0),
            verified_at,
            newest_record: newest_record.map(|newest| newest.0),
            parent,
        };
        shard.check().map(Self::Unfinished)
    }
}

impl UnfinishedShard {
    fn check(self) -> Result<Self, InvalidEntry> {
        let is_ordered = match (self.safe, self.newest_settled) {
            (Position::After(safe), Position::After(newest)) => safe <= newest,
            (Position::Start | Position::Since(_), Position::After(_)) => true,
            (safe, newest) => safe == newest,
        };
        if !is_ordered {
            return Err(InvalidEntry::Backwards);
        }
        let is_between = |head: RecordNumber| !self.safe.is_behind(head) && self.newest_settled.is_behind(head);
        match self.heads.iter().find(|(_, head)| !is_between(**head)) {
            Some((lane, _)) => Err(InvalidEntry::Head(*lane)),
            None => Ok(self),
        }
    }
}

/// A moment in RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Moment(SystemTime);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(self.0))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let moment = parse_rfc3339(&text).map(Self);
        moment.ok_or_else(|| D::Error::custom(InvalidEntry::Value(text)))
    }
}

/// The text of a moment that is a member of its own.
mod moment {
    use super::{Deserialize as _, Deserializer, Moment, Serialize as _, Serializer, SystemTime};

    pub(super) fn serialize<S: Serializer>(moment: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        Moment(*moment).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        Moment::deserialize(deserializer).map(|moment| moment.0)
    }
}

/// A store without a memory of earlier runs.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<BTreeMap<String, StoredTable>>);

impl CheckpointStore for MemoryStore {
    fn load<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<Option<StoredTable>, StoreError>> {
        let stored = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(table).cloned();
        ready(Ok(stored)).boxed()
    }

    fn save<'a>(&'a self, table: &'a str, changes: StoredChanges) -> BoxFuture<'a, Result<(), SaveError>> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.entry(table.to_owned()).or_default().apply(&changes);
        drop(tables);
        ready(Ok(())).boxed()
    }
}

#[cfg(test)]
mod tests;
