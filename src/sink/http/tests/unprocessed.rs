//! Requests that the sink has not processed are sent again at once, and are no failed attempts.

use ::http::Response;
use h2::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::authority::Authority;
use super::server::{Step, answer};
use super::*;
use crate::sink::connector::connect_tcp;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// What a server does with the requests of one HTTP/2 connection.
#[derive(Debug, Clone, Copy)]
enum Conduct {
    Refuse,
    Answer,
}

/// How many requests such servers have seen until the answer, and that one. The last conduct is kept.
async fn over_http2(conducts: &'static [Conduct]) -> (usize, SinkResponse) {
    let authority = Authority::new();
    let acceptor = authority.server("localhost", false, &["h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let (seen, requests) = watch::channel(0);
    let mut server = JoinSet::new();
    server.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let number = *seen.borrow();
                seen.send_replace(number + 1);
                match conducts[number.min(conducts.len() - 1)] {
                    Conduct::Refuse => respond.send_reset(Reason::REFUSED_STREAM),
                    Conduct::Answer => {
                        let response = Response::builder().status(204).body(()).expect("a status");
                        drop(respond.send_response(response, true));
                    }
                }
            }
        }
    });
    let tuning = Tuning { system_roots: Some(authority.certificates()), ..Tuning::default() };
    let sink = sink(settings(&format!("https://localhost:{port}/")), tuning);
    let answer = sink.post(message(), PATIENCE).await;
    (*requests.borrow(), answer)
}

#[tokio::test]
async fn what_a_sink_says_that_it_has_not_processed_is_sent_again() {
    use Conduct::{Answer, Refuse};
    for conducts in [&[Refuse, Answer][..], &[Refuse, Refuse, Refuse, Answer]] {
        let (requests, answer) = over_http2(conducts).await;
        assert_eq!((requests, answer), (conducts.len(), accepted(204, "")), "{conducts:?}");
    }
}

#[tokio::test]
async fn a_sink_that_never_processes_a_request_has_failed_after_three_more() {
    let (requests, answer) = over_http2(&[Conduct::Refuse]).await;
    assert_eq!((requests, matches!(answer, SinkResponse::Failed { .. })), (4, true), "{answer:?}");
}

#[tokio::test]
async fn a_connection_that_goes_away_before_it_was_used_costs_nothing() {
    // The server's side of HTTP/2: settings, their acknowledgement, and then that it processes nothing.
    const GO_AWAY: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
    const ANSWER: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01\x89";
    let authority = Authority::new();
    let [away, fine] = [GO_AWAY, ANSWER].map(|frames| vec![Step::ReadHead, Step::Write(frames.to_vec())]);
    let server = Server::start_tls(authority.server("localhost", false, &["h2"]), [away, fine]).await;
    let tuning = Tuning { system_roots: Some(authority.certificates()), ..Tuning::default() };
    let sink = sink(settings(&format!("https://localhost:{}/", server.port())), tuning);
    assert_eq!(sink.post(message(), PATIENCE).await, accepted(204, ""));
}

#[tokio::test]
async fn a_connection_that_was_idle_and_is_lost_before_an_answer_costs_no_attempt() {
    for end in [Step::Close, Step::Reset, Step::Vanish] {
        let lost = [answer(OK), vec![Step::Read, end.clone()]].concat();
        let server = Server::start([lost, answer(OK)]).await;
        let sink = sink_of(&server);
        for _ in 0..2 {
            assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""), "{end:?}");
        }
        let connections: Vec<usize> = server.seen().iter().map(|seen| seen.connection).collect();
        assert_eq!(connections, [0, 0, 1], "{end:?}");
    }
}

/// A server that answers each connection's first request. Then no packet of its first connection arrives any more.
async fn dies_without_a_word(listener: TcpListener, has_died: Arc<Notify>) {
    let mut kept = Vec::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = vec![0; 4096];
        assert!(stream.read(&mut request).await.expect("a request") > 0);
        stream.write_all(OK.as_bytes()).await.expect("a client");
        if kept.is_empty() {
            const RETURN: u16 = 6;
            socket2::SockRef::from(&stream).attach_filter(&[socket2::SockFilter::new(RETURN, 0, 0, 0)]).expect("Linux");
            has_died.notify_one();
        }
        kept.push(stream);
    }
}

