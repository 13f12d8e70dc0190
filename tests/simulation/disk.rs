//! A disk in memory, as the file of positions sees it.
//!
//! Contract:
//! - A process that dies loses its locks and open files; what it has written stays, synced or not.
//! - A loss of power keeps what was synced. What was written and not synced is there up to any byte; behind that there is nothing,
//!   or zeros. Of the names that were created, renamed or removed since their folder was synced, each change happened or did not.
//! - Everything is repeatable: chance comes from the generator that [`MemoryDisk::power_lost`] is given, and from nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::TryLockError;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dynamodb_streams_adapter::checkpoint::FileSystem;

/// The one folder of a new disk.
pub const FOLDER: &str = "/positions";

/// An in-memory file system: what is written, what is synced, and what survives a kill or a loss of power. Clones are the same
/// disk; [`snapshot`](Self::snapshot) makes another.
#[derive(Clone)]
pub struct MemoryDisk(Arc<Machine>);

/// One call to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Read,
    Lock,
    Create,
    Open,
    Write,
    Sync,
    Rename,
    SyncFolder,
    Remove,
}

/// What comes of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Nothing happens, and the caller is told so.
    Fails(ErrorKind),
    /// Half of it is written, then it fails. A step that writes no content fails as a whole.
    Torn(ErrorKind),
    /// Neither this step happens nor any other, until the process has died or the power is lost.
    Dead,
}

type Decide = dyn FnMut(Step) -> Outcome + Send;

struct Machine {
    /// Apart from the state, so that who decides may look at the disk.
    decide: Mutex<Box<Decide>>,
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    folders: BTreeSet<PathBuf>,
    files: BTreeMap<FileNumber, Content>,
    next_file: FileNumber,
    /// The file of each name, as every process sees it.
    names: BTreeMap<PathBuf, FileNumber>,
    /// The same as it is on the disk for certain, and what has changed since, oldest first.
    synced_names: BTreeMap<PathBuf, FileNumber>,
    changes: Vec<Change>,
    locks: BTreeSet<PathBuf>,
    /// How many processes have died: what an earlier one had open is closed.
    process: u64,
    is_dead: bool,
}

type FileNumber = u64;

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    /// As many of them are on the disk for certain: files only grow.
    synced: usize,
}

/// A change of names.
#[derive(Clone)]
enum Change {
    Create { path: PathBuf, file: FileNumber },
    Rename { from: PathBuf, to: PathBuf, file: FileNumber },
    Remove { path: PathBuf, file: FileNumber },
}

/// A file that a process has open.
pub struct OpenFile {
    file: FileNumber,
    process: u64,
}

/// A lock that a process holds until it drops it or dies.
pub struct HeldLock {
    disk: MemoryDisk,
    path: PathBuf,
    process: u64,
}

impl MemoryDisk {
    /// A disk with an empty [`FOLDER`], on which every step succeeds.
    pub fn new() -> Self {
        Self::of(State { folders: [PathBuf::from(FOLDER)].into(), ..State::default() })
    }

    fn of(state: State) -> Self {
        Self(Arc::new(Machine { decide: Mutex::new(Box::new(|_| Outcome::Done)), state: Mutex::new(state) }))
    }

    /// Asks `decide` before each step whether it happens, from now on. `decide` may look at the disk and take snapshots of it; it
    /// may take no step.
    pub fn on_step(&self, decide: impl FnMut(Step) -> Outcome + Send + 'static) {
        *lock(&self.0.decide) = Box::new(decide);
    }

    /// The process has died; drop what it had first. What it wrote stays, its open files and its locks are gone.
    pub fn process_died(&self) {
        self.state().restart();
    }

    /// The machine has lost its power, and every process on it has died.
    pub fn power_lost(&self, chance: &mut fastrand::Rng) {
        self.state().lose_power(chance);
    }

    /// An independent copy, as a process started now would find it: no locks, and every step succeeds. What is not synced is not
    /// synced there either.
    pub fn snapshot(&self) -> Self {
        let mut state = self.state().clone();
        state.restart();
        Self::of(state)
    }

    /// What a process would read there now. This is no step.
    pub fn read_file(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        Some(state.files[state.names.get(path)?].bytes.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }

    /// The state, if this step happens.
    fn step(&self, step: Step) -> io::Result<MutexGuard<'_, State>> {
        match self.outcome(step)? {
            Outcome::Done => Ok(self.state()),
            Outcome::Fails(kind) | Outcome::Torn(kind) => Err(kind.into()),
            Outcome::Dead => Err(died()),
        }
    }

    /// What is decided of a step; whoever is dead asks no more.
    fn outcome(&self, step: Step) -> io::Result<Outcome> {
        if self.state().is_dead {
            return Err(died());
        }
        let outcome = lock(&self.0.decide)(step);
        if outcome == Outcome::Dead {
            self.state().is_dead = true;
        }
        Ok(outcome)
    }
}

impl FileSystem for MemoryDisk {
    type File = OpenFile;
    type Lock = HeldLock;

    const BLOCKS: bool = false;

