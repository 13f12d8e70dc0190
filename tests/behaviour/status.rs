//! What `/status` tells the one on call.

use serde_json::{Value, json};

use crate::support::adapter::{Adapter, Plan};
use crate::support::aws::FakeAws;
use crate::support::sink::{Reaction, TestSink};
use crate::support::{PATIENCE, wait_for};

/// Asks until the answer is as wanted.
async fn status(adapter: &Adapter, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = std::time::Instant::now();
    loop {
        let status = adapter.status().await;
        if wanted(&status) {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}: {status:#}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_item_is_in_status_as_a_hash_with_its_reason_until_it_works() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    sink.react(|event| Reaction::Status(if event.item == "item-3" { 400 } else { 202 }));
    let adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    aws.write("orders", 10, 2);
    let parked = |status: &Value| status["tables"][0]["parked"].as_array().unwrap().len();
    let found = status(&adapter, "three failures", |now| now["tables"][0]["parked"][0]["failures"].as_u64() >= Some(3));
    let found = found.await;
    let item = &found["tables"][0]["parked"][0];
    assert_eq!((parked(&found), &item["last_error"]), (1, &json!("HTTP 400 Bad Request")));
    let logged = adapter.logged_code("DSA-ITEM-PARKED");
    assert_eq!(item["item"], logged[0]["item"], "the log names it otherwise");
    let refused = sink.received().into_iter().find(|event| event.item == "item-3").unwrap();
    assert_eq!((&item["event"], &logged[0]["event"]), (&json!(refused.id), &json!(refused.id)));
    assert_eq!(found["tables"][0]["recent_errors"][0]["code"], "DSA-ITEM-PARKED");
    assert!(!found.to_string().contains("item-3"), "item data: {found:#}");
    sink.behave();
    status(&adapter, "no parked item", |now| parked(now) == 0 && now["tables"][0]["unsettled_events"] == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_sink_is_in_status_from_its_beginning_to_its_end() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let secret = format!("{}/token-4711?key=secret", sink.url().trim_end_matches('/'));
    let adapter = Plan::new(&aws, &sink, "orders").env("K_SINK", secret).start_ready().await;
    assert_eq!(adapter.status().await["sink"]["state"], "up");
    sink.react(|_| Reaction::Status(503));
    aws.write("orders", 10, 1);
    let down = status(&adapter, "the outage", |now| now["sink"]["state"] == "failing").await;
    assert_eq!(down["sink"]["last_error"], "HTTP 503 Service Unavailable");
    assert!(down["sink"]["failing_since"].as_str().unwrap() <= down["time"].as_str().unwrap(), "{down:#}");
    assert!(!down.to_string().contains("4711") && !down.to_string().contains("secret"), "{down:#}");
    sink.behave();
    let up = status(&adapter, "the end", |now| now["sink"]["state"] == "up").await;
    assert_eq!((&up["sink"]["failing_since"], &up["sink"]["last_error"]), (&Value::Null, &Value::Null));
    wait_for("all events", || sink.distinct() == 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_of_the_sink_is_as_of_now_also_when_nothing_is_sent() {
    let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    sink.react(|_| Reaction::After(std::time::Duration::from_millis(20), Box::new(Reaction::Status(202))));
    let adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    aws.write("orders", 1, 1);
    wait_for("the event", || sink.distinct() == 1).await;
    let idle = status(&adapter, "nothing under way", |now| {
        now["sink"]["in_flight"] == 0 && now["longest_lane"].is_null() && now["tables"][0]["unsettled_events"] == 0
    });
    idle.await;
}
