//! A value that one file holds, or a few files together, and that is read again when they change.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::clock;

/// A file that was written so recently may be written again without another time: clocks of file systems are coarse.
const TOO_RECENT: Duration = Duration::from_secs(2);

/// How often files are read once more because they changed meanwhile.
const READINGS: usize = 3;

/// What makes a value of the contents of files; says what is wrong with them, without repeating it.
type Parse<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send>;

/// A value and the files that hold it.
pub(crate) struct ReloadingFile<T> {
    files: Vec<PathBuf>,
    /// In bytes, for each file.
    limit: u64,
    parse: Parse<T>,
    /// How the files were when they were read; none where they have to be read again in any case.
    stamps: Option<Vec<Stamp>>,
    /// Of the contents that were parsed last.
    digest: Option<[u8; 32]>,
    value: Option<T>,
    problem: Option<FileProblem>,
}

/// Why there is no value, or none as new as the files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileProblem {
    #[error("{0} does not exist")]
    Missing(String),
    #[error("{path} cannot be read: {why}")]
    Unreadable { path: String, why: String },
    /// The files were read, and are not what they should be.
    #[error("{path} cannot be used: {why}")]
    Content {
        /// The first of the files.
        path: String,
        why: String,
    },
}

/// By what a change of a file is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl<T> ReloadingFile<T> {
    /// Nothing is read before the first [`ReloadingFile::reload`].
    pub(crate) fn new(
        files: Vec<PathBuf>,
        limit: u64,
        parse: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + 'static,
    ) -> Self {
        let parse = Box::new(parse);
        Self { files, limit, parse, stamps: None, digest: None, value: None, problem: None }
    }

    /// Reads the files if they changed; says whether the value or the problem did. A value stays until there is another.
    pub(crate) fn reload(&mut self) -> bool {
        match stamps(&self.files) {
            Ok(stamps) if self.stamps.as_ref() == Some(&stamps) => false,
            Ok(stamps) => self.read(stamps),
            Err(problem) => self.failed(problem),
        }
    }

    /// The last good value.
    pub(crate) fn value(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// What is wrong with the files as they are now.
    pub(crate) fn problem(&self) -> Option<&FileProblem> {
        self.problem.as_ref()
    }

    /// The file, or the first of them.
    pub(super) fn path(&self) -> &Path {
        &self.files[0]
    }

    fn read(&mut self, mut before: Vec<Stamp>) -> bool {
        // Files that belong together are replaced one after the other.
        for _ in 0..READINGS {
            let contents = match self.contents() {
                Ok(contents) => contents,
                Err(problem) => return self.failed(problem),
            };
            match stamps(&self.files) {
                Ok(after) if after == before => return self.parse(before, &contents),
                Ok(after) => before = after,
                Err(problem) => return self.failed(problem),
            }
        }
        // They are being written: the next time, then.
        false
    }

    fn parse(&mut self, stamps: Vec<Stamp>, contents: &[Vec<u8>]) -> bool {
        let digest = digest(contents);
        let is_settled = !stamps.iter().any(Stamp::is_recent);
        self.stamps = is_settled.then_some(stamps);
        if self.digest == Some(digest) {
            return false;
        }
        match (self.parse)(contents) {
            Ok(value) => {
                self.value = Some(value);
                self.problem = None;
                self.digest = Some(digest);
                true
            }
            Err(why) => self.failed(FileProblem::Content { path: shown(self.path()), why }),
        }
    }

    fn failed(&mut self, problem: FileProblem) -> bool {
        self.stamps = None;
        self.digest = None;
        let is_new = self.problem.as_ref() != Some(&problem);
        self.problem = Some(problem);
        is_new
    }

    fn contents(&self) -> Result<Vec<Vec<u8>>, FileProblem> {
        self.files.iter().map(|path| content(path, self.limit)).collect()
    }
}

impl<T> fmt::Debug for ReloadingFile<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReloadingFile")
            .field("files", &self.files)
            .field("problem", &self.problem)
            .finish_non_exhaustive()
    }
}

impl FileProblem {
    pub(super) fn of(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing(shown(path)),
            _ => Self::Unreadable { path: shown(path), why: error.to_string() },
        }
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_recent(&self) -> bool {
        let since_epoch = clock::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
        self.changed.0.saturating_add(TOO_RECENT.as_secs() as i64) >= now
    }
}

fn stamps(files: &[PathBuf]) -> Result<Vec<Stamp>, FileProblem> {
    let stamp =
        |path: &PathBuf| fs::metadata(path).map(|found| Stamp::of(&found)).map_err(|e| FileProblem::of(path, &e));
    files.iter().map(stamp).collect()
}

fn content(path: &Path, limit: u64) -> Result<Vec<u8>, FileProblem> {
    let unusable = |why: String| FileProblem::Content { path: shown(path), why };
    let failed = |error| FileProblem::of(path, &error);
    // Opening a pipe would wait for somebody to write.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(unusable("it is not a file".to_owned()));
    }
    let mut content = Vec::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut content)).map_err(failed)?;
    match content.len() as u64 > limit {
        true => Err(unusable(format!("it is larger than {} KiB", limit / 1024))),
        false => Ok(content),
    }
}

fn digest(contents: &[Vec<u8>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for content in contents {
        hash.update((content.len() as u64).to_be_bytes());
        hash.update(content);
    }
    hash.finalize().into()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
