//! How saves share writes, and what they do when a write is slow or fails.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::*;
use crate::progress::AckToken;
use crate::progress::page_entry::PageEntry;
use crate::progress::table_tracker::{ShardHandle, TableTracker};
use crate::records::StreamDetails;

/// The real disk; something is called before each write, and bytes are counted.
struct Watched(Box<dyn Fn() -> io::Result<()> + Send + Sync>, Arc<AtomicUsize>);

impl FileSystem for Watched {
    type File = File;
    type Lock = File;

    const BLOCKS: bool = true;

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Disk.read(path)
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        Disk.read_link(path)
    }

    fn lock(&self, path: &Path) -> Result<File, TryLockError> {
        Disk.lock(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        (self.0)()?;
        Disk.create(path)
    }

    fn open_at(&self, path: &Path, length: usize) -> io::Result<File> {
        (self.0)()?;
        Disk.open_at(path, length)
    }

    fn write(&self, file: &mut File, content: &[u8]) -> io::Result<()> {
        self.1.fetch_add(content.len(), Ordering::SeqCst);
        Disk.write(file, content)
    }

    fn sync(&self, file: &mut File) -> io::Result<()> {
        Disk.sync(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        Disk.sync_folder(folder)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }
}

fn open_watched(path: &Path, before_write: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> FileStore<Watched> {
    let before_write = Arc::new(before_write);
    open_when_free(|| {
        let before_write = before_write.clone();
        FileStore::open_on(Watched(Box::new(move || before_write()), Arc::default()), path, "default")
    })
}

/// A disk that writes when it is told to.
struct Gate {
    store: FileStore<Watched>,
    begun: Arc<Semaphore>,
    go: mpsc::Sender<()>,
    writes: Arc<AtomicUsize>,
    met: Arc<AtomicBool>,
}

impl Gate {
    fn new(path: &Path) -> Self {
        let (go, wait) = mpsc::channel();
        let wait = Mutex::new(wait);
        let (begun, writes, met) = (Arc::new(Semaphore::new(0)), Arc::<AtomicUsize>::default(), Arc::default());
        let (told, counted, noticed) = (begun.clone(), writes.clone(), Arc::<AtomicBool>::clone(&met));
        let store = open_watched(path, move || {
            counted.fetch_add(1, Ordering::SeqCst);
            told.add_permits(1);
            match wait.try_lock() {
                Ok(wait) => wait.recv_timeout(Duration::from_secs(10)).map_err(io::Error::other)?,
                Err(_) => noticed.store(true, Ordering::SeqCst),
            }
            Ok(())
        });
        Self { store, begun, go, writes, met }
    }

    /// Until a write is under way.
    async fn write_begins(&self) {
        let begun = tokio::time::timeout(Duration::from_secs(10), self.begun.acquire()).await;
        begun.expect("no write began in 10 s").unwrap().forget();
    }
}

#[tokio::test]
async fn saves_that_arrive_during_a_write_share_the_next_one() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    let gate = Gate::new(&path);
    let tables: Vec<String> = (0..20).map(|n| format!("table-{n}")).collect();
    let saves = join_all(tables.iter().map(|table| gate.store.save(table, state(1).into())));
    let disk = async {
        gate.write_begins().await;
        gate.go.send(()).unwrap();
        gate.go.send(()).unwrap();
    };
    let (saved, ()) = futures_util::join!(saves, disk);
    assert!(saved.iter().all(Result::is_ok));
    let writes = gate.writes.load(Ordering::SeqCst);
    assert!(writes <= 2, "{writes} writes for 20 tables");
    drop(gate);
    for table in &tables {
        assert_eq!(stored(&path, "default", table).await, Some(state(1)));
    }
}

#[tokio::test]
async fn a_shared_write_that_fails_is_confirmed_to_nobody() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    let store = open_watched(&path, || Err(ErrorKind::StorageFull.into()));
    let saved = join_all(["Orders", "Users", "Items"].map(|table| store.save(table, state(1).into()))).await;
    assert!(saved.iter().all(Result::is_err), "{saved:?}");
}

