//! One of a table's streams: its shards, and what is known of it besides them. Pure.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::lineage::Lineage;
use super::tracked_shard::{Phase, TrackedShard, oldest_kept};
use crate::checkpoint::{StoredShard, StoredStream};
use crate::records::{Position, ShardId, ShardNumber, StreamDetails};

/// Finished shards are remembered this long: they stay listed for a day.
const MARKER_LIFE: Duration = Duration::from_secs(48 * 60 * 60);

/// One of a table's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamHandle(pub(super) usize);

/// A shard that is or was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardHandle {
    pub(super) stream: StreamHandle,
    pub(super) shard: ShardNumber,
}

#[cfg(test)]
impl ShardHandle {
    pub const FIRST: Self = Self::nth(0);

    /// A shard that only has to be another one than others.
    pub const fn nth(shard: ShardNumber) -> Self {
        Self { stream: StreamHandle(0), shard }
    }
}

/// A shard that is to be read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedShard {
    pub handle: ShardHandle,
    pub id: ShardId,
    /// Where reading begins.
    pub from: Position,
    /// When the end of its parent was read, if that was in this run.
    pub handed_over: Option<Instant>,
}

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

    /// A moment up to which everything in it that was created before was read; none if nothing is known.
    pub(super) fn last_known(&self) -> Option<SystemTime> {
        let shards = self.lineage.iter().filter(|(.., shard)| shard.phase != Phase::Listed);
        shards.map(|(.., shard)| shard.verified_at).chain(self.verified_at).max()
    }

    /// Nothing more will come of it, and everything in it is settled.
    pub(super) fn is_done(&self) -> bool {
        self.is_ended && self.unfinished == 0
    }

    /// It was read to its end, or is gone; the shards that will not be read.
    pub(super) fn end(&mut self) -> Vec<ShardNumber> {
        self.is_ended = true;
        let mut waiting = self.lineage.waiting();
        waiting.retain(|shard| {
            let state = self.lineage.state_mut(*shard);
            let is_open = state.phase == Phase::Open;
            if is_open {
                state.phase = Phase::Finished { at: state.verified_at };
            }
            is_open
        });
        self.unfinished -= waiting.len();
        waiting
    }

    /// Forgets shards that are finished, listed no more, and were kept long enough; which ones.
    pub(super) fn forget_finished(&mut self, now: SystemTime) -> Vec<(ShardNumber, ShardId)> {
        let is_old = |at: SystemTime, shard: &TrackedShard| {
            let ended = shard.end_asked.map_or(at, |asked| asked.max(at));
            now.duration_since(ended).is_ok_and(|age| age > MARKER_LIFE)
        };
        let finished = self.lineage.iter().filter_map(|(number, _, shard)| match shard.phase {
            Phase::Finished { at } => Some((number, at, shard)),
            _ => None,
        });
        let old = finished.filter(|(_, at, shard)| is_old(*at, shard)).map(|(number, ..)| number);
        let old: Vec<ShardNumber> = old.collect();
        let forgotten = old.into_iter().map(|shard| (shard, self.lineage.forget(shard)));
        forgotten.filter_map(|(shard, known)| known.map(|(id, _)| (shard, id))).collect()
    }

    /// See [`TableTracker::take_unlisted_parents`].
    ///
    /// [`TableTracker::take_unlisted_parents`]: super::table_tracker::TableTracker::take_unlisted_parents
    pub(super) fn take_unlisted_parents(&mut self, now: SystemTime) -> Vec<ShardNumber> {
        let (start, verified_at) = (self.start, self.verified_at.unwrap_or(UNIX_EPOCH));
        // What is older than a day is gone, and what is older than the start is not wanted.
        let horizon = if let Position::Since(moment) = start { oldest_kept(now).max(moment) } else { oldest_kept(now) };
        let parents = self.lineage.take_unlisted_parents(horizon, |id| TrackedShard::listed(id, start, verified_at));
        self.date_unseen(&parents);
        parents
    }

    /// Dates those of `shards` whose parents are not known.
    pub(super) fn date_orphans(&mut self, shards: &[ShardNumber]) {
        let lineage = &self.lineage;
        let is_orphan = |shard: &ShardNumber| lineage.parent_id(*shard).is_some() && lineage.parent(*shard).is_none();
        let orphans: Vec<ShardNumber> = shards.iter().copied().filter(is_orphan).collect();
        self.date_unseen(&orphans);
    }

    /// What a shard continues that no listing shows was never seen: it, and what was in it, may be as old as the end of any shard whose
    /// children are not known.
    fn date_unseen(&mut self, shards: &[ShardNumber]) {
        if shards.is_empty() {
            return;
        }
        let begun = self.lineage.childless().filter(|shard| shard.phase != Phase::Listed);
        let Some(oldest) = begun.map(|shard| shard.verified_at).min() else { return };
        for shard in shards {
            let shard = self.lineage.state_mut(*shard);
            if shard.phase == Phase::Listed {
                shard.date(shard.verified_at.min(oldest));
            }
        }
    }
}
