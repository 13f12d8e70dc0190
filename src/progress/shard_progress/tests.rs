//! What a shard says is settled, against a history of which everything is known, over any number of restarts.

use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use std::collections::BTreeSet;

use super::*;
use crate::checkpoint::StoredShard;

fn sequence(number: u64) -> SequenceNumber {
    number.to_string().parse().unwrap()
}

fn lane(number: u8) -> LaneId {
    LaneId::of_shard(&number.to_string())
}

/// What a shard holds: each record's lane, and whether it shares the number of the one before. Lane 4 is that of what cannot be
/// decoded: it has no number.
#[derive(Debug, Clone)]
struct Record {
    lane: u8,
    number: RecordNumber,
    is_settled: bool,
}

const UNDECODABLE: u8 = 4;

fn history() -> impl Strategy<Value = Vec<Record>> {
    prop::collection::vec((0u8..=4, prop::bool::weighted(0.2)), 1..40).prop_map(|records| {
        let (mut last, mut next) = (Position::Start, 7);
        let mut number = |lane, is_twin: bool| {
            next += u64::from(!is_twin);
            let number = if lane == UNDECODABLE { last.gap(None) } else { last.next(sequence(next)) };
            last = Position::After(number);
            number
        };
        let record = |(lane, is_twin)| Record { lane, number: number(lane, is_twin), is_settled: false };
        records.into_iter().map(record).collect()
    })
}

#[derive(Debug, Clone)]
enum Step {
    Read,
    /// Settles the first owed record of a lane that was handed on.
    Settle(u8),
    /// Leaves a lane out, but for so many records.
    LeaveOut(u8, usize),
    /// Begins a pass for the lanes that are set; with an age, for what is not younger.
    BeginPass([bool; 4], Option<usize>),
    /// Brings the next record of the pass, or ends a page, or the pass.
    Pass,
    PassPage(bool),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Read),
        5 => (0u8..=4).prop_map(Step::Settle),
        2 => (0u8..4, 0usize..3).prop_map(|(lane, keep)| Step::LeaveOut(lane, keep)),
        2 => (any::<[bool; 4]>(), prop::option::weighted(0.3, 0usize..40)).prop_map(|(lanes, by)| Step::BeginPass(lanes, by)),
        8 => Just(Step::Pass),
        2 => prop::bool::weighted(0.3).prop_map(Step::PassPage),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..200)
}

/// A run over the shard.
struct Run {
    progress: ShardProgress,
    /// The next record to be read.
    next: usize,
    /// What was handed on and is owed: its place in the history, and its ordinal.
    owed: Vec<(usize, u64)>,
    /// The places that are left out, and the lanes that are.
    left_out: BTreeSet<usize>,
    lanes: BTreeSet<u8>,
    pass: Option<ModelPass>,
}

struct ModelPass {
    /// The next place, and the last one that it has brought.
    next: usize,
    to: Place,
    has_begun: bool,
    lanes: BTreeSet<u8>,
    by: Option<usize>,
}

/// Records are created one a second.
fn created_at(place: usize) -> Option<SystemTime> {
    created(place as u64)
}

fn before(place: usize, history: &[Record]) -> Place {
    match place.checked_sub(1) {
        None => Place { position: Position::Start, created: None },
        Some(last) => Place { position: Position::After(history[last].number), created: created_at(last) },
    }
}

impl Run {
    fn begin(progress: ShardProgress, next: usize) -> Self {
        Self { progress, next, owed: Vec::new(), left_out: BTreeSet::new(), lanes: BTreeSet::new(), pass: None }
    }

    fn resume(stored: &UnfinishedShard, history: &[Record]) -> Self {
        let is_settled = |record: &Record| stored.safe.is_behind(record.number);
        let next = history.iter().position(|record| !is_settled(record)).unwrap_or(history.len());
        Self::begin(ShardProgress::resume(stored), next)
    }

