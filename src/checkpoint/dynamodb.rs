//! Positions and leases in a table of DynamoDB: one table for many adapters, one partition for each consumer group and table.
//!
//! What stands in it is described in `entries.rs`. Who writes:
//! - Every write is conditional on the stamp (`epoch`, `version`) that the writer knows the entry to have, and raises it. So a write that
//!   was delayed never lands behind a newer one. A condition that fails shows the entry: if it is what this owner wrote, it was
//!   done before; if it has a higher epoch, another process is the owner; anything else is a stranger's work. The two end the tenure,
//!   and the next one reads anew.
//! - A write of which nobody knows whether it happened is sent again as it was until that is known, before anything else is written
//!   of its entry.
//! - A save goes from ancestors to descendants (`plan.rs`): an entry is sent when those of all its ancestors were confirmed.
//!
//! How an owner takes over: it has claimed the lease under a higher epoch, reads all entries, and *touches* each that an earlier owner
//! could still change: writes it as it is, with its own epoch, if it still has the stamp that was seen. Then it reads again, until none of an
//! earlier epoch is left. From then on an earlier owner's late writes fail. What was read holds for each entry what its ancestors'
//! entries demand: had an ancestor been touched before an earlier owner could change it, that owner would not have written the descendant.
//! - Finished shards need no touch: their entries never change again; they are deleted at most, and nobody reads those shards then.
//! - What an earlier owner may still do is to *create* the entry of a shard that has none, and to go on with that one. It was sent
//!   because the ancestors' entries were confirmed, which were touched behind that: so it holds nothing that the ancestors' entries do
//!   not allow. The new owner does not know it; when it writes that entry itself, the condition fails, its tenure ends, and the next one
//!   reads it.
//! - An owner that has not learned yet that its table was deleted and made anew may create entries in the new one: see `strays.rs`.
//! - A stop (`ON_DATA_LOSS=stop`) and streams are touched like open shards. Of two first starts one creates the stream, with its moment.
//!
//! If the table was deleted, made anew, or restored from a backup: see `memory.rs`. Entries of a backup may be of moments a second apart;
//! where this process finds an entry older than it knows, it forgets all that continues a shard which is not finished: that comes again,
//! in order. A table that is made anew while an owner lives, and in whose place a process claims that has never seen a lease, has two
//! owners until the first one's next renewal.

pub mod aws;
mod entries;
mod heads;
pub mod items;
mod ledger;
mod memory;
mod plan;
mod positions;
mod strays;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use self::entries::EntryError;
use self::items::{Expected, Item, ItemError, ItemKey, ItemTable, Members, Stamp, Write, Written};
use self::ledger::Ledger;
use self::memory::TableMemory;
use self::positions::Positions;
pub use self::positions::VERIFICATION_AGE;
use self::strays::Strays;
use super::{CheckpointStore, LeasedStore, SaveError, StoreError, StoredPositions, StoredTable};
use crate::lease::{HeldLease, LeaseError, LeaseStore, SeenLease};

/// How often a renewal or a release is sent again that met an earlier one of this owner.
const TRIES: usize = 3;

/// Among so many the first epoch of a lease is drawn.
const FIRST_EPOCHS: u32 = 1_000_000;

/// The positions and leases of one consumer group.
pub struct DynamoStore {
    group: String,
    items: Arc<dyn ItemTable>,
    leases: Arc<dyn ItemTable>,
    memories: Mutex<BTreeMap<String, Arc<TableMemory>>>,
}

impl DynamoStore {
    /// The store in a table. `leases` is the same table by a way of its own, with deadlines shorter than a lease: a renewal never waits
    /// behind writes of positions.
    pub fn new(group: &str, items: Arc<dyn ItemTable>, leases: Arc<dyn ItemTable>) -> Self {
        Self { group: group.to_owned(), items, leases, memories: Mutex::default() }
    }

    /// Replaces all that is stored of a table, streams' starts included, for the owner of this lease: for people who edit what is
    /// stored. What fails in between leaves less than was stored, which then comes again.
    ///
    /// # Errors
    /// As [`CheckpointStore::save`].
    pub async fn overwrite(&self, table: &str, lease: &HeldLease, stored: StoredTable) -> Result<(), SaveError> {
        self.owned(table, lease).replace(stored).await
    }

