//! What `/status` shows, and the gauges that are computed when somebody looks.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::delivery::parcel::Account;
use crate::pipeline::Books;
use crate::progress::Standing;
use crate::progress::ledger::ShardView;
use crate::streams::reading::RETENTION;
use crate::telemetry::TableTelemetry;
use crate::telemetry::health::Obstacle;

/// Brings a table's gauges up to date.
pub(super) fn refresh(books: &Books) {
    let telemetry = books.telemetry();
    let lag = lag(books, telemetry);
    let metrics = telemetry.metrics();
    metrics.lag.set(lag.as_secs_f64());
    metrics.retention_headroom.set(RETENTION.saturating_sub(lag).as_secs_f64());
    metrics.buffered.set(i64::try_from(books.budget().used()).unwrap_or(i64::MAX));
}

/// The whole process's state.
pub(super) fn status(books: &[Arc<Books>]) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "time": text(SystemTime::now()),
        "tables": books.iter().map(|books| table(books)).collect::<Vec<_>>(),
    })
}

/// What is known of records plus, while AWS refuses to answer, the time since it did.
fn lag(books: &Books, telemetry: &TableTelemetry) -> Duration {
    let known = books.ledger().lag(SystemTime::now());
    known.max(telemetry.health().hindered_for(Obstacle::Aws))
}

fn table(books: &Books) -> Value {
    let telemetry = books.telemetry();
    let metrics = telemetry.metrics();
    let (unsettled, shards) = {
        let ledger = books.ledger();
        (ledger.unsettled(), ledger.view())
    };
    let (finished, open): (Vec<_>, Vec<_>) =
        shards.into_iter().partition(|shard| shard.standing == Some(Standing::Finished));
    json!({
        "table": telemetry.table(),
        "waiting_for": telemetry.health().awaited(),
        "lag_seconds": lag(books, telemetry).as_secs_f64(),
        "unsettled_events": unsettled,
        "in_flight_events": metrics.in_flight.get(),
        "parked_items": metrics.parked.get(),
        "buffered_bytes": books.budget().used(),
        "buffer_is_full": books.budget().is_short(),
        "records_read": metrics.records_read.get(),
        "events_delivered": metrics.events_delivered.get(),
        "positions_unstored_for_seconds": metrics.checkpoint_age.get(),
        "last_errors": {
            "aws": telemetry.health().last_refusal(Obstacle::Aws),
            "sink": telemetry.health().last_refusal(Obstacle::Sink),
        },
        "shards": open.iter().map(shard).collect::<Vec<_>>(),
        "finished_shards": finished.len(),
    })
}

fn shard(shard: &ShardView) -> Value {
    let stored = match shard.standing {
        Some(Standing::Reading(position)) => Some(position.to_string()),
        Some(Standing::Finished) | None => None,
    };
    json!({
        "stream": shard.stream,
        "shard": shard.id,
        "parent": shard.parent,
        "read_to": shard.read_to.map(|position| position.to_string()),
        "settled_to": stored,
        "unsettled_events": shard.unsettled,
        "caught_up": shard.caught_up,
        "newest_record": shard.newest.map(text),
    })
}

fn text(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
