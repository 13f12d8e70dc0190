//! One table's lease as its task uses it: who is waited for shows in readiness and `/status`.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use crate::checkpoint::{CheckpointStore, LeasedStore};
use crate::lease::{GrantedLease, LeaseHolder, LeaseView};
use crate::progress::{Acknowledger as _, TableProgress};

/// A table's lease, and what of the table shows who has it.
pub(super) struct TableLease {
    store: Arc<dyn LeasedStore>,
    key: String,
    owner: String,
    holder: LeaseHolder,
    progress: Arc<TableProgress>,
}

/// A lease that this process has now.
pub(super) struct AcquiredLease {
    pub(super) granted: GrantedLease,
    /// Another process had it before, or nobody knew.
    pub(super) has_waited: bool,
}

impl TableLease {
    /// Of a table by its key in the store.
    pub(super) fn new(
        store: Arc<dyn LeasedStore>,
        key: &str,
        owner: &str,
        duration: Duration,
        progress: Arc<TableProgress>,
    ) -> Self {
        let holder = LeaseHolder::new(store.clone(), key, owner, duration, progress.shared_telemetry());
        Self { store, key: key.to_owned(), owner: owner.to_owned(), holder, progress }
    }

    /// Waits until the lease is this process's.
    pub(super) async fn acquire(&mut self) -> AcquiredLease {
        let (progress, mut has_waited) = (&self.progress, false);
        progress.ownership().wait(&self.owner);
        progress.health().mark_waiting_for_lease(None);
        let mut view = self.holder.view();
        let mut acquired = pin!(self.holder.acquire());
        let granted = loop {
            select! {
                granted = &mut acquired => break granted,
                Ok(()) = view.changed() => has_waited |= show_awaited(progress, &view.borrow_and_update()),
            }
        };
        progress.health().record_store_error(None);
        progress.ownership().begin(granted.tenure.clone());
        progress.health().mark_lease_held();
        AcquiredLease { granted, has_waited }
    }

    /// Waits for it no longer.
    pub(super) async fn give_up(&mut self) {
        self.holder.give_up().await;
    }

    /// What is stored of the table, for the one who has this lease.
    pub(super) fn positions(&self, granted: &GrantedLease) -> Arc<dyn CheckpointStore> {
        self.store.positions(&self.key, &granted.lease)
    }

    /// Renews the lease until its tenure is over.
    pub(super) async fn keep(&self, granted: &GrantedLease) {
        self.holder.keep(granted).await;
    }

    /// Gives it back: nothing of the table is under way any more.
    pub(super) async fn release(&self, granted: &GrantedLease) {
        // Where that fails, whoever waits claims it when it ends.
        self.holder.release(granted).await;
    }
}

/// Shows what is known of a lease that is waited for. Whether it is another process's, or nobody knows.
fn show_awaited(progress: &TableProgress, view: &LeaseView) -> bool {
    match view {
        LeaseView::Awaited { owner } => {
            progress.ownership().set_awaited(Some(owner));
            progress.health().mark_waiting_for_lease(Some(owner));
            progress.health().record_store_error(None);
            true
        }
        LeaseView::Unavailable { error } => {
            progress.health().record_store_error(Some(error));
            true
        }
        LeaseView::Unknown | LeaseView::Held { .. } | LeaseView::Over => false,
    }
}
