//! What `/status` shows, and the gauges that are computed when somebody looks.
//!
//! Contract: every member is described in `docs/status.md`. Members are added, never renamed or given another meaning.
//! No item data, no secrets: an item is a hash of its key, the sink is its scheme and authority. What it shows is bounded
//! by the number of shards, and of those that are finished at most [`MOST_FINISHED`] are listed.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use http::Uri;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::{self, rfc3339};
use crate::delivery::dispatcher::DeliveryView;
use crate::delivery::parked_items::{ParkedItem, ParkedItems};
use crate::progress::catch_up::CatchUp;
use crate::progress::ownership::OwnershipView;
use crate::progress::table_tracker::ShardView;
use crate::progress::{Acknowledger as _, TableProgress};
use crate::readiness::{Dependency, Health, TableHealth};
use crate::records::RETENTION;
use crate::telemetry::TableTelemetry;
use crate::telemetry::metrics::{Metrics, SinkMetrics};

pub(crate) use self::sinks::origin;

mod sinks;

/// Finished shards that are listed; a busy table has a few thousand of them a day.
const MOST_FINISHED: usize = 2_000;

/// The whole process's state, for those who look.
pub(crate) struct Status {
    health: Arc<Health>,
    sink: String,
    dead_letter_sink: Option<String>,
    metrics: Metrics,
    sink_metrics: SinkMetrics,
    started: SystemTime,
    parts: OnceLock<Parts>,
}

/// What is there once the process has started.
pub(crate) struct Parts {
    pub(crate) progress: Vec<Arc<TableProgress>>,
    pub(crate) delivery: watch::Receiver<DeliveryView>,
    pub(crate) parked_items: Arc<ParkedItems>,
}

/// Brings a table's gauges up to date.
fn refresh(progress: &TableProgress) {
    let telemetry = progress.telemetry();
    let (now, lag) = (Instant::now(), lag(progress));
    let unread = progress.tracker().unread(is_hindered(progress.health()), clock::now());
    let metrics = telemetry.metrics();
    // No number is a lie where nobody knows. The series are there all the same: alerts that ask which tables there are go by them.
    metrics.lag.set(lag.map_or(f64::NAN, |lag| lag.as_secs_f64()));
    let headroom = lag.map(|lag| RETENTION.saturating_sub(lag.max(unread)));
    metrics.retention_headroom.set(headroom.map_or(f64::NAN, |headroom| headroom.as_secs_f64()));
    metrics.aws_refused.set(progress.health().failing_for(Dependency::Aws, now).as_secs_f64());
    metrics.sink_refused.set(progress.health().sink_refused_for(now).as_secs_f64());
    metrics.left_out.set(i64::try_from(left_out(progress)).unwrap_or(i64::MAX));
    metrics.buffered.set(i64::try_from(progress.buffer().held()).unwrap_or(i64::MAX));
}

/// How many of a table's items have more changes waiting than are kept.
fn left_out(progress: &TableProgress) -> usize {
    CatchUp::of(&mut progress.tracker()).lanes()
}

impl Status {
    /// Of a process that starts now.
    pub(crate) fn new(health: Arc<Health>, metrics: &Metrics, sink: &Uri, dead_letter_sink: Option<&Uri>) -> Self {
        Self {
            health,
            sink: origin(sink),
            dead_letter_sink: dead_letter_sink.map(origin),
            metrics: metrics.clone(),
            sink_metrics: metrics.sinks(),
            started: clock::now(),
            parts: OnceLock::new(),
        }
    }

    /// From now on it shows these parts.
    pub(crate) fn set_parts(&self, parts: Parts) {
        // A process starts once.
        let _ = self.parts.set(parts);
    }

    /// Brings all gauges up to date.
    pub(crate) fn refresh(&self) {
        self.metrics.show_ready(self.health.not_ready(Instant::now()).is_none());
        let Some(parts) = self.parts.get() else { return };
        parts.progress.iter().for_each(|progress| refresh(progress));
        sinks::refresh(&self.sink_metrics, &parts.delivery.borrow());
    }

    /// All of it, as of now.
    pub(crate) fn show(&self) -> Value {
        let now = clock::now();
        let delivery = self.parts.get().map(|parts| parts.delivery.borrow().clone()).unwrap_or_default();
        let of =
            |parts: &Parts| parts.progress.iter().map(|it| table(it, &parts.parked_items, now)).collect::<Vec<_>>();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "time": rfc3339(now),
            "started": rfc3339(self.started),
            "not_ready": self.health.not_ready(Instant::now()),
            "sink": sinks::sink(&self.sink, &delivery),
            "dead_letter_sink": self.dead_letter_sink.as_ref().map(|url| sinks::dead_letter_sink(url, &delivery)),
            "longest_lane": sinks::longest_lane(&delivery),
            "tables": self.parts.get().map(of).unwrap_or_default(),
        })
    }
}

