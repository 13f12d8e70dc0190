//! Which shards of a stream exist, and which may be read now. Pure: no I/O, no clock.
//!
//! Contract:
//! - A shard is handed out by [`Lineage::take_ready`] at most once, and never again after it was read or restored as
//!   read.
//! - It is handed out only when all its known ancestors were read to their ends, those that an earlier run had finished included. One
//!   whose parent is not known is handed out if an earlier run has stored something of it, or if its own id says that the parent was
//!   closed too long ago to hold anything. Otherwise the parent becomes a shard that no listing has shown
//!   ([`Lineage::take_unlisted_parents`]): a listing may leave a shard out, so somebody has to ask for it.
//! - Listings may be partial, repeated, out of order and contradictory. What was once listed is never unlearned, so a
//!   half-finished or empty listing changes nothing. A parent that would make a circle is not believed.
//! - No step costs more than the shards that it changes, and the logarithm of all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::records::{CLOCK_MARGIN, ShardId, ShardNumber};

/// 2015, the year in which DynamoDB Streams appeared: digits that stand for an earlier time are a counter.
const EARLIEST_MILLIS: u64 = 1_420_070_400_000;

/// The shards of one stream, how far each has come, and whatever else (`S`) is known of each.
#[derive(Debug)]
pub struct Lineage<S> {
    shards: BTreeMap<ShardNumber, Shard<S>>,
    next_number: ShardNumber,
    numbers: BTreeMap<ShardId, ShardNumber>,
    /// Who names a shard as its parent, by that one's id, whether it is known or not.
    children: BTreeMap<ShardId, BTreeSet<ShardNumber>>,
    /// Shards that wait and whose turn may have come.
    candidates: BTreeSet<ShardNumber>,
    /// Shards that wait and whose parent is not known.
    orphans: BTreeSet<ShardNumber>,
    /// Shards that are being read although a child is known, and of which nobody was told.
    closed: Vec<ShardNumber>,
    counts: Counts,
    /// The listing pass that is under way; passes are counted from 1.
    pass: u64,
    /// The last pass that reached its end; 0 before the first.
    completed: u64,
}

#[derive(Debug)]
struct Shard<S> {
    id: ShardId,
    parent: Option<ShardId>,
    stage: Stage,
    /// It was read, and so were all its ancestors.
    is_passed: bool,
    /// An earlier run has stored something of it.
    is_restored: bool,
    /// A listing has shown it, or whoever asked for it has found it.
    is_known: bool,
    /// Its parent holds nothing any more.
    is_cut: bool,
    /// The pass in which a listing last showed it.
    listed: u64,
    state: S,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Reading,
    Read,
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

/// A shard that an earlier run has stored.
#[derive(Debug)]
pub struct Restored<S> {
    pub id: ShardId,
    pub parent: Option<ShardId>,
    /// It was read to its end, and everything in it is settled.
    pub is_read: bool,
    pub state: S,
}

impl<S> Default for Lineage<S> {
    fn default() -> Self {
        Self {
            shards: BTreeMap::new(),
            next_number: 0,
            numbers: BTreeMap::new(),
            children: BTreeMap::new(),
            candidates: BTreeSet::new(),
            orphans: BTreeSet::new(),
            closed: Vec::new(),
            counts: Counts::default(),
            pass: 1,
            completed: 0,
        }
    }
}

impl<S> Lineage<S> {
    /// What an earlier run has stored, before the first listing.
    pub fn restored(shards: impl IntoIterator<Item = Restored<S>>) -> Self {
        let mut lineage = Self::default();
        for Restored { id, parent, is_read, state } in shards {
            let number = lineage.insert(id, parent, state);
            lineage.shard_mut(number).is_restored = true;
            if is_read {
                lineage.set_stage(number, Stage::Read);
            }
        }
        let numbers: Vec<ShardNumber> = lineage.shards.keys().copied().collect();
        numbers.into_iter().for_each(|number| lineage.reconsider(number));
        lineage
    }

    /// Learns one shard from a listing or from a question for children; of one that is new `state` is known besides.
    pub fn learn(&mut self, id: &str, parent: Option<&str>, state: impl FnOnce() -> S) {
        let pass = self.pass;
        let Some(number) = self.number(id) else {
            self.insert(Arc::from(id), parent.map(Arc::from), state());
            return;
        };
        let shard = self.shard_mut(number);
        shard.listed = pass;
        let is_new = !std::mem::replace(&mut shard.is_known, true);
        if shard.parent.is_none()
            && let Some(parent) = parent.filter(|parent| !self.is_circle(id, parent))
        {
            self.shard_mut(number).parent = Some(Arc::from(parent));
            self.link(number);
        }
        if is_new {
            self.candidates.insert(number);
        }
    }

