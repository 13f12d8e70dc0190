//! What an error of the HTTP client means: which [`TransportError`] it is, and one line that names its causes and what to do.
//!
//! Errors are told by their types. Only an alert over HTTP/2 is told by its text: nothing else is left of it.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::Duration;

use hyper_util::client::legacy;
use rustix::io::Errno;
use rustls::{AlertDescription, CertificateError, OtherError};

use super::{SinkResponse, TransportError};
use crate::error_text::{Cause, causes, chain};

/// What to do where the sink asks for a certificate and ends the connection when it gets none.
pub(crate) const CERTIFICATE_WANTED: &str =
    "the sink asks for a client certificate: set SINK_CLIENT_CERT_FILE and SINK_CLIENT_KEY_FILE";

/// What to do where a connection cannot be made for want of a file descriptor.
const NO_DESCRIPTOR: &str = "nothing is sent: this process or machine has no file descriptor left for a connection; raise the limit of \
    open files (ulimit -Hn; LimitNOFILE= of the service or of the container runtime), or lower DELIVERY_CONCURRENCY";

/// How rustls writes an alert, before its name.
const ALERT_TEXT: &str = "received fatal alert: ";

/// Why an attempt got no status.
#[derive(Debug)]
pub(super) struct TransportFailure {
    error: TransportError,
    message: Option<String>,
}

impl TransportFailure {
    pub(super) fn timeout() -> Self {
        Self { error: TransportError::Timeout, message: None }
    }

    /// Nothing was sent, because of files.
    pub(super) fn unsent(why: &str) -> Self {
        Self { error: TransportError::Credentials, message: Some(format!("nothing is sent: {why}")) }
    }

    /// The sink had asked for a certificate, and got none.
    pub(super) fn without_certificate(self) -> Self {
        let message = self.message.unwrap_or_default();
        let message = match message.starts_with(CERTIFICATE_WANTED) {
            true => message,
            false => format!("{CERTIFICATE_WANTED} ({message})"),
        };
        Self { error: TransportError::Tls, message: Some(message) }
    }

    /// What the client says went wrong.
    pub(super) fn of(error: &legacy::Error) -> Self {
        let what = describe(error);
        if chain(error).any(is_shortage) {
            return Self { error: TransportError::Descriptors, message: Some(format!("{NO_DESCRIPTOR} ({what})")) };
        }
        let tls = chain(error).find_map(|cause| cause.downcast_ref::<rustls::Error>());
        let is_tls = tls.is_some() || what.contains(ALERT_TEXT);
        let message = match tls.and_then(advice).or_else(|| about_alert(error)) {
            Some(advice) => format!("{advice} ({what})"),
            None => what,
        };
        Self { error: if is_tls { TransportError::Tls } else { error_of(error) }, message: Some(message) }
    }

    pub(super) fn into_response(self, timeout: Duration) -> SinkResponse {
        let message =
            self.message.unwrap_or_else(|| format!("no answer within {}", humantime::format_duration(timeout)));
        SinkResponse::Failed { error: self.error, message }
    }
}

/// Whether a file or connection could not be opened because too many are.
fn is_shortage(cause: Cause<'_>) -> bool {
    let errno = cause.downcast_ref().and_then(Errno::from_io_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

/// What an error is in which no TLS library had a part.
fn error_of(error: &legacy::Error) -> TransportError {
    if error.is_connect() {
        // The TCP connector wraps its errors in a type of its own, the TLS connector does not.
        let in_handshake = error.source().is_some_and(|cause| cause.is::<io::Error>());
        return if in_handshake { TransportError::Tls } else { TransportError::Connect };
    }
    chain(error).find_map(error_of_cause).unwrap_or(TransportError::Other)
}

fn error_of_cause(cause: Cause<'_>) -> Option<TransportError> {
    if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        return match error {
            e if e.is_timeout() => Some(TransportError::Timeout),
            e if e.is_parse() || e.is_parse_too_large() => Some(TransportError::Malformed),
            e if e.is_incomplete_message() || e.is_canceled() || e.is_closed() => Some(TransportError::Reset),
            _ => None,
        };
    }
    match cause.downcast_ref::<io::Error>()?.kind() {
        ErrorKind::TimedOut => Some(TransportError::Timeout),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof => Some(TransportError::Reset),
        _ => None,
    }
}

/// What to do about a session that does not come about.
fn advice(error: &rustls::Error) -> Option<&'static str> {
    match error {
        rustls::Error::InvalidCertificate(problem) => about_certificate(problem),
        rustls::Error::PeerIncompatible(_) => {
            Some("the sink offers no supported version of TLS (1.2 or 1.3): update the sink")
        }
        rustls::Error::InvalidMessage(_) => {
            Some("the sink speaks no TLS on this port: check the URL's scheme and port")
        }
        _ => None,
    }
}

