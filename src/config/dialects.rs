//! What two controllers set for the adapters that this program takes the place of.
//!
//! Knative's controller for `IntegrationSource` sets the Kamelet `aws-ddb-streams-source` as environment variables. It
//! writes property names without separators (`STREAMITERATORTYPE`), the Kamelet's own documentation with
//! (`STREAM_ITERATOR_TYPE`); both are read. It sets `DELAY=0` and `OVERRIDEENDPOINT=false` where its user said nothing.
//! Sources: `makeEnv` in `knative.dev/eventing/pkg/reconciler/integration/source/resources`; the properties of the
//! Kamelet `aws-ddb-streams-source`.
//!
//! TriggerMesh's controller for `AWSDynamoDBSource` sets, most of all, what Knative's adapters share: `K_SINK`,
//! `K_SINK_TIMEOUT`, `K_LOGGING_CONFIG`, `NAMESPACE`, `NAME`, `K_COMPONENT` and `AWS_*` mean here what they mean there.
//! Sources: `pkg/sources/reconciler/common/env.go` of TriggerMesh; `EnvConfig` in
//! `knative.dev/eventing/pkg/adapter/v2`; the configurations of metrics and tracing in `knative.dev/pkg`.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::{Map, Value};

use super::aws::{Secret, StaticCredentials};
use super::parse::{InvalidValue, sendable_url};
use super::reader::Environment;
use super::sdk_variables::{check_header_text, endpoint_url, is_region, warn_of_mix_ups};
use super::translator::{Foreign, Translator};
use super::{event, process, sink, source};

/// What the properties of the Kamelet begin with.
const KAMELET: &str = "CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_";

/// A property of the Kamelet, in each of its spellings.
macro_rules! property {
    ($($spelling:literal)|+, $accepts:literal, $secret:literal) => {
        Foreign {
            names: &[$(concat!("CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_", $spelling)),+],
            accepts: $accepts,
            secret: $secret,
        }
    };
}

static TABLE: Foreign = property!("TABLE", "the name of a table", false);
static REGION: Foreign = property!("REGION", "an AWS region, such as eu-west-1", false);
static START: Foreign = property!("STREAMITERATORTYPE" | "STREAM_ITERATOR_TYPE", "FROM_LATEST or FROM_START", false);
static DELAY: Foreign =
    property!("DELAY", "milliseconds up to 86400000, or a duration such as 5s; 0 counts as not set", false);
static OVERRIDE: Foreign = property!("OVERRIDEENDPOINT" | "OVERRIDE_ENDPOINT", "true or false", false);
static ENDPOINT: Foreign = property!(
    "URIENDPOINTOVERRIDE" | "URI_ENDPOINT_OVERRIDE",
    "an http or https URL, such as http://localhost:8000",
    false
);
static ACCESS_KEY: Foreign = property!("ACCESSKEY" | "ACCESS_KEY", "an AWS access key id", true);
static SECRET_KEY: Foreign = property!("SECRETKEY" | "SECRET_KEY", "an AWS secret access key", true);
static SESSION_TOKEN: Foreign = property!("SESSIONTOKEN" | "SESSION_TOKEN", "an AWS session token", true);
static DEFAULT_CREDENTIALS: Foreign =
    property!("USEDEFAULTCREDENTIALSPROVIDER" | "USE_DEFAULT_CREDENTIALS_PROVIDER", "true or false", false);
/// Needs nothing here: a session token that is set is used.
static SESSION_CREDENTIALS: Foreign =
    property!("USESESSIONCREDENTIALS" | "USE_SESSION_CREDENTIALS", "true or false", false);

static PROPERTIES: [&Foreign; 11] = [
    &TABLE,
    &REGION,
    &START,
    &DELAY,
    &OVERRIDE,
    &ENDPOINT,
    &ACCESS_KEY,
    &SECRET_KEY,
    &SESSION_TOKEN,
    &DEFAULT_CREDENTIALS,
    &SESSION_CREDENTIALS,
];

