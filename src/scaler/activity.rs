//! Whether a table is written to, from what was read of it. Pure.
//!
//! Contract: whoever begins to watch does not know what was written before, or while nobody watched, and a target at zero must not
//! miss it: so a table is active at first, and whenever continuity is lost. It is inactive once nothing was found for
//! `idle_after`. While it is active it is read once each `idle_after`, while it is inactive once each `poll_interval`.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// The first measurement comes sooner: until then the metrics that need one are unknown.
const FIRST_MEASUREMENT: Duration = Duration::from_secs(10);

/// How long shards may not be readable before nobody can say whether they are written to.
const GRACE: Duration = Duration::from_secs(30);

/// The pause after a round that failed, at least.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// Where a permission is missing pauses grow to this: it does not come by asking.
const DENIED_PAUSE: Duration = Duration::from_mins(1);

/// A round that is so late says that shards are not being read, though none of their calls has failed yet.
const OVERDUE: Duration = Duration::from_mins(1);

/// One look at all shards.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Round {
    /// Open shards that had records since the last look.
    pub(super) active_shards: usize,
    pub(super) records_per_second: f64,
    /// When the oldest of the records that were found was created.
    pub(super) oldest_record: Option<SystemTime>,
    /// Something may have been written that nobody will see: an iterator had expired, or records were trimmed.
    pub(super) lost_continuity: bool,
    /// Why some shard was not read.
    pub(super) failure: Option<Failure>,
}

/// Why shards cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) why: String,
    /// A permission or credentials are missing: that does not pass by itself.
    pub(super) is_denied: bool,
}

/// How often shards are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ActivityPace {
    pub(super) poll_interval: Duration,
    pub(super) idle_after: Duration,
}

/// What is known of a table's activity.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Activity {
    /// Since when somebody watches, or the last round that found something.
    last_sign: Instant,
    is_quiet: bool,
    measured: Option<Measured>,
    failing: Option<(Instant, Failure)>,
    /// Rounds in a row that were denied.
    denials: u32,
    /// Until when what was found says enough, whatever fails.
    found_until: Option<Instant>,
    /// When the next round should begin; none before the first.
    due: Option<Instant>,
    woken_by: Option<SystemTime>,
}

/// What the last whole round found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    pub(super) active_shards: usize,
    pub(super) records_per_second: f64,
}

impl Activity {
    /// Of a table that is watched from now on.
    pub(super) fn since(now: Instant) -> Self {
        Self {
            last_sign: now,
            is_quiet: false,
            measured: None,
            failing: None,
            denials: 0,
            found_until: None,
            due: None,
            woken_by: None,
        }
    }

    /// A record was found while the round still goes on. Whether that is news.
    pub(super) fn found(&mut self, created: Option<SystemTime>, now: Instant, pace: ActivityPace) -> bool {
        let is_news = self.is_quiet;
        if is_news {
            self.woken_by = created;
            (self.is_quiet, self.last_sign, self.found_until) = (false, now, Some(now + pace.idle_after));
        }
        is_news
    }

    /// A round has ended.
    pub(super) fn round(&mut self, round: &Round, now: Instant, pace: ActivityPace) {
        let idle_after = pace.idle_after;
        let has_found = round.active_shards > 0 || round.lost_continuity;
        if has_found {
            if self.is_quiet {
                self.woken_by = round.oldest_record;
            }
            (self.is_quiet, self.last_sign) = (false, now);
        }
        if round.active_shards > 0 {
            self.found_until = Some(now + idle_after);
        }
        let is_denied = round.failure.as_ref().is_some_and(|failure| failure.is_denied);
        self.denials = if is_denied { self.denials.saturating_add(1) } else { 0 };
        match &round.failure {
            Some(failure) => {
                let since = self.failing.take().map_or(now, |(since, _)| since);
                self.failing = Some((since, failure.clone()));
            }
            None => {
                self.failing = None;
                self.measured =
                    Some(Measured { active_shards: round.active_shards, records_per_second: round.records_per_second });
                self.is_quiet |= !has_found && now.duration_since(self.last_sign) >= idle_after;
            }
        }
        self.due = Some(now + self.pause(pace));
    }

