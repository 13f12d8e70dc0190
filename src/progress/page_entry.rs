//! Enters one page of a shard in its table's tracker, entry by entry. Pure.
//!
//! Contract: what is owed gets an [`AckToken`] and goes to delivery; what an earlier run has settled, or whose lane is left out, does not.
//! A page of a pass brings only what was left out.

use std::time::SystemTime;

use super::left_out::{Place, Reread};
use super::table_tracker::{AckToken, TableTracker};
use super::tracked_shard::{PageEntries, PageRead};
use super::tracked_stream::ShardHandle;
use crate::records::{Gap, LaneId, LossReason, SequenceNumber};

/// An entry that was read and is owed.
#[derive(Debug)]
pub struct Owed {
    /// To be given back when it is settled; none where nothing may move past it in this run.
    pub token: Option<AckToken>,
    /// Its lane within the table: that of its item, of its lineage, or a gap's own.
    pub lane: LaneId,
    /// The name of the gaps that have to be tried before it; of a gap, that of those to which it belongs.
    pub barrier: Option<LaneId>,
}

/// Enters one shard's page.
pub struct PageEntry<'t> {
    tracker: &'t mut TableTracker,
    handle: ShardHandle,
    entries: PageEntries,
}

impl<'t> PageEntry<'t> {
    /// A page of this shard is entered.
    pub fn of(tracker: &'t mut TableTracker, handle: ShardHandle) -> Self {
        tracker.begin_page(handle);
        Self { tracker, handle, entries: PageEntries::default() }
    }

    /// A record was read; `lane` is its item's. Returns what it owes, or nothing if an earlier run has settled it, or its lane is left
    /// out.
    pub fn record(&mut self, sequence: SequenceNumber, lane: LaneId, created: Option<SystemTime>) -> Option<Owed> {
        self.entries.count += 1;
        self.entries.is_undated = created.is_none();
        if self.tracker.left_out.contains(lane) {
            let is_owed = self.tracker.shard_mut(self.handle).record_left_out(sequence, lane, created);
            match is_owed {
                true => self.tracker.left_out.read_on(lane, self.handle),
                false => self.mark_settled(),
            }
            return None;
        }
        match self.tracker.shard_mut(self.handle).record(sequence, lane, created) {
            Some(ordinal) => Some(self.hand_on(ordinal, lane)),
            None => {
                self.mark_settled();
                None
            }
        }
    }

    /// A pass brings a record; `lane` is its item's. Returns what it owes, or nothing if it was not left out, or is left out anew.
    pub fn again(&mut self, record: Reread, lane: LaneId, created: Option<SystemTime>) -> Option<Owed> {
        let ordinal = self.tracker.shard_mut(self.handle).progress.again(lane, record, created)?;
        Some(self.hand_on(ordinal, lane))
    }

    /// Changes may be missing here; `name` is the lane of the gap's event. Returns what it owes, or nothing if an earlier run has
    /// settled it.
    pub fn gap(&mut self, gap: &Gap, name: LaneId) -> Option<Owed> {
        self.entries.count += 1;
        self.entries.is_empty_behind = gap.reason == LossReason::Trimmed && gap.before.is_none();
        let mut caught_up = Vec::new();
        let read = self.tracker.shard_mut(self.handle).gap(gap, name, &mut caught_up);
        self.catch_up(caught_up);
        let Some(ordinal) = read else {
            self.mark_settled();
            return None;
        };
        if gap.shard.is_none() {
            self.tracker.barrier = self.tracker.shard(self.handle).barrier.clone();
        }
        Some(self.hand_on_gap(ordinal, gap, name))
    }

    /// A pass finds that changes are missing; `name` is the lane of the gap's event, and `place` is where in the shard it is.
    pub fn gap_again(&mut self, gap: &Gap, place: Reread, name: LaneId) -> Owed {
        let (ordinal, caught_up) = self.tracker.shard_mut(self.handle).gap_again(gap, place, name);
        self.catch_up(caught_up);
        self.hand_on_gap(ordinal, gap, name)
    }

    /// That was all of the page.
    pub fn read(self, page: PageRead) {
        let stream = self.tracker.stream(self.handle.stream);
        let is_continued = stream.lineage.has_child(stream.lineage.id(self.handle.shard));
        self.tracker.shard_mut(self.handle).page_read(page, self.entries, is_continued);
        if page.is_last {
            self.tracker.dirty.insert(self.handle);
            self.tracker.finish_if_done(self.handle);
            // Whoever makes passes over shards that have ended waited for that.
            self.tracker.left_out.allow_pass(self.handle);
        }
    }

    /// That was all of a page of a pass, which has come to this place. When it `is_over`, what it has not brought stays left out.
    pub fn passed(mut self, to: Place, is_over: bool) {
        let caught_up = self.tracker.shard_mut(self.handle).progress.pass_read(to, is_over);
        self.catch_up(caught_up);
        if is_over {
            self.tracker.dirty.insert(self.handle);
            self.tracker.finish_if_done(self.handle);
            self.tracker.left_out.allow_pass(self.handle);
        }
    }

    /// What was read again is settled: the position moves.
    fn mark_settled(&mut self) {
        self.tracker.dirty.insert(self.handle);
    }

    fn catch_up(&mut self, lanes: Vec<LaneId>) {
        lanes.into_iter().for_each(|lane| self.tracker.left_out.catch_up(lane, self.handle));
    }

    fn hand_on(&mut self, ordinal: u64, item: LaneId) -> Owed {
        let is_ordered_by_shard = self.tracker.is_ordered_by_shard;
        let shard = self.tracker.shard(self.handle);
        let barrier = shard.barrier.as_ref().filter(|barrier| !is_ordered_by_shard && barrier.holds(item));
        let barrier = barrier.map(|barrier| barrier.name);
        let lane = if is_ordered_by_shard { shard.lane } else { item };
        self.tracker.left_out.hand_on(item, ordinal, self.handle);
        Owed { token: Some(self.token(ordinal)), lane, barrier }
    }

    fn hand_on_gap(&mut self, ordinal: u64, gap: &Gap, name: LaneId) -> Owed {
        let is_ordered_by_shard = self.tracker.is_ordered_by_shard;
        let shard = self.tracker.shard(self.handle);
        let barrier = shard.barrier.as_ref().map(|barrier| barrier.name).filter(|_| !is_ordered_by_shard);
        let lane = if is_ordered_by_shard { shard.lane } else { name };
        // A gap at which reading stops holds the position for good: only a restart gets past it.
        let token = Some(self.token(ordinal)).filter(|_| gap.resume.is_some());
        Owed { token, lane, barrier }
    }

    fn token(&mut self, ordinal: u64) -> AckToken {
        self.tracker.unsettled += 1;
        self.tracker.next_ordinal = ordinal + 1;
        AckToken { shard: self.handle, ordinal }
    }
}
