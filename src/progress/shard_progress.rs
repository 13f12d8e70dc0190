//! One shard: how far it was read, what of that is settled, and what is to be stored of it. Pure: time is an argument.
//!
//! Contract:
//! - [`ShardProgress::settled`] is exact: a record is owed by what it says if and only if it was not read, or was read and is
//!   neither settled nor stored as settled by an earlier run. That holds at any moment, also while a shard is read again of which
//!   an earlier run has stored that some of it is settled.
//! - Numbers ascend; where records share one, each has its place among them.
//! - Memory grows with the records that are read and not settled, and not with those that were settled behind one, or were left out.

use std::collections::{BTreeMap, VecDeque};
use std::time::SystemTime;

use super::left_out::{LeftOut, PassStart, Place, Reread};
use crate::checkpoint::UnfinishedShard;
use crate::records::{LaneId, Position, RecordNumber, SequenceNumber};

/// So many records that are over may stay among the others before they are cleared away.
const MOST_OVER: usize = 64;

/// The progress of one shard.
#[derive(Debug)]
pub struct ShardProgress {
    /// Where reading began.
    begin: Position,
    /// Behind the last record, or gap, that was read.
    read_to: Position,
    /// When the last record up to there was created, or a moment behind that.
    read_created: Option<SystemTime>,
    /// Everything up to here is settled; `read_to` where nothing is owed.
    safe: Position,
    /// When the last record up to there was created, or a moment behind that.
    safe_created: Option<SystemTime>,
    /// What was read, from the first record that is not over on.
    read: VecDeque<ReadRecord>,
    /// How many of those are over: settled, or left out.
    over: usize,
    left_out: LeftOut,
    /// Of the last record that is settled.
    newest_settled: Option<RecordNumber>,
    next_ordinal: u64,
    /// What an earlier run has stored, until everything that it speaks of was read again.
    inherited: Option<Inherited>,
}

#[derive(Debug)]
struct Inherited {
    newest_settled: Position,
    heads: Heads,
    oldest_owed: Option<SystemTime>,
}

/// The first record that each lane owes.
type Heads = BTreeMap<LaneId, RecordNumber>;

#[derive(Debug)]
struct ReadRecord {
    ordinal: u64,
    number: RecordNumber,
    lane: LaneId,
    created: Option<SystemTime>,
    /// It is settled, or left out.
    is_over: bool,
    /// The record before it, where that is not here any more.
    before: Option<Box<Passed>>,
    /// It is a gap: what was owed and will not come again. It stays owed until the gap is settled.
    lost: Option<Box<Heads>>,
    /// It is a gap, and nobody knows what was lost.
    is_anybodys: bool,
}

/// A record that is over: its number, and when it was created.
#[derive(Debug)]
struct Passed {
    number: RecordNumber,
    created: Option<SystemTime>,
}

/// What is settled of a shard, in the terms of what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    pub safe: Position,
    /// When the last record up to there was created, or a moment behind that, as far as that is known.
    pub safe_created: Option<SystemTime>,
    pub newest_settled: Position,
    pub heads: BTreeMap<LaneId, RecordNumber>,
    /// When the oldest owed record was created, as far as records say theirs.
    pub oldest_owed: Option<SystemTime>,
    /// The first owed record behind `newest_settled`, or gap that may be anybody's, if one was read: when it was created, if it says
    /// so.
    pub next_owed: Option<Option<SystemTime>>,
}

impl ShardProgress {
    /// A shard of which nothing was read.
    pub fn begin(from: Position) -> Self {
        Self {
            begin: from,
            read_to: from,
            read_created: None,
            safe: from,
            safe_created: None,
            read: VecDeque::new(),
            over: 0,
            left_out: LeftOut::default(),
            newest_settled: None,
            next_ordinal: 0,
            inherited: None,
        }
    }

    /// A shard of which an earlier run has stored this.
    pub fn resume(stored: &UnfinishedShard) -> Self {
        let UnfinishedShard { safe, newest_settled, ref heads, oldest_owed, verified_at, newest_record, .. } = *stored;
        let (heads, created) = (heads.clone(), Some(newest_record.unwrap_or(verified_at)));
        let inherited = Inherited { newest_settled, heads, oldest_owed };
        let says_something = newest_settled != safe || oldest_owed.is_some();
        let inherited = says_something.then_some(inherited);
        Self { inherited, read_created: created, safe_created: created, ..Self::begin(safe) }
    }

