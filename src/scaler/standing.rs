//! Which replica of the scaler reads, and so answers: this one, another one, or none as far as is known.
//!
//! Contract: of all replicas at most one reads at any moment, the one whose tenure of the lease lasts; it judges that by its own clock, at
//! each call to AWS and behind each answer. So a process that was stopped for longer than its lease says nothing that it knew before.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock;
use crate::lease::Tenure;

/// What a replica knows of who reads.
#[derive(Debug, Clone)]
pub(super) enum Standing {
    /// There is no other replica: this one.
    Alone,
    /// This one, while its tenure lasts.
    Reader(Reading),
    /// Another one, as far as the lease says.
    Other(OtherReader),
    /// Nobody; why.
    Nobody(String),
}

/// This replica's time as the one that reads.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// What it is called in the lease.
    pub(super) owner: Arc<str>,
    pub(super) tenure: Arc<Tenure>,
}

/// Another replica that reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OtherReader {
    /// What it is called in the lease: one run of one process.
    pub(super) owner: Arc<str>,
    /// Host and port, as in a URL.
    pub(super) address: Arc<str>,
}

/// The newest standing, for those who act on it.
pub(super) type CurrentStanding = watch::Receiver<Standing>;

impl Standing {
    /// Whether this replica may read at this moment.
    pub(super) fn reads(&self) -> bool {
        match self {
            Self::Alone => true,
            Self::Reader(reading) => reading.lasts(),
            Self::Other(_) | Self::Nobody(_) => false,
        }
    }
}

impl Reading {
    pub(super) fn lasts(&self) -> bool {
        self.tenure.lasts(Instant::now(), clock::now())
    }

    /// Whether a call that is for this run of a process is for this replica; one that is for nobody in particular is.
    pub(super) fn is_meant_by(&self, owner: Option<&str>) -> bool {
        owner.is_none_or(|owner| *owner == *self.owner)
    }

    /// What comes of this if the tenure outlasts it.
    pub(super) async fn outlasts<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let done = select! {
            () = self.tenure.over().cancelled() => return None,
            done = work => done,
        };
        self.lasts().then_some(done)
    }
}

impl OtherReader {
    /// Of a lease's owner, which begins with its address; none if it does not.
    pub(super) fn of(owner: &str) -> Option<Self> {
        let (address, _) = owner.split_once(' ')?;
        let is_address =
            address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        is_address.then(|| Self { owner: owner.into(), address: address.into() })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn an_owner_is_asked_at_the_address_that_it_begins_with() {
        let of = |owner: &str| OtherReader::of(owner).map(|other| other.address.to_string());
        assert_eq!(of("10.0.3.7:6000 1a2b3c4d").as_deref(), Some("10.0.3.7:6000"));
        assert_eq!(of("[fd00::7]:6000 1a2b3c4d").as_deref(), Some("[fd00::7]:6000"));
        for strange in ["orders-0 1a2b3c4d", "positions-1a2b3c4d", "10.0.3.7:6000", ":6000 x", "a:b c", ""] {
            assert_eq!(of(strange), None, "{strange:?}");
        }
    }

    #[tokio::test]
    async fn what_its_tenure_does_not_outlast_is_no_answer() {
        let reading = |tenure| Reading { owner: "me".into(), tenure: Arc::new(tenure) };
        let lasting = reading(Tenure::granted(Duration::from_mins(1), Instant::now(), clock::now()));
        assert_eq!(lasting.outlasts(async { 1 }).await, Some(1));
        assert!(Standing::Reader(lasting.clone()).reads());
        // It ends while the answer is made.
        let tenure = lasting.tenure.clone();
        assert_eq!(lasting.outlasts(async { tenure.end() }).await, None);
        assert!(!Standing::Reader(lasting).reads());
        let over = reading(Tenure::granted(Duration::from_mins(1), Instant::now(), UNIX_EPOCH));
        assert_eq!(over.outlasts(async { 1 }).await, None, "the wall clock has jumped");
    }

    #[test]
    fn a_call_that_was_passed_on_is_for_one_run_of_a_process() {
        let reading = Reading {
            owner: "a:1 x".into(),
            tenure: Arc::new(Tenure::granted(Duration::ZERO, Instant::now(), UNIX_EPOCH)),
        };
        assert!(reading.is_meant_by(None) && reading.is_meant_by(Some("a:1 x")));
        assert!(!reading.is_meant_by(Some("a:1 y")) && !reading.is_meant_by(Some("")));
    }
}