    /// Replacements are to happen as well, and files to be read quickly.
    const SMALL: usize = 8 * 1024;

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.step(Step::Read)?;
        Ok(state.files[&state.file(path)?].bytes.clone())
    }

    /// There are none.
    fn read_link(&self, _path: &Path) -> io::Result<PathBuf> {
        Err(ErrorKind::InvalidInput.into())
    }

    fn lock(&self, path: &Path) -> Result<HeldLock, TryLockError> {
        let mut state = self.step(Step::Lock).map_err(TryLockError::Error)?;
        if !state.names.contains_key(path) {
            state.create(path).map_err(TryLockError::Error)?;
        }
        match state.locks.insert(path.to_owned()) {
            true => Ok(HeldLock { disk: self.clone(), path: path.to_owned(), process: state.process }),
            false => Err(TryLockError::WouldBlock),
        }
    }

    fn create(&self, path: &Path) -> io::Result<OpenFile> {
        let mut state = self.step(Step::Create)?;
        Ok(OpenFile { file: state.create(path)?, process: state.process })
    }

    fn open_at(&self, path: &Path, length: usize) -> io::Result<OpenFile> {
        let state = self.step(Step::Open)?;
        let file = state.file(path)?;
        match state.files[&file].bytes.len() == length {
            true => Ok(OpenFile { file, process: state.process }),
            false => Err(io::Error::other("somebody else has changed it")),
        }
    }

    fn write(&self, file: &mut OpenFile, content: &[u8]) -> io::Result<()> {
        let (written, failure) = match self.outcome(Step::Write)? {
            Outcome::Done => (content.len(), None),
            Outcome::Fails(kind) => (0, Some(kind.into())),
            Outcome::Torn(kind) => (content.len() / 2, Some(kind.into())),
            Outcome::Dead => (0, Some(died())),
        };
        self.state().open(file)?.bytes.extend_from_slice(&content[..written]);
        failure.map_or(Ok(()), Err)
    }

    fn sync(&self, file: &mut OpenFile) -> io::Result<()> {
        let mut state = self.step(Step::Sync)?;
        let content = state.open(file)?;
        content.synced = content.bytes.len();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.step(Step::Rename)?;
        let file = state.file(from)?;
        state.has_folder_of(to)?;
        state.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), file });
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.step(Step::SyncFolder)?;
        if !state.folders.contains(folder) {
            return Err(ErrorKind::NotFound.into());
        }
        state.sync_names(folder);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.step(Step::Remove)?;
        if let Some(file) = state.names.get(path).copied() {
            state.change(Change::Remove { path: path.to_owned(), file });
        }
        Ok(())
    }
}

impl State {
    fn file(&self, path: &Path) -> io::Result<FileNumber> {
        self.names.get(path).copied().ok_or(ErrorKind::NotFound.into())
    }

    /// The content of a file that this process has open.
    fn open(&mut self, file: &OpenFile) -> io::Result<&mut Content> {
        if file.process != self.process {
            return Err(died());
        }
        // One without a name may have been forgotten; nobody can read it any more.
        Ok(self.files.entry(file.file).or_default())
    }

    fn create(&mut self, path: &Path) -> io::Result<FileNumber> {
        self.has_folder_of(path)?;
        if self.names.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let file = self.next_file;
        self.next_file += 1;
        self.files.insert(file, Content::default());
        self.change(Change::Create { path: path.to_owned(), file });
        Ok(file)
    }

    fn has_folder_of(&self, path: &Path) -> io::Result<()> {
        match path.parent().is_some_and(|folder| self.folders.contains(folder)) {
            true => Ok(()),
            false => Err(ErrorKind::NotFound.into()),
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn sync_names(&mut self, folder: &Path) {
        let synced = self.changes.extract_if(.., |change| change.concerns(folder));
        synced.for_each(|change| change.apply(&mut self.synced_names));
        self.forget_nameless();
    }

    /// Drops files that have no name and get none back by a loss of power.
    fn forget_nameless(&mut self) {
        let changed = self.changes.iter().map(Change::file);
        let named: BTreeSet<FileNumber> =
            self.names.values().chain(self.synced_names.values()).copied().chain(changed).collect();
        self.files.retain(|file, _| named.contains(file));
    }

    fn restart(&mut self) {
        self.process += 1;
        self.is_dead = false;
        self.locks.clear();
    }

    fn lose_power(&mut self, chance: &mut fastrand::Rng) {
        self.restart();
        let happened = self.changes.drain(..).filter(|_| chance.bool());
        happened.for_each(|change| change.apply(&mut self.synced_names));
        self.names = self.synced_names.clone();
        self.forget_nameless();
        self.files.values_mut().for_each(|content| content.lose_power(chance));
    }
}

impl Content {
    fn lose_power(&mut self, chance: &mut fastrand::Rng) {
        let whole = self.bytes.len();
        // By a length drawn evenly, a long content would hardly ever be there as a whole, or not at all.
        let kept = match chance.u8(..4) {
            0 => self.synced,
            1 => whole,
            _ => chance.usize(self.synced..=whole),
        };
        self.bytes.truncate(kept);
        if chance.bool() {
            self.bytes.resize(whole, 0);
        }
        self.synced = self.bytes.len();
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, FileNumber>) {
        match self {
            Self::Create { path, file } => {
                names.insert(path.clone(), *file);
            }
            Self::Rename { from, to, file } => {
                remove(names, from, *file);
                names.insert(to.clone(), *file);
            }
            Self::Remove { path, file } => remove(names, path, *file),
        }
    }

    fn concerns(&self, folder: &Path) -> bool {
        let is_in = |path: &Path| path.parent() == Some(folder);
        match self {
            Self::Create { path, .. } | Self::Remove { path, .. } => is_in(path),
            Self::Rename { from, to, .. } => is_in(from) || is_in(to),
        }
    }

    fn file(&self) -> FileNumber {
        match self {
            Self::Create { file, .. } | Self::Rename { file, .. } | Self::Remove { file, .. } => *file,
        }
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        // A process that died holds none any more: its successor may.
        if state.process == self.process {
            state.locks.remove(&self.path);
        }
    }
}

/// Removes a name, if it is still this file's.
fn remove(names: &mut BTreeMap<PathBuf, FileNumber>, path: &Path, file: FileNumber) {
    if names.get(path) == Some(&file) {
        names.remove(path);
    }
}

fn died() -> io::Error {
    io::Error::other("the process is dead")
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