/// Whether the environment is that of an `IntegrationSource`.
pub(super) fn is_integration_source(environment: &Environment) -> bool {
    environment.names().any(|name| name.starts_with(KAMELET))
}

pub(super) fn translate_integration_source(translator: &mut Translator<'_>) {
    table(translator);
    start(translator);
    pace(translator);
    region(translator);
    endpoint(translator);
    credentials(translator);
    knative_client(translator);
    translator.default(&event::EVENT_PROFILE, "integration-source");
    let is_known = |name: &str| PROPERTIES.iter().any(|property| property.names.contains(&name));
    translator.ignore_unknown(KAMELET, is_known);
}

fn table(translator: &mut Translator<'_>) {
    match translator.find(&TABLE) {
        Some(found) => translator.set(&source::TABLE, &found, Ok(found.text.clone())),
        None => translator.require(&source::TABLE, &TABLE),
    }
}

fn start(translator: &mut Translator<'_>) {
    if let Some(found) = translator.find(&START) {
        // Camel takes `from-latest` and `fromLatest` too.
        let letters: String = found.text.chars().filter(char::is_ascii_alphanumeric).collect();
        let meant = match letters.to_ascii_uppercase().as_str() {
            "FROMLATEST" => Ok("latest".to_owned()),
            "FROMSTART" => Ok("trim-horizon".to_owned()),
            _ => Err("unknown position".into()),
        };
        translator.set(&source::START_POSITION, &found, meant);
    }
}

/// A pause that is longer than the default maximum for idle shards applies to these too.
fn pace(translator: &mut Translator<'_>) {
    let Some(found) = translator.find(&DELAY) else { return };
    // Camel takes `5s` and `1m30s` too.
    let with_units = || humantime::parse_duration(&found.text).ok().and_then(|delay| delay.as_millis().try_into().ok());
    let millis = match found.text.parse::<u64>().ok().or_else(with_units) {
        Some(0) => return,
        Some(millis) => millis,
        None => return translator.set(&source::POLL_INTERVAL, &found, Err("not whole milliseconds".into())),
    };
    let text = format!("{millis}ms");
    let idle_max = source::IDLE_POLL_INTERVAL_MAX.default_value().and_then(|text| humantime::parse_duration(text).ok());
    if !translator.environment.is_set(source::POLL_INTERVAL.name)
        && idle_max.is_some_and(|idle_max| u128::from(millis) > idle_max.as_millis())
    {
        translator.default(&source::IDLE_POLL_INTERVAL_MAX, &text);
        translator.same_origin(&source::IDLE_POLL_INTERVAL_MAX, &found);
    }
    translator.set(&source::POLL_INTERVAL, &found, Ok(text));
}

fn region(translator: &mut Translator<'_>) {
    let Some(found) = translator.find(&REGION) else { return };
    match is_region(&found.text) {
        true => translator.translation.aws.region = Some(found.text),
        false => translator.refuse(&found, "not a region name".into()),
    }
}

fn endpoint(translator: &mut Translator<'_>) {
    let (wanted, url) = (flag(translator, &OVERRIDE), translator.find(&ENDPOINT));
    match (wanted, url) {
        (Some(true), Some(url)) => match sendable_endpoint(&url.text) {
            Ok(text) => translator.translation.aws.endpoint_url = Some(text),
            Err(why) => translator.refuse(&url, why),
        },
        (Some(true), None) => {
            let why = format!("{} is not set", ENDPOINT.names[0]);
            if let Some(found) = translator.find(&OVERRIDE) {
                translator.refuse(&found, why.into());
            }
        }
        (Some(false) | None, Some(url)) => {
            translator.ignore(url.name, format!("{} is not true", OVERRIDE.names[0]).into());
        }
        (Some(false) | None, None) => {}
    }
}

fn sendable_endpoint(text: &str) -> Result<String, InvalidValue> {
    endpoint_url(&sendable_url(text)?)
}

