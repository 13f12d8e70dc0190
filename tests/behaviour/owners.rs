//! Several processes, one DynamoDB table of positions, one owner of each table that is read: one scene for each promise, and what the
//! adapter says in it. `tests/owners` repeats such scenes by chance, under load and for as long as one likes.

use std::time::{Duration, Instant};

use crate::support::adapter::{Adapter, Plan};
use crate::support::aws::FakeAws;
use crate::support::oracle::{self, assert_complete_and_in_order};
use crate::support::positions_table::EmbeddedDynamoDb;
use crate::support::proxy::{Line, TcpProxy};
use crate::support::sink::TestSink;
use crate::support::wait_for;

/// The shortest lease: nobody wants to wait for tests.
const LEASE: Duration = Duration::from_secs(3);

struct World {
    aws: FakeAws,
    sink: TestSink,
    dynamodb: EmbeddedDynamoDb,
    /// From the adapters to DynamoDB.
    way: TcpProxy,
    plan: Plan,
}

impl World {
    async fn new() -> Self {
        let (aws, sink) = (FakeAws::with_table("orders", 2).await, TestSink::start().await);
        let dynamodb = EmbeddedDynamoDb::start().await;
        let way = TcpProxy::before(dynamodb.endpoint()).await;
        let plan = Plan::new(&aws, &sink, "orders").keeping_positions_in(&dynamodb);
        let plan = plan.env("CHECKPOINT_ENDPOINT_URL", way.endpoint());
        let plan = plan.env("CHECKPOINT_TABLE_CREATE", "true").env("LEASE_DURATION", format!("{}s", LEASE.as_secs()));
        Self { aws, sink, dynamodb, way, plan }
    }

    async fn pod(&self, name: &str) -> Adapter {
        let plan = self.plan.clone().env("POD_NAME", name);
        plan.start_ready().await
    }

    async fn delivered(&self, what: &str, count: usize) {
        wait_for(what, || self.sink.distinct() == count).await;
    }
}

