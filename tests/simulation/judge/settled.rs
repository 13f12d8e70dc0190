//! What the store says is settled, change by change.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dynamodb_streams_adapter::checkpoint::{StoredChanges, StoredShard, StoredStream, StoredTable};
use dynamodb_streams_adapter::records::{LaneId, Page, Position, RecordNumber, SequenceNumber};

use super::{Judge, Sentence, name};
use crate::aws::{Aws, ChangeNumber, Shard, Stream, moment_of, wall};
use crate::plan::{Moment, RETENTION};

/// A shard: of which table, stream, and which of its shards.
type ShardName = (usize, usize, usize);

/// The shard that stands for a stream which is gone.
const WHOLE_STREAM: &str = "the-whole-stream";

/// Which records are stored as settled.
#[derive(Default)]
pub struct Settled {
    /// What is stored of each table.
    stored: BTreeMap<usize, StoredTable>,
    shards: BTreeMap<ShardName, Known>,
    changes: Vec<bool>,
    lanes: BTreeMap<u32, LaneId>,
    /// Stored as settled, and not confirmed yet.
    unconfirmed: BTreeMap<usize, Vec<ChangeNumber>>,
}

/// What is known of a shard's records.
#[derive(Default)]
struct Known {
    records: Vec<(RecordNumber, LaneId)>,
    settled: SettledRecords,
}

/// By their places in the shard: all before `prefix`, and these.
#[derive(Default, Clone, PartialEq, Debug)]
struct SettledRecords {
    prefix: usize,
    beyond: BTreeSet<usize>,
}

impl SettledRecords {
    fn up_to(prefix: usize) -> Self {
        Self { prefix, beyond: BTreeSet::new() }
    }

    fn holds(&self, record: usize) -> bool {
        record < self.prefix || self.beyond.contains(&record)
    }

    /// The records that are among these and not among others.
    fn besides<'a>(&'a self, others: &'a Self) -> impl Iterator<Item = usize> + 'a {
        (others.prefix..self.prefix).chain(self.beyond.iter().copied()).filter(|record| !others.holds(*record))
    }
}

impl Settled {
    pub fn holds(&self, number: ChangeNumber) -> bool {
        self.changes.get(number as usize).copied().unwrap_or(false)
    }

    /// Takes in what is stored of a shard now; the changes that are settled by it and were not, and the other way round.
    fn look(&mut self, shard: ShardName, aws: &Aws, now: Moment) -> (Vec<ChangeNumber>, Vec<ChangeNumber>) {
        let (table, stream, number) = shard;
        let (stream, table) = (&aws.tables[table].streams[stream], self.stored.get(&table));
        let found = &stream.shards[number];
        let known = self.shards.entry(shard).or_default();
        learn(&mut known.records, found, aws, &mut self.lanes);
        let stored = table.and_then(|table| table.streams.iter().find(|stored| stored.arn == stream.arn));
        let settled =
            stored.map_or_else(Default::default, |stored| settled(stored, stream, number, &known.records, aws, now));
        let before = std::mem::replace(&mut known.settled, settled);
        let change = |record: usize| found.records[record];
        let added = known.settled.besides(&before).map(change).collect();
        (added, before.besides(&known.settled).map(change).collect())
    }
}

impl Judge {
    /// Looks at all that is stored of a table.
    pub fn stored(&mut self, table: usize, stored: StoredTable, aws: &Aws, now: Moment) {
        self.settled.stored.insert(table, stored);
        let streams = aws.tables[table].streams.iter().enumerate();
        let shards = streams.flat_map(|(stream, it)| (0..it.shards.len()).map(move |shard| (table, stream, shard)));
        self.look_at(shards.collect(), aws, now);
    }

