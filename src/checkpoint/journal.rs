//! Positions in a file: one for all tables and consumer groups, readable by people.
//!
//! Contract:
//! - The file is a journal: a save appends what has changed, in one write and one sync, and counts as a whole or not at all. A crash
//!   at any moment leaves what was confirmed; what was under way is there or it is not.
//! - It is replaced as a whole (a file beside it is written and synced, renamed over it, and the folder is synced) when it is larger
//!   than twice what it holds and than [`FileSystem::SMALL`], after anything went wrong, and by a process's first save: nobody knows then what of
//!   it is on disk.
//! - A file that is damaged, foreign, of another version or larger than any of ours is not touched, and neither is what is no file: no
//!   pipe is waited for.
//! - A lock beside it (`<path>.lock`) keeps other processes away; the kernel lets go of it when the process ends, however it ends.
//! - A sync that the file system does not have is done without, and said once: a crash of the process leaves the same as elsewhere, a
//!   loss of power may not.
//! - A path that is a symbolic link stays one: the file behind it is replaced, and the files beside it are beside that one.
//!
//! Writes come one after the other. Saves that arrive while one is under way share the next one.

mod durable;
mod file_system;
mod lines;
mod volume;

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use self::durable::{remove_temporary, replace, temporary_path};
pub use self::file_system::{Disk, FileSystem};
use self::lines::{Document, FormatError, Line, MAX_BYTES, encode, parse};
pub use self::volume::Shortcoming;
use self::volume::Volume;
use super::{CheckpointStore, SaveError, StoreError, StoredChanges, StoredPositions, StoredTable};

/// "No locks available"; the standard library has no name for it.
const ENOLCK: i32 = 37;

/// As many symbolic links as Linux follows.
const MAX_LINKS: usize = 40;

/// A file of positions, locked for this process.
pub struct FileStore<F: FileSystem = Disk> {
    file: Arc<PositionsFile<F>>,
    /// Whose turn it is to write. A write holds it to its end, also when nobody waits for the write any more.
    writing: Arc<tokio::sync::Mutex<Tail>>,
    _lock: F::Lock,
}

/// The file, and what it is to contain.
struct PositionsFile<F> {
    files: Volume<F>,
    path: PathBuf,
    group: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What is on disk for certain.
    confirmed: Document,
    /// What is wanted of tables and is not on disk, each with the number of its newest save.
    wanted: BTreeMap<String, (u64, Wanted)>,
    /// The number of the newest save, and of the newest one that is on disk.
    newest: u64,
    written: u64,
}

/// What is to be stored of a table.
#[derive(Debug)]
enum Wanted {
    /// Everything, streams' starts included.
    Whole(StoredTable),
    Changes(StoredChanges),
}

/// What is known of the file's end.
#[derive(Debug, Clone, Copy)]
struct Tail {
    /// How long the file is, in bytes, all of it on disk under its name.
    length: Option<usize>,
    /// From which length on it may be worth replacing it.
    limit: usize,
}

impl Tail {
    /// After anything went wrong, and of a file that an earlier process has left: it may have died between a write and its sync.
    const UNKNOWN: Self = Self { length: None, limit: 0 };
}

/// Why a file of positions cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is not there.
    #[error("the folder of {0} does not exist: create it, or mount a volume there")]
    NoFolder(PathBuf),
    /// Another process uses the file.
    #[error("{0} is in use by another process: stop that process, or use a different file")]
    InUse(PathBuf),
    /// Nothing would keep two processes apart.
    #[error(
        "the file system of {path} has no file locks: {source}; without them two adapters could write the file at the same time: use a volume with locks, such as a block volume, or mount this one with them (NFS: a server with a lock manager; Lustre: -o flock)"
    )]
    NoLocks { path: PathBuf, source: io::Error },
    /// The file or its lock cannot be opened.
    #[error(
        "{path} cannot be used: {source}; the adapter needs to read and write the file and to create files in its folder"
    )]
    Io { path: PathBuf, source: io::Error },
    /// The file is not one of ours, or it is damaged. It was not touched, and trying again changes nothing.
    #[error(
        "{path} is not a usable file of positions and was not changed: {source}; restore it from a backup, or move it away to start again at START_POSITION"
    )]
    Foreign {
        path: PathBuf,
        /// What is wrong with it.
        source: FormatError,
    },
}

