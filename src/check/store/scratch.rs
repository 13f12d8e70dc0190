//! A folder beside the positions, on the same volume, for the time of one check.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use crate::clock;

/// How the names of the folders begin that checks work in.
const SCRATCH: &str = ".dynamodb-streams-adapter-check-";

/// No check takes so long: what is older was left by one that was killed.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder for the time of the check. It is removed with all that is in it.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// A new one in `folder`.
    pub(super) fn beside(folder: &Path) -> io::Result<Self> {
        Self::tidy(folder);
        // By chance, not by process: every container has a process 1.
        let path = folder.join(format!("{SCRATCH}{:016x}", fastrand::u64(..)));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// A path in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Removes what checks that were killed have left.
    fn tidy(folder: &Path) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(SCRATCH)) {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            if modified.is_ok_and(|time| clock::now().duration_since(time).is_ok_and(|age| age > ABANDONED)) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_check_left_is_removed_and_what_is_at_work_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(format!("{SCRATCH}{name}"));
        for name in ["old", "new"] {
            fs::create_dir(at(name)).expect("a folder");
            fs::write(at(name).join("positions.json"), "{}").expect("a file");
        }
        let long_ago = std::time::SystemTime::now() - 2 * ABANDONED;
        fs::File::open(at("old")).and_then(|file| file.set_modified(long_ago)).expect("a time");
        drop(Scratch::beside(folder.path()).expect("a folder"));
        let left: Vec<_> = fs::read_dir(folder.path()).expect("a list").flatten().map(|entry| entry.path()).collect();
        assert_eq!(left, [at("new")]);
    }
}
