//! Names that look like ours.

use dynamodb_streams_adapter::config::{Warning, variables};

use crate::support::{accepted, exactly};

/// A value that the variable takes if it is one that the AWS SDK reads.
fn harmless(name: &str) -> &'static str {
    match name {
        "AWS_MAX_ATTEMPTS" => "3",
        name if name.contains("URL") || name.ends_with("_URI") => "http://x/",
        _ => "x",
    }
}

fn meant(found: &str) -> Option<&'static str> {
    let warnings = accepted(&[(found, harmless(found)), ("CHECKPOINT_STORE", "file:x")]).warnings;
    warnings.iter().find_map(|warning| match warning {
        Warning::Misspelt { found: name, known } if name == found => Some(*known),
        _ => None,
    })
}

#[test]
fn a_misspelt_name_is_answered_with_the_right_one() {
    for (found, known) in [
        ("RETRY_BACKOF_MAX", "RETRY_BACKOFF_MAX"),
        ("RETRY_BACKOFF_MN", "RETRY_BACKOFF_MIN"),
        ("CHECKPOINTSTORE", "CHECKPOINT_STORE"),
        ("CHECKPOINT-STORE", "CHECKPOINT_STORE"),
        ("START_POSITON", "START_POSITION"),
        ("STARTPOSITON", "START_POSITION"),
        ("TABEL", "TABLE"),
        ("TABLES", "TABLE"),
        ("poll_interval", "POLL_INTERVAL"),
        ("Poll_Intervall", "POLL_INTERVAL"),
        ("ADAPTER_POLL_INTERVAL", "POLL_INTERVAL"),
        ("DYNAMODB_STREAMS_ADAPTER_EVENT_MODE", "EVENT_MODE"),
        ("DYNAMODB_STREAMS_ADAPTER_K_SINK", "K_SINK"),
        ("KSINK", "K_SINK"),
        ("SINK", "K_SINK"),
        ("SINK_TIMEOUT", "K_SINK_TIMEOUT"),
        ("SINK_URL", "K_SINK"),
        ("K_SINK_URI", "K_SINK"),
        ("ASSUME_ROLE_ARN", "AWS_ASSUME_ROLE_ARN"),
        ("AWS_ASUME_ROLE_ARN", "AWS_ASSUME_ROLE_ARN"),
        ("LOG_FROMAT", "LOG_FORMAT"),
        ("RUSTLOG", "RUST_LOG"),
        ("RETRY_MAX_AG", "RETRY_MAX_AGE"),
        ("POD__NAME", "POD_NAME"),
    ] {
        assert_eq!(meant(found).or_else(|| suppressed(found)), Some(known), "{found}");
    }
}

/// `K_SINK` is set in every environment of these tests, so that `SINK` is no warning there.
fn suppressed(found: &str) -> Option<&'static str> {
    let mistakes = exactly(&[(found, harmless(found)), ("TABLE", "orders")]).expect_err("no sink");
    mistakes.warnings.iter().find_map(|warning| match warning {
        Warning::Misspelt { known, .. } => Some(*known),
        _ => None,
    })
}

#[test]
fn a_name_with_another_prefix_is_no_warning_beside_the_right_one() {
    assert_eq!(meant("SINK"), None);
    assert_eq!(meant("DYNAMODB_TABLE"), None);
    assert_eq!(meant("TABLE_NAME"), None);
}

#[test]
fn what_other_programs_call_a_table_is_named_where_the_table_is_missing() {
    for found in ["TABLE_NAME", "TABLE_ARN", "DYNAMODB_TABLE_NAME", "AWS_TABLE_NAMES"] {
        let message = exactly(&[(found, "orders"), ("K_SINK", "http://x")]).expect_err("no table").to_string();
        assert!(message.contains(&format!("note: {found} is set but not read, did you mean TABLE?")), "{message}");
    }
}

#[test]
fn a_misspelt_name_stands_in_the_message_about_what_is_missing() {
    let message = exactly(&[("TABEL", "orders"), ("K_SINK", "http://x")]).expect_err("no table").to_string();
    assert!(message.contains("note: TABEL is set but not read, did you mean TABLE?"), "{message}");
}

