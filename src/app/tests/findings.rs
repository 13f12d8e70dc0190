//! What a second reader found: each test says what breaks for whom. Those that fail are ignored until they are mended.

use super::scene::{Land, NEW, OLD, Plan, Scene};
use super::*;
use crate::checkpoint::{ShardState, StreamState};
use crate::delivery::parcel::Account as _;
use std::collections::BTreeSet;
use tokio::time::sleep;

const MINUTE: Duration = Duration::from_secs(60);

fn land() -> Arc<Land> {
    Arc::new(Land::default())
}

fn stored(arn: &str, drained: bool, shards: &[(&str, u64)]) -> StreamState {
    let shard = |(id, number): &(&str, u64)| {
        let position = crate::streams::position::Position::After(format!("{number:021}").parse().unwrap());
        ((*id).to_owned(), ShardState::Reading { position, parent: None })
    };
    StreamState {
        arn: arn.to_owned(),
        start: crate::streams::position::Position::Start,
        drained,
        saved_at: std::time::SystemTime::now(),
        shards: shards.iter().map(shard).collect(),
    }
}

/// A table whose old stream vanished before it was read to its end, and that has a new one with two changes.
async fn after_a_vanished_stream(order: DeliveryOrder) -> Scene {
    let land = land();
    land.shard(NEW, "n", None, &[11, 12], false);
    let stored = TableState { streams: vec![stored(OLD, false, &[("o", 1)])] };
    let scene = Scene::new(land, Plan { order, stored, ..Plan::default() });
    sleep(10 * MINUTE).await;
    scene
}

