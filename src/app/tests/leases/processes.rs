//! Processes that share tables: one store of positions in memory, one AWS for each table and one sink for all, in one virtual time.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::harness::{FakeServices, Setup, event};
use crate::app::table::{PositionStore, Shared};
use crate::app::tasks::Tasks;
use crate::checkpoint::{CheckpointStore, LeasedStore, SaveError, StoreError, StoredChanges, StoredTable};
use crate::config::EventMode;
use crate::delivery::dispatcher::{Dispatcher, Sinks};
use crate::event::Message;
use crate::lease::{HeldLease, LeaseError, LeaseStore, SeenLease};
use crate::progress::TableProgress;
use crate::progress::buffer::BufferPool;
use crate::readiness::Health;
use crate::sink::{Sink, SinkResponse};

/// For how long a lease is claimed or renewed.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// What all processes share: leases and positions by table, and what the sink saw.
#[derive(Default)]
pub(super) struct World {
    leases: Mutex<BTreeMap<String, SeenLease>>,
    positions: Mutex<BTreeMap<String, Positions>>,
    /// Each post: when, by which process, which events, and whether it was answered with success.
    posts: Mutex<Vec<Post>>,
}

#[derive(Default)]
struct Positions {
    stored: StoredTable,
    /// The highest epoch that has read them.
    fence: u64,
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub(super) at: Instant,
    pub(super) by: &'static str,
    pub(super) ids: Vec<String>,
    pub(super) is_taken: bool,
    /// Whose the first table was then, and how often it had been claimed.
    pub(super) owner: Option<String>,
    pub(super) epoch: u64,
}

/// The store as one process sees it.
#[derive(Clone)]
struct View {
    world: Arc<World>,
    /// Its calls are answered by nobody.
    is_cut_off: Arc<AtomicBool>,
    /// It cannot read what is stored.
    is_garbled: Arc<AtomicBool>,
    /// So many saves are refused.
    refused: Arc<AtomicU32>,
    /// Its next claim is done, and the answer does not arrive.
    loses_claim: Arc<AtomicBool>,
}

/// A table's positions, for the owner of an epoch.
struct OwnedPositions {
    view: View,
    epoch: u64,
}

/// The sink as one process sees it.
struct ProcessSink {
    world: Arc<World>,
    name: &'static str,
    services: Arc<FakeServices>,
}

/// A process, running.
pub(super) struct Process {
    pub(super) health: Arc<Health>,
    pub(super) progress: Vec<Arc<TableProgress>>,
    view: View,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl World {
    /// Starts a process with these tables; the first one's services have the sink.
    pub(super) fn start(
        self: &Arc<Self>,
        name: &'static str,
        tables: &[(&str, Arc<FakeServices>)],
        setup: &Setup,
    ) -> Process {
        let (view, health) = (View::of(self.clone()), Arc::new(Health::default()));
        let store = PositionStore::Leased { store: Arc::new(view.clone()), owner: name.to_owned(), duration: LEASE };
        let shared = Shared::new(store, BufferPool::new(setup.buffer, tables.len()), setup.order);
        let assembled =
            tables.iter().map(|(table, services)| services.table_of(table, &shared, setup, &health)).collect();
        let sink = Arc::new(ProcessSink { world: self.clone(), name, services: tables[0].1.clone() });
        let dispatcher = Dispatcher::new(Sinks { sink, dead_letters: None }, setup.settings.clone());
        let mut event = event();
        event.mode = setup.settings.mode;
        let tasks = Tasks::start(assembled, dispatcher, Vec::new(), health.clone(), &event);
        let (progress, stop) = (tasks.progress().to_vec(), CancellationToken::new());
        let stopped = stop.clone();
        let running = tokio::spawn(async move {
            tasks.run_until(&stopped, Duration::from_secs(25)).await.expect("no part of it fails");
        });
        Process { health, progress, view, stop, running }
    }

    /// What the sink took, in order.
    pub(super) fn taken(&self) -> Vec<String> {
        lock(&self.posts).iter().filter(|post| post.is_taken).flat_map(|post| post.ids.clone()).collect()
    }

    pub(super) fn posts(&self) -> Vec<Post> {
        lock(&self.posts).clone()
    }

    /// Who has a table's lease.
    pub(super) fn owner(&self, table: &str) -> Option<String> {
        lock(&self.leases).get(table).and_then(|lease| lease.owner.clone())
    }

    pub(super) fn stored(&self, table: &str) -> StoredTable {
        lock(&self.positions).get(table).map(|positions| positions.stored.clone()).unwrap_or_default()
    }

    /// Somebody else takes a table whatever its lease says, and reads what is stored.
    pub(super) fn take_over(&self, table: &str) {
        let epoch = {
            let mut leases = lock(&self.leases);
            let lease = leases.get_mut(table).expect("it was claimed");
            (lease.owner, lease.epoch, lease.version) =
                (Some("a third".to_owned()), lease.epoch + 1, lease.version + 1);
            lease.epoch
        };
        lock(&self.positions).entry(table.to_owned()).or_default().fence = epoch;
    }
}

impl Process {
    /// None of its calls to the store is answered any more, or all are again.
    pub(super) fn cut_off(&self, is_cut_off: bool) {
        self.view.is_cut_off.store(is_cut_off, Ordering::Relaxed);
    }

