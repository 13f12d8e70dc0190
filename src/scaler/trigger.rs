//! What a ScaledObject asks for: the metadata of its trigger, which anybody may have written who may create a ScaledObject. Pure.
//!
//! Contract: it takes what KEDA's own `aws-dynamodb-streams` takes, and more. What is set to blanks is not set. What is not known is
//! ignored, and named; values that KEDA has resolved from a container's environment (`...FromEnv`) are neither kept nor shown.
//!
//! Source: `pkg/scalers/aws_dynamodb_streams_scaler.go` of KEDA v2.20.2.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::{TableRef, is_endpoint_url, is_group_name, is_region};

/// What KEDA adds to the metadata for itself.
const OF_KEDA: [&str; 3] = ["scalerAddress", "enableTLS", "unsafeSsl"];

/// The most characters of a key of the metadata that are shown, and the most keys.
const SHOWN_CHARS: usize = 40;
const SHOWN_KEYS: usize = 5;

/// The longest value of the metadata: an ARN of a table has less.
const LONGEST_VALUE: usize = 1024;

/// A trigger, understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trigger {
    pub(super) table: TableRef,
    /// That of the metadata, else that of the table's ARN.
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) metric: Metric,
    /// The value for each replica; more than zero.
    pub(super) target: f64,
    /// At values above this one the target is active.
    pub(super) activation: f64,
    /// A table to which nothing was written lately needs no replica.
    pub(super) scale_to_zero: bool,
    /// Whose positions `lag` is taken from.
    pub(super) consumer_group: String,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metric {
    /// Shards that are written to.
    OpenShards,
    /// All shards that a listing shows, those of the last day too: KEDA's own count.
    ListedShards,
    /// Open shards that had records lately.
    ActiveShards,
    /// Seconds: the age of the oldest record that an adapter has not settled.
    Lag,
    /// Records a second.
    RecordsPerSecond,
}

/// What is wrong with a trigger's metadata: all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct InvalidTrigger(String);

/// Keys of the metadata that have no effect, for the operator's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ignored(Vec<String>);

/// What a metric takes: its keys for the target and for activation, and the target where none is set.
struct MetricKeys {
    target: &'static str,
    activation: &'static str,
    default: f64,
    /// KEDA reads its numbers of shards so.
    is_whole: bool,
}

const SHARDS: MetricKeys =
    MetricKeys { target: "shardCount", activation: "activationShardCount", default: 2.0, is_whole: true };
const SECONDS: MetricKeys =
    MetricKeys { target: "lagSeconds", activation: "activationLagSeconds", default: 60.0, is_whole: false };
const RATE: MetricKeys = MetricKeys {
    target: "recordsPerSecond",
    activation: "activationRecordsPerSecond",
    default: 100.0,
    is_whole: false,
};

impl Metric {
    const NAMES: [(&'static str, Self); 5] = [
        ("open-shards", Self::OpenShards),
        ("listed-shards", Self::ListedShards),
        ("active-shards", Self::ActiveShards),
        ("lag", Self::Lag),
        ("records-per-second", Self::RecordsPerSecond),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, metric)| *metric == self).map_or("", |(name, _)| name)
    }

    fn keys(self) -> MetricKeys {
        match self {
            Self::OpenShards | Self::ListedShards | Self::ActiveShards => SHARDS,
            Self::Lag => SECONDS,
            Self::RecordsPerSecond => RATE,
        }
    }

    /// Whether it can only be known by reading records.
    pub(super) fn needs_records(self) -> bool {
        matches!(self, Self::ActiveShards | Self::RecordsPerSecond)
    }
}

