//! The connections: how they are made, kept and given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::http::{Request, Response};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Builder};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use super::Body;
use crate::sink::tls::Identity;
use crate::sink::transport_error::Failure;

/// How long an idle connection is kept. The Knative broker closes its own after 10 s: be first, so that a request
/// does not meet a connection that is just being closed.
pub(in crate::sink) const IDLE_TIMEOUT: Duration = Duration::from_secs(8);

/// The most bytes of an answer's status line and headers.
const MAX_HEAD: usize = 64 * 1024;

/// An HTTP/2 connection is shared by all attempts, so its death has to be noticed, or all would time out on it.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// How long the answer to a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// A pool of connections, shared by its clones. A plain one carries no TLS at all: no roots are loaded, nothing waits
/// for them.
#[derive(Debug, Clone)]
pub(in crate::sink) enum Client {
    /// For http.
    Plain(legacy::Client<HttpConnector, Body>),
    /// For https.
    Tls {
        /// The connections.
        client: legacy::Client<HttpsConnector<HttpConnector>, Body>,
        /// Who they say that they are.
        identity: Arc<Identity>,
        /// Whether anything was ever answered on any of them.
        has_answered: Arc<AtomicBool>,
    },
}

impl Client {
    pub(in crate::sink) fn plain(concurrency: usize, idle_timeout: Duration) -> Self {
        Self::Plain(builder(concurrency, idle_timeout).build(tcp()))
    }

    /// The configuration says which protocols are offered, see `tls::client_config`; `identity` belongs to it.
    pub(in crate::sink) fn tls(
        concurrency: usize,
        idle_timeout: Duration,
        config: ClientConfig,
        identity: Arc<Identity>,
    ) -> Self {
        let mut tcp = tcp();
        tcp.enforce_http(false);
        let client = builder(concurrency, idle_timeout).build(HttpsConnector::from((tcp, config)));
        Self::Tls { client, identity, has_answered: Arc::default() }
    }

    pub(in crate::sink) async fn request(&self, request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        match self {
            Self::Plain(client) => client.request(request).await.map_err(|error| Failure::of(&error)),
            Self::Tls { client, identity, has_answered } => match client.request(request).await {
                Ok(response) => {
                    has_answered.store(true, Ordering::Relaxed);
                    Ok(response)
                }
                // With TLS 1.3 a sink that misses a certificate says so late, or just cuts the connection.
                Err(error) if identity.was_missed() && !has_answered.load(Ordering::Relaxed) => {
                    Err(Failure::of(&error).without_certificate())
                }
                Err(error) => Err(Failure::of(&error)),
            },
        }
    }
}

fn tcp() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector
}

fn builder(concurrency: usize, idle_timeout: Duration) -> Builder {
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(idle_timeout)
        .pool_max_idle_per_host(concurrency)
        .timer(TokioTimer::new())
        .http1_max_buf_size(MAX_HEAD)
        .http2_max_header_list_size(MAX_HEAD as u32)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT);
    builder
}
