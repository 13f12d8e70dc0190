//! The store of positions of an adapter that tells it, or takes from it, something wrong.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};

use dynamodb_streams_adapter::checkpoint::{
    CheckpointStore, SaveError, StoreError, StoredChanges, StoredShard, StoredTable, StreamChanges,
};
use dynamodb_streams_adapter::clock;
use dynamodb_streams_adapter::records::Position;
use futures_util::future::BoxFuture;

use super::{Sabotage, is_each};

/// At most so much lies between the sequence numbers of two changes of a world: this is three records, or a few more.
const TOO_FAR: u128 = 10;

pub struct BentStore {
    sabotage: Sabotage,
    store: Arc<dyn CheckpointStore>,
    saves: AtomicU32,
    /// Where each shard was being read when that was last stored.
    reading: Mutex<BTreeMap<String, StoredShard>>,
}

impl BentStore {
    pub fn new(sabotage: Sabotage, store: Arc<dyn CheckpointStore>) -> Self {
        Self { sabotage, store, saves: AtomicU32::new(0), reading: Mutex::default() }
    }

    fn bend(&self, stream: &mut StreamChanges) {
        match self.sabotage {
            Sabotage::StoresTooFar => stream.shards.values_mut().flatten().for_each(too_far),
            Sabotage::FinishesOpenShards => {
                let at = clock::now();
                stream.shards.values_mut().flatten().for_each(|state| {
                    if let StoredShard::Unfinished(shard) = state {
                        *state = StoredShard::Finished { at, parent: shard.parent.take() };
                    }
                });
            }
            Sabotage::StoresChildBeforeParent => self.keep_parents_open(stream),
            Sabotage::ForgetsAShard if is_each(3, &self.saves) => {
                let known = |state: &StoredShard| matches!(state.safe(), Some(Position::After(_)));
                let forgotten = stream.shards.values_mut().find(|state| state.as_ref().is_some_and(known));
                if let Some(state) = forgotten {
                    *state = None;
                }
            }
            _ => {}
        }
    }

    /// Tells of a shard whose end was read what was last told while it was being read.
    fn keep_parents_open(&self, stream: &mut StreamChanges) {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, state) in &mut stream.shards {
            let Some(state) = state else { continue };
            match state {
                StoredShard::Unfinished(_) => {
                    reading.insert(id.clone(), state.clone());
                }
                StoredShard::Finished { .. } => {
                    if let Some(before) = reading.get(id) {
                        *state = before.clone();
                    }
                }
            }
        }
    }
}

impl CheckpointStore for BentStore {
    fn load<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<Option<StoredTable>, StoreError>> {
        Box::pin(async move {
            let loaded = self.store.load(table).await;
            if self.sabotage == Sabotage::NeverLoads { Ok(None) } else { loaded }
        })
    }

    fn save<'a>(&'a self, table: &'a str, mut changes: StoredChanges) -> BoxFuture<'a, Result<(), SaveError>> {
        Box::pin(async move {
            match self.sabotage {
                Sabotage::NeverStores => return Ok(()),
                // A panic without its hook, which would write to the tests' output.
                Sabotage::CheckpointerDies if is_each(3, &self.saves) => {
                    std::panic::resume_unwind(Box::new("the checkpointer was sabotaged"))
                }
                _ => changes.streams.iter_mut().for_each(|stream| self.bend(stream)),
            }
            self.store.save(table, changes).await
        })
    }
}

fn too_far(state: &mut StoredShard) {
    if let StoredShard::Unfinished(shard) = state
        && let Position::After(record) = &mut shard.safe
    {
        let number: u128 = record.sequence.as_str().parse().expect("the world's numbers are");
        *record = (number + TOO_FAR).to_string().parse().expect("a number of digits");
        shard.newest_settled = shard.safe;
        shard.heads.clear();
    }
}
