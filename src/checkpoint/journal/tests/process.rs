//! The file of positions and real processes: two of them, killed ones, one whose files may not grow.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::*;

const ROLE: &str = "CHECKPOINT_TEST_ROLE";
const PATH: &str = "CHECKPOINT_TEST_PATH";

/// This same program, doing what [`child`] does in that role. `prefix` is shell code to run before.
fn start(role: &str, path: &Path, prefix: &str) -> (Child, impl Iterator<Item = String>) {
    let name = concat!(module_path!(), "::child").split_once("::").unwrap().1;
    let mut child = Command::new("sh")
        .args(["-c", &format!("{prefix} exec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--ignored", "--nocapture", "--test-threads=2"])
        .env(ROLE, role)
        .env(PATH, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, said(lines))
}

fn said(lines: BufReader<ChildStdout>) -> impl Iterator<Item = String> {
    lines.lines().map_while(Result::ok).filter_map(|line| Some(line.strip_prefix("child: ")?.to_owned()))
}

#[tokio::test]
#[ignore = "the other tests here start it as a process of its own"]
async fn child() {
    let Some(path) = std::env::var_os(PATH).map(PathBuf::from) else { return };
    let store = open(&path);
    match std::env::var(ROLE).as_deref() {
        Ok("saves until it is killed") => {
            for number in 1.. {
                store.save("Orders", state(number).into()).await.unwrap();
                println!("child: {number}");
            }
        }
        Ok("outgrows its limit") => outgrow(store).await,
        Ok("has no descriptor left") => save_without_descriptors(store).await,
        role => panic!("{role:?}"),
    }
}

async fn outgrow(store: FileStore) {
    store.save("Orders", state(1).into()).await.unwrap();
    let mut large = state(2);
    let shard = StoredShard::at(Position::Start, UNIX_EPOCH, None);
    large.streams[0].shards.extend((0..1000).map(|n| (format!("shardId-{n:040}"), shard.clone())));
    println!("child: {}", store.save("Orders", large.into()).await.unwrap_err());
    println!(
        "child: {}",
        std::fs::read_to_string(store.file.path.clone()).unwrap().contains("after 000000000000000000001")
    );
    println!("child: {}", temporary_path(&store.file.path).exists());
    store.overwrite("Orders", state(3)).await.unwrap();
}

async fn save_without_descriptors(store: FileStore) {
    // The thread that writes is there from now on.
    store.save("Orders", state(1).into()).await.unwrap();
    let taken: Vec<std::fs::File> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    for number in 2..=5 {
        store.save("Orders", state(number).into()).await.unwrap();
    }
    // One that is replaced as a whole.
    store.overwrite("Orders", state(6)).await.unwrap();
    *store.writing.lock().await = Tail::UNKNOWN;
    store.save("Orders", state(7).into()).await.unwrap();
    println!("child: {} were taken", taken.len());
}

/// SIGKILL is how a pod ends that does not end in time.
#[tokio::test]
async fn a_process_killed_while_it_saves_keeps_all_that_it_confirmed_and_frees_the_lock() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    for round in 0..8 {
        let (mut child, mut said) = start("saves until it is killed", &path, "");
        let mut confirmed: u64 = said.nth(round * 3).expect("the child ended").parse().unwrap();
        assert!(matches!(FileStore::open(&path, "other"), Err(OpenError::InUse(_))), "another process holds it");
        child.kill().unwrap();
        child.wait().unwrap();
        confirmed = said.filter_map(|line| line.parse().ok()).last().unwrap_or(confirmed);
        let state_of_disk = stored(&path, "default", "Orders").await.unwrap();
        let next = confirmed + 1;
        assert!(
            state_of_disk == state(confirmed) || state_of_disk == state(next),
            "{confirmed} was confirmed, and the file has {state_of_disk:?}"
        );
    }
}

/// The kernel refuses to let the file grow, as it does on a full disk. (512-byte blocks.)
#[tokio::test]
async fn a_file_that_may_not_grow_is_survived_with_the_old_content_whole() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    let (mut child, said) = start("outgrows its limit", &path, "trap '' XFSZ; ulimit -f 8;");
    let said: Vec<String> = said.collect();
    assert!(child.wait().unwrap().success(), "{said:?}");
    assert!(said[0].contains("positions.json cannot be written: File too large"), "{said:?}");
    assert_eq!(said[1], "true", "the old content was harmed");
    assert_eq!(said[2], "false", "the temporary file stayed behind on a full disk");
    assert_eq!(stored(&path, "default", "Orders").await, Some(state(3)));
}

#[tokio::test]
async fn a_process_that_has_no_descriptor_left_stores_its_positions() {
    let folder = folder();
    let path = folder.path().join("positions.json");
    let (mut child, said) = start("has no descriptor left", &path, "ulimit -n 40;");
    let said: Vec<String> = said.collect();
    assert!(child.wait().unwrap().success(), "{said:?}");
    assert_eq!(stored(&path, "default", "Orders").await, Some(state(7)), "{said:?}");
}
