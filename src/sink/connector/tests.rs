//! Addresses that answer, refuse and say nothing, on loopback.

use std::sync::atomic::{AtomicUsize, Ordering};

use ::http::Uri;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::error_text::causes;
use crate::sink::http::tests::authority::Authority;

#[path = "../../../tests/support/silent.rs"]
mod silent;

use self::silent::SilentAddress;

/// Long enough for everything that is not to wait for a limit.
const SOON: Duration = Duration::from_secs(3);

/// A limit that a test waits for.
const SHORT: Duration = Duration::from_millis(600);

/// A name's addresses, as a test says.
#[derive(Debug, Clone)]
struct Addresses(Vec<SocketAddr>);

impl Service<Name> for Addresses {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(self.0.clone().into_iter()))
    }
}

/// A server that counts its connections, and does nothing with them without TLS.
struct Counting {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Counting {
    async fn at(address: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free address");
        let address = listener.local_addr().expect("bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let task = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                match &tls {
                    None => open.push(stream),
                    Some(tls) => drop(tls.accept(stream).await),
                }
            }
        });
        Self { address, connections, task }
    }

    fn count(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Addresses of this machine: the `n`th one.
fn loopback(n: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, n], port))
}

/// Of one name, whose addresses differ in nothing but the port as the URL has it.
fn connector(addresses: &[u8], tls: Option<&Authority>) -> SinkConnector<Addresses> {
    let addresses = addresses.iter().map(|n| loopback(*n, 0)).collect();
    let tls = tls.map(|authority| {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("versions").with_root_certificates(authority.roots());
        Arc::new(builder.with_no_client_auth())
    });
    SinkConnector::resolving(Addresses(addresses), tls, DEAD_PEER_TIMEOUT)
}

fn url(scheme: &str, port: u16) -> Uri {
    format!("{scheme}://sink.example:{port}/").parse().expect("a URL")
}

/// The order in which the next connection tries them.
async fn order(connector: &mut SinkConnector<Addresses>) -> Vec<u8> {
    let addresses = connector.addresses(&url("http", 1)).await.expect("addresses");
    let last = |address: &SocketAddr| match address.ip() {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(_) => 0,
    };
    addresses.iter().map(last).collect()
}

async fn connected_within(
    limit: Duration,
    connector: &mut SinkConnector<Addresses>,
    url: Uri,
) -> Result<MaybeHttpsStream<Tcp>, String> {
    let connected = timeout(limit, connector.call(url)).await.expect("it ends in time");
    connected.map_err(|failure| causes(&*failure))
}

#[tokio::test]
async fn an_address_that_swallows_packets_costs_a_moment_and_is_tried_last_from_then_on() {
    let silent = SilentAddress::at(loopback(2, 0)).await;
    let port = silent.address.port();
    let live = Counting::at(loopback(3, port), None).await;
    let mut connector = connector(&[2, 3], None);
    assert_eq!(order(&mut connector).await, [2, 3]);
    connected_within(SOON, &mut connector, url("http", port)).await.expect("the second address answers");
    assert_eq!(order(&mut connector).await, [3, 2], "the next connection does not wait for the first again");
    connected_within(NEXT_ADDRESS_AFTER, &mut connector, url("http", port)).await.expect("and begins with the other");
    assert_eq!(live.count(), 2);
}

#[tokio::test]
async fn addresses_that_refuse_are_passed_over_at_once_and_all_are_tried() {
    let live = Counting::at(loopback(5, 0), None).await;
    let mut connector = connector(&[2, 3, 4, 5], None);
    let begun = Instant::now();
    connected_within(SOON, &mut connector, url("http", live.address.port())).await.expect("the last address answers");
    assert!(begun.elapsed() < 2 * NEXT_ADDRESS_AFTER, "{:?}", begun.elapsed());
    assert_eq!(order(&mut connector).await, [5, 2, 3, 4]);
}

#[tokio::test]
async fn where_no_address_answers_the_attempt_fails_at_the_limit_of_connecting_and_says_so() {
    let silent = SilentAddress::at(loopback(2, 0)).await;
    let port = silent.address.port();
    let _other = SilentAddress::at(loopback(3, port)).await;
    for (addresses, what) in [(&[2][..], "127.0.0.2 does not answer"), (&[2, 3], "none of 2 addresses answers")] {
        let mut connector = connector(addresses, None);
        connector.limits.connect = SHORT;
        let failure = connected_within(SOON, &mut connector, url("http", port)).await.expect_err("nobody answers");
        assert!(failure.contains(what), "{failure}");
    }
}

