//! What of one shard was read and given up for now, because its lanes are too long: it stays owed, takes no memory by the record, and
//! comes again in a pass of the shard's reader. Pure.
//!
//! Contract:
//! - A lane that is left out owes all of its records from one number up to another one. What of them comes again in a pass is owed one
//!   by one; the lane owes the rest as before. So what is owed is exact at every moment, however a pass ends.
//! - A pass brings back only the lanes with which it was begun, each from its first record on and in order. One that is left out anew
//!   leaves the pass: what the pass still brings of it is not taken.
//! - Memory grows with the lanes that are left out, and with the records that came again and are not settled.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::records::{LaneId, Position, RecordNumber, SequenceNumber};

/// What of one shard is left out, and what of that came again.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    lanes: BTreeMap<LaneId, LeftOutLane>,
    /// The lanes that a pass brings back. With a moment: only what was created by then.
    pass: Option<BTreeMap<LaneId, Option<SystemTime>>>,
    /// What came again and is not settled, by its ordinal.
    again: BTreeMap<u64, RecordAgain>,
    /// What will not come again, by the ordinal of the gap that tells it. It stays owed until that is settled.
    lost: BTreeMap<u64, Lost>,
}

/// A place between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub position: Position,
    /// When the last record before it was created, or a moment behind that, as far as that is known.
    pub created: Option<SystemTime>,
}

/// A record, or gap, that comes in a pass: its number, and the place right before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reread {
    pub number: RecordNumber,
    pub before: Place,
}

/// Where a pass begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassStart {
    pub from: Place,
    /// The sequence number of the first record that is owed, or of one right before it.
    pub at: SequenceNumber,
}

#[derive(Debug)]
struct LeftOutLane {
    /// The first record that it owes, if `is_exact`; else nothing of it lies before that.
    from: RecordNumber,
    is_exact: bool,
    before: Place,
    /// When that record was created, or one before it.
    created: Option<SystemTime>,
    /// The last record that was read of it.
    last: RecordNumber,
    count: u64,
}

#[derive(Debug)]
struct RecordAgain {
    lane: LaneId,
    reread: Reread,
    created: Option<SystemTime>,
    must_stay: bool,
}

#[derive(Debug)]
struct Lost {
    before: Place,
    heads: BTreeMap<LaneId, RecordNumber>,
}

