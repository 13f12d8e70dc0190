//! The HTTP client of all calls to AWS: which authorities it trusts, and what it asks through a proxy.
//!
//! Contract: one client for everybody, so that all share its connections and its roots. A proxy sees what is meant for AWS and
//! nothing of this machine: agents and metadata services hand out credentials, and are sent a pod's token. So loopback,
//! 169.254.0.0/16, fd00:ec2::/32 and what `NO_PROXY` names are asked directly, in all forms of that variable that are in use.
//!
//! The SDK reads an answer into memory as a whole. So no more than [`ANSWER_MAX_BYTES`] of one are read, whoever sends it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http::Uri;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::config::{Certificates, shown_path};

const PROXIES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
/// The most bytes of a bundle; that of a Linux distribution has a quarter of a megabyte.
const BUNDLE_MAX_BYTES: u64 = 16 << 20;

/// The most bytes of an answer.
///
/// Source: "maximum of 1 MB" for `GetRecords` and `Query` in the API references. As JSON that is at most fourteen times as much: an
/// element of a list that is null has one byte, and one more as an element.
const ANSWER_MAX_BYTES: usize = 32 << 20;

const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Why a bundle of certificates cannot be what is trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("AWS_CA_BUNDLE: {path}: {why}; give a PEM file with the certificates of the authorities to trust")]
pub struct InvalidBundle {
    path: String,
    why: String,
}

/// The client. With a `bundle` of authorities it trusts these and no others, as the AWS CLI does, else those of the system.
///
/// # Errors
/// When the bundle holds anything that is no certificate of an authority, or nothing.
pub(super) fn http_client(bundle: Option<&str>) -> Result<SharedHttpClient, InvalidBundle> {
    let roots = bundle.map(authorities).transpose()?;
    let client = |proxy: ProxyConfig| SharedHttpClient::new(Bounded(connecting(roots.clone(), proxy)));
    let variable = |name: &&str| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
    if PROXIES.iter().find_map(variable).is_none() {
        return Ok(client(ProxyConfig::disabled()));
    }
    let exceptions = EXCEPTIONS.iter().filter_map(variable).flat_map(|list| Exception::list(&list)).collect();
    let (direct, proxied) = (client(ProxyConfig::disabled()), client(ProxyConfig::from_env()));
    Ok(SharedHttpClient::new(Routed { direct, proxied, exceptions }))
}

/// The SDK's default client as one value; by itself every client of a service would make its own and read the system's roots again.
fn connecting(roots: Option<Vec<u8>>, proxy: ProxyConfig) -> SharedHttpClient {
    let trust = roots.map(|pem| TrustStore::empty().with_pem_certificate(pem));
    let tls = trust.and_then(|trust| TlsContext::builder().with_trust_store(trust).build().ok());
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
        if let Some(tls) = &tls {
            connector.set_tls_context(tls.clone());
        }
        connector.set_proxy_config(Some(proxy.clone()));
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.build()
    })
}

/// The bundle's text. The SDK panics over a certificate that cannot be used.
fn authorities(path: &str) -> Result<Vec<u8>, InvalidBundle> {
    let invalid = |why: String| InvalidBundle { path: shown_path(path).to_owned(), why };
    // Reading a pipe or a device might never end.
    let found = std::fs::metadata(path).map_err(|error| invalid(error.to_string()))?;
    if !found.is_file() || found.len() > BUNDLE_MAX_BYTES {
        return Err(invalid(format!("it is no file, or larger than {} MiB", BUNDLE_MAX_BYTES >> 20)));
    }
    let text = std::fs::read(path).map_err(|error| invalid(error.to_string()))?;
    let left_out = Certificates::usable(&text).map_err(|error| invalid(error.to_string()))?.1;
    match left_out.first() {
        None => Ok(text),
        Some(error) => Err(invalid(error.to_string())),
    }
}

/// An answer is longer than any of AWS.
#[derive(Debug, thiserror::Error)]
#[error("the answer has more than {} MiB, which is more than AWS sends; check AWS_ENDPOINT_URL", ANSWER_MAX_BYTES >> 20)]
struct AnswerTooLong;

