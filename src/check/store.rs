//! Whether positions can be kept, without a trace and without disturbing who keeps them already.
//!
//! The store itself is tried on a copy, in a folder of its own beside the positions that is removed again. Of the real lock
//! only a shared one is asked for, for an instant: a running adapter does not notice.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use super::positions_table;
use super::report::{Check, within};
use crate::checkpoint::{
    CheckpointStore as _, FileStore, MAKE_ROOM, OpenError, Shortcoming, StoredChanges, lacks_locks, lock_path,
};
use crate::clock;
use crate::config::{CheckpointLocation, Config, POSITIONS_IN_MEMORY};

const NAME: &str = "checkpoint-store";

/// How the names of the folders begin that checks work in.
const SCRATCH: &str = ".dynamodb-streams-adapter-check-";

/// No check takes so long: what is older was left by one that was killed.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// Tries the configured store.
pub(super) async fn check(config: &Config, limit: Duration) -> Check {
    let path = match &config.source.checkpoint {
        CheckpointLocation::Memory => {
            let fix = "export CHECKPOINT_STORE=file:<path on a volume>, or dynamodb:<table>";
            return Check::warn(NAME, POSITIONS_IN_MEMORY).with_fix(fix);
        }
        CheckpointLocation::File(path) => path.clone(),
        CheckpointLocation::DynamoDb(table) => return positions_table::check(NAME, config, table, limit).await,
    };
    let group = config.source.consumer_group.clone();
    let runtime = tokio::runtime::Handle::current();
    // A volume that hangs must not hold up the others.
    let tried = tokio::task::spawn_blocking(move || runtime.block_on(File { path, group }.check()));
    match within(limit, tried).await {
        Ok(Ok(check)) => check,
        Ok(Err(error)) => Check::fail(NAME, &format!("the check was interrupted: {error}")),
        Err(late) => Check::fail(NAME, &format!("the volume gives {late}")).with_fix("check the volume and its server"),
    }
}

struct File {
    path: PathBuf,
    group: String,
}

/// Why positions cannot be kept, and the fix.
struct StoreProblem {
    what: String,
    fix: String,
}

/// What was found where positions can be kept.
struct Found {
    is_in_use: bool,
    shortcomings: Vec<Shortcoming>,
}

impl File {
    async fn check(&self) -> Check {
        match self.usable().await {
            Err(StoreProblem { what, fix }) => Check::fail(NAME, &what).with_fix(fix),
            Ok(Found { is_in_use: true, .. }) => {
                let path = self.path.display();
                let detail = format!(
                    "{path} is in use by another process, possibly the running adapter: a second process waits until that one ends"
                );
                Check::warn(NAME, &detail).with_fix(
                    "stop the other process, or use a different file; in Kubernetes: replicas: 1 and strategy: Recreate",
                )
            }
            Ok(Found { shortcomings, .. }) if shortcomings.is_empty() => {
                Check::ok(NAME, &format!("{} can be read and replaced", self.path.display()))
            }
            Ok(Found { shortcomings, .. }) => {
                let lacking: Vec<String> = shortcomings.iter().map(Shortcoming::to_string).collect();
                let (path, lacking) = (self.path.display(), lacking.join("; "));
                let detail =
                    format!("{path} can be read and replaced; its volume promises less than others: {lacking}");
                Check::warn(NAME, &detail).with_fix("use a block volume where that matters")
            }
        }
    }

    async fn usable(&self) -> Result<Found, StoreProblem> {
        let file = resolved(&self.path);
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::metadata(folder).map_err(|error| problem(folder, &error))?;
        let scratch = ScratchFolder::beside(folder).map_err(|error| problem(folder, &error))?;
        let copy = scratch.file("positions.json");
        // A pipe could not be copied to its end.
        if let Err(OpenError::Foreign { source, .. }) = FileStore::look(&file) {
            return Err(self.damaged(&source.to_string()));
        }
        match fs::copy(&file, &copy) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(problem(&file, &error)),
            _ => {}
        }
        let shortcomings = self.try_copy(&copy, folder).await?;
        Ok(Found { is_in_use: is_in_use(&file)?, shortcomings })
    }

    /// Opens, reads and writes the copy as the adapter does with the original; what the volume lacks.
    async fn try_copy(&self, copy: &Path, folder: &Path) -> Result<Vec<Shortcoming>, StoreProblem> {
        let store = FileStore::open(copy, &self.group).map_err(|error| self.unreadable(error, folder))?;
        // The first save writes the whole file anew, whatever it changes.
        store.save(NAME, StoredChanges::default()).await.map_err(|error| {
            let what = format!("the folder {} cannot be written: {error}", folder.display());
            let fix = match what.contains(MAKE_ROOM) {
                true => format!("df -h {}", quoted(folder)),
                false => "check the volume and its server".to_owned(),
            };
            StoreProblem { what, fix }
        })?;
        Ok(store.shortcomings())
    }

    fn unreadable(&self, error: OpenError, folder: &Path) -> StoreProblem {
        match error {
            OpenError::Foreign { source, .. } => self.damaged(&source.to_string()),
            OpenError::Io { source, .. } => problem(folder, &source),
            OpenError::NoLocks { source, .. } => without_locks(folder, &source),
            other => StoreProblem { what: other.to_string(), fix: format!("ls -l {}", quoted(folder)) },
        }
    }

    fn damaged(&self, why: &str) -> StoreProblem {
        let path = quoted(&self.path);
        StoreProblem {
            what: format!("{} is damaged or not a file of positions: {why}", self.path.display()),
            fix: format!("restore it from a backup, or start again at START_POSITION: mv {path} {path}.damaged"),
        }
    }
}

