//! Metrics, logs and health: what the process says about itself.
//!
//! An operational event is one struct in [`events`] that both logs and counts, so that the two cannot drift apart. What
//! happens to single records is only counted. Nothing here holds item data or secrets.

pub mod events;
pub mod health;
pub mod logs;
pub mod metrics;
pub mod parked;
pub mod recent;

mod repeated;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use self::health::{Obstacle, Over, Path, TableHealth};
use self::metrics::{Metrics, TableMetrics};
use self::parked::Parked;
use self::recent::Recent;
use self::repeated::Repeated;
use crate::aws::errors::{CallError, ErrorKind};
use crate::streams::lineage::Counts;

/// What lasts at least so long is worth a line when it ends.
const LONG: Duration = Duration::from_secs(10);

const CHECKPOINT: &str = "checkpoint";

/// All that one table says about itself.
pub struct TableTelemetry {
    table: String,
    metrics: TableMetrics,
    health: Arc<TableHealth>,
    parked: Parked,
    recent: Recent,
    repeated: Repeated,
}

impl TableTelemetry {
    /// The telemetry of the table that the user named so.
    pub fn new(table: &str, metrics: &Metrics, health: Arc<TableHealth>) -> Arc<Self> {
        let metrics = metrics.table(table);
        Arc::new(Self {
            table: table.to_owned(),
            metrics,
            health,
            parked: Parked::default(),
            recent: Recent::default(),
            repeated: Repeated::default(),
        })
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The table's metrics.
    pub fn metrics(&self) -> &TableMetrics {
        &self.metrics
    }

    /// The table's part in readiness.
    pub fn health(&self) -> &TableHealth {
        &self.health
    }

    /// The table's parked items.
    pub fn parked(&self) -> &Parked {
        &self.parked
    }

    /// The table's last warnings and errors.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Whether to say a trouble that repeats itself: the first time, and then once a minute with how often it happened
    /// since. What is said is also among the recent troubles.
    fn is_news(&self, code: &'static str, why: &str) -> Option<u64> {
        let times = self.repeated.is_news(code, Instant::now())?;
        self.recent.add(code, why);
        Some(times)
    }

    /// So many records were read.
    pub fn records_read(&self, records: usize) {
        self.metrics.records_read.inc_by(records as u64);
    }

    /// So many of the records read are not wanted.
    pub fn records_filtered(&self, records: usize) {
        self.metrics.records_filtered.inc_by(records as u64);
    }

    /// The shards in each stage.
    pub fn shards(&self, counts: Counts) {
        let set =
            |state: &str, count: usize| self.metrics.shards.with_label_values(&[&*self.table, state]).set(count as i64);
        set("reading", counts.reading);
        set("waiting", counts.waiting);
        set("finished", counts.finished);
        set("elsewhere", 0);
    }

    /// A call to AWS took so long and ended so: `records`, `empty`, `ok` or the error's code.
    pub fn aws_call(&self, operation: &'static str, result: &str, took: Duration) {
        self.metrics.aws_calls.with_label_values(&[&*self.table, operation, result]).inc();
        self.metrics.aws_call_duration.with_label_values(&[&*self.table, operation]).observe(took.as_secs_f64());
        if self.health.is_hindered(Obstacle::Aws) {
            self.aws_recovered(self.clear(operation, result));
        }
    }

    /// AWS answered what reading needs: there is something to read, and what it has not refused for long is over.
    pub fn aws_answered(&self) {
        self.health.is_reading();
        if self.health.is_hindered(Obstacle::Aws) {
            self.aws_recovered(self.health.forget_stale(Instant::now()));
        }
    }

    /// AWS refused a call that reading needs. The first of its kind is logged, and then one a minute.
    pub fn aws_refused(&self, error: &CallError) {
        let (now, denied) = (Instant::now(), error.kind == ErrorKind::Denied);
        self.health.hindered(Path::Aws(error.operation), &error.to_string(), denied, now);
        if let Some(times) = self.repeated.is_news(&format!("{} {}", error.operation, error.code), now) {
            events::AwsRefused { error, times }.emit(self);
        }
    }

    fn clear(&self, operation: &'static str, result: &str) -> Option<Over> {
        let now = Instant::now();
        match (operation, result) {
            ("GetRecords", "records" | "empty") => self.health.progressed(now),
            // The one stands in for the other where that is denied.
            ("ListStreams", "ok") => {
                let own = self.health.cleared(Path::Aws("ListStreams"), now);
                self.health.cleared(Path::Aws("DescribeTable"), now).or(own)
            }
            (_, "ok") => self.health.cleared(Path::Aws(operation), now),
            _ => None,
        }
    }

    /// Short troubles are everyday life; whoever reads the log wants to know the end of the others.
    fn aws_recovered(&self, over: Option<Over>) {
        let worth_saying = over.filter(|over| over.denied || over.after >= LONG);
        if let Some(over) = worth_saying.filter(|_| !self.health.is_hindered(Obstacle::Aws)) {
            events::AwsRecovered { after: over.after }.emit(self);
        }
    }

    /// Reading waits for something that is not there yet. Said when it is news, and then once a minute.
    pub fn waiting_for(&self, what: &str) {
        self.health.waiting_for(what);
        if self.repeated.is_news(what, Instant::now()).is_some() {
            events::StreamAwaited { what }.emit(self);
        }
    }

    /// A request to the sink took so long and ended so: a status, or a fault in one word.
    pub fn delivery_attempt(&self, code: &str, took: Duration) {
        self.metrics.delivery_duration.observe(took.as_secs_f64());
        match code {
            "202" => self.metrics.delivery_accepted.inc(),
            _ => self.metrics.delivery_attempts.with_label_values(&[&*self.table, code]).inc(),
        }
    }

    /// An attempt for so many events ended so; `first` is whether they were tried for the first time.
    pub fn events_attempted(&self, events: usize, first: bool, code: &str) {
        if let Some(legacy) = &self.metrics.legacy {
            legacy.attempted(events, first, code);
        }
    }

    /// A request to the dead-letter sink ended so.
    pub fn dead_letter_attempt(&self, code: &str) {
        self.metrics.dead_letter_attempts.with_label_values(&[&*self.table, code]).inc();
    }

    /// The dead-letter sink took an event.
    pub fn dead_lettered(&self) {
        self.metrics.events_dead_lettered.inc();
        self.sink_answered();
    }

    /// An event was given up by policy.
    pub fn dropped(&self) {
        self.metrics.events_dropped.inc();
        self.sink_answered();
    }

    /// One event was delivered; `created` is its record's creation time.
    pub fn delivered(&self, created: Option<SystemTime>) {
        self.metrics.events_delivered.inc();
        let age = created.and_then(|created| SystemTime::now().duration_since(created).ok());
        if let Some(age) = age {
            self.metrics.end_to_end.observe(age.as_secs_f64());
        }
    }

    /// The sink took an event, or refused one for the event's own sake.
    pub fn sink_answered(&self) {
        if self.health.is_hindered(Obstacle::Sink) {
            self.health.cleared(Path::Sink, Instant::now());
        }
    }

    /// The sink did not take an event.
    pub fn sink_refused(&self, why: &str) {
        self.health.hindered(Path::Sink, why, false, Instant::now());
    }

    /// Positions were stored, or could not be. The first failure is logged, then one a minute, and the end of it.
    pub fn checkpoint_written(&self, result: Result<(), &str>) {
        self.health.unstored(result.err());
        match result {
            Ok(()) => {
                self.metrics.checkpoint_writes.with_label_values(&[&*self.table, "ok"]).inc();
                if let Some(failed) = self.repeated.forget_kind(CHECKPOINT) {
                    events::CheckpointRecovered { failed }.emit(self);
                }
            }
            Err(error) => {
                self.metrics.checkpoint_writes.with_label_values(&[&*self.table, "error"]).inc();
                if self.repeated.is_news(CHECKPOINT, Instant::now()).is_some() {
                    events::CheckpointFailed { error }.emit(self);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
