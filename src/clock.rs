//! Wall time, read here alone, and how moments are written: RFC 3339 in UTC, with a fraction only where there is one.
//!
//! [`now`] is the machine's clock. In a simulation it follows tokio's time instead, which a test can pause and which then
//! leaps from one timer to the next. Durations are no business of this file: they are measured with
//! [`tokio::time::Instant`], which follows the same time and is never set back.

use std::cell::Cell;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};
use tokio::time::Instant;

/// The last year that RFC 3339 can write.
const LAST_YEAR: i32 = 9999;

thread_local! {
    /// What the wall clock of a simulation showed, and when.
    static SIMULATED: Cell<Option<(SystemTime, Instant)>> = const { Cell::new(None) };
}

/// While it lives, [`now`] follows tokio's time on the thread that made it.
#[derive(Debug)]
#[must_use = "wall time is real again as soon as this is dropped"]
pub struct SimulatedClock {
    _stays_on_its_thread: PhantomData<*const ()>,
}

/// The time of day; in a simulation the simulated one.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
pub fn now() -> SystemTime {
    match SIMULATED.get() {
        Some((moment, since)) => moment + since.elapsed(),
        None => SystemTime::now(),
    }
}

/// For simulations: lets the wall clock of this thread show `moment` now, and go on with the time of its runtime.
///
/// Call it inside a runtime of one thread, after its time was paused. Other threads, those of `spawn_blocking` too, keep
/// real time.
pub fn start_at(moment: SystemTime) -> SimulatedClock {
    SIMULATED.set(Some((moment, Instant::now())));
    SimulatedClock { _stays_on_its_thread: PhantomData }
}

impl Drop for SimulatedClock {
    fn drop(&mut self) {
        SIMULATED.set(None);
    }
}

/// The second that a moment lies in, without its fraction: as AWS writes the creation times of records.
pub(crate) fn whole_second(moment: SystemTime) -> SystemTime {
    let since_epoch = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since_epoch.as_secs())
}

/// A moment in milliseconds since 1970; nothing where RFC 3339 cannot write it.
pub(crate) fn utc_from_millis(millis: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(millis).filter(|time| (0..=LAST_YEAR).contains(&time.year()))
}

/// A moment of the system's clock, cut to milliseconds; nothing where RFC 3339 cannot write it.
pub(crate) fn utc_in_millis(time: SystemTime) -> Option<DateTime<Utc>> {
    let millis = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).ok()?,
        Err(before) => -i64::try_from(before.duration().as_millis()).ok()?,
    };
    utc_from_millis(millis)
}

/// `2026-01-02T03:04:05Z`, with three, six or nine decimals where the moment has them.
pub(crate) fn rfc3339(time: impl Into<DateTime<Utc>>) -> String {
    time.into().to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// The text of [`rfc3339`] for a moment between the years 0 and 9999, without memory of its own: two stand in every event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rfc3339 {
    text: [u8; LONGEST],
    len: usize,
}

/// `2026-01-02T03:04:05.123456789Z`
const LONGEST: usize = 30;

impl Rfc3339 {
    pub(crate) fn of(time: DateTime<Utc>) -> Self {
        let mut this = Self { text: [0; LONGEST], len: 0 };
        this.number(time.year().unsigned_abs(), 4, b'-');
        this.number(time.month(), 2, b'-');
        this.number(time.day(), 2, b'T');
        this.number(time.hour(), 2, b':');
        this.number(time.minute(), 2, b':');
        let nanos = time.nanosecond();
        match nanos {
            0 => this.number(time.second(), 2, b'Z'),
            _ => this.number(time.second(), 2, b'.'),
        }
        match nanos {
            0 => {}
            _ if nanos.is_multiple_of(1_000_000) => this.number(nanos / 1_000_000, 3, b'Z'),
            _ if nanos.is_multiple_of(1_000) => this.number(nanos / 1_000, 6, b'Z'),
            _ => this.number(nanos, 9, b'Z'),
        }
        this
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..self.len]).expect("digits and marks are ASCII")
    }

    /// A number of so many digits, and a mark behind it.
    fn number(&mut self, mut number: u32, digits: usize, mark: u8) {
        let end = self.len + digits;
        for place in self.text[self.len..end].iter_mut().rev() {
            *place = b'0' + (number % 10) as u8;
            number /= 10;
        }
        self.text[end] = mark;
        self.len = end + 1;
    }
}

/// The moment that a text in RFC 3339 names, with whatever offset from UTC.
pub(crate) fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    DateTime::parse_from_rfc3339(text).ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_follows_the_time_of_its_runtime_until_it_is_dropped() {
        let start = UNIX_EPOCH + Duration::from_secs(1_000);
        let clock = start_at(start);
        assert_eq!(now(), start);
        let day = Duration::from_hours(24);
        tokio::time::sleep(day).await;
        assert_eq!(now(), start + day);
        assert_eq!(tokio::spawn(async { now() }).await.unwrap(), start + day);
        let other = std::thread::spawn(now).join().unwrap();
        assert!(other > start + day, "other threads keep real time");
        drop(clock);
        assert!(now() >= other);
    }

    #[test]
    fn writes_a_fraction_only_where_there_is_one() {
        let text = |millis| rfc3339(utc_from_millis(millis).expect("within RFC 3339"));
        assert_eq!(text(1_767_323_045_000), "2026-01-02T03:04:05Z");
        assert_eq!(text(1_767_323_051_789), "2026-01-02T03:04:11.789Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn leaves_out_what_rfc_3339_cannot_write() {
        assert_eq!(utc_from_millis(i64::MAX), None);
        assert_eq!(utc_from_millis(253_402_300_800_000), None, "year 10000");
        assert_eq!(utc_from_millis(-62_167_219_200_001), None, "before year 0");
    }

    #[test]
    fn reads_what_it_writes_and_other_offsets() {
        let moment = UNIX_EPOCH + Duration::new(1_767_323_045, 123_456_789);
        assert_eq!(rfc3339(moment), "2026-01-02T03:04:05.123456789Z");
        assert_eq!(parse_rfc3339("2026-01-02T03:04:05.123456789Z"), Some(moment));
        assert_eq!(parse_rfc3339("2026-01-02T04:04:05.123456789+01:00"), Some(moment));
        for text in ["", "2026-01-02", "2026-01-02T03:04:05", "yesterday"] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn reads_back_what_it_writes(millis in -62_167_219_200_000_i64..253_402_300_800_000, nanos in 0_i64..1_000_000) {
            let whole = utc_from_millis(millis).expect("within RFC 3339");
            prop_assert_eq!(parse_rfc3339(&rfc3339(whole)), Some(whole.into()));
            prop_assert_eq!(utc_in_millis(whole.into()), Some(whole));
            let fine = whole + chrono::TimeDelta::nanoseconds(nanos);
            let seconds = fine.with_nanosecond(0).expect("a whole second");
            for moment in [whole, fine, seconds, fine.with_nanosecond(nanos as u32 * 1000 % 999_999_000).expect("less than a second")] {
                let text = Rfc3339::of(moment);
                prop_assert_eq!(text.as_str(), rfc3339(moment));
            }
            prop_assert_eq!(parse_rfc3339(&rfc3339(fine)), Some(fine.into()));
        }
    }
}
