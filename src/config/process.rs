//! The process itself: memory, shutdown, ports, its log, and the names that the platform gives it.

use core::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use serde_json::{Map, Value};
use tracing_subscriber::EnvFilter;

use super::parse::{self, Choice, InvalidValue, choices};
use super::reader::{AlreadyReported, Reader, Warning};
use super::variable::{Accepts, Default, Group, Variable, variables};

variables! {
    BUFFER_MEMORY as buffer_memory: usize = parse::size {
        group: Group::Process,
        default: Default::Value("64MiB"),
        accepts: Accepts::Size,
        meaning: "Memory for records that are read and not yet settled, for the whole process.",
    }
    SHUTDOWN_TIMEOUT as shutdown_timeout: Duration = parse::duration {
        group: Group::Process,
        default: Default::Value("25s"),
        accepts: Accepts::Duration,
        meaning: "Maximum time from SIGTERM to exit, drain included; keep it below the pod's grace period.",
    }
    HTTP_ADDRESS as http_address: SocketAddr = parse::address {
        group: Group::Process,
        default: Default::Value("[::]:8080"),
        accepts: Accepts::Phrase("an IP address and port, such as `:8080`, `127.0.0.1:8080` or `[::]:8080`"),
        meaning: "Listen address for probes, metrics and status. `:8080` and `[::]:8080` mean every address, IPv4 and \
            IPv6, as far as the machine has them; `0.0.0.0:8080` means every IPv4 address.",
    }
    ADMIN_HOSTS as admin_hosts: String = host_name {
        group: Group::Process,
        accepts: Accepts::Phrase("host names without ports, separated by commas, such as `adapter.example.com`"),
        meaning: "Host names under which `/` and `/status` are served, besides IP addresses, `localhost` and names of services \
            (under `.svc`). Others get a 403, because a page in somebody's browser could read them under a name of its own.",
    }
    METRICS_ADDRESS as metrics_address: SocketAddr = parse::address {
        group: Group::Process,
        accepts: Accepts::Phrase("an IP address and port, such as `:9090` or `127.0.0.1:9090`"),
        meaning: "Additional listen address for metrics alone.",
    }
    LEGACY_METRICS as legacy_metrics: LegacyMetrics = LegacyMetrics::parse {
        group: Group::Process,
        default: Default::Else { value: "off", rule: "`on` with the variables of TriggerMesh, else `off`" },
        accepts: Accepts::OneOf(LegacyMetrics::NAMES),
        meaning: "Exports `<K_COMPONENT>_event_count` and `<K_COMPONENT>_retry_event_count` like Knative's adapters.",
    }
    LOG_FORMAT as log_format: LogFormat = LogFormat::parse {
        group: Group::Log,
        default: Default::Else { value: "json", rule: "`json`; `text` on a terminal" },
        accepts: Accepts::OneOf(LogFormat::NAMES),
        meaning: "Format of log lines.",
    }
    RUST_LOG as rust_log: String = directives {
        group: Group::Log,
        default: Default::Else { value: "info", rule: "the level in `K_LOGGING_CONFIG`, else `info`" },
        accepts: Accepts::Phrase("a level or a filter, such as `debug` or `info,dynamodb_streams_adapter=debug`"),
        meaning: "Log level or filter, in the syntax of the crate `tracing-subscriber`.",
    }
    K_LOGGING_CONFIG as k_logging_config: String = parse::text {
        group: Group::Log,
        accepts: Accepts::Phrase("Knative's logging configuration as JSON"),
        meaning: "Sets the log level: `loglevel.<K_COMPONENT>`, else the level in `zap-logger-config`. An invalid \
            value causes a warning.",
    }
    NAMESPACE as namespace: String = parse::text {
        group: Group::PlatformNames,
        accepts: Accepts::Text,
        meaning: "Namespace, for metrics and logs.",
    }
    NAME as name: String = parse::text {
        group: Group::PlatformNames,
        accepts: Accepts::Text,
        meaning: "Name of the Kubernetes object that this process belongs to.",
    }
    K_COMPONENT as k_component: String = parse::text {
        group: Group::PlatformNames,
        accepts: Accepts::Text,
        meaning: "Component name, set by the platform; selects the level in `K_LOGGING_CONFIG`.",
    }
    POD_NAME as pod_name: String = parse::text {
        group: Group::PlatformNames,
        accepts: Accepts::Text,
        meaning: "Name of the pod.",
    }
}