#[tokio::test]
async fn the_first_refusal_is_told_where_nothing_better_came() {
    let silent = SilentAddress::at(loopback(2, 0)).await;
    let mut connector = connector(&[3, 2], None);
    connector.limits.connect = SHORT;
    let failure = connected_within(SOON, &mut connector, url("http", silent.address.port())).await;
    let failure = failure.expect_err("nobody answers");
    assert!(failure.contains("refused"), "{failure}");
}

#[tokio::test]
async fn an_address_that_never_finishes_a_handshake_makes_room_for_the_next_one() {
    let hanging = Counting::at(loopback(2, 0), None).await;
    let port = hanging.address.port();
    let authority = Authority::new();
    let good = Counting::at(loopback(3, port), Some(authority.server("sink.example", false, &[]))).await;
    let mut connector = connector(&[2, 3], Some(&authority));
    connector.limits.handshake = SHORT;
    connected_within(SOON, &mut connector, url("https", port)).await.expect("a session with the second");
    assert_eq!((hanging.count(), good.count()), (1, 1));
    assert_eq!(order(&mut connector).await, [3, 2]);
}

#[tokio::test]
async fn a_handshake_that_no_address_finishes_is_a_fault_of_tls() {
    let hanging = Counting::at(loopback(2, 0), None).await;
    let mut connector = connector(&[2], Some(&Authority::new()));
    connector.limits.handshake = SHORT;
    let failure = connector.call(url("https", hanging.address.port())).await.expect_err("no session");
    assert!(failure.is::<io::Error>(), "that is how it is told from a fault of TCP: {failure:?}");
    assert!(failure.to_string().contains("TLS handshake was not finished"), "{failure}");
}

#[tokio::test]
async fn a_certificate_that_is_refused_is_not_looked_for_elsewhere() {
    let authority = Authority::new();
    let stale = Counting::at(loopback(2, 0), Some(authority.server("other.example", false, &[]))).await;
    let port = stale.address.port();
    let good = Counting::at(loopback(3, port), Some(authority.server("sink.example", false, &[]))).await;
    let mut connector = connector(&[2, 3], Some(&authority));
    let failure = connected_within(SOON, &mut connector, url("https", port)).await.expect_err("another's certificate");
    assert!(failure.contains("other.example"), "{failure}");
    assert_eq!(good.count(), 0);
}

#[tokio::test]
async fn an_address_in_the_url_needs_no_resolver() {
    let live = Counting::at("[::1]:0".parse().expect("an address"), None).await;
    for (host, server) in [("[::1]", &live), ("127.0.0.1", &Counting::at(loopback(1, 0), None).await)] {
        let url = format!("http://{host}:{}/", server.address.port()).parse().expect("a URL");
        let mut connector = connector(&[], None);
        connected_within(SOON, &mut connector, url).await.expect("a connection");
    }
}

#[tokio::test]
async fn a_name_without_an_address_is_told_as_such() {
    let failure = connected_within(SOON, &mut connector(&[], None), url("http", 1)).await;
    assert_eq!(failure.expect_err("no address"), "the name has no address");
}

#[test]
fn families_take_turns_and_keep_their_order() {
    let parse = |text: &str| -> Vec<SocketAddr> {
        text.split(' ').map(|ip| SocketAddr::new(ip.parse().expect("an address"), 0)).collect()
    };
    for (given, ordered) in [
        ("::1 ::2 ::3 127.0.0.1 127.0.0.2", "::1 127.0.0.1 ::2 127.0.0.2 ::3"),
        ("127.0.0.1 127.0.0.2 ::1", "127.0.0.1 ::1 127.0.0.2"),
        ("127.0.0.1 127.0.0.2 127.0.0.3", "127.0.0.1 127.0.0.2 127.0.0.3"),
        ("::1 127.0.0.1 127.0.0.2 127.0.0.3", "::1 127.0.0.1 127.0.0.2 127.0.0.3"),
    ] {
        assert_eq!(families_in_turn(parse(given)), parse(ordered), "{given}");
    }
    assert_eq!(families_in_turn(Vec::new()), []);
}

#[test]
fn an_address_is_avoided_for_a_minute_and_however_many_fail_few_are_remembered() {
    let (avoided, now) = (AvoidedAddresses::default(), Instant::now());
    let order = |now: Instant| Vec::from(avoided.last((1..=3).map(|n| loopback(n, 0)).collect(), now));
    avoided.add(loopback(1, 0), now);
    avoided.add(loopback(2, 0), now - Duration::from_secs(1));
    assert_eq!(order(now), [loopback(3, 0), loopback(2, 0), loopback(1, 0)]);
    assert_eq!(order(now + AVOIDED_FOR), [loopback(1, 0), loopback(2, 0), loopback(3, 0)]);
    (0..=u16::MAX).for_each(|port| avoided.add(loopback(9, port), now));
    assert!(avoided.0.lock().expect("no panic").len() <= MAX_AVOIDED);
}
