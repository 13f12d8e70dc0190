//! The one definition of all variables, and what follows it: the lists for `--help` and the documents, the spelling check.
//!
//! A new variable is one entry here and one line where its section reads it. Defaults are texts that the same parser
//! reads as what a user sets, so they cannot drift from what the lists say.

use strsim::damerau_levenshtein;

use super::delivery::{DeliveryOrder, OnUndeliverable};
use super::event::{EventData, EventMode, EventProfile};
use super::process::{LegacyMetrics, LogFormat};
use super::source::OnDataLoss;
use super::variable::{Accepts, Default, Group, Variable, variables};

/// What a definition below does not say.
const UNLISTED: Variable = Variable {
    name: "",
    group: Group::Later,
    default: Default::Nothing,
    accepts: Accepts::Phrase("nothing yet: leave it unset"),
    meaning: "",
    secret: false,
};

variables! {
    TABLE as table {
        group: Group::Source,
        default: Default::Required,
        accepts: Accepts::Phrase("table names, table ARNs or stream ARNs, separated by commas"),
        meaning: "The tables to read. A name or a table ARN follows the table when its stream is re-created; \
            a stream ARN reads only that stream.",
    }
    START_POSITION as start_position {
        group: Group::Source,
        default: Default::Value("latest"),
        accepts: Accepts::Phrase(
            "`latest`, `trim-horizon`, a past RFC 3339 time such as `2026-01-31T12:00:00Z`, or a duration up to `24h` \
            such as `15m`",
        ),
        meaning: "Where to begin, only where nothing is checkpointed yet. A duration means so long before the start of \
            the process.",
    }
    CHECKPOINT_STORE as checkpoint_store {
        group: Group::Source,
        default: Default::Value("memory"),
        accepts: Accepts::Phrase("`memory` or `file:<path>`"),
        meaning: "Where positions are stored. `memory`: a restart loses them, and the adapter warns at the start. A \
            file belongs on a volume.",
    }
    CONSUMER_GROUP as consumer_group {
        group: Group::Source,
        default: Default::Value("default"),
        accepts: Accepts::Phrase("1 to 255 of the characters `a-z A-Z 0-9 _ . -`"),
        meaning: "Separates the positions of adapters that read the same table and use the same store.",
    }
    POLL_INTERVAL as poll_interval {
        group: Group::Source,
        default: Default::Value("250ms"),
        accepts: Accepts::Duration,
        meaning: "Pause between two reads of an active shard, after a page that was not full; at most \
            `IDLE_POLL_INTERVAL_MAX`.",
    }
    IDLE_POLL_INTERVAL_MAX as idle_poll_interval_max {
        group: Group::Source,
        default: Default::Value("5s"),
        accepts: Accepts::Duration,
        meaning: "Maximum pause between two reads of an idle shard; the pause is a tenth of the idle time up to this \
            value.",
    }
    ON_DATA_LOSS as on_data_loss {
        group: Group::Source,
        default: Default::Value("continue"),
        accepts: Accepts::OneOf(OnDataLoss::NAMES),
        meaning: "Reaction to records that were trimmed before they were read. `continue`: reading continues after the \
            gap. `stop`: the adapter stops reading the table and is not ready until a restart with `continue`.",
    }

    EVENT_PROFILE as event_profile {
        group: Group::Event,
        default: Default::Value("aws"),
        accepts: Accepts::OneOf(EventProfile::NAMES),
        meaning: "Attributes and data of the events. `aws`: the adapter's own profile. The other profiles reproduce \
            TriggerMesh's AWSDynamoDBSource and Knative's IntegrationSource; each is the default when the variables of \
            that source are set.",
    }
    EVENT_DATA as event_data {
        group: Group::Event,
        default: Default::Value("dynamodb-json"),
        accepts: Accepts::OneOf(EventData::NAMES),
        meaning: "Format of the data with `EVENT_PROFILE=aws`. `dynamodb-json`: the record as an AWS Lambda function \
            receives it. `json`: the item in plain JSON. The other profiles have one format each.",
    }
    EVENT_MODE as event_mode {
        group: Group::Event,
        default: Default::Value("binary"),
        accepts: Accepts::OneOf(EventMode::NAMES),
        meaning: "The CloudEvents content mode. `binary`: attributes as headers, data as the body. `structured`: both \
            as JSON in the body. `batch`: several events per request.",
    }
    BATCH_MAX_EVENTS as batch_max_events {
        group: Group::Event,
        default: Default::Value("100"),
        accepts: Accepts::Phrase("a whole number from `1` to `1000`"),
        meaning: "Maximum number of events per request in batch mode.",
    }
    BATCH_MAX_BYTES as batch_max_bytes {
        group: Group::Event,
        default: Default::Value("1MiB"),
        accepts: Accepts::Phrase("a size such as `256KiB` or `1MiB`, from `1KiB` to `1GiB`"),
        meaning: "Maximum size of a request body in batch mode; a single larger event is sent alone.",
    }
    BATCH_MAX_WAIT as batch_max_wait {
        group: Group::Event,
        default: Default::Value("100ms"),
        accepts: Accepts::Phrase("a duration, or `0` to send without waiting"),
        meaning: "Maximum time to wait for a batch to fill.",
    }
    K_CE_OVERRIDES as k_ce_overrides {
        group: Group::Event,
        accepts: Accepts::Phrase("an empty value, `{}` or an object such as `{\"extensions\":{\"cluster\":\"blue\"}}`"),
        meaning: "CloudEvents extensions for every event; they replace extensions of the same name. SinkBinding and \
            ContainerSource set this variable.",
    }

    K_SINK as k_sink {
        group: Group::Delivery,
        default: Default::Required,
        accepts: Accepts::Phrase("an http or https URL, such as `http://broker.example/default`"),
        meaning: "URL of the sink. A user and password in it are sent as basic authentication.",
        secret: true,
    }
    K_CA_CERTS as k_ca_certs {
        group: Group::Delivery,
        accepts: Accepts::Phrase("certificates in PEM"),
        meaning: "Trusted CA certificates for https sinks, in addition to those of the system.",
        secret: true,
    }
    CA_CERTS_DIR as ca_certs_dir {
        group: Group::Delivery,
        default: Default::Value("/knative-custom-certs"),
        accepts: Accepts::Phrase("an absolute path"),
        meaning: "Folder of files with more trusted CA certificates, read again when they change. The folder may be \
            missing.",
    }
    SINK_CLIENT_CERT_FILE as sink_client_cert_file {
        group: Group::Delivery,
        accepts: Accepts::Phrase("an absolute path"),
        meaning: "Client certificate and its chain, for sinks that request one: PEM, read again when it changes. \
            Requires `SINK_CLIENT_KEY_FILE`.",
    }
    SINK_CLIENT_KEY_FILE as sink_client_key_file {
        group: Group::Delivery,
        accepts: Accepts::Phrase("an absolute path"),
        meaning: "Private key of the client certificate: PEM without a password.",
    }
    SINK_TOKEN_FILE as sink_token_file {
        group: Group::Delivery,
        accepts: Accepts::Phrase("an absolute path"),
        meaning: "File with a bearer token for `K_SINK`, read again when it changes and after a 401; without a valid \
            token nothing is sent. Not set: `/oidc/token` is used if it exists. Cannot be combined with a user in \
            `K_SINK`.",
    }
    SINK_HEADERS_FILE as sink_headers_file {
        group: Group::Delivery,
        accepts: Accepts::Phrase("an absolute path"),
        meaning: "File with headers for every request to `K_SINK`, one line `Name: value` per header, read again when \
            it changes.",
    }
    K_SINK_TIMEOUT as k_sink_timeout {
        group: Group::Delivery,
        accepts: Accepts::Phrase("whole seconds up to `86400`; 0 and negative values count as not set"),
        meaning: "Fallback for `DELIVERY_TIMEOUT`, set by the platform, in seconds.",
    }
    DELIVERY_TIMEOUT as delivery_timeout {
        group: Group::Delivery,
        default: Default::Else { value: "30s", rule: "`K_SINK_TIMEOUT`, else `30s`" },
        accepts: Accepts::Duration,
        meaning: "Timeout of one delivery attempt.",
    }
    DELIVERY_ORDER as delivery_order {
        group: Group::Delivery,
        default: Default::Value("item"),
        accepts: Accepts::OneOf(DeliveryOrder::NAMES),
        meaning: "Scope of the order. `item`: the changes of each item stay in order. `shard`: all changes of a shard \
            stay in order.",
    }
    DELIVERY_CONCURRENCY as delivery_concurrency {
        group: Group::Delivery,
        default: Default::Value("64"),
        accepts: Accepts::Phrase("a whole number from `1` to `10000`"),
        meaning: "Maximum number of requests in flight, for the whole process.",
    }
    RETRY_BACKOFF_MIN as retry_backoff_min {
        group: Group::Delivery,
        default: Default::Value("100ms"),
        accepts: Accepts::Duration,
        meaning: "First pause before a retry; the pause doubles with every retry and is jittered.",
    }
    RETRY_BACKOFF_MAX as retry_backoff_max {
        group: Group::Delivery,
        default: Default::Value("30s"),
        accepts: Accepts::Duration,
        meaning: "Maximum pause before a retry, `Retry-After` included; at least `RETRY_BACKOFF_MIN`.",
    }
    RETRY_MAX_ATTEMPTS as retry_max_attempts {
        group: Group::Delivery,
        accepts: Accepts::Phrase("a whole number from `1` to `1000000`"),
        meaning: "Maximum number of attempts; after that an event is undeliverable. Not set: no limit.",
    }
    RETRY_MAX_AGE as retry_max_age {
        group: Group::Delivery,
        accepts: Accepts::Duration,
        meaning: "Maximum age of an event, from its first attempt; when an attempt fails after that, the event is \
            undeliverable. Not set: no limit.",
    }
    ON_UNDELIVERABLE as on_undeliverable {
        group: Group::Delivery,
        default: Default::Value("block"),
        accepts: Accepts::OneOf(OnUndeliverable::NAMES),
        meaning: "Reaction to an event that the sink rejects permanently or that exceeds a retry limit. `block`: the \
            item waits, and the event is retried at `RETRY_BACKOFF_MAX`; other items continue. `dead-letter`: the event \
            goes to `DEAD_LETTER_SINK`. `drop`: the event is lost.",
    }
    DEAD_LETTER_SINK as dead_letter_sink {
        group: Group::Delivery,
        accepts: Accepts::Phrase("an http or https URL"),
        meaning: "URL of the sink for undeliverable events; required by `ON_UNDELIVERABLE=dead-letter`. A user and \
            password in it are sent as basic authentication.",
        secret: true,
    }

    BUFFER_MEMORY as buffer_memory {
        group: Group::Process,
        default: Default::Value("64MiB"),
        accepts: Accepts::Size,
        meaning: "Memory for records that are read and not yet settled, for the whole process.",
    }
    SHUTDOWN_TIMEOUT as shutdown_timeout {
        group: Group::Process,
        default: Default::Value("25s"),
        accepts: Accepts::Duration,
        meaning: "Maximum time from SIGTERM to exit, drain included; keep it below the pod's grace period.",
    }
    HTTP_ADDRESS as http_address {
        group: Group::Process,
        default: Default::Value("0.0.0.0:8080"),
        accepts: Accepts::Phrase("an IP address and port, such as `0.0.0.0:8080`, `[::]:8080` or `:8080`"),
        meaning: "Listen address for probes, metrics and status. `:8080` means every IPv4 address.",
    }
    METRICS_ADDRESS as metrics_address {
        group: Group::Process,
        accepts: Accepts::Phrase("an IP address and port, such as `0.0.0.0:9090` or `:9090`"),
        meaning: "Additional listen address for metrics alone.",
    }
    LEGACY_METRICS as legacy_metrics {
        group: Group::Process,
        default: Default::Else { value: "off", rule: "`on` with the variables of TriggerMesh, else `off`" },
        accepts: Accepts::OneOf(LegacyMetrics::NAMES),
        meaning: "Exports `<K_COMPONENT>_event_count` and `<K_COMPONENT>_retry_event_count` like Knative's adapters.",
    }

    LOG_FORMAT as log_format {
        group: Group::Log,
        default: Default::Else { value: "json", rule: "`json`; `text` on a terminal" },
        accepts: Accepts::OneOf(LogFormat::NAMES),
        meaning: "Format of log lines.",
    }
    RUST_LOG as rust_log {
        group: Group::Log,
        default: Default::Else { value: "info", rule: "the level in `K_LOGGING_CONFIG`, else `info`" },
        accepts: Accepts::Phrase("a level or a filter, such as `debug` or `info,dynamodb_streams_adapter=debug`"),
        meaning: "Log level or filter, in the syntax of the crate `tracing-subscriber`.",
    }
    K_LOGGING_CONFIG as k_logging_config {
        group: Group::Log,
        accepts: Accepts::Phrase("Knative's logging configuration as JSON"),
        meaning: "Sets the log level: `loglevel.<K_COMPONENT>`, else the level in `zap-logger-config`. An invalid \
            value causes a warning.",
    }

    AWS_ASSUME_ROLE_ARN as aws_assume_role_arn {
        group: Group::Aws,
        accepts: Accepts::Phrase("the ARN of an IAM role, such as `arn:aws:iam::123456789012:role/reader`"),
        meaning: "IAM role to assume, with the credentials that the SDK finds. Region, credentials and endpoints use \
            the SDK's own variables: `AWS_REGION`, `AWS_ENDPOINT_URL` and so on.",
    }
    AWS_ASSUME_ROLE_EXTERNAL_ID as aws_assume_role_external_id {
        group: Group::Aws,
        accepts: Accepts::Phrase("2 to 1224 of the characters `a-z A-Z 0-9 _ + = , . @ : / -`"),
        meaning: "External id that the role's trust policy requires; only with `AWS_ASSUME_ROLE_ARN`.",
        secret: true,
    }

    NAMESPACE as namespace {
        group: Group::PlatformNames,
        accepts: Accepts::Text,
        meaning: "Namespace, for metrics and logs.",
    }
    NAME as name {
        group: Group::PlatformNames,
        accepts: Accepts::Text,
        meaning: "Name of the Kubernetes object that this process belongs to.",
    }
    K_COMPONENT as k_component {
        group: Group::PlatformNames,
        accepts: Accepts::Text,
        meaning: "Component name, set by the platform; selects the level in `K_LOGGING_CONFIG`.",
    }
    POD_NAME as pod_name {
        group: Group::PlatformNames,
        accepts: Accepts::Text,
        meaning: "Name of the pod.",
    }

    LEASE_DURATION as lease_duration {}
}

