//! [`SinkConnector`]: a connection to a sink, over whichever of its addresses answers.
//!
//! Contract:
//! - All addresses of the sink's name are tried within one attempt: a next one as soon as one fails, or after [`NEXT_ADDRESS_AFTER`] of
//!   silence beside those that are silent; families take turns (RFC 8305, sections 4 and 5). The first that answers wins.
//! - An address that lost is tried last for [`AVOIDED_FOR`], so that not every connection waits for it. The others stay in the order of
//!   the resolver, which may spread connections over them.
//! - No TCP connection within [`CONNECT_TIMEOUT`] is a failure, whatever the attempt's own limit is. An address that accepts the
//!   connection, but does not finish the TLS handshake within [`HANDSHAKE_TIMEOUT`] or breaks it off, makes room for the next one. Where
//!   TLS itself says no (a certificate, an alert), that stands: others of the same name are not asked in the hope of a milder one.
//! - Resolving the name is limited by the attempt alone: the system's resolver has limits of its own, and some need them all.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::error::Error;
use std::future::{Ready, ready};
use std::io::{self, ErrorKind};
use std::iter;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::Uri;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tower_service::Service;

use super::connection::DEAD_PEER_TIMEOUT;
use crate::error_text::chain;

/// How long one address may be silent until the next one is tried beside it: the Connection Attempt Delay of RFC 8305, section 5.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// How long a TCP connection may take, over all addresses. A packet that is lost is sent again after 1, 3 and 7 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a TLS handshake may take on one address.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an address that lost is tried last.
const AVOIDED_FOR: Duration = Duration::from_secs(60);

/// More addresses than this are not avoided at a time.
const MAX_AVOIDED: usize = 256;

type BoxError = Box<dyn Error + Send + Sync>;

/// A TCP connection, as the client takes it.
type Tcp = TokioIo<TcpStream>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum ConnectFailure {
    #[error("no connection within {CONNECT_TIMEOUT:?}: {0}")]
    Silent(String),
    #[error("the name has no address")]
    NoAddress,
}

/// Makes connections to one sink.
#[derive(Debug, Clone)]
pub(super) struct SinkConnector<R = GaiResolver> {
    resolver: R,
    /// None: plain connections.
    tls: Option<Arc<ClientConfig>>,
    limits: Limits,
    avoided: Arc<AvoidedAddresses>,
}

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    connect: Duration,
    handshake: Duration,
    /// See [`DEAD_PEER_TIMEOUT`].
    dead_peer: Duration,
}

impl SinkConnector {
    /// Makes TLS connections with this configuration; plain ones without.
    pub(super) fn new(tls: Option<Arc<ClientConfig>>, dead_peer_timeout: Duration) -> Self {
        Self::resolving(GaiResolver::new(), tls, dead_peer_timeout)
    }
}

impl<R> SinkConnector<R> {
    fn resolving(resolver: R, tls: Option<Arc<ClientConfig>>, dead_peer: Duration) -> Self {
        let limits = Limits { connect: CONNECT_TIMEOUT, handshake: HANDSHAKE_TIMEOUT, dead_peer };
        Self { resolver, tls, limits, avoided: Arc::default() }
    }
}

/// A TCP connection to the host of a URL, made as [`super::HttpSink`] makes it.
///
/// # Errors
/// Why there is none.
pub(crate) async fn connect_tcp(url: &Uri) -> Result<TcpStream, BoxError> {
    let mut connector = SinkConnector::new(None, DEAD_PEER_TIMEOUT);
    let mut addresses = connector.addresses(url).await?;
    connector.first_connected(url, &mut addresses).await.map(|(_, stream)| stream.into_inner())
}

impl<R> Service<Uri> for SinkConnector<R>
where
    R: Resolver,
{
    type Response = MaybeHttpsStream<Tcp>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.resolver.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let mut connector = self.clone();
        async move { connector.connect(&url).await }.boxed()
    }
}

/// Finds the addresses of names.
pub(super) trait Resolver:
    Service<Name, Response: Iterator<Item = SocketAddr> + Send, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<R> Resolver for R where
    R: Service<Name, Response: Iterator<Item = SocketAddr> + Send, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

