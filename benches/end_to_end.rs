//! CPU per delivered event, against a bare loop that posts the same ready-made bodies with the same client, and the other
//! figures of `docs/performance.md`. Run it with `cargo bench --profile dist --features jemalloc --bench end_to_end`; all of it is on
//! loopback and ends by itself.
//!
//! The adapter is the real binary, in the same profile; its CPU time is what the kernel says of its process. The loop is a process of
//! its own as well (this program with `loop`), so that both meet the same sink and the same neighbours. A second loop (`raw`) posts
//! with the library's client alone: what is between the two is this program's client.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // it runs in real time

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dynamodb_streams_adapter::event::Message;
use dynamodb_streams_adapter::sink::{HttpSink, Sink, SinkSettings};
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use support::adapter::{Adapter, Plan};
use support::aws::FakeAws;
use support::sink::{Reaction, TestSink};
use support::wait_within;

/// The loop has the allocator that the adapter has: the ratio is of what the two do.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// So many that the process's start is a small part of them.
const EVENTS: usize = 100_000;
const ITEMS: usize = 200;
const SHARDS: usize = 4;
/// Makes a record of about 2.4 KB with two images.
const PAYLOAD: usize = 950;
const IN_FLIGHT: usize = 64;
const ROUNDS: usize = 3;
const LIMIT: Duration = Duration::from_secs(120);

/// Who posts in a loop: this program's client, and the library's.
const CLIENTS: [&str; 2] = [BARE, RAW];
const BARE: &str = "loop";
const RAW: &str = "raw";

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let child = arguments.iter().position(|argument| CLIENTS.contains(&argument.as_str()));
    match child.map(|at| &arguments[at..]) {
        Some([client, url, bytes, ..]) if client == RAW => raw_loop(url, message(bytes)).await,
        Some([_, url, bytes, ..]) => bare_loop(url, message(bytes)).await,
        _ if arguments.iter().any(|argument| argument == "clients") => clients().await,
        _ => compare().await,
    }
}

async fn compare() {
    println!("{EVENTS} events of {ITEMS} items in {SHARDS} shards, {IN_FLIGHT} in flight, one fast sink, loopback");
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let (adapter, bytes) = adapter_cpu().await;
        let bare = loop_cpu(BARE, bytes).await;
        println!(
            "round {round}: adapter {:.1} us of CPU an event ({:.0} events/s), bare loop {:.1} us ({:.0} events/s), bodies of \
             {bytes} bytes, ratio {:.2}",
            adapter.micros,
            adapter.rate,
            bare.micros,
            bare.rate,
            adapter.micros / bare.micros
        );
        ratios.push(adapter.micros / bare.micros);
    }
    ratios.sort_by(f64::total_cmp);
    println!("CPU per event, median ratio to the bare loop: {:.2}", ratios[ratios.len() / 2]);
    slow_sink().await;
    start_and_idle().await;
}

struct Cost {
    micros: f64,
    rate: f64,
}

async fn adapter_cpu() -> (Cost, usize) {
    let (aws, sink) = (FakeAws::with_table("orders", SHARDS).await, TestSink::start().await);
    aws.script().payload = PAYLOAD;
    aws.write("orders", ITEMS, EVENTS / ITEMS);
    sink.count_only();
    let begun = Instant::now();
    let adapter = Plan::new(&aws, &sink, "orders").env("DELIVERY_CONCURRENCY", IN_FLIGHT.to_string()).start().await;
    wait_within(LIMIT, "all events", || sink.counted().0 == EVENTS).await;
    let took = begun.elapsed();
    let cost = Cost {
        micros: cpu(adapter.pid()).as_secs_f64() * 1e6 / EVENTS as f64,
        rate: EVENTS as f64 / took.as_secs_f64(),
    };
    println!("         peak memory of the adapter {} MB", memory(adapter.pid(), "VmHWM"));
    (cost, sink.counted().1 / EVENTS)
}

/// What this program's client costs beside the library's: `cargo bench --profile dist --bench end_to_end -- clients`.
async fn clients() {
    for round in 1..=ROUNDS {
        for bytes in [300, 2_400] {
            let (bare, raw) = (loop_cpu(BARE, bytes).await, loop_cpu(RAW, bytes).await);
            println!(
                "round {round}: bodies of {bytes} bytes: client {:.1} us of CPU a post, the library's own {:.1} us, ratio {:.2}",
                bare.micros,
                raw.micros,
                bare.micros / raw.micros
            );
        }
    }
}

