//! From the stream's side: shards, listings, iterators, loss, and AWS's bad days.

use std::time::{Duration, Instant};

use crate::support::adapter::Plan;
use crate::support::aws::{Children, FakeAws, LastPage, Trouble};
use crate::support::oracle::{self, assert_complete_and_in_order};
use crate::support::sink::{Reaction, TestSink};
use crate::support::wait_for;

async fn roll_over_under_load(aws: &FakeAws, sink: &TestSink) -> Vec<(String, String)> {
    let mut seams = Vec::new();
    for _ in 0..3 {
        aws.write("orders", 20, 2);
        let open = aws.script().open_shards("orders");
        for parent in open {
            let child = aws.script().roll_over("orders", &parent);
            seams.push((parent, child));
        }
        aws.write("orders", 20, 2);
        let written = aws.script().writes.len();
        wait_for("all events", || sink.distinct() == written).await;
    }
    seams
}

#[tokio::test(flavor = "multi_thread")]
async fn children_are_read_immediately_whatever_the_poll_interval() {
    for last_page in [LastPage::WithRecords, LastPage::Empty] {
        let (aws, sink) = (FakeAws::with_table("orders", 2).await, TestSink::start().await);
        aws.script().last_page = last_page;
        let plan = Plan::new(&aws, &sink, "orders").env("POLL_INTERVAL", "2s").env("IDLE_POLL_INTERVAL_MAX", "2s");
        let adapter = plan.start_ready().await;
        let seams = roll_over_under_load(&aws, &sink).await;
        assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
        let handovers = adapter.metric("shard_handover_seconds_count", &[]).await;
        assert_eq!(handovers, seams.len() as f64, "handovers are not counted");
        for (parent, child) in seams {
            let world = aws.script();
            let gap = world.calls.first_read(&child).unwrap() - world.calls.last_read(&parent).unwrap();
            assert!(gap < Duration::from_secs(1), "{child} was read {gap:?} after the end of {parent}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn children_are_found_when_aws_is_late_to_name_them() {
    for children in [Children::Ignored, Children::LateBy(5)] {
        let (aws, sink) = (FakeAws::with_table("orders", 2).await, TestSink::start().await);
        aws.script().children = children;
        let _adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
        roll_over_under_load(&aws, &sink).await;
        assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_keeps_each_items_order() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let _adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    for _ in 0..3 {
        aws.write("orders", 40, 2);
        let open = aws.script().open_shards("orders");
        for shard in open {
            aws.script().split("orders", &shard);
        }
        aws.write("orders", 40, 2);
    }
    wait_for("all events", || sink.distinct() == 480).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    assert!(aws.script().calls.shards_read_twice().is_empty());
}

/// One shard becomes two, four, eight.
fn split_in_eight(aws: &FakeAws) {
    for _ in 0..3 {
        let open = aws.script().open_shards("orders");
        for shard in open {
            aws.script().split("orders", &shard);
        }
    }
    assert_eq!(aws.script().open_shards("orders").len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_order_by_shard_the_eight_shards_of_a_split_root_go_side_by_side_once_the_root_is_settled() {
    const ITEMS: usize = 80;
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let pause = Duration::from_millis(20);
    sink.react(move |_| Reaction::After(pause, Box::new(Reaction::Status(202))));
    aws.write("orders", ITEMS, 1);
    split_in_eight(&aws);
    aws.write("orders", ITEMS, 2);
    let _adapter = Plan::new(&aws, &sink, "orders").env("DELIVERY_ORDER", "shard").start_ready().await;
    wait_for("all events", || sink.distinct() == 3 * ITEMS).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    assert_eq!(sink.most_under_way(), 8);
    let received = sink.received();
    let root = received.iter().filter(|event| event.version == 1).filter_map(|event| event.accepted()).max().unwrap();
    let next = received.iter().filter(|event| event.version > 1).map(|event| event.arrived).min().unwrap();
    assert!(root <= next, "a child begins when its ancestors are settled");
}

/// The shard of the item alone waits, with all that continues it.
#[tokio::test(flavor = "multi_thread")]
async fn with_order_by_shard_a_parked_event_stops_its_shard_and_what_continues_it_and_no_sibling() {
    const ITEMS: usize = 80;
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    sink.react(|event| Reaction::Status(if event.item == "item-3" && event.version == 2 { 400 } else { 202 }));
    aws.write("orders", ITEMS, 1);
    split_in_eight(&aws);
    aws.write("orders", ITEMS, 1);
    aws.script().roll_over_all("orders");
    aws.write("orders", ITEMS, 1);
    let adapter = Plan::new(&aws, &sink, "orders").env("DELIVERY_ORDER", "shard").start_ready().await;
    let writes = aws.script().writes.clone();
    let shard_of = |item: &str| writes.iter().rfind(|write| write.item == item).unwrap().shard.clone();
    let stopped = shard_of("item-3");
    let others = (0..ITEMS).filter(|item| shard_of(&format!("item-{item}")) != stopped).count();
    wait_for("all events of the siblings", || {
        let accepted = sink.received();
        let last = accepted.iter().filter(|event| event.version == 3 && event.accepted().is_some());
        last.count() == others
    })
    .await;
    assert!(others > ITEMS / 2, "the items are spread");
    let behind = |event: &crate::support::sink::Received| shard_of(&event.item) == stopped && event.version == 3;
    assert!(!sink.received().iter().any(behind), "its child waits");
    assert_eq!(adapter.metric("parked_items", &[]).await, 1.0);
    assert_eq!(adapter.get("/livez").await.0, 200);
    sink.react(|_| Reaction::Status(202));
    wait_for("everything", || sink.distinct() == 3 * ITEMS).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn seven_hundred_listed_shards_are_read_each_once_with_few_listings() {
    let (aws, sink) = (FakeAws::with_table("orders", 100).await, TestSink::start().await);
    for _ in 0..6 {
        aws.write("orders", 50, 1);
        aws.script().roll_over_all("orders");
    }
    aws.write("orders", 50, 1);
    assert_eq!(aws.script().shards("orders"), 700);
    let adapter = Plan::new(&aws, &sink, "orders").start().await;
    wait_for("all events", || sink.distinct() == 350).await;
    adapter.wait_ready().await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    let world = aws.script();
    assert!(world.calls.shards_read_twice().is_empty());
    assert!(world.calls.count("DescribeStream") < 20, "{} listings", world.calls.count("DescribeStream"));
    assert!(world.calls.most_in_a_second("DescribeStream") <= 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_handovers_at_once_stay_within_the_accounts_limit() {
    let (aws, sink) = (FakeAws::with_table("orders", 100).await, TestSink::start().await);
    let _adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    aws.write("orders", 200, 1);
    aws.script().roll_over_all("orders");
    aws.write("orders", 200, 1);
    wait_for("all events", || sink.distinct() == 400).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    assert!(aws.script().calls.most_in_a_second("DescribeStream") <= 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_that_fail_half_way_are_resumed_and_listings_in_any_order_are_understood() {
    let (aws, sink) = (FakeAws::with_table("orders", 10).await, TestSink::start().await);
    aws.write("orders", 50, 1);
    aws.script().roll_over_all("orders");
    aws.write("orders", 50, 1);
    {
        let mut world = aws.script();
        world.page_shards = 3;
        world.reverse_listing = true;
        world.faults.sometimes("DescribeStream", 2, Trouble::Error("InternalServerError"));
    }
    let _adapter = Plan::new(&aws, &sink, "orders").start().await;
    wait_for("all events", || sink.distinct() == 100).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_listings_hide_for_a_while_is_found() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let _adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    aws.write("orders", 10, 1);
    let parent = aws.script().open_shards("orders")[0].clone();
    let child = aws.script().roll_over("orders", &parent);
    aws.script().shard("orders", &child).hidden = 6;
    aws.write("orders", 10, 1);
    wait_for("all events", || sink.distinct() == 20).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_iterator_is_replaced_behind_the_last_record_read() {
    let (aws, sink) = (FakeAws::with_table("orders", 2).await, TestSink::start().await);
    let _adapter = Plan::new(&aws, &sink, "orders").env("START_POSITION", "latest").start_ready().await;
    aws.script().iterator_epoch += 1;
    aws.write("orders", 10, 2);
    wait_for("events after an expiry before the first record", || sink.distinct() == 20).await;
    for _ in 0..5 {
        aws.script().iterator_epoch += 1;
        aws.write("orders", 10, 1);
        let written = aws.script().writes.len();
        wait_for("events after an expiry", || sink.distinct() == written).await;
    }
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    assert_eq!(oracle::duplicates(&sink.received()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_on_a_bad_day_costs_time_and_nothing_else() {
    let (aws, sink) = (FakeAws::with_table("orders", 3).await, TestSink::start().await);
    {
        let mut world = aws.script();
        world.page_records = 5;
        world.empty_pages = 2;
        for trouble in [
            Trouble::Error("ThrottlingException"),
            Trouble::Error("LimitExceededException"),
            Trouble::Error("InternalServerError"),
            Trouble::Html(500),
            Trouble::Truncated,
            Trouble::Garbage,
            Trouble::Reset,
        ] {
            for operation in ["GetRecords", "GetShardIterator", "DescribeStream", "DescribeTable"] {
                world.faults.sometimes(operation, 40, trouble.clone());
            }
        }
    }
    let _adapter = Plan::new(&aws, &sink, "orders").start().await;
    aws.write("orders", 30, 5);
    aws.script().roll_over_all("orders");
    aws.write("orders", 30, 5);
    wait_for("all events", || sink.distinct() == 300).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_call_makes_the_pod_unready_with_the_missing_permission() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    aws.script().faults.always("GetRecords", Trouble::Error("AccessDeniedException"));
    let mut adapter = Plan::new(&aws, &sink, "orders").start().await;
    let mut body = String::new();
    let begun = Instant::now();
    while !body.contains("dynamodb:GetRecords") {
        assert!(begun.elapsed() < Duration::from_secs(20), "not said in {body:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let (status, text) = adapter.get("/readyz").await;
        body = if status == 503 { text } else { String::new() };
    }
    assert_eq!(adapter.get("/livez").await.0, 200);
    assert!(adapter.is_running());
    aws.script().faults.clear();
    aws.write("orders", 1, 1);
    wait_for("the event", || sink.distinct() == 1).await;
    adapter.wait_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_describe_table_the_listing_of_streams_serves() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    aws.script().faults.always("DescribeTable", Trouble::Error("AccessDeniedException"));
    aws.write("orders", 5, 1);
    let _adapter = Plan::new(&aws, &sink, "orders").start().await;
    wait_for("all events", || sink.distinct() == 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trimmed_records_are_a_loud_loss_and_the_rest_goes_on() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder);
    let first = plan.start_ready().await;
    aws.write("orders", 5, 1);
    wait_for("the first events", || sink.distinct() == 5).await;
    first.terminate().await;
    aws.write("orders", 5, 2);
    let shard = aws.script().open_shards("orders")[0].clone();
    aws.script().shard("orders", &shard).trimmed = 9;
    let second = plan.start_ready().await;
    let kept = aws.script().writes[9..].to_vec();
    wait_for("what was not trimmed", || oracle::lost(&kept, &sink.received()).is_empty()).await;
    let gaps = || sink.accepted().into_iter().filter(|event| event.kind.ends_with(".gap")).collect::<Vec<_>>();
    wait_for("the gap event", || gaps().len() == 1).await;
    let gap = &gaps()[0].data;
    let writes = aws.script().writes.clone();
    assert_eq!(gap["reason"], "trimmed");
    assert_eq!(gap["shard"], shard.as_str());
    assert_eq!(gap["after"], writes[4].sequence.as_str());
    assert_eq!(gap["before"], writes[9].sequence.as_str());
    assert_eq!(second.metric("data_loss_total", &[("reason", "trimmed")]).await, 1.0);
    assert_eq!(second.logged_code("DSA-DATA-LOSS").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_data_loss_stop_reads_no_further_until_restarted_with_continue() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 1).await, TestSink::start().await, tempfile::tempdir().unwrap());
    aws.script().create_table("users", 1);
    let plan = Plan::new(&aws, &sink, "orders,users").keeping_positions(&folder).env("ON_DATA_LOSS", "stop");
    let first = plan.start_ready().await;
    aws.write("orders", 5, 1);
    wait_for("the first events", || sink.distinct() == 5).await;
    first.terminate().await;
    aws.write("orders", 5, 1);
    let shard = aws.script().open_shards("orders")[0].clone();
    aws.script().shard("orders", &shard).trimmed = 7;
    let stopped = plan.start().await;
    wait_for("the gap event", || sink.accepted().iter().any(|event| event.kind.ends_with(".gap"))).await;
    aws.write("users", 5, 1);
    wait_for("the other table's events", || sink.distinct() >= 11).await;
    let (status, why) = stopped.get("/readyz").await;
    assert!(status == 503 && why.contains("orders") && why.contains("data was lost"), "{status} {why}");
    assert_eq!(stopped.get("/livez").await.0, 200);
    let orders = sink.accepted().iter().filter(|event| event.attributes["source"].ends_with("orders")).count();
    assert_eq!(orders, 6, "the first five and the gap, nothing behind it");
    stopped.terminate().await;
    let going_on = plan.env("ON_DATA_LOSS", "continue").start_ready().await;
    let kept = aws.script().writes[7..].to_vec();
    wait_for("what was not trimmed", || oracle::lost(&kept, &sink.received()).is_empty()).await;
    let lost = going_on.metric("data_loss_total", &[("table", "orders")]).await;
    assert_eq!(lost, 1.0, "the position had moved past the gap at which reading stopped");
    drop(going_on);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_aged_out_is_a_loss_and_its_children_run() {
    let (aws, sink, folder) = (FakeAws::start().await, TestSink::start().await, tempfile::tempdir().unwrap());
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    aws.script().clock_behind = hours(29);
    aws.script().create_table("orders", 1);
    aws.script().clock_behind = hours(0);
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder);
    let first = plan.start_ready().await;
    aws.write("orders", 5, 1);
    wait_for("the first events", || sink.distinct() == 5).await;
    first.terminate().await;
    aws.write("orders", 5, 1);
    let parent = aws.script().open_shards("orders")[0].clone();
    aws.script().clock_behind = hours(25);
    aws.script().roll_over("orders", &parent);
    aws.script().clock_behind = hours(0);
    aws.script().shard("orders", &parent).gone = true;
    aws.write("orders", 5, 1);
    let second = plan.start_ready().await;
    let kept = aws.script().writes[10..].to_vec();
    wait_for("the child's events", || oracle::lost(&kept, &sink.received()).is_empty()).await;
    assert_eq!(second.metric("data_loss_total", &[("reason", "shard-missing")]).await, 1.0);
    wait_for("the gap event", || sink.accepted().iter().any(|event| event.data["reason"] == "shard-missing")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_malformed_record_is_a_gap_and_its_neighbours_arrive() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    aws.write("orders", 5, 1);
    aws.script().write_malformed(
        "orders",
        r#"{"eventID":"broken","eventName":"INSERT","dynamodb":{"Keys":7,"SequenceNumber":"$SEQUENCE"}}"#,
    );
    aws.write("orders", 5, 1);
    let adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    wait_for("the neighbours and the gap", || sink.distinct() == 11).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    assert_eq!(adapter.metric("data_loss_total", &[("reason", "undecodable")]).await, 1.0);
}

/// The SDK would read it into memory, whatever its length.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_longer_than_any_of_aws_is_not_read() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    aws.write("orders", 5, 1);
    let long = format!(r#"{{"Records":[],"NextShardIterator":""{}}}"#, " ".repeat(33 << 20));
    aws.script().faults.always("GetRecords", Trouble::Answer(200, long));
    let adapter = Plan::new(&aws, &sink, "orders").start().await;
    wait_for("the refusal", || !adapter.logged_code("DSA-AWS-FAILING").is_empty()).await;
    let said = adapter.logged_code("DSA-AWS-FAILING")[0].to_string();
    assert!(said.contains("more than 32 MiB") && said.contains("AWS_ENDPOINT_URL"), "{said}");
    aws.script().faults.clear();
    wait_for("all events", || sink.distinct() == 5).await;
}

/// It would count as read before.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_numbered_lower_than_one_before_it_is_a_gap_and_its_neighbours_arrive() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    aws.write("orders", 5, 1);
    let change = r#"{"Keys":{"id":{"S":"low"}},"SequenceNumber":"7"}"#;
    aws.script().write_malformed("orders", &format!(r#"{{"eventID":"low","eventName":"INSERT","dynamodb":{change}}}"#));
    aws.write("orders", 5, 1);
    let adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    wait_for("the neighbours and the gap", || sink.distinct() == 11).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    assert_eq!(adapter.metric("data_loss_total", &[("reason", "undecodable")]).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_delivered_before_everything_that_follows_it_in_its_lineage() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    aws.write("orders", 5, 2);
    let malformed = r#"{"eventID":"broken","eventName":"INSERT","dynamodb":{"Keys":7,"SequenceNumber":"$SEQUENCE"}}"#;
    aws.script().write_malformed("orders", malformed);
    aws.write("orders", 5, 2);
    let parent = aws.script().open_shards("orders")[0].clone();
    let child = aws.script().roll_over("orders", &parent);
    aws.write("orders", 5, 2);
    aws.script().write_malformed("orders", malformed);
    aws.script().split("orders", &child);
    aws.write("orders", 5, 2);
    sink.react(|event| match event.kind.ends_with(".gap") {
        true => Reaction::After(Duration::from_millis(100), Box::new(Reaction::Status(202))),
        false => Reaction::Status(202),
    });
    let _adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    wait_for("all events and both gaps", || sink.distinct() == 42).await;
    let (received, writes) = (sink.received(), aws.script().writes.clone());
    assert_complete_and_in_order(&writes, &received, &[]);
    let gaps: Vec<_> = received.iter().filter(|event| event.kind.ends_with(".gap")).collect();
    assert_eq!(gaps.len(), 2);
    for (gap, behind) in gaps.iter().zip([20, 30]) {
        let told = gap.accepted().unwrap();
        for write in &writes[behind..] {
            let event = received.iter().find(|event| event.id == write.event_id).unwrap();
            assert!(event.arrived > told, "{} came before the gap that lies before it", write.sequence);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_that_the_sink_refuses_holds_nothing_up() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    aws.write("orders", 5, 1);
    let malformed = r#"{"eventID":"broken","eventName":"INSERT","dynamodb":{"Keys":7,"SequenceNumber":"$SEQUENCE"}}"#;
    aws.script().write_malformed("orders", malformed);
    aws.write("orders", 5, 1);
    sink.react(|event| Reaction::Status(if event.kind.ends_with(".gap") { 400 } else { 202 }));
    let adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    wait_for("all events", || sink.distinct() == 10).await;
    wait_for("the gap to be shown as parked", || adapter.logged_code("DSA-ITEM-PARKED").len() == 1).await;
    sink.behave();
    wait_for("the gap", || sink.distinct() == 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_one_listing_leaves_out_is_read_before_its_child() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    aws.write("orders", 5, 4);
    let parent = aws.script().open_shards("orders")[0].clone();
    aws.script().roll_over("orders", &parent);
    aws.write("orders", 5, 4);
    aws.script().shard("orders", &parent).hidden = 1;
    let _adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    wait_for("all events", || sink.distinct() == 40).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_created_anew_is_followed_after_the_old_one_was_read() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 2).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder).env("START_POSITION", "latest");
    let adapter = plan.start_ready().await;
    aws.write("orders", 10, 2);
    aws.script().disable_stream("orders");
    aws.script().enable_stream("orders", 2);
    aws.write("orders", 10, 2);
    wait_for("events of both streams", || sink.distinct() == 40).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    drop(adapter);
    let restart = Instant::now();
    aws.write("orders", 10, 1);
    let _second = plan.start_ready().await;
    wait_for("events after a restart", || sink.distinct() == 50).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[restart]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_stream_is_waited_for_and_reported() {
    let (aws, sink) = (FakeAws::start().await, TestSink::start().await);
    let adapter = Plan::new(&aws, &sink, "orders").start().await;
    wait_for("the missing table to be said", || adapter.logged("does not exist").len() == 1).await;
    assert!(adapter.get("/readyz").await.1.contains("does not exist"));
    aws.script().create_table_without_stream("orders");
    wait_for("the missing stream to be said", || adapter.logged("enable DynamoDB Streams").len() == 1).await;
    aws.script().enable_stream("orders", 1);
    aws.write("orders", 5, 1);
    wait_for("all events", || sink.distinct() == 5).await;
    adapter.wait_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_appears_after_the_start_is_read_from_its_start() {
    let (aws, sink) = (FakeAws::start().await, TestSink::start().await);
    aws.script().create_table_without_stream("orders");
    let adapter = Plan::new(&aws, &sink, "orders").env("START_POSITION", "latest").start().await;
    wait_for("the missing stream to be said", || adapter.logged("enable DynamoDB Streams").len() == 1).await;
    aws.script().enable_stream("orders", 2);
    aws.write("orders", 10, 2);
    wait_for("what was written before the stream was found", || sink.distinct() == 20).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tables_trouble_does_not_stop_another() {
    let (aws, sink) = (FakeAws::with_table("orders", 2).await, TestSink::start().await);
    aws.script().create_table("users", 2);
    aws.script().faults.always_for("users", "GetRecords", Trouble::Error("AccessDeniedException"));
    let _adapter = Plan::new(&aws, &sink, "orders,users").start().await;
    aws.write("users", 5, 1);
    aws.write("orders", 10, 2);
    wait_for("the sound table's events", || sink.distinct() == 20).await;
    aws.script().faults.clear();
    wait_for("the other table's events", || sink.distinct() == 25).await;
}
