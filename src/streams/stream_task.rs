//! A stream that is to be read, and how that ends.

use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::progress::table_tracker::StreamHandle;
use crate::records::{InitialPosition, ShardId};

/// The id of the shard that stands for a stream that vanished: in the file of positions and in `/status`.
pub(super) const WHOLE_STREAM: &str = "the-whole-stream";

/// How reading a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// It is disabled and was read to its end.
    Drained,
    /// AWS does not know it any more.
    Missing,
    /// Data was lost and the policy is to stop.
    Lost,
}

impl StreamEnd {
    /// The end in words, for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamEnd::Drained => "disabled and read to its end",
            StreamEnd::Missing => "it no longer exists",
            StreamEnd::Lost => "data was lost",
        }
    }
}

/// A stream that was read.
#[derive(Debug)]
pub struct EndedStream {
    pub end: StreamEnd,
    /// None if nothing of it was begun.
    pub handle: Option<StreamHandle>,
}

/// A stream that is to be read.
#[derive(Debug)]
pub struct StreamTask {
    pub arn: String,
    /// The streams of the table are counted, in the order in which they are read.
    pub number: u32,
    /// An earlier run has begun with it: it is read from where that one has left it, and otherwise from `initial`.
    pub is_resumed: bool,
    pub initial: InitialPosition,
    /// An earlier run has begun with the next one.
    pub is_superseded: bool,
    /// The number of the newest stream that was begun.
    pub newest: watch::Receiver<u32>,
    /// Told when the stream is drained, and when it is not any more.
    pub drained: watch::Sender<bool>,
}

/// A shard that has a reader, or is going to be ended.
pub(super) struct RunningShard {
    pub(super) id: ShardId,
    pub(super) closed: CancellationToken,
    /// Its reader is told here that a pass is due.
    pub(super) pass_due: Arc<Notify>,
    /// It was read to its end: its reader makes passes only.
    pub(super) has_ended: bool,
}

impl RunningShard {
    /// One whose end is not known yet.
    pub(super) fn of(id: ShardId) -> Self {
        Self { id, closed: CancellationToken::new(), pass_due: Arc::default(), has_ended: false }
    }
}
