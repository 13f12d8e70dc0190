//! The lanes of one table that are left out because they are too long: in which shards, and what they wait for. Pure.
//!
//! Contract:
//! - A lane that is left out is so in the whole table: whatever is read of it is left out, in whichever shard, until a pass over each of
//!   its shards, ancestors first, has brought back what was.
//! - A pass is due in a lane's first shard when nothing that was handed on of the lane is owed any more, or, where it was left out as a
//!   whole, when there is room again.
//! - While no lane is left out it takes no memory, and no time but for asking so.

use std::collections::{BTreeMap, BTreeSet};

use super::tracked_stream::{ShardHandle, StreamHandle};
use crate::records::LaneId;

/// The lanes of one table that are left out.
#[derive(Debug, Default)]
pub(super) struct LeftOutLanes {
    lanes: BTreeMap<LaneId, WaitingLane>,
    /// While a lane is left out: what was handed on and is owed, of all lanes, by its ordinal, and of which shard it is.
    handed_on: BTreeMap<(LaneId, u64), ShardHandle>,
    /// The lanes for which a pass over a shard is due.
    due: BTreeMap<ShardHandle, BTreeSet<LaneId>>,
    has_news: bool,
    passes: u64,
}

#[derive(Debug)]
struct WaitingLane {
    /// In which shards something of it is left out, ancestors first. There is at least one.
    shards: Vec<ShardHandle>,
    waits_for: WaitsFor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitsFor {
    /// The settlement of what was handed on of it.
    Head,
    /// Room: it was left out with its head.
    Room,
    /// Passes, and nothing else.
    Passes,
}

impl LeftOutLanes {
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn contains(&self, lane: LaneId) -> bool {
        self.lanes.contains_key(&lane)
    }

    /// A first lane is going to be left out: what was handed on so far and is owed.
    pub(super) fn begin(&mut self, handed_on: impl Iterator<Item = (LaneId, u64, ShardHandle)>) {
        self.handed_on = handed_on.map(|(lane, ordinal, shard)| ((lane, ordinal), shard)).collect();
    }

    /// Something was handed on.
    pub(super) fn hand_on(&mut self, lane: LaneId, ordinal: u64, shard: ShardHandle) {
        if self.is_empty() {
            return;
        }
        self.handed_on.insert((lane, ordinal), shard);
        if let Some(lane) = self.lanes.get_mut(&lane).filter(|lane| lane.waits_for == WaitsFor::Room) {
            lane.waits_for = WaitsFor::Head;
        }
    }

    /// A lane is left out from this entry on. What was handed on of it from there on and is owed: each one's ordinal and shard, in the
    /// lane's order.
    pub(super) fn leave_out(&mut self, lane: LaneId, from: u64) -> Vec<(u64, ShardHandle)> {
        let entries = self.handed_on.range((lane, from)..=(lane, u64::MAX));
        let entries: Vec<_> = entries.map(|((_, ordinal), shard)| (*ordinal, *shard)).collect();
        for (ordinal, _) in &entries {
            self.handed_on.remove(&(lane, *ordinal));
        }
        let waits_for = if self.is_owed(lane) { WaitsFor::Head } else { WaitsFor::Room };
        let later = self.lanes.remove(&lane).map(|lane| lane.shards).unwrap_or_default();
        if let Some(shard) = later.first() {
            self.unmark_due(lane, *shard);
        }
        // Of what was left out before, everything lies behind that.
        let mut shards: Vec<ShardHandle> = entries.iter().map(|(_, shard)| *shard).chain(later).collect();
        shards.dedup();
        if !shards.is_empty() {
            self.lanes.insert(lane, WaitingLane { shards, waits_for });
        }
        entries
    }

    /// The shards in which something of a lane is left out, ancestors first.
    pub(super) fn shards_of(&self, lane: LaneId) -> Vec<ShardHandle> {
        self.lanes.get(&lane).map(|lane| lane.shards.clone()).unwrap_or_default()
    }

    /// A lane that is left out was read on, in a shard.
    pub(super) fn read_on(&mut self, lane: LaneId, shard: ShardHandle) {
        if let Some(lane) = self.lanes.get_mut(&lane)
            && !lane.shards.contains(&shard)
        {
            lane.shards.push(shard);
        }
    }

