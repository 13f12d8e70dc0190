//! Certificates: which are accepted, and what is said about the others.

use rustls::AlertDescription;
use tokio_rustls::TlsAcceptor;

use super::authority::{Authority, Leaf, Side, acceptor};
use super::https::Https;
use super::server::{Script, Step, answer};
use super::volume::Volume;
use super::*;
use crate::config::{Certificates, ClientCertificateFiles};
use crate::error_text::chain;
use crate::sink::about_alert;

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn sink(server: &Server, roots: Certificates) -> HttpSink {
    sink_at(server.port(), roots)
}

fn sink_at(port: u16, roots: Certificates) -> HttpSink {
    let tuning = Tuning { system_roots: Some(roots), ..Tuning::default() };
    super::sink(settings(&format!("https://localhost:{port}/")), tuning)
}

async fn failure(acceptor: TlsAcceptor, roots: Certificates) -> String {
    let server = Server::start_tls(acceptor, [answer(OK)]).await;
    let (fault, message) = failed(sink(&server, roots).post(message(), PATIENCE).await);
    assert_eq!(fault, TransportError::Tls, "{message}");
    message
}

#[tokio::test]
async fn a_trusted_certificate_is_accepted() {
    let authority = Authority::new();
    for protocols in [&[][..], &["http/1.1"]] {
        let server = Server::start_tls(authority.server("localhost", false, protocols), [answer(OK)]).await;
        assert_eq!(sink(&server, authority.certificates()).post(message(), PATIENCE).await, accepted(200, ""));
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
    assert_eq!(sink(&server, authority.certificates()).post(message(), PATIENCE).await, accepted(204, ""));
    assert_eq!(server.seen()[0].request_line(), "PRI * HTTP/2.0");
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted_is_told_with_the_reason() {
    let authority = Authority::new();
    let expired = failure(authority.server("localhost", true, &[]), authority.certificates()).await;
    assert!(expired.starts_with("the sink's certificate has expired: renew it ("), "{expired}");

    let elsewhere = failure(authority.server("other.example", false, &[]), authority.certificates()).await;
    assert!(elsewhere.starts_with("the sink's certificate is for another host: check the URL ("), "{elsewhere}");
    assert!(elsewhere.contains("other.example"), "{elsewhere}");

    for stranger in [Authority::named("Another Authority"), Authority::new()] {
        let unknown = failure(stranger.server("localhost", false, &[]), authority.certificates()).await;
        assert!(unknown.contains("not trusted here: add it to K_CA_CERTS"), "{unknown}");
    }
}

/// What `openssl req -x509` makes: it signs itself and may sign others.
#[tokio::test]
async fn a_certificate_that_is_its_own_authority_is_told_as_such() {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    let leaf = Leaf { der: certificate.der().clone(), pem: certificate.pem(), key };
    let roots = Certificates::from_pem(leaf.pem.as_bytes()).expect("PEM");
    let message = failure(acceptor(&leaf, &Side::default()), roots).await;
    assert!(message.contains("CA:FALSE"), "{message}");
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_with_and_without_a_client_certificate() {
    let authority = Authority::new();
    for version in VERSIONS {
        for clients in [None, Some(authority.roots())] {
            for protocols in [&["http/1.1"][..], &["h2"]] {
                let client = clients.as_ref().map(|_| authority.leaf("adapter"));
                let side = Side { protocols, versions: &[version], clients: clients.clone(), ..Side::default() };
                let server = Https::start(acceptor(&authority.leaf("localhost"), &side)).await;
                let files = client.as_ref().map(Files::of);
                let sink = sink_as(&server, &authority, files.as_ref());
                assert_eq!(sink.post(message(), PATIENCE).await, accepted(202, ""), "{version:?} {protocols:?}");
                assert_eq!(server.taken()[0].peer, client.map(|leaf| leaf.der));
            }
        }
    }
}

/// The files of a client certificate.
struct Files(Volume);

impl Files {
    fn of(leaf: &Leaf) -> Self {
        Self(Volume::new(&[("tls.crt", leaf.pem.clone()), ("tls.key", leaf.key.serialize_pem())]))
    }

    fn names(&self) -> ClientCertificateFiles {
        ClientCertificateFiles { certificate: self.0.file("tls.crt"), key: self.0.file("tls.key") }
    }
}

fn sink_as(server: &Https, authority: &Authority, files: Option<&Files>) -> Attentive {
    let tuning = Tuning { system_roots: Some(authority.certificates()), ..Tuning::default() };
    let settings = SinkSettings { client_certificate: files.map(Files::names), ..settings(&server.url()) };
    Attentive(super::sink(settings, tuning))
}

#[tokio::test]
async fn a_client_certificate_that_is_missing_or_refused_is_told_with_what_to_do() {
    let (authority, stranger) = (Authority::new(), Authority::named("Stranger"));
    let expired = authority.issue("adapter", true);
    let cases = [
        (None, "the sink asks for a client certificate: set SINK_CLIENT_CERT_FILE and SINK_CLIENT_KEY_FILE ("),
        (Some(expired), "the sink refuses the client certificate as expired: renew it ("),
        (
            Some(stranger.leaf("adapter")),
            "the sink does not trust the authority of the client certificate: check SINK_CLIENT_CERT_FILE (",
        ),
    ];
    for version in VERSIONS {
        for protocols in [&["http/1.1"][..], &["h2"]] {
            let side = Side { protocols, versions: &[version], clients: Some(authority.roots()), ..Side::default() };
            let server = Https::start(acceptor(&authority.leaf("localhost"), &side)).await;
            for (client, expected) in &cases {
                let files = client.as_ref().map(Files::of);
                let sink = sink_as(&server, &authority, files.as_ref());
                let (fault, message) = failed(sink.post(message(), PATIENCE).await);
                assert_eq!(fault, TransportError::Tls, "{version:?} {protocols:?} {message}");
                assert!(message.starts_with(expected), "{version:?} {protocols:?} {message}");
            }
            assert!(server.taken().is_empty());
        }
    }
}

/// The day on which HTTP/2 keeps the error itself, its text need not be searched any more.
#[tokio::test]
async fn an_alert_is_told_by_its_type_over_http_1_and_by_its_text_over_http_2() {
    let authority = Authority::new();
    for (protocol, is_typed) in [("http/1.1", true), ("h2", false)] {
        let side = Side {
            protocols: &[protocol],
            versions: &[&rustls::version::TLS13],
            clients: Some(authority.roots()),
            ..Side::default()
        };
        let server = Https::start(acceptor(&authority.leaf("localhost"), &side)).await;
        let Attentive(sink) = sink_as(&server, &authority, None);
        let pool = sink.pool(&sink.credentials.newest());
        let mut error = None;
        // A write that finds the connection closed never reads the alert: then it is another connection's turn.
        for _ in 0..50 {
            let request = request(sink.url.clone(), HeaderMap::new(), &Bytes::new());
            let refused = pool.client.request(request).await.expect_err("no certificate was shown");
            let is_alert = about_alert(&refused).is_some();
            error = Some(refused);
            if is_alert {
                break;
            }
        }
        let error = error.expect("at least one attempt");
        let typed = chain(&error).find_map(|cause| cause.downcast_ref::<rustls::Error>());
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        assert_eq!(typed, Some(&alert).filter(|_| is_typed), "{error:?}");
        let (kind, message) = failed(TransportFailure::of(&error).into_response(PATIENCE));
        assert_eq!(kind, TransportError::Tls, "{protocol}");
        let expected = "the sink asks for a client certificate: set SINK_CLIENT_CERT_FILE and SINK_CLIENT_KEY_FILE (";
        assert!(message.starts_with(expected) && message.contains(&alert.to_string()), "{protocol}: {message}");
    }
}

#[tokio::test]
async fn a_client_certificate_that_cannot_be_read_stops_delivery_until_it_can() {
    let authority = Authority::new();
    let side = Side { clients: Some(authority.roots()), ..Side::default() };
    let server = Https::start(acceptor(&authority.leaf("localhost"), &side)).await;
    let (leaf, other) = (authority.leaf("adapter"), authority.leaf("adapter"));
    let mut files = Files::of(&leaf);
    let (key, none) = (leaf.key.serialize_pem(), String::new());
    files.0.replace(&[("tls.crt", &leaf.pem), ("tls.key", &other.key.serialize_pem())]);
    let sink = sink_as(&server, &authority, Some(&files));
    let cases = [
        (&leaf.pem, other.key.serialize_pem(), "SINK_CLIENT_KEY_FILE is not the key of the certificate"),
        (&leaf.pem, leaf.pem.clone(), "SINK_CLIENT_KEY_FILE contains no private key"),
        (&leaf.pem, key[..60].to_owned(), "SINK_CLIENT_KEY_FILE is not valid PEM"),
        (&none, key.clone(), "it contains no certificate"),
    ];
    for (certificate, key, why) in cases {
        files.0.replace(&[("tls.crt", certificate), ("tls.key", &key)]);
        let (fault, message) = failed(sink.post(super::message(), PATIENCE).await);
        assert_eq!(fault, TransportError::Credentials);
        assert!(message.contains(why) && message.contains("/tls.crt cannot be used"), "{message}");
    }
    files.0.replace(&[("tls.crt", &leaf.pem), ("tls.key", &key)]);
    assert_eq!(sink.post(message(), PATIENCE).await, accepted(202, ""));
}

/// Some sinks say nothing and just cut the connection of a client without a certificate.
#[tokio::test]
async fn a_connection_that_is_cut_after_a_certificate_was_asked_for_is_told_as_that() {
    let authority = Authority::new();
    let cut = || vec![Step::Read, Step::Close];
    let side = Side { clients: Some(authority.roots()), lets_anybody_in: true, ..Side::default() };
    let asking = || acceptor(&authority.leaf("localhost"), &side);
    let server = Server::start_tls(asking(), [cut()]).await;
    let (fault, message) = failed(sink(&server, authority.certificates()).post(message(), PATIENCE).await);
    assert_eq!(fault, TransportError::Tls);
    assert!(message.starts_with("the sink asks for a client certificate: set "), "{message}");

    // It asks but does not insist: it has answered without one.
    let script = [answer(OK), cut()].concat();
    let server = Server::start_tls(asking(), [script, cut()]).await;
    let sink = sink(&server, authority.certificates());
    assert_eq!(sink.post(super::message(), PATIENCE).await, accepted(200, ""));
    let (fault, message) = failed(sink.post(super::message(), PATIENCE).await);
    assert_eq!(fault, TransportError::Reset, "{message}");
}

#[tokio::test]
async fn a_cut_connection_is_a_reset_where_no_certificate_was_asked_for() {
    let authority = Authority::new();
    let server = Server::start_tls(authority.server("localhost", false, &[]), [vec![Step::Read, Step::Close]]).await;
    let (fault, message) = failed(sink(&server, authority.certificates()).post(message(), PATIENCE).await);
    assert_eq!(fault, TransportError::Reset, "{message}");
}

#[tokio::test]
async fn a_sink_that_speaks_no_tls_or_cuts_the_handshake_is_a_tls_fault() {
    let plain = vec![Step::Write(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), Step::Close];
    for script in [plain, vec![Step::Close], vec![Step::Reset]] {
        let speaks = matches!(script[0], Step::Write(_));
        let server = Server::start([script]).await;
        let (fault, message) = failed(sink(&server, Authority::new().certificates()).post(message(), PATIENCE).await);
        assert_eq!(fault, TransportError::Tls, "{message}");
        assert_eq!(message.starts_with("the sink speaks no TLS on this port: "), speaks, "{message}");
    }
}

#[tokio::test]
async fn nobody_listening_is_a_connect_fault_with_https_too() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let sink = sink_at(unused.expect("a port").port(), Authority::new().certificates());
    let (fault, message) = failed(sink.post(message(), PATIENCE).await);
    assert_eq!(fault, TransportError::Connect, "{message}");
    assert!(message.to_lowercase().contains("connection refused"), "{message}");
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_a_timeout() {
    let server = Server::start([vec![Step::Hang]]).await;
    let sink = sink(&server, Authority::new().certificates());
    assert_eq!(failed(sink.post(message(), Duration::from_millis(100)).await).0, TransportError::Timeout);
}
