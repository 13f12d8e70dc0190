//! Whom an https sink's certificate may come from: the system's roots, those of the configuration, and those of a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;

use crate::config::Certificates;
use crate::sink::reloading_file::{Problem, Watched};

/// The most bytes of one file: a ConfigMap holds 1 MiB.
const FILE_LIMIT: u64 = 4 << 20;

/// The most files that are looked at, so that a folder which was named by mistake costs little.
const MAX_FILES: usize = 1000;

/// How deep folders are followed.
const MAX_DEPTH: usize = 8;

/// Roots, and the folder from which some of them come.
#[derive(Debug)]
pub(in crate::sink) struct Roots {
    /// The system's and those of the configuration.
    fixed: RootCertStore,
    folder: Option<PathBuf>,
    files: BTreeMap<PathBuf, Watched<Certificates>>,
    folder_problem: Option<Problem>,
}

impl Roots {
    /// Nothing of the folder is read before the first look.
    pub(in crate::sink) fn new(fixed: RootCertStore, folder: Option<PathBuf>) -> Self {
        Self { fixed, folder, files: BTreeMap::new(), folder_problem: None }
    }

    /// Reads what changed in the folder; says whether anything did.
    pub(in crate::sink) fn look(&mut self) -> bool {
        let Some(folder) = &self.folder else {
            return false;
        };
        let found = match files_under(folder) {
            Ok(found) => found,
            Err(problem) => {
                let is_new = self.folder_problem.as_ref() != Some(&problem);
                self.folder_problem = Some(problem);
                return is_new;
            }
        };
        let was_unreadable = self.folder_problem.take().is_some();
        let known = self.files.len();
        self.files.retain(|path, _| found.contains(path));
        let mut changed = was_unreadable || self.files.len() < known;
        for path in found {
            let file =
                self.files.entry(path).or_insert_with_key(|path| Watched::new(vec![path.clone()], FILE_LIMIT, parse));
            changed |= file.look();
        }
        changed
    }

    /// All of them.
    pub(in crate::sink) fn store(&self) -> RootCertStore {
        let mut roots = self.fixed.clone();
        for certificates in self.files.values().filter_map(Watched::value) {
            certificates.add_to(&mut roots);
        }
        roots
    }

    /// Whether there is none, and no folder from which one could come.
    pub(in crate::sink) fn is_hopeless(&self) -> bool {
        self.fixed.is_empty() && !self.folder.as_deref().is_some_and(Path::is_dir)
    }

    /// What cannot be read, by its path.
    pub(in crate::sink) fn problems(&self) -> impl Iterator<Item = (&Path, String)> {
        let files = self.files.values().filter_map(|file| Some((file.path(), file.problem()?.to_string())));
        let folder = self.folder.as_deref().zip(self.folder_problem.as_ref().map(Problem::to_string));
        folder.into_iter().chain(files)
    }
}

fn parse(contents: &[Vec<u8>]) -> Result<Certificates, String> {
    let certificates = Certificates::from_pem(&contents[0]).map_err(|invalid| invalid.to_string())?;
    // A bundle of all the world's authorities may hold some that are too odd for the verifier; the others are of use.
    match certificates.add_to(&mut RootCertStore::empty()) == certificates.len() {
        true => Err("none of its certificates can be a trusted CA".to_owned()),
        false => Ok(certificates),
    }
}

/// Every file under a folder, by the name under which it is seen first; nothing that begins with a dot. Kubernetes keeps
/// the files of a volume in such a folder and shows each by a link.
fn files_under(folder: &Path) -> Result<BTreeSet<PathBuf>, Problem> {
    let mut found = Found::default();
    match found.collect(folder, 0) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Problem::of(folder, &error)),
        _ => Ok(found.files),
    }
}

#[derive(Default)]
struct Found {
    files: BTreeSet<PathBuf>,
    /// Device and inode: what a file is, whatever it is called.
    seen: BTreeSet<(u64, u64)>,
}

impl Found {
    fn collect(&mut self, folder: &Path, depth: usize) -> io::Result<()> {
        let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            // What is gone meanwhile, or a link to nowhere, is no file.
            let Ok(metadata) = fs::metadata(entry.path()) else { continue };
            if !is_hidden && self.files.len() < MAX_FILES && self.is_new(&metadata) {
                match metadata.is_dir() {
                    true if depth < MAX_DEPTH => self.collect(&entry.path(), depth + 1)?,
                    true => {}
                    false => drop(self.files.insert(entry.path())),
                }
            }
        }
        Ok(())
    }

    fn is_new(&mut self, metadata: &Metadata) -> bool {
        self.seen.insert((metadata.dev(), metadata.ino()))
    }
}
