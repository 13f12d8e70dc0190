//! Connections to a sink: how they are made, for how long they are kept, and which requests their loss leaves unprocessed.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::{Extensions, HeaderMap, Response, Uri};
use futures_util::future::{BoxFuture, FutureExt, TryFutureExt};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::error_text::{Cause, chain};

/// A peer that has died without a word is noticed after so long, both while it owes an acknowledgement of bytes and while it owes an
/// answer.
const DEAD_PEER_TIMEOUT: Duration = Duration::from_secs(15);

/// Between two questions whether a silent peer is still there.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Whether anything was ever answered on a connection.
#[derive(Debug, Clone, Default)]
struct HasAnswered(Arc<AtomicBool>);

/// A response has come: the next request on its connection is one on a reused connection.
pub(super) fn note_answer<B>(response: &Response<B>) {
    if let Some(HasAnswered(has_answered)) = response.extensions().get() {
        has_answered.store(true, Ordering::Relaxed);
    }
}

/// Whether the sink has not processed a request, as far as anybody can know: it says so itself (RFC 9113, sections 6.8 and 8.7), nothing
/// was sent, or a connection that had been idle was lost before a byte of the answer (RFC 9112, section 9.3.1).
pub(super) fn is_unprocessed(error: &legacy::Error) -> bool {
    chain(error).any(|cause| {
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            return error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM));
        }
        // The client itself sends again what it could not send on a reused connection of HTTP/1.
        let is_unsent = is_http2(error) && cause.downcast_ref().is_some_and(hyper::Error::is_canceled);
        is_unsent || is_lost_connection(cause) && was_reused(error)
    })
}

fn is_lost_connection(cause: Cause<'_>) -> bool {
    let is_cut = cause.downcast_ref().is_some_and(hyper::Error::is_incomplete_message);
    let io = cause.downcast_ref().map(io::Error::kind);
    is_cut || matches!(io, Some(ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe))
}

fn is_http2(error: &legacy::Error) -> bool {
    error.connect_info().is_some_and(Connected::is_negotiated_h2)
}

/// Only connections of HTTP/1 are told apart so: on one of HTTP/2 others may be under way.
fn was_reused(error: &legacy::Error) -> bool {
    let mut extras = Extensions::new();
    error.connect_info().filter(|info| !info.is_negotiated_h2()).inspect(|info| info.get_extras(&mut extras));
    extras.get().is_some_and(|HasAnswered(has_answered)| has_answered.load(Ordering::Relaxed))
}

/// How long the sink keeps an idle connection, if it says so: the parameter `timeout` of the header `Keep-Alive`, in seconds
/// (RFC 2068, section 19.7.1.1).
pub(super) fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    let parameters = headers.get("keep-alive")?.to_str().ok()?.split(',');
    let timeout = parameters
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"));
    timeout?.1.trim().trim_matches('"').parse().ok().map(Duration::from_secs)
}

/// Makes TCP connections that remember whether anything was answered on them.
#[derive(Debug, Clone)]
pub(super) struct Connector(HttpConnector);

impl Connector {
    pub(super) fn new(is_tls: bool) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        // Of https, too, this connector makes only the TCP connection.
        tcp.enforce_http(!is_tls);
        tcp.set_tcp_user_timeout(Some(DEAD_PEER_TIMEOUT));
        tcp.set_keepalive(Some(KEEPALIVE_INTERVAL));
        tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
        Self(tcp)
    }
}

impl Service<Uri> for Connector {
    type Response = SinkConnection;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = BoxFuture<'static, Result<SinkConnection, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let connecting = self.0.call(url);
        connecting.map_ok(|stream| SinkConnection { stream, has_answered: HasAnswered::default() }).boxed()
    }
}

/// A TCP connection to a sink.
#[derive(Debug)]
pub(super) struct SinkConnection {
    stream: TokioIo<TcpStream>,
    has_answered: HasAnswered,
}

#[cfg(test)]
impl SinkConnection {
    pub(super) fn socket(&self) -> &TcpStream {
        self.stream.inner()
    }
}

impl Connection for SinkConnection {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.has_answered.clone())
    }
}

impl Read for SinkConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for SinkConnection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }
}
