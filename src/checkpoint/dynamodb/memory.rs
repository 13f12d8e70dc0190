//! What this process remembers of a table's positions over its tenures.
//!
//! Contract: where somebody has deleted the table of positions, made it anew or restored it from a backup, this process claims under an
//! epoch above all that it has seen; and where nothing is left of what it knows to have been stored, it stores that again before
//! anything is read.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::items::Stamp;
use super::ledger::{Found, Ledger};
use crate::checkpoint::StoredTable;
use crate::lease::SeenLease;
use crate::telemetry::events;

/// How often it is said that entries have no room for all that they should hold.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);

/// Of one table.
#[derive(Debug, Default)]
pub(super) struct TableMemory(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    highest_epoch: u64,
    /// The lease as this process has written it last; none if it has given it back.
    lease: Option<Stamp>,
    /// What the newest owner in this process knows.
    last: Option<Arc<Ledger>>,
    /// A lease was found that is older than one that was seen before: the table is not what it was.
    is_rewound: bool,
    /// This process has found no lease, and created it: nobody has used the table before, as it is now.
    is_first: bool,
    /// The epochs under which what was lost is being stored again.
    restoring: BTreeSet<u64>,
    report: Report,
}

#[derive(Debug, Default)]
struct Report {
    last: Option<Instant>,
    saves: u64,
}

impl TableMemory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn saw_epoch(&self, epoch: u64) {
        let mut state = self.state();
        state.highest_epoch = state.highest_epoch.max(epoch);
    }

    pub(super) fn highest_epoch(&self) -> u64 {
        self.state().highest_epoch
    }

    /// This process has claimed the lease, which was as it was seen.
    pub(super) fn claimed(&self, seen: Option<&SeenLease>, stamp: Stamp) {
        let mut state = self.state();
        state.is_rewound |= seen.map_or(0, |seen| seen.epoch) < state.highest_epoch;
        state.is_first = seen.is_none();
        state.highest_epoch = state.highest_epoch.max(stamp.epoch);
        state.lease = Some(stamp);
    }

    /// This process has renewed the lease, or given it back.
    pub(super) fn set_lease(&self, stamp: Option<Stamp>) {
        self.state().lease = stamp;
    }

    pub(super) fn lease(&self) -> Option<Stamp> {
        self.state().lease
    }

    /// Entries were found that nothing else vouches for: whether they are certainly of a table that is not there any more. They are where this
    /// process knows what was there, and where nobody has claimed the table before: somebody who deletes an entry leaves the lease.
    pub(super) fn is_another_table(&self) -> bool {
        let mut state = self.state();
        state.is_rewound |= state.last.as_ref().is_some_and(|last| last.stored().is_ok_and(|stored| stored.is_some()));
        state.is_rewound || state.is_first
    }

    pub(super) fn last(&self) -> Option<Arc<Ledger>> {
        self.state().last.clone()
    }

    /// What is to be stored again, under this epoch: what this process has known, if nothing was found, or only what it has stored again
    /// itself so far.
    pub(super) fn lost(&self, found: &Found, epoch: u64) -> Option<StoredTable> {
        let mut state = self.state();
        let is_own = found.values().all(|(stamp, _)| state.restoring.contains(&stamp.epoch));
        if !(state.is_rewound && is_own) {
            return None;
        }
        let lost = state.last.as_ref()?.stored().ok().flatten()?;
        state.restoring.insert(epoch);
        Some(lost)
    }

    /// An owner has taken over what is stored.
    pub(super) fn loaded(&self, ledger: Arc<Ledger>) {
        let mut state = self.state();
        state.last = Some(ledger);
        state.is_rewound = false;
        state.restoring.clear();
    }

    /// So many lanes are stored as owing more than they do.
    pub(super) fn heads_left_out(&self, heads: usize, positions: &str) {
        let mut state = self.state();
        let report = &mut state.report;
        if heads == 0 {
            return;
        }
        report.saves += 1;
        if report.last.is_none_or(|last| last.elapsed() >= REPORT_INTERVAL) {
            events::HeadsLeftOut { positions, heads, saves: report.saves }.emit();
            *report = Report { last: Some(Instant::now()), saves: 0 };
        }
    }
}
