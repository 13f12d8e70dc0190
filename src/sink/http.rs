//! [`HttpSink`]: posts to one URL, over a pool of connections that it makes anew with each generation of credentials.
//!
//! One attempt is one POST, and up to five more where the sink redirects it (307 or 308) to another path of its own
//! scheme, host and port. A request that the sink has not processed, as far as anybody can know, is sent again within the attempt, on
//! another connection. Connections are kept for less time than sinks keep them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::header::{ACCEPT_ENCODING, LOCATION, RETRY_AFTER};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, Builder};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{CONTROLS, percent_encode};
use tokio::time::{Instant, timeout_at};
use url::{Position, Url};

use super::connection::{Slots, Watching, is_unprocessed, keep_alive, note_answer};
use super::connector::SinkConnector;
use super::credentials::{CredentialReloader, CredentialSnapshot, Credentials, replaced};
use super::response_body::ReceivedBody;
use super::settings::{SinkSettings, SinkSetupError, Tuning};
use super::tls::{ClientIdentity, ClientTls};
use super::transport_error::TransportFailure;
use super::{BODY_START, RetryAfter, Sink, SinkResponse};
use crate::event::Message;

/// How often one attempt follows a redirect.
pub(crate) const MAX_REDIRECTS: usize = 5;

/// How often one attempt sends a request again that the sink has not processed.
const MAX_RESENDS: usize = 3;

/// The most bytes of an answer's status line and headers.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// The most headers of an answer over HTTP/1.
pub(crate) const MAX_HEADERS: usize = 256;

/// How long a body is waited for that decides nothing: one that never ends must not hold up the item's next event.
const BODY_PATIENCE: Duration = Duration::from_secs(1);

/// Says that the function behind a success has failed: `Invoke` in the API reference of AWS Lambda.
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");

/// An HTTP/2 connection is shared by all attempts, so its death has to be noticed, or all would time out on it.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// How long the answer to a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an attempt waits for credentials to be read again after a 401; then it goes on with what was known before.
const READ_AGAIN_LIMIT: Duration = Duration::from_secs(1);

/// Stands for "for ever" where a timeout is too long for the clock.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(86_400);

/// Posts messages to one URL.
#[derive(Debug)]
pub struct HttpSink {
    credentials: Credentials,
    pool: Mutex<Arc<Pool>>,
    settings: PoolSettings,
    url: Uri,
    response_limit: usize,
    reads_answers: bool,
}

impl HttpSink {
    /// A client for one URL, which connects when there is something to post, and the task that keeps its credentials fresh.
    ///
    /// This reads the files that the settings name, and for an https sink the system's root certificates. A file that
    /// cannot be read is logged and read again later; where nothing may be sent without it, attempts fail and say so.
    ///
    /// # Errors
    /// Where no attempt could ever succeed: see [`SinkSetupError`].
    pub fn new(settings: SinkSettings) -> Result<(Self, CredentialReloader), SinkSetupError> {
        Self::tuned(settings, Tuning::default())
    }

    /// Why nothing can be sent now: a file that the settings name is missing or broken, and never was good.
    pub(crate) fn obstacle(&self) -> Option<String> {
        self.credentials.newest().missing.clone()
    }

    /// What is wrong with files that are not used because of it, while others are; one text a file, nothing of its content.
    pub(crate) fn unused_files(&self) -> Vec<String> {
        self.credentials.newest().unused.clone()
    }

    /// The headers of every request besides the message's own. Credentials are among them.
    pub(crate) fn headers(&self) -> HeaderMap {
        self.credentials.newest().headers.clone()
    }

