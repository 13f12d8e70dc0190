//! Many connections to an https sink at once, none of which is there yet.

use std::pin::pin;

use futures_util::stream::StreamExt;
use tokio::task::JoinSet;

use super::authority::{Authority, Side, acceptor};
use super::https::Https;
use super::*;

/// Attempts at a time.
const AT_ONCE: usize = 64;

/// A sink over HTTP/1.1 (with HTTP/2 all share one connection), and a client that keeps no connection: each attempt makes its own.
async fn cold(authority: &Authority) -> (Https, Arc<HttpSink>) {
    let side = Side { protocols: &["http/1.1"], ..Side::default() };
    let server = Https::start(acceptor(&authority.leaf("localhost"), &side)).await;
    let sink = client(&server, authority);
    (server, sink)
}

fn client(server: &Https, authority: &Authority) -> Arc<HttpSink> {
    let idle_timeout = Duration::from_nanos(1);
    let tuning = Tuning { system_roots: Some(authority.certificates()), idle_timeout, ..Tuning::default() };
    Arc::new(super::sink(SinkSettings { concurrency: AT_ONCE, ..settings(&server.url()) }, tuning))
}

#[tokio::test]
async fn a_connection_after_the_first_resumes_its_session() {
    let (server, sink) = cold(&Authority::new()).await;
    for earlier in 0..3 {
        assert_eq!(server.resumed(), usize::saturating_sub(earlier, 1));
        assert_eq!(sink.post(message(), PATIENCE).await, accepted(202, ""));
    }
}

/// Each attempt is a task, as a dispatcher has them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cold_connections_are_made_side_by_side() {
    const ATTEMPTS: usize = AT_ONCE;
    let (server, sink) = cold(&Authority::new()).await;
    let mut attempts = JoinSet::new();
    for _ in 0..ATTEMPTS {
        let sink = sink.clone();
        attempts.spawn(async move { sink.post(message(), PATIENCE).await });
    }
    for answer in attempts.join_all().await {
        assert_eq!(answer, accepted(202, ""));
    }
    assert_eq!(server.taken().len(), ATTEMPTS);
}

/// Figures for people: `cargo test --release --lib cold_handshakes -- --ignored --nocapture`.
#[test]
#[ignore = "prints figures"]
fn cold_handshakes_in_figures() {
    const ATTEMPTS: usize = 200;
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("one");
    let (servers, clients, authority) = (runtime(), runtime(), Authority::new());
    let (server, _) = servers.block_on(cold(&authority));
    for round in ["the first sessions", "sessions resumed"] {
        let figures = clients.block_on(async {
            let sink = client(&server, &authority);
            if round == "sessions resumed" {
                assert_eq!(sink.post(message(), PATIENCE).await, accepted(202, ""));
            }
            let (begun, before) = (Instant::now(), server.resumed());
            let attempts = futures_util::stream::iter(0..ATTEMPTS).map(|_| {
                let sink = sink.clone();
                tokio::spawn(async move { longest_poll(sink.post(message(), PATIENCE)).await })
            });
            let polls = attempts.buffer_unordered(AT_ONCE).map(|poll| poll.expect("no panic"));
            let polls: Vec<Duration> = polls.collect().await;
            (begun.elapsed(), polls.into_iter().max().unwrap_or_default(), server.resumed() - before)
        });
        println!(
            "{round}: {ATTEMPTS} connections, {AT_ONCE} at once: {figures:?} (in all, longest step of a task, resumed)"
        );
    }
}

/// The longest that one poll of an attempt took.
async fn longest_poll(attempt: impl Future<Output = SinkResponse>) -> Duration {
    let (mut attempt, mut longest) = (pin!(attempt), Duration::ZERO);
    let answer = std::future::poll_fn(|context| {
        let begun = Instant::now();
        let polled = attempt.as_mut().poll(context);
        longest = longest.max(begun.elapsed());
        polled
    });
    assert_eq!(answer.await, accepted(202, ""));
    longest
}