/// What its status says of the lease of the only table.
async fn lease(adapter: &Adapter) -> serde_json::Value {
    adapter.status().await["tables"][0]["lease"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_waits_ready_and_reads_within_a_second_of_an_orderly_end() {
    let world = World::new().await;
    let first = world.pod("pod-a").await;
    world.aws.write("orders", 10, 1);
    world.delivered("the first process's events", 10).await;
    let second = world.pod("pod-b").await;
    let (owner, waiting) = (lease(&first).await, lease(&second).await);
    assert!(owner["held"] == true && owner["owner"].as_str().unwrap().starts_with("pod-a "), "{owner}");
    assert!(waiting["held"] == false && waiting["waits_for"] == owner["owner"], "{waiting}");
    for (name, expected) in [("lease_held", 0.0), ("lag_seconds", 0.0), ("checkpoint_age_seconds", 0.0)] {
        assert_eq!(second.metric(name, &[]).await, expected, "an alert would fire on who waits: {name}");
    }
    assert!(second.metric("retention_headroom_seconds", &[]).await > 86_000.0);
    assert_eq!(first.metric("lease_held", &[]).await, 1.0);
    world.aws.write("orders", 10, 1);
    world.delivered("events while it waits", 20).await;
    assert_eq!(second.metric("events_delivered_total", &[]).await, 0.0, "both processes deliver");
    let told = Instant::now();
    assert_eq!(first.terminate().await, Some(0));
    let ended = Instant::now();
    world.aws.write("orders", 10, 1);
    world.delivered("the second process's events", 30).await;
    // A second for the look at the lease, and one for a busy machine.
    let (end, takeover) = (ended - told, ended.elapsed());
    let most = Duration::from_secs(2);
    assert!(end < most && takeover < most, "it ended after {end:?}, and the other one delivered {takeover:?} later");
    assert_eq!(oracle::duplicates(&world.sink.received()), 0, "it did not go on where the first one stood");
    assert_eq!(lease(&second).await["held"], true);
    assert_eq!(second.metric("lease_changes_total", &[("kind", "received")]).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_starts_after_the_last_one_has_ended_goes_on_where_that_one_stood() {
    let world = World::new().await;
    let first = world.pod("pod-a").await;
    world.aws.write("orders", 10, 5);
    world.delivered("the first process's events", 50).await;
    assert_eq!(first.terminate().await, Some(0));
    world.aws.write("orders", 10, 5);
    let between = Instant::now();
    let _second = world.pod("pod-b").await;
    world.delivered("what was written between the two", 100).await;
    assert_complete_and_in_order(&world.aws.script().writes, &world.sink.received(), &[between]);
    assert_eq!(oracle::duplicates(&world.sink.received()), 0, "an orderly end leaves nothing to repeat");
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_updates_under_load_repeat_nothing_and_keep_each_items_order() {
    let world = World::new().await;
    let mut owner = world.pod("pod-0").await;
    let mut ends = Vec::new();
    for pod in 1..4 {
        let next = world.pod(&format!("pod-{pod}")).await;
        world.aws.write_slowly("orders", 20, 100, Duration::from_millis(2)).await;
        let open = world.aws.script().open_shards("orders");
        world.aws.script().split("orders", &open[0]);
        world.aws.write("orders", 20, 2);
        assert_eq!(owner.terminate().await, Some(0));
        ends.push(Instant::now());
        owner = next;
    }
    let written = world.aws.script().writes.len();
    world.delivered("everything", written).await;
    assert_complete_and_in_order(&world.aws.script().writes, &world.sink.received(), &ends);
    assert_eq!(oracle::duplicates(&world.sink.received()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_is_followed_by_the_one_that_waits_and_nothing_is_lost() {
    let world = World::new().await;
    let first = world.pod("pod-a").await;
    world.aws.write("orders", 20, 5);
    world.delivered("the first process's events", 100).await;
    let _second = world.pod("pod-b").await;
    first.kill();
    let killed = Instant::now();
    world.aws.write("orders", 20, 5);
    world.delivered("the second process's events", 200).await;
    assert_complete_and_in_order(&world.aws.script().writes, &world.sink.received(), &[killed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_was_paused_for_longer_than_its_lease_gives_up_and_waits() {
    let world = World::new().await;
    let first = world.pod("pod-a").await;
    world.aws.write("orders", 10, 1);
    world.delivered("the first process's events", 10).await;
    let second = world.pod("pod-b").await;
    first.pause();
    let paused = Instant::now();
    world.aws.write("orders", 10, 1);
    world.delivered("the second process's events", 20).await;
    let resumed = Instant::now();
    first.signal("CONT");
    wait_for("the first one's end", || !first.logged_code("DSA-LEASE-LOST").is_empty()).await;
    while lease(&first).await["held"] == true {
        assert!(resumed.elapsed() < LEASE, "it still counts as the owner");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.aws.write("orders", 10, 1);
    world.delivered("everything", 30).await;
    assert_complete_and_in_order(&world.aws.script().writes, &world.sink.received(), &[paused, resumed]);
    assert!(lease(&second).await["held"] == true && lease(&first).await["held"] == false);
    assert_eq!(first.get("/readyz").await.0, 200, "it waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_positions_that_is_away_stops_delivery_with_the_lease_until_it_is_back() {
    let world = World::new().await;
    let adapter = world.pod("pod-a").await;
    world.aws.write("orders", 10, 1);
    world.delivered("the first events", 10).await;
    world.way.set(Line::Closed);
    world.aws.write("orders", 10, 1);
    world.delivered("what is written while the lease lasts", 20).await;
    wait_for("the lease's end", || !adapter.logged_code("DSA-LEASE-LOST").is_empty()).await;
    world.aws.write("orders", 10, 1);
    wait_for("a try to get it again", || world.way.refused() > 10).await;
    let mended = Instant::now();
    world.way.set(Line::Whole);
    world.delivered("everything", 30).await;
    assert_complete_and_in_order(&world.aws.script().writes, &world.sink.received(), &[mended]);
    let early = world.sink.received().iter().filter(|event| event.version == 3 && event.arrived < mended).count();
    assert_eq!(early, 0, "something was delivered without a lease");
    assert_eq!(lease(&adapter).await["held"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_positions_that_is_missing_is_named_and_waited_for() {
    let world = World::new().await;
    let adapter = world.plan.clone().env("CHECKPOINT_TABLE_CREATE", "false").start().await;
    let mut reason = String::new();
    for _ in 0..400 {
        reason = adapter.get("/readyz").await.1;
        if reason.contains("does not exist") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(reason.contains("positions create-table") && reason.contains("dynamodb:PutItem"), "{reason}");
    let mut command = world.plan.command();
    command.args(["positions", "create-table"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    adapter.wait_ready().await;
    world.aws.write("orders", 10, 1);
    world.delivered("the events", 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_taken_from_its_owner_is_read_on_from_what_was_changed() {
    let world = World::new().await;
    let adapter = world.pod("pod-a").await;
    world.aws.write("orders", 10, 1);
    world.delivered("the events", 10).await;
    let mut command = world.plan.command();
    command.args(["positions", "set", "--table", "orders", "--to", "start", "--take"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    wait_for("everything again", || oracle::duplicates(&world.sink.received()) == 10).await;
    world.aws.write("orders", 10, 1);
    world.delivered("the next events", 20).await;
    assert_eq!(lease(&adapter).await["held"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_goes_on_in_a_table_where_it_stood_in_a_file() {
    let (world, folder) = (World::new().await, tempfile::tempdir().unwrap());
    let in_file = world.plan.clone().keeping_positions(&folder);
    let adapter = in_file.start_ready().await;
    world.aws.write("orders", 10, 5);
    world.delivered("the events with positions in a file", 50).await;
    assert_eq!(adapter.terminate().await, Some(0));
    let file = folder.path().join("positions.json");
    let file = file.to_str().unwrap();
    for arguments in [vec!["create-table"], vec!["copy", "--file", file, "--to", "dynamodb:positions"]] {
        let mut command = world.plan.command();
        command.arg("positions").args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    world.aws.write("orders", 10, 5);
    let moved = Instant::now();
    let _adapter = world.pod("pod-a").await;
    world.delivered("the events of the pause", 100).await;
    assert_complete_and_in_order(&world.aws.script().writes, &world.sink.received(), &[moved]);
    assert_eq!(oracle::duplicates(&world.sink.received()), 0, "it did not go on where the file stood");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_cannot_read_what_is_stored_is_not_ready_and_says_why() {
    let world = World::new().await;
    // It creates the table.
    assert_eq!(world.pod("pod-a").await.terminate().await, Some(0));
    let partition = "default arn:aws:dynamodb:eu-west-1:123456789012:table/orders";
    world.dynamodb.put_strange_entry("positions", partition).await;
    let adapter = world.plan.clone().env("POD_NAME", "pod-b").start().await;
    wait_for("what it waits for", || !adapter.logged_code("DSA-CHECKPOINT-AWAITED").is_empty()).await;
    let (status, why) = adapter.get("/readyz").await;
    assert!(status == 503 && why.contains("stored positions") && why.contains("moon"), "{status}: {why}");
    world.aws.write("orders", 3, 1);
    assert!(world.sink.received().is_empty(), "it reads without knowing what is delivered");
}
