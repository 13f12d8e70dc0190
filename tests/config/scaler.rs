//! The scaler for KEDA.

use std::time::Duration;

use dynamodb_streams_adapter::config::{Mistakes, ScalerConfig, variables};

use crate::support::{accepted, facts, os};

const RULES: (&str, &str) =
    ("SCALER_RULES", r#"[{"namespaces": ["shop"], "tables": ["orders"], "regions": ["eu-west-1"]}]"#);

fn read(variables: &[(&str, &str)]) -> Result<ScalerConfig, Mistakes> {
    ScalerConfig::from_env_vars(variables.iter().copied().map(os), &facts())
}

fn with(more: &[(&str, &str)]) -> ScalerConfig {
    read(&[&[RULES], more].concat()).unwrap_or_else(|mistakes| panic!("{more:?}: {mistakes}"))
}

fn mistaken(more: &[(&str, &str)]) -> Vec<&'static str> {
    let mistakes = read(&[&[RULES], more].concat()).expect_err("it was accepted").mistakes;
    mistakes.iter().map(|mistake| mistake.variable).collect()
}

#[test]
fn rules_are_enough_and_needed() {
    let config = with(&[]);
    assert_eq!(config.scaler.address.port(), 6000);
    assert_eq!((config.scaler.tls, config.positions, config.warnings), (None, None, vec![]));
    let pace = config.scaler.pace;
    assert_eq!((pace.refresh_interval, pace.idle_after), (Duration::from_mins(1), Duration::from_mins(1)));
    assert_eq!((pace.poll_interval, pace.describe_rate), (Duration::from_secs(2), 4.0));
    let without = read(&[]).expect_err("no rules").to_string();
    assert!(without.contains("SCALER_RULES"), "{without}");
}

#[test]
fn the_adapter_reads_nothing_of_it_and_it_reads_nothing_of_the_sink() {
    let all: Vec<_> = variables().filter(|it| it.name.starts_with("SCALER_")).map(|it| (it.name, "!=?=!")).collect();
    assert_eq!(accepted(&all), accepted(&[]));
    assert_eq!(with(&[("K_SINK", "!=?=!"), ("EVENT_MODE", "!=?=!")]), with(&[]));
}

#[test]
fn all_its_mistakes_are_reported_at_once() {
    let all: Vec<_> = variables().filter(|it| it.name.starts_with("SCALER_")).map(|it| (it.name, "!=?=!")).collect();
    let mut reported: Vec<_> =
        read(&all).expect_err("all are wrong").mistakes.iter().map(|mistake| mistake.variable).collect();
    let mut expected: Vec<_> = all.iter().map(|(name, _)| *name).collect();
    reported.sort_unstable();
    expected.sort_unstable();
    assert_eq!(reported, expected);
}

#[test]
fn values_out_of_range_are_mistakes() {
    for (variable, value) in [
        ("SCALER_REFRESH_INTERVAL", "500ms"),
        ("SCALER_REFRESH_INTERVAL", "11m"),
        ("SCALER_POLL_INTERVAL", "100ms"),
        ("SCALER_POLL_INTERVAL", "6m"),
        ("SCALER_IDLE_AFTER", "15m"),
        ("SCALER_DESCRIBE_RATE", "11"),
        ("SCALER_DESCRIBE_RATE", "0"),
        ("SCALER_ADDRESS", "localhost"),
        ("SCALER_TLS_CERT_FILE", "tls.crt"),
    ] {
        assert!(mistaken(&[(variable, value)]).contains(&variable), "{variable}={value}");
    }
}

#[test]
fn a_certificate_goes_with_its_key_and_clients_certificates_with_both() {
    let (certificate, key) = (("SCALER_TLS_CERT_FILE", "/tls/tls.crt"), ("SCALER_TLS_KEY_FILE", "/tls/tls.key"));
    let authorities = ("SCALER_CLIENT_CA_FILE", "/tls/ca.crt");
    assert_eq!(mistaken(&[certificate]), ["SCALER_TLS_KEY_FILE"]);
    assert_eq!(mistaken(&[key]), ["SCALER_TLS_CERT_FILE"]);
    assert_eq!(mistaken(&[authorities]), ["SCALER_TLS_CERT_FILE"]);
    let tls = with(&[certificate, key, authorities]).scaler.tls.expect("TLS");
    assert_eq!(tls.client_authorities.as_deref(), Some("/tls/ca.crt".as_ref()));
}

