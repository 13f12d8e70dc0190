//! A file system that may lack what only adds to safety: the store does without it, and it is said once.
//!
//! Contract: a step is done without only where the file system does not know it, or does not allow it to anybody. A disk that fails
//! or is full fails here as well.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::TryLockError;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::file_system::FileSystem;
use crate::spare_files::SpareFiles;
use crate::telemetry::events;

/// `EBADF` and `EISDIR`: some file systems let nobody open a folder for syncing.
const NO_FOLDERS: [i32; 2] = [9, 21];

/// As many files and folders as a save has open at a time.
const OPEN_AT_ONCE: usize = 1;

/// What is not promised on a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortcoming {
    /// A folder cannot be synced.
    FolderSync,
    /// A file cannot be synced.
    FileSync,
    /// A file cannot be closed to others.
    Privacy,
}

impl Shortcoming {
    /// Whether an error of this step is the file system's way to say that it has no such step.
    fn is_meant_by(self, error: &io::Error) -> bool {
        let kind = error.kind();
        let is_unknown = matches!(kind, ErrorKind::InvalidInput | ErrorKind::Unsupported);
        match self {
            Self::FileSync => is_unknown,
            Self::Privacy => is_unknown || kind == ErrorKind::PermissionDenied,
            // A folder in which files may be created and which may not be listed cannot be opened.
            Self::FolderSync => {
                let cannot_be_opened = error.raw_os_error().is_some_and(|code| NO_FOLDERS.contains(&code));
                is_unknown || cannot_be_opened || kind == ErrorKind::PermissionDenied
            }
        }
    }
}

impl fmt::Display for Shortcoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FolderSync => {
                "it cannot sync a folder: after a loss of power of the machine that holds it, not after a crash of the \
                 adapter, older positions may be there, or none"
            }
            Self::FileSync => {
                "it cannot sync a file: after a loss of power of the machine that holds it, not after a crash of the \
                 adapter, older positions may be there, or a damaged file"
            }
            Self::Privacy => {
                "it cannot close the file to other users, who can read table names, shard ids and hashes of keys: mount \
                 it with file_mode=0600 and the user of the adapter"
            }
        })
    }
}

/// The file system under one file of positions.
#[derive(Debug)]
pub(super) struct Volume<F> {
    files: F,
    /// The file of positions.
    path: PathBuf,
    shortcomings: Mutex<BTreeSet<Shortcoming>>,
    /// Positions are stored also when everything else has taken all descriptors.
    spare: SpareFiles,
}

impl<F> Volume<F> {
    pub(super) fn new(files: F, path: PathBuf) -> Self {
        Self { files, path, shortcomings: Mutex::default(), spare: SpareFiles::new(OPEN_AT_ONCE) }
    }

    /// What it was found to lack so far.
    pub(super) fn shortcomings(&self) -> Vec<Shortcoming> {
        self.found().iter().copied().collect()
    }

    fn found(&self) -> MutexGuard<'_, BTreeSet<Shortcoming>> {
        self.shortcomings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on without a step that the file system does not have.
    fn unless_lacking(&self, shortcoming: Shortcoming, step: io::Result<()>) -> io::Result<()> {
        let Err(error) = step else { return Ok(()) };
        if !shortcoming.is_meant_by(&error) {
            return Err(error);
        }
        if self.found().insert(shortcoming) {
            let (path, what) = (self.path.display().to_string(), shortcoming.to_string());
            events::VolumeLacks { path: &path, what: &what, error: &error.to_string() }.emit();
        }
        Ok(())
    }
}

impl<F: FileSystem> FileSystem for Volume<F> {
    type File = F::File;
    type Lock = F::Lock;

    const BLOCKS: bool = F::BLOCKS;
    const SMALL: usize = F::SMALL;

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.read(path)
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.files.read_link(path)
    }

    fn lock(&self, path: &Path) -> Result<F::Lock, TryLockError> {
        self.files.lock(path)
    }

    fn create(&self, path: &Path) -> io::Result<F::File> {
        let mut file = self.spare.open(|| self.files.create(path))?;
        self.restrict(&mut file)?;
        Ok(file)
    }

    fn open_at(&self, path: &Path, length: usize) -> io::Result<F::File> {
        let mut file = self.spare.open(|| self.files.open_at(path, length))?;
        self.restrict(&mut file)?;
        Ok(file)
    }

    fn restrict(&self, file: &mut F::File) -> io::Result<()> {
        self.unless_lacking(Shortcoming::Privacy, self.files.restrict(file))
    }

    fn write(&self, file: &mut F::File, content: &[u8]) -> io::Result<()> {
        self.files.write(file, content)
    }

    fn sync(&self, file: &mut F::File) -> io::Result<()> {
        self.unless_lacking(Shortcoming::FileSync, self.files.sync(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.unless_lacking(Shortcoming::FolderSync, self.spare.open(|| self.files.sync_folder(folder)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.remove(path)
    }
}
