//! The store on a table of items in memory that fails as a test says.

mod embedded;
mod interleavings;
pub(crate) mod table;

use std::time::{SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use self::table::{Fault, MemoryItems};
use super::*;
use crate::checkpoint::{
    CheckpointStore, SaveError, StopChange, StoredChanges, StoredShard, StoredStop, StoredStream, StoredTable,
    StreamChanges,
};
use crate::records::{Position, SequenceNumber};

const TABLE: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders";
const OLD: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-01-01T00:00:00.000";
const NEW: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-02-01T00:00:00.000";
const LEASE: Duration = Duration::from_secs(15);

fn moment() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_323_045)
}

fn store(items: &Arc<MemoryItems>) -> DynamoStore {
    DynamoStore::new("default", items.clone(), items.clone())
}

async fn claim(store: &DynamoStore, owner: &str) -> HeldLease {
    let seen = store.look(TABLE).await.unwrap();
    store.claim(TABLE, seen.as_ref(), 0, owner, LEASE).await.unwrap()
}

/// A new owner, and what it finds.
async fn own(store: &DynamoStore, owner: &str) -> (Arc<dyn CheckpointStore>, Option<StoredTable>) {
    let positions = store.positions(TABLE, &claim(store, owner).await);
    let stored = positions.load(TABLE).await.unwrap();
    (positions, stored)
}

fn at(sequence: u64, parent: Option<&str>) -> StoredShard {
    let sequence: SequenceNumber = sequence.to_string().parse().unwrap();
    StoredShard::at(Position::after(sequence), moment(), parent.map(str::to_owned))
}

fn finished(parent: Option<&str>) -> StoredShard {
    StoredShard::Finished { at: moment(), parent: parent.map(str::to_owned) }
}

fn changes_of(arn: &str, place: usize, shards: &[(&str, Option<StoredShard>)]) -> StreamChanges {
    let shards = shards.iter().map(|(id, shard)| ((*id).to_owned(), shard.clone())).collect();
    StreamChanges { arn: arn.to_owned(), place, start: Position::Since(moment()), done: false, shards }
}

fn changes(shards: &[(&str, Option<StoredShard>)]) -> StoredChanges {
    StoredChanges { streams: vec![changes_of(OLD, 0, shards)], stopped: None }
}

/// What these changes make of nothing.
fn table_of(changes: &[&StoredChanges]) -> Option<StoredTable> {
    let mut table = StoredTable::default();
    changes.iter().for_each(|changes| table.apply(changes));
    Some(table)
}

/// The sort keys of the entries of positions, in the order in which they were written.
fn written(items: &MemoryItems) -> Vec<String> {
    let entries = items.done().into_iter().map(|write| write.key.entry);
    entries.filter(|entry| entry != "lease").map(|entry| entry.replace(" 2026-01-01T00:00:00.000", "")).collect()
}

#[tokio::test]
async fn what_one_owner_has_stored_is_what_the_next_one_finds() {
    let items = Arc::new(MemoryItems::default());
    let first = changes(&[("p", Some(at(5, None))), ("q", Some(finished(None)))]);
    let mut second = changes(&[("p", Some(finished(None))), ("c", Some(at(9, Some("p"))))]);
    second.streams.push(changes_of(NEW, 1, &[("n", Some(at(1, None)))]));
    let (positions, found) = own(&store(&items), "a").await;
    assert_eq!(found, None);
    positions.save(TABLE, first.clone()).await.unwrap();
    positions.save(TABLE, second.clone()).await.unwrap();
    let (_, found) = own(&store(&items), "b").await;
    assert_eq!(found, table_of(&[&first, &second]));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_table_comes_back_as_it_was(mut table in crate::checkpoint::tests::table()) {
        // Ends of ARNs have no spaces, and nothing is kept of the shards of a stream that is done.
        table.streams.iter_mut().for_each(|stream| stream.arn = format!("{TABLE}/stream/{}", stream.arn.replace(' ', "-")));
        table.streams.sort_by(|one, other| one.arn.cmp(&other.arn));
        table.streams.dedup_by(|one, other| one.arn == other.arn);
        table.streams.iter_mut().filter(|stream| stream.done).for_each(|stream| stream.shards.clear());
        let items = Arc::new(MemoryItems::default());
        let saved = async {
            let (positions, _) = own(&store(&items), "a").await;
            positions.save(TABLE, table.clone().into()).await.unwrap();
            own(&store(&items), "b").await.1
        };
        let found = saved.now_or_never().expect("nothing is waited for");
        prop_assert_eq!(found.unwrap_or_default(), table.clone());
        let all = all_positions(&items.all()).unwrap();
        prop_assert_eq!(all.get("default").and_then(|tables| tables.get(TABLE)).cloned().unwrap_or_default(), table);
    }
}

