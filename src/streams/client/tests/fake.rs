//! A service on this machine that answers as it is told and remembers what it was asked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One answer.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// Status, headers, body.
    Whole(u16, Vec<(&'static str, &'static str)>, Bytes),
    /// 200 with this many bytes announced; the connection is cut behind what is there.
    CutOff(usize, Bytes),
    /// None, ever.
    Never,
}

impl Answer {
    pub(super) fn ok(body: impl Into<Bytes>) -> Self {
        Self::Whole(200, Vec::new(), body.into())
    }

    /// An error as AWS words it.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"{message}"}}"#);
        Self::Whole(status, vec![("x-amzn-requestid", "REQUEST1")], body.into())
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// The operation behind the dot of `X-Amz-Target`.
    pub operation: String,
    pub authorization: String,
    pub text: String,
}

impl Seen {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("a JSON request")
    }
}

#[derive(Debug, Default)]
struct Script {
    answers: VecDeque<Answer>,
    seen: Vec<Seen>,
}

/// Serves until it is dropped. The last answer is repeated.
#[derive(Debug)]
pub(super) struct Fake {
    pub address: SocketAddr,
    script: Arc<Mutex<Script>>,
    server: JoinHandle<()>,
}

impl Fake {
    pub(super) async fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let script = Arc::new(Mutex::new(Script { answers: answers.into_iter().collect(), seen: Vec::new() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let router = Router::new().fallback(answer).with_state(Arc::clone(&script));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("serving never fails") });
        Self { address, script, server }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.script.lock().expect("no test panicked here").seen.clone()
    }

    /// Configuration that knows nothing but this service.
    pub(super) fn loader(&self) -> ConfigLoader {
        loader_for(self.address)
    }
}

/// Configuration that knows nothing but the service at this address, and waits for nothing between attempts.
pub(super) fn loader_for(address: SocketAddr) -> ConfigLoader {
    aws_config::defaults(BehaviorVersion::latest())
        .empty_test_environment()
        .endpoint_url(format!("http://{address}"))
        .region(Region::new("eu-west-1"))
        .credentials_provider(aws_credential_types::Credentials::new("key", "secret-key", None, None, "test"))
        .timeout_config(timeouts(Duration::from_secs(10)))
        .retry_config(RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(1)))
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub(super) fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(attempt).operation_attempt_timeout(attempt).build()
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, headers: HeaderMap, body: String) -> Response<Body> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = header("x-amz-target").rsplit('.').next().unwrap_or_default().to_owned();
    let seen = Seen { operation, authorization: header("authorization").to_owned(), text: body };
    let answer = next(&script, seen);
    match answer {
        Answer::Whole(status, headers, body) => {
            let response =
                headers.into_iter().fold(Response::builder(), |response, (name, value)| response.header(name, value));
            response.status(status).body(body.into()).expect("a response")
        }
        Answer::CutOff(announced, body) => {
            // What there is leaves the server while it waits for more.
            let cut = async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("cut off on purpose"))
            };
            let body = stream::once(std::future::ready(Ok(body))).chain(stream::once(cut));
            let response = Response::builder().header("content-length", announced);
            response.body(Body::from_stream(body)).expect("a response")
        }
        Answer::Never => std::future::pending().await,
    }
}

fn next(script: &Mutex<Script>, seen: Seen) -> Answer {
    let mut script = script.lock().expect("no test panicked here");
    script.seen.push(seen);
    let last = script.answers.len() == 1;
    let answer = if last { script.answers.front().cloned() } else { script.answers.pop_front() };
    answer.expect("every test scripts an answer")
}
