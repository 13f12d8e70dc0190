//! What AWS says when it is asked: the truth, seen through listings that lag, calls that fail and iterators that expire.

use std::time::Duration;

use bytes::Bytes;
use dynamodb_streams_adapter::aws::errors::{CallError, ErrorKind};
use dynamodb_streams_adapter::records::Page;
use dynamodb_streams_adapter::streams::client::{
    Call, IteratorStart, ListedShard, ShardQuery, StreamDescription, StreamStatus, StreamsClient, TableDescription,
};

use crate::aws::{Change, Shard, Stream, table_arn, wall};
use crate::fault::Fault;
use crate::plan::{Moment, hash, minutes};
use crate::world::{Inner, World};

/// How long an iterator lives.
const ITERATOR_LIFE: Duration = minutes(15);

/// How long the SDK waits for a call.
pub const CALL_LIMIT: Duration = Duration::from_secs(40);

/// AWS, as the process sees it.
pub struct SimulatedAws(pub std::sync::Arc<World>);

type Answer<T> = Result<T, ErrorKind>;

impl SimulatedAws {
    fn call<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        subject: u64,
        answer: impl FnOnce(&mut Inner, Moment) -> Answer<T> + Send + 'a,
    ) -> Call<'a, T> {
        Box::pin(async move {
            let world = &self.0;
            let (takes, hangs) = world.look(|inner, now| {
                inner.judge.called(operation, inner.current, now);
                inner.aws_latency(operation, now)
            });
            let result = world
                .edge(takes, |inner, now| match inner.aws_refusal(operation, subject, now) {
                    Some(kind) => {
                        if (operation, kind) == ("ListStreams", ErrorKind::Denied) {
                            inner.judge.streams_are_not_listed(subject, &inner.aws);
                        }
                        Err(kind)
                    }
                    None if hangs => Err(ErrorKind::Other),
                    None => answer(inner, now),
                })
                .await;
            result.map_err(|kind| error(operation, kind))
        })
    }
}

fn error(operation: &'static str, kind: ErrorKind) -> CallError {
    let code = match kind {
        ErrorKind::ExpiredIterator => "ExpiredIteratorException",
        ErrorKind::Trimmed => "TrimmedDataAccessException",
        ErrorKind::NotFound => "ResourceNotFoundException",
        ErrorKind::LimitExceeded => "LimitExceededException",
        ErrorKind::Throttled => "ThrottlingException",
        ErrorKind::Denied => "AccessDeniedException",
        ErrorKind::Other => "http-500",
    };
    CallError { operation, kind, code: code.to_owned(), message: "simulated".to_owned() }
}

impl Inner {
    /// How long a call takes, and whether it then fails because of that.
    fn aws_latency(&mut self, operation: &str, now: Moment) -> (Duration, bool) {
        let (least, most) = self.plan.latency;
        let usual = Duration::from_millis(self.chance.u64(least..most));
        let limit = CALL_LIMIT;
        match self.plan.during(Fault::SlowCalls, now) {
            Some(episode) if self.chance.f64() < episode.severity * 0.5 => {
                let takes = limit.mul_f64(self.chance.f64() * 1.3);
                (takes.min(limit), takes > limit)
            }
            _ if operation == "GetRecords" && self.plan.payload > 0 => (usual * 3, false),
            _ => (usual, false),
        }
    }

    fn aws_refusal(&mut self, operation: &str, subject: u64, now: Moment) -> Option<ErrorKind> {
        let chance = self.chance.f64();
        for fault in [Fault::Denials, Fault::LongDenials] {
            if self.plan.during(fault, now).is_some_and(|episode| is_denied(operation, episode.pick)) {
                return Some(ErrorKind::Denied);
            }
        }
        if let Some(episode) = self.plan.during(Fault::CrowdedShards, now)
            && operation == "GetRecords"
            && hash(episode.pick, 39, subject).is_multiple_of(3)
            && chance < 0.3 + episode.severity * 0.6
        {
            return Some(ErrorKind::LimitExceeded);
        }
        if let Some(episode) = self.plan.during(Fault::Outages, now)
            && chance < 0.2 + episode.severity
        {
            return Some(ErrorKind::Other);
        }
        if let Some(episode) = self.plan.during(Fault::Throttling, now)
            && chance < episode.severity * 0.9
        {
            let by_shard = operation == "GetRecords" && episode.pick.is_multiple_of(2);
            return Some(if by_shard { ErrorKind::LimitExceeded } else { ErrorKind::Throttled });
        }
        // Now and then one wrong answer for one thing, not the same again and again.
        let episode = self.plan.during(Fault::WrongNotFound, now)?;
        let (seed, second) = (self.plan.seed ^ subject, now.as_secs());
        let again = self.wrong_at.insert(subject, second).is_some_and(|at| second < at + 120);
        let hit = !again && hash(seed, 30, second / 10) % 1_000 < 20 + (episode.severity * 200.0) as u64;
        if !hit && !again {
            self.wrong_at.remove(&subject);
        }
        hit.then_some(ErrorKind::NotFound)
    }

