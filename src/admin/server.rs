//! Serves a router to clients of whom none can hold up the others.
//!
//! Contract: a client that sends no request, half a request, or does not read its answer is cut off after a while. When too
//! many are connected, the oldest makes room, and some file descriptors are kept back: a probe is always heard. At the end answers
//! that have begun are finished, within [`GRACE`].

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::spare_files::SpareFiles;

/// How long an answer that has begun may take once its connection is told to end.
const GRACE: Duration = Duration::from_millis(500);

/// Descriptors that are kept back for clients: as many as there are kinds of probes, and one for who reads metrics.
const KEPT_BACK: usize = 4;

/// The pause after the kernel gave no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What clients may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How many are connected at once.
    pub(super) connections: usize,
    /// From the connection, or the last answer, to the end of the next request's head.
    pub(super) head: Duration,
    /// How long one may stay connected.
    pub(super) life: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 64, head: Duration::from_secs(10), life: Duration::from_secs(60) }
    }
}

/// Serves until told to stop.
///
/// # Errors
/// When the listener is broken for good.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut clients = Clients { tasks: JoinSet::new(), oldest_first: VecDeque::new() };
    let spare = SpareFiles::new(KEPT_BACK);
    loop {
        select! {
            () = stop.cancelled() => break,
            Some(_) = clients.tasks.join_next() => spare.refill(),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    clients.make_room(limits.connections);
                    clients.start(converse(stream, router.clone(), limits, stop.clone()));
                }
                Err(error) if error.kind() == ErrorKind::InvalidInput => return Err(error),
                Err(error) if spare.give_up_for(&error) => {}
                Err(_) => {
                    clients.oldest_leaves();
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while clients.tasks.join_next().await.is_some() {}
    Ok(())
}

/// Those who are connected.
struct Clients {
    tasks: JoinSet<()>,
    oldest_first: VecDeque<AbortHandle>,
}

impl Clients {
    fn make_room(&mut self, limit: usize) {
        self.oldest_first.retain(|client| !client.is_finished());
        while self.oldest_first.len() >= limit && self.oldest_leaves() {}
    }

    /// Cuts the oldest one off, if there is one.
    fn oldest_leaves(&mut self) -> bool {
        let oldest = self.oldest_first.pop_front();
        oldest.inspect(AbortHandle::abort).is_some()
    }

    fn start(&mut self, client: impl Future<Output = ()> + Send + 'static) {
        let handle = self.tasks.spawn(client);
        self.oldest_first.push_back(handle);
    }
}

/// Answers one client until it leaves, takes too long, or the server stops.
async fn converse(stream: TcpStream, router: Router, limits: Limits, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    select! {
        // A client that breaks off, or is no HTTP client, is its own affair.
        _ = connection.as_mut() => return,
        () = sleep(limits.life) => {}
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(GRACE, connection).await;
}

#[cfg(test)]
mod tests;
