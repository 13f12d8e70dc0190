//! What those see who run it: the end of a pod with an application in it, and a start after a long time or without positions.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::adapter::{Adapter, Plan};
use crate::support::aws::{FakeAws, Trouble};
use crate::support::oracle::{self, assert_complete_and_in_order};
use crate::support::sink::{Reaction, TestSink};
use crate::support::wait_for;

const TABLE: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders";
const HOUR: Duration = Duration::from_hours(1);
const CALLS: [&str; 5] = ["DescribeTable", "ListStreams", "DescribeStream", "GetShardIterator", "GetRecords"];

/// A native sidecar's end: the application first, the adapter when its port is closed.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_ends_before_its_sidecar_loses_nothing_and_repeats_nothing_that_it_acknowledged() {
    let (aws, mut sink, folder) =
        (FakeAws::with_table("orders", 2).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder);
    let adapter = plan.start_ready().await;
    aws.write("orders", 10, 3);
    wait_for("the first events", || sink.distinct() == 30).await;
    sink.down();
    aws.write("orders", 10, 3);
    wait_for("that the application is missed", || !adapter.logged_code("DSA-SINK-FAILING").is_empty()).await;
    assert_eq!(adapter.terminate().await, Some(0), "the end is an orderly one all the same");
    sink.up().await;
    let _next = plan.start_ready().await;
    wait_for("what waited", || sink.distinct() == 60).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    assert_eq!(oracle::duplicates(&sink.accepted()), 0);
}

/// A classic sidecar's end where the adapter is the quicker one.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_goes_on_after_its_sidecar_loses_nothing_and_repeats_nothing_that_it_acknowledged() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 2).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder);
    let adapter = plan.start_ready().await;
    aws.write("orders", 10, 20);
    wait_for("the first events", || sink.distinct() > 0).await;
    assert_eq!(adapter.terminate().await, Some(0));
    let before = sink.received().len();
    aws.write("orders", 10, 3);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(sink.received().len(), before, "who has ended delivers nothing");
    let _next = plan.start_ready().await;
    wait_for("what waited", || sink.distinct() == 230).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    assert_eq!(oracle::duplicates(&sink.accepted()), 0);
}

/// Everything that an earlier run has stored, as if it had ended so long ago.
fn age(plan: &Plan, folder: &tempfile::TempDir, age: Duration) {
    let positions = |arguments: &[&str]| {
        let output = plan.command().arg("positions").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let mut exported: Value = serde_json::from_str(&positions(&["export"])).unwrap();
    let moment = humantime::format_rfc3339_seconds(SystemTime::now() - age).to_string();
    let shards = &mut exported["default"][TABLE]["streams"][0]["shards"];
    for shard in shards.as_object_mut().unwrap().values_mut() {
        shard["verified_at"] = moment.clone().into();
        shard.as_object_mut().unwrap().remove("newest_record");
    }
    let path = folder.path().join("aged.json");
    std::fs::write(&path, exported.to_string()).unwrap();
    positions(&["import", path.to_str().unwrap()]);
}

fn deny_everything(aws: &FakeAws) {
    for call in CALLS {
        aws.script().faults.always(call, Trouble::Error("AccessDeniedException"));
    }
}

/// Lag and headroom, in seconds.
async fn behind(adapter: &Adapter) -> (f64, f64) {
    let labels = [("table", "orders")];
    (adapter.metric("lag_seconds", &labels).await, adapter.metric("retention_headroom_seconds", &labels).await)
}

fn near(seconds: f64, hours: f64) -> bool {
    (seconds - hours * 3600.0).abs() < 120.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_aws_refuses_shows_how_old_the_stored_positions_are() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let plan = Plan::new(&aws, &sink, TABLE).keeping_positions(&folder);
    let first = plan.start_ready().await;
    aws.write("orders", 5, 1);
    wait_for("the events", || sink.distinct() == 5).await;
    assert_eq!(first.terminate().await, Some(0));
    age(&plan, &folder, 20 * HOUR);
    deny_everything(&aws);
    let adapter = plan.start().await;
    wait_for("the refusal", || !adapter.logged_code("DSA-AWS-DENIED").is_empty()).await;
    let labels = [("table", "orders")];
    let (lag, left) = behind(&adapter).await;
    let refused = adapter.metric("aws_refused_seconds", &labels).await;
    assert!(near(lag, 20.0) && near(left, 4.0), "behind by {lag} s, {left} s are left, refused for {refused} s");
    assert_eq!(adapter.metric("ready", &[]).await, 0.0);
    aws.script().faults.clear();
    adapter.wait_ready().await;
    aws.write("orders", 5, 1);
    wait_for("the next events", || sink.distinct() == 10).await;
    let (lag, left) = behind(&adapter).await;
    assert!(lag < 5.0 && near(left, 24.0), "behind by {lag} s, {left} s are left");
    assert_eq!(adapter.metric("ready", &[]).await, 1.0);
    // A denial while it runs says nothing of changes: what AWS refuses is a metric of its own.
    aws.script().faults.always("GetRecords", Trouble::Error("AccessDeniedException"));
    wait_for("the refusal", || adapter.logged_code("DSA-AWS-DENIED").len() > 1).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let refused = adapter.metric("aws_refused_seconds", &labels).await;
    let lag = adapter.metric("lag_seconds", &labels).await;
    assert!(refused >= 2.0 && lag < 1.0, "refused for {refused} s, behind by {lag} s");
}

/// The positions are stored under the table's ARN, which only AWS knows where `TABLE` is a name.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_aws_refuses_shows_the_age_of_the_only_stored_table_of_that_name_and_no_number_where_there_is_none()
 {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder);
    deny_everything(&aws);
    let refused = async || {
        let adapter = plan.start().await;
        wait_for("the refusal", || !adapter.logged_code("DSA-AWS-DENIED").is_empty()).await;
        let (lag, left) = behind(&adapter).await;
        let shown = adapter.status().await["tables"][0]["lag_seconds"].as_f64();
        (lag, left, shown, adapter)
    };
    let (lag, left, shown, first) = refused().await;
    assert!(lag.is_nan() && left.is_nan() && shown.is_none(), "nothing is stored: {lag} {left} {shown:?}");
    aws.script().faults.clear();
    first.wait_ready().await;
    assert_eq!(first.metric("lag_seconds", &[("table", "orders")]).await, 0.0, "AWS has said what it is");
    aws.write("orders", 5, 1);
    wait_for("the events", || sink.distinct() == 5).await;
    assert_eq!(first.terminate().await, Some(0));
    age(&plan, &folder, 20 * HOUR);
    deny_everything(&aws);
    let (lag, left, shown, adapter) = refused().await;
    assert!(near(lag, 20.0) && near(left, 4.0) && near(shown.unwrap_or(-1.0), 20.0), "{lag} {left} {shown:?}");
    aws.script().faults.clear();
    adapter.wait_ready().await;
    aws.write("orders", 5, 1);
    wait_for("the next events", || sink.distinct() == 10).await;
    assert_eq!(oracle::duplicates(&sink.accepted()), 0);
    let (lag, left) = behind(&adapter).await;
    assert!(lag < 5.0 && near(left, 24.0), "behind by {lag} s, {left} s are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_stored_positions_on_an_older_stream_is_said_once() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let said = |adapter: &crate::support::adapter::Adapter| {
        adapter.logged_code("DSA-CONFIG").iter().filter(|line| line.to_string().contains("no stored positions")).count()
    };
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder).env("START_POSITION", "latest");
    let new = plan.start_ready().await;
    assert_eq!(said(&new), 0, "the stream is as young as the process");
    assert_eq!(new.terminate().await, Some(0));
    std::fs::remove_file(folder.path().join("positions.json")).unwrap();
    aws.script().stream("orders").arn = format!("{TABLE}/stream/2026-01-08T00:00:00.000");
    let lost = plan.start_ready().await;
    assert_eq!(said(&lost), 1);
    assert!(lost.metric("last_progress_timestamp_seconds", &[("table", "orders")]).await > 1.7e9);
    assert_eq!(lost.terminate().await, Some(0));
    // While nobody ran, the stream was made anew.
    aws.script().disable_stream("orders");
    aws.script().enable_stream("orders", 1);
    aws.script().stream("orders").arn = format!("{TABLE}/stream/2026-02-08T00:00:00.000");
    let restart = plan.start_ready().await;
    aws.write("orders", 1, 1);
    wait_for("an event of the new stream", || sink.distinct() == 1).await;
    assert_eq!(said(&restart), 0, "the table's positions are stored by now");
    let everything =
        Plan::new(&aws, &sink, "orders").env("CHECKPOINT_STORE", format!("file:{}/other", folder.path().display()));
    let asked_for = everything.env("START_POSITION", "trim-horizon").start_ready().await;
    assert_eq!(said(&asked_for), 0, "all that there is was asked for");
}