/// A node that is gone, a firewall that has forgotten the connection.
#[tokio::test]
async fn a_connection_that_was_idle_and_has_died_without_a_word_costs_no_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let (has_died, mut server) = (Arc::new(Notify::new()), JoinSet::new());
    server.spawn(dies_without_a_word(listener, has_died.clone()));
    let sink = sink(settings(&url), Tuning { dead_peer_timeout: Duration::from_secs(1), ..Tuning::default() });
    assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
    has_died.notified().await;
    assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
}

/// The sink has begun to answer: it may have processed the message.
#[tokio::test]
async fn an_answer_that_breaks_off_is_a_failed_attempt_on_any_connection() {
    for part in ["H", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\nx", "HTTP/1.1 102 Processing\r\n\r\n"] {
        for reused in [vec![], answer(OK)] {
            let (posts, script) = (1 + usize::from(!reused.is_empty()), [reused, answer(part)].concat());
            let server = Server::start([[script, vec![Step::Close]].concat(), answer(OK)]).await;
            let sink = sink_of(&server);
            for _ in 1..posts {
                assert_eq!(sink.post(message(), PATIENCE).await, accepted(200, ""));
            }
            let (fault, why) = failed(sink.post(message(), PATIENCE).await);
            assert_eq!((fault, server.seen().len()), (TransportError::Reset, posts), "{part:?}: {why}");
        }
    }
}

#[tokio::test]
async fn an_answer_over_tls_that_breaks_off_is_a_failed_attempt() {
    let authority = Authority::new();
    for (part, requests) in [("HTTP/1.1 20", 2), ("", 3)] {
        let lost = [answer(OK), answer(part), vec![Step::Close]].concat();
        let acceptor = authority.server("localhost", false, &["http/1.1"]);
        let server = Server::start_tls(acceptor, [lost, answer(OK)]).await;
        let tuning = Tuning { system_roots: Some(authority.certificates()), ..Tuning::default() };
        let sink = sink(settings(&format!("https://localhost:{}/", server.port())), tuning);
        for _ in 0..2 {
            sink.post(message(), PATIENCE).await;
        }
        assert_eq!(server.seen().len(), requests, "{part:?}");
    }
}

/// It may be the message that kills it.
#[tokio::test]
async fn a_new_connection_that_is_lost_is_a_failed_attempt() {
    for end in [Step::Close, Step::Reset, Step::Vanish] {
        let server = Server::start([vec![Step::Read, end.clone()], answer(OK)]).await;
        let (fault, why) = failed(sink_of(&server).post(message(), PATIENCE).await);
        assert_eq!((fault, server.seen().len()), (TransportError::Reset, 1), "{end:?}: {why}");
    }
}

#[tokio::test]
async fn a_sink_that_keeps_idle_connections_for_a_short_time_is_obeyed() {
    for (said, kept) in [
        ("timeout=1", Some(500)),
        ("timeout=3, max=100", Some(2000)),
        ("max=5, Timeout = 2", Some(1000)),
        ("timeout=\"2\"", Some(1000)),
        ("timeout=0", Some(0)),
        ("timeout=5", None),
        ("timeout=300", None),
        ("timeout=soon", None),
        ("max=2", None),
    ] {
        let server = Server::start([answer(format!("HTTP/1.1 204 No\r\nkeep-alive: {said}\r\n\r\n"))]).await;
        let sink = sink_of(&server);
        assert_eq!(sink.post(message(), PATIENCE).await, accepted(204, ""));
        let kept = kept.map_or(IDLE_TIMEOUT, Duration::from_millis);
        assert_eq!(sink.pool(&sink.credentials.newest()).idle_timeout, kept, "{said}");
    }
}

#[tokio::test]
async fn a_peer_that_dies_without_a_word_is_noticed_within_15_seconds() {
    let server = Server::start([vec![Step::Hang]]).await;
    let url = server.url("/").parse().expect("a URL");
    let connection = connect_tcp(&url).await.expect("a connection");
    let socket = socket2::SockRef::from(&connection);
    assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(Duration::from_secs(15)));
    let keepalive = socket.keepalive().expect("an option");
    let probed_after =
        socket.tcp_keepalive_time().expect("an option") + socket.tcp_keepalive_interval().expect("an option");
    assert!(keepalive && probed_after <= Duration::from_secs(15), "{probed_after:?}");
}
