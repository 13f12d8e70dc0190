//! A sink that does what the test tells it to, and remembers everything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use super::body::CutBody;

/// What the sink does with a request.
#[derive(Debug, Clone)]
pub enum Reaction {
    /// Answers with this status.
    Status(u16),
    /// Answers with this status and body.
    Body(u16, String),
    /// Answers with this status and the beginning of a body, and cuts the connection.
    Cut(u16, String),
    /// Answers 200 and names these events of the batch, by id or sequence number, as failed.
    Failures(Vec<String>),
    /// Answers with this status and header.
    With(u16, &'static str, String),
    /// Waits first.
    After(Duration, Box<Reaction>),
    /// Never answers.
    Hang,
    /// Cuts the connection instead of answering.
    Reset,
    /// Answers 200 and cuts the connection in the middle of the body.
    AcknowledgeAndDrop,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Received {
    pub id: String,
    pub kind: String,
    /// The item's key and the version that the event tells of.
    pub item: String,
    pub version: u64,
    /// Headers that begin with `ce-`, without that, decoded.
    pub attributes: BTreeMap<String, String>,
    pub data: Value,
    pub path: String,
    pub authorization: Option<String>,
    pub arrived: Instant,
    /// When and with which status it was answered.
    pub answered: Option<(Instant, u16)>,
    /// How often this event had come before.
    pub earlier: usize,
    /// The number of the request that brought it.
    pub request: usize,
    /// An earlier event of its item in the same request was not taken, so that this one counts as not sent.
    pub void: bool,
    /// The request's content type.
    pub content_type: String,
}

impl Received {
    pub fn accepted(&self) -> Option<Instant> {
        self.answered.filter(|(_, status)| (200..300).contains(status)).map(|(at, _)| at)
    }
}

/// Decides by all events of a request.
type Script = Box<dyn FnMut(&[Received]) -> Reaction + Send>;

struct State {
    script: Script,
    requests: usize,
    received: Vec<Received>,
    seen: BTreeMap<String, usize>,
    acknowledged: BTreeSet<String>,
    under_way: usize,
    most_under_way: usize,
    connections: usize,
    open: usize,
    /// Only these are kept, requests and bytes, where speed is measured.
    counted: Option<(usize, usize)>,
}

/// A scripted sink on loopback. It ends when it is dropped.
pub struct TestSink {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    server: Option<JoinHandle<()>>,
}

impl TestSink {
    /// One that acknowledges everything at once.
    pub async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).await
    }

