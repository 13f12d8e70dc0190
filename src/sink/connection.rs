//! Connections to a sink: how they are made, how many there are, for how long they are kept, and which requests their loss leaves unprocessed.

use std::error::Error;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::{Extensions, HeaderMap, Response, Uri};
use futures_util::future::{BoxFuture, FutureExt};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task_local;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use crate::error_text::{Cause, chain};

type BoxError = Box<dyn Error + Send + Sync>;

/// A peer that has died without a word is noticed after so long, both while it owes an acknowledgement of bytes and while it owes an
/// answer.
pub(super) const DEAD_PEER_TIMEOUT: Duration = Duration::from_secs(15);

/// How far a connection of HTTP/1 has come with its newest request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Progress {
    /// Nothing was ever answered on it.
    New,
    /// The head of an answer has come, and nothing was sent since.
    Answered,
    /// A request is on its way, and not a byte of its answer has come.
    Asked,
    /// A part of the answer has come, and its head is not whole.
    Answering,
}

/// Is seen by the connection, which moves it with the bytes, and by those who wait for answers.
#[derive(Debug, Clone)]
struct SharedProgress(Arc<AtomicU8>);

impl SharedProgress {
    fn new() -> Self {
        Self(Arc::new(AtomicU8::new(Progress::New as u8)))
    }

    fn is(&self, progress: Progress) -> bool {
        self.0.load(Ordering::Relaxed) == progress as u8
    }

    fn set(&self, progress: Progress) {
        self.0.store(progress as u8, Ordering::Relaxed);
    }

    fn advance(&self, from: Progress, to: Progress) {
        // Where it is somewhere else it stays there.
        let _ = self.0.compare_exchange(from as u8, to as u8, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// A response has come: the next request on its connection is one on a reused connection.
pub(super) fn note_answer<B>(response: &Response<B>) {
    if let Some(progress) = response.extensions().get::<SharedProgress>() {
        progress.set(Progress::Answered);
    }
}

/// Whether the sink has not processed a request, as far as anybody can know: it says so itself (RFC 9113, sections 6.8 and 8.7), nothing
/// was sent, or a connection that had been idle was lost before a byte of the answer (RFC 9112, section 9.3.1).
pub(super) fn is_unprocessed(error: &legacy::Error) -> bool {
    had_no_connection(error)
        || chain(error).any(|cause| {
            if let Some(error) = cause.downcast_ref::<h2::Error>() {
                return error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM));
            }
            // The client itself sends again what it could not send on a reused connection of HTTP/1.
            let is_unsent = is_http2(error) && cause.downcast_ref().is_some_and(hyper::Error::is_canceled);
            is_unsent || is_lost_connection(cause) && was_reused(error)
        })
}

/// The client gave up its own connection for one of HTTP/2 that another request was making, and that one ended before it was shared.
fn had_no_connection(error: &legacy::Error) -> bool {
    let has_fault = chain(error).any(|cause| cause.is::<hyper::Error>() || cause.is::<io::Error>());
    error.connect_info().is_none() && !error.is_connect() && !has_fault
}

fn is_lost_connection(cause: Cause<'_>) -> bool {
    let is_cut = cause.downcast_ref().is_some_and(hyper::Error::is_incomplete_message);
    let io = cause.downcast_ref().map(io::Error::kind);
    let is_lost = matches!(
        io,
        Some(
            ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                // Of TCP itself: the peer died without a word, or a router says that it is gone.
                | ErrorKind::TimedOut
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
        )
    );
    is_cut || is_lost
}

fn is_http2(error: &legacy::Error) -> bool {
    error.connect_info().is_some_and(Connected::is_negotiated_h2)
}

/// Whether the connection had been idle, and not a byte of an answer has come since. Only connections of HTTP/1 are told apart so: on
/// one of HTTP/2 others may be under way.
fn was_reused(error: &legacy::Error) -> bool {
    let mut extras = Extensions::new();
    error.connect_info().filter(|info| !info.is_negotiated_h2()).inspect(|info| info.get_extras(&mut extras));
    let progress = extras.get::<SharedProgress>();
    progress.is_some_and(|progress| progress.is(Progress::Answered) || progress.is(Progress::Asked))
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

/// Connections that may be there for each attempt that may be under way: its own, and one that the client went on making after the
/// attempt had got another, or that an earlier generation of credentials still has.
const SLOTS_OF_AN_ATTEMPT: usize = 2;

task_local! {
    /// Is cancelled when the attempt that this task makes has ended.
    static ATTEMPT_ENDED: CancellationToken;
}

/// Places for connections to one sink, made or being made: whatever it answers, there are no more.
#[derive(Debug, Clone)]
pub(super) struct Slots(Arc<Semaphore>);

/// Nobody waits for this connection any more, and there was no place for it.
#[derive(Debug, thiserror::Error)]
#[error("the attempt has ended before there was room for another connection")]
struct Unwanted;

impl Slots {
    /// For so many attempts at once.
    pub(super) fn new(concurrency: usize) -> Self {
        let places = concurrency.saturating_mul(SLOTS_OF_AN_ATTEMPT).min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Semaphore::new(places)))
    }

    /// Makes an attempt. A connection that is begun for it waits for a place no longer than it lasts: the client does not tell when it
    /// needs one no more.
    pub(super) async fn wanted_during<T>(attempt: impl Future<Output = T>) -> T {
        let ended = CancellationToken::new();
        let _ended = ended.clone().drop_guard();
        ATTEMPT_ENDED.scope(ended, attempt).await
    }

    /// A place, once there is one. It is free again when it is dropped.
    fn take(&self) -> impl Future<Output = Result<OwnedSemaphorePermit, Unwanted>> + use<> {
        let (slots, ended) = (self.0.clone(), ATTEMPT_ENDED.try_with(CancellationToken::clone).unwrap_or_default());
        async move {
            select! {
                place = slots.acquire_owned() => place.map_err(|_| Unwanted),
                () = ended.cancelled() => Err(Unwanted),
            }
        }
    }
}

/// Makes connections that know how far they have come with a request, as many as there are slots.
#[derive(Debug, Clone)]
pub(super) struct Watching<C> {
    connector: C,
    slots: Slots,
}

impl<C> Watching<C> {
    pub(super) fn new(connector: C, slots: Slots) -> Self {
        Self { connector, slots }
    }
}

impl<C> Service<Uri> for Watching<C>
where
    C: Service<Uri, Error: Into<BoxError>, Response: Send, Future: Send> + Clone + Send + 'static,
{
    type Response = TokioIo<Watched<TokioIo<C::Response>>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let (place, mut connector) = (self.slots.take(), self.connector.clone());
        async move {
            let place = place.await?;
            let stream = connector.call(url).await.map_err(Into::into)?;
            Ok(TokioIo::new(Watched::new(TokioIo::new(stream), place)))
        }
        .boxed()
    }
}

/// A connection to a sink, seen above TLS: what counts are bytes of requests and answers.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    progress: SharedProgress,
    /// Its own, for as long as it is open.
    _place: OwnedSemaphorePermit,
}

impl<S> Watched<S> {
    fn new(stream: S, place: OwnedSemaphorePermit) -> Self {
        Self { stream, progress: SharedProgress::new(), _place: place }
    }

    fn note_written(&self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.progress.advance(Progress::Answered, Progress::Asked);
        }
    }
}

impl<S: Connection> Connection for Watched<S> {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.progress.clone())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.progress.advance(Progress::Asked, Progress::Answering);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_written(&written);
        written
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
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.note_written(&written);
        written
    }
}
