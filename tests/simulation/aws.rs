//! The truth about the tables: items written, streams, shards and their records. What AWS *says* of it is in `service`.
//!
//! Source of the rules: the DynamoDB Streams API reference and developer guide (24 hours, parents and children, one shard a
//! partition), and what other consumers' bug reports tell.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::fault::Fault;
use crate::plan::{BEGIN, Event, Moment, Plan, RETENTION, hash, hours};

/// What the world's clock shows at its beginning: 2026-01-05.
const EPOCH: Duration = Duration::from_secs(1_767_571_200);

pub type ChangeNumber = u32;

/// One change of one item, as the stream has it.
#[derive(Debug, Clone)]
pub struct Change {
    pub table: usize,
    pub item: u32,
    pub stream: usize,
    pub shard: usize,
    pub sequence: u128,
    pub at: Moment,
    /// The same item's change before.
    pub before: Option<ChangeNumber>,
    /// AWS sends something that is no record.
    pub is_malformed: bool,
}

/// How the service differs from AWS's.
#[derive(Debug)]
struct Quirks {
    odd_ids: bool,
    same_ids: bool,
    odd_records: bool,
    repeats_numbers: bool,
    is_endless: bool,
    forgets_at_once: bool,
    reads_streams: bool,
}

#[derive(Debug)]
pub struct Shard {
    pub id: String,
    pub parent: Option<usize>,
    pub children: Vec<usize>,
    /// The hashes of the keys that it takes.
    pub keys: (u32, u32),
    pub created: Moment,
    pub closed: Option<Moment>,
    pub records: Vec<ChangeNumber>,
}

#[derive(Debug)]
pub struct Stream {
    pub arn: String,
    pub created: Moment,
    pub disabled: Option<Moment>,
    /// How long it is known after it was disabled.
    kept: Duration,
    pub shards: Vec<Shard>,
    numbers: BTreeMap<String, usize>,
}

#[derive(Debug)]
pub struct Table {
    pub name: String,
    pub exists: bool,
    /// Oldest first.
    pub streams: Vec<Stream>,
    /// Each item's newest change.
    newest: Vec<Option<ChangeNumber>>,
}

/// Everything that is true.
#[derive(Debug)]
pub struct Aws {
    seed: u64,
    quirks: Quirks,
    most_shards: usize,
    rollover: Duration,
    pub tables: Vec<Table>,
    pub changes: Vec<Change>,
    sequence: u128,
}

impl Aws {
    pub fn new(plan: &Plan) -> Self {
        let mut aws = Self {
            seed: plan.seed,
            quirks: Quirks {
                odd_ids: plan.has(Fault::NotQuiteAws),
                same_ids: plan.has(Fault::SameShardIds),
                odd_records: plan.has(Fault::OddRecords),
                repeats_numbers: plan.has(Fault::RepeatedNumbers),
                is_endless: plan.has(Fault::EndlessIterators),
                forgets_at_once: plan.has(Fault::GoneAtOnce),
                reads_streams: plan.has(Fault::StreamArns),
            },
            most_shards: (plan.partitions * 2).max(8),
            rollover: plan.rollover,
            tables: Vec::new(),
            changes: Vec::new(),
            sequence: first_sequence(plan.seed),
        };
        for number in 0..plan.tables {
            aws.tables.push(Table {
                name: format!("Table{number}"),
                exists: true,
                streams: Vec::new(),
                newest: vec![None; 1_000],
            });
            aws.begin_stream(number, plan.partitions, BEGIN - hours(71));
            let generations = if aws.quirks.is_endless { 0 } else { plan.generations };
            for generation in (0..generations).rev() {
                let at = BEGIN - aws.rollover * (generation as u32 + 1) + Duration::from_secs(1);
                aws.roll_over_all(number, at.max(BEGIN - hours(47)));
            }
        }
        aws
    }

