//! The positions of one table under one lease: taken over from earlier owners, and written entry by entry.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, FuturesUnordered, StreamExt as _};

use super::entries::{self, Entry, EntryError, EntryName};
use super::items::{ItemError, ItemKey, ItemTable, Members, Stamp, Write, Written};
use super::ledger::{Attempt, Failure, Found, Ledger};
use super::memory::TableMemory;
use super::plan::{Change, Plan, deleting, everything, plan, without_descendants};
use super::strays::Strays;
use crate::checkpoint::{CheckpointStore, SaveError, StoreError, StoredChanges, StoredTable};
use crate::lease::HeldLease;

/// Writes that are under way at once, where none has to wait for another one.
const WRITES_AT_ONCE: usize = 16;

/// After so many writes in a row that failed a save tries no more.
const FAILURES_IN_A_ROW: usize = WRITES_AT_ONCE;

/// How often what an earlier owner wrote meanwhile is taken over before that is called strange: its lease is over, and a request lives
/// for seconds.
const ROUNDS: usize = 10;

/// How far saves lie apart: each changed shard costs a write unit or two.
const INTERVAL: Duration = Duration::from_secs(1);

/// How old what is stored of a shard gets that does not change: to say so costs a write unit each time.
pub const VERIFICATION_AGE: Duration = Duration::from_hours(1);

/// One table's positions in the hands of one owner.
pub(super) struct Positions {
    pub items: Arc<dyn ItemTable>,
    pub memory: Arc<TableMemory>,
    pub partition: String,
    pub lease: HeldLease,
    pub ledger: Arc<Ledger>,
    /// Drawn for this tenure: what it sends again is what it has sent.
    pub chance: u32,
}

impl Positions {
    /// Makes an entry so.
    async fn put(&self, name: &EntryName, to: Option<&Entry>) -> Result<(), Failure> {
        while let Some(attempt) = self.ledger.begin(name, to, self.lease.epoch)? {
            self.send(name, attempt).await?;
        }
        Ok(())
    }

    async fn send(&self, name: &EntryName, attempt: Attempt) -> Result<(), Failure> {
        match self.write(name, &attempt).await {
            Ok(Written::Done) => self.ledger.confirm(name, attempt),
            Ok(Written::Conflict(current)) if current == self.members(&attempt) => self.ledger.confirm(name, attempt),
            Ok(Written::Conflict(current)) => return Err(self.ledger.fence(self.conflict(name, current.as_ref()))),
            Err(ItemError::NotDone(why)) => {
                self.ledger.give_up(name, &attempt);
                return Err(Failure::NotDone(why.to_string()));
            }
            Err(ItemError::Unknown(why)) => return Err(Failure::Unknown(why.to_string())),
        }
        Ok(())
    }

    async fn write(&self, name: &EntryName, attempt: &Attempt) -> Result<Written, ItemError> {
        let key = ItemKey { partition: self.partition.clone(), entry: name.to_string() };
        self.items.write(Write { key, expected: attempt.expected, to: self.members(attempt) }).await
    }

    fn members(&self, attempt: &Attempt) -> Option<Members> {
        attempt.to.as_ref().map(|entry| entry.members(attempt.stamp, &self.lease.owner))
    }

    /// Why an entry is not what this owner knows.
    fn conflict(&self, name: &EntryName, current: Option<&Members>) -> String {
        match current.and_then(entries::stamp) {
            Some(stamp) if stamp.epoch > self.lease.epoch => {
                self.memory.saw_epoch(stamp.epoch);
                self.is_claimed(stamp)
            }
            _ => format!("somebody else has written or deleted the entry {:?} of {}", name.to_string(), self.partition),
        }
    }

    fn is_claimed(&self, stamp: Stamp) -> String {
        let (theirs, ours) = (stamp.epoch, self.lease.epoch);
        format!("another process has claimed {}, under epoch {theirs}; this one's is {ours}", self.partition)
    }

    /// Writes stage by stage.
    async fn execute(&self, plan: Plan) -> Result<(), Failure> {
        for stage in plan.stages {
            self.write_stage(&stage).await?;
        }
        Ok(())
    }