/// Memory, shutdown and the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Bytes for records read and not yet settled, whole process: 1 MiB to 1 TiB.
    pub buffer_memory: usize,
    /// From SIGTERM to exit, drain included.
    pub shutdown_timeout: Duration,
    /// Where probes, metrics and status are served; `[::]` means both families, and port 0 lets the system choose.
    pub http_address: SocketAddr,
    /// Further names that `/` and `/status` answer to, in lower case.
    pub admin_hosts: Vec<String>,
    /// Where metrics alone are served too; never where `http_address` serves them.
    pub metrics_address: Option<SocketAddr>,
    /// Whether the counters of Knative's adapters are exported too.
    pub legacy_metrics: LegacyMetrics,
}

choices! {
    /// Whether the counters of Knative's adapters are exported too.
    LegacyMetrics {
        /// The adapter's own metrics only.
        Off = "off",
        /// These counters too.
        On = "on",
    }
}

/// What the process itself takes, whatever it does: its code, the SDK, the runtime, pages under way.
const OWN_MEMORY: u64 = 32 << 20;

/// What a request under way takes: a connection's buffers, TLS, an event's body.
const REQUEST_MEMORY: u64 = 256 << 10;

impl Process {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, AlreadyReported> {
        let given: Given = reader.section();
        let buffer_memory = reader.value(&given.buffer_memory);
        let shutdown_timeout = reader.value(&given.shutdown_timeout);
        let http_address = reader.value(&given.http_address);
        let metrics_address = reader.optional(&given.metrics_address);
        let admin_hosts = match given.admin_hosts.text() {
            Some(_) => reader.list(&given.admin_hosts, |text, _| host_name(text)),
            None => Ok(Vec::new()),
        };
        let legacy_metrics = reader.value(&given.legacy_metrics);
        let (http_address, metrics_address) = (http_address?, metrics_address?);
        let is_served_anyway = |address: &SocketAddr| address.port() != 0 && is_within(*address, http_address);
        Ok(Self {
            buffer_memory: buffer_memory?,
            shutdown_timeout: shutdown_timeout?,
            http_address,
            admin_hosts: admin_hosts?,
            legacy_metrics: legacy_metrics?,
            metrics_address: metrics_address.filter(|address| !is_served_anyway(address)),
        })
    }

    /// Warns where the process may come to need more than it is allowed.
    pub(super) fn compare_memory(&self, reader: &mut Reader, concurrency: NonZeroUsize, limit: u64) {
        let whole = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let (buffer, requests) = (whole(self.buffer_memory), whole(concurrency.get()));
        let needed = OWN_MEMORY.saturating_add(buffer).saturating_add(requests.saturating_mul(REQUEST_MEMORY));
        if needed > limit {
            reader.warn(Warning::Memory { buffer, requests, needed, limit });
        }
    }
}

/// A name as a browser sends it, in lower case.
fn host_name(text: &str) -> Result<String, InvalidValue> {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    match text.bytes().all(is_of_name) {
        true => Ok(text.trim_end_matches('.').to_ascii_lowercase()),
        false => Err("not a host name: no scheme, no port, no path".into()),
    }
}

/// Whether who listens at `all` also answers at `address`.
fn is_within(address: SocketAddr, all: SocketAddr) -> bool {
    let is_every_one_of_its_kind = all.ip().is_unspecified() && (all.is_ipv6() || address.is_ipv4());
    address.port() == all.port() && (address == all || is_every_one_of_its_kind)
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The form of lines.
    pub format: LogFormat,
    /// Directives that `tracing_subscriber::EnvFilter` can parse.
    pub filter: String,
}

