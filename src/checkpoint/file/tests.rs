//! What is promised of the file of positions.

mod process;
mod writing;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::checkpoint::{ShardState, StreamState};
use crate::records::Position;

fn state(sequence: u64) -> TableState {
    let shard = |position| ShardState::Reading { position, parent: Some("shardId-parent".to_owned()) };
    let finished = ShardState::Finished { at: UNIX_EPOCH + Duration::from_millis(1_767_325_800_000), parent: None };
    let stream = StreamState {
        arn: "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-01-02T03:04:05.678".to_owned(),
        start: Position::Since(UNIX_EPOCH + Duration::from_millis(1_767_323_045_678)),
        drained: false,
        saved_at: UNIX_EPOCH + Duration::from_secs(1_767_326_400),
        shards: [
            ("shardId-a".to_owned(), shard(Position::After(format!("{sequence:021}").parse().unwrap()))),
            ("shardId-b".to_owned(), shard(Position::Start)),
            ("shardId-parent".to_owned(), finished),
        ]
        .into(),
    };
    TableState { streams: vec![stream] }
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

async fn stored(path: &Path, group: &str, table: &str) -> Option<TableState> {
    open_for(path, group).load(table).await.unwrap()
}

#[tokio::test]
async fn what_was_saved_is_there_after_a_restart() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    let store = open(&path);
    assert_eq!(store.load("Orders").await.unwrap(), None);
    store.save("Orders", state(1)).await.unwrap();
    store.save("Orders", state(2)).await.unwrap();
    drop(store);
    assert_eq!(stored(&path, "default", "Orders").await, Some(state(2)));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn the_format_is_the_one_that_is_documented() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    open(&path).save("Orders", state(7)).await.unwrap();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/checkpoint-v1.json");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::copy(&path, golden).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, std::fs::read_to_string(golden).unwrap(), "a change of format needs a new version");
    assert_eq!(Document::parse(text.as_bytes()).unwrap().get("default", "Orders").unwrap(), Some(state(7)));
}

#[tokio::test]
async fn other_groups_and_tables_keep_their_positions() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    open(&path).save("Orders", state(1)).await.unwrap();
    let other = open_for(&path, "other");
    assert_eq!(other.load("Orders").await.unwrap(), None);
    other.save("Orders", state(2)).await.unwrap();
    other.save("Users", state(3)).await.unwrap();
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
        let saves = tables.iter().map(|table| store.save(table, state(round)));
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
        let mut document = Document::empty();
        document.put("default", "Orders", &state(1));
        document.to_text()
    };
    let cases = [
        String::new(),
        "\n".to_owned(),
        "hello".to_owned(),
        "{}".to_owned(),
        good[..good.len() / 2].to_owned(),
        good.replace("dynamodb-streams-adapter/checkpoint", "something/else"),
        good.replace("\"version\": 1", "\"version\": 2"),
        good.replace("\"version\": 1", "\"version\": 0"),
        good.clone() + "}",
        good.replace("\"position\": \"start\"", "\"parent\": \"neither\""),
        good.replace("\"drained\"", "\"new_member\": 1, \"drained\""),
        good.replace("after 0", "behind 0"),
        good.replace("after 0", "after x0"),
        good.replace("since 2026-01-02", "since yesterday"),
    ];
    for content in cases {
        let folder = folder();
        let path = folder.path().join("positions.json");
        std::fs::write(&path, &content).unwrap();
        let error = FileStore::open(&path, "default").unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }), "{content}: {error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content, "the file was touched");
    }
}

#[tokio::test]
async fn a_disk_that_refuses_is_survived_and_the_next_save_has_everything() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    let store = open(&path);
    store.save("Orders", state(1)).await.unwrap();
    // A folder in the temporary file's place fails every write, whoever runs the test.
    let obstacle = folder.path().join("positions.json.tmp");
    std::fs::create_dir(&obstacle).unwrap();
    let error = store.save("Orders", state(2)).await.unwrap_err();
    assert!(error.to_string().contains("positions.json cannot be written"), "{error}");
    assert!(store.save("Users", state(3)).await.is_err(), "a save that wrote nothing was confirmed");
    let kept = Document::parse(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(kept.get("default", "Orders").unwrap(), Some(state(1)), "the old content is whole");
    std::fs::remove_dir(&obstacle).unwrap();
    store.save("Users", state(3)).await.unwrap();
    drop(store);
    assert_eq!(stored(&path, "default", "Orders").await, Some(state(2)));
    assert_eq!(stored(&path, "default", "Users").await, Some(state(3)));
}