    /// Looks at what has changed in what is stored of a table; the store has said that it will be there.
    pub fn changed(&mut self, table: usize, changes: &StoredChanges, aws: &Aws, now: Moment) {
        let stored = self.settled.stored.entry(table).or_default();
        let is_new = |arn: &String| stored.streams.iter().all(|stream| stream.arn != *arn);
        let is_wide = changes.streams.iter().any(|stream| stream.done || is_new(&stream.arn));
        stored.apply(changes);
        if is_wide {
            let stored = stored.clone();
            self.stored(table, stored, aws, now);
        } else {
            let mut shards = BTreeSet::new();
            for changed in &changes.streams {
                let streams = aws.tables[table].streams.iter().enumerate();
                for (number, stream) in streams.filter(|(_, stream)| stream.arn == changed.arn) {
                    for shard in changed.shards.keys().filter_map(|id| stream.number(id)) {
                        // What has no entry of its own is judged by those behind it.
                        let ancestors = std::iter::successors(Some(shard), |shard| stream.shards[*shard].parent);
                        shards.extend(ancestors.map(|shard| (table, number, shard)));
                    }
                }
            }
            self.look_at(shards, aws, now);
        }
        self.confirms(table, now);
    }

    /// What is stored of a table as settled stays so.
    pub fn confirms(&mut self, table: usize, now: Moment) {
        if self.others_may_still_write(now) {
            return;
        }
        for number in self.settled.unconfirmed.remove(&table).unwrap_or_default() {
            let fate = &mut self.fates[number as usize];
            fate.confirmed |= self.settled.holds(number) && !fate.optional;
        }
    }

    fn look_at(&mut self, shards: BTreeSet<ShardName>, aws: &Aws, now: Moment) {
        self.settled.changes.resize(self.fates.len(), false);
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for shard in shards {
            let (more, less) = self.settled.look(shard, aws, now);
            self.settled.unconfirmed.entry(shard.0).or_default().extend(&more);
            added.extend(more);
            removed.extend(less);
        }
        for number in &added {
            self.settled.changes[*number as usize] = true;
        }
        for number in &removed {
            self.settled.changes[*number as usize] = false;
        }
        added.into_iter().for_each(|number| self.settles(number, aws, now));
        removed.into_iter().for_each(|number| self.unsettles(number, aws, now));
    }

    fn settles(&mut self, number: ChangeNumber, aws: &Aws, now: Moment) {
        if !self.fates[number as usize].is_resolved() {
            let what = format!("{} is stored as settled, and nobody has it", name(number, aws));
            self.find(Sentence::SettledAndNeverTaken, now, what);
        }
        if let Some(before) = aws.changes[number as usize].before {
            self.must_be_settled(before, number, aws, now);
        }
        if self.has_several() {
            self.must_not_be_stale(number, aws, now);
        }
    }

    /// Whoever goes on from what is stored does not send again what lies before it: so nothing older may have come last.
    fn must_not_be_stale(&mut self, number: ChangeNumber, aws: &Aws, now: Moment) {
        let fate = &self.fates[number as usize];
        let last = self.last.get(&self.history(&aws.changes[number as usize]));
        if let Some((_, last)) = last.copied().filter(|(_, last)| *last < number && fate.taken && !fate.optional) {
            let what =
                format!("{} is stored as settled, and {} was taken behind it", name(number, aws), name(last, aws));
            self.find(Sentence::Stale, now, what);
        }
    }

    fn unsettles(&mut self, number: ChangeNumber, aws: &Aws, now: Moment) {
        let change = &aws.changes[number as usize];
        let stream = aws.stream_of(change);
        let is_gone = aws.is_trimmed(change, now) || stream.is_gone(now) || stream.shards[change.shard].is_gone(now);
        if self.fates[number as usize].confirmed && !is_gone {
            let what = format!("{} was stored as settled, and is not any more", name(number, aws));
            self.find(Sentence::Forgotten, now, what);
        }
        if let Some(next) = self.next[number as usize].filter(|next| self.settled.holds(*next)) {
            self.must_be_settled(number, next, aws, now);
        }
    }

    fn must_be_settled(&mut self, before: ChangeNumber, number: ChangeNumber, aws: &Aws, now: Moment) {
        let fate = &self.fates[before as usize];
        let change = &aws.changes[before as usize];
        let cannot_come_again = fate.optional || fate.told || aws.is_trimmed(change, now);
        // A gap is nobody's change: it comes before what follows it, and not behind what an item has had.
        let is_gap = change.is_malformed || aws.changes[number as usize].is_malformed;
        if !self.settled.holds(before) && !cannot_come_again && !is_gap && !self.may_follow(before, number, aws) {
            let what = format!("{} is stored as settled, {} is not", name(number, aws), name(before, aws));
            self.find(Sentence::NotAPrefix, now, what);
        }
    }
}