    /// Behind the last record that was read.
    pub fn read_to(&self) -> Position {
        self.readable(self.read_to)
    }

    /// When the last record that was read was created, or a moment behind that, as far as that is known.
    pub fn read_created(&self) -> Option<SystemTime> {
        self.read_created
    }

    /// The last record that was read does not say when it was created: not behind this moment, at which it was read.
    pub fn read_by(&mut self, moment: SystemTime) {
        self.read_created = self.read_created.max(Some(moment));
    }

    /// Records that were read and are not settled, those that are left out excepted.
    pub fn unsettled(&self) -> usize {
        self.read.len() - self.over + self.left_out.unsettled()
    }

    /// Whether nothing that was read is owed.
    pub fn is_settled(&self) -> bool {
        self.read.len() == self.over && self.left_out.is_empty()
    }

    /// The next entry that is owed gets this ordinal.
    pub fn number_from(&mut self, ordinal: u64) {
        self.next_ordinal = ordinal;
    }

    /// What is left out, to look at.
    pub(super) fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// What is owed and was handed on, by ordinals, with its lane.
    pub fn handed_on(&self) -> impl Iterator<Item = (u64, LaneId)> {
        let read = self.read.iter().filter(|record| !record.is_over).map(|record| (record.ordinal, record.lane));
        read.chain(self.left_out.records_again())
    }

    /// When a record that is owed and was handed on was created, if it says so.
    pub fn created(&self, ordinal: u64) -> Option<SystemTime> {
        match self.place_of(ordinal) {
            Some(index) => self.read[index].created,
            None => self.left_out.created(ordinal),
        }
    }

    /// The lane of an entry that is owed and was handed on.
    pub fn lane_of(&self, ordinal: u64) -> Option<LaneId> {
        let read = self.place_of(ordinal).map(|index| self.read[index].lane);
        read.or_else(|| self.left_out.lane_of(ordinal))
    }

    /// When the oldest owed record was created, as far as records say theirs.
    pub fn oldest_owed(&self) -> Option<SystemTime> {
        let inherited = self.inherited.as_ref().and_then(|inherited| inherited.oldest_owed);
        let read = self.read.iter().find(|record| !record.is_over).and_then(|record| record.created);
        inherited.into_iter().chain(read).chain(self.left_out.oldest_owed()).min()
    }

    /// The next record was read. Returns its ordinal if it is owed; none if an earlier run has settled it.
    pub fn read(&mut self, sequence: SequenceNumber, lane: LaneId, created: Option<SystemTime>) -> Option<u64> {
        let number = self.read_to.next(sequence);
        let ordinal = self.push_owed(number, lane, created);
        self.read_created = created.or(self.read_created);
        self.passed(Position::After(number));
        ordinal
    }

    /// The next record was read, of a lane that is left out; says whether it is owed.
    pub fn read_left_out(&mut self, sequence: SequenceNumber, lane: LaneId, created: Option<SystemTime>) -> bool {
        let number = self.read_to.next(sequence);
        let is_owed = self.owes(lane, number);
        if is_owed {
            let before = Place { position: self.read_to, created: self.read_created };
            self.left_out.leave(lane, Reread { number, before }, created);
        }
        self.read_created = created.or(self.read_created);
        self.passed(Position::After(number));
        is_owed
    }

    /// A record that is owed and was handed on is left out from now on, and so is what follows it of its lane.
    pub fn leave_out(&mut self, ordinal: u64) {
        let Some(index) = self.place_of(ordinal) else {
            self.left_out.leave_again(ordinal);
            return;
        };
        let ReadRecord { number, lane, created, .. } = self.read[index];
        self.left_out.give_up(lane, Reread { number, before: self.place_before(index) }, created);
        self.mark_over(index);
    }