    fn owned(&self, table: &str, lease: &HeldLease) -> Positions {
        Positions {
            items: self.items.clone(),
            memory: self.memory(table),
            partition: partition(&self.group, table),
            lease: lease.clone(),
            ledger: Arc::<Ledger>::default(),
            chance: fastrand::u32(..),
        }
    }

    fn memory(&self, table: &str) -> Arc<TableMemory> {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories.entry(table.to_owned()).or_default().clone()
    }

    fn lease_key(&self, table: &str) -> ItemKey {
        ItemKey { partition: partition(&self.group, table), entry: entries::LEASE.to_owned() }
    }

    async fn look_at(&self, table: &str) -> Result<Option<SeenLease>, LeaseError> {
        let found = self.leases.get(&self.lease_key(table)).await.map_err(failed)?;
        let seen = found.map(|members| entries::lease(&members)).transpose();
        let seen = seen.map_err(|error| LeaseError::Store(error.to_string()))?;
        if let Some(seen) = &seen {
            self.memory(table).saw_epoch(seen.epoch);
        }
        Ok(seen)
    }

    async fn claim_as(
        &self,
        table: &str,
        seen: Option<&SeenLease>,
        above: u64,
        owner: &str,
        duration: Duration,
    ) -> Result<HeldLease, LeaseError> {
        let (memory, mut left_by) = (self.memory(table), None);
        if seen.is_none() {
            // Whoever has deleted the lease may have left entries, above whose epochs this one has to be.
            let left = self.items.query(&partition(&self.group, table)).await.map_err(failed)?;
            left_by = left.iter().filter_map(|item| entries::stamp(&item.members)).map(|stamp| stamp.epoch).max();
        }
        let seen_epoch = seen.map(|seen| seen.epoch).or(left_by).unwrap_or_default();
        let highest = above.max(memory.highest_epoch()).max(seen_epoch);
        // Of a lease that is created nobody may take the stamps for those of another table's, which was deleted while its owner lives.
        let drawn = if seen.is_none() { u64::from(fastrand::u32(..FIRST_EPOCHS)) } else { 0 };
        let (epoch, version) = (highest + 1 + drawn, seen.map_or(0, |seen| seen.version) + 1);
        let expected =
            seen.map_or(Expected::Absent, |seen| Expected::Is(Stamp { epoch: seen.epoch, version: seen.version }));
        let stamp = Stamp { epoch, version };
        let to = Some(entries::lease_members(Some(owner), stamp, duration));
        match self.leases.write(Write { key: self.lease_key(table), expected, to }).await.map_err(failed)? {
            Written::Done => {
                memory.claimed(seen, stamp);
                Ok(HeldLease { owner: owner.to_owned(), epoch, duration })
            }
            // Also if it is what this process wrote: nobody knows when.
            Written::Conflict(_) => Err(LeaseError::Lost),
        }
    }

    /// Writes a lease that this process has: of this owner, or given back.
    async fn write_lease(&self, table: &str, lease: &HeldLease, owner: Option<&str>) -> Result<(), LeaseError> {
        let memory = self.memory(table);
        let is_held = |stamp: &Stamp| stamp.epoch == lease.epoch && memory.highest_epoch() <= lease.epoch;
        for _ in 0..TRIES {
            let known = memory.lease().filter(is_held).ok_or(LeaseError::Lost)?;
            let stamp = Stamp { version: known.version + 1, ..known };
            let to = Some(entries::lease_members(owner, stamp, lease.duration));
            let write = Write { key: self.lease_key(table), expected: Expected::Is(known), to };
            match self.leases.write(write).await.map_err(failed)? {
                Written::Done => {
                    memory.set_lease(owner.map(|_| stamp));
                    return Ok(());
                }
                // An earlier renewal of which nobody knew: this one is made behind it.
                Written::Conflict(current) => memory.set_lease(Some(own(current, lease).ok_or(LeaseError::Lost)?)),
            }
        }
        Err(LeaseError::Store("the lease changes faster than it can be renewed".to_owned()))
    }
}