/// Learns the numbers and lanes of a shard's records that were not known.
fn learn(known: &mut Vec<(RecordNumber, LaneId)>, shard: &Shard, aws: &Aws, lanes: &mut BTreeMap<u32, LaneId>) {
    let mut last = known.last().map_or(Position::Start, |(number, _)| Position::After(*number));
    for change in &shard.records[known.len()..] {
        let change = &aws.changes[*change as usize];
        let sequence: SequenceNumber = change.sequence.to_string().parse().expect("digits");
        let (number, lane) = match change.is_malformed {
            // The adapter may not know its number. What is behind the record before it and before the next one is this.
            true => (last.next(sequence), LaneId::of_shard(&shard.id)),
            false => (last.next(sequence), *lanes.entry(change.item).or_insert_with(|| lane(change.item))),
        };
        known.push((number, lane));
        last = Position::After(number);
    }
}

/// The lane of an item, as the adapter finds it in a record.
fn lane(item: u32) -> LaneId {
    let record = format!(
        r#"{{"Records":[{{"eventID":"x","eventName":"MODIFY","dynamodb":{{"Keys":{{"id":{{"S":"i{item}"}}}},"SequenceNumber":"1"}}}}]}}"#
    );
    let mut page = Page::parse(Bytes::from(record)).expect("a page");
    page.records.remove(0).expect("a record").lane_id()
}

/// Which of a shard's records the stored state settles.
fn settled(
    stored: &StoredStream,
    stream: &Stream,
    shard: usize,
    records: &[(RecordNumber, LaneId)],
    aws: &Aws,
    now: Moment,
) -> SettledRecords {
    let found = &stream.shards[shard];
    let entry = stored.shards.get(&found.id);
    if matches!(stored.shards.get(WHOLE_STREAM), Some(StoredShard::Unfinished(_))) {
        // A gap that speaks of all of it is owed.
        return SettledRecords::default();
    }
    match entry {
        _ if stored.done => SettledRecords::up_to(records.len()),
        Some(StoredShard::Finished { .. }) => SettledRecords::up_to(records.len()),
        Some(StoredShard::Unfinished(state)) => {
            let prefix = prefix(state.safe, found, records, aws);
            let newest = records.partition_point(|(number, _)| state.newest_settled.is_behind(*number));
            let owes = |record: &usize| entry.is_some_and(|it| it.owes(records[*record].1, records[*record].0));
            SettledRecords { prefix, beyond: (prefix..newest).filter(|record| !owes(record)).collect() }
        }
        None if is_passed(stored, stream, shard, now) => SettledRecords::up_to(records.len()),
        None => SettledRecords::up_to(prefix(stored.start, found, records, aws)),
    }
}

/// Whoever has an entry without one of its parent was read behind it, or owes a word on what came before.
fn is_passed(stored: &StoredStream, stream: &Stream, shard: usize, now: Moment) -> bool {
    stream.shards[shard].children.iter().any(|child| match stored.shards.get(&stream.shards[*child].id) {
        Some(entry) => !owes_what_came_before(entry, now),
        None => is_passed(stored, stream, *child, now),
    })
}

/// An entry of which nothing is settled and whose continuity is older than records live: whoever reads on in it reports a gap.
fn owes_what_came_before(entry: &StoredShard, now: Moment) -> bool {
    let StoredShard::Unfinished(shard) = entry else { return false };
    let is_expired = wall(now).duration_since(shard.verified_at).is_ok_and(|age| age >= RETENTION);
    !matches!(shard.safe, Position::After(_)) && is_expired
}

