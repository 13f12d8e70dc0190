//! Every crash and every failure of [`replace_by`], on a disk that forgets whatever was not synced.

use std::collections::BTreeMap;

use super::*;

const OLD: &[u8] = b"the old content";
const NEW: &[u8] = b"the new content, which is longer";
/// Remove, create, write, sync, rename, sync the folder.
const STEPS: usize = 6;

type Names = BTreeMap<PathBuf, usize>;

/// What the machine holds, and what of it is on the disk for certain.
#[derive(Default)]
struct Fragile {
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
    fn with_old_content(steps_left: usize) -> Self {
        let mut disk = Self { steps_left, ..Self::default() };
        disk.contents.push(Content { now: OLD.to_vec(), synced: true });
        disk.names.insert(target(), 0);
        disk.histories = vec![disk.names.clone()];
        disk
    }

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

impl Steps for Fragile {
    type File = usize;

    fn create(&mut self, path: &Path) -> io::Result<usize> {
        self.step()?;
        assert!(!self.names.contains_key(path), "a file that is there was written to");
        let file = self.contents.len();
        self.contents.push(Content::default());
        self.names.insert(path.to_owned(), file);
        self.renamed();
        Ok(file)
    }

    fn write(&mut self, file: &mut usize, content: &[u8]) -> io::Result<()> {
        self.contents[*file] = Content { now: content[..content.len() / 2].to_vec(), synced: false };
        self.step()?;
        self.contents[*file].now = content.to_vec();
        Ok(())
    }

    fn sync(&mut self, file: usize) -> io::Result<()> {
        self.step()?;
        self.contents[file].synced = true;
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        let file = self.names.remove(from).ok_or(ErrorKind::NotFound)?;
        self.names.insert(to.to_owned(), file);
        self.renamed();
        Ok(())
    }

    fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        assert_eq!(Some(folder), target().parent());
        self.step()?;
        self.histories = vec![self.names.clone()];
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.step()?;
        if self.names.remove(path).is_some() {
            self.renamed();
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
        let mut disk = Fragile::with_old_content(steps_left);
        let written = replace_by(&mut disk, &target(), NEW);
        for content in disk.after_a_crash() {
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
        let mut disk = Fragile::with_old_content(steps_left);
        disk.fails_with = Some(ErrorKind::StorageFull);
        let refused = replace_by(&mut disk, &target(), NEW).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::StorageFull);
        let content = &disk.contents[disk.names[&target()]].now;
        assert!(content == OLD || content == NEW, "refused at step {steps_left}");
        assert!(!disk.names.contains_key(&beside(&target())), "a temporary file stayed behind at step {steps_left}");
        replace_by(&mut disk, &target(), b"later").unwrap();
        assert_eq!(disk.after_a_crash(), [b"later"]);
    }
}

#[test]
fn a_crash_in_the_middle_of_a_write_does_not_stop_the_next_process() {
    for steps_left in 0..STEPS {
        let mut disk = Fragile::with_old_content(steps_left);
        let _ = replace_by(&mut disk, &target(), NEW);
        disk.steps_left = usize::MAX;
        replace_by(&mut disk, &target(), b"after the restart").unwrap();
        assert_eq!(disk.after_a_crash(), [b"after the restart"]);
    }
}
