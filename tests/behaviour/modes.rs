//! How events travel: structured, in batches, with the platform's extensions.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::oracle::{self, assert_complete_and_in_order};
use crate::support::sink::{Reaction, Received, TestSink};
use crate::support::{PATIENCE, wait_for, wait_within};

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_the_same_in_every_mode() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    aws.write("orders", 3, 3);
    let mut arrived = BTreeMap::new();
    for (mode, content_type) in [
        ("binary", "application/json"),
        ("structured", "application/cloudevents+json"),
        ("batch", "application/cloudevents-batch+json"),
    ] {
        let before = sink.received().len();
        let adapter = Plan::new(&aws, &sink, "orders").env("EVENT_MODE", mode).start().await;
        wait_for("all events", || sink.received().len() >= before + 9).await;
        assert_eq!(adapter.terminate().await, Some(0));
        let mut events = sink.received().split_off(before);
        assert!(events.iter().all(|event| event.content_type == content_type), "{mode}: another content type");
        for event in &mut events {
            let recorded = event.attributes.remove("recordedtime");
            assert!(recorded.is_some(), "{mode}: no recordedtime");
            // In binary mode it is the header content-type.
            event.attributes.remove("datacontenttype");
        }
        let told: BTreeMap<_, _> =
            events.into_iter().map(|event| (event.id, (event.attributes, event.data.to_string()))).collect();
        arrived.insert(mode, told);
    }
    assert_eq!(arrived["binary"].len(), 9);
    assert_eq!(arrived["structured"], arrived["binary"]);
    assert_eq!(arrived["batch"], arrived["binary"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platforms_extensions_are_on_every_event_and_replace_ours() {
    for mode in ["binary", "structured", "batch"] {
        let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
        let overrides = r#"{"extensions":{"cluster":"blue & \"green\"","partitionkey":"theirs"}}"#;
        let plan = Plan::new(&aws, &sink, "orders").env("EVENT_MODE", mode).env("K_CE_OVERRIDES", overrides);
        let _adapter = plan.start_ready().await;
        aws.write("orders", 5, 2);
        wait_for("all events", || sink.distinct() == 10).await;
        for event in sink.received() {
            assert_eq!(event.attributes["cluster"], "blue & \"green\"", "{mode}");
            assert_eq!(event.attributes["partitionkey"], "theirs", "{mode}");
        }
        assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    }
}

fn batches(aws: &FakeAws, sink: &TestSink) -> Plan {
    Plan::new(aws, sink, "orders").env("EVENT_MODE", "batch").env("BATCH_MAX_WAIT", "50ms")
}

/// The events of each request.
fn requests(received: &[Received]) -> BTreeMap<usize, Vec<&Received>> {
    let mut requests: BTreeMap<usize, Vec<&Received>> = BTreeMap::new();
    for event in received {
        requests.entry(event.request).or_default().push(event);
    }
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_bounded_by_count_and_bytes() {
    let (aws, sink) = (FakeAws::with_table("orders", 2).await, TestSink::start().await);
    aws.write("orders", 40, 10);
    let _adapter = batches(&aws, &sink).env("BATCH_MAX_EVENTS", "7").start_ready().await;
    wait_for("all events", || sink.distinct() == 400).await;
    let received = sink.received();
    let sizes: Vec<usize> = requests(&received).values().map(Vec::len).collect();
    assert_eq!(sizes.iter().max(), Some(&7), "{sizes:?}");
    assert!(sizes.len() <= 400 / 7 + 20, "{} requests for 400 events: {sizes:?}", sizes.len());
    assert_complete_and_in_order(&aws.script().writes, &received, &[]);

    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    aws.write("orders", 20, 2);
    let _adapter = batches(&aws, &sink).env("BATCH_MAX_BYTES", "4KiB").start_ready().await;
    wait_for("all events", || sink.distinct() == 40).await;
    let received = sink.received();
    for request in requests(&received).values() {
        // Each event has more than 700 bytes.
        assert!(request.len() <= 5, "{} events in 4 KiB", request.len());
    }
    assert!(requests(&received).values().any(|request| request.len() > 1), "nothing travelled together");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_only_the_events_that_failed_come_again_and_their_items_stay_in_order() {
    let (aws, sink) = (FakeAws::with_table("orders", 2).await, TestSink::start().await);
    let mut n = 0usize;
    sink.react_to_all(move |events| {
        n += 1;
        let new: Vec<&Received> = events.iter().filter(|event| event.earlier < 2).collect();
        let Some(event) = new.get(n % new.len().max(1)) else { return Reaction::Status(200) };
        match n % 4 {
            0 => Reaction::Failures(vec![event.id.clone()]),
            1 => Reaction::Failures(vec![event.sequence().to_owned()]),
            2 => Reaction::Failures(vec![event.attributes["sequence"].clone()]),
            _ => Reaction::Status(200),
        }
    });
    let _adapter = batches(&aws, &sink).start_ready().await;
    aws.write("orders", 20, 20);
    wait_for("all events", || sink.distinct() == 400).await;
    let received = sink.received();
    assert_complete_and_in_order(&aws.script().writes, &received, &[]);
    assert_eq!(oracle::duplicates(&received), 0, "an event that was taken came again");
    assert!(received.iter().any(|event| event.earlier > 0), "no failure was told");
    let repeated =
        requests(&received).into_values().filter(|events| events.iter().any(|event| event.earlier > 0 && !event.void));
    for request in repeated {
        let again = request.iter().filter(|event| event.earlier > 0).count();
        assert!(again <= request.len(), "{again}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_that_name_no_event_of_the_batch_mean_the_whole_batch() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    sink.react(|event| match event.earlier {
        0 => Reaction::Body(200, r#"{"batchItemFailures":[{"itemIdentifier":"nobody"}]}"#.to_owned()),
        _ => Reaction::Status(200),
    });
    aws.write("orders", 5, 4);
    let adapter = batches(&aws, &sink).start_ready().await;
    wait_for("every event twice", || {
        let received = sink.received();
        aws.script()
            .writes
            .iter()
            .all(|write| received.iter().any(|event| event.id == write.event_id && event.earlier > 0))
    })
    .await;
    wait_for("the end", || sink.received().iter().filter(|event| event.earlier > 0).count() >= 20).await;
    assert_eq!(adapter.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_another_form_is_success_of_the_whole_batch() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let mut n = 0;
    sink.react(move |_| {
        n += 1;
        let bodies = ["thanks", "{}", r#"{"batchItemFailures":[]}"#, r#"{"ok":false}"#, "[1]", "\u{0}"];
        Reaction::Body(200, bodies[n % bodies.len()].to_owned())
    });
    let _adapter = batches(&aws, &sink).env("BATCH_MAX_EVENTS", "3").start_ready().await;
    aws.write("orders", 10, 4);
    wait_for("all events", || sink.distinct() == 40).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
    assert_eq!(oracle::duplicates(&sink.received()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_poisoned_event_does_not_hold_the_batches_of_others() {
    for status in [400, 500] {
        let (aws, sink) = (FakeAws::with_table("orders", 2).await, TestSink::start().await);
        sink.react_to_all(move |events| {
            let poisoned = events.iter().any(|event| event.item == "item-3" && event.version == 2);
            Reaction::Status(if poisoned { status } else { 200 })
        });
        let adapter = batches(&aws, &sink).start_ready().await;
        aws.write("orders", 10, 5);
        let writes = aws.script().writes.clone();
        let behind = |write: &&crate::support::aws::Write| write.item == "item-3" && write.version >= 2;
        let others: Vec<_> = writes.iter().filter(|write| !behind(write)).cloned().collect();
        wait_for("the other events", || oracle::lost(&others, &sink.received()).is_empty()).await;
        wait_for("the item to be shown as parked", || !adapter.logged_code("DSA-ITEM-PARKED").is_empty()).await;
        let alone = sink.received();
        let last = alone.iter().rev().find(|event| event.item == "item-3").unwrap();
        assert_eq!(alone.iter().filter(|event| event.request == last.request).count(), 1, "it takes others with it");
        sink.behave();
        wait_for("all events", || oracle::lost(&writes, &sink.received()).is_empty()).await;
        assert_complete_and_in_order(&writes, &sink.received(), &[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_through_a_sink_that_misbehaves_lose_nothing() {
    let (aws, sink) = (FakeAws::with_table("orders", 3).await, TestSink::start().await);
    let mut n = 0u64;
    sink.react_to_all(move |events| {
        n += 1;
        if events.iter().all(|event| event.earlier > 2) {
            return Reaction::Status(200);
        }
        // More often it works: a sink that mostly fails counts as down, and is tried once in a while.
        match n % 15 {
            0 => Reaction::Status(503),
            1 => Reaction::With(429, "retry-after", "0".to_owned()),
            2 => Reaction::Reset,
            3 => Reaction::Hang,
            4 => Reaction::Status(413),
            5 => Reaction::Failures(events.iter().step_by(3).map(|event| event.id.clone()).collect()),
            6 => Reaction::After(Duration::from_millis(40), Box::new(Reaction::Status(204))),
            _ => Reaction::Status(202),
        }
    });
    // Long enough that a busy machine does not take a request in after its timeout: that may come too late, and out of order.
    let plan = batches(&aws, &sink).env("DELIVERY_TIMEOUT", "1s").env("BATCH_MAX_EVENTS", "10");
    let _adapter = plan.start_ready().await;
    aws.write("orders", 30, 10);
    // The rate is cut again and again: half a minute on a busy machine.
    wait_within(4 * PATIENCE, "all events", || sink.distinct() == 300).await;
    assert_complete_and_in_order(&aws.script().writes, &sink.received(), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_whose_body_breaks_off_may_have_named_failures_and_is_none() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    sink.react(|event| match event.earlier {
        0 => Reaction::Cut(200, r#"{"batchItemFailures":[{"#.to_owned()),
        _ => Reaction::Status(200),
    });
    aws.write("orders", 4, 1);
    let _adapter = batches(&aws, &sink).start_ready().await;
    wait_for("every event again", || sink.received().iter().filter(|event| event.earlier > 0).count() >= 4).await;
}
