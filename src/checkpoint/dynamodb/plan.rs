//! In which order the entries of a save are written. Pure.
//!
//! Contract: a stage begins when every write of those before it was confirmed; within a stage a write begins when those that it comes
//! after were confirmed. So at every moment, whatever fails, an entry is stored only where those of all its ancestors, earlier
//! streams included, are stored as of the same snapshot or a newer one. Shards that somebody made continue each other have no order.

use std::collections::BTreeMap;

use super::entries::{Entry, EntryName, ShardEntry, StreamEntry, label};
use super::heads::{HEADS_MAX_BYTES, bounded};
use crate::checkpoint::{StopChange, StoredChanges, StoredShard, StreamChanges};

/// The entries that are known to be stored.
pub(super) type Entries<'e> = BTreeMap<&'e EntryName, &'e Entry>;

/// What one entry becomes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub name: EntryName,
    /// None: it is deleted.
    pub to: Option<Entry>,
    /// Which change of its stage comes before it.
    pub after: Option<usize>,
}

/// A save, in stages.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub stages: Vec<Vec<Change>>,
    /// How many lanes are stored as owing more than they do, because an entry has no room for all.
    pub left_out_heads: usize,
}

/// How changes are stored where these entries are. `chance`: a number for streams that have no entry yet.
pub(super) fn plan(changes: &StoredChanges, stored: &Entries<'_>, chance: u32) -> Plan {
    let (mut plan, mut deletions) = (Plan::default(), Vec::new());
    plan.stages.extend(stop(changes).map(|change| vec![change]));
    let streams = stream_entries(changes, stored, chance);
    for (name, entry) in &streams {
        // A stream's start is stored once.
        if !stored.contains_key(name) {
            plan.stages.push(vec![stream(name, entry)]);
        }
    }
    for (change, (name, entry)) in changes.streams.iter().zip(&streams) {
        let label = label(&change.arn);
        if !change.done {
            let mut shards = ShardPlanner { label: &label, incarnation: entry.incarnation, stored, left_out_heads: 0 };
            plan.stages.extend(shards.stages(change));
            plan.left_out_heads += shards.left_out_heads;
            deletions.extend(shards.deletions(change));
        }
        if change.done != entry.done {
            plan.stages.push(vec![stream(name, &StreamEntry { done: change.done, ..entry.clone() })]);
        }
        if change.done {
            deletions.extend(unfinished(&label, stored));
        }
    }
    plan.stages.push(deletions);
    plan.stages.retain(|stage| !stage.is_empty());
    plan
}

/// The entries of a save's streams as they are, or as they begin. A new one comes behind all others.
fn stream_entries(changes: &StoredChanges, stored: &Entries<'_>, chance: u32) -> Vec<(EntryName, StreamEntry)> {
    let mut known: Vec<(EntryName, StreamEntry)> = stored
        .iter()
        .filter_map(|(name, entry)| match entry {
            Entry::Stream(stream) => Some(((*name).clone(), stream.clone())),
            _ => None,
        })
        .collect();
    let mut entries = Vec::new();
    for change in &changes.streams {
        let entry = known.iter().find(|(_, stream)| stream.arn == change.arn).cloned().unwrap_or_else(|| {
            let last = known.last();
            let place = last.map_or(0, |(name, _)| name.place().map_or(0, |place| place + 1));
            let (arn, start, follows) = (change.arn.clone(), change.start, last.map(|(_, stream)| stream.incarnation));
            let incarnation = chance.wrapping_add(place);
            let name = EntryName::Stream { place, label: label(&arn) };
            known.push((name.clone(), StreamEntry { arn, start, done: false, incarnation, follows }));
            known[known.len() - 1].clone()
        });
        entries.push(entry);
    }
    entries
}

fn stop(changes: &StoredChanges) -> Option<Change> {
    let to = match changes.stopped.as_ref()? {
        StopChange::Stop(stop) => Some(Entry::Stopped(stop.clone())),
        StopChange::Continue => None,
    };
    Some(Change { name: EntryName::Stopped, to, after: None })
}

fn stream(name: &EntryName, entry: &StreamEntry) -> Change {
    Change { name: name.clone(), to: Some(Entry::Stream(entry.clone())), after: None }
}

