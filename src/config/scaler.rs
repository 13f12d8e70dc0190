//! The scaler for KEDA: what may be scaled, its port with TLS, its replicas, its pace. Read only by `dynamodb-streams-adapter scaler`.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::checkpoint::CheckpointLocation;
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
    SCALER_ADVERTISED_ADDRESS as scaler_advertised_address: AdvertisedAddress = advertised_address {
        group: Group::Scaler,
        accepts: Accepts::Phrase("an IP address or a host name, with or without a port, such as `10.0.3.7` or `scaler-0.scaler:6000`"),
        meaning: "Where other replicas of this scaler reach the gRPC service, such as the pod's IP; without a port that of \
            `SCALER_ADDRESS`. With it the replicas share a lease in the table of `CHECKPOINT_STORE=dynamodb:<table>`: one \
            reads, the others ask it. Not set: there is one replica.",
    }
    SCALER_LEASE_NAME as scaler_lease_name: String = parse::group_name {
        group: Group::Scaler,
        default: Default::Value("dynamodb-streams-scaler"),
        accepts: Accepts::Phrase("up to 255 letters, digits, `_`, `-` or `.`"),
        meaning: "Name of the replicas' lease; scalers that share a table of positions and are no replicas of each other need \
            different names.",
    }
    SCALER_PEER_CA_FILE as scaler_peer_ca_file: PathBuf = absolute_path {
        group: Group::Scaler,
        accepts: Accepts::Phrase("an absolute path"),
        meaning: "PEM file with the authorities of the replicas' own certificates, by which they trust each other. Not set: \
            `SCALER_CLIENT_CA_FILE`. Read again when it changes.",
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

/// The setting that reads the others about replicas.
const UNLESS_REPLICAS: &str = "SCALER_ADVERTISED_ADDRESS";

/// What is said of the scaler alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaler {
    /// Which tables may be looked at, for whom, with which credentials.
    pub rules: ScalingRules,
    /// Where KEDA calls.
    pub address: SocketAddr,
    /// None: without TLS.
    pub tls: Option<ScalerTls>,
    /// None: there is one replica.
    pub replicas: Option<ScalerReplicas>,
    pub pace: ScalerPace,
}

/// The files of the service's TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalerTls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Those who call need a certificate of these authorities.
    pub client_authorities: Option<PathBuf>,
    /// Another replica shows a certificate of these authorities; none if there is one replica.
    pub peer_authorities: Option<PathBuf>,
}

/// What the replicas of a scaler know of each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalerReplicas {
    /// Where the others reach this one.
    pub advertised: AdvertisedAddress,
    /// What they call their lease: no part of it is an ARN.
    pub lease_name: String,
}

/// Where a replica is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvertisedAddress {
    /// An IP address, one of version 6 without brackets, or a host name.
    host: String,
    /// None: that of the listener.
    port: Option<u16>,
}

impl AdvertisedAddress {
    /// Host and port as they stand in a URL.
    pub fn with_port(&self, otherwise: u16) -> String {
        format!("{self}:{}", self.port.unwrap_or(otherwise))
    }
}

/// The host as it stands in a URL.
impl fmt::Display for AdvertisedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse::<Ipv6Addr>() {
            Ok(address) => write!(f, "[{address}]"),
            Err(_) => f.write_str(&self.host),
        }
    }
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
    /// `positions` is where `CHECKPOINT_STORE` stores them, if that can be told.
    pub(super) fn read(reader: &mut Reader, positions: Option<&CheckpointLocation>) -> Result<Self, AlreadyReported> {
        let given: Given = reader.section();
        let rules = read_rules(reader, &given);
        let address = reader.value(&given.scaler_address);
        let replicas = read_replicas(reader, &given, positions);
        let has_replicas = given.scaler_advertised_address.text().is_some();
        let tls = read_tls(reader, &given, has_replicas);
        let pace = read_pace(reader, &given);
        Ok(Self { rules: rules?, address: address?, tls: tls?, replicas: replicas?, pace: pace? })
    }
}