    /// It cannot read what is stored, or can again.
    pub(super) fn garble(&self, is_garbled: bool) {
        self.view.is_garbled.store(is_garbled, Ordering::Relaxed);
    }

    /// So many of its next saves are refused.
    pub(super) fn refuse_saves(&self, saves: u32) {
        self.view.refused.store(saves, Ordering::Relaxed);
    }

    /// Its next claim is done, and the answer does not arrive.
    pub(super) fn lose_claim(&self) {
        self.view.loses_claim.store(true, Ordering::Relaxed);
    }

    /// Stops it in order; how long that took.
    pub(super) async fn stop(&mut self) -> Duration {
        let begun = Instant::now();
        self.stop.cancel();
        (&mut self.running).await.expect("it ends in order");
        begun.elapsed()
    }

    /// Why it is not ready.
    pub(super) fn not_ready(&self) -> Option<String> {
        self.health.not_ready(Instant::now())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl View {
    fn of(world: Arc<World>) -> Self {
        let (is_cut_off, is_garbled, refused) = (Arc::default(), Arc::default(), Arc::default());
        Self { world, is_cut_off, is_garbled, refused, loses_claim: Arc::default() }
    }

    /// What the store answers, unless nobody does.
    fn answer<'a, T: Send + 'a>(&'a self, answer: impl FnOnce(&World) -> T + Send + 'a) -> BoxFuture<'a, T> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            while self.is_cut_off.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            answer(&self.world)
        })
    }

    fn change<'a>(
        &'a self,
        table: &'a str,
        lease: &'a HeldLease,
        change: impl FnOnce(&mut SeenLease) + Send + 'a,
    ) -> BoxFuture<'a, Result<(), LeaseError>> {
        self.answer(move |world| match lock(&world.leases).get_mut(table) {
            Some(seen) if seen.epoch == lease.epoch && seen.owner.as_ref() == Some(&lease.owner) => {
                seen.version += 1;
                change(seen);
                Ok(())
            }
            _ => Err(LeaseError::Lost),
        })
    }
}

impl LeaseStore for View {
    fn look<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<Option<SeenLease>, LeaseError>> {
        if self.is_cut_off.load(Ordering::Relaxed) {
            return Box::pin(ready(Err(LeaseError::Store("the store is away".to_owned()))));
        }
        self.answer(move |world| Ok(lock(&world.leases).get(table).cloned()))
    }

