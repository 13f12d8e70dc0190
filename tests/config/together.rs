//! What holds for all variables, and between them.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use dynamodb_streams_adapter::config::{
    CheckpointLocation, Config, Default, DeliveryOrder, EnvironmentFacts, EventData, LogFormat, StartPosition, Warning,
    variables,
};

use crate::support::{NEEDED, accepted, exactly, facts, now, os, refused};

#[test]
fn two_variables_are_enough() {
    let config = exactly(&NEEDED).expect("these are required, and no others");
    assert_eq!(config.source.start, StartPosition::Latest);
    assert_eq!(config.source.checkpoint, CheckpointLocation::Memory);
    assert_eq!(config.source.consumer_group, "default");
    assert_eq!(config.source.poll_intervals.poll_interval, Duration::from_millis(250));
    assert_eq!(config.source.poll_intervals.idle_poll_interval_max, Duration::from_secs(5));
    assert_eq!(config.delivery.order, DeliveryOrder::Item);
    assert_eq!(config.delivery.concurrency.get(), 64);
    assert_eq!(config.delivery.timeout, Duration::from_secs(30));
    assert_eq!(config.delivery.backoff.min(), Duration::from_millis(100));
    assert_eq!(config.delivery.backoff.max(), Duration::from_secs(30));
    assert_eq!(config.process.buffer_memory, 64 << 20);
    assert_eq!(config.process.shutdown_timeout, Duration::from_secs(25));
    assert_eq!(config.process.http_address, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080)));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.log.filter, "info");
    assert_eq!(config.aws.assume_role_arn, None);
    assert_eq!(config.platform_names.pod, None);
}

#[test]
fn each_documented_default_means_what_leaving_it_out_means() {
    let without = accepted(&[]);
    let mut all = Vec::new();
    for variable in variables() {
        if let Default::Value(value) | Default::Else { value, .. } = variable.default {
            assert_eq!(accepted(&[(variable.name, value)]), without, "{}={value}", variable.name);
            all.push((variable.name, value));
        }
    }
    assert!(all.len() > 10, "the definition has lost its defaults");
    assert_eq!(accepted(&all), without);
}

#[test]
fn blank_means_not_set_for_every_variable() {
    let optional = variables().filter(|variable| variable.default != Default::Required);
    let blanks: Vec<_> = optional.enumerate().map(|(i, variable)| (variable.name, [" ", "", "\t\n"][i % 3])).collect();
    assert_eq!(accepted(&blanks), accepted(&[]));
    for (required, _) in NEEDED {
        let mistake = refused(&[(required, " ")]);
        assert!(mistake.to_string().starts_with(&format!("{required} is not set")), "{mistake}");
    }
}

#[test]
fn blanks_around_a_value_do_not_matter() {
    assert_eq!(
        accepted(&[("POLL_INTERVAL", " 250ms\n"), ("K_SINK", " http://broker.example/default ")]),
        accepted(&[])
    );
}

#[test]
fn of_a_name_that_comes_twice_the_first_counts() {
    let config = accepted(&[("CONSUMER_GROUP", "first"), ("CONSUMER_GROUP", "second")]);
    assert_eq!(config.source.consumer_group, "first");
}

#[test]
fn names_in_lower_case_are_not_ours() {
    let config = accepted(&[("consumer_group", "other"), ("table", "other")]);
    assert_eq!(config.source.consumer_group, "default");
    assert_eq!(config.source.tables[0].as_str(), "orders");
}

#[test]
fn on_a_terminal_logs_are_text_unless_the_variable_says_otherwise() {
    let on_terminal = EnvironmentFacts { stdout_is_terminal: true, ..facts() };
    let format = |more: &[(&str, &str)]| {
        let variables = NEEDED.iter().chain(more).copied().map(os);
        Config::from_env_vars(variables, &on_terminal).expect("a good configuration").log.format
    };
    assert_eq!(format(&[]), LogFormat::Text);
    assert_eq!(format(&[("LOG_FORMAT", "json")]), LogFormat::Json);
}

#[test]
fn a_poll_interval_above_its_ceiling_is_refused_at_the_one_that_was_set() {
    assert_eq!(refused(&[("POLL_INTERVAL", "6s")]).variable, "POLL_INTERVAL");
    let mistake = refused(&[("IDLE_POLL_INTERVAL_MAX", "100ms")]);
    assert_eq!(mistake.variable, "IDLE_POLL_INTERVAL_MAX");
    assert!(mistake.why.contains("250ms") && mistake.why.contains("100ms"), "{mistake}");
    let pace = accepted(&[("POLL_INTERVAL", "5s"), ("IDLE_POLL_INTERVAL_MAX", "5s")]).source.poll_intervals;
    assert_eq!(pace.poll_interval, pace.idle_poll_interval_max);
}

