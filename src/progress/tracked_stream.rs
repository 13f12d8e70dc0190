//! One of a table's streams: its shards, and what is known of it besides them. Pure.

use std::sync::Arc;
use std::time::SystemTime;

use super::lineage::Lineage;
use super::tracked_shard::{Phase, TrackedShard};
use crate::checkpoint::{StoredShard, StoredStream};
use crate::records::{Position, ShardNumber, StreamDetails};

/// One stream.
#[derive(Debug)]
pub(super) struct TrackedStream {
    pub(super) details: Arc<StreamDetails>,
    /// Where shards begin that were never seen.
    pub(super) start: Position,
    /// It was read to its end, or is gone.
    pub(super) is_ended: bool,
    /// When something of it was last known, if ever: what a shard holds whose parent is not known may be that old.
    pub(super) verified_at: Option<SystemTime>,
    /// An earlier run had begun with it, or another stream of the table.
    pub(super) is_required: bool,
    pub(super) lineage: Lineage<TrackedShard>,
    /// Shards that are open.
    pub(super) unfinished: usize,
}

impl TrackedStream {
    /// One of which an earlier run has stored this.
    pub(super) fn restored(stored: StoredStream) -> Self {
        let StoredStream { arn, start, done, shards } = stored;
        let unfinished = shards.values().filter(|shard| matches!(shard, StoredShard::Unfinished(_))).count();
        let verified_at = shards.values().map(|shard| match shard {
            StoredShard::Unfinished(shard) => shard.verified_at,
            StoredShard::Finished { at, .. } => *at,
        });
        let started = match start {
            Position::Since(moment) if moment > SystemTime::UNIX_EPOCH => Some(moment),
            _ => None,
        };
        let verified_at = verified_at.chain(started).max();
        let lineage =
            Lineage::restored(shards.into_iter().map(|(id, shard)| TrackedShard::restored(&id, &shard, start)));
        let details = Arc::new(StreamDetails::from_arn(&arn));
        Self { details, start, is_ended: done, verified_at, is_required: true, lineage, unfinished }
    }

    /// Nothing more will come of it, and everything in it is settled.
    pub(super) fn is_done(&self) -> bool {
        self.is_ended && self.unfinished == 0
    }

    /// What a shard continues that no listing shows any more was never seen: it, and what was in it, may be as old as the end of any
    /// shard whose children are not known. That goes for those of `shards` whose parents are not known.
    pub(super) fn date_orphans(&mut self, shards: &[ShardNumber]) {
        let lineage = &mut self.lineage;
        let is_orphan = |shard: &ShardNumber| lineage.parent_id(*shard).is_some() && lineage.parent(*shard).is_none();
        let orphans: Vec<ShardNumber> = shards.iter().copied().filter(is_orphan).collect();
        if orphans.is_empty() {
            return;
        }
        let begun = lineage.childless().filter(|shard| shard.phase != Phase::Listed);
        let Some(oldest) = begun.map(|shard| shard.verified_at).min() else { return };
        for orphan in orphans {
            let shard = lineage.state_mut(orphan);
            if shard.phase == Phase::Listed {
                shard.date(shard.verified_at.min(oldest));
            }
        }
    }
}