    fn read(&mut self, history: &[Record]) {
        let Some(record) = history.get(self.next) else { return };
        if self.pass.as_ref().is_some_and(|pass| pass.has_begun) {
            // A shard has one reader.
            return;
        }
        let (sequence, created) = (record.number.sequence, created_at(self.next));
        if self.lanes.contains(&record.lane) {
            let is_owed = self.progress.read_left_out(sequence, lane(record.lane), created);
            assert_eq!(is_owed, !record.is_settled, "{record:?} of {history:?}");
            self.left_out.extend(is_owed.then_some(self.next));
            self.next += 1;
            return;
        }
        let ordinal = match record.lane {
            UNDECODABLE => self.progress.undecodable(None, lane(record.lane)),
            _ => self.progress.read(sequence, lane(record.lane), created),
        };
        assert_eq!(ordinal.is_some(), !record.is_settled, "{record:?} of {history:?}");
        self.owed.extend(ordinal.map(|ordinal| (self.next, ordinal)));
        self.next += 1;
    }

    fn settle(&mut self, lane: u8, history: &mut [Record]) {
        let first = self.owed.iter().position(|(place, _)| history[*place].lane == lane);
        if let Some((place, ordinal)) = first.map(|first| self.owed.remove(first)) {
            assert!(self.progress.settle(ordinal).is_some());
            history[place].is_settled = true;
        }
    }

    fn leave_out(&mut self, left: u8, keep: usize, history: &[Record]) {
        let of_lane = self.owed.iter().filter(|(place, _)| history[*place].lane == left).copied();
        let leaving: Vec<_> = of_lane.skip(keep).collect();
        if leaving.is_empty() {
            return;
        }
        self.progress.leave_pass(lane(left));
        if let Some(pass) = &mut self.pass {
            pass.lanes.remove(&left);
        }
        self.lanes.insert(left);
        for (place, ordinal) in leaving {
            assert_eq!(self.progress.lane_of(ordinal), Some(lane(left)));
            self.progress.leave_out(ordinal);
            assert_eq!(self.progress.lane_of(ordinal), None);
            self.owed.retain(|(other, _)| *other != place);
            self.left_out.insert(place);
        }
    }

    fn begin_pass(&mut self, chosen: [bool; 4], by: Option<usize>, history: &[Record]) {
        let lanes: BTreeSet<u8> = self.lanes.iter().copied().filter(|lane| chosen[usize::from(*lane)]).collect();
        let begun = self.progress.begin_pass(lanes.iter().map(|it| lane(*it)), by.and_then(created_at));
        let Some(start) = begun else {
            assert!(self.pass.is_some() || lanes.is_empty());
            return;
        };
        let next = history.iter().position(|record| !start.from.position.is_behind(record.number)).unwrap();
        let is_left_out = |place: &&usize| lanes.contains(&history[**place].lane);
        let first = self.left_out.iter().find(is_left_out).copied();
        assert!(first.is_none_or(|first| next <= first), "the pass begins behind what it has to bring");
        assert!(first.is_none_or(|first| start.at <= history[first].number.sequence));
        self.pass = Some(ModelPass { next, to: start.from, has_begun: false, lanes, by });
    }

    fn pass(&mut self, history: &[Record]) {
        let Some(pass) = self.pass.as_mut().filter(|pass| pass.next < self.next) else { return };
        let (place, record) = (pass.next, &history[pass.next]);
        (pass.next, pass.has_begun) = (place + 1, true);
        pass.to = Place { position: Position::After(record.number), created: created_at(place) };
        let reread = Reread { number: record.number, before: before(place, history) };
        assert_eq!(self.progress.left_out().is_in_pass(lane(record.lane)), pass.lanes.contains(&record.lane));
        let ordinal = self.progress.again(lane(record.lane), reread, created_at(place));
        let is_late = pass.by.is_some_and(|by| place > by);
        let is_expected = pass.lanes.contains(&record.lane) && self.left_out.contains(&place) && !is_late;
        assert_eq!(ordinal.is_some(), is_expected, "{record:?} at {place} of {history:?}");
        if self.left_out.contains(&place) && is_late {
            pass.lanes.remove(&record.lane);
        }
        if let Some(ordinal) = ordinal {
            self.left_out.remove(&place);
            let behind = self.owed.iter().position(|(other, _)| *other > place).unwrap_or(self.owed.len());
            self.owed.insert(behind, (place, ordinal));
        }
    }

