//! Replaces a file so that a crash leaves the old content or the new one, never a mixture and never nothing.
//!
//! Contract: success means that the new content survives a loss of power. A failure leaves the old content, or, where the new
//! content was there and only its name may be missing, either of the two; it leaves no temporary file, and the next try may work.

use std::io;
use std::path::{Path, PathBuf};

use super::file_system::FileSystem;

/// A file could not be replaced.
#[derive(Debug)]
pub(super) struct ReplaceError {
    pub(super) error: io::Error,
    /// The old content is there for certain.
    pub(super) is_known: bool,
}

/// Replaces a file's content.
pub(super) fn replace<F: FileSystem>(files: &F, path: &Path, content: &[u8]) -> Result<(), ReplaceError> {
    let temporary = temporary_path(path);
    let failed = |is_known| move |error| ReplaceError { error, is_known };
    // A file that a crash left there, or a link that somebody put there, must not be written to.
    files.remove(&temporary).map_err(failed(true))?;
    let filled = fill(files, &temporary, content).map_err(failed(true));
    let renamed = filled.and_then(|()| files.rename(&temporary, path).map_err(failed(false)));
    if renamed.is_err() {
        // It takes space on a disk that may be full. Should it stay, the next write removes it.
        let _ = files.remove(&temporary);
    }
    renamed.and_then(|()| files.sync_folder(folder_of(path)).map_err(failed(false)))
}

/// Removes what a crash in the middle of a write left behind.
pub(super) fn remove_temporary<F: FileSystem>(files: &F, path: &Path) -> io::Result<()> {
    files.remove(&temporary_path(path))
}

fn fill<F: FileSystem>(files: &F, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = files.create(path)?;
    files.write(&mut file, content)?;
    // Renamed before its content is on the disk, a file can be empty after a loss of power.
    files.sync(&mut file)
}

/// Only the holder of the lock writes, and one write at a time, so one name is enough.
pub(super) fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests;
