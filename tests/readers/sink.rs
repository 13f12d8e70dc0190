//! A sink that keeps requests byte for byte and acknowledges all of them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// It ends when it is dropped.
pub struct RawSink {
    kept: Arc<Mutex<Kept>>,
    address: SocketAddr,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Kept {
    requests: Vec<Value>,
    events: usize,
}

impl RawSink {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Arc::new(Mutex::new(Kept::default()));
        let server = tokio::spawn(serve(listener, kept.clone()));
        Self { kept, address, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// How many events came, those of a batch counted singly.
    pub fn events(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).events
    }

    /// All requests, in order of arrival: `headers` as pairs, `body_base64`.
    pub fn requests(&self) -> Vec<Value> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).requests.clone()
    }
}

impl Drop for RawSink {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, kept: Arc<Mutex<Kept>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let kept = kept.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| keep(kept.clone(), request));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn keep(kept: Arc<Mutex<Kept>>, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let text = |value: &hyper::http::HeaderValue| value.to_str().expect("header values are printable ASCII").to_owned();
    let headers: Vec<_> = head.headers.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
    let batch = headers.iter().any(|(name, value)| *name == "content-type" && value.contains("batch"));
    let batched = || serde_json::from_slice::<Vec<Value>>(&body).expect("a batch is a JSON array").len();
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.events += if batch { batched() } else { 1 };
    kept.requests.push(json!({"headers": headers, "body_base64": BASE64_STANDARD.encode(&body)}));
    Ok(Response::builder().status(202).body(Empty::new()).expect("a status is all there is"))
}
