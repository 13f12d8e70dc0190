//! What is promised of the file of positions.

mod process;
mod torn;
mod writing;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::*;
use crate::checkpoint::{StoredShard, StoredStream};
use crate::records::{LaneId, Position, RecordNumber, SequenceNumber};

fn state(sequence: u64) -> StoredTable {
    let shard = |position| {
        let verified_at = UNIX_EPOCH + Duration::from_secs(1_767_326_400);
        StoredShard::at(position, verified_at, Some("shardId-parent".to_owned()))
    };
    let finished = StoredShard::Finished { at: UNIX_EPOCH + Duration::from_millis(1_767_325_800_000), parent: None };
    let stream = StoredStream {
        arn: "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-01-02T03:04:05.678".to_owned(),
        start: Position::Since(UNIX_EPOCH + Duration::from_millis(1_767_323_045_678)),
        done: false,
        shards: [
            ("shardId-a".to_owned(), shard(Position::After(format!("{sequence:021}").parse().unwrap()))),
            ("shardId-b".to_owned(), shard(Position::Start)),
            ("shardId-parent".to_owned(), finished),
        ]
        .into(),
    };
    StoredTable { streams: vec![stream], stopped: None }
}

/// Stores it in a document; what a file must be told.
fn put(document: &mut Document, table: &str, stored: &StoredTable) -> Vec<Line> {
    let lines = document.replacing("default", table, stored, &mut document.next_number());
    document.apply_all(&lines);
    lines
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn open(path: &Path) -> FileStore {
    open_for(path, "default")
}

fn open_for(path: &Path, group: &str) -> FileStore {
    open_when_free(|| FileStore::open(path, group))
}

/// A child that another test is starting has our locks too, until it runs its own program.
fn open_when_free<F: FileSystem>(open: impl Fn() -> Result<FileStore<F>, OpenError>) -> FileStore<F> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match open() {
            Err(OpenError::InUse(_)) if Instant::now() < deadline => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

async fn stored(path: &Path, group: &str, table: &str) -> Option<StoredTable> {
    open_for(path, group).load(table).await.unwrap()
}

#[tokio::test]
async fn what_was_saved_is_there_after_a_restart() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    let store = open(&path);
    assert_eq!(store.load("Orders").await.unwrap(), None);
    store.save("Orders", state(1).into()).await.unwrap();
    store.save("Orders", state(2).into()).await.unwrap();
    drop(store);
    assert_eq!(stored(&path, "default", "Orders").await, Some(state(2)));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn the_format_is_the_one_that_is_documented() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    let store = open(&path);
    store.save("Orders", state(7).into()).await.unwrap();
    store.save("Orders", state(8).into()).await.unwrap();
    store.save("Orders", with_heads(9).into()).await.unwrap();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/checkpoint-v2.jsonl");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::copy(&path, golden).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, std::fs::read_to_string(golden).unwrap(), "a change of format needs a new version");
    assert_eq!(parse(text.as_bytes()).unwrap().get("default", "Orders"), Some(with_heads(9)));
}

/// A shard in which something is settled behind what is not.
fn with_heads(sequence: u64) -> StoredTable {
    let mut table = state(sequence);
    let shard = table.streams[0].shards.get_mut("shardId-a").unwrap();
    if let StoredShard::Unfinished(shard) = shard {
        let number = |number: u64| format!("{number:021}").parse::<SequenceNumber>().unwrap();
        shard.newest_settled = Position::after(number(sequence + 5));
        let head = |at, repeat| RecordNumber { sequence: number(sequence + at), repeat };
        shard.heads = [(LaneId::of_shard("1"), head(1, 0)), (LaneId::of_shard("2"), head(3, 1))].into();
        shard.oldest_owed = Some(UNIX_EPOCH + Duration::from_secs(1_767_326_000));
    }
    table
}

#[tokio::test]
async fn other_groups_and_tables_keep_their_positions() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    open(&path).save("Orders", state(1).into()).await.unwrap();
    let other = open_for(&path, "other");
    assert_eq!(other.load("Orders").await.unwrap(), None);
    other.save("Orders", state(2).into()).await.unwrap();
    other.save("Users", state(3).into()).await.unwrap();
    drop(other);
    assert_eq!(stored(&path, "default", "Orders").await, Some(state(1)));
    assert_eq!(stored(&path, "other", "Orders").await, Some(state(2)));
    assert_eq!(stored(&path, "other", "Users").await, Some(state(3)));
}

#[tokio::test]
async fn twenty_tables_that_save_at_once_all_get_through() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    let store = open(&path);
    for round in 0..5 {
        let tables: Vec<String> = (0..20).map(|n| format!("table-{n}")).collect();
        let saves = tables.iter().map(|table| store.save(table, state(round).into()));
        futures_util::future::try_join_all(saves).await.unwrap();
    }
    drop(store);
    for n in 0..20 {
        assert_eq!(stored(&path, "default", &format!("table-{n}")).await, Some(state(4)));
    }
}

