//! Starts, restarts, crashes and ends.

use std::time::{Duration, Instant};

use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::oracle::{self, assert_complete_and_in_order};
use crate::support::sink::{Reaction, TestSink};
use crate::support::{PATIENCE, wait_for, wait_within};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_the_last_run_stood() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 2).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder);
    let first = plan.start_ready().await;
    aws.write("orders", 10, 5);
    wait_for("the first events", || sink.distinct() == 50).await;
    assert_eq!(first.terminate().await, Some(0));
    aws.write("orders", 10, 5);
    let restart = Instant::now();
    let _second = plan.start_ready().await;
    wait_for("the events of the pause", || sink.distinct() == 100).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[restart]);
    assert_eq!(oracle::duplicates(&sink.received()), 0, "an orderly end leaves nothing to repeat");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_under_load_it_loses_nothing() {
    let kills: u64 = std::env::var("SOAK_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 3).await, TestSink::start().await, tempfile::tempdir().unwrap());
    aws.script().page_records = 40;
    let mut n = 0u64;
    sink.react(move |event| {
        n += 1;
        match n % 37 {
            0 => Reaction::Status(503),
            1 => Reaction::Reset,
            2 => Reaction::After(Duration::from_millis(10), Box::new(Reaction::Status(202))),
            _ if event.item == "item-5" && event.earlier < 1 => Reaction::Status(500),
            _ => Reaction::Status(202),
        }
    });
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder).env("POLL_INTERVAL", "5ms");
    let mut restarts = Vec::new();
    let mut dice = fastrand::Rng::with_seed(7);
    for round in 0..kills {
        let adapter = plan.start().await;
        // Most lives end before positions are stored for the first time, some later.
        let life = Duration::from_millis(if round % 8 == 7 { dice.u64(1000..1600) } else { dice.u64(0..200) });
        let begun = Instant::now();
        while begun.elapsed() < life {
            aws.write("orders", dice.usize(1..12), 1);
            tokio::time::sleep(Duration::from_millis(dice.u64(1..50))).await;
        }
        if round % 5 == 0 {
            let open = aws.script().open_shards("orders");
            let shard = &open[dice.usize(0..open.len())];
            match open.len() < 6 {
                true => drop(aws.script().split("orders", shard)),
                false => drop(aws.script().roll_over("orders", shard)),
            }
        }
        adapter.kill();
        sink.has_seen_everything().await;
        restarts.push(Instant::now());
    }
    println!("killed {kills} times in {:?}", restarts[0].elapsed());
    let last = Instant::now();
    let _adapter = plan.start_ready().await;
    let writes = aws.script().writes.clone();
    wait_within(4 * PATIENCE, "everything that was written", || sink.distinct() == writes.len()).await;
    println!(
        "drained in {:?}: {} events, {} duplicates",
        last.elapsed(),
        writes.len(),
        oracle::duplicates(&sink.received())
    );
    assert_complete_and_in_order(&writes, &sink.received(), &restarts);
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_is_used_once_even_if_the_restart_comes_before_the_first_record() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 2).await, TestSink::start().await, tempfile::tempdir().unwrap());
    aws.script().clock_ahead = Duration::from_secs(5000);
    aws.write("orders", 5, 1);
    aws.script().clock_ahead = Duration::from_secs(5002);
    let plan = Plan::new(&aws, &sink, "orders").env("START_POSITION", "latest").keeping_positions(&folder);
    plan.start_ready().await.kill();
    let before = aws.script().writes.len();
    aws.write("orders", 5, 2);
    plan.start_ready().await;
    let restarted = plan.start_ready().await;
    wait_for("what was written after the first start", || {
        oracle::lost(&aws.script().writes[before..], &sink.received()).is_empty()
    })
    .await;
    assert_eq!(sink.distinct(), 10, "nothing older than the first start");
    assert_eq!(aws.script().calls.iterators("LATEST").len(), 2, "asked for once for each shard");
    drop(restarted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_time_lets_in_what_was_written_then_or_later() {
    let (aws, sink) = (FakeAws::with_table("orders", 2).await, TestSink::start().await);
    aws.script().clock_ahead = Duration::ZERO;
    let past = std::time::SystemTime::now();
    aws.script().clock_ahead = Duration::from_secs(1000);
    aws.write("orders", 5, 2);
    let all =
        Plan::new(&aws, &sink, "orders").env("START_POSITION", humantime::format_rfc3339_millis(past).to_string());
    let adapter = all.start_ready().await;
    wait_for("everything", || sink.distinct() == 10).await;
    drop(adapter);

    let sink = TestSink::start().await;
    aws.script().clock_ahead = Duration::ZERO;
    // The world's clock goes back, so that what was written lies in its future and the start between the two.
    let adapter = Plan::new(&aws, &sink, "orders").env("START_POSITION", "latest").start_ready().await;
    aws.write("orders", 5, 1);
    wait_for("what is new", || sink.distinct() >= 5).await;
    drop(adapter);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_waits_for_answers_under_way_and_stores_them() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    sink.react(|_| Reaction::After(Duration::from_millis(400), Box::new(Reaction::Status(202))));
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder);
    let first = plan.start_ready().await;
    aws.write("orders", 8, 1);
    wait_for("requests under way", || sink.received().len() == 8).await;
    assert_eq!(first.terminate().await, Some(0));
    assert_eq!(sink.distinct(), 8, "answers under way were not awaited");
    let second = plan.start_ready().await;
    aws.write("orders", 1, 1);
    wait_for("the next event", || sink.distinct() == 9).await;
    assert_eq!(oracle::duplicates(&sink.received()), 0);
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_hangs_does_not_hold_up_the_end_and_its_events_come_again() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    sink.react(|_| Reaction::Hang);
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder).env("SHUTDOWN_TIMEOUT", "2s");
    let first = plan.start_ready().await;
    aws.write("orders", 3, 1);
    wait_for("requests under way", || sink.received().len() == 3).await;
    let begun = Instant::now();
    assert_eq!(first.terminate().await, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(3), "took {:?}", begun.elapsed());
    sink.behave();
    let _second = plan.start_ready().await;
    wait_for("the events again", || sink.distinct() == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    sink.react(|_| Reaction::Hang);
    let mut adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    aws.write("orders", 3, 1);
    wait_for("requests under way", || sink.received().len() == 3).await;
    adapter.signal("TERM");
    wait_for("the orderly end to begin", || !adapter.logged("shutting down").is_empty()).await;
    adapter.signal("INT");
    let begun = Instant::now();
    assert_eq!(adapter.exit().await.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_survived_and_reported() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder);
    let adapter = plan.start_ready().await;
    // A folder in the file's place fails every write, whoever runs the test.
    let obstacle = folder.path().join("positions.json");
    std::fs::rename(&obstacle, folder.path().join("kept")).unwrap();
    std::fs::create_dir(&obstacle).unwrap();
    aws.write("orders", 5, 2);
    wait_for("delivery in spite of the disk", || sink.distinct() == 10).await;
    wait_for("the log line", || !adapter.logged_code("DSA-CHECKPOINT-FAILED").is_empty()).await;
    assert!(adapter.metric("checkpoint_writes_total", &[("result", "error")]).await >= 1.0);
    std::fs::remove_dir(&obstacle).unwrap();
    assert_eq!(adapter.terminate().await, Some(0));
    let second = plan.start_ready().await;
    aws.write("orders", 1, 1);
    wait_for("the next event", || sink.distinct() == 11).await;
    assert_eq!(oracle::duplicates(&sink.received()), 0, "positions were stored at the end");
    drop(second);
}

