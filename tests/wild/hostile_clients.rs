//! Clients of the port that mean harm: others are answered, and events are delivered, all the same.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;

use crate::support::adapter::{Adapter, Plan};
use crate::support::aws::FakeAws;
use crate::support::sink::TestSink;
use crate::support::wait_for;

/// As many as a busy table has in a few hours: 1,504 finished ones.
const OPEN_SHARDS: usize = 8;
const ROLLOVERS: usize = 188;

/// How long each attack lasts.
const ATTACK: Duration = Duration::from_secs(2);

/// A kernel whose queue of new connections was full for a moment lets a client try again after one second, and after three more.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Who attacks, and how many of ten probes may fail then: another machine, or one that probes come from as well.
const ATTACKERS: [(&str, usize); 2] = [("127.0.0.2", 0), ("127.0.0.1", 4)];

async fn connect(from: &str, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // Ends of connections that are over are many here.
    socket.set_reuseaddr(true)?;
    socket.set_zero_linger()?;
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0))?;
    socket.connect(to).await
}

/// Asks for `/status` without waiting for an answer, reads what comes, and begins anew when it is cut off.
async fn pipeline(from: &'static str, to: SocketAddr) {
    let requests = "GET /status HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(64);
    let mut taken = vec![0; 1 << 16];
    loop {
        let Ok(stream) = connect(from, to).await else { continue };
        let (mut reader, mut writer) = stream.into_split();
        let asking = async { while writer.write_all(requests.as_bytes()).await.is_ok() {} };
        let reading = async { while reader.read(&mut taken).await.is_ok_and(|length| length > 0) {} };
        tokio::join!(asking, reading);
    }
}

/// Asks for `/readyz` again and again on as many connections as there are addresses.
async fn pipeline_of_probes(from: String, to: SocketAddr) {
    let requests = "GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(64);
    let mut taken = vec![0; 1 << 16];
    loop {
        let Ok(mut stream) = connect(&from, to).await else { continue };
        while stream.write_all(requests.as_bytes()).await.is_ok() {
            if !stream.read(&mut taken).await.is_ok_and(|length| length > 0) {
                break;
            }
        }
    }
}

const FLOOD: &str = "a flood of connections";

/// How many connections it has made.
static CONNECTED: AtomicUsize = AtomicUsize::new(0);

/// Connects as fast as it can and says nothing.
async fn flood(from: &'static str, to: SocketAddr) {
    let mut kept = std::collections::VecDeque::new();
    loop {
        if let Ok(stream) = connect(from, to).await {
            CONNECTED.fetch_add(1, Ordering::Relaxed);
            kept.push_back(stream);
        }
        if kept.len() > 64 {
            kept.pop_front();
        }
    }
}

/// What was there while something else happened.
#[derive(Debug)]
struct Watched {
    /// Calls of `GetRecords` a second.
    reads: f64,
    probes: usize,
    failed: usize,
    slowest: Duration,
}

async fn probe(to: SocketAddr) -> bool {
    let answered = async {
        let mut stream = TcpStream::connect(to).await.ok()?;
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(())
    };
    tokio::time::timeout(PROBE_TIMEOUT, answered).await.ok().flatten().is_some()
}

