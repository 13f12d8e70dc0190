//! The definitions: name, type, labels and meaning of every metric.

use std::fmt::Write;

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, Result};

/// What every name begins with.
pub const PREFIX: &str = "dynamodb_streams_adapter_";

/// A metric.
#[derive(Debug)]
pub struct Definition {
    /// Its name without the prefix.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// A metric's type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations up to each of these bounds.
    Histogram(&'static [f64]),
}

const DELIVERY_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const AGE_BUCKETS: &[f64] =
    &[0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0];
const HANDOVER_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const CALL_BUCKETS: &[f64] = &[0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 40.0];

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:expr, $labels:expr, $help:literal;)*) => {
        $(pub(super) const $constant: Definition =
            Definition { name: $name, kind: $kind, labels: &$labels, help: $help };)*

        /// All metrics of this program, besides `process_*`.
        pub const ALL: &[Definition] = &[$($constant),*];
    };
}

metrics! {
    BUILD_INFO = "build_info", Kind::Gauge, ["version", "revision"], "Always 1; the labels identify the running build.";
    RECORDS_READ = "records_read_total", Kind::Counter, ["table"], "Records read from the stream.";
    RECORDS_FILTERED = "records_filtered_total", Kind::Counter, ["table"],
        "Records read and not delivered because they are older than the start position.";
    EVENTS_DELIVERED = "events_delivered_total", Kind::Counter, ["table"], "Events that the sink has acknowledged.";
    EVENTS_DEAD_LETTERED = "events_dead_lettered_total", Kind::Counter, ["table"],
        "Events that the dead-letter sink has acknowledged.";
    EVENTS_DROPPED = "events_dropped_total", Kind::Counter, ["table"], "Undeliverable events dropped by ON_UNDELIVERABLE=drop.";
    DELIVERY_ATTEMPTS = "delivery_attempts_total", Kind::Counter, ["table", "code"],
        "Requests to the sink by result: the HTTP status, or timeout, connect, reset, tls, malformed, credentials, other. A batch counts once, for the table of its first event.";
    DEAD_LETTER_ATTEMPTS = "dead_letter_attempts_total", Kind::Counter, ["table", "code"],
        "Requests to the dead-letter sink by result, as in delivery_attempts_total.";
    DELIVERY_DURATION = "delivery_duration_seconds", Kind::Histogram(DELIVERY_BUCKETS), ["table"],
        "Duration of one request to the sink.";
    END_TO_END = "end_to_end_seconds", Kind::Histogram(AGE_BUCKETS), ["table"],
        "Time from a record's creation to the sink's acknowledgement; creation times are whole seconds.";
    LAG = "lag_seconds", Kind::Gauge, ["table"],
        "Age of the oldest record that is not settled; 0 when caught up.";
    RETENTION_HEADROOM = "retention_headroom_seconds", Kind::Gauge, ["table"],
        "Time left until DynamoDB trims the oldest unsettled record.";
    IN_FLIGHT = "in_flight_events", Kind::Gauge, ["table"], "Events sent to the sink that wait for its response.";
    BUFFERED = "buffered_bytes", Kind::Gauge, ["table"], "Memory used by records that are read and not settled, and reserved for requested pages.";
    PARKED = "parked_items", Kind::Gauge, ["table"],
        "Items whose oldest event keeps failing; the event is retried at RETRY_BACKOFF_MAX.";
    SHARDS = "shards", Kind::Gauge, ["table", "state"],
        "Shards by state: reading, waiting (for the parent shard), finished, elsewhere (not used in this version).";
    SHARD_HANDOVER = "shard_handover_seconds", Kind::Histogram(HANDOVER_BUCKETS), ["table"],
        "Time from the end of a parent shard to the first response for its child.";
    AWS_CALLS = "aws_calls_total", Kind::Counter, ["table", "operation", "result"],
        "Calls to AWS by result: records, empty, ok, or the error's code.";
    AWS_CALL_DURATION = "aws_call_duration_seconds", Kind::Histogram(CALL_BUCKETS), ["table", "operation"],
        "Duration of one call to AWS, the SDK's retries included.";
    DATA_LOSS = "data_loss_total", Kind::Counter, ["table", "reason"],
        "Gaps, where records are lost or may be lost, by reason: trimmed, shard-missing, stream-missing, undecodable.";
    CHECKPOINT_WRITES = "checkpoint_writes_total", Kind::Counter, ["table", "result"],
        "Attempts to store positions, by result: ok or error.";
    CHECKPOINT_AGE = "checkpoint_age_seconds", Kind::Gauge, ["table"],
        "Age of the oldest change of a position that is not stored; 0 when all positions are stored.";
}

impl Definition {
    /// Whether nothing fills it in this version.
    pub fn is_for_later(&self) -> bool {
        false
    }

    pub(super) fn counter(&self, registry: &Registry) -> Result<IntCounterVec> {
        let metric = IntCounterVec::new(self.options(), self.labels)?;
        registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    pub(super) fn gauge(&self, registry: &Registry) -> Result<GaugeVec> {
        let metric = GaugeVec::new(self.options(), self.labels)?;
        registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    pub(super) fn int_gauge(&self, registry: &Registry) -> Result<IntGaugeVec> {
        let metric = IntGaugeVec::new(self.options(), self.labels)?;
        registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    pub(super) fn histogram(&self, registry: &Registry) -> Result<HistogramVec> {
        let buckets = match self.kind {
            Kind::Histogram(buckets) => buckets.to_vec(),
            Kind::Counter | Kind::Gauge => prometheus::DEFAULT_BUCKETS.to_vec(),
        };
        let options = HistogramOpts { common_opts: self.options(), buckets };
        let metric = HistogramVec::new(options, self.labels)?;
        registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn options(&self) -> Opts {
        Opts::new(format!("{PREFIX}{}", self.name), self.help)
    }
}

/// What the page says of the counters in `legacy.rs`.
const LEGACY: &str = "
## The counters of Knative's adapters

With `LEGACY_METRICS=on`, the default with the variables of TriggerMesh, the adapter exports two more counters. Their names begin
with `K_COMPONENT` (`awsdynamodbsource` under TriggerMesh). `<component>_event_count` counts each event once, by the result of
its first attempt, like an adapter without retries. `<component>_retry_event_count` counts every further attempt. Their labels
are `event_source`, `event_type`, `name`, `namespace_name`, `resource_group`, `response_code`, `response_code_class`,
`response_error` and `response_timeout`. `response_error` has the values of the label `code` above, not a whole text.
`event_type` is empty with `EVENT_PROFILE=aws`, because that profile has several types.
";

/// The page `docs/metrics.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Metrics\n\nServed at `/metrics` in Prometheus's text format, on `HTTP_ADDRESS` and, where it is set, on \
         `METRICS_ADDRESS`. Every name begins\nwith `dynamodb_streams_adapter_`; `table` is the table's name. The usual \
         `process_*` metrics come with them.\n\n\
         | name | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for definition in ALL {
        let kind = match definition.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let labels: Vec<String> = definition.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, labels, help) = (definition.name, labels.join(", "), definition.help);
        let _ = writeln!(page, "| `{name}` | {kind} | {labels} | {help} |");
    }
    page.push_str(LEGACY);
    page
}