#[test]
fn a_backoff_whose_ends_are_the_wrong_way_round_is_refused() {
    assert_eq!(refused(&[("RETRY_BACKOFF_MIN", "31s")]).variable, "RETRY_BACKOFF_MIN");
    assert_eq!(refused(&[("RETRY_BACKOFF_MAX", "99ms")]).variable, "RETRY_BACKOFF_MAX");
}

#[test]
fn a_bad_value_is_not_reported_again_for_what_it_does_to_another() {
    assert_eq!(
        refused(&[("POLL_INTERVAL", "1h"), ("IDLE_POLL_INTERVAL_MAX", "never")]).variable,
        "IDLE_POLL_INTERVAL_MAX"
    );
}

#[test]
fn an_external_id_without_a_role_is_refused() {
    assert_eq!(refused(&[("AWS_ASSUME_ROLE_EXTERNAL_ID", "abc")]).variable, "AWS_ASSUME_ROLE_EXTERNAL_ID");
}

#[test]
fn plain_json_belongs_to_our_own_profile() {
    assert_eq!(accepted(&[("EVENT_PROFILE", "aws"), ("EVENT_DATA", "json")]).event.data, EventData::Json);
    for profile in ["triggermesh", "integration-source"] {
        let mistake = refused(&[("EVENT_PROFILE", profile), ("EVENT_DATA", "json")]);
        assert_eq!(mistake.variable, "EVENT_DATA");
        assert!(mistake.why.contains("EVENT_PROFILE=aws"), "{mistake}");
        let explicit = accepted(&[("EVENT_PROFILE", profile), ("EVENT_DATA", "dynamodb-json")]);
        assert_eq!(explicit, accepted(&[("EVENT_PROFILE", profile)]), "the default may be spelt out");
    }
}

#[test]
fn a_profile_that_cannot_be_read_does_not_make_the_data_wrong() {
    assert_eq!(refused(&[("EVENT_PROFILE", "other"), ("EVENT_DATA", "json")]).variable, "EVENT_PROFILE");
}

fn filter_of(config: &str, more: &[(&str, &str)]) -> String {
    let variables = [&[("K_LOGGING_CONFIG", config), ("K_COMPONENT", "source")], more].concat();
    let config = accepted(&variables);
    assert_eq!(config.warnings, [Warning::PositionsInMemory]);
    config.log.filter
}

#[test]
fn the_platforms_log_level_is_honoured_unless_rust_log_is_set() {
    let zap = r#"{"zap-logger-config":"{\"level\":\"error\",\"encoding\":\"json\"}"}"#;
    assert_eq!(filter_of(zap, &[]), "error");
    assert_eq!(filter_of(zap, &[("RUST_LOG", "trace")]), "trace");
    assert_eq!(filter_of(r#"{"loglevel.source":"WARN","zap-logger-config":"{\"level\":\"error\"}"}"#, &[]), "warn");
    assert_eq!(filter_of(r#"{"loglevel.other":"warn"}"#, &[]), "info");
    assert_eq!(filter_of(r#"{"loglevel.source":"debug"}"#, &[]), "info,dynamodb_streams_adapter=debug");
    for silent in ["", "{}", r#"{"zap-logger-config":""}"#, r#"{"zap-logger-config":"{}"}"#] {
        assert_eq!(filter_of(silent, &[]), "info", "{silent}");
    }
}

#[test]
fn a_logging_configuration_that_cannot_be_read_is_a_warning() {
    for broken in [
        "level: info",
        "[]",
        r#"{"zap-logger-config":"level: info"}"#,
        r#"{"zap-logger-config":{"level":"info"}}"#,
        r#"{"zap-logger-config":"{\"level\":\"loud\"}"}"#,
    ] {
        let config = accepted(&[("K_LOGGING_CONFIG", broken), ("CHECKPOINT_STORE", "file:x")]);
        assert!(matches!(config.warnings[..], [Warning::LoggingConfig { .. }]), "{broken}: {:?}", config.warnings);
        assert_eq!(config.log.filter, "info");
    }
}

#[test]
fn the_present_moment_is_not_in_the_future() {
    assert_eq!(accepted(&[("START_POSITION", "2026-01-31T12:00:00Z")]).source.start, StartPosition::At(now()));
}
