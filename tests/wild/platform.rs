//! Values that controllers set, as their own adapters take them: Knative's SinkBinding, ContainerSource and IntegrationSource, and
//! TriggerMesh's AWSDynamoDBSource. What those run with, this runs with.

use std::time::{Duration, SystemTime};

use dynamodb_streams_adapter::config::{Config, EnvironmentFacts, Mistakes, StartPosition};
use rcgen::{CertificateParams, KeyPair};

use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::sink::TestSink;
use crate::support::wait_for;

/// What is set, the extensions of every event, and words of what is said.
type Override = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

const KAMELET: &str = "CAMEL_KAMELET_AWS_DDB_STREAMS_SOURCE_";

fn read(variables: &[(&str, &str)]) -> Result<Config, Mistakes> {
    let facts =
        EnvironmentFacts { now: SystemTime::now(), stdout_is_terminal: false, open_files: None, memory_limit: None };
    let needed = [("TABLE", "orders"), ("K_SINK", "http://broker/default"), ("CHECKPOINT_STORE", "file:/positions")];
    let needed = needed.iter().filter(|(name, _)| !variables.iter().any(|(given, _)| given == name));
    Config::from_env_vars(needed.chain(variables).map(|(name, value)| (name.into(), value.into())), &facts)
}

/// The configuration, and what was said about it.
#[track_caller]
fn taken(variables: &[(&str, &str)]) -> (Config, Vec<String>) {
    let config = read(variables).unwrap_or_else(|mistakes| panic!("{variables:?}: {mistakes}"));
    let said = config.warnings.iter().map(ToString::to_string).collect();
    (config, said)
}

