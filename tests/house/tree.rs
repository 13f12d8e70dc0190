//! The files of the program as modules, and where the paths in them lead.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Import, Source};

/// Re-exports that lead from one to the next.
const LONGEST_WAY: usize = 8;

pub struct Tree {
    /// By their names as seen from `src`.
    pub files: BTreeMap<String, Source>,
}

/// Where an import leads: the file that declares what is imported, and its name.
pub struct Target {
    pub file: String,
    pub name: String,
}

impl Tree {
    /// The tree of these sources, by their names, without those that are there for tests.
    pub fn of(files: Vec<(String, String)>) -> Self {
        let files = files.into_iter().map(|(name, text)| (name, Source::parse(&text)));
        let mut files: BTreeMap<String, Source> = files.collect();
        let below = |(name, source): (&String, &Source)| -> Vec<String> {
            let below = |module: &String| [module_of(name), vec![module.clone()]].concat().join("/");
            source.test_modules.iter().map(below).collect()
        };
        let for_tests: BTreeSet<String> = files.iter().flat_map(below).collect();
        let is_below = |name: &String, path: &String| {
            name.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
        };
        files.retain(|name, _| !for_tests.iter().any(|path| is_below(name, path)));
        Self { files }
    }

    /// The imports of a file that stay in the house, and where they lead.
    pub fn imports<'t>(&'t self, file: &str) -> impl Iterator<Item = (&'t Import, Target)> {
        let module = module_of(file);
        let found = self.files.get(file).into_iter();
        let found = found.flat_map(|source| source.imports.iter().map(move |import| (source, import)));
        found.filter_map(move |(source, import)| {
            let path = absolute(&module, source, &import.path)?;
            Some((import, self.declared(path, LONGEST_WAY)?))
        })
    }

    /// The file that declares what a path names, behind all re-exports; nothing where that is a library's.
    fn declared(&self, path: Vec<String>, way: usize) -> Option<Target> {
        let (file, rest) = self.file_of(&path)?;
        let source = &self.files[&file];
        let Some(name) = rest.first() else {
            return Some(Target { name: path.last().cloned().unwrap_or_default(), file });
        };
        // A path of one name makes a macro of this file importable.
        let mut others = source.imports.iter().filter(|import| import.alias == *name && import.path.len() > 1);
        match others.next() {
            Some(import) if way > 0 => {
                let behind = absolute(&module_of(&file), source, &import.path)?;
                self.declared([&behind, &rest[1..]].concat(), way - 1)
            }
            _ => Some(Target { name: name.clone(), file }),
        }
    }

    /// The file of the longest part of a path that is a module, and what remains of the path.
    fn file_of<'p>(&self, path: &'p [String]) -> Option<(String, &'p [String])> {
        let lengths = (1..=path.len()).rev();
        let name = |len: usize| (format!("{}.rs", path[..len].join("/")), &path[len..]);
        lengths.map(name).find(|(name, _)| self.files.contains_key(name))
    }
}

/// The path of a file's module.
pub fn module_of(file: &str) -> Vec<String> {
    let path = file.strip_suffix(".rs").unwrap_or(file);
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// A path from the crate's root; nothing for a library's.
fn absolute(module: &[String], source: &Source, path: &[String]) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" | "dynamodb_streams_adapter" => Some(rest.to_vec()),
        "self" => Some([module, rest].concat()),
        "super" => {
            let above = rest.iter().take_while(|segment| *segment == "super").count();
            let parent = module.get(..module.len().checked_sub(1 + above)?)?;
            Some([parent, &rest[above..]].concat())
        }
        own if source.modules.iter().any(|child| child == own) => Some([module, path].concat()),
        _ => None,
    }
}