/// Plans how the shards of one stream are stored.
struct ShardPlanner<'p, 'e> {
    /// The stream's label, and the number of its entry.
    label: &'p str,
    incarnation: u32,
    stored: &'p Entries<'e>,
    /// How many lanes are stored as owing more than they do.
    left_out_heads: usize,
}

impl ShardPlanner<'_, '_> {
    /// The shards that change, in stages.
    ///
    /// First come those that are new, continue nothing and owe something: what stands for a stream that is gone owes what other shards
    /// do not owe any more.
    fn stages(&mut self, change: &StreamChanges) -> [Vec<Change>; 2] {
        let changing = change.shards.iter().filter_map(|(id, shard)| Some((id.as_str(), shard.as_ref()?)));
        let owes_by_itself = |(id, shard): &(&str, &StoredShard)| {
            let is_new = !self.stored.contains_key(&shard_name(self.label, id));
            matches!(shard, StoredShard::Unfinished(_)) && shard.parent().is_none() && is_new
        };
        let (first, rest): (Vec<_>, Vec<_>) = changing.partition(owes_by_itself);
        [first, rest].map(|changing| self.stage(&changing))
    }

    /// The shards that are not stored any more.
    fn deletions(&self, change: &StreamChanges) -> Vec<Change> {
        let gone = change.shards.iter().filter(|(_, shard)| shard.is_none());
        gone.map(|(id, _)| Change { name: shard_name(self.label, id), to: None, after: None }).collect()
    }

    /// Shards that change, each after its nearest ancestor among them.
    fn stage(&mut self, changing: &[(&str, &StoredShard)]) -> Vec<Change> {
        let indexes: BTreeMap<&str, usize> = changing.iter().enumerate().map(|(index, (id, _))| (*id, index)).collect();
        let mut stage = Vec::with_capacity(changing.len());
        for (id, shard) in changing {
            let after = self.nearest_ancestor(id, shard, &indexes);
            let shard = self.fitting(shard);
            let to = Some(Entry::Shard(ShardEntry { incarnation: self.incarnation, shard }));
            stage.push(Change { name: shard_name(self.label, id), to, after });
        }
        break_circles(&mut stage);
        stage
    }

    /// The shard with as many heads as its entry has room for.
    fn fitting(&mut self, shard: &StoredShard) -> StoredShard {
        match shard {
            StoredShard::Unfinished(shard) => {
                let (shard, left_out) = bounded(shard.clone(), HEADS_MAX_BYTES);
                self.left_out_heads += left_out;
                StoredShard::Unfinished(shard)
            }
            finished @ StoredShard::Finished { .. } => finished.clone(),
        }
    }

    /// Of the shards in `indexes` the nearest that this one continues, by what is stored of those between them.
    fn nearest_ancestor(&self, id: &str, shard: &StoredShard, indexes: &BTreeMap<&str, usize>) -> Option<usize> {
        let mut ancestor = shard.parent().or_else(|| self.stored_parent(id));
        // What is stored may be a circle if somebody has edited it.
        for _ in 0..=self.stored.len() + indexes.len() {
            let id = ancestor?;
            match indexes.get(id) {
                Some(index) => return Some(*index),
                None => ancestor = self.stored_parent(id),
            }
        }
        None
    }

    fn stored_parent(&self, id: &str) -> Option<&str> {
        match self.stored.get(&shard_name(self.label, id))? {
            Entry::Shard(ShardEntry { shard, .. }) => shard.parent(),
            _ => None,
        }
    }
}

/// Shards may continue each other where somebody has edited what is stored. Such a link orders nothing: with it none of them would
/// ever be written.
fn break_circles(stage: &mut [Change]) {
    let mut walks = vec![None; stage.len()];
    for walk in 0..stage.len() {
        let mut next = Some(walk);
        while let Some(index) = next.filter(|index| walks[*index].is_none()) {
            walks[index] = Some(walk);
            next = stage[index].after;
            if next.is_some_and(|next| walks[next] == Some(walk)) {
                stage[index].after = None;
            }
        }
    }
}

