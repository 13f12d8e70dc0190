//! What the simulation finds today and is not mended yet: expected failures, by name.
//!
//! A seed may break a sentence only as one of these says, in a world that has the kinds of faults that it needs; everything else
//! fails. The list may only get shorter: an entry whose own seed finds nothing any more fails too.

use crate::fault::Fault;
use crate::judge::Sentence;
use crate::plan::Plan;

/// A fault of the adapter that is known.
pub struct Known {
    /// What happens to whom.
    pub name: &'static str,
    pub breaks: &'static [Sentence],
    /// It takes all of these.
    pub needs: &'static [Fault],
    /// A seed that finds it, and the sentence that it breaks there.
    pub seed: (u64, Sentence),
}

impl Known {
    pub fn explains(&self, plan: &Plan, sentence: Sentence) -> bool {
        self.breaks.contains(&sentence) && self.needs.iter().all(|fault| plan.has(*fault))
    }
}

/// The first known fault that can have broken this sentence in this world.
pub fn explanation(plan: &Plan, sentence: Sentence) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.explains(plan, sentence))
}

pub const KNOWN: &[Known] = &[];