/// The same number of bodies of the same size, posted by a process that does nothing else.
async fn loop_cpu(client: &str, bytes: usize) -> Cost {
    let sink = TestSink::start().await;
    sink.count_only();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([client, &sink.url(), &bytes.to_string()]).stdin(Stdio::piped()).stdout(Stdio::null());
    let begun = Instant::now();
    let mut child = command.spawn().unwrap();
    wait_within(LIMIT, "all bodies", || sink.counted().0 == EVENTS).await;
    let took = begun.elapsed();
    let micros = cpu(child.id()).as_secs_f64() * 1e6 / EVENTS as f64;
    drop(child.stdin.take());
    child.wait().unwrap();
    Cost { micros, rate: EVENTS as f64 / took.as_secs_f64() }
}

fn message(bytes: &str) -> Message {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    for n in 0..10 {
        let name: http::HeaderName = format!("ce-attribute{n}").parse().unwrap();
        headers.insert(name, "a value of some forty characters or so...".parse().unwrap());
    }
    Message { headers, body: Bytes::from("x".repeat(bytes.parse().unwrap())) }
}

async fn bare_loop(url: &str, message: Message) {
    let settings = SinkSettings::new(url.parse().unwrap(), IN_FLIGHT);
    let (sink, _) = HttpSink::new(settings).unwrap();
    post_all(|| sink.post(message.clone(), Duration::from_secs(30))).await;
}

async fn raw_loop(url: &str, message: Message) {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(tcp);
    let url: http::Uri = url.parse().unwrap();
    post_all(|| {
        let Message { headers, body } = message.clone();
        let mut request = http::Request::post(url.clone()).body(Full::new(body)).unwrap();
        *request.headers_mut() = headers;
        let answer = client.request(request);
        async move { answer.await.unwrap().into_body().collect().await.unwrap() }
    })
    .await;
}

async fn post_all<F: Future>(post: impl Fn() -> F) {
    let mut under_way = FuturesUnordered::new();
    for _ in 0..EVENTS {
        if under_way.len() == IN_FLIGHT {
            under_way.next().await;
        }
        under_way.push(post());
    }
    while under_way.next().await.is_some() {}
    // Its CPU time can be read until the other end lets go.
    let _ = std::io::read_to_string(std::io::stdin());
}

/// One shard, and a sink that takes 10 ms for an answer: how much faster than one after the other.
async fn slow_sink() {
    const PAUSE: Duration = Duration::from_millis(10);
    let one_by_one = slow_rate(1, ITEMS, PAUSE).await;
    let together = slow_rate(IN_FLIGHT, ITEMS * 50, PAUSE).await;
    println!(
        "one shard, a sink that takes 10 ms: {together:.0} events/s, {:.0} times as many as one by one",
        together / one_by_one
    );
}

/// Events a second from the first arrival to the last answer.
async fn slow_rate(in_flight: usize, events: usize, pause: Duration) -> f64 {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    aws.write("orders", ITEMS, events / ITEMS);
    sink.react(move |_| Reaction::After(pause, Box::new(Reaction::Status(202))));
    let _adapter = Plan::new(&aws, &sink, "orders").env("DELIVERY_CONCURRENCY", in_flight.to_string()).start().await;
    wait_within(LIMIT, "all events", || sink.distinct() == events).await;
    let received = sink.received();
    support::oracle::assert_complete_and_in_order(&aws.script().writes, &received, &[]);
    let last = received.iter().filter_map(|event| event.accepted()).max().unwrap();
    events as f64 / (last - received[0].arrived).as_secs_f64()
}

/// From the process's start to its first delivered event, and its memory when nothing happens.
async fn start_and_idle() {
    let (aws, sink) = (FakeAws::with_table("orders", SHARDS).await, TestSink::start().await);
    aws.write("orders", 1, 1);
    let mut starts = Vec::new();
    for _ in 0..5 {
        let before = sink.received().len();
        let adapter = Plan::new(&aws, &sink, "orders").start().await;
        wait_within(LIMIT, "the first event", || sink.received().len() > before).await;
        starts.push(sink.received()[before].arrived - adapter.started);
    }
    starts.sort();
    println!("cold start to the first delivered event, median of 5: {:?}", starts[2]);
    let adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    idle(&adapter).await;
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_dynamodb-streams-adapter")).unwrap().len();
    println!("binary: {:.1} MB", size as f64 / 1e6);
}

async fn idle(adapter: &Adapter) {
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = cpu(adapter.pid());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let spent = cpu(adapter.pid()) - before;
    println!(
        "idle, {SHARDS} shards: {} MB resident, {:.2} % of a core",
        memory(adapter.pid(), "VmRSS"),
        spent.as_secs_f64() * 10.0
    );
}

/// User and system time of a process, from `/proc`; its clock ticks a hundred times a second.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn memory(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1000
}
