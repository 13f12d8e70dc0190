//! What to try again, and when. Pure: time and chance are arguments.

use std::time::Duration;

pub use crate::config::Backoff;

/// What an answer of the sink, or its absence, means for the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Acknowledged.
    Delivered,
    /// The fault lies with the sink: the same event may work later.
    SinkFault,
    /// The fault lies with the event: another try would fail in the same way.
    EventFault,
}

/// Judges an HTTP status.
///
/// 401 and 403 are faults of the sink's set-up, 404 of its routing; a proxy or a broker answers them while it is being
/// changed. Redirects that are not followed and all other 4xx say that this request will never be taken.
pub fn judge(status: u16) -> Verdict {
    match status {
        200..=299 => Verdict::Delivered,
        401 | 403 | 404 | 408 | 409 | 425 | 429 | 500..=599 => Verdict::SinkFault,
        _ => Verdict::EventFault,
    }
}

/// Whether `Retry-After` of an answer with this status is honoured.
pub fn honours_retry_after(status: u16) -> bool {
    matches!(status, 429 | 503)
}

/// Exponential backoff with full jitter between the configured bounds.
impl Backoff {
    /// The pause after so many failures in a row, at least 1. `chance` is drawn evenly from 0 to 1.
    pub fn pause(&self, failures: u32, chance: f64) -> Duration {
        let spread = self.ceiling(failures).saturating_sub(self.min());
        self.min() + spread.mul_f64(chance.clamp(0.0, 1.0))
    }

    /// Whether pauses have stopped growing after so many failures in a row.
    pub fn is_at_its_slowest(&self, failures: u32) -> bool {
        self.ceiling(failures) >= self.max()
    }

    fn ceiling(&self, failures: u32) -> Duration {
        let factor = 2u32.checked_pow(failures.max(1)).unwrap_or(u32::MAX);
        self.min().saturating_mul(factor).min(self.max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(30)).unwrap()
    }

    #[test]
    fn every_status_of_the_contract_is_judged_as_it_says() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(judge(status), Verdict::Delivered, "{status}");
        }
        for status in [401, 403, 404, 408, 409, 425, 429, 500, 502, 503, 504, 599] {
            assert_eq!(judge(status), Verdict::SinkFault, "{status}");
        }
        for status in [100, 300, 301, 302, 307, 308, 400, 402, 405, 410, 411, 413, 414, 415, 422, 426, 431, 451, 600] {
            assert_eq!(judge(status), Verdict::EventFault, "{status}");
        }
    }

    proptest! {
        #[test]
        fn pauses_stay_within_the_bounds_and_their_ceiling_doubles(failures in 1u32..200, chance in 0.0f64..=1.0) {
            let pause = backoff().pause(failures, chance);
            prop_assert!(pause >= Duration::from_millis(100) && pause <= Duration::from_secs(30));
            let ceiling = backoff().pause(failures, 1.0);
            let next = backoff().pause(failures + 1, 1.0);
            prop_assert!(next >= ceiling && next <= ceiling * 2 + Duration::from_millis(1));
            prop_assert_eq!(backoff().is_at_its_slowest(failures), ceiling == Duration::from_secs(30));
        }
    }
}
