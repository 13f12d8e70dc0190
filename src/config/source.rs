//! What is read: tables, where to begin, how often to ask, and whose positions it is that are stored.

use std::time::{Duration, SystemTime};

use super::checkpoint::CheckpointLocation;
use super::parse::{self, Choice, InvalidValue, choices};
use super::reader::{AlreadyReported, Reader};
use super::table_ref::{InvalidTableRef, TableRef};
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
    CONSUMER_GROUP as consumer_group: String = parse::group_name {
        group: Group::Positions,
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
        common_region(&self.tables)
    }

    /// What one of the tables is called in metrics, logs and probes: its name, or as much of its ARN as no other one has.
    pub fn label(&self, table: &TableRef) -> String {
        let others = || self.tables.iter().filter(|other| *other != table);
        let is_its_own = |label: &String| others().all(|other| !other.labels().contains(label));
        table.labels().into_iter().find(is_its_own).unwrap_or_else(|| table.as_str().to_owned())
    }

    /// Where positions are, and of which consumer group, with what is known of the tables; nothing has to be set.
    pub(super) fn read_positions(
        reader: &mut Reader,
    ) -> Result<(CheckpointLocation, String, Vec<TableRef>), AlreadyReported> {
        let given: Given = reader.section();
        let tables = match given.table.text() {
            Some(_) => reader.list(&given.table, another_table),
            None => Ok(Vec::new()),
        };
        let location = CheckpointLocation::read(reader, tables.as_deref().ok());
        let consumer_group = reader.value(&given.consumer_group);
        Ok((location?, consumer_group?, tables?))
    }

    pub(super) fn read(reader: &mut Reader, now: SystemTime) -> Result<Self, AlreadyReported> {
        let given: Given = reader.section();
        let tables = reader.list(&given.table, another_table);
        let start = reader.value_by(&given.start_position, |text| start_position(text, now));
        let checkpoint = CheckpointLocation::read(reader, tables.as_deref().ok());
        let consumer_group = reader.value(&given.consumer_group);
        let poll_intervals = PollIntervals::read(reader, &given);
        let on_data_loss = reader.value(&given.on_data_loss);
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

pub(super) fn common_region(tables: &[TableRef]) -> Option<&str> {
    let regions: Option<Vec<&str>> = tables.iter().map(TableRef::region).collect();
    regions?.first().copied()
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

/// One more entry of a list: it may not name what an earlier one names.
fn another_table(text: &str, earlier: &[TableRef]) -> Result<TableRef, InvalidValue> {
    let table: TableRef = text.parse().map_err(|error: InvalidTableRef| error.to_string())?;
    match earlier.iter().any(|other| other.is_same(&table)) {
        true => Err("named twice".into()),
        false => Ok(table),
    }
}
