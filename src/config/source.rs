//! What is read: tables, where to begin, where positions are kept, how often to ask.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::choice::{Choice, choices};
use super::parse::{self, Refusal};
use super::reader::{Reader, Reported};
use super::table_ref::{self, TableRef};
use super::variables;
use super::warning::Warning;
use crate::clock::parse_rfc3339;

/// How long DynamoDB Streams keeps records.
const RETENTION: Duration = Duration::from_hours(24);

/// What to read, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// At least one; none twice, as far as can be told without asking AWS.
    pub tables: Vec<TableRef>,
    /// Where to begin, only where nothing is checkpointed.
    pub start: StartPosition,
    /// Where positions are kept.
    pub checkpoint: CheckpointStore,
    /// Separates the positions of two adapters in one store: 1 to 255 of `a-z A-Z 0-9 _ . -`.
    pub consumer_group: String,
    /// How often to ask.
    pub pace: Pace,
    /// What follows when records are gone before they were read.
    pub on_data_loss: OnDataLoss,
}

/// Where to begin when nothing is checkpointed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPosition {
    /// With what is written from now on.
    Latest,
    /// With the oldest record that the stream still holds.
    TrimHorizon,
    /// With what was written at this moment or later; it was not in the future when it was read. A duration back from the
    /// start of the process has become the moment.
    At(SystemTime),
}

/// Where positions are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointStore {
    /// In the process: lost with it.
    Memory,
    /// In this file.
    File(PathBuf),
}

choices! {
    /// What follows when records are gone before they were read.
    OnDataLoss {
        /// Say so, and go on with what is there.
        Continue = "continue",
        /// Say so, and read that table no further.
        Stop = "stop",
    }
}

/// How often to ask for records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The pause after a page that was not full, on an active shard.
    pub poll_interval: Duration,
    /// The longest pause on a quiet shard; at least `poll_interval`.
    pub idle_poll_interval_max: Duration,
}

impl Source {
    pub(super) fn read(reader: &mut Reader, now: SystemTime) -> Result<Self, Reported> {
        let tables = reader.list(&variables::TABLE, table_ref::parse_another);
        let start = reader.value(&variables::START_POSITION, |text| start_position(text, now));
        let checkpoint = reader.value(&variables::CHECKPOINT_STORE, checkpoint_store);
        let consumer_group = reader.value(&variables::CONSUMER_GROUP, parse::group_name);
        let pace = Pace::read(reader);
        let on_data_loss = reader.value(&variables::ON_DATA_LOSS, OnDataLoss::parse);
        if checkpoint == Ok(CheckpointStore::Memory) {
            reader.warn(Warning::PositionsInMemory);
        }
        Ok(Self {
            tables: tables?,
            start: start?,
            checkpoint: checkpoint?,
            consumer_group: consumer_group?,
            pace: pace?,
            on_data_loss: on_data_loss?,
        })
    }
}

impl Pace {
    fn read(reader: &mut Reader) -> Result<Self, Reported> {
        let interval = reader.value(&variables::POLL_INTERVAL, parse::duration);
        let idle_max = reader.value(&variables::IDLE_POLL_INTERVAL_MAX, parse::duration);
        let (poll_interval, idle_poll_interval_max) = (interval?, idle_max?);
        if poll_interval > idle_poll_interval_max {
            let why = parse::reversed("POLL_INTERVAL", poll_interval, "IDLE_POLL_INTERVAL_MAX", idle_poll_interval_max);
            return Err(reader.refused_pair(&variables::POLL_INTERVAL, &variables::IDLE_POLL_INTERVAL_MAX, why));
        }
        Ok(Self { poll_interval, idle_poll_interval_max })
    }
}

fn start_position(text: &str, now: SystemTime) -> Result<StartPosition, Refusal> {
    match text {
        "latest" => return Ok(StartPosition::Latest),
        "trim-horizon" => return Ok(StartPosition::TrimHorizon),
        _ => {}
    }
    match parse_rfc3339(text) {
        Some(time) if time > now => Err("in the future".into()),
        Some(time) => Ok(StartPosition::At(time)),
        None => Ok(StartPosition::At(now - time_back(text)?)),
    }
}

/// How long before the start of the process to begin.
fn time_back(text: &str) -> Result<Duration, Refusal> {
    let is_short_number = text.len() < 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    match humantime::parse_duration(text) {
        Ok(back) if back > RETENTION => {
            Err("longer than DynamoDB Streams keeps records, 24 hours: use trim-horizon for the oldest record".into())
        }
        Err(_) if !is_short_number => Err("not a position, a time with its offset or a duration".into()),
        _ => parse::duration(text),
    }
}

fn checkpoint_store(text: &str) -> Result<CheckpointStore, Refusal> {
    if text == "memory" {
        return Ok(CheckpointStore::Memory);
    }
    let path = text.strip_prefix("file:").ok_or("unknown store")?;
    let path = match path.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err("a file URL with a host".into()),
        None => path,
    };
    let is_directory = path.ends_with("/.") || path.ends_with('/') || Path::new(path).file_name().is_none();
    match is_directory {
        true => Err("not the path of a file".into()),
        false => Ok(CheckpointStore::File(PathBuf::from(path))),
    }
}
