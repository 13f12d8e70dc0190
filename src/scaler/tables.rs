//! All tables that are watched: one watch a table, whoever asks for it, and the pace of calls that AWS limits for an account.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::table_watch::{AccountShare, Shared, TableKey, TableWatch};
use crate::config::ScalingIdentity;
use crate::streams::RateLimiter;

/// More tables are not watched: triggers of many tables that are not there must not fill the memory.
const MOST_TABLES: usize = 2_000;

/// Reads of shards at the same time, of all tables of an account: the answer to one may have a megabyte.
const READS_AT_ONCE: usize = 32;

/// How often forgotten tables are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Watches are as many as they may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{MOST_TABLES} tables are watched already: those for which nobody asks any more are forgotten after 15 minutes"
)]
pub(super) struct TooMany;

/// Whose calls are limited together: those of one account in one region, as far as can be told.
type Account = (String, Option<String>, ScalingIdentity);

/// The watches.
pub(super) struct Tables {
    shared: Arc<Shared>,
    watches: Mutex<Watches>,
}

#[derive(Default)]
struct Watches {
    by_key: BTreeMap<TableKey, Arc<TableWatch>>,
    shares: BTreeMap<Account, Arc<AccountShare>>,
    tasks: JoinSet<()>,
}

impl Tables {
    pub(super) fn new(shared: Shared) -> Arc<Self> {
        Arc::new(Self { shared: Arc::new(shared), watches: Mutex::default() })
    }

    /// The table's watch, which begins with the first who asks.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn watch(&self, key: &TableKey) -> Result<Arc<TableWatch>, TooMany> {
        let mut watches = self.watches();
        if let Some(known) = watches.by_key.get(key).filter(|known| !known.is_forgotten()) {
            return Ok(known.clone());
        }
        if watches.by_key.len() >= MOST_TABLES {
            return Err(TooMany);
        }
        let watch = TableWatch::new(key.clone());
        watches.by_key.insert(key.clone(), watch.clone());
        let account = (key.region.clone(), key.endpoint.clone(), key.identity.clone());
        let interval = Duration::from_secs_f64(1.0 / self.shared.pace.describe_rate);
        let new_share =
            || AccountShare { listings: RateLimiter::every(interval), reads: Semaphore::new(READS_AT_ONCE) };
        let share = watches.shares.entry(account).or_insert_with(|| Arc::new(new_share())).clone();
        let (task, shared) = (watch.clone(), self.shared.clone());
        watches.tasks.spawn(async move { task.run(&shared, &share).await });
        Ok(watch)
    }

    /// All that are watched now.
    pub(super) fn all(&self) -> Vec<Arc<TableWatch>> {
        self.watches().by_key.values().cloned().collect()
    }

    /// Forgets tables for which nobody asks, for ever.
    pub(super) async fn keep(&self) {
        loop {
            sleep(SWEEP_INTERVAL).await;
            let mut watches = self.watches();
            watches.by_key.retain(|_, watch| !watch.is_forgotten());
            while watches.tasks.try_join_next().is_some() {}
            watches.shares.retain(|_, share| Arc::strong_count(share) > 1);
        }
    }

    /// Ends all watches.
    pub(super) async fn end(&self) {
        let mut tasks = std::mem::take(&mut self.watches().tasks);
        tasks.shutdown().await;
    }

    fn watches(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
