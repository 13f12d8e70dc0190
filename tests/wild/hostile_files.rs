//! Files that are none: whoever may write where they lie can hold up neither the start nor the end.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::PATIENCE;
use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::sink::TestSink;

/// Sparse: it takes no room.
const HUGE: u64 = 3 << 30;

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// What it says and its exit code; its end comes soon.
async fn run(mut command: Command) -> (String, Option<i32>) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it did not end: {:?}", child.wait_with_output().unwrap());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let output = child.wait_with_output().unwrap();
    (String::from_utf8([output.stdout, output.stderr].concat()).unwrap(), output.status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_no_file_of_positions_is_refused_at_once_and_left_as_it_is() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    pipe(&at("pipe"));
    std::fs::create_dir(at("folder")).unwrap();
    File::create(at("huge")).unwrap().set_len(HUGE).unwrap();
    // Endless zeros; only root may make one.
    let zeros = Command::new("mknod").arg(at("device")).args(["c", "1", "5"]).status().is_ok_and(|made| made.success());
    let none = [("pipe", "is a pipe"), ("folder", "is a folder"), ("huge", "has 3221225472 bytes")];
    for (name, why) in none.into_iter().chain(zeros.then_some(("device", "is a device"))) {
        let store = format!("file:{}", at(name).display());
        let plan = Plan::new(&aws, &sink, "orders").env("CHECKPOINT_STORE", &store);
        let (said, code) = run(plan.command()).await;
        assert!(said.contains(why) && code == Some(64), "{name}: {code:?} {said}");
        for arguments in [&["check"][..], &["positions", "show", "--store", &store]] {
            let mut command = plan.command();
            command.args(arguments);
            let (said, _) = run(command).await;
            assert!(said.contains(why), "{arguments:?} of {name}: {said}");
        }
    }
    let mut command = Plan::new(&aws, &sink, "orders").command();
    command.args(["positions", "show", "--store", "file:/dev/zero"]);
    let (said, _) = run(command).await;
    assert!(said.contains("is a device"), "{said}");
    assert_eq!(std::fs::metadata(at("huge")).unwrap().len(), HUGE);
}

/// The same without keys, so that files are read: each source asks nobody here for credentials.
fn without_keys(plan: &Plan) -> Plan {
    let plan = plan.clone().without("AWS_ACCESS_KEY_ID").without("AWS_SECRET_ACCESS_KEY");
    let plan = plan.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1");
    plan.env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
        .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/")
}

/// The SDK would read it into memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_end_that_the_sdk_would_read_is_refused_at_once() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let huge = folder.path().join("huge");
    File::create(&huge).unwrap().set_len(HUGE).unwrap();
    for name in [
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    ] {
        for path in ["/dev/zero", huge.to_str().unwrap()] {
            let plan = without_keys(&Plan::new(&aws, &sink, "orders")).env(name, path);
            let (said, code) = run(plan.command()).await;
            assert!(said.contains(&format!("{name}: {path} has more than 16 MiB")), "{name}={path}: {said}");
            assert_eq!(code, Some(64), "{name}={path}: {said}");
        }
    }
    let plan = Plan::new(&aws, &sink, "orders").env("AWS_CONFIG_FILE", "/dev/null");
    drop(plan.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null").start_ready().await);
}

/// Whoever reads them waits for somebody to write.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_start_that_reads_from_a_pipe() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("pipe");
    pipe(&path);
    let names = ["AWS_CONFIG_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"];
    for (threads, name) in ["1", "4"].into_iter().flat_map(|threads| names.map(|name| (threads, name))) {
        let plan = without_keys(&Plan::new(&aws, &sink, "orders")).env("TOKIO_WORKER_THREADS", threads);
        let adapter = plan.env(name, path.display().to_string()).start().await;
        // Whoever reads it has begun.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(adapter.get("/livez").await.0, 200);
        let (status, why) = adapter.get("/readyz").await;
        assert_eq!(status, 503, "{why}");
        let begun = Instant::now();
        assert_eq!(adapter.terminate().await, Some(0));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}
