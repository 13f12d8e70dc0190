//! Positions in a file: one for all tables and consumer groups, readable by people.
//!
//! It is replaced as a whole: a temporary file beside it is written and synced, renamed over it, and the folder is synced.
//! So a crash at any moment leaves the old content or the new one. A lock beside it (`<path>.lock`) keeps other processes
//! away; the kernel lets go of it when the process ends, however it ends.

mod durable;
mod format;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};

use self::durable::replace;
use self::format::{Document, FormatError};
use super::{CheckpointStore, StoreError};
use crate::streams::resume::TableState;

/// A file of positions, locked for this process.
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    group: String,
    state: Arc<Mutex<Kept>>,
    /// Writes come one after the other; each writes the newest state of all tables.
    writing: tokio::sync::Mutex<()>,
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
    #[error("{0} is in use by another process: give each adapter a file of its own, or stop the other one")]
    InUse(PathBuf),
    /// The file or its lock cannot be opened.
    #[error("{path} cannot be used: {source}; the adapter needs to read and write it and to create files beside it")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not one of ours, or it is damaged. It was not touched.
    #[error(
        "{path} was left as it is: {source}; restore it from a copy, or move it away to begin anew at START_POSITION"
    )]
    Foreign {
        /// Which file.
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
        let state = Arc::new(Mutex::new(Kept { document, change: 0, written: 0 }));
        let (group, writing) = (group.to_owned(), tokio::sync::Mutex::new(()));
        Ok(Self { path, group, state, writing, _lock: lock })
    }

    async fn put(&self, table: &str, state: TableState) -> Result<(), StoreError> {
        let change = {
            let mut kept = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            kept.document.put(&self.group, table, &state);
            kept.change += 1;
            kept.change
        };
        let _turn = self.writing.lock().await;
        // Another table's write may have taken this change along.
        let (path, state) = (self.path.clone(), self.state.clone());
        let written = tokio::task::spawn_blocking(move || write_if_behind(&path, &state, change));
        written
            .map_err(|error| StoreError(format!("writing positions was interrupted: {error}")))
            .await?
            .map_err(|error| StoreError(format!("{} cannot be written: {error}", self.path.display())))
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

fn write_if_behind(path: &Path, state: &Mutex<Kept>, change: u64) -> io::Result<()> {
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

/// The file itself where the path is a symbolic link: replacing the link would leave the file behind it as it was.
fn resolved(path: &Path) -> Result<PathBuf, OpenError> {
    if path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) {
        return path.canonicalize().map_err(|source| OpenError::Io { path: path.to_owned(), source });
    }
    Ok(path.to_owned())
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(&name).map_err(|source| {
            match source.kind() {
                ErrorKind::NotFound => OpenError::NoFolder(path.to_owned()),
                _ => OpenError::Io { path: name.clone(), source },
            }
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
