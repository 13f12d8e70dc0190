//! All metrics: one definition each, from which registration and `docs/metrics.md` derive.
//!
//! Their names, labels and units are a contract with dashboards and alerts. `table` is the only label that grows with
//! the configuration; shards and items never are labels.

mod definition;
mod legacy;

use prometheus::{
    Encoder, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

pub use definition::{ALL, Definition, Kind, markdown};

pub use legacy::{LegacySettings, TableLegacy};

use definition as define;
use legacy::Legacy;

/// The process's metrics.
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
    shards: IntGaugeVec,
    shard_handover: HistogramVec,
    aws_calls: IntCounterVec,
    aws_call_duration: HistogramVec,
    data_loss: IntCounterVec,
    checkpoint_writes: IntCounterVec,
    checkpoint_age: prometheus::GaugeVec,
    legacy: Option<Legacy>,
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
    pub shards: IntGaugeVec,
    pub shard_handover: Histogram,
    pub aws_calls: IntCounterVec,
    pub aws_call_duration: HistogramVec,
    pub data_loss: IntCounterVec,
    pub checkpoint_writes: IntCounterVec,
    pub checkpoint_age: prometheus::Gauge,
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
        let build = define::BUILD_INFO.int_gauge(r)?;
        build.with_label_values(&[version, revision]).set(1);
        #[cfg(target_os = "linux")]
        r.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(Self {
            records_read: define::RECORDS_READ.counter(r)?,
            records_filtered: define::RECORDS_FILTERED.counter(r)?,
            events_delivered: define::EVENTS_DELIVERED.counter(r)?,
            events_dead_lettered: define::EVENTS_DEAD_LETTERED.counter(r)?,
            events_dropped: define::EVENTS_DROPPED.counter(r)?,
            delivery_attempts: define::DELIVERY_ATTEMPTS.counter(r)?,
            dead_letter_attempts: define::DEAD_LETTER_ATTEMPTS.counter(r)?,
            delivery_duration: define::DELIVERY_DURATION.histogram(r)?,
            end_to_end: define::END_TO_END.histogram(r)?,
            lag: define::LAG.gauge(r)?,
            retention_headroom: define::RETENTION_HEADROOM.gauge(r)?,
            in_flight: define::IN_FLIGHT.int_gauge(r)?,
            buffered: define::BUFFERED.int_gauge(r)?,
            parked: define::PARKED.int_gauge(r)?,
            shards: define::SHARDS.int_gauge(r)?,
            shard_handover: define::SHARD_HANDOVER.histogram(r)?,
            aws_calls: define::AWS_CALLS.counter(r)?,
            aws_call_duration: define::AWS_CALL_DURATION.histogram(r)?,
            data_loss: define::DATA_LOSS.counter(r)?,
            checkpoint_writes: define::CHECKPOINT_WRITES.counter(r)?,
            checkpoint_age: define::CHECKPOINT_AGE.gauge(r)?,
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

    /// The metrics of one table. Those that count losses begin at zero at once, so that an alert sees the first one.
    pub fn table(&self, table: &str) -> TableMetrics {
        let t = &[table];
        for reason in ["trimmed", "shard-missing", "stream-missing", "undecodable"] {
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
            shards: self.shards.clone(),
            shard_handover: self.shard_handover.with_label_values(t),
            aws_calls: self.aws_calls.clone(),
            aws_call_duration: self.aws_call_duration.clone(),
            data_loss: self.data_loss.clone(),
            checkpoint_writes: self.checkpoint_writes.clone(),
            checkpoint_age: self.checkpoint_age.with_label_values(t),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_contract_is_exported_under_its_name() {
        let metrics = Metrics::new("1.2.3", "abc").unwrap();
        let table = metrics.table("orders");
        table.delivery_attempts.with_label_values(&["orders", "202"]).inc();
        table.dead_letter_attempts.with_label_values(&["orders", "202"]).inc();
        table.shards.with_label_values(&["orders", "reading"]).set(1);
        table.aws_calls.with_label_values(&["orders", "GetRecords", "empty"]).inc();
        table.aws_call_duration.with_label_values(&["orders", "GetRecords"]).observe(0.01);
        let text = metrics.encode().unwrap();
        for definition in ALL.iter().filter(|definition| !definition.is_for_later()) {
            let name = format!("# TYPE {}{} ", definition::PREFIX, definition.name);
            assert!(text.contains(&name), "{name} is missing");
        }
        assert!(text.contains("process_resident_memory_bytes"));
        assert!(text.contains(r#"build_info{revision="abc",version="1.2.3"} 1"#), "{text}");
    }

    #[test]
    fn the_documentation_lists_exactly_the_metrics_there_are() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let documented = std::fs::read_to_string(path).unwrap();
        assert_eq!(documented, markdown(), "run the tests with UPDATE_DOCS=1 to write it anew");
    }
}
