//! How soon a change comes where nothing goes wrong.

use std::time::Duration;

use super::{Judge, Sentence, name};
use crate::aws::{Aws, ChangeNumber};
use crate::fault::Fault;
use crate::plan::Moment;

/// Worlds with these faults only are as prompt as others.
const HARMLESS: [Fault; 6] = [
    Fault::SmallPages,
    Fault::MassRollover,
    Fault::ShuffledListings,
    Fault::ClockOff,
    Fault::StrictTrimming,
    Fault::SameShardIds,
];

/// What delivery and a turn in a queue may take, apart from calls.
const SLACK: Duration = Duration::from_millis(1_500);

/// What an event may take that waits for others of its lane.
const DELIVERY: Duration = Duration::from_millis(25);

/// What each partition may add to the time that the first look at all shards takes.
const START: Duration = Duration::from_millis(10);

impl Judge {
    /// The next poll brings a change, and whoever was quiet for a time waits at most a tenth of it for that poll.
    pub(super) fn check_promptness(&mut self, number: ChangeNumber, aws: &Aws, now: Moment) {
        let is_calm = !self.has_several() && self.plan.faults.iter().all(|fault| HARMLESS.contains(fault));
        let Some(since) = self.owed_since.filter(|_| is_calm && !self.fates[number as usize].optional) else { return };
        let at = aws.changes[number as usize].at;
        let from = at.max(since);
        let first_look = (self.plan.partitions * self.plan.tables) as u32 * START;
        let start = if from < since + first_look { first_look } else { Duration::ZERO };
        let pause = self.longest_pause(number, aws).max(self.last_pause(number, from, now, aws));
        let pauses = 1 + self.empty_pages(number, from, aws);
        let wait = pauses * pause + self.time_for_backlog(number, from, aws);
        let bound = wait + start + SLACK + 6 * self.call();
        if now > from + bound {
            let took = (now - from).as_secs_f64();
            let what = format!(
                "{} came {took:.1} s after it could, {:.1} s are allowed",
                name(number, aws),
                bound.as_secs_f64()
            );
            self.find(Sentence::Late, now, what);
        }
    }

    fn call(&self) -> Duration {
        Duration::from_millis(self.plan.latency.1)
    }

    /// A pause that was begun in the quiet time before this change, or before one shortly ahead of it.
    fn longest_pause(&self, number: ChangeNumber, aws: &Aws) -> Duration {
        let (poll, idle) = (self.settings.poll, self.settings.idle_max.max(self.settings.poll));
        let change = &aws.changes[number as usize];
        let shard = aws.shard_of(change);
        let own = shard.records.partition_point(|record| *record < number);
        let at = |place: usize| aws.changes[shard.records[place] as usize].at;
        let mut longest = poll;
        for place in (0..=own).rev().take_while(|place| at(*place) + idle >= change.at) {
            let pause = match place.checked_sub(1) {
                Some(before) => (at(place).saturating_sub(at(before)) / 10).clamp(poll, idle),
                // The parent's end has to be seen first, and the child to be found.
                None => idle + poll + SLACK,
            };
            if at(place) + pause >= change.at {
                longest = longest.max(pause);
            }
        }
        longest
    }

    /// A pause that begins now, if nothing came after what had come when the change was made.
    fn last_pause(&self, number: ChangeNumber, from: Moment, now: Moment, aws: &Aws) -> Duration {
        let change = &aws.changes[number as usize];
        let shard = aws.shard_of(change);
        let has_come = |record: &ChangeNumber| {
            let fate = &self.fates[*record as usize];
            fate.taken_at.map_or(fate.optional, |taken| taken < from)
        };
        let before =
            shard.records.iter().take_while(|record| **record < number).filter(|record| has_come(record)).last();
        let quiet_since = before.map_or(shard.created, |before| aws.changes[*before as usize].at);
        (now.saturating_sub(quiet_since) / 10).clamp(self.settings.poll, self.settings.idle_max.max(self.settings.poll))
    }

    /// Empty pages of its lineage since it could be had: each costs a pause.
    fn empty_pages(&self, number: ChangeNumber, from: Moment, aws: &Aws) -> u32 {
        let change = &aws.changes[number as usize];
        let shards = &aws.stream_of(change).shards;
        let lineage = std::iter::successors(Some(change.shard), |shard| shards[*shard].parent);
        let withheld = lineage.filter_map(|shard| self.withheld.get(&(change.table, change.stream, shard)));
        withheld.flatten().filter(|at| **at >= from).count() as u32
    }

    /// What has to be read and delivered of the lineage before a change that could be had at `from`.
    fn time_for_backlog(&self, number: ChangeNumber, from: Moment, aws: &Aws) -> Duration {
        let change = &aws.changes[number as usize];
        let shards = &aws.stream_of(change).shards;
        let lineage = std::iter::successors(Some(change.shard), |shard| shards[*shard].parent);
        let records = lineage.flat_map(|shard| &shards[shard].records).filter(|record| **record <= number);
        let is_behind =
            |record: &&ChangeNumber| self.fates[**record as usize].taken_at.is_none_or(|taken| taken > from);
        let behind = records.filter(is_behind).count() as u32;
        let pages = behind / self.plan.page_limit as u32;
        behind * DELIVERY + pages * 2 * (self.settings.poll + self.call())
    }
}
