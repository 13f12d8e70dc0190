//! What positions in a table of DynamoDB cost: `cargo bench --bench positions`. It counts, so that the machine does not matter.
//!
//! So many shards get changes all the time. Each second a page of each is entered; everything is settled but the newest 64 events of all
//! shards, or one of each shard where that is more. Then what has changed is saved, by the real store into a table that counts the
//! writes, and their units as AWS bills them: one for each begun KB of an item.
#![allow(clippy::disallowed_methods)] // it measures

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use dynamodb_streams_adapter::checkpoint::LeasedStore as _;
use dynamodb_streams_adapter::checkpoint::dynamodb::DynamoStore;
use dynamodb_streams_adapter::checkpoint::dynamodb::items::{
    Expected, Item, ItemError, ItemKey, ItemTable, Members, Stamp, Write, Written,
};
use dynamodb_streams_adapter::lease::LeaseStore as _;
use dynamodb_streams_adapter::progress::page_entry::PageEntry;
use dynamodb_streams_adapter::progress::table_tracker::{AckToken, PageRead, ShardHandle, TableTracker};
use dynamodb_streams_adapter::records::{LaneId, Page, Position, StreamDetails};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};

const TABLE: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders";
const STREAM: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-01-02T03:04:05.678";
const LEASE: Duration = Duration::from_secs(15);
const SHARDS: [usize; 3] = [4, 100, 1_000];
const SECONDS: usize = 60;
const RECORDS_A_SECOND: usize = 10;
const IN_FLIGHT: usize = 64;
const KIB: usize = 1024;

fn main() {
    // Under `cargo test` it only has to run.
    let measures = std::env::args().any(|argument| argument == "--bench");
    let (shards, seconds) = if measures { (&SHARDS[..], SECONDS) } else { (&[4][..], 2) };
    println!("{RECORDS_A_SECOND} changes a second in each shard, {seconds} s, {IN_FLIGHT} events in flight");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    for shards in shards {
        let Cost { writes, units, largest } = runtime.block_on(cost(*shards, seconds));
        println!(
            "{shards:>5} busy shards: {:.1} writes and {:.1} units a second, {:.2} units a write, the largest item {largest} bytes",
            writes as f64 / seconds as f64,
            units as f64 / seconds as f64,
            units as f64 / writes as f64,
        );
    }
}

/// What was written.
#[derive(Debug, Default, Clone, Copy)]
struct Cost {
    writes: usize,
    units: usize,
    largest: usize,
}

async fn cost(shards: usize, seconds: usize) -> Cost {
    let items = Arc::new(CountingItems::default());
    let store = DynamoStore::new("default", items.clone(), items.clone());
    let lease = store.claim(TABLE, None, 0, "bench", LEASE).await.expect("nobody has it");
    let positions = store.positions(TABLE, &lease);
    positions.load(TABLE).await.expect("it is empty");
    let mut table = BusyTable::new(shards);
    positions.save(TABLE, table.tracker.take_changes()).await.expect("it is saved");
    *items.cost.lock().expect("nobody has panicked") = Cost::default();
    for _ in 0..seconds {
        table.pass_a_second();
        positions.save(TABLE, table.tracker.take_changes()).await.expect("it is saved");
    }
    *items.cost.lock().expect("nobody has panicked")
}

/// A table whose shards change all the time.
struct BusyTable {
    tracker: TableTracker,
    shards: Vec<ShardHandle>,
    owed: VecDeque<AckToken>,
    records: u64,
}

impl BusyTable {
    fn new(shards: usize) -> Self {
        let mut tracker = TableTracker::default();
        let stream = tracker.open_stream(Arc::new(StreamDetails::from_arn(STREAM)), Position::Start, false, UNIX_EPOCH);
        for shard in 0..shards {
            tracker.learn(stream, &format!("shardId-{:020}-{shard:08x}", 1_767_323_045_000_u64), None);
        }
        let shards = tracker.open_ready(stream).into_iter().map(|shard| shard.handle).collect();
        Self { tracker, shards, owed: VecDeque::new(), records: 0 }
    }

    fn pass_a_second(&mut self) {
        for _ in 0..RECORDS_A_SECOND {
            for shard in &self.shards {
                self.records += 1;
                let sequence = format!("{:021}", 300_000_000_000_000_000_000_u128 + u128::from(self.records));
                let mut page = PageEntry::of(&mut self.tracker, *shard);
                let owed = page.record(sequence.parse().expect("digits"), lane(self.records), Some(UNIX_EPOCH));
                page.read(PageRead { asked_at: UNIX_EPOCH, is_caught_up: true, is_last: false });
                self.owed.extend(owed.and_then(|owed| owed.token));
            }
        }
        while self.owed.len() > IN_FLIGHT.max(self.shards.len()) {
            // Not the oldest one: answers come as they come.
            let place = usize::try_from(self.records * 7_919 % 16).unwrap_or_default();
            if let Some(token) = self.owed.remove(place) {
                self.tracker.settle(&token);
            }
        }
    }
}

/// An item's lane.
fn lane(number: u64) -> LaneId {
    let page = format!(
        r#"{{"Records":[{{"dynamodb":{{"Keys":{{"id":{{"S":"order-{number}"}}}},"SequenceNumber":"1"}},"eventID":"1","eventName":"MODIFY"}}]}}"#
    );
    let mut records = Page::parse(page.into()).expect("a page").records;
    records.remove(0).expect("a record").lane_id()
}

/// A table that counts what is written.
#[derive(Default)]
struct CountingItems {
    items: Mutex<BTreeMap<ItemKey, Members>>,
    cost: Mutex<Cost>,
}

impl ItemTable for CountingItems {
    fn get<'a>(&'a self, key: &'a ItemKey) -> BoxFuture<'a, Result<Option<Members>, ItemError>> {
        ready(Ok(self.items.lock().expect("nobody has panicked").get(key).cloned())).boxed()
    }

    fn query<'a>(&'a self, partition: &'a str) -> BoxFuture<'a, Result<Vec<Item>, ItemError>> {
        let items = self.items.lock().expect("nobody has panicked");
        let found = items.iter().filter(|(key, _)| key.partition == partition);
        let found = found.map(|(key, members)| Item { key: key.clone(), members: members.clone() }).collect();
        ready(Ok(found)).boxed()
    }

    fn write(&self, Write { key, expected, to }: Write) -> BoxFuture<'_, Result<Written, ItemError>> {
        let mut items = self.items.lock().expect("nobody has panicked");
        let stamp = |members: &Members| Stamp {
            epoch: members["epoch"].as_u64().expect("a number"),
            version: members["version"].as_u64().expect("a number"),
        };
        let is_expected = match (expected, items.get(&key)) {
            (Expected::Absent, None) => true,
            (Expected::Is(expected), Some(members)) => stamp(members) == expected,
            _ => false,
        };
        assert!(is_expected, "one owner meets no other");
        let size = key.partition.len() + key.entry.len() + to.as_ref().map_or(0, text_len);
        let mut cost = self.cost.lock().expect("nobody has panicked");
        cost.writes += 1;
        cost.units += size.div_ceil(KIB);
        cost.largest = cost.largest.max(size);
        match to {
            Some(to) => items.insert(key, to),
            None => items.remove(&key),
        };
        ready(Ok(Written::Done)).boxed()
    }
}

/// No less than what AWS counts: names and values as text, and a few bytes for each.
fn text_len(members: &Members) -> usize {
    serde_json::to_string(members).expect("JSON").len()
}