impl<R: Resolver> SinkConnector<R> {
    async fn connect(&mut self, url: &Uri) -> Result<MaybeHttpsStream<Tcp>, BoxError> {
        let mut addresses = self.addresses(url).await?;
        let mut first_failure = None;
        loop {
            let (address, stream) = match self.first_connected(url, &mut addresses).await {
                Ok(connected) => connected,
                Err(failure) => return Err(first_failure.unwrap_or(failure)),
            };
            let Some(tls) = &self.tls else { return Ok(MaybeHttpsStream::Http(stream)) };
            match tls_handshake(stream, tls, url, self.limits.handshake).await {
                Ok(session) => return Ok(session),
                Err(failure) => {
                    if addresses.is_empty() || is_tls_refusal(&*failure) {
                        return Err(first_failure.unwrap_or(failure));
                    }
                    self.avoided.add(address, Instant::now());
                    first_failure.get_or_insert(failure);
                }
            }
        }
    }

    /// The addresses of a URL's host in the order in which to try them.
    async fn addresses(&mut self, url: &Uri) -> Result<VecDeque<SocketAddr>, BoxError> {
        let host = url.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(VecDeque::from([SocketAddr::new(address, 0)]));
        }
        let name = host.parse::<Name>()?;
        std::future::poll_fn(|context| self.resolver.poll_ready(context)).await.map_err(Into::into)?;
        let resolved = self.resolver.call(name).await.map_err(|error| DnsFailure(error.into()))?;
        Ok(self.avoided.last(families_in_turn(resolved.collect()), Instant::now()))
    }

    /// Tries addresses, and takes those that it tries out of the queue, until one of them is connected.
    async fn first_connected(
        &self,
        url: &Uri,
        addresses: &mut VecDeque<SocketAddr>,
    ) -> Result<(SocketAddr, Tcp), BoxError> {
        let deadline = Instant::now() + self.limits.connect;
        let mut race = Race::begin();
        loop {
            if race.next_at <= Instant::now()
                && let Some(address) = addresses.pop_front()
            {
                race.start(address, tcp_connector(address, self.limits.dead_peer).call(url.clone()));
            }
            if race.connecting.is_empty() && addresses.is_empty() {
                return Err(race.failure_or(ConnectFailure::NoAddress));
            }
            select! {
                Some((address, connected)) = race.connecting.next() => match connected {
                    Ok(stream) => {
                        // Those that were tried later have had no chance.
                        self.avoid(race.silent_before(address));
                        return Ok((address, stream));
                    }
                    Err(failure) => {
                        self.avoid(&[address]);
                        race.failed(address, failure);
                    }
                },
                () = sleep_until(race.next_at), if !addresses.is_empty() => {}
                () = sleep_until(deadline) => {
                    self.avoid(&race.silent);
                    let silent = ConnectFailure::Silent(named(&race.silent));
                    return Err(race.failure_or(silent));
                }
            }
        }
    }

    fn avoid(&self, lost: &[SocketAddr]) {
        lost.iter().for_each(|address| self.avoided.add(*address, Instant::now()));
    }
}

/// Addresses of one name that are tried beside each other.
struct Race {
    connecting: FuturesUnordered<BoxFuture<'static, (SocketAddr, Result<Tcp, BoxError>)>>,
    /// Those of which nothing was heard, in the order in which they were tried.
    silent: Vec<SocketAddr>,
    /// When the next one may be tried.
    next_at: Instant,
    first_failure: Option<BoxError>,
}

impl Race {
    fn begin() -> Self {
        Self { connecting: FuturesUnordered::new(), silent: Vec::new(), next_at: Instant::now(), first_failure: None }
    }

    fn start<E: Into<BoxError>>(
        &mut self,
        address: SocketAddr,
        connecting: impl Future<Output = Result<Tcp, E>> + Send + 'static,
    ) {
        self.connecting.push(connecting.map(move |connected| (address, connected.map_err(Into::into))).boxed());
        self.silent.push(address);
        self.next_at = Instant::now() + NEXT_ADDRESS_AFTER;
    }

    /// The addresses that were tried before this one and are still silent.
    fn silent_before(&self, address: SocketAddr) -> &[SocketAddr] {
        let position = self.silent.iter().position(|other| *other == address).unwrap_or_default();
        &self.silent[..position]
    }

