//! The one definition of all variables.
//!
//! A new variable is one entry here and one line where its section reads it. Defaults are texts that the same parser
//! reads as what a user sets, so they cannot drift from what the lists say.

use super::delivery::{DeliveryOrder, OnUndeliverable};
use super::event::{EventData, EventMode, EventProfile};
use super::log::LogFormat;
use super::process::LegacyMetrics;
use super::source::OnDataLoss;
use super::variable::{Fallback, Group, Takes, Variable, variables};

/// What a definition below does not say.
const UNLISTED: Variable = Variable {
    name: "",
    group: Group::Later,
    fallback: Fallback::Nothing,
    takes: Takes::Phrase("nothing yet: leave it unset"),
    meaning: "",
    secret: false,
};

variables! {
    TABLE as table {
        group: Group::Source,
        fallback: Fallback::Required,
        takes: Takes::Phrase("table names, table ARNs or stream ARNs, separated by commas"),
        meaning: "The tables to read. A name or a table ARN follows the table when its stream is re-created; \
            a stream ARN stands for that stream alone.",
    }
    START_POSITION as start_position {
        group: Group::Source,
        fallback: Fallback::Value("latest"),
        takes: Takes::Phrase(
            "`latest`, `trim-horizon`, a past RFC 3339 time such as `2026-01-31T12:00:00Z`, or a duration up to `24h` \
            such as `15m`",
        ),
        meaning: "Where to begin, only where nothing is checkpointed yet. A duration means so long before the start of \
            the process.",
    }
    CHECKPOINT_STORE as checkpoint_store {
        group: Group::Source,
        fallback: Fallback::Value("memory"),
        takes: Takes::Phrase("`memory` or `file:<path>`"),
        meaning: "Where positions are kept. `memory` loses them on restart, and says so; a file belongs on a volume.",
    }
    CONSUMER_GROUP as consumer_group {
        group: Group::Source,
        fallback: Fallback::Value("default"),
        takes: Takes::Phrase("1 to 255 of the characters `a-z A-Z 0-9 _ . -`"),
        meaning: "Separates the positions of two adapters on one table in one store.",
    }
    POLL_INTERVAL as poll_interval {
        group: Group::Source,
        fallback: Fallback::Value("250ms"),
        takes: Takes::Duration,
        meaning: "Pause after a page that was not full, on an active shard; at most `IDLE_POLL_INTERVAL_MAX`.",
    }
    IDLE_POLL_INTERVAL_MAX as idle_poll_interval_max {
        group: Group::Source,
        fallback: Fallback::Value("5s"),
        takes: Takes::Duration,
        meaning: "Ceiling of the pause on a quiet shard; below it the pause is a tenth of the quiet time.",
    }
    ON_DATA_LOSS as on_data_loss {
        group: Group::Source,
        fallback: Fallback::Value("continue"),
        takes: Takes::OneOf(OnDataLoss::NAMES),
        meaning: "What follows when records were trimmed before they were read. `stop`: that table is read no further \
            and the process is not ready, until it is restarted with `continue`.",
    }

    EVENT_PROFILE as event_profile {
        group: Group::Event,
        fallback: Fallback::Value("aws"),
        takes: Takes::OneOf(EventProfile::NAMES),
        meaning: "Which attributes and which data events have. `aws`: this program's own; the others are those of \
            TriggerMesh's AWSDynamoDBSource and of Knative's IntegrationSource, and hold when their variables are set.",
    }
    EVENT_DATA as event_data {
        group: Group::Event,
        fallback: Fallback::Value("dynamodb-json"),
        takes: Takes::OneOf(EventData::NAMES),
        meaning: "The form of the data with `EVENT_PROFILE=aws`. `dynamodb-json`: the record as an AWS Lambda function \
            gets it. `json`: the item in plain JSON. The other profiles have one form each.",
    }
    EVENT_MODE as event_mode {
        group: Group::Event,
        fallback: Fallback::Value("binary"),
        takes: Takes::OneOf(EventMode::NAMES),
        meaning: "The CloudEvents content mode. `binary`: attributes as headers, data as the body. `structured`: both \
            as JSON in the body. `batch`: several events a request.",
    }
    BATCH_MAX_EVENTS as batch_max_events {
        group: Group::Event,
        fallback: Fallback::Value("100"),
        takes: Takes::Phrase("a whole number from `1` to `1000`"),
        meaning: "The most events of one request in batch mode.",
    }
    BATCH_MAX_BYTES as batch_max_bytes {
        group: Group::Event,
        fallback: Fallback::Value("1MiB"),
        takes: Takes::Phrase("a size such as `256KiB` or `1MiB`, from `1KiB` to `1GiB`"),
        meaning: "The most bytes of one request's body in batch mode; a single longer event goes by itself.",
    }
    BATCH_MAX_WAIT as batch_max_wait {
        group: Group::Event,
        fallback: Fallback::Value("100ms"),
        takes: Takes::Phrase("a duration, or `0` for what is there at the moment"),
        meaning: "How long an event waits for company in batch mode.",
    }
    K_CE_OVERRIDES as k_ce_overrides {
        group: Group::Event,
        takes: Takes::Phrase("an empty value, `{}` or an object such as `{\"extensions\":{\"cluster\":\"blue\"}}`"),
        meaning: "CloudEvents extensions set on every event, replacing one of that name; SinkBinding and \
            ContainerSource give it.",
    }

    K_SINK as k_sink {
        group: Group::Delivery,
        fallback: Fallback::Required,
        takes: Takes::Phrase("an http or https URL, such as `http://broker.example/default`"),
        meaning: "Where events go. A user and password in it are sent as basic authentication.",
        secret: true,
    }
    K_CA_CERTS as k_ca_certs {
        group: Group::Delivery,
        takes: Takes::Phrase("certificates in PEM"),
        meaning: "Authorities that an https sink's certificate may come from, besides the system's.",
        secret: true,
    }
    CA_CERTS_DIR as ca_certs_dir {
        group: Group::Delivery,
        fallback: Fallback::Value("/knative-custom-certs"),
        takes: Takes::Phrase("an absolute path"),
        meaning: "A folder of files with more of them, read again when they change. It need not be there.",
    }
    SINK_CLIENT_CERT_FILE as sink_client_cert_file {
        group: Group::Delivery,
        takes: Takes::Phrase("an absolute path"),
        meaning: "The certificate, and its chain, that is shown to a sink that asks for one: PEM, read again when it \
            changes. Only with `SINK_CLIENT_KEY_FILE`.",
    }
    SINK_CLIENT_KEY_FILE as sink_client_key_file {
        group: Group::Delivery,
        takes: Takes::Phrase("an absolute path"),
        meaning: "The private key of that certificate: PEM without a password.",
    }
    SINK_TOKEN_FILE as sink_token_file {
        group: Group::Delivery,
        takes: Takes::Phrase("an absolute path"),
        meaning: "A file with a bearer token for `K_SINK`, read again when it changes and after a 401; nothing is sent \
            without a token then. Not set: `/oidc/token` is used if it is there. Not beside a user in `K_SINK`.",
    }
    SINK_HEADERS_FILE as sink_headers_file {
        group: Group::Delivery,
        takes: Takes::Phrase("an absolute path"),
        meaning: "A file of headers for every request to `K_SINK`, a line `Name: value` for each, read again when it \
            changes.",
    }
    K_SINK_TIMEOUT as k_sink_timeout {
        group: Group::Delivery,
        takes: Takes::Phrase("whole seconds up to `86400`; 0 and less count as not set"),
        meaning: "The platform's word for `DELIVERY_TIMEOUT`, in seconds.",
    }
    DELIVERY_TIMEOUT as delivery_timeout {
        group: Group::Delivery,
        fallback: Fallback::Else { value: "30s", rule: "`K_SINK_TIMEOUT`, else `30s`" },
        takes: Takes::Duration,
        meaning: "Time for one delivery attempt.",
    }
    DELIVERY_ORDER as delivery_order {
        group: Group::Delivery,
        fallback: Fallback::Value("item"),
        takes: Takes::OneOf(DeliveryOrder::NAMES),
        meaning: "What is kept in order: the changes of each item, or everything in a shard.",
    }
    DELIVERY_CONCURRENCY as delivery_concurrency {
        group: Group::Delivery,
        fallback: Fallback::Value("64"),
        takes: Takes::Phrase("a whole number from `1` to `10000`"),
        meaning: "Requests in flight, whole process.",
    }
    RETRY_BACKOFF_MIN as retry_backoff_min {
        group: Group::Delivery,
        fallback: Fallback::Value("100ms"),
        takes: Takes::Duration,
        meaning: "The first pause before an event is tried again; pauses double and are jittered.",
    }
    RETRY_BACKOFF_MAX as retry_backoff_max {
        group: Group::Delivery,
        fallback: Fallback::Value("30s"),
        takes: Takes::Duration,
        meaning: "The longest such pause, `Retry-After` included; at least `RETRY_BACKOFF_MIN`.",
    }
    RETRY_MAX_ATTEMPTS as retry_max_attempts {
        group: Group::Delivery,
        takes: Takes::Phrase("a whole number from `1` to `1000000`"),
        meaning: "After so many attempts an event is undeliverable. Not set: there is no such limit.",
    }
    RETRY_MAX_AGE as retry_max_age {
        group: Group::Delivery,
        takes: Takes::Duration,
        meaning: "An event whose first attempt was begun so long ago is undeliverable when another one fails. \
            Not set: there is no such limit.",
    }
    ON_UNDELIVERABLE as on_undeliverable {
        group: Group::Delivery,
        fallback: Fallback::Value("block"),
        takes: Takes::OneOf(OnUndeliverable::NAMES),
        meaning: "What follows when the sink refuses an event for good, or a retry limit is passed. `block`: that \
            item waits, and the event is tried again at the slowest pace; other items go on. `dead-letter`: it goes to \
            `DEAD_LETTER_SINK`. `drop`: it is lost.",
    }
    DEAD_LETTER_SINK as dead_letter_sink {
        group: Group::Delivery,
        takes: Takes::Phrase("an http or https URL"),
        meaning: "Where undeliverable events go; required by `ON_UNDELIVERABLE=dead-letter`. A user and password in \
            it are sent as basic authentication.",
        secret: true,
    }

    BUFFER_MEMORY as buffer_memory {
        group: Group::Process,
        fallback: Fallback::Value("64MiB"),
        takes: Takes::Size,
        meaning: "Records read and not yet settled, whole process.",
    }
    SHUTDOWN_TIMEOUT as shutdown_timeout {
        group: Group::Process,
        fallback: Fallback::Value("25s"),
        takes: Takes::Duration,
        meaning: "From SIGTERM to exit, drain included; keep it below the pod's grace period.",
    }
    HTTP_ADDRESS as http_address {
        group: Group::Process,
        fallback: Fallback::Value("0.0.0.0:8080"),
        takes: Takes::Phrase("an IP address and port, such as `0.0.0.0:8080`, `[::]:8080` or `:8080`"),
        meaning: "Where probes, metrics and status are served. `:8080` means every IPv4 address.",
    }
    METRICS_ADDRESS as metrics_address {
        group: Group::Process,
        takes: Takes::Phrase("an IP address and port, such as `0.0.0.0:9090` or `:9090`"),
        meaning: "Where metrics are served besides `HTTP_ADDRESS`; nothing else is served there.",
    }
    LEGACY_METRICS as legacy_metrics {
        group: Group::Process,
        fallback: Fallback::Else { value: "off", rule: "`on` with the variables of TriggerMesh, else `off`" },
        takes: Takes::OneOf(LegacyMetrics::NAMES),
        meaning: "Whether `<K_COMPONENT>_event_count` and `<K_COMPONENT>_retry_event_count` are counted as in Knative's \
            adapters.",
    }

    LOG_FORMAT as log_format {
        group: Group::Log,
        fallback: Fallback::Else { value: "json", rule: "`json`; `text` on a terminal" },
        takes: Takes::OneOf(LogFormat::NAMES),
        meaning: "The form of log lines.",
    }
    RUST_LOG as rust_log {
        group: Group::Log,
        fallback: Fallback::Else { value: "info", rule: "the level in `K_LOGGING_CONFIG`, else `info`" },
        takes: Takes::Phrase("a level or a filter, such as `debug` or `info,dynamodb_streams_adapter=debug`"),
        meaning: "What is logged, in the syntax of the crate `tracing-subscriber`.",
    }
    K_LOGGING_CONFIG as k_logging_config {
        group: Group::Log,
        takes: Takes::Phrase("Knative's logging configuration as JSON"),
        meaning: "Its level is honoured: `loglevel.<K_COMPONENT>`, else that of `zap-logger-config`. \
            What cannot be read is a warning.",
    }

    AWS_ASSUME_ROLE_ARN as aws_assume_role_arn {
        group: Group::Aws,
        takes: Takes::Phrase("the ARN of an IAM role, such as `arn:aws:iam::123456789012:role/reader`"),
        meaning: "A role to assume, with the credentials that the SDK finds. Region, credentials and endpoints are \
            the SDK's own: `AWS_REGION`, `AWS_ENDPOINT_URL` and so on.",
    }
    AWS_ASSUME_ROLE_EXTERNAL_ID as aws_assume_role_external_id {
        group: Group::Aws,
        takes: Takes::Phrase("2 to 1224 of the characters `a-z A-Z 0-9 _ + = , . @ : / -`"),
        meaning: "The external id that the role's trust policy asks for; only with `AWS_ASSUME_ROLE_ARN`.",
        secret: true,
    }

    NAMESPACE as namespace {
        group: Group::Identity,
        takes: Takes::Text,
        meaning: "The namespace, for metrics and logs.",
    }
    NAME as name {
        group: Group::Identity,
        takes: Takes::Text,
        meaning: "The name of the object that this process serves.",
    }
    K_COMPONENT as k_component {
        group: Group::Identity,
        takes: Takes::Text,
        meaning: "The platform's word for what this process is; selects the level in `K_LOGGING_CONFIG`.",
    }
    POD_NAME as pod_name {
        group: Group::Identity,
        takes: Takes::Text,
        meaning: "The pod's name.",
    }

    LEASE_DURATION as lease_duration {}
}
