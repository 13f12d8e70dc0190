//! What takes long because of AWS, of the sink, of the store, or as configured, and a process that is suspended: `/livez` must
//! not fail.

use super::*;
use crate::app::tests::harness::{OLD, settings};
use crate::backoff::Backoff;
use crate::config::{DeliveryOrder, EventMode};
use crate::delivery::dispatcher::Settings;
use crate::delivery::lanes::RequestLimits;
use crate::delivery::retry::OnUndeliverable;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test(start_paused = true)]
async fn a_process_that_works_or_has_nothing_to_do_is_live() {
    let running = running_for_a_minute().await;
    running.assert_live().await;
    for number in 2..400 {
        running.services.write(NEW, "a", number);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(running.health.not_live(), None);
    }
    running.assert_live().await;
    assert_eq!(running.delivered().len(), 399);
}

#[tokio::test(start_paused = true)]
async fn what_the_sink_aws_or_the_store_hold_up_is_no_stall() {
    let running = running_for_a_minute().await;
    running.services.script(|script| script.status = 503);
    running.services.write(NEW, "a", 2);
    running.assert_live().await;
    running.services.script(|script| script.status = 0);
    running.services.script(|script| script.store_fails = true);
    running.assert_live().await;
    running.services.script(|script| script.store_fails = false);
    running
        .services
        .script(|script| script.denied.extend(["DescribeStream", "DescribeTable", "GetShardIterator", "GetRecords"]));
    running.assert_live().await;
    assert_eq!(running.delivered().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn with_order_by_shard_a_sink_that_is_down_for_hours_while_the_stream_changes_is_no_stall() {
    let services = FakeServices::with_shards(&[]);
    services.shard(OLD, "o", None, &[1], true);
    services.script(|script| {
        script.streams.get_mut(OLD).unwrap().disabled = true;
        script.status = 503;
    });
    let running = RunningTable::new(services.clone(), Setup { order: DeliveryOrder::Shard, ..Setup::default() });
    sleep(5 * MINUTE).await;
    services.shard(NEW, "busy", None, &[], false);
    services.shard(NEW, "idle", None, &[], false);
    for number in 0..60 {
        sleep(MINUTE).await;
        services.write(NEW, "busy", 100 + number);
        assert_eq!(running.health.not_live(), None);
    }
    // Shards are closed after about four hours.
    services.script(|script| script.streams.get_mut(NEW).unwrap().shards.get_mut("idle").unwrap().closed = true);
    assert_eq!(running.alarm_within(60 * MINUTE).await, None, "nothing but the sink is at fault");
}

#[tokio::test(start_paused = true)]
async fn what_takes_a_day_as_configured_or_as_others_please_is_no_stall() {
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings();
        change(&mut settings);
        Setup { settings, ..Setup::default() }
    };
    let slow = Backoff::new(DAY, DAY).unwrap();
    let batch = RequestLimits { concurrency: 2, events: 100, bytes: 1 << 20, wait: DAY };
    type Change = fn(&FakeServices);
    let cases: Vec<(&str, Setup, Change)> = vec![
        ("a batch waits a day for company", with(&|it| (it.mode, it.limits) = (EventMode::Batch, batch)), |_| {}),
        ("requests take a day", with(&|it| it.timeout = DAY), |services| {
            services.script(|script| script.sink_takes = DAY)
        }),
        ("a day between tries", with(&|it| it.policy.backoff = slow), |services| {
            services.script(|script| script.status = 503)
        }),
        ("a day between tries of each", with(&|it| it.policy.backoff = slow), |services| {
            services.script(|script| script.status = 400);
        }),
        (
            "the dead-letter sink hangs",
            with(&|it| (it.policy.on_undeliverable, it.timeout) = (OnUndeliverable::DeadLetter, DAY)),
            |services| services.script(|script| (script.status, script.sink_takes) = (400, 2 * MINUTE)),
        ),
        ("a quiet shard is asked once a day", Setup { idle_max: DAY, ..Setup::default() }, |_| {}),
        ("the store takes a day", Setup::default(), |services| services.script(|script| script.store_takes = DAY)),
        ("the stream is not found", Setup::default(), |services| {
            services
                .script(|script| script.not_found.extend([("DescribeStream", u32::MAX), ("DescribeTable", u32::MAX)]));
        }),
    ];
    for (name, setup, change) in cases {
        let services = FakeServices::with_shards(&[]);
        let shards = ["a", "b", "c", "d"];
        shards.iter().for_each(|shard| services.shard(NEW, shard, None, &[1, 2], false));
        change(&services);
        let running = RunningTable::new(services.clone(), setup);
        for number in 3..6 {
            shards.iter().for_each(|shard| services.write(NEW, shard, number));
            assert_eq!(running.alarm_within(60 * MINUTE).await, None, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_suspended_again_and_again_does_not_stand_still() {
    let services = FakeServices::with_shards(&[]);
    let shards = ["a", "b", "c", "d"];
    shards.iter().for_each(|shard| services.shard(NEW, shard, None, &[1], false));
    let running = RunningTable::new(services.clone(), Setup::default());
    for number in 2..400 {
        shards.iter().for_each(|shard| services.write(NEW, shard, number));
        sleep(Duration::from_millis(fastrand::u64(1..3_000))).await;
        tokio::time::advance(Duration::from_secs(fastrand::u64(60..3_600))).await;
        assert_eq!(running.health.not_live(), None);
    }
    sleep(MINUTE).await;
    assert_eq!((running.health.not_live(), running.delivered().len()), (None, 4 * 399));
}

/// With order by shard a shard is read once everything in its parent is settled, and asks for nothing before.
#[tokio::test(start_paused = true)]
async fn a_child_whose_parent_waits_for_the_sink_is_no_stall_and_goes_on_by_itself() {
    let services = FakeServices::with_shards(&[]);
    services.shard(NEW, "a", None, &[1, 2], true);
    services.shard(NEW, "b", Some("a"), &[3], true);
    services.shard(NEW, "c", Some("b"), &[4], false);
    services.script(|script| script.status = 503);
    let running = RunningTable::new(services, Setup { order: DeliveryOrder::Shard, ..Setup::default() });
    running.assert_live().await;
    assert_eq!(running.progress.tracker().unsettled(), 2, "the children wait unread");
    running.services.script(|script| script.status = 0);
    sleep(10 * MINUTE).await;
    assert_eq!(running.delivered(), ["1", "2", "3", "4"]);
    running.assert_live().await;
}

/// What an earlier run owes of a parent comes before what it has not read of the child.
#[tokio::test(start_paused = true)]
async fn with_order_by_shard_a_restart_goes_on_with_the_parent_and_then_with_the_child() {
    let services = FakeServices::with_shards(&[]);
    services.shard(NEW, "a", None, &[1, 2], true);
    services.shard(NEW, "b", Some("a"), &[3], false);
    services.script(|script| script.status = 503);
    let setup = |stored| Setup { order: DeliveryOrder::Shard, stored, ..Setup::default() };
    let running = RunningTable::new(services.clone(), setup(Default::default()));
    sleep(10 * MINUTE).await;
    let stored = running.last_saved();
    drop(running);
    services.script(|script| script.status = 0);
    let running = RunningTable::new(services, setup(stored));
    sleep(10 * MINUTE).await;
    assert_eq!(running.delivered(), ["1", "2", "3"]);
}