    fn claim<'a>(
        &'a self,
        table: &'a str,
        seen: Option<&'a SeenLease>,
        above: u64,
        owner: &'a str,
        duration: Duration,
    ) -> BoxFuture<'a, Result<HeldLease, LeaseError>> {
        let claimed = self.answer(move |world| {
            let mut leases = lock(&world.leases);
            if leases.get(table) != seen {
                return Err(LeaseError::Lost);
            }
            let (epoch, version) = seen.map_or((1, 1), |seen| (seen.epoch.max(above) + 1, seen.version + 1));
            let owner = owner.to_owned();
            leases.insert(table.to_owned(), SeenLease { owner: Some(owner.clone()), epoch, version, duration });
            Ok(HeldLease { owner, epoch, duration })
        });
        if !self.loses_claim.swap(false, Ordering::Relaxed) {
            return claimed;
        }
        Box::pin(async move {
            let _ = claimed.await;
            std::future::pending().await
        })
    }

    fn renew<'a>(&'a self, table: &'a str, lease: &'a HeldLease) -> BoxFuture<'a, Result<(), LeaseError>> {
        self.change(table, lease, |_| {})
    }

    fn release<'a>(&'a self, table: &'a str, lease: &'a HeldLease) -> BoxFuture<'a, Result<(), LeaseError>> {
        self.change(table, lease, |seen| seen.owner = None)
    }
}

impl LeasedStore for View {
    fn positions(&self, _table: &str, lease: &HeldLease) -> Arc<dyn CheckpointStore> {
        Arc::new(OwnedPositions { view: self.clone(), epoch: lease.epoch })
    }
}

impl CheckpointStore for OwnedPositions {
    fn load<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<Option<StoredTable>, StoreError>> {
        if self.view.is_garbled.load(Ordering::Relaxed) {
            return Box::pin(ready(Err(StoreError("an entry is strange".to_owned()))));
        }
        self.view.answer(move |world| {
            let mut positions = lock(&world.positions);
            let positions = positions.entry(table.to_owned()).or_default();
            positions.fence = positions.fence.max(self.epoch);
            Ok((positions.stored != StoredTable::default()).then(|| positions.stored.clone()))
        })
    }

    fn save<'a>(&'a self, table: &'a str, changes: StoredChanges) -> BoxFuture<'a, Result<(), SaveError>> {
        let refused = self.view.refused.load(Ordering::Relaxed);
        if refused > 0 {
            self.view.refused.store(refused - 1, Ordering::Relaxed);
            return Box::pin(ready(Err(SaveError::NotStored(StoreError("throttled".to_owned())))));
        }
        self.view.answer(move |world| {
            let mut positions = lock(&world.positions);
            let positions = positions.entry(table.to_owned()).or_default();
            if positions.fence > self.epoch {
                return Err(SaveError::Fenced(StoreError(format!("epoch {} reads them", positions.fence))));
            }
            positions.stored.apply(&changes);
            Ok(())
        })
    }
}

impl Sink for ProcessSink {
    fn post(&self, message: Message, timeout: Duration) -> BoxFuture<'_, SinkResponse> {
        let ids = ids(&message);
        let lease = lock(&self.world.leases).get("Orders").cloned().expect("nothing is sent without a lease");
        let post = {
            let mut posts = lock(&self.world.posts);
            let (at, by, owner, epoch) = (Instant::now(), self.name, lease.owner, lease.epoch);
            posts.push(Post { at, by, ids, is_taken: false, owner, epoch });
            posts.len() - 1
        };
        Box::pin(async move {
            let response = self.services.post(message, timeout).await;
            let is_taken = matches!(response, SinkResponse::Accepted { .. });
            lock(&self.world.posts)[post].is_taken = is_taken;
            response
        })
    }
}

/// The events of a message, whatever its mode.
fn ids(message: &Message) -> Vec<String> {
    if let Some(id) = message.headers.get("ce-id") {
        return vec![id.to_str().unwrap().to_owned()];
    }
    let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
    body.as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

/// Batches of up to five.
pub(super) fn in_batches(setup: &mut Setup) {
    setup.settings.mode = EventMode::Batch;
    setup.settings.limits.events = 5;
    setup.settings.limits.wait = Duration::from_millis(20);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
