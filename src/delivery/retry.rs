//! What to try again, and when. Pure: time and chance are arguments.

use std::time::Duration;

use crate::backoff::Backoff;

pub use crate::config::{OnUndeliverable, RetryLimits};

/// What an answer of the sink, or its absence, means for the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Delivered,
    /// The fault lies with the sink: the same event may work later.
    SinkFault,
    /// The fault lies with the event: another try would fail in the same way.
    EventFault,
    /// The sink took the request and says that it did not take this event.
    NotTaken,
    /// Nothing was sent, for want of something of this process: no event pays for that.
    Unsent,
}

/// When to give up, and what then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub backoff: Backoff,
    /// When a retried event counts as undeliverable.
    pub limits: RetryLimits,
    pub on_undeliverable: OnUndeliverable,
}

/// An attempt that failed, as far as one event is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedAttempt {
    /// What the answer means.
    pub verdict: Verdict,
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// Since the first attempt was begun.
    pub age: Duration,
    /// Whether the event was the only one in the request. If not, a fault of the event may be another one's.
    pub alone: bool,
}

/// What becomes of an event that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is tried again.
    Again,
    /// It is tried again at the slowest pace.
    Parked,
    /// It goes to the dead-letter sink.
    DeadLetter,
    /// It is given up.
    Dropped,
}

impl Policy {
    /// What becomes of the event.
    pub fn fate(&self, failed: FailedAttempt) -> Fate {
        if !self.is_undeliverable(failed) {
            let slow = failed.alone && self.backoff.is_at_its_slowest(failed.attempts);
            return if slow { Fate::Parked } else { Fate::Again };
        }
        match self.on_undeliverable {
            OnUndeliverable::Block => Fate::Parked,
            OnUndeliverable::DeadLetter => Fate::DeadLetter,
            OnUndeliverable::Drop => Fate::Dropped,
        }
    }

    /// Whether retries have an end.
    pub fn gives_up(&self) -> bool {
        let limited = self.limits.attempts.is_some() || self.limits.age.is_some();
        limited && self.on_undeliverable != OnUndeliverable::Block
    }

    fn is_undeliverable(&self, failed: FailedAttempt) -> bool {
        if failed.verdict == Verdict::Unsent {
            return false;
        }
        let refused = failed.verdict == Verdict::EventFault;
        if refused && !failed.alone {
            return false;
        }
        let too_often = self.limits.attempts.is_some_and(|most| failed.attempts >= most.get());
        let too_old = self.limits.age.is_some_and(|most| failed.age >= most);
        refused || too_often || too_old
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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

    fn policy(attempts: Option<u32>, age: Option<u64>, on_undeliverable: OnUndeliverable) -> Policy {
        let limits =
            RetryLimits { attempts: attempts.and_then(std::num::NonZeroU32::new), age: age.map(Duration::from_secs) };
        Policy { backoff: backoff(), limits, on_undeliverable }
    }

    fn failed(verdict: Verdict, attempts: u32, age: u64) -> FailedAttempt {
        FailedAttempt { verdict, attempts, age: Duration::from_secs(age), alone: true }
    }

    #[test]
    fn without_limits_a_fault_of_the_sink_is_never_the_events_end() {
        let policy = policy(None, None, OnUndeliverable::Drop);
        for attempts in [1, 5] {
            assert_eq!(policy.fate(failed(Verdict::SinkFault, attempts, 1)), Fate::Again);
        }
        assert_eq!(policy.fate(failed(Verdict::SinkFault, 1_000_000, 1_000_000)), Fate::Parked);
        assert_eq!(policy.fate(failed(Verdict::NotTaken, 1_000_000, 1_000_000)), Fate::Parked);
    }

    #[test]
    fn what_is_undeliverable_goes_where_the_policy_says() {
        for (on_undeliverable, fate) in [
            (OnUndeliverable::Block, Fate::Parked),
            (OnUndeliverable::DeadLetter, Fate::DeadLetter),
            (OnUndeliverable::Drop, Fate::Dropped),
        ] {
            assert_eq!(policy(None, None, on_undeliverable).fate(failed(Verdict::EventFault, 1, 0)), fate);
            let limited = policy(Some(3), None, on_undeliverable);
            assert_eq!(limited.fate(failed(Verdict::SinkFault, 2, 9)), Fate::Again, "one attempt too early");
            assert_eq!(limited.fate(failed(Verdict::SinkFault, 3, 0)), fate);
            assert_eq!(limited.fate(failed(Verdict::NotTaken, 3, 0)), fate);
            let aged = policy(None, Some(60), on_undeliverable);
            assert_eq!(aged.fate(failed(Verdict::SinkFault, 3, 59)), Fate::Again, "too early");
            assert_eq!(aged.fate(failed(Verdict::SinkFault, 3, 60)), fate);
        }
    }

    #[test]
    fn an_attempt_of_which_nothing_was_sent_is_never_the_events_end() {
        for on_undeliverable in [OnUndeliverable::Block, OnUndeliverable::DeadLetter, OnUndeliverable::Drop] {
            let strict = policy(Some(1), Some(1), on_undeliverable);
            assert_eq!(strict.fate(failed(Verdict::Unsent, 1, 100)), Fate::Again);
            assert_eq!(strict.fate(failed(Verdict::Unsent, 1_000_000, 100)), Fate::Parked);
        }
    }

    #[test]
    fn a_refused_batch_condemns_none_of_its_events() {
        let together = |verdict| FailedAttempt { alone: false, ..failed(verdict, 3, 100) };
        let strict = policy(Some(1), Some(1), OnUndeliverable::Drop);
        assert_eq!(strict.fate(together(Verdict::EventFault)), Fate::Again);
        assert_eq!(strict.fate(together(Verdict::SinkFault)), Fate::Dropped);
        assert_eq!(strict.fate(together(Verdict::NotTaken)), Fate::Dropped, "it was named");
        let often = FailedAttempt { attempts: 1_000_000, ..together(Verdict::SinkFault) };
        assert_eq!(policy(None, None, OnUndeliverable::Block).fate(often), Fate::Again, "it goes alone first");
    }
}
