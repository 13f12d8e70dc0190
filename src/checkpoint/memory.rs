//! Positions in the process itself: gone with it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::{CheckpointStore, StoreError};
use crate::streams::resume::TableState;

/// A store without a memory of earlier runs.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<HashMap<String, TableState>>);

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
