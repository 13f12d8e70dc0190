//! What to try again, and when. Pure: time and chance are arguments.

use std::time::Duration;

use tokio::time::Instant;

use super::response_class::ResponseClass;
use crate::backoff::Backoff;

pub use crate::config::{OnUndeliverable, RetryLimits};

/// When to give up, and what then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    pub backoff: Backoff,
    /// When a retried event counts as undeliverable.
    pub limits: RetryLimits,
    pub on_undeliverable: OnUndeliverable,
}

/// An attempt that failed, as far as one event is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedAttempt {
    /// What the answer means.
    pub class: ResponseClass,
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// Since the first attempt was begun.
    pub age: Duration,
    /// Whether the event was the only one in the request. If not, a fault of the event may be another one's.
    pub alone: bool,
}

/// What becomes of an event that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// It is tried again.
    Again,
    /// It is tried again at the slowest pace.
    Parked,
    /// It goes to the dead-letter sink.
    DeadLetter,
    /// It is given up.
    Dropped,
}

impl RetryPolicy {
    /// What becomes of the event.
    pub fn decide(&self, failed: FailedAttempt) -> RetryDecision {
        // Whoever asks for less says nothing about the event, nor does what was never sent.
        let may_park = !matches!(failed.class, ResponseClass::Overloaded | ResponseClass::Unsent);
        if !self.is_undeliverable(failed) {
            let is_slow = failed.alone && self.backoff.is_at_its_slowest(failed.attempts);
            return if is_slow && may_park { RetryDecision::Parked } else { RetryDecision::Again };
        }
        match self.on_undeliverable {
            OnUndeliverable::Block if !may_park => RetryDecision::Again,
            OnUndeliverable::Block => RetryDecision::Parked,
            OnUndeliverable::DeadLetter => RetryDecision::DeadLetter,
            OnUndeliverable::Drop => RetryDecision::Dropped,
        }
    }

    fn is_undeliverable(&self, failed: FailedAttempt) -> bool {
        if failed.class == ResponseClass::Unsent {
            return false;
        }
        let refused = failed.class == ResponseClass::EventFault;
        if refused && !failed.alone {
            return false;
        }
        let too_often = self.limits.attempts.is_some_and(|most| failed.attempts >= most.get());
        let too_old = self.limits.age.is_some_and(|most| failed.age >= most);
        refused || too_often || too_old
    }
}

/// How a lane waits after its first event has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPause {
    pub until: Instant,
    /// It is expected to fail for long.
    pub(super) is_parked: bool,
    /// It ends when the sink works again, if that is earlier.
    pub(super) is_backoff: bool,
}

impl RetryPause {
    /// A pause that ends when the sink works again, if that is earlier.
    pub fn backoff(until: Instant) -> Self {
        Self { until, is_parked: false, is_backoff: true }
    }

    /// A pause that the sink has asked for.
    pub fn asked(until: Instant) -> Self {
        Self { until, is_parked: false, is_backoff: false }
    }

    /// The pause of an event that is expected to fail for long.
    pub fn parked(until: Instant) -> Self {
        Self { until, is_parked: true, is_backoff: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(30)).unwrap()
    }

    fn policy(attempts: Option<u32>, age: Option<u64>, on_undeliverable: OnUndeliverable) -> RetryPolicy {
        let limits =
            RetryLimits { attempts: attempts.and_then(std::num::NonZeroU32::new), age: age.map(Duration::from_secs) };
        RetryPolicy { backoff: backoff(), limits, on_undeliverable }
    }

    fn failed(class: ResponseClass, attempts: u32, age: u64) -> FailedAttempt {
        FailedAttempt { class, attempts, age: Duration::from_secs(age), alone: true }
    }

    #[test]
    fn without_limits_a_fault_of_the_sink_is_never_the_events_end() {
        let policy = policy(None, None, OnUndeliverable::Drop);
        for attempts in [1, 5] {
            assert_eq!(policy.decide(failed(ResponseClass::SinkFault, attempts, 1)), RetryDecision::Again);
        }
        assert_eq!(policy.decide(failed(ResponseClass::SinkFault, 1_000_000, 1_000_000)), RetryDecision::Parked);
        assert_eq!(policy.decide(failed(ResponseClass::NotTaken, 1_000_000, 1_000_000)), RetryDecision::Parked);
    }

    #[test]
    fn what_is_undeliverable_goes_where_the_policy_says() {
        for (on_undeliverable, fate) in [
            (OnUndeliverable::Block, RetryDecision::Parked),
            (OnUndeliverable::DeadLetter, RetryDecision::DeadLetter),
            (OnUndeliverable::Drop, RetryDecision::Dropped),
        ] {
            assert_eq!(policy(None, None, on_undeliverable).decide(failed(ResponseClass::EventFault, 1, 0)), fate);
            let limited = policy(Some(3), None, on_undeliverable);
            assert_eq!(
                limited.decide(failed(ResponseClass::SinkFault, 2, 9)),
                RetryDecision::Again,
                "one attempt too early"
            );
            assert_eq!(limited.decide(failed(ResponseClass::SinkFault, 3, 0)), fate);
            assert_eq!(limited.decide(failed(ResponseClass::NotTaken, 3, 0)), fate);
            let aged = policy(None, Some(60), on_undeliverable);
            assert_eq!(aged.decide(failed(ResponseClass::SinkFault, 3, 59)), RetryDecision::Again, "too early");
            assert_eq!(aged.decide(failed(ResponseClass::SinkFault, 3, 60)), fate);
        }
    }

    #[test]
    fn an_attempt_of_which_nothing_was_sent_is_never_the_events_end() {
        for on_undeliverable in [OnUndeliverable::Block, OnUndeliverable::DeadLetter, OnUndeliverable::Drop] {
            let strict = policy(Some(1), Some(1), on_undeliverable);
            assert_eq!(strict.decide(failed(ResponseClass::Unsent, 1, 100)), RetryDecision::Again);
            assert_eq!(strict.decide(failed(ResponseClass::Unsent, 1_000_000, 100)), RetryDecision::Again);
        }
    }

    #[test]
    fn a_sink_that_asks_for_less_parks_nothing() {
        let overloaded = failed(ResponseClass::Overloaded, 1_000_000, 1_000_000);
        assert_eq!(policy(None, None, OnUndeliverable::Block).decide(overloaded), RetryDecision::Again);
        assert_eq!(policy(Some(3), None, OnUndeliverable::Block).decide(overloaded), RetryDecision::Again);
        assert_eq!(policy(Some(3), None, OnUndeliverable::Drop).decide(overloaded), RetryDecision::Dropped);
    }

    #[test]
    fn a_refused_batch_condemns_none_of_its_events() {
        let together = |class| FailedAttempt { alone: false, ..failed(class, 3, 100) };
        let strict = policy(Some(1), Some(1), OnUndeliverable::Drop);
        assert_eq!(strict.decide(together(ResponseClass::EventFault)), RetryDecision::Again);
        assert_eq!(strict.decide(together(ResponseClass::SinkFault)), RetryDecision::Dropped);
        assert_eq!(strict.decide(together(ResponseClass::NotTaken)), RetryDecision::Dropped, "it was named");
        let often = FailedAttempt { attempts: 1_000_000, ..together(ResponseClass::SinkFault) };
        assert_eq!(
            policy(None, None, OnUndeliverable::Block).decide(often),
            RetryDecision::Again,
            "it goes alone first"
        );
    }
}
