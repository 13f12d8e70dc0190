//! Replaces a file so that a crash leaves the old content or the new one, never a mixture and never nothing.
//!
//! Contract: success means that the new content survives a loss of power. A failure leaves the old content, or, where only
//! the folder could not be synced, either of the two; it leaves no temporary file, and the next try may work.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The steps, each about one system call; a trait, so that tests can stop between any two.
pub(super) trait Steps {
    /// A file that is being written.
    type File;

    /// Creates a file that is not there yet, for its owner alone.
    fn create(&mut self, path: &Path) -> io::Result<Self::File>;
    /// Fills it.
    fn write(&mut self, file: &mut Self::File, content: &[u8]) -> io::Result<()>;
    /// Brings its content to the disk.
    fn sync(&mut self, file: Self::File) -> io::Result<()>;
    /// Puts one file in another's place.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Brings a folder's list of files to the disk.
    fn sync_folder(&mut self, folder: &Path) -> io::Result<()>;
    /// Removes a file, if it is there.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
}

/// Replaces a file's content.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_by(&mut Disk, path, content)
}

pub(super) fn replace_by<S: Steps>(steps: &mut S, path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = beside(path);
    // A file that a crash left there, or a link that somebody put there, must not be written to.
    steps.remove(&temporary)?;
    let renamed = fill(steps, &temporary, content).and_then(|()| steps.rename(&temporary, path));
    if let Err(error) = renamed {
        // It takes space on a disk that may be full. Should it stay, the next write removes it.
        let _ = steps.remove(&temporary);
        return Err(error);
    }
    steps.sync_folder(folder_of(path))
}

/// Removes what a crash in the middle of a write left behind.
pub(super) fn tidy(path: &Path) -> io::Result<()> {
    Disk.remove(&beside(path))
}

fn fill<S: Steps>(steps: &mut S, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = steps.create(path)?;
    steps.write(&mut file, content)?;
    // Renamed before its content is on the disk, a file can be empty after a loss of power.
    steps.sync(file)
}

/// Only the holder of the lock writes, and one write at a time, so one name is enough.
pub(super) fn beside(path: &Path) -> PathBuf {
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

/// The real one.
pub(super) struct Disk;

impl Steps for Disk {
    type File = File;

    fn create(&mut self, path: &Path) -> io::Result<File> {
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)
    }

    fn write(&mut self, file: &mut File, content: &[u8]) -> io::Result<()> {
        file.write_all(content)
    }

    fn sync(&mut self, file: File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
