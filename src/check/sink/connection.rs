//! One connection to the sink, made step by step so that each can be told apart.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::select_ok;
use http::header::HOST;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error_text::causes;
use crate::sink::{SinkSettings, SinkSetupError, about_certificate, tls_config};

/// How long an address has before the next one is tried as well.
const HEAD_START: Duration = Duration::from_millis(300);

/// What to do where nobody answers a handshake rightly.
const NO_TLS: &str = "check that the port speaks TLS, or use the scheme http in the URL";

/// A connection that is ready for a request.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why there is no TLS session.
pub(super) struct Insecure {
    pub(super) what: String,
    pub(super) remedy: String,
}

impl Insecure {
    /// The other side did not go on.
    pub(super) fn silent(what: String) -> Self {
        Self { what, remedy: NO_TLS.into() }
    }
}

/// The first of these addresses that takes a connection; like the adapter's own client it does not wait for one that is
/// silent before it tries the next.
pub(super) async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let attempts = (0u32..).zip(addresses).map(|(turn, address)| {
        Box::pin(async move {
            tokio::time::sleep(HEAD_START * turn).await;
            let connected = TcpStream::connect(address).await;
            connected.map_err(|error| format!("cannot connect to {address}: {error}"))
        })
    });
    select_ok(attempts).await.map(|(stream, _)| stream)
}

/// The session on a connection, and its version. The certificate is checked as the adapter checks it.
pub(super) async fn secure(
    stream: TcpStream,
    host: &str,
    settings: &SinkSettings,
) -> Result<(Stream, &'static str), Insecure> {
    let config = client_config(settings)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| Insecure {
        what: format!("the host {host} is not a valid server name for TLS: {error}"),
        remedy: "use a DNS name in the URL".into(),
    })?;
    let session = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let session = session.map_err(|error| insecure(&error))?;
    let version = match session.get_ref().1.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS 1.3",
    };
    Ok((Stream::Tls(Box::new(session)), version))
}

/// The same as the adapter's own.
fn client_config(settings: &SinkSettings) -> Result<ClientConfig, Insecure> {
    tls_config(settings).map_err(|error| match error {
        SinkSetupError::NoRoots(_) => Insecure {
            what: error.to_string(),
            remedy: "apt-get install ca-certificates, or add the certificate of the sink's CA to K_CA_CERTS".into(),
        },
        _ => Insecure { what: error.to_string(), remedy: "report this as a bug of the adapter".into() },
    })
}

fn insecure(error: &io::Error) -> Insecure {
    let certificate = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(problem)) => Some(problem),
        _ => None,
    };
    let remedy = match certificate {
        Some(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => "renew the sink's certificate",
        Some(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            "set the clocks: the certificate is not valid yet"
        }
        Some(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
            "use a host in the URL that the certificate contains"
        }
        Some(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "add the CA that signed the certificate, as PEM, to K_CA_CERTS or to a file in the folder CA_CERTS_DIR"
        }
        Some(problem) => about_certificate(problem).unwrap_or("replace the sink's certificate"),
        None => NO_TLS,
    };
    Insecure { what: format!("the TLS handshake failed: {}", causes(error)), remedy: remedy.into() }
}

/// The answer's status and headers.
pub(super) async fn options(stream: Stream, uri: &Uri, headers: &HeaderMap) -> Result<(StatusCode, HeaderMap), String> {
    let answer = match stream {
        Stream::Plain(stream) => over_http1(TokioIo::new(stream), request(uri, headers, Version::HTTP_11)?).await,
        Stream::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            over_http2(TokioIo::new(*stream), request(uri, headers, Version::HTTP_2)?).await
        }
        Stream::Tls(stream) => over_http1(TokioIo::new(*stream), request(uri, headers, Version::HTTP_11)?).await,
    };
    let (head, _) = answer.map_err(|error| causes(&error))?.into_parts();
    Ok((head.status, head.headers))
}

type Body = Empty<Bytes>;

fn request(uri: &Uri, headers: &HeaderMap, version: Version) -> Result<Request<Body>, String> {
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
    request.body(Empty::new()).map_err(|error| error.to_string())
}

async fn over_http1<S>(stream: TokioIo<S>, request: Request<Body>) -> hyper::Result<Response<Incoming>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(stream).await?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // It may end with the answer in hand.
        _ = connection => answer.await,
    }
}

async fn over_http2<S>(stream: TokioIo<S>, request: Request<Body>) -> hyper::Result<Response<Incoming>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}
