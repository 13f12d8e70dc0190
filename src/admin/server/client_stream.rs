//! A client's connection: it notes how far the client has come with its request, and ends when the client takes nothing of its answer.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::places::{SharedStage, Stage};

/// How much of what a newcomer has sent is looked at: a probe has less.
const LOOK: usize = 1024;

/// What a client has sent that has just been accepted, unread: most have sent their request by then.
pub(super) struct PeekedRequest {
    bytes: [u8; LOOK],
    length: usize,
}

impl PeekedRequest {
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
    stream: Arc<TcpStream>,
    stage: SharedStage,
    /// How long nothing may be taken.
    patience: Duration,
    /// Runs while the client takes nothing.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl ClientStream {
    pub(super) fn new(stream: Arc<TcpStream>, stage: SharedStage, patience: Duration) -> Self {
        Self { stream, stage, patience, waiting: None }
    }

    /// Writes as soon as there is room.
    fn write_with(
        &mut self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let written = loop {
            match self.stream.poll_write_ready(context) {
                Poll::Pending => break Poll::Pending,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {}
            }
            match write(&self.stream) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                written => break Poll::Ready(written),
            }
        };
        self.taken(context, written)
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
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.stream.try_read(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => break read?,
            }
        };
        buffer.advance(read);
        if read > 0 {
            self.stage.note_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write_with(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write_with(context, |stream| stream.try_write_vectored(buffers))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was written is with the kernel.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stage.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(&*self.stream, Shutdown::Write).map_err(io::Error::from))
    }
}
