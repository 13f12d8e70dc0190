//! Metrics, logs and health: what the process says about itself.
//!
//! An operational event is one struct in [`events`] that both logs and counts, so that the two cannot drift apart. What
//! happens to single records is only counted. Nothing here holds item data or secrets.

pub mod events;
pub mod health;
pub mod logs;
pub mod metrics;

mod repeated;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use self::health::{Obstacle, TableHealth};
use self::metrics::{Metrics, TableMetrics};
use self::repeated::Repeated;
use crate::streams::client::{CallError, ErrorKind};
use crate::streams::lineage::Counts;

/// All that one table says about itself.
pub struct TableTelemetry {
    table: String,
    metrics: TableMetrics,
    health: Arc<TableHealth>,
    repeated: Repeated,
}

impl TableTelemetry {
    /// The telemetry of the table that the user named so.
    pub fn new(table: &str, metrics: &Metrics, health: Arc<TableHealth>) -> Arc<Self> {
        let metrics = metrics.table(table);
        Arc::new(Self { table: table.to_owned(), metrics, health, repeated: Repeated::default() })
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
    pub fn aws_call(&self, operation: &str, result: &str, took: Duration) {
        self.metrics.aws_calls.with_label_values(&[&*self.table, operation, result]).inc();
        self.metrics.aws_call_duration.with_label_values(&[&*self.table, operation]).observe(took.as_secs_f64());
    }

    /// AWS answered what reading needs: whatever it refused before is over.
    pub fn aws_answered(&self) {
        if self.health.is_hindered(Obstacle::Aws) {
            self.health.cleared(Obstacle::Aws);
            self.repeated.forget();
            events::AwsRecovered.emit(self);
        }
    }

    /// AWS refused a call that reading needs. The first of its kind is logged, and then one a minute.
    pub fn aws_refused(&self, error: &CallError) {
        let denied = error.kind == ErrorKind::Denied;
        self.health.hindered(Obstacle::Aws, &error.to_string(), denied, Instant::now());
        if let Some(times) = self.repeated.is_news(&format!("{} {}", error.operation, error.code), Instant::now()) {
            events::AwsRefused { error, times }.emit(self);
        }
    }

    /// Reading waits for something that is not there yet. Said when it is news, and then once a minute.
    pub fn waiting_for(&self, what: &str) {
        self.health.waiting_for(what);
        if self.repeated.is_news(what, Instant::now()).is_some() {
            events::StreamAwaited { what }.emit(self);
        }
    }

    /// One event was settled; `created` is its record's creation time.
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
            self.health.cleared(Obstacle::Sink);
        }
    }

    /// The sink did not take an event.
    pub fn sink_refused(&self, why: &str) {
        self.health.hindered(Obstacle::Sink, why, false, Instant::now());
    }

    /// Positions were stored, or could not be.
    pub fn checkpoint_written(&self, result: Result<(), &str>) {
        match result {
            Ok(()) => {
                self.metrics.checkpoint_writes.with_label_values(&[&*self.table, "ok"]).inc();
                self.repeated.forget_kind("checkpoint");
            }
            Err(error) => {
                self.metrics.checkpoint_writes.with_label_values(&[&*self.table, "error"]).inc();
                if self.repeated.is_news("checkpoint", Instant::now()).is_some() {
                    events::CheckpointFailed { error }.emit(self);
                }
            }
        }
    }
}