    /// An address gives no connection: the next one is tried at once.
    fn failed(&mut self, address: SocketAddr, failure: BoxError) {
        if let Some(position) = self.silent.iter().position(|other| *other == address) {
            self.silent.remove(position);
        }
        self.first_failure.get_or_insert(failure);
        self.next_at = Instant::now();
    }

    /// What the first address said that failed; where none has, this.
    fn failure_or(self, other: ConnectFailure) -> BoxError {
        self.first_failure.unwrap_or_else(|| other.into())
    }
}

/// The resolver knows no address.
#[derive(Debug, thiserror::Error)]
#[error("dns error")]
struct DnsFailure(#[source] BoxError);

/// The TLS session on a connection.
async fn tls_handshake(
    stream: Tcp,
    tls: &Arc<ClientConfig>,
    url: &Uri,
    limit: Duration,
) -> Result<MaybeHttpsStream<Tcp>, BoxError> {
    let mut connector = HttpsConnector::from((Connected(Some(stream)), tls.clone()));
    timeout(limit, connector.call(url.clone())).await.unwrap_or_else(|_| {
        let text = format!("the TLS handshake was not finished within {limit:?}");
        Err(io::Error::new(ErrorKind::TimedOut, text).into())
    })
}

/// Whether TLS itself refused the session, so that the address is none that does not work.
fn is_tls_refusal(failure: &(dyn Error + 'static)) -> bool {
    chain(failure).any(|cause| cause.is::<rustls::Error>())
}

/// Some addresses, for people.
fn named(addresses: &[SocketAddr]) -> String {
    let names: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    match &*names {
        [one] => format!("{one} does not answer"),
        [one, .., last] => format!("none of {} addresses answers, {one} to {last}", names.len()),
        [] => "no address was tried".to_owned(),
    }
}

/// The addresses with their families in turn, that of the first one first; within a family in their order.
fn families_in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(is_v6) = addresses.first().map(SocketAddr::is_ipv6) else { return addresses };
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    iter::from_fn(|| {
        let pair = [first.next(), second.next()];
        pair.iter().any(Option::is_some).then_some(pair)
    })
    .flatten()
    .flatten()
    .collect()
}

/// Makes TCP connections to one address that end when their peer has died.
fn tcp_connector(address: SocketAddr, dead_peer_timeout: Duration) -> HttpConnector<Resolved> {
    let mut tcp = HttpConnector::new_with_resolver(Resolved(address));
    tcp.set_nodelay(true);
    // Of https, too, this connector makes only the TCP connection.
    tcp.enforce_http(false);
    tcp.set_tcp_user_timeout(Some(dead_peer_timeout));
    tcp.set_keepalive(Some(dead_peer_timeout / 3));
    tcp.set_keepalive_interval(Some(dead_peer_timeout / 3));
    tcp
}

/// Knows the address already.
#[derive(Debug, Clone)]
struct Resolved(SocketAddr);

impl Service<Name> for Resolved {
    type Response = iter::Once<SocketAddr>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(iter::once(self.0)))
    }
}

/// Has its connection already.
struct Connected(Option<Tcp>);

impl Service<Uri> for Connected {
    type Response = Tcp;
    type Error = io::Error;
    type Future = Ready<io::Result<Tcp>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or_else(|| ErrorKind::NotConnected.into()))
    }
}

/// Addresses that lost, and when.
#[derive(Debug, Default)]
struct AvoidedAddresses(Mutex<BTreeMap<SocketAddr, Instant>>);

impl AvoidedAddresses {
    fn add(&self, address: SocketAddr, now: Instant) {
        let mut avoided = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        avoided.retain(|_, since| now.duration_since(*since) < AVOIDED_FOR);
        if avoided.len() < MAX_AVOIDED || avoided.contains_key(&address) {
            avoided.insert(address, now);
        }
    }

    /// The addresses, those that are avoided behind the others: who lost longest ago first.
    fn last(&self, addresses: Vec<SocketAddr>, now: Instant) -> VecDeque<SocketAddr> {
        let avoided = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = |address: &SocketAddr| {
            avoided.get(address).copied().filter(|since| now.duration_since(*since) < AVOIDED_FOR)
        };
        let mut addresses = addresses;
        addresses.sort_by_key(lost);
        addresses.into()
    }
}

#[cfg(test)]
mod tests;