    /// Something that was handed on is settled.
    pub(super) fn settle(&mut self, lane: LaneId, ordinal: u64) {
        if self.is_empty() {
            return;
        }
        self.handed_on.remove(&(lane, ordinal));
        if !self.is_owed(lane) {
            self.end_wait(lane, WaitsFor::Head);
        }
    }

    /// There is room again.
    pub(super) fn readmit(&mut self) {
        let waiting = self.lanes.iter().filter(|(_, lane)| lane.waits_for == WaitsFor::Room);
        let waiting: Vec<LaneId> = waiting.map(|(id, _)| *id).collect();
        waiting.into_iter().for_each(|lane| self.end_wait(lane, WaitsFor::Room));
    }

    /// The lanes for which a pass over a shard is due.
    pub(super) fn due_in(&self, shard: ShardHandle) -> impl Iterator<Item = LaneId> {
        self.due.get(&shard).into_iter().flatten().copied()
    }

    pub(super) fn is_due(&self, shard: ShardHandle) -> bool {
        self.due.contains_key(&shard)
    }

    /// All shards over which a pass is due.
    pub(super) fn all_due(&self) -> impl Iterator<Item = ShardHandle> {
        self.due.keys().copied()
    }

    /// A pass begins.
    pub(super) fn count_pass(&mut self) {
        self.passes += 1;
    }

    /// How many passes were begun.
    pub(super) fn passes(&self) -> u64 {
        self.passes
    }

    /// The shards of a stream over which a pass is due.
    pub(super) fn due(&self, stream: StreamHandle) -> impl Iterator<Item = ShardHandle> {
        self.due.keys().filter(move |shard| shard.stream == stream).copied()
    }

    /// The shards of a stream in which something is left out.
    pub(super) fn shards(&self, stream: StreamHandle) -> BTreeSet<ShardHandle> {
        let shards = self.lanes.values().flat_map(|lane| lane.shards.iter().copied());
        shards.filter(|shard| shard.stream == stream).collect()
    }

    /// Whether a pass over a shard may bring a lane back: it is the first one in which something of it is left out.
    pub(super) fn is_first(&self, lane: LaneId, shard: ShardHandle) -> bool {
        self.lanes.get(&lane).is_some_and(|lane| lane.shards.first() == Some(&shard))
    }

    /// Nothing of a lane is left out in a shard any more.
    pub(super) fn catch_up(&mut self, id: LaneId, shard: ShardHandle) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.shards.retain(|other| *other != shard);
        let next = lane.shards.first().copied();
        let is_waiting = lane.waits_for == WaitsFor::Passes;
        self.unmark_due(id, shard);
        match next {
            Some(next) if is_waiting => self.mark_due(id, next),
            Some(_) => {}
            None => {
                self.lanes.remove(&id);
                if self.is_empty() {
                    self.handed_on.clear();
                }
            }
        }
    }

    /// Whether a pass has become due since it was asked last.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// A shard may have a pass again.
    pub(super) fn allow_pass(&mut self, shard: ShardHandle) {
        self.has_news |= self.is_due(shard);
    }

    fn is_owed(&self, lane: LaneId) -> bool {
        self.handed_on.range((lane, 0)..=(lane, u64::MAX)).next().is_some()
    }

    fn end_wait(&mut self, id: LaneId, waited_for: WaitsFor) {
        let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.waits_for == waited_for) else { return };
        lane.waits_for = WaitsFor::Passes;
        if let Some(first) = lane.shards.first().copied() {
            self.mark_due(id, first);
        }
    }

    fn mark_due(&mut self, lane: LaneId, shard: ShardHandle) {
        self.due.entry(shard).or_default().insert(lane);
        self.has_news = true;
    }

    fn unmark_due(&mut self, lane: LaneId, shard: ShardHandle) {
        if let Some(lanes) = self.due.get_mut(&shard) {
            lanes.remove(&lane);
            if lanes.is_empty() {
                self.due.remove(&shard);
            }
        }
    }
}
