//! All metrics: one definition each, from which registration and `docs/metrics.md` derive.
//!
//! Their names, labels and units are a contract with dashboards and alerts. `table` is the only label that grows with
//! the configuration; shards and items never are labels.
//!
//! At the end: the counters of Knative's adapters under their own names.
//!
//! Contract: `<component>_event_count` counts each event once, by what came of its first attempt: what an adapter without
//! retries counts. `<component>_retry_event_count` counts every further attempt. Where the original has an error's whole text
//! in `response_error`, there is one word here, so that the number of series is bounded.
//!
//! Sources: `pkg/metrics/source/stats_reporter.go` of `knative.dev/eventing` v0.30.0 for names and labels, `reportMetrics` in
//! its `pkg/adapter/v2/cloudevents.go` for their values, `metrics/prometheus_exporter.go` of `knative.dev/pkg` for the prefix.

use std::fmt::Write;

use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// The values of the label `reason` of `data_loss_total`: each is exported from the start, so that an alert sees the first loss.
pub(crate) const LOSS_REASONS: [&str; 4] = ["trimmed", "shard-missing", "stream-missing", "undecodable"];

/// The values of the label `kind` of `lease_changes_total`.
pub(crate) const LEASE_CHANGE_KINDS: [&str; 4] = ["taken", "received", "released", "lost"];

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

/// What every name begins with.
pub const PREFIX: &str = "dynamodb_streams_adapter_";

