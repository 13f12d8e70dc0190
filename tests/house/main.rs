//! The rules of the house: which room may import which, no circle of files, a type's `impl` in its own file, pure files pure, each
//! library that does I/O in its place, and no function that is named like a question and answers nothing. They hold for the code below
//! `src/` that is not there for tests.
//!
//! `offences.txt` lists what breaks them today. The list may only get shorter: a new offence fails, and so does a line of the list
//! that nothing commits any more.
#![allow(clippy::unwrap_used)] // a source that cannot be read has failed

mod cases;
mod rules;
mod source;
mod tree;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tree::Tree;

#[test]
fn the_house_keeps_its_rules_but_for_the_offences_that_are_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    read(&root.join("src"), "", &mut files);
    let offences = rules::offences(&Tree::of(files));
    let list = fs::read_to_string(root.join("tests/house/offences.txt")).unwrap();
    let listed: BTreeSet<&str> = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let committed: BTreeSet<&str> = offences.iter().map(|offence| offence.what.as_str()).collect();
    let new = offences.iter().filter(|offence| !listed.contains(offence.what.as_str()));
    let mut wrong: Vec<String> = new.map(|o| format!("{}: {}\n    {}", o.place, o.what, o.rule)).collect();
    let gone = listed.difference(&committed);
    wrong.extend(gone.map(|line| format!("it is mended: delete this line from tests/house/offences.txt:\n    {line}")));
    assert!(wrong.is_empty(), "\n\n{}\n", wrong.join("\n"));
}

/// All Rust files below a folder, named as seen from `src`; of one that is generated there is nothing to say.
fn read(folder: &Path, prefix: &str, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        match entry.path() {
            path if path.is_dir() => read(&path, &format!("{name}/"), files),
            path if name.ends_with(".rs") => {
                let text = fs::read_to_string(path).unwrap();
                let is_generated = text.contains("// This file is @generated");
                files.push((name, if is_generated { String::new() } else { text }));
            }
            _ => {}
        }
    }
}