const STORE: (&str, &str) = ("CHECKPOINT_STORE", "dynamodb:positions");

#[test]
fn replicas_know_each_other_by_an_address_that_others_can_reach() {
    for (text, expected) in [
        ("10.0.3.7", "10.0.3.7:6000"),
        ("10.0.3.7:7000", "10.0.3.7:7000"),
        ("fd00::7", "[fd00::7]:6000"),
        ("[fd00::7]", "[fd00::7]:6000"),
        ("[fd00::7]:7000", "[fd00::7]:7000"),
        ("scaler-0.scaler", "scaler-0.scaler:6000"),
        ("Scaler-0.scaler:7000", "scaler-0.scaler:7000"),
    ] {
        let replicas = with(&[STORE, ("SCALER_ADVERTISED_ADDRESS", text)]).scaler.replicas.expect("replicas");
        assert_eq!(replicas.advertised.with_port(6000), expected, "{text}");
        assert_eq!(replicas.lease_name, "dynamodb-streams-scaler");
    }
    for text in ["0.0.0.0", "[::]:6000", ":6000", "http://scaler", "scaler:0", "scaler:x", "a b", "10.0.3.7:99999"] {
        assert_eq!(mistaken(&[STORE, ("SCALER_ADVERTISED_ADDRESS", text)]), ["SCALER_ADVERTISED_ADDRESS"], "{text}");
    }
    assert_eq!(with(&[STORE]).scaler.replicas, None);
}

#[test]
fn replicas_need_a_table_for_their_lease_and_authorities_for_their_tls() {
    let advertised = ("SCALER_ADVERTISED_ADDRESS", "10.0.3.7");
    for store in ["memory", "file:/data/positions"] {
        assert_eq!(mistaken(&[advertised, ("CHECKPOINT_STORE", store)]), ["SCALER_ADVERTISED_ADDRESS"]);
    }
    let tls = [("SCALER_TLS_CERT_FILE", "/tls/tls.crt"), ("SCALER_TLS_KEY_FILE", "/tls/tls.key")];
    let pair = [&[STORE, advertised], &tls[..]].concat();
    assert_eq!(mistaken(&pair), ["SCALER_PEER_CA_FILE"]);
    let (clients, peers) = (("SCALER_CLIENT_CA_FILE", "/tls/keda.crt"), ("SCALER_PEER_CA_FILE", "/tls/ca.crt"));
    let authorities = |more: &[(&'static str, &'static str)]| {
        let tls = with(&[&pair, more].concat()).scaler.tls.expect("TLS");
        let text = |path: Option<std::path::PathBuf>| path.map(|path| path.display().to_string());
        (text(tls.client_authorities), text(tls.peer_authorities))
    };
    let file = |name: &str| Some(format!("/tls/{name}"));
    assert_eq!(authorities(&[clients]), (file("keda.crt"), file("keda.crt")));
    assert_eq!(authorities(&[peers]), (None, file("ca.crt")));
    assert_eq!(authorities(&[clients, peers]), (file("keda.crt"), file("ca.crt")));
    assert_eq!(mistaken(&[STORE, advertised, peers]), ["SCALER_TLS_CERT_FILE"]);
}

#[test]
fn what_is_said_of_replicas_without_any_is_a_warning() {
    let tls = [("SCALER_TLS_CERT_FILE", "/tls/tls.crt"), ("SCALER_TLS_KEY_FILE", "/tls/tls.key")];
    let alone = with(&[&tls[..], &[("SCALER_LEASE_NAME", "x"), ("SCALER_PEER_CA_FILE", "/tls/ca.crt")]].concat());
    let warnings: Vec<String> = alone.warnings.iter().map(ToString::to_string).collect();
    assert!(
        warnings.len() == 2 && warnings.iter().all(|text| text.contains("SCALER_ADVERTISED_ADDRESS")),
        "{warnings:?}"
    );
    assert_eq!(alone.scaler.tls.expect("TLS").peer_authorities, None);
}

#[test]
fn positions_are_those_of_adapters() {
    let table = with(&[("CHECKPOINT_STORE", "dynamodb:positions"), ("CHECKPOINT_REGION", "eu-west-1")]).positions;
    assert_eq!(table.map(|table| table.table.as_str().to_owned()).as_deref(), Some("positions"));
    assert_eq!(with(&[("CHECKPOINT_STORE", "file:/data/positions")]).positions, None);
}
