//! The file of positions: tried without a trace, beside a running adapter too.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::harness::{World, failure, named, of, run, text};
use crate::support::wait_for;

/// Every file of a folder with its content.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
}

/// Root may write everywhere. Somebody else may not even see the program where it was built, so it is copied.
fn as_somebody_who_is_not_root(command: Command, folder: &Path) -> Command {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return command;
    }
    std::fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    let program = folder.join("adapter");
    std::fs::copy(command.get_program(), &program).unwrap();
    let mut other = Command::new(program);
    other.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    other.current_dir("/").uid(65534).gid(65534);
    other
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_leaves_no_file_behind() {
    let world = World::new().await;
    let (checks, code) = world.json().await;
    assert_eq!((code, text(of(&checks, "checkpoint-store"), "result")), (Some(0), "ok"));
    assert!(content(world.folder.path()).is_empty(), "{:?}", content(world.folder.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_stay_as_they_were() {
    let world = World::new().await;
    let adapter = world.plan().start_ready().await;
    world.aws.write("orders", 10, 1);
    wait_for("the events", || world.sink.seen().len() >= 10).await;
    assert_eq!(adapter.terminate().await, Some(0));
    let before = content(world.folder.path());
    assert!(before.contains_key("positions.json"));
    let (checks, code) = world.json().await;
    assert_eq!((code, text(of(&checks, "checkpoint-store"), "result")), (Some(0), "ok"));
    assert_eq!(content(world.folder.path()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_adapter_is_not_disturbed_and_is_told_of() {
    let world = World::new().await;
    let mut adapter = world.plan().start_ready().await;
    for _ in 0..5 {
        let (checks, code) = world.json().await;
        assert_eq!((code, named(&checks, "warn")), (Some(0), vec!["checkpoint-store"]));
        assert!(text(of(&checks, "checkpoint-store"), "detail").contains("in use by another process"), "{checks:?}");
    }
    world.aws.write("orders", 10, 1);
    wait_for("the events", || world.sink.methods().iter().filter(|method| *method == "POST").count() == 10).await;
    assert!(adapter.is_running() && adapter.logged_code("DSA-CHECKPOINT-FAILED").is_empty());
    assert_eq!(adapter.terminate().await, Some(0));
    let _next = world.plan().start_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_missing_fails_with_the_command_that_makes_it() {
    let world = World::new().await;
    let folder = world.folder.path().join("not here");
    let world = world.env("CHECKPOINT_STORE", format!("file:{}/positions.json", folder.display()));
    let (checks, code) = world.json().await;
    assert_eq!((code, text(failure(&checks), "name")), (Some(69), "checkpoint-store"));
    assert_eq!(text(failure(&checks), "remedy"), format!("mkdir -p '{}'", folder.display()));
    assert!(!folder.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_fails_with_the_command_that_gives_it_away() {
    let world = World::new().await;
    std::fs::set_permissions(world.folder.path(), Permissions::from_mode(0o555)).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = as_somebody_who_is_not_root(world.plan().command(), elsewhere.path());
    command.args(["check", "--output", "json"]);
    let run = run(command).await;
    let checks = run.checks();
    assert_eq!((run.code, text(failure(&checks), "name")), (Some(69), "checkpoint-store"));
    let remedy = text(failure(&checks), "remedy");
    assert!(remedy.starts_with("chown -R ") && remedy.contains(world.folder.path().to_str().unwrap()), "{remedy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_ours_fails_and_is_left_alone() {
    let world = World::new().await;
    let path = world.folder.path().join("positions.json");
    std::fs::write(&path, "somebody's notes").unwrap();
    let (checks, code) = world.json().await;
    assert_eq!((code, text(failure(&checks), "name")), (Some(69), "checkpoint-store"));
    assert!(text(failure(&checks), "detail").contains(path.to_str().unwrap()), "{checks:?}");
    assert!(text(failure(&checks), "remedy").contains("mv "), "{checks:?}");
    assert_eq!(content(world.folder.path()).into_values().collect::<Vec<_>>(), [b"somebody's notes"]);
}
