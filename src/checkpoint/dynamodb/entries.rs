//! What stands in the table: entries as items that a person can read. Pure.
//!
//! | sort key | members |
//! |---|---|
//! | `lease` | `owner` (absent: it was given back), `duration` |
//! | `stopped` | `why`, `at`: the table is read no further |
//! | `stream <place> <label>` | `arn`, `start`, `done`, `incarnation`, `follows`; six digits, and the end of the stream's ARN |
//! | `shard <label> <shard id>` | those of a shard's text in the file of positions, and the `incarnation` of its stream |
//!
//! Each has `epoch`, `version`, `format` and, but for the lease, `owner`: who has written it. A finished shard has `expires`, in seconds
//! since 1970, by which DynamoDB deletes it. Members that this version does not know are refused: a newer one has written them, and
//! dropping them would lose what it meant.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::items::{Members, Stamp};
use crate::checkpoint::{StoredShard, StoredStop, StoredStream, StoredTable};
use crate::error_text::shown;
use crate::lease::SeenLease;
use crate::records::Position;

/// The version of what is described above.
const FORMAT: u64 = 1;

/// The highest epoch and the highest version. Both are counted up by one, and this leaves room for more of it than there will be.
const HIGHEST: u64 = u64::MAX >> 1;

/// What `LEASE_DURATION` takes. A lease that was edited to last longer would be waited for as long, although its owner is gone; one that
/// was edited to be shorter would be claimed while its owner lives.
const SHORTEST_LEASE: Duration = Duration::from_secs(3);
const LONGEST_LEASE: Duration = Duration::from_mins(10);

/// The sort key of the lease.
pub(super) const LEASE: &str = "lease";

const INCARNATION: &str = "incarnation";

const STOPPED: &str = "stopped";
const STREAM: &str = "stream ";
const SHARD: &str = "shard ";

/// A finished shard's entry is needed while AWS lists the shard, which is a day. DynamoDB deletes within days of the moment.
const FINISHED_KEPT: Duration = Duration::from_hours(7 * 24);

/// Which entry of a table. In the order in which they are to be created: a stream before its shards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EntryName {
    Stopped,
    Stream {
        /// Streams of lower places are older.
        place: u32,
        label: String,
    },
    Shard {
        /// The stream's label.
        stream: String,
        id: String,
    },
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Stopped(StoredStop),
    Stream(StreamEntry),
    Shard(ShardEntry),
}

/// What is stored of a stream besides its shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamEntry {
    pub arn: String,
    pub start: Position,
    pub done: bool,
    /// A number of this entry's own, drawn when it was created.
    pub incarnation: u32,
    /// That of the stream before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<u32>,
}

/// What is stored of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShardEntry {
    /// That of its stream's entry.
    pub incarnation: u32,
    pub shard: StoredShard,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    duration: String,
}

/// An item is no entry of this format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EntryError {
    #[error(
        "the entry {:?} has format {}, this adapter supports format {FORMAT}: use a newer adapter, or another \
         CONSUMER_GROUP", shown(.entry), shown(.format)
    )]
    Format { entry: String, format: String },
    #[error(
        "the entry {:?} cannot be used: {}; correct or delete it, with `positions` or in the table, while no adapter runs",
        shown(.entry), shown(.why)
    )]
    Nonsense { entry: String, why: String },
    #[error(
        "what the entry {:?} belongs to has no entry: restore that one, or delete all entries of the table to start again at \
         START_POSITION", shown(.entry)
    )]
    Orphan { entry: String },
}

/// The end of a stream's ARN, without spaces: it names the stream among those of its table.
pub(super) fn label(arn: &str) -> String {
    arn.split_once("/stream/").map_or(arn, |(_, label)| label).replace(' ', "_")
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str(STOPPED),
            Self::Stream { place, label } => write!(f, "{STREAM}{place:06} {label}"),
            Self::Shard { stream, id } => write!(f, "{SHARD}{stream} {id}"),
        }
    }
}

impl EntryName {
    /// Of a stream.
    pub(super) fn place(&self) -> Option<u32> {
        match self {
            Self::Stream { place, .. } => Some(*place),
            Self::Stopped | Self::Shard { .. } => None,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text == STOPPED {
            return Some(Self::Stopped);
        }
        if let Some((place, label)) = text.strip_prefix(STREAM).and_then(|rest| rest.split_once(' ')) {
            return Some(Self::Stream { place: place.parse().ok()?, label: label.to_owned() });
        }
        let (stream, id) = text.strip_prefix(SHARD)?.split_once(' ')?;
        Some(Self::Shard { stream: stream.to_owned(), id: id.to_owned() })
    }
}

impl Entry {
    /// Whether somebody may still change it, besides deleting it.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self, Self::Shard(ShardEntry { shard: StoredShard::Finished { .. }, .. }))
    }

    pub(super) fn members(&self, stamp: Stamp, owner: &str) -> Members {
        let mut members = match self {
            Self::Stopped(stop) => members_of(stop),
            Self::Stream(stream) => members_of(stream),
            Self::Shard(ShardEntry { shard, .. }) => members_of(shard),
        };
        if let Self::Shard(ShardEntry { incarnation, shard }) = self {
            members.insert(INCARNATION.to_owned(), (*incarnation).into());
            if let StoredShard::Finished { at, .. } = shard {
                let expires = at.duration_since(UNIX_EPOCH).unwrap_or_default() + FINISHED_KEPT;
                members.insert("expires".to_owned(), expires.as_secs().into());
            }
        }
        members.insert("owner".to_owned(), owner.into());
        stamped(members, stamp)
    }
}