    /// A listing pass has reached the last page.
    pub fn complete_pass(&mut self) {
        self.completed = self.pass;
        self.pass += 1;
    }

    /// Decides about the shards that wait for a parent which no listing has shown, in a moment in which no listing is under way: its
    /// next page may have it. Where the id of such a shard says that it was created before `horizon`, less five minutes for clocks,
    /// its parent holds nothing any more, and it may be read. Each of the other parents becomes a shard of which `state` is known
    /// besides, is returned once, and waits to be listed or found.
    pub fn take_unlisted_parents(&mut self, horizon: SystemTime, state: impl Fn(&str) -> S) -> Vec<ShardNumber> {
        let horizon = horizon.checked_sub(CLOCK_MARGIN).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut parents = Vec::new();
        for number in std::mem::take(&mut self.orphans) {
            let shard = self.shard_mut(number);
            if shard.is_restored || created_at(&shard.id).is_some_and(|created| created < horizon) {
                shard.is_cut = true;
                self.candidates.insert(number);
                continue;
            }
            // Of two siblings the first one has brought it.
            let Some(parent) = shard.parent.clone().filter(|parent| self.number(parent).is_none()) else { continue };
            let parent_state = state(&parent);
            let parent = self.insert(parent, None, parent_state);
            let unlisted = self.shard_mut(parent);
            (unlisted.is_known, unlisted.listed) = (false, 0);
            parents.push(parent);
        }
        parents
    }

    /// Whether the last whole listing has shown a shard.
    pub fn is_listed(&self, number: ShardNumber) -> bool {
        self.shard(number).listed >= self.completed
    }

    /// Whether a listing has shown a shard, or somebody has found it.
    pub fn is_known(&self, number: ShardNumber) -> bool {
        self.shard(number).is_known
    }

    /// A shard that no listing has shown is there all the same: it is read like any other.
    pub fn find(&mut self, number: ShardNumber) {
        self.shard_mut(number).is_known = true;
        self.candidates.insert(number);
    }

    /// Whether any listing pass has reached the last page.
    pub fn was_listed(&self) -> bool {
        self.completed > 0
    }

    /// All shards that wait, whatever is known of their parents: for a start at the stream's newest records.
    pub fn take_leaves(&mut self) -> Vec<ShardNumber> {
        let waiting = self.waiting();
        waiting.iter().for_each(|number| self.take(*number));
        waiting
    }

    /// One shard, whatever is known of its parent; none if it does not wait.
    pub fn take_one(&mut self, id: &str) -> Option<ShardNumber> {
        let number = self.number(id).filter(|number| self.shard(*number).stage == Stage::Waiting)?;
        self.take(number);
        Some(number)
    }

    /// The shards that wait.
    pub fn waiting(&self) -> Vec<ShardNumber> {
        let waiting = self.shards.iter().filter(|(_, shard)| shard.stage == Stage::Waiting);
        waiting.map(|(number, _)| *number).collect()
    }

    /// The shards that may be read now; each is returned once and then counts as being read.
    pub fn take_ready(&mut self) -> Vec<ShardNumber> {
        let mut ready: Vec<ShardNumber> = std::mem::take(&mut self.candidates).into_iter().collect();
        ready.retain(|number| {
            self.shards.get(number).is_some_and(|shard| shard.stage == Stage::Waiting && self.may_be_read(shard))
        });
        ready.iter().for_each(|number| self.take(*number));
        ready
    }

    /// A shard was read to its end, or turned out to be gone: its children may be read.
    pub fn read_to_end(&mut self, number: ShardNumber) {
        self.set_stage(number, Stage::Read);
        self.reconsider(number);
    }

    /// Marks every shard that has a child as read and returns them: for a start at the stream's newest records, where only
    /// shards without a child matter.
    pub fn skip_parents(&mut self) -> Vec<ShardNumber> {
        let waiting = self.shards.iter().filter(|(_, shard)| shard.stage == Stage::Waiting);
        let parents = waiting.filter(|(_, shard)| self.children.contains_key(&shard.id));
        let parents: Vec<ShardNumber> = parents.map(|(number, _)| *number).collect();
        parents.iter().for_each(|number| self.read_to_end(*number));
        parents
    }