    /// Lets one event happen; returns in words what it was, where it matters.
    pub fn happen(&mut self, event: Event, now: Moment) -> Option<String> {
        // A service whose iterators never end has one generation of shards.
        if self.quirks.is_endless && !matches!(event, Event::Write { .. }) {
            return None;
        }
        match event {
            Event::Write { table, item, burst } => {
                (0..burst).for_each(|_| self.write(table, item, now));
                None
            }
            Event::Rollover { table, split, draw } => self.roll_over(table, split, draw, now),
            Event::MassRollover { table } => {
                self.roll_over_all(table, now);
                Some(format!("all shards of {} roll over", self.tables[table].name))
            }
            Event::Recreate { table, .. } | Event::Replace { table, .. } => {
                self.disable(table, now);
                self.tables[table].exists = !matches!(event, Event::Replace { .. });
                Some(format!("the stream of {} is disabled", self.tables[table].name))
            }
            Event::Enable { table } => {
                self.tables[table].exists = true;
                let is_enabled = self.tables[table].streams.last().is_some_and(|stream| stream.disabled.is_none());
                if is_enabled {
                    return None;
                }
                let partitions = self.tables[table].streams[0].shards.iter().filter(|shard| shard.parent.is_none());
                let partitions = partitions.count();
                self.begin_stream(table, partitions, now);
                Some(format!("{} has a new stream", self.tables[table].name))
            }
        }
    }

    fn begin_stream(&mut self, table: usize, partitions: usize, now: Moment) {
        let arn = format!("{}/stream/{}", table_arn(&self.tables[table].name), label(now));
        let width = u32::MAX / partitions as u32;
        let shards = (0..partitions).map(|n| {
            let keys = (n as u32 * width, if n + 1 == partitions { u32::MAX } else { (n as u32 + 1) * width - 1 });
            self.shard(table, n, None, keys, now)
        });
        let shards: Vec<Shard> = shards.collect();
        let kept = if self.quirks.forgets_at_once { Duration::ZERO } else { RETENTION };
        let mut stream =
            Stream { arn, created: now, disabled: None, kept, shards: Vec::new(), numbers: BTreeMap::new() };
        shards.into_iter().for_each(|shard| stream.add(shard));
        self.tables[table].streams.push(stream);
    }

    fn shard(&self, table: usize, number: usize, parent: Option<usize>, keys: (u32, u32), now: Moment) -> Shard {
        let streams = if self.quirks.same_ids { 0 } else { self.tables[table].streams.len() as u64 };
        let suffix = hash(self.seed, 11 + streams, (table * 100_000 + number) as u64) as u32;
        let id = match (self.quirks.odd_ids, self.quirks.same_ids) {
            (true, _) => format!("H {suffix:08x}:{number}"),
            (false, true) => format!("shardId-{:020}-{suffix:08x}", number + 1),
            (false, false) => format!("shardId-{:020}-{suffix:08x}", (EPOCH + now).as_millis()),
        };
        Shard { id, parent, children: Vec::new(), keys, created: now, closed: None, records: Vec::new() }
    }

    fn write(&mut self, table: usize, item: u32, now: Moment) {
        let number = self.changes.len() as ChangeNumber;
        let stream = self.tables[table].streams.len() - 1;
        let key = hash(0, 12, item.into()) as u32;
        let found = &mut self.tables[table].streams[stream];
        if found.disabled.is_some() {
            return;
        }
        let takes = |shard: &Shard| shard.closed.is_none() && (shard.keys.0..=shard.keys.1).contains(&key);
        let shard = found.shards.iter().rposition(takes).expect("open shards take all keys");
        let last = found.shards[shard].records.last().map(|last| &self.changes[*last as usize]);
        let is_together =
            last.is_some_and(|last| last.at + Duration::from_secs(1) > now && last.sequence == self.sequence);
        found.shards[shard].records.push(number);
        let draw = hash(self.seed, 13, number.into());
        let repeats = self.quirks.repeats_numbers && is_together && draw.is_multiple_of(2);
        self.sequence += if repeats { 0 } else { 1 + u128::from(draw % 5) };
        let before = self.tables[table].newest[item as usize].replace(number);
        // Whoever reads single streams has no order over them.
        let before =
            before.filter(|before| !self.quirks.reads_streams || self.changes[*before as usize].stream == stream);
        let is_malformed = self.quirks.odd_records && hash(self.seed, 14, number.into()).is_multiple_of(20);
        let sequence = self.sequence;
        self.changes.push(Change { table, item, stream, shard, sequence, at: now, before, is_malformed });
    }

