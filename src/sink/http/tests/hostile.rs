//! Sinks that mean harm, or are broken as if they did: every attempt ends in time, with bounded memory, and what was
//! accepted counts as accepted.

use ::http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::authority::Authority;
use super::server::{Script, Step, answer};
use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A timeout that an attempt is to use up.
const SHORT: Duration = Duration::from_millis(300);

/// Writes the same again and again, slowly.
fn trickle(text: &str) -> Script {
    let bit = [Step::Write(text.as_bytes().to_vec()), Step::Pause(Duration::from_millis(20))];
    (0..10_000).flat_map(|_| bit.clone()).collect()
}

async fn within(timeout: Duration, script: Script) -> SinkResponse {
    let server = Server::start([script]).await;
    let begun = Instant::now();
    let answer = sink_of(&server).post(message(), timeout).await;
    assert!(begun.elapsed() < timeout + PATIENCE / 2, "the attempt took {:?}", begun.elapsed());
    answer
}

#[tokio::test]
async fn megabytes_of_headers_are_refused_before_they_are_read() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(16 << 20));
    let many = format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(3 << 20));
    let reason = format!("HTTP/1.1 200 {}", "x".repeat(16 << 20));
    for head in [long, many, reason] {
        let (fault, message) = failed(within(PATIENCE / 2, answer(head)).await);
        assert_eq!(fault, TransportError::Malformed, "{message}");
    }
}

#[tokio::test]
async fn megabytes_of_headers_are_refused_over_http_2_too() {
    let authority = Authority::new();
    let acceptor = authority.server("localhost", false, &["h2"]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let stream = TokioIo::new(acceptor.accept(stream).await.expect("TLS"));
            let service = service_fn(|_| async {
                let response = Response::builder().header("x", "y".repeat(1 << 20)).body(Full::<Bytes>::default());
                Ok::<_, std::convert::Infallible>(response.expect("a response"))
            });
            let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            drop(http.serve_connection(stream, service).await);
        }
    });
    let tuning = Tuning { system_roots: Some(authority.certificates()), ..Tuning::default() };
    let sink = sink(settings(&format!("https://localhost:{port}/")), tuning);
    let begun = Instant::now();
    let answer = sink.post(message(), PATIENCE).await;
    assert!(begun.elapsed() < PATIENCE / 2, "it was waited for the timeout");
    assert!(!matches!(answer, SinkResponse::Accepted { .. }), "{answer:?}");
    server.abort();
}

#[tokio::test]
async fn a_head_that_trickles_is_a_timeout() {
    for start in ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nx: "] {
        let script = [answer(start), trickle("y")].concat();
        assert_eq!(failed(within(SHORT, script).await).0, TransportError::Timeout, "{start:?}");
    }
}

#[tokio::test]
async fn interim_answers_without_end_are_a_timeout() {
    let flood = [answer("HTTP/1.1 100 Continue\r\n\r\n".repeat(100_000)), vec![Step::Hang]].concat();
    let slow = [vec![Step::Read], trickle("HTTP/1.1 102 Processing\r\nx: y\r\n\r\n")].concat();
    for script in [flood, slow] {
        let (fault, message) = failed(within(SHORT, script).await);
        assert_eq!(fault, TransportError::Timeout, "{message}");
    }
}

#[tokio::test]
async fn an_accepted_message_stays_accepted_although_the_body_trickles() {
    for head in ["HTTP/1.1 202 OK\r\ncontent-length: 100000\r\n\r\n", "HTTP/1.1 202 OK\r\n\r\n"] {
        let answer = within(SHORT, [answer(head), trickle("y")].concat()).await;
        assert!(matches!(answer, SinkResponse::Accepted { end: BodyEnd::Cut, .. }), "{answer:?}");
    }
    let chunks = [answer("HTTP/1.1 202 OK\r\ntransfer-encoding: chunked\r\n\r\n"), trickle("1\r\ny\r\n")].concat();
    let answer = within(SHORT, chunks).await;
    assert!(matches!(answer, SinkResponse::Accepted { end: BodyEnd::Cut, .. }), "{answer:?}");
}

#[tokio::test]
async fn trailers_without_end_are_bounded() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n";
    let script = answer(format!("{head}{}", "x: y\r\n".repeat(1 << 20)));
    let answer = within(PATIENCE / 2, script).await;
    assert!(matches!(&answer, SinkResponse::Accepted { body, .. } if body == "ok"), "{answer:?}");
}

#[tokio::test]
async fn an_answers_body_is_read_as_far_as_is_asked_for() {
    let body = "x".repeat(256 << 10);
    let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let (whole, cut) = (BodyEnd::Whole, BodyEnd::Cut);
    for (limit, end) in [(256 << 10, whole), ((256 << 10) - 1, cut), (0, cut)] {
        let server = Server::start([answer(response.clone())]).await;
        let settings = SinkSettings { response_limit: limit, ..settings(&server.url("/")) };
        let answer = sink(settings, Tuning::default()).post(message(), PATIENCE).await;
        match answer {
            SinkResponse::Accepted { body, end: told, .. } => assert_eq!((body.len(), told), (limit, end)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn http_1_0_is_understood() {
    let counted = answer("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let until_closed = [answer("HTTP/1.0 200 OK\r\n\r\nok"), vec![Step::Close]].concat();
    let server = Server::start([counted, until_closed.clone(), until_closed]).await;
    let sink = sink_of(&server);
    for connection in 0..3 {
        assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, "ok"));
        assert_eq!(server.seen()[connection].connection, connection, "HTTP/1.0 keeps no connection unless it says so");
    }
}

#[tokio::test]
async fn headers_of_an_answer_about_its_body_do_not_matter() {
    let lies =
        ["content-type: image/png\r\n", "content-type: \r\n", "content-encoding: gzip\r\n", "content-type: \u{e9}\r\n"];
    for lie in lies {
        let script = answer(format!("HTTP/1.1 200 OK\r\n{lie}content-length: 2\r\n\r\nok"));
        assert_eq!(within(PATIENCE / 2, script).await, accepted(200, "ok"), "{lie}");
    }
}

#[tokio::test]
async fn an_answer_before_the_message_was_read_counts() {
    let script = vec![Step::ReadHead, Step::Write(OK.as_bytes().to_vec()), Step::Hang];
    let server = Server::start([script]).await;
    let large = Message { body: Bytes::from(vec![b' '; 16 << 20]), ..message() };
    assert_eq!(sink_of(&server).post(large, PATIENCE).await, accepted(200, ""));
}

#[tokio::test]
async fn an_answer_that_is_accepted_and_closed_at_once_counts() {
    for end in [Step::Close, Step::Hang] {
        let close = "HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let script = [answer(close), vec![end]].concat();
        assert_eq!(within(PATIENCE / 2, script).await, accepted(202, ""));
    }
}

/// What could be read in two ways is not read as a success.
#[tokio::test]
async fn an_answer_that_contradicts_itself_is_malformed() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/3 200 OK\r\n\r\n",
        "200 OK\r\n\r\n",
    ] {
        let (fault, message) = failed(within(PATIENCE / 2, answer(head)).await);
        assert_eq!(fault, TransportError::Malformed, "{head:?}: {message}");
    }
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_is_no_success() {
    let script = answer("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n");
    let answer = within(SHORT, script).await;
    assert!(!matches!(answer, SinkResponse::Accepted { .. }), "{answer:?}");
}
