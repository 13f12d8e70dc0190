//! The sink: found, reached, trusted, asked. No event unless one was wanted.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::{ClientCertVerifierBuilder, WantsServerCert, WebPkiClientVerifier};
use rustls::{ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::harness::{TABLE_ARN, World, failure, named, of, text};
use crate::server::{Server, status};

#[tokio::test(flavor = "multi_thread")]
async fn no_event_reaches_the_sink_unless_one_is_asked_for() {
    let world = World::new().await;
    world.aws.write("orders", 5, 1);
    assert_eq!(world.check(&[]).await.code, Some(0));
    assert_eq!(world.sink.methods(), ["OPTIONS"]);
    assert_eq!(world.sink.seen()[0].path, "/events");
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_event_is_posted_when_it_is_asked_for() {
    let world = World::new().await;
    let run = world.check(&["--send-test-event", "--output", "json"]).await;
    assert_eq!(run.code, Some(0), "{}", run.out);
    assert_eq!(world.sink.methods(), ["OPTIONS", "POST"]);
    let event = &world.sink.seen()[1];
    assert_eq!((event.header("ce-type"), event.header("ce-specversion")), ("com.amazonaws.dynamodb.check", "1.0"));
    assert_eq!((event.path.as_str(), event.header("content-type")), ("/events", "application/json"));
    let data: serde_json::Value = serde_json::from_str(&event.body).unwrap();
    assert_eq!(data, serde_json::json!({ "tables": ["orders"] }));
    let id = event.header("ce-id");
    assert!(text(of(&run.checks(), "sink-event"), "detail").contains(id) && !id.is_empty(), "{}", run.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_event_travels_as_all_others_will() {
    for (mode, media_type) in
        [("structured", "application/cloudevents+json"), ("batch", "application/cloudevents-batch+json")]
    {
        let world = World::new().await.env("EVENT_MODE", mode).env("TABLE", TABLE_ARN);
        let world = world.env("K_CE_OVERRIDES", r#"{"extensions":{"stage":"test"}}"#);
        assert_eq!(world.check(&["--send-test-event"]).await.code, Some(0));
        let event = &world.sink.seen()[1];
        assert_eq!(event.header("content-type"), media_type);
        let body: serde_json::Value = serde_json::from_str(&event.body).unwrap();
        let event = if mode == "batch" { &body[0] } else { &body };
        assert_eq!((text(event, "source"), text(event, "stage")), (TABLE_ARN, "test"), "{body}");
        assert_eq!(text(event, "type"), "com.amazonaws.dynamodb.check");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_for_undeliverable_events_is_tried_as_well_and_gets_none() {
    let other = Server::start(|_| status(200)).await;
    let world = World::new().await.env("ON_UNDELIVERABLE", "dead-letter").env("DEAD_LETTER_SINK", other.url());
    let run = world.check(&["--send-test-event", "--output", "json"]).await;
    let checks = run.checks();
    assert_eq!((run.code, text(of(&checks, "dead-letter-sink-http"), "result")), (Some(0), "ok"));
    assert_eq!(other.methods(), ["OPTIONS"]);
    let world = world.env("DEAD_LETTER_SINK", "http://sink.invalid/");
    let (checks, code) = world.json().await;
    assert_eq!((code, text(failure(&checks), "name")), (Some(69), "dead-letter-sink-dns"));
    assert_eq!(named(&checks, "skipped"), ["dead-letter-sink-tcp", "dead-letter-sink-http"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_refused_fails_and_is_not_repeated() {
    let refusing = Server::start(|request| status(if request.method == "POST" { 503 } else { 204 })).await;
    let world = World::new().await.env("K_SINK", refusing.url());
    let run = world.check(&["--send-test-event", "--output", "json"]).await;
    assert_eq!((run.code, text(failure(&run.checks()), "name")), (Some(69), "sink-event"));
    assert_eq!(refusing.methods(), ["OPTIONS", "POST"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_refuses_connections_fails() {
    let gone = Server::start(|_| status(200)).await;
    let address = gone.address();
    drop(gone);
    let world = World::new().await.env("K_SINK", format!("http://{address}/events"));
    crate::support::wait_for("the port to close", || std::net::TcpStream::connect(address).is_err()).await;
    let (checks, code) = world.json().await;
    assert_eq!((code, text(failure(&checks), "name")), (Some(69), "sink-tcp"));
    assert_eq!(named(&checks, "skipped"), ["sink-http"]);
    assert!(text(failure(&checks), "detail").contains(&address.to_string()), "{checks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_whose_name_is_unknown_fails() {
    let world = World::new().await.env("K_SINK", "http://sink.invalid/events");
    let run = world.check(&["--send-test-event", "--output", "json"]).await;
    let checks = run.checks();
    assert_eq!((run.code, text(failure(&checks), "name")), (Some(69), "sink-dns"));
    assert_eq!(text(failure(&checks), "remedy"), "getent ahosts sink.invalid");
    assert_eq!(named(&checks, "skipped"), ["sink-tcp", "sink-http", "sink-event"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_answers_503_is_reachable_and_a_warning() {
    let busy = Server::start(|_| status(503)).await;
    let world = World::new().await.env("K_SINK", busy.url());
    let (checks, code) = world.json().await;
    assert_eq!((code, named(&checks, "warn")), (Some(0), vec!["sink-http"]));
    assert!(text(of(&checks, "sink-http"), "detail").contains("503"), "{checks:?}");
}

/// Answers with a redirect, and with 204 elsewhere.
async fn redirecting(code: u16, location: &str) -> Server {
    let location: hyper::header::HeaderValue = location.parse().unwrap();
    Server::start(move |seen| {
        if seen.path.starts_with("/new") {
            return status(204);
        }
        let mut answer = status(code);
        answer.headers_mut().insert("location", location.clone());
        answer
    })
    .await
}

/// The adapter would give up every event.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_redirects_where_the_adapter_does_not_follow_is_a_warning_with_the_url_to_set() {
    for (code, location, result) in [
        (308, "https://elsewhere.example/events", "warn"),
        (301, "/new", "warn"),
        (302, "/login", "warn"),
        (308, "/new", "ok"),
        (307, "/new?x=y", "ok"),
    ] {
        let sink = redirecting(code, location).await;
        let (checks, exit) = World::new().await.env("K_SINK", sink.url()).json().await;
        let http = of(&checks, "sink-http");
        assert_eq!((exit, text(http, "result")), (Some(0), result), "{code} {location}: {http}");
        if result == "warn" {
            let target = url::Url::parse(&sink.url()).unwrap().join(location).unwrap();
            assert_eq!(text(http, "remedy"), format!("set K_SINK to {target}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_redirects_in_a_circle_or_to_nothing_is_a_warning() {
    for (location, elsewhere, says) in [("/", 308, "redirects more than 5 times"), ("/gone", 404, "with 404")] {
        let sink = Server::start(move |seen| {
            let mut answer = status(if seen.path == "/gone" { elsewhere } else { 308 });
            answer.headers_mut().insert("location", location.parse().unwrap());
            answer
        })
        .await;
        let (checks, _) = World::new().await.env("K_SINK", sink.url()).json().await;
        let http = of(&checks, "sink-http");
        assert_eq!(text(http, "result"), "warn", "{location}: {http}");
        assert!(text(http, "detail").contains(says), "{location}: {http}");
    }
}

/// A server repeats the query of the request, and the query may be what lets us in.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_redirect_is_shown() {
    let sink = redirecting(308, "https://user:s3cret@elsewhere.example/events?token=s3cret#s3cret").await;
    let run = World::new().await.env("K_SINK", sink.url()).check(&["--output", "json"]).await;
    let checks = run.checks();
    let remedy = text(of(&checks, "sink-http"), "remedy");
    assert!(remedy.starts_with("set K_SINK to https://elsewhere.example/events with the user and query"), "{remedy}");
    assert!(!serde_json::to_string(&checks).unwrap().contains("s3cret"), "{checks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_something_that_is_no_header_is_an_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::new().await.env("K_SINK", format!("http://{}/", listener.local_addr().unwrap()));
    let mut sink = JoinSet::new();
    sink.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        // What comes before the request is no answer to it.
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let many = "x: y\r\n".repeat(150);
        let answer = format!("HTTP/1.1 405 No\r\nPHP Warning: x\r\n{many}content-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
    });
    let (checks, code) = world.json().await;
    assert_eq!((code, text(of(&checks, "sink-http"), "result")), (Some(0), "ok"), "{checks:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_never_answers_fails_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::new().await.env("K_SINK", format!("http://{}/", listener.local_addr().unwrap()));
    let begun = std::time::Instant::now();
    let run = world.check(&["--timeout", "500ms", "--output", "json"]).await;
    assert!(begun.elapsed() < Duration::from_secs(20));
    let checks = run.checks();
    assert_eq!((run.code, text(failure(&checks), "name")), (Some(69), "sink-http"), "{checks:?}");
    assert!(text(failure(&checks), "detail").contains("no answer within 500ms"), "{checks:?}");
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Test Authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn server(&self, host: &str, protocol: &str) -> TlsAcceptor {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        self.acceptor(builder.with_no_client_auth(), host, protocol)
    }

    /// It speaks one version of TLS, and only to clients with a certificate of this authority.
    fn strict_server(&self, version: &'static SupportedProtocolVersion, protocol: &str) -> TlsAcceptor {
        let verifier = self.client_verifier().build().unwrap();
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[version]).unwrap();
        self.acceptor(builder.with_client_cert_verifier(verifier), "localhost", protocol)
    }

    /// It asks for a certificate, and the session comes about without one, too.
    fn lenient_server(&self, protocol: &str) -> TlsAcceptor {
        let verifier = self.client_verifier().allow_unauthenticated().build().unwrap();
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        self.acceptor(builder.with_client_cert_verifier(verifier), "localhost", protocol)
    }

    fn client_verifier(&self) -> ClientCertVerifierBuilder {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
    }

    fn acceptor(
        &self,
        builder: ConfigBuilder<ServerConfig, WantsServerCert>,
        host: &str,
        protocol: &str,
    ) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// A world whose sink is this server, and which trusts this authority.
    async fn trusted_by(&self, sink: &Server) -> World {
        self.trusted_at(sink.address().port()).await
    }

    async fn trusted_at(&self, port: u16) -> World {
        let world = World::new().await;
        let pem = world.folder.path().join("authority.pem");
        std::fs::write(&pem, self.0.pem()).unwrap();
        world.env("K_SINK", format!("https://localhost:{port}/events")).env("SSL_CERT_FILE", pem.to_str().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_a_trusted_authority_is_accepted_over_both_versions_of_http() {
    for (protocol, version) in [("http/1.1", hyper::Version::HTTP_11), ("h2", hyper::Version::HTTP_2)] {
        let authority = Authority::new();
        let sink = Server::start_with(Some(authority.server("localhost", protocol)), |_| status(204)).await;
        let (checks, code) = authority.trusted_by(&sink).await.json().await;
        assert_eq!((code, text(of(&checks, "sink-tls"), "result")), (Some(0), "ok"), "{checks:#?}");
        assert_eq!((sink.methods(), sink.seen()[0].version), (vec!["OPTIONS".to_owned()], version));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_trusts_the_authorities_that_the_adapter_trusts() {
    let authority = Authority::new();
    let sink = Server::start_with(Some(authority.server("localhost", "http/1.1")), |_| status(204)).await;
    let url = format!("https://localhost:{}/events", sink.address().port());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), authority.0.pem()).unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    for (name, value) in [("K_CA_CERTS", authority.0.pem()), ("CA_CERTS_DIR", path)] {
        let (checks, code) = World::new().await.env("K_SINK", &url).env(name, value).json().await;
        assert_eq!((code, text(of(&checks, "sink-tls"), "result")), (Some(0), "ok"), "{name}: {checks:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_unknown_authority_fails_and_nothing_is_asked() {
    let authority = Authority::new();
    let sink = Server::start_with(Some(Authority::new().server("localhost", "http/1.1")), |_| status(204)).await;
    let (checks, code) = authority.trusted_by(&sink).await.json().await;
    assert_eq!((code, text(failure(&checks), "name")), (Some(69), "sink-tls"), "{checks:#?}");
    assert!(text(failure(&checks), "remedy").contains("K_CA_CERTS"), "{checks:?}");
    assert_eq!((named(&checks, "skipped"), sink.methods().len()), (vec!["sink-http"], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_host_fails_with_what_to_change() {
    let authority = Authority::new();
    let sink = Server::start_with(Some(authority.server("other.example", "http/1.1")), |_| status(204)).await;
    let (checks, _) = authority.trusted_by(&sink).await.json().await;
    assert_eq!(text(failure(&checks), "name"), "sink-tls");
    assert!(text(failure(&checks), "remedy").contains("a host in the URL that the certificate contains"), "{checks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_an_authority_as_the_sinks_own_fails_with_what_to_change() {
    let authority = Authority::new();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority.0).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let sink = Server::start_with(Some(TlsAcceptor::from(Arc::new(config))), |_| status(204)).await;
    let (checks, _) = authority.trusted_by(&sink).await.json().await;
    assert_eq!(text(failure(&checks), "name"), "sink-tls");
    assert!(text(failure(&checks), "remedy").contains("CA:FALSE"), "{checks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_wants_a_client_certificate_fails_with_what_to_set() {
    // With TLS 1.2 the handshake fails, with TLS 1.3 what follows it.
    for (version, check) in [(&rustls::version::TLS12, "sink-tls"), (&rustls::version::TLS13, "sink-http")] {
        for protocol in ["http/1.1", "h2"] {
            let authority = Authority::new();
            let sink = Server::start_with(Some(authority.strict_server(version, protocol)), |_| status(204)).await;
            let (checks, code) = authority.trusted_by(&sink).await.json().await;
            let failed = failure(&checks);
            assert_eq!((code, text(failed, "name")), (Some(69), check), "{protocol}: {checks:#?}");
            assert!(text(failed, "remedy").contains("set SINK_CLIENT_CERT_FILE"), "{version:?} {protocol}: {failed}");
        }
    }
}

/// What is left of a refusal whose alert is lost: a write that finds the connection closed never reads it.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_asks_for_a_client_certificate_and_hangs_up_fails_with_what_to_set() {
    for protocol in ["http/1.1", "h2"] {
        let authority = Authority::new();
        let (acceptor, listener) =
            (authority.lenient_server(protocol), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let port = listener.local_addr().unwrap().port();
        let mut sink = JoinSet::new();
        sink.spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            drop(acceptor.accept(stream).await.unwrap());
        });
        let (checks, code) = authority.trusted_at(port).await.json().await;
        let failed = failure(&checks);
        assert_eq!((code, text(failed, "name")), (Some(69), "sink-http"), "{protocol}: {checks:#?}");
        assert!(text(failed, "remedy").contains("set SINK_CLIENT_CERT_FILE"), "{protocol}: {failed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_which_nothing_is_sent_fails_and_no_event_is_posted() {
    for (variable, content, why) in [
        ("SINK_TOKEN_FILE", None, "does not exist"),
        ("SINK_TOKEN_FILE", Some("two\nlines"), "several lines"),
        ("SINK_HEADERS_FILE", Some("hunter2"), "line 1"),
    ] {
        let world = World::new().await;
        let file = world.folder.path().join("file");
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let world = world.env(variable, file.to_str().unwrap());
        let run = world.check(&["--send-test-event", "--output", "json"]).await;
        let checks = run.checks();
        assert_eq!((run.code, text(failure(&checks), "name")), (Some(69), "sink-files"), "{checks:#?}");
        let detail = text(failure(&checks), "detail");
        assert!(detail.contains(variable) && detail.contains(why) && !run.out.contains("hunter2"), "{detail}");
        assert_eq!((named(&checks, "skipped"), world.sink.methods()), (vec!["sink-event"], vec!["OPTIONS".to_owned()]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_is_asked_with_the_headers_of_files_and_the_other_sink_is_not() {
    let other = Server::start(|_| status(200)).await;
    let world = World::new().await.env("ON_UNDELIVERABLE", "dead-letter").env("DEAD_LETTER_SINK", other.url());
    let (token, headers) = (world.folder.path().join("token"), world.folder.path().join("headers"));
    std::fs::write(&token, "abc\n").unwrap();
    std::fs::write(&headers, "X-Tenant: blue\n").unwrap();
    let world = world.env("SINK_TOKEN_FILE", token.to_str().unwrap());
    let world = world.env("SINK_HEADERS_FILE", headers.to_str().unwrap());
    let (checks, code) = world.json().await;
    assert_eq!((code, text(of(&checks, "sink-files"), "result")), (Some(0), "ok"), "{checks:#?}");
    let asked = &world.sink.seen()[0];
    assert_eq!((asked.header("authorization"), asked.header("x-tenant")), ("Bearer abc", "blue"));
    assert!(other.seen().iter().all(|seen| seen.header("authorization").is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_among_the_authorities_that_is_not_used_is_a_warning() {
    let sink = Server::start(|_| status(200)).await;
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    std::fs::write(folder.path().join("good.pem"), authority.0.pem()).unwrap();
    std::fs::write(folder.path().join("broken.pem"), "nothing").unwrap();
    let sink_url = format!("https://localhost:{}/", sink.address().port());
    let world = World::new().await.env("K_SINK", sink_url).env("CA_CERTS_DIR", folder.path().to_str().unwrap());
    let (checks, _) = world.json().await;
    let files = of(&checks, "sink-files");
    assert_eq!(text(files, "result"), "warn", "{checks:#?}");
    assert!(text(files, "detail").contains("broken.pem"), "{files}");
}
