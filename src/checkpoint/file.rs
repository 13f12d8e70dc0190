//! Positions in a file: one for all tables and consumer groups, readable by people.
//!
//! It is replaced as a whole: a temporary file beside it is written and synced, renamed over it, and the folder is synced.
//! So a crash at any moment leaves the old content or the new one. A lock beside it (`<path>.lock`) keeps other processes
//! away; the kernel lets go of it when the process ends, however it ends. A path that is a symbolic link stays one: the
//! file behind it is replaced, and the files beside it are beside that one.
//!
//! Writes come one after the other. Saves that arrive while one is under way share the next one.

mod durable;
mod format;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};

use self::durable::{beside, replace, tidy};
use self::format::{Document, FormatError};
use super::{CheckpointStore, StoreError};
use crate::checkpoint::TableState;

/// As many symbolic links as Linux follows.
const MAX_LINKS: usize = 40;

/// Replaces a file's content; a field, so that tests can make it slow or fail.
type Replace = dyn Fn(&Path, &[u8]) -> io::Result<()> + Send + Sync;

/// A file of positions, locked for this process.
pub struct FileStore {
    path: PathBuf,
    group: String,
    state: Arc<Mutex<Kept>>,
    /// Whose turn it is to write. A write holds it to its end, also when nobody waits for the write any more.
    writing: Arc<tokio::sync::Mutex<()>>,
    replace: Arc<Replace>,
    _lock: File,
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
        let path = resolved(path)?;
        let lock = lock(&path)?;
        let document = read(&path)?;
        tidy(&path).map_err(|source| OpenError::Io { path: beside(&path), source })?;
        let state = Arc::new(Mutex::new(Kept { document, change: 0, written: 0 }));
        let (group, writing) = (group.to_owned(), Arc::default());
        Ok(Self { path, group, state, writing, replace: Arc::new(replace), _lock: lock })
    }

    async fn put(&self, table: &str, state: TableState) -> Result<(), StoreError> {
        let change = {
            let mut kept = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            kept.document.put(&self.group, table, &state);
            kept.change += 1;
            kept.change
        };
        let turn = self.writing.clone().lock_owned().await;
        let (path, state, replace) = (self.path.clone(), self.state.clone(), self.replace.clone());
        let written = tokio::task::spawn_blocking(move || {
            // It ends with the write, not with the future that started it: two writes must never meet in one file.
            let _turn = turn;
            // Another table's write may have taken this change along.
            write_if_behind(&path, &state, change, &*replace)
        });
        written
            .map_err(|error| StoreError(format!("writing positions was interrupted: {error}")))
            .await?
            .map_err(|error| StoreError(refusal(&self.path, &error)))
    }
}

impl CheckpointStore for FileStore {
    fn load<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<Option<TableState>, StoreError>> {
        let kept = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = kept.document.get(&self.group, table).map_err(|error| StoreError(error.to_string()));
        futures_util::future::ready(state).boxed()
    }

    fn save<'a>(&'a self, table: &'a str, state: TableState) -> BoxFuture<'a, Result<(), StoreError>> {
        self.put(table, state).boxed()
    }
}

impl std::fmt::Debug for FileStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileStore").field("path", &self.path).field("group", &self.group).finish_non_exhaustive()
    }
}

fn write_if_behind(path: &Path, state: &Mutex<Kept>, change: u64, replace: &Replace) -> io::Result<()> {
    let (text, newest) = {
        let kept = state.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.written >= change {
            return Ok(());
        }
        (kept.document.to_text(), kept.change)
    };
    replace(path, text.as_bytes())?;
    state.lock().unwrap_or_else(PoisonError::into_inner).written = newest;
    Ok(())
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
fn resolved(path: &Path) -> Result<PathBuf, OpenError> {
    let mut file = path.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::read_link(&file) {
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

fn lock(path: &Path) -> Result<File, OpenError> {
    let name = lock_path(path);
    let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&name);
    let file = opened.map_err(|source| match source.kind() {
        ErrorKind::NotFound => OpenError::NoFolder(path.to_owned()),
        _ => OpenError::Io { path: name.clone(), source },
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path: name, source }),
    }
}

fn read(path: &Path) -> Result<Document, OpenError> {
    match std::fs::read(path) {
        Ok(text) => Document::parse(&text).map_err(|source| OpenError::Foreign { path: path.to_owned(), source }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Document::empty()),
        Err(source) => Err(OpenError::Io { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests;