#[test]
fn a_second_process_on_the_same_file_is_told_so() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    let _first = open(&path);
    let error = FileStore::open(&path, "other").unwrap_err();
    assert!(matches!(error, OpenError::InUse(_)));
    assert!(error.to_string().contains("in use by another process"), "{error}");
}

#[test]
fn a_missing_folder_is_named_with_what_to_do() {
    let error = FileStore::open(Path::new("/nowhere/at/all/positions.json"), "default").unwrap_err();
    assert!(error.to_string().contains("mount a volume"), "{error}");
}

#[test]
fn a_foreign_or_damaged_file_is_left_alone() {
    let good = {
        let mut document = Document::default();
        put(&mut document, "Orders", &state(1));
        String::from_utf8(document.to_text()).unwrap()
    };
    let (header, body) = good.split_once('\n').unwrap();
    let version_1 = include_str!("../../../tests/data/checkpoint-v1.json");
    let other_text = |line: &str| {
        let line = serde_json::from_str(line).unwrap();
        format!("{good}{}", String::from_utf8(encode(&[line])).unwrap())
    };
    let cases = [
        (String::new(), "empty"),
        ("\n".to_owned(), "empty"),
        ("hello".to_owned(), "not a file of positions"),
        ("{}".to_owned(), "not a file of positions"),
        (version_1.to_owned(), "version 1"),
        (good[..good.len() / 2].to_owned(), "damaged"),
        (format!("{header}\n"), "line 2 is damaged"),
        (header.to_owned(), "line 2 is damaged"),
        (body.to_owned(), "not a file of positions"),
        (good.replace("dynamodb-streams-adapter/checkpoint", "something/else"), "something/else"),
        (good.replace("\"version\":2", "\"version\":3"), "newer adapter"),
        (good.replace("\"version\":2", "\"version\":0"), "version 0"),
        (good.replace("after 0", "after 1"), "line 3 is damaged"),
        (good.replace(" + ", " 1 "), "line 2 is damaged"),
        (good.replace("\"done\"", "\"d0ne\""), "line 2 is damaged"),
        (other_text(r#"{"shard":[7,"shardId-a",{"finished":"2026-01-02T03:04:05Z"}]}"#), "no stream 7"),
        (other_text(r#"{"shard":[1,"shardId-a",{"safe":"start"}]}"#), "line 6 makes no sense"),
        (other_text(r#"{"forget":[7,"shardId-a"]}"#), "no stream 7"),
        (
            other_text(
                r#"{"stream":[4294967295,{"group":"g","table":"T","arn":"A","place":0,"start":"start","done":false}]}"#,
            ),
            "the number 4294967295 of a stream",
        ),
    ];
    for (content, why) in cases {
        let folder = folder();
        let path = folder.path().join("positions.json");
        std::fs::write(&path, &content).unwrap();
        let error = FileStore::open(&path, "default").unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }) && !error.may_pass(), "{content}: {error}");
        assert!(error.to_string().contains(why), "{content}: {error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content, "the file was touched");
    }
}

#[tokio::test]
async fn a_disk_that_refuses_is_survived_and_the_next_save_has_everything() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    let store = open(&path);
    store.save("Orders", state(1).into()).await.unwrap();
    // A folder in the file's place fails every write, whoever runs the test.
    let kept = folder.path().join("kept");
    std::fs::rename(&path, &kept).unwrap();
    std::fs::create_dir(&path).unwrap();
    let error = store.save("Orders", state(2).into()).await.unwrap_err();
    assert!(error.to_string().contains("positions.json cannot be written"), "{error}");
    assert!(store.save("Users", state(3).into()).await.is_err(), "a save that wrote nothing was confirmed");
    assert_eq!(parse(&std::fs::read(&kept).unwrap()).unwrap().get("default", "Orders"), Some(state(1)));
    std::fs::remove_dir(&path).unwrap();
    store.save("Users", state(3).into()).await.unwrap();
    drop(store);
    assert_eq!(stored(&path, "default", "Orders").await, Some(state(2)));
    assert_eq!(stored(&path, "default", "Users").await, Some(state(3)));
}

#[tokio::test]
async fn a_file_that_somebody_removes_or_changes_is_put_back() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    let store = open(&path);
    for number in 1..4 {
        store.save("Orders", state(number).into()).await.unwrap();
        match number {
            1 => std::fs::remove_file(&path).unwrap(),
            _ => std::fs::write(&path, "precious").unwrap(),
        }
        // The first save finds out, the next one makes it good.
        assert!(matches!(store.save("Orders", state(10).into()).await, Err(SaveError::NotStored(_))));
    }
    store.save("Orders", state(11).into()).await.unwrap();
    drop(store);
    assert_eq!(stored(&path, "default", "Orders").await, Some(state(11)));
}

#[tokio::test]
async fn what_a_crash_left_behind_does_no_harm() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    open(&path).save("Orders", state(1).into()).await.unwrap();
    let leftover = folder.path().join("positions.json.tmp");
    std::fs::write(&leftover, "{ half a fi").unwrap();
    let store = open(&path);
    assert!(!leftover.exists(), "half a file takes space for nothing");
    assert_eq!(store.load("Orders").await.unwrap(), Some(state(1)));
    store.save("Orders", state(2).into()).await.unwrap();
    drop(store);
    assert_eq!(stored(&path, "default", "Orders").await, Some(state(2)));
}

#[tokio::test]
async fn a_symbolic_link_stays_one() {
    let folder = folder();
    let (real, link) = (folder.path().join("real.json"), folder.path().join("link.json"));
    open(&real).save("Orders", state(1).into()).await.unwrap();
    symlink(&real, &link).unwrap();
    let store = open(&link);
    assert!(matches!(FileStore::open(&real, "default"), Err(OpenError::InUse(_))), "two names, one file, one lock");
    store.save("Orders", state(2).into()).await.unwrap();
    drop(store);
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(stored(&real, "default", "Orders").await, Some(state(2)));
}

#[tokio::test]
async fn a_symbolic_link_may_lead_to_a_file_that_is_not_there_yet() {
    let folder = folder();
    let volume = folder.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let link = folder.path().join("positions.json");
    symlink("volume/positions.json", &link).unwrap();
    open(&link).save("Orders", state(1).into()).await.unwrap();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(stored(&volume.join("positions.json"), "default", "Orders").await, Some(state(1)));
}

#[test]
fn links_in_a_circle_are_refused() {
    let folder = folder();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    symlink(&one, &other).unwrap();
    symlink(&other, &one).unwrap();
    assert!(matches!(FileStore::open(&one, "default"), Err(OpenError::Io { .. })));
}

/// Whoever can write into the folder must not be able to point the next write at a file elsewhere.
#[tokio::test]
async fn a_link_in_the_temporary_files_place_is_not_followed() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    let store = open(&path);
    let elsewhere = folder.path().join("precious");
    std::fs::write(&elsewhere, "precious").unwrap();
    symlink(&elsewhere, folder.path().join("positions.json.tmp")).unwrap();
    store.save("Orders", state(1).into()).await.unwrap();
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "precious");
    assert!(!path.symlink_metadata().unwrap().is_symlink());
}