    /// The place right before an entry that is here.
    fn place_before(&self, index: usize) -> Place {
        let last = index.checked_sub(1).map(|last| &self.read[last]);
        let (position, created) = match (&self.read[index].before, last) {
            (Some(before), _) => (Position::After(before.number), before.created),
            (None, Some(last)) => (Position::After(last.number), last.created),
            (None, None) => (self.safe, self.safe_created),
        };
        Place { position, created }
    }

    /// A pass begins that brings these lanes back; where. `by`: only what was created by then. None where one is under way, or none of
    /// them is left out.
    pub fn begin_pass(&mut self, lanes: impl Iterator<Item = LaneId>, by: Option<SystemTime>) -> Option<PassStart> {
        self.left_out.begin_pass(lanes, by)
    }

    /// A pass that is under way brings nothing more of this lane.
    pub fn leave_pass(&mut self, lane: LaneId) {
        self.left_out.leave_pass(lane);
    }

    /// The pass brings a record. Returns its ordinal if it is owed and comes again.
    pub fn again(&mut self, lane: LaneId, record: Reread, created: Option<SystemTime>) -> Option<u64> {
        let ordinal = self.next_ordinal;
        let is_owed = self.left_out.again(ordinal, lane, record, created);
        self.next_ordinal += u64::from(is_owed);
        is_owed.then_some(ordinal)
    }

    /// What the pass was to bring before `first` will not come again, which one event in `lane` tells. Returns its ordinal, and the lanes
    /// of which nothing is left out any more.
    pub fn gap_again(&mut self, lane: LaneId, gap: Reread, first: Option<SequenceNumber>) -> (u64, Vec<LaneId>) {
        let ordinal = self.next_ordinal;
        self.next_ordinal += 1;
        (ordinal, self.left_out.gap_again(ordinal, lane, gap, first))
    }

    /// Of what is left out, nothing before `first` will come again, which the gap of this ordinal tells. Returns the lanes of which
    /// nothing is left out any more.
    pub fn lose_left_out(&mut self, ordinal: u64, first: Option<SequenceNumber>) -> Vec<LaneId> {
        let behind = Place { position: self.read_to, created: self.read_created };
        self.left_out.gap(ordinal, first, behind)
    }

    /// The pass has come to this place. Returns the lanes of which nothing is left out any more. When it `is_over`, what it has not
    /// brought stays left out.
    pub fn pass_read(&mut self, to: Place, is_over: bool) -> Vec<LaneId> {
        self.left_out.passed(to, is_over)
    }

    /// Something is missing behind the last record that was read, which one event in `lane` tells; what was `lost` will not come
    /// again, and if it `is_anybodys`, nobody knows what else. Returns its ordinal.
    pub fn gap(&mut self, lane: LaneId, lost: BTreeMap<LaneId, RecordNumber>, is_anybodys: bool) -> u64 {
        let number = self.read_to.gap(None);
        let lost = (!lost.is_empty()).then(|| Box::new(lost));
        let ordinal = self.push(number, lane, None);
        if let Some(gap) = self.read.back_mut() {
            (gap.lost, gap.is_anybodys) = (lost, is_anybodys);
        }
        self.passed(self.read_to.behind_gap(None));
        ordinal
    }

    /// The next record cannot be decoded; `sequence` is its number, if that is known. Otherwise as [`ShardProgress::read`].
    pub fn undecodable(&mut self, sequence: Option<SequenceNumber>, lane: LaneId) -> Option<u64> {
        let number = self.read_to.gap(sequence);
        let ordinal = self.push_owed(number, lane, None);
        self.passed(self.read_to.behind_gap(sequence));
        ordinal
    }

    /// What an earlier run owed of records that lie before `first`, which is the next one that is still there.
    pub fn owed_before(&self, first: Option<SequenceNumber>) -> BTreeMap<LaneId, RecordNumber> {
        let heads = self.inherited.iter().flat_map(|inherited| self.not_read_again(inherited));
        heads.filter(|(_, head)| first.is_none_or(|first| head.sequence < first)).collect()
    }

