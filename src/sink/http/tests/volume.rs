//! A folder as Kubernetes mounts it: all of its files are replaced at once, by one link.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

pub(super) struct Volume {
    folder: tempfile::TempDir,
    version: usize,
}

impl Volume {
    pub(super) fn new<C: AsRef<str>>(files: &[(&str, C)]) -> Self {
        let mut volume = Self { folder: tempfile::tempdir().expect("a folder"), version: 0 };
        volume.replace(files);
        volume
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// From now on these files are there, and no others.
    pub(super) fn replace<C: AsRef<str>>(&mut self, files: &[(&str, C)]) {
        self.version += 1;
        let version = format!("..version_{}", self.version);
        fs::create_dir(self.file(&version)).expect("a folder");
        for (name, content) in files {
            fs::write(self.file(&version).join(name), content.as_ref()).expect("a file");
        }
        symlink(&version, self.file("..data_tmp")).expect("a link");
        fs::rename(self.file("..data_tmp"), self.file("..data")).expect("a link");
        for (name, _) in files {
            // It is there from the version before.
            drop(symlink(Path::new("..data").join(name), self.file(name)));
        }
        for entry in fs::read_dir(self.path()).expect("the folder").flatten() {
            if !entry.path().exists() {
                fs::remove_file(entry.path()).expect("a link to nowhere");
            }
        }
        if self.version > 1 {
            fs::remove_dir_all(self.file(&format!("..version_{}", self.version - 1))).expect("the old one");
        }
    }
}