/// A client that reads no more of an answer than AWS would send.
#[derive(Debug)]
struct Bounded(SharedHttpClient);

impl HttpClient for Bounded {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(BoundedConnector(self.0.http_connector(settings, components)))
    }
}

#[derive(Debug)]
struct BoundedConnector(SharedHttpConnector);

impl HttpConnector for BoundedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async move { Ok(answer.await?.map(bounded)) })
    }
}

fn bounded(body: SdkBody) -> SdkBody {
    let why = |error: BoxError| if error.is::<LengthLimitError>() { AnswerTooLong.into() } else { error };
    SdkBody::from_body_1_x(Limited::new(body, ANSWER_MAX_BYTES).map_err(why))
}

/// Two clients, of which one knows the proxy.
#[derive(Debug)]
struct Routed {
    direct: SharedHttpClient,
    proxied: SharedHttpClient,
    exceptions: Vec<Exception>,
}

impl HttpClient for Routed {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(RoutedConnector {
            direct: self.direct.http_connector(settings, components),
            proxied: self.proxied.http_connector(settings, components),
            exceptions: self.exceptions.clone(),
        })
    }
}

#[derive(Debug)]
struct RoutedConnector {
    direct: SharedHttpConnector,
    proxied: SharedHttpConnector,
    exceptions: Vec<Exception>,
}

impl HttpConnector for RoutedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match is_direct(request.uri(), &self.exceptions) {
            true => self.direct.call(request),
            false => self.proxied.call(request),
        }
    }
}

/// Whether no proxy is to see a request to this address; what cannot be read as one is nothing to show to a proxy either.
fn is_direct(url: &str, exceptions: &[Exception]) -> bool {
    let Ok(url) = url.parse::<Uri>() else { return true };
    let Some(host) = url.host() else { return true };
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 });
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    let is_of_this_machine = match host.parse::<IpAddr>() {
        Ok(address) => is_local(address),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    };
    is_of_this_machine || exceptions.iter().any(|exception| exception.names(&host, port))
}

/// Loopback, and where agents and metadata services hand out credentials.
///
/// Source: "IPv6 addresses for the Instance Metadata Service" in the EC2 User Guide: fd00:ec2::254; EKS Pod Identity: fd00:ec2::23.
fn is_local(address: IpAddr) -> bool {
    let is_local_v4 = |address: Ipv4Addr| address.is_loopback() || address.is_link_local() || address.is_unspecified();
    match address {
        IpAddr::V4(address) => is_local_v4(address),
        IpAddr::V6(address) => {
            let of_ec2 = address.segments()[..2] == [0xfd00, 0x0ec2];
            let is_mapped = address.to_ipv4_mapped().is_some_and(is_local_v4);
            address.is_loopback() || address.is_unicast_link_local() || address.is_unspecified() || of_ec2 || is_mapped
        }
    }
}

/// One entry of `NO_PROXY`.
///
/// The library's own matcher knows names, addresses and networks; programs of other languages also take `*.example.com`,
/// `host:8080` and `[::1]`.
#[derive(Clone, PartialEq, Eq)]
struct Exception {
    /// Lower case, without the dot or the star before a domain.
    host: String,
    /// Bits of the network, where the host is its address.
    network: Option<u8>,
    port: Option<u16>,
}

impl fmt::Debug for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}

impl Exception {
    /// The entries, which commas or blanks separate.
    fn list(text: &str) -> Vec<Self> {
        let entries = text.split(|letter: char| letter == ',' || letter.is_whitespace());
        entries.filter(|entry| !entry.is_empty()).map(Self::of).collect()
    }