fn read_replicas(
    reader: &mut Reader,
    given: &Given,
    positions: Option<&CheckpointLocation>,
) -> Result<Option<ScalerReplicas>, AlreadyReported> {
    let advertised = reader.optional(&given.scaler_advertised_address);
    let lease_name = reader.value(&given.scaler_lease_name);
    let Some(advertised) = advertised? else {
        reader.warn_no_effect(&given.scaler_lease_name, UNLESS_REPLICAS);
        return Ok(None);
    };
    if !matches!(positions, None | Some(CheckpointLocation::DynamoDb(_))) {
        let why = "the replicas' lease is in the table of CHECKPOINT_STORE=dynamodb:<table>: set it".into();
        return Err(reader.refused(&given.scaler_advertised_address, why));
    }
    Ok(Some(ScalerReplicas { advertised, lease_name: lease_name? }))
}

fn read_rules(reader: &mut Reader, given: &Given) -> Result<ScalingRules, AlreadyReported> {
    match reader.optional(&given.scaler_rules)? {
        Some(rules) => Ok(rules),
        None => Err(reader.refused(&given.scaler_rules, "the scaler looks at nothing that no rule allows".into())),
    }
}

fn read_tls(reader: &mut Reader, given: &Given, has_replicas: bool) -> Result<Option<ScalerTls>, AlreadyReported> {
    let certificate = reader.optional(&given.scaler_tls_cert_file);
    let key = reader.optional(&given.scaler_tls_key_file);
    let client_authorities = reader.optional(&given.scaler_client_ca_file);
    let peer_authorities = reader.optional(&given.scaler_peer_ca_file);
    if !has_replicas {
        reader.warn_no_effect(&given.scaler_peer_ca_file, UNLESS_REPLICAS);
    }
    let authorities = match (client_authorities?, peer_authorities?) {
        (clients, peers) if has_replicas => (clients.clone(), peers.or(clients)),
        (clients, _) => (clients, None),
    };
    match (certificate?, key?, authorities) {
        (Some(_), Some(_), (None, None)) if has_replicas => {
            let why = "SCALER_ADVERTISED_ADDRESS needs it or SCALER_CLIENT_CA_FILE: replicas verify each other".into();
            Err(reader.refused(&given.scaler_peer_ca_file, why))
        }
        (Some(certificate), Some(key), (client_authorities, peer_authorities)) => {
            Ok(Some(ScalerTls { certificate, key, client_authorities, peer_authorities }))
        }
        (Some(_), None, _) => Err(reader.refused(&given.scaler_tls_key_file, "SCALER_TLS_CERT_FILE needs it".into())),
        (None, Some(_), _) => Err(reader.refused(&given.scaler_tls_cert_file, "SCALER_TLS_KEY_FILE needs it".into())),
        (None, None, (None, None)) => Ok(None),
        (None, None, (clients, _)) => {
            let file = if clients.is_some() { "SCALER_CLIENT_CA_FILE" } else { "SCALER_PEER_CA_FILE" };
            let why = format!("{file} needs it: without TLS nobody shows a certificate").into();
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

fn advertised_address(text: &str) -> Result<AdvertisedAddress, InvalidValue> {
    let of = |host: &str, port| AdvertisedAddress { host: host.to_ascii_lowercase(), port };
    if let Ok(address) = text.parse::<SocketAddr>() {
        return reachable(address.ip()).map(|()| of(&address.ip().to_string(), Some(address.port())));
    }
    let unbracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = unbracketed.parse::<IpAddr>() {
        return reachable(address).map(|()| of(&address.to_string(), None));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port.parse().map_err(|_| "not a port")?)),
        None => (text, None),
    };
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    match (1..=253).contains(&host.len()) && host.bytes().all(is_of_name) && port != Some(0) {
        true => Ok(of(host, port)),
        false => Err("not a host".into()),
    }
}

fn reachable(address: IpAddr) -> Result<(), InvalidValue> {
    match address.is_unspecified() {
        true => Err("every address of this machine, which nobody else can call".into()),
        false => Ok(()),
    }
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
