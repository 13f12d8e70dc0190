//! Tables, streams, shards and records, and what may be done with them.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::calls::CallLog;
use super::faults::Faults;

/// Everything there is.
pub struct World {
    pub tables: BTreeMap<String, Table>,
    pub faults: Faults,
    pub calls: CallLog,
    /// Every write, in order: what must arrive.
    pub writes: Vec<Write>,
    /// Records a page at most.
    pub page_records: usize,
    /// Shards a page of a listing at most.
    pub page_shards: usize,
    pub children: Children,
    pub last_page: LastPage,
    /// Empty pages before each page with records.
    pub empty_pages: usize,
    /// Bytes that each image carries besides its key and version.
    pub payload: usize,
    /// How far this clock is ahead of the machine's.
    pub clock_ahead: Duration,
    /// How far this clock is behind the machine's: what is made now is so old.
    pub clock_behind: Duration,
    /// Ids of shards made from now on tell no time, as with some emulators.
    pub shard_ids_without_time: bool,
    /// Iterators of an earlier epoch have expired.
    pub iterator_epoch: u64,
    /// Listings from now on show pages in reverse: children before their parents.
    pub reverse_listing: bool,
    sequence: u128,
    ids: u64,
    versions: BTreeMap<(String, String), u64>,
    shard_count: u64,
}

/// How `CHILD_SHARDS` is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Children {
    Known,
    /// As the emulators do: with the ordinary listing.
    Ignored,
    /// Empty so many times.
    LateBy(u32),
}

/// What a closed shard's last page is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastPage {
    /// It has records and no next iterator.
    WithRecords,
    /// It is an extra, empty one.
    Empty,
}

#[derive(Debug, Clone)]
pub struct Write {
    pub table: String,
    pub item: String,
    pub version: u64,
    pub event_id: String,
    pub sequence: String,
    pub shard: String,
}

pub struct Table {
    pub exists: bool,
    pub view: &'static str,
    /// The names of the key's attributes, partition key first.
    pub key: Vec<String>,
    /// Oldest first.
    pub streams: Vec<Stream>,
}

pub struct Stream {
    pub arn: String,
    pub enabled: bool,
    /// AWS does not know it any more.
    pub gone: bool,
    pub shards: Vec<Shard>,
}

pub struct Shard {
    pub id: String,
    pub parent: Option<String>,
    pub closed: bool,
    /// AWS does not know it any more.
    pub gone: bool,
    /// Listings hide it so many more times.
    pub hidden: u32,
    pub records: Vec<Record>,
    /// So many of the oldest records have been trimmed.
    pub trimmed: usize,
    range: (u64, u64),
}

pub struct Record {
    pub sequence: u128,
    pub json: String,
}

impl Table {
    /// As a description of its stream shows it.
    pub fn key_schema(&self) -> Value {
        let attributes = self.key.iter().zip(["HASH", "RANGE"]);
        attributes.map(|(name, kind)| json!({"AttributeName": name, "KeyType": kind})).collect()
    }
}

impl Default for World {
    fn default() -> Self {
        Self {
            tables: BTreeMap::new(),
            faults: Faults::default(),
            calls: CallLog::default(),
            writes: Vec::new(),
            page_records: 1000,
            page_shards: 100,
            children: Children::Known,
            last_page: LastPage::WithRecords,
            empty_pages: 0,
            payload: 16,
            clock_ahead: Duration::ZERO,
            clock_behind: Duration::ZERO,
            shard_ids_without_time: false,
            iterator_epoch: 0,
            reverse_listing: false,
            // The first thousands of numbers have 21 digits, the later ones 22: only integers compare them rightly.
            sequence: 999_999_999_999_999_990_000,
            ids: 0,
            versions: BTreeMap::new(),
            shard_count: 0,
        }
    }
}

impl World {
    pub fn create_table(&mut self, name: &str, shards: usize) {
        self.create_table_without_stream(name);
        self.enable_stream(name, shards);
    }

    pub fn create_table_without_stream(&mut self, name: &str) {
        let (view, key) = ("NEW_AND_OLD_IMAGES", vec!["id".to_owned()]);
        self.tables.insert(name.to_owned(), Table { exists: true, view, key, streams: Vec::new() });
    }

    /// A new stream, whatever there was before.
    pub fn enable_stream(&mut self, name: &str, shards: usize) -> String {
        let number = self.tables[name].streams.len();
        // Labels of AWS are times; no two of a table are the same.
        let created = SystemTime::now() + Duration::from_millis(number as u64);
        let label = humantime::format_rfc3339_millis(created).to_string();
        let arn = format!("{}/stream/{}", table_arn(name), label.trim_end_matches('Z'));
        let step = u64::MAX / shards.max(1) as u64;
        let mut leaves = Vec::new();
        for n in 0..shards as u64 {
            let end = if n + 1 == shards as u64 { u64::MAX } else { (n + 1) * step - 1 };
            leaves.push(self.new_shard(None, (n * step, end)));
        }
        let stream = Stream { arn: arn.clone(), enabled: true, gone: false, shards: leaves };
        self.table(name).streams.push(stream);
        arn
    }

    pub fn disable_stream(&mut self, name: &str) {
        let stream = self.stream(name);
        stream.enabled = false;
        stream.shards.iter_mut().for_each(|shard| shard.closed = true);
    }

    pub fn table(&mut self, name: &str) -> &mut Table {
        self.tables.get_mut(name).expect("a table of this name")
    }

    /// The table's newest stream.
    pub fn stream(&mut self, name: &str) -> &mut Stream {
        self.table(name).streams.last_mut().expect("a stream")
    }