    /// Whether an earlier run has settled something at or behind `first`: then nothing before that is unknown, unless the shard owes a
    /// gap there, the head of its `own` lane: that may be anybody's.
    pub fn knows(&self, first: SequenceNumber, own: LaneId) -> bool {
        let knows = |inherited: &Inherited| {
            let has_gap = inherited.heads.get(&own).is_some_and(|head| head.sequence < first);
            !has_gap && inherited.newest_settled.is_behind(first.into())
        };
        self.inherited.as_ref().is_some_and(knows)
    }

    /// A record reached its end: acknowledged, or given up by policy. Returns its lane, if it was owed and handed on.
    pub fn settle(&mut self, ordinal: u64) -> Option<LaneId> {
        let (lane, number) = match self.place_of(ordinal) {
            Some(index) => {
                let ReadRecord { lane, number, .. } = self.read[index];
                self.mark_over(index);
                // A gap may have taken with it what was left out.
                self.left_out.settle(ordinal);
                (lane, number)
            }
            None => self.left_out.settle(ordinal)?,
        };
        self.newest_settled = self.newest_settled.max(Some(number));
        Some(lane)
    }

    /// Where an entry is that is not over. What is settled is mostly of the oldest page, whose ordinals follow each other.
    fn place_of(&self, ordinal: u64) -> Option<usize> {
        let from_first = ordinal.checked_sub(self.read.front()?.ordinal)?;
        let guess = usize::try_from(from_first).ok()?;
        let index = match self.read.get(guess) {
            Some(record) if record.ordinal == ordinal => guess,
            _ => self.read.binary_search_by_key(&ordinal, |record| record.ordinal).ok()?,
        };
        (!self.read[index].is_over).then_some(index)
    }

    fn mark_over(&mut self, index: usize) {
        self.read[index].is_over = true;
        self.over += 1;
        while let Some(first) = self.read.pop_front_if(|first| first.is_over) {
            self.over -= 1;
            let before = self.read.front().and_then(|next| next.before.as_deref());
            let (number, created) = before.map_or((first.number, None), |before| (before.number, before.created));
            self.safe = Position::After(number);
            self.safe_created = created.or(first.created).or(self.safe_created);
        }
        if self.over > MOST_OVER && self.over > self.read.len() / 2 {
            self.clear_away();
        }
    }

    /// Of what an earlier run has stored, nothing more will be read again.
    pub fn end(&mut self) {
        let Some(inherited) = self.inherited.take() else { return };
        // What a gap took with it lies up to there, and all else up to there stays settled.
        if let Position::After(newest) = inherited.newest_settled {
            self.newest_settled = self.newest_settled.max(Some(newest));
        }
    }

    /// What is settled now.
    pub fn settled(&self) -> Settled {
        let (safe, safe_created) = self.safe();
        let newest_settled = self.newest_settled_from(safe);
        let mut heads = BTreeMap::new();
        let mut owe = |lane: LaneId, head: RecordNumber| {
            let first = heads.entry(lane).or_insert(head);
            *first = head.min(*first);
        };
        let left_out = self.left_out.heads().filter(|(_, head)| newest_settled.is_behind(*head));
        left_out.for_each(|(lane, head)| owe(lane, head));
        let mut is_anybodys = false;
        let mut owed = self.read.iter().filter(|record| !record.is_over).peekable();
        while let Some(record) = owed.next_if(|record| newest_settled.is_behind(record.number)) {
            owe(record.lane, record.number);
            is_anybodys |= record.is_anybodys;
            record.lost.iter().flat_map(|lost| lost.iter()).for_each(|(lane, head)| owe(*lane, *head));
        }
        let owed = owed.next().map(|record| record.created).into_iter();
        let next_owed = owed.chain(self.left_out.owed_behind(newest_settled)).reduce(|one, other| {
            // Who does not say when it was created may be the older one.
            one.zip(other).map(|(one, other)| one.min(other))
        });
        let next_owed = if is_anybodys { Some(None) } else { next_owed };
        if let Some(inherited) = &self.inherited {
            self.not_read_again(inherited).for_each(|(lane, head)| owe(lane, head));
        }
        Settled { safe, safe_created, newest_settled, heads, oldest_owed: self.oldest_owed(), next_owed }
    }

