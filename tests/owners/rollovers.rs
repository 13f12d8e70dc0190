//! Rolling updates: a new process waits, the old one is told to stop.

use std::time::{Duration, Instant};

use crate::group::{Group, print_times, rounds, senders};
use crate::support::sink::Reaction;
use crate::support::wait_for;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_ready_and_delivers_nothing_while_the_first_one_owns_the_table() {
    let group = Group::with_shards(2).await;
    let first = group.start_ready().await;
    let second = group.start_ready().await;
    group.aws.write("orders", 10, 5);
    group.has_everything().await;
    assert_eq!(senders(&group.sink.received()), 1, "two processes have delivered");
    assert!(first.is_owner().await && !second.is_owner().await);
    let status = second.adapter.status().await;
    assert_eq!(status["tables"][0]["lease"]["held"], false, "{status:#}");
    group.assert_sound(&[&first, &second]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_updates_under_load_repeat_nothing_and_keep_order_while_shards_split() {
    let group = Group::with_shards(2).await;
    let mut n = 0u64;
    group.sink.react(move |_| {
        n += 1;
        match n % 11 {
            0 => Reaction::After(Duration::from_millis(30), Box::new(Reaction::Status(202))),
            _ => Reaction::Status(202),
        }
    });
    let rollovers = rounds(4);
    let mut old = group.start_ready().await;
    old.becomes_owner().await;
    for round in 0..rollovers {
        let new = group.start_ready().await;
        let load = group.aws.write_slowly("orders", 30, 400, Duration::from_millis(5));
        let stop = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            if round.is_multiple_of(2) {
                let open = group.aws.script().open_shards("orders");
                group.aws.script().split("orders", &open[round % open.len()]);
            }
            assert_eq!(old.adapter.terminate().await, Some(0));
        };
        tokio::join!(load, stop);
        new.becomes_owner().await;
        group.has_everything().await;
        old = new;
    }
    group.assert_sound(&[&old]);
    assert_eq!(group.duplicates(), 0, "an orderly handover repeats nothing");
    print_times("pause at a rolling update", group.takeover_times());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_told_to_stop_hands_over_within_a_second() {
    let group = Group::with_shards(1).await;
    let first = group.start_ready().await;
    first.becomes_owner().await;
    let second = group.start_ready().await;
    let told = Instant::now();
    assert_eq!(first.adapter.terminate().await, Some(0));
    let ended = Instant::now();
    second.becomes_owner().await;
    assert!(
        ended - told < Duration::from_secs(2) && ended.elapsed() < Duration::from_secs(2),
        "{:?}, {:?}",
        ended - told,
        ended.elapsed()
    );
    group.aws.write("orders", 3, 3);
    group.has_everything().await;
    group.assert_sound(&[&second]);
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_survive_every_process_without_a_volume() {
    let group = Group::with_shards(2).await;
    let first = group.start_ready().await;
    group.aws.write("orders", 10, 5);
    group.has_everything().await;
    assert_eq!(first.adapter.terminate().await, Some(0));
    group.aws.write("orders", 10, 5);
    let second = group.start_ready().await;
    group.has_everything().await;
    wait_for("both to have delivered", || senders(&group.sink.received()) == 2).await;
    group.assert_sound(&[&second]);
    assert_eq!(group.duplicates(), 0, "an orderly end leaves nothing to repeat");
}