impl LeftOut {
    /// Whether nothing is left out, and nothing that came again is owed.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.again.is_empty() && self.lost.is_empty()
    }

    /// How many lanes are left out.
    pub(super) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// How many records are left out.
    pub(super) fn count(&self) -> u64 {
        self.lanes.values().map(|lane| lane.count).sum()
    }

    /// How many records came again and are not settled.
    pub(super) fn unsettled(&self) -> usize {
        self.again.len()
    }

    /// A record that was handed on is given up for now, and what follows it of its lane will be, too.
    pub(super) fn give_up(&mut self, lane: LaneId, record: Reread, created: Option<SystemTime>) {
        self.leave_pass(lane);
        self.leave(lane, record, created);
    }

    /// A record of a lane is left out. It may lie behind what a pass that is under way has to bring, which brings it then, too.
    pub(super) fn leave(&mut self, lane: LaneId, record: Reread, created: Option<SystemTime>) {
        let Reread { number, before } = record;
        let created = created.or(before.created);
        let left = self.lanes.entry(lane).or_insert(LeftOutLane {
            from: number,
            is_exact: true,
            before,
            created,
            last: number,
            count: 0,
        });
        if number <= left.from {
            (left.from, left.is_exact, left.before, left.created) = (number, true, before, created);
        }
        left.last = left.last.max(number);
        left.count += 1;
    }

    /// A record that came again is given up once more; says whether there is one of this ordinal.
    pub(super) fn leave_again(&mut self, ordinal: u64) -> bool {
        let Some(RecordAgain { lane, reread, created, .. }) = self.again.remove(&ordinal) else { return false };
        self.give_up(lane, reread, created);
        true
    }

    /// A pass that is under way brings nothing more of this lane.
    pub(super) fn leave_pass(&mut self, lane: LaneId) {
        if let Some(lanes) = &mut self.pass {
            lanes.remove(&lane);
        }
    }

    /// A record that came again, or a gap, is settled; its lane and number if it was among those that came again.
    pub(super) fn settle(&mut self, ordinal: u64) -> Option<(LaneId, RecordNumber)> {
        self.lost.remove(&ordinal);
        let settled = self.again.remove(&ordinal)?;
        Some((settled.lane, settled.reread.number))
    }

    /// The lane of something that came again and is not settled.
    pub(super) fn lane_of(&self, ordinal: u64) -> Option<LaneId> {
        self.again.get(&ordinal).map(|record| record.lane)
    }

    /// When something that came again and is not settled was created, if it says so.
    pub(super) fn created(&self, ordinal: u64) -> Option<SystemTime> {
        self.again.get(&ordinal).and_then(|record| record.created)
    }

    /// What came again and is not settled.
    pub(super) fn records_again(&self) -> impl Iterator<Item = (u64, LaneId)> {
        self.again.iter().map(|(ordinal, record)| (*ordinal, record.lane))
    }

    /// Whether something came again to stay, although what is before it in its lane is not settled.
    pub(super) fn must_stay(&self, ordinal: u64) -> bool {
        self.again.get(&ordinal).is_some_and(|record| record.must_stay)
    }

    /// The lanes that owe something that was created by then.
    pub(super) fn aged(&self, by: SystemTime) -> impl Iterator<Item = LaneId> {
        let is_aged = move |lane: &LeftOutLane| lane.created.is_some_and(|created| created <= by);
        self.lanes.iter().filter(move |(_, lane)| is_aged(lane)).map(|(id, _)| *id)
    }

    /// Whether a pass is under way.
    pub(super) fn has_pass(&self) -> bool {
        self.pass.is_some()
    }

    /// A pass begins that brings these lanes back; where. `by`: only what was created by then. None where one is under way, or none of
    /// them is left out.
    pub(super) fn begin_pass(
        &mut self,
        lanes: impl Iterator<Item = LaneId>,
        by: Option<SystemTime>,
    ) -> Option<PassStart> {
        if self.pass.is_some() {
            return None;
        }
        let lanes: BTreeMap<LaneId, _> =
            lanes.filter(|lane| self.lanes.contains_key(lane)).map(|lane| (lane, by)).collect();
        let first = lanes.keys().filter_map(|lane| self.lanes.get(lane)).min_by_key(|lane| lane.from)?;
        let start = PassStart { from: first.before, at: first.from.sequence };
        self.pass = Some(lanes);
        Some(start)
    }

    /// Whether the pass that is under way brings this lane back.
    pub(super) fn is_in_pass(&self, lane: LaneId) -> bool {
        self.pass.as_ref().is_some_and(|lanes| lanes.contains_key(&lane))
    }

    /// Whether the pass that is under way has something to bring behind a position.
    pub(super) fn has_more_behind(&self, position: Position) -> bool {
        self.pass_lanes().any(|lane| !position.is_behind(lane.last))
    }

    /// A pass brings this record; says whether it is owed, and then by this ordinal.
    pub(super) fn again(&mut self, ordinal: u64, lane: LaneId, record: Reread, created: Option<SystemTime>) -> bool {
        let Some(by) = self.pass.as_ref().and_then(|lanes| lanes.get(&lane).copied()) else { return false };
        let Some(left) = self.lanes.get_mut(&lane) else { return false };
        let number = record.number;
        if number < left.from || number > left.last {
            return false;
        }
        if by.zip(created).is_some_and(|(by, created)| created > by) {
            (left.from, left.is_exact, left.before, left.created) = (number, true, record.before, created);
            self.leave_pass(lane);
            return false;
        }
        left.count = left.count.saturating_sub(1);
        let position = Position::After(number);
        left.pass(Place { position, created: created.or(record.before.created) });
        self.again.insert(ordinal, RecordAgain { lane, reread: record, created, must_stay: by.is_some() });
        true
    }

    /// A pass has come to this place. Returns the lanes of which nothing is left out any more. When it `is_over`, what it has not
    /// brought stays left out.
    pub(super) fn passed(&mut self, to: Place, is_over: bool) -> Vec<LaneId> {
        let Some(lanes) = &mut self.pass else { return Vec::new() };
        let mut caught_up = Vec::new();
        for id in lanes.keys() {
            let Some(lane) = self.lanes.get_mut(id) else { continue };
            if to.position.is_behind(lane.last) {
                caught_up.push(*id);
            } else if to.position.is_behind(lane.from) {
                lane.pass(to);
            }
        }
        for id in &caught_up {
            lanes.remove(id);
            self.lanes.remove(id);
        }
        if is_over {
            self.pass = None;
        }
        caught_up
    }

    /// Whether something is lost if `first` is the next record that is still there behind a pass's position; without one nothing is.
    /// `is_doubtful` says of a moment whether what was created then may be gone.
    pub(super) fn is_loss_in_pass(
        &self,
        first: Option<SequenceNumber>,
        is_doubtful: impl Fn(Option<SystemTime>) -> bool,
    ) -> bool {
        let is_sure = |lane: &LeftOutLane| lane.is_exact || first.is_none_or(|first| lane.last.sequence < first);
        self.pass_lanes().any(|lane| lane.lies_before(first) && (is_sure(lane) || is_doubtful(lane.created)))
    }

    /// A pass finds that what lies before `first` is gone: see [`LeftOut::gap`]. The event that tells it is in this lane.
    pub(super) fn gap_again(
        &mut self,
        ordinal: u64,
        lane: LaneId,
        gap: Reread,
        first: Option<SequenceNumber>,
    ) -> Vec<LaneId> {
        let behind = Place { position: Position::After(gap.number), created: gap.before.created };
        let caught_up = self.gap(ordinal, first, behind);
        self.again.insert(ordinal, RecordAgain { lane, reread: gap, created: None, must_stay: false });
        caught_up
    }

    /// What lies before `first` will not come again, in any lane, which an event of this ordinal tells. `behind`: the place in front of
    /// `first`. Returns the lanes of which nothing is left out any more.
    pub(super) fn gap(&mut self, ordinal: u64, first: Option<SequenceNumber>, behind: Place) -> Vec<LaneId> {
        let (mut caught_up, mut lost): (_, Option<Lost>) = (Vec::new(), None);
        for (id, lane) in self.lanes.iter_mut().filter(|(_, lane)| lane.lies_before(first)) {
            let lost = lost.get_or_insert_with(|| Lost { before: lane.before, heads: BTreeMap::new() });
            if lost.heads.values().all(|head| lane.from < *head) {
                lost.before = lane.before;
            }
            lost.heads.insert(*id, lane.from);
            match first.map(RecordNumber::from).filter(|first| *first <= lane.last) {
                Some(first) => (lane.from, lane.is_exact, lane.before) = (first, false, behind),
                None => caught_up.push(*id),
            }
        }
        for id in &caught_up {
            self.lanes.remove(id);
            self.leave_pass(*id);
        }
        if first.is_none() {
            // There is nothing to bring.
            self.pass = None;
        }
        self.lost.extend(lost.map(|lost| (ordinal, lost)));
        caught_up
    }

    /// The lanes that have lost something if nothing before `first` is there any more.
    pub(super) fn lost_before(&self, first: Option<SequenceNumber>) -> impl Iterator<Item = LaneId> {
        self.lanes.iter().filter(move |(_, lane)| lane.lies_before(first)).map(|(id, _)| *id)
    }

    /// The place before everything that is owed of it.
    pub(super) fn first(&self) -> Option<Place> {
        let lanes = self.lanes.values().map(|lane| (lane.from, lane.before));
        let again = self.again.values().map(|record| (record.reread.number, record.reread.before));
        let lost = self.lost.values().filter_map(|lost| Some((*lost.heads.values().min()?, lost.before)));
        lanes.chain(again).chain(lost).min_by_key(|(number, _)| *number).map(|(_, before)| before)
    }

    /// What each lane owes first: of what came again, of what did not, and of what will not.
    pub(super) fn heads(&self) -> impl Iterator<Item = (LaneId, RecordNumber)> {
        let lost = self.lost.values().flat_map(|lost| lost.heads.iter().map(|(lane, head)| (*lane, *head)));
        let again = self.again.values().map(|record| (record.lane, record.reread.number));
        lost.chain(again).chain(self.lanes.iter().map(|(id, lane)| (*id, lane.from)))
    }

    /// When each record that is owed behind this position was created, or one before it, as far as that is known.
    pub(super) fn owed_behind(&self, position: Position) -> impl Iterator<Item = Option<SystemTime>> {
        let lanes = self.lanes.values().filter(move |lane| !position.is_behind(lane.last)).map(|lane| lane.created);
        let is_behind = move |record: &&RecordAgain| !position.is_behind(record.reread.number);
        let again = self.again.values().filter(is_behind);
        lanes.chain(again.map(|record| record.created.or(record.reread.before.created)))
    }

    /// When the oldest owed record was created, as far as records say theirs.
    pub(super) fn oldest_owed(&self) -> Option<SystemTime> {
        let again = self.again.values().filter_map(|record| record.created);
        self.lanes.values().filter_map(|lane| lane.created).chain(again).min()
    }

    fn pass_lanes(&self) -> impl Iterator<Item = &LeftOutLane> {
        self.pass.iter().flat_map(BTreeMap::keys).filter_map(|id| self.lanes.get(id))
    }
}

impl LeftOutLane {
    /// Nothing of it lies up to there any more.
    fn pass(&mut self, to: Place) {
        (self.from, self.is_exact, self.before) = (to.position.gap(None), false, to);
        self.created = to.created.or(self.created);
    }

    fn lies_before(&self, first: Option<SequenceNumber>) -> bool {
        self.from <= self.last && first.is_none_or(|first| self.from.sequence < first)
    }
}
