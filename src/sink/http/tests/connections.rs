//! Connections are used again where that is safe, and given up where it is not.

use std::sync::atomic::AtomicUsize;

use futures_util::future::join_all;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::authority::Authority;
use super::server::{Step, answer};
use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

async fn post_twice(scripts: Vec<Vec<Step>>) -> Vec<usize> {
    let server = Server::start(scripts).await;
    let sink = sink_of(&server);
    for _ in 0..2 {
        let answer = sink.post(message(), PATIENCE).await;
        assert!(matches!(answer, SinkResponse::Accepted { .. } | SinkResponse::Refused { .. }), "{answer:?}");
    }
    server.seen().iter().map(|seen| seen.connection).collect()
}

#[tokio::test]
async fn a_connection_is_used_again_once_the_answers_body_was_read() {
    let bodies = [
        OK.to_owned(),
        format!("HTTP/1.1 400 No\r\ncontent-length: 60000\r\n\r\n{}", "x".repeat(60_000)),
        "HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\ntrailer: x\r\n\r\n".to_owned(),
    ];
    for first in bodies {
        let script = [answer(first), answer(OK)].concat();
        assert_eq!(post_twice(vec![script]).await, [0, 0]);
    }
}

#[tokio::test]
async fn a_connection_is_given_up_with_a_body_that_is_too_long() {
    let endless = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n20000\r\n{}", "x".repeat(0x20000));
    let server = Server::start([answer(endless), answer(OK)]).await;
    let sink = sink_of(&server);
    let begun = Instant::now();
    let first = sink.post(message(), PATIENCE).await;
    assert!(begun.elapsed() < PATIENCE / 2, "the rest of the body was waited for");
    assert!(
        matches!(&first, SinkResponse::Accepted { body, end: BodyEnd::Cut, .. } if body.len() == 128 * 1024),
        "bounded, and still a success"
    );
    server.ended(1).await;
    assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
}

#[tokio::test]
async fn a_connection_that_timed_out_is_not_used_again() {
    let server = Server::start([vec![Step::Read, Step::Hang], answer(OK)]).await;
    let sink = sink_of(&server);
    assert_eq!(failed(sink.post(message(), Duration::from_millis(100)).await).0, TransportError::Timeout);
    server.ended(1).await;
    assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
}

#[tokio::test]
async fn a_sink_that_closes_idle_connections_costs_no_message_and_repeats_none() {
    const ROUNDS: usize = 100;
    let closing = [answer(OK), vec![Step::Close]].concat();
    let server = Server::start(vec![closing; ROUNDS]).await;
    let sink = sink_of(&server);
    for round in 1..=ROUNDS {
        assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
        assert_eq!(server.seen().len(), round, "what arrived was accepted, and arrived once");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_before_the_sink_does_it() {
    let server = Server::start([answer(OK)]).await;
    let tuning = Tuning { idle_timeout: Duration::from_millis(50), ..Tuning::default() };
    let sink = super::sink(settings(&server.url("/")), tuning);
    assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
    server.ended(1).await;
}

#[tokio::test]
async fn an_attempt_that_is_given_up_gives_up_its_connection() {
    let server = Server::start([vec![Step::Read, Step::Hang]]).await;
    let sink = sink_of(&server);
    let attempt = sink.post(message(), PATIENCE);
    let given_up = tokio::time::timeout(Duration::from_millis(100), attempt).await;
    assert!(given_up.is_err(), "the server never answers");
    server.ended(1).await;
}

#[tokio::test]
async fn an_http_sink_carries_no_tls() {
    let sink = sink(settings("http://sink.example/"), Tuning::default());
    let credentials = sink.credentials.newest();
    assert!(credentials.tls.is_none());
    assert!(sink.pool(&credentials).identity.is_none());
}

/// Takes every connection and answers on the first one alone; of the others it never finishes the handshake.
async fn serve_only_the_first(listener: TcpListener, acceptor: TlsAcceptor, taken: Arc<AtomicUsize>) {
    let service = service_fn(|_| async {
        tokio::task::yield_now().await;
        Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let (first, _) = listener.accept().await.expect("a connection");
    let silent = async {
        let mut kept: Vec<TcpStream> = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            taken.fetch_add(1, Ordering::Relaxed);
            kept.push(stream);
        }
    };
    let stream = TokioIo::new(acceptor.accept(first).await.expect("TLS"));
    let answering = hyper::server::conn::http1::Builder::new().serve_connection(stream, service);
    drop(tokio::join!(answering, silent));
}

/// The client goes on making a connection for an attempt that has got another meanwhile.
#[tokio::test]
async fn there_are_never_more_connections_than_two_for_each_attempt() {
    let (authority, taken) = (Authority::new(), Arc::new(AtomicUsize::new(0)));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("https://localhost:{}/", listener.local_addr().expect("bound").port());
    let acceptor = authority.server("localhost", false, &[]);
    let server = tokio::spawn(serve_only_the_first(listener, acceptor, taken.clone()));
    let tuning = Tuning { system_roots: Some(authority.certificates()), ..Tuning::default() };
    let sink = super::sink(settings(&url), tuning);
    let begun = Instant::now();
    for _ in 0..50 {
        let answers = join_all((0..4).map(|_| sink.post(message(), PATIENCE))).await;
        assert!(answers.iter().all(|it| *it == accepted(200, "")), "{answers:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "handshakes were given up meanwhile: {:?}", begun.elapsed());
    let others = taken.load(Ordering::Relaxed);
    assert!((3..=7).contains(&others), "{others} connections beside the one that answers");
    server.abort();
}
