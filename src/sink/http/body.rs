//! An answer's body: read to its end, so that the connection can be used again, but not without limit.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, timeout_at};

/// What arrived of a body.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    /// Whether that is all of it.
    pub(super) complete: bool,
}

/// What arrives of a body until its end, `limit` bytes of it, a fault or the deadline. In the last three cases the connection
/// is given up, and nothing else: the status has been told already.
pub(super) async fn read(mut body: Incoming, limit: usize, deadline: Instant) -> Body {
    let mut read = BytesMut::new();
    let complete = loop {
        if body.is_end_stream() {
            break true;
        }
        if read.len() >= limit {
            break false;
        }
        match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    let room = limit - read.len();
                    read.extend_from_slice(&data[..data.len().min(room)]);
                    if data.len() > room {
                        break false;
                    }
                }
            }
            Ok(end) => break end.is_none(),
            Err(_) => break false,
        }
    };
    Body { bytes: read.freeze(), complete }
}