#[tokio::test]
async fn after_the_positions_table_was_emptied_an_owner_loses_its_lease_to_the_new_one() {
    let items = Arc::new(MemoryItems::default());
    let (old, new) = (store(&items), store(&items));
    let lease = claim(&old, "a").await;
    let positions = old.positions(TABLE, &lease);
    positions.load(TABLE).await.unwrap();
    positions.save(TABLE, changes(&[("p", Some(at(5, None)))])).await.unwrap();
    items.restore(Vec::new());
    let (others, _) = own(&new, "b").await;
    others.save(TABLE, changes(&[("p", Some(at(1, None)))])).await.unwrap();
    assert!(matches!(old.renew(TABLE, &lease).await, Err(LeaseError::Lost)));
    let saved = positions.save(TABLE, changes(&[("p", Some(at(6, None)))])).await;
    assert!(matches!(saved, Err(SaveError::Fenced(_))), "{saved:?}");
}

#[tokio::test]
async fn an_entry_can_be_read_by_a_person() {
    let items = Arc::new(MemoryItems::default());
    let (positions, _) = own(&store(&items), "pod 1a2b").await;
    let stop = StopChange::Stop(StoredStop { why: "records were trimmed".to_owned(), at: moment() });
    let shards = changes(&[("p", Some(finished(None))), ("c", Some(at(9, Some("p"))))]);
    positions.save(TABLE, StoredChanges { stopped: Some(stop), ..shards }).await.unwrap();
    let epoch = store(&items).look(TABLE).await.unwrap().unwrap().epoch;
    let incarnation = |item: &Item| item.members.get("incarnation").map(|it| format!(r#","incarnation":{it}"#));
    let text: Vec<String> = items
        .all()
        .into_iter()
        .map(|item| {
            assert_eq!(item.key.partition, format!("default {TABLE}"));
            let text = serde_json::to_string(&item.members).unwrap();
            let text = text.replace(&format!(r#""epoch":{epoch},"#), r#""epoch":1,"#);
            let text = incarnation(&item).map_or(text.clone(), |number| text.replace(&number, r#","incarnation":7"#));
            format!("{} {text}", item.key.entry)
        })
        .collect();
    let owned = r#""owner":"pod 1a2b""#;
    let expected = [
        format!(r#"lease {{"duration":"15s","epoch":1,"format":1,{owned},"version":1}}"#),
        format!(
            r#"shard 2026-01-01T00:00:00.000 c {{"epoch":1,"format":1,"incarnation":7,{owned},"parent":"p","safe":"after 9","verified_at":"2026-01-02T03:04:05Z","version":1}}"#
        ),
        format!(
            r#"shard 2026-01-01T00:00:00.000 p {{"epoch":1,"expires":1767927845,"finished":"2026-01-02T03:04:05Z","format":1,"incarnation":7,{owned},"version":1}}"#
        ),
        format!(
            r#"stopped {{"at":"2026-01-02T03:04:05Z","epoch":1,"format":1,{owned},"version":1,"why":"records were trimmed"}}"#
        ),
        format!(
            r#"stream 000000 2026-01-01T00:00:00.000 {{"arn":"{OLD}","done":false,"epoch":1,"format":1,"incarnation":7,{owned},"start":"since 2026-01-02T03:04:05Z","version":1}}"#
        ),
    ];
    assert_eq!(text, expected);
    let all = all_positions(&items.all()).unwrap();
    assert_eq!(all["default"][TABLE].stopped.as_ref().map(|stop| &*stop.why), Some("records were trimmed"));
}

#[tokio::test]
async fn only_what_changes_is_written_and_an_ancestor_before_its_descendants() {
    let items = Arc::new(MemoryItems::default());
    let (positions, _) = own(&store(&items), "a").await;
    let chain = [
        ("1", Some(at(1, Some("2")))),
        ("2", Some(at(1, Some("3")))),
        ("3", Some(finished(Some("4")))),
        ("9", Some(at(1, Some("1")))),
    ];
    positions.save(TABLE, changes(&chain)).await.unwrap();
    assert_eq!(written(&items), ["stream 000000", "shard 3", "shard 2", "shard 1", "shard 9"]);
    positions.save(TABLE, changes(&chain[..2])).await.unwrap();
    assert_eq!(written(&items).len(), 5, "nothing has changed");
    let grandparent_is_known = changes(&[("9", Some(at(2, Some("1")))), ("2", Some(finished(Some("3")))), ("3", None)]);
    positions.save(TABLE, grandparent_is_known).await.unwrap();
    assert_eq!(written(&items)[5..], ["shard 2", "shard 9", "shard 3"]);
}

#[tokio::test]
async fn what_owes_for_a_stream_that_is_gone_is_stored_before_its_shards_are_finished() {
    let items = Arc::new(MemoryItems::default());
    let (positions, _) = own(&store(&items), "a").await;
    positions.save(TABLE, changes(&[("p", Some(at(1, None))), ("q", Some(at(1, None)))])).await.unwrap();
    items.fail([Fault::Throttled]);
    let lost = changes(&[("p", Some(finished(None))), ("q", Some(finished(None))), ("whole", Some(at(1, None)))]);
    positions.save(TABLE, lost.clone()).await.unwrap_err();
    assert_eq!(written(&items).len(), 3, "nothing is finished");
    positions.save(TABLE, lost).await.unwrap();
    assert_eq!(written(&items)[3], "shard whole");
}

#[tokio::test]
async fn what_continues_an_entry_that_is_not_stored_is_not_sent() {
    for fault in [Fault::Throttled, Fault::RequestLost] {
        let items = Arc::new(MemoryItems::default());
        let (positions, _) = own(&store(&items), "a").await;
        positions.save(TABLE, changes(&[])).await.unwrap();
        // The second stream is created first, then come `a` and `p`.
        items.fail([Fault::None, Fault::None, fault]);
        let mut save = changes(&[
            ("a", Some(at(1, None))),
            ("p", Some(at(1, None))),
            ("c", Some(at(1, Some("p")))),
            ("z", Some(at(1, None))),
        ]);
        save.streams.push(changes_of(NEW, 1, &[]));
        let error = positions.save(TABLE, save.clone()).await.unwrap_err();
        assert_eq!(matches!(error, SaveError::Unknown(_)), fault == Fault::RequestLost, "{error:?}");
        assert!(!written(&items).contains(&"shard c".to_owned()), "{:?}", written(&items));
        positions.save(TABLE, save.clone()).await.unwrap();
        assert_eq!(own(&store(&items), "b").await.1, table_of(&[&save]));
    }
}

/// Somebody who edits stored positions may make shards continue each other, or themselves. Their next owner believes no such link.
#[tokio::test]
async fn shards_that_continue_each_other_stop_no_save() {
    let items = Arc::new(MemoryItems::default());
    let (positions, _) = own(&store(&items), "a").await;
    let links = [("c", Some("p")), ("p", Some("c")), ("self", Some("self")), ("after p", Some("p")), ("q", None)];
    let circle = changes(&links.map(|(id, parent)| (id, Some(at(1, parent)))));
    positions.save(TABLE, circle.clone()).await.unwrap();
    let (positions, found) = own(&store(&items), "b").await;
    assert_eq!(found, table_of(&[&circle]));
    let links = [("c", Some("p")), ("p", None), ("self", None), ("after p", Some("p"))];
    let believed = changes(&links.map(|(id, parent)| (id, Some(at(2, parent)))));
    positions.save(TABLE, believed.clone()).await.unwrap();
    assert_eq!(own(&store(&items), "c").await.1, table_of(&[&circle, &believed]));
}

#[tokio::test]
async fn a_later_stream_waits_for_the_shards_of_the_earlier_one() {
    let items = Arc::new(MemoryItems::default());
    let (positions, _) = own(&store(&items), "a").await;
    let mut save = changes(&[("p", Some(at(1, None)))]);
    save.streams.push(changes_of(NEW, 1, &[("n", Some(at(1, None)))]));
    items.fail([Fault::None, Fault::None, Fault::Throttled]);
    positions.save(TABLE, save.clone()).await.unwrap_err();
    assert_eq!(written(&items).len(), 2, "the two streams alone: {:?}", written(&items));
    save.streams[0].done = true;
    positions.save(TABLE, save.clone()).await.unwrap();
    let found = own(&store(&items), "b").await.1.unwrap();
    assert!(found.streams[0].done && found.streams[0].shards.is_empty() && found.streams[1].shards.len() == 1);
}

#[tokio::test]
async fn a_store_that_is_away_confirms_nothing_and_a_later_save_brings_all() {
    let items = Arc::new(MemoryItems::default());
    let (positions, _) = own(&store(&items), "a").await;
    let shards: Vec<(String, Option<StoredShard>)> = (0..200).map(|id| (id.to_string(), Some(at(1, None)))).collect();
    let shards: Vec<(&str, Option<StoredShard>)> = shards.iter().map(|(id, it)| (id.as_str(), it.clone())).collect();
    positions.save(TABLE, changes(&[])).await.unwrap();
    items.set_down(true);
    assert!(matches!(positions.save(TABLE, changes(&shards)).await, Err(SaveError::Unknown(_))));
    items.set_down(false);
    positions.save(TABLE, changes(&shards)).await.unwrap();
    assert_eq!(own(&store(&items), "b").await.1, table_of(&[&changes(&shards)]));
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_known_to_have_happened_once_it_is_sent_again() {
    let items = Arc::new(MemoryItems::default());
    let (positions, _) = own(&store(&items), "a").await;
    let save = |sequence| changes(&[("p", Some(at(sequence, None)))]);
    positions.save(TABLE, save(1)).await.unwrap();
    items.fail([Fault::AnswerLost]);
    assert!(matches!(positions.save(TABLE, save(2)).await, Err(SaveError::Unknown(_))));
    items.fail([Fault::Throttled]);
    assert!(matches!(positions.save(TABLE, save(3)).await, Err(SaveError::NotStored(_))));
    positions.save(TABLE, save(4)).await.unwrap();
    assert_eq!(own(&store(&items), "b").await.1, table_of(&[&save(4)]));
}

#[tokio::test]
async fn an_earlier_owner_writes_nothing_once_the_next_one_has_read() {
    let items = Arc::new(MemoryItems::default());
    let (first, second) = (store(&items), store(&items));
    let (old, _) = own(&first, "a").await;
    old.save(TABLE, changes(&[("p", Some(at(1, None)))])).await.unwrap();
    let (_, found) = own(&second, "b").await;
    let error = old.save(TABLE, changes(&[("p", Some(at(2, None)))])).await.unwrap_err();
    assert!(matches!(error, SaveError::Fenced(_)), "{error}");
    assert!(error.to_string().contains("another process has claimed"), "{error}");
    let error = old.save(TABLE, changes(&[("q", Some(at(2, None)))])).await.unwrap_err();
    assert!(matches!(error, SaveError::Fenced(_)), "nothing at all: {error}");
    assert_eq!(own(&second, "c").await.1, found);
}

#[tokio::test]
async fn of_two_first_starts_the_moment_stored_first_counts() {
    let items = Arc::new(MemoryItems::default());
    let (first, second) = (store(&items), store(&items));
    let (old, _) = own(&first, "a").await;
    let (new, found) = own(&second, "b").await;
    assert_eq!(found, None);
    // The deposed owner's first save was on its way for long.
    old.save(TABLE, changes(&[])).await.unwrap();
    let mut later = changes(&[]);
    later.streams[0].start = Position::Since(moment() + LEASE);
    assert!(matches!(new.save(TABLE, later).await, Err(SaveError::Fenced(_))));
    let (_, found) = own(&second, "b").await;
    assert_eq!(found.unwrap().streams[0].start, Position::Since(moment()));
}

#[tokio::test]
async fn a_stop_is_stored_first_and_stays_until_it_is_cleared() {
    let items = Arc::new(MemoryItems::default());
    let (positions, _) = own(&store(&items), "a").await;
    let stop = StoredStop { why: "lost".to_owned(), at: moment() };
    let stopped = Some(StopChange::Stop(stop.clone()));
    positions.save(TABLE, StoredChanges { stopped, ..changes(&[("p", Some(at(1, None)))]) }).await.unwrap();
    assert_eq!(written(&items)[0], "stopped");
    positions.save(TABLE, changes(&[("p", Some(at(2, None)))])).await.unwrap();
    let (positions, found) = own(&store(&items), "b").await;
    assert_eq!(found.unwrap().stopped, Some(stop));
    let cleared = StoredChanges { streams: Vec::new(), stopped: Some(StopChange::Continue) };
    positions.save(TABLE, cleared).await.unwrap();
    assert_eq!(own(&store(&items), "c").await.1.unwrap().stopped, None);
}

#[tokio::test]
async fn consumer_groups_and_tables_do_not_see_each_other() {
    let items = Arc::new(MemoryItems::default());
    let (positions, _) = own(&store(&items), "a").await;
    positions.save(TABLE, changes(&[("p", Some(at(1, None)))])).await.unwrap();
    let other = DynamoStore::new("other", items.clone(), items.clone());
    assert_eq!(other.look(TABLE).await.unwrap(), None);
    assert_eq!(own(&other, "b").await.1, None);
    assert_eq!(store(&items).look("arn:aws:dynamodb:eu-west-1:1:table/Other").await.unwrap(), None);
}

#[tokio::test]
async fn an_entry_of_another_format_or_with_a_strange_member_is_refused_by_name_and_not_touched() {
    let items = Arc::new(MemoryItems::default());
    let (positions, _) = own(&store(&items), "a").await;
    positions.save(TABLE, changes(&[("p", Some(at(1, None)))])).await.unwrap();
    let sound = items.all();
    let cases = [
        ("format", serde_json::json!(2), "has format 2"),
        ("lanes", serde_json::json!("x"), "`lanes`"),
        ("version", serde_json::json!("x"), "whole numbers"),
        ("version", serde_json::json!(u64::MAX), "whole numbers up to"),
        ("epoch", serde_json::json!(u64::MAX), "whole numbers up to"),
        ("safe", serde_json::json!("behind"), "a position is"),
    ];
    for (name, value, why) in cases {
        let mut changed = sound.clone();
        let shard = changed.iter_mut().find(|item| item.key.entry.starts_with("shard")).unwrap();
        shard.members.insert(name.to_owned(), value);
        items.restore(changed.clone());
        let store = store(&items);
        let positions = store.positions(TABLE, &claim(&store, "b").await);
        let refused = positions.load(TABLE).await.unwrap_err().to_string();
        assert!(refused.contains(why) && refused.contains(TABLE), "{refused}");
        let is_shard = |item: &Item| item.key.entry.starts_with("shard");
        assert_eq!(items.all().into_iter().find(is_shard), changed.into_iter().find(is_shard));
    }
}

/// The next owner's epoch is one above it.
#[tokio::test]
async fn a_lease_that_nobody_can_count_above_is_refused_by_name() {
    let items = Arc::new(MemoryItems::default());
    claim(&store(&items), "a").await;
    let sound = items.all();
    for name in ["epoch", "version"] {
        let mut changed = sound.clone();
        changed[0].members.insert(name.to_owned(), u64::MAX.into());
        items.restore(changed);
        let refused = store(&items).look(TABLE).await.unwrap_err().to_string();
        assert!(refused.contains("\"lease\"") && refused.contains("whole numbers up to"), "{refused}");
    }
    let mut stray = sound.clone();
    stray[0].members.insert("epoch".to_owned(), u64::MAX.into());
    stray[0].key.entry = "shard x y".to_owned();
    items.restore(stray);
    claim(&store(&items), "b").await;
}

#[tokio::test]
async fn a_lease_is_waited_for_no_longer_than_one_can_last() {
    let items = Arc::new(MemoryItems::default());
    claim(&store(&items), "a").await;
    let sound = items.all();
    for (duration, seconds) in
        [("584554531y", 600), ("1000000h", 600), ("10m", 600), ("15s", 15), ("1ms", 3), ("0s", 3)]
    {
        let mut changed = sound.clone();
        changed[0].members.insert("duration".to_owned(), duration.into());
        items.restore(changed);
        let seen = store(&items).look(TABLE).await.unwrap().unwrap();
        assert_eq!(seen.duration, Duration::from_secs(seconds), "{duration}");
    }
}

#[tokio::test]
async fn a_table_made_anew_gets_back_what_this_process_knows_before_anything_is_read() {
    let items = Arc::new(MemoryItems::default());
    let store = store(&items);
    let (positions, _) = own(&store, "a").await;
    let saved = changes(&[("p", Some(finished(None))), ("c", Some(at(3, Some("p"))))]);
    positions.save(TABLE, saved.clone()).await.unwrap();
    let seen = store.look(TABLE).await.unwrap().unwrap().epoch;
    items.restore(Vec::new());
    assert!(matches!(
        positions.save(TABLE, changes(&[("c", Some(at(4, Some("p"))))])).await,
        Err(SaveError::Fenced(_))
    ));
    let lease = claim(&store, "a").await;
    assert!(lease.epoch > seen, "above all that was seen");
    let positions = store.positions(TABLE, &lease);
    // Half of it is stored, then the store is away.
    items.fail([Fault::None, Fault::None, Fault::RequestLost]);
    positions.load(TABLE).await.unwrap_err();
    let positions = store.positions(TABLE, &claim(&store, "a").await);
    assert_eq!(positions.load(TABLE).await.unwrap(), table_of(&[&saved]));
    let fresh = DynamoStore::new("default", items.clone(), items.clone());
    assert_eq!(own(&fresh, "b").await.1, table_of(&[&saved]), "it is there for others");
}

#[tokio::test]
async fn a_table_restored_from_a_backup_is_gone_on_from_without_what_may_be_younger_than_its_ancestors() {
    let items = Arc::new(MemoryItems::default());
    let store = store(&items);
    let (positions, _) = own(&store, "a").await;
    let before = changes(&[("p", Some(at(1, None))), ("x", Some(finished(None))), ("y", Some(at(1, Some("x"))))]);
    positions.save(TABLE, before.clone()).await.unwrap();
    let backup = items.all();
    positions.save(TABLE, changes(&[("p", Some(at(2, None))), ("c", Some(at(8, Some("p"))))])).await.unwrap();
    // The child's entry was copied a moment later than its parent's.
    let torn =
        items.all().into_iter().map(|item| backup.iter().find(|old| old.key == item.key).cloned().unwrap_or(item));
    items.restore(torn.collect());
    let (_, found) = own(&store, "a").await;
    assert_eq!(found, table_of(&[&before]), "the child begins anew");
    let fresh = DynamoStore::new("default", items.clone(), items.clone());
    assert_eq!(own(&fresh, "b").await.1, table_of(&[&before]));
}

#[tokio::test]
async fn what_an_owner_creates_in_a_table_made_anew_before_it_learns_of_that_is_not_taken_for_settled() {
    let items = Arc::new(MemoryItems::default());
    let (first, second) = (store(&items), store(&items));
    let (old, _) = own(&first, "a").await;
    let saved = changes(&[("p", Some(at(3, None)))]);
    let child = changes(&[("c", Some(at(9, Some("p"))))]);
    old.save(TABLE, saved.clone()).await.unwrap();
    items.restore(Vec::new());
    old.save(TABLE, child.clone()).await.unwrap();
    // Whoever knows what was there stores all of it again.
    let (old, restored) = own(&first, "a").await;
    assert_eq!(restored, table_of(&[&saved, &child]));

    // Who does not, and finds that nobody has claimed the table, begins.
    items.restore(Vec::new());
    let grandchild = changes(&[("d", Some(at(9, Some("c"))))]);
    old.save(TABLE, grandchild.clone()).await.unwrap();
    assert_eq!(own(&second, "b").await.1, None);
    assert!(items.all().iter().all(|item| item.key.entry == "lease"), "{:?}", items.all());

    let (old, _) = own(&first, "a").await;
    old.save(TABLE, saved).await.unwrap();
    // In the place of its stream stands what another process has created.
    let (old, _) = own(&first, "a").await;
    old.save(TABLE, child).await.unwrap();
    items.restore(Vec::new());
    let begun = changes(&[("p", Some(at(1, None)))]);
    let fresh = store(&items);
    own(&fresh, "c").await.0.save(TABLE, begun.clone()).await.unwrap();
    old.save(TABLE, changes(&[("d", Some(at(9, Some("c"))))])).await.unwrap();
    assert!(written(&items).ends_with(&["shard d".to_owned()]), "{:?}", written(&items));
    let mut owner = claim(&fresh, "c").await;
    if fresh.positions(TABLE, &owner).load(TABLE).await.is_err() {
        // The late entry has a higher epoch than the new table's lease.
        assert!(matches!(fresh.renew(TABLE, &owner).await, Err(LeaseError::Lost)));
        owner = claim(&fresh, "c").await;
    }
    assert_eq!(fresh.positions(TABLE, &owner).load(TABLE).await.unwrap(), table_of(&[&begun]));
}

#[tokio::test]
async fn an_entry_that_somebody_has_deleted_is_asked_for() {
    let items = Arc::new(MemoryItems::default());
    own(&store(&items), "a").await.0.save(TABLE, changes(&[("p", Some(at(3, None)))])).await.unwrap();
    items.restore(items.all().into_iter().filter(|item| !item.key.entry.starts_with("stream")).collect());
    let next = store(&items);
    let refused = next.positions(TABLE, &claim(&next, "b").await).load(TABLE).await.unwrap_err().to_string();
    assert!(refused.contains("belongs to has no entry"), "{refused}");
    assert!(all_positions(&items.all()).unwrap_err().to_string().contains("belongs to has no entry"));
}

/// Its owner may have claimed the table before that was deleted: it goes on with what it finds in the next tenure.
#[tokio::test]
async fn what_a_table_holds_without_its_owners_lease_is_not_loaded() {
    let items = Arc::new(MemoryItems::default());
    let first = store(&items);
    let lease = claim(&first, "a").await;
    items.restore(Vec::new());
    let refused = first.positions(TABLE, &lease).load(TABLE).await.unwrap_err().to_string();
    assert!(refused.contains("lease") && refused.contains("not there any more"), "{refused}");
    assert!(matches!(first.renew(TABLE, &lease).await, Err(LeaseError::Lost)));
}

/// The owner of the table that is gone goes on until its next renewal.
#[tokio::test]
async fn what_is_to_be_removed_and_changes_meanwhile_is_removed_at_the_next_try() {
    let items = Arc::new(MemoryItems::default());
    let old_store = store(&items);
    let (old, _) = own(&old_store, "a").await;
    let child = |sequence| changes(&[("c", Some(at(sequence, Some("p"))))]);
    old.save(TABLE, changes(&[("p", Some(at(1, None)))])).await.unwrap();
    items.restore(Vec::new());
    let (fresh, begun) = (store(&items), changes(&[("p", Some(at(1, None)))]));
    own(&fresh, "c").await.0.save(TABLE, begun.clone()).await.unwrap();
    old.save(TABLE, child(8)).await.unwrap();
    let seen = fresh.look(TABLE).await.unwrap();
    let lease = fresh.claim(TABLE, seen.as_ref(), 1 << 40, "c", LEASE).await.unwrap();
    let positions = fresh.positions(TABLE, &lease);
    items.fail([Fault::RequestLost]);
    positions.load(TABLE).await.unwrap_err();
    old.save(TABLE, child(9)).await.unwrap();
    assert_eq!(positions.load(TABLE).await.unwrap(), table_of(&[&begun]), "it fails for ever");
}

#[tokio::test]
async fn an_edit_of_stored_positions_replaces_all_of_them() {
    let items = Arc::new(MemoryItems::default());
    let (positions, _) = own(&store(&items), "a").await;
    let shards = [("p", Some(finished(None))), ("c", Some(at(3, Some("p"))))];
    positions.save(TABLE, changes(&shards)).await.unwrap();
    let editor = store(&items);
    let stream = StoredStream {
        arn: NEW.to_owned(),
        start: Position::Start,
        done: false,
        shards: [("n".to_owned(), at(1, None))].into(),
    };
    let wanted = StoredTable { streams: vec![stream], stopped: None };
    editor.overwrite(TABLE, &claim(&editor, "editor").await, wanted.clone()).await.unwrap();
    assert_eq!(own(&store(&items), "b").await.1, Some(wanted));
    editor.overwrite(TABLE, &claim(&editor, "editor").await, StoredTable::default()).await.unwrap();
    assert_eq!(own(&store(&items), "b").await.1, None);
}

mod leases {
    use super::*;

    #[tokio::test]
    async fn of_two_that_claim_what_both_have_seen_one_gets_it() {
        let items = Arc::new(MemoryItems::default());
        let (first, second) = (store(&items), store(&items));
        let mut last = 0;
        for _ in 0..2 {
            let seen = (first.look(TABLE).await.unwrap(), second.look(TABLE).await.unwrap());
            let held = first.claim(TABLE, seen.0.as_ref(), 0, "a", LEASE).await.unwrap();
            assert!(held.epoch > last);
            last = held.epoch;
            let late = second.claim(TABLE, seen.1.as_ref(), 0, "b", LEASE).await;
            assert!(matches!(late, Err(LeaseError::Lost)), "{late:?}");
        }
    }

    #[tokio::test]
    async fn a_renewal_without_an_answer_is_made_again_and_changes_what_waiters_see() {
        let items = Arc::new(MemoryItems::default());
        let store = store(&items);
        let held = claim(&store, "a").await;
        items.fail([Fault::AnswerLost]);
        store.renew(TABLE, &held).await.unwrap_err();
        let seen = store.look(TABLE).await.unwrap();
        store.renew(TABLE, &held).await.unwrap();
        assert_ne!(store.look(TABLE).await.unwrap(), seen);
        items.fail([Fault::RequestLost]);
        store.renew(TABLE, &held).await.unwrap_err();
        store.renew(TABLE, &held).await.unwrap();
        store.release(TABLE, &held).await.unwrap();
        assert_eq!(store.look(TABLE).await.unwrap().unwrap().owner, None);
        assert!(matches!(store.renew(TABLE, &held).await, Err(LeaseError::Lost)), "what was given back stays so");
    }

    #[tokio::test]
    async fn a_deposed_owner_neither_renews_nor_releases() {
        let items = Arc::new(MemoryItems::default());
        let (first, second) = (store(&items), store(&items));
        let old = claim(&first, "a").await;
        let new = claim(&second, "b").await;
        assert!(matches!(first.renew(TABLE, &old).await, Err(LeaseError::Lost)));
        assert!(matches!(first.release(TABLE, &old).await, Err(LeaseError::Lost)));
        second.renew(TABLE, &new).await.unwrap();
    }

    #[tokio::test]
    async fn a_lease_that_was_deleted_is_claimed_above_all_entries_that_are_left() {
        let items = Arc::new(MemoryItems::default());
        for owner in ["a", "b", "c"] {
            let (positions, _) = own(&store(&items), owner).await;
            positions.save(TABLE, changes(&[("p", Some(at(1, None)))])).await.unwrap();
        }
        let last = store(&items).look(TABLE).await.unwrap().unwrap().epoch;
        items.restore(items.all().into_iter().filter(|item| item.key.entry != "lease").collect());
        assert!(claim(&store(&items), "d").await.epoch > last);
    }

    #[tokio::test]
    async fn a_lease_of_another_format_is_refused() {
        let items = Arc::new(MemoryItems::default());
        claim(&store(&items), "a").await;
        let mut changed = items.all();
        changed[0].members.insert("format".to_owned(), 2.into());
        items.restore(changed);
        let refused = store(&items).look(TABLE).await.unwrap_err().to_string();
        assert!(refused.contains("\"lease\" has format 2"), "{refused}");
    }
}