    /// How long to wait for the next round.
    pub(super) fn pause(&self, pace: ActivityPace) -> Duration {
        match (&self.failing, self.is_quiet, self.measured) {
            (Some(_), ..) if self.denials > 0 => {
                let doubled = FAILURE_PAUSE.saturating_mul(1 << (self.denials - 1).min(8));
                pace.poll_interval.max(doubled.min(DENIED_PAUSE))
            }
            (Some(_), ..) => pace.poll_interval.max(FAILURE_PAUSE),
            (None, true, _) => pace.poll_interval,
            (None, false, None) => pace.idle_after.min(FIRST_MEASUREMENT),
            (None, false, Some(_)) => pace.idle_after,
        }
    }

    /// Whether nothing was written for a while.
    ///
    /// # Errors
    /// Why nobody can say so.
    pub(super) fn is_quiet(&self, now: Instant) -> Result<bool, String> {
        // Records that were found in one shard say enough, whatever became of the others.
        if self.found_until.is_some_and(|until| now < until) {
            return Ok(self.is_quiet);
        }
        if self.due.is_some_and(|due| now.duration_since(due) >= OVERDUE) {
            return Err("whether the table is written to is not known: its shards do not answer".to_owned());
        }
        match &self.failing {
            Some((since, failure)) if failure.is_denied || now.duration_since(*since) >= GRACE => {
                Err(format!("whether the table is written to is not known: {}", failure.why))
            }
            _ => Ok(self.is_quiet),
        }
    }

    /// When something was found last, or nobody knew whether something was there.
    pub(super) fn last_sign(&self) -> Instant {
        self.last_sign
    }

    /// What the last whole round measured; nothing before the first.
    pub(super) fn measured(&self) -> Option<Measured> {
        self.measured
    }

