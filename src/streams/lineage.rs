//! Which shards of a stream exist, and which may be read now. Pure: no I/O, no clock.
//!
//! Contract:
//! - A shard is handed out by [`Lineage::take_ready`] at most once, and never again after it was read or restored as
//!   read.
//! - It is handed out only when its parent was read to the end, or when it has none, or when two whole listings since
//!   the shard was first seen have lacked the parent: that one was trimmed. One listing may leave a shard out.
//! - Listings may be partial, repeated, out of order and contradictory. What was once listed is never unlearned, so a
//!   half-finished or empty listing changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::records::ShardId;

/// A shard counts as closed before a moment only if its children were created this long before it.
///
/// Ids of shards and times of records come from different machines of AWS, and nothing says how far their clocks are apart.
/// Five minutes is how far AWS lets the clock of a signed request be off, and more than the second to which times of
/// records are rounded. Too much of it costs a few calls on shards that hold nothing; too little would lose changes.
const CLOCK_MARGIN: Duration = Duration::from_mins(5);

/// 2015, the year in which DynamoDB Streams appeared: digits that stand for an earlier time are a counter.
const EARLIEST_MILLIS: u64 = 1_420_070_400_000;

/// The shards of one stream and how far each has come.
#[derive(Debug, Default)]
pub struct Lineage {
    shards: BTreeMap<ShardId, Shard>,
    /// The listing pass that is under way; passes are counted from 1.
    pass: u64,
    /// The last pass that reached its end; 0 before the first.
    completed: u64,
}

#[derive(Debug)]
struct Shard {
    parent: Option<ShardId>,
    stage: Stage,
    /// The pass in which the shard was first seen.
    seen: u64,
    /// The pass in which a listing last showed it.
    listed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Reading,
    Read,
}

/// A shard that may be read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    pub id: ShardId,
    /// The shard that it continues, if that is known here.
    pub parent: Option<ShardId>,
}

/// How many shards are in which stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub reading: usize,
    /// Waiting for their parent.
    pub waiting: usize,
    /// Read to their end.
    pub finished: usize,
}

impl Lineage {
    /// An empty lineage, before the first listing.
    pub fn new() -> Self {
        Self { pass: 1, ..Self::default() }
    }

    /// Takes over a shard that an earlier run has read to its end.
    pub fn restore_read(&mut self, id: &str, parent: Option<&str>) {
        self.insert(id, parent, Stage::Read);
    }

    /// Takes over a shard that an earlier run was reading: it is ready at once, because its position was stored only
    /// after everything in its ancestors had been settled.
    pub fn restore_reading(&mut self, id: &str, parent: Option<&str>) -> Ready {
        let id = self.insert(id, parent, Stage::Reading);
        Ready { parent: self.known_parent(&id), id }
    }

    /// Learns one shard from a listing or from a question for children.
    pub fn learn(&mut self, id: &str, parent: Option<&str>) {
        let pass = self.pass;
        match self.shards.get_mut(id) {
            Some(shard) => {
                shard.listed = pass;
                if shard.parent.is_none() {
                    shard.parent = parent.filter(|parent| *parent != id).map(Arc::from);
                }
            }
            None => {
                self.insert(id, parent, Stage::Waiting);
            }
        }
    }

    /// A listing pass has reached the last page.
    pub fn complete_pass(&mut self) {
        self.completed = self.pass;
        self.pass += 1;
    }

    /// Whether any listing pass has reached the last page.
    pub fn was_listed(&self) -> bool {
        self.completed > 0
    }

    /// Whether a shard waits for another listing to lack its parent.
    pub fn is_in_doubt(&self) -> bool {
        let unknown = |shard: &Shard| shard.parent.as_ref().is_some_and(|parent| !self.shards.contains_key(parent));
        self.shards.values().any(|shard| shard.stage == Stage::Waiting && unknown(shard) && !self.may_be_read(shard))
    }

    /// All shards that wait, whatever is known of their parents: for a start at the stream's newest records.
    pub fn take_leaves(&mut self) -> Vec<Ready> {
        self.take(|_, shard| shard.stage == Stage::Waiting)
    }

    /// The shards that may be read now; each is returned once and then counts as being read.
    pub fn take_ready(&mut self) -> Vec<Ready> {
        self.take(|lineage, shard| shard.stage == Stage::Waiting && lineage.may_be_read(shard))
    }

    fn take(&mut self, which: impl Fn(&Self, &Shard) -> bool) -> Vec<Ready> {
        let ready: Vec<ShardId> =
            self.shards.iter().filter(|(_, shard)| which(self, shard)).map(|(id, _)| id.clone()).collect();
        for id in &ready {
            self.set_stage(id, Stage::Reading);
        }
        ready.into_iter().map(|id| Ready { parent: self.known_parent(&id), id }).collect()
    }

    /// A shard was read to its end, or turned out to be gone: its children may be read.
    pub fn read_to_end(&mut self, id: &str) {
        self.set_stage(id, Stage::Read);
    }

    /// Marks every shard that has a child as read and returns their ids: for a start at the stream's newest records,
    /// where only shards without a child matter.
    pub fn skip_parents(&mut self) -> Vec<Ready> {
        let parents: Vec<ShardId> = self
            .shards
            .iter()
            .filter(|(id, shard)| shard.stage == Stage::Waiting && self.has_child(id))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &parents {
            self.set_stage(id, Stage::Read);
        }
        parents.into_iter().map(|id| Ready { parent: self.known_parent(&id), id }).collect()
    }