fn shard_name(label: &str, id: &str) -> EntryName {
    EntryName::Shard { stream: label.to_owned(), id: id.to_owned() }
}

/// Entries of a stream that is done: nothing reads them, and DynamoDB deletes only those of finished shards by itself.
fn unfinished(label: &str, stored: &Entries<'_>) -> Vec<Change> {
    let is_left = |name: &EntryName, entry: &Entry| match name {
        EntryName::Shard { stream, .. } => stream == label && entry.is_open(),
        _ => false,
    };
    let left = stored.iter().filter(|(name, entry)| is_left(name, entry));
    left.map(|(name, _)| Change { name: (*name).clone(), to: None, after: None }).collect()
}

/// What must go where entries may be of different moments, as after a restore from a backup: all shards that continue one that is not
/// finished, later streams included.
pub(super) fn without_descendants(stored: &Entries<'_>) -> Plan {
    let (shards, mut is_behind) = (of_stream(stored), false);
    let mut gone = Vec::new();
    for (label, done) in streams(stored) {
        let Some(shards) = shards.get(label).filter(|_| !done) else { continue };
        let is_open = |id: &&str| matches!(shards.get(id), Some(StoredShard::Unfinished(_)));
        let is_doubtful = |id: &&str| is_behind || ancestors(id, shards).any(|ancestor| is_open(&ancestor));
        gone.extend(shards.keys().filter(|id| is_doubtful(id)).map(|id| shard_name(label, id)));
        is_behind |= shards.keys().any(is_open);
    }
    deleting(gone, stored)
}

/// What must go to forget a table.
pub(super) fn everything(stored: &Entries<'_>) -> Plan {
    deleting(stored.keys().map(|name| (*name).clone()).collect(), stored)
}

type Shards<'e> = BTreeMap<&'e str, &'e StoredShard>;

/// The shards of each stream, by its label.
fn of_stream<'e>(stored: &Entries<'e>) -> BTreeMap<&'e str, Shards<'e>> {
    let mut streams: BTreeMap<&str, Shards<'_>> = BTreeMap::new();
    for (name, entry) in stored {
        if let (EntryName::Shard { stream, id }, Entry::Shard(ShardEntry { shard, .. })) = (name, entry) {
            streams.entry(stream).or_default().insert(id, shard);
        }
    }
    streams
}

/// Label and end of each stream, the oldest first.
fn streams<'e>(stored: &Entries<'e>) -> Vec<(&'e str, bool)> {
    let streams = stored.iter().filter_map(|(name, entry)| match (name, entry) {
        (EntryName::Stream { label, .. }, Entry::Stream(stream)) => Some((label.as_str(), stream.done)),
        _ => None,
    });
    streams.collect()
}

/// The shards that this one continues, as far as they are stored.
fn ancestors<'e>(id: &str, shards: &Shards<'e>) -> impl Iterator<Item = &'e str> {
    let parent = move |id: &str| shards.get(id).and_then(|shard| shard.parent());
    let next = move |id: &&'e str| parent(id);
    // What is stored may be a circle if somebody has edited it.
    std::iter::successors(parent(id), next).take(shards.len())
}

/// Deletions from the end of each history on, so that what is left is always the beginning of one.
pub(super) fn deleting(names: Vec<EntryName>, stored: &Entries<'_>) -> Plan {
    let shards = of_stream(stored);
    let ranks: BTreeMap<&str, usize> = streams(stored).into_iter().map(|(label, _)| label).zip(1..).collect();
    let mut stages: BTreeMap<(usize, usize), Vec<Change>> = BTreeMap::new();
    for name in names {
        let place = match &name {
            EntryName::Shard { stream, id } => {
                let depth = shards.get(stream.as_str()).map_or(0, |shards| ancestors(id, shards).count());
                (ranks.get(stream.as_str()).copied().unwrap_or_default(), 1 + depth)
            }
            EntryName::Stream { label, .. } => (ranks.get(label.as_str()).copied().unwrap_or_default(), 0),
            EntryName::Stopped => (0, 0),
        };
        stages.entry(place).or_default().push(Change { name, to: None, after: None });
    }
    Plan { stages: stages.into_values().rev().collect(), left_out_heads: 0 }
}
