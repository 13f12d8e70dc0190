//! What costs the scaler something, and must not cost it without bound.

use std::time::Duration;

use tokio::time::timeout;
use tonic::Code;

use crate::keda::{Keda, scaler, trigger};
use crate::support::aws::FakeAws;

#[tokio::test]
async fn a_table_is_looked_up_for_a_few_consumer_groups_at_most() {
    let aws = FakeAws::with_table("orders", 1).await;
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let mut codes = Vec::new();
    let names: Vec<String> = (0..200).map(|n| format!("group-{n}")).collect();
    for group in &names {
        let of = trigger("orders", &[("metric", "lag"), ("consumerGroup", group)]);
        let answer = timeout(Duration::from_millis(100), keda.is_active(&of)).await;
        codes.push(answer.ok().and_then(Result::err).map(|status| status.code()));
    }
    let refused = codes.iter().filter(|code| **code == Some(Code::ResourceExhausted)).count();
    assert!(refused >= 100, "{refused} of 200 groups are refused");
    let groups = scaler.status().await["scaler"]["tables"][0]["positions"].as_object().unwrap().len();
    assert!(groups <= 100, "{groups}");
}