/// A folder for the time of the check. It is removed with all that is in it.
struct ScratchFolder(PathBuf);

impl ScratchFolder {
    /// A new one in `folder`.
    fn beside(folder: &Path) -> io::Result<Self> {
        Self::tidy(folder);
        // By chance, not by process: every container has a process 1.
        let path = folder.join(format!("{SCRATCH}{:016x}", fastrand::u64(..)));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// A path in it.
    fn file(&self, name: &str) -> PathBuf {
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

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The file itself where the path is a symbolic link, also to a file that is not there yet.
fn resolved(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| match fs::read_link(path) {
        Ok(target) => path.parent().unwrap_or(Path::new("")).join(target),
        Err(_) => path.to_owned(),
    })
}

/// Whether somebody holds the lock beside the file. A lock file that is not there is not created.
fn is_in_use(file: &Path) -> Result<bool, StoreProblem> {
    let name = lock_path(file);
    // A pipe would wait for somebody to read it.
    let without_waiting = OFlags::NONBLOCK.bits().cast_signed();
    let lock = match OpenOptions::new().write(true).custom_flags(without_waiting).open(&name) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(problem(&name, &error)),
    };
    match lock.try_lock_shared() {
        // It ends with this function.
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) if lacks_locks(&error) => Err(without_locks(&name, &error)),
        Err(TryLockError::Error(error)) => Err(problem(&name, &error)),
    }
}

fn without_locks(path: &Path, error: &io::Error) -> StoreProblem {
    StoreProblem {
        what: format!("the file system of {} has no file locks: {error}", path.display()),
        fix: "use a volume with locks, such as a block volume, or mount this one with them (NFS: a server with a lock \
              manager; Lustre: -o flock)"
            .to_owned(),
    }
}

fn problem(path: &Path, error: &io::Error) -> StoreProblem {
    let (shown, path) = (path.display().to_string(), quoted(path));
    let fix = match error.kind() {
        ErrorKind::NotFound => format!("mkdir -p {path}"),
        ErrorKind::PermissionDenied => {
            let (user, group) = who();
            format!("chown -R {user}:{group} {path}; in Kubernetes: securityContext: {{ fsGroup: {group} }}")
        }
        ErrorKind::ReadOnlyFilesystem => format!("mount -o remount,rw {path}; in Kubernetes: readOnly: false"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => format!("df -h {path}"),
        _ => format!("ls -ld {path}"),
    };
    StoreProblem { what: format!("{shown} cannot be used: {error}"), fix }
}

/// This process's user and group.
fn who() -> (u32, u32) {
    fs::metadata("/proc/self").map_or((65532, 65532), |me| (me.uid(), me.gid()))
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_becomes_what_to_do() {
        for (kind, command) in [
            (ErrorKind::NotFound, "mkdir -p /positions"),
            (ErrorKind::PermissionDenied, "chown -R "),
            (ErrorKind::ReadOnlyFilesystem, "mount -o remount,rw /positions"),
            (ErrorKind::StorageFull, "df -h /positions"),
        ] {
            let problem = problem(Path::new("/positions"), &kind.into());
            assert!(problem.fix.starts_with(command), "{}", problem.fix);
        }
    }

    #[test]
    fn a_path_stays_one_word_in_a_shell() {
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }

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
        drop(ScratchFolder::beside(folder.path()).expect("a folder"));
        let left: Vec<_> = fs::read_dir(folder.path()).expect("a list").flatten().map(|entry| entry.path()).collect();
        assert_eq!(left, [at("new")]);
    }
}
