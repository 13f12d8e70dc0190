//! Lag, from the positions that a real adapter stores.

use std::time::{Duration, Instant};

use tonic::Code;

use crate::keda::{Keda, plan, trigger};
use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::positions_table::EmbeddedDynamoDb;
use crate::support::sink::{Reaction, TestSink};

#[tokio::test]
async fn lag_is_the_age_of_what_the_adapter_owes_and_zero_once_it_is_settled() {
    let aws = FakeAws::with_table("orders", 1).await;
    let (dynamodb, sink) = (EmbeddedDynamoDb::start().await, TestSink::start().await);
    let scaler = plan(&aws.endpoint()).keeping_positions_in(&dynamodb).start_ready().await;
    let mut keda = Keda::of(&scaler).await;
    let of = trigger("orders", &[("metric", "lag")]);
    let adapter = Plan::new(&aws, &sink, "orders")
        .keeping_positions_in(&dynamodb)
        .env("CHECKPOINT_TABLE_CREATE", "true")
        .start_ready()
        .await;
    // One item's event fails for good, others are delivered behind it.
    sink.react(|received| match received.item.as_str() {
        "item-0" => Reaction::Status(500),
        _ => Reaction::Status(200),
    });
    aws.write("orders", 5, 1);
    let begun = Instant::now();
    let lag = loop {
        match keda.values(&of).await {
            Ok((_, lag)) if lag >= 3.0 => break lag,
            other => assert!(begun.elapsed() < Duration::from_secs(60), "{other:?}\n{}", adapter.log_text()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(lag <= begun.elapsed().as_secs_f64() + 3.0, "{lag}");
    assert!(keda.is_active(&of).await.unwrap(), "what is owed keeps it active");
    sink.behave();
    let begun = Instant::now();
    while keda.value(&of).await != 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", adapter.log_text());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    keda.until_active(&of, false).await;
}

#[tokio::test]
async fn lag_without_a_table_of_positions_says_what_is_missing() {
    let aws = FakeAws::with_table("orders", 1).await;
    let scaler = plan(&aws.endpoint()).start_ready().await;
    let mut keda = Keda::of(&scaler).await;
    let error = keda.values(&trigger("orders", &[("metric", "lag")])).await.expect_err("nobody knows");
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("CHECKPOINT_STORE"), "{error:?}");
}
