//! The port that KEDA calls: gRPC over HTTP/2, in the clear or with TLS.
//!
//! Contract: one connection carries the calls of all ScaledObjects, and a stream for each trigger of them. A client that says nothing, or
//! is gone without a word, is cut off. At the end no call is begun any more, and those under way have [`GRACE`] to end.

use std::future::pending;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;

use super::externalscaler::external_scaler_server::ExternalScalerServer;
use super::server_tls::CurrentTls;
use super::service::ScalerService;

/// The calls of one connection at the same time: a stream for each trigger of each ScaledObject is among them.
const MOST_CALLS: u32 = 10_000;

/// KEDA's operator, its metrics server and another replica have one connection each.
const MOST_CONNECTIONS: usize = 256;

/// How long a handshake of TLS may take, and then what a client of HTTP/2 has to say first.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The preface, and the head of a frame of settings.
const GREETING: usize = 24 + 9;

/// A client that has been silent so long is asked whether it is there, and has so long to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long calls that have begun may take at the end.
const GRACE: Duration = Duration::from_secs(5);

/// The pause after the kernel gave no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The most bytes of a request: a trigger's metadata.
const REQUEST_LIMIT: usize = 64 << 10;

/// What answers the calls.
pub(super) type Service = ExternalScalerServer<ScalerService>;

pub(super) fn service(service: ScalerService) -> Service {
    ExternalScalerServer::new(service).max_decoding_message_size(REQUEST_LIMIT)
}

/// Serves until told to stop; with `tls`, by what it holds then.
///
/// # Errors
/// When the listener is broken for good.
pub(super) async fn serve(
    listener: TcpListener,
    service: Service,
    tls: Option<CurrentTls>,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut clients = JoinSet::new();
    loop {
        select! {
            () = stop.cancelled() => break,
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok(_) if clients.len() >= MOST_CONNECTIONS => {}
                Ok((stream, _)) => {
                    clients.spawn(serve_client(stream, service.clone(), tls.clone(), stop.clone()));
                }
                Err(error) if error.kind() == ErrorKind::InvalidInput => return Err(error),
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    while clients.join_next().await.is_some() {}
    Ok(())
}

/// Answers one client. One that breaks off, or is none, is its own affair.
async fn serve_client(stream: TcpStream, service: Service, tls: Option<CurrentTls>, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => answer(stream, service, stop).await,
        Some(tls) => {
            let Some(loaded) = tls.borrow().clone() else { return };
            let handshake = timeout(HANDSHAKE, TlsAcceptor::from(loaded.server).accept(stream));
            if let Some(Ok(Ok(stream))) = stop.run_until_cancelled(handshake).await {
                answer(stream, service, stop).await;
            }
        }
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    service: Service,
    stop: CancellationToken,
) {
    let heard = Arc::new(AtomicUsize::new(0));
    let has_greeted = || heard.load(Ordering::Relaxed) >= GREETING;
    let counted = heard.clone();
    let stream = InspectReader::new(stream, move |bytes: &[u8]| _ = counted.fetch_add(bytes.len(), Ordering::Relaxed));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_CALLS)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = pin!(connection);
    // Once it has greeted, the pings of HTTP/2 see whether it is there.
    let silence = async {
        sleep(HANDSHAKE).await;
        if has_greeted() {
            pending().await
        }
    };
    select! {
        _ = connection.as_mut() => return,
        () = silence => return,
        () = stop.cancelled() => {}
    }
    if !has_greeted() {
        return;
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(GRACE, connection).await;
}
