//! The client against servers that follow a script, byte by byte.

mod answers;
pub(in crate::sink) mod authority;
mod bodies;
mod cold;
mod connections;
mod credentials;
mod faults;
mod hostile;
mod hostile_http2;
mod https;
mod lenient;
mod redirects;
mod rotation;
mod server;
mod tls;
mod trust;
mod unprocessed;
mod volume;

use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, StatusCode};
use bytes::Bytes;

use self::server::Server;
use super::*;
use crate::sink::settings::{IDLE_TIMEOUT, TlsTrust};
use crate::sink::{BodyEnd, RetryAfter, TransportError};

/// Long enough for every answer that comes at all.
const PATIENCE: Duration = Duration::from_secs(20);

fn settings(url: &str) -> SinkSettings {
    SinkSettings::new(url.parse().expect("a URL"), 4)
}

fn sink_of(server: &Server) -> HttpSink {
    sink(settings(&server.url("/events?to=all")), Tuning::default())
}

fn sink(settings: SinkSettings, tuning: Tuning) -> HttpSink {
    made(settings, tuning).expect("a sink")
}

/// A sink and, as long as the test runs, the task that keeps its credentials fresh.
fn made(settings: SinkSettings, tuning: Tuning) -> Result<HttpSink, SinkSetupError> {
    let (sink, reloader) = HttpSink::tuned(settings, tuning)?;
    tokio::spawn(reloader.run());
    Ok(sink)
}

/// Has its files read before every attempt.
struct Attentive(HttpSink);

impl Attentive {
    async fn post(&self, message: Message, timeout: Duration) -> SinkResponse {
        self.0.credentials.read_again(Instant::now() + PATIENCE).await;
        self.0.post(message, timeout).await
    }
}

fn message() -> Message {
    let headers = HeaderMap::from_iter([
        (::http::HeaderName::from_static("ce-id"), HeaderValue::from_static("e1")),
        (::http::header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
    ]);
    Message { headers, body: Bytes::from_static(b"{\"a\":1}") }
}

fn accepted(code: u16, body: &'static str) -> SinkResponse {
    SinkResponse::Accepted { status: status(code), body: Bytes::from_static(body.as_bytes()), end: BodyEnd::Whole }
}

/// Accepted, but the end of the answer's body never came.
fn cut(code: u16, body: &'static str) -> SinkResponse {
    SinkResponse::Accepted { status: status(code), body: Bytes::from_static(body.as_bytes()), end: BodyEnd::Cut }
}

fn refused(code: u16, body_start: &'static str) -> SinkResponse {
    let body_start = Bytes::from_static(body_start.as_bytes());
    SinkResponse::Refused { status: status(code), retry_after: None, body_start }
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).expect("a status")
}

/// The error of a failed attempt, and its message.
fn failed(answer: SinkResponse) -> (TransportError, String) {
    match answer {
        SinkResponse::Failed { error, message } => (error, message),
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[test]
fn a_url_that_cannot_be_posted_to_is_refused_at_the_start() {
    for url in ["/path", "sink.example", "ftp://sink.example/", "unix://sink.example/"] {
        let made = HttpSink::new(settings(url));
        assert!(matches!(made, Err(SinkSetupError::Url)), "{url}");
    }
}
