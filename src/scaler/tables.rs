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

/// Whose calls are limited together: those of one account in one region, as far as can be told.
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
    shares: BTreeMap<Account, Arc<AccountShare>>,
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
    pub(super) async fn forget_unwanted(&self) {
        loop {
            sleep(SWEEP_INTERVAL).await;
            let mut watches = self.watches();
            watches.by_key.retain(|_, watch| !watch.is_forgotten());
            while watches.tasks.try_join_next().is_some() {}
            watches.shares.retain(|_, share| Arc::strong_count(share) > 1);
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;

    use super::super::table_watch::{FORGOTTEN_AFTER, Sources};
    use super::*;
    use crate::checkpoint::StoredTable;
    use crate::config::ScalerPace;
    use crate::streams::client::StreamsClient;

    /// Counts how often it is asked for a client, and has none.
    #[derive(Default)]
    struct NoClients {
        asked: AtomicUsize,
        does_panic: bool,
    }

    impl Sources for NoClients {
        fn client<'a>(&'a self, _: &'a TableKey) -> BoxFuture<'a, Result<Arc<dyn StreamsClient>, String>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            assert!(!self.does_panic, "a fault of this program");
            async { Err("none".to_owned()) }.boxed()
        }

        fn stored<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Option<StoredTable>, String>> {
            async { Ok(None) }.boxed()
        }
    }

    fn tables(sources: &Arc<NoClients>) -> Arc<Tables> {
        let second = Duration::from_secs(1);
        let pace =
            ScalerPace { refresh_interval: second, describe_rate: 4.0, poll_interval: second, idle_after: second };
        let tables = Tables::new(Shared { sources: sources.clone(), pace });
        tables.begin();
        tables
    }

    fn key(region: &str) -> TableKey {
        let (endpoint, identity) = (None, ScalingIdentity::OfProcess);
        TableKey { region: region.to_owned(), endpoint, identity, table: "orders".to_owned() }
    }

    /// Lets all that is due happen, a second at a time.
    async fn pass(tables: &Tables, seconds: u64) {
        let _ = tokio::time::timeout(Duration::from_secs(seconds), tables.forget_unwanted()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_has_ended_is_begun_anew_by_the_next_who_asks() {
        for does_panic in [false, true] {
            let sources = Arc::new(NoClients { does_panic, ..NoClients::default() });
            let tables = tables(&sources);
            let watch = tables.watch(&key("eu-west-1")).expect("a watch");
            pass(&tables, 2).await;
            // As after a process was stopped for long: whoever holds it wants it again, but it has ended before.
            tokio::time::advance(FORGOTTEN_AFTER).await;
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            let trigger = [("tableName".to_owned(), "orders".to_owned())].into();
            let trigger = super::super::trigger::Trigger::parse(&trigger).expect("a trigger").0;
            watch.wanted_by(&trigger).expect("room");
            assert!(watch.is_forgotten(), "nobody watches");
            let before = sources.asked.load(Ordering::Relaxed);
            let next = tables.watch(&key("eu-west-1")).expect("a watch");
            assert!(!Arc::ptr_eq(&watch, &next));
            pass(&tables, 2).await;
            assert!(sources.asked.load(Ordering::Relaxed) > before, "nobody looks at the table");
            tables.end().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_of_accounts_for_which_nobody_asks() {
        let tables = tables(&Arc::default());
        for n in 0..100 {
            tables.watch(&key(&format!("region-{n}"))).expect("a watch");
        }
        let shares = || tables.watches().shares.len();
        pass(&tables, 2).await;
        assert_eq!(shares(), 100);
        pass(&tables, FORGOTTEN_AFTER.as_secs() + 5).await;
        assert_eq!((shares(), tables.all().len()), (0, 0));
    }
}