    /// Marks as read every shard that was closed before `moment` by what ids say of their children, and returns them,
    /// parents first: for a start at that moment, where their records are too old to be delivered.
    ///
    /// A shard that holds a record of the moment must not be among them, so each doubt is decided for reading: before the
    /// first whole listing, without a child (the shard may be open), if an id among the shard and its children has no
    /// time or the times contradict the lineage, within the margin for clocks, and behind a shard that is read itself.
    pub fn skip_closed_before(&mut self, moment: SystemTime) -> Vec<Ready> {
        let Some(before) = moment.checked_sub(CLOCK_MARGIN).filter(|_| self.was_listed()) else {
            return Vec::new();
        };
        let mut closed = self.closing_times();
        closed.retain(|id, at| at.is_some_and(|at| at < before && created_at(id).is_some_and(|created| created <= at)));
        let mut skipped = Vec::new();
        loop {
            let next: Vec<ShardId> = closed.keys().filter(|id| self.waits_for_nothing(id)).cloned().collect();
            if next.is_empty() {
                return skipped;
            }
            for id in next {
                self.set_stage(&id, Stage::Read);
                skipped.push(Ready { parent: self.known_parent(&id), id });
            }
        }
    }

    /// For each shard with children the latest time at which one of them was created; none if an id does not say.
    fn closing_times(&self) -> BTreeMap<ShardId, Option<SystemTime>> {
        let mut times: BTreeMap<ShardId, Option<SystemTime>> = BTreeMap::new();
        for (id, shard) in &self.shards {
            if let Some(parent) = &shard.parent {
                let created = created_at(id);
                let time = times.entry(parent.clone()).or_insert(created);
                *time = (*time).zip(created).map(|(one, other)| one.max(other));
            }
        }
        times
    }

    /// A shard that waits although its parent, if it is known here, was read or skipped.
    fn waits_for_nothing(&self, id: &str) -> bool {
        self.shards.get(id).is_some_and(|shard| {
            let parent = shard.parent.as_ref().and_then(|parent| self.shards.get(parent));
            shard.stage == Stage::Waiting && parent.is_none_or(|parent| parent.stage == Stage::Read)
        })
    }

    /// Whether any known shard continues this one. A shard with a child is closed, whatever the listing says of it.
    pub fn has_child(&self, id: &str) -> bool {
        self.shards.values().any(|shard| shard.parent.as_deref() == Some(id))
    }

    /// Shards that are being read although a child is known: they are closed and will end.
    pub fn closed_while_reading(&self) -> impl Iterator<Item = &ShardId> {
        self.shards
            .values()
            .filter_map(|shard| shard.parent.as_ref())
            .filter(|parent| self.shards.get(*parent).is_some_and(|shard| shard.stage == Stage::Reading))
    }

    /// Whether every known shard was read to its end.
    pub fn is_drained(&self) -> bool {
        self.shards.values().all(|shard| shard.stage == Stage::Read)
    }

    /// Drops a shard that was read, if no listing shows it any more; says whether it did.
    pub fn forget(&mut self, id: &str) -> bool {
        let stale = self
            .shards
            .get(id)
            .is_some_and(|shard| shard.stage == Stage::Read && self.completed > 0 && shard.listed < self.completed);
        if stale {
            self.shards.remove(id);
        }
        stale
    }

    /// How many shards are in which stage.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for shard in self.shards.values() {
            match shard.stage {
                Stage::Waiting => counts.waiting += 1,
                Stage::Reading => counts.reading += 1,
                Stage::Read => counts.finished += 1,
            }
        }
        counts
    }

    fn insert(&mut self, id: &str, parent: Option<&str>, stage: Stage) -> ShardId {
        let id: ShardId = Arc::from(id);
        let parent = parent.filter(|parent| **parent != *id).map(Arc::from);
        let shard = Shard { parent, stage, seen: self.pass, listed: self.pass };
        self.shards.insert(id.clone(), shard);
        id
    }

    fn may_be_read(&self, shard: &Shard) -> bool {
        let Some(parent) = &shard.parent else { return true };
        match self.shards.get(parent) {
            Some(parent) => parent.stage == Stage::Read,
            None => self.completed > shard.seen,
        }
    }

    fn known_parent(&self, id: &str) -> Option<ShardId> {
        let parent = self.shards.get(id)?.parent.as_ref()?;
        self.shards.contains_key(parent).then(|| parent.clone())
    }

    fn set_stage(&mut self, id: &str, stage: Stage) {
        if let Some(shard) = self.shards.get_mut(id) {
            shard.stage = stage;
        }
    }
}

/// When a shard was created, if its id says so as those of AWS do: `shardId-`, 20 digits of milliseconds, `-`, hexadecimal
/// digits. Other services have other ids.
fn created_at(id: &str) -> Option<SystemTime> {
    let (digits, rest) = id.strip_prefix("shardId-")?.split_once('-')?;
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_well_formed = digits.len() == 20
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && !rest.is_empty()
        && rest.bytes().all(is_hex);
    let millis = digits.parse().ok().filter(|millis| is_well_formed && *millis >= EARLIEST_MILLIS)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests;