fn credentials(translator: &mut Translator<'_>) {
    let from_the_chain = flag(translator, &DEFAULT_CREDENTIALS) == Some(true);
    flag(translator, &SESSION_CREDENTIALS);
    let (id, secret, token) =
        (translator.find(&ACCESS_KEY), translator.find(&SECRET_KEY), translator.find(&SESSION_TOKEN));
    if from_the_chain {
        for found in [id, secret, token].into_iter().flatten() {
            translator.ignore(found.name, format!("{} is true", DEFAULT_CREDENTIALS.names[1]).into());
        }
        return;
    }
    for found in [&id, &secret, &token].into_iter().flatten() {
        check_header_text(translator, found);
        warn_of_mix_ups(translator, found);
    }
    match (id, secret) {
        (Some(id), Some(secret)) => {
            let session_token = token.map(|token| Secret::new(token.text));
            let (access_key_id, secret_access_key) = (Secret::new(id.text), Secret::new(secret.text));
            let credentials = StaticCredentials { access_key_id, secret_access_key, session_token };
            translator.translation.aws.credentials = Some(credentials);
        }
        (Some(id), None) => translator.refuse(&id, format!("{} is not set", SECRET_KEY.names[0]).into()),
        (None, Some(secret)) => translator.refuse(&secret, format!("{} is not set", ACCESS_KEY.names[0]).into()),
        (None, None) => {
            if let Some(token) = token {
                translator.ignore(token.name, format!("{} is not set", ACCESS_KEY.names[0]).into());
            }
        }
    }
}

fn flag(translator: &mut Translator<'_>, variable: &'static Foreign) -> Option<bool> {
    let found = translator.find(variable)?;
    if found.text.eq_ignore_ascii_case("true") {
        return Some(true);
    }
    if !found.text.eq_ignore_ascii_case("false") {
        translator.refuse(&found, "neither true nor false".into());
    }
    Some(false)
}

/// Variables of Camel's Knative client: which CAs it trusts and where its token is.
///
/// Source: `MakeSSLEnvVar` and `makeEnv` in `knative.dev/eventing/pkg/reconciler/integration`.
const KNATIVE_CLIENT: &str = "CAMEL_KNATIVE_CLIENT_";

static CERTIFICATE: Foreign = Foreign {
    names: &["CAMEL_KNATIVE_CLIENT_SSL_CERT_PATH"],
    accepts: "the path of a PEM file in the folder of trusted certificates",
    secret: false,
};
static TOKEN: Foreign = Foreign {
    names: &["CAMEL_KNATIVE_CLIENT_OIDC_TOKEN_PATH"],
    accepts: "the path of the file that holds the token",
    secret: false,
};
static TOKEN_WANTED: Foreign =
    Foreign { names: &["CAMEL_KNATIVE_CLIENT_OIDC_ENABLED"], accepts: "true or false", secret: false };

/// Set by the controller, or true here in any case: TLS is used where the sink's URL says so, and a token is read again
/// when it changes and when the sink refuses it.
const WITHOUT_MEANING: [&str; 3] = [
    "CAMEL_KNATIVE_CLIENT_SSL_ENABLED",
    "CAMEL_KNATIVE_CLIENT_OIDC_RENEW_TOKENS_ON_FORBIDDEN",
    "CAMEL_KNATIVE_CLIENT_OIDC_CACHE_TOKENS",
];

