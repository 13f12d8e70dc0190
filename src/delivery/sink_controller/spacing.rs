//! Spaces starts evenly: a leaky bucket that remembers one moment. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Who is woken a little late may catch up on half an interval, within these bounds: timers tick in milliseconds, and a machine
/// may be busy. More would be bursts.
const TOLERANCE_MIN: Duration = Duration::from_millis(2);
pub(super) const TOLERANCE_MAX: Duration = Duration::from_millis(10);

/// Longer than any event waits: what nothing comes after.
const LONGEST: f64 = 30.0 * 86_400.0;

/// When the next one is due, when it may start, and when the last one started.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spacing {
    due: Option<Instant>,
    next: Option<Instant>,
    last: Option<Instant>,
}

impl Spacing {
    /// When the next one may start; nothing while that is any time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// So many start now, at so many a second. Returns the time since the last start if it was spent waiting for this moment.
    pub(super) fn take(&mut self, amount: f64, per_second: f64, now: Instant) -> Option<Duration> {
        let interval = Duration::from_secs_f64((amount / per_second).min(LONGEST));
        let tolerance = (interval / 2).clamp(TOLERANCE_MIN, TOLERANCE_MAX);
        let last = self.last.replace(now);
        let promptly = self.next.filter(|next| *next + tolerance >= now);
        let waited = last.zip(promptly).filter(|(last, next)| last < next).map(|(last, _)| now - last);
        let due = self.due.map_or(now, |due| due.max(now)) + interval;
        (self.due, self.next) = (Some(due), due.checked_sub(tolerance));
        waited
    }
}
