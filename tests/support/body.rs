//! An HTTP body that may be cut before its end.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// A body that may announce more than it has.
pub struct CutBody {
    data: Option<Bytes>,
    announced: u64,
}

impl Body for CutBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.data.take() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None if self.announced > 0 => Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into()))),
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.announced {
            0 => SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64)),
            announced => SizeHint::with_exact(announced),
        }
    }
}

impl CutBody {
    /// A body with this text. It is whole if `announced` is 0, else it announces so many bytes and is cut.
    pub fn new(text: impl Into<Bytes>, announced: u64) -> Self {
        Self { data: Some(text.into()), announced }
    }
}