fn prefix(position: Position, shard: &Shard, records: &[(RecordNumber, LaneId)], aws: &Aws) -> usize {
    match position {
        Position::Start => 0,
        Position::After(_) => records.partition_point(|(number, _)| position.is_behind(*number)),
        Position::Since(moment) => {
            let second = moment_of(moment).map_or(0, |moment| moment.as_secs());
            shard.records.partition_point(|change| aws.changes[*change as usize].at.as_secs() < second)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::plan::{BEGIN, Event, Plan};

    /// A stream of one shard with three records, which is continued by one with two.
    fn world() -> Aws {
        let mut plan = Plan::without(1, &Plan::draw(1).faults);
        (plan.tables, plan.partitions, plan.generations) = (1, 1, 0);
        let mut aws = Aws::new(&plan);
        let write = Event::Write { table: 0, item: 0, burst: 1 };
        for second in 0..5 {
            let now = BEGIN + Duration::from_secs(second);
            if second == 3 {
                aws.happen(Event::MassRollover { table: 0 }, now);
            }
            aws.happen(write, now);
        }
        aws
    }

    /// Which records of the two shards are settled.
    fn all_settled(start: Position, done: bool, shards: &[(usize, StoredShard)]) -> [SettledRecords; 2] {
        let aws = world();
        let stream = &aws.tables[0].streams[0];
        let shards: BTreeMap<String, StoredShard> =
            shards.iter().map(|(shard, state)| (stream.shards[*shard].id.clone(), state.clone())).collect();
        let stored = StoredStream { arn: stream.arn.clone(), start, done, shards };
        [0, 1].map(|shard| {
            let (mut records, mut lanes) = (Vec::new(), BTreeMap::new());
            learn(&mut records, &stream.shards[shard], &aws, &mut lanes);
            super::settled(&stored, stream, shard, &records, &aws, BEGIN)
        })
    }

    fn settled(start: Position, done: bool, shards: &[(usize, StoredShard)]) -> [usize; 2] {
        all_settled(start, done, shards).map(|settled| {
            assert!(settled.beyond.is_empty(), "{settled:?}");
            settled.prefix
        })
    }

    fn reading(change: usize) -> StoredShard {
        StoredShard::at(Position::After(number(change)), SystemTime::UNIX_EPOCH, None)
    }

    fn number(change: usize) -> RecordNumber {
        world().changes[change].sequence.to_string().parse().unwrap()
    }

    #[test]
    fn a_position_settles_what_lies_before_it_and_all_ancestors() {
        assert_eq!(settled(Position::Start, false, &[]), [0, 0]);
        assert_eq!(settled(Position::Start, false, &[(0, reading(1))]), [2, 0]);
        assert_eq!(settled(Position::Start, false, &[(1, reading(3))]), [3, 1]);
        let begun = |verified_at| StoredShard::at(Position::Start, verified_at, None);
        assert_eq!(settled(Position::Start, false, &[(1, begun(wall(BEGIN)))]), [3, 0]);
        // It will say that nobody knows what came before.
        assert_eq!(settled(Position::Start, false, &[(1, begun(SystemTime::UNIX_EPOCH))]), [0, 0]);
        let finished = StoredShard::Finished { at: SystemTime::UNIX_EPOCH, parent: None };
        assert_eq!(settled(Position::Start, false, &[(0, finished)]), [3, 0]);
        assert_eq!(settled(Position::Start, true, &[]), [3, 2]);
    }

    #[test]
    fn a_start_settles_what_is_older_by_whole_seconds() {
        let since = |millis| Position::Since(crate::aws::wall(BEGIN + Duration::from_millis(millis)));
        assert_eq!(settled(since(0), false, &[]), [0, 0]);
        assert_eq!(settled(since(2_900), false, &[]), [2, 0]);
        assert_eq!(settled(since(4_000), false, &[]), [3, 1]);
    }

    #[test]
    fn a_head_owes_its_lanes_records_and_nobody_elses() {
        let with_head = |lane| {
            let mut shard = reading(0);
            if let StoredShard::Unfinished(shard) = &mut shard {
                shard.newest_settled = Position::After(number(2));
                shard.heads.insert(lane, number(1));
            }
            all_settled(Position::Start, false, &[(0, shard)])[0].clone()
        };
        // All records are item 0's.
        assert_eq!(with_head(lane(0)), SettledRecords::up_to(1));
        assert_eq!(with_head(lane(1)), SettledRecords { prefix: 1, beyond: [1, 2].into() });
    }
}