    fn of(entry: &str) -> Self {
        let entry = entry.to_ascii_lowercase();
        let (host, port) = match entry.rsplit_once(':') {
            // A bare IPv6 address has colons of its own.
            Some((host, port)) if entry.parse::<IpAddr>().is_err() && !host.is_empty() => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => (entry.as_str(), None),
            },
            _ => (entry.as_str(), None),
        };
        let (host, network) = match host.split_once('/') {
            Some((host, bits)) => (host, bits.parse().ok()),
            None => (host, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = if host == "*" { host } else { host.trim_start_matches('*').trim_start_matches('.') };
        Self { host: host.trim_end_matches('.').to_owned(), network, port }
    }

    fn names(&self, host: &str, port: u16) -> bool {
        if self.host.is_empty() || self.port.is_some_and(|own| own != port) {
            return false;
        }
        if self.host == "*" || self.host == host {
            return true;
        }
        match (self.host.parse::<IpAddr>(), host.parse::<IpAddr>()) {
            (Ok(own), Ok(address)) => self.network.is_some_and(|bits| is_in_network(address, own, bits)),
            (Err(_), Err(_)) => host.strip_suffix(self.host.as_str()).is_some_and(|before| before.ends_with('.')),
            _ => false,
        }
    }
}

fn is_in_network(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let masked = |value: u128, width: u32| value.checked_shr(width.saturating_sub(u32::from(bits))).unwrap_or(0);
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let [address, network] = [address, network].map(|address| u128::from(address.to_bits()));
            bits <= 32 && masked(address, 32) == masked(network, 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            bits <= 128 && masked(address.to_bits(), 128) == masked(network.to_bits(), 128)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(url: &str, no_proxy: &str) -> bool {
        is_direct(url, &Exception::list(no_proxy))
    }

    #[test]
    fn what_is_of_this_machine_is_asked_directly() {
        for host in [
            "localhost",
            "LocalHost.",
            "sts.localhost",
            "127.0.0.1",
            "127.1.2.3:9000",
            "0.0.0.0",
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "[::1]",
            "[::1]:8080",
            "[fd00:ec2::254]",
            "[fd00:ec2::23]:80",
            "[fd00:0ec2:0:0::1]",
            "[fe80::1]",
            "[::ffff:169.254.170.2]",
        ] {
            for scheme in ["http", "https"] {
                assert!(direct(&format!("{scheme}://{host}/credentials"), ""), "{scheme}://{host}");
            }
        }
    }

    #[test]
    fn everything_else_takes_the_proxy() {
        for host in [
            "sts.eu-west-1.amazonaws.com",
            "10.0.0.1",
            "169.253.0.1",
            "[fd00:ec3::254]",
            "[2001:db8::1]",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "notlocalhost",
        ] {
            assert!(!direct(&format!("https://{host}/"), ""), "{host}");
        }
    }

    #[test]
    fn exceptions_are_understood_in_every_form_that_is_in_use() {
        for (list, url, expected) in [
            ("example.com", "https://example.com/", true),
            ("example.com", "https://a.example.com/", true),
            (".example.com", "https://a.example.com/", true),
            ("*.example.com", "https://a.b.example.com/", true),
            ("EXAMPLE.com", "https://A.example.COM/", true),
            ("example.com.", "https://a.example.com./", true),
            ("example.com", "https://notexample.com/", false),
            ("example.com", "https://example.com.evil.org/", false),
            ("x.org, example.com", "https://example.com/", true),
            ("x.org example.com\n", "https://example.com/", true),
            ("example.com:8443", "https://example.com:8443/", true),
            ("example.com:443", "https://example.com/", true),
            ("example.com:8443", "https://example.com/", false),
            ("*", "https://example.com/", true),
            ("10.0.0.0/8", "http://10.1.2.3/", true),
            ("10.0.0.0/8", "http://11.1.2.3/", false),
            ("10.0.0.0/8", "http://ten.example.com/", false),
            ("0.0.0.0/0", "http://11.1.2.3/", true),
            ("10.0.0.0/99", "http://10.0.0.1/", false),
            ("10.1.2.3", "http://10.1.2.3:4566/", true),
            ("10.1.2.3:4566", "http://10.1.2.3:4566/", true),
            ("fd12::/16", "http://[fd12::7]/", true),
            ("[fd12::7]", "http://[fd12::7]/", true),
            ("[fd12::7]:80", "http://[fd12::7]/", true),
            ("fd12::7", "http://[fd12::7]:4566/", true),
            (" , ,,", "https://example.com/", false),
            ("amazonaws.com", "https://sts.eu-west-1.amazonaws.com/", true),
        ] {
            assert_eq!(direct(url, list), expected, "NO_PROXY={list:?} {url}");
        }
    }
}
