//! What was asked of AWS.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    pub operation: String,
    /// The stream's ARN, or the table.
    pub about: String,
    pub shard: String,
    /// The iterator's type, or the iterator itself.
    pub detail: String,
    pub at: Instant,
    pub records: usize,
}

/// All calls, in order.
#[derive(Debug, Default)]
pub struct CallLog(pub Vec<Call>);

impl CallLog {
    pub fn of<'a>(&'a self, operation: &'a str) -> impl Iterator<Item = &'a Call> {
        self.0.iter().filter(move |call| call.operation == operation)
    }

    pub fn count(&self, operation: &str) -> usize {
        self.of(operation).count()
    }

    /// How often each type of iterator was asked for, by shard.
    pub fn iterators(&self, kind: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for call in self.of("GetShardIterator").filter(|call| call.detail == kind) {
            *counts.entry(call.shard.clone()).or_default() += 1;
        }
        counts
    }

    /// The most calls of an operation in any second.
    pub fn most_in_a_second(&self, operation: &str) -> usize {
        let times: Vec<Instant> = self.of(operation).map(|call| call.at).collect();
        (0..times.len())
            .map(|i| times[i..].iter().take_while(|at| **at - times[i] < Duration::from_secs(1)).count())
            .max()
            .unwrap_or(0)
    }

    /// Shards from which some record was handed out twice to the same process, with the count of double records.
    pub fn shards_read_twice(&self) -> BTreeMap<String, usize> {
        let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
        for call in self.of("GetRecords").filter(|call| call.records > 0) {
            *seen.entry((call.shard.clone(), call.detail.clone())).or_default() += 1;
        }
        let twice = seen.into_iter().filter(|(_, times)| *times > 1);
        twice.map(|((shard, _), times)| (shard, times)).collect()
    }

    /// When the first call about a shard with records, or without, was answered.
    pub fn first_read(&self, shard: &str) -> Option<Instant> {
        self.of("GetRecords").find(|call| call.shard == shard).map(|call| call.at)
    }

    /// When the last call about a shard was answered.
    pub fn last_read(&self, shard: &str) -> Option<Instant> {
        self.of("GetRecords").filter(|call| call.shard == shard).last().map(|call| call.at)
    }
}