/// A task that is aborted at shutdown leaves its write running. Were the next one to start beside it, both would fill the
/// same temporary file, and half of one would become the file of positions.
#[tokio::test]
async fn a_save_that_nobody_waits_for_any_more_still_keeps_other_writes_away() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    let gate = Arc::new(Gate::new(&path));
    let abandoned = tokio::spawn({
        let gate = gate.clone();
        async move { gate.store.save("Orders", state(1).into()).await }
    });
    gate.write_begins().await;
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    assert!(gate.store.writing.try_lock().is_err(), "the next write could start beside the one under way");
    gate.go.send(()).unwrap();
    gate.go.send(()).unwrap();
    gate.store.save("Users", state(2).into()).await.unwrap();
    assert!(!gate.met.load(Ordering::SeqCst), "two writes met");
    drop(gate);
    assert_eq!(stored(&path, "default", "Orders").await, Some(state(1)));
    assert_eq!(stored(&path, "default", "Users").await, Some(state(2)));
}

#[tokio::test]
async fn an_error_of_a_write_says_what_to_do() {
    let cases = [
        (ErrorKind::StorageFull, "make room on the volume"),
        (ErrorKind::QuotaExceeded, "make room on the volume"),
        (ErrorKind::ReadOnlyFilesystem, "mount it writable"),
        (ErrorKind::PermissionDenied, "fsGroup"),
        (ErrorKind::ResourceBusy, "mount its folder, not the file alone"),
    ];
    for (kind, advice) in cases {
        let folder = folder();
        let path = folder.path().join("positions.json");
        let refuses = Arc::<AtomicBool>::default();
        let refusing = refuses.clone();
        let store = open_watched(&path, move || match refusing.load(Ordering::SeqCst) {
            true => Err(kind.into()),
            false => Ok(()),
        });
        store.save("Orders", state(1).into()).await.unwrap();
        refuses.store(true, Ordering::SeqCst);
        let error = store.save("Orders", state(2).into()).await.unwrap_err().to_string();
        assert!(error.contains(advice) && error.contains("positions.json"), "{error}");
        refuses.store(false, Ordering::SeqCst);
        store.save("Users", state(3).into()).await.unwrap();
        drop(store);
        assert_eq!(
            stored(&path, "default", "Orders").await,
            Some(state(2)),
            "the save that failed comes with the next"
        );
    }
}

/// A table as AWS names things, of which so many shards are busy, each save a second later than the one before.
fn busy(shards: u64, save: u64) -> StoredTable {
    let now = UNIX_EPOCH + Duration::from_secs(1_767_326_400 + save / 10);
    let shard = |number: u64| {
        let position = Position::After(
            (300_000_000_000_000_000_000 + u128::from(save * 1000 + number)).to_string().parse().unwrap(),
        );
        let parent = format!("shardId-0000000176732{number:07}-1b2c3d4e");
        (format!("shardId-0000000176733{number:07}-0a1b2c3d"), StoredShard::at(position, now, Some(parent)))
    };
    let mut table = state(1);
    table.streams[0].shards = (0..shards).map(shard).collect();
    table
}

/// Ten saves a second of 100 busy shards are at most 200 KB.
#[tokio::test]
async fn a_save_is_as_small_as_what_has_changed() {
    for (shards, most) in [(1, 200), (100, 20_000), (1000, 400_000)] {
        let folder = folder();
        let path = folder.path().join("positions");
        let bytes = Arc::<AtomicUsize>::default();
        let files = || Watched(Box::new(|| Ok(())), bytes.clone());
        let store = open_when_free(|| FileStore::open_on(files(), &path, "default"));
        store.save("Orders", busy(shards, 0).into()).await.unwrap();
        let (saves, begun) = (100, Instant::now());
        bytes.store(0, Ordering::SeqCst);
        for save in 1..=saves {
            store.save("Orders", busy(shards, save).into()).await.unwrap();
        }
        let (a_save, took) = (bytes.load(Ordering::SeqCst) / 100, begun.elapsed() / 100);
        println!("{shards} busy shards: {a_save} bytes and {took:?} a save, replacements included");
        assert!(a_save <= most, "{a_save} bytes a save at {shards} shards");
    }
}