#[test]
fn overrides_are_taken_as_knatives_own_adapters_take_them() {
    let table: [Override; 10] = [
        (r#"{"extensions":{"cluster":"blue"}}"#, &[("cluster", "blue")], &[]),
        (r#"{"extensions":{"Cluster":"blue"}}"#, &[("cluster", "blue")], &["Cluster", "cluster"]),
        (
            r#"{"extensions":{"clusterID":"7","Zone":"a"}}"#,
            &[("clusterid", "7"), ("zone", "a")],
            &["clusterID", "Zone"],
        ),
        (r#"{"extensions":{"Cluster":"upper","cluster":"lower"}}"#, &[("cluster", "lower")], &["Cluster"]),
        (r#"{"Extensions":{"cluster":"blue"}}"#, &[("cluster", "blue")], &[]),
        (r#"{"extensions":{"cluster":null}}"#, &[("cluster", "")], &[]),
        (r#"{"extensions":{"cluster":"blue\n"}}"#, &[("cluster", "blue")], &["cluster"]),
        (r#"{"extensions":{"Subject":"fixed"}}"#, &[("subject", "fixed")], &["Subject"]),
        ("null", &[], &[]),
        ("\n{}\n", &[], &[]),
    ];
    for (value, extensions, words) in table {
        let (config, said) = taken(&[("K_CE_OVERRIDES", value)]);
        let expected = extensions.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(config.event.overrides, expected, "{value}");
        assert_eq!(said.is_empty(), words.is_empty(), "{value}: {said:?}");
        assert!(said.iter().all(|line| line.starts_with("K_CE_OVERRIDES")), "{said:?}");
        assert!(words.iter().all(|word| said.concat().contains(word)), "{value}: {said:?}");
    }
    for value in [r#"{"extensions":{"Type":"t"}}"#, r#"{"extensions":{"ID":"1"}}"#, r#"{"extensions":{"my-name":"x"}}"#]
    {
        assert!(read(&[("K_CE_OVERRIDES", value)]).is_err(), "{value}: no event could carry it");
    }
}

#[test]
fn a_sink_timeout_that_is_none_is_said_and_not_used() {
    let default = Duration::from_secs(30);
    for (value, timeout, is_said) in [
        ("30", default, false),
        ("+45", Duration::from_secs(45), false),
        ("0", default, false),
        ("-1", default, false),
        ("30s", default, true),
        ("1.5", default, true),
        ("soon", default, true),
        ("99999999999999999999999", default, true),
        ("86401", Duration::from_hours(24), true),
    ] {
        let (config, said) = taken(&[("K_SINK_TIMEOUT", value)]);
        assert_eq!(config.delivery.timeout, timeout, "{value}");
        assert_eq!(said.len(), usize::from(is_said), "{value}: {said:?}");
        assert!(said.iter().all(|line| line.starts_with("K_SINK_TIMEOUT")), "{said:?}");
    }
}

fn authority() -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&key).unwrap().pem()
}

#[test]
fn certificates_that_cannot_be_used_are_left_out_where_others_can() {
    let (one, two) = (authority(), authority());
    let empty = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    let broken = two.replacen("\nMII", "\n!!!", 1);
    let cut = "-----BEGIN CERTIFICATE-----\nMIIB\n";
    for (text, used, left_out) in [
        (one.clone(), 1, 0),
        (format!("{one}{two}"), 2, 0),
        (format!("{one}{empty}{two}"), 2, 1),
        (format!("{one}{broken}{two}"), 2, 1),
        (format!("{broken}{empty}{one}"), 1, 2),
        (format!("{one}{cut}"), 1, 1),
    ] {
        let (config, said) = taken(&[("K_SINK", "https://broker/default"), ("K_CA_CERTS", &text)]);
        assert_eq!(config.sink_credentials.ca_certs.len(), used, "{text}");
        assert_eq!(said.len(), usize::from(left_out > 0), "{said:?}");
        assert!(said.iter().all(|line| line.starts_with("K_CA_CERTS") && line.contains(&left_out.to_string())));
        assert!(!said.concat().contains("aGVsbG8"), "{said:?}");
    }
}

#[test]
fn certificates_of_which_none_can_be_used_are_a_mistake_for_https_alone() {
    for text in ["nothing", "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"] {
        let (config, said) = taken(&[("K_CA_CERTS", text)]);
        assert!(config.sink_credentials.ca_certs.is_empty());
        assert!(said.len() == 1 && said[0].starts_with("K_CA_CERTS"), "{said:?}");
        assert!(read(&[("K_CA_CERTS", text), ("K_SINK", "https://broker/")]).is_err());
        let dead_letters = [("ON_UNDELIVERABLE", "dead-letter"), ("DEAD_LETTER_SINK", "https://dead/")];
        assert!(read(&[&dead_letters[..], &[("K_CA_CERTS", text)]].concat()).is_err());
    }
}

#[test]
fn properties_of_the_kamelet_are_taken_as_camel_takes_them() {
    let camel = |name: &str, value: &str| {
        let name = format!("{KAMELET}{name}");
        let table = format!("{KAMELET}TABLE");
        taken(&[(&table, "orders"), (&name, value)]).0.source
    };
    for start in ["FROM_START", "from_start", "from-start", "FromStart"] {
        assert_eq!(camel("STREAMITERATORTYPE", start).start, StartPosition::TrimHorizon, "{start}");
    }
    for start in ["FROM_LATEST", "from-latest", "fromLatest"] {
        assert_eq!(camel("STREAMITERATORTYPE", start).start, StartPosition::Latest, "{start}");
    }
    for (delay, millis) in [("500", 500), ("500ms", 500), ("2s", 2_000), ("1m30s", 90_000), ("0", 250)] {
        let pace = camel("DELAY", delay).poll_intervals;
        assert_eq!(pace.poll_interval, Duration::from_millis(millis), "{delay}");
    }
}

#[test]
fn metrics_of_triggermesh_are_served_where_its_own_adapter_would() {
    let arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders";
    for (host, address) in [("0.0.0.0", "0.0.0.0:9092"), ("::", "[::]:9092"), ("localhost", "127.0.0.1:9092")] {
        let variables =
            [("ARN", arn), ("TABLE", ""), ("METRICS_PROMETHEUS_PORT", "9092"), ("METRICS_PROMETHEUS_HOST", host)];
        assert_eq!(taken(&variables).0.process.metrics_address, Some(address.parse().unwrap()), "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_in_capital_letters_is_sent_in_small_ones_and_said() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let plan = Plan::new(&aws, &sink, "orders").env("K_CE_OVERRIDES", r#"{"extensions":{"Cluster":"blue"}}"#);
    let adapter = plan.start_ready().await;
    aws.write("orders", 1, 1);
    wait_for("the event", || sink.distinct() == 1).await;
    assert_eq!(sink.received()[0].attributes.get("cluster").map(String::as_str), Some("blue"));
    let said = adapter.logged("K_CE_OVERRIDES");
    assert_eq!((said.len(), said[0]["code"].as_str()), (1, Some("DSA-CONFIG")));
}
