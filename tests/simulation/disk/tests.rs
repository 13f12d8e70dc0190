//! What the disk in memory keeps and loses, and the store of positions on it.

use std::time::UNIX_EPOCH;

use dynamodb_streams_adapter::checkpoint::{
    CheckpointStore, FileStore, OpenError, SaveError, StoredShard, StoredStream, StoredTable,
};
use dynamodb_streams_adapter::records::Position;
use futures_util::FutureExt;
use futures_util::future::join_all;

use super::*;

/// Open, write, sync.
const STEPS_OF_A_SAVE: usize = 3;

/// Remove, create, write, sync, rename, sync the folder.
const STEPS_OF_A_REPLACEMENT: usize = 6;

fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

fn write(disk: &MemoryDisk, name: &str, content: &[u8]) -> OpenFile {
    let mut file = disk.create(&path(name)).unwrap();
    disk.write(&mut file, content).unwrap();
    file
}

fn sync(disk: &MemoryDisk, mut file: OpenFile) {
    disk.sync(&mut file).unwrap();
    disk.sync_folder(Path::new(FOLDER)).unwrap();
}

/// Everything that these names can have after a loss of power.
fn after_power_lost(disk: &MemoryDisk, names: &[&str]) -> BTreeSet<Vec<Option<Vec<u8>>>> {
    let left = |seed| {
        let copy = disk.snapshot();
        copy.power_lost(&mut fastrand::Rng::with_seed(seed));
        names.iter().map(|name| copy.read_file(&path(name))).collect()
    };
    (0..500).map(left).collect()
}

