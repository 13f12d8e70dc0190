//! The documents promise what is tested, and what is tested is promised.

use std::collections::BTreeSet;
use std::path::Path;

fn text(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The names of a target's tests, in words.
fn tests(folder: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let paths = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let sources = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let files = sources.map(|path| std::fs::read_to_string(path).unwrap());
    let names = |file: String| {
        let lines: Vec<&str> = file.lines().collect();
        let after_attribute =
            |pair: &[&str]| pair[0].trim_start().starts_with("#[tokio::test").then(|| pair[1].to_owned());
        lines.windows(2).filter_map(after_attribute).collect::<Vec<_>>()
    };
    files
        .flat_map(names)
        .filter_map(|line| Some(line.split_once("fn ")?.1.split('(').next()?.replace('_', " ")))
        .collect()
}

/// The sentences between single asterisks.
fn promises(page: &str) -> BTreeSet<String> {
    let text = text(page).replace('\n', " ").replace("**", "");
    let parts: Vec<String> =
        text.split('*').map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    parts.into_iter().skip(1).step_by(2).filter(|promise| promise != "italics").collect()
}

/// All tests below a folder, whatever they are attributed with.
fn all_tests(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of_entry = |path: std::path::PathBuf| match path.is_dir() {
        true => all_tests(&path),
        false if path.extension().is_some_and(|extension| extension == "rs") => {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| Some(rest.split_once("()")?.0.replace('_', " ")));
            names.collect()
        }
        false => BTreeSet::new(),
    };
    entries.flat_map(of_entry).collect()
}

#[test]
fn what_is_said_of_an_attacker_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests: BTreeSet<String> = ["src", "tests"].into_iter().flat_map(|it| all_tests(&root.join(it))).collect();
    let promised = promises("docs/security.md");
    assert!(promised.len() > 12, "the promises were not found");
    let empty: Vec<_> = promised.difference(&tests).collect();
    assert!(empty.is_empty(), "promised and not tested: {empty:#?}");
}

#[test]
fn every_promise_is_the_name_of_a_test_and_every_test_is_promised() {
    let (behaviour, wild) = (tests("tests/behaviour"), tests("tests/wild"));
    assert!(behaviour.len() > 50 && wild.len() > 20, "the tests were not found");
    let promised: BTreeSet<String> =
        ["docs/semantics.md", "docs/operations.md"].into_iter().flat_map(promises).collect();
    let empty: Vec<_> =
        promised.iter().filter(|promise| !behaviour.contains(*promise) && !wild.contains(*promise)).collect();
    assert!(empty.is_empty(), "promised and not tested: {empty:#?}");
    let silent: Vec<_> = behaviour.difference(&promised).collect();
    assert!(silent.is_empty(), "tested and not promised: {silent:#?}");
}