#[tokio::test]
async fn a_file_that_others_could_read_is_the_owners_alone_after_a_save() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    open(&path).save("Orders", state(1).into()).await.unwrap();
    for name in ["positions.json", "positions.json.tmp"] {
        let file = folder.path().join(name);
        std::fs::write(&file, std::fs::read(&path).unwrap()).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    open(&path).save("Orders", state(2).into()).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

/// `/sys` takes no files from anybody, root included.
#[test]
fn a_folder_that_cannot_be_written_to_is_said_at_the_start() {
    let error = FileStore::open(Path::new("/sys/positions.json"), "default").unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    assert!(error.to_string().contains("to create files in its folder"), "{error}");
}

#[tokio::test]
async fn a_folder_that_vanishes_is_survived() {
    let folder = folder();
    let volume = folder.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let path = volume.join("positions.json");
    let store = open(&path);
    std::fs::remove_dir_all(&volume).unwrap();
    let error = store.save("Orders", state(1).into()).await.unwrap_err();
    assert!(error.to_string().contains("its folder no longer exists"), "{error}");
    std::fs::create_dir(&volume).unwrap();
    store.save("Orders", state(2).into()).await.unwrap();
    drop(store);
    assert_eq!(stored(&path, "default", "Orders").await, Some(state(2)));
}

#[tokio::test]
async fn a_table_is_found_by_its_name_where_only_one_is_stored_that_it_can_be() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    let arn = |region: &str, table: &str| format!("arn:aws:dynamodb:{region}:123456789012:table/{table}");
    let save = async |store: &FileStore, key: &str, sequence| {
        store.put(key, Wanted::Whole(state(sequence))).await.unwrap();
    };
    let store = open(&path);
    save(&store, &arn("eu-west-1", "Orders"), 1).await;
    save(&store, &arn("eu-west-1", "Orders2"), 2).await;
    save(&store, &format!("{}/stream/2026-01-02T03:04:05.678", arn("eu-west-1", "Orders")), 3).await;
    for region in [None, Some("eu-west-1")] {
        assert_eq!(store.load_by_name("Orders", region), Some(state(1)), "{region:?}");
    }
    assert_eq!(store.load_by_name("Orders", Some("us-east-1")), None, "another region's");
    assert_eq!(store.load_by_name("rders", None), None);
    save(&store, &arn("us-east-1", "Orders"), 4).await;
    assert_eq!(store.load_by_name("Orders", None), None, "either of them may be meant");
    assert_eq!(store.load_by_name("Orders", Some("us-east-1")), Some(state(4)));
    save(&store, "arn:aws:dynamodb:us-east-1:210987654321:table/Orders", 5).await;
    assert_eq!(store.load_by_name("Orders", Some("us-east-1")), None, "either account may be meant");
    drop(store);
    assert_eq!(open_for(&path, "other").load_by_name("Orders", Some("eu-west-1")), None, "of another group");
}
