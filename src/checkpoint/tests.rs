//! What a stored shard says is owed, against a history of which everything is known, and its text.

use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::records::SequenceNumber;

/// Records of a shard in order: each record's lane, whether its number is that of the record before it, and whether it is settled.
/// A lane settles from its front.
#[derive(Debug, Clone)]
struct History(Vec<(u8, RecordNumber, bool)>);

fn sequence(number: usize) -> SequenceNumber {
    (number * 7).to_string().parse().unwrap()
}

fn lane(number: u8) -> LaneId {
    LaneId::of_shard(&number.to_string())
}

impl History {
    fn new(records: Vec<(u8, bool, bool)>) -> Self {
        let (mut history, mut blocked, mut number) = (Vec::new(), [false; 4], 1);
        let mut last = Position::Start;
        for (lane, is_twin, is_settled) in records {
            number += usize::from(!is_twin);
            let record = last.next(sequence(number));
            last = Position::After(record);
            let is_settled = is_settled && !blocked[usize::from(lane)];
            blocked[usize::from(lane)] |= !is_settled;
            history.push((lane, record, is_settled));
        }
        Self(history)
    }

    /// What is to be stored of it.
    fn stored(&self) -> UnfinishedShard {
        let settled = self.0.iter().filter(|record| record.2);
        let newest_settled = settled.map(|record| record.1).max().map_or(Position::Start, Position::After);
        let owed = self.0.iter().filter(|record| !record.2);
        let first_owed = owed.clone().map(|record| record.1).min();
        let is_safe = |number: &RecordNumber| first_owed.is_none_or(|first| *number < first);
        let safe = self.0.iter().map(|record| record.1).filter(is_safe).max().map_or(Position::Start, Position::After);
        let mut heads = BTreeMap::new();
        for (of, record, _) in owed {
            if newest_settled.is_behind(*record) {
                heads.entry(lane(*of)).or_insert(*record);
            }
        }
        let (oldest_owed, verified_at, newest_record, parent) = (None, UNIX_EPOCH, None, None);
        UnfinishedShard { safe, newest_settled, heads, oldest_owed, verified_at, newest_record, parent }
    }
}

fn history() -> impl Strategy<Value = History> {
    let record = (0u8..4, prop::bool::weighted(0.2), prop::bool::weighted(0.8));
    prop::collection::vec(record, 0..60).prop_map(History::new)
}

/// From 1900 to 9999, to the nanosecond: what a person may write as START_POSITION.
fn moment() -> impl Strategy<Value = SystemTime> {
    let year_1900 = UNIX_EPOCH - Duration::from_secs(2_208_988_800);
    let nanoseconds = prop_oneof![Just(0u32), 0u32..1_000_000_000];
    (0u64..255_000_000_000, nanoseconds).prop_map(move |(seconds, nanos)| year_1900 + Duration::new(seconds, nanos))
}

fn position() -> impl Strategy<Value = Position> {
    let number = "[0-9]{1,40}(#[1-9])?".prop_map(|number| Position::After(number.parse().unwrap()));
    prop_oneof![Just(Position::Start), moment().prop_map(Position::Since), number]
}

/// Whatever stands there: a shard of the same table, the shard itself included, or one that nobody knows.
fn parent() -> impl Strategy<Value = Option<String>> {
    prop::option::of(prop_oneof!["[a-d]", ".{1,20}"])
}

/// Any shard that may be stored.
fn shard() -> impl Strategy<Value = StoredShard> {
    let details = (prop::option::of(moment()), moment(), prop::option::of(moment()), parent());
    let unfinished = (history(), details, prop::option::of(position()));
    let unfinished = unfinished.prop_map(|(history, (oldest_owed, verified_at, newest_record, parent), bare)| {
        let shard = match bare {
            Some(at) => UnfinishedShard { safe: at, newest_settled: at, ..History(Vec::new()).stored() },
            None => history.stored(),
        };
        StoredShard::Unfinished(UnfinishedShard { oldest_owed, verified_at, newest_record, parent, ..shard })
    });
    let finished = (moment(), parent()).prop_map(|(at, parent)| StoredShard::Finished { at, parent });
    prop_oneof![3 => unfinished, 1 => finished]
}