/// The runbook's recipe, `docs/runbook/positions.md`, with two seconds for its five minutes.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_lost_the_stored_positions_and_begins_at_the_last_progress_loses_nothing() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder).env("RETRY_BACKOFF_MAX", "1s");
    let adapter = plan.start_ready().await;
    aws.write("orders", 5, 1);
    wait_for("the first events", || sink.distinct() == 5).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let early = sink.accepted().len();
    // One item waits while others go on: the position of neither is lost with the volume.
    sink.react(|event| Reaction::Status(if event.item == "waits" { 400 } else { 202 }));
    aws.script().put("orders", "waits");
    wait_for("an item that is parked", || !adapter.logged_code("DSA-ITEM-PARKED").is_empty()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    aws.script().put("orders", "goes on");
    wait_for("the other item", || sink.distinct() == 6).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let labels = [("table", "orders")];
    let progress = adapter.metric("last_progress_timestamp_seconds", &labels).await;
    let headroom = adapter.metric("retention_headroom_seconds", &labels).await;
    let since = progress - (24.0 * 3600.0 - headroom) - 2.0;
    adapter.kill();
    aws.script().put("orders", "written while nobody runs");
    std::fs::remove_file(folder.path().join("positions.json")).unwrap();
    sink.behave();
    let since = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(since)).to_string();
    let next = plan.env("START_POSITION", since).start_ready().await;
    wait_for("what was owed and what is new", || sink.distinct() == 8).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    assert_eq!(sink.accepted().len() - early, 4, "what was delivered long before does not come again");
    assert_eq!(next.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_fails_is_seen_whatever_the_pauses_between_attempts_are() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let plan = Plan::new(&aws, &sink, "orders").env("RETRY_BACKOFF_MIN", "1h").env("RETRY_BACKOFF_MAX", "24h");
    let adapter = plan.start_ready().await;
    sink.react(|_| Reaction::Status(503));
    aws.write("orders", 1, 1);
    wait_for("the first attempt", || !adapter.logged_code("DSA-DELIVERY-FAILED").is_empty()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let refused = adapter.metric("sink_refused_seconds", &[("table", "orders")]).await;
    assert!(refused >= 1.0, "refused for {refused} s");
    sink.behave();
    aws.script().put("orders", "another");
    wait_for("an event", || sink.accepted().len() == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(adapter.metric("sink_refused_seconds", &[("table", "orders")]).await, 0.0, "the sink works");
}
