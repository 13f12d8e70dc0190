//! Certificates: which are accepted, and what is said about the others.

use rustls::RootCertStore;
use tokio_rustls::TlsAcceptor;

use super::authority::Authority;
use super::server::{Script, Step, answer};
use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn sink(server: &Server, roots: RootCertStore) -> HttpSink {
    sink_at(server.port(), roots)
}

fn sink_at(port: u16, roots: RootCertStore) -> HttpSink {
    let tuning = Tuning { system_roots: Some(roots), ..Tuning::default() };
    HttpSink::tuned(settings(&format!("https://localhost:{port}/")), tuning).expect("a sink")
}

async fn failure(acceptor: TlsAcceptor, roots: RootCertStore) -> String {
    let server = Server::start_tls(acceptor, [answer(OK)]).await;
    let (fault, message) = failed(sink(&server, roots).post(message(), PATIENCE).await);
    assert_eq!(fault, Fault::Tls, "{message}");
    message
}

#[tokio::test]
async fn a_trusted_certificate_is_accepted() {
    let authority = Authority::new();
    for protocols in [&[][..], &["http/1.1"]] {
        let server = Server::start_tls(authority.server("localhost", false, protocols), [answer(OK)]).await;
        assert_eq!(sink(&server, authority.roots()).post(message(), PATIENCE).await, accepted(200, ""));
        assert_eq!(server.seen()[0].request_line(), "POST / HTTP/1.1");
    }
}

/// The server's side of HTTP/2, as far as one answer needs it: settings, their acknowledgement, `:status: 204`.
#[tokio::test]
async fn http_2_is_spoken_where_the_sink_chooses_it() {
    const FRAMES: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0\0\0\x01\x01\x05\0\0\0\x01\x89";
    let script: Script = vec![Step::ReadHead, Step::Write(FRAMES.to_vec())];
    let authority = Authority::new();
    let server = Server::start_tls(authority.server("localhost", false, &["h2", "http/1.1"]), [script]).await;
    assert_eq!(sink(&server, authority.roots()).post(message(), PATIENCE).await, accepted(204, ""));
    assert_eq!(server.seen()[0].request_line(), "PRI * HTTP/2.0");
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted_is_told_with_the_reason() {
    let authority = Authority::new();
    let expired = failure(authority.server("localhost", true, &[]), authority.roots()).await;
    assert!(expired.starts_with("the sink's certificate has expired: renew it ("), "{expired}");

    let elsewhere = failure(authority.server("other.example", false, &[]), authority.roots()).await;
    assert!(elsewhere.starts_with("the sink's certificate is for another host: check the URL ("), "{elsewhere}");
    assert!(elsewhere.contains("other.example"), "{elsewhere}");

    for stranger in [Authority::named("Another Authority"), Authority::new()] {
        let unknown = failure(stranger.server("localhost", false, &[]), authority.roots()).await;
        assert!(unknown.contains("not trusted here: add it to K_CA_CERTS"), "{unknown}");
    }
}

#[tokio::test]
async fn a_sink_that_speaks_no_tls_or_cuts_the_handshake_is_a_tls_fault() {
    let plain = vec![Step::Write(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), Step::Close];
    for script in [plain, vec![Step::Close], vec![Step::Reset]] {
        let server = Server::start([script]).await;
        let (fault, message) = failed(sink(&server, Authority::new().roots()).post(message(), PATIENCE).await);
        assert_eq!(fault, Fault::Tls, "{message}");
    }
}

#[tokio::test]
async fn nobody_listening_is_a_connect_fault_with_https_too() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let sink = sink_at(unused.expect("a port").port(), Authority::new().roots());
    let (fault, message) = failed(sink.post(message(), PATIENCE).await);
    assert_eq!(fault, Fault::Connect, "{message}");
    assert!(message.to_lowercase().contains("connection refused"), "{message}");
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_a_timeout() {
    let server = Server::start([vec![Step::Hang]]).await;
    let sink = sink(&server, Authority::new().roots());
    assert_eq!(failed(sink.post(message(), Duration::from_millis(100)).await).0, Fault::Timeout);
}
