//! The sink behind a URL: a pooled HTTP client.
//!
//! One attempt is one POST, and up to five more where the sink redirects it (307 or 308) to another path of its own
//! scheme, host and port. Connections are kept for less time than the Knative broker keeps them. A request that met
//! a connection which the sink had just closed, and of which nothing was sent, is sent again by the client itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::http::header::{LOCATION, RETRY_AFTER};
use ::http::{HeaderMap, Method, Request, Response, StatusCode, Uri, response};
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Builder};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::credentials::{CredentialSnapshot, Credentials, with_ours};
use super::settings::{SinkSettings, SinkSetupError, Tuning};
use super::tls::ClientIdentity;
use super::transport_error::TransportFailure;
use super::{BODY_START, RetryAfter, Sink, SinkResponse};
use crate::event::Message;

/// How often one attempt follows a redirect.
const MAX_REDIRECTS: usize = 5;

/// The most bytes of an answer's status line and headers.
const MAX_HEAD: usize = 64 * 1024;

/// An HTTP/2 connection is shared by all attempts, so its death has to be noticed, or all would time out on it.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// How long the answer to a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Stands for "for ever" where a timeout is too long for the clock.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(86_400);

/// Posts messages to one URL.
#[derive(Debug)]
pub struct HttpSink {
    credentials: Credentials,
    url: Uri,
    response_limit: usize,
}

impl HttpSink {
    /// A client for one URL. It connects when there is something to post.
    ///
    /// This reads the files that the settings name, and for an https sink the system's root certificates. A file that
    /// cannot be read is logged and read again later; where nothing may be sent without it, attempts fail and say so.
    ///
    /// # Errors
    /// Where no attempt could ever succeed: see [`SinkSetupError`].
    pub fn new(settings: SinkSettings) -> Result<Self, SinkSetupError> {
        Self::tuned(settings, Tuning::default())
    }

    /// Why nothing can be sent now: a file that the settings name is missing or broken, and never was good.
    pub fn obstacle(&self) -> Option<String> {
        self.credentials.newest().missing.clone()
    }

    /// What is wrong with files that are not used because of it, while others are; one text a file, nothing of its content.
    pub fn unused_files(&self) -> Vec<String> {
        self.credentials.unused()
    }

    /// The headers of every request besides the message's own. Credentials are among them.
    pub fn headers(&self) -> HeaderMap {
        self.credentials.newest().headers.clone()
    }

    fn tuned(settings: SinkSettings, tuning: Tuning) -> Result<Self, SinkSetupError> {
        let (url, response_limit) = (settings.url.clone(), settings.response_limit);
        if url.host().is_none_or(str::is_empty) {
            return Err(SinkSetupError::Url);
        }
        Ok(Self { credentials: Credentials::read(settings, tuning)?, url, response_limit })
    }

    async fn attempt(&self, message: Message, deadline: Instant) -> Result<SinkResponse, TransportFailure> {
        let current = self.credentials.current(deadline).await;
        let answer = self.follow(&current, &message, deadline).await?;
        if !current.has_token || !is_unauthorized(&answer) {
            return Ok(answer);
        }
        // The token may have been replaced since it was read.
        let newer = self.credentials.read_again(deadline).await;
        self.follow(&newer, &message, deadline).await
    }

    async fn follow(
        &self,
        current: &CredentialSnapshot,
        message: &Message,
        deadline: Instant,
    ) -> Result<SinkResponse, TransportFailure> {
        if let Some(missing) = &current.missing {
            return Err(TransportFailure::unsent(missing));
        }
        let mut url = self.url.clone();
        let mut redirects_left = MAX_REDIRECTS;
        loop {
            let (head, body) = send(current, url.clone(), message, deadline).await?.into_parts();
            let body = read_body(body, self.response_limit, deadline).await;
            match redirect_target(&url, head.status, &head.headers) {
                Some(next) if redirects_left > 0 => url = next,
                _ => return Ok(response_of(&head, body)),
            }
            redirects_left -= 1;
        }
    }
}

fn is_unauthorized(answer: &SinkResponse) -> bool {
    matches!(answer, SinkResponse::Refused { status, .. } if *status == StatusCode::UNAUTHORIZED)
}

