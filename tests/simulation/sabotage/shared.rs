//! The shared table of positions, and the leases in it, of an adapter that does not keep to the protocol.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dynamodb_streams_adapter::checkpoint::dynamodb::DynamoStore;
use dynamodb_streams_adapter::checkpoint::dynamodb::items::{
    Expected, Item, ItemError, ItemKey, ItemTable, Members, Stamp, Write, Written,
};
use dynamodb_streams_adapter::checkpoint::{
    CheckpointStore, LeasedStore, SaveError, StoreError, StoredChanges, StoredTable,
};
use dynamodb_streams_adapter::lease::{HeldLease, LeaseError, LeaseStore, SeenLease};
use futures_util::future::BoxFuture;
use tokio::time::{sleep, timeout};

use super::Sabotage;
use crate::item_table::{Condition, LEASE, SimulatedTable, stamp};
use crate::world::World;

const GROUP: &str = "default";

/// What an adapter with this fault, or with none, takes for its store.
pub fn leased_store(sabotage: Sabotage, world: &Arc<World>) -> Arc<dyn LeasedStore> {
    let condition = match sabotage {
        Sabotage::WritesOverNewerVersions => Condition::EpochOnly,
        _ => Condition::Whole,
    };
    let table = |is_for_leases| SimulatedTable { world: world.clone(), is_for_leases, condition };
    let (mut items, leases): (Arc<dyn ItemTable>, Arc<dyn ItemTable>) = (Arc::new(table(false)), Arc::new(table(true)));
    if sabotage == Sabotage::TouchesNothing {
        items = Arc::new(Untouched { table: items, pretended: Mutex::default() });
    }
    let store = DynamoStore::new(GROUP, items.clone(), leases.clone());
    match sabotage {
        Sabotage::None | Sabotage::WritesOverNewerVersions | Sabotage::TouchesNothing => Arc::new(store),
        _ => Arc::new(BentLeases { sabotage, store, items, leases, saving: Arc::default() }),
    }
}

/// Leases, and what they are for, with a fault.
struct BentLeases {
    sabotage: Sabotage,
    store: DynamoStore,
    items: Arc<dyn ItemTable>,
    leases: Arc<dyn ItemTable>,
    saving: Arc<AtomicBool>,
}

impl LeaseStore for BentLeases {
    fn look<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<Option<SeenLease>, LeaseError>> {
        Box::pin(async move {
            let mut seen = self.store.look(table).await?;
            if let Some(seen) = seen.as_mut().filter(|_| self.sabotage == Sabotage::ClaimsEarly) {
                seen.duration /= 10;
            }
            Ok(seen)
        })
    }

    fn claim<'a>(
        &'a self,
        table: &'a str,
        seen: Option<&'a SeenLease>,
        above: u64,
        owner: &'a str,
        duration: Duration,
    ) -> BoxFuture<'a, Result<HeldLease, LeaseError>> {
        self.store.claim(table, seen, above, owner, duration)
    }

    fn renew<'a>(&'a self, table: &'a str, lease: &'a HeldLease) -> BoxFuture<'a, Result<(), LeaseError>> {
        Box::pin(async move {
            match self.sabotage {
                Sabotage::IgnoresTheEnd => {
                    let _ = timeout(Duration::from_millis(100), self.store.renew(table, lease)).await;
                    Ok(())
                }
                Sabotage::RenewsBehindSaves => {
                    while self.saving.load(Ordering::Relaxed) {
                        sleep(Duration::from_millis(50)).await;
                    }
                    self.store.renew(table, lease).await
                }
                _ => self.store.renew(table, lease).await,
            }
        })
    }

    fn release<'a>(&'a self, table: &'a str, lease: &'a HeldLease) -> BoxFuture<'a, Result<(), LeaseError>> {
        match self.sabotage {
            Sabotage::KeepsItsLease => Box::pin(async { Ok(()) }),
            _ => self.store.release(table, lease),
        }
    }
}

