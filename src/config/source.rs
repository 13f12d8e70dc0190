//! What is read: tables, where to begin, where positions are stored, how often to ask.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use super::parse::{self, Choice, InvalidValue, choices};
use super::reader::{AlreadyReported, Reader, Warning};
use super::variable::{Accepts, Default, Group, Variable, variables};
use crate::clock::parse_rfc3339;

variables! {
    TABLE as table: String = parse::text {
        group: Group::Source,
        default: Default::Required,
        accepts: Accepts::Phrase("table names, table ARNs or stream ARNs, separated by commas"),
        meaning: "The tables to read. A name or a table ARN follows the table when its stream is re-created; \
            a stream ARN reads only that stream.",
    }
    START_POSITION as start_position: String = parse::text {
        group: Group::Source,
        default: Default::Value("latest"),
        accepts: Accepts::Phrase(
            "`latest`, `trim-horizon`, a past RFC 3339 time such as `2026-01-31T12:00:00Z`, or a duration up to `24h` \
            such as `15m`",
        ),
        meaning: "Where to begin, only where nothing is checkpointed yet. A duration means so long before the start of \
            the process.",
    }
    CHECKPOINT_STORE as checkpoint_store: CheckpointLocation = checkpoint_location {
        group: Group::Source,
        default: Default::Value("memory"),
        accepts: Accepts::Phrase("`memory` or `file:<path>`"),
        meaning: "Where positions are stored. `memory`: a restart loses them, and the adapter warns at the start. A \
            file belongs on a volume.",
    }
    CONSUMER_GROUP as consumer_group: String = parse::group_name {
        group: Group::Source,
        default: Default::Value("default"),
        accepts: Accepts::Phrase("1 to 255 of the characters `a-z A-Z 0-9 _ . -`"),
        meaning: "Separates the positions of adapters that read the same table and use the same store.",
    }
    POLL_INTERVAL as poll_interval: Duration = parse::duration {
        group: Group::Source,
        default: Default::Value("250ms"),
        accepts: Accepts::Duration,
        meaning: "Pause between two reads of an active shard, after a page that was not full; at most \
            `IDLE_POLL_INTERVAL_MAX`.",
    }
    IDLE_POLL_INTERVAL_MAX as idle_poll_interval_max: Duration = parse::duration {
        group: Group::Source,
        default: Default::Value("5s"),
        accepts: Accepts::Duration,
        meaning: "Maximum pause between two reads of an idle shard; the pause is a tenth of the idle time up to this \
            value.",
    }
    ON_DATA_LOSS as on_data_loss: OnDataLoss = OnDataLoss::parse {
        group: Group::Source,
        default: Default::Value("continue"),
        accepts: Accepts::OneOf(OnDataLoss::NAMES),
        meaning: "Reaction to records that were trimmed before they were read. `continue`: reading continues after the \
            gap. `stop`: the adapter stops reading the table and is not ready until a restart with `continue`.",
    }
}

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
    pub checkpoint: CheckpointLocation,
    /// Separates the positions of two adapters in one store: 1 to 255 of `a-z A-Z 0-9 _ . -`.
    pub consumer_group: String,
    /// How often to ask.
    pub poll_intervals: PollIntervals,
    /// What follows when records were trimmed before they were read.
    pub on_data_loss: OnDataLoss,
}

/// Where to begin when nothing is checkpointed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPosition {
    /// With what is written from now on.
    Latest,
    /// With the oldest record that the stream still holds.
    TrimHorizon,
    /// With what was written at this moment or later; it was not in the future when it was read. A duration back from
    /// the start of the process has become the moment.
    At(SystemTime),
}

/// Where positions are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointLocation {
    /// In the process: lost with it.
    Memory,
    /// In this file.
    File(PathBuf),
}

choices! {
    /// What follows when records were trimmed before they were read.
    OnDataLoss {
        /// Report it, and continue after the gap.
        Continue = "continue",
        /// Report it, and read that table no further.
        Stop = "stop",
    }
}

/// How often to ask for records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollIntervals {
    /// The pause after a page that was not full, on an active shard.
    pub poll_interval: Duration,
    /// The longest pause on a quiet shard; at least `poll_interval`.
    pub idle_poll_interval_max: Duration,
}

impl Source {
    /// The region, if every table names one: then nothing need search for another.
    pub fn common_region(&self) -> Option<&str> {
        let regions: Option<Vec<&str>> = self.tables.iter().map(TableRef::region).collect();
        regions?.first().copied()
    }

    /// What one of the tables is called in metrics, logs and probes: its name, or as much of its ARN as no other one has.
    pub fn label(&self, table: &TableRef) -> String {
        let others = || self.tables.iter().filter(|other| *other != table);
        let is_its_own = |label: &String| others().all(|other| !other.labels().contains(label));
        table.labels().into_iter().find(is_its_own).unwrap_or_else(|| table.text.clone())
    }

    pub(super) fn read(reader: &mut Reader, now: SystemTime) -> Result<Self, AlreadyReported> {
        let given: Given = reader.section();
        let tables = reader.list(&given.table, another_table);
        let start = reader.value_by(&given.start_position, |text| start_position(text, now));
        let checkpoint = reader.value(&given.checkpoint_store);
        let consumer_group = reader.value(&given.consumer_group);
        let poll_intervals = PollIntervals::read(reader, &given);
        let on_data_loss = reader.value(&given.on_data_loss);
        if checkpoint == Ok(CheckpointLocation::Memory) {
            reader.warn(Warning::PositionsInMemory);
        }
        Ok(Self {
            tables: tables?,
            start: start?,
            checkpoint: checkpoint?,
            consumer_group: consumer_group?,
            poll_intervals: poll_intervals?,
            on_data_loss: on_data_loss?,
        })
    }
}