/// A write beyond it sends a signal that ends a process which does not hear it.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_the_size_of_files_is_survived_and_reported() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder);
    let adapter = plan.clone().under("ulimit -f 0").start().await;
    wait_for("the log line", || !adapter.logged_code("DSA-CHECKPOINT-FAILED").is_empty()).await;
    let said = adapter.logged_code("DSA-CHECKPOINT-FAILED")[0].to_string();
    assert!(said.contains("positions.json"), "{said}");
    assert_eq!(adapter.terminate().await, Some(0));
    aws.write("orders", 5, 1);
    let _adapter = plan.start_ready().await;
    wait_for("all events", || sink.distinct() == 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_configuration_are_all_named_at_once_with_exit_code_64() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let plan =
        Plan::new(&aws, &sink, "orders").env("POLL_INTERVAL", "soon").env("DELIVERY_ORDER", "none").without("TABLE");
    let output = plan.command().output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{text}");
    for name in ["POLL_INTERVAL", "DELIVERY_ORDER", "TABLE"] {
        assert!(text.contains(name), "{name} is not named in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_positions_waits_and_takes_over() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder);
    let first = plan.start_ready().await;
    let second = plan.start().await;
    wait_for("the log line", || !second.logged_code("DSA-CHECKPOINT-AWAITED").is_empty()).await;
    assert_eq!(second.get("/livez").await.0, 200);
    let (status, reason) = second.get("/readyz").await;
    assert!(status == 503 && reason.contains("in use by another process"), "{status}: {reason}");
    aws.write("orders", 10, 1);
    wait_for("the first process's events", || sink.distinct() == 10).await;
    assert_eq!(first.terminate().await, Some(0));
    second.wait_ready().await;
    aws.write("orders", 10, 1);
    wait_for("the second process's events", || sink.distinct() == 20).await;
    assert_eq!(oracle::duplicates(&sink.received()), 0, "it did not go on where the first one stood");
    assert_eq!(second.logged_code("DSA-CHECKPOINT-AWAITED").len(), 1, "it is said once");
    assert_eq!(second.logged("the stored positions are there").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_not_there_yet_is_waited_for() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let volume = folder.path().join("volume");
    let path = format!("file:{}/positions", volume.display());
    let adapter = Plan::new(&aws, &sink, "orders").env("CHECKPOINT_STORE", path).start().await;
    wait_for("the log line", || !adapter.logged_code("DSA-CHECKPOINT-AWAITED").is_empty()).await;
    let (status, reason) = adapter.get("/readyz").await;
    assert!(status == 503 && reason.contains("mount a volume"), "{status}: {reason}");
    std::fs::create_dir(&volume).unwrap();
    adapter.wait_ready().await;
    assert_eq!(adapter.terminate().await, Some(0));
}
