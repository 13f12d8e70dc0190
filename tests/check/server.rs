//! A scripted HTTP server, with TLS or without, that remembers every request.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// One request.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub version: hyper::Version,
    pub headers: hyper::HeaderMap,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

type Script = Arc<dyn Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync>;

/// It ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub async fn start(script: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static) -> Self {
        Self::start_with(None, script).await
    }

    pub async fn start_with(
        tls: Option<TlsAcceptor>,
        script: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::default());
        let task = tokio::spawn(serve(listener, tls, Arc::new(script), Arc::clone(&seen)));
        Self { address, seen, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    pub fn methods(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.method).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer without a body.
pub fn status(status: u16) -> Response<Full<Bytes>> {
    answer(status, "")
}

pub fn answer(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(body.into())).unwrap()
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, script: Script, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, script, seen) = (tls.clone(), script.clone(), seen.clone());
        connections.spawn(async move {
            match tls {
                None => talk::<TcpStream>(stream, false, script, seen).await,
                Some(tls) => {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    talk(stream, is_http2, script, seen).await;
                }
            }
        });
    }
}

async fn talk<S>(stream: S, is_http2: bool, script: Script, seen: Arc<Mutex<Vec<Seen>>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let (script, seen) = (script.clone(), seen.clone());
        async move { Ok::<_, hyper::Error>(react(request, &script, &seen).await) }
    });
    let stream = TokioIo::new(stream);
    let _ = match is_http2 {
        true => hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await,
        false => hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await,
    };
}

async fn react(request: Request<Incoming>, script: &Script, seen: &Mutex<Vec<Seen>>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let request = Seen {
        method: head.method.to_string(),
        path: head.uri.path_and_query().map_or("", |path| path.as_str()).to_owned(),
        version: head.version,
        headers: head.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    lock(seen).push(request.clone());
    script(&request)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
