//! What was written and what arrived, and the verdict over both.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A change is known by its order and its number among that order's changes.
type Change = (u64, u64);

/// What has happened so far.
#[derive(Default)]
pub struct Story(Mutex<State>);

#[derive(Default)]
struct State {
    written: BTreeSet<Change>,
    arrived: BTreeSet<Change>,
    duplicates: usize,
    /// The highest change of each order that has arrived.
    newest: BTreeMap<u64, u64>,
    out_of_order: usize,
    slowest: Duration,
    last: Duration,
}

/// For the live line.
pub struct Summary {
    pub written: usize,
    pub delivered: usize,
    pub out_of_order: usize,
    pub last: Duration,
}

/// The comparison of what was written with what arrived.
pub struct Verdict {
    written: usize,
    orders: usize,
    missing: usize,
    duplicates: usize,
    out_of_order: usize,
    slowest: Duration,
}

impl Story {
    pub fn written(&self, order: u64, change: u64) {
        self.state().written.insert((order, change));
    }

    /// An event arrived, so long after its change was written. Says whether it came for the first time.
    pub fn arrived(&self, order: u64, change: u64, delay: Duration) -> bool {
        let mut state = self.state();
        if !state.arrived.insert((order, change)) {
            state.duplicates += 1;
            return false;
        }
        let newest = state.newest.entry(order).or_insert(0);
        let late = change < *newest;
        *newest = change.max(*newest);
        state.out_of_order += usize::from(late);
        state.slowest = state.slowest.max(delay);
        state.last = delay;
        true
    }

    pub fn is_complete(&self) -> bool {
        let state = self.state();
        state.written.is_subset(&state.arrived)
    }

    pub fn summary(&self) -> Summary {
        let state = self.state();
        Summary {
            written: state.written.len(),
            delivered: state.arrived.len(),
            out_of_order: state.out_of_order,
            last: state.last,
        }
    }

    pub fn verdict(&self) -> Verdict {
        let state = self.state();
        Verdict {
            written: state.written.len(),
            orders: state.written.iter().map(|(order, _)| order).collect::<BTreeSet<_>>().len(),
            missing: state.written.difference(&state.arrived).count(),
            duplicates: state.duplicates,
            out_of_order: state.out_of_order,
            slowest: state.slowest,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        self.written > 0 && self.missing == 0 && self.out_of_order == 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { written, orders, missing, duplicates, out_of_order, slowest } = self;
        let word = |good: bool| if good { "yes" } else { "NO" };
        writeln!(f, "\nVerdict")?;
        writeln!(f, "  {written} changes of {orders} orders were written.")?;
        writeln!(f, "  Did every change arrive?            {}", word(*missing == 0))?;
        if *missing > 0 {
            writeln!(f, "                                      {missing} are missing")?;
        }
        writeln!(f, "  Each order's changes in order?      {}", word(*out_of_order == 0))?;
        if *out_of_order > 0 {
            writeln!(
                f,
                "                                      {out_of_order} came after a later change of their order"
            )?;
        }
        writeln!(f, "  Events that came more than once:    {duplicates}")?;
        if *duplicates > 0 {
            writeln!(f, "    What was not yet noted as delivered when the adapter was killed comes again; a receiver")?;
            writeln!(f, "    recognises it by the event's id.")?;
        }
        write!(f, "  From write to arrival, the slowest: {:.1} s", slowest.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(10);

    fn story() -> Story {
        let story = Story::default();
        for change in 1..=3 {
            story.written(7, change);
        }
        story
    }

    #[test]
    fn everything_in_order_is_good() {
        let story = story();
        (1..=3).for_each(|change| assert!(story.arrived(7, change, SOON)));
        assert!(story.is_complete() && story.verdict().is_good());
    }

    #[test]
    fn a_missing_change_is_not() {
        let story = story();
        story.arrived(7, 1, SOON);
        story.arrived(7, 3, SOON);
        assert!(!story.is_complete() && !story.verdict().is_good());
    }

    #[test]
    fn an_inversion_is_not() {
        let story = story();
        [1, 3, 2].into_iter().for_each(|change| assert!(story.arrived(7, change, SOON)));
        assert!(story.is_complete() && !story.verdict().is_good());
    }

    #[test]
    fn a_duplicate_is_counted_and_forgiven() {
        let story = story();
        (1..=3).for_each(|change| assert!(story.arrived(7, change, SOON)));
        assert!(!story.arrived(7, 2, SOON));
        assert!(story.verdict().is_good());
        assert!(story.verdict().to_string().contains("more than once:    1"));
    }

    #[test]
    fn nothing_written_proves_nothing() {
        assert!(!Story::default().verdict().is_good());
    }
}
