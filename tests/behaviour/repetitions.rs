//! What comes again after a restart: after an orderly stop nothing, after a kill what was acknowledged in its last moments.

use std::time::{Duration, Instant};

use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::oracle::{self, assert_complete_and_in_order};
use crate::support::sink::{Reaction, TestSink};
use crate::support::{PATIENCE, wait_for, wait_within};

/// How the changes are spread over the items.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Load {
    Uniform,
    /// A fifth of the changes is one item's.
    OneHotItem,
    /// The nth item has an nth of the first one's changes.
    Zipf,
    /// The sink refuses a thousand items.
    Parked,
}

const REFUSED: usize = 1_000;

impl Load {
    fn item(self, dice: &mut fastrand::Rng) -> String {
        let number = match self {
            Self::OneHotItem if dice.u8(..5) == 0 => 0,
            Self::Uniform | Self::OneHotItem => dice.usize(1..2_000),
            // The inverse of a harmonic sum over 2,000 items, nearly.
            Self::Zipf => (2_000f64.powf(dice.f64())) as usize,
            Self::Parked => dice.usize(0..2 * REFUSED),
        };
        format!("item-{number}")
    }
}

/// Stopped three times while it delivers: each event is accepted once.
async fn repeats_nothing(load: Load) {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 4).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let mut dice = fastrand::Rng::with_seed(11);
    if load == Load::Parked {
        // Not all that is refused in a row, or the whole sink would count as wrong.
        for item in (0..REFUSED).flat_map(|item| [item, item + REFUSED]) {
            aws.script().put("orders", &format!("item-{item}"));
        }
    }
    for number in 0..3_000 {
        aws.script().put("orders", &load.item(&mut dice));
        if number % 900 == 899 {
            aws.script().roll_over_all("orders");
        }
    }
    let is_refused = |item: &str| item.strip_prefix("item-").is_some_and(|n| n.parse::<usize>().unwrap() < REFUSED);
    sink.react(move |event| match load == Load::Parked && is_refused(&event.item) {
        true => Reaction::Status(400),
        false => Reaction::After(Duration::from_millis(dice.u64(0..4)), Box::new(Reaction::Status(202))),
    });
    let writes = aws.script().writes.clone();
    let owed = writes.iter().filter(|write| load != Load::Parked || !is_refused(&write.item)).count();
    // What is parked stays in the buffer.
    let buffer = if load == Load::Parked { "16MiB" } else { "1MiB" };
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder).env("BUFFER_MEMORY", buffer);
    let mut restarts = Vec::new();
    for stop in 1..=3 {
        let adapter = plan.start().await;
        wait_within(2 * PATIENCE, "a quarter of the events", || sink.distinct() >= owed * stop / 4).await;
        assert_eq!(adapter.terminate().await, Some(0));
        restarts.push(Instant::now());
    }
    let parked = plan.start().await;
    wait_within(2 * PATIENCE, "what the sink takes", || sink.distinct() == owed).await;
    assert_eq!(parked.terminate().await, Some(0));
    restarts.push(Instant::now());
    sink.behave();
    let _adapter = plan.start().await;
    wait_within(2 * PATIENCE, "everything", || sink.distinct() == writes.len()).await;
    let received = sink.received();
    assert_complete_and_in_order(&writes, &received, &restarts);
    assert_eq!(oracle::duplicates(&received), 0, "{load:?}: an orderly stop leaves nothing to repeat");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_under_load_repeats_nothing() {
    repeats_nothing(Load::Uniform).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_with_one_hot_item_repeats_nothing() {
    repeats_nothing(Load::OneHotItem).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_with_a_few_items_that_change_often_repeats_nothing() {
    repeats_nothing(Load::Zipf).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_with_a_thousand_parked_items_repeats_nothing() {
    repeats_nothing(Load::Parked).await;
}

/// After a restart parents that owe something are read again to their ends, and their children go on at once.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_parents_that_owe_something_do_not_keep_their_children_waiting() {
    let (aws, sink, folder) =
        (FakeAws::with_table("orders", 50).await, TestSink::start().await, tempfile::tempdir().unwrap());
    for item in 0..1_000 {
        aws.script().put("orders", &format!("refused-{item}"));
        aws.script().put("orders", &format!("taken-{item}"));
    }
    sink.react(|event| Reaction::Status(if event.item.starts_with("refused") { 400 } else { 202 }));
    let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder);
    let first = plan.start_ready().await;
    wait_for("what the sink takes", || sink.distinct() == 1_000).await;
    aws.script().roll_over_all("orders");
    (0..1_000).for_each(|item| aws.script().put("orders", &format!("taken-{item}")));
    wait_for("the children's events", || sink.distinct() == 2_000).await;
    assert_eq!(first.terminate().await, Some(0));
    (0..1_000).for_each(|item| aws.script().put("orders", &format!("taken-{item}")));
    let restart = Instant::now();
    let second = plan.start().await;
    wait_for("a child's event", || sink.distinct() > 2_000).await;
    println!("the first child's event {:?} after the start, with 50 parents that owe something", restart.elapsed());
    wait_for("all of them", || sink.distinct() == 3_000).await;
    assert_eq!(oracle::duplicates(&sink.received()), 0);
    let owing = second.status().await["tables"][0]["shards"].as_array().unwrap().clone();
    assert_eq!(owing.iter().filter(|shard| shard["state"] == "settling").count(), 50, "the parents still owe");
}

/// A kill cannot be announced: what comes again is what was acknowledged since the last save, and what was under way.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: what 50 kills at 1,000 changes a second repeat"]
async fn what_a_kill_repeats() {
    for load in [Load::Uniform, Load::OneHotItem, Load::Zipf] {
        let (aws, sink, folder) =
            (FakeAws::with_table("orders", 4).await, TestSink::start().await, tempfile::tempdir().unwrap());
        sink.react(|_| Reaction::After(Duration::from_millis(2), Box::new(Reaction::Status(202))));
        let plan = Plan::new(&aws, &sink, "orders").keeping_positions(&folder).env("POLL_INTERVAL", "20ms");
        let (mut dice, mut repeated) = (fastrand::Rng::with_seed(3), Vec::new());
        for _ in 0..50 {
            let before = oracle::duplicates(&sink.received());
            let adapter = plan.start_ready().await;
            let (begun, mut written) = (Instant::now(), 0);
            let life = Duration::from_millis(dice.u64(700..1_300));
            while begun.elapsed() < life {
                while written < begun.elapsed().as_millis() {
                    aws.script().put("orders", &load.item(&mut dice));
                    written += 1;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            adapter.kill();
            sink.has_seen_everything().await;
            let settling = plan.start_ready().await;
            let writes = aws.script().writes.len();
            wait_for("everything", || sink.distinct() == writes).await;
            settling.terminate().await;
            repeated.push(oracle::duplicates(&sink.received()) - before);
        }
        repeated.sort_unstable();
        println!("{load:?}: a kill repeats {} events (median), at most {}", repeated[25], repeated[49]);
    }
}
