//! Positions in a file: one for all tables and consumer groups, readable by people.
//!
//! It is replaced as a whole: a temporary file beside it is written and synced, renamed over it, and the folder is synced.
//! So a crash at any moment leaves the old content or the new one. A lock beside it (`<path>.lock`) keeps other processes
//! away; the kernel lets go of it when the process ends, however it ends. A path that is a symbolic link stays one: the
//! file behind it is replaced, and the files beside it are beside that one.
//!
//! Writes come one after the other. Saves that arrive while one is under way share the next one.

mod durable;
mod file_system;
mod format;

use std::fs::TryLockError;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use self::durable::{beside, replace, tidy};
pub use self::file_system::{Disk, FileSystem};
use self::format::{Document, FormatError};
use super::{CheckpointStore, StoreError};
use crate::checkpoint::TableState;

/// As many symbolic links as Linux follows.
const MAX_LINKS: usize = 40;

/// A file of positions, locked for this process.
pub struct FileStore<F: FileSystem = Disk> {
    file: Arc<PositionsFile<F>>,
    group: String,
    /// Whose turn it is to write. A write holds it to its end, also when nobody waits for the write any more.
    writing: Arc<tokio::sync::Mutex<()>>,
    _lock: F::Lock,
}

/// The file, and what it is to contain.
struct PositionsFile<F> {
    files: F,
    path: PathBuf,
    state: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    document: Document,
    /// Grows with every change of the document; `written` is the last one that is on disk.
    change: u64,
    written: u64,
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
    /// The file or its lock cannot be opened.
    #[error(
        "{path} cannot be used: {source}; the adapter needs to read and write the file and to create files in its folder"
    )]
    Io { path: PathBuf, source: io::Error },
    /// The file is not one of ours, or it is damaged. It was not touched.
    #[error(
        "{path} is not a usable file of positions and was not changed: {source}; restore it from a backup, or move it away to start again at START_POSITION"
    )]
    Foreign {
        path: PathBuf,
        /// What is wrong with it.
        source: FormatError,
    },
}

impl FileStore {
    /// Locks and reads a file; one that does not exist begins empty.
    ///
    /// # Errors
    /// When the file cannot be used: see [`OpenError`].
    pub fn open(path: &Path, group: &str) -> Result<Self, OpenError> {
        Self::open_on(Disk, path, group)
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
        let document = read(&files, &path)?;
        tidy(&files, &path).map_err(|source| OpenError::Io { path: beside(&path), source })?;
        let state = Mutex::new(Kept { document, change: 0, written: 0 });
        let (file, group) = (Arc::new(PositionsFile { files, path, state }), group.to_owned());
        Ok(Self { file, group, writing: Arc::default(), _lock: lock })
    }

    async fn put(&self, table: &str, state: TableState) -> Result<(), StoreError> {
        let change = {
            let mut kept = self.file.kept();
            kept.document.put(&self.group, table, &state);
            kept.change += 1;
            kept.change
        };
        let (turn, file) = (self.writing.clone().lock_owned().await, self.file.clone());
        let write = move || {
            // It ends with the write, not with the future that started it: two writes must never meet in one file.
            let _turn = turn;
            // Another table's write may have taken this change along.
            file.write_if_behind(change)
        };
        let written = match F::BLOCKS {
            true => tokio::task::spawn_blocking(write).await,
            false => Ok(write()),
        };
        written
            .map_err(|error| StoreError(format!("writing positions was interrupted: {error}")))?
            .map_err(|error| StoreError(refusal(&self.file.path, &error)))
    }
}

impl<F: FileSystem> PositionsFile<F> {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_if_behind(&self, change: u64) -> io::Result<()> {
        let (text, newest) = {
            let kept = self.kept();
            if kept.written >= change {
                return Ok(());
            }
            (kept.document.to_text(), kept.change)
        };
        replace(&self.files, &self.path, text.as_bytes())?;
        self.kept().written = newest;
        Ok(())
    }
}

impl<F: FileSystem> CheckpointStore for FileStore<F> {
    fn load<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<Option<TableState>, StoreError>> {
        let state = self.file.kept().document.get(&self.group, table).map_err(|error| StoreError(error.to_string()));
        futures_util::future::ready(state).boxed()
    }

    fn save<'a>(&'a self, table: &'a str, state: TableState) -> BoxFuture<'a, Result<(), StoreError>> {
        self.put(table, state).boxed()
    }
}

impl<F: FileSystem> std::fmt::Debug for FileStore<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileStore").field("path", &self.file.path).field("group", &self.group).finish_non_exhaustive()
    }
}

/// What went wrong, and what to do where that is known.
fn refusal(path: &Path, error: &io::Error) -> String {
    let advice = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; make room on the volume",
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
        TryLockError::Error(source) => OpenError::Io { path: name, source },
    })
}

fn read<F: FileSystem>(files: &F, path: &Path) -> Result<Document, OpenError> {
    match files.read(path) {
        Ok(text) => Document::parse(&text).map_err(|source| OpenError::Foreign { path: path.to_owned(), source }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Document::empty()),
        Err(source) => Err(OpenError::Io { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests;
