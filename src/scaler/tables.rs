//! All tables that are watched: one watch a table, whoever asks for it, and the pace of calls that AWS limits for an account.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::table_watch::{Shared, TableKey, TableWatch};
use crate::config::ScalingIdentity;
use crate::streams::RateLimiter;

/// More tables are not watched: triggers of many tables that are not there must not fill the memory.
const MOST_TABLES: usize = 2_000;

/// How often forgotten tables are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Why a table is not watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotWatched {
    /// Watches are as many as they may be.
    #[error(
        "{MOST_TABLES} tables are watched already: those for which nobody asks any more are forgotten after 15 minutes"
    )]
    TooMany,
    /// This replica does not read now.
    #[error("this replica of the scaler does not read now")]
    NotReading,
}

/// Whose `DescribeStream` calls are limited together: those of one account in one region, as far as can be told.
type Account = (String, Option<String>, ScalingIdentity);

/// The watches.
pub(super) struct Tables {
    shared: Arc<Shared>,
    watches: Mutex<Watches>,
}

#[derive(Default)]
struct Watches {
    /// Tables are watched only while this replica reads.
    is_open: bool,
    by_key: BTreeMap<TableKey, Arc<TableWatch>>,
    limiters: BTreeMap<Account, Arc<RateLimiter>>,
    tasks: JoinSet<()>,
}

impl Tables {
    /// Nothing is watched before it begins.
    pub(super) fn new(shared: Shared) -> Arc<Self> {
        Arc::new(Self { shared: Arc::new(shared), watches: Mutex::default() })
    }

    /// From now on tables are watched: this replica reads.
    pub(super) fn begin(&self) {
        self.watches().is_open = true;
    }

    /// The table's watch, which begins with the first who asks.
    ///
    /// # Errors
    /// When there are too many, or this replica does not read.
    pub(super) fn watch(&self, key: &TableKey) -> Result<Arc<TableWatch>, NotWatched> {
        let mut watches = self.watches();
        if !watches.is_open {
            return Err(NotWatched::NotReading);
        }
        if let Some(known) = watches.by_key.get(key).filter(|known| !known.is_forgotten()) {
            return Ok(known.clone());
        }
        if watches.by_key.len() >= MOST_TABLES {
            return Err(NotWatched::TooMany);
        }
        let watch = TableWatch::new(key.clone());
        watches.by_key.insert(key.clone(), watch.clone());
        let account = (key.region.clone(), key.endpoint.clone(), key.identity.clone());
        let interval = Duration::from_secs_f64(1.0 / self.shared.pace.describe_rate);
        let limiter = watches.limiters.entry(account).or_insert_with(|| Arc::new(RateLimiter::every(interval))).clone();
        let (task, shared) = (watch.clone(), self.shared.clone());
        watches.tasks.spawn(async move { task.run(&shared, &limiter).await });
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
        }
    }

    /// Ends all watches, and forgets what they knew: who begins again later cannot say what was written meanwhile.
    pub(super) async fn end(&self) {
        let mut tasks = {
            let mut watches = self.watches();
            watches.is_open = false;
            watches.by_key.clear();
            std::mem::take(&mut watches.tasks)
        };
        tasks.shutdown().await;
    }

    fn watches(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