#[tokio::test(start_paused = true)]
async fn with_order_by_shard_a_vanished_stream_does_not_end_delivery_for_good_and_unseen() {
    let scene = after_a_vanished_stream(DeliveryOrder::Shard).await;
    let (alarm, ready) = (scene.health.not_live(), scene.health.not_ready(tokio::time::Instant::now()));
    assert!(scene.delivered().len() == 3 || alarm.is_some(), "{:?}; /livez ok; /readyz: {ready:?}", scene.delivered());
    assert_eq!(scene.delivered().len(), 3, "{alarm:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_stream_vanished_the_next_ones_positions_are_stored_or_each_restart_repeats_a_day() {
    let scene = after_a_vanished_stream(DeliveryOrder::Item).await;
    assert_eq!(scene.delivered().len(), 3, "the gap and two changes");
    assert_eq!(scene.books.ledger().unsettled(), 0);
    let state = scene.last_saved();
    let next = state.streams.iter().find(|stream| stream.arn == NEW).unwrap();
    assert!(next.shards.contains_key("n"), "no position in the new stream is ever stored: {state:?}");
}

/// A table that had an earlier stream, restarted while AWS refuses, with a position in its shard.
async fn restarted_while_aws_refuses(land: &Arc<Land>) -> Scene {
    land.script(|script| script.denied.extend(["DescribeStream", "DescribeTable"]));
    let stored = TableState { streams: vec![stored(OLD, true, &[]), stored(NEW, false, &[("n", 13)])] };
    let scene = Scene::new(land.clone(), Plan { stored, ..Plan::default() });
    sleep(MINUTE).await;
    scene
}

#[tokio::test(start_paused = true)]
#[ignore = "finding: the first store after a start holds only the drained streams"]
async fn a_restart_while_aws_refuses_keeps_the_stored_positions_of_a_table_that_had_an_earlier_stream() {
    let land = land();
    land.shard(NEW, "n", None, &[11, 12, 13], false);
    restarted_while_aws_refuses(&land).await;
    let saved = land.script(|script| script.saved.clone());
    let lacks =
        |state: &&TableState| !state.streams.iter().any(|stream| stream.arn == NEW && !stream.shards.is_empty());
    assert_eq!(saved.iter().find(lacks), None, "the store has forgotten the position: a restart now repeats a day");
}

#[tokio::test(start_paused = true)]
#[ignore = "finding: the first store after a start holds only the drained streams"]
async fn a_loss_is_said_although_aws_refused_at_the_restart_before() {
    let land = land();
    land.shard(NEW, "n", None, &[50], false);
    land.script(|script| script.trimmed = 50);
    let scene = restarted_while_aws_refuses(&land).await;
    let saved = scene.last_saved();
    // If nothing was stored, what an earlier run has left is still there.
    let kept = TableState { streams: vec![stored(OLD, true, &[]), stored(NEW, false, &[("n", 13)])] };
    let stored = if saved.streams.is_empty() { kept } else { saved };
    drop(scene);
    land.script(|script| script.denied.clear());
    let scene = Scene::new(land, Plan { stored, ..Plan::default() });
    sleep(MINUTE).await;
    let delivered = scene.delivered();
    assert!(delivered.iter().any(|id| id.starts_with("gap-")), "changes 14 to 49 are gone; delivered: {delivered:?}");
}

/// An open shard, one answer that it is not found, and a change a minute later: how many changes are delivered.
async fn delivered_after_one_not_found(start: StartPosition) -> usize {
    let land = land();
    land.shard(NEW, "n", None, &[], false);
    land.script(|script| script.not_found.insert("GetRecords", 1));
    let scene = Scene::new(land, Plan { start, ..Plan::default() });
    sleep(MINUTE).await;
    scene.land.write(NEW, "n", 7);
    sleep(60 * MINUTE).await;
    scene.delivered().len()
}

#[tokio::test(start_paused = true)]
#[ignore = "finding: a listing that shows the shard is not looked at"]
async fn one_answer_that_a_listed_shard_is_not_found_loses_no_change_after_a_start_with_latest() {
    assert_eq!(
        delivered_after_one_not_found(StartPosition::Latest).await,
        1,
        "the shard is listed, open, and not read"
    );
}

#[tokio::test(start_paused = true)]
#[ignore = "finding: a listing that shows the shard is not looked at"]
async fn one_answer_that_a_listed_shard_is_not_found_loses_no_change_after_a_start_at_a_moment() {
    let start = StartPosition::At(std::time::SystemTime::now() - 15 * MINUTE);
    assert_eq!(delivered_after_one_not_found(start).await, 1, "the shard is listed, open, and not read");
}

#[tokio::test(start_paused = true)]
#[ignore = "finding: positions are stored while an earlier run's are being taken up"]
async fn a_crash_right_after_a_restart_loses_no_stored_position() {
    let land = land();
    let ids: Vec<String> = (0..100).map(|number| format!("s{number:03}")).collect();
    ids.iter().for_each(|id| land.shard(NEW, id, None, &[1], false));
    let shards: Vec<(&str, u64)> = ids.iter().map(|id| (id.as_str(), 1)).collect();
    let stored = TableState { streams: vec![stored(NEW, false, &shards)] };
    let scene = Scene::new(land, Plan { stored, ..Plan::default() });
    sleep(MINUTE).await;
    let saved = scene.land.script(|script| script.saved.clone());
    let counts: Vec<usize> = saved.iter().map(|state| state.streams.iter().map(|one| one.shards.len()).sum()).collect();
    assert!(counts.iter().all(|count| *count == 100), "positions of 100 shards were stored, then only {counts:?}");
}

#[tokio::test(start_paused = true)]
async fn with_order_by_shard_a_sink_that_is_down_for_hours_while_the_stream_changes_is_no_stall() {
    let land = land();
    land.shard(OLD, "o", None, &[1], true);
    land.script(|script| {
        script.streams.get_mut(OLD).unwrap().disabled = true;
        script.status = 503;
    });
    let scene = Scene::new(land.clone(), Plan { order: DeliveryOrder::Shard, ..Plan::default() });
    sleep(5 * MINUTE).await;
    land.shard(NEW, "busy", None, &[], false);
    land.shard(NEW, "idle", None, &[], false);
    for number in 0..60 {
        sleep(MINUTE).await;
        land.write(NEW, "busy", 100 + number);
        assert_eq!(scene.health.not_live(), None);
    }
    // Shards are closed after about four hours.
    land.script(|script| script.streams.get_mut(NEW).unwrap().shards.get_mut("idle").unwrap().closed = true);
    assert_eq!(scene.alarm_within(60 * MINUTE).await, None, "nothing but the sink is at fault");
}

#[tokio::test(start_paused = true)]
#[ignore = "finding: shards of a vanished stream are ended as if they were read"]
async fn a_stop_because_a_stream_is_gone_leaves_its_stored_positions_as_they_are() {
    let land = land();
    land.shard(OLD, "o", None, &[1], false);
    let scene = Scene::new(land.clone(), Plan { on_data_loss: OnDataLoss::Stop, ..Plan::default() });
    sleep(MINUTE).await;
    let reading = |state: &TableState| matches!(state.streams[0].shards.get("o"), Some(ShardState::Reading { .. }));
    assert!(reading(&scene.last_saved()));
    // Three answers of a confused AWS; the table has a newer stream.
    land.shard(NEW, "n", None, &[2], false);
    land.script(|script| script.streams.remove(OLD));
    sleep(10 * MINUTE).await;
    assert!(scene.books.health().has_stopped());
    let state = scene.last_saved();
    assert!(reading(&state), "restarted with ON_DATA_LOSS=continue it takes the shard for read: {state:?}");
}

#[tokio::test(start_paused = true)]
#[ignore = "finding: nothing of that stream was owed"]
async fn a_first_start_is_not_stopped_over_a_stream_that_was_replaced_before_anything_was_read() {
    let land = land();
    land.shard(NEW, "n", None, &[2], false);
    land.script(|script| script.latest = Some(OLD));
    let scene = Scene::new(
        land.clone(),
        Plan { on_data_loss: OnDataLoss::Stop, start: StartPosition::Latest, ..Plan::default() },
    );
    sleep(Duration::from_millis(100)).await;
    land.script(|script| script.latest = Some(NEW));
    sleep(10 * MINUTE).await;
    assert!(!scene.books.health().has_stopped(), "nothing of the old stream was owed: {:?}", scene.last_saved());
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_that_never_looks_at_an_answer_is_noticed_while_nothing_new_comes() {
    let land = land();
    land.shard(NEW, "n", None, &[], false);
    let scene = Scene::new(land.clone(), Plan::default());
    sleep(MINUTE).await;
    land.script(|script| script.sink_takes = 2 * Duration::from_secs(1));
    land.write(NEW, "n", 1);
    while scene.books.ledger().unsettled() == 0 {
        sleep(Duration::from_millis(100)).await;
    }
    // The request is under way; the wake-up by its answer is lost.
    sleep(Duration::from_secs(1)).await;
    scene.dispatcher.store(true, Ordering::Relaxed);
    assert!(
        scene.alarm_within(60 * MINUTE).await.is_some(),
        "an event is neither settled nor tried again, for an hour"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_loses_a_wake_up_before_its_streams_first_answer_is_noticed() {
    let land = land();
    land.shard(NEW, "n", None, &[1], false);
    land.script(|script| script.denied.insert("DescribeStream"));
    let scene = Scene::new(land.clone(), Plan::default());
    sleep(MINUTE).await;
    scene.reading.store(true, Ordering::Relaxed);
    land.script(|script| script.denied.clear());
    assert!(scene.alarm_within(60 * MINUTE).await.is_some(), "AWS would answer, and nobody asks");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_outlives_every_timeout_is_noticed() {
    for operation in ["GetRecords", "DescribeStream"] {
        let land = land();
        land.shard(NEW, "n", None, &[1], false);
        let scene = Scene::new(land.clone(), Plan::default());
        sleep(MINUTE).await;
        // The SDK ends every call within 40 s, so this is a wake-up that was lost.
        land.script(|script| script.silent.insert(operation));
        assert!(scene.alarm_within(60 * MINUTE).await.is_some(), "{operation}: reading stands still, and /livez is ok");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_outlives_its_timeout_is_noticed() {
    let land = land();
    land.shard(NEW, "n", None, &[], false);
    let scene = Scene::new(land.clone(), Plan::default());
    sleep(MINUTE).await;
    land.script(|script| script.sink_never_answers = true);
    (0..100).for_each(|number| land.write(NEW, "n", number));
    assert!(
        scene.alarm_within(60 * MINUTE).await.is_some(),
        "DELIVERY_TIMEOUT is 30 s, and all places are taken for ever"
    );
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_never_tries_again_after_one_failed_write_is_noticed() {
    let land = land();
    land.shard(NEW, "n", None, &[1], false);
    let scene = Scene::new(land.clone(), Plan::default());
    sleep(MINUTE).await;
    land.script(|script| script.store_fails = true);
    land.write(NEW, "n", 2);
    sleep(20 * Duration::from_secs(1)).await;
    scene.keeper.store(true, Ordering::Relaxed);
    land.script(|script| script.store_fails = false);
    assert!(scene.alarm_within(60 * MINUTE).await.is_some(), "the store would answer, and nobody writes");
}

/// A process whose positions are in a file on a volume that does not answer: opening it takes as long as the test wants.
struct Hanging {
    folder: tempfile::TempDir,
    address: std::net::SocketAddr,
    stop: CancellationToken,
    ended: std::sync::mpsc::Receiver<()>,
}

impl Hanging {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("positions");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let variables = [
            ("TABLE", "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders".to_owned()),
            ("K_SINK", "http://127.0.0.1:9/".to_owned()),
            ("CHECKPOINT_STORE", format!("file:{}", path.display())),
            ("HTTP_ADDRESS", address.to_string()),
            ("SHUTDOWN_TIMEOUT", "1s".to_owned()),
        ];
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        let config = Config::from_env_vars(variables, &process::facts()).unwrap();
        let (stop, (end, ended)) = (CancellationToken::new(), std::sync::mpsc::channel());
        let stopped = stop.clone();
        std::thread::spawn(move || {
            let _ = tokio::runtime::Runtime::new().unwrap().block_on(run(config, stopped));
            let _ = end.send(());
        });
        std::thread::sleep(Duration::from_secs(2));
        Self { folder, address, stop, ended }
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = std::fs::OpenOptions::new().write(true).open(self.folder.path().join("positions"));
    }
}

#[test]
#[ignore = "finding: the port is open and not served before everything is set up"]
fn a_probe_is_answered_while_the_start_waits_for_the_store() {
    use std::io::{Read, Write};
    let process = Hanging::start();
    let mut probe = std::net::TcpStream::connect(process.address).expect("the port is open");
    probe.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    probe.write_all(b"GET /livez HTTP/1.1\r\nhost: t\r\n\r\n").unwrap();
    let mut start = [0; 12];
    let answer = probe.read_exact(&mut start).map(|()| String::from_utf8_lossy(&start).into_owned());
    assert_eq!(answer.ok().as_deref(), Some("HTTP/1.1 200"), "whoever restarts it for that helps nobody");
}
#[test]
#[ignore = "finding: nothing listens to the stop before everything is set up"]
fn a_stop_while_the_start_waits_for_the_store_takes_no_longer_than_configured() {
    let process = Hanging::start();
    process.stop.cancel();
    let ended = process.ended.recv_timeout(Duration::from_secs(10));
    assert!(ended.is_ok(), "SHUTDOWN_TIMEOUT is 1 s; after 10 s the start still waits");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_vanishes_while_pages_wait_leaves_the_tables_buffer_whole() {
    let land = land();
    let shards = ["a", "b", "c", "d", "e", "f", "g", "h"];
    shards.iter().for_each(|shard| land.shard(OLD, shard, None, &[], false));
    let scene = Scene::new(land.clone(), Plan::default());
    sleep(MINUTE).await;
    // Everybody is busy for a while: 16 updates wait, and each reader with a page besides.
    scene.pipeline.store(true, Ordering::Relaxed);
    for number in 0..10 {
        shards.iter().for_each(|shard| land.write(OLD, shard, number));
        sleep(10 * Duration::from_secs(1)).await;
    }
    land.shard(NEW, "n", None, &[7], false);
    land.script(|script| script.streams.remove(OLD));
    sleep(3 * MINUTE).await;
    scene.awake(&scene.pipeline);
    sleep(10 * MINUTE).await;
    assert_eq!(scene.books.ledger().unsettled(), 0);
    assert_eq!(scene.books.budget().held(), 0, "bytes that nobody gives back before a restart");
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_stands_still_with_the_last_page_in_hand_is_noticed() {
    let land = land();
    land.shard(NEW, "n", None, &[], false);
    let scene = Scene::new(land.clone(), Plan::default());
    sleep(MINUTE).await;
    scene.dispatcher.store(true, Ordering::Relaxed);
    // As many pages as wait for the dispatcher, and one more, with which the pipeline waits for room.
    for number in 0..65 {
        land.write(NEW, "n", number);
        while scene.books.ledger().unsettled() <= number as usize {
            sleep(Duration::from_millis(10)).await;
        }
    }
    scene.pipeline.store(true, Ordering::Relaxed);
    scene.awake(&scene.dispatcher);
    sleep(MINUTE).await;
    assert_eq!(scene.delivered().len(), 64);
    assert!(scene.alarm_within(60 * MINUTE).await.is_some(), "a change is read and never delivered, for an hour");
}

#[tokio::test(start_paused = true)]
async fn a_start_at_a_moment_delivers_every_change_since_whatever_listings_leave_out_and_when_it_restarts() {
    let mut skipped = 0;
    for seed in 0..8 {
        fastrand::seed(seed);
        let now = std::time::SystemTime::now();
        let millis = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
        let id = |minutes_ago: u64, number: u64| format!("shardId-{:020}-{number:08x}", millis - minutes_ago * 60_000);
        let (land, mut expected) = (land(), BTreeSet::new());
        // Lineages of shards of an hour each; the moment is two and a half hours ago.
        for lineage in 0..4_u64 {
            let mut parent: Option<String> = None;
            for generation in 0..6_u64 {
                let minutes_ago = (6 - generation) * 60 - lineage * 7;
                let (shard, number) = (id(minutes_ago, lineage * 10 + generation), 1 + lineage * 10 + generation);
                let closed = generation < 5;
                land.shard(NEW, &shard, parent.as_deref(), &[number], closed);
                if !closed || minutes_ago < 60 + 150 {
                    expected.insert(number.to_string());
                }
                parent = Some(shard);
            }
        }
        land.script(|script| (script.page, script.leaves_out) = (5, 0.3));
        let plan = |stored| Plan { start: StartPosition::At(now - 150 * MINUTE), stored, ..Plan::default() };
        let mut stored = TableState::default();
        for _ in 0..3 {
            let scene = Scene::new(land.clone(), plan(stored));
            sleep(Duration::from_millis(fastrand::u64(1..4_000))).await;
            stored = scene.last_saved();
        }
        land.script(|script| script.leaves_out = 0.1);
        let scene = Scene::new(land.clone(), plan(stored));
        sleep(20 * MINUTE).await;
        let delivered: BTreeSet<String> = scene.delivered().into_iter().collect();
        let lost: Vec<&String> = expected.difference(&delivered).collect();
        skipped += 24 - delivered.len();
        assert!(lost.is_empty(), "seed {seed}: {lost:?} of {expected:?} never came");
    }
    assert!(skipped > 0, "no start has left out a closed shard");
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test(start_paused = true)]
async fn what_takes_a_day_as_configured_or_as_others_please_is_no_stall() {
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        Plan { settings, ..Plan::default() }
    };
    let slow = Backoff::new(DAY, DAY).unwrap();
    let batch = Limits { concurrency: 2, events: 100, bytes: 1 << 20, wait: DAY };
    type Change = fn(&Land);
    let cases: Vec<(&str, Plan, Change)> = vec![
        ("a batch waits a day for company", with(&|it| (it.mode, it.limits) = (EventMode::Batch, batch)), |_| {}),
        ("requests take a day", with(&|it| it.timeout = DAY), |land| land.script(|script| script.sink_takes = DAY)),
        ("a day between tries", with(&|it| it.policy.backoff = slow), |land| land.script(|script| script.status = 503)),
        ("a day between tries of each", with(&|it| it.policy.backoff = slow), |land| {
            land.script(|script| script.status = 400);
        }),
        (
            "the dead-letter sink hangs",
            with(&|it| (it.policy.on_undeliverable, it.timeout) = (OnUndeliverable::DeadLetter, DAY)),
            |land| land.script(|script| (script.status, script.sink_takes) = (400, 2 * MINUTE)),
        ),
        ("a quiet shard is asked once a day", Plan { idle_max: DAY, ..Plan::default() }, |_| {}),
        ("the store takes a day", Plan::default(), |land| land.script(|script| script.store_takes = DAY)),
        ("the stream is not found", Plan::default(), |land| {
            land.script(|script| script.not_found.extend([("DescribeStream", u32::MAX), ("DescribeTable", u32::MAX)]));
        }),
    ];
    for (name, plan, change) in cases {
        let land = land();
        let shards = ["a", "b", "c", "d"];
        shards.iter().for_each(|shard| land.shard(NEW, shard, None, &[1, 2], false));
        change(&land);
        let scene = Scene::new(land.clone(), plan);
        for number in 3..8 {
            shards.iter().for_each(|shard| land.write(NEW, shard, number));
            assert_eq!(scene.alarm_within(60 * MINUTE).await, None, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_suspended_again_and_again_does_not_stand_still() {
    let land = land();
    let shards = ["a", "b", "c", "d"];
    shards.iter().for_each(|shard| land.shard(NEW, shard, None, &[1], false));
    let scene = Scene::new(land.clone(), Plan::default());
    for number in 2..400 {
        shards.iter().for_each(|shard| land.write(NEW, shard, number));
        sleep(Duration::from_millis(fastrand::u64(1..3_000))).await;
        tokio::time::advance(Duration::from_secs(fastrand::u64(60..3_600))).await;
        assert_eq!(scene.health.not_live(), None);
    }
    sleep(MINUTE).await;
    assert_eq!((scene.health.not_live(), scene.delivered().len()), (None, 4 * 399));
}