fn some(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

#[test]
fn what_is_not_synced_is_there_up_to_any_byte_after_a_loss_of_power() {
    let disk = MemoryDisk::new();
    sync(&disk, write(&disk, "a", b"xy"));
    let left = after_power_lost(&disk, &["a"]);
    assert_eq!(left, [vec![some("xy")]].into());
    let mut file = write(&disk, "b", b"xy");
    disk.sync(&mut file).unwrap();
    disk.write(&mut file, b"z!").unwrap();
    disk.sync_folder(Path::new(FOLDER)).unwrap();
    let left = after_power_lost(&disk, &["b"]);
    let contents = ["xy", "xyz", "xyz!", "xy\0\0", "xyz\0"];
    assert_eq!(left, contents.map(|content| vec![some(content)]).into());
}

#[test]
fn a_change_of_names_whose_folder_is_not_synced_happened_or_did_not() {
    let disk = MemoryDisk::new();
    sync(&disk, write(&disk, "a", b"old"));
    sync(&disk, write(&disk, "b", b"new"));
    disk.rename(&path("b"), &path("a")).unwrap();
    assert_eq!(disk.read_file(&path("a")), some("new"));
    let left = after_power_lost(&disk, &["a", "b"]);
    assert_eq!(left, [vec![some("old"), some("new")], vec![some("new"), None]].into());
    disk.remove(&path("a")).unwrap();
    assert_eq!(after_power_lost(&disk, &["a"]), [vec![None], vec![some("old")], vec![some("new")]].into());
    disk.sync_folder(Path::new(FOLDER)).unwrap();
    assert_eq!(after_power_lost(&disk, &["a", "b"]), [vec![None, None]].into());
    let mut file = write(&disk, "c", b"");
    disk.sync(&mut file).unwrap();
    assert_eq!(after_power_lost(&disk, &["c"]), [vec![None], vec![some("")]].into());
}

#[test]
fn a_process_that_dies_leaves_what_it_wrote_and_no_open_file() {
    let disk = MemoryDisk::new();
    let mut file = write(&disk, "a", b"written");
    disk.on_step(|_| Outcome::Dead);
    assert!(disk.write(&mut file, b"!").is_err());
    disk.on_step(|_| Outcome::Done);
    assert!(disk.read(&path("a")).is_err(), "it is dead, whatever is decided now");
    disk.process_died();
    assert_eq!(disk.read(&path("a")).unwrap(), b"written");
    assert!(disk.write(&mut file, b"!").is_err(), "it wrote after its death");
    assert_eq!(disk.read_file(&path("a")), some("written"));
}

#[test]
fn a_torn_write_leaves_half_and_a_failed_one_nothing() {
    let disk = MemoryDisk::new();
    let mut file = write(&disk, "a", b"");
    disk.on_step(|_| Outcome::Torn(ErrorKind::StorageFull));
    assert_eq!(disk.write(&mut file, b"1234").unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(disk.create(&path("b")).map(drop).unwrap_err().kind(), ErrorKind::StorageFull);
    disk.on_step(|_| Outcome::Fails(ErrorKind::QuotaExceeded));
    assert_eq!(disk.write(&mut file, b"5678").unwrap_err().kind(), ErrorKind::QuotaExceeded);
    assert_eq!((disk.read_file(&path("a")), disk.read_file(&path("b"))), (some("12"), None));
}

#[test]
fn a_lock_is_its_holders_until_it_is_dropped_or_the_holder_dies() {
    let disk = MemoryDisk::new();
    let held = disk.lock(&path("lock")).unwrap();
    assert!(matches!(disk.lock(&path("lock")), Err(TryLockError::WouldBlock)));
    drop(held);
    let held = disk.lock(&path("lock")).unwrap();
    disk.process_died();
    let successors = disk.lock(&path("lock")).unwrap();
    drop(held);
    assert!(matches!(disk.lock(&path("lock")), Err(TryLockError::WouldBlock)), "freed by one who is dead");
    drop(successors);
    disk.lock(&path("lock")).unwrap();
}

#[test]
fn a_snapshot_has_no_locks_and_no_faults_and_goes_its_own_way() {
    let disk = MemoryDisk::new();
    let _held = disk.lock(&path("lock")).unwrap();
    let mut file = write(&disk, "a", b"both");
    disk.on_step(|_| Outcome::Dead);
    assert!(disk.sync(&mut file).is_err());
    let copy = disk.snapshot();
    copy.lock(&path("lock")).unwrap();
    copy.remove(&path("a")).unwrap();
    write(&copy, "b", b"copy");
    assert_eq!((disk.read_file(&path("a")), disk.read_file(&path("b"))), (some("both"), None));
    disk.process_died();
    disk.on_step(|_| Outcome::Done);
    disk.remove(&path("a")).unwrap();
    assert_eq!((copy.read_file(&path("a")), copy.read_file(&path("b"))), (None, some("copy")));
}

#[test]
fn what_is_missing_is_missing() {
    let disk = MemoryDisk::new();
    let elsewhere = Path::new("/nowhere/a");
    assert_eq!(disk.create(elsewhere).map(drop).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.read(&path("a")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.rename(&path("a"), &path("b")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.sync_folder(Path::new("/nowhere")).unwrap_err().kind(), ErrorKind::NotFound);
    disk.remove(&path("a")).unwrap();
    write(&disk, "a", b"");
    assert_eq!(disk.create(&path("a")).map(drop).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let opened = FileStore::open_on(disk, elsewhere, "default");
    assert!(matches!(opened, Err(OpenError::NoFolder(_))), "{opened:?}");
}

#[test]
fn a_disk_that_is_replaced_for_days_grows_not() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    for number in 0..100 {
        save(&store, number).unwrap();
    }
    let state = disk.state();
    assert!(state.files.len() <= 2 && state.changes.is_empty(), "the positions and their lock");
}

fn open(disk: &MemoryDisk) -> FileStore<MemoryDisk> {
    try_open(disk).unwrap()
}

fn try_open(disk: &MemoryDisk) -> Result<FileStore<MemoryDisk>, OpenError> {
    FileStore::open_on(disk.clone(), &path("positions.json"), "default")
}

fn state(number: u64) -> StoredTable {
    let position = Position::After(format!("{number:021}").parse().unwrap());
    let shard = StoredShard::at(position, UNIX_EPOCH, None);
    let shards = [("shard".to_owned(), shard)].into();
    let arn = "stream".to_owned();
    StoredTable { streams: vec![StoredStream { arn, start: Position::Start, done: false, shards }], stopped: None }
}

/// Saves at once: no other thread has part in it.
fn save(store: &FileStore<MemoryDisk>, number: u64) -> Result<(), SaveError> {
    store.save("Orders", state(number).into()).now_or_never().expect("a save waits for something")
}

fn load(store: &FileStore<MemoryDisk>) -> Option<StoredTable> {
    store.load("Orders").now_or_never().unwrap().unwrap()
}

/// One step comes out like this, and those behind it succeed, unless the process is dead.
fn once_at(disk: &MemoryDisk, at: usize, outcome: Outcome) {
    let mut step = 0;
    disk.on_step(move |_| {
        step += 1;
        if step == at + 1 { outcome } else { Outcome::Done }
    });
}

const OUTCOMES: [Outcome; 3] =
    [Outcome::Dead, Outcome::Torn(ErrorKind::StorageFull), Outcome::Fails(ErrorKind::QuotaExceeded)];

#[test]
fn a_save_that_breaks_off_at_any_step_leaves_the_store_old_or_new_after_a_kill_and_after_a_loss_of_power() {
    breaks_off_anywhere(STEPS_OF_A_SAVE, |_| {});
}

/// A process's first save, and one after a save of unknown outcome, replace the file.
#[test]
fn a_replacement_that_breaks_off_at_any_step_leaves_the_store_old_or_new_too() {
    breaks_off_anywhere(STEPS_OF_A_REPLACEMENT, |(disk, store)| {
        once_at(disk, STEPS_OF_A_SAVE - 1, Outcome::Fails(ErrorKind::Other));
        assert!(matches!(save(store, 1), Err(SaveError::Unknown(_))), "whether a save was synced is not known");
    });
}

/// Fails each step of saving 2 where 1 is stored, and looks what comes of it.
fn breaks_off_anywhere(steps: usize, prepare: impl Fn((&MemoryDisk, &FileStore<MemoryDisk>))) {
    for (at, outcome) in (0..=steps).flat_map(|at| OUTCOMES.map(|outcome| (at, outcome))) {
        // One seed stands for a kill.
        for seed in 0..100 {
            let disk = MemoryDisk::new();
            let store = open(&disk);
            save(&store, 0).unwrap();
            prepare((&disk, &store));
            disk.on_step(|_| Outcome::Done);
            if steps == STEPS_OF_A_SAVE {
                save(&store, 1).unwrap();
            }
            once_at(&disk, at, outcome);
            let saved = save(&store, 2);
            assert_eq!(saved.is_ok(), at == steps, "{outcome:?} at {at}");
            drop(store);
            match seed {
                0 => disk.process_died(),
                seed => disk.power_lost(&mut fastrand::Rng::with_seed(seed)),
            }
            disk.on_step(|_| Outcome::Done);
            let store = open(&disk);
            let found = load(&store);
            let before = [0, 1].map(|number| Some(state(number)));
            let is_before = if steps == STEPS_OF_A_SAVE { found == before[1] } else { before.contains(&found) };
            let is_new = found == Some(state(2)) && !matches!(saved, Err(SaveError::NotStored(_)));
            assert!(
                is_new || saved.is_err() && is_before,
                "{outcome:?} at {at}, seed {seed}: {saved:?}, and then {found:?}"
            );
            save(&store, 3).unwrap();
            drop(store);
            disk.power_lost(&mut fastrand::Rng::with_seed(seed));
            assert_eq!(load(&open(&disk)), Some(state(3)), "{outcome:?} at {at}, seed {seed}");
        }
    }
}

/// Whatever follows a save that went wrong, what is confirmed afterwards is there.
#[test]
fn nothing_is_confirmed_that_a_tail_from_before_makes_unreadable() {
    for (at, outcome) in (0..STEPS_OF_A_SAVE).flat_map(|at| OUTCOMES.map(|outcome| (at, outcome))) {
        if outcome == Outcome::Dead {
            continue;
        }
        let disk = MemoryDisk::new();
        let store = open(&disk);
        save(&store, 1).unwrap();
        once_at(&disk, at, outcome);
        assert!(save(&store, 2).is_err());
        for number in 3..6 {
            save(&store, number).unwrap();
            for seed in 0..20 {
                let copy = disk.snapshot();
                copy.power_lost(&mut fastrand::Rng::with_seed(seed));
                assert_eq!(load(&open(&copy)), Some(state(number)), "{outcome:?} at {at}, save {number}");
            }
        }
    }
}

#[test]
fn the_store_goes_on_from_a_save_torn_at_any_byte() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    save(&store, 1).unwrap();
    let before = disk.read_file(&path("positions.json")).unwrap().len();
    save(&store, 2).unwrap();
    let text = disk.read_file(&path("positions.json")).unwrap();
    for length in before..=text.len() {
        let disk = MemoryDisk::new();
        sync(&disk, write(&disk, "positions.json", &text[..length]));
        let store = open(&disk);
        assert_eq!(load(&store), Some(state(if length == text.len() { 2 } else { 1 })), "{length} bytes");
        save(&store, 3).unwrap();
        disk.power_lost(&mut fastrand::Rng::with_seed(length as u64));
        assert_eq!(load(&open(&disk)), Some(state(3)), "{length} bytes");
    }
}

#[test]
fn the_power_may_be_lost_between_any_two_steps_of_the_first_saves() {
    let (disk, pictures) = (MemoryDisk::new(), Arc::<Mutex<Vec<MemoryDisk>>>::default());
    let (seen, taken) = (disk.clone(), pictures.clone());
    disk.on_step(move |_| {
        lock(&taken).push(seen.snapshot());
        Outcome::Done
    });
    let store = open(&disk);
    let mut confirmed = vec![lock(&pictures).len()];
    for number in 1..=3 {
        save(&store, number).unwrap();
        confirmed.push(lock(&pictures).len());
    }
    for (step, picture) in lock(&pictures).iter().enumerate() {
        let before = confirmed.iter().filter(|&&end| end <= step).count().saturating_sub(1);
        let numbers = [before, before + 1].map(|number| (number > 0).then(|| state(number as u64)));
        for seed in 0..100 {
            let copy = picture.snapshot();
            copy.power_lost(&mut fastrand::Rng::with_seed(seed));
            let found = load(&open(&copy));
            assert!(numbers.contains(&found), "step {step}, seed {seed}: {found:?}");
        }
    }
}

#[test]
fn a_start_that_fails_at_any_step_does_no_harm() {
    let disk = MemoryDisk::new();
    save(&open(&disk), 1).unwrap();
    for (at, outcome) in (0..).flat_map(|at| OUTCOMES.map(|outcome| (at, outcome))) {
        once_at(&disk, at, outcome);
        let opened = try_open(&disk);
        if opened.is_ok() {
            assert_eq!(at, 3, "lock, read and remove");
            break;
        }
        disk.process_died();
        disk.on_step(|_| Outcome::Done);
        assert_eq!(load(&open(&disk)), Some(state(1)), "{outcome:?} at {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn saves_of_many_tables_take_no_virtual_time() {
    let (disk, begun) = (MemoryDisk::new(), tokio::time::Instant::now());
    let store = open(&disk);
    let tables: Vec<String> = (0..20).map(|number| format!("table-{number}")).collect();
    let saved = join_all(tables.iter().map(|table| store.save(table, state(1).into()))).await;
    assert!(saved.iter().all(Result::is_ok), "{saved:?}");
    assert_eq!(begun.elapsed(), std::time::Duration::ZERO);
}

/// The seed alone says what a loss of power leaves.
#[test]
fn a_loss_of_power_can_be_repeated() {
    let disk = MemoryDisk::new();
    for number in 0..20 {
        write(&disk, &number.to_string(), b"some content");
    }
    let left = |seed| {
        let copy = disk.snapshot();
        copy.power_lost(&mut fastrand::Rng::with_seed(seed));
        (0..20).map(|number| copy.read_file(&path(&number.to_string()))).collect::<Vec<_>>()
    };
    assert_eq!(left(1), left(1));
    assert_ne!(left(1), left(2));
}
