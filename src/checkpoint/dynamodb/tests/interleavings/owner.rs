//! What an owner does, reduced to what is stored: it delivers each item's records in order, and saves what has changed.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use super::*;
use crate::checkpoint::UnfinishedShard;

/// One process, from claim to claim until everything is settled.
pub(super) struct Owner {
    world: Arc<World>,
    random: fastrand::Rng,
    settled: BTreeSet<Record>,
    opened: BTreeSet<usize>,
    /// Shards that are not stored as they are.
    dirty: BTreeSet<usize>,
    done: BTreeSet<&'static str>,
}

impl Owner {
    pub(super) async fn run(world: Arc<World>, store: Arc<DynamoStore>, name: String, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        loop {
            let seen = store.look(TABLE).await.unwrap();
            if let Ok(lease) = store.claim(TABLE, seen.as_ref(), 0, &name, LEASE).await {
                let positions = store.positions(TABLE, &lease);
                let seed = random.u64(..);
                while store.renew(TABLE, &lease).await.is_ok() {
                    if let Ok(stored) = positions.load(TABLE).await {
                        let stored = stored.unwrap_or_default();
                        world.note_read(&name, lease.epoch, &stored);
                        let mut owner = Self::restored(world.clone(), stored, seed);
                        // It may have been deposed without having learned it.
                        if owner.work(&*positions).await && store.renew(TABLE, &lease).await.is_ok() {
                            return;
                        }
                        break;
                    }
                    pause().await;
                }
            }
            // Another one may be at work: it is let.
            for _ in 0..random.usize(1..30) {
                pause().await;
            }
        }
    }

    fn restored(world: Arc<World>, stored: StoredTable, seed: u64) -> Self {
        let settled = records().filter(|(record, item, _)| is_settled(&stored, *record, *item)).map(|it| it.0);
        let is_stored = |shard: &usize| {
            let (arn, id, ..) = SHARDS[*shard];
            stored.streams.iter().any(|stream| stream.arn == arn && (stream.done || stream.shards.contains_key(id)))
        };
        let done = stored.streams.iter().filter(|stream| stream.done);
        let done = done.filter_map(|stream| [OLD, NEW].into_iter().find(|arn| *arn == stream.arn));
        Self {
            world,
            random: fastrand::Rng::with_seed(seed),
            settled: settled.collect(),
            opened: (0..SHARDS.len()).filter(is_stored).collect(),
            dirty: BTreeSet::new(),
            done: done.collect(),
        }
    }

    /// Whether everything is settled and stored; if not, this owner was deposed.
    async fn work(&mut self, positions: &dyn CheckpointStore) -> bool {
        loop {
            for _ in 0..self.random.usize(0..5) {
                self.open_one();
                self.deliver_one();
            }
            self.end_old_stream();
            if self.dirty.is_empty() && self.settled.len() == records().count() {
                return true;
            }
            pause().await;
            let taken = std::mem::take(&mut self.dirty);
            match positions.save(TABLE, self.changes(&taken)).await {
                Ok(()) => {}
                Err(SaveError::Fenced(_)) => return false,
                Err(_) => self.dirty.extend(taken),
            }
        }
    }

    fn open_one(&mut self) {
        let parent = |shard: usize| SHARDS[shard].2.and_then(|id| SHARDS.iter().position(|it| it.1 == id));
        let is_ready =
            |shard: &usize| !self.opened.contains(shard) && parent(*shard).is_none_or(|it| self.opened.contains(&it));
        let ready: Vec<usize> = (0..SHARDS.len()).filter(is_ready).collect();
        if let Some(shard) = self.random.choice(ready) {
            self.opened.insert(shard);
            self.dirty.insert(shard);
        }
    }

    /// Delivers the next record of one item.
    fn deliver_one(&mut self) {
        let item = self.random.choice(['a', 'b', 'e', 'f']).unwrap();
        let mut owed: Vec<_> =
            records().filter(|(record, of, _)| *of == item && !self.settled.contains(record)).collect();
        owed.sort_by_key(|(_, _, place)| *place);
        if let Some((record, ..)) = owed.first().filter(|(record, ..)| self.opened.contains(&record.0)) {
            self.world.delivered.lock().unwrap().insert(*record);
            self.settled.insert(*record);
            self.dirty.insert(record.0);
        }
    }

    fn end_old_stream(&mut self) {
        let is_over = records().filter(|(record, ..)| SHARDS[record.0].0 == OLD).all(|it| self.settled.contains(&it.0));
        if is_over && self.random.bool() && self.done.insert(OLD) {
            self.dirty.insert(0);
        }
    }

    fn changes(&self, shards: &BTreeSet<usize>) -> StoredChanges {
        let of = |(place, arn): (usize, &'static str)| {
            let changed = shards.iter().filter(|shard| SHARDS[**shard].0 == arn);
            let shards: Vec<_> = changed.map(|shard| (SHARDS[*shard].1, Some(self.stored(*shard)))).collect();
            let done = self.done.contains(arn);
            // Whoever reads the new stream has found the old one before.
            (!shards.is_empty() || arn == OLD).then(|| StreamChanges {
                done,
                start: Position::Start,
                ..changes_of(arn, place, &shards)
            })
        };
        StoredChanges { streams: [OLD, NEW].into_iter().enumerate().filter_map(of).collect(), stopped: None }
    }

    /// What is to be stored of a shard.
    fn stored(&self, shard: usize) -> StoredShard {
        let parent = SHARDS[shard].2.map(str::to_owned);
        let all: Vec<_> = records().filter(|(record, ..)| record.0 == shard).collect();
        let is_settled = |(record, ..): &&(Record, char, u32)| self.settled.contains(record);
        let Some(first_owed) = all.iter().position(|it| !is_settled(&it)) else {
            return StoredShard::Finished { at: moment(), parent };
        };
        let position = |at: Option<usize>| at.map_or(Position::Start, |at| Position::After(number((shard, at))));
        let newest = all.iter().rposition(|it| is_settled(&it)).filter(|newest| *newest > first_owed);
        let mut heads = BTreeMap::new();
        for (record, item, _) in
            all.iter().filter(|it| !is_settled(it) && newest.is_some_and(|newest| it.0.1 <= newest))
        {
            heads.entry(lane(*item)).or_insert(number(*record));
        }
        let safe = position(first_owed.checked_sub(1));
        let newest_settled = newest.map_or(safe, |newest| position(Some(newest)));
        let (oldest_owed, verified_at, newest_record) = (None, moment(), None);
        StoredShard::Unfinished(UnfinishedShard {
            safe,
            newest_settled,
            heads,
            oldest_owed,
            verified_at,
            newest_record,
            parent,
        })
    }
}

/// Until it is polled again.
async fn pause() {
    let mut is_first = true;
    poll_fn(|_| if std::mem::take(&mut is_first) { Poll::Pending } else { Poll::Ready(()) }).await;
}
