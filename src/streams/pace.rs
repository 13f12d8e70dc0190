//! How long a shard's reader pauses between two pages. Pure.
//!
//! Every call is billed, empty or not, so a quiet shard is asked less and less often: whoever was quiet for a time T
//! waits at most a tenth of T for the next event.

use std::time::Duration;

/// The most records that a page can hold.
///
/// Source: the `Limit` parameter of `GetRecords` in the DynamoDB Streams API reference.
const FULL_PAGE_RECORDS: usize = 1_000;

/// A page near the service's limit of 1 MB was cut by size: more is waiting.
const FULL_PAGE_BYTES: usize = 900_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The pause after a page that was not full, on an active shard.
    pub poll_interval: Duration,
    /// The longest pause on a quiet shard.
    pub idle_max: Duration,
}

/// What the last page was like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Cut at the service's limit: the next page has more.
    Full,
    /// Some records, or none.
    Partial,
}

impl Fill {
    /// Judges a page by what it held.
    pub fn of(records: usize, bytes: usize) -> Self {
        if records >= FULL_PAGE_RECORDS || (records > 0 && bytes >= FULL_PAGE_BYTES) {
            Fill::Full
        } else {
            Fill::Partial
        }
    }
}

impl Pace {
    /// The pause before the next page. `quiet` is the time since the last record, `closed` says that the shard is
    /// known to take no more records.
    pub fn pause(&self, fill: Fill, quiet: Duration, closed: bool) -> Duration {
        if closed || fill == Fill::Full {
            return Duration::ZERO;
        }
        (quiet / 10).clamp(self.poll_interval, self.idle_max.max(self.poll_interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PACE: Pace = Pace { poll_interval: Duration::from_millis(250), idle_max: Duration::from_secs(5) };

    #[test]
    fn a_full_page_is_followed_at_once() {
        assert_eq!(PACE.pause(Fill::of(1_000, 10_000), Duration::ZERO, false), Duration::ZERO);
        assert_eq!(PACE.pause(Fill::of(400, 1_000_000), Duration::ZERO, false), Duration::ZERO);
    }

    #[test]
    fn a_closed_shard_is_read_without_pauses() {
        assert_eq!(PACE.pause(Fill::of(0, 60), Duration::from_secs(3600), true), Duration::ZERO);
    }

    #[test]
    fn an_active_shard_is_polled_at_the_poll_interval() {
        assert_eq!(PACE.pause(Fill::of(3, 5_000), Duration::ZERO, false), PACE.poll_interval);
    }

    proptest! {
        #[test]
        fn a_quiet_shard_waits_a_tenth_of_its_quiet_time_within_the_bounds(quiet_ms in 0u64..100_000_000) {
            let pause = PACE.pause(Fill::of(0, 60), Duration::from_millis(quiet_ms), false);
            prop_assert!(pause >= PACE.poll_interval && pause <= PACE.idle_max);
            let tenth = Duration::from_millis(quiet_ms) / 10;
            prop_assert!(pause == PACE.poll_interval || pause == PACE.idle_max || pause == tenth);
            prop_assert!(pause <= tenth.max(PACE.poll_interval), "waited longer than a tenth of the quiet time");
        }
    }
}
