//! What a second reader found: each test says what breaks for whom. Those that fail are ignored until they are mended.

use super::scene::{Land, NEW, OLD, Plan, Scene};
use super::*;
use crate::delivery::parcel::Account as _;
use crate::streams::resume::{ShardState, StreamState};
use std::collections::BTreeSet;
use tokio::time::sleep;

const MINUTE: Duration = Duration::from_secs(60);

fn land() -> Arc<Land> {
    Arc::new(Land::default())
}

fn stored(arn: &str, drained: bool, shards: &[(&str, u64)]) -> StreamState {
    let shard = |(id, number): &(&str, u64)| {
        let position = crate::streams::position::Position::After(format!("{number:021}").parse().unwrap());
        ((*id).to_owned(), ShardState::Reading { position, parent: None })
    };
    StreamState {
        arn: arn.to_owned(),
        start: crate::streams::position::Position::Start,
        drained,
        saved_at: std::time::SystemTime::now(),
        shards: shards.iter().map(shard).collect(),
    }
}

/// A table whose old stream vanished before it was read to its end, and that has a new one with two changes.
async fn after_a_vanished_stream(order: DeliveryOrder) -> Scene {
    let land = land();
    land.shard(NEW, "n", None, &[11, 12], false);
    let stored = TableState { streams: vec![stored(OLD, false, &[("o", 1)])] };
    let scene = Scene::new(land, Plan { order, stored, ..Plan::default() });
    sleep(10 * MINUTE).await;
    scene
}

#[tokio::test(start_paused = true)]
#[ignore = "finding: the gap of a vanished stream is in a shard that never ends"]
async fn with_order_by_shard_a_vanished_stream_does_not_end_delivery_for_good_and_unseen() {
    let scene = after_a_vanished_stream(DeliveryOrder::Shard).await;
    let (alarm, ready) = (scene.health.not_live(), scene.health.not_ready(tokio::time::Instant::now()));
    assert!(scene.delivered().len() == 3 || alarm.is_some(), "{:?}; /livez ok; /readyz: {ready:?}", scene.delivered());
    assert_eq!(scene.delivered().len(), 3, "{alarm:?}");
}

#[tokio::test(start_paused = true)]
#[ignore = "finding: the gap of a vanished stream is in a shard that never ends"]
async fn after_a_stream_vanished_the_next_ones_positions_are_stored_or_each_restart_repeats_a_day() {
    let scene = after_a_vanished_stream(DeliveryOrder::Item).await;
    assert_eq!(scene.delivered().len(), 3, "the gap and two changes");
    assert_eq!(scene.books.ledger().unsettled(), 0);
    let state = scene.last_saved();
    let next = state.streams.iter().find(|stream| stream.arn == NEW).unwrap();
    assert!(next.shards.contains_key("n"), "no position in the new stream is ever stored: {state:?}");
}
