//! The last warnings and errors of one table, for people who look at `/status` instead of the log.
//!
//! Contract: they are those of the log, with its codes, as seldom as there; at most [`MOST`], the oldest make room.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::clock;

/// How many are remembered.
pub const MOST: usize = 20;

/// How much of a text is kept, in characters.
const LONGEST: usize = 400;

/// The last warnings and errors.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<Trouble>>);

/// A warning or an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// When it was logged.
    pub at: SystemTime,
    /// One of [`CODES`](super::events::CODES).
    pub code: &'static str,
    /// What was logged.
    pub text: String,
}

impl Recent {
    /// Remembers one.
    pub fn add(&self, code: &'static str, text: &str) {
        let mut troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if troubles.len() >= MOST {
            troubles.pop_front();
        }
        troubles.push_back(Trouble { at: clock::now(), code, text: shortened(text) });
    }

    /// All that are remembered, the newest first.
    pub fn newest_first(&self) -> Vec<Trouble> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }
}

/// The beginning of a text that others wrote.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_come_first() {
        let recent = Recent::default();
        for number in 0..=MOST {
            recent.add("DSA-AWS-FAILING", &format!("number {number}"));
        }
        let texts: Vec<String> = recent.newest_first().into_iter().map(|trouble| trouble.text).collect();
        assert_eq!(texts.len(), MOST);
        assert_eq!((texts[0].as_str(), texts[MOST - 1].as_str()), ("number 20", "number 1"));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shortened(&"é".repeat(LONGEST)), "é".repeat(LONGEST));
        assert_eq!(shortened(&"é".repeat(LONGEST + 1)), format!("{}…", "é".repeat(LONGEST)));
    }
}
