//! All metrics: one definition each (`definitions.rs`), from which registration and `docs/metrics.md` derive.
//!
//! Their names, labels and units are a contract with dashboards and alerts. `table` is the only label that grows with
//! the configuration; shards and items never are labels. Knative's own counters are `legacy.rs`.

mod definitions;
mod legacy;

use std::fmt::Write;

use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use self::definitions::*;
use self::legacy::Legacy;
pub use self::legacy::{LegacySettings, TableLegacy};

/// The values of the label `reason` of `data_loss_total`: each is exported from the start, so that an alert sees the first loss.
pub(crate) const LOSS_REASONS: [&str; 4] = ["trimmed", "shard-missing", "stream-missing", "undecodable"];

/// The values of the label `kind` of `lease_changes_total`.
pub(crate) const LEASE_CHANGE_KINDS: [&str; 4] = ["taken", "received", "released", "lost"];

/// All metrics of the process, and the registry that shows them.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    records_read: IntCounterVec,
    records_filtered: IntCounterVec,
    events_delivered: IntCounterVec,
    events_dead_lettered: IntCounterVec,
    events_dropped: IntCounterVec,
    delivery_attempts: IntCounterVec,
    dead_letter_attempts: IntCounterVec,
    delivery_duration: HistogramVec,
    end_to_end: HistogramVec,
    lag: prometheus::GaugeVec,
    retention_headroom: prometheus::GaugeVec,
    in_flight: IntGaugeVec,
    buffered: IntGaugeVec,
    parked: IntGaugeVec,
    left_out: IntGaugeVec,
    shards: IntGaugeVec,
    shard_handover: HistogramVec,
    aws_calls: IntCounterVec,
    aws_call_duration: HistogramVec,
    data_loss: IntCounterVec,
    checkpoint_writes: IntCounterVec,
    checkpoint_age: prometheus::GaugeVec,
    lease_changes: IntCounterVec,
    lease_held: IntGaugeVec,
    lease_duration: GaugeVec,
    ready: IntGaugeVec,
    aws_refused: GaugeVec,
    sink_refused: GaugeVec,
    last_progress: GaugeVec,
    clock_offset: GaugeVec,
    sinks: SinkMetrics,
    scaler: ScalerMetrics,
    legacy: Option<Legacy>,
}

/// What the scaler does: of the whole process, since tables are named by those who ask.
#[derive(Clone)]
pub struct ScalerMetrics {
    requests: IntCounterVec,
    aws_calls: IntCounterVec,
    tables: IntGaugeVec,
    streams: IntGaugeVec,
    reads: IntGaugeVec,
}

/// What is known of the sink and of the dead-letter sink, and of what waits for them: gauges of the whole process.
#[derive(Clone)]
pub struct SinkMetrics {
    up: IntGaugeVec,
    request_rate_limit: GaugeVec,
    request_rate_capacity: GaugeVec,
    requests_in_flight: IntGaugeVec,
    requests_in_flight_limit: IntGaugeVec,
    longest_lane: IntGaugeVec,
}

/// What the gauges of one sink show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SinkGauges {
    /// It counts neither as failing nor as refusing.
    pub is_up: bool,
    /// Requests a second; nothing: no limit was found.
    pub rate_limit: Option<f64>,
    /// Requests a second that it takes, if that was measured.
    pub capacity: Option<f64>,
    pub in_flight: usize,
    pub in_flight_limit: usize,
}

/// One table's metrics; those of the hot path are resolved, so that no label is looked up there.
#[allow(missing_docs)] // each is documented by its definition
pub struct TableMetrics {
    pub records_read: IntCounter,
    pub records_filtered: IntCounter,
    pub events_delivered: IntCounter,
    pub events_dead_lettered: IntCounter,
    pub events_dropped: IntCounter,
    pub delivery_attempts: IntCounterVec,
    pub delivery_accepted: IntCounter,
    pub dead_letter_attempts: IntCounterVec,
    pub delivery_duration: Histogram,
    pub end_to_end: Histogram,
    pub lag: prometheus::Gauge,
    pub retention_headroom: prometheus::Gauge,
    pub in_flight: IntGauge,
    pub buffered: IntGauge,
    pub parked: IntGauge,
    pub left_out: IntGauge,
    pub shards: IntGaugeVec,
    pub shard_handover: Histogram,
    pub aws_calls: IntCounterVec,
    pub aws_call_duration: HistogramVec,
    pub data_loss: IntCounterVec,
    pub checkpoint_writes: IntCounterVec,
    pub checkpoint_age: prometheus::Gauge,
    pub lease_changes: IntCounterVec,
    pub lease_held: IntGaugeVec,
    pub lease_duration: GaugeVec,
    pub aws_refused: prometheus::Gauge,
    pub sink_refused: prometheus::Gauge,
    pub last_progress: GaugeVec,
    pub clock_offset: GaugeVec,
    pub legacy: Option<TableLegacy>,
}