    /// The place up to which everything is settled.
    fn safe(&self) -> (Position, Option<SystemTime>) {
        let (safe, created) = match self.read.is_empty() {
            true => (self.read_to, self.read_created),
            false => (self.safe, self.safe_created),
        };
        let (safe, created) = match self.left_out.first() {
            Some(first) if !is_behind(first.position, safe) => (first.position, first.created),
            _ => (safe, created),
        };
        (self.readable(safe), created)
    }

    /// What the lanes owe that was not read again. What was is here, or settled.
    fn not_read_again<'a>(&self, inherited: &'a Inherited) -> impl Iterator<Item = (LaneId, RecordNumber)> + use<'a> {
        let next = self.read_to.gap(None);
        inherited.heads.iter().map(move |(lane, head)| (*lane, (*head).max(next)))
    }

    /// A position from which somebody can read on.
    fn readable(&self, position: Position) -> Position {
        if position.is_before_records() { self.begin } else { position }
    }

    fn newest_settled_from(&self, safe: Position) -> Position {
        let inherited = self.inherited.as_ref().map(|inherited| inherited.newest_settled);
        let read = self.newest_settled.map(Position::After);
        let later = |one, other| match (one, other) {
            (Position::After(one), Position::After(other)) => Position::After(one.max(other)),
            (Position::Start | Position::Since(_), other) => other,
            (one, Position::Start | Position::Since(_)) => one,
        };
        inherited.into_iter().chain(read).fold(safe, later)
    }

    /// Notes a record as owed, unless an earlier run has settled it.
    fn push_owed(&mut self, number: RecordNumber, lane: LaneId, created: Option<SystemTime>) -> Option<u64> {
        self.owes(lane, number).then(|| self.push(number, lane, created))
    }

    /// Whether the next record is owed. If not, an earlier run has settled it.
    fn owes(&mut self, lane: LaneId, number: RecordNumber) -> bool {
        let is_owed = self.inherited.as_ref().is_none_or(|inherited| inherited.owes(lane, number));
        if !is_owed {
            self.newest_settled = self.newest_settled.max(Some(number));
        }
        is_owed
    }

    fn push(&mut self, number: RecordNumber, lane: LaneId, created: Option<SystemTime>) -> u64 {
        let ordinal = self.next_ordinal;
        self.next_ordinal += 1;
        let before = match (self.read.back(), self.read_to) {
            (Some(last), Position::After(number)) if last.number != number => {
                Some(Box::new(Passed { number, created: self.read_created }))
            }
            (Some(_), _) => None,
            (None, _) => {
                (self.safe, self.safe_created) = (self.read_to, self.read_created);
                None
            }
        };
        self.read.push_back(ReadRecord {
            ordinal,
            number,
            lane,
            created,
            is_over: false,
            before,
            lost: None,
            is_anybodys: false,
        });
        ordinal
    }

    fn passed(&mut self, position: Position) {
        self.read_to = position;
        let is_over = |inherited: &Inherited| match (inherited.newest_settled, position) {
            (Position::After(newest), Position::After(read)) => newest <= read,
            (Position::Start | Position::Since(_), Position::After(_)) => true,
            _ => false,
        };
        if self.inherited.as_ref().is_some_and(is_over) {
            self.end();
        }
    }

    /// Records that are over, behind one that is not, take memory for nothing.
    fn clear_away(&mut self) {
        let mut before = None;
        self.read.retain_mut(|record| {
            if record.is_over {
                before = Some(Passed { number: record.number, created: record.created });
                return false;
            }
            if let Some(before) = before.take() {
                record.before = Some(Box::new(before));
            }
            true
        });
        self.over = 0;
    }
}

/// Whether one place lies behind the other one of the same shard.
fn is_behind(one: Position, other: Position) -> bool {
    match (one, other) {
        (Position::After(one), Position::After(other)) => one > other,
        (Position::After(_), _) => true,
        _ => false,
    }
}

impl Inherited {
    fn owes(&self, lane: LaneId, number: RecordNumber) -> bool {
        !self.newest_settled.is_behind(number) || self.heads.get(&lane).is_some_and(|head| *head <= number)
    }
}

#[cfg(test)]
mod tests;
