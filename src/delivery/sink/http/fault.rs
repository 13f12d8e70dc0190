//! What an error of the HTTP client means, and how to say it in one line.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::Duration;

use hyper_util::client::legacy;
use rustls::CertificateError;

use crate::delivery::sink::{Answer, Fault};
use crate::error_text::{Cause, causes, chain};

const CERTIFICATE_WANTED: &str =
    "the sink asks for a client certificate: set SINK_CLIENT_CERT_FILE and SINK_CLIENT_KEY_FILE";

/// An attempt without a status.
#[derive(Debug)]
pub(super) struct Failure {
    fault: Fault,
    message: Option<String>,
}

impl Failure {
    pub(super) fn timeout() -> Self {
        Self { fault: Fault::Timeout, message: None }
    }

    /// Nothing was sent, because of files.
    pub(super) fn unsent(why: &str) -> Self {
        Self { fault: Fault::Credentials, message: Some(format!("nothing is sent: {why}")) }
    }

    /// The sink had asked for a certificate, and got none.
    pub(super) fn without_certificate(self) -> Self {
        let message = self.message.unwrap_or_default();
        let message = match message.starts_with(CERTIFICATE_WANTED) {
            true => message,
            false => format!("{CERTIFICATE_WANTED} ({message})"),
        };
        Self { fault: Fault::Tls, message: Some(message) }
    }

    pub(super) fn of(error: &legacy::Error) -> Self {
        let what = describe(error);
        let alert = alert_in(&what);
        let fault = if alert.is_some() { Fault::Tls } else { fault_of(error) };
        let advice = chain(error).find_map(|cause| cause.downcast_ref()).and_then(advice);
        let message = match advice.or(alert.and_then(about)) {
            Some(advice) => format!("{advice} ({what})"),
            None => what,
        };
        Self { fault, message: Some(message) }
    }

    pub(super) fn into_answer(self, timeout: Duration) -> Answer {
        let message =
            self.message.unwrap_or_else(|| format!("no answer within {}", humantime::format_duration(timeout)));
        Answer::Failed { fault: self.fault, message }
    }
}

fn fault_of(error: &legacy::Error) -> Fault {
    if chain(error).any(|cause| cause.is::<rustls::Error>()) {
        return Fault::Tls;
    }
    if error.is_connect() {
        // The TCP connector wraps its errors in a type of its own, the TLS connector does not.
        let in_handshake = error.source().is_some_and(|cause| cause.is::<io::Error>());
        return if in_handshake { Fault::Tls } else { Fault::Connect };
    }
    chain(error).find_map(fault_of_cause).unwrap_or(Fault::Other)
}

fn fault_of_cause(cause: Cause<'_>) -> Option<Fault> {
    if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        return match error {
            e if e.is_timeout() => Some(Fault::Timeout),
            e if e.is_parse() || e.is_parse_too_large() => Some(Fault::Malformed),
            e if e.is_incomplete_message() || e.is_canceled() || e.is_closed() => Some(Fault::Reset),
            _ => None,
        };
    }
    match cause.downcast_ref::<io::Error>()?.kind() {
        ErrorKind::TimedOut => Some(Fault::Timeout),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof => Some(Fault::Reset),
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
pub fn about_certificate(problem: &CertificateError) -> Option<&'static str> {
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
        // What `openssl req -x509` makes unless it is told otherwise. The verifier has no variant of its own for it.
        other if other.to_string().contains("CaUsedAsEndEntity") => Some(
            "the sink shows the certificate of an authority as its own: give it a certificate with basicConstraints \
             CA:FALSE",
        ),
        _ => None,
    }
}

/// What the sink ended the session with. HTTP/2 keeps no more of an error than its text, so it is looked for there.
fn alert_in(what: &str) -> Option<&str> {
    let (_, alert) = what.split_once("received fatal alert: ")?;
    alert.split(|c: char| !c.is_ascii_alphanumeric()).next()
}

/// What to do about the alert that an error's text tells of, with which the sink ended the session.
pub fn about_alert(what: &str) -> Option<&'static str> {
    alert_in(what).and_then(about)
}

/// What a sink says about the certificate that it got, or did not get: the alerts of RFC 8446, section 6.2.
fn about(alert: &str) -> Option<&'static str> {
    match alert {
        "CertificateRequired" => Some(CERTIFICATE_WANTED),
        "CertificateExpired" => Some("the sink refuses the client certificate as expired: renew it"),
        "UnknownCA" => {
            Some("the sink does not trust the authority of the client certificate: check SINK_CLIENT_CERT_FILE")
        }
        "BadCertificate" | "UnsupportedCertificate" | "CertificateRevoked" | "CertificateUnknown" | "AccessDenied" => {
            Some("the sink refuses the client certificate: check SINK_CLIENT_CERT_FILE")
        }
        "ProtocolVersion" => Some("the sink accepts neither TLS 1.2 nor TLS 1.3: update the sink"),
        "UnrecognisedName" => Some("the sink does not serve the host in the URL: check the URL"),
        _ => None,
    }
}

/// The error's causes in one line, without the outermost, which says only that there is one.
fn describe(error: &legacy::Error) -> String {
    error.source().map_or_else(|| error.to_string(), causes)
}