    /// Marks as read every shard that was closed before `moment` by what ids say of their children, and returns them,
    /// parents first: for a start at that moment, where their records are too old to be delivered.
    ///
    /// A shard that holds a record of the moment must not be among them, so each doubt is decided for reading: before the
    /// first whole listing, without a child (the shard may be open), if an id among the shard and its children has no
    /// time or the times contradict the lineage, within the margin for clocks, and behind a shard that is read itself.
    pub fn skip_closed_before(&mut self, moment: SystemTime) -> Vec<ShardNumber> {
        let Some(before) = moment.checked_sub(CLOCK_MARGIN).filter(|_| self.was_listed()) else {
            return Vec::new();
        };
        let mut skipped = Vec::new();
        let mut next: Vec<ShardNumber> = self.shards.keys().copied().collect();
        while !next.is_empty() {
            next.retain(|number| {
                let shard = self.shard(*number);
                shard.stage == Stage::Waiting && self.waits_for_nothing(shard) && self.was_closed_before(shard, before)
            });
            next.iter().for_each(|number| self.set_stage(*number, Stage::Read));
            let behind = next.iter().flat_map(|number| self.children_of(&self.shard(*number).id));
            let behind: Vec<ShardNumber> = behind.collect();
            next.iter().for_each(|number| self.reconsider(*number));
            skipped.append(&mut next);
            next = behind;
        }
        skipped
    }

    /// Whether a shard's id says that it was created then, or later.
    pub fn is_created_since(&self, number: ShardNumber, moment: SystemTime) -> bool {
        created_at(&self.shard(number).id).is_some_and(|created| created >= moment)
    }

    /// Whether a shard was closed so long before `moment` that clocks do not matter, by what ids say of it and its children.
    pub fn is_closed_before(&self, number: ShardNumber, moment: SystemTime) -> bool {
        let before = moment.checked_sub(CLOCK_MARGIN);
        before.is_some_and(|before| self.was_closed_before(self.shard(number), before))
    }

    fn was_closed_before(&self, shard: &Shard<S>, before: SystemTime) -> bool {
        let children = self.children_of(&shard.id).map(|child| created_at(&self.shard(child).id));
        // The latest of them; none if one of them does not say.
        let closed = children.reduce(|one, other| one.zip(other).map(|(one, other)| one.max(other))).flatten();
        closed.is_some_and(|at| at < before && created_at(&shard.id).is_some_and(|created| created <= at))
    }

    /// A shard whose parent, if it is known here, was read or skipped.
    fn waits_for_nothing(&self, shard: &Shard<S>) -> bool {
        self.parent_of(shard).is_none_or(|parent| self.shard(parent).stage == Stage::Read)
    }

    /// Whether any known shard continues this one. A shard with a child is closed, whatever the listing says of it.
    pub fn has_child(&self, id: &str) -> bool {
        self.children.contains_key(id)
    }

    /// What is known of the shards that no known one continues.
    pub fn childless(&self) -> impl Iterator<Item = &S> {
        self.shards.values().filter(|shard| !self.has_child(&shard.id)).map(|shard| &shard.state)
    }

    /// Shards that are being read although a child is known: they are closed and will end. Each is returned at least once.
    pub fn take_closed(&mut self) -> Vec<ShardNumber> {
        std::mem::take(&mut self.closed)
    }

    /// Whether every known shard was read to its end.
    pub fn is_drained(&self) -> bool {
        self.counts.reading == 0 && self.counts.waiting == 0
    }

    /// Drops a shard that was read, as were all its ancestors, if no listing shows it any more; what was known of it, if so.
    pub fn forget(&mut self, number: ShardNumber) -> Option<(ShardId, S)> {
        let shard = self.shards.get(&number)?;
        if !shard.is_passed || self.completed == 0 || shard.listed >= self.completed {
            return None;
        }
        let shard = self.shards.remove(&number)?;
        self.counts.finished -= 1;
        self.numbers.remove(&shard.id);
        if let Some(parent) = &shard.parent
            && let Some(siblings) = self.children.get_mut(parent)
        {
            siblings.remove(&number);
            if siblings.is_empty() {
                self.children.remove(parent);
            }
        }
        Some((shard.id, shard.state))
    }

    /// How many shards are in which stage.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The number of a shard.
    pub fn number(&self, id: &str) -> Option<ShardNumber> {
        self.numbers.get(id).copied()
    }

    /// All shards, each with what is known of it.
    pub fn iter(&self) -> impl Iterator<Item = (ShardNumber, &ShardId, &S)> {
        self.shards.iter().map(|(number, shard)| (*number, &shard.id, &shard.state))
    }

    /// A shard's id.
    pub fn id(&self, number: ShardNumber) -> &ShardId {
        &self.shard(number).id
    }

    /// The id of the shard that this one continues, if it was ever told.
    pub fn parent_id(&self, number: ShardNumber) -> Option<&ShardId> {
        self.shard(number).parent.as_ref()
    }

