//! How fast each source of connections is answered: whatever it asks for, it takes a bounded part of the process's time.
//!
//! Contract: an answer costs its source the time after which the next one may follow, more for a long one. What a source has not used
//! for a while is there for it at once, up to [`BURST`].

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::places::Source;

/// What every answer costs.
const ANSWER: Duration = Duration::from_millis(1);

/// What a kilobyte of it costs besides: 20 MB a second.
const KILOBYTE: Duration = Duration::from_micros(50);

/// How far a source may be ahead.
const BURST: Duration = Duration::from_millis(500);

/// More sources than these share one pace.
const MAX_SOURCES: usize = 1024;

/// Until when each source has used its time up.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<BTreeMap<Option<Source>, Instant>>);

impl Pace {
    /// Waits until this source's next answer may be made.
    pub(super) async fn wait_turn(&self, source: Source) {
        let begins = self.charge(source, ANSWER, Instant::now());
        let wait = begins.saturating_duration_since(Instant::now()).saturating_sub(BURST);
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    /// It gets so many bytes.
    pub(super) fn answered(&self, source: Source, bytes: u64) {
        let kilobytes = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        self.charge(source, KILOBYTE.saturating_mul(kilobytes), Instant::now());
    }

    /// Adds to what a source has used; when what it uses now begins.
    fn charge(&self, source: Source, cost: Duration, now: Instant) -> Instant {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= MAX_SOURCES {
            used.retain(|_, until| *until > now);
        }
        let is_told_apart = used.len() < MAX_SOURCES || used.contains_key(&Some(source));
        let until = used.entry(Some(source).filter(|_| is_told_apart)).or_insert(now);
        let begins = (*until).max(now);
        *until = begins + cost;
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> Source {
        Source::of([10, 0, 0, last].into())
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_much_waits_and_others_do_not() {
        let (pace, begun) = (Pace::default(), Instant::now());
        for _ in 0..500 {
            pace.wait_turn(source(1)).await;
        }
        assert!(begun.elapsed() < Duration::from_millis(10), "a burst is answered at once: {:?}", begun.elapsed());
        for _ in 0..1_000 {
            pace.wait_turn(source(1)).await;
        }
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(950) && took < Duration::from_millis(1_100), "{took:?}");
        pace.wait_turn(source(2)).await;
        assert_eq!(begun.elapsed(), took);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_answer_costs_more() {
        let (pace, begun) = (Pace::default(), Instant::now());
        for _ in 0..100 {
            pace.wait_turn(source(1)).await;
            pace.answered(source(1), 213 * 1024);
        }
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(600) && took < Duration::from_millis(800), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn sources_that_are_too_many_share_a_pace_and_memory_is_bounded() {
        let pace = Pace::default();
        for n in 0..100_000_u32 {
            pace.answered(Source::of(std::net::Ipv4Addr::from_bits(n).into()), 1 << 20);
        }
        assert!(pace.0.lock().expect("no panic").len() <= MAX_SOURCES + 1);
    }
}