fn knative_client(translator: &mut Translator<'_>) {
    if let Some(found) = translator.find(&CERTIFICATE) {
        let path = path(&found.text);
        // The controller names one file of a folder that it may put others into.
        let folder = path.rsplit_once('/').map_or(".", |(folder, _)| if folder.is_empty() { "/" } else { folder });
        translator.set(&sink::CA_CERTS_DIR, &found, Ok(folder.to_owned()));
    }
    let is_wanted = translator.find(&TOKEN_WANTED).is_some_and(|found| found.text.eq_ignore_ascii_case("true"));
    if let Some(found) = translator.find(&TOKEN)
        && is_wanted
    {
        translator.set(&sink::SINK_TOKEN_FILE, &found, Ok(path(&found.text).to_owned()));
    }
    let known = [&CERTIFICATE, &TOKEN, &TOKEN_WANTED].map(|variable| variable.names[0]);
    let is_known = |name: &str| known.contains(&name) || WITHOUT_MEANING.contains(&name);
    translator.ignore_unknown(KNATIVE_CLIENT, is_known);
}

/// `file:///oidc/token` is `/oidc/token`.
fn path(text: &str) -> &str {
    let path = text.strip_prefix("file:").unwrap_or(text);
    path.strip_prefix("//").unwrap_or(path)
}

/// `K_COMPONENT` of the adapter that this program takes the place of.
const COMPONENT: &str = "awsdynamodbsource";

/// Source: `minPrometheusPort` in `knative.dev/pkg/metrics`.
const LOWEST_PORT: u16 = 1024;

static ARN: Foreign = Foreign { names: &["ARN"], accepts: "the ARN of a DynamoDB table", secret: false };
static METRICS_PORT: Foreign =
    Foreign { names: &["METRICS_PROMETHEUS_PORT"], accepts: "a port from 1024 to 65535", secret: false };
static METRICS_HOST: Foreign = Foreign {
    names: &["METRICS_PROMETHEUS_HOST"],
    accepts: "an IP address, such as 0.0.0.0, or localhost",
    secret: false,
};
static METRICS: Foreign =
    Foreign { names: &["K_METRICS_CONFIG"], accepts: "Knative's metrics configuration as JSON", secret: false };
static TRACING: Foreign =
    Foreign { names: &["K_TRACING_CONFIG"], accepts: "Knative's tracing configuration as JSON", secret: false };

/// Whether the environment is that of an `AWSDynamoDBSource`. Others may set `ARN` too: alone, it counts only where
/// nothing else names a table.
pub(super) fn is_triggermesh(environment: &Environment) -> bool {
    let is_component = environment.value("K_COMPONENT") == Some(Ok(COMPONENT));
    is_component || (environment.is_set(ARN.names[0]) && !environment.is_set(source::TABLE.name))
}

pub(super) fn translate_triggermesh(translator: &mut Translator<'_>) {
    match translator.find(&ARN) {
        Some(found) => {
            let is_arn = found.text.starts_with("arn:");
            let meant = if is_arn { Ok(found.text.clone()) } else { Err("not an ARN".into()) };
            translator.set(&source::TABLE, &found, meant);
        }
        None => translator.require(&source::TABLE, &ARN),
    }
    metrics_address(translator);
    metrics(translator);
    tracing(translator);
    translator.default(&event::EVENT_PROFILE, "triggermesh");
    translator.default(&process::LEGACY_METRICS, "on");
}

fn metrics_address(translator: &mut Translator<'_>) {
    let Some(found) = translator.find(&METRICS_PORT) else { return };
    let host = translator.find(&METRICS_HOST);
    let address = match host.as_ref().map(|host| host.text.as_str()) {
        None => Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        Some("localhost") => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Some(host) => host.parse(),
    };
    match (found.text.parse::<u16>().ok().filter(|port| *port >= LOWEST_PORT), address) {
        (None, _) => translator.set(&process::METRICS_ADDRESS, &found, Err("not an allowed port".into())),
        (Some(port), Ok(address)) => {
            translator.set(&process::METRICS_ADDRESS, &found, Ok(SocketAddr::from((address, port)).to_string()));
        }
        (Some(_), Err(_)) => {
            if let Some(host) = host {
                translator.set(&process::METRICS_ADDRESS, &host, Err("not an IP address".into()));
            }
        }
    }
}

/// The controller always sets it; a warning is due only for an exporter that this program does not have.
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