impl OpenError {
    /// Whether another try may work, without anybody doing something about the file itself.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Foreign { .. } => false,
            // `ENOLCK`, unlike the others, is also what a server says whose lock manager does not answer.
            Self::NoLocks { source, .. } => source.raw_os_error() == Some(ENOLCK),
            Self::NoFolder(_) | Self::InUse(_) | Self::Io { .. } => true,
        }
    }
}

impl FileStore {
    /// Locks and reads a file; one that does not exist begins empty.
    ///
    /// # Errors
    /// When the file cannot be used: see [`OpenError`].
    pub fn open(path: &Path, group: &str) -> Result<Self, OpenError> {
        Self::open_on(Disk, path, group)
    }

    /// What a file holds, also while a process uses it; of a save that is under way nothing.
    ///
    /// # Errors
    /// When the file cannot be read, or is not there.
    pub fn look(path: &Path) -> Result<StoredPositions, OpenError> {
        let text = Disk.read(path).map_err(|error| unreadable(path, error))?;
        let document = parse(&text).map_err(|source| OpenError::Foreign { path: path.to_owned(), source })?;
        Ok(document.all())
    }

    /// Replaces all that is stored of a table, streams' starts included: for people who edit what is stored.
    ///
    /// # Errors
    /// As [`CheckpointStore::save`].
    pub async fn overwrite(&self, table: &str, snapshot: StoredTable) -> Result<(), SaveError> {
        self.put(table, Wanted::Whole(snapshot)).await
    }
}

impl<F: FileSystem> FileStore<F> {
    /// The same on another file system.
    ///
    /// # Errors
    /// When the file cannot be used: see [`OpenError`].
    pub fn open_on(files: F, path: &Path, group: &str) -> Result<Self, OpenError> {
        let path = resolved(&files, path)?;
        let lock = lock(&files, &path)?;
        let confirmed = read(&files, &path)?;
        remove_temporary(&files, &path).map_err(|source| OpenError::Io { path: temporary_path(&path), source })?;
        let state = Mutex::new(State { confirmed, wanted: BTreeMap::new(), newest: 0, written: 0 });
        let files = Volume::new(files, path.clone());
        let file = Arc::new(PositionsFile { files, path, group: group.to_owned(), state });
        Ok(Self { file, writing: Arc::new(tokio::sync::Mutex::new(Tail::UNKNOWN)), _lock: lock })
    }

    /// What the volume was found to lack so far; a save finds out.
    pub fn shortcomings(&self) -> Vec<Shortcoming> {
        self.file.files.shortcomings()
    }

    async fn put(&self, table: &str, wanted: Wanted) -> Result<(), SaveError> {
        let number = self.file.state().want(table, wanted);
        let (mut tail, file) = (self.writing.clone().lock_owned().await, self.file.clone());
        // It holds its turn to its end, not to that of the future that started it: two writes must never meet in one file.
        let mut write = move || file.write_if_behind(number, &mut tail);
        match F::BLOCKS {
            true => tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| {
                Err(SaveError::Unknown(StoreError(format!("writing positions was interrupted: {error}"))))
            }),
            false => write(),
        }
    }
}

impl State {
    /// Notes what is wanted of a table, which includes what was wanted before, and returns the number of this save.
    fn want(&mut self, table: &str, wanted: Wanted) -> u64 {
        self.newest += 1;
        self.wanted.insert(table.to_owned(), (self.newest, wanted));
        self.newest
    }

    /// What the file must be told.
    fn changed(&self, group: &str) -> Vec<Line> {
        let (mut lines, mut next_number) = (Vec::new(), self.confirmed.next_number());
        for (table, (_, wanted)) in &self.wanted {
            lines.extend(match wanted {
                Wanted::Whole(stored) => self.confirmed.replacing(group, table, stored, &mut next_number),
                Wanted::Changes(changes) => self.confirmed.changing(group, table, changes, &mut next_number),
            });
        }
        lines
    }
}

