//! Rolling updates: a new process waits, the old one is told to stop.

use std::time::Duration;

use crate::group::{Group, print_times, rounds};
use crate::support::sink::Reaction;

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