async fn send(
    current: &CredentialSnapshot,
    url: Uri,
    message: &Message,
    deadline: Instant,
) -> Result<Response<Incoming>, TransportFailure> {
    let mut request = Request::new(Full::new(message.body.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url;
    *request.headers_mut() = with_ours(message.headers.clone(), &current.headers);
    timeout_at(deadline, current.client.request(request)).await.unwrap_or_else(|_| Err(TransportFailure::timeout()))
}

impl Sink for HttpSink {
    fn post(&self, message: Message, timeout: Duration) -> BoxFuture<'_, SinkResponse> {
        let deadline = Instant::now() + timeout.min(LONGEST_TIMEOUT);
        Box::pin(async move {
            self.attempt(message, deadline).await.unwrap_or_else(|failure| failure.into_response(timeout))
        })
    }
}

/// A request's body: shared, so that no attempt copies it.
pub(super) type Body = Full<Bytes>;

/// A pool of connections, shared by its clones. A plain one carries no TLS at all: no roots are loaded, nothing waits
/// for them.
#[derive(Debug, Clone)]
pub(super) enum Client {
    /// For http.
    Plain(legacy::Client<HttpConnector, Body>),
    /// For https.
    Tls {
        /// The connections.
        client: legacy::Client<HttpsConnector<HttpConnector>, Body>,
        /// Who they say that they are.
        identity: Arc<ClientIdentity>,
        /// Whether anything was ever answered on any of them.
        has_answered: Arc<AtomicBool>,
    },
}

impl Client {
    pub(super) fn plain(concurrency: usize, idle_timeout: Duration) -> Self {
        Self::Plain(builder(concurrency, idle_timeout).build(tcp()))
    }

    /// The configuration says which protocols are offered, see `tls::client_config`; `identity` belongs to it.
    pub(super) fn tls(
        concurrency: usize,
        idle_timeout: Duration,
        config: ClientConfig,
        identity: Arc<ClientIdentity>,
    ) -> Self {
        let mut tcp = tcp();
        tcp.enforce_http(false);
        let client = builder(concurrency, idle_timeout).build(HttpsConnector::from((tcp, config)));
        Self::Tls { client, identity, has_answered: Arc::default() }
    }

    pub(super) async fn request(&self, request: Request<Body>) -> Result<Response<Incoming>, TransportFailure> {
        match self {
            Self::Plain(client) => client.request(request).await.map_err(|error| TransportFailure::of(&error)),
            Self::Tls { client, identity, has_answered } => match client.request(request).await {
                Ok(response) => {
                    has_answered.store(true, Ordering::Relaxed);
                    Ok(response)
                }
                // With TLS 1.3 a sink that misses a certificate says so late, or just cuts the connection.
                Err(error) if identity.was_missed() && !has_answered.load(Ordering::Relaxed) => {
                    Err(TransportFailure::of(&error).without_certificate())
                }
                Err(error) => Err(TransportFailure::of(&error)),
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

/// What arrived of a body.
#[derive(Debug, Default)]
struct ReceivedBody {
    bytes: Bytes,
    /// Whether that is all of it.
    complete: bool,
}

/// What arrives of a body until its end, `limit` bytes of it, a fault or the deadline. In the last three cases the connection
/// is given up, and nothing else: the status has been told already.
async fn read_body(mut body: Incoming, limit: usize, deadline: Instant) -> ReceivedBody {
    let mut read = BytesMut::new();
    let complete = loop {
        if body.is_end_stream() {
            break true;
        }
        if read.len() >= limit {
            break false;
        }
        match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    let room = limit - read.len();
                    read.extend_from_slice(&data[..data.len().min(room)]);
                    if data.len() > room {
                        break false;
                    }
                }
            }
            Ok(end) => break end.is_none(),
            Err(_) => break false,
        }
    };
    ReceivedBody { bytes: read.freeze(), complete }
}

/// The answer that a response is.
fn response_of(head: &response::Parts, body: ReceivedBody) -> SinkResponse {
    let ReceivedBody { bytes: body, complete } = body;
    let status = head.status;
    if status.is_success() {
        return SinkResponse::Accepted { status, body, complete };
    }
    // Copied, because a refusal can be kept for long and would keep the whole body.
    let body_start = Bytes::copy_from_slice(&body[..body.len().min(BODY_START)]);
    SinkResponse::Refused { status, retry_after: retry_after(&head.headers), body_start }
}

/// RFC 9110, section 10.2.3: a number of seconds, or a date in any of HTTP's three forms.
fn retry_after(headers: &HeaderMap) -> Option<RetryAfter> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(RetryAfter::Delay(Duration::from_secs(seconds)));
    }
    httpdate::parse_http_date(text).ok().map(RetryAfter::At)
}

/// Where to send the message instead; nothing where the answer stands as it is.
fn redirect_target(from: &Uri, status: StatusCode, headers: &HeaderMap) -> Option<Uri> {
    if !matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
        return None;
    }
    let base = Url::parse(&from.to_string()).ok()?;
    let mut target = base.join(headers.get(LOCATION)?.to_str().ok()?).ok()?;
    if target.origin() != base.origin() {
        return None;
    }
    target.set_fragment(None);
    target.as_str().parse().ok()
}

#[cfg(test)]
mod tests;
