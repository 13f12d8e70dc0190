//! The body of an answer: how much of it is read, how long it is waited for, and what its coding hides.
//!
//! Contract: the status was told before, so nothing here fails. What could not be read whole is never taken for whole.

use std::io::{ErrorKind, Read as _};

use ::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use ::http::{HeaderMap, Version, response};
use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, timeout_at};

use super::BodyEnd;
use crate::error_text::chain;

/// What arrived of a body.
#[derive(Debug)]
pub(super) struct ReceivedBody {
    pub(super) bytes: Bytes,
    pub(super) end: BodyEnd,
}

impl ReceivedBody {
    /// What arrives of a body until its end, `limit` bytes of it, a fault or the deadline. In the last three cases the connection
    /// is given up.
    pub(super) async fn read(head: &response::Parts, mut body: Incoming, limit: usize, deadline: Instant) -> Self {
        let mut read = BytesMut::new();
        let end = loop {
            if body.is_end_stream() {
                break BodyEnd::Whole;
            }
            if read.len() >= limit {
                break BodyEnd::Cut;
            }
            match timeout_at(deadline, body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        let room = limit - read.len();
                        read.extend_from_slice(&data[..data.len().min(room)]);
                        if data.len() > room {
                            break BodyEnd::Cut;
                        }
                    }
                }
                Ok(None) => break BodyEnd::Whole,
                Ok(Some(Err(error))) if ends_with_connection(head) && is_unclosed(&error) => break BodyEnd::Unclosed,
                Ok(Some(Err(_))) | Err(_) => break BodyEnd::Cut,
            }
        };
        Self { bytes: read.freeze(), end }
    }

    /// The same without the coding that its headers name; at most `limit` bytes of it.
    ///
    /// None was asked for, but some proxies compress all the same (RFC 9110, section 12.5.3).
    pub(super) fn decoded(self, headers: &HeaderMap, limit: usize) -> Self {
        let mut codings =
            headers.get_all(CONTENT_ENCODING).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
        let coding = codings.find(|coding| !is_identity(coding));
        match coding {
            None => self,
            Some(gzip) if is_gzip(gzip) && codings.all(is_identity) => self.unzipped(limit),
            Some(_) => Self { end: BodyEnd::Illegible, ..self },
        }
    }

    fn unzipped(self, limit: usize) -> Self {
        if self.bytes.is_empty() {
            return self;
        }
        let mut text = Vec::new();
        // One byte more tells a text that is just as long from one that is longer.
        let read = MultiGzDecoder::new(&*self.bytes).take(limit as u64 + 1).read_to_end(&mut text);
        let end = match (read, self.end) {
            (Ok(_), _) if text.len() > limit => BodyEnd::Cut,
            // Its own checksum says that it is whole.
            (Ok(_), BodyEnd::Unclosed) => BodyEnd::Whole,
            (Ok(_), end) => end,
            (Err(_), BodyEnd::Whole) => BodyEnd::Illegible,
            (Err(_), end) => end,
        };
        text.truncate(limit);
        Self { bytes: text.into(), end }
    }
}

fn is_identity(coding: &[u8]) -> bool {
    let coding = coding.trim_ascii();
    coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
}

fn is_gzip(coding: &[u8]) -> bool {
    let coding = coding.trim_ascii();
    coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip")
}

/// Whether nothing but the connection's end tells where the body ends (RFC 9112, section 6.3).
fn ends_with_connection(head: &response::Parts) -> bool {
    let has = |name| head.headers.contains_key(name);
    head.version < Version::HTTP_2 && !has(CONTENT_LENGTH) && !has(TRANSFER_ENCODING)
}

/// Whether TLS ended without `close_notify`: nobody knows whether more was to come.
fn is_unclosed(error: &hyper::Error) -> bool {
    let io = chain(error).find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == ErrorKind::UnexpectedEof)
}
