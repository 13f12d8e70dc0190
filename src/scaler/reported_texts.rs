//! What was said of triggers, so that the log says each thing once.
//!
//! Contract: whatever names and mistakes come, an hour has a bounded number of lines. Nothing of what was said is kept.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// So much is remembered, and said before something is said anew.
const MOST: usize = 4_096;

/// When it is full it is forgotten, but not sooner than after this time.
const KEPT: Duration = Duration::from_hours(1);

/// What was said.
#[derive(Debug)]
pub(super) struct ReportedTexts {
    hashes: BTreeSet<u64>,
    since: Instant,
    hashing: RandomState,
}

impl ReportedTexts {
    /// Nothing was said yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { hashes: BTreeSet::new(), since: now, hashing: RandomState::new() }
    }

    /// Whether this is to be said now of a trigger of that ScaledObject. One has several triggers, and of each there may be something else
    /// to say.
    pub(super) fn report_due(&mut self, namespace: &str, name: &str, text: &str, now: Instant) -> bool {
        if self.hashes.len() >= MOST && now.duration_since(self.since) >= KEPT {
            (self.hashes, self.since) = (BTreeSet::new(), now);
        }
        self.hashes.len() < MOST && self.hashes.insert(self.hashing.hash_one((namespace, name, text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_said_once_of_each_scaled_object() {
        let now = Instant::now();
        let mut reported = ReportedTexts::new(now);
        let news: Vec<bool> = [("a", "x"), ("a", "y"), ("b", "x"), ("a", "x"), ("a", "y")]
            .map(|(name, text)| reported.report_due("shop", name, text, now))
            .to_vec();
        assert_eq!(news, [true, true, true, false, false]);
    }

    #[test]
    fn an_hour_has_so_many_lines_at_most_and_the_next_one_has_more() {
        let now = Instant::now();
        let mut reported = ReportedTexts::new(now);
        let mut count = |now| (0..3 * MOST).filter(|n| reported.report_due("shop", &n.to_string(), "", now)).count();
        assert_eq!(count(now), MOST);
        assert_eq!(count(now + KEPT - Duration::from_secs(1)), 0);
        assert_eq!(count(now + KEPT), MOST);
    }
}