impl LeasedStore for BentLeases {
    fn positions(&self, table: &str, lease: &HeldLease) -> Arc<dyn CheckpointStore> {
        let store = match self.sabotage {
            // It remembers nothing of its earlier tenures.
            Sabotage::ForgetsWhatItStored => {
                DynamoStore::new(GROUP, self.items.clone(), self.leases.clone()).positions(table, lease)
            }
            _ => self.store.positions(table, lease),
        };
        Arc::new(BentPositions { sabotage: self.sabotage, store, saving: self.saving.clone() })
    }
}

/// One table's positions, with a fault.
struct BentPositions {
    sabotage: Sabotage,
    store: Arc<dyn CheckpointStore>,
    saving: Arc<AtomicBool>,
}

impl CheckpointStore for BentPositions {
    fn load<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<Option<StoredTable>, StoreError>> {
        self.store.load(table)
    }

    fn save<'a>(&'a self, table: &'a str, changes: StoredChanges) -> BoxFuture<'a, Result<(), SaveError>> {
        Box::pin(async move {
            self.saving.store(true, Ordering::Relaxed);
            if self.sabotage == Sabotage::StoresChildrenFirst {
                self.store.save(table, without_parents(changes.clone())).await?;
            }
            let saved = self.store.save(table, changes).await;
            // What failed is tried again.
            self.saving.store(saved.is_err(), Ordering::Relaxed);
            saved
        })
    }

    fn interval(&self) -> Duration {
        self.store.interval()
    }
}

/// The same without shards that others of them continue.
fn without_parents(mut changes: StoredChanges) -> StoredChanges {
    for stream in &mut changes.streams {
        let parents: Vec<String> =
            stream.shards.values().flatten().filter_map(|it| it.parent().map(str::to_owned)).collect();
        stream.shards.retain(|id, _| !parents.contains(id));
    }
    changes
}

/// A table on which the writes are only pretended that keep an earlier owner from writing.
struct Untouched {
    table: Arc<dyn ItemTable>,
    /// What the owner believes to have written, and what stands there.
    pretended: Mutex<BTreeMap<ItemKey, (Stamp, Stamp)>>,
}

impl Untouched {
    fn pretend(&self, key: &ItemKey, is: Stamp, believed: Stamp) {
        self.pretended.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), (believed, is));
    }

    /// What stands there where this is believed to.
    fn really(&self, key: &ItemKey, believed: Stamp) -> Stamp {
        let pretended = self.pretended.lock().unwrap_or_else(PoisonError::into_inner);
        pretended.get(key).filter(|(known, _)| *known == believed).map_or(believed, |(_, is)| *is)
    }

    /// What its owner is to find.
    fn shown(&self, mut item: Item) -> Item {
        let pretended = self.pretended.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((believed, is)) = pretended.get(&item.key)
            && stamp(&item.members) == Some(*is)
        {
            item.members.insert("epoch".to_owned(), believed.epoch.into());
            item.members.insert("version".to_owned(), believed.version.into());
        }
        item
    }
}

impl ItemTable for Untouched {
    fn get<'a>(&'a self, key: &'a ItemKey) -> BoxFuture<'a, Result<Option<Members>, ItemError>> {
        self.table.get(key)
    }

    fn query<'a>(&'a self, partition: &'a str) -> BoxFuture<'a, Result<Vec<Item>, ItemError>> {
        Box::pin(async move {
            let items = self.table.query(partition).await?;
            Ok(items.into_iter().map(|item| self.shown(item)).collect())
        })
    }

    fn write(&self, mut write: Write) -> BoxFuture<'_, Result<Written, ItemError>> {
        if let (Expected::Is(expected), Some(to)) = (write.expected, write.to.as_ref().and_then(stamp))
            && write.key.entry != LEASE
        {
            let is = self.really(&write.key, expected);
            if expected.epoch < to.epoch && is == expected {
                self.pretend(&write.key, is, to);
                return Box::pin(async { Ok(Written::Done) });
            }
            write.expected = Expected::Is(is);
        }
        self.table.write(write)
    }
}