    fn stream_of(&self, arn: &str, now: Moment) -> Answer<(usize, usize)> {
        let streams =
            self.aws.tables.iter().enumerate().flat_map(|(table, found)| {
                found.streams.iter().enumerate().map(move |(stream, it)| (table, stream, it))
            });
        let mut found =
            streams.filter(|(_, _, it)| it.arn == arn && !it.is_gone(now)).map(|(table, stream, _)| (table, stream));
        found.next_back().ok_or(ErrorKind::NotFound)
    }

    fn shard_of(&self, arn: &str, id: &str, now: Moment) -> Answer<(usize, usize, usize)> {
        let (table, stream) = self.stream_of(arn, now)?;
        let shards = &self.aws.tables[table].streams[stream].shards;
        let shard = self.aws.tables[table].streams[stream].number(id).ok_or(ErrorKind::NotFound)?;
        self.still_there(&shards[shard], now).then_some((table, stream, shard)).ok_or(ErrorKind::NotFound)
    }

    fn still_there(&self, shard: &Shard, now: Moment) -> bool {
        !shard.is_gone(now)
    }

    /// Whether listings show a shard now.
    fn is_listed(&self, key: u64, shard: &Shard, now: Moment) -> bool {
        if !self.still_there(shard, now) {
            return false;
        }
        let seed = self.plan.seed;
        if let Some(episode) = self.plan.during(Fault::LateShards, now) {
            let late = Duration::from_millis(hash(seed, 31, key) % (1 + (episode.severity * 180_000.0) as u64));
            if now < shard.created + late && shard.created >= episode.from {
                return false;
            }
        }
        if let Some(episode) = self.plan.during(Fault::HiddenShards, now) {
            // In stretches of up to three minutes, each shard in its own.
            let stretch = 1 + hash(seed, 32, key) % 180;
            let part = (now.as_secs() + hash(seed, 33, key) % 1_000) / stretch;
            return hash(seed ^ part, 34, key) % 100 >= (episode.severity * 60.0) as u64;
        }
        true
    }

    fn describe_table_now(&self, target: &str, now: Moment) -> Answer<TableDescription> {
        let name = target.rsplit('/').next().unwrap_or(target);
        let table =
            self.aws.tables.iter().find(|table| table.name == name && table.exists).ok_or(ErrorKind::NotFound)?;
        let lags = self.plan.during(Fault::LateStatus, now);
        let seen = |stream: &&Stream| {
            lags.is_none_or(|it| stream.created + Duration::from_secs_f64(it.severity * 60.0) <= now)
        };
        let latest = table.streams.iter().rev().find(seen).filter(|stream| !stream.is_gone(now));
        Ok(TableDescription { arn: table_arn(name), latest_stream: latest.map(|stream| stream.arn.clone()) })
    }

    fn list_streams_now(&self, name: &str, now: Moment) -> Vec<String> {
        let table = self.aws.tables.iter().filter(|table| table.name == name);
        let streams = table.flat_map(|table| table.streams.iter().filter(|stream| !stream.is_gone(now)));
        streams.map(|stream| stream.arn.clone()).collect()
    }

