//! Serves a router to clients so that none can hold up the others.
//!
//! Contract: a client that sends no request, half a request, or does not take its answer is cut off after a while. Who is connected, and
//! who makes room when too many are, is decided by [`Places`]: a request that has come whole is never cut off for it. How often a source
//! is answered is bounded by [`Pace`]. Some places and some file descriptors are kept back: a probe is always heard. At the end answers
//! that have begun are finished, within [`GRACE`].

mod client_stream;
mod pace;
mod places;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::header::{CONNECTION, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use hyper::body::Body as _;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::client_stream::{ClientStream, PeekedRequest};
use self::pace::Pace;
use self::places::{Handle, Place, Places, SharedStage, Sizes, Source, Stage};
use crate::spare_files::SpareFiles;

/// How long an answer that has begun may take once its connection is told to end.
const GRACE: Duration = Duration::from_millis(500);

/// The most bytes of a request's head, and of what is read ahead behind it: a proxy that signs people in adds some thousands of cookies.
const MAX_HEAD: usize = 64 << 10;

/// Descriptors that are kept back for clients: as many as there are kinds of probes, and one for who reads metrics.
const KEPT_BACK: usize = 4;

/// The pause after the kernel gave no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What clients may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How many are connected at once, besides those in places that are kept back.
    pub(super) connections: usize,
    /// How many more are answered what is always answered.
    pub(super) kept_back: usize,
    /// From the connection, or the last answer, to the end of the next request's head.
    pub(super) head: Duration,
    /// How long a client may take nothing of an answer that waits for it.
    pub(super) taking: Duration,
    /// How long one may stay connected.
    pub(super) life: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let (head, life) = (Duration::from_secs(10), Duration::from_secs(60));
        Self { connections: 64, kept_back: 64, head, taking: Duration::from_secs(5), life }
    }
}

/// What is served, and which paths of it are answered in places that are kept back.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) router: Router,
    pub(super) always: fn(&str) -> bool,
}

/// Serves until told to stop.
///
/// # Errors
/// When the listener is broken for good.
pub(super) async fn serve(
    listener: TcpListener,
    served: Served,
    limits: Limits,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut clients = Clients::new(served, limits, stop.clone());
    let spare = SpareFiles::new(KEPT_BACK);
    loop {
        select! {
            () = stop.cancelled() => break,
            Some(_) = clients.tasks.join_next() => spare.refill(),
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => clients.accept(stream, address),
                Err(error) if error.kind() == ErrorKind::InvalidInput => return Err(error),
                Err(error) if spare.give_up_for(&error) => {}
                Err(_) => {
                    clients.evict_one();
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while clients.tasks.join_next().await.is_some() {}
    Ok(())
}

/// Those who are connected, and all that serving them needs.
struct Clients {
    tasks: JoinSet<()>,
    places: Places<ClientHandle>,
    context: ServerContext,
}

/// What the tasks of all clients share.
#[derive(Clone)]
struct ServerContext {
    served: Served,
    limits: Limits,
    pace: Arc<Pace>,
    stop: CancellationToken,
}

/// One client as those know it who look for room.
struct ClientHandle {
    task: AbortHandle,
    /// The task's; it closes when that ends.
    stream: Weak<TcpStream>,
}

impl ClientHandle {
    fn has_gone(&self) -> bool {
        self.task.is_finished()
    }

    fn cut_off(&self) {
        self.task.abort();
    }
}

impl Handle for ClientHandle {
    fn unread(&self) -> Stage {
        self.stream.upgrade().map_or(Stage::Silent, |stream| PeekedRequest::of(&stream).stage())
    }
}

/// One client as its task knows it.
struct ClientContext {
    source: Source,
    stage: SharedStage,
    place: Place,
}

impl Clients {
    fn new(served: Served, limits: Limits, stop: CancellationToken) -> Self {
        let places = Places::new(Sizes { open: limits.connections, kept_back: limits.kept_back });
        Self { tasks: JoinSet::new(), places, context: ServerContext { served, limits, pace: Arc::default(), stop } }
    }

    /// Begins a task, if there is a place for it; otherwise the connection is closed.
    fn accept(&mut self, stream: TcpStream, address: SocketAddr) {
        self.places.forget(ClientHandle::has_gone);
        let (source, peeked) = (Source::of(address.ip()), PeekedRequest::of(&stream));
        let may_be_kept_back = peeked.path().is_none_or(self.context.served.always);
        let Some((place, evicted)) = self.places.find(source, may_be_kept_back) else { return };
        evicted.as_ref().inspect(|client| client.cut_off());
        let stage = SharedStage::new(peeked.stage());
        let client = ClientContext { source, stage: stage.clone(), place };
        let stream = Arc::new(stream);
        let seen = Arc::downgrade(&stream);
        let task = self.tasks.spawn(serve_client(stream, client, self.context.clone()));
        self.places.take(source, stage, place, ClientHandle { task, stream: seen });
    }

    /// Cuts one off, if there is one who may be.
    fn evict_one(&mut self) {
        self.places.forget(ClientHandle::has_gone);
        self.places.evict().as_ref().inspect(|client| client.cut_off());
    }
}

/// Answers one client until it leaves, takes too long, or the server stops.
async fn serve_client(stream: Arc<TcpStream>, client: ClientContext, context: ServerContext) {
    let ServerContext { served, limits, pace, stop } = context;
    let stream = ClientStream::new(stream, client.stage.clone(), limits.taking);
    let (router, client) = (TowerToHyperService::new(served.router), Arc::new(client));
    let service = service_fn(|request| {
        client.stage.set(Stage::Answered);
        let (client, pace) = (client.clone(), pace.clone());
        let is_always_served = (served.always)(request.uri().path());
        let answer = router.call(request);
        async move {
            let answer = match client.place {
                Place::Open => at_its_pace(&pace, client.source, answer).await?,
                Place::KeptBack if is_always_served => once(answer.await?),
                Place::KeptBack => once(busy()),
            };
            client.stage.set(Stage::Taking);
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
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

/// An answer when it is its source's turn.
async fn at_its_pace<E>(
    pace: &Pace,
    source: Source,
    answer: impl Future<Output = Result<Response<Body>, E>>,
) -> Result<Response<Body>, E> {
    pace.wait_turn(source).await;
    let answer = answer.await?;
    pace.answered(source, answer.body().size_hint().exact().unwrap_or_default());
    Ok(answer)
}

/// The last answer on its connection: a place that is kept back is free for the next one at once.
fn once(mut answer: Response<Body>) -> Response<Body> {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// For who came when all but the places that are kept back were taken.
fn busy() -> Response<Body> {
    let mut response = Response::new(Body::from("too many clients; only probes are answered now\n"));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests;
