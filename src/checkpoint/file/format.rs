//! The file's format, version 1.
//!
//! ```json
//! {
//!   "format": "dynamodb-streams-adapter/checkpoint",
//!   "version": 1,
//!   "groups": {
//!     "default": {
//!       "Orders": [
//!         {
//!           "stream": "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-01-02T03:04:05.678",
//!           "start": "since 2026-01-02T03:04:05.678Z",
//!           "drained": false,
//!           "saved_at": "2026-01-02T04:00:00Z",
//!           "shards": {
//!             "shardId-00000001767323045000-0a1b2c3d": { "position": "after 300000000000000499659" },
//!             "shardId-00000001767323040000-1b2c3d4e": { "finished": "2026-01-02T03:30:00Z" }
//!           }
//!         }
//!       ]
//!     }
//!   }
//! }
//! ```
//!
//! Members that this version does not know are refused: a newer one has written them, and dropping them would lose what it
//! meant.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{ShardState, StreamState, TableState};
use crate::clock::{parse_rfc3339, rfc3339};
use crate::records::Position;

const FORMAT: &str = "dynamodb-streams-adapter/checkpoint";
const VERSION: u32 = 1;

/// Why a file's content cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Nothing in it.
    #[error("it is empty")]
    Empty,
    /// Not what this program writes.
    #[error("it is not a file of positions ({0})")]
    NotOurs(String),
    /// Written by a newer version.
    #[error("its format has version {0}, this adapter supports version {VERSION}: use a newer adapter")]
    Newer(u32),
    /// A position or time in it makes no sense.
    #[error("it contains the invalid value {0:?}")]
    Value(String),
}

/// A file's content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    format: String,
    version: u32,
    groups: BTreeMap<String, BTreeMap<String, Vec<Stream>>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stream {
    stream: String,
    start: String,
    drained: bool,
    saved_at: String,
    shards: BTreeMap<String, Shard>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shard {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finished: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
}

/// What every version's file has.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

impl Document {
    /// A document in which nothing is stored.
    pub(super) fn empty() -> Self {
        Self { format: FORMAT.to_owned(), version: VERSION, groups: BTreeMap::new() }
    }

    /// Reads a file's content and checks every value in it.
    pub(super) fn parse(text: &[u8]) -> Result<Self, FormatError> {
        if text.iter().all(u8::is_ascii_whitespace) {
            return Err(FormatError::Empty);
        }
        let not_ours = |error: serde_json::Error| FormatError::NotOurs(error.to_string());
        let head: Head = serde_json::from_slice(text).map_err(not_ours)?;
        if head.format != FORMAT {
            return Err(FormatError::NotOurs(format!("its format is {:?}", head.format)));
        }
        match head.version {
            VERSION => {}
            0 => return Err(FormatError::NotOurs("version 0 does not exist".to_owned())),
            newer => return Err(FormatError::Newer(newer)),
        }
        let document: Self = serde_json::from_slice(text).map_err(not_ours)?;
        for stream in document.groups.values().flat_map(BTreeMap::values).flatten() {
            stream.state()?;
        }
        Ok(document)
    }

    /// The file's content.
    pub(super) fn to_text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("maps of texts are always JSON");
        text.push('\n');
        text
    }

    /// What is stored of a group's table.
    pub(super) fn get(&self, group: &str, table: &str) -> Result<Option<TableState>, FormatError> {
        let Some(streams) = self.groups.get(group).and_then(|tables| tables.get(table)) else {
            return Ok(None);
        };
        let streams = streams.iter().map(Stream::state).collect::<Result<_, _>>()?;
        Ok(Some(TableState { streams }))
    }

    /// Replaces what is stored of a group's table.
    pub(super) fn put(&mut self, group: &str, table: &str, state: &TableState) {
        let streams = state.streams.iter().map(Stream::of).collect();
        self.groups.entry(group.to_owned()).or_default().insert(table.to_owned(), streams);
    }
}

impl Stream {
    fn of(state: &StreamState) -> Self {
        Self {
            stream: state.arn.clone(),
            start: state.start.to_string(),
            drained: state.drained,
            saved_at: rfc3339(state.saved_at),
            shards: state.shards.iter().map(|(id, shard)| (id.clone(), Shard::of(shard))).collect(),
        }
    }

    fn state(&self) -> Result<StreamState, FormatError> {
        let shards = self.shards.iter().map(|(id, shard)| Ok((id.clone(), shard.state()?)));
        Ok(StreamState {
            arn: self.stream.clone(),
            start: position(&self.start)?,
            drained: self.drained,
            saved_at: time(&self.saved_at)?,
            shards: shards.collect::<Result<_, FormatError>>()?,
        })
    }
}

impl Shard {
    fn of(state: &ShardState) -> Self {
        match state {
            ShardState::Reading { position, parent } => {
                Self { position: Some(position.to_string()), parent: parent.clone(), finished: None }
            }
            ShardState::Finished { at, parent } => {
                Self { finished: Some(rfc3339(*at)), parent: parent.clone(), position: None }
            }
        }
    }

    fn state(&self) -> Result<ShardState, FormatError> {
        let parent = self.parent.clone();
        match (&self.position, &self.finished) {
            (Some(text), None) => Ok(ShardState::Reading { position: position(text)?, parent }),
            (None, Some(at)) => Ok(ShardState::Finished { at: time(at)?, parent }),
            _ => Err(FormatError::Value("a shard with both or neither of position and finished".to_owned())),
        }
    }
}

fn position(text: &str) -> Result<Position, FormatError> {
    let invalid = || FormatError::Value(text.to_owned());
    match text.split_once(' ') {
        None if text == "start" => Ok(Position::Start),
        Some(("since", moment)) => Ok(Position::Since(time(moment)?)),
        Some(("after", sequence)) => sequence.parse().map(Position::After).map_err(|_| invalid()),
        _ => Err(invalid()),
    }
}

fn time(text: &str) -> Result<SystemTime, FormatError> {
    parse_rfc3339(text).ok_or_else(|| FormatError::Value(text.to_owned()))
}