    fn describe_stream_now(&mut self, arn: &str, query: &Query, now: Moment) -> Answer<StreamDescription> {
        self.has_loaded(|table| arn.starts_with(&format!("{}/", table_arn(table))));
        let (table, stream) = self.stream_of(arn, now)?;
        let found = &self.aws.tables[table].streams[stream];
        let status = self.status_of(found, now);
        let (shards, next) = match query {
            Query::ChildrenOf(parent) if !self.plan.has(Fault::NotQuiteAws) => {
                let late = self.plan.during(Fault::LateChildren, now);
                let late = late.is_some_and(|it| {
                    hash(self.plan.seed, 35, now.as_secs() / 20) % 100 < (it.severity * 100.0) as u64
                });
                (if late { Vec::new() } else { self.children_listed((table, stream), parent, now) }, None)
            }
            Query::Behind(shard) => self.page_listed((table, stream), Some(shard), now),
            Query::First | Query::ChildrenOf(_) => self.page_listed((table, stream), None, now),
        };
        Ok(StreamDescription {
            table: self.aws.tables[table].name.clone(),
            status,
            view_type: Some("NEW_AND_OLD_IMAGES".to_owned()),
            key_schema: vec!["id".to_owned()],
            shards,
            next,
            answered_at: Some(wall(Duration::from_secs(now.as_secs()))),
        })
    }

    fn status_of(&self, stream: &Stream, now: Moment) -> StreamStatus {
        let lag = self.plan.during(Fault::LateStatus, now).map_or(0.0, |episode| episode.severity * 60.0);
        match stream.disabled {
            Some(at) if at + Duration::from_secs_f64(lag) <= now => StreamStatus::Disabled,
            _ => StreamStatus::Enabled,
        }
    }

    fn children_listed(&self, (table, stream): (usize, usize), parent: &str, now: Moment) -> Vec<ListedShard> {
        let found = &self.aws.tables[table].streams[stream];
        let parent = found.number(parent).map(|number| &found.shards[number]);
        let children =
            parent.into_iter().flat_map(|parent| &parent.children).map(|child| (*child, &found.shards[*child]));
        let seen = children.filter(|(n, shard)| self.is_listed(shard_key(table, stream, *n), shard, now));
        seen.map(|(_, shard)| listed(found, shard)).collect()
    }

    fn page_listed(
        &self,
        (table, stream): (usize, usize),
        behind: Option<&str>,
        now: Moment,
    ) -> (Vec<ListedShard>, Option<String>) {
        let found = &self.aws.tables[table].streams[stream];
        let shuffled = self.plan.has(Fault::ShuffledListings);
        let place = |id: &str| {
            if shuffled { (hash(self.plan.seed, 36, text_hash(id)), String::new()) } else { (0, id.to_owned()) }
        };
        let odd = self
            .plan
            .during(Fault::RepeatingPages, now)
            .map(|it| hash(self.plan.seed ^ it.pick, 37, now.as_secs() / 30) % 4);
        if let (Some(behind), Some(0)) = (behind, odd) {
            // A cursor that leads nowhere.
            return (Vec::new(), Some(behind.to_owned()));
        }
        let behind_place = behind.map(place);
        let mut rest: Vec<(_, &Shard)> = found
            .shards
            .iter()
            .enumerate()
            .filter(|(n, shard)| self.is_listed(shard_key(table, stream, *n), shard, now))
            .map(|(_, shard)| (place(&shard.id), shard))
            .filter(|(place, _)| odd == Some(1) || behind_place.as_ref().is_none_or(|behind| place > behind))
            .collect();
        let size = self.plan.listing_page;
        if rest.len() > size {
            rest.select_nth_unstable_by(size, |one, other| one.0.cmp(&other.0));
        }
        let more = rest.len() > size;
        rest.truncate(size);
        rest.sort_by(|one, other| one.0.cmp(&other.0));
        let next = rest.last().filter(|_| more).map(|(_, shard)| shard.id.clone());
        (rest.into_iter().map(|(_, shard)| listed(found, shard)).collect(), next)
    }

    fn iterator(&mut self, arn: &str, id: &str, from: IteratorStart, now: Moment) -> Answer<String> {
        let known = self.shard_of(arn, id, now);
        if known.is_err() && self.plan.has(Fault::UnknownShards) {
            return Ok(format!("{UNKNOWN}|{}|0|0", text_hash(arn) ^ text_hash(id)));
        }
        let (table, stream, shard) = known?;
        let found = &self.aws.tables[table].streams[stream].shards[shard];
        let trimmed = self.aws.trimmed(found, now);
        let next = match from {
            IteratorStart::Oldest => trimmed,
            IteratorStart::Latest => found.records.len(),
            IteratorStart::At(sequence) => {
                let sequence: u128 = sequence.as_str().parse().map_err(|_| ErrorKind::Other)?;
                let next =
                    found.records.partition_point(|change| self.aws.changes[*change as usize].sequence < sequence);
                let strict = self.plan.has(Fault::StrictTrimming) && next == trimmed && trimmed > 0;
                if (next < trimmed || strict) && !self.plan.has(Fault::NotQuiteAws) {
                    return Err(ErrorKind::Trimmed);
                }
                next.max(trimmed)
            }
        };
        self.judge.iterator_issued((table, stream, shard));
        if self.judge.has_several() {
            self.judge.reads(table, self.current, now);
        }
        Ok(format!("{table}|{stream}|{shard}|{next}|{}", now.as_millis()))
    }

