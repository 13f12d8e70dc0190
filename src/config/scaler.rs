//! The scaler for KEDA: what may be scaled, its port with TLS, its pace. Read only by `dynamodb-streams-adapter scaler`.

use core::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::parse::{self, InvalidValue};
use super::reader::{AlreadyReported, Reader};
use super::scaling_rules::ScalingRules;
use super::sink::absolute_path;
use super::variable::{Accepts, Default, Group, Variable, variables};

variables! {
    SCALER_RULES as scaler_rules: ScalingRules = ScalingRules::parse {
        group: Group::Scaler,
        accepts: Accepts::Phrase("a JSON list of rules, such as `[{\"namespaces\": [\"shop\"], \"tables\": [\"orders-*\"], \"regions\": [\"eu-west-1\"]}]`"),
        meaning: "Which tables ScaledObjects of which namespaces may be scaled by, and with which credentials; required \
            by the scaler. docs/keda.md has all members of a rule.",
    }
    SCALER_ADDRESS as scaler_address: SocketAddr = parse::address {
        group: Group::Scaler,
        default: Default::Value("[::]:6000"),
        accepts: Accepts::Phrase("an IP address and port, such as `:6000`, `127.0.0.1:6000` or `[::]:6000`"),
        meaning: "Listen address of the gRPC service that KEDA calls.",
    }
    SCALER_TLS_CERT_FILE as scaler_tls_cert_file: PathBuf = absolute_path {
        group: Group::Scaler,
        accepts: Accepts::Phrase("an absolute path"),
        meaning: "PEM file with the certificate of the gRPC service and its chain; KEDA then needs `enableTLS` or a `caCert`. \
            Read again when it changes.",
    }
    SCALER_TLS_KEY_FILE as scaler_tls_key_file: PathBuf = absolute_path {
        group: Group::Scaler,
        accepts: Accepts::Phrase("an absolute path"),
        meaning: "PEM file with the private key that belongs to `SCALER_TLS_CERT_FILE`. Read again when it changes.",
    }
    SCALER_CLIENT_CA_FILE as scaler_client_ca_file: PathBuf = absolute_path {
        group: Group::Scaler,
        accepts: Accepts::Phrase("an absolute path"),
        meaning: "PEM file with the authorities of client certificates: whoever calls the gRPC service needs one of theirs. \
            Read again when it changes.",
    }
    SCALER_REFRESH_INTERVAL as scaler_refresh_interval: Duration = refresh_interval {
        group: Group::Scaler,
        default: Default::Value("1m"),
        accepts: Accepts::Phrase("a duration from `1s` to `10m`, such as `1m`"),
        meaning: "How often a table's shards are listed, however many ScaledObjects ask for it.",
    }
    SCALER_DESCRIBE_RATE as scaler_describe_rate: f64 = describe_rate {
        group: Group::Scaler,
        default: Default::Value("4"),
        accepts: Accepts::Phrase("calls a second from `0.1` to `10`, such as `4`"),
        meaning: "The most `DescribeStream` calls a second in one region with the same credentials; an account has 10, which \
            consumers need too.",
    }
    SCALER_POLL_INTERVAL as scaler_poll_interval: Duration = poll_interval {
        group: Group::Scaler,
        default: Default::Value("2s"),
        accepts: Accepts::Phrase("a duration from `250ms` to `5m`, such as `2s`"),
        meaning: "How often the shards of an inactive table are read: so long after a write its target is active.",
    }
    SCALER_IDLE_AFTER as scaler_idle_after: Duration = idle_after {
        group: Group::Scaler,
        default: Default::Value("1m"),
        accepts: Accepts::Phrase("a duration from `1s` to `10m`, such as `1m`"),
        meaning: "A table to which nothing was written for one to two times this long is inactive; KEDA's \
            `cooldownPeriod` comes on top.",
    }
}

/// What is said of the scaler alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaler {
    /// Which tables may be looked at, for whom, with which credentials.
    pub rules: ScalingRules,
    /// Where KEDA calls.
    pub address: SocketAddr,
    /// None: without TLS.
    pub tls: Option<ScalerTls>,
    pub pace: ScalerPace,
}