impl Trigger {
    /// Understands a trigger's metadata; with it comes what has no effect.
    ///
    /// # Errors
    /// With all that is wrong.
    pub(super) fn parse(metadata: &BTreeMap<String, String>) -> Result<(Self, Ignored), InvalidTrigger> {
        let mut reader = Reader { metadata, known: Vec::new(), mistakes: Vec::new() };
        let trigger = Self::read(&mut reader);
        match trigger {
            Ok(trigger) if reader.mistakes.is_empty() => Ok((trigger, reader.ignored())),
            _ => Err(InvalidTrigger(reader.mistakes.join("; "))),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, MistakeNoted> {
        let table = reader.parsed("tableName", "the name or the ARN of a table", |text| {
            text.parse::<TableRef>().ok().filter(|table| table.stream_arn().is_none())
        });
        let table = table
            .and_then(|table| table.ok_or_else(|| reader.note("missing required parameter \"tableName\"".to_owned())));
        let region = reader.parsed("awsRegion", "a region", |text| is_region(text).then(|| text.to_owned()));
        let endpoint =
            reader.parsed("awsEndpoint", "an http or https URL", |text| is_endpoint_url(text).then(|| text.to_owned()));
        let expected = Metric::NAMES.map(|(name, _)| name).join(", ");
        let metric = reader.parsed("metric", &format!("one of {expected}"), |text| {
            Metric::NAMES.iter().find(|(name, _)| *name == text).map(|(_, metric)| *metric)
        });
        let metric = metric?.unwrap_or(Metric::OpenShards);
        let keys = metric.keys();
        let target =
            reader.parsed(keys.target, keys.expected(), |text| keys.number(text).filter(|n| keys.is_target(*n)));
        let activation =
            reader.parsed(keys.activation, "a number", |text| keys.number(text).filter(|number| number.is_finite()));
        let scale_to_zero = reader.parsed("scaleToZero", "true or false", |text| text.parse().ok());
        let consumer_group = match metric {
            Metric::Lag => reader.parsed("consumerGroup", "a consumer group's name", |text| {
                is_group_name(text).then(|| text.to_owned())
            }),
            _ => Ok(None),
        };
        let (table, region) = (table?, region?);
        Ok(Self {
            region: region.or_else(|| table.region().map(str::to_owned)),
            table,
            endpoint: endpoint?,
            metric,
            target: target?.unwrap_or(keys.default),
            activation: activation?.unwrap_or(0.0),
            scale_to_zero: scale_to_zero?.unwrap_or(metric != Metric::ListedShards),
            consumer_group: consumer_group?.unwrap_or_else(|| "default".to_owned()),
        })
    }

    /// Whether records have to be read to answer.
    pub(super) fn needs_reading(&self) -> bool {
        self.scale_to_zero || self.metric.needs_records()
    }

    /// The metric's name without the `s0-` that KEDA puts before it: stable, and a segment of a path.
    pub(super) fn metric_name(&self) -> String {
        let is_kept = |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter);
        let table = self.table.table_name().replace(|letter| !is_kept(letter), "-");
        format!("aws-dynamodb-streams-{}-{table}", self.metric.name())
    }
}

impl MetricKeys {
    fn expected(&self) -> &'static str {
        if self.is_whole { "a whole number from 1" } else { "a number from 0.001" }
    }

    /// As Go's JSON reads it: no plus sign; a number of shards has no fraction and no exponent.
    fn number(&self, text: &str) -> Option<f64> {
        if text.starts_with('+') {
            return None;
        }
        match self.is_whole {
            true => text.parse::<i64>().ok().map(|number| number as f64),
            false => {
                text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit() || b".-".contains(&byte)))
            }
        }
    }

    /// A quantity of Kubernetes has three decimals, and a target of zero is none.
    fn is_target(&self, number: f64) -> bool {
        (0.001..=1e15).contains(&number)
    }
}

/// A value cannot be used; the reader knows why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MistakeNoted;

struct Reader<'m> {
    metadata: &'m BTreeMap<String, String>,
    known: Vec<&'static str>,
    mistakes: Vec<String>,
}

