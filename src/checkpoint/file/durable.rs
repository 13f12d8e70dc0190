//! Replaces a file so that a crash leaves the old content or the new one, never a mixture and never nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The steps; a trait, so that tests can stop between any two.
pub(super) trait Steps {
    /// Creates a file with this content and brings it to the disk.
    fn write_synced(&mut self, path: &Path, content: &[u8]) -> io::Result<()>;
    /// Puts one file in another's place.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Brings a folder's list of files to the disk.
    fn sync_folder(&mut self, folder: &Path) -> io::Result<()>;
    /// Removes a file, if it is there.
    fn remove(&mut self, path: &Path);
}

/// Replaces a file's content.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_by(&mut Disk, path, content)
}

pub(super) fn replace_by(steps: &mut impl Steps, path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = beside(path);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let written = steps.write_synced(&temporary, content).and_then(|()| steps.rename(&temporary, path));
    if written.is_err() {
        steps.remove(&temporary);
    }
    written?;
    steps.sync_folder(folder)
}

/// Only the holder of the lock writes, so one name is enough; what a crash left there is overwritten.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

struct Disk;

impl Steps for Disk {
    fn write_synced(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn remove(&mut self, path: &Path) {
        // A leftover does no harm: the next write replaces it.
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A disk that loses what was not synced, and stops before a chosen step.
    #[derive(Default)]
    struct Fragile {
        durable: BTreeMap<PathBuf, Vec<u8>>,
        renamed: Option<(PathBuf, PathBuf)>,
        steps_left: usize,
    }

    impl Fragile {
        fn step(&mut self) -> io::Result<()> {
            self.steps_left = self.steps_left.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
            Ok(())
        }
    }

    impl Steps for Fragile {
        fn write_synced(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
            self.step()?;
            self.durable.insert(path.to_owned(), content.to_vec());
            Ok(())
        }

        fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
            self.step()?;
            assert!(self.durable.contains_key(from), "renamed before it was on the disk");
            self.renamed = Some((from.to_owned(), to.to_owned()));
            Ok(())
        }

        fn sync_folder(&mut self, _folder: &Path) -> io::Result<()> {
            self.step()?;
            if let Some((from, to)) = self.renamed.take() {
                let content = self.durable.remove(&from).expect("checked at the renaming");
                self.durable.insert(to, content);
            }
            Ok(())
        }

        fn remove(&mut self, path: &Path) {
            self.durable.remove(path);
        }
    }

    #[test]
    fn a_crash_between_any_two_steps_leaves_old_or_new_content_whole() {
        let path = PathBuf::from("/data/positions.json");
        for steps_left in 0..4 {
            let mut disk = Fragile { steps_left, ..Fragile::default() };
            disk.durable.insert(path.clone(), b"old".to_vec());
            let written = replace_by(&mut disk, &path, b"new");
            let content = &disk.durable[&path];
            assert!(content == b"old" || content == b"new");
            assert_eq!(written.is_ok(), steps_left == 3, "success was told before everything was on the disk");
            assert_eq!(content == b"new", written.is_ok());
        }
    }
}
