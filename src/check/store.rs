//! Whether positions can be kept, without a trace and without disturbing who keeps them already.
//!
//! The store itself is tried on a copy, in a folder of its own beside the positions that is removed again. Of the real lock
//! only a shared one is asked for, for an instant: a running adapter does not notice.

mod scratch;

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::scratch::Scratch;
use super::report::{Check, within};
use crate::checkpoint::{CheckpointStore as _, FileStore, OpenError};

use crate::config::{CheckpointLocation, Config, POSITIONS_IN_MEMORY};

const NAME: &str = "checkpoint-store";

/// Tries the configured store.
pub(super) async fn check(config: &Config, limit: Duration) -> Check {
    let path = match &config.source.checkpoint {
        CheckpointLocation::Memory => {
            return Check::warn(NAME, POSITIONS_IN_MEMORY).mended_by("export CHECKPOINT_STORE=file:<path on a volume>");
        }
        CheckpointLocation::File(path) => path.clone(),
    };
    let group = config.source.consumer_group.clone();
    let tables = config.source.tables.iter();
    let tables = tables.map(|table| table.table_arn().unwrap_or(table.table_name()).to_owned()).collect();
    let runtime = tokio::runtime::Handle::current();
    // A volume that hangs must not hold up the others.
    let tried = tokio::task::spawn_blocking(move || runtime.block_on(File { path, group, tables }.check()));
    match within(limit, tried).await {
        Ok(Ok(check)) => check,
        Ok(Err(error)) => Check::fail(NAME, &format!("the check was interrupted: {error}")),
        Err(late) => {
            Check::fail(NAME, &format!("the volume gives {late}")).mended_by("check the volume and its server")
        }
    }
}

struct File {
    path: PathBuf,
    group: String,
    /// As positions are filed under them.
    tables: Vec<String>,
}

/// What stands in the way, and what mends it.
struct Obstacle {
    what: String,
    remedy: String,
}

impl File {
    async fn check(&self) -> Check {
        match self.usable().await {
            Err(Obstacle { what, remedy }) => Check::fail(NAME, &what).mended_by(remedy),
            Ok(true) => {
                let path = self.path.display();
                let detail = format!(
                    "{path} is in use by another process, possibly the running adapter: a second process cannot use the same file"
                );
                Check::warn(NAME, &detail).mended_by(
                    "stop the other process, or use a different file; in Kubernetes: replicas: 1 and strategy: Recreate",
                )
            }
            Ok(false) => Check::ok(NAME, &format!("{} can be read and replaced", self.path.display())),
        }
    }

    /// Whether another process uses it.
    async fn usable(&self) -> Result<bool, Obstacle> {
        let file = resolved(&self.path);
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::metadata(folder).map_err(|error| obstacle(folder, &error))?;
        let scratch = Scratch::beside(folder).map_err(|error| obstacle(folder, &error))?;
        let copy = scratch.file("positions.json");
        match fs::copy(&file, &copy) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(obstacle(&file, &error)),
            _ => self.try_copy(&copy, folder).await?,
        }
        is_in_use(&file)
    }

    /// Opens, reads and writes the copy as the adapter does with the original.
    async fn try_copy(&self, copy: &Path, folder: &Path) -> Result<(), Obstacle> {
        let store = FileStore::open(copy, &self.group).map_err(|error| self.unreadable(error, folder))?;
        for table in &self.tables {
            let state = store.load(table).await.map_err(|error| self.damaged(&error.to_string()))?;
            let saved = store.save(table, state.unwrap_or_default()).await;
            saved.map_err(|error| Obstacle {
                what: format!("the folder {} cannot be written: {error}", folder.display()),
                remedy: format!("df -h {}", quoted(folder)),
            })?;
        }
        Ok(())
    }

    fn unreadable(&self, error: OpenError, folder: &Path) -> Obstacle {
        match error {
            OpenError::Foreign { source, .. } => self.damaged(&source.to_string()),
            OpenError::Io { source, .. } => obstacle(folder, &source),
            other => Obstacle { what: other.to_string(), remedy: format!("ls -l {}", quoted(folder)) },
        }
    }

    fn damaged(&self, why: &str) -> Obstacle {
        let path = quoted(&self.path);
        Obstacle {
            what: format!("{} is damaged or not a file of positions: {why}", self.path.display()),
            remedy: format!("restore it from a backup, or start again at START_POSITION: mv {path} {path}.damaged"),
        }
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
fn is_in_use(file: &Path) -> Result<bool, Obstacle> {
    let mut name = file.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let lock = match OpenOptions::new().write(true).open(&name) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(obstacle(&name, &error)),
    };
    match lock.try_lock_shared() {
        // It ends with this function.
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(obstacle(&name, &error)),
    }
}

fn obstacle(path: &Path, error: &io::Error) -> Obstacle {
    let (shown, path) = (path.display().to_string(), quoted(path));
    let remedy = match error.kind() {
        ErrorKind::NotFound => format!("mkdir -p {path}"),
        ErrorKind::PermissionDenied => {
            let (user, group) = who();
            format!("chown -R {user}:{group} {path}; in Kubernetes: securityContext: {{ fsGroup: {group} }}")
        }
        ErrorKind::ReadOnlyFilesystem => format!("mount -o remount,rw {path}; in Kubernetes: readOnly: false"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => format!("df -h {path}"),
        _ => format!("ls -ld {path}"),
    };
    Obstacle { what: format!("{shown} cannot be used: {error}"), remedy }
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
            let obstacle = obstacle(Path::new("/positions"), &kind.into());
            assert!(obstacle.remedy.starts_with(command), "{}", obstacle.remedy);
        }
    }

    #[test]
    fn a_path_stays_one_word_in_a_shell() {
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