/// The definitions contradict each other: a fault of this program.
#[derive(Debug, thiserror::Error)]
#[error("the metrics are defined wrongly: {0}")]
pub struct InvalidMetrics(#[from] prometheus::Error);

impl Metrics {
    /// A registry with everything in it.
    ///
    /// # Errors
    /// When two definitions contradict each other.
    pub fn new(version: &str, revision: &str) -> Result<Self, InvalidMetrics> {
        let registry = Registry::new();
        let r = &registry;
        let (build, ready) = (BUILD_INFO.int_gauge(r)?, READY.int_gauge(r)?);
        ready.with_label_values::<&str>(&[]).set(0);
        build.with_label_values(&[version, revision]).set(1);
        #[cfg(target_os = "linux")]
        r.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(Self {
            records_read: RECORDS_READ.counter(r)?,
            records_filtered: RECORDS_FILTERED.counter(r)?,
            events_delivered: EVENTS_DELIVERED.counter(r)?,
            events_dead_lettered: EVENTS_DEAD_LETTERED.counter(r)?,
            events_dropped: EVENTS_DROPPED.counter(r)?,
            delivery_attempts: DELIVERY_ATTEMPTS.counter(r)?,
            dead_letter_attempts: DEAD_LETTER_ATTEMPTS.counter(r)?,
            delivery_duration: DELIVERY_DURATION.histogram(r)?,
            end_to_end: END_TO_END.histogram(r)?,
            lag: LAG.gauge(r)?,
            retention_headroom: RETENTION_HEADROOM.gauge(r)?,
            in_flight: IN_FLIGHT.int_gauge(r)?,
            buffered: BUFFERED.int_gauge(r)?,
            parked: PARKED.int_gauge(r)?,
            left_out: LEFT_OUT.int_gauge(r)?,
            shards: SHARDS.int_gauge(r)?,
            shard_handover: SHARD_HANDOVER.histogram(r)?,
            aws_calls: AWS_CALLS.counter(r)?,
            aws_call_duration: AWS_CALL_DURATION.histogram(r)?,
            data_loss: DATA_LOSS.counter(r)?,
            checkpoint_writes: CHECKPOINT_WRITES.counter(r)?,
            checkpoint_age: CHECKPOINT_AGE.gauge(r)?,
            lease_changes: LEASE_CHANGES.counter(r)?,
            lease_held: LEASE_HELD.int_gauge(r)?,
            lease_duration: LEASE_DURATION.gauge(r)?,
            ready,
            aws_refused: AWS_REFUSED.gauge(r)?,
            sink_refused: SINK_REFUSED.gauge(r)?,
            last_progress: LAST_PROGRESS.gauge(r)?,
            clock_offset: CLOCK_OFFSET.gauge(r)?,
            sinks: SinkMetrics::new(r)?,
            scaler: ScalerMetrics::new(r)?,
            legacy: None,
            registry,
        })
    }

    /// The same with the counters that Knative's adapters have.
    ///
    /// # Errors
    /// When their names are taken.
    pub fn with_legacy(self, settings: LegacySettings) -> Result<Self, InvalidMetrics> {
        let legacy = Some(Legacy::new(&self.registry, settings)?);
        Ok(Self { legacy, ..self })
    }

    /// Shows whether `/readyz` answers 200.
    pub fn show_ready(&self, is_ready: bool) {
        self.ready.with_label_values::<&str>(&[]).set(is_ready.into());
    }

    /// The gauges of the sinks.
    pub fn sinks(&self) -> SinkMetrics {
        self.sinks.clone()
    }

    /// Those of the scaler.
    pub fn scaler(&self) -> ScalerMetrics {
        self.scaler.clone()
    }

    /// The metrics of one table. Those that count losses begin at zero at once, so that an alert sees the first one.
    pub fn table(&self, table: &str) -> TableMetrics {
        let t = &[table];
        for reason in LOSS_REASONS {
            self.data_loss.with_label_values(&[table, reason]);
        }
        self.checkpoint_writes.with_label_values(&[table, "error"]);
        TableMetrics {
            records_read: self.records_read.with_label_values(t),
            records_filtered: self.records_filtered.with_label_values(t),
            events_delivered: self.events_delivered.with_label_values(t),
            events_dead_lettered: self.events_dead_lettered.with_label_values(t),
            events_dropped: self.events_dropped.with_label_values(t),
            delivery_attempts: self.delivery_attempts.clone(),
            delivery_accepted: self.delivery_attempts.with_label_values(&[table, "202"]),
            dead_letter_attempts: self.dead_letter_attempts.clone(),
            delivery_duration: self.delivery_duration.with_label_values(t),
            end_to_end: self.end_to_end.with_label_values(t),
            lag: self.lag.with_label_values(t),
            retention_headroom: self.retention_headroom.with_label_values(t),
            in_flight: self.in_flight.with_label_values(t),
            buffered: self.buffered.with_label_values(t),
            parked: self.parked.with_label_values(t),
            left_out: self.left_out.with_label_values(t),
            shards: self.shards.clone(),
            shard_handover: self.shard_handover.with_label_values(t),
            aws_calls: self.aws_calls.clone(),
            aws_call_duration: self.aws_call_duration.clone(),
            data_loss: self.data_loss.clone(),
            checkpoint_writes: self.checkpoint_writes.clone(),
            checkpoint_age: self.checkpoint_age.with_label_values(t),
            lease_changes: self.lease_changes.clone(),
            lease_held: self.lease_held.clone(),
            lease_duration: self.lease_duration.clone(),
            aws_refused: self.aws_refused.with_label_values(t),
            sink_refused: self.sink_refused.with_label_values(t),
            last_progress: self.last_progress.clone(),
            clock_offset: self.clock_offset.clone(),
            legacy: self.legacy.as_ref().map(|legacy| legacy.table(table)),
        }
    }

    /// Everything in Prometheus's text format.
    ///
    /// # Errors
    /// When a metric cannot be written: a fault of this program.
    pub fn encode(&self) -> Result<String, InvalidMetrics> {
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl SinkMetrics {
    fn new(r: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            up: SINK_UP.int_gauge(r)?,
            request_rate_limit: SINK_REQUEST_RATE_LIMIT.gauge(r)?,
            request_rate_capacity: SINK_REQUEST_RATE_CAPACITY.gauge(r)?,
            requests_in_flight: SINK_REQUESTS_IN_FLIGHT.int_gauge(r)?,
            requests_in_flight_limit: SINK_REQUESTS_IN_FLIGHT_LIMIT.int_gauge(r)?,
            longest_lane: LONGEST_LANE.int_gauge(r)?,
        })
    }

    /// Shows this of a sink: `sink` or `dead-letter`. What was not measured has no series, so that no sum or quotient counts it.
    pub fn show(&self, sink: &str, gauges: SinkGauges) {
        let SinkGauges { is_up, rate_limit, capacity, in_flight, in_flight_limit } = gauges;
        let sink = &[sink];
        self.up.with_label_values(sink).set(is_up.into());
        self.request_rate_limit.with_label_values(sink).set(rate_limit.unwrap_or(f64::INFINITY));
        self.requests_in_flight.with_label_values(sink).set(whole(in_flight));
        self.requests_in_flight_limit.with_label_values(sink).set(whole(in_flight_limit));
        match capacity {
            Some(capacity) => self.request_rate_capacity.with_label_values(sink).set(capacity),
            // There may be none to remove.
            None => drop(self.request_rate_capacity.remove_label_values(sink)),
        }
    }

    /// Shows how many events of the item wait of which the most do.
    pub fn show_longest_lane(&self, events: usize) {
        self.longest_lane.with_label_values::<&str>(&[]).set(whole(events));
    }
}

impl ScalerMetrics {
    fn new(r: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            requests: SCALER_REQUESTS.counter(r)?,
            aws_calls: SCALER_AWS_CALLS.counter(r)?,
            tables: SCALER_TABLES.int_gauge(r)?,
            streams: SCALER_STREAMS.int_gauge(r)?,
            reads: SCALER_READS.int_gauge(r)?,
        })
    }

    /// A call of KEDA was answered so.
    pub fn answered(&self, method: &str, code: &str) {
        self.requests.with_label_values(&[method, code]).inc();
    }

    /// A call to AWS was answered so.
    pub fn aws_called(&self, operation: &str, result: &str) {
        self.aws_calls.with_label_values(&[operation, result]).inc();
    }

    /// So many tables are in this state: `active`, `inactive` or `unknown`.
    pub fn show_tables(&self, state: &str, tables: usize) {
        self.tables.with_label_values(&[state]).set(whole(tables));
    }

    /// Whether this replica reads.
    pub fn show_reads(&self, reads: bool) {
        self.reads.with_label_values::<&str>(&[]).set(reads.into());
    }

    /// A stream was opened, or has ended.
    pub fn stream_opened(&self, is_open: bool) {
        self.streams.with_label_values::<&str>(&[]).add(if is_open { 1 } else { -1 });
    }
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The page `docs/metrics.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Metrics\n\nServed at `/metrics` in Prometheus's text format, on `HTTP_ADDRESS` and, where it is set, on \
         `METRICS_ADDRESS`. Every name begins\nwith `dynamodb_streams_adapter_`; `table` is the table's name; where several tables of \
         `TABLE` have that name,\n`<region>/<account>/<name>`, and for several streams of one table that with the stream's label behind \
         it. The usual\n`process_*` metrics come with them.\n\n\
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
    page.push_str(legacy::PAGE);
    page
}

#[cfg(test)]
mod tests;