    pub fn shard(&mut self, table: &str, id: &str) -> &mut Shard {
        let shards = self.table(table).streams.iter_mut().flat_map(|stream| &mut stream.shards);
        shards.into_iter().find(|shard| shard.id == id).expect("a shard of this id")
    }

    /// The ids of the open shards of the newest stream.
    pub fn open_shards(&mut self, table: &str) -> Vec<String> {
        self.stream(table).shards.iter().filter(|shard| !shard.closed).map(|shard| shard.id.clone()).collect()
    }

    /// Closes a shard; two children share its items.
    pub fn split(&mut self, table: &str, id: &str) -> Vec<String> {
        let (from, to) = self.shard(table, id).range;
        let middle = from + (to - from) / 2;
        self.succeed(table, id, &[(from, middle), (middle + 1, to)])
    }

    /// Closes a shard; one child takes its place.
    pub fn roll_over(&mut self, table: &str, id: &str) -> String {
        let range = self.shard(table, id).range;
        self.succeed(table, id, &[range]).remove(0)
    }

    pub fn roll_over_all(&mut self, table: &str) {
        for id in self.open_shards(table) {
            self.roll_over(table, &id);
        }
    }

    fn succeed(&mut self, table: &str, id: &str, ranges: &[(u64, u64)]) -> Vec<String> {
        self.shard(table, id).closed = true;
        let children: Vec<Shard> = ranges.iter().map(|range| self.new_shard(Some(id), *range)).collect();
        let ids = children.iter().map(|child| child.id.clone()).collect();
        self.stream(table).shards.extend(children);
        ids
    }

    fn new_shard(&mut self, parent: Option<&str>, range: (u64, u64)) -> Shard {
        self.shard_count += 1;
        let id = match self.shard_ids_without_time {
            true => format!("shardId-{:08}-table", self.shard_count),
            false => {
                format!("shardId-{:020}-{:08x}", self.now().as_millis(), self.shard_count * 2_654_435_761 % 0xFFFF_FFFF)
            }
        };
        let parent = parent.map(str::to_owned);
        Shard { id, parent, closed: false, gone: false, hidden: 0, records: Vec::new(), trimmed: 0, range }
    }

    /// Inserts an item, or changes it if it exists.
    pub fn put(&mut self, table: &str, item: &str) {
        let key = (table.to_owned(), item.to_owned());
        let version = self.versions.get(&key).copied().unwrap_or(0) + 1;
        let operation = if version == 1 { "INSERT" } else { "MODIFY" };
        self.write(table, item, version, operation, None);
    }

    /// Deletes an item; `expired` says that DynamoDB itself did, because its time to live was over.
    pub fn remove(&mut self, table: &str, item: &str, expired: bool) {
        let version = self.versions[&(table.to_owned(), item.to_owned())] + 1;
        let identity = expired.then(|| json!({"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}));
        self.write(table, item, version, "REMOVE", identity);
    }

    fn write(&mut self, table: &str, item: &str, version: u64, operation: &str, identity: Option<Value>) {
        self.versions.insert((table.to_owned(), item.to_owned()), version);
        self.ids += 1;
        let event_id = format!("{:032x}", u128::from(self.ids).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_0C7B_A5B1_0001));
        self.sequence += 1 + u128::from(self.ids % 3);
        let (sequence, created) = (self.sequence, self.now().as_secs());
        let payload = "x".repeat(self.payload);
        let image =
            |version: u64| json!({"id": {"S": item}, "version": {"N": version.to_string()}, "payload": {"S": payload}});
        let view = self.table(table).view;
        let mut change = json!({
            "ApproximateCreationDateTime": created,
            "Keys": {"id": {"S": item}},
            "SequenceNumber": sequence.to_string(),
            "SizeBytes": 40 + payload.len(),
            "StreamViewType": view,
        });
        if operation != "REMOVE" && view.contains("NEW") {
            change["NewImage"] = image(version);
        }
        if operation != "INSERT" && view.contains("OLD") {
            change["OldImage"] = image(version - 1);
        }
        let mut record = json!({
            "awsRegion": "eu-west-1", "dynamodb": change, "eventID": event_id, "eventName": operation,
            "eventSource": "aws:dynamodb", "eventVersion": "1.1",
        });
        if let Some(identity) = identity {
            record["userIdentity"] = identity;
        }
        let mut hasher = DefaultHasher::new();
        item.hash(&mut hasher);
        let place = hasher.finish();
        let shards = &mut self.stream(table).shards;
        let owner = shards.iter_mut().find(|shard| !shard.closed && (shard.range.0..=shard.range.1).contains(&place));
        let owner = owner.expect("an open shard owns every item");
        owner.records.push(Record { sequence, json: record.to_string() });
        let shard = owner.id.clone();
        let (table, item, sequence) = (table.to_owned(), item.to_owned(), sequence.to_string());
        self.writes.push(Write { table, item, version, event_id, sequence, shard });
    }

    /// Adds a record to the first open shard that is not well-formed.
    pub fn write_malformed(&mut self, table: &str, json: &str) {
        self.sequence += 1;
        let (sequence, json) = (self.sequence, json.replace("$SEQUENCE", &self.sequence.to_string()));
        let shard = self.stream(table).shards.iter_mut().find(|shard| !shard.closed).expect("an open shard");
        shard.records.push(Record { sequence, json });
    }

    /// This clock, since the epoch.
    pub fn now(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + self.clock_ahead - self.clock_behind
    }

    /// How many shards of the newest stream there are.
    pub fn shards(&mut self, table: &str) -> usize {
        self.stream(table).shards.len()
    }
}

pub fn table_arn(name: &str) -> String {
    format!("arn:aws:dynamodb:eu-west-1:123456789012:table/{name}")
}
