//! What an operator sees in each trouble: readiness, liveness, metrics, log, and what becomes of the data.
//!
//! The rows of the table in `docs/operations.md`.

use std::time::Duration;

use crate::support::adapter::{Adapter, Plan};
use crate::support::aws::{FakeAws, Trouble};
use crate::support::oracle::assert_complete_and_in_order;
use crate::support::sink::{Reaction, TestSink};
use crate::support::wait_for;

/// Longer than a table may be refused before the pod counts as not ready: a minute.
const PATIENCE: Duration = Duration::from_secs(90);

async fn stage() -> (FakeAws, TestSink) {
    (FakeAws::with_table("orders", 1).await, TestSink::start().await)
}

/// Waits until the pod is not ready, and returns what it says.
async fn wait_unready(adapter: &Adapter) -> String {
    let begun = std::time::Instant::now();
    loop {
        let (status, body) = adapter.get("/readyz").await;
        assert_eq!(adapter.get("/livez").await.0, 200, "a trouble of others is no reason to restart");
        if status == 503 {
            return body;
        }
        assert!(begun.elapsed() < PATIENCE, "it stays ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn assert_ready_and_alive(adapter: &Adapter) {
    let (status, body) = adapter.get("/readyz").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(adapter.get("/livez").await.0, 200);
}

/// Waits until a metric has at least this value.
async fn wait_metric(adapter: &Adapter, name: &str, labels: &[(&str, &str)], least: f64) {
    let begun = std::time::Instant::now();
    loop {
        let value = adapter.metric(name, labels).await;
        if value >= least {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{name} {labels:?} is {value}, not {least}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_down_for_long_makes_the_pod_unready_and_nothing_is_lost() {
    let (aws, sink) = stage().await;
    let adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    sink.react(|_| Reaction::Status(503));
    aws.write("orders", 10, 3);
    let why = wait_unready(&adapter).await;
    assert!(why.contains("orders") && why.contains("503"), "{why}");
    assert_eq!(adapter.logged_code("DSA-SINK-FAILING").len(), 1);
    assert!(!adapter.logged_code("DSA-DELIVERY-FAILED").is_empty(), "the first failure is not said");
    wait_metric(&adapter, "delivery_attempts_total", &[("code", "503")], 3.0).await;
    wait_metric(&adapter, "lag_seconds", &[], 30.0).await;
    sink.behave();
    wait_for("all events", || sink.distinct() == 30).await;
    adapter.wait_ready().await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    assert_eq!(adapter.metric("lag_seconds", &[]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_sink_refuses_is_parked_and_the_pod_stays_ready() {
    let (aws, sink) = stage().await;
    let adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    sink.react(|event| Reaction::Status(if event.item == "item-3" { 400 } else { 202 }));
    aws.write("orders", 5, 1);
    wait_metric(&adapter, "parked_items", &[], 1.0).await;
    wait_for("the others", || sink.distinct() == 4).await;
    assert_ready_and_alive(&adapter).await;
    assert_eq!(adapter.logged_code("DSA-ITEM-PARKED").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_sink_that_is_down_leaves_the_pod_ready() {
    let (aws, sink) = stage().await;
    let mut dead = TestSink::start().await;
    dead.down();
    let plan = Plan::new(&aws, &sink, "orders").env("ON_UNDELIVERABLE", "dead-letter");
    let adapter = plan.env("DEAD_LETTER_SINK", dead.url()).start_ready().await;
    sink.react(|event| Reaction::Status(if event.item == "item-3" { 400 } else { 202 }));
    aws.write("orders", 5, 1);
    wait_metric(&adapter, "dead_letter_attempts_total", &[("code", "connect")], 2.0).await;
    wait_for("the others", || sink.distinct() == 4).await;
    assert_ready_and_alive(&adapter).await;
    assert_eq!(adapter.logged_code("DSA-DEAD-LETTER-SINK-FAILING").len(), 1);
    assert_eq!(adapter.metric("events_dead_lettered_total", &[]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_expire_make_the_pod_unready_until_new_ones_are_there() {
    let (aws, sink) = stage().await;
    let adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    aws.script().faults.always("GetRecords", Trouble::Error("ExpiredTokenException"));
    aws.write("orders", 5, 1);
    let why = wait_unready(&adapter).await;
    assert!(why.contains("credentials"), "{why}");
    assert!(!adapter.logged_code("DSA-AWS-DENIED").is_empty());
    assert!(adapter.metric("aws_calls_total", &[("result", "ExpiredTokenException")]).await >= 1.0);
    aws.script().faults.clear();
    wait_for("all events", || sink.distinct() == 5).await;
    adapter.wait_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_is_counted_and_reported_and_the_pod_stays_ready() {
    let (aws, sink) = stage().await;
    let adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    aws.script().faults.always("GetRecords", Trouble::Error("ProvisionedThroughputExceededException"));
    aws.write("orders", 5, 1);
    let throttled = [("operation", "GetRecords"), ("result", "ProvisionedThroughputExceededException")];
    wait_metric(&adapter, "aws_calls_total", &throttled, 2.0).await;
    assert_eq!(adapter.logged_code("DSA-AWS-THROTTLED").len(), 1);
    assert_ready_and_alive(&adapter).await;
    aws.script().faults.clear();
    wait_for("all events", || sink.distinct() == 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_that_is_down_for_long_makes_the_pod_unready_and_nothing_is_lost() {
    let (aws, sink) = stage().await;
    let adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    aws.script().faults.always("GetRecords", Trouble::Html(503));
    aws.write("orders", 5, 2);
    let why = wait_unready(&adapter).await;
    assert!(why.contains("GetRecords"), "{why}");
    assert!(!adapter.logged_code("DSA-AWS-FAILING").is_empty());
    wait_metric(&adapter, "aws_refused_seconds", &[], 30.0).await;
    aws.script().faults.clear();
    wait_for("all events", || sink.distinct() == 10).await;
    adapter.wait_ready().await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_disabled_is_read_to_its_end_and_the_next_one_is_waited_for() {
    let (aws, sink) = stage().await;
    let adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    aws.write("orders", 5, 1);
    aws.script().disable_stream("orders");
    wait_for("the rest of the stream", || sink.distinct() == 5).await;
    let why = wait_unready(&adapter).await;
    assert!(why.contains("a new stream"), "{why}");
    wait_for("the log line", || !adapter.logged_code("DSA-STREAM-AWAITED").is_empty()).await;
    aws.script().enable_stream("orders", 1);
    aws.write("orders", 5, 1);
    wait_for("the new stream's events", || sink.distinct() == 10).await;
    adapter.wait_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_paused_goes_on_where_it_stood() {
    let (aws, sink) = stage().await;
    let adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    aws.write("orders", 5, 1);
    wait_for("the first events", || sink.distinct() == 5).await;
    adapter.pause();
    aws.write("orders", 5, 1);
    // Iterators live for fifteen minutes; a pause outlasts them.
    aws.script().faults.next("GetRecords", 1, Trouble::Error("ExpiredIteratorException"));
    adapter.signal("CONT");
    wait_for("the others", || sink.distinct() == 10).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    assert_ready_and_alive(&adapter).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buffer_that_is_full_stops_reading_until_there_is_room() {
    let (aws, sink) = stage().await;
    sink.react(|_| Reaction::Status(503));
    aws.write("orders", 2000, 3);
    let adapter = Plan::new(&aws, &sink, "orders").env("BUFFER_MEMORY", "1MiB").start_ready().await;
    wait_metric(&adapter, "buffered_bytes", &[], 400_000.0).await;
    let read = adapter.metric("records_read_total", &[]).await;
    assert!(read < 6000.0, "all {read} records were read into a buffer of 1 MiB");
    sink.behave();
    wait_for("all events", || sink.distinct() == 6000).await;
    assert!(adapter.metric("buffered_bytes", &[]).await <= 3.0 * 1024.0 * 1024.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_of_positions_is_refused_and_named() {
    let (aws, sink) = stage().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("positions.json");
    std::fs::write(&path, "{\"version\":1,\"groups\":{").unwrap();
    let output = Plan::new(&aws, &sink, "orders").keeping_positions(&folder).command().output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{text}");
    assert!(text.contains("positions.json") && text.contains("CHECKPOINT_STORE"), "{text}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"version\":1,\"groups\":{", "it was changed");
}
