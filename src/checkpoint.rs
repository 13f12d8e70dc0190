//! Where positions live between two runs: what is stored of a table, the contract of a store, and the store in memory.
//!
//! Contract: what [`CheckpointStore::save`] has confirmed is what the next [`CheckpointStore::load`] returns, whole,
//! also after a crash at any moment; a save that failed left the earlier state whole. Saving never changes what is stored
//! for other tables or consumer groups.

mod file;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use crate::records::Position;

pub(crate) use file::lock_path;
pub use file::{Disk, FileStore, FileSystem, OpenError};

/// Keeps the state of tables.
pub trait CheckpointStore: Send + Sync {
    /// What is stored of a table; none if it was never saved.
    fn load<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<Option<TableState>, StoreError>>;

    /// Replaces what is stored of a table. Saves of one table come one after the other.
    fn save<'a>(&'a self, table: &'a str, state: TableState) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// Positions could not be stored or read now. Another try may work.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// One table's streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableState {
    /// Oldest first: a table gets a new stream when its stream is disabled and enabled again.
    pub streams: Vec<StreamState>,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// The stream's ARN, opaque.
    pub arn: String,
    /// Where shards begin that were never seen.
    pub start: Position,
    /// Everything in it is settled, and nothing more will come.
    pub drained: bool,
    /// When all of this was last known to be true.
    pub saved_at: SystemTime,
    /// Its shards by id.
    pub shards: BTreeMap<String, ShardState>,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardState {
    /// Reading goes on here; everything in the shard's ancestors is settled.
    Reading {
        position: Position,
        /// The shard that it continues, if that was known.
        parent: Option<String>,
    },
    /// Everything in it is settled: it must not be read again, though it stays listed for a day.
    Finished {
        at: SystemTime,
        /// The shard that it continues, if that was known.
        parent: Option<String>,
    },
}

/// A store without a memory of earlier runs.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<BTreeMap<String, TableState>>);

impl CheckpointStore for MemoryStore {
    fn load<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<Option<TableState>, StoreError>> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(table).cloned();
        ready(Ok(state)).boxed()
    }

    fn save<'a>(&'a self, table: &'a str, state: TableState) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(table.to_owned(), state);
        ready(Ok(())).boxed()
    }
}
