//! Tells a sink that fails as a whole from single events that fail. Pure: time and chance are arguments.
//!
//! Contract:
//! - The sink counts as failing when the first attempts of several events of different lanes failed in a row with a
//!   fault of the sink. Attempts that repeat an earlier failure prove nothing: a few broken events that are retried for
//!   ever must not stop the others.
//! - While it fails, one probe is under way at most; probes follow the backoff. An event that was never tried waits only
//!   for the backoff of such events, not for that of events which are known to fail.
//! - Any answer that is not a fault of the sink ends the failure.

use std::time::Duration;

use tokio::time::Instant;

use super::lanes::LaneKey;
use crate::backoff::Backoff;

/// How many lanes in a row must fail before the sink counts as failing.
const LANES_IN_A_ROW: usize = 3;

/// What is known of the sink's health.
#[derive(Debug)]
pub struct SinkHealth {
    backoff: Backoff,
    state: State,
    outages: u32,
}

#[derive(Debug)]
enum State {
    Up { failed: Vec<LaneKey> },
    Down(Outage),
}

#[derive(Debug)]
struct Outage {
    number: u32,
    since: Instant,
    probing: bool,
    /// Failed probes in a row, and how many of them were events tried for the first time.
    failures: u32,
    fresh_failures: u32,
    /// When the next probe may go: one of an event that was tried before, one of an event that was not.
    repeat_due: Instant,
    fresh_due: Instant,
}

/// What a report did to the sink's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    None,
    /// It now counts as failing.
    WentDown,
    /// It works again, after this long.
    CameUp(Duration),
}

/// An attempt, as far as health is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    pub lane: LaneKey,
    /// Whether the event was never tried before.
    pub first: bool,
    /// The outage that it probes, as [`SinkHealth::started`] said.
    pub probe: Option<u32>,
}

impl SinkHealth {
    /// A sink of which nothing is known yet; probes will follow `backoff`.
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, state: State::Up { failed: Vec::new() }, outages: 0 }
    }

    /// When an attempt may start: now, or at a later moment; nothing while a probe is under way.
    pub fn may_start(&self, first: bool, now: Instant) -> Option<Instant> {
        match &self.state {
            State::Up { .. } => Some(now),
            State::Down(outage) if outage.probing => None,
            State::Down(outage) => Some(if first { outage.fresh_due } else { outage.repeat_due }.max(now)),
        }
    }

    /// An attempt starts; returns the outage that it probes, if there is one.
    pub fn started(&mut self) -> Option<u32> {
        match &mut self.state {
            State::Up { .. } => None,
            State::Down(outage) => {
                outage.probing = true;
                Some(outage.number)
            }
        }
    }

    /// An attempt got an answer that is not a fault of the sink.
    pub fn answered(&mut self, now: Instant) -> Change {
        let change = match &self.state {
            State::Up { .. } => Change::None,
            State::Down(outage) => Change::CameUp(now - outage.since),
        };
        self.state = State::Up { failed: Vec::new() };
        change
    }

    /// An attempt failed with a fault of the sink, which may have asked for a pause.
    pub fn failed(&mut self, attempt: Attempt, retry_after: Option<Duration>, now: Instant, chance: f64) -> Change {
        match &mut self.state {
            State::Up { failed } => {
                if attempt.first && !failed.contains(&attempt.lane) {
                    failed.push(attempt.lane);
                }
                if failed.len() < LANES_IN_A_ROW {
                    return Change::None;
                }
                let due = now + self.backoff.pause(1, chance).max(retry_after.unwrap_or_default());
                self.outages += 1;
                let outage = Outage {
                    number: self.outages,
                    since: now,
                    probing: false,
                    failures: 1,
                    fresh_failures: 1,
                    repeat_due: due,
                    fresh_due: due,
                };
                self.state = State::Down(outage);
                Change::WentDown
            }
            State::Down(outage) => {
                // Others are leftovers that started before the outage was noticed.
                if attempt.probe == Some(outage.number) {
                    outage.probe_failed(attempt.first, retry_after, now, chance, self.backoff);
                }
                Change::None
            }
        }
    }

    /// Whether the sink counts as failing, and since when.
    pub fn down_since(&self) -> Option<Instant> {
        match &self.state {
            State::Up { .. } => None,
            State::Down(outage) => Some(outage.since),
        }
    }
}

