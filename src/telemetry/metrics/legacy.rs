//! The counters of Knative's adapters under their own names.
//!
//! Contract: `<component>_event_count` counts each event once, by what came of its first attempt: what an adapter without
//! retries counts. `<component>_retry_event_count` counts every further attempt. Where the original has an error's whole text
//! in `response_error`, there is one word here, so that the number of series is bounded.
//!
//! Sources: `pkg/metrics/source/stats_reporter.go` of `knative.dev/eventing` v0.30.0 for names and labels, `reportMetrics` in
//! its `pkg/adapter/v2/cloudevents.go` for their values, `metrics/prometheus_exporter.go` of `knative.dev/pkg` for the prefix.

use prometheus::{IntCounterVec, Opts, Registry};

use super::definitions::registered;

/// What the page says of the counters of Knative's adapters.
pub(super) const PAGE: &str = "
## The counters of Knative's adapters

With `LEGACY_METRICS=on`, the default with the variables of TriggerMesh, the adapter exports two more counters. Their names begin
with `K_COMPONENT` (`awsdynamodbsource` under TriggerMesh). `<component>_event_count` counts each event once, by the result of
its first attempt, like an adapter without retries. `<component>_retry_event_count` counts every further attempt. Their labels
are `event_source`, `event_type`, `name`, `namespace_name`, `resource_group`, `response_code`, `response_code_class`,
`response_error` and `response_timeout`. `response_error` has the values of the label `code` above, not a whole text.
`event_type` is empty with `EVENT_PROFILE=aws`, because that profile has several types.
";

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
pub(super) struct Legacy {
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
    pub(super) fn new(registry: &Registry, settings: LegacySettings) -> prometheus::Result<Self> {
        let prefix = sanitized(&settings.component);
        let counter = |name: &str, help: &str| {
            registered(registry, IntCounterVec::new(Opts::new(format!("{prefix}_{name}"), help), &LEGACY_LABELS))
        };
        Ok(Self {
            events: counter("event_count", "Number of events sent")?,
            retries: counter("retry_event_count", "Number of retry events sent")?,
            settings,
        })
    }

    pub(super) fn table(&self, table: &str) -> TableLegacy {
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
