//! Every crash and every failure of [`replace`], on a disk that forgets whatever was not synced.

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard};

use super::*;

const OLD: &[u8] = b"the old content";
const NEW: &[u8] = b"the new content, which is longer";
/// Remove, create, write, sync, rename, sync the folder.
const STEPS: usize = 6;

type Names = BTreeMap<PathBuf, usize>;

struct Fragile(Mutex<State>);

/// What the machine holds, and what of it is on the disk for certain.
#[derive(Default)]
struct State {
    contents: Vec<Content>,
    names: Names,
    /// The folder's list as it was synced last, and after every change since then: a crash leaves any of them.
    histories: Vec<Names>,
    steps_left: usize,
    fails_with: Option<ErrorKind>,
}

#[derive(Default)]
struct Content {
    now: Vec<u8>,
    synced: bool,
}

impl Fragile {
    fn with_old_content(steps_left: usize, fails_with: Option<ErrorKind>) -> Self {
        let mut state = State { steps_left, fails_with, ..State::default() };
        state.contents.push(Content { now: OLD.to_vec(), synced: true });
        state.names.insert(target(), 0);
        state.histories = vec![state.names.clone()];
        Self(Mutex::new(state))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    /// Fails at the chosen step, and goes on failing as if the machine had stopped, unless it is a failure that passes.
    fn step(&mut self) -> io::Result<()> {
        if let Some(left) = self.steps_left.checked_sub(1) {
            self.steps_left = left;
            return Ok(());
        }
        match self.fails_with {
            Some(passing) => {
                self.steps_left = usize::MAX;
                Err(passing.into())
            }
            None => Err(ErrorKind::Other.into()),
        }
    }

    fn renamed(&mut self) {
        self.histories.push(self.names.clone());
    }

    /// Every content that the file may have after a crash now.
    fn after_a_crash(&self) -> Vec<Vec<u8>> {
        let left = |content: &Content| match content.synced {
            true => vec![content.now.clone()],
            false => (0..=content.now.len()).map(|length| content.now[..length].to_vec()).collect(),
        };
        self.histories.iter().flat_map(|names| left(&self.contents[names[&target()]])).collect()
    }
}

impl FileSystem for Fragile {
    type File = usize;
    type Lock = ();

    const BLOCKS: bool = false;

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        let file = state.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(state.contents[*file].now.clone())
    }

    fn read_link(&self, _path: &Path) -> io::Result<PathBuf> {
        Err(ErrorKind::InvalidInput.into())
    }

    fn lock(&self, _path: &Path) -> Result<(), TryLockError> {
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<usize> {
        let mut state = self.state();
        state.step()?;
        assert!(!state.names.contains_key(path), "a file that is there was written to");
        let file = state.contents.len();
        state.contents.push(Content::default());
        state.names.insert(path.to_owned(), file);
        state.renamed();
        Ok(file)
    }

    fn open_at(&self, _path: &Path, _length: usize) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }

    fn write(&self, file: &mut usize, content: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.contents[*file] = Content { now: content[..content.len() / 2].to_vec(), synced: false };
        state.step()?;
        state.contents[*file].now = content.to_vec();
        Ok(())
    }

    fn sync(&self, file: &mut usize) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.contents[*file].synced = true;
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let file = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        state.renamed();
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        assert_eq!(Some(folder), target().parent());
        let mut state = self.state();
        state.step()?;
        state.histories = vec![state.names.clone()];
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        if state.names.remove(path).is_some() {
            state.renamed();
        }
        Ok(())
    }
}

fn target() -> PathBuf {
    PathBuf::from("/data/positions.json")
}

#[test]
fn a_crash_between_any_two_steps_leaves_old_or_new_content_whole() {
    for steps_left in 0..=STEPS {
        let disk = Fragile::with_old_content(steps_left, None);
        let written = replace(&disk, &target(), NEW);
        for content in disk.state().after_a_crash() {
            let text = String::from_utf8_lossy(&content);
            assert!(content == OLD || content == NEW, "after {steps_left} steps and a crash: {text:?}");
            assert!(written.is_err() || content == NEW, "success was told before everything was on the disk");
        }
        assert_eq!(written.is_ok(), steps_left == STEPS, "{steps_left} steps");
    }
}

#[test]
fn a_disk_that_refuses_one_step_keeps_whole_content_and_no_leftover_and_the_next_write_works() {
    for steps_left in 0..STEPS {
        let disk = Fragile::with_old_content(steps_left, Some(ErrorKind::StorageFull));
        let refused = replace(&disk, &target(), NEW).unwrap_err();
        assert_eq!((refused.error.kind(), refused.is_known), (ErrorKind::StorageFull, steps_left < STEPS - 2));
        assert!(!refused.is_known || disk.read(&target()).unwrap() == OLD);
        let content = disk.read(&target()).unwrap();
        assert!(content == OLD || content == NEW, "refused at step {steps_left}");
        assert!(
            !disk.state().names.contains_key(&temporary_path(&target())),
            "a temporary file stayed behind at step {steps_left}"
        );
        replace(&disk, &target(), b"later").unwrap();
        assert_eq!(disk.state().after_a_crash(), [b"later"]);
    }
}

#[test]
fn a_crash_in_the_middle_of_a_write_does_not_stop_the_next_process() {
    for steps_left in 0..STEPS {
        let disk = Fragile::with_old_content(steps_left, None);
        let _ = replace(&disk, &target(), NEW);
        disk.state().steps_left = usize::MAX;
        replace(&disk, &target(), b"after the restart").unwrap();
        assert_eq!(disk.state().after_a_crash(), [b"after the restart"]);
    }
}
