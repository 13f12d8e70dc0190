//! How much goes into a request, judged before its body is made. Pure.
//!
//! Contract: the bodies under way take at most [`MemoryLimits::bodies`], or are one; none is longer than
//! [`MemoryLimits::event_bytes`]. What is certain to fit is not looked at more closely: an upper bound is enough.

use super::pending_event::PendingEvent;

/// How much delivery may keep, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimits {
    /// What waits in one lane, unless it is one event; and what is parked together.
    pub lane: usize,
    /// The bodies under way together, unless it is one.
    pub bodies: usize,
    /// One body.
    pub event_bytes: usize,
}

impl MemoryLimits {
    /// Of a process that keeps `buffer` bytes of records. `may_leave_out`: what a lane has no room for can be read again.
    pub fn of(buffer: usize, event_bytes: usize, may_leave_out: bool) -> Self {
        let lane = if may_leave_out { buffer / 8 } else { usize::MAX };
        Self { lane, bodies: buffer / 4, event_bytes }
    }
}

/// A request that is being filled.
pub(super) struct RequestLoad {
    is_batch: bool,
    /// From so many bytes on, a batch is full.
    limit: usize,
    /// The most bytes of one event.
    event_bytes: usize,
    /// Up to so many bytes nobody looks closer: there is room for so much in every place.
    cheap: usize,
    /// So many bytes may come to those that are under way.
    room: usize,
    events: usize,
    /// Of its body, or more than that.
    pub(super) bytes: usize,
    /// Its only event would have so many bytes, which is too much.
    pub(super) too_long: Option<usize>,
    /// An event had to wait for others to end.
    pub(super) lacks_room: bool,
}

impl RequestLoad {
    /// Nothing yet. A batch is full from `batch_bytes` on; bodies of `under_way` bytes are with the sink.
    pub(super) fn new(
        is_batch: bool,
        batch_bytes: usize,
        memory: &MemoryLimits,
        concurrency: usize,
        under_way: usize,
    ) -> Self {
        let room = if under_way == 0 { usize::MAX } else { memory.bodies.saturating_sub(under_way) };
        Self {
            is_batch,
            limit: batch_bytes,
            event_bytes: memory.event_bytes,
            cheap: memory.bodies / concurrency.max(1),
            room,
            events: 0,
            bytes: 0,
            too_long: None,
            lacks_room: false,
        }
    }

    /// Takes an event in, if there is room.
    pub(super) fn take(&mut self, event: &PendingEvent) -> bool {
        if self.too_long.is_some() {
            return false;
        }
        let is_batch = self.is_batch && event.dead_letter.is_none();
        let bound = event.body_bound();
        let length = match is_batch || bound > self.event_bytes || bound > self.room.min(self.cheap) {
            true => event.body_len(),
            false => bound,
        };
        if length > self.event_bytes && event.dead_letter.is_none() {
            let is_alone = self.events == 0;
            self.too_long = is_alone.then_some(length);
            return is_alone;
        }
        let bytes = match (is_batch, self.events) {
            (false, _) => length,
            (true, 0) => "[]".len() + length,
            (true, _) => self.bytes + ",".len() + length,
        };
        if self.events > 0 && bytes > self.limit {
            return false;
        }
        if bytes > self.room {
            self.lacks_room = self.events == 0;
            return false;
        }
        (self.events, self.bytes) = (self.events + 1, bytes);
        true
    }
}
