//! One shard: how far it was read, what of that is settled, and what is to be stored of it. Pure: time is an argument.
//!
//! Contract:
//! - [`ShardProgress::settled`] is exact: a record is owed by what it says if and only if it was not read, or was read and is
//!   neither settled nor stored as settled by an earlier run. That holds at any moment, also while a shard is read again of which
//!   an earlier run has stored that some of it is settled.
//! - Numbers ascend; where records share one, each has its place among them.
//! - Memory grows with the records that are read and not settled, and not with those that were settled behind one.

use std::collections::{BTreeMap, VecDeque};
use std::time::SystemTime;

use crate::checkpoint::UnfinishedShard;
use crate::records::{LaneId, Position, RecordNumber, SequenceNumber};

/// So many settled records may stay among the others before they are cleared away.
const MOST_SETTLED: usize = 64;

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
    /// What was read, from the first record that is not settled on.
    read: VecDeque<ReadRecord>,
    /// How many of those are settled.
    settled: usize,
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
    is_settled: bool,
    /// The record before it, where that was settled and is not here any more.
    before: Option<Box<Passed>>,
    /// It is a gap: what was owed and will not come again. It stays owed until the gap is settled.
    lost: Option<Box<Heads>>,
    /// It is a gap, and nobody knows what was lost.
    is_anybodys: bool,
}

/// A record that is settled: its number, and when it was created.
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
            settled: 0,
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

    /// Records that were read and are not settled.
    pub fn unsettled(&self) -> usize {
        self.read.len() - self.settled
    }

    /// When the oldest owed record was created, as far as records say theirs.
    pub fn oldest_owed(&self) -> Option<SystemTime> {
        let inherited = self.inherited.as_ref().and_then(|inherited| inherited.oldest_owed);
        let read = self.read.iter().find(|record| !record.is_settled).and_then(|record| record.created);
        inherited.into_iter().chain(read).min()
    }

    /// The next record was read. Returns its ordinal if it is owed; none if an earlier run has settled it.
    pub fn read(&mut self, sequence: SequenceNumber, lane: LaneId, created: Option<SystemTime>) -> Option<u64> {
        let number = self.read_to.next(sequence);
        let ordinal = self.push_owed(number, lane, created);
        self.read_created = created.or(self.read_created);
        self.passed(Position::After(number));
        ordinal
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

    /// A record reached its end: acknowledged, or given up by policy.
    pub fn settle(&mut self, ordinal: u64) {
        let Ok(index) = self.read.binary_search_by_key(&ordinal, |record| record.ordinal) else { return };
        let record = &mut self.read[index];
        if std::mem::replace(&mut record.is_settled, true) {
            return;
        }
        self.newest_settled = self.newest_settled.max(Some(record.number));
        self.settled += 1;
        while let Some(first) = self.read.pop_front_if(|first| first.is_settled) {
            self.settled -= 1;
            let before = self.read.front().and_then(|next| next.before.as_deref());
            let (number, created) = before.map_or((first.number, None), |before| (before.number, before.created));
            self.safe = Position::After(number);
            self.safe_created = created.or(first.created).or(self.safe_created);
        }
        if self.settled > MOST_SETTLED && self.settled > self.read.len() / 2 {
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
        let (safe, safe_created) = match self.read.is_empty() {
            true => (self.read_to, self.read_created),
            false => (self.safe, self.safe_created),
        };
        let safe = self.readable(safe);
        let newest_settled = self.newest_settled_from(safe);
        let (mut heads, mut is_anybodys) = (BTreeMap::new(), false);
        let mut owed = self.read.iter().filter(|record| !record.is_settled).peekable();
        while let Some(record) = owed.next_if(|record| newest_settled.is_behind(record.number)) {
            heads.entry(record.lane).or_insert(record.number);
            is_anybodys |= record.is_anybodys;
            for (lane, head) in record.lost.iter().flat_map(|lost| lost.iter()) {
                heads.entry(*lane).or_insert(*head);
            }
        }
        let next_owed = if is_anybodys { Some(None) } else { owed.next().map(|record| record.created) };
        if let Some(inherited) = &self.inherited {
            for (lane, head) in self.not_read_again(inherited) {
                heads.entry(lane).or_insert(head);
            }
        }
        Settled { safe, safe_created, newest_settled, heads, oldest_owed: self.oldest_owed(), next_owed }
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
        if self.inherited.as_ref().is_none_or(|inherited| inherited.owes(lane, number)) {
            return Some(self.push(number, lane, created));
        }
        self.newest_settled = self.newest_settled.max(Some(number));
        None
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
        let (is_settled, lost, is_anybodys) = (false, None, false);
        self.read.push_back(ReadRecord { ordinal, number, lane, created, is_settled, before, lost, is_anybodys });
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

    /// Settled records behind one that is not take memory for nothing.
    fn clear_away(&mut self) {
        let mut before = None;
        self.read.retain_mut(|record| {
            if record.is_settled {
                before = Some(Passed { number: record.number, created: record.created });
                return false;
            }
            if let Some(before) = before.take() {
                record.before = Some(Box::new(before));
            }
            true
        });
        self.settled = 0;
    }
}

impl Inherited {
    fn owes(&self, lane: LaneId, number: RecordNumber) -> bool {
        !self.newest_settled.is_behind(number) || self.heads.get(&lane).is_some_and(|head| *head <= number)
    }
}

#[cfg(test)]
mod tests;