impl Reader<'_> {
    /// What a key is set to; none if it is not set.
    fn parsed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, MistakeNoted> {
        self.known.push(key);
        let Some(text) = self.metadata.get(key).map(|text| text.trim()).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let value = Some(text).filter(|text| text.len() <= LONGEST_VALUE).and_then(&parse);
        // The value is not repeated: it may be a secret in the wrong place.
        value.map(Some).ok_or_else(|| self.note(format!("{key} must be {expected}")))
    }

    fn note(&mut self, mistake: String) -> MistakeNoted {
        self.mistakes.push(mistake);
        MistakeNoted
    }

    fn ignored(&self) -> Ignored {
        let is_ignored = |key: &&String| !self.known.contains(&key.as_str()) && !OF_KEDA.contains(&key.as_str());
        let mut keys: Vec<String> = self.metadata.keys().filter(is_ignored).cloned().collect();
        keys.sort_unstable();
        Ignored(keys)
    }
}

/// Says what takes the place of what KEDA's own scaler takes.
impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, key) in self.0.iter().take(SHOWN_KEYS).enumerate() {
            let shown: String = key.chars().take(SHOWN_CHARS).collect();
            let separator = if place == 0 { "" } else { ", " };
            write!(f, "{separator}{shown:?}{}", instead(key))?;
        }
        match self.0.len().saturating_sub(SHOWN_KEYS) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

