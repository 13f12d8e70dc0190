//! What the store says is settled, change by change.

use std::collections::BTreeMap;

use dynamodb_streams_adapter::checkpoint::{StoredShard, StoredStream, StoredTable};
use dynamodb_streams_adapter::records::Position;

use super::{Judge, Sentence, name};
use crate::aws::{Aws, ChangeNumber, Shard, Stream, moment_of};
use crate::plan::Moment;

/// How many of each shard's records are stored as settled: a position settles everything before it.
#[derive(Default)]
pub struct Settled {
    prefixes: BTreeMap<(usize, usize, usize), usize>,
    changes: Vec<bool>,
}

impl Settled {
    pub fn holds(&self, number: ChangeNumber) -> bool {
        self.changes.get(number as usize).copied().unwrap_or(false)
    }
}

impl Judge {
    /// Looks at what is stored of a table; `confirmed`: the store has said that it will be there.
    pub fn stored(&mut self, table: usize, state: &StoredTable, confirmed: bool, aws: &Aws, now: Moment) {
        self.settled.changes.resize(self.fates.len(), false);
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for (number, stream) in aws.tables[table].streams.iter().enumerate() {
            let stored = state.streams.iter().find(|stored| stored.arn == stream.arn);
            let prefixes = prefixes(stored, stream, aws);
            for (shard, prefix) in prefixes.into_iter().enumerate() {
                let before = self.settled.prefixes.insert((table, number, shard), prefix).unwrap_or(0);
                let records = &stream.shards[shard].records;
                added.extend(records.get(before..prefix).unwrap_or_default());
                removed.extend(records.get(prefix..before).unwrap_or_default());
            }
        }
        for number in &added {
            self.settled.changes[*number as usize] = true;
        }
        for number in &removed {
            self.settled.changes[*number as usize] = false;
        }
        added.into_iter().for_each(|number| self.settles(number, aws, now));
        removed.into_iter().for_each(|number| self.unsettles(number, aws, now));
        if confirmed {
            self.confirm(table, aws);
        }
    }

    fn confirm(&mut self, table: usize, aws: &Aws) {
        let fates = self.fates.iter_mut().zip(&self.settled.changes).zip(&aws.changes);
        for ((fate, settled), _) in fates.filter(|(_, change)| change.table == table) {
            fate.confirmed |= *settled && !fate.optional;
        }
    }

    fn settles(&mut self, number: ChangeNumber, aws: &Aws, now: Moment) {
        if !self.fates[number as usize].is_resolved() {
            let what = format!("{} is stored as settled, and nobody has it", name(number, aws));
            self.find(Sentence::SettledAndNeverTaken, now, what);
        }
        if let Some(before) = aws.changes[number as usize].before {
            self.must_be_settled(before, number, aws, now);
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
        if !self.settled.holds(before) && !cannot_come_again {
            let what = format!("{} is stored as settled, {} is not", name(number, aws), name(before, aws));
            self.find(Sentence::NotAPrefix, now, what);
        }
    }
}

/// For each shard of a stream how many of its records the stored state settles.
fn prefixes(stored: Option<&StoredStream>, stream: &Stream, aws: &Aws) -> Vec<usize> {
    let Some(stored) = stored else { return vec![0; stream.shards.len()] };
    // Whoever has an entry has nothing unsettled before it.
    let mut is_passed = vec![false; stream.shards.len()];
    for (number, shard) in stream.shards.iter().enumerate().rev() {
        is_passed[number] = shard
            .children
            .iter()
            .any(|child| is_passed[*child] || stored.shards.contains_key(&stream.shards[*child].id));
    }
    let shards = stream.shards.iter().zip(is_passed);
    shards
        .map(|(shard, is_passed)| match stored.shards.get(&shard.id) {
            _ if stored.done => shard.records.len(),
            Some(StoredShard::Finished { .. }) => shard.records.len(),
            // Today's adapter stores no heads: what is settled is a prefix.
            Some(StoredShard::Unfinished(stored)) => prefix(stored.safe, shard, aws),
            None if is_passed => shard.records.len(),
            None => prefix(stored.start, shard, aws),
        })
        .collect()
}

fn prefix(position: Position, shard: &Shard, aws: &Aws) -> usize {
    match position {
        Position::Start => 0,
        Position::After(sequence) => {
            let sequence: u128 = sequence.as_str().parse().unwrap_or(0);
            shard.records.partition_point(|change| aws.changes[*change as usize].sequence <= sequence)
        }
        Position::Since(moment) => {
            let second = moment_of(moment).map_or(0, |moment| moment.as_secs());
            shard.records.partition_point(|change| aws.changes[*change as usize].at.as_secs() < second)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
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

    fn settled(start: Position, done: bool, shards: &[(usize, StoredShard)]) -> Vec<usize> {
        let aws = world();
        let stream = &aws.tables[0].streams[0];
        let shards: BTreeMap<String, StoredShard> =
            shards.iter().map(|(shard, state)| (stream.shards[*shard].id.clone(), state.clone())).collect();
        prefixes(Some(&StoredStream { arn: stream.arn.clone(), start, done, shards }), stream, &aws)
    }

    fn reading(change: usize) -> StoredShard {
        let sequence = world().changes[change].sequence.to_string().parse().unwrap();
        StoredShard::at(Position::After(sequence), SystemTime::UNIX_EPOCH, None)
    }

    #[test]
    fn a_position_settles_what_lies_before_it_and_all_ancestors() {
        assert_eq!(settled(Position::Start, false, &[]), [0, 0]);
        assert_eq!(settled(Position::Start, false, &[(0, reading(1))]), [2, 0]);
        assert_eq!(settled(Position::Start, false, &[(1, reading(3))]), [3, 1]);
        let begun = StoredShard::at(Position::Start, SystemTime::UNIX_EPOCH, None);
        assert_eq!(settled(Position::Start, false, &[(1, begun)]), [3, 0]);
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
    fn nothing_is_settled_of_a_stream_that_is_not_stored() {
        let aws = world();
        assert_eq!(prefixes(None, &aws.tables[0].streams[0], &aws), [0, 0]);
    }
}