/// Any table that may be stored: streams have different names.
pub(super) fn table() -> impl Strategy<Value = StoredTable> {
    let shards = prop::collection::btree_map("[a-d]", shard(), 0..4);
    let stream = (position(), any::<bool>(), shards);
    let streams = prop::collection::btree_map(".{1,3}", stream, 0..4).prop_map(|streams| {
        let stream = |(arn, (start, done, shards))| StoredStream { arn, start, done, shards };
        streams.into_iter().map(stream).collect::<Vec<_>>()
    });
    let stopped = prop::option::of((".{0,9}", moment()).prop_map(|(why, at)| StoredStop { why, at }));
    (streams.prop_shuffle(), stopped).prop_map(|(streams, stopped)| StoredTable { streams, stopped })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exactly_what_is_not_settled_is_owed(history in history(), unread in 1usize..5) {
        let stored = StoredShard::Unfinished(history.stored());
        for (of, record, is_settled) in &history.0 {
            prop_assert_eq!(stored.owes(lane(*of), *record), !is_settled, "{} in {:?}", record, stored);
        }
        let behind = sequence(history.0.len() + 1 + unread);
        prop_assert!((0..4).all(|of| stored.owes(lane(of), behind.into())), "what was never read is owed");
    }

    #[test]
    fn every_shard_survives_its_text(shard in shard()) {
        let text = serde_json::to_string(&shard).unwrap();
        prop_assert_eq!(serde_json::from_str::<StoredShard>(&text).unwrap(), shard, "{}", text);
    }
}

#[test]
fn a_finished_shard_owes_nothing() {
    let finished = StoredShard::Finished { at: UNIX_EPOCH, parent: None };
    assert!(!finished.owes(lane(0), sequence(1).into()));
}

#[test]
fn of_two_records_of_one_item_with_one_number_the_second_alone_may_be_owed() {
    let history = History::new(vec![(0, false, true), (0, true, false), (1, false, true)]);
    let stored = StoredShard::Unfinished(history.stored());
    let sequence = history.0[0].1.sequence;
    let owes = |repeat| stored.owes(lane(0), RecordNumber { sequence, repeat });
    assert_eq!([0, 1].map(owes), [false, true]);
    let text = serde_json::to_string(&stored).unwrap();
    assert!(text.contains(&format!(r#""{}":"{sequence}#1""#, lane(0))), "{text}");
}

#[test]
fn a_text_that_contradicts_itself_is_refused() {
    let lane = lane(0);
    let head = |at: u32| format!(r#""heads":{{"{lane}":"{at}"}}"#);
    let verified = r#""verified_at":"2026-01-02T04:00:00Z""#;
    let cases = [
        (r#"{}"#.to_owned(), "either `safe`"),
        (r#"{"safe":"start"}"#.to_owned(), "either `safe`"),
        (format!("{{{verified}}}"), "either `safe`"),
        (format!(r#"{{"safe":"start",{verified},"finished":"2026-01-02T04:00:00Z"}}"#), "either `safe`"),
        (format!(r#"{{"finished":"2026-01-02T04:00:00Z",{}}}"#, head(5)), "either `safe`"),
        (format!(r#"{{"safe":"after 9","newest_settled":"after 8",{verified}}}"#), "before `safe`"),
        (format!(r#"{{"safe":"after 9","newest_settled":"start",{verified}}}"#), "before `safe`"),
        (format!(r#"{{"safe":"after 4","newest_settled":"after 8",{verified},{}}}"#, head(4)), "head of lane"),
        (format!(r#"{{"safe":"after 4","newest_settled":"after 8",{verified},{}}}"#, head(9)), "head of lane"),
        (format!(r#"{{"safe":"after 4",{verified},{}}}"#, head(5)), "head of lane"),
        (format!(r#"{{"safe":"behind 4",{verified}}}"#), "a position is"),
        (r#"{"safe":"start","verified_at":"yesterday"}"#.to_owned(), "yesterday"),
        (format!(r#"{{"safe":"start",{verified},"owner":"me"}}"#), "owner"),
        (
            format!(r#"{{"safe":"after 4","newest_settled":"after 8",{verified},"heads":{{"{lane}":"5#x"}}}}"#),
            "named by its sequence number",
        ),
        (format!(r#"{{"safe":"after 4","newest_settled":"after 8",{verified},"heads":{{"lane":"5"}}}}"#), "32"),
    ];
    for (text, why) in cases {
        let refused = serde_json::from_str::<StoredShard>(&text).unwrap_err().to_string();
        assert!(refused.contains(why), "{text}: {refused}");
    }
}

#[tokio::test]
async fn the_memory_keeps_a_streams_start_too() {
    let store = MemoryStore::default();
    let table = |start| StoredTable {
        stopped: None,
        streams: vec![StoredStream { arn: "arn".to_owned(), start, done: false, shards: BTreeMap::new() }],
    };
    let since = Position::Since(UNIX_EPOCH);
    store.save("Orders", table(since).into()).await.unwrap();
    store.save("Orders", table(Position::Start).into()).await.unwrap();
    assert_eq!(store.load("Orders").await.unwrap(), Some(table(since)));
}
