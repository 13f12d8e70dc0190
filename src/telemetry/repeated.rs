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
    since: u64,
}

impl Repeated {
    /// Whether to say it, and then how often it happened since it was said last.
    pub(super) fn is_news(&self, kind: &str, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match said.get_mut(kind) {
            Some(last) if now.duration_since(last.at) < PAUSE => {
                last.since += 1;
                None
            }
            Some(last) => {
                let times = last.since + 1;
                *last = Said { at: now, since: 0 };
                Some(times)
            }
            None => {
                if said.len() >= MAX_KINDS {
                    said.clear();
                }
                said.insert(kind.to_owned(), Said { at: now, since: 0 });
                Some(1)
            }
        }
    }

    /// Makes everything news again.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Makes one kind news again.
    pub(super) fn forget_kind(&self, kind: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(kind);
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
        repeated.forget_kind("a");
        assert_eq!(repeated.is_news("a", now + PAUSE), Some(1));
    }
}