    /// The shard that this one continues, if it is known here.
    pub fn parent(&self, number: ShardNumber) -> Option<ShardNumber> {
        self.parent_of(self.shard(number))
    }

    /// What is known of a shard.
    pub fn state(&self, number: ShardNumber) -> &S {
        &self.shard(number).state
    }

    /// What is known of a shard, to change it.
    pub fn state_mut(&mut self, number: ShardNumber) -> &mut S {
        &mut self.shard_mut(number).state
    }

    fn insert(&mut self, id: ShardId, parent: Option<ShardId>, state: S) -> ShardNumber {
        let number = self.next_number;
        self.next_number += 1;
        let parent = parent.filter(|parent| !self.is_circle(&id, parent));
        self.numbers.insert(id.clone(), number);
        let shard = Shard {
            id: id.clone(),
            parent,
            stage: Stage::Waiting,
            is_passed: false,
            is_restored: false,
            is_known: true,
            is_cut: false,
            listed: self.pass,
            state,
        };
        self.shards.insert(number, shard);
        self.counts.waiting += 1;
        self.candidates.insert(number);
        self.link(number);
        // Its children, if any were listed before it, have a parent now.
        for child in self.children_of(&id).collect::<Vec<_>>() {
            self.orphans.remove(&child);
            self.close(number);
        }
        number
    }

    /// Whether a shard would be its own ancestor if this were its parent.
    fn is_circle(&self, id: &str, parent: &str) -> bool {
        let parent_of = |shard: &&str| self.shard(self.number(shard)?).parent.as_deref();
        std::iter::successors(Some(parent), parent_of).any(|ancestor| ancestor == id)
    }

    /// Notes whose child a shard is.
    fn link(&mut self, number: ShardNumber) {
        let Some(parent) = self.shard(number).parent.clone() else { return };
        self.children.entry(parent.clone()).or_default().insert(number);
        match self.number(&parent) {
            Some(parent) => self.close(parent),
            None if self.shard(number).stage == Stage::Waiting => {
                self.orphans.insert(number);
            }
            None => {}
        }
    }

    /// A child of the shard is known.
    fn close(&mut self, number: ShardNumber) {
        if self.shard(number).stage == Stage::Reading {
            self.closed.push(number);
        }
    }

    fn take(&mut self, number: ShardNumber) {
        self.set_stage(number, Stage::Reading);
        if self.children.contains_key(&self.shard(number).id) {
            self.close(number);
        }
    }

    /// After a shard's stage has changed: whether it and what follows it are passed now, and who may be read then.
    fn reconsider(&mut self, number: ShardNumber) {
        let mut changed = vec![number];
        while let Some(number) = changed.pop() {
            let shard = self.shard(number);
            let is_clear = self.parent_of(shard).is_none_or(|parent| self.shard(parent).is_passed);
            match shard.stage {
                Stage::Read if is_clear && !shard.is_passed => {
                    let id = shard.id.clone();
                    self.shard_mut(number).is_passed = true;
                    changed.extend(self.children_of(&id));
                }
                Stage::Waiting => {
                    self.candidates.insert(number);
                }
                _ => {}
            }
        }
    }

    fn may_be_read(&self, shard: &Shard<S>) -> bool {
        match (self.parent_of(shard), &shard.parent) {
            (Some(parent), _) => self.shard(parent).is_passed,
            (None, Some(_)) => shard.is_restored || shard.is_cut,
            (None, None) => shard.is_known,
        }
    }

    fn children_of(&self, id: &str) -> impl Iterator<Item = ShardNumber> {
        self.children.get(id).into_iter().flatten().copied()
    }

    fn parent_of(&self, shard: &Shard<S>) -> Option<ShardNumber> {
        self.number(shard.parent.as_ref()?)
    }

    fn shard(&self, number: ShardNumber) -> &Shard<S> {
        self.shards.get(&number).expect("numbers are given for shards that are here")
    }

    fn shard_mut(&mut self, number: ShardNumber) -> &mut Shard<S> {
        self.shards.get_mut(&number).expect("numbers are given for shards that are here")
    }

    fn set_stage(&mut self, number: ShardNumber, stage: Stage) {
        self.orphans.remove(&number);
        let before = std::mem::replace(&mut self.shard_mut(number).stage, stage);
        *self.counts.of(before) -= 1;
        *self.counts.of(stage) += 1;
    }
}

impl Counts {
    fn of(&mut self, stage: Stage) -> &mut usize {
        match stage {
            Stage::Waiting => &mut self.waiting,
            Stage::Reading => &mut self.reading,
            Stage::Read => &mut self.finished,
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
