//! Which messages are news: the first of its kind, and then one a minute with a count.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const PAUSE: Duration = Duration::from_secs(60);

/// More kinds than this are not told apart any more, so that they cannot fill the memory.
const MAX_KINDS: usize = 256;

/// Remembers what was said.
#[derive(Debug, Default)]
pub(super) struct Repeated(Mutex<HashMap<String, Said>>);

#[derive(Debug)]
struct Said {
    at: Instant,
    /// How often it happened since then.
    since: u64,
    /// How often it happened at all.
    ever: u64,
}

impl Repeated {
    /// Whether to say it, and then how often it happened since it was said last.
    pub(super) fn is_news(&self, kind: &str, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match said.get_mut(kind) {
            Some(last) if now.duration_since(last.at) < PAUSE => {
                last.since += 1;
                last.ever += 1;
                None
            }
            Some(last) => {
                let times = last.since + 1;
                *last = Said { at: now, since: 0, ever: last.ever + 1 };
                Some(times)
            }
            None => {
                if said.len() >= MAX_KINDS {
                    said.clear();
                }
                said.insert(kind.to_owned(), Said { at: now, since: 0, ever: 1 });
                Some(1)
            }
        }
    }

    /// Makes one kind news again; says how often it has happened, if it has.
    pub(super) fn forget_kind(&self, kind: &str) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(kind).map(|said| said.ever)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_news_and_then_one_a_minute_with_a_count() {
        let (repeated, now) = (Repeated::default(), Instant::now());
        assert_eq!(repeated.is_news("a", now), Some(1));
        assert_eq!(repeated.is_news("b", now), Some(1));
        for second in 1..60 {
            assert_eq!(repeated.is_news("a", now + Duration::from_secs(second)), None);
        }
        assert_eq!(repeated.is_news("a", now + PAUSE), Some(60));
        assert_eq!(repeated.is_news("a", now + PAUSE), None);
        assert_eq!(repeated.forget_kind("a"), Some(62));
        assert_eq!(repeated.forget_kind("a"), None);
        assert_eq!(repeated.is_news("a", now + PAUSE), Some(1));
    }
    #[test]
    fn kinds_without_end_do_not_fill_the_memory() {
        let (repeated, now) = (Repeated::default(), Instant::now());
        for kind in 0..10 * MAX_KINDS {
            assert_eq!(repeated.is_news(&kind.to_string(), now), Some(1));
        }
        assert!(repeated.0.lock().unwrap().len() <= MAX_KINDS);
    }
}
