//! One table's lease, as this process waits for it, keeps it and gives it back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::checkpoint::LeasedStore;
use crate::clock;
use crate::lease::{HeldLease, LeaseError, SeenLease, Tenure};
use crate::progress::{Acknowledger as _, TableProgress};
use crate::readiness::TableHealth;

/// How often a lease that another process has is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct TableLease {
    pub(super) store: Arc<dyn LeasedStore>,
    pub(super) key: String,
    pub(super) owner: String,
    pub(super) duration: Duration,
    pub(super) progress: Arc<TableProgress>,
}

impl TableLease {
    /// Waits until the lease is this process's. Says whether another process had it, or nobody knew.
    pub(super) async fn acquire(&self) -> (HeldLease, Arc<Tenure>, bool) {
        let mut has_waited = false;
        let mut unchanged: Option<(SeenLease, Instant)> = None;
        loop {
            match self.store.look(&self.key).await {
                Ok(seen) => {
                    self.health().record_store_error(None);
                    let owner = seen.as_ref().and_then(|seen| seen.owner.as_deref());
                    // Whoever is known to have had it is waited for no longer than it takes to claim it.
                    if let Some(owner) = owner.filter(|owner| *owner != self.owner) {
                        self.progress.ownership().waits_for(Some(owner));
                        self.health().waits_for_lease(Some(owner));
                    }
                    let since = match (&seen, &unchanged) {
                        (Some(seen), Some((last, since))) if seen == last => *since,
                        _ => Instant::now(),
                    };
                    unchanged = seen.clone().map(|seen| (seen, since));
                    let is_free = seen.as_ref().is_none_or(|seen| {
                        let is_own_or_free = seen.owner.as_ref().is_none_or(|owner| *owner == self.owner);
                        is_own_or_free || since.elapsed() >= seen.duration.mul_f64(1.1)
                    });
                    if is_free && let Some((lease, tenure)) = self.claim(seen.as_ref()).await {
                        return (lease, tenure, has_waited);
                    }
                }
                Err(error) => self.health().record_store_error(Some(&error.to_string())),
            }
            has_waited = true;
            sleep(LOOK_INTERVAL).await;
        }
    }

    async fn claim(&self, seen: Option<&SeenLease>) -> Option<(HeldLease, Arc<Tenure>)> {
        let (asked_at, asked_at_wall) = (Instant::now(), clock::now());
        match self.store.claim(&self.key, seen, 0, &self.owner, self.duration).await {
            Ok(lease) => Some((lease, Arc::new(Tenure::granted(self.duration, asked_at, asked_at_wall)))),
            Err(LeaseError::Lost) => None,
            Err(error) => {
                self.health().record_store_error(Some(&error.to_string()));
                None
            }
        }
    }

    fn health(&self) -> &TableHealth {
        self.progress.health()
    }

    /// Renews the lease until the tenure is over.
    pub(super) async fn keep(&self, lease: &HeldLease, tenure: &Tenure) {
        let third = self.duration / 3;
        while tenure.lasts(Instant::now(), clock::now()) {
            select! {
                () = tenure.over().cancelled() => return,
                () = sleep(third) => {}
            }
            if !tenure.lasts(Instant::now(), clock::now()) {
                return;
            }
            let (asked_at, asked_at_wall) = (Instant::now(), clock::now());
            select! {
                () = sleep_until(tenure.ends_at()) => tenure.end(),
                renewed = timeout(third, self.store.renew(&self.key, lease)) => match renewed {
                    Ok(Ok(())) => tenure.renewed(asked_at, asked_at_wall),
                    Ok(Err(LeaseError::Lost)) => tenure.end(),
                    Ok(Err(LeaseError::Store(_))) | Err(_) => {}
                }
            }
        }
    }

    /// Gives the lease back.
    pub(super) async fn release(&self, lease: &HeldLease) {
        let _ = self.store.release(&self.key, lease).await;
    }
}
