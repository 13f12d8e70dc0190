//! Where positions live between two runs.
//!
//! Contract: what [`CheckpointStore::save`] has confirmed is what the next [`CheckpointStore::load`] returns, whole,
//! also after a crash at any moment; a save that failed left the earlier state whole. Saving never changes what is stored
//! for other tables or consumer groups.

mod file;
mod memory;

use futures_util::future::BoxFuture;

use crate::streams::resume::TableState;

pub use file::{FileStore, OpenError};
pub use memory::MemoryStore;

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