    /// When the record was created that ended the last quiet time, if that is known.
    pub(super) fn woken_by(&self) -> Option<SystemTime> {
        self.woken_by
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PACE: ActivityPace =
        ActivityPace { poll_interval: Duration::from_secs(2), idle_after: Duration::from_secs(60) };

    fn found(shards: usize) -> Round {
        Round { active_shards: shards, records_per_second: 1.5, ..Round::default() }
    }

    fn failed(is_denied: bool) -> Round {
        Round { failure: Some(Failure { why: "no".to_owned(), is_denied }), ..Round::default() }
    }

    /// An activity and a clock that waits as long as it says.
    fn rounds(rounds: &[Round]) -> (Activity, Instant) {
        let mut now = Instant::now();
        let mut activity = Activity::since(now);
        for round in rounds {
            now += activity.pause(PACE);
            activity.round(round, now, PACE);
        }
        (activity, now)
    }

    #[test]
    fn a_table_is_active_until_nothing_was_found_for_the_whole_time() {
        let none = Round::default();
        assert_eq!(rounds(&[]).0.is_quiet(Instant::now()), Ok(false), "nobody knows what was written before");
        let (activity, now) = rounds(std::slice::from_ref(&none));
        assert_eq!(activity.is_quiet(now), Ok(false), "ten seconds prove nothing");
        let (activity, now) = rounds(&[none.clone(), none.clone()]);
        assert_eq!(activity.is_quiet(now), Ok(true));
        let (activity, now) = rounds(&[none.clone(), found(1), none.clone()]);
        assert_eq!(activity.is_quiet(now), Ok(true), "the whole time since the last record that was found");
    }

    #[test]
    fn a_record_ends_a_quiet_time_at_once_and_tells_since_when_there_is_work() {
        let none = Round::default();
        let created = SystemTime::UNIX_EPOCH + SECOND;
        let first = Round { oldest_record: Some(created), ..found(2) };
        let (activity, now) = rounds(&[none.clone(), none.clone(), none.clone(), first]);
        assert_eq!((activity.is_quiet(now), activity.woken_by()), (Ok(false), Some(created)));
        assert_eq!(activity.measured().map(|it| it.active_shards), Some(2));
        assert_eq!(activity.pause(PACE), PACE.idle_after, "while it is active it is left alone");
    }

    #[test]
    fn a_loss_of_continuity_counts_as_a_write() {
        let none = Round::default();
        let lost = Round { lost_continuity: true, ..Round::default() };
        let (activity, now) = rounds(&[none.clone(), none, lost]);
        assert_eq!(activity.is_quiet(now), Ok(false));
    }

    #[test]
    fn an_inactive_table_is_read_at_the_pace_of_polling_and_the_first_look_comes_soon() {
        assert_eq!(rounds(&[]).0.pause(PACE), FIRST_MEASUREMENT);
        assert_eq!(rounds(&[Round::default(), Round::default()]).0.pause(PACE), PACE.poll_interval);
        assert_eq!(rounds(&[failed(false)]).0.pause(PACE), FAILURE_PAUSE);
    }

    #[test]
    fn shards_that_cannot_be_read_make_it_unknown_after_a_while_and_never_inactive() {
        let none = Round::default();
        let (activity, now) = rounds(&[none.clone(), failed(false)]);
        assert_eq!(activity.is_quiet(now), Ok(false), "a moment's trouble changes nothing");
        assert!(activity.is_quiet(now + GRACE).is_err());
        let (activity, now) = rounds(&[none.clone(), none.clone(), failed(false)]);
        assert_eq!(activity.is_quiet(now), Ok(true));
        assert!(activity.is_quiet(now + GRACE).is_err());
        let (activity, now) = rounds(&[failed(true)]);
        assert!(activity.is_quiet(now).is_err(), "a missing permission does not pass");
        let (activity, now) = rounds(&[failed(true), none]);
        assert_eq!(activity.is_quiet(now), Ok(false));
    }

    #[test]
    fn records_of_some_shards_count_although_others_fail() {
        let none = Round::default();
        let partly = Round { failure: failed(false).failure, ..found(1) };
        let (activity, now) = rounds(&[none.clone(), none, partly]);
        assert_eq!(activity.is_quiet(now), Ok(false));
    }

    #[test]
    fn records_of_some_shards_count_however_long_others_have_failed() {
        let none = Round::default();
        let partly = Round { failure: failed(false).failure, ..found(1) };
        let failing = vec![failed(false); 20];
        let before = [vec![none.clone(), none], failing].concat();
        let (mut activity, mut now) = rounds(&before);
        assert!(activity.is_quiet(now).is_err(), "a shard was not read for a long time");
        now += SECOND;
        activity.round(&partly, now, PACE);
        assert_eq!(activity.is_quiet(now), Ok(false), "what was found is known");
        now += PACE.idle_after;
        activity.round(&failed(false), now, PACE);
        assert!(activity.is_quiet(now).is_err(), "it is old");
    }

    #[test]
    fn a_table_whose_reads_do_not_end_is_not_inactive_for_ever() {
        let none = Round::default();
        let (activity, now) = rounds(&[none.clone(), none]);
        assert_eq!(activity.is_quiet(now + PACE.poll_interval + OVERDUE - SECOND), Ok(true));
        assert!(activity.is_quiet(now + PACE.poll_interval + OVERDUE).is_err(), "nobody has looked since");
    }

    #[test]
    fn a_missing_permission_is_asked_for_more_and_more_seldom() {
        let pause = |denials| rounds(&vec![failed(true); denials]).0.pause(PACE).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 99].map(pause), [5, 10, 20, 40, 60, 60]);
        let again = rounds(&[failed(true), failed(true), failed(false)]).0.pause(PACE);
        assert_eq!(again, FAILURE_PAUSE);
    }

    #[test]
    fn a_record_is_told_before_its_round_has_ended() {
        let none = Round::default();
        let (mut activity, now) = rounds(&[none.clone(), none]);
        let created = Some(SystemTime::UNIX_EPOCH);
        assert!(activity.found(created, now, PACE));
        assert_eq!((activity.is_quiet(now + 100 * SECOND), activity.woken_by()).1, created);
        assert_eq!(activity.is_quiet(now), Ok(false));
        assert!(!activity.found(None, now, PACE), "no news");
    }
}
