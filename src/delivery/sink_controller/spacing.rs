//! Spaces starts evenly: a leaky bucket that remembers one moment. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Who is woken a little late may catch up on so much: timers tick in milliseconds. More would be bursts.
pub(super) const TOLERANCE: Duration = Duration::from_millis(2);

/// Starts that came this much later than they could have had nobody waiting for them.
const PROMPT: Duration = Duration::from_millis(2);

/// Longer than any event waits: what nothing comes after.
const LONGEST: f64 = 30.0 * 86_400.0;

/// When the next one is due.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spacing {
    due: Option<Instant>,
}

impl Spacing {
    /// When the next one may start; nothing while that is any time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.and_then(|due| due.checked_sub(TOLERANCE))
    }

    /// So many start now, at so many a second. Whether they started as soon as they might, as what has waited does.
    pub(super) fn take(&mut self, amount: f64, per_second: f64, now: Instant) -> bool {
        let interval = Duration::from_secs_f64((amount / per_second).min(LONGEST));
        let prompt = PROMPT.max(interval / 4);
        let waited = self.next().is_some_and(|next| next + prompt >= now);
        self.due = Some(self.due.map_or(now, |due| due.max(now)) + interval);
        waited
    }
}