    fn pass_page(&mut self, is_over: bool, history: &[Record]) {
        let Some(pass) = &mut self.pass else { return };
        for id in self.progress.pass_read(pass.to, is_over) {
            let caught_up = pass.lanes.iter().copied().find(|other| lane(*other) == id).unwrap();
            pass.lanes.remove(&caught_up);
            self.lanes.remove(&caught_up);
            assert!(self.left_out.iter().all(|place| history[*place].lane != caught_up), "{caught_up} is left out");
        }
        if is_over {
            if pass.next == self.next && pass.by.is_none() {
                assert!(pass.lanes.is_empty(), "what was passed is caught up");
            }
            self.pass = None;
        }
    }

    fn stored(&self) -> UnfinishedShard {
        let Settled { safe, newest_settled, heads, oldest_owed, .. } = self.progress.settled();
        UnfinishedShard {
            safe,
            newest_settled,
            heads,
            oldest_owed,
            verified_at: UNIX_EPOCH,
            newest_record: None,
            parent: None,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn exactly_what_is_settled_is_stored_as_settled_at_every_moment(mut history in history(), steps in steps()) {
        let begin = ShardProgress::begin(Position::Start);
        let mut run = Run::begin(begin, 0);
        for step in steps {
            match step {
                Step::Read => run.read(&history),
                Step::Settle(lane) => run.settle(lane, &mut history),
                Step::LeaveOut(lane, keep) => run.leave_out(lane, keep, &history),
                Step::BeginPass(lanes, by) => run.begin_pass(lanes, by, &history),
                Step::Pass => run.pass(&history),
                Step::PassPage(is_over) => run.pass_page(is_over, &history),
                Step::Restart => run = Run::resume(&run.stored(), &history),
            }
            let stored = run.stored();
            prop_assert_eq!(run.progress.unsettled(), run.owed.len());
            prop_assert_eq!(run.progress.left_out().count(), run.left_out.len() as u64);
            let read_and_owed = history[..run.next].iter().any(|record| !record.is_settled);
            prop_assert!(!run.progress.is_settled() || !read_and_owed);
            let oldest = history[..run.next].iter().position(|record| !record.is_settled).and_then(created_at);
            let (told, is_inherited) = (run.progress.oldest_owed(), run.progress.inherited.is_some());
            let has_undecodable = history.iter().any(|record| record.lane == UNDECODABLE);
            prop_assert!(is_inherited || has_undecodable || told <= oldest || oldest.is_none(), "{:?} {:?}", told, oldest);
            // What is stored can be written, and read by a later run.
            let text = serde_json::to_string(&StoredShard::Unfinished(stored)).unwrap();
            let stored: StoredShard = serde_json::from_str(&text).unwrap();
            for record in &history {
                let is_owed = stored.owes(lane(record.lane), record.number);
                prop_assert_eq!(is_owed, !record.is_settled, "{:?} by {}", record, text);
            }
            prop_assert!(stored.owes(lane(0), sequence(1_000).into()), "what was never read is owed");
        }
        // Everything is delivered in the end, and then one position says it all.
        run.pass_page(true, &history);
        while run.next < history.len() {
            run.read(&history);
        }
        run.begin_pass([true; 4], None, &history);
        history.clone().iter().for_each(|_| run.pass(&history));
        run.pass_page(true, &history);
        prop_assert!(run.left_out.is_empty() && run.lanes.is_empty());
        for lane in 0..=4 {
            history.clone().iter().for_each(|_| run.settle(lane, &mut history));
        }
        prop_assert!(run.progress.is_settled());
        prop_assert!(history.iter().all(|record| record.is_settled));
        let stored = run.stored();
        prop_assert_eq!((stored.safe, stored.heads.len()), (run.progress.read_to(), 0));
    }

    /// Order by shard is a lane that settles from its front: it needs no heads.
    #[test]
    fn what_settles_in_the_order_of_reading_is_one_position(count in 1usize..60, settled in 0usize..60) {
        let mut progress = ShardProgress::begin(Position::Start);
        let ordinals: Vec<u64> = (1..=count)
            .map(|number| progress.read(sequence(number as u64), lane(number as u8 % 4), None).unwrap())
            .collect();
        let settled = settled.min(count);
        ordinals[..settled].iter().for_each(|ordinal| assert!(progress.settle(*ordinal).is_some()));
        let stored = progress.settled();
        let expected = match settled {
            0 => Position::Start,
            settled => Position::after(sequence(settled as u64)),
        };
        prop_assert_eq!((stored.safe, stored.newest_settled, stored.heads.len()), (expected, expected, 0));
    }
}

fn created(seconds: u64) -> Option<SystemTime> {
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

#[test]
fn a_parked_item_takes_no_memory_for_what_is_settled_behind_it() {
    let mut progress = ShardProgress::begin(Position::Start);
    progress.read(sequence(1), lane(0), None);
    for number in 2..100_000 {
        let ordinal = progress.read(sequence(number), lane(1), None).unwrap();
        progress.settle(ordinal);
    }
    assert!(progress.read.len() <= 2 * MOST_OVER + 2, "{} records are held", progress.read.len());
    let settled = progress.settled();
    assert_eq!(settled.heads, BTreeMap::from([(lane(0), sequence(1).into())]));
    assert_eq!(settled.newest_settled, Position::after(sequence(99_999)));
    progress.settle(0);
    assert_eq!(progress.settled().safe, Position::after(sequence(99_999)), "a restart reads nothing of it again");
}

/// A stop while the first record and the last one are under way: between them nothing is read again for ever.
#[test]
fn a_position_lies_right_before_the_first_owed_record_although_what_was_before_it_is_cleared_away() {
    let mut progress = ShardProgress::begin(Position::Start);
    let ordinals: Vec<u64> =
        (1..=1_000).map(|number| progress.read(sequence(number), lane(number as u8), None).unwrap()).collect();
    ordinals[1..999].iter().for_each(|ordinal| assert!(progress.settle(*ordinal).is_some()));
    progress.settle(ordinals[0]);
    assert_eq!(progress.settled().safe, Position::after(sequence(999)));
}

#[test]
fn what_a_gap_took_with_it_is_owed_until_the_gap_is_settled() {
    let stored = UnfinishedShard {
        safe: Position::after(sequence(4)),
        newest_settled: Position::after(sequence(20)),
        heads: BTreeMap::from([(lane(0), sequence(5).into()), (lane(1), sequence(15).into())]),
        oldest_owed: created(5),
        verified_at: UNIX_EPOCH,
        newest_record: None,
        parent: None,
    };
    let mut progress = ShardProgress::resume(&stored);
    let lost = progress.owed_before(Some(sequence(12)));
    assert_eq!(lost, BTreeMap::from([(lane(0), sequence(5).into())]), "lane 1's first record is still there");
    assert!(progress.knows(sequence(20), lane(9)) && !progress.knows(sequence(21), lane(9)));
    let gap = progress.gap(lane(9), lost, false);
    assert_eq!(progress.read(sequence(12), lane(2), None), None);
    let settled = progress.settled();
    assert_eq!(settled.safe, Position::after(sequence(4)), "a restart must find the gap again");
    assert_eq!(settled.heads[&lane(0)], sequence(5).into());
    progress.settle(gap);
    let settled = progress.settled();
    assert_eq!(settled.safe, Position::after(sequence(12)));
    assert!(settled.heads[&lane(0)] > sequence(12).into(), "what of lane 0 follows is owed");
    assert_eq!(settled.heads[&lane(1)], sequence(15).into());
}

#[test]
fn the_oldest_owed_record_and_the_first_one_behind_everything_settled_are_known() {
    let mut progress = ShardProgress::begin(Position::Start);
    let ordinals: Vec<u64> =
        (1..=4).map(|number| progress.read(sequence(number), lane(number as u8), created(number)).unwrap()).collect();
    assert_eq!((progress.oldest_owed(), progress.settled().next_owed), (created(1), Some(created(1))));
    progress.settle(ordinals[1]);
    assert_eq!((progress.oldest_owed(), progress.settled().next_owed), (created(1), Some(created(3))));
    assert_eq!(ordinals.iter().filter(|ordinal| progress.settle(**ordinal).is_some()).count(), 3, "each once");
    assert_eq!((progress.oldest_owed(), progress.settled().next_owed), (None, None));
}

/// Everything up to 2 is settled, and of what lies up to 10 all but the records of lane 0 from 3 on.
fn half_settled() -> UnfinishedShard {
    UnfinishedShard {
        safe: Position::after(sequence(2)),
        newest_settled: Position::after(sequence(10)),
        heads: BTreeMap::from([(lane(0), sequence(3).into())]),
        oldest_owed: created(3),
        verified_at: UNIX_EPOCH,
        newest_record: None,
        parent: None,
    }
}

/// A stop right after the gap was read: else the next run knows nothing of what was lost, and tells nobody.
#[test]
fn what_a_gap_took_with_it_is_stored_as_owed_although_all_that_is_left_lies_behind_it() {
    let mut progress = ShardProgress::resume(&half_settled());
    let lost = progress.owed_before(Some(sequence(20)));
    progress.gap(lane(9), lost, false);
    progress.read(sequence(20), lane(1), created(20)).unwrap();
    let settled = progress.settled();
    assert_eq!(settled.newest_settled, Position::after(sequence(10)));
    assert_eq!(settled.heads.get(&lane(0)), Some(&sequence(3).into()), "{settled:?}");
    assert_eq!(settled.next_owed, Some(created(20)));
    progress.end();
    assert_eq!(progress.settled(), settled, "nor does the end of the shard change that");
}

/// The shard is trimmed while it is read again. What is stored must be an entry: the file refuses others.
#[test]
fn a_gap_takes_nothing_with_it_that_was_read_before_it() {
    let mut progress = ShardProgress::resume(&half_settled());
    let third = progress.read(sequence(3), lane(0), created(3)).unwrap();
    progress.settle(third);
    let lost = progress.owed_before(Some(sequence(8)));
    progress.gap(lane(9), lost, false);
    let Settled { safe, newest_settled, heads, .. } = progress.settled();
    assert_eq!(safe, Position::after(sequence(3)));
    let stored = UnfinishedShard { safe, newest_settled, heads, ..half_settled() };
    let text = serde_json::to_string(&StoredShard::Unfinished(stored)).unwrap();
    serde_json::from_str::<StoredShard>(&text).unwrap();
}

/// Else each later run tells the same gap again, until something new is read.
#[test]
fn behind_a_gap_with_nothing_behind_it_nothing_is_owed_once_it_is_settled() {
    let mut progress = ShardProgress::resume(&half_settled());
    let lost = progress.owed_before(None);
    let gap = progress.gap(lane(9), lost, false);
    progress.end();
    assert_eq!(progress.settled().heads.get(&lane(0)), Some(&sequence(3).into()));
    progress.settle(gap);
    assert_eq!(progress.settled().heads, BTreeMap::new());
    assert_eq!(progress.settled().newest_settled, Position::after(sequence(10)));
}

/// A record that was read again and is under way when the shard is trimmed behind it.
#[test]
fn what_a_gap_took_with_it_does_not_hide_what_its_lane_owes_before_it() {
    let mut progress = ShardProgress::resume(&half_settled());
    progress.read(sequence(3), lane(0), created(3)).unwrap();
    let lost = progress.owed_before(Some(sequence(8)));
    progress.gap(lane(9), lost, false);
    assert_eq!(progress.settled().heads.get(&lane(0)), Some(&sequence(3).into()));
}