    /// What an answer with these headers asks for.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn retry_after(headers: &HeaderMap) -> Option<RetryAfter> {
        retry_after(headers)
    }

    fn tuned(settings: SinkSettings, tuning: Tuning) -> Result<(Self, CredentialReloader), SinkSetupError> {
        let (url, response_limit, reads_answers) =
            (settings.url.clone(), settings.response_limit, settings.reads_answers);
        if url.host().is_none_or(str::is_empty) {
            return Err(SinkSetupError::Url);
        }
        let (concurrency, idle_timeout, dead_peer_timeout) =
            (settings.concurrency, tuning.idle_timeout, tuning.dead_peer_timeout);
        let slots = Slots::new(concurrency);
        let pool_settings = PoolSettings { concurrency, idle_timeout, dead_peer_timeout, slots };
        let (credentials, reloader) = Credentials::read(settings, tuning)?;
        let pool = Mutex::new(Arc::new(Pool::new(&pool_settings, &credentials.newest())));
        Ok((Self { credentials, pool, settings: pool_settings, url, response_limit, reads_answers }, reloader))
    }

    async fn attempt(&self, message: Message, deadline: Instant) -> Result<SinkResponse, TransportFailure> {
        let credentials = self.credentials.newest();
        let response = self.follow(&credentials, &message, deadline).await?;
        if !credentials.has_token || !is_unauthorized(&response) {
            return Ok(response);
        }
        // The token may have been replaced since it was read.
        let newer = self.credentials.read_again(deadline.min(Instant::now() + READ_AGAIN_LIMIT)).await;
        self.follow(&newer, &message, deadline).await
    }

    /// Posts it with these credentials, where redirects lead to.
    async fn follow(
        &self,
        credentials: &CredentialSnapshot,
        message: &Message,
        deadline: Instant,
    ) -> Result<SinkResponse, TransportFailure> {
        if let Some(missing) = &credentials.missing {
            return Err(TransportFailure::unsent(missing));
        }
        let pool = self.pool(credentials);
        let mut url = self.url.clone();
        let mut redirects_left = MAX_REDIRECTS;
        loop {
            let request =
                || request(url.clone(), replaced(message.headers.clone(), &credentials.headers), &message.body);
            let sent = timeout_at(deadline, pool.send(request)).await;
            let (head, body) = sent.unwrap_or_else(|_| Err(TransportFailure::timeout()))?.into_parts();
            self.apply_keep_alive(&pool, &head.headers);
            let body = self.read_body(&head, body, deadline).await;
            match redirect_target(&url, head.status, &head.headers) {
                Some(next) if redirects_left > 0 => url = next,
                _ => return Ok(response_of(&head, body)),
            }
            redirects_left -= 1;
        }
    }

    /// The connections of the newest generation. Attempts under way keep those that they have.
    fn pool(&self, credentials: &CredentialSnapshot) -> Arc<Pool> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.generation < credentials.generation {
            let settings = PoolSettings { idle_timeout: pool.idle_timeout, ..self.settings.clone() };
            *pool = Arc::new(Pool::new(&settings, credentials));
        }
        pool.clone()
    }

    /// A sink that keeps idle connections for less time than we do closes some that a request is just sent on.
    fn apply_keep_alive(&self, used: &Pool, headers: &HeaderMap) {
        // A second earlier, or at half the time: the way to us takes time, too.
        let idle_timeout = keep_alive(headers).map(|kept| kept.saturating_sub(Duration::from_secs(1)).max(kept / 2));
        let Some(idle_timeout) = idle_timeout.filter(|wanted| *wanted < used.idle_timeout) else { return };
        let credentials = self.credentials.newest();
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if idle_timeout < pool.idle_timeout {
            let settings = PoolSettings { idle_timeout, ..self.settings.clone() };
            *pool = Arc::new(Pool::new(&settings, &credentials));
        }
    }

    /// The body, as far as it is of use: of a success only where it may name failures.
    async fn read_body(&self, head: &response::Parts, body: Incoming, deadline: Instant) -> ReceivedBody {
        let is_decisive = self.reads_answers && head.status.is_success();
        let deadline = if is_decisive { deadline } else { deadline.min(Instant::now() + BODY_PATIENCE) };
        let body = ReceivedBody::read(head, body, self.response_limit, deadline).await;
        if is_decisive { body.decoded(&head.headers, self.response_limit) } else { body }
    }
}

impl Sink for HttpSink {
    fn post(&self, message: Message, timeout: Duration) -> BoxFuture<'_, SinkResponse> {
        let deadline = Instant::now() + timeout.min(LONGEST_TIMEOUT);
        Box::pin(async move {
            self.attempt(message, deadline).await.unwrap_or_else(|failure| failure.into_response(timeout))
        })
    }
}

fn is_unauthorized(response: &SinkResponse) -> bool {
    matches!(response, SinkResponse::Refused { status, .. } if *status == StatusCode::UNAUTHORIZED)
}

/// A request's body: shared, so that no attempt copies it.
type Body = Full<Bytes>;

