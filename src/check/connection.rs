//! One connection to the sink, made in the adapter's way, but step by step, so that a report can say which step fails.

use std::io;
use std::net::IpAddr;
use std::str::FromStr as _;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::Service as _;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rustls::CertificateError;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error_text::{Cause, causes, chain};
use crate::sink::{
    CERTIFICATE_WANTED, ClientIdentity, ClientTls, MAX_HEAD, MAX_HEADERS, SinkSettings, SinkSetupError, about_alert,
    about_certificate, client_tls, connect_tcp,
};

/// What to do where nobody answers a handshake rightly.
const NO_TLS: &str = "check that the port speaks TLS, or use the scheme http in the URL";

/// A connection that is ready for a request.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>, Arc<ClientIdentity>),
}

impl Stream {
    /// The version that both sides speak.
    fn http_version(&self) -> Version {
        match self {
            Self::Tls(stream, _) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => Version::HTTP_2,
            _ => Version::HTTP_11,
        }
    }
}

/// Why there is no TLS session.
pub(super) struct TlsProblem {
    pub(super) what: String,
    pub(super) fix: String,
}

impl TlsProblem {
    /// The other side did not go on.
    pub(super) fn silent(what: String) -> Self {
        Self { what, fix: NO_TLS.into() }
    }
}

/// Why there is no response.
pub(super) struct NoResponse {
    pub(super) what: String,
    /// What to do, where TLS tells why the sink ended the connection.
    pub(super) advice: Option<&'static str>,
}

/// The addresses of a host, found by the resolver that the adapter's client uses.
pub(super) async fn resolve(host: &str) -> Result<Vec<IpAddr>, String> {
    let name = Name::from_str(host).map_err(|error| error.to_string())?;
    let found = TowerToHyperService::new(GaiResolver::new()).call(name).await;
    Ok(found.map_err(|error| error.to_string())?.map(|address| address.ip()).collect())
}

/// A connection to the host of a URL, made as the adapter makes it: over whichever of its addresses answers first.
pub(super) async fn connect(uri: &Uri) -> Result<TcpStream, String> {
    // The outermost error of a library's connector says only that it is one of TCP or of DNS.
    connect_tcp(uri).await.map_err(|error| error.source().map_or_else(|| error.to_string(), causes))
}

/// The session on a connection, and its version. The certificate is checked as the adapter checks it.
pub(super) async fn secure(
    stream: TcpStream,
    host: &str,
    settings: &SinkSettings,
) -> Result<(Stream, &'static str), TlsProblem> {
    let ClientTls { config, identity } = tls_of(settings)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| TlsProblem {
        what: format!("the host {host} is not a valid server name for TLS: {error}"),
        fix: "use a DNS name in the URL".into(),
    })?;
    let session = TlsConnector::from(config).connect(name, stream).await;
    let session = session.map_err(|error| tls_problem(&error, &identity))?;
    let version = match session.get_ref().1.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS 1.3",
    };
    Ok((Stream::Tls(Box::new(session), identity), version))
}

/// The same as the adapter's own.
fn tls_of(settings: &SinkSettings) -> Result<ClientTls, TlsProblem> {
    client_tls(settings).map_err(|error| match error {
        SinkSetupError::NoRoots(_) => TlsProblem {
            what: error.to_string(),
            fix: "apt-get install ca-certificates, or add the certificate of the sink's CA to K_CA_CERTS".into(),
        },
        _ => TlsProblem { what: error.to_string(), fix: "report this as a bug of the adapter".into() },
    })
}

fn tls_problem(error: &io::Error, identity: &ClientIdentity) -> TlsProblem {
    let fix = match chain(error).find_map(|cause| cause.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(problem)) => fix_of_certificate(problem),
        // With TLS 1.2 the sink judges the client certificate within the handshake.
        _ => about_ended_session(error, identity).unwrap_or(NO_TLS),
    };
    TlsProblem { what: format!("the TLS handshake failed: {}", causes(error)), fix: fix.into() }
}

fn fix_of_certificate(problem: &CertificateError) -> &'static str {
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "renew the sink's certificate",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "set the clocks: the certificate is not valid yet"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "use a host in the URL that the certificate contains"
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "add the CA that signed the certificate, as PEM, to K_CA_CERTS or to a file in the folder CA_CERTS_DIR"
        }
        problem => about_certificate(problem).unwrap_or("replace the sink's certificate"),
    }
}

/// The status and the headers of the response to `OPTIONS`.
pub(super) async fn options(
    stream: Stream,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(StatusCode, HeaderMap), NoResponse> {
    let version = stream.http_version();
    let request = request(uri, headers, version).map_err(|error| NoResponse { what: causes(&error), advice: None })?;
    let (answer, identity) = match stream {
        Stream::Plain(stream) => (over_http1(TokioIo::new(stream), request).await, None),
        Stream::Tls(stream, identity) if version == Version::HTTP_2 => {
            (over_http2(TokioIo::new(*stream), request).await, Some(identity))
        }
        Stream::Tls(stream, identity) => (over_http1(TokioIo::new(*stream), request).await, Some(identity)),
    };
    let (head, _) = answer.map_err(|error| no_response(&error, identity.as_deref()))?.into_parts();
    Ok((head.status, head.headers))
}

fn no_response(error: &hyper::Error, identity: Option<&ClientIdentity>) -> NoResponse {
    NoResponse { what: causes(error), advice: identity.and_then(|identity| about_ended_session(error, identity)) }
}

/// What to do about a session that the sink ended. With TLS 1.3 a sink judges the client certificate after the handshake, and
/// its alert is lost where a write finds the connection closed before the alert is read.
fn about_ended_session(error: Cause<'_>, identity: &ClientIdentity) -> Option<&'static str> {
    about_alert(error).or_else(|| identity.was_missed().then_some(CERTIFICATE_WANTED))
}

type Body = Empty<Bytes>;

fn request(uri: &Uri, headers: &HeaderMap, version: Version) -> http::Result<Request<Body>> {
    let mut request = Request::builder().method(Method::OPTIONS).version(version);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = match version {
        Version::HTTP_2 => request.uri(uri.clone()),
        _ => {
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            let host = uri.authority().map_or("", |authority| authority.as_str());
            request.uri(path).header(HOST, host)
        }
    };
    request.body(Empty::new())
}

async fn over_http1<S>(stream: TokioIo<S>, request: Request<Body>) -> hyper::Result<Response<Incoming>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut builder = http1::Builder::new();
    builder.ignore_invalid_headers_in_responses(true).max_headers(MAX_HEADERS).max_buf_size(MAX_HEAD);
    let (mut sender, connection) = builder.handshake(stream).await?;
    answer_on(connection, sender.send_request(request)).await
}

async fn over_http2<S>(stream: TokioIo<S>, request: Request<Body>) -> hyper::Result<Response<Incoming>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_header_list_size(MAX_HEAD as u32);
    let (mut sender, connection) = builder.handshake(stream).await?;
    answer_on(connection, sender.send_request(request)).await
}

/// Drives the connection until the answer is there. It may end with the answer in hand; where it ends without, its own error
/// says why, the answer's only that it does not come.
async fn answer_on<T>(
    connection: impl Future<Output = hyper::Result<()>>,
    answer: impl Future<Output = hyper::Result<T>>,
) -> hyper::Result<T> {
    let mut answer = std::pin::pin!(answer);
    select! {
        answer = &mut answer => answer,
        ended = connection => match (answer.await, ended) {
            (Err(_), Err(error)) => Err(error),
            (answer, _) => answer,
        },
    }
}