/// What is wrong with the sink's certificate, and what to do about it.
pub(crate) fn about_certificate(problem: &CertificateError) -> Option<&'static str> {
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Some("the sink's certificate has expired: renew it")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Some("the sink's certificate is not valid yet: check the clocks")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Some("the sink's certificate is for another host: check the URL")
        }
        // A signature is bad where an authority of the same name, but another key, is trusted: a rotated one.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Some(
            "the sink's certificate comes from an authority that is not trusted here: add it to K_CA_CERTS or to the \
             folder CA_CERTS_DIR",
        ),
        // What `openssl req -x509` makes unless it is told otherwise.
        CertificateError::Other(other) if is_authority_as_end_entity(other) => Some(
            "the sink shows the certificate of an authority as its own: give it a certificate with basicConstraints \
             CA:FALSE",
        ),
        _ => None,
    }
}

/// The verifier's own error: rustls has no variant for it.
fn is_authority_as_end_entity(error: &OtherError) -> bool {
    matches!(error.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// What to do about the alert with which the sink ended the session, if the error tells of one: by its type, or by its text, since
/// HTTP/2 keeps nothing else.
pub(crate) fn about_alert(error: Cause<'_>) -> Option<&'static str> {
    let alert = chain(error).find_map(|cause| match cause.downcast_ref() {
        Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
        _ => None,
    });
    alert.or_else(|| alert_in(&causes(error))).and_then(advice_on_alert)
}

fn alert_in(text: &str) -> Option<AlertDescription> {
    let (_, alert) = text.split_once(ALERT_TEXT)?;
    let name = alert.split(|c: char| !c.is_ascii_alphanumeric()).next()?;
    (0..=u8::MAX).map(AlertDescription::from).find(|known| format!("{known:?}") == name)
}

/// What a sink says about the certificate that it got, or did not get: the alerts of RFC 8446, section 6.2.
fn advice_on_alert(alert: AlertDescription) -> Option<&'static str> {
    match alert {
        AlertDescription::CertificateRequired => Some(CERTIFICATE_WANTED),
        AlertDescription::CertificateExpired => Some("the sink refuses the client certificate as expired: renew it"),
        AlertDescription::UnknownCA => {
            Some("the sink does not trust the authority of the client certificate: check SINK_CLIENT_CERT_FILE")
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => {
            Some("the sink refuses the client certificate: check SINK_CLIENT_CERT_FILE")
        }
        AlertDescription::ProtocolVersion => Some("the sink accepts neither TLS 1.2 nor TLS 1.3: update the sink"),
        AlertDescription::UnrecognisedName => Some("the sink does not serve the host in the URL: check the URL"),
        _ => None,
    }
}

/// The error's causes in one line, without the outermost, which says only that there is one.
fn describe(error: &legacy::Error) -> String {
    error.source().map_or_else(|| error.to_string(), causes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connects to nothing.
    #[derive(Clone)]
    struct Failing(i32);

    impl tower_service::Service<http::Uri> for Failing {
        type Response = hyper_util::rt::TokioIo<tokio::net::TcpStream>;
        type Error = io::Error;
        type Future = std::future::Ready<Result<Self::Response, io::Error>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Uri) -> Self::Future {
            std::future::ready(Err(io::Error::from_raw_os_error(self.0)))
        }
    }

    async fn failure(errno: i32) -> TransportFailure {
        let client = legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
        let client = client.build::<_, http_body_util::Empty<bytes::Bytes>>(Failing(errno));
        let answer = client.get("http://sink.example/".parse().expect("a URL")).await;
        TransportFailure::of(&answer.expect_err("no connection"))
    }

    #[tokio::test]
    async fn a_shortage_of_descriptors_is_told_as_what_it_is() {
        for errno in [Errno::MFILE, Errno::NFILE] {
            let TransportFailure { error, message } = failure(errno.raw_os_error()).await;
            assert_eq!(error, TransportError::Descriptors);
            let message = message.expect("a message");
            assert!(message.contains("no file descriptor left") && message.contains("ulimit -Hn"), "{message}");
        }
        assert_ne!(failure(Errno::CONNREFUSED.raw_os_error()).await.error, TransportError::Descriptors);
    }

    #[test]
    fn an_alert_is_found_in_a_text_by_the_name_that_rustls_gives_it() {
        let known = (0..=u8::MAX).map(AlertDescription::from).filter(|it| !matches!(it, AlertDescription::Unknown(_)));
        let mut seen = 0;
        for alert in known {
            let text = format!("connection error: {}: goodbye", rustls::Error::AlertReceived(alert));
            assert_eq!(alert_in(&text), Some(alert), "{text}");
            seen += 1;
        }
        assert!(seen > 30, "only {seen} alerts are known");
        let unknown = rustls::Error::AlertReceived(AlertDescription::Unknown(0xee)).to_string();
        for text in [&unknown, "received fatal alert: Nonsense", "CertificateRequired", ""] {
            assert_eq!(alert_in(text), None, "{text}");
        }
        assert!(unknown.contains(ALERT_TEXT));
    }
}
