//! From the sink's side: what arrives, in which order, and what happens when the sink misbehaves.

use std::time::Duration;

use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::oracle::{self, assert_complete_and_in_order};
use crate::support::sink::{Reaction, TestSink};
use crate::support::wait_for;

#[tokio::test(flavor = "multi_thread")]
async fn every_change_arrives_once_and_in_its_items_order() {
    let (aws, sink) = (FakeAws::with_table("orders", 2).await, TestSink::start().await);
    let adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    aws.write("orders", 20, 10);
    wait_for("all events", || sink.distinct() == 200).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    assert_eq!(oracle::duplicates(&sink.received()), 0);
    assert_eq!(adapter.metric("events_delivered_total", &[("table", "orders")]).await, 200.0);
    assert_eq!(adapter.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broken_event_holds_its_item_alone_until_it_works() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    for status in [500, 400] {
        sink.react(move |event| Reaction::Status(if event.item == "item-3" { status } else { 202 }));
        let adapter = Plan::new(&aws, &sink, "orders").env("START_POSITION", "latest").start_ready().await;
        let before = aws.script().writes.len();
        aws.write("orders", 10, 5);
        let writes = aws.script().writes[before..].to_vec();
        let others: Vec<_> = writes.iter().filter(|write| write.item != "item-3").cloned().collect();
        wait_for("the other items' events", || oracle::lost(&others, &sink.received()).is_empty()).await;
        let held = writes.iter().filter(|write| write.item == "item-3");
        for write in held.skip(1) {
            let sent = sink.received().iter().any(|event| event.id == write.event_id);
            assert!(!sent, "a later change of the broken item was sent");
        }
        let parked = || async { adapter.metric("parked_items", &[]).await == 1.0 };
        for _ in 0..1000 {
            if parked().await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(parked().await, "the item is not shown as parked");
        assert_eq!(adapter.logged_code("DSA-ITEM-PARKED").len(), 1, "said once");
        sink.behave();
        wait_for("the item that was held", || oracle::lost(&writes, &sink.received()).is_empty()).await;
        assert_complete_and_in_order(&writes, &of(&writes, &sink), &[]);
        assert_eq!(adapter.metric("parked_items", &[]).await, 0.0);
    }
}

fn of(writes: &[crate::support::aws::Write], sink: &TestSink) -> Vec<crate::support::sink::Received> {
    let known = |id: &str| writes.iter().any(|write| write.event_id == id);
    sink.received().into_iter().filter(|event| known(&event.id)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_misbehaves_in_every_way_loses_nothing() {
    let (aws, sink) = (FakeAws::with_table("orders", 3).await, TestSink::start().await);
    let mut n = 0u64;
    sink.react(move |event| {
        n += 1;
        if event.earlier > 2 {
            return Reaction::Status(200);
        }
        match n % 12 {
            0 => Reaction::Status(503),
            1 => Reaction::With(429, "retry-after", "0".to_owned()),
            2 => Reaction::Reset,
            3 => Reaction::AcknowledgeAndDrop,
            4 => Reaction::Hang,
            5 => Reaction::Status(401),
            6 => Reaction::Status(404),
            7 => Reaction::After(Duration::from_millis(60), Box::new(Reaction::Status(204))),
            8 => Reaction::Status(413),
            _ => Reaction::Status(202),
        }
    });
    let _adapter = Plan::new(&aws, &sink, "orders").env("DELIVERY_TIMEOUT", "150ms").start_ready().await;
    aws.write("orders", 30, 10);
    wait_for("all events", || sink.distinct() == 300).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_down_gets_one_probe_at_a_time_and_then_everything() {
    let (aws, mut sink) = (FakeAws::with_table("orders", 2).await, TestSink::start().await);
    let adapter = Plan::new(&aws, &sink, "orders").env("RETRY_BACKOFF_MAX", "300ms").start_ready().await;
    sink.react(|_| Reaction::Status(503));
    aws.write("orders", 50, 4);
    wait_for("the outage to be noticed", || !adapter.logged_code("DSA-SINK-FAILING").is_empty()).await;
    let before = sink.received().len();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let probes = sink.received().len() - before;
    assert!(probes <= 64 + 40, "{probes} requests in a second to a sink that is down");
    sink.down();
    tokio::time::sleep(Duration::from_millis(300)).await;
    sink.behave();
    sink.up().await;
    wait_for("all events", || sink.distinct() == 200).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    assert_eq!(adapter.logged("the sink works again").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slow_item_does_not_slow_the_others() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    sink.react(|event| match event.item.as_str() {
        "item-0" => Reaction::Hang,
        _ => Reaction::Status(202),
    });
    let _adapter = Plan::new(&aws, &sink, "orders").env("DELIVERY_CONCURRENCY", "4").start_ready().await;
    aws.write("orders", 20, 10);
    wait_for("everything but the slow item", || sink.distinct() == 190).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_by_shard_sends_one_event_of_a_shard_at_a_time() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    sink.react(|_| Reaction::After(Duration::from_millis(2), Box::new(Reaction::Status(202))));
    let _adapter = Plan::new(&aws, &sink, "orders").env("DELIVERY_ORDER", "shard").start_ready().await;
    aws.write("orders", 10, 5);
    let first = aws.script().open_shards("orders")[0].clone();
    aws.script().roll_over("orders", &first);
    aws.write("orders", 10, 5);
    wait_for("all events", || sink.distinct() == 100).await;
    assert_eq!(sink.most_under_way(), 1);
    let order: Vec<String> = sink.received().iter().map(|event| event.id.clone()).collect();
    let written: Vec<String> = aws.script().writes.iter().map(|write| write.event_id.clone()).collect();
    assert_eq!(order, written, "the shard's order");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_events_are_under_way_at_once_and_never_more_than_configured() {
    let (aws, sink) = (FakeAws::with_table("orders", 2).await, TestSink::start().await);
    sink.react(|_| Reaction::After(Duration::from_millis(20), Box::new(Reaction::Status(202))));
    let _adapter = Plan::new(&aws, &sink, "orders").env("DELIVERY_CONCURRENCY", "8").start_ready().await;
    aws.write("orders", 100, 2);
    wait_for("all events", || sink.distinct() == 200).await;
    assert_eq!(sink.most_under_way(), 8);
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_can_be_followed_in_the_log_at_debug_level() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    sink.react(|event| Reaction::Status(if event.earlier == 0 { 503 } else { 202 }));
    let debug = "info,dynamodb_streams_adapter=debug";
    let adapter = Plan::new(&aws, &sink, "orders").env("RUST_LOG", debug).start_ready().await;
    aws.write("orders", 1, 1);
    wait_for("the event", || sink.distinct() == 1).await;
    let id = aws.script().writes[0].event_id.clone();
    let codes = || -> Vec<String> {
        let attempts = adapter.logged("attempt ended").into_iter().filter(|line| line["event"] == id.as_str());
        attempts.map(|line| line["code"].as_str().unwrap().to_owned()).collect()
    };
    wait_for("both attempts in the log", || codes().len() == 2).await;
    assert_eq!(codes(), ["503", "202"]);
}
