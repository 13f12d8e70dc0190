//! What is shown of the sink and of the dead-letter sink: how much they take, and what limits it.

use std::time::SystemTime;

use http::Uri;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::clock::{self, rfc3339};
use crate::delivery::dispatcher::{DeliveryView, SinkOutage};
use crate::delivery::sink_controller::{ControllerView, DownReason};
use crate::telemetry::metrics::{SinkGauges, SinkMetrics};

/// A URL without what may be secret in it: scheme, host and port.
pub(crate) fn origin(uri: &Uri) -> String {
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default())
}

/// Brings the gauges up to date. Before something was sent there is nothing to show.
pub(super) fn refresh(metrics: &SinkMetrics, delivery: &DeliveryView) {
    if let Some(view) = &delivery.sink {
        metrics.show("sink", gauges(view, delivery.outage.is_none()));
        metrics.show_longest_lane(delivery.longest_lane.as_ref().map_or(0, |lane| lane.events));
    }
    if let Some(view) = &delivery.dead_letters {
        metrics.show("dead-letter", gauges(view, view.down.is_none()));
    }
}

fn gauges(view: &ControllerView, is_up: bool) -> SinkGauges {
    SinkGauges {
        is_up,
        rate_limit: view.rate,
        capacity: view.capacity,
        in_flight: view.in_flight,
        in_flight_limit: view.ceiling,
    }
}

/// The sink.
pub(super) fn sink(url: &str, delivery: &DeliveryView) -> Value {
    show(url, delivery.outage.as_ref(), delivery.sink.as_ref())
}

/// The dead-letter sink. Of its outage only the controller knows.
pub(super) fn dead_letter_sink(url: &str, delivery: &DeliveryView) -> Value {
    let view = delivery.dead_letters.as_ref();
    let outage = view.and_then(|view| view.down).map(|(since, reason)| SinkOutage {
        since: wall_time(since),
        is_refusing: reason == DownReason::Refusing,
        why: String::new(),
    });
    show(url, outage.as_ref(), view)
}

fn show(url: &str, outage: Option<&SinkOutage>, view: Option<&ControllerView>) -> Value {
    let state = outage.map(|outage| if outage.is_refusing { DownReason::Refusing } else { DownReason::Failing });
    let paused_until = view.and_then(|view| view.paused_until).filter(|until| *until > Instant::now());
    let is_limited = |view: &&ControllerView| view.rate.is_some() || outage.is_some() || paused_until.is_some();
    json!({
        "url": url,
        "state": state.map_or("up", DownReason::as_str),
        "failing_since": outage.map(|outage| rfc3339(outage.since)),
        "last_error": outage.map(|outage| &outage.why).filter(|why| !why.is_empty()),
        "rate": view.and_then(|view| view.rate).map(rounded),
        "capacity": view.and_then(|view| view.capacity).map(rounded),
        "limited_by": view.filter(is_limited).map(|view| view.moved.as_str()),
        "paused_until": paused_until.and_then(|until| clock::utc_in_millis(wall_time(until))).map(rfc3339),
        "in_flight": view.map(|view| view.in_flight),
        "max_in_flight": view.map(|view| view.ceiling),
        "attempt_seconds": view.and_then(|view| view.attempt_time).map(|time| time.as_secs_f64()),
    })
}

/// The item of which the most events wait, where one has several.
pub(super) fn longest_lane(delivery: &DeliveryView) -> Option<Value> {
    delivery.longest_lane.as_ref().map(|lane| json!({"item": lane.item, "events": lane.events}))
}

/// One decimal is as much as a measured rate is worth.
fn rounded(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

/// When a moment of the process's own time was, or will be.
fn wall_time(moment: Instant) -> SystemTime {
    let (now, here) = (clock::now(), Instant::now());
    let moved = match moment.checked_duration_since(here) {
        Some(ahead) => now.checked_add(ahead),
        None => now.checked_sub(here.saturating_duration_since(moment)),
    };
    moved.unwrap_or(now)
}