/// Probes it ten times a second for a while, and counts what it asks of AWS.
async fn watch(aws: &FakeAws, to: SocketAddr) -> Watched {
    let (begun, before) = (Instant::now(), aws.script().calls.count("GetRecords"));
    let mut watched = Watched { reads: 0.0, probes: 0, failed: 0, slowest: Duration::ZERO };
    while begun.elapsed() < ATTACK {
        let asked = Instant::now();
        watched.failed += usize::from(!probe(to).await);
        watched.probes += 1;
        watched.slowest = watched.slowest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    watched.reads = (aws.script().calls.count("GetRecords") - before) as f64 / begun.elapsed().as_secs_f64();
    watched
}

/// A table with many finished shards, all of them in `/status`.
async fn with_finished_shards(sink: &TestSink) -> (FakeAws, Adapter, SocketAddr) {
    let aws = FakeAws::with_table("orders", OPEN_SHARDS).await;
    (0..ROLLOVERS).for_each(|_| aws.script().roll_over_all("orders"));
    let adapter = Plan::new(&aws, sink, "orders").start_ready().await;
    let address = adapter.url().trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    while adapter.status().await["tables"][0]["finished_shards"] != OPEN_SHARDS * ROLLOVERS {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (aws, adapter, address)
}

async fn under_attack<F>(what: &str, clients: usize, attack: impl Fn(&'static str, SocketAddr) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let sink = TestSink::start().await;
    let (aws, _adapter, address) = with_finished_shards(&sink).await;
    let quiet = watch(&aws, address).await;
    for (from, may_fail) in ATTACKERS {
        // They get one thread, so that what probes is not held up by them here.
        let attackers = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        (0..clients).for_each(|_| drop(attackers.spawn(attack(from, address))));
        let (begun, connected) = (Instant::now(), CONNECTED.load(Ordering::Relaxed));
        let attacked = watch(&aws, address).await;
        let made = (CONNECTED.load(Ordering::Relaxed) - connected) as f64 / begun.elapsed().as_secs_f64();
        let rate = if what == FLOOD { format!(", {made:.0} a second") } else { String::new() };
        println!("{what} from {from}{rate}: {attacked:?}, before: {quiet:?}");
        let has_answers = attacked.failed * 10 <= attacked.probes * may_fail;
        assert!(has_answers, "{what} from {from}: {attacked:?}, before: {quiet:?}");
        // The attackers themselves take a part of the machine.
        assert!(attacked.reads > quiet.reads / 2.5, "{what} from {from}: {attacked:?}, before: {quiet:?}");
        let events = sink.distinct();
        aws.write("orders", 1, 1);
        wait_for("an event during the attack", || sink.distinct() > events).await;
        attackers.shutdown_background();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_ask_for_status_without_end_stop_neither_probes_nor_delivery() {
    under_attack("60 pipelines of /status", 60, pipeline).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_connect_without_end_stop_neither_probes_nor_delivery() {
    under_attack(FLOOD, 32, flood).await;
}

/// A source has a part of the places, so it takes many to have all of them.
#[tokio::test(flavor = "multi_thread")]
async fn clients_of_ninety_addresses_stop_neither_probes_nor_delivery() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    let address = adapter.url().trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    let attackers = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    (1..=90).for_each(|n| drop(attackers.spawn(pipeline_of_probes(format!("127.0.3.{n}"), address))));
    let attacked = watch(&aws, address).await;
    println!("90 addresses: {attacked:?}");
    assert_eq!(attacked.failed, 0, "{attacked:?}");
    aws.write("orders", 1, 1);
    wait_for("an event during the attack", || sink.distinct() > 0).await;
    attackers.shutdown_background();
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_page_are_served_to_hosts_that_no_page_of_a_stranger_can_have() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let plan = Plan::new(&aws, &sink, "orders").env("ADMIN_HOSTS", "adapter.example.com");
    let adapter = plan.start_ready().await;
    for host in ["127.0.0.1:8080", "[::1]", "localhost:8080", "orders-events.shop.svc", "adapter.example.com:443"] {
        for path in ["/status", "/"] {
            assert_eq!(adapter.get_as(host, path).await.0, 200, "{host} {path}");
        }
    }
    for host in ["evil.example", "127.0.0.1.evil.example:8080", "localhost.evil.example", "svc.evil.example"] {
        for path in ["/status", "/"] {
            let (status, body) = adapter.get_as(host, path).await;
            assert!(status == 403 && body.contains("ADMIN_HOSTS") && !body.contains("orders"), "{host} {path}: {body}");
        }
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(adapter.get_as(host, path).await.0, 200, "{host} {path}");
        }
    }
}
