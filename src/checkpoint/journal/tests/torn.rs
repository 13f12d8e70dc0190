//! Torn tails, damage and growth: what a file says at any of its lengths and with any of its bytes changed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A file with one save in it, and what each of these adds to it.
fn journal(tables: &[StoredTable]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut document = Document::default();
    put(&mut document, "Orders", &state(0));
    let file = document.to_text();
    let saves = tables.iter().map(|table| encode(&put(&mut document, "Orders", table)));
    (file, saves.collect())
}

fn held(text: &[u8]) -> Result<StoredTable, FormatError> {
    parse(text).map(|document| document.get("default", "Orders").unwrap_or_default())
}

/// Many entries, so that a save has many lines.
fn wide(number: u64) -> StoredTable {
    let mut table = state(number);
    let position = Position::After(format!("{number:021}").parse().unwrap());
    let shards = (0..5).map(|n| (format!("shardId-{n}"), StoredShard::at(position, UNIX_EPOCH, None)));
    table.streams[0].shards.extend(shards);
    table
}

#[tokio::test]
async fn a_save_torn_at_any_byte_was_no_save_and_the_next_one_is_whole() {
    let (before, saves) = journal(&[wide(1), wide(2)]);
    let [first, second] = &saves[..] else { panic!("two saves") };
    let kept = [&before[..], first].concat();
    for torn in 0..second.len() {
        // What lies behind it may be nothing, or zeros.
        for zeros in [0, second.len() - torn, 4096] {
            let text = [&kept[..], &second[..torn], &vec![0; zeros]].concat();
            assert_eq!(held(&text), Ok(wide(1)), "torn at {torn}, {zeros} zeros");
            if torn % 29 != 0 {
                // The simulation's disk goes on from each.
                continue;
            }
            let folder = folder();
            let path = folder.path().join("positions");
            std::fs::write(&path, &text).unwrap();
            let store = open(&path);
            store.save("Users", state(3).into()).await.unwrap();
            drop(store);
            let text = std::fs::read(&path).unwrap();
            assert_eq!(held(&text), Ok(wide(1)), "torn at {torn}, {zeros} zeros, after another save");
            assert_eq!(stored(&path, "default", "Users").await, Some(state(3)));
        }
    }
    assert_eq!(held(&[&kept[..], second].concat()), Ok(wide(2)));
}

#[test]
fn parts_of_a_save_that_never_reached_the_disk_make_it_no_save() {
    let (before, saves) = journal(&[wide(1), wide(2)]);
    let kept = [&before[..], &saves[0]].concat();
    for hole in 0..saves[1].len() - 8 {
        let mut text = [&kept[..], &saves[1]].concat();
        text[kept.len() + hole..][..8].fill(0);
        assert_eq!(held(&text), Ok(wide(1)), "a hole at {hole}");
    }
}