const SAVES: usize = 30;

/// The real tracker of a table of which so many shards are busy: ten records each between two saves, each of an item of its own, with
/// 64 events under way.
struct BusyTable {
    tracker: TableTracker,
    shards: Vec<ShardHandle>,
    read: u64,
    under_way: Vec<AckToken>,
    dice: fastrand::Rng,
}

impl BusyTable {
    fn new(shards: usize) -> Self {
        let mut tracker = TableTracker::default();
        let details = Arc::new(StreamDetails::from_arn(&state(1).streams[0].arn));
        let stream = tracker.open_stream(details, Position::Start, true, UNIX_EPOCH);
        (0..shards).for_each(|n| tracker.learn(stream, &format!("shardId-0000000176733{n:07}-0a1b2c3d"), None));
        let shards = tracker.open_ready(stream).into_iter().map(|shard| shard.handle).collect();
        Self { tracker, shards, read: 0, under_way: Vec::new(), dice: fastrand::Rng::with_seed(1) }
    }

    fn next_changes(&mut self) -> StoredChanges {
        for round in 0..10 * self.shards.len() {
            let shard = self.shards[round % self.shards.len()];
            self.read += 1;
            let sequence = (300_000_000_000_000_000_000 + u128::from(self.read)).to_string().parse().unwrap();
            let created = UNIX_EPOCH + Duration::from_secs(1_767_326_400 + self.read / 1_000);
            let lane = LaneId::of_shard(&self.read.to_string());
            let owed = PageEntry::of(&mut self.tracker, shard).record(sequence, lane, Some(created)).unwrap();
            self.under_way.push(owed.token.unwrap());
            if self.under_way.len() > 64 {
                let next = self.dice.usize(..self.under_way.len());
                self.tracker.settle(&self.under_way.swap_remove(next));
            }
        }
        self.tracker.take_changes()
    }
}

/// Ten saves a second of 100 busy shards are at most 200 KB, with all that is under way in them.
#[tokio::test]
async fn a_save_of_a_busy_table_is_small() {
    for (shards, most) in [(1, 10_000), (100, 20_000), (1000, 400_000)] {
        let folder = folder();
        let path = folder.path().join("positions");
        let bytes = Arc::<AtomicUsize>::default();
        let files = || Watched(Box::new(|| Ok(())), bytes.clone());
        let store = open_when_free(|| FileStore::open_on(files(), &path, "default"));
        let mut table = BusyTable::new(shards);
        store.save("Orders", table.next_changes()).await.unwrap();
        bytes.store(0, Ordering::SeqCst);
        let mut largest = 0;
        for _ in 0..SAVES {
            store.save("Orders", table.next_changes()).await.unwrap();
            largest = largest.max(std::fs::metadata(&path).unwrap().len());
        }
        let a_save = bytes.load(Ordering::SeqCst) / SAVES;
        println!("{shards} busy shards, 64 under way: {a_save} bytes a save, the file at most {largest} bytes");
        assert!(a_save <= most, "{a_save} bytes a save at {shards} shards");
    }
}

#[tokio::test]
async fn more_than_a_file_of_positions_ever_has_is_not_written() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    let store = open(&path);
    store.put("orders", Wanted::Whole(state(1))).await.unwrap();
    let before = std::fs::read(&path).unwrap();
    // Zeros take no memory before somebody writes there.
    let refused = store.file.replace(&vec![0; MAX_BYTES + 1]).unwrap_err();
    assert!(matches!(&refused, SaveError::NotStored(_)) && refused.to_string().contains("is not written"), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    store.put("orders", Wanted::Whole(state(2))).await.unwrap();
    drop(store);
    assert_eq!(stored(&path, "default", "orders").await, Some(state(2)), "what fits is");
}