impl<F: FileSystem> PositionsFile<F> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is wanted, unless another table's write has taken this save along.
    fn write_if_behind(&self, number: u64, tail: &mut Tail) -> Result<(), SaveError> {
        let (changed, newest) = {
            let state = self.state();
            if state.written >= number {
                return Ok(());
            }
            (state.changed(&self.group), state.newest)
        };
        // Should this fail, nobody knows how the file ends.
        let known = std::mem::replace(tail, Tail::UNKNOWN);
        *tail = self.write(&changed, known)?;
        let mut state = self.state();
        state.confirmed.apply_all(&changed);
        state.written = newest;
        state.wanted.retain(|_, (number, _)| *number > newest);
        Ok(())
    }

    /// Brings what has changed to the disk; how the file ends then.
    fn write(&self, changed: &[Line], tail: Tail) -> Result<Tail, SaveError> {
        let Some(length) = tail.length else { return self.replace(&self.whole_with(changed)) };
        if changed.is_empty() {
            return Ok(tail);
        }
        let save = encode(changed);
        if length + save.len() <= tail.limit {
            return self.append(&save, length, tail.limit);
        }
        let whole = self.whole_with(changed);
        if length + save.len() <= limit::<F>(whole.len()) {
            return self.append(&save, length, limit::<F>(whole.len()));
        }
        match self.replace(&whole) {
            // A second copy may be what there is no room for.
            Err(SaveError::NotStored(_)) => self.append(&save, length, tail.limit),
            replaced => replaced,
        }
    }

    /// The whole file with these changes in it.
    fn whole_with(&self, changed: &[Line]) -> Vec<u8> {
        let mut document = self.state().confirmed.clone();
        document.apply_all(changed);
        document.to_text()
    }

    fn replace(&self, whole: &[u8]) -> Result<Tail, SaveError> {
        if whole.len() > MAX_BYTES {
            let what = FormatError::TooLarge(whole.len() as u64);
            return Err(SaveError::NotStored(StoreError(format!("{} is not written: {what}", self.path.display()))));
        }
        let replaced = replace(&self.files, &self.path, whole);
        replaced.map_err(|failure| self.refusal(&failure.error, failure.is_known))?;
        Ok(Tail { length: Some(whole.len()), limit: limit::<F>(whole.len()) })
    }

    fn append(&self, save: &[u8], length: usize, limit: usize) -> Result<Tail, SaveError> {
        let opened = self.files.open_at(&self.path, length);
        let mut file = opened.map_err(|error| self.refusal(&error, true))?;
        // Half of it does not count as a save.
        self.files.write(&mut file, save).map_err(|error| self.refusal(&error, true))?;
        self.files.sync(&mut file).map_err(|error| self.refusal(&error, false))?;
        Ok(Tail { length: Some(length + save.len()), limit })
    }

    /// What went wrong; `is_known`: nothing is stored for certain.
    fn refusal(&self, error: &io::Error, is_known: bool) -> SaveError {
        let error = StoreError(refusal(&self.path, error));
        if is_known { SaveError::NotStored(error) } else { SaveError::Unknown(error) }
    }
}

/// How long a file may get that holds this much.
fn limit<F: FileSystem>(whole: usize) -> usize {
    F::SMALL.max(2 * whole).min(MAX_BYTES)
}

/// Whether an ARN is that of a table of this name, in this region if one is given. What is stored of a single stream is not the table's.
fn is_arn_of(arn: &str, name: &str, region: Option<&str>) -> bool {
    let mut parts = arn.splitn(6, ':').skip(3);
    let (found, resource) = (parts.next(), parts.nth(1));
    resource.and_then(|resource| resource.strip_prefix("table/")) == Some(name) && (region.is_none() || region == found)
}

impl<F: FileSystem> CheckpointStore for FileStore<F> {
    fn load<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<Option<StoredTable>, StoreError>> {
        let stored = self.file.state().confirmed.get(&self.file.group, table);
        futures_util::future::ready(Ok(stored)).boxed()
    }

