//! A table's lease in this process: waits for it, keeps it, gives it back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::{HeldLease, LeaseError, LeaseStore, SeenLease, Tenure};
use crate::backoff::pause_after;
use crate::clock;
use crate::telemetry::{TableTelemetry, events};

/// Who waits looks so often.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The pauses after a look that failed.
const LOOK_PAUSE_MIN: Duration = Duration::from_secs(1);
const LOOK_PAUSE_MAX: Duration = Duration::from_secs(5);

/// A store answers long before; the first look may have to create it.
const LOOK_DEADLINE: Duration = Duration::from_secs(150);

/// An owner renews after this part of the lease, gives a renewal this part of it to be answered, and tries again after this part.
const RENEWALS: u32 = 3;
const RENEWAL_DEADLINES: u32 = 5;
const RENEWAL_PAUSES: u32 = 30;

/// How often giving it back is tried.
const RELEASES: u32 = 3;

/// A name for this run of the process: what is behind the name differs from run to run.
pub fn owner_name(name: &str) -> String {
    format!("{name} {:08x}", fastrand::u32(..))
}

/// Waits for one table's lease, keeps it, and gives it back.
pub struct LeaseHolder {
    store: Arc<dyn LeaseStore>,
    table: String,
    owner: String,
    duration: Duration,
    telemetry: Arc<TableTelemetry>,
    watch: LeaseWatch,
    /// It was claimed, and nobody knows whether it was granted.
    may_be_own: bool,
    view: watch::Sender<LeaseView>,
}

/// What is known of a table's lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LeaseView {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// The store does not say.
    Unavailable { error: String },
    /// Another process has it, or had it and may still act on it.
    Awaited { owner: String },
    /// This process has it.
    Held { owner: String },
    /// This process had it.
    Over,
}

/// A lease of this process, and for how long.
#[derive(Debug, Clone)]
pub struct GrantedLease {
    pub lease: HeldLease,
    pub tenure: Arc<Tenure>,
}

/// Why a tenure is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TenureEnd {
    #[error("another process was granted it, or its entry was deleted")]
    Lost,
    /// It was not renewed in time, or the wall clock jumped.
    #[error("it was not renewed in time{}", error.as_ref().map(|error| format!(": {error}")).unwrap_or_default())]
    Expired {
        /// What the store said last, if that was no grant.
        error: Option<String>,
    },
    /// Whoever uses it has found that it is over.
    #[error("it was given up: the stored positions are not this process's any more, or the clock jumped")]
    GivenUp,
}

impl LeaseHolder {
    /// Of a table by its key in the store. `owner` is the same for all tables of this run of the process, and no other's.
    pub fn new(
        store: Arc<dyn LeaseStore>,
        table: &str,
        owner: &str,
        duration: Duration,
        telemetry: Arc<TableTelemetry>,
    ) -> Self {
        telemetry.set_lease_duration(duration);
        let (table, owner, view) = (table.to_owned(), owner.to_owned(), watch::Sender::new(LeaseView::default()));
        Self { store, table, owner, duration, telemetry, watch: LeaseWatch::default(), may_be_own: false, view }
    }

    /// What is known of the lease, now and whenever it changes.
    pub fn view(&self) -> watch::Receiver<LeaseView> {
        self.view.subscribe()
    }

    /// Waits until this process has the lease.
    pub async fn acquire(&mut self) -> GrantedLease {
        let mut failures = 0;
        loop {
            match self.try_once().await {
                Ok(Some(granted)) => {
                    events::LeaseStoreRecovered.emit(&self.telemetry);
                    return granted;
                }
                Ok(None) => {
                    failures = 0;
                    events::LeaseStoreRecovered.emit(&self.telemetry);
                    sleep(LOOK_INTERVAL).await;
                }
                Err(error) => {
                    failures += 1;
                    events::LeaseStoreFailing { error: &error }.emit(&self.telemetry);
                    self.show(LeaseView::Unavailable { error });
                    sleep(pause_after(failures, LOOK_PAUSE_MIN, LOOK_PAUSE_MAX, fastrand::f64())).await;
                }
            }
        }
    }

    /// Waits for it no longer: gives it back if it may have been granted although nobody was told, so that the next one need not wait until
    /// it ends.
    pub async fn give_up(&mut self) {
        if self.may_be_own
            && let Ok(Ok(Some(granted))) = timeout(self.duration / RENEWAL_DEADLINES, self.try_once()).await
        {
            self.release(&granted).await;
        }
    }

