//! The sink behind a URL: a pooled HTTP client.
//!
//! One attempt is one POST, and up to five more where the sink redirects it (307 or 308) to another path of its own
//! scheme, host and port. Connections are kept for less time than the Knative broker keeps them. A request that met
//! a connection which the sink had just closed, and of which nothing was sent, is sent again by the client itself.

mod answer;
mod body;
mod client;
mod fault;
mod redirect;
mod tls;

use std::time::Duration;

use ::http::header::USER_AGENT;
use ::http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use self::client::{Client, IDLE_TIMEOUT};
use self::fault::Failure;
use super::{Answer, Sink};
use crate::event::Message;

/// How often one attempt follows a redirect.
const MAX_REDIRECTS: usize = 5;

/// Stands for "for ever" where a timeout is too long for the clock.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(86_400);

/// What a sink behind a URL needs to be told.
#[derive(Debug, Clone)]
pub struct HttpSinkSettings {
    /// Where to post to; http or https.
    pub url: Uri,
    /// How many attempts run at once: so many idle connections are kept.
    pub concurrency: usize,
    /// Headers for every request, besides the message's own; they win over those.
    pub headers: HeaderMap,
}

/// A sink that cannot work as configured.
#[derive(Debug, thiserror::Error)]
pub enum SinkSetupError {
    /// Not a URL that can be posted to.
    #[error("the sink's URL must be absolute and begin with http:// or https://")]
    Url,
    /// Nothing to check the sink's certificate against.
    #[error(
        "no trusted root certificate was found for the https sink: install the system's ca-certificates, or name a \
         PEM file in SSL_CERT_FILE ({0})"
    )]
    NoRoots(String),
    /// TLS cannot be set up at all.
    #[error("TLS cannot be set up for the sink: {0}")]
    Tls(#[from] rustls::Error),
}

/// Posts messages to one URL.
#[derive(Debug)]
pub struct HttpSink {
    client: Client,
    url: Uri,
    headers: HeaderMap,
}

impl HttpSink {
    /// A client for one URL. It connects when there is something to post.
    ///
    /// For an https sink this reads the system's root certificates, for an http sink nothing.
    ///
    /// # Errors
    /// Where no attempt could ever succeed: see [`SinkSetupError`].
    pub fn new(settings: HttpSinkSettings) -> Result<Self, SinkSetupError> {
        let client = match settings.url.scheme_str() {
            Some("http") => Client::plain(settings.concurrency, IDLE_TIMEOUT),
            Some("https") => {
                let config = tls::client_config(tls::system_roots()?)?;
                Client::tls(settings.concurrency, IDLE_TIMEOUT, config)
            }
            _ => return Err(SinkSetupError::Url),
        };
        Self::with_client(settings, client)
    }

    fn with_client(settings: HttpSinkSettings, client: Client) -> Result<Self, SinkSetupError> {
        let HttpSinkSettings { url, mut headers, .. } = settings;
        if url.host().is_none_or(str::is_empty) {
            return Err(SinkSetupError::Url);
        }
        let agent = HeaderValue::from_static(concat!("dynamodb-streams-adapter/", env!("CARGO_PKG_VERSION")));
        headers.entry(USER_AGENT).or_insert(agent);
        Ok(Self { client, url, headers })
    }

    async fn attempt(&self, message: Message, deadline: Instant) -> Result<Answer, Failure> {
        let mut url = self.url.clone();
        let mut redirects_left = MAX_REDIRECTS;
        loop {
            let (head, body) = self.send(url.clone(), &message, deadline).await?.into_parts();
            let body = body::read(body, deadline).await;
            match redirect::target(&url, head.status, &head.headers) {
                Some(next) if redirects_left > 0 => url = next,
                _ => return Ok(answer::from_parts(&head, body)),
            }
            redirects_left -= 1;
        }
    }

    async fn send(&self, url: Uri, message: &Message, deadline: Instant) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::new(Full::new(message.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url;
        *request.headers_mut() = message.headers.clone();
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        match timeout_at(deadline, self.client.request(request)).await {
            Ok(response) => response.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::timeout()),
        }
    }
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
type Body = Full<Bytes>;

#[cfg(test)]
mod tests;
