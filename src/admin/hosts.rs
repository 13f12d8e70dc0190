//! Which host names `/` and `/status` answer to.
//!
//! A page of anybody in somebody's browser can give its own name another address, such as that of a port-forward on the same machine,
//! and then read what is served there as its own (DNS rebinding). The browser still sends the page's name as the host. So the host has
//! to be one that nobody outside can have: an address, `localhost`, a name of a service in the cluster, or one that was configured.

use std::net::IpAddr;

use http::{HeaderMap, Uri, header};

/// How names of services in a cluster end. The domain of a cluster with another name is configured.
const SERVICES: [&str; 2] = [".svc", ".svc.cluster.local"];

/// Names that are served besides those that are always.
#[derive(Debug, Clone, Default)]
pub struct AdminHosts(Vec<String>);

impl AdminHosts {
    /// These names, in lower case.
    pub fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// Whether a request is for hosts that are served. Of one that names none no browser was the sender.
    pub(super) fn admit(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let in_headers = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or("?"));
        uri.authority().map(|authority| authority.as_str()).into_iter().chain(in_headers).all(|host| self.serve(host))
    }

    fn serve(&self, host: &str) -> bool {
        let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
        address.parse::<IpAddr>().is_ok()
            || name == "localhost"
            || is_name(&name) && SERVICES.iter().any(|service| name.len() > service.len() && name.ends_with(service))
            || self.0.contains(&name)
    }
}

/// Whether it is nothing but a name: no other part of a URL.
fn is_name(host: &str) -> bool {
    host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_services_and_configured_names_are_served() {
        let hosts = AdminHosts::new(vec!["adapter.example.com".to_owned()]);
        for host in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "[::1]:8080",
            "[fd00::1]",
            "10.1.2.3:80",
            "localhost",
            "LOCALHOST:1",
            "localhost.",
            "orders-events.shop.svc",
            "orders-events.shop.svc:8080",
            "a.b.svc.cluster.local.",
            "Adapter.Example.com:443",
        ] {
            assert!(hosts.serve(host), "{host}");
        }
        for host in [
            "",
            ":80",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "svc",
            ".svc",
            "a.svc.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "2130706433",
            "adapter.example.com.evil.example",
            "evil-svc",
            "example.com",
            "user@localhost",
            "localhost:x",
            "[::1",
            "::1:x",
            "evil.example/.svc",
            "evil.example#.svc",
            "evil.example?.svc",
            "evil.example\\.svc",
            "evil.example:80.svc",
            "evil.example:@a.svc",
            "evil.example a.svc",
        ] {
            assert!(!hosts.serve(host), "{host}");
        }
    }

    #[test]
    fn every_host_that_a_request_names_has_to_be_served() {
        let hosts = AdminHosts::default();
        let admit = |uri: &'static str, names: &[&'static str]| {
            let names = names.iter().map(|name| (header::HOST, name.parse().expect("a value")));
            hosts.admit(&Uri::from_static(uri), &HeaderMap::from_iter(names))
        };
        assert!(admit("/", &[]) && admit("/", &["localhost"]) && admit("http://localhost/", &["localhost"]));
        assert!(!admit("http://evil.example/", &["localhost"]) && !admit("/", &["evil.example"]));
        let mut both = HeaderMap::new();
        both.append(header::HOST, "localhost".parse().expect("a value"));
        both.append(header::HOST, "evil.example".parse().expect("a value"));
        assert!(!hosts.admit(&Uri::from_static("/"), &both));
    }
}
