//! A table of items in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};

use crate::checkpoint::dynamodb::entries;
use crate::checkpoint::dynamodb::items::{Expected, Item, ItemError, ItemKey, ItemTable, Members, Write, Written};

/// What happens to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It is refused before anything happens.
    Throttled,
    /// It is done, and nobody is told.
    AnswerLost,
    /// It is lost on its way, and nobody is told.
    RequestLost,
}

/// Items that are there at once, and writes that fail as a test says.
#[derive(Debug, Default)]
pub(crate) struct MemoryItems {
    items: Mutex<BTreeMap<ItemKey, Members>>,
    faults: Mutex<VecDeque<Fault>>,
    /// All writes that were done, in order.
    done: Mutex<Vec<Write>>,
    is_down: Mutex<bool>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryItems {
    pub(crate) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        locked(&self.faults).extend(faults);
    }

    /// No call reaches it, or each does again.
    pub(crate) fn set_down(&self, is_down: bool) {
        *locked(&self.is_down) = is_down;
    }

    pub(crate) fn done(&self) -> Vec<Write> {
        locked(&self.done).clone()
    }

    pub(crate) fn all(&self) -> Vec<Item> {
        let items = locked(&self.items).clone();
        items.into_iter().map(|(key, members)| Item { key, members }).collect()
    }

    /// As a restore from a backup does.
    pub(crate) fn restore(&self, items: Vec<Item>) {
        *locked(&self.items) = items.into_iter().map(|item| (item.key, item.members)).collect();
    }

    pub(crate) fn apply(&self, write: Write) -> Written {
        let mut items = locked(&self.items);
        let current = items.get(&write.key);
        let is_expected = match (write.expected, current) {
            (Expected::Absent, current) => current.is_none(),
            (Expected::Is(stamp), Some(current)) => entries::stamp(current) == Some(stamp),
            (Expected::Is(_), None) => false,
        };
        if !is_expected {
            return Written::Conflict(current.cloned());
        }
        match write.to.clone() {
            Some(members) => items.insert(write.key.clone(), members),
            None => items.remove(&write.key),
        };
        drop(items);
        locked(&self.done).push(write);
        Written::Done
    }
}

fn away() -> ItemError {
    ItemError::Unknown("no answer".into())
}

impl ItemTable for MemoryItems {
    fn get<'a>(&'a self, key: &'a ItemKey) -> BoxFuture<'a, Result<Option<Members>, ItemError>> {
        let found = locked(&self.items).get(key).cloned();
        ready(if *locked(&self.is_down) { Err(away()) } else { Ok(found) }).boxed()
    }

    fn query<'a>(&'a self, partition: &'a str) -> BoxFuture<'a, Result<Vec<Item>, ItemError>> {
        let found = self.all().into_iter().filter(|item| item.key.partition == partition).collect();
        ready(if *locked(&self.is_down) { Err(away()) } else { Ok(found) }).boxed()
    }

    fn write(&self, write: Write) -> BoxFuture<'_, Result<Written, ItemError>> {
        let fault = locked(&self.faults).pop_front().unwrap_or(Fault::None);
        let written = match fault {
            _ if *locked(&self.is_down) => Err(away()),
            Fault::None => Ok(self.apply(write)),
            Fault::Throttled => Err(ItemError::NotDone("throttled".into())),
            Fault::RequestLost => Err(away()),
            Fault::AnswerLost => {
                self.apply(write);
                Err(away())
            }
        };
        ready(written).boxed()
    }
}