    async fn write_stage(&self, stage: &[Change]) -> Result<(), Failure> {
        let mut ready: VecDeque<usize> = (0..stage.len()).filter(|index| stage[*index].after.is_none()).collect();
        let mut followers: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, change) in stage.iter().enumerate() {
            if let Some(before) = change.after {
                followers.entry(before).or_default().push(index);
            }
        }
        let (mut running, mut failed, mut failures, mut left) = (FuturesUnordered::new(), None, 0, stage.len());
        loop {
            let goes_on = failures < FAILURES_IN_A_ROW && !matches!(failed, Some(Failure::Fenced(_)));
            while goes_on
                && running.len() < WRITES_AT_ONCE
                && let Some(index) = ready.pop_front()
            {
                let Change { name, to, .. } = &stage[index];
                running.push(async move { (index, self.put(name, to.as_ref()).await) });
            }
            match running.next().await {
                None => break,
                Some((index, Ok(()))) => {
                    (failures, left) = (0, left - 1);
                    ready.extend(followers.remove(&index).unwrap_or_default());
                }
                Some((_, Err(failure))) => {
                    failures += 1;
                    failed = Some(failed.map_or(failure.clone(), |earlier: Failure| earlier.or(failure)));
                }
            }
        }
        match failed {
            Some(failure) => Err(failure),
            None if left > 0 => {
                Err(Failure::NotDone(format!("{left} shards of {} continue each other", self.partition)))
            }
            None => Ok(()),
        }
    }

    /// All entries as they are now. A table that was made anew, or restored, since this owner has claimed it does not have its lease: what
    /// it holds is for the next tenure.
    async fn find(&self) -> Result<Found, StoreError> {
        let items = self.items.query(&self.partition).await.map_err(|error| StoreError(error.to_string()))?;
        let (mut found, mut has_lease) = (Found::new(), false);
        for item in items {
            if let Some(stamp) = entries::stamp(&item.members) {
                self.memory.saw_epoch(stamp.epoch);
                if stamp.epoch > self.lease.epoch {
                    return Err(StoreError(self.is_claimed(stamp)));
                }
            }
            if item.key.entry == entries::LEASE {
                has_lease = entries::stamp(&item.members).is_some_and(|stamp| stamp.epoch == self.lease.epoch);
            } else {
                let parsed = entries::entry(&item.key.entry, &item.members);
                let (name, stamp, entry) = parsed.map_err(|error| self.unusable(&error))?;
                found.insert(name, (stamp, entry));
            }
        }
        match has_lease {
            true => Ok(found),
            false => Err(StoreError(format!("this process's lease of {} is not there any more", self.partition))),
        }
    }

    /// The same without what belongs to a table that is not there any more: that is deleted.
    async fn find_own(&self) -> Result<Found, StoreError> {
        for round in 0..ROUNDS {
            self.ledger.read(self.find().await?);
            let strays = self.ledger.look(Strays::of);
            if let Some(orphan) = strays.orphans.first().filter(|_| !self.memory.is_another_table()) {
                // What it belongs to may have been created behind the place where the query was.
                match round {
                    0 => continue,
                    _ => return Err(self.unusable(&EntryError::Orphan { entry: orphan.to_string() })),
                }
            }
            let strays = strays.all();
            if strays.is_empty() {
                return Ok(self.ledger.found());
            }
            self.execute(self.ledger.look(|entries| deleting(strays, entries))).await?;
        }
        Err(self.still_written())
    }

    fn still_written(&self) -> StoreError {
        StoreError(format!("another process still writes the entries of {}", self.partition))
    }

    fn unusable(&self, error: &EntryError) -> StoreError {
        StoreError(format!("the positions of {} cannot be used and were not changed: {error}", self.partition))
    }

    /// Keeps earlier owners from writing, and takes over what they have written.
    async fn take_over(&self) -> Result<Option<StoredTable>, StoreError> {
        let mut found = self.find_own().await?;
        let remembered = self.memory.last();
        if let Some(lost) = self.memory.lost(&found, self.lease.epoch) {
            self.execute(self.plan(&lost.into())).await?;
            found = self.find_own().await?;
        }
        let is_older = remembered.is_some_and(|remembered| remembered.is_ahead_of(&found));
        self.ledger.take_over(self.touch_all(found).await?);
        if is_older {
            self.execute(self.ledger.look(without_descendants)).await?;
        }
        let stored = self.ledger.stored().map_err(|error| self.unusable(&error))?;
        self.memory.loaded(self.ledger.clone());
        Ok(stored)
    }

    /// Raises the stamps of all open entries of earlier owners, until none is left; all entries then.
    async fn touch_all(&self, mut found: Found) -> Result<Found, StoreError> {
        let is_old = |stamp: Stamp, entry: &Entry| entry.is_open() && stamp.epoch < self.lease.epoch;
        for _ in 0..ROUNDS {
            let mut touches = Vec::new();
            for (name, (stamp, entry)) in found.iter().filter(|(_, (stamp, entry))| is_old(*stamp, entry)) {
                touches.push(self.touch(name, *stamp, entry));
            }
            if touches.is_empty() {
                drop(touches);
                return Ok(found);
            }
            let mut touched = stream::iter(touches).buffer_unordered(WRITES_AT_ONCE);
            while let Some(touched) = touched.next().await {
                touched?;
            }
            drop(touched);
            found = self.find().await?;
        }
        Err(self.still_written())
    }

    /// Raises the stamp of one entry if it is as it was seen; if it is not, the next look shows.
    async fn touch(&self, name: &EntryName, seen: Stamp, entry: &Entry) -> Result<(), StoreError> {
        let written = self.write(name, &Attempt::onto(Some(seen), Some(entry.clone()), self.lease.epoch)).await;
        written.map(drop).map_err(|error| StoreError(error.to_string()))
    }

    fn plan(&self, changes: &StoredChanges) -> Plan {
        let plan = self.ledger.look(|entries| plan(changes, entries, self.chance));
        self.memory.heads_left_out(plan.left_out_heads, &self.partition);
        plan
    }

    async fn store(&self, changes: StoredChanges) -> Result<(), SaveError> {
        if !self.ledger.is_taken_over() {
            return Err(SaveError::NotStored(StoreError("what is stored was not read yet".to_owned())));
        }
        Ok(self.execute(self.plan(&changes)).await?)
    }

    /// Makes a table's entries these and no others: for people who edit what is stored.
    pub(super) async fn replace(&self, wanted: StoredTable) -> Result<(), SaveError> {
        self.take_over().await.map_err(SaveError::NotStored)?;
        self.execute(self.ledger.look(everything)).await?;
        self.store(wanted.into()).await
    }
}

impl CheckpointStore for Positions {
    fn load<'a>(&'a self, _table: &'a str) -> BoxFuture<'a, Result<Option<StoredTable>, StoreError>> {
        self.take_over().boxed()
    }

    fn save<'a>(&'a self, _table: &'a str, changes: StoredChanges) -> BoxFuture<'a, Result<(), SaveError>> {
        self.store(changes).boxed()
    }

    fn interval(&self) -> Duration {
        INTERVAL
    }

    fn verification_age(&self) -> Duration {
        VERIFICATION_AGE
    }
}