impl Outage {
    fn probe_failed(
        &mut self,
        first: bool,
        retry_after: Option<Duration>,
        now: Instant,
        chance: f64,
        backoff: Backoff,
    ) {
        self.probing = false;
        self.failures += 1;
        self.fresh_failures += u32::from(first);
        let asked = now + retry_after.unwrap_or_default();
        self.repeat_due = asked.max(now + backoff.pause(self.failures, chance));
        self.fresh_due = asked.max(now + backoff.pause(self.fresh_failures, chance));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> SinkHealth {
        SinkHealth::new(Backoff::new(Duration::from_millis(100), Duration::from_secs(30)).unwrap())
    }

    fn attempt(lane: LaneKey, first: bool) -> Attempt {
        Attempt { lane, first, probe: None }
    }

    fn take_down(health: &mut SinkHealth, now: Instant) {
        for lane in 0..2 {
            assert_eq!(health.failed(attempt(lane, true), None, now, 0.0), Change::None);
        }
        assert_eq!(health.failed(attempt(2, true), None, now, 0.0), Change::WentDown);
    }

    #[test]
    fn one_item_that_fails_again_and_again_is_not_a_failing_sink() {
        let (mut health, now) = (health(), Instant::now());
        for _ in 0..100 {
            assert_eq!(health.failed(attempt(7, true), None, now, 0.5), Change::None);
        }
        assert_eq!(health.may_start(true, now), Some(now));
    }

    #[test]
    fn retries_of_many_broken_items_are_not_a_failing_sink() {
        let (mut health, now) = (health(), Instant::now());
        for lane in 0..100 {
            assert_eq!(health.failed(attempt(lane, false), None, now, 0.5), Change::None);
        }
    }

    #[test]
    fn failures_with_a_success_between_them_are_not_a_failing_sink() {
        let (mut health, now) = (health(), Instant::now());
        for lane in 0..100 {
            health.failed(attempt(lane, true), None, now, 0.5);
            health.failed(attempt(lane + 1000, true), None, now, 0.5);
            assert_eq!(health.answered(now), Change::None);
        }
        assert!(health.down_since().is_none());
    }

    #[test]
    fn a_failing_sink_gets_one_probe_at_a_time() {
        let (mut health, now) = (health(), Instant::now());
        take_down(&mut health, now);
        let due = health.may_start(true, now).unwrap();
        assert_eq!(due, now + Duration::from_millis(100));
        let probe = health.started();
        assert!(probe.is_some());
        assert_eq!(health.may_start(true, due), None, "a second probe beside the first");

        health.failed(attempt(50, true), None, due, 0.0);
        assert_eq!(health.may_start(true, due), None, "a leftover from before the outage is not the probe");
        health.failed(Attempt { lane: 9, first: true, probe }, None, due, 1.0);
        assert_eq!(health.may_start(true, due), Some(due + Duration::from_millis(400)));
    }

    #[test]
    fn an_untried_event_does_not_wait_for_the_backoff_of_broken_ones() {
        let (mut health, mut now) = (health(), Instant::now());
        take_down(&mut health, now);
        for _ in 0..20 {
            now = health.may_start(false, now).unwrap();
            let probe = health.started();
            health.failed(Attempt { lane: 1, first: false, probe }, None, now, 1.0);
        }
        assert_eq!(health.may_start(false, now), Some(now + Duration::from_secs(30)));
        assert!(health.may_start(true, now).unwrap() <= now + Duration::from_millis(200));
    }

    #[test]
    fn one_success_ends_the_outage_and_says_how_long_it_was() {
        let (mut health, now) = (health(), Instant::now());
        take_down(&mut health, now);
        let later = now + Duration::from_secs(5);
        assert_eq!(health.answered(later), Change::CameUp(Duration::from_secs(5)));
        assert_eq!(health.may_start(false, later), Some(later));
    }

    #[test]
    fn a_pause_that_the_sink_asks_for_is_kept() {
        let (mut health, now) = (health(), Instant::now());
        for lane in 0..3 {
            health.failed(attempt(lane, true), Some(Duration::from_secs(7)), now, 0.0);
        }
        assert_eq!(health.may_start(true, now), Some(now + Duration::from_secs(7)));
    }

    #[test]
    fn a_probe_that_fails_with_a_request_to_wait_is_followed_by_that_pause() {
        let (mut health, now) = (health(), Instant::now());
        take_down(&mut health, now);
        for first in [true, false] {
            let probe = health.started();
            health.failed(Attempt { lane: 1, first, probe }, Some(Duration::from_secs(20)), now, 0.0);
            for next in [true, false] {
                assert_eq!(health.may_start(next, now), Some(now + Duration::from_secs(20)));
            }
        }
    }

    #[test]
    fn an_earlier_outages_probe_does_not_release_the_next_ones() {
        let (mut health, now) = (health(), Instant::now());
        take_down(&mut health, now);
        let earlier = health.started();
        health.answered(now);
        take_down(&mut health, now);
        let probe = health.started();
        health.failed(Attempt { lane: 1, first: true, probe: earlier }, None, now, 0.0);
        assert_eq!(health.may_start(true, now), None, "a second probe beside the first");
        health.failed(Attempt { lane: 2, first: true, probe }, None, now, 0.0);
        assert!(health.may_start(true, now).is_some());
    }
}
