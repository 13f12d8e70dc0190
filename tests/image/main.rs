//! The Dockerfile agrees with the files that say the same: a build that fails, or an image that Kubernetes refuses, is noticed
//! here and not at somebody's desk. `tests/image/run` builds it and tests the image itself.
#![allow(clippy::unwrap_used)] // a file that cannot be read has failed

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands between `before` and `after`, the first time.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("there is no {before:?}"));
    rest.split_once(after).unwrap_or_else(|| panic!("there is no {after:?} behind {before:?}")).0
}

#[test]
fn the_image_is_built_with_the_compiler_of_the_tests() {
    let image = read("Dockerfile");
    let tests = read("rust-toolchain.toml");
    assert_eq!(between(&image, "\nARG BUILD_IMAGE=rust:", "-"), between(&tests, "channel = \"", "\""));
}

#[test]
fn nothing_runs_that_the_build_did_not_put_there() {
    let image = read("Dockerfile");
    let stages: Vec<&str> = image.lines().filter(|line| line.starts_with("FROM ")).collect();
    let expected =
        ["FROM ${BUILD_IMAGE} AS cyclonedx", "FROM ${BUILD_IMAGE} AS build", "FROM scratch AS sbom", "FROM scratch"];
    assert_eq!(stages, expected);
}

#[test]
fn the_labels_name_this_version_and_licence() {
    let image = read("Dockerfile");
    assert_eq!(between(&image, "image.version=\"", "\""), env!("CARGO_PKG_VERSION"));
    assert_eq!(between(&image, "image.licenses=\"", "\""), env!("CARGO_PKG_LICENSE"));
}

/// The numbers behind these fields, of all files below a folder.
fn users(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            users(&entry, found);
            continue;
        }
        let text = fs::read_to_string(&entry).unwrap();
        for field in ["runAsUser:", "runAsGroup:", "fsGroup:"] {
            // `null` takes a field of the base away.
            let values = text.split(field).skip(1).map(str::trim_start).filter(|rest| !rest.starts_with("null"));
            found.extend(values.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>()));
        }
    }
}

#[test]
fn the_manifests_run_the_image_as_its_own_user() {
    let image = read("Dockerfile");
    let mut found = BTreeSet::new();
    users(&root().join("manifests"), &mut found);
    let user = found.first().unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(image.contains(&format!("\nUSER {user}:{user}\n")), "the manifests say {user}");
}

#[test]
fn everything_that_is_copied_is_sent_to_the_build_and_nothing_else() {
    let image = read("Dockerfile");
    let copied: BTreeSet<&str> = image
        .lines()
        .filter_map(|line| line.strip_prefix("COPY ").filter(|rest| !rest.starts_with("--from")))
        .flat_map(|line| line.split(' ').rev().skip(1))
        .collect();
    let ignored = read(".dockerignore");
    assert!(ignored.lines().any(|line| line == "*"));
    assert_eq!(ignored.lines().filter_map(|line| line.strip_prefix('!')).collect::<BTreeSet<_>>(), copied);
}

/// The Dockerfile cuts the tables of tests, benches and examples up to the next blank line. Cargo refuses to build when a file
/// is missing that a table names.
#[test]
fn the_manifest_names_no_file_that_the_build_does_not_have() {
    let manifest = read("Cargo.toml");
    let mut inside = false;
    let left: Vec<&str> = manifest
        .lines()
        .filter(|line| {
            inside |= ["[[test]]", "[[bench]]", "[[example]]"].contains(line);
            let cut = inside;
            inside &= !line.is_empty();
            !cut
        })
        .collect();
    for line in left {
        assert!(!line.starts_with("[[") && !line.starts_with("path =") && !line.starts_with("harness ="), "{line}");
    }
}
