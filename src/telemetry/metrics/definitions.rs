//! What each metric is called, which labels it has, and what it says.

use prometheus::core::Collector;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

/// What every name begins with.
pub const PREFIX: &str = "dynamodb_streams_adapter_";

/// What a metric is called, counts and means.
#[derive(Debug)]
pub struct Definition {
    /// Its name without the prefix.
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

/// The type of a metric, as Prometheus has it.
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
    CLOCK_OFFSET = "clock_offset_seconds", Kind::Gauge, ["table"],
        "By how much AWS's clock was ahead of this process's at the last DescribeStream, in whole seconds; negative where this process's is ahead; no series before that.";
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
    pub(super) fn counter(&self, registry: &Registry) -> prometheus::Result<IntCounterVec> {
        registered(registry, IntCounterVec::new(self.options(), self.labels))
    }

    pub(super) fn gauge(&self, registry: &Registry) -> prometheus::Result<GaugeVec> {
        registered(registry, GaugeVec::new(self.options(), self.labels))
    }

    pub(super) fn int_gauge(&self, registry: &Registry) -> prometheus::Result<IntGaugeVec> {
        registered(registry, IntGaugeVec::new(self.options(), self.labels))
    }

    pub(super) fn histogram(&self, registry: &Registry) -> prometheus::Result<HistogramVec> {
        let buckets = match self.kind {
            Kind::Histogram(buckets) => buckets.to_vec(),
            Kind::Counter | Kind::Gauge => prometheus::DEFAULT_BUCKETS.to_vec(),
        };
        let options = HistogramOpts { common_opts: self.options(), buckets };
        registered(registry, HistogramVec::new(options, self.labels))
    }

    fn options(&self) -> Opts {
        Opts::new(format!("{PREFIX}{}", self.name), self.help)
    }
}

/// A metric, once it is in the registry.
pub(super) fn registered<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> prometheus::Result<M> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