#[derive(Debug)]
pub struct Definition {
    /// Its name without the prefix.
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
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
        $(const $constant: Definition =
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
        "Requests to the sink by result: the HTTP status, or timeout, connect, reset, tls, malformed, credentials, descriptors, other. A batch counts once, for the table of its first event.";
    DEAD_LETTER_ATTEMPTS = "dead_letter_attempts_total", Kind::Counter, ["table", "code"],
        "Requests to the dead-letter sink by result, as in delivery_attempts_total.";
    DELIVERY_DURATION = "delivery_duration_seconds", Kind::Histogram(DELIVERY_BUCKETS), ["table"],
        "Duration of one request to the sink.";
    END_TO_END = "end_to_end_seconds", Kind::Histogram(AGE_BUCKETS), ["table"],
        "Time from a record's creation to the sink's acknowledgement; creation times are whole seconds.";
    LAG = "lag_seconds", Kind::Gauge, ["table"],
        "Age of the oldest record that is known not to be settled, from the stored positions on; 0 when caught up. Where AWS has refused \
        since the start, or reading is stopped, the time since which the stored positions know nothing of what is written. NaN while the stored \
        positions are not known, such as those of a table's name that AWS has not explained yet.";
    RETENTION_HEADROOM = "retention_headroom_seconds", Kind::Gauge, ["table"],
        "Time left until DynamoDB trims the oldest unsettled record, or the oldest one that there may be and was not read yet; NaN as lag_seconds.";
    IN_FLIGHT = "in_flight_events", Kind::Gauge, ["table"], "Events sent to the sink that wait for its response.";
    BUFFERED = "buffered_bytes", Kind::Gauge, ["table"], "Memory used by records that are read and not settled, and reserved for requested pages.";
    PARKED = "parked_items", Kind::Gauge, ["table"],
        "Items whose oldest event keeps failing; the event is retried at RETRY_BACKOFF_MAX.";
    LEFT_OUT = "left_out_items", Kind::Gauge, ["table"],
        "Items with more unsettled changes than fit into memory; the rest is read from DynamoDB again when the first ones are settled.";
    SHARDS = "shards", Kind::Gauge, ["table", "state"],
        "Shards by state: reading, waiting (for the parent shard), finished, elsewhere (not used in this version).";
    SHARD_HANDOVER = "shard_handover_seconds", Kind::Histogram(HANDOVER_BUCKETS), ["table"],
        "Time from the end of a parent shard to the first response for its child; with order by shard, from the moment when \
        everything in the parent was settled.";
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
    LEASE_CHANGES = "lease_changes_total", Kind::Counter, ["table", "kind"],
        "Changes of the table's lease: taken (it was free, or had ended), received (another process has released it), released, lost.";
    LEASE_HELD = "lease_held", Kind::Gauge, ["table"],
        "1 while this process has the table's lease and reads it, 0 while it waits for it; no series with a store without leases.";
    LEASE_DURATION = "lease_duration_seconds", Kind::Gauge, ["table"],
        "LEASE_DURATION of this process: a lease that nobody renews is taken over a little later; no series with a store without leases.";
    READY = "ready", Kind::Gauge, [], "1 while /readyz answers 200, else 0.";
    AWS_REFUSED = "aws_refused_seconds", Kind::Gauge, ["table"],
        "How long AWS has refused or failed calls that reading needs; 0 while it answers.";
    SINK_REFUSED = "sink_refused_seconds", Kind::Gauge, ["table"],
        "How long every attempt for the table has failed by the sink's fault; 0 after any other one.";
    LAST_PROGRESS = "last_progress_timestamp_seconds", Kind::Gauge, ["table"],
        "Unix time at which this process last stored a position that had moved; no series before that. That one still holds is stored too, and is no progress.";
    SINK_UP = "sink_up", Kind::Gauge, ["sink"],
        "1; 0 while the sink counts as failing or as refusing and gets one trial request a second. The label is sink or dead-letter.";
    SINK_REQUEST_RATE_LIMIT = "sink_request_rate_limit", Kind::Gauge, ["sink"],
        "Requests a second that the adapter allows itself, found by measuring what the sink takes; +Inf while no limit was found. \
        DELIVERY_RATE_MAX is not in it.";
    SINK_REQUEST_RATE_CAPACITY = "sink_request_rate_capacity", Kind::Gauge, ["sink"],
        "Requests a second that the sink takes, as measured when it had too many; no series before that.";
    SINK_REQUESTS_IN_FLIGHT = "sink_requests_in_flight", Kind::Gauge, ["sink"], "Requests that wait for the sink's response.";
    SINK_REQUESTS_IN_FLIGHT_LIMIT = "sink_requests_in_flight_limit", Kind::Gauge, ["sink"],
        "Requests that may wait for the sink's response at once: as many as the rate needs, at most DELIVERY_CONCURRENCY.";
    LONGEST_LANE = "longest_lane_events", Kind::Gauge, [],
        "Events that wait of the item of which the most do; 0 where no item has several. They go one after the other.";
    SCALER_REQUESTS = "scaler_requests_total", Kind::Counter, ["method", "code"],
        "Calls of KEDA to the scaler, by gRPC method and status code.";
    SCALER_AWS_CALLS = "scaler_aws_calls_total", Kind::Counter, ["operation", "result"],
        "Calls of the scaler to AWS by result: ok, records, empty, or the error's code.";
    SCALER_TABLES = "scaler_tables", Kind::Gauge, ["state"],
        "Tables that the scaler watches: active, inactive, or unknown (its calls about them end in UNAVAILABLE).";
    SCALER_STREAMS = "scaler_streams", Kind::Gauge, [], "Calls of StreamIsActive that are open.";
    SCALER_READS = "scaler_reads", Kind::Gauge, [],
        "1 while this replica of the scaler reads and answers, 0 while it asks the one that does.";
}

impl Definition {
    fn counter(&self, registry: &Registry) -> prometheus::Result<IntCounterVec> {
        let metric = IntCounterVec::new(self.options(), self.labels)?;
        registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauge(&self, registry: &Registry) -> prometheus::Result<GaugeVec> {
        let metric = GaugeVec::new(self.options(), self.labels)?;
        registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn int_gauge(&self, registry: &Registry) -> prometheus::Result<IntGaugeVec> {
        let metric = IntGaugeVec::new(self.options(), self.labels)?;
        registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn histogram(&self, registry: &Registry) -> prometheus::Result<HistogramVec> {
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

/// What the page says of the counters of Knative's adapters.
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
    page.push_str(LEGACY);
    page
}

const LEGACY_LABELS: [&str; 9] = [
    "event_source",
    "event_type",
    "name",
    "namespace_name",
    "resource_group",
    "response_code",
    "response_code_class",
    "response_error",
    "response_timeout",
];

/// What the labels hold that is the same for all events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LegacySettings {
    /// What the names begin with: `K_COMPONENT`.
    pub component: String,
    /// `NAME`
    pub name: String,
    /// `NAMESPACE`
    pub namespace: String,
    /// The kind of object that this process serves, as `<plural>.<group>`.
    pub resource_group: String,
    /// The type of events; empty where it is not the same for all.
    pub event_type: String,
    /// The source of events, by the table's label.
    pub event_sources: Vec<(String, String)>,
}

#[derive(Clone)]
struct Legacy {
    events: IntCounterVec,
    retries: IntCounterVec,
    settings: LegacySettings,
}

/// One table's part of them.
pub struct TableLegacy {
    legacy: Legacy,
    event_source: String,
}

impl Legacy {
    fn new(registry: &Registry, settings: LegacySettings) -> prometheus::Result<Self> {
        let prefix = sanitized(&settings.component);
        let counter = |name: &str, help: &str| {
            let counter = IntCounterVec::new(Opts::new(format!("{prefix}_{name}"), help), &LEGACY_LABELS)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            events: counter("event_count", "Number of events sent")?,
            retries: counter("retry_event_count", "Number of retry events sent")?,
            settings,
        })
    }

    fn table(&self, table: &str) -> TableLegacy {
        let known = self.settings.event_sources.iter().find(|(name, _)| name == table);
        let event_source = known.map_or(table, |(_, source)| source).to_owned();
        TableLegacy { legacy: self.clone(), event_source }
    }
}

impl TableLegacy {
    /// Counts an attempt for so many events: `code` is a status, or a fault in one word such as `timeout`; `first` is
    /// whether they were tried for the first time.
    pub fn attempted(&self, events: usize, first: bool, code: &str) {
        let is_status = code.bytes().all(|byte| byte.is_ascii_digit());
        let class = format!("{}xx", code.get(..1).unwrap_or_default());
        let (code, class, error, timeout) = match (is_status, code) {
            (true, _) => (code, class.as_str(), "", ""),
            (false, "timeout") => ("", "", code, "true"),
            (false, _) => ("", "", code, "false"),
        };
        let LegacySettings { name, namespace, resource_group, event_type, .. } = &self.legacy.settings;
        let labels: [&str; 9] =
            [&self.event_source, event_type, name, namespace, resource_group, code, class, error, timeout];
        let counter = if first { &self.legacy.events } else { &self.legacy.retries };
        counter.with_label_values(&labels).inc_by(events as u64);
    }
}

/// A name as Prometheus takes it.
fn sanitized(text: &str) -> String {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let name: String = text.chars().map(|letter| if allowed(letter) { letter } else { '_' }).collect();
    match name.chars().next() {
        Some(first) if first.is_ascii_digit() => format!("key_{name}"),
        Some(_) => name,
        None => "adapter".to_owned(),
    }
}

#[cfg(test)]
mod tests;