#[tokio::test]
async fn what_a_crash_left_behind_does_no_harm() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    open(&path).save("Orders", state(1)).await.unwrap();
    let leftover = folder.path().join("positions.json.tmp");
    std::fs::write(&leftover, "{ half a fi").unwrap();
    let store = open(&path);
    assert!(!leftover.exists(), "half a file takes space for nothing");
    assert_eq!(store.load("Orders").await.unwrap(), Some(state(1)));
    store.save("Orders", state(2)).await.unwrap();
    drop(store);
    assert_eq!(stored(&path, "default", "Orders").await, Some(state(2)));
}

#[tokio::test]
async fn a_symbolic_link_stays_one() {
    let folder = folder();
    let (real, link) = (folder.path().join("real.json"), folder.path().join("link.json"));
    open(&real).save("Orders", state(1)).await.unwrap();
    symlink(&real, &link).unwrap();
    let store = open(&link);
    assert!(matches!(FileStore::open(&real, "default"), Err(OpenError::InUse(_))), "two names, one file, one lock");
    store.save("Orders", state(2)).await.unwrap();
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
    open(&link).save("Orders", state(1)).await.unwrap();
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
    store.save("Orders", state(1)).await.unwrap();
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "precious");
    assert!(!path.symlink_metadata().unwrap().is_symlink());
}

#[tokio::test]
async fn a_file_that_others_could_read_is_the_owners_alone_after_a_save() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    open(&path).save("Orders", state(1)).await.unwrap();
    for name in ["positions.json", "positions.json.tmp"] {
        let file = folder.path().join(name);
        std::fs::write(&file, std::fs::read(&path).unwrap()).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    open(&path).save("Orders", state(2)).await.unwrap();
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
    let error = store.save("Orders", state(1)).await.unwrap_err();
    assert!(error.to_string().contains("its folder no longer exists"), "{error}");
    std::fs::create_dir(&volume).unwrap();
    store.save("Orders", state(2)).await.unwrap();
    drop(store);
    assert_eq!(stored(&path, "default", "Orders").await, Some(state(2)));
}

/// From 1900 to 9999, to the nanosecond: what a person may write as START_POSITION.
fn moment() -> impl Strategy<Value = SystemTime> {
    let year_1900 = UNIX_EPOCH - Duration::from_secs(2_208_988_800);
    let whole_seconds = Just(0u32);
    let nanoseconds = prop_oneof![whole_seconds, 0u32..1_000_000_000];
    (0u64..255_000_000_000, nanoseconds).prop_map(move |(seconds, nanos)| year_1900 + Duration::new(seconds, nanos))
}

fn position() -> impl Strategy<Value = Position> {
    prop_oneof![
        Just(Position::Start),
        Just(Position::Since(UNIX_EPOCH)),
        moment().prop_map(Position::Since),
        "[0-9]{1,40}".prop_map(|digits| Position::After(digits.parse().unwrap())),
    ]
}

fn shard() -> impl Strategy<Value = ShardState> {
    let parent = || prop::option::of(".{1,20}");
    prop_oneof![
        (position(), parent()).prop_map(|(position, parent)| ShardState::Reading { position, parent }),
        (moment(), parent()).prop_map(|(at, parent)| ShardState::Finished { at, parent }),
    ]
}

proptest! {
    #[test]
    fn every_state_survives_the_file(
        arn in ".{1,40}",
        start in position(),
        saved_at in moment(),
        drained: bool,
        shards in prop::collection::btree_map(".{1,20}", shard(), 0..8),
        table in ".{1,20}",
    ) {
        let stream = StreamState { arn, start, drained, saved_at, shards };
        let state = TableState { streams: vec![stream] };
        let mut document = Document::empty();
        document.put("default", &table, &state);
        let read = Document::parse(document.to_text().as_bytes()).unwrap();
        prop_assert_eq!(read.get("default", &table).unwrap(), Some(state));
    }
}