    fn records(&mut self, iterator: &str, limit: u32, now: Moment) -> Answer<Page> {
        if iterator.starts_with(UNKNOWN) {
            return empty_page(iterator);
        }
        let parts: Vec<u64> = iterator.split('|').filter_map(|part| part.parse().ok()).collect();
        let &[table, stream, shard, next, issued] = parts.as_slice() else { return Err(ErrorKind::Other) };
        let (table, stream, shard, mut next) = (table as usize, stream as usize, shard as usize, next as usize);
        let found = &self.aws.tables[table].streams[stream];
        // Whoever forgets a stream at once serves the iterators that are there.
        let is_gone = found.is_gone(now) && !self.plan.has(Fault::GoneAtOnce);
        if is_gone || !self.still_there(&found.shards[shard], now) {
            return if self.plan.has(Fault::UnknownShards) { empty_page(iterator) } else { Err(ErrorKind::NotFound) };
        }
        let expires = self.plan.during(Fault::ExpiringIterators, now).map_or(0.0, |episode| episode.severity * 0.3);
        if Duration::from_millis(issued) + ITERATOR_LIFE < now || self.chance.f64() < expires {
            return Err(ErrorKind::ExpiredIterator);
        }
        let found = &found.shards[shard];
        let trimmed = self.aws.trimmed(found, now);
        if next < trimmed {
            match self.plan.has(Fault::NotQuiteAws) {
                true => next = trimmed,
                false => return Err(ErrorKind::Trimmed),
            }
        }
        let left = found.records.len() - next;
        let empty = self.plan.has(Fault::SmallPages) && left > 0 && self.chance.u8(..4) == 0;
        let bytes = 1_000_000 / (self.plan.payload + 400);
        if empty {
            self.judge.withheld((table, stream, shard), now);
        }
        let taken = if empty { 0 } else { left.min(self.plan.page_limit).min(bytes.max(1)).min(limit as usize) };
        let behind = next + taken;
        let ended = found.closed.is_some()
            && behind == found.records.len()
            && self.plan.during(Fault::LingeringShards, now).is_none()
            && !self.plan.has(Fault::EndlessIterators);
        let records: Vec<String> = found.records[next..behind]
            .iter()
            .map(|number| self.record(*number, &self.aws.changes[*number as usize]))
            .collect();
        let iterator = match ended {
            true => String::new(),
            false => format!(r#","NextShardIterator":"{table}|{stream}|{shard}|{behind}|{}""#, now.as_millis()),
        };
        self.judge.page_sent((table, stream, shard), next..behind, now);
        self.look_at_process(now);
        let body = format!(r#"{{"Records":[{}]{iterator}}}"#, records.join(","));
        Page::parse(Bytes::from(body)).map_err(|_| ErrorKind::Other)
    }

    /// A record as AWS writes it; in some worlds with members absent, null or empty, as its model allows.
    fn record(&self, number: u32, change: &Change) -> String {
        let odd = if self.plan.has(Fault::OddRecords) { hash(self.plan.seed, 38, number.into()) } else { 0 };
        let Change { item, sequence, at, is_malformed, .. } = change;
        if *is_malformed {
            return match odd % 3 {
                0 => r#"{"eventID":"broken"}"#.to_owned(),
                1 => r#""not an object""#.to_owned(),
                _ => format!(
                    r#"{{"eventID":"c{number}","eventName":"MODIFY","dynamodb":{{"SequenceNumber":"{sequence}"}}}}"#
                ),
            };
        }
        let outer = match odd % 4 {
            1 => r#""eventVersion":null,"awsRegion":"","userIdentity":null,"#,
            2 => "",
            _ => r#""eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"eu-west-1","#,
        };
        let at = match self.plan.has(Fault::MinuteTimes) {
            true => Duration::from_secs(at.as_secs() / 60 * 60),
            false => *at,
        };
        let created = (wall(at).duration_since(std::time::UNIX_EPOCH)).map_or(0, |since| since.as_secs());
        let image = match odd % 5 {
            1 => r#","NewImage":null,"SizeBytes":null"#.to_owned(),
            2 => r#","NewImage":{},"StreamViewType":null"#.to_owned(),
            _ => format!(
                r#","NewImage":{{"id":{{"S":"i{item}"}},"n":{{"N":"{number}"}},"x":{{"S":"{}"}}}},"SizeBytes":80"#,
                "x".repeat(self.plan.payload)
            ),
        };
        let time = if self.plan.has(Fault::NotQuiteAws) { format!("{created}.000") } else { created.to_string() };
        format!(
            r#"{{"eventID":"c{number}",{outer}"eventName":"MODIFY","dynamodb":{{"ApproximateCreationDateTime":{time},"Keys":{{"id":{{"S":"i{item}"}}}},"SequenceNumber":"{sequence}"{image}}}}}"#
        )
    }
}

impl StreamsClient for SimulatedAws {
    fn describe_table<'a>(&'a self, table: &'a str) -> Call<'a, TableDescription> {
        self.call("DescribeTable", text_hash(table), move |inner, now| inner.describe_table_now(table, now))
    }

    fn list_streams<'a>(&'a self, table: &'a str) -> Call<'a, Vec<String>> {
        self.call("ListStreams", text_hash(table), move |inner, now| Ok(inner.list_streams_now(table, now)))
    }

    fn describe_stream<'a>(&'a self, stream: &'a str, shards: ShardQuery<'a>) -> Call<'a, StreamDescription> {
        let query = match shards {
            ShardQuery::First => Query::First,
            ShardQuery::Behind(shard) => Query::Behind(shard.to_owned()),
            ShardQuery::ChildrenOf(shard) => Query::ChildrenOf(shard.to_owned()),
        };
        self.call("DescribeStream", text_hash(stream), move |inner, now| inner.describe_stream_now(stream, &query, now))
    }