/// What is known of records that are owed or wait. While nothing can be read of what an earlier run has stored, that is also the time of
/// which it knows nothing: a start that AWS refuses does not look as if all was delivered. Not otherwise: of an idle table that time is up to
/// an hour for the moment until its first page. None: nobody knows, because nobody knows yet what is stored.
fn lag(progress: &TableProgress) -> Option<Duration> {
    let (tracker, health, now) = (progress.tracker(), progress.health(), clock::now());
    if progress.is_unknown() {
        return None;
    }
    let known = tracker.lag(now);
    Some(if is_hindered(health) { known.max(tracker.unread_since_start(now)) } else { known })
}

/// Whether nothing is read: AWS refuses, or reading has stopped.
fn is_hindered(health: &TableHealth) -> bool {
    health.is_failing(Dependency::Aws) || health.has_stopped()
}

fn table(progress: &TableProgress, parked_items: &ParkedItems, now: SystemTime) -> Value {
    let telemetry = progress.telemetry();
    let (metrics, health) = (telemetry.metrics(), progress.health());
    let (unsettled, shards) = {
        let tracker = progress.tracker();
        (tracker.unsettled(), tracker.view())
    };
    let (finished, open): (Vec<_>, Vec<_>) = shards.into_iter().partition(|shard| shard.is_finished);
    let unlisted = finished.len().saturating_sub(MOST_FINISHED);
    json!({
        "table": telemetry.table(),
        "waiting_for": health.awaited(),
        "lease": progress.ownership().view(Instant::now()).map(lease),
        "not_ready": health.trouble(Instant::now()),
        "lag_seconds": lag(progress).map(|lag| lag.as_secs_f64()),
        "unsettled_events": unsettled,
        "in_flight_events": metrics.in_flight.get(),
        "parked_items": metrics.parked.get(),
        "left_out_items": left_out(progress),
        "parked": parked(&parked_items.items(telemetry.table())),
        "buffered_bytes": progress.buffer().held(),
        "buffer_is_full": progress.buffer().is_short(),
        "records_read": metrics.records_read.get(),
        "events_delivered": metrics.events_delivered.get(),
        "positions_unstored_for_seconds": metrics.checkpoint_age.get(),
        "last_errors": {
            "aws": health.last_refusal(Dependency::Aws),
            "sink": health.last_refusal(Dependency::Sink),
            "store": health.last_store_error(),
        },
        "recent_errors": recent_errors(telemetry),
        "shards": open.iter().map(|view| shard(view, now)).collect::<Vec<_>>(),
        "waiting_shards": metrics.shards.with_label_values(&[telemetry.table(), "waiting"]).get(),
        "finished_shards": finished.len(),
        // The oldest come first, and matter least.
        "finished": finished[unlisted..].iter().map(ancestor).collect::<Vec<_>>(),
    })
}

fn lease(lease: OwnershipView) -> Value {
    json!({
        "owner": lease.owner,
        "held": lease.ends_in.is_some(),
        "ends_in_seconds": lease.ends_in.map(|ends_in| ends_in.as_secs_f64()),
        "waits_for": lease.waits_for,
    })
}

fn parked(items: &[ParkedItem]) -> Vec<Value> {
    items
        .iter()
        .map(|parked| {
            json!({
                "item": parked.item,
                "event": parked.event,
                "failures": parked.failures,
                "last_error": parked.why,
                "since": rfc3339(parked.since),
                "last_failure": rfc3339(parked.last),
            })
        })
        .collect()
}

fn recent_errors(telemetry: &TableTelemetry) -> Vec<Value> {
    let troubles = telemetry.recent().newest_first().into_iter();
    troubles.map(|trouble| json!({"time": rfc3339(trouble.at), "code": trouble.code, "text": trouble.text})).collect()
}

fn ancestor(shard: &ShardView) -> Value {
    json!({"shard": shard.id, "parent": shard.parent})
}

fn shard(shard: &ShardView, now: SystemTime) -> Value {
    json!({
        "stream": shard.stream,
        "shard": shard.id,
        "parent": shard.parent,
        "state": state(shard),
        "read_to": shard.read_to.to_string(),
        "settled_to": shard.safe.to_string(),
        "unsettled_events": shard.unsettled,
        "left_out_items": shard.left_out,
        "left_out_events": shard.left_out_records,
        "caught_up": shard.is_caught_up,
        "lag_seconds": shard.lag(now).as_secs_f64(),
        "newest_record": shard.newest.map(rfc3339),
    })
}

fn state(shard: &ShardView) -> &'static str {
    match (shard.is_ended, shard.is_caught_up) {
        (true, _) => "settling",
        (false, true) => "caught-up",
        (false, false) => "reading",
    }
}

#[cfg(test)]
mod tests;