fn instead(key: &str) -> &'static str {
    match key {
        "identityOwner" | "awsAccessKeyID" | "awsAccessKeyIDFromEnv" | "awsSecretAccessKeyFromEnv" => {
            " (credentials are the scaler's own: SCALER_RULES names them by namespace and table)"
        }
        "tlsCertFile" => " (the connection has no TLS by it: set `enableTLS`, or `caCert` of a TriggerAuthentication)",
        "shardCount" | "activationShardCount" | "consumerGroup" => " (another `metric` takes it)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn parsed(more: &[(&str, &str)]) -> Result<(Trigger, Ignored), InvalidTrigger> {
        Trigger::parse(&metadata(&[&[("tableName", "orders"), ("awsRegion", "eu-west-1")], more].concat()))
    }

    fn trigger(more: &[(&str, &str)]) -> Trigger {
        parsed(more).expect("a trigger").0
    }

    fn refused(more: &[(&str, &str)]) -> String {
        parsed(more).expect_err("it was accepted").to_string()
    }

    #[test]
    fn what_kedas_own_scaler_takes_is_taken_with_its_defaults() {
        let own = trigger(&[]);
        assert_eq!((own.table.as_str(), own.region.as_deref()), ("orders", Some("eu-west-1")));
        assert_eq!((own.metric, own.target, own.activation), (Metric::OpenShards, 2.0, 0.0));
        let all = [("shardCount", " 7 "), ("activationShardCount", "-1"), ("awsEndpoint", "http://localhost:4566")];
        let all = trigger(&all);
        assert_eq!((all.target, all.activation, all.endpoint.as_deref()), (7.0, -1.0, Some("http://localhost:4566")));
        let blank = [("shardCount", ""), ("activationShardCount", " "), ("awsEndpoint", ""), ("metric", "")];
        assert_eq!(trigger(&blank), own);
    }

    #[test]
    fn each_metric_has_its_own_target_and_activation() {
        for (metric, keys, expected) in [
            ("open-shards", ["shardCount", "activationShardCount"], (2.0, 0.0)),
            ("listed-shards", ["shardCount", "activationShardCount"], (2.0, 0.0)),
            ("active-shards", ["shardCount", "activationShardCount"], (2.0, 0.0)),
            ("lag", ["lagSeconds", "activationLagSeconds"], (60.0, 0.0)),
            ("records-per-second", ["recordsPerSecond", "activationRecordsPerSecond"], (100.0, 0.0)),
        ] {
            let of = |more: &[(&str, &str)]| {
                let trigger = trigger(&[&[("metric", metric)], more].concat());
                (trigger.target, trigger.activation)
            };
            assert_eq!(of(&[]), expected, "{metric}");
            assert_eq!(of(&[(keys[0], "5"), (keys[1], "3")]), (5.0, 3.0), "{metric}");
        }
        assert_eq!(trigger(&[("metric", "lag"), ("lagSeconds", "0.5")]).target, 0.5);
        assert_eq!(trigger(&[("metric", "lag"), ("consumerGroup", "billing")]).consumer_group, "billing");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_without_repeating_it() {
        for (key, value) in [
            ("tableName", "a b"),
            ("tableName", "arn:aws:dynamodb:eu-west-1:111122223333:table/orders/stream/x"),
            ("awsRegion", "eu west"),
            ("awsRegion", "evil.example.com/"),
            ("awsEndpoint", "file:///etc/passwd"),
            ("metric", "iterator-age"),
            ("shardCount", "0"),
            ("shardCount", "-2"),
            ("shardCount", "2.5"),
            ("shardCount", "1e1"),
            ("shardCount", "+2"),
            ("shardCount", "9223372036854775808"),
            ("activationShardCount", "a"),
            ("scaleToZero", "yes"),
        ] {
            let why = refused(&[(key, value)]);
            assert!(why.contains(key) && (value.len() < 3 || !why.contains(value)), "{key} {value}: {why}");
        }
        for value in ["NaN", "inf", "0", "0.0001", "1e3", "1e400"] {
            assert!(refused(&[("metric", "lag"), ("lagSeconds", value)]).contains("lagSeconds"), "{value}");
        }
        let long = "x".repeat(5000);
        assert!(refused(&[("metric", "lag"), ("consumerGroup", &long)]).len() < 100);
        let missing = Trigger::parse(&metadata(&[("tableName", " ")])).expect_err("no table").to_string();
        assert_eq!(missing, "missing required parameter \"tableName\"");
        let two = refused(&[("shardCount", "x"), ("scaleToZero", "x")]);
        assert!(two.contains("shardCount") && two.contains("scaleToZero"), "{two}");
    }

    #[test]
    fn what_has_no_effect_is_named_with_what_takes_its_place_and_without_its_value() {
        let secret = "wJalrXUtnFEMI";
        let (_, ignored) = parsed(&[
            ("scalerAddress", "scaler:6000"),
            ("enableTLS", "true"),
            ("identityOwner", "operator"),
            ("awsSecretAccessKeyFromEnv", secret),
            ("shardcount", "3"),
        ])
        .expect("a trigger");
        let text = ignored.to_string();
        assert!(text.contains("\"identityOwner\" (credentials are the scaler's own"), "{text}");
        assert!(text.contains("\"shardcount\"") && !text.contains("scalerAddress"), "{text}");
        assert!(!text.contains(secret) && !format!("{ignored:?}").contains(secret), "{text}");
        let many: Vec<(String, String)> =
            (0..99).map(|n| (format!("{n}{}", "x\n".repeat(500)), String::new())).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let text = parsed(&many).expect("a trigger").1.to_string();
        assert!(text.len() < 400 && !text.contains('\n') && text.ends_with("and 94 more"), "{text}");
    }

    #[test]
    fn the_region_is_that_of_the_tables_arn_where_none_is_set() {
        let arn = "arn:aws:dynamodb:eu-north-1:111122223333:table/orders";
        let (trigger, _) = Trigger::parse(&metadata(&[("tableName", arn)])).expect("a trigger");
        assert_eq!(trigger.region.as_deref(), Some("eu-north-1"));
    }

    #[test]
    fn a_metrics_name_is_a_segment_of_a_path_and_stable() {
        let name = |table: &str, metric| trigger(&[("tableName", table), ("metric", metric)]).metric_name();
        assert_eq!(name("orders", ""), "aws-dynamodb-streams-open-shards-orders");
        assert_eq!(name("a.b_c-D", "lag"), "aws-dynamodb-streams-lag-a-b_c-D");
        let arn = "arn:aws:dynamodb:eu-north-1:111122223333:table/orders";
        assert_eq!(name(arn, ""), "aws-dynamodb-streams-open-shards-orders");
    }
}
