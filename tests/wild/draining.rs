//! A sink behind a proxy that drains its HTTP/2 connections again and again: what it says that it has not processed is no attempt.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::sink::TestSink;
use crate::support::tls::Authority;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// The flag of DATA and HEADERS after which no more comes.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The flag of SETTINGS and PING that are answers.
const ACK: u8 = 1;

/// `:status: 204` in HPACK's static table.
const NO_CONTENT: u8 = 0x89;
const REFUSED_STREAM: u32 = 7;
const HIGHEST_STREAM: u32 = 0x7fff_ffff;

/// How the sink drains its connections.
#[derive(Debug, Clone, Copy)]
enum Drain {
    /// After so many requests GOAWAY names the last of them, as nginx does.
    After(usize),
    /// The same, and shortly before GOAWAY announces it, as Envoy does.
    Gracefully(usize),
    /// The first so many connections begin with GOAWAY.
    AtFirst(usize),
    /// So many requests at once are allowed, which the client hears after it has sent more.
    Allows(u32),
}

/// How often each event was processed.
type Processed = Arc<Mutex<BTreeMap<String, usize>>>;

/// It ends when it is dropped.
struct DrainingSink {
    port: u16,
    processed: Processed,
    task: JoinHandle<()>,
}

impl Drop for DrainingSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl DrainingSink {
    async fn start(acceptor: TlsAcceptor, drain: Drain) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, processed) = (listener.local_addr().unwrap().port(), Processed::default());
        let task = tokio::spawn(serve(listener, acceptor, drain, processed.clone()));
        Self { port, processed, task }
    }

    fn processed(&self) -> BTreeMap<String, usize> {
        self.processed.lock().unwrap().clone()
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, drain: Drain, processed: Processed) {
    let mut connections = JoinSet::new();
    for number in 1.. {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (acceptor, processed) = (acceptor.clone(), processed.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let mut connection = Connection { stream, bodies: BTreeMap::new(), answered: 0, last: None, processed };
            // The client may go away at any time.
            let _ = connection.talk(drain, number).await;
        });
    }
}

/// The server's side of one HTTP/2 connection, as far as this client needs it.
struct Connection<S> {
    stream: S,
    /// The requests that have not come whole, by stream.
    bodies: BTreeMap<u32, Vec<u8>>,
    answered: usize,
    /// The last request that is processed, once that is said.
    last: Option<u32>,
    processed: Processed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn talk(&mut self, drain: Drain, number: usize) -> io::Result<()> {
        self.stream.read_exact(&mut [0; 24]).await?;
        // Windows that are never full: INITIAL_WINDOW_SIZE, and the connection's own.
        self.send(SETTINGS, 0, 0, &[0, 4, 0x40, 0, 0, 0]).await?;
        self.send(WINDOW_UPDATE, 0, 0, &0x3fff_0000_u32.to_be_bytes()).await?;
        if matches!(drain, Drain::AtFirst(most) if number <= most) {
            self.go_away(0).await?;
            return self.linger().await;
        }
        while self.last.is_none_or(|last| self.bodies.keys().any(|id| *id <= last)) {
            self.take_frame(drain).await?;
        }
        self.linger().await
    }

    async fn take_frame(&mut self, drain: Drain) -> io::Result<()> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let [_, _, _, kind, flags, id @ ..] = head;
        let (length, id) = (u32::from_be_bytes([0, head[0], head[1], head[2]]), u32::from_be_bytes(id));
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await?;
        match kind {
            SETTINGS if flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]).await,
            PING if flags & ACK == 0 => self.send(PING, ACK, 0, &payload).await,
            HEADERS => self.begin(drain, id).await,
            DATA => {
                let Some(body) = self.bodies.get_mut(&id) else { return Ok(()) };
                body.extend(payload);
                if flags & END_STREAM == 0 { Ok(()) } else { self.finish(drain, id).await }
            }
            _ => Ok(()),
        }
    }

    async fn begin(&mut self, drain: Drain, id: u32) -> io::Result<()> {
        match drain {
            Drain::Allows(requests) if self.bodies.len() >= requests as usize => {
                // MAX_CONCURRENT_STREAMS.
                let settings = [&[0, 3][..], &requests.to_be_bytes()].concat();
                self.send(SETTINGS, 0, 0, &settings).await?;
                return self.send(RST_STREAM, 0, id, &REFUSED_STREAM.to_be_bytes()).await;
            }
            Drain::Gracefully(most) if self.answered + self.bodies.len() + 1 == most => {
                self.go_away(HIGHEST_STREAM).await?;
            }
            _ => {}
        }
        if self.last.is_none() {
            self.bodies.insert(id, Vec::new());
        }
        Ok(())
    }

    async fn finish(&mut self, drain: Drain, id: u32) -> io::Result<()> {
        let body = self.bodies.remove(&id).unwrap_or_default();
        let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
        *self.processed.lock().unwrap().entry(event["id"].as_str().unwrap().to_owned()).or_default() += 1;
        self.answered += 1;
        if matches!(drain, Drain::After(most) | Drain::Gracefully(most) if self.answered == most) {
            self.last = Some(id);
            self.bodies.retain(|other, _| *other < id);
            self.go_away(id).await?;
        }
        self.send(HEADERS, END_STREAM | END_HEADERS, id, &[NO_CONTENT]).await
    }

    async fn go_away(&mut self, last: u32) -> io::Result<()> {
        self.send(GO_AWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat()).await
    }

    async fn send(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let frame = [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat();
        self.stream.write_all(&frame).await
    }

    /// Closes, and takes in what still comes: otherwise TCP would throw away what was sent.
    async fn linger(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        tokio::io::copy(&mut self.stream, &mut tokio::io::sink()).await.map(drop)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_draining_sink_has_not_processed_is_sent_again_and_is_no_attempt() {
    const EVENTS: usize = 2000;
    for drain in [Drain::After(500), Drain::Gracefully(500), Drain::AtFirst(3), Drain::Allows(5)] {
        let (aws, unused) = (FakeAws::with_table("orders", 2).await, TestSink::start().await);
        let authority = Authority::named("Cluster");
        let sink = DrainingSink::start(authority.acceptor_for(&["h2"]), drain).await;
        let plan = Plan::new(&aws, &unused, "orders")
            .env("K_SINK", format!("https://localhost:{}/", sink.port))
            .env("K_CA_CERTS", authority.pem())
            .env("EVENT_MODE", "structured")
            .env("RETRY_MAX_ATTEMPTS", "1")
            .env("ON_UNDELIVERABLE", "drop");
        let adapter = plan.start_ready().await;
        aws.write("orders", EVENTS, 1);
        let settled = async || {
            let [delivered, dropped] = ["events_delivered_total", "events_dropped_total"];
            (adapter.metric(delivered, &[]).await, adapter.metric(dropped, &[]).await)
        };
        while settled().await.0 + settled().await.1 < EVENTS as f64 {
            tokio::task::yield_now().await;
        }
        assert_eq!(settled().await, (EVENTS as f64, 0.0), "{drain:?}: delivered and dropped\n{}", adapter.log_text());
        let attempts = adapter.metric("delivery_attempts_total", &[("code", "204")]).await;
        assert_eq!(attempts, EVENTS as f64, "{drain:?}");
        let times = sink.processed();
        assert_eq!(times.len(), EVENTS, "{drain:?}");
        assert!(times.values().all(|times| *times == 1), "{drain:?}: {times:?}");
        assert!(adapter.logged_code("DSA-SINK-FAILING").is_empty(), "{drain:?}");
    }
}
