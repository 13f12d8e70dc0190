//! The file system under the file of positions: the real one, and the trait by which others take its place.

use std::fs::{self, File, FileType, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::lines::{FormatError, MAX_BYTES};

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

    /// A file's whole content. Where it is no file, or too large, that is a `FormatError` within the error.
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
        let file = open_file(OpenOptions::new().read(true), path)?;
        let too_large = |length| Err(io::Error::other(FormatError::TooLarge(length)));
        let (length, limit) = (file.metadata()?.len(), MAX_BYTES as u64);
        if length > limit {
            return too_large(length);
        }
        let mut content = Vec::new();
        // It may grow meanwhile.
        match file.take(limit + 1).read_to_end(&mut content)? as u64 {
            length if length > limit => too_large(length),
            _ => Ok(content),
        }
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        fs::read_link(path)
    }

    fn lock(&self, path: &Path) -> Result<File, TryLockError> {
        let options = &mut OpenOptions::new();
        let file = open_file(options.create(true).truncate(false).write(true).mode(0o600), path);
        let file = file.map_err(TryLockError::Error)?;
        file.try_lock()?;
        Ok(file)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)
    }

    fn open_at(&self, path: &Path, length: usize) -> io::Result<File> {
        let file = open_file(OpenOptions::new().append(true), path)?;
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

/// Opens a file and nothing else: a pipe would be waited for, and a device may have no end.
fn open_file(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    match kind(file.metadata()?.file_type()) {
        None => Ok(file),
        Some(other) => Err(io::Error::other(FormatError::NotAFile(other))),
    }
}

/// What it is, if it is no file.
fn kind(found: FileType) -> Option<&'static str> {
    match found {
        it if it.is_file() => None,
        it if it.is_dir() => Some("a folder"),
        it if it.is_fifo() => Some("a pipe"),
        it if it.is_char_device() || it.is_block_device() => Some("a device"),
        _ => Some("a socket"),
    }
}
