//! What TriggerMesh's controller for `AWSDynamoDBSource` sets, most of it what Knative's adapters share.
//!
//! `K_SINK`, `K_SINK_TIMEOUT`, `K_LOGGING_CONFIG`, `NAMESPACE`, `NAME`, `K_COMPONENT` and `AWS_*` mean here what they mean
//! there.
//!
//! Sources: `pkg/sources/reconciler/common/env.go` of TriggerMesh; `EnvConfig` in `knative.dev/eventing/pkg/adapter/v2`;
//! the configurations of metrics and tracing in `knative.dev/pkg`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Map, Value};

use super::super::catalog;
use super::super::environment::Environment;
use super::{Foreign, Translator};

/// `K_COMPONENT` of the adapter that this program takes the place of.
const COMPONENT: &str = "awsdynamodbsource";

/// Source: `minPrometheusPort` in `knative.dev/pkg/metrics`.
const LOWEST_PORT: u16 = 1024;

static ARN: Foreign = Foreign { names: &["ARN"], takes: "the ARN of a DynamoDB table", secret: false };
static METRICS_PORT: Foreign =
    Foreign { names: &["METRICS_PROMETHEUS_PORT"], takes: "a port from 1024 to 65535", secret: false };
static METRICS_HOST: Foreign =
    Foreign { names: &["METRICS_PROMETHEUS_HOST"], takes: "an IP address, such as 0.0.0.0", secret: false };
static METRICS: Foreign =
    Foreign { names: &["K_METRICS_CONFIG"], takes: "Knative's metrics configuration as JSON", secret: false };
static TRACING: Foreign =
    Foreign { names: &["K_TRACING_CONFIG"], takes: "Knative's tracing configuration as JSON", secret: false };

/// `ARN` alone may be anybody's, so it counts only where nothing else names a table.
pub(super) fn is_spoken(environment: &Environment) -> bool {
    let is_component = environment.value("K_COMPONENT") == Some(Ok(COMPONENT));
    is_component || (environment.is_set(ARN.names[0]) && !environment.is_set(catalog::TABLE.name))
}

pub(super) fn translate(translator: &mut Translator<'_>) {
    match translator.find(&ARN) {
        Some(found) => {
            let is_arn = found.text.starts_with("arn:");
            let meant = if is_arn { Ok(found.text.clone()) } else { Err("not an ARN".into()) };
            translator.set(&catalog::TABLE, &found, meant);
        }
        None => translator.require(&catalog::TABLE, &ARN),
    }
    metrics_address(translator);
    metrics(translator);
    tracing(translator);
    translator.default(&catalog::EVENT_PROFILE, "triggermesh");
    translator.default(&catalog::LEGACY_METRICS, "on");
}

fn metrics_address(translator: &mut Translator<'_>) {
    let Some(found) = translator.find(&METRICS_PORT) else { return };
    let host = translator.find(&METRICS_HOST);
    let address = host.as_ref().map_or(Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), |host| host.text.parse());
    match (found.text.parse::<u16>().ok().filter(|port| *port >= LOWEST_PORT), address) {
        (None, _) => translator.set(&catalog::METRICS_ADDRESS, &found, Err("not an allowed port".into())),
        (Some(port), Ok(address)) => {
            translator.set(&catalog::METRICS_ADDRESS, &found, Ok(SocketAddr::from((address, port)).to_string()));
        }
        (Some(_), Err(_)) => {
            if let Some(host) = host {
                translator.set(&catalog::METRICS_ADDRESS, &host, Err("not an IP address".into()));
            }
        }
    }
}

/// The controller always sets it; only an exporter that this program does not have is worth a word.
fn metrics(translator: &mut Translator<'_>) {
    let Some(found) = translator.find(&METRICS) else { return };
    let configured = object(&found.text);
    let backend = configured.get("ConfigMap").and_then(|map| map.get("metrics.backend-destination")?.as_str());
    if let Some("opencensus" | "stackdriver") = backend {
        translator.ignore(found.name, "the adapter supports Prometheus metrics only".into());
    }
}

fn tracing(translator: &mut Translator<'_>) {
    let Some(found) = translator.find(&TRACING) else { return };
    if !matches!(object(&found.text).get("backend").and_then(Value::as_str), None | Some("" | "none")) {
        translator.ignore(found.name, "the adapter does not support tracing".into());
    }
}

fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}
