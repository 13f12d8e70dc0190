//! A client's connection: it notes how far the client has come with its request, and ends when the client takes nothing of its answer.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::places::{SharedStage, Stage};

/// How much of what a newcomer has sent is looked at: a probe has less.
const LOOK: usize = 1024;

/// What a client has sent that has just been accepted, unread: most have sent their request by then.
pub(super) struct FirstWords {
    bytes: [u8; LOOK],
    length: usize,
}

impl FirstWords {
    pub(super) fn of(stream: &TcpStream) -> Self {
        let mut bytes = [0; LOOK];
        let length = recv(stream, &mut bytes, RecvFlags::PEEK | RecvFlags::DONTWAIT).unwrap_or_default();
        Self { bytes, length }
    }

    /// A request that is there whole is not cut off for others, though nothing has read it yet.
    pub(super) fn stage(&self) -> Stage {
        match &self.bytes[..self.length] {
            [] => Stage::Silent,
            request if request.windows(4).any(|end| end == b"\r\n\r\n") => Stage::Whole,
            _ => Stage::Asking,
        }
    }

    /// What is asked for, if that is there.
    pub(super) fn path(&self) -> Option<&str> {
        let mut words = self.bytes[..self.length].split(|byte| *byte == b' ');
        let (_, path, _) = (words.next()?, words.next()?, words.next()?);
        std::str::from_utf8(path).ok()
    }
}

/// The connection, as the server reads and writes it.
pub(super) struct ClientStream {
    stream: TcpStream,
    stage: SharedStage,
    /// How long nothing may be taken.
    patience: Duration,
    /// Runs while the client takes nothing.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl ClientStream {
    pub(super) fn new(stream: TcpStream, stage: SharedStage, patience: Duration) -> Self {
        Self { stream, stage, patience, waiting: None }
    }

    /// What a write came to; an error once the client has taken nothing for too long.
    fn taken<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.stage.hear();
        }
        read
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.taken(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.taken(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.stage.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