/// Reads an item as an entry and as a lease.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_entry(key: &str, members: &Members) {
    match entries::entry(key, members) {
        Ok((name, _, entry)) => drop(entries::stored([(&name, &entry)])),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Err(error) = entries::lease(members) {
        assert!(!error.to_string().is_empty());
    }
}

/// The stamp of a lease if it is this one.
fn own(current: Option<Members>, lease: &HeldLease) -> Option<Stamp> {
    let SeenLease { owner, epoch, version, .. } = entries::lease(&current?).ok()?;
    (owner.as_deref() == Some(&*lease.owner) && epoch == lease.epoch).then_some(Stamp { epoch, version })
}

fn failed(error: ItemError) -> LeaseError {
    LeaseError::Store(error.to_string())
}

/// The partition of a group's table. A table is named by an ARN, which has no space in it.
fn partition(group: &str, table: &str) -> String {
    format!("{group} {table}")
}

/// What a consumer group's adapter has stored of a table, also while it runs; none: nothing.
///
/// # Errors
/// When the table of positions does not answer, or holds what this version does not know.
pub async fn peek(items: &dyn ItemTable, group: &str, table: &str) -> Result<Option<StoredTable>, StoreError> {
    let found = items.query(&partition(group, table)).await.map_err(|error| StoreError(error.to_string()))?;
    Ok(all_positions(&found)?.remove(group).and_then(|mut tables| tables.remove(table)))
}

/// What these items hold: all that is stored in a table, leases excepted, and what is left of a table that is not there any more.
///
/// # Errors
/// Where an item is no entry of this version, or what it belongs to has no entry.
pub fn all_positions(items: &[Item]) -> Result<StoredPositions, StoreError> {
    let mut partitions: BTreeMap<&str, Vec<&Item>> = BTreeMap::new();
    for item in items.iter().filter(|item| item.key.entry != entries::LEASE) {
        partitions.entry(&item.key.partition).or_default().push(item);
    }
    let mut all = StoredPositions::new();
    for (partition, items) in partitions {
        let unusable = |error| StoreError(format!("the positions of {partition} cannot be used: {error}"));
        let parsed = items.iter().map(|item| entries::entry(&item.key.entry, &item.members));
        let mut parsed: BTreeMap<_, _> = parsed
            .map(|entry| entry.map(|(name, _, entry)| (name, entry)))
            .collect::<Result<_, _>>()
            .map_err(unusable)?;
        let Strays { replaced, orphans } = Strays::of(&parsed.iter().collect());
        if let Some(orphan) = orphans.first() {
            return Err(unusable(EntryError::Orphan { entry: orphan.to_string() }));
        }
        replaced.iter().for_each(|name| drop(parsed.remove(name)));
        let (group, table) = partition.rsplit_once(' ').unwrap_or(("", partition));
        if let Some(stored) = entries::stored(&parsed).map_err(unusable)? {
            all.entry(group.to_owned()).or_default().insert(table.to_owned(), stored);
        }
    }
    Ok(all)
}

impl LeaseStore for DynamoStore {
    fn look<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<Option<SeenLease>, LeaseError>> {
        self.look_at(table).boxed()
    }

    fn claim<'a>(
        &'a self,
        table: &'a str,
        seen: Option<&'a SeenLease>,
        above: u64,
        owner: &'a str,
        duration: Duration,
    ) -> BoxFuture<'a, Result<HeldLease, LeaseError>> {
        self.claim_as(table, seen, above, owner, duration).boxed()
    }

    fn renew<'a>(&'a self, table: &'a str, lease: &'a HeldLease) -> BoxFuture<'a, Result<(), LeaseError>> {
        self.write_lease(table, lease, Some(&lease.owner)).boxed()
    }

    fn release<'a>(&'a self, table: &'a str, lease: &'a HeldLease) -> BoxFuture<'a, Result<(), LeaseError>> {
        self.write_lease(table, lease, None).boxed()
    }
}

impl LeasedStore for DynamoStore {
    fn positions(&self, table: &str, lease: &HeldLease) -> Arc<dyn CheckpointStore> {
        Arc::new(self.owned(table, lease))
    }
}

impl std::fmt::Debug for DynamoStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DynamoStore").field("group", &self.group).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
