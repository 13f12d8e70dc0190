//! How long a reader of a shard waits for its next page, how much it asks for, and when it makes passes.
//!
//! Contract:
//! - Whoever was quiet for a time T waits at most a tenth of T for the next event, within the configured bounds.
//! - Passes over what is left out take at most a third of a reader's time.

use std::time::Duration;

use tokio::time::Instant;

use super::PollIntervals;
use super::client::PAGE_RECORDS;
use crate::aws::errors::{CallError, ErrorKind};
use crate::backoff::pause_after;
use crate::progress::buffer::Buffer;

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Credentials and permissions are mended by people.
const DENIED_PAUSE_MIN: Duration = Duration::from_secs(2);
const DENIED_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A closed shard is asked so often at once although its pages are empty.
const EMPTY_PAGES_AT_ONCE: u32 = 10;
const EMPTY_PAGE_PAUSE: Duration = Duration::from_millis(10);
/// Room is set aside for at least so many bytes of a page.
const EXPECTED_MIN: usize = 16 << 10;
/// A page that was too much for the line is not asked for again so soon.
const SMALL_PAGES: Duration = Duration::from_secs(5 * 60);

/// A page near the service's limit of 1 MB was cut by size: more is waiting.
const FULL_PAGE_BYTES: usize = 900_000;

/// How often it is asked whether something left out is about to be trimmed.
pub(super) const AGE_LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// How many records a page may have: less where the line is too slow for a whole one.
#[derive(Debug, Default)]
pub(super) struct PageLimit {
    halvings: u32,
    last: Option<Instant>,
}

/// What the last page was like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// Cut at the service's limit: the next page has more.
    Full,
    /// Some records that are new, or none.
    Partial,
}

/// When a reader may make passes.
#[derive(Debug)]
pub(super) struct PassPace {
    /// Not before this moment.
    pub(super) next: Instant,
    look_for_age: Instant,
}

impl PageLimit {
    pub(super) fn records(&self) -> u32 {
        (PAGE_RECORDS >> self.halvings).max(1)
    }

    /// A page did not arrive: if that took too long, or it was cut off, the next one is smaller.
    pub(super) fn failed(&mut self, error: &CallError) {
        if matches!(error.code.as_str(), "timeout" | "other") {
            (self.halvings, self.last) = ((self.halvings + 1).min(PAGE_RECORDS.ilog2() + 1), Some(Instant::now()));
        }
    }

    pub(super) fn arrived(&mut self) {
        if self.last.is_some_and(|last| last.elapsed() >= SMALL_PAGES) {
            self.halvings = self.halvings.saturating_sub(1);
            self.last = (self.halvings > 0).then(Instant::now);
        }
    }
}

impl Fill {
    /// Judges a page by what it held.
    pub(super) fn of(records: usize, bytes: usize, limit: u32) -> Self {
        if records >= limit as usize || (records > 0 && bytes >= FULL_PAGE_BYTES) { Fill::Full } else { Fill::Partial }
    }
}

/// What the next page is expected to weigh, after one that weighed so much: room is set aside for twice that, and for an eighth of
/// what was expected before.
pub(super) fn expected(before: usize, weight: usize) -> usize {
    (weight * 2).max(before / 8).clamp(EXPECTED_MIN, Buffer::PAGE)
}

/// The pause before the next page of a shard that may take more records. `quiet` is the time since the last record.
///
/// Every call is billed, empty or not, so a quiet shard is asked less and less often: whoever was quiet for a time T waits at most
/// a tenth of T for the next event.
pub(super) fn pause(intervals: PollIntervals, fill: Fill, quiet: Duration) -> Duration {
    if fill == Fill::Full {
        return Duration::ZERO;
    }
    let PollIntervals { poll_interval, idle_poll_interval_max } = intervals;
    (quiet / 10).clamp(poll_interval, idle_poll_interval_max.max(poll_interval))
}

/// The pause before the next page of a shard that takes no more records: its end is near, but some services give empty pages for a
/// while, or for ever. `empty` is how long it has done that.
pub(super) fn pause_of_closed(intervals: PollIntervals, empty_pages: u32, empty: Duration) -> Duration {
    let doublings = match empty_pages.checked_sub(EMPTY_PAGES_AT_ONCE) {
        None | Some(0) => return Duration::ZERO,
        Some(beyond) => (beyond - 1).min(16),
    };
    (EMPTY_PAGE_PAUSE * (1 << doublings)).min(pause(intervals, Fill::Partial, empty))
}

impl PassPace {
    /// A reader that has made none.
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now, look_for_age: now }
    }

    /// A pass has ended that began then: the next one waits for twice as long.
    pub(super) fn passed(&mut self, begun: Instant, now: Instant) {
        self.next = now + 2 * now.duration_since(begun);
    }

    /// Whether it is time to ask whether something left out is about to be trimmed.
    pub(super) fn is_time_to_look_for_age(&mut self, now: Instant) -> bool {
        let is_time = now >= self.look_for_age;
        if is_time {
            self.look_for_age = now + AGE_LOOK_INTERVAL;
        }
        is_time
    }
}

/// The pause after so many calls in a row that failed, the last one in this way.
pub(super) fn failure_pause(kind: ErrorKind, failures: u32, chance: f64) -> Duration {
    match kind {
        ErrorKind::Denied => pause_after(failures, DENIED_PAUSE_MIN, DENIED_PAUSE_MAX, chance),
        _ => pause_after(failures, PAUSE_MIN, PAUSE_MAX, chance),
    }
}

#[cfg(test)]
mod tests;