/// Width of the help text; terminals have 80 columns or more.
const WIDTH: usize = 80;

/// Where meanings begin: behind the longest name.
const INDENT: usize = 30;

/// The text of `--help`: usage and all variables with their defaults.
pub fn help() -> String {
    let mut text = format!(
        "dynamodb-streams-adapter {}\n\
         Reads the change streams of DynamoDB tables and posts every change as a\n\
         CloudEvent, at least once, the changes of each item in order.\n\n\
         Usage: TABLE=<table> K_SINK=<url> dynamodb-streams-adapter [check | --help]\n\n\
         All settings are environment variables. A blank value counts as not set.\n\
         A duration has a unit, such as 500ms, 30s or 1m30s, from 1ms to 24h.\n\
         A size has a unit, such as 2048KiB, 64MiB or 1GiB; KB, MB, GB: powers of 1000.\n",
        env!("CARGO_PKG_VERSION")
    );
    for group in Group::LISTED {
        text.push_str(&format!("\n{}:\n", group.title()));
        for variable in listed(group) {
            text.push_str(&entry(variable));
        }
    }
    text.push_str("\nExit codes: 0 after SIGTERM or SIGINT, 64 for an invalid configuration,\n");
    text.push_str("70 for an internal fault. More: docs/configuration.md\n");
    text
}