#[test]
fn our_own_names_and_blank_ones_are_no_warning() {
    for variable in variables() {
        let warnings = match exactly(&[(variable.name, "x")]) {
            Ok(config) => config.warnings,
            Err(mistakes) => mistakes.warnings,
        };
        let is_misspelt = |warning: &Warning| matches!(warning, Warning::Misspelt { .. });
        assert!(!warnings.iter().any(is_misspelt), "{}: {warnings:?}", variable.name);
    }
    assert_eq!(accepted(&[("TABEL", " "), ("CHECKPOINT_STORE", "file:x")]).warnings, []);
}

#[test]
fn service_links_of_kubernetes_are_no_warning() {
    let suffixes = [
        "_SERVICE_HOST",
        "_SERVICE_PORT",
        "_SERVICE_PORT_HTTP",
        "_PORT",
        "_PORT_80_TCP",
        "_PORT_80_TCP_PROTO",
        "_PORT_80_TCP_PORT",
        "_PORT_53_UDP_ADDR",
    ];
    let services = variables().flat_map(|it| (1..=it.name.len()).map(|end| &it.name[..end]));
    let links = services.flat_map(|service| suffixes.map(|suffix| format!("{service}{suffix}")));
    let links: Vec<_> = links.chain(suffixes.map(|suffix| format!("DYNAMODB_STREAMS_ADAPTER{suffix}"))).collect();
    let set: Vec<_> = links.iter().map(|name| (name.as_str(), "tcp://10.0.0.1:80")).collect();
    assert_eq!(accepted(&[&set[..], &[("CHECKPOINT_STORE", "file:x")]].concat()).warnings, []);
    assert_eq!(exactly(&set).expect_err("nothing else is set").warnings, []);
}

#[test]
fn names_of_systems_platforms_and_libraries_are_no_warning() {
    for name in "
        HOME PATH PWD OLDPWD SHLVL SHELL USER LOGNAME HOSTNAME HOST TERM LANG LC_ALL LC_CTYPE TZ TMPDIR TMP TEMP MAIL
        EDITOR DISPLAY COLUMNS LINES DEBUG PORT VERSION LOG_LEVEL LOG LOGS ENV APP APP_NAME SERVICE_NAME _
        HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy SSL_CERT_FILE SSL_CERT_DIR
        RUST_BACKTRACE RUST_LIB_BACKTRACE RUST_MIN_STACK CARGO_HOME CARGO_PKG_NAME
        KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT KUBERNETES_PORT KUBERNETES_PORT_443_TCP
        NODE_NAME NODE_IP HOST_IP POD_IP POD_UID POD_NAMESPACE SERVICE_ACCOUNT CONTAINER_NAME
        K_METRICS_CONFIG K_TRACING_CONFIG K_OBSERVABILITY_CONFIG K_LEADER_ELECTION_CONFIG K_REVISION K_SERVICE
        K_CONFIGURATION METRICS_DOMAIN METRICS_PROMETHEUS_PORT SYSTEM_NAMESPACE CONFIG_LOGGING_NAME ARN
        AWS_REGION AWS_DEFAULT_REGION AWS_PROFILE AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN
        AWS_ROLE_ARN AWS_ROLE_SESSION_NAME AWS_WEB_IDENTITY_TOKEN_FILE AWS_CONFIG_FILE AWS_SHARED_CREDENTIALS_FILE
        AWS_CA_BUNDLE AWS_MAX_ATTEMPTS AWS_RETRY_MODE AWS_ENDPOINT_URL AWS_ENDPOINT_URL_DYNAMODB
        AWS_ENDPOINT_URL_DYNAMODB_STREAMS AWS_USE_FIPS_ENDPOINT AWS_USE_DUALSTACK_ENDPOINT AWS_STS_REGIONAL_ENDPOINTS
        AWS_CONTAINER_CREDENTIALS_FULL_URI AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE AWS_EC2_METADATA_DISABLED
        OTEL_EXPORTER_OTLP_ENDPOINT OTEL_SERVICE_NAME OTEL_LOG_LEVEL GOMAXPROCS JAVA_OPTS NODE_ENV
        CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_TABLE CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_REGION
        CAMEL_KNATIVE_CLIENT_SSL_ENABLED CAMEL_KNATIVE_CLIENT_OIDC_TOKEN_PATH
    "
    .split_whitespace()
    {
        let warning = meant(name).or_else(|| suppressed(name));
        assert_eq!(warning, None, "{name}");
    }
}
