//! The file system under the file of positions: the real one, and the trait by which others take its place.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file system as the store uses it, each method about one system call: so tests and the simulation can stop between any two.
///
/// What a method leaves undone when it fails is what the system call leaves: a write may be torn, everything else happens or does
/// not. Nothing is safe from a loss of power before [`sync`](Self::sync), no name before [`sync_folder`](Self::sync_folder).
pub trait FileSystem: Send + Sync + 'static {
    /// A file that is being written; dropping it closes it.
    type File: Send;
    /// A lock that is held; dropping it frees it.
    type Lock: Send + Sync + 'static;

    /// Whether a call may block: calls are then made on a thread of their own. A simulation's do not, and a thread would let its
    /// virtual time run ahead.
    const BLOCKS: bool;

    /// A file of this size, in bytes, is not worth being replaced by a shorter one.
    const SMALL: usize = 256 * 1024;

    /// A file's whole content.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Where a symbolic link leads; an error if it is none.
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;

    /// Locks a file against other processes, without waiting for it; creates it where it is not there.
    fn lock(&self, path: &Path) -> Result<Self::Lock, TryLockError>;

    /// Creates a file that is not there yet, for its owner alone.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file that is there, and so many bytes long, to add to it.
    fn open_at(&self, path: &Path, length: usize) -> io::Result<Self::File>;

    /// Closes an open file to others than its owner, where that has a meaning.
    fn restrict(&self, _file: &mut Self::File) -> io::Result<()> {
        Ok(())
    }

    /// Adds to its content.
    fn write(&self, file: &mut Self::File, content: &[u8]) -> io::Result<()>;

    /// Brings its content to the disk.
    fn sync(&self, file: &mut Self::File) -> io::Result<()>;

    /// Puts one file in another's place.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Brings a folder's list of files to the disk.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Removes a file, if it is there.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The real one.
#[derive(Debug, Clone, Copy)]
pub struct Disk;

impl FileSystem for Disk {
    type File = File;
    type Lock = File;

    const BLOCKS: bool = true;

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        fs::read_link(path)
    }

    fn lock(&self, path: &Path) -> Result<File, TryLockError> {
        let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
        let file = opened.map_err(TryLockError::Error)?;
        file.try_lock()?;
        Ok(file)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)
    }

    fn open_at(&self, path: &Path, length: usize) -> io::Result<File> {
        let file = OpenOptions::new().append(true).open(path)?;
        match file.metadata()?.len() == length as u64 {
            true => Ok(file),
            false => Err(io::Error::other("somebody else has changed it")),
        }
    }

    fn restrict(&self, file: &mut File) -> io::Result<()> {
        match file.metadata()?.permissions().mode() & 0o077 {
            0 => Ok(()),
            _ => file.set_permissions(Permissions::from_mode(0o600)),
        }
    }

    fn write(&self, file: &mut File, content: &[u8]) -> io::Result<()> {
        file.write_all(content)
    }

    fn sync(&self, file: &mut File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
