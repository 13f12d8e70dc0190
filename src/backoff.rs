//! Pauses that grow with the failures in a row, up to a bound, with chance in them so that clients do not retry in step.
//! Pure: chance is an argument, drawn evenly from 0 to 1.

use std::time::Duration;

/// The bounds of the pauses: the first is positive and no longer than the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
}

/// The bounds do not make a backoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a backoff needs a positive shortest pause that is no longer than its longest")]
pub struct InvalidBackoff;

impl Backoff {
    /// Pauses from `min` to `max`.
    ///
    /// # Errors
    /// When `min` is zero or longer than `max`.
    pub fn new(min: Duration, max: Duration) -> Result<Self, InvalidBackoff> {
        match min.is_zero() || min > max {
            true => Err(InvalidBackoff),
            false => Ok(Self { min, max }),
        }
    }

    /// The shortest pause before jitter.
    pub fn min(&self) -> Duration {
        self.min
    }

    /// The longest pause, `Retry-After` included.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The pause after so many failures in a row, at least 1: full jitter, from the shortest pause to a ceiling that
    /// doubles with every failure.
    pub fn pause(&self, failures: u32, chance: f64) -> Duration {
        let spread = self.ceiling(failures).saturating_sub(self.min);
        self.min + spread.mul_f64(chance.clamp(0.0, 1.0))
    }

    /// Whether pauses have stopped growing after so many failures in a row.
    pub fn is_at_its_slowest(&self, failures: u32) -> bool {
        self.ceiling(failures) >= self.max
    }

    fn ceiling(&self, failures: u32) -> Duration {
        doubled(self.min, failures.max(1), self.max)
    }
}

/// The pause after so many failures in a row, at least 1: between a half and the whole of a ceiling that begins with `min`
/// and doubles with every further failure, up to `max`. For AWS's calls, which are retried by one caller each.
pub(crate) fn pause_after(failures: u32, min: Duration, max: Duration, chance: f64) -> Duration {
    let ceiling = doubled(min, failures.saturating_sub(1), max);
    ceiling.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
}

fn doubled(min: Duration, times: u32, max: Duration) -> Duration {
    let factor = 2u32.checked_pow(times).unwrap_or(u32::MAX);
    min.saturating_mul(factor).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(30);

    #[test]
    fn bounds_are_positive_and_in_order() {
        assert!(Backoff::new(MAX, MAX).is_ok());
        assert_eq!(Backoff::new(MAX, MIN), Err(InvalidBackoff));
        assert_eq!(Backoff::new(Duration::ZERO, MAX), Err(InvalidBackoff));
    }

    #[test]
    fn pauses_between_calls_double_from_the_shortest_and_lose_at_most_a_half() {
        assert_eq!(pause_after(1, MIN, MAX, 1.0), MIN);
        assert_eq!(pause_after(1, MIN, MAX, 0.0), MIN / 2);
        assert_eq!(pause_after(4, MIN, MAX, 1.0), 8 * MIN);
        assert_eq!(pause_after(u32::MAX, MIN, MAX, 1.0), MAX);
    }

    proptest! {
        #[test]
        fn pauses_stay_within_the_bounds_and_their_ceiling_doubles(failures in 1u32..200, chance in 0.0f64..=1.0) {
            let backoff = Backoff::new(MIN, MAX).unwrap();
            let pause = backoff.pause(failures, chance);
            prop_assert!(pause >= MIN && pause <= MAX);
            let ceiling = backoff.pause(failures, 1.0);
            let next = backoff.pause(failures + 1, 1.0);
            prop_assert!(next >= ceiling && next <= ceiling * 2 + Duration::from_millis(1));
            prop_assert_eq!(backoff.is_at_its_slowest(failures), ceiling == MAX);
        }
    }
}