/// The files of the service's TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalerTls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Those who call need a certificate of these authorities.
    pub client_authorities: Option<PathBuf>,
}

/// How often AWS is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScalerPace {
    /// Between two listings of a table's shards.
    pub refresh_interval: Duration,
    /// `DescribeStream` calls a second.
    pub describe_rate: f64,
    /// Between two looks for records of an inactive table.
    pub poll_interval: Duration,
    /// So long nothing is written to a table before it is inactive.
    pub idle_after: Duration,
}

impl Scaler {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, AlreadyReported> {
        let given: Given = reader.section();
        let rules = read_rules(reader, &given);
        let address = reader.value(&given.scaler_address);
        let tls = read_tls(reader, &given);
        let pace = read_pace(reader, &given);
        Ok(Self { rules: rules?, address: address?, tls: tls?, pace: pace? })
    }
}

fn read_rules(reader: &mut Reader, given: &Given) -> Result<ScalingRules, AlreadyReported> {
    match reader.optional(&given.scaler_rules)? {
        Some(rules) => Ok(rules),
        None => Err(reader.refused(&given.scaler_rules, "the scaler looks at nothing that no rule allows".into())),
    }
}

fn read_tls(reader: &mut Reader, given: &Given) -> Result<Option<ScalerTls>, AlreadyReported> {
    let certificate = reader.optional(&given.scaler_tls_cert_file);
    let key = reader.optional(&given.scaler_tls_key_file);
    let client_authorities = reader.optional(&given.scaler_client_ca_file);
    match (certificate?, key?, client_authorities?) {
        (Some(certificate), Some(key), client_authorities) => {
            Ok(Some(ScalerTls { certificate, key, client_authorities }))
        }
        (None, None, None) => Ok(None),
        (Some(_), None, _) => Err(reader.refused(&given.scaler_tls_key_file, "SCALER_TLS_CERT_FILE needs it".into())),
        (None, Some(_), _) => Err(reader.refused(&given.scaler_tls_cert_file, "SCALER_TLS_KEY_FILE needs it".into())),
        (None, None, Some(_)) => {
            let why = "SCALER_CLIENT_CA_FILE needs it: without TLS nobody shows a certificate".into();
            Err(reader.refused(&given.scaler_tls_cert_file, why))
        }
    }
}

fn read_pace(reader: &mut Reader, given: &Given) -> Result<ScalerPace, AlreadyReported> {
    let refresh_interval = reader.value(&given.scaler_refresh_interval);
    let describe_rate = reader.value(&given.scaler_describe_rate);
    let poll_interval = reader.value(&given.scaler_poll_interval);
    let idle_after = reader.value(&given.scaler_idle_after);
    Ok(ScalerPace {
        refresh_interval: refresh_interval?,
        describe_rate: describe_rate?,
        poll_interval: poll_interval?,
        idle_after: idle_after?,
    })
}

fn refresh_interval(text: &str) -> Result<Duration, InvalidValue> {
    between(text, Duration::from_secs(1), Duration::from_mins(10))
}

/// Below the lower end a shard of a quiet table would be read more often than its own consumer reads it.
fn poll_interval(text: &str) -> Result<Duration, InvalidValue> {
    between(text, Duration::from_millis(250), Duration::from_mins(5))
}

/// An iterator lives 15 minutes, and is used again after this long.
fn idle_after(text: &str) -> Result<Duration, InvalidValue> {
    between(text, Duration::from_secs(1), Duration::from_mins(10))
}

fn between(text: &str, least: Duration, most: Duration) -> Result<Duration, InvalidValue> {
    match parse::duration(text)? {
        duration if duration < least => Err("too small".into()),
        duration if duration > most => Err("too large".into()),
        duration => Ok(duration),
    }
}

fn describe_rate(text: &str) -> Result<f64, InvalidValue> {
    match parse::rate(text)? {
        rate if rate < 0.1 => Err("too small".into()),
        rate if rate > 10.0 => Err("too large: an account has 10".into()),
        rate => Ok(rate),
    }
}