    fn get_shard_iterator<'a>(&'a self, stream: &'a str, shard: &'a str, from: IteratorStart) -> Call<'a, String> {
        let subject = text_hash(stream) ^ text_hash(shard);
        self.call("GetShardIterator", subject, move |inner, now| inner.iterator(stream, shard, from, now))
    }

    fn get_records<'a>(&'a self, iterator: &'a str, limit: u32) -> Call<'a, Page> {
        let shard = iterator.rsplitn(3, '|').last().unwrap_or_default();
        let subject = text_hash(shard);
        Box::pin(async move {
            let _one_at_a_time = self.0.begin_reading(shard);
            self.call("GetRecords", subject, move |inner, now| inner.records(iterator, limit, now)).await
        })
    }
}

/// The iterator of what a service does not know and does not say so.
const UNKNOWN: &str = "unknown";

fn empty_page(next: &str) -> Answer<Page> {
    let body = format!(r#"{{"Records":[],"NextShardIterator":"{next}"}}"#);
    Page::parse(Bytes::from(body)).map_err(|_| ErrorKind::Other)
}

/// Mostly one operation alone is denied, sometimes all of them, or some.
fn is_denied(operation: &str, pick: u64) -> bool {
    const OPERATIONS: [&str; 5] = ["DescribeTable", "ListStreams", "DescribeStream", "GetShardIterator", "GetRecords"];
    let number = OPERATIONS.iter().position(|known| *known == operation).unwrap_or(0) as u64;
    match pick % 8 {
        one @ 0..5 => one == number,
        5 => true,
        _ => pick >> (8 + number) & 1 == 0,
    }
}

enum Query {
    First,
    Behind(String),
    ChildrenOf(String),
}

fn listed(stream: &Stream, shard: &Shard) -> ListedShard {
    let parent = shard.parent.map(|parent| stream.shards[parent].id.clone());
    ListedShard { id: shard.id.clone(), parent, has_ended: shard.closed.is_some() }
}

fn shard_key(table: usize, stream: usize, shard: usize) -> u64 {
    (table as u64) << 40 | (stream as u64) << 24 | shard as u64
}

pub fn text_hash(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}