impl PollIntervals {
    fn read(reader: &mut Reader, given: &Given) -> Result<Self, AlreadyReported> {
        let interval = reader.value(&given.poll_interval);
        let idle_max = reader.value(&given.idle_poll_interval_max);
        let (poll_interval, idle_poll_interval_max) = (interval?, idle_max?);
        if poll_interval > idle_poll_interval_max {
            let why = parse::reversed("POLL_INTERVAL", poll_interval, "IDLE_POLL_INTERVAL_MAX", idle_poll_interval_max);
            return Err(reader.refused_pair(&given.poll_interval, &given.idle_poll_interval_max, why));
        }
        Ok(Self { poll_interval, idle_poll_interval_max })
    }
}

fn start_position(text: &str, now: SystemTime) -> Result<StartPosition, InvalidValue> {
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
fn time_back(text: &str) -> Result<Duration, InvalidValue> {
    let is_short_number = text.len() < 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    match humantime::parse_duration(text) {
        Ok(back) if back > RETENTION => {
            Err("longer than DynamoDB Streams keeps records, 24 hours: use trim-horizon for the oldest record".into())
        }
        Err(_) if !is_short_number => Err("not a position, a time with its offset or a duration".into()),
        _ => parse::duration(text),
    }
}

fn checkpoint_location(text: &str) -> Result<CheckpointLocation, InvalidValue> {
    if text == "memory" {
        return Ok(CheckpointLocation::Memory);
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
        false => Ok(CheckpointLocation::File(PathBuf::from(path))),
    }
}

/// Source: `CreateTable` in the DynamoDB developer guide, "Naming rules".
const NAME_LENGTHS: RangeInclusive<usize> = 3..=255;

/// A table as the user named it.
///
/// Whatever follows `/stream/` is opaque: emulators write something else than a date there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableRef {
    text: String,
    table: String,
    arn: Option<Arn>,
}

/// What an ARN adds to a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Arn {
    region: String,
    table_arn: String,
    is_stream: bool,
}

/// The text names no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTableRef {
    /// It is neither a name nor an ARN.
    #[error("not a table name: 3 to 255 of the characters a-z A-Z 0-9 _ . -")]
    Name,
    /// It begins like an ARN.
    #[error("not the ARN of a table or a stream: arn:aws:dynamodb:<region>:<account>:table/<name>[/stream/<label>]")]
    Arn,
}

impl TableRef {
    /// Exactly what the user wrote.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The table's name.
    pub fn table_name(&self) -> &str {
        &self.table
    }

    /// The region, where an ARN says it; emulators have names of their own here.
    pub fn region(&self) -> Option<&str> {
        self.arn.as_ref().map(|arn| arn.region.as_str())
    }

    /// The table's ARN, from its own or from a stream's.
    pub fn table_arn(&self) -> Option<&str> {
        self.arn.as_ref().map(|arn| arn.table_arn.as_str())
    }

    /// What it may be called, from the shortest on.
    fn labels(&self) -> Vec<String> {
        let Some(Arn { region, table_arn, .. }) = &self.arn else { return vec![self.table.clone()] };
        let account = table_arn.split(':').nth(4).unwrap_or_default();
        let long = format!("{region}/{account}/{}", self.table);
        let stream = self.text.split_once("/stream/").map(|(_, stream)| format!("{long}/{stream}"));
        [Some(self.table.clone()), Some(long), stream].into_iter().flatten().collect()
    }

    /// The stream's ARN: only this stream is meant, even when the table gets another.
    pub fn stream_arn(&self) -> Option<&str> {
        self.arn.as_ref().filter(|arn| arn.is_stream).map(|_| self.as_str())
    }
}

impl FromStr for TableRef {
    type Err = InvalidTableRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("arn:") {
            return from_arn(text).ok_or(InvalidTableRef::Arn);
        }
        match is_table_name(text) {
            true => Ok(Self { text: text.to_owned(), table: text.to_owned(), arn: None }),
            false => Err(InvalidTableRef::Name),
        }
    }
}

impl fmt::Display for TableRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One more entry of a list: it may not name what an earlier one names.
fn another_table(text: &str, earlier: &[TableRef]) -> Result<TableRef, InvalidValue> {
    let table: TableRef = text.parse().map_err(|error: InvalidTableRef| error.to_string())?;
    match earlier.iter().any(|other| is_same(other, &table)) {
        true => Err("named twice".into()),
        false => Ok(table),
    }
}

/// Two streams of one table are two things to read; a table includes its streams.
fn is_same(one: &TableRef, other: &TableRef) -> bool {
    let are_streams = one.stream_arn().is_some() && other.stream_arn().is_some();
    match are_streams || one.arn.is_none() {
        true => one.text == other.text,
        false => one.table_arn() == other.table_arn(),
    }
}

fn from_arn(text: &str) -> Option<TableRef> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let &["arn", partition, "dynamodb", region, account, resource] = parts.as_slice() else {
        return None;
    };
    let is_partition = partition == "aws" || partition.strip_prefix("aws-").is_some_and(is_word);
    let path = resource.strip_prefix("table/")?;
    let (table, label) = match path.split_once("/stream/") {
        Some((table, label)) => (table, Some(label)),
        None => (path, None),
    };
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if !is_partition || !is_word(region) || !is_word(account) || !is_table_name(table) || !label.is_none_or(is_label) {
        return None;
    }
    let table_arn = format!("arn:{partition}:dynamodb:{region}:{account}:table/{table}");
    let arn = Arn { region: region.to_owned(), table_arn, is_stream: label.is_some() };
    Some(TableRef { text: text.to_owned(), table: table.to_owned(), arn: Some(arn) })
}

fn is_table_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    NAME_LENGTHS.contains(&text.len()) && text.bytes().all(is_allowed)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
