//! What could keep a target asleep, or send it to sleep, although something is or may be written.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::keda::{Keda, plan, scaler, trigger};
use crate::support::aws::{FakeAws, Trouble};

#[tokio::test]
async fn a_successor_that_is_listed_late_is_looked_for_until_it_is_there() {
    let aws = FakeAws::with_table("orders", 1).await;
    let scaler = plan(&aws.endpoint()).env("SCALER_REFRESH_INTERVAL", "10m").start_ready().await;
    let mut keda = Keda::of(&scaler).await;
    let of = trigger("orders", &[]);
    keda.until_active(&of, false).await;
    {
        let mut world = aws.script();
        let parent = world.open_shards("orders")[0].clone();
        let child = world.roll_over("orders", &parent);
        world.shard("orders", &child).hidden = 2;
        world.put("orders", "item-1");
    }
    let woken = keda.until_active(&of, true).await;
    assert!(woken < Duration::from_secs(20), "{woken:?}");
}

#[tokio::test]
async fn a_shard_that_is_listed_before_it_can_be_read_is_read_once_it_can_be() {
    let aws = FakeAws::with_table("orders", 1).await;
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let of = trigger("orders", &[]);
    keda.until_active(&of, false).await;
    aws.script().faults.next("GetShardIterator", 2, Trouble::Error("ResourceNotFoundException"));
    aws.script().roll_over_all("orders");
    let begun = Instant::now();
    while aws.script().calls.of("GetShardIterator").filter(|call| call.detail.contains("NotFound")).count() < 1 {
        assert!(begun.elapsed() < Duration::from_secs(10), "nobody asks for the new shard");
        sleep(Duration::from_millis(20)).await;
    }
    aws.write("orders", 1, 1);
    let woken = keda.until_active(&of, true).await;
    assert!(woken < Duration::from_secs(20), "{woken:?}");
}

#[tokio::test]
async fn shards_that_may_not_be_read_are_not_asked_for_again_and_again() {
    let aws = FakeAws::with_table("orders", 60).await;
    aws.script().faults.always("GetShardIterator", Trouble::Error("AccessDeniedException"));
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let of = trigger("orders", &[]);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(12) {
        let _ = keda.is_active(&of).await;
        sleep(Duration::from_millis(200)).await;
    }
    let asked = aws.script().calls.count("GetShardIterator");
    assert!(asked <= 30, "{asked} calls in 12 s, all of them in vain");
    assert_eq!(keda.is_active(&of).await.map_err(|error| error.code()), Err(tonic::Code::Unavailable));
}

