//! The sink behind a URL: a pooled HTTP client.
//!
//! One attempt is one POST, and up to five more where the sink redirects it (307 or 308) to another path of its own
//! scheme, host and port. Connections are kept for less time than the Knative broker keeps them. A request that met
//! a connection which the sink had just closed, and of which nothing was sent, is sent again by the client itself.

mod answer;
mod body;
pub(super) mod client;
mod redirect;

use std::time::Duration;

use ::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::body::Incoming;
use rustls::RootCertStore;
use tokio::time::{Instant, timeout_at};

use self::client::IDLE_TIMEOUT;
use super::credentials::{Current, Files};
use super::settings::HttpSinkSettings;
use super::transport_error::Failure;
use super::{Answer, Sink};
use crate::event::Message;

/// How often one attempt follows a redirect.
const MAX_REDIRECTS: usize = 5;

/// Stands for "for ever" where a timeout is too long for the clock.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(86_400);

/// How often files are looked at, at most.
const RECHECK: Duration = Duration::from_secs(1);

/// A sink that cannot work as configured.
#[derive(Debug, thiserror::Error)]
pub enum SinkSetupError {
    /// Not a URL that can be posted to.
    #[error("the sink's URL must be absolute and begin with http:// or https://")]
    Url,
    /// Nothing to check the sink's certificate against.
    #[error(
        "no trusted root certificate was found for the https sink: set K_CA_CERTS, put a PEM file into the folder of \
         CA_CERTS_DIR, or install the system's ca-certificates ({0})"
    )]
    NoRoots(String),
    /// TLS cannot be set up at all.
    #[error("TLS cannot be set up for the sink: {0}")]
    Tls(#[from] rustls::Error),
}

/// What only tests change.
#[derive(Debug)]
pub(super) struct Tuning {
    pub(super) idle_timeout: Duration,
    pub(super) recheck: Duration,
    /// Instead of the system's.
    pub(super) system_roots: Option<RootCertStore>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { idle_timeout: IDLE_TIMEOUT, recheck: RECHECK, system_roots: None }
    }
}

/// Posts messages to one URL.
#[derive(Debug)]
pub struct HttpSink {
    files: Files,
    url: Uri,
    answer_limit: usize,
}

impl HttpSink {
    /// A client for one URL. It connects when there is something to post.
    ///
    /// This reads the files that the settings name, and for an https sink the system's root certificates. A file that
    /// cannot be read is logged and read again later; where nothing may be sent without it, attempts fail and say so.
    ///
    /// # Errors
    /// Where no attempt could ever succeed: see [`SinkSetupError`].
    pub fn new(settings: HttpSinkSettings) -> Result<Self, SinkSetupError> {
        Self::tuned(settings, Tuning::default())
    }

    /// Why nothing can be sent now: a file that the settings name is missing or broken, and never was good.
    pub fn obstacle(&self) -> Option<String> {
        self.files.newest().missing.clone()
    }

    /// What is wrong with files that are not used because of it, while others are; one text a file, nothing of its content.
    pub fn unused_files(&self) -> Vec<String> {
        self.files.unused()
    }

    /// The headers of every request besides the message's own. Credentials are among them.
    pub fn headers(&self) -> HeaderMap {
        self.files.newest().headers.clone()
    }

    fn tuned(settings: HttpSinkSettings, tuning: Tuning) -> Result<Self, SinkSetupError> {
        let (url, answer_limit) = (settings.url.clone(), settings.answer_limit);
        if url.host().is_none_or(str::is_empty) {
            return Err(SinkSetupError::Url);
        }
        Ok(Self { files: Files::read(settings, tuning)?, url, answer_limit })
    }

    async fn attempt(&self, message: Message, deadline: Instant) -> Result<Answer, Failure> {
        let current = self.files.current(deadline).await;
        let answer = self.follow(&current, &message, deadline).await?;
        if !current.has_token || !is_unauthorized(&answer) {
            return Ok(answer);
        }
        // The token may have been replaced since it was read.
        let newer = self.files.read_again(deadline).await;
        self.follow(&newer, &message, deadline).await
    }

    async fn follow(&self, current: &Current, message: &Message, deadline: Instant) -> Result<Answer, Failure> {
        if let Some(missing) = &current.missing {
            return Err(Failure::unsent(missing));
        }
        let mut url = self.url.clone();
        let mut redirects_left = MAX_REDIRECTS;
        loop {
            let (head, body) = send(current, url.clone(), message, deadline).await?.into_parts();
            let body = body::read(body, self.answer_limit, deadline).await;
            match redirect::target(&url, head.status, &head.headers) {
                Some(next) if redirects_left > 0 => url = next,
                _ => return Ok(answer::from_parts(&head, body)),
            }
            redirects_left -= 1;
        }
    }
}

fn is_unauthorized(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused { status, .. } if *status == StatusCode::UNAUTHORIZED)
}

async fn send(
    current: &Current,
    url: Uri,
    message: &Message,
    deadline: Instant,
) -> Result<Response<Incoming>, Failure> {
    let mut request = Request::new(Full::new(message.body.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url;
    *request.headers_mut() = with_ours(message.headers.clone(), &current.headers);
    timeout_at(deadline, current.client.request(request)).await.unwrap_or_else(|_| Err(Failure::timeout()))
}

/// The message's headers, each replaced where `ours` has it too.
pub(super) fn with_ours(mut headers: HeaderMap, ours: &HeaderMap) -> HeaderMap {
    for name in ours.keys() {
        headers.remove(name);
    }
    for (name, value) in ours {
        headers.append(name, value.clone());
    }
    headers
}

impl Sink for HttpSink {
    fn post(&self, message: Message, timeout: Duration) -> BoxFuture<'_, Answer> {
        let deadline = Instant::now() + timeout.min(LONGEST_TIMEOUT);
        Box::pin(
            async move { self.attempt(message, deadline).await.unwrap_or_else(|failure| failure.into_answer(timeout)) },
        )
    }
}

/// A request's body: shared, so that no attempt copies it.
pub(super) type Body = Full<Bytes>;

#[cfg(test)]
mod tests;