fn request(url: Uri, headers: HeaderMap, body: &Bytes) -> Request<Body> {
    let mut request = Request::new(Full::new(body.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url;
    *request.headers_mut() = headers;
    // Answers are short, and some are looked into.
    request.headers_mut().entry(ACCEPT_ENCODING).or_insert(HeaderValue::from_static("identity"));
    request
}

/// How connections are kept.
#[derive(Debug, Clone)]
struct PoolSettings {
    /// So many idle ones at most.
    concurrency: usize,
    idle_timeout: Duration,
    dead_peer_timeout: Duration,
    /// For the connections of all generations together.
    slots: Slots,
}

/// The connections that are made with one generation of credentials.
#[derive(Debug)]
struct Pool {
    generation: u64,
    idle_timeout: Duration,
    client: legacy::Client<Watching<SinkConnector>, Body>,
    /// Who this client says that it is; none without TLS.
    identity: Option<Arc<ClientIdentity>>,
    /// Whether anything was ever answered on any of these connections.
    has_answered: AtomicBool,
}

impl Pool {
    fn new(settings: &PoolSettings, credentials: &CredentialSnapshot) -> Self {
        let (tls, identity) = credentials.tls.clone().map(|ClientTls { config, identity }| (config, identity)).unzip();
        let connector = SinkConnector::new(tls, settings.dead_peer_timeout);
        let client = builder(settings).build(Watching::new(connector, settings.slots.clone()));
        let (generation, idle_timeout) = (credentials.generation, settings.idle_timeout);
        Self { generation, idle_timeout, client, identity, has_answered: AtomicBool::new(false) }
    }

    /// Sends a request until the sink has processed it, or may have.
    async fn send(&self, request: impl Fn() -> Request<Body>) -> Result<Response<Incoming>, TransportFailure> {
        Slots::wanted_during(self.send_again(request)).await
    }

    async fn send_again(&self, request: impl Fn() -> Request<Body>) -> Result<Response<Incoming>, TransportFailure> {
        let mut resends_left = MAX_RESENDS;
        loop {
            match self.client.request(request()).await {
                Ok(response) => {
                    self.has_answered.store(true, Ordering::Relaxed);
                    note_answer(&response);
                    return Ok(response);
                }
                Err(error) if resends_left > 0 && is_unprocessed(&error) => resends_left -= 1,
                Err(error) => return Err(self.failure(&error)),
            }
        }
    }

    fn failure(&self, error: &legacy::Error) -> TransportFailure {
        let was_missed = self.identity.as_ref().is_some_and(|identity| identity.was_missed());
        // With TLS 1.3 a sink that misses a certificate says so late, or just cuts the connection.
        match was_missed && !self.has_answered.load(Ordering::Relaxed) {
            true => TransportFailure::of(error).without_certificate(),
            false => TransportFailure::of(error),
        }
    }
}

fn builder(settings: &PoolSettings) -> Builder {
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(settings.idle_timeout)
        .pool_max_idle_per_host(settings.concurrency)
        .timer(TokioTimer::new())
        .http1_max_buf_size(MAX_HEAD)
        .http1_max_headers(MAX_HEADERS)
        // A line that is no header does not hide a status. It never tells where the body ends: then the body ends with the connection.
        .http1_ignore_invalid_headers_in_responses(true)
        .http2_max_header_list_size(MAX_HEAD as u32)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// The answer that a response is.
fn response_of(head: &response::Parts, body: ReceivedBody) -> SinkResponse {
    let ReceivedBody { bytes: body, end } = body;
    let status = head.status;
    if status.is_success() && !head.headers.contains_key(FUNCTION_ERROR) {
        return SinkResponse::Accepted { status, body, end };
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
///
/// The target differs from `from` in path and query alone. A user or a password in it is refused: the client keeps connections apart by
/// them, so that a sink could have it make as many as it likes.
pub(crate) fn redirect_target(from: &Uri, status: StatusCode, headers: &HeaderMap) -> Option<Uri> {
    if !matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
        return None;
    }
    let base = Url::parse(&from.to_string()).ok()?;
    // Some servers send the bytes of other alphabets as they are.
    let location = percent_encode(headers.get(LOCATION)?.as_bytes(), CONTROLS).to_string();
    let target = base.join(&location).ok()?;
    if target.origin() != base.origin() || !target.username().is_empty() || target.password().is_some() {
        return None;
    }
    let mut parts = from.clone().into_parts();
    parts.path_and_query = Some(target[Position::BeforePath..Position::AfterQuery].parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
pub(super) mod tests;
