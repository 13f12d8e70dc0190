//! Which shards are not stored as they are, and which of those have moved. Pure.
//!
//! Contract: a shard that only is to be confirmed has not moved, also when a save of it has failed.

use std::collections::BTreeSet;

use super::tracked_stream::ShardHandle;

/// Shards that are not stored as they are.
#[derive(Debug, Default)]
pub(super) struct UnstoredShards {
    /// What is stored of them is not what they are.
    moved: BTreeSet<ShardHandle>,
    /// Their position is stored; that it holds is to be stored anew.
    unconfirmed: BTreeSet<ShardHandle>,
    /// Those of them that were taken last.
    taken: BTreeSet<ShardHandle>,
}

impl UnstoredShards {
    /// Something of a shard is not stored.
    pub(super) fn insert(&mut self, shard: ShardHandle) {
        self.moved.insert(shard);
    }

    pub(super) fn extend(&mut self, shards: impl Iterator<Item = ShardHandle>) {
        self.moved.extend(shards);
    }

    /// That a shard's position still holds is to be stored.
    pub(super) fn confirm(&mut self, shard: ShardHandle) {
        self.unconfirmed.insert(shard);
    }

    /// A shard is forgotten.
    pub(super) fn remove(&mut self, shard: ShardHandle) {
        self.moved.remove(&shard);
        self.unconfirmed.remove(&shard);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.moved.is_empty() && self.unconfirmed.is_empty()
    }

    /// Whether anything but a confirmation is to be stored.
    pub(super) fn have_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    /// All of them; from now on they are stored as they are.
    pub(super) fn take(&mut self) -> BTreeSet<ShardHandle> {
        let mut all = std::mem::take(&mut self.moved);
        self.taken = &std::mem::take(&mut self.unconfirmed) - &all;
        all.extend(&self.taken);
        all
    }

    /// One that was taken is not stored, or nobody knows.
    pub(super) fn put_back(&mut self, shard: ShardHandle) {
        match self.taken.contains(&shard) {
            true => self.unconfirmed.insert(shard),
            false => self.moved.insert(shard),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confirmation_is_no_move_whether_its_save_fails_or_not() {
        let (idle, busy) = (ShardHandle::nth(0), ShardHandle::nth(1));
        let mut shards = UnstoredShards::default();
        shards.confirm(idle);
        assert!(!shards.have_moved() && !shards.is_empty());
        assert_eq!(shards.take(), [idle].into());
        assert!(shards.is_empty());
        shards.put_back(idle);
        assert!(!shards.have_moved() && !shards.is_empty());
        shards.insert(busy);
        assert_eq!((shards.have_moved(), shards.take()), (true, [idle, busy].into()));
        shards.put_back(busy);
        assert!(shards.have_moved());
        shards.insert(idle);
        shards.confirm(idle);
        shards.take();
        shards.put_back(idle);
        assert!(shards.have_moved(), "it has moved since it was to be confirmed");
    }
}
