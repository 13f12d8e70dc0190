//! A sink over TLS that takes any number of connections, and can change its certificate and its mind.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// Which status a request gets.
type Judge = Box<dyn FnMut(&HeaderMap) -> u16 + Send>;

/// A request that came.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) status: u16,
    /// The client's certificate.
    pub(super) peer: Option<CertificateDer<'static>>,
}

struct State {
    acceptor: TlsAcceptor,
    judge: Judge,
    taken: Vec<Taken>,
    /// Connections that there are.
    open: usize,
    /// Sessions that were resumed.
    resumed: usize,
}

/// It ends with the test.
pub(super) struct Https {
    port: u16,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Https {
    pub(super) async fn start(acceptor: TlsAcceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let state =
            Arc::new(Mutex::new(State { acceptor, judge: Box::new(|_| 202), taken: Vec::new(), open: 0, resumed: 0 }));
        let task = tokio::spawn(serve(listener, state.clone()));
        Self { port, state, task }
    }

    pub(super) fn url(&self) -> String {
        format!("https://localhost:{}/", self.port)
    }

    /// New connections see this side; those that are there stay.
    pub(super) fn change_to(&self, acceptor: TlsAcceptor) {
        lock(&self.state).acceptor = acceptor;
    }

    pub(super) fn judge(&self, judge: impl FnMut(&HeaderMap) -> u16 + Send + 'static) {
        lock(&self.state).judge = Box::new(judge);
    }

    /// How many connections there are.
    pub(super) fn open(&self) -> usize {
        lock(&self.state).open
    }

    /// How many sessions went on where an earlier one had ended.
    pub(super) fn resumed(&self) -> usize {
        lock(&self.state).resumed
    }

    pub(super) fn taken(&self) -> Vec<Taken> {
        lock(&self.state).taken.clone()
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, state.clone()));
    }
}

async fn connection(stream: TcpStream, state: Arc<Mutex<State>>) {
    lock(&state).open += 1;
    speak(stream, state.clone()).await;
    lock(&state).open -= 1;
}

async fn speak(stream: TcpStream, state: Arc<Mutex<State>>) {
    let acceptor = lock(&state).acceptor.clone();
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let session = stream.get_ref().1;
    let peer = session.peer_certificates().map(|chain| chain[0].clone().into_owned());
    if session.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
        lock(&state).resumed += 1;
    }
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| answer(state.clone(), peer.clone(), request));
    let stream = TokioIo::new(stream);
    if is_http2 {
        drop(hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await);
    } else {
        drop(hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await);
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    peer: Option<CertificateDer<'static>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    body.collect().await?;
    let mut state = lock(&state);
    let status = (state.judge)(&head.headers);
    state.taken.push(Taken { status, peer });
    Ok(Response::builder().status(status).body(Full::default()).expect("a status"))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