/// The same list as Markdown tables, one for each group.
pub fn markdown() -> String {
    let mut text = String::new();
    for group in Group::LISTED {
        text.push_str(&format!("**{}**\n\n", group.title()));
        text.push_str("| variable | default | takes | meaning |\n|---|---|---|---|\n");
        for variable in listed(group) {
            let Variable { name, accepts, meaning, .. } = variable;
            let default = variable.shown_default();
            text.push_str(&format!("| `{name}` | {default} | {accepts} | {meaning} |\n"));
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn listed(group: Group) -> impl Iterator<Item = &'static Variable> {
    ALL.iter().copied().filter(move |variable| variable.group == group)
}

fn entry(variable: &Variable) -> String {
    let mut sentences = variable.meaning.to_owned();
    let accepts = variable.accepts.listed();
    if !accepts.is_empty() {
        sentences.push_str(&format!(" Takes {accepts}."));
    }
    match variable.default {
        Default::Nothing => {}
        Default::Required => sentences.push_str(" [required]"),
        Default::Value(_) | Default::Else { .. } => {
            sentences.push_str(&format!(" [default: {}]", variable.shown_default()));
        }
    }
    let mut entry = String::new();
    let mut head = format!("  {}", variable.name);
    for line in wrapped(&sentences.replace('`', ""), WIDTH - INDENT) {
        entry.push_str(&format!("{head:<INDENT$}{line}\n"));
        head.clear();
    }
    entry
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("it begins with one line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// Prefixes that are forgotten, or added in the belief that they must be there; the longest first.
const PREFIXES: [&str; 6] = ["DYNAMODB_STREAMS_ADAPTER_", "DYNAMODB_STREAMS_", "DYNAMODB_", "ADAPTER_", "AWS_", "K_"];

/// From this length on a name may have two typos; below, one.
const LONG: usize = 14;

/// Names shorter than this are too near to everything else.
const SHORT: usize = 5;

/// The variable that `found` was probably meant to be; none when it is one itself, or something else altogether.
pub(super) fn meant(found: &str, is_set: impl Fn(&str) -> bool) -> Option<&'static str> {
    let names = || ALL.iter().map(|variable| variable.name);
    if names().any(|known| known == found) {
        return None;
    }
    let upper = found.to_ascii_uppercase();
    let typo = names().filter_map(|known| Some((slips(&upper, known)?, known))).min_by_key(|(slips, _)| *slips);
    let other_prefix = || names().find(|known| [*known, stem(known)].contains(&stem(&upper)) && !is_set(known));
    typo.map(|(_, known)| known).or_else(other_prefix)
}

/// Slips between two names, if they are few; other separators, or none, are not even one.
///
/// Thousands of service links may be set, so lengths are compared before letters.
fn slips(found: &str, known: &str) -> Option<usize> {
    let letters = |name: &str| name.replace(['_', '-', '.'], "");
    if letters(found) == letters(known) {
        return Some(0);
    }
    let allowed = allowed(known);
    if found.len().abs_diff(known.len()) > allowed {
        return None;
    }
    Some(damerau_levenshtein(found, known)).filter(|slips| *slips <= allowed)
}

fn allowed(known: &str) -> usize {
    match known.len() {
        ..SHORT => 0,
        SHORT..LONG => 1,
        LONG.. => 2,
    }
}

fn stem(name: &str) -> &str {
    PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}
