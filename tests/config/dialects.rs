//! The image takes the place of two other adapters without a new setting.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use dynamodb_streams_adapter::config::{
    CheckpointLocation, Config, EventProfile, GivenValue, LegacyMetrics, PositionsConfig, PositionsRole, StartPosition,
    Warning, variables,
};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::{exactly, facts, os};

const KAMELET: &str = "CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_";

/// What Knative's controller sets for an `IntegrationSource` whose user said no more than the table and its region.
const CONTROLLER: [(&str, &str); 9] = [
    ("CAMEL_KNATIVE_CLIENT_SSL_ENABLED", "true"),
    ("CAMEL_KNATIVE_CLIENT_SSL_CERT_PATH", "/knative-custom-certs/knative-eventing-bundle.pem"),
    ("CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_REGION", "eu-west-1"),
    ("CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_OVERRIDEENDPOINT", "false"),
    ("CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_TABLE", "orders"),
    ("CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_DELAY", "0"),
    ("CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_USE_DEFAULT_CREDENTIALS_PROVIDER", "true"),
    ("K_SINK", "http://broker.example/default"),
    ("K_CE_OVERRIDES", ""),
];

const ARN: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders";

/// What TriggerMesh's controller sets.
const TRIGGERMESH: [(&str, &str); 10] = [
    ("ARN", ARN),
    ("K_SINK", "http://broker.example/default"),
    ("K_SINK_TIMEOUT", "30"),
    ("NAMESPACE", "shop"),
    ("NAME", "orders"),
    ("K_COMPONENT", "awsdynamodbsource"),
    ("METRICS_PROMETHEUS_PORT", "9092"),
    ("K_LOGGING_CONFIG", r#"{"loglevel.awsdynamodbsource":"warn"}"#),
    (
        "K_METRICS_CONFIG",
        r#"{"Domain":"triggermesh.io/sources","Component":"awsdynamodbsource","PrometheusPort":0,"ConfigMap":{}}"#,
    ),
    ("K_TRACING_CONFIG", r#"{"backend":"none","debug":"false","sample-rate":"0.1"}"#),
];

/// The controller's variables with some replaced or added; names without a prefix are properties of the Kamelet. Positions
/// are in a file, so that no warning speaks of them.
fn camel(changes: &[(&str, &str)]) -> Vec<(String, String)> {
    let full = |name: &str| match name.contains("CAMEL_") || variables().any(|it| it.name == name && name != "TABLE") {
        true => name.to_owned(),
        false => format!("{KAMELET}{name}"),
    };
    changed(&CONTROLLER, changes.iter().map(|(name, value)| (full(name), (*value).to_owned())).collect())
}

fn triggermesh(changes: &[(&str, &str)]) -> Vec<(String, String)> {
    changed(&TRIGGERMESH, changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

fn changed(all: &[(&str, &str)], changes: Vec<(String, String)>) -> Vec<(String, String)> {
    let stays = |name: &str| !changes.iter().any(|(changed, _)| changed == name);
    let stored = ("CHECKPOINT_STORE", "file:/var/positions.json");
    let rest = all.iter().chain([&stored]).filter(|(name, _)| stays(name));
    let rest = rest.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>();
    [changes, rest].concat()
}

fn read(variables: &[(String, String)]) -> Config {
    let parsed = Config::from_env_vars(variables.iter().cloned().map(os), &facts());
    parsed.unwrap_or_else(|mistakes| panic!("{variables:?}: {mistakes}"))
}

/// The only mistake, as the operator reads it.
fn mistake(variables: &[(String, String)]) -> String {
    let mistakes = Config::from_env_vars(variables.iter().cloned().map(os), &facts()).expect_err("accepted");
    assert_eq!(mistakes.mistakes.len(), 1, "{variables:?}: {mistakes}");
    mistakes.mistakes[0].to_string()
}

fn ignored(config: &Config) -> Vec<String> {
    let names = config.warnings.iter().map(|warning| match warning {
        Warning::Ignored { name, .. } => name.clone(),
        other => panic!("another warning: {other}"),
    });
    names.collect()
}

#[test]
fn one_variable_beside_the_controllers_keeps_positions_in_a_table() {
    let store = [("CHECKPOINT_STORE", "dynamodb:positions")];
    let keys = [("ACCESSKEY", "AKIAIOSFODNN7EXAMPLE"), ("SECRETKEY", "secret")];
    let endpoint = [("OVERRIDEENDPOINT", "true"), ("URIENDPOINTOVERRIDE", "http://localhost:8000")];
    let with_keys = [&store[..], &keys, &endpoint, &[("USE_DEFAULT_CREDENTIALS_PROVIDER", "false")]].concat();
    for variables in [camel(&store), camel(&with_keys), triggermesh(&store)] {
        let config = read(&variables);
        let CheckpointLocation::DynamoDb(table) = &config.source.checkpoint else { panic!("{variables:?}") };
        assert_eq!((table.table.as_str(), &table.role), ("positions", &PositionsRole::OfReader));
        assert_eq!(config.warnings, [], "{variables:?}");
    }
    let region = PositionsConfig::from_env_vars(triggermesh(&store).into_iter().map(os)).expect("enough").region;
    assert_eq!(region.as_deref(), Some("eu-west-1"), "that of the table which is read");
}

#[test]
fn what_the_controllers_set_is_enough_and_without_a_warning() {
    let config = read(&camel(&[]));
    assert_eq!(config.source.tables[0].as_str(), "orders");
    assert_eq!(config.source.start, StartPosition::Latest);
    assert_eq!(config.source.poll_intervals.poll_interval, Duration::from_millis(250), "DELAY=0 says nothing");
    assert_eq!(config.event.profile, EventProfile::IntegrationSource);
    assert_eq!(config.aws.overrides.region.as_deref(), Some("eu-west-1"));
    assert_eq!((&config.aws.overrides.endpoint_url, &config.aws.overrides.credentials), (&None, &None));
    assert_eq!(config.process.metrics_address, None);
    assert_eq!(config.process.legacy_metrics, LegacyMetrics::Off);
    assert_eq!(config.warnings, []);

    let config = read(&triggermesh(&[("METRICS_PROMETHEUS_HOST", "127.0.0.1")]));
    assert_eq!(config.process.metrics_address, Some("127.0.0.1:9092".parse().expect("an address")));
    let config = read(&triggermesh(&[]));
    assert_eq!(config.source.tables[0].table_arn(), Some(ARN));
    assert_eq!(config.source.tables[0].region(), Some("eu-west-1"));
    assert_eq!(config.event.profile, EventProfile::Triggermesh);
    assert_eq!(config.process.metrics_address, Some("[::]:9092".parse().expect("an address")));
    assert_eq!(config.process.legacy_metrics, LegacyMetrics::On);
    assert_eq!(config.delivery.timeout, Duration::from_secs(30));
    assert_eq!(config.log.filter, "warn");
    assert_eq!(config.warnings, []);
}

#[test]
fn each_property_is_read_in_both_spellings() {
    let start = |name| read(&camel(&[(name, "FROM_START")]));
    assert_eq!(start("STREAMITERATORTYPE"), start("STREAM_ITERATOR_TYPE"));
    let endpoint = |on, url| read(&camel(&[(on, "true"), (url, "http://127.0.0.1:8000")])).aws.overrides.endpoint_url;
    let plain = endpoint("OVERRIDEENDPOINT", "URIENDPOINTOVERRIDE");
    assert_eq!(plain.as_deref(), Some("http://127.0.0.1:8000"));
    let without = |(name, _): &(String, String)| !name.ends_with("_OVERRIDEENDPOINT");
    let kamelets_own = [("OVERRIDE_ENDPOINT", "true"), ("URI_ENDPOINT_OVERRIDE", "http://127.0.0.1:8000")];
    let kamelets_own: Vec<_> = camel(&kamelets_own).into_iter().filter(without).collect();
    assert_eq!(read(&kamelets_own).aws.overrides.endpoint_url, plain);

    let keys = |id, secret, token| {
        let keys = [(id, "AKIAEXAMPLE"), (secret, "hunter2"), (token, "hunter3")];
        let all = camel(&[&keys[..], &[("USE_DEFAULT_CREDENTIALS_PROVIDER", "false")]].concat());
        read(&all).aws.overrides.credentials.expect("they are set")
    };
    let plain = keys("ACCESSKEY", "SECRETKEY", "SESSIONTOKEN");
    assert_eq!(plain, keys("ACCESS_KEY", "SECRET_KEY", "SESSION_TOKEN"));
    assert_eq!(plain.access_key_id.reveal(), "AKIAEXAMPLE");
    assert_eq!(plain.secret_access_key.reveal(), "hunter2");
    assert_eq!(plain.session_token.expect("it is set").reveal(), "hunter3");
}

#[test]
fn the_start_is_the_one_that_was_asked_for() {
    let start = |value| read(&camel(&[("STREAMITERATORTYPE", value)])).source.start;
    assert_eq!(start("FROM_LATEST"), StartPosition::Latest);
    assert_eq!(start("FROM_START"), StartPosition::TrimHorizon);
}

#[test]
fn the_delay_is_in_milliseconds_and_a_long_one_holds_for_quiet_shards_too() {
    let pace = |delay| read(&camel(&[("DELAY", delay)])).source.poll_intervals;
    assert_eq!(pace("500").poll_interval, Duration::from_millis(500));
    assert_eq!(pace("500").idle_poll_interval_max, Duration::from_secs(5));
    assert_eq!(pace("60000").poll_interval, Duration::from_secs(60));
    assert_eq!(pace("60000").idle_poll_interval_max, Duration::from_secs(60));
}

#[test]
fn an_endpoint_counts_only_where_the_user_switched_it_on() {
    let config = read(&camel(&[("URIENDPOINTOVERRIDE", "http://127.0.0.1:8000")]));
    assert_eq!(config.aws.overrides.endpoint_url, None);
    assert_eq!(ignored(&config), [format!("{KAMELET}URIENDPOINTOVERRIDE")]);
    let mistake = mistake(&camel(&[("OVERRIDEENDPOINT", "true")]));
    assert!(mistake.contains(&format!("{KAMELET}URIENDPOINTOVERRIDE is not set")), "{mistake}");
}

#[test]
fn keys_that_the_user_switched_off_are_not_used_and_that_is_said() {
    let config = read(&camel(&[("ACCESSKEY", "AKIAEXAMPLE"), ("SECRETKEY", "hunter2")]));
    assert_eq!(config.aws.overrides.credentials, None);
    assert_eq!(ignored(&config), ["ACCESSKEY", "SECRETKEY"].map(|key| format!("{KAMELET}{key}")));
}

#[test]
fn a_mistake_in_a_foreign_value_is_told_under_the_name_that_was_set() {
    for (name, value) in [
        ("TABLE", "x"),
        ("REGION", "eu west 1"),
        ("STREAMITERATORTYPE", "FROM_YESTERDAY"),
        ("STREAM_ITERATOR_TYPE", "LATEST"),
        ("DELAY", "soon"),
        ("DELAY", "-1"),
        ("DELAY", "99999999999"),
        ("OVERRIDEENDPOINT", "yes"),
        ("USE_DEFAULT_CREDENTIALS_PROVIDER", "maybe"),
    ] {
        let mistake = mistake(&camel(&[(name, value)]));
        assert!(mistake.starts_with(&format!("{KAMELET}{name} has the value {value:?}: ")), "{mistake}");
    }
    for (name, value) in [
        ("ARN", "orders"),
        ("ARN", "arn:aws:sqs:eu-west-1:123456789012:orders"),
        ("METRICS_PROMETHEUS_PORT", "80"),
        ("METRICS_PROMETHEUS_PORT", "65536"),
        ("METRICS_PROMETHEUS_PORT", ":9092"),
        ("METRICS_PROMETHEUS_HOST", "metrics.example"),
    ] {
        let mistake = mistake(&triggermesh(&[(name, value)]));
        assert!(mistake.starts_with(&format!("{name} has the value {value:?}: ")), "{mistake}");
    }
    let endpoint = camel(&[("OVERRIDEENDPOINT", "true"), ("URIENDPOINTOVERRIDE", "localhost:8000")]);
    let mistake = mistake(&endpoint);
    assert!(
        mistake.starts_with(&format!("{KAMELET}URIENDPOINTOVERRIDE has the value \"localhost:8000\": ")),
        "{mistake}"
    );
}

#[test]
fn what_is_missing_is_named_as_its_user_knows_it() {
    let table = mistake(&camel(&[("TABLE", " ")]));
    assert!(table.starts_with(&format!("{KAMELET}TABLE is not set: it is required")), "{table}");
    let arn = mistake(&triggermesh(&[("ARN", "")]));
    assert!(arn.starts_with("ARN is not set: it is required; expected the ARN of a DynamoDB table"), "{arn}");
    let switch = ("USE_DEFAULT_CREDENTIALS_PROVIDER", "");
    for (set, missing) in [("ACCESSKEY", "SECRETKEY"), ("SECRETKEY", "ACCESSKEY")] {
        let half = mistake(&camel(&[(set, "hunter2"), switch]));
        assert!(half.contains(&format!("{KAMELET}{missing} is not set")) && !half.contains("hunter2"), "{half}");
    }
}

#[test]
fn our_own_variables_win() {
    let config = read(&camel(&[
        ("STREAMITERATORTYPE", "FROM_START"),
        ("START_POSITION", "latest"),
        ("DELAY", "60000"),
        ("POLL_INTERVAL", "1s"),
        ("EVENT_PROFILE", "aws"),
    ]));
    assert_eq!(config.source.start, StartPosition::Latest);
    assert_eq!(config.source.poll_intervals.poll_interval, Duration::from_secs(1));
    assert_eq!(config.source.poll_intervals.idle_poll_interval_max, Duration::from_secs(5));
    assert_eq!(config.event.profile, EventProfile::Aws);

    let other = ARN.replace("orders", "invoices");
    let config = read(&triggermesh(&[
        ("TABLE", &other),
        ("METRICS_ADDRESS", "127.0.0.1:9999"),
        ("EVENT_PROFILE", "aws"),
        ("LEGACY_METRICS", "off"),
    ]));
    assert_eq!(config.process.legacy_metrics, LegacyMetrics::Off);
    assert_eq!(config.source.tables[0].as_str(), other);
    assert_eq!(config.process.metrics_address, Some("127.0.0.1:9999".parse().expect("an address")));
    assert_eq!(config.event.profile, EventProfile::Aws);
    assert_eq!(config.warnings, []);
}

#[test]
fn a_mistake_in_our_own_variable_is_told_under_our_own_name() {
    let mistake = mistake(&camel(&[("STREAMITERATORTYPE", "FROM_START"), ("START_POSITION", "yesterday")]));
    assert!(mistake.starts_with("START_POSITION has the value \"yesterday\": "), "{mistake}");
}

#[test]
fn no_foreign_variables_means_no_dialect() {
    let arn_of_something = [("TABLE", "orders"), ("K_SINK", "http://x"), ("ARN", "arn:aws:sqs:eu-west-1:1:orders")];
    let client_only = [("CAMEL_KNATIVE_CLIENT_SSL_ENABLED", "true"), ("METRICS_PROMETHEUS_PORT", "9092")];
    let config = exactly(&[&arn_of_something[..], &client_only].concat()).expect("none of that is ours");
    assert_eq!(config.event.profile, EventProfile::Aws);
    assert_eq!(config.process.metrics_address, None);
    assert_eq!(config.warnings, [Warning::PositionsInMemory]);
}

#[test]
fn what_a_user_asked_for_and_does_not_get_is_a_warning() {
    let unknown = [("PROXYHOST", "proxy"), ("CAMEL_KNATIVE_CLIENT_SSL_KEY_PATH", "/key.pem")];
    let names = ["CAMEL_KNATIVE_CLIENT_SSL_KEY_PATH".to_owned(), format!("{KAMELET}PROXYHOST")];
    assert_eq!(ignored(&read(&camel(&unknown))), names);
    let two = read(&camel(&[("STREAMITERATORTYPE", "FROM_START"), ("STREAM_ITERATOR_TYPE", "FROM_LATEST")]));
    assert_eq!(two.source.start, StartPosition::TrimHorizon, "the controller's spelling counts");
    assert_eq!(ignored(&two), [format!("{KAMELET}STREAM_ITERATOR_TYPE")]);
    let exporters = triggermesh(&[
        ("K_METRICS_CONFIG", r#"{"ConfigMap":{"metrics.backend-destination":"opencensus"}}"#),
        ("K_TRACING_CONFIG", r#"{"backend":"zipkin","zipkin-endpoint":"http://zipkin/"}"#),
    ]);
    assert_eq!(ignored(&read(&exporters)), ["K_METRICS_CONFIG", "K_TRACING_CONFIG"]);
}

#[test]
fn secrets_are_not_shown() {
    let keys = [("ACCESSKEY", "AKIAhunter2"), ("SECRETKEY", "hunter2"), ("SESSIONTOKEN", "hunter2")];
    let variables = camel(&[&keys[..], &[("USE_DEFAULT_CREDENTIALS_PROVIDER", "false")]].concat());
    let shown = format!("{:?}", read(&variables));
    assert!(shown.contains("StaticCredentials") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn bytes_that_are_no_text_are_a_mistake_of_their_own_variable() {
    for property in ["TABLE", "REGION", "STREAMITERATORTYPE", "DELAY", "SECRETKEY"] {
        let name = format!("{KAMELET}{property}");
        let rest = camel(&[]).into_iter().filter(|(other, _)| *other != name);
        let bytes = (OsString::from(&name), OsString::from_vec(vec![b'a', 0xff]));
        let parsed = Config::from_env_vars(rest.map(os).chain([bytes]), &facts());
        let mistakes = parsed.expect_err("no text").mistakes;
        let told: Vec<_> = mistakes.iter().map(|mistake| (mistake.variable, &mistake.given)).collect();
        assert_eq!(told[0], (name.as_str(), &GivenValue::NotUtf8));
        assert!(told.iter().all(|(variable, _)| *variable == name), "{told:?}");
    }
}

/// Certificates and tokens have variables of ours in some builds; what the controller says reaches them there.
#[test]
fn certificates_and_tokens_are_looked_for_where_the_controller_puts_them() {
    let oidc = [
        ("CAMEL_KNATIVE_CLIENT_SSL_CERT_PATH", "/other-certs/bundle.pem"),
        ("CAMEL_KNATIVE_CLIENT_OIDC_ENABLED", "true"),
        ("CAMEL_KNATIVE_CLIENT_OIDC_TOKEN_PATH", "file:///other-oidc/token"),
    ];
    let translated = read(&camel(&oidc));
    let known = |name: &str| variables().any(|variable| variable.name == name);
    let ours = [("CA_CERTS_DIR", "/other-certs"), ("SINK_TOKEN_FILE", "/other-oidc/token")];
    let ours: Vec<_> = ours.into_iter().filter(|(name, _)| known(name)).collect();
    assert_eq!(translated, read(&camel(&ours)));
    assert_eq!(translated.warnings, []);
    let default = read(&camel(&[]));
    assert_eq!(translated == default, ours.is_empty(), "what the controller says does not arrive");
    let unwanted = [("CAMEL_KNATIVE_CLIENT_OIDC_TOKEN_PATH", "file:///other-oidc/token")];
    assert_eq!(read(&camel(&unwanted)), default, "a token that was not switched on is not sent");
}

/// Names that the dialects know, some that they do not, and two of ours.
const NAMES: [&str; 20] = [
    "CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_TABLE",
    "CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_REGION",
    "CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_DELAY",
    "CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_STREAMITERATORTYPE",
    "CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_STREAM_ITERATOR_TYPE",
    "CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_OVERRIDEENDPOINT",
    "CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_URIENDPOINTOVERRIDE",
    "CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_ACCESSKEY",
    "CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_SECRETKEY",
    "CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_OTHER",
    "CAMEL_KNATIVE_CLIENT_SSL_CERT_PATH",
    "CAMEL_KNATIVE_CLIENT_OIDC_TOKEN_PATH",
    "ARN",
    "K_COMPONENT",
    "METRICS_PROMETHEUS_PORT",
    "METRICS_PROMETHEUS_HOST",
    "K_METRICS_CONFIG",
    "K_TRACING_CONFIG",
    "TABLE",
    "POLL_INTERVAL",
];

/// Values that mean something somewhere, and the secret that no message may show.
const VALUES: [&str; 16] = [
    "awsdynamodbsource",
    "arn:aws:dynamodb:eu-west-1:123456789012:table/orders",
    "orders",
    "true",
    "false",
    "FROM_START",
    "0",
    "500",
    "18446744073709551616",
    "9092",
    "127.0.0.1",
    "http://127.0.0.1:8000",
    "file:///oidc/token",
    "{}",
    "{\"backend\":5,\"ConfigMap\":[]}",
    "/",
];

proptest! {
    /// Whatever foreign variables hold, a mistake names one that is set, or one that is missing, and shows no key.
    #[test]
    fn no_foreign_variables_make_parsing_panic(variables in vec((select(&NAMES[..]), select(&VALUES[..])), 0..10)) {
        let sink = [("K_SINK", "http://broker.example/default")];
        let keys = |name: &str| name.ends_with("KEY");
        let variables: Vec<_> = variables.into_iter().map(|(name, value)| (name, if keys(name) { "hunter2" } else { value })).collect();
        match exactly(&[&sink[..], &variables].concat()) {
            Ok(config) => {
                let shown = format!("{config:?}");
                prop_assert!(!shown.contains("hunter2"), "{}", shown);
            }
            Err(mistakes) => {
                prop_assert!(!mistakes.mistakes.is_empty());
                prop_assert!(!mistakes.to_string().contains("hunter2"), "{}", mistakes);
                for mistake in &mistakes.mistakes {
                    let is_set = variables.iter().any(|(name, _)| *name == mistake.variable);
                    prop_assert!(is_set || mistake.given == GivenValue::Nothing, "{}", mistakes);
                }
            }
        }
    }
}

#[test]
fn keys_that_an_integration_sources_secret_holds_by_mistake_are_a_warning() {
    let said = |id: &str, secret: &str| {
        let own = ("USE_DEFAULT_CREDENTIALS_PROVIDER", "false");
        let config = read(&camel(&[own, ("ACCESSKEY", id), ("SECRETKEY", secret)]));
        let said: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
        said.into_iter().filter(|line| line.contains("KEY ")).collect::<Vec<_>>()
    };
    assert_eq!(said("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI"), [""; 0]);
    for (id, secret, warning) in [
        ("wJalrXUtnFEMI", "AKIAIOSFODNN7EXAMPLE", "SECRETKEY holds the id of an access key: "),
        ("'AKIAIOSFODNN7EXAMPLE'", "wJalrXUtnFEMI", "ACCESSKEY has quotation marks around its value, "),
        ("QUtJQUlPU0ZPRE5ON0VYQU1QTEU=", "wJalrXUtnFEMI", "ACCESSKEY is encoded in base64: "),
    ] {
        let said = said(id, secret);
        assert!(said.len() == 1 && said[0].starts_with(&format!("{KAMELET}{warning}")), "{said:?}");
    }
}