    async fn try_once(&mut self) -> Result<Option<GrantedLease>, String> {
        let looked = timeout(LOOK_DEADLINE, self.store.look(&self.table)).await;
        let found = looked.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())?;
        match self.watch.look(found.clone(), &self.owner, Instant::now()) {
            Turn::Claim => self.claim(found.as_ref()).await,
            Turn::Wait { owner, duration } => {
                self.may_be_own = false;
                let awaited = LeaseView::Awaited { owner: owner.clone() };
                if self.show(awaited) {
                    events::LeaseAwaited { owner: &owner, duration }.emit(&self.telemetry);
                }
                Ok(None)
            }
        }
    }

    async fn claim(&mut self, seen: Option<&SeenLease>) -> Result<Option<GrantedLease>, String> {
        let (asked_at, asked_at_wall) = (Instant::now(), clock::now());
        self.may_be_own = true;
        let claim = self.store.claim(&self.table, seen, self.watch.highest_epoch, &self.owner, self.duration);
        match timeout(self.duration, claim).await {
            Ok(Ok(lease)) => {
                let tenure = Tenure::granted(self.duration, asked_at, asked_at_wall);
                if !tenure.lasts(Instant::now(), clock::now()) {
                    return Ok(None);
                }
                self.may_be_own = false;
                let was_released = seen.is_some_and(|seen| seen.owner.is_none());
                events::LeaseTaken { owner: &self.owner, epoch: lease.epoch, was_released }.emit(&self.telemetry);
                self.show(LeaseView::Held { owner: self.owner.clone() });
                Ok(Some(GrantedLease { lease, tenure: Arc::new(tenure) }))
            }
            // It is looked at again before anything else.
            Ok(Err(LeaseError::Lost)) => Ok(None),
            Ok(Err(LeaseError::Store(error))) => Err(error),
            Err(_) => Err("no answer to a claim".to_owned()),
        }
    }

    /// Renews the lease until its tenure is over; why it is. Nothing is lost if this is dropped, but the renewals.
    pub async fn keep(&self, granted: &GrantedLease) -> TenureEnd {
        let end = self.renew_until_end(granted).await;
        granted.tenure.end();
        events::LeaseLost { why: &end.to_string() }.emit(&self.telemetry);
        self.show(LeaseView::Over);
        end
    }

    async fn renew_until_end(&self, GrantedLease { lease, tenure }: &GrantedLease) -> TenureEnd {
        let (mut error, mut due) = (None, self.next_renewal(tenure));
        loop {
            select! {
                () = tenure.over().cancelled() => return TenureEnd::GivenUp,
                () = sleep_until(due.min(tenure.ends_at())) => {}
            }
            let (asked_at, asked_at_wall) = (Instant::now(), clock::now());
            if !tenure.lasts(asked_at, asked_at_wall) {
                return TenureEnd::Expired { error };
            }
            let deadline = tenure.ends_at().min(asked_at + self.duration / RENEWAL_DEADLINES);
            let answer = select! {
                () = tenure.over().cancelled() => return TenureEnd::GivenUp,
                answer = timeout_at(deadline, self.store.renew(&self.table, lease)) => answer,
            };
            error = match answer {
                Ok(Ok(())) => {
                    tenure.renewed(asked_at, asked_at_wall);
                    events::LeaseStoreRecovered.emit(&self.telemetry);
                    due = self.next_renewal(tenure);
                    None
                }
                Ok(Err(LeaseError::Lost)) => return TenureEnd::Lost,
                Ok(Err(LeaseError::Store(error))) => Some(error),
                Err(_) => Some("no answer".to_owned()),
            };
            if let Some(error) = &error {
                events::LeaseStoreFailing { error }.emit(&self.telemetry);
                due = Instant::now() + self.duration / RENEWAL_PAUSES;
            }
        }
    }

    fn next_renewal(&self, tenure: &Tenure) -> Instant {
        tenure.ends_at() - (self.duration - self.duration / RENEWALS)
    }

    /// Ends the tenure, and gives the lease back so that whoever waits may claim it at once. Call it when nothing is under way any
    /// more. Whether the store has confirmed it.
    pub async fn release(&self, granted: &GrantedLease) -> bool {
        granted.tenure.end();
        self.show(LeaseView::Over);
        for _ in 0..RELEASES {
            let release = self.store.release(&self.table, &granted.lease);
            match timeout(self.duration / RENEWAL_DEADLINES, release).await {
                Ok(Ok(())) => {
                    events::LeaseReleased.emit(&self.telemetry);
                    return true;
                }
                // It is not this process's: perhaps since the last try.
                Ok(Err(LeaseError::Lost)) => break,
                Ok(Err(LeaseError::Store(error))) => events::LeaseStoreFailing { error: &error }.emit(&self.telemetry),
                Err(_) => events::LeaseStoreFailing { error: "no answer" }.emit(&self.telemetry),
            }
        }
        self.telemetry.set_lease_held(false);
        false
    }

    /// Shows this; whether it is news.
    fn show(&self, view: LeaseView) -> bool {
        self.view.send_if_modified(|shown| {
            let is_new = *shown != view;
            *shown = view;
            is_new
        })
    }
}

/// What somebody who waits remembers of a lease. Pure.
#[derive(Debug, Default)]
struct LeaseWatch {
    /// The lease as it was seen last, and since when it has been so; where it is gone, since when that is known.
    seen: Option<(SeenLease, Instant)>,
    is_gone: bool,
    highest_epoch: u64,
}

/// What to do about a lease.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Claim,
    Wait { owner: String, duration: Duration },
}

impl LeaseWatch {
    /// The lease was found so. One that was seen once and is not there any more, as in a table that was made anew, counts as unchanged
    /// from the moment at which that is found: its owner may have renewed it until then, and may not know yet that it is gone.
    fn look(&mut self, found: Option<SeenLease>, me: &str, now: Instant) -> Turn {
        let was_gone = std::mem::replace(&mut self.is_gone, found.is_none());
        match (found, &mut self.seen) {
            (Some(found), seen) if seen.as_ref().is_none_or(|(seen, _)| *seen != found) => {
                self.highest_epoch = self.highest_epoch.max(found.epoch);
                self.seen = Some((found, now));
            }
            (None, Some((_, since))) if !was_gone => *since = now,
            _ => {}
        }
        let Some((seen, since)) = &self.seen else { return Turn::Claim };
        match &seen.owner {
            Some(owner) if owner != me && now.duration_since(*since) <= patience(seen.duration) => {
                Turn::Wait { owner: owner.clone(), duration: seen.duration }
            }
            _ => Turn::Claim,
        }
    }
}

/// For how long a lease of this duration is to be seen unchanged: machines' clocks do not run at exactly the same speed.
fn patience(duration: Duration) -> Duration {
    duration.saturating_add(duration / 10)
}

#[cfg(test)]
mod tests;
