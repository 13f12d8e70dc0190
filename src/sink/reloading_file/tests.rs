//! What is seen of files that change, and what is not believed too soon.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn text(contents: &[Vec<u8>]) -> Result<String, String> {
    let texts = contents.iter().map(|content| String::from_utf8_lossy(content).into_owned());
    let text = texts.collect::<Vec<_>>().join("+");
    if text.contains("bad") { Err("it is bad".to_owned()) } else { Ok(text) }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn changes_within_one_tick_of_the_file_systems_clock_are_seen() {
    let folder = folder();
    let path = folder.path().join("file");
    fs::write(&path, "0000").expect("written");
    let mut reloading = ReloadingFile::new(vec![path.clone()], 100, text);
    for round in 0..200 {
        let content = format!("{round:04}");
        fs::write(&path, &content).expect("written");
        reloading.reload();
        assert_eq!(reloading.value(), Some(&content));
        assert_eq!(reloading.stamps, None, "the next look must not believe a time that is so recent");
    }
}

#[test]
fn files_that_belong_together_are_taken_from_one_version() {
    let folder = folder();
    let current = folder.path().join("current");
    let publish = move |version: usize| {
        let parent = current.parent().expect("a folder");
        let name = format!("version_{version}");
        fs::create_dir(parent.join(&name)).expect("a folder");
        for file in ["one", "two"] {
            fs::write(parent.join(&name).join(file), version.to_string()).expect("written");
        }
        std::os::unix::fs::symlink(&name, parent.join("next")).expect("a link");
        fs::rename(parent.join("next"), &current).expect("replaced");
    };
    publish(0);
    let files = ["one", "two"].map(|file| folder.path().join("current").join(file));
    let mut reloading = ReloadingFile::new(files.to_vec(), 100, |contents| match contents[0] == contents[1] {
        true => Ok(contents[0].clone()),
        false => Err("they are of two versions".to_owned()),
    });
    let publisher = std::thread::spawn(move || (1..=1000).for_each(publish));
    while !publisher.is_finished() {
        reloading.reload();
        assert_eq!(reloading.problem(), None);
    }
    publisher.join().expect("everything was published");
    reloading.reload();
    assert_eq!(reloading.value().map(Vec::as_slice), Some(&b"1000"[..]));
}

#[test]
fn what_did_not_change_is_not_parsed_again() {
    let folder = folder();
    let path = folder.path().join("file");
    fs::write(&path, "same").expect("written");
    let parsed = Arc::new(AtomicUsize::new(0));
    let count = parsed.clone();
    let mut reloading = ReloadingFile::new(vec![path.clone()], 100, move |contents| {
        count.fetch_add(1, Ordering::Relaxed);
        text(contents)
    });
    assert!(reloading.reload());
    for _ in 0..10 {
        fs::write(&path, "same").expect("written");
        assert!(!reloading.reload(), "a change was told where nothing changed");
    }
    assert_eq!(parsed.load(Ordering::Relaxed), 1);
}

#[test]
fn a_problem_is_told_once_and_its_end_too_and_the_value_stays() {
    let folder = folder();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let mut reloading = ReloadingFile::new(vec![one.clone(), two.clone()], 100, text);
    fs::write(&one, "1").expect("written");
    assert!(reloading.reload());
    assert!(!reloading.reload());
    assert_eq!(reloading.problem(), Some(&FileProblem::Missing(two.display().to_string())));
    fs::write(&two, "2").expect("written");
    assert!(reloading.reload());
    assert_eq!((reloading.value().map(String::as_str), reloading.problem()), (Some("1+2"), None));
    fs::write(&two, "bad").expect("written");
    assert!(reloading.reload());
    assert!(!reloading.reload());
    assert_eq!(reloading.value().map(String::as_str), Some("1+2"));
    assert_eq!(
        reloading.problem().map(FileProblem::to_string),
        Some(format!("{} cannot be used: it is bad", one.display()))
    );
    fs::write(&two, "2").expect("written");
    assert!(reloading.reload());
    assert_eq!((reloading.value().map(String::as_str), reloading.problem()), (Some("1+2"), None));
}

#[test]
fn a_file_as_large_as_it_may_be_is_read_and_a_larger_one_is_not() {
    let folder = folder();
    let path = folder.path().join("file");
    let mut reloading = ReloadingFile::new(vec![path.clone()], 2048, text);
    fs::write(&path, "x".repeat(2048)).expect("written");
    reloading.reload();
    assert_eq!(reloading.value().map(String::len), Some(2048));
    fs::write(&path, "y".repeat(2049)).expect("written");
    reloading.reload();
    assert!(reloading.problem().is_some_and(|problem| problem.to_string().ends_with("it is larger than 2 KiB")));
    assert!(reloading.value().is_some_and(|value| value.starts_with('x')));
}