#[test]
fn a_byte_that_changed_in_the_middle_is_damage_and_its_line_is_named() {
    let (before, saves) = journal(&[wide(1), wide(2)]);
    let text = [&before[..], &saves[0], &saves[1]].concat();
    let header = text.iter().position(|byte| *byte == b'\n').unwrap();
    for at in header + 1..text.len() - saves[1].len() {
        let line = text[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        for changed in [text[at] ^ 1, 0, b'\n'] {
            let mut damaged = text.clone();
            damaged[at] = changed;
            if damaged != text {
                assert_eq!(held(&damaged), Err(FormatError::Damaged(line)), "byte {at}");
            }
        }
    }
}

/// The header is no checksum's: it is what it is, or the file is not ours.
#[test]
fn a_byte_that_changed_in_the_header_is_noticed() {
    let (before, saves) = journal(&[wide(1)]);
    let text = [&before[..], &saves[0]].concat();
    let header = text.iter().position(|byte| *byte == b'\n').unwrap();
    for at in 0..=header {
        for changed in [text[at] ^ 1, 0] {
            let mut damaged = text.clone();
            damaged[at] = changed;
            let held = held(&damaged);
            let is_noticed = held.is_err() || held == Ok(wide(1));
            assert!(is_noticed, "byte {at}: {:?} and then {held:?}", String::from_utf8_lossy(&damaged[..header]));
        }
    }
}

/// The last save's own damage cannot be told from a save that was under way: then the one before counts.
#[test]
fn a_byte_that_changed_in_the_last_save_makes_no_third_state() {
    let (before, saves) = journal(&[wide(1), wide(2)]);
    let text = [&before[..], &saves[0], &saves[1]].concat();
    for at in text.len() - saves[1].len()..text.len() {
        for changed in [text[at] ^ 1, 0, b'\n'] {
            let mut damaged = text.clone();
            damaged[at] = changed;
            let held = held(&damaged);
            let is_allowed = damaged == text || matches!(held, Err(FormatError::Damaged(_))) || held == Ok(wide(1));
            assert!(is_allowed, "byte {at}: {held:?}");
        }
    }
}

/// After it was replaced, everything in it was synced: nothing of it can be a save that was under way.
#[test]
fn the_end_of_a_file_that_was_replaced_is_no_tail() {
    let (text, _) = journal(&[]);
    let header = text.iter().position(|byte| *byte == b'\n').unwrap();
    for at in header + 1..text.len() {
        let line = text[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        assert_eq!(held(&text[..at]), Err(FormatError::Damaged(line)), "{at} of {} bytes", text.len());
        let mut damaged = text.clone();
        damaged[at] = 0;
        assert_eq!(held(&damaged), Err(FormatError::Damaged(line)), "byte {at}");
    }
}

#[tokio::test]
async fn what_does_not_change_is_not_written_again() {
    let folder = folder();
    let path = folder.path().join("positions");
    let store = open(&path);
    store.save("Orders", wide(1).into()).await.unwrap();
    let before = std::fs::read(&path).unwrap();
    store.save("Orders", wide(1).into()).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let mut next = wide(1);
    let position = Position::After("300000000000000000499659".parse().unwrap());
    next.streams[0].shards.insert("shardId-3".to_owned(), StoredShard::at(position, UNIX_EPOCH, None));
    store.save("Orders", next.into()).await.unwrap();
    let added = String::from_utf8(std::fs::read(&path).unwrap().split_off(before.len())).unwrap();
    assert_eq!(added.lines().count(), 1, "{added}");
    assert!(added.contains("shardId-3") && !added.contains("order") && added.len() < 150, "{added}");
}

#[tokio::test]
async fn a_file_is_replaced_when_it_is_large_and_holds_little() {
    let folder = folder();
    let path = folder.path().join("positions");
    let store = open(&path);
    let mut largest = 0;
    for number in 0..1000 {
        store.save("Orders", wide(number).into()).await.unwrap();
        largest = largest.max(std::fs::metadata(&path).unwrap().len());
    }
    assert!(largest > 200 * 1024 && largest <= Disk::SMALL as u64, "{largest}");
    assert!(std::fs::metadata(&path).unwrap().len() < largest, "it was never replaced");
    drop(store);
    assert_eq!(stored(&path, "default", "Orders").await, Some(wide(999)));
}

#[tokio::test]
async fn a_streams_start_is_stored_once() {
    let folder = folder();
    let path = folder.path().join("positions");
    let store = open(&path);
    store.save("Orders", state(1).into()).await.unwrap();
    let mut moved = state(2);
    moved.streams[0].start = Position::Start;
    store.save("Orders", moved.clone().into()).await.unwrap();
    assert_eq!(store.load("Orders").await.unwrap(), Some(state(2)), "its start was moved");
    store.overwrite("Orders", StoredTable::default()).await.unwrap();
    assert_eq!(store.load("Orders").await.unwrap(), None, "it was not forgotten");
    store.save("Orders", moved.clone().into()).await.unwrap();
    drop(store);
    assert_eq!(stored(&path, "default", "Orders").await, Some(moved));
}

/// Of a thousand parked items' heads, those that did not change are not written again.
#[tokio::test]
async fn of_many_heads_those_are_written_that_changed() {
    let folder = folder();
    let path = folder.path().join("positions");
    let with = |heads: std::ops::Range<u64>, newest: u64| {
        let mut table = state(1);
        let Some(StoredShard::Unfinished(shard)) = table.streams[0].shards.get_mut("shardId-a") else { unreachable!() };
        let number = |number: u64| format!("{:021}", 10 + number).parse::<SequenceNumber>().unwrap();
        shard.newest_settled = Position::after(number(newest));
        shard.heads = heads.map(|n| (LaneId::of_shard(&n.to_string()), number(n).into())).collect();
        table
    };
    let store = open(&path);
    store.save("Orders", with(0..1000, 5000).into()).await.unwrap();
    let before = std::fs::metadata(&path).unwrap().len();
    for step in 1..=20 {
        store.save("Orders", with(step..1000 + step, 5000 + step).into()).await.unwrap();
    }
    let added = std::fs::metadata(&path).unwrap().len() - before;
    assert!(added < 20 * 500, "{added} bytes for 20 saves");
    drop(store);
    assert_eq!(stored(&path, "default", "Orders").await, Some(with(20..1020, 5020)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_saves_come_back_appended_or_replaced(
        saves in prop::collection::vec(
            ("[ab]", crate::checkpoint::tests::table(), any::<bool>(), any::<bool>()), 1..8),
    ) {
        let (mut document, mut model) = (Document::default(), BTreeMap::<String, StoredTable>::new());
        let mut text = document.to_text();
        for (table, stored, whole, replaced) in saves {
            let lines = if whole {
                model.insert(table.clone(), stored.clone());
                put(&mut document, &table, &stored)
            } else {
                let model = model.entry(table.clone()).or_default();
                let mut changes = StoredChanges::from(stored);
                changes.streams.retain(|one| model.streams.iter().all(|stored| stored.arn != one.arn) || !one.done);
                // New streams are younger than those that are known.
                (changes.streams.iter_mut().zip(model.streams.len()..)).for_each(|(one, place)| one.place = place);
                model.apply(&changes);
                let lines = document.changing("default", &table, &changes, &mut document.next_number());
                document.apply_all(&lines);
                lines
            };
            text.extend(encode(&lines));
            if replaced {
                text = document.to_text();
            }
            let read = parse(&text).unwrap();
            prop_assert_eq!(&read, &document);
            for (table, expected) in &model {
                prop_assert_eq!(read.get("default", table).unwrap_or_default(), expected.clone());
            }
        }
    }
}
