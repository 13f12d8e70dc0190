//! An answer's body: read to its end, so that the connection can be used again, but not without limit.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, timeout_at};

/// What arrives of a body until its end, its limit, a fault or the deadline. In the last three cases the connection
/// is given up, and nothing else: the status has been told already.
pub(super) async fn read(mut body: Incoming, limit: usize, deadline: Instant) -> Bytes {
    let mut read = BytesMut::new();
    while !body.is_end_stream() && read.len() < limit {
        let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await else {
            break;
        };
        if let Ok(data) = frame.into_data() {
            let room = limit - read.len();
            read.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    read.freeze()
}