    /// The same at this address.
    pub async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            script: Box::new(|_| Reaction::Status(202)),
            requests: 0,
            received: Vec::new(),
            seen: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            under_way: 0,
            most_under_way: 0,
            connections: 0,
            open: 0,
            counted: None,
        }));
        let server = Some(tokio::spawn(serve(listener, state.clone())));
        Self { state, address, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on the sink reacts so to the first event of each request.
    pub fn react(&self, mut script: impl FnMut(&Received) -> Reaction + Send + 'static) {
        self.react_to_all(move |events| script(&events[0]));
    }

    /// From now on the sink reacts so to requests.
    pub fn react_to_all(&self, script: impl FnMut(&[Received]) -> Reaction + Send + 'static) {
        self.state().script = Box::new(script);
    }

    /// From now on the sink acknowledges everything at once.
    pub fn behave(&self) {
        self.react(|_| Reaction::Status(202));
    }

    /// Refuses connections, and cuts those there are.
    pub fn down(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }

    /// Takes connections again, on the same port.
    pub async fn up(&mut self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener = socket.listen(1024).unwrap();
        self.server = Some(tokio::spawn(serve(listener, self.state.clone())));
    }

    /// Everything that came, in order of arrival.
    pub fn received(&self) -> Vec<Received> {
        self.state().received.clone()
    }

    /// Looks at all of it without a copy; the sink waits meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&[Received]) -> T) -> T {
        look(&self.state().received)
    }

    /// Everything that was acknowledged, in order of arrival.
    pub fn accepted(&self) -> Vec<Received> {
        self.state().received.iter().filter(|received| received.accepted().is_some()).cloned().collect()
    }

    /// How many different events were acknowledged.
    pub fn distinct(&self) -> usize {
        self.state().acknowledged.len()
    }

    /// From now on acknowledges everything and only counts.
    pub fn count_only(&self) {
        self.state().counted = Some((0, 0));
    }

    /// Requests and bytes of bodies since [`TestSink::count_only`].
    pub fn counted(&self) -> (usize, usize) {
        self.state().counted.unwrap_or_default()
    }

    /// The most requests that were there at once.
    pub fn most_under_way(&self) -> usize {
        self.state().most_under_way
    }

    /// Waits until everything that a process sent before it was killed has been seen: the connections that it had
    /// opened have been taken, and all of them have ended.
    pub async fn has_seen_everything(&self) {
        // Connections are taken in the order in which they were opened: behind this one there is none of the dead.
        let before = self.connections();
        let last = tokio::net::TcpStream::connect(self.address).await.unwrap();
        super::wait_for("the last connection to be taken", || self.connections() > before).await;
        super::wait_for("the dead process's connections to end", || self.state().open <= 1).await;
        drop(last);
    }

    /// Connections taken so far.
    pub fn connections(&self) -> usize {
        self.state().connections
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TestSink {
    fn drop(&mut self) {
        self.down();
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let _ = stream.set_nodelay(true);
        let open = Open::new(&state);
        let state = state.clone();
        connections.spawn(async move {
            let _open = open;
            let service = service_fn(move |request| answer(state.clone(), request));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Counts a connection for as long as it is open.
struct Open(Arc<Mutex<State>>);

impl Open {
    fn new(state: &Arc<Mutex<State>>) -> Self {
        let mut guard = state.lock().unwrap_or_else(PoisonError::into_inner);
        guard.connections += 1;
        guard.open += 1;
        Self(state.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).open -= 1;
    }
}

/// Counts a request for as long as it is there, also if its connection is cut.
struct UnderWay(Arc<Mutex<State>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).under_way -= 1;
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<CutBody>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let (range, reaction, _under_way) = {
        let mut guard = state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((requests, bytes)) = &mut guard.counted {
            *requests += 1;
            *bytes += body.len();
            return Ok(Response::builder().status(202).body(CutBody::new("", 0)).unwrap());
        }
        guard.under_way += 1;
        guard.requests += 1;
        guard.most_under_way = guard.most_under_way.max(guard.under_way);
        let mut events = read(&head, &body);
        for received in &mut events {
            received.request = guard.requests;
            let seen = guard.seen.entry(received.id.clone()).or_default();
            received.earlier = *seen;
            *seen += 1;
        }
        let reaction = (guard.script)(&events);
        let first = guard.received.len();
        guard.received.extend(events);
        (first..guard.received.len(), reaction, UnderWay(state.clone()))
    };
    mark_followers(&mut state.lock().unwrap_or_else(PoisonError::into_inner).received[range.clone()]);
    react(reaction, |status, failed| {
        let mut guard = state.lock().unwrap_or_else(PoisonError::into_inner);
        let events = &mut guard.received[range.clone()];
        for event in events.iter_mut().filter(|event| !event.is_called_one_of(failed)) {
            event.answered = Some((Instant::now(), status));
        }
        mark_followers(events);
        let taken: Vec<String> =
            events.iter().filter(|event| event.accepted().is_some()).map(|event| event.id.clone()).collect();
        guard.acknowledged.extend(taken);
    })
    .await
}

/// An event behind one of its item that was not taken counts as not sent.
fn mark_followers(events: &mut [Received]) {
    let mut broken = BTreeSet::new();
    for event in events {
        event.void = broken.contains(&event.item);
        if event.void {
            event.answered = None;
        } else if event.accepted().is_none() {
            broken.insert(event.item.clone());
        }
    }
}

async fn react(reaction: Reaction, answered: impl Fn(u16, &[String])) -> Result<Response<CutBody>, std::io::Error> {
    let mut reaction = reaction;
    while let Reaction::After(pause, next) = reaction {
        tokio::time::sleep(pause).await;
        reaction = *next;
    }
    let respond = |status: u16| Response::builder().status(status);
    let (response, status) = match reaction {
        Reaction::Status(status) => (respond(status).body(CutBody::new("", 0)), status),
        Reaction::With(status, name, value) => (respond(status).header(name, value).body(CutBody::new("", 0)), status),
        Reaction::Body(status, body) => (respond(status).body(CutBody::new(body, 0)), status),
        Reaction::Cut(status, body) => (respond(status).body(CutBody::new(body, 10_000)), status),
        Reaction::Failures(names) => {
            let failures: Vec<Value> = names.iter().map(|name| json!({"itemIdentifier": name})).collect();
            let body = json!({"batchItemFailures": failures}).to_string();
            answered(200, &names);
            return Ok(respond(200).body(CutBody::new(body, 0)).unwrap());
        }
        Reaction::AcknowledgeAndDrop => (respond(200).body(CutBody::new("cut", 1000)), 200),
        Reaction::Hang => std::future::pending().await,
        Reaction::Reset | Reaction::After(..) => return Err(std::io::ErrorKind::ConnectionReset.into()),
    };
    answered(status, &[]);
    Ok(response.unwrap())
}

/// The events of a request in any mode.
fn read(head: &hyper::http::request::Parts, body: &[u8]) -> Vec<Received> {
    let authorization = head.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let events = read_events(head, body).into_iter();
    events.map(|event| Received { authorization: authorization.clone(), ..event }).collect()
}

fn read_events(head: &hyper::http::request::Parts, body: &[u8]) -> Vec<Received> {
    let content_type = head.headers.get("content-type").map(|value| value.to_str().unwrap()).unwrap_or_default();
    let json = || serde_json::from_slice::<Value>(body).unwrap_or(Value::Null);
    let path = head.uri.path();
    match content_type {
        "application/cloudevents+json" => vec![read_structured(json(), path, content_type)],
        "application/cloudevents-batch+json" => {
            let Value::Array(events) = json() else { panic!("a batch that is no list") };
            events.into_iter().map(|event| read_structured(event, path, content_type)).collect()
        }
        _ => {
            let header = |name: &str, value: &hyper::header::HeaderValue| {
                Some((name.strip_prefix("ce-")?.to_owned(), decoded(value.to_str().unwrap())))
            };
            let attributes = head.headers.iter().filter_map(|(name, value)| header(name.as_str(), value)).collect();
            vec![Received::new(attributes, json(), path, content_type)]
        }
    }
}

fn read_structured(event: Value, path: &str, content_type: &str) -> Received {
    let Value::Object(mut members) = event else { panic!("an event that is no object") };
    let data = members.remove("data").unwrap_or(Value::Null);
    let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Received::new(members.into_iter().map(|(name, value)| (name, text(value))).collect(), data, path, content_type)
}

impl Received {
    fn new(attributes: BTreeMap<String, String>, data: Value, path: &str, content_type: &str) -> Self {
        let change = &data["dynamodb"];
        let version = |image: &str| change[image]["version"]["N"].as_str().and_then(|text| text.parse::<u64>().ok());
        let version = match data["eventName"].as_str() {
            Some("REMOVE") => version("OldImage").map(|old| old + 1),
            _ => version("NewImage"),
        };
        Self {
            id: attributes.get("id").cloned().unwrap_or_default(),
            kind: attributes.get("type").cloned().unwrap_or_default(),
            item: change["Keys"]["id"]["S"].as_str().unwrap_or_default().to_owned(),
            version: version.unwrap_or_default(),
            attributes,
            data,
            path: path.to_owned(),
            authorization: None,
            arrived: Instant::now(),
            answered: None,
            earlier: 0,
            request: 0,
            void: false,
            content_type: content_type.to_owned(),
        }
    }

    /// The record's sequence number as AWS writes it.
    pub fn sequence(&self) -> &str {
        self.data["dynamodb"]["SequenceNumber"].as_str().unwrap_or_default()
    }

    fn is_called_one_of(&self, names: &[String]) -> bool {
        let padded = self.attributes.get("sequence").map_or("", String::as_str);
        names.iter().any(|name| *name == self.id || name == self.sequence() || name == padded)
    }
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
}
