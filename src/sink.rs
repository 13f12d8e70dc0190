//! Transport to a sink: one attempt to hand one message over, and what came of it.
//!
//! A [`Sink`] tries once and reports. `delivery` decides what a response means for the event, and whether and when to try
//! again. Tests put a scripted sink in the place of the HTTP client.

mod connection;
mod connector;
mod credentials;
mod http;
mod reloading_file;
mod response_body;
mod settings;
mod tls;
mod transport_error;

use std::time::{Duration, SystemTime};

use ::http::StatusCode;
use bytes::Bytes;
use futures_util::future::BoxFuture;

pub(crate) use self::connector::connect_tcp;
pub use self::credentials::CredentialReloader;
pub(crate) use self::credentials::without_mark;
pub use self::http::HttpSink;
pub(crate) use self::http::{MAX_HEAD, MAX_HEADERS, MAX_REDIRECTS, redirect_target};
#[cfg(feature = "scaler")]
pub(crate) use self::reloading_file::ReloadingFile;
pub use self::settings::{SinkSettings, SinkSetupError};
pub(crate) use self::tls::{ClientIdentity, ClientTls, client_tls};
pub(crate) use self::transport_error::{CERTIFICATE_WANTED, about_alert, about_certificate};
use crate::event::Message;

/// The most bytes of a refusal's body that are kept: what a `knativeerrordata` attribute may hold.
pub(crate) const BODY_START: usize = 768;

/// What takes events: an HTTP endpoint, or what stands for one in a test.
pub trait Sink: Send + Sync {
    /// Tries once to hand a message over. It ends within `timeout`, connecting and reading the answer included.
    ///
    /// Dropping the future gives the attempt up; the sink may have got the message all the same.
    fn post(&self, message: Message, timeout: Duration) -> BoxFuture<'_, SinkResponse>;
}

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkResponse {
    /// A 2xx. It counts from its status line on: whatever happens to its body afterwards, the sink has the message.
    Accepted {
        status: StatusCode,
        /// What arrived of the body within the attempt, at most 128 KiB of it unless the settings say otherwise.
        body: Bytes,
        /// Whether that is all of it.
        end: BodyEnd,
    },
    /// Another status; or a 2xx whose header `X-Amz-Function-Error` says that the function behind it has failed.
    Refused {
        status: StatusCode,
        /// The header `Retry-After`, where it is there and legible.
        retry_after: Option<RetryAfter>,
        /// The first bytes of the body, at most 768.
        body_start: Bytes,
    },
    Failed {
        /// What kind of error.
        error: TransportError,
        /// What happened, with its causes, in one line; nothing of the message.
        message: String,
    },
}

/// How much of a body is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// All of it.
    Whole,
    /// All that came before the connection was closed. Nothing says how long the body is, and TLS was not ended in order.
    Unclosed,
    /// It was too long or too late, or the connection broke.
    Cut,
    /// It is in a coding that cannot be undone.
    Illegible,
}

/// Until when a sink asks to be left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// For so long, from the answer on.
    Delay(Duration),
    /// Until this moment of the sink's clock, in whole seconds.
    At(SystemTime),
}

/// Why an attempt brought no status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportError {
    /// It took longer than it may.
    Timeout,
    /// No connection: the name does not resolve, nobody listens, no route.
    Connect,
    /// The connection was cut before the answer.
    Reset,
    /// No TLS session: see the message for whose certificate or setting is at fault.
    Tls,
    /// What came back is not HTTP, or its head is too large.
    Malformed,
    /// Nothing was sent: a file without which it may not be sent cannot be used.
    Credentials,
    /// Nothing was sent: this process has no file descriptor left for a connection.
    Descriptors,
    Other,
}

impl TransportError {
    /// The error in one word: the label `code` of the metric `delivery_attempts_total`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Tls => "tls",
            Self::Malformed => "malformed",
            Self::Credentials => "credentials",
            Self::Descriptors => "descriptors",
            Self::Other => "other",
        }
    }

    /// Whether the fault lies with this process, and nothing was sent.
    pub(crate) fn is_own(self) -> bool {
        matches!(self, Self::Credentials | Self::Descriptors)
    }
}