    fn roll_over(&mut self, table: usize, split: bool, draw: u64, now: Moment) -> Option<String> {
        let stream = self.tables[table].streams.last()?;
        let open: Vec<usize> = (0..stream.shards.len()).filter(|n| stream.shards[*n].closed.is_none()).collect();
        let shard = *open.get(draw as usize % open.len().max(1))?;
        self.close(table, shard, split && open.len() < self.most_shards, now);
        (open.len() < 50).then(|| format!("a shard of {} rolls over", self.tables[table].name))
    }

    fn roll_over_all(&mut self, table: usize, now: Moment) {
        let stream = self.tables[table].streams.last().expect("it begins with one");
        let open: Vec<usize> = (0..stream.shards.len()).filter(|n| stream.shards[*n].closed.is_none()).collect();
        open.into_iter().for_each(|shard| self.close(table, shard, false, now));
    }

    fn close(&mut self, table: usize, parent: usize, split: bool, now: Moment) {
        let streams = self.tables[table].streams.len();
        let shards = &self.tables[table].streams[streams - 1].shards;
        let (next, (low, high)) = (shards.len(), shards[parent].keys);
        let middle = low + (high - low) / 2;
        let parts = if split && high - low > 16 { vec![(low, middle), (middle + 1, high)] } else { vec![(low, high)] };
        let children: Vec<Shard> =
            (next..).zip(parts).map(|(n, keys)| self.shard(table, n, Some(parent), keys, now)).collect();
        let stream = &mut self.tables[table].streams[streams - 1];
        stream.shards[parent].closed = Some(now);
        stream.shards[parent].children = (next..next + children.len()).collect();
        children.into_iter().for_each(|child| stream.add(child));
    }

    fn disable(&mut self, table: usize, now: Moment) {
        if let Some(stream) = self.tables[table].streams.last_mut().filter(|stream| stream.disabled.is_none()) {
            stream.disabled = Some(now);
            stream.shards.iter_mut().filter(|shard| shard.closed.is_none()).for_each(|shard| shard.closed = Some(now));
        }
    }

    /// How many of a shard's records are trimmed.
    pub fn trimmed(&self, shard: &Shard, now: Moment) -> usize {
        shard.records.partition_point(|change| self.changes[*change as usize].at + RETENTION <= now)
    }

    pub fn stream_of(&self, change: &Change) -> &Stream {
        &self.tables[change.table].streams[change.stream]
    }

    pub fn shard_of(&self, change: &Change) -> &Shard {
        &self.stream_of(change).shards[change.shard]
    }

    pub fn is_trimmed(&self, change: &Change, now: Moment) -> bool {
        change.at + RETENTION <= now
    }
}

impl Shard {
    /// Whether AWS has forgotten it.
    pub fn is_gone(&self, now: Moment) -> bool {
        self.closed.is_some_and(|closed| closed + RETENTION <= now)
    }
}

impl Stream {
    pub fn number(&self, shard: &str) -> Option<usize> {
        self.numbers.get(shard).copied()
    }

    fn add(&mut self, shard: Shard) {
        self.numbers.insert(shard.id.clone(), self.shards.len());
        self.shards.push(shard);
    }

    pub fn is_gone(&self, now: Moment) -> bool {
        self.disabled.is_some_and(|disabled| disabled + self.kept <= now)
    }
}

pub fn table_arn(name: &str) -> String {
    format!("arn:aws:dynamodb:eu-west-1:123456789012:table/{name}")
}

/// What a right clock shows at a moment of the world.
pub fn wall(moment: Moment) -> SystemTime {
    UNIX_EPOCH + EPOCH + moment
}

/// The moment that a clock shows; none before the world began.
pub fn moment_of(time: SystemTime) -> Option<Moment> {
    time.duration_since(UNIX_EPOCH).ok()?.checked_sub(EPOCH)
}

/// In some worlds numbers get a digit longer on the way.
fn first_sequence(seed: u64) -> u128 {
    match hash(seed, 10, 0).is_multiple_of(3) {
        true => 999_999_999_999_999_999_900,
        false => 100_000_000_000_000_000_000,
    }
}

fn label(now: Moment) -> String {
    DateTime::<Utc>::from(wall(now)).to_rfc3339_opts(SecondsFormat::Millis, true).trim_end_matches('Z').to_owned()
}
