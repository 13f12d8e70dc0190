//! Volumes that cannot do all that the file of positions asks for: SMB (Azure Files), 9p, FUSE, Lustre, network file systems
//! without a lock manager. What a step only adds to safety does not decide whether positions are kept.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{World, failure, of, text};
use crate::shim::*;
use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::oracle;
use crate::support::sink::TestSink;
use crate::support::{PATIENCE, wait_for};

const CODE: &str = "DSA-CHECKPOINT-VOLUME";

/// What such a volume answers, and words of what is not promised there.
const LACKING: [(&[(&str, i32)], &str); 10] = [
    (&[("SYNC_FOLDER", EINVAL)], "loss of power"),
    (&[("SYNC_FOLDER", EOPNOTSUPP)], "loss of power"),
    (&[("SYNC_FOLDER", ENOSYS)], "loss of power"),
    (&[("SYNC_FOLDER", EBADF)], "loss of power"),
    (&[("OPEN_FOLDER", EACCES)], "loss of power"),
    (&[("OPEN_FOLDER", EISDIR)], "loss of power"),
    (&[("SYNC_FILE", EINVAL)], "loss of power"),
    (&[("SYNC_FILE", ENOSYS)], "loss of power"),
    (&[("MODE", 777), ("CHMOD", EPERM)], "file_mode=0600"),
    (&[("MODE", 777), ("CHMOD", EOPNOTSUPP)], "file_mode=0600"),
];

/// What is a failure whatever the volume, and what the operator hears.
const BROKEN: [(&str, i32, &str); 4] = [
    ("SYNC_FOLDER", EIO, "Input/output error"),
    ("SYNC_FOLDER", ENOSPC, "make room on the volume"),
    ("SYNC_FILE", EIO, "Input/output error"),
    ("SYNC_FILE", ENOSPC, "make room on the volume"),
];

async fn world(answers: &[(&str, i32)]) -> (FakeAws, TestSink, tempfile::TempDir, Plan) {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let plan = on_a_file_system_with(Plan::new(&aws, &sink, "orders").keeping_positions(&folder), answers);
    (aws, sink, folder, plan)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_cannot_make_positions_safer_keeps_them_and_it_is_said_once_what_is_not_promised() {
    for (answers, words) in LACKING {
        let (aws, sink, _folder, plan) = world(answers).await;
        let first = plan.start_ready().await;
        for round in 1..=3 {
            aws.write("orders", 5, 1);
            wait_for("the events", || sink.distinct() == 5 * round).await;
        }
        assert_eq!(first.logged_code("DSA-CHECKPOINT-FAILED").len(), 0, "{answers:?}");
        let said = first.logged_code(CODE);
        assert_eq!(said.len(), 1, "{answers:?}: {said:?}");
        let message = said[0]["message"].as_str().unwrap();
        assert!(message.contains("positions.json") && message.contains(words), "{answers:?}: {message}");
        assert_eq!(first.terminate().await, Some(0));
        let second = plan.start_ready().await;
        aws.write("orders", 1, 1);
        wait_for("the next event", || sink.distinct() == 16).await;
        assert_eq!(oracle::duplicates(&sink.received()), 0, "{answers:?}: positions were not kept");
        drop(second);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_fails_is_not_taken_for_one_that_lacks_something() {
    for (call, error, words) in BROKEN {
        let (_aws, _sink, _folder, plan) = world(&[(call, error)]).await;
        let adapter = plan.start().await;
        wait_for("the log line", || !adapter.logged_code("DSA-CHECKPOINT-FAILED").is_empty()).await;
        let (status, why) = adapter.get("/readyz").await;
        assert!(status == 503 && why.contains(words), "{call} {error}: {status} {why}");
        assert!(adapter.logged_code(CODE).is_empty(), "{call} {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_without_locks_is_refused_with_words_that_say_so() {
    for error in [ENOSYS, EOPNOTSUPP, EINVAL] {
        let (_aws, _sink, folder, plan) = world(&[("LOCK", error)]).await;
        let mut child = plan.command().stderr(Stdio::piped()).spawn().unwrap();
        let mut ended = None;
        let begun = Instant::now();
        while ended.is_none() && begun.elapsed() < PATIENCE {
            ended = child.try_wait().unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{error}: {said}");
        for words in ["CHECKPOINT_STORE", "has no file locks", "two adapters"] {
            assert!(said.contains(words), "{error}: {words} is not in {said}");
        }
        assert!(!folder.path().join("positions.json").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_that_a_server_does_not_give_now_are_waited_for_with_the_same_words() {
    let (_aws, _sink, _folder, plan) = world(&[("LOCK", ENOLCK)]).await;
    let mut adapter = plan.start().await;
    wait_for("the log line", || !adapter.logged_code("DSA-CHECKPOINT-AWAITED").is_empty()).await;
    let (status, why) = adapter.get("/readyz").await;
    assert!(status == 503 && why.contains("has no file locks"), "{status}: {why}");
    assert_eq!(adapter.get("/livez").await.0, 200);
    assert!(adapter.is_running());
}

/// `check` on such a file system: the result of the check of positions, and all that it says.
async fn checked(answers: &[(&str, i32)]) -> (String, String, String) {
    let mut world = World::new().await;
    for (name, value) in on_a_file_system_with(Plan::bare(), answers).variables() {
        world = world.env(&name, value);
    }
    let (checks, code) = world.json().await;
    let check = of(&checks, "checkpoint-store");
    let result = text(check, "result").to_owned();
    assert_eq!(code, Some(if result == "fail" { 69 } else { 0 }), "{checks:?}");
    if result == "fail" {
        assert_eq!(text(failure(&checks), "name"), "checkpoint-store");
    }
    let left: Vec<_> = std::fs::read_dir(world.folder.path()).unwrap().collect();
    assert!(left.is_empty(), "the check left {left:?}");
    (result, text(check, "detail").to_owned(), text(check, "remedy").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_tells_what_a_volume_does_not_promise_and_is_content() {
    for (answers, words) in LACKING {
        let (result, detail, fix) = checked(answers).await;
        assert_eq!(result, "warn", "{answers:?}: {detail}");
        assert!(format!("{detail} {fix}").contains(words), "{answers:?}: {detail}; {fix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_a_volume_that_fails_names_what_it_answers_and_not_its_room() {
    for (call, error, _) in BROKEN {
        let (result, detail, fix) = checked(&[(call, error)]).await;
        assert_eq!(result, "fail", "{call} {error}: {detail}");
        assert_eq!(fix.starts_with("df -h"), error == ENOSPC, "{call} {error}: {detail}; {fix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_a_file_system_without_locks_fails_and_names_another() {
    for error in [ENOSYS, EOPNOTSUPP, EINVAL, ENOLCK] {
        let (result, detail, fix) = checked(&[("LOCK", error)]).await;
        assert_eq!(result, "fail", "{error}: {detail}");
        assert!(detail.contains("has no file locks") && fix.contains("volume"), "{error}: {detail}; {fix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_others_may_read_is_closed_to_them_where_the_volume_can() {
    let (aws, sink, folder, plan) = world(&[("MODE", 777)]).await;
    let adapter = plan.start_ready().await;
    aws.write("orders", 5, 1);
    wait_for("the events", || sink.distinct() == 5).await;
    assert_eq!(adapter.terminate().await, Some(0));
    let mode = std::fs::metadata(folder.path().join("positions.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