/// An entry of an item, by its sort key and its members besides the keys.
pub(super) fn entry(key: &str, members: &Members) -> Result<(EntryName, Stamp, Entry), EntryError> {
    let (stamp, mut rest) = unstamped(key, members)?;
    rest.remove("owner");
    let nonsense = |why: &str| EntryError::Nonsense { entry: key.to_owned(), why: why.to_owned() };
    let name = EntryName::parse(key).ok_or_else(|| nonsense("no version of the adapter writes one of this name"))?;
    let entry = match &name {
        EntryName::Stopped => Entry::Stopped(read(key, rest)?),
        EntryName::Stream { .. } => Entry::Stream(read(key, rest)?),
        EntryName::Shard { .. } => {
            rest.remove("expires");
            let incarnation = rest.remove(INCARNATION).and_then(|it| u32::try_from(it.as_u64()?).ok());
            let incarnation = incarnation.ok_or_else(|| nonsense("`incarnation` must be a whole number"))?;
            Entry::Shard(ShardEntry { incarnation, shard: read(key, rest)? })
        }
    };
    Ok((name, stamp, entry))
}

/// The members of a lease.
pub(super) fn lease_members(owner: Option<&str>, stamp: Stamp, duration: Duration) -> Members {
    let duration = humantime::format_duration(duration).to_string();
    stamped(members_of(&LeaseText { owner: owner.map(str::to_owned), duration }), stamp)
}

/// The lease that an item holds.
pub(super) fn lease(members: &Members) -> Result<SeenLease, EntryError> {
    let (Stamp { epoch, version }, rest) = unstamped(LEASE, members)?;
    let LeaseText { owner, duration } = read(LEASE, rest)?;
    let nonsense = |why: String| EntryError::Nonsense { entry: LEASE.to_owned(), why };
    let duration = humantime::parse_duration(&duration).map_err(|error| nonsense(format!("`duration`: {error}")))?;
    let duration = duration.clamp(SHORTEST_LEASE, LONGEST_LEASE);
    // No owner's name is longer than what is shown of it.
    Ok(SeenLease { owner: owner.map(|owner| shown(&owner)), epoch, version, duration })
}

/// The stamp of an item; none if it has none, or one that nobody has counted up to.
pub(super) fn stamp(members: &Members) -> Option<Stamp> {
    let number = |name: &str| members.get(name)?.as_u64().filter(|number| *number <= HIGHEST);
    Some(Stamp { epoch: number("epoch")?, version: number("version")? })
}

/// What is stored of a table that has these entries; none if there are none. Of a stream that is done no shards are left.
pub(super) fn stored<'e>(
    entries: impl IntoIterator<Item = (&'e EntryName, &'e Entry)>,
) -> Result<Option<StoredTable>, EntryError> {
    let (mut table, mut indexes) = (StoredTable::default(), BTreeMap::new());
    for (name, entry) in entries {
        match (name, entry) {
            (_, Entry::Stopped(stop)) => table.stopped = Some(stop.clone()),
            (EntryName::Stream { label, .. }, Entry::Stream(StreamEntry { arn, start, done, .. })) => {
                indexes.insert(label.as_str(), table.streams.len());
                let (arn, shards) = (arn.clone(), BTreeMap::new());
                table.streams.push(StoredStream { arn, start: *start, done: *done, shards });
            }
            (EntryName::Shard { stream, id }, Entry::Shard(ShardEntry { shard, .. })) => {
                let index = indexes.get(stream.as_str());
                let index = index.ok_or_else(|| EntryError::Orphan { entry: name.to_string() })?;
                let stream = &mut table.streams[*index];
                if !stream.done {
                    stream.shards.insert(id.clone(), shard.clone());
                }
            }
            (name, _) => {
                let why = "its name does not fit what it holds".to_owned();
                return Err(EntryError::Nonsense { entry: name.to_string(), why });
            }
        }
    }
    Ok((table != StoredTable::default()).then_some(table))
}

fn members_of(text: &impl Serialize) -> Members {
    match serde_json::to_value(text) {
        Ok(Value::Object(members)) => members,
        other => unreachable!("an entry's text is an object: {other:?}"),
    }
}

fn stamped(mut members: Members, stamp: Stamp) -> Members {
    members.insert("epoch".to_owned(), stamp.epoch.into());
    members.insert("version".to_owned(), stamp.version.into());
    members.insert("format".to_owned(), FORMAT.into());
    members
}

fn unstamped(key: &str, members: &Members) -> Result<(Stamp, Members), EntryError> {
    let mut rest = members.clone();
    match rest.remove("format") {
        Some(format) if format.as_u64() == Some(FORMAT) => {}
        Some(format) => return Err(EntryError::Format { entry: key.to_owned(), format: format.to_string() }),
        None => return Err(EntryError::Nonsense { entry: key.to_owned(), why: "it has no `format`".to_owned() }),
    }
    let nonsense = || {
        let why = format!("`epoch` and `version` must be whole numbers up to {HIGHEST}");
        EntryError::Nonsense { entry: key.to_owned(), why }
    };
    let stamp = stamp(&rest).ok_or_else(nonsense)?;
    rest.retain(|name, _| name != "epoch" && name != "version");
    Ok((stamp, rest))
}

fn read<T: DeserializeOwned>(key: &str, members: Members) -> Result<T, EntryError> {
    let read = serde_json::from_value(Value::Object(members));
    read.map_err(|error| EntryError::Nonsense { entry: key.to_owned(), why: error.to_string() })
}
