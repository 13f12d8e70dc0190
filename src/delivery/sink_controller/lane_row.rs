//! Distinct lanes to which the same happened in a row. Pure.

use tokio::time::Instant;

/// So many prove that the sink as a whole is meant.
pub(super) const ENOUGH: usize = 64;

/// The lanes of a row, each once. Only failures look at it, and it holds no more lanes than prove something.
#[derive(Debug)]
pub(super) struct LaneRow {
    lanes: [u64; ENOUGH],
    len: usize,
    since: Option<Instant>,
}

impl LaneRow {
    pub(super) fn new() -> Self {
        Self { lanes: [0; ENOUGH], len: 0, since: None }
    }

    /// One more; it may be in it already.
    pub(super) fn add(&mut self, lane: u64, now: Instant) {
        self.since.get_or_insert(now);
        if self.len < ENOUGH && !self.lanes[..self.len].contains(&lane) {
            self.lanes[self.len] = lane;
            self.len += 1;
        }
    }

    /// The row is over.
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.since = None;
    }

    /// How many distinct lanes, at most [`ENOUGH`].
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// When its first lane came.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }
}