choices! {
    /// The form of log lines.
    LogFormat {
        /// One JSON object a line.
        Json = "json",
        /// For people.
        Text = "text",
    }
}

impl Log {
    pub(super) fn read(
        reader: &mut Reader,
        component: Option<&str>,
        stdout_is_terminal: bool,
    ) -> Result<Self, AlreadyReported> {
        let given: Given = reader.section();
        let format = reader.optional(&given.log_format);
        let filter = filter(reader, &given, component);
        let format = match format? {
            Some(format) => format,
            None if stdout_is_terminal => LogFormat::Text,
            None => reader.value(&given.log_format)?,
        };
        Ok(Self { format, filter: filter? })
    }
}

fn filter(reader: &mut Reader, given: &Given, component: Option<&str>) -> Result<String, AlreadyReported> {
    let own = reader.optional(&given.rust_log);
    let platform = reader.optional(&given.k_logging_config)?;
    let level = platform.map(|text| level(&text, component)).transpose();
    let level = level.unwrap_or_else(|why| {
        reader.warn(Warning::LoggingConfig { why });
        None
    });
    match own?.or(level.flatten().map(str::to_owned)) {
        Some(filter) => Ok(filter),
        None => reader.value(&given.rust_log),
    }
}

fn directives(text: &str) -> Result<String, InvalidValue> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("not a filter".into()),
    }
}

/// The level in Knative's logging configuration: a JSON object of texts, one of which is the JSON of zap's
/// configuration.
///
/// Source: `JSONToConfig` and `NewConfigFromMap` in `knative.dev/pkg/logging`.
fn level(text: &str, component: Option<&str>) -> Result<Option<&'static str>, &'static str> {
    let config: Map<String, Value> = serde_json::from_str(text).map_err(|_| "it is not a JSON object")?;
    let own = component.and_then(|component| config.get(&format!("loglevel.{component}")));
    if let Some(level) = own.filter(|level| !is_blank(level)) {
        return filter_of(level).map(Some);
    }
    let zap = match config.get("zap-logger-config") {
        None => return Ok(None),
        Some(zap) if is_blank(zap) => return Ok(None),
        Some(zap) => zap.as_str().ok_or("its zap-logger-config is not a string")?,
    };
    let zap: Map<String, Value> = serde_json::from_str(zap).map_err(|_| "its zap-logger-config is not JSON")?;
    zap.get("level").filter(|level| !is_blank(level)).map(filter_of).transpose()
}

fn is_blank(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.trim().is_empty())
}

/// What a level of zap means here. At `debug` only this program logs in detail: its libraries have no part in the
/// loggers that the platform configures.
fn filter_of(level: &Value) -> Result<&'static str, &'static str> {
    let level = level.as_str().unwrap_or_default().trim().to_ascii_lowercase();
    match level.as_str() {
        "debug" => Ok("info,dynamodb_streams_adapter=debug"),
        "info" => Ok("info"),
        "warn" | "warning" => Ok("warn"),
        "error" | "dpanic" | "panic" | "fatal" => Ok("error"),
        _ => Err("it has an unknown level"),
    }
}

/// Names that the platform gives; any text, absent outside of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlatformNames {
    /// `NAMESPACE`
    pub namespace: Option<String>,
    /// `NAME`: the object that this process serves.
    pub name: Option<String>,
    /// `K_COMPONENT`: what this process is.
    pub component: Option<String>,
    /// `POD_NAME`
    pub pod: Option<String>,
}

impl PlatformNames {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, AlreadyReported> {
        let given: Given = reader.section();
        let namespace = reader.optional(&given.namespace);
        let name = reader.optional(&given.name);
        let component = reader.optional(&given.k_component);
        let pod = reader.optional(&given.pod_name);
        Ok(Self { namespace: namespace?, name: name?, component: component?, pod: pod? })
    }
}
