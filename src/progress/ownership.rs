//! Whose a table is where processes share a store of positions: this one's for a time, or another one's.
//!
//! Contract: whoever asks for the tenure gets the last one, also when it is over. So nothing of a table may be delivered between two
//! tenures. Where the store is this process's alone there is none, which costs nobody anything.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::lease::Tenure;

/// Whose a table is.
#[derive(Debug, Default)]
pub struct Ownership {
    /// Processes share the store. Never changes back.
    is_shared: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What this process is called in leases.
    owner: String,
    tenure: Option<Arc<Tenure>>,
    waits: bool,
    /// Who has the lease that this process waits for, if that is known.
    waits_for: Option<String>,
}

/// Whose a table is, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnershipView {
    /// What this process is called in leases.
    pub owner: String,
    /// When its tenure ends unless its lease is renewed; none while it waits.
    pub ends_in: Option<Duration>,
    /// Whose lease it waits for, if that is known.
    pub waits_for: Option<String>,
}

impl Ownership {
    /// The table is shared with other processes, and this one, which is called so, waits for its lease.
    pub fn wait(&self, owner: &str) {
        let mut state = self.state();
        owner.clone_into(&mut state.owner);
        (state.waits, state.waits_for) = (true, None);
        state.tenure.get_or_insert_with(no_tenure);
        self.is_shared.store(true, Ordering::Release);
    }

    /// Who has the lease that this process waits for; none: nobody, or nobody knows.
    pub fn set_awaited(&self, owner: Option<&str>) {
        self.state().waits_for = owner.map(str::to_owned);
    }

    /// The table is this process's for a time.
    pub fn begin(&self, tenure: Arc<Tenure>) {
        let mut state = self.state();
        state.tenure = Some(tenure);
        (state.waits, state.waits_for) = (false, None);
    }

    /// The tenure under which the table is delivered, or was last; none where it is nobody else's. An atomic load there.
    pub fn tenure(&self) -> Option<Arc<Tenure>> {
        self.is_shared.load(Ordering::Acquire).then(|| self.state().tenure.clone()).flatten()
    }

    /// Whether the table is not this process's now.
    pub fn is_waiting(&self) -> bool {
        self.is_shared.load(Ordering::Acquire) && self.state().waits
    }

    /// Who has the lease that this process waits for, if it does and that is known.
    pub fn awaited(&self) -> Option<String> {
        self.state().waits_for.clone()
    }

    /// What people see; nothing where the table is nobody else's.
    pub fn view(&self, now: Instant) -> Option<OwnershipView> {
        let is_shared = self.is_shared.load(Ordering::Acquire);
        let state = self.state();
        let tenure = state.tenure.as_ref().filter(|_| !state.waits);
        let ends_in = tenure.map(|tenure| tenure.ends_at().saturating_duration_since(now));
        is_shared.then(|| OwnershipView { owner: state.owner.clone(), ends_in, waits_for: state.waits_for.clone() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that is over.
fn no_tenure() -> Arc<Tenure> {
    let tenure = Tenure::granted(Duration::ZERO, Instant::now(), clock::now());
    tenure.end();
    Arc::new(tenure)
}
