//! Leaves lanes of a table out that are too long, and brings them back by passes over their shards. Pure: time is an argument.
//!
//! Contract:
//! - What is left out stays owed, to the record, and is handed on again in its item's order, nothing missing and nothing twice, as far
//!   as it is still there.
//! - One pass over a shard is under way at a time. It begins where the first of what it brings back lies.
//! - What is about to be trimmed is brought back although what is before it in its lane is not settled, and is not left out anew.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::left_out::PassStart;
use super::table_tracker::{AckToken, OpenedShard, TableTracker};
use super::tracked_shard::Loss;
use super::tracked_stream::{ShardHandle, StreamHandle};
use crate::records::{LaneId, Position, RETENTION, SequenceNumber};

/// What was created so long ago is brought back although what is before it in its lane is not settled: four hours before it is trimmed.
const LONGEST_LEFT_OUT: Duration = RETENTION.saturating_sub(Duration::from_hours(4));

/// Then what was created so much later is brought back with it, so that there is a pass every half an hour and not at each record's
/// turn.
const BROUGHT_TOGETHER: Duration = Duration::from_mins(30);

/// A table's tracker, seen by those who leave lanes out and bring them back.
pub struct CatchUp<'t> {
    tracker: &'t mut TableTracker,
}

/// Why a pass is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassCause {
    /// What was handed on of its lanes is settled, or there is room again.
    Due,
    /// What is left out is so old at this moment that it will soon be trimmed.
    Age(SystemTime),
}

impl<'t> CatchUp<'t> {
    /// For as long as the caller holds the tracker's lock.
    pub fn of(tracker: &'t mut TableTracker) -> Self {
        Self { tracker }
    }

