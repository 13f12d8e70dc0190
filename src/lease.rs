//! Who may read a table and write its positions: one process at a time.
//!
//! Contract:
//! - A lease is claimed, renewed and released by conditional writes: of two processes that claim it one gets it. Each claim gets an
//!   epoch that is higher than all before it; what is written under an older one is refused.
//! - An owner judges the end of its lease by its own monotonic clock, from the moment at which it asked for the renewal that was
//!   granted last. Somebody else claims only what he has seen unchanged for longer than that, by his own clock. So no two clocks are
//!   ever compared. A monotonic clock stands still while its machine is suspended: a jump of the wall clock by a third of the lease is the
//!   lease's end too.
//! - A [`Tenure`] that is over stays over: who wants to go on claims anew, and reads anew what is stored.

mod holder;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::holder::{GrantedLease, LeaseHolder, LeaseView, TenureEnd, owner_name};

/// A lease as it stands in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenLease {
    /// Whose it is; none: it was given back.
    pub owner: Option<String>,
    /// How often it was claimed.
    pub epoch: u64,
    /// Changes with each claim, renewal and release.
    pub version: u64,
    /// For how long it was claimed or renewed, from then on.
    pub duration: Duration,
}

/// A lease that this process has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLease {
    pub owner: String,
    pub epoch: u64,
    pub duration: Duration,
}

/// Why a lease was not granted, renewed or released.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LeaseError {
    /// It is not as it was seen, or not this process's any more.
    #[error("another process was granted the lease")]
    Lost,
    /// The store does not answer, or refuses; nobody knows whether it was done.
    #[error("{0}")]
    Store(String),
}

/// Where leases are kept, by table.
pub trait LeaseStore: Send + Sync {
    /// The lease as it stands now; none if nobody has ever claimed it.
    fn look<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<Option<SeenLease>, LeaseError>>;

    /// Claims the lease if it still is as it was `seen`, under an epoch that is higher than that one and than `above`.
    fn claim<'a>(
        &'a self,
        table: &'a str,
        seen: Option<&'a SeenLease>,
        above: u64,
        owner: &'a str,
        duration: Duration,
    ) -> BoxFuture<'a, Result<HeldLease, LeaseError>>;

    /// Says that the owner lives. Never waits behind writes of positions.
    fn renew<'a>(&'a self, table: &'a str, lease: &'a HeldLease) -> BoxFuture<'a, Result<(), LeaseError>>;

    /// Gives the lease back: whoever waits may claim it at once.
    fn release<'a>(&'a self, table: &'a str, lease: &'a HeldLease) -> BoxFuture<'a, Result<(), LeaseError>>;
}

/// The time of an owner: until when it may deliver.
#[derive(Debug)]
pub struct Tenure {
    term: Mutex<Term>,
    over: CancellationToken,
}

#[derive(Debug, Clone, Copy)]
struct Term {
    duration: Duration,
    /// When the renewal that was granted last was asked for, by both clocks.
    asked_at: Instant,
    asked_at_wall: SystemTime,
}

impl Tenure {
    /// Of a lease that was asked for at this moment, and granted.
    pub fn granted(duration: Duration, asked_at: Instant, asked_at_wall: SystemTime) -> Self {
        Self { term: Mutex::new(Term { duration, asked_at, asked_at_wall }), over: CancellationToken::new() }
    }

    /// A renewal that was asked for at this moment was granted. Changes nothing once it is over.
    pub fn renewed(&self, asked_at: Instant, asked_at_wall: SystemTime) {
        let mut term = self.term();
        (term.asked_at, term.asked_at_wall) = (asked_at, asked_at_wall);
    }

    /// When it ends unless it is renewed.
    pub fn ends_at(&self) -> Instant {
        let term = *self.term();
        term.asked_at + term.duration
    }

    /// Whether it lasts at this moment. Once it does not, it is over.
    pub fn lasts(&self, now: Instant, wall: SystemTime) -> bool {
        if self.over.is_cancelled() {
            return false;
        }
        let lasts = self.term().lasts(now, wall);
        if !lasts {
            self.end();
        }
        lasts
    }

    /// It is over: another process has the lease, or may have it soon.
    pub fn end(&self) {
        self.over.cancel();
    }

    /// Waits until somebody has noticed that it is over.
    pub fn over(&self) -> &CancellationToken {
        &self.over
    }

    fn term(&self) -> MutexGuard<'_, Term> {
        self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Term {
    fn lasts(&self, now: Instant, wall: SystemTime) -> bool {
        let elapsed = now.saturating_duration_since(self.asked_at);
        let by_wall = wall.duration_since(self.asked_at_wall);
        let jump = match by_wall {
            Ok(by_wall) => by_wall.abs_diff(elapsed),
            Err(ref back) => back.duration() + elapsed,
        };
        // A jump that is no end by itself may be time for which the machine was suspended.
        let longest = by_wall.map_or(elapsed, |by_wall| by_wall.max(elapsed));
        longest < self.duration && jump < self.duration / 3
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const LEASE: Duration = Duration::from_secs(15);

    fn lasts(elapsed: u64, by_wall: i64) -> bool {
        let (asked_at, wall) = (Instant::now(), UNIX_EPOCH + Duration::from_secs(1_767_323_045));
        let tenure = Tenure::granted(LEASE, asked_at, wall);
        let shift = Duration::from_secs(by_wall.unsigned_abs());
        let wall = if by_wall < 0 { wall - shift } else { wall + shift };
        tenure.lasts(asked_at + Duration::from_secs(elapsed), wall)
    }

    #[test]
    fn a_tenure_ends_when_its_lease_was_not_renewed_for_its_whole_duration() {
        assert!(lasts(0, 0) && lasts(14, 14));
        assert!(!lasts(15, 15));
    }

    #[test]
    fn a_jump_of_the_wall_clock_by_a_third_of_the_lease_ends_the_tenure_and_a_smaller_one_counts_as_time() {
        assert!(lasts(2, 6) && lasts(2, -2));
        assert!(!lasts(2, 7), "five seconds forward");
        assert!(!lasts(2, -3), "five seconds back");
        assert!(
            !lasts(12, 15),
            "a machine that was suspended for three seconds has no more of its lease than others think"
        );
    }

    #[test]
    fn a_tenure_that_is_over_stays_over() {
        let (asked_at, wall) = (Instant::now(), UNIX_EPOCH);
        let tenure = Tenure::granted(LEASE, asked_at, wall);
        tenure.renewed(asked_at + LEASE / 2, wall + LEASE / 2);
        assert!(tenure.lasts(asked_at + LEASE, wall + LEASE), "a renewal pushes the end out");
        assert!(!tenure.lasts(asked_at + 2 * LEASE, wall + 2 * LEASE));
        tenure.renewed(asked_at + 2 * LEASE, wall + 2 * LEASE);
        assert!(!tenure.lasts(asked_at + 2 * LEASE, wall + 2 * LEASE));
        assert!(tenure.over().is_cancelled());
    }
}