    fn load_by_name(&self, name: &str, region: Option<&str>) -> Option<StoredTable> {
        let state = self.file.state();
        let mut named = state.confirmed.tables(&self.file.group).filter(|arn| is_arn_of(arn, name, region));
        let only = named.next().filter(|_| named.next().is_none())?;
        state.confirmed.get(&self.file.group, only)
    }

    fn save<'a>(&'a self, table: &'a str, changes: StoredChanges) -> BoxFuture<'a, Result<(), SaveError>> {
        self.put(table, Wanted::Changes(changes)).boxed()
    }
}

impl<F: FileSystem> std::fmt::Debug for FileStore<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileStore")
            .field("path", &self.file.path)
            .field("group", &self.file.group)
            .finish_non_exhaustive()
    }
}

/// What to do about a full volume; `check` tells by it that this one is full.
pub(crate) const MAKE_ROOM: &str = "; make room on the volume";

/// What went wrong, and what to do where that is known.
fn refusal(path: &Path, error: &io::Error) -> String {
    let advice = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => MAKE_ROOM,
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
            "; the process needs to write to its folder: mount it writable, with fsGroup for a user that is not root"
        }
        ErrorKind::ResourceBusy | ErrorKind::CrossesDevices => "; mount its folder, not the file alone",
        ErrorKind::NotFound => "; its folder no longer exists: create it again",
        _ => "",
    };
    format!("{} cannot be written: {error}{advice}", path.display())
}

/// The file itself where the path is a symbolic link: replacing the link would leave the file behind it as it was. It
/// need not be there yet.
fn resolved<F: FileSystem>(files: &F, path: &Path) -> Result<PathBuf, OpenError> {
    let mut file = path.to_owned();
    for _ in 0..MAX_LINKS {
        match files.read_link(&file) {
            Ok(target) => file = file.parent().unwrap_or(Path::new("")).join(target),
            // It is no link; whatever else is wrong with it shows when it is opened.
            Err(_) => return Ok(file),
        }
    }
    Err(OpenError::Io { path: path.to_owned(), source: io::Error::other("too many levels of symbolic links") })
}

/// Where the lock of a file of positions lies: beside it.
pub(crate) fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

fn lock<F: FileSystem>(files: &F, path: &Path) -> Result<F::Lock, OpenError> {
    let name = lock_path(path);
    files.lock(&name).map_err(|error| match error {
        TryLockError::WouldBlock => OpenError::InUse(path.to_owned()),
        TryLockError::Error(source) if source.kind() == ErrorKind::NotFound => OpenError::NoFolder(path.to_owned()),
        TryLockError::Error(source) if lacks_locks(&source) => OpenError::NoLocks { path: path.to_owned(), source },
        TryLockError::Error(source) => OpenError::Io { path: name, source },
    })
}

/// Whether this error of a lock says that there are none.
pub(crate) fn lacks_locks(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput) || error.raw_os_error() == Some(ENOLCK)
}

fn read<F: FileSystem>(files: &F, path: &Path) -> Result<Document, OpenError> {
    match files.read(path) {
        Ok(text) => parse(&text).map_err(|source| OpenError::Foreign { path: path.to_owned(), source }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Document::default()),
        Err(error) => Err(unreadable(path, error)),
    }
}

/// Why it cannot be read; what is no file of positions never will be.
fn unreadable(path: &Path, error: io::Error) -> OpenError {
    let path = path.to_owned();
    match error.downcast::<FormatError>() {
        Ok(source) => OpenError::Foreign { path, source },
        Err(source) => OpenError::Io { path, source },
    }
}

/// What is a file of positions says the same when it is written and read again.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_file(text: &[u8]) {
    match parse(text) {
        Ok(document) => {
            let again = parse(&document.to_text()).unwrap_or_else(|error| panic!("written and not read: {error}"));
            assert_eq!(again.all(), document.all());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

#[cfg(test)]
mod tests;