    /// Lanes are left out from these entries on. Those that were left out before stay so.
    pub fn leave_out<'a>(&mut self, tokens: impl IntoIterator<Item = &'a AckToken>) {
        for token in tokens {
            // One of a gap is a fault of whoever gives it: the gap stays owed, and a restart finds it again.
            debug_assert!(self.is_left_out(token) || self.item_of(token).is_some(), "a gap is never left out");
            if let Some(lane) = self.item_of(token) {
                self.leave_lane_out(lane, token.ordinal);
            }
        }
    }

    fn leave_lane_out(&mut self, lane: LaneId, from: u64) {
        let tracker = &mut *self.tracker;
        if tracker.left_out.is_empty() {
            let all = tracker
                .shards()
                .flat_map(|(handle, shard)| shard.handed_on().map(move |(ordinal, lane)| (lane, ordinal, handle)));
            let all: Vec<_> = all.collect();
            tracker.left_out.begin(all.into_iter());
        }
        for shard in tracker.left_out.shards_of(lane) {
            tracker.shard_mut(shard).progress.leave_pass(lane);
        }
        for (ordinal, shard) in tracker.left_out.leave_out(lane, from) {
            tracker.shard_mut(shard).progress.leave_out(ordinal);
            tracker.unsettled -= 1;
        }
    }

    /// Whether an entry that is not settled was left out since it was handed on.
    pub fn is_left_out(&self, token: &AckToken) -> bool {
        self.tracker.shard(token.shard).progress.lane_of(token.ordinal).is_none()
    }

    /// Whether an entry may be left out: it is a record that can be read again at this moment, and was not brought back because it is
    /// about to be trimmed. Where it may, so may what follows it in its lane.
    pub fn may_leave_out(&self, token: &AckToken, now: SystemTime) -> bool {
        let progress = &self.tracker.shard(token.shard).progress;
        let is_aged = progress.created(token.ordinal).is_some_and(|created| created <= aged_at(now));
        let must_stay = is_aged || progress.left_out().must_stay(token.ordinal);
        let is_read = !self.tracker.stream(token.shard.stream).is_ended;
        is_read && !must_stay && self.item_of(token).is_some()
    }

    /// The lane of the item to whose records an entry belongs.
    fn item_of(&self, token: &AckToken) -> Option<LaneId> {
        if self.tracker.is_ordered_by_shard {
            return None;
        }
        self.tracker.shard(token.shard).item_of(token.ordinal)
    }

    /// There is room again for lanes that were left out as a whole.
    pub fn readmit(&mut self) {
        self.tracker.left_out.readmit();
    }

    /// How many lanes are left out.
    pub fn lanes(&self) -> usize {
        self.tracker.left_out.len()
    }

    /// Whether a pass has become due since it was asked last.
    pub fn take_news(&mut self) -> bool {
        self.tracker.left_out.take_news()
    }

    /// The shards of a stream in which something is left out.
    pub fn shards(&self, stream: StreamHandle) -> Vec<ShardHandle> {
        self.tracker.left_out.shards(stream).into_iter().collect()
    }

    /// The shards of a stream over which a pass may begin now.
    pub fn shards_to_pass(&self, stream: StreamHandle, cause: PassCause) -> Vec<ShardHandle> {
        let shards = match cause {
            PassCause::Due => self.tracker.left_out.due(stream).collect(),
            PassCause::Age(_) => self.shards(stream),
        };
        shards.into_iter().filter(|shard| self.is_to_pass(*shard, cause)).collect()
    }

    /// A shard that was read to its end, for one more reader; none if its last page was not entered yet.
    pub fn reopen(&self, handle: ShardHandle) -> Option<OpenedShard> {
        let (id, from) = (self.tracker.shard_id(handle).clone(), self.read_to(handle));
        let is_ended = self.tracker.shard(handle).is_ended;
        is_ended.then_some(OpenedShard { handle, id, from, handed_over: None })
    }

    /// The place before everything that is left out of a shard, and of how many lanes.
    pub fn left_out_of(&self, shard: ShardHandle) -> (Position, usize) {
        let left_out = self.tracker.shard(shard).progress.left_out();
        (left_out.first().map_or(Position::Start, |place| place.position), left_out.lanes())
    }

    /// Behind the last record of a shard that was read.
    fn read_to(&self, shard: ShardHandle) -> Position {
        self.tracker.shard(shard).progress.read_to()
    }

    /// Whether a pass over a shard may begin now.
    pub fn is_to_pass(&self, shard: ShardHandle, cause: PassCause) -> bool {
        let left_out = &self.tracker.left_out;
        if left_out.is_empty() || self.tracker.shard(shard).progress.left_out().has_pass() {
            return false;
        }
        match cause {
            PassCause::Due => left_out.is_due(shard),
            PassCause::Age(now) => self.aged(shard, now).next().is_some(),
        }
    }

    /// Begins a pass over a shard, if one may begin now; where.
    pub fn begin_pass(&mut self, shard: ShardHandle, cause: PassCause) -> Option<PassStart> {
        if !self.is_to_pass(shard, cause) {
            return None;
        }
        let (lanes, by): (Vec<LaneId>, _) = match cause {
            PassCause::Due => (self.tracker.left_out.due_in(shard).collect(), None),
            PassCause::Age(now) => (self.aged(shard, now).collect(), Some(aged_at(now) + BROUGHT_TOGETHER)),
        };
        self.tracker.left_out.count_pass();
        self.tracker.shard_mut(shard).progress.begin_pass(lanes.into_iter(), by)
    }

    /// A pass over a shard has ended: its reader makes no further one before this moment.
    pub fn rest(&mut self, shard: ShardHandle, until: Instant) {
        self.tracker.shard_mut(shard).rests_until = Some(until);
    }

    /// Whether a pass is to be made at this moment and is not; how many were begun: while that stays so, nobody makes it.
    pub fn overdue(&self, now: Instant) -> Option<u64> {
        let rests = |shard: ShardHandle| self.tracker.shard(shard).rests_until.is_some_and(|until| now < until);
        let mut due = self.tracker.left_out.all_due();
        let is_overdue = due.any(|shard| !rests(shard) && self.is_to_pass(shard, PassCause::Due));
        is_overdue.then_some(self.tracker.left_out.passes())
    }

    fn aged(&self, shard: ShardHandle, now: SystemTime) -> impl Iterator<Item = LaneId> {
        let left_out = &self.tracker.left_out;
        let aged = self.tracker.shard(shard).progress.left_out().aged(aged_at(now));
        aged.filter(move |lane| left_out.is_first(*lane, shard))
    }

    /// Which of these lanes the pass over a shard brings back.
    pub fn in_pass(&self, shard: ShardHandle, lanes: impl IntoIterator<Item = Option<LaneId>>) -> Vec<bool> {
        let left_out = self.tracker.shard(shard).progress.left_out();
        lanes.into_iter().map(|lane| lane.is_some_and(|lane| left_out.is_in_pass(lane))).collect()
    }

    /// Whether the pass over a shard has something to bring behind this position.
    pub fn has_more_behind(&self, shard: ShardHandle, position: Position) -> bool {
        self.tracker.shard(shard).progress.left_out().has_more_behind(position)
    }

    /// What is lost if `first` is the next record that is still there in a pass; without one nothing is. `is_trimmed`: AWS has said that
    /// the record at the pass's position is gone.
    pub fn loss(
        &self,
        shard: ShardHandle,
        first: Option<SequenceNumber>,
        is_trimmed: bool,
        now: SystemTime,
    ) -> Option<Loss> {
        self.tracker.shard(shard).loss_in_pass(first, is_trimmed, now)
    }
}

/// What was created then is about to be trimmed.
fn aged_at(now: SystemTime) -> SystemTime {
    now.checked_sub(LONGEST_LEFT_OUT).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
