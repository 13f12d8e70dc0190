//! Sinks that are slow, limited, partly broken or wholly wrong: what they cost, and whom.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::stage::{Reaction, SECOND_TABLE, Stage, settings};
use super::*;
use crate::delivery::lanes::BarrierRole;
use crate::sink::TransportError;

/// The bytes of one event of item 1, as the stage counts them.
const OF_ITEM_1: usize = 1_000_000;

fn many(mode: EventMode) -> Settings {
    let mut settings = settings(mode);
    settings.limits.concurrency = 64;
    settings
}

/// Every item whose number has a 7 in the end.
fn is_refused(id: &str) -> bool {
    id.split('-').next().is_some_and(|item| item.ends_with('7'))
}

#[tokio::test(start_paused = true)]
async fn sound_items_among_ten_times_as_many_broken_ones_are_delivered_within_30_seconds() {
    for seed in 0..20 {
        fastrand::seed(seed);
        let mut rng = Rng::with_seed(seed);
        let stage = Stage::new(many(EventMode::Binary));
        // Even items are of the first table, odd ones of the second; those below 1,000 fail for ever.
        stage.sink.script(|ids| {
            let item: u64 = ids[0].split('-').next().unwrap().parse().unwrap();
            Reaction {
                after: Duration::from_millis(20),
                ..Reaction::status(if item % SECOND_TABLE < 1000 { 500 } else { 200 })
            }
        });
        let mut items: Vec<u64> =
            (0..1100).map(|item| if item % 2 == 0 { item } else { item + SECOND_TABLE }).collect();
        rng.shuffle(&mut items);
        stage.push(items.iter().map(|item| (*item, 0)));
        stage.settle_down(30 * SECOND).await;
        assert_eq!(stage.settled().len(), 100, "seed {seed}: sound items wait for broken ones");
    }
}

/// As after a restart, or when one writer was wrong for a while: a probe is drawn, or it would take one second for each of them.
#[tokio::test(start_paused = true)]
async fn a_thousand_items_refused_in_a_row_do_not_keep_those_behind_them_waiting_for_long() {
    for seed in 0..10 {
        fastrand::seed(seed);
        let stage = Stage::new(many(EventMode::Binary));
        stage.sink.script(|ids| {
            let item: u64 = ids[0].split('-').next().unwrap().parse().unwrap();
            Reaction { after: Duration::from_millis(20), ..Reaction::status(if item < 1000 { 400 } else { 200 }) }
        });
        stage.push((0..2000).map(|item| (item, 0)));
        stage.settle_down(2 * MINUTE).await;
        assert_eq!(stage.settled().len(), 1000, "seed {seed}: sound items wait behind those that are refused");
    }
}

#[tokio::test(start_paused = true)]
async fn one_tables_backlog_does_not_keep_another_tables_event_waiting() {
    let stage = Stage::new(settings(EventMode::Binary));
    stage.sink.script(|_| Reaction { after: SECOND, ..Reaction::status(200) });
    stage.push((0..10_000).map(|item| (item, 0)));
    stage.settle_down(SECOND / 2).await;
    stage.push([(SECOND_TABLE, 0)]);
    stage.settle_down(2 * SECOND).await;
    assert!(stage.settled().contains(&(SECOND_TABLE, 0)), "it waits for the other table's backlog");
}

#[tokio::test(start_paused = true)]
async fn within_a_table_what_was_read_first_is_sent_first() {
    let mut settings = settings(EventMode::Binary);
    settings.limits.concurrency = 1;
    let stage = Stage::new(settings);
    stage.push([(1, 0), (1, 1), (2, 0), (1, 2), (3, 0)]);
    stage.settle_down(SECOND).await;
    assert_eq!(stage.settled(), [(1, 0), (1, 1), (2, 0), (1, 2), (3, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_asks_for_less_is_left_alone_for_as_long_and_nothing_is_parked() {
    let stage = Stage::new(many(EventMode::Binary));
    let begun = Instant::now();
    stage.sink.script(move |_| match begun.elapsed() < 20 * SECOND {
        true => Reaction::pause(429, RetryAfter::Delay(10 * SECOND)),
        false => Reaction { after: Duration::from_millis(5), ..Reaction::status(200) },
    });
    stage.push((0..1000).map(|item| (item, 0)));
    stage.settle_down(10 * 60 * SECOND).await;
    assert_eq!((stage.settled().len(), stage.parked()), (1000, 0));
    let times: BTreeSet<Duration> = stage.sink.requests().iter().map(|request| request.at - stage.begun).collect();
    let early = times.iter().filter(|at| **at > SECOND / 10 && **at < 10 * SECOND).count();
    assert_eq!(early, 0, "requests in the pause that the sink has asked for: {times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_refuses_everything_gets_no_more_than_64_events_given_up() {
    for on_undeliverable in [OnUndeliverable::Drop, OnUndeliverable::DeadLetter, OnUndeliverable::Block] {
        let mut settings = many(EventMode::Binary);
        settings.policy.on_undeliverable = on_undeliverable;
        let stage = Stage::new(settings);
        stage.sink.script(|_| Reaction { after: Duration::from_millis(20), ..Reaction::status(400) });
        stage.push((0..10_000).map(|item| (item, 0)));
        stage.settle_down(60 * MINUTE).await;
        let given_up = stage.settled().len() + stage.parked() as usize;
        assert!(given_up < 64 + 64, "{on_undeliverable:?}: {given_up} events were given up");
        let outage = stage.outage().expect("the whole sink is wrong, and nobody says so");
        assert!(outage.is_refusing && outage.why.contains("400"), "{outage:?}");
        assert_eq!(stage.troubles().len(), 1, "nothing makes progress, and the pod is ready");
        let requests = stage.sink.requests().len();
        assert!(requests < 128 + 60 * 61, "{requests} requests in an hour");

        stage.sink.script(|_| Reaction::status(200));
        stage.settle_down(2 * MINUTE).await;
        assert_eq!((stage.settled().len(), stage.outage()), (10_000, None), "{on_undeliverable:?}: it does not go on");
        assert_eq!(stage.troubles(), Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn refused_events_among_sound_ones_are_given_up_as_the_policy_says() {
    let mut settings = many(EventMode::Binary);
    settings.policy.on_undeliverable = OnUndeliverable::Drop;
    let stage = Stage::new(settings);
    stage.sink.script(|ids| Reaction::status(if is_refused(&ids[0]) { 400 } else { 200 }));
    stage.push((0..2000).map(|item| (item, 0)));
    stage.settle_down(5 * SECOND).await;
    assert_eq!((stage.settled().len(), stage.sink.requests().len()), (2000, 2000));
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_is_too_long_keeps_what_fits_and_others_go_on() {
    let mut settings = settings(EventMode::Binary);
    settings.memory.lane = 5 * OF_ITEM_1;
    let stage = Stage::new(settings);
    stage.sink.script(|ids| Reaction::status(if ids[0].starts_with("1-") { 500 } else { 200 }));
    stage.push((0..20).map(|version| (1, version)).chain([(2, 0), (3, 0)]));
    stage.settle_down(2 * SECOND).await;
    let kept = stage.left_out()[0].1;
    assert!((2..=5).contains(&kept), "{kept} events were kept");
    let beyond: Vec<(u64, u64)> = (kept..20).map(|version| (1, version)).collect();
    assert_eq!(stage.left_out(), beyond, "all that does not fit, in order");
    assert_eq!(stage.settled(), [(2, 0), (3, 0)]);

    // What comes later of the same item, and was on its way when its lane was left out, is not kept either.
    stage.push([(1, 20)]);
    stage.sink.script(|_| Reaction::status(200));
    stage.settle_down(2 * MINUTE).await;
    assert_eq!(stage.settled().len() as u64, 2 + kept, "an event overtook those that were left out before it");
    let again = stage.take_left_out();
    assert_eq!(again.last(), Some(&(1, 20)));
    stage.push(again);
    stage.settle_down(MINUTE).await;
    let order: Vec<u64> = stage.settled().into_iter().filter(|change| change.0 == 1).map(|change| change.1).collect();
    assert_eq!(order, (0..order.len() as u64).collect::<Vec<_>>(), "not in the item's order");
}

#[tokio::test(start_paused = true)]
async fn parked_events_take_no_more_than_the_share_of_a_lane_and_the_others_come_again() {
    let mut settings = settings(EventMode::Binary);
    settings.limits.concurrency = 1;
    settings.memory.lane = 40 * OF_ITEM_1;
    let stage = Stage::new(settings);
    let bad = |ids: &[String]| !ids[0].starts_with("9-");
    stage.sink.script(move |ids| Reaction::status(if bad(ids) { 400 } else { 200 }));
    // Each takes as many megabytes as its number says; sound ones between them show that the sink works.
    stage.push([(20, 0), (9, 0), (15, 0), (9, 1), (30, 0), (9, 2), (30, 1), (31, 0), (9, 3)]);
    stage.settle_down(SECOND).await;
    assert_eq!(stage.parked(), 2);
    let mut left_out = stage.left_out();
    left_out.sort_unstable();
    assert_eq!(left_out, [(30, 0), (30, 1), (31, 0)], "with its first event, and all that is behind it");
    assert_eq!(stage.settled().len(), 4, "other items wait");
    assert_eq!(stage.readmissions(), 0);

    stage.sink.script(|_| Reaction::status(200));
    stage.settle_down(MINUTE).await;
    assert_eq!(
        (stage.parked(), stage.readmissions()),
        (0, 1),
        "there is room, and what was left out does not come again"
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_left_out_with_its_first_event_is_tried_again_in_any_case() {
    let mut settings = settings(EventMode::Binary);
    settings.memory.lane = 10 * OF_ITEM_1;
    let stage = Stage::new(settings);
    stage.sink.script(|_| Reaction::status(400));
    stage.push([(20, 0)]);
    stage.settle_down(SECOND).await;
    assert_eq!((stage.left_out(), stage.parked()), (vec![(20, 0)], 0));
    stage.settle_down(10 * MINUTE).await;
    assert_eq!(stage.readmissions(), 1, "nobody tries it again");
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_body_would_be_too_long_is_never_made_and_goes_where_the_policy_says() {
    for on_undeliverable in [OnUndeliverable::Drop, OnUndeliverable::DeadLetter, OnUndeliverable::Block] {
        for mode in [EventMode::Binary, EventMode::Structured, EventMode::Batch] {
            let mut settings = settings(mode);
            settings.policy.on_undeliverable = on_undeliverable;
            settings.memory.event_bytes = 50;
            let stage = Stage::new(settings);
            stage.push([(1, 0), (1, 1)]);
            stage.settle_down(MINUTE).await;
            assert_eq!(stage.sink.requests().len(), 0, "{mode:?}: it was sent");
            match on_undeliverable {
                OnUndeliverable::Drop => assert_eq!(stage.settled(), [(1, 0), (1, 1)]),
                OnUndeliverable::DeadLetter => {
                    assert_eq!(stage.settled(), [(1, 0), (1, 1)]);
                    assert_eq!(stage.letters.requests().len(), 2);
                }
                OnUndeliverable::Block => {
                    assert_eq!((stage.settled().len(), stage.parked()), (0, 1), "{mode:?}");
                    assert_eq!(stage.released(), OF_ITEM_1, "{mode:?}: somebody keeps the event");
                }
            }
            assert_eq!(stage.in_flight(), 0);
            // Nothing of it keeps the process from ending.
            stage.close().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_under_way_take_no_more_than_their_part_of_the_memory() {
    for mode in [EventMode::Binary, EventMode::Structured] {
        let mut settings = settings(mode);
        let one = {
            let stage = Stage::new(settings.clone());
            stage.push([(10, 0)]);
            stage.settle_down(SECOND).await;
            stage.sink.requests()[0].bytes
        };
        for (bodies, most) in [(3 * one + one / 2, 3), (one, 1), (one / 2, 1)] {
            settings.memory.bodies = bodies;
            let stage = Stage::new(settings.clone());
            stage.sink.script(|_| Reaction { after: SECOND, ..Reaction::status(200) });
            stage.push((10..30).map(|item| (item, 0)));
            stage.settle_down(30 * SECOND).await;
            assert_eq!((stage.settled().len(), stage.sink.most()), (20, most), "{mode:?}, {bodies} bytes");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_sink_that_is_down_costs_its_letters_alone() {
    let mut settings = many(EventMode::Binary);
    settings.policy.on_undeliverable = OnUndeliverable::DeadLetter;
    let stage = Stage::new(settings);
    stage.sink.script(|ids| Reaction::status(if is_refused(&ids[0]) { 400 } else { 200 }));
    stage.letters.script(|_| Reaction::fault(TransportError::Connect, Duration::from_millis(1)));
    stage.push((0..2000).map(|item| (item, 0)));
    stage.settle_down(SECOND).await;
    let sound = (0..2000).filter(|item: &u64| !is_refused(&item.to_string())).count();
    assert_eq!(stage.settled().len(), sound, "other items wait for the dead-letter sink");
    stage.settle_down(10 * MINUTE).await;
    assert_eq!(stage.troubles(), Vec::<String>::new(), "the pod is not ready although its sink works");
    let before = stage.letters.requests().len();
    stage.settle_down(MINUTE).await;
    let probes = stage.letters.requests().len() - before;
    assert!((50..=61).contains(&probes), "{probes} requests in a minute to a dead-letter sink that is down");
    stage.letters.script(|_| Reaction::status(200));
    stage.settle_down(2 * MINUTE).await;
    assert_eq!(stage.settled().len(), 2000);
}

#[tokio::test(start_paused = true)]
async fn one_item_that_fails_on_a_quiet_table_leaves_the_pod_ready() {
    for status in [400, 500] {
        let stage = Stage::new(settings(EventMode::Binary));
        stage.sink.script(move |ids| Reaction::status(if ids[0].starts_with("1-") { status } else { 200 }));
        stage.push([(1, 0), (2, 0)]);
        stage.settle_down(60 * MINUTE).await;
        assert_eq!((stage.parked(), stage.settled().len()), (1, 1), "{status}");
        assert_eq!(stage.troubles(), Vec::<String>::new(), "{status}: the sink works");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_takes_nothing_of_a_quiet_table_makes_the_pod_unready() {
    let stage = Stage::new(settings(EventMode::Binary));
    stage.sink.script(|_| Reaction::status(500));
    stage.push([(1, 0)]);
    stage.settle_down(5 * MINUTE).await;
    assert!(stage.outage().is_some());
    assert_eq!(stage.troubles().len(), 1);
    stage.sink.script(|_| Reaction::status(200));
    stage.settle_down(5 * SECOND).await;
    assert_eq!((stage.outage(), stage.troubles()), (None, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn events_that_are_given_up_while_the_sink_is_down_do_not_make_the_pod_ready() {
    for on_undeliverable in [OnUndeliverable::Drop, OnUndeliverable::DeadLetter] {
        let mut settings = settings(EventMode::Binary);
        settings.policy.on_undeliverable = on_undeliverable;
        settings.policy.limits.attempts = NonZeroU32::new(2);
        let stage = Stage::new(settings);
        stage.sink.script(|_| Reaction::status(503));
        stage.push((0..1000).map(|item| (item, 0)));
        stage.settle_down(2 * MINUTE).await;
        for _ in 0..100 {
            stage.settle_down(SECOND).await;
            assert_eq!(stage.troubles().len(), 1, "{on_undeliverable:?}: nothing is delivered, and the pod is ready");
        }
        assert!(!stage.settled().is_empty(), "no event was given up");
        stage.sink.script(|_| Reaction::status(200));
        stage.settle_down(5 * SECOND).await;
        assert_eq!(stage.troubles(), Vec::<String>::new());
    }
}

/// Nobody tries the sink before there is another event.
#[tokio::test(start_paused = true)]
async fn a_quiet_table_whose_last_event_was_given_up_during_an_outage_is_ready_after_a_while() {
    let mut settings = settings(EventMode::Binary);
    settings.policy.on_undeliverable = OnUndeliverable::Drop;
    settings.policy.limits.attempts = NonZeroU32::new(100);
    let stage = Stage::new(settings);
    stage.sink.script(|_| Reaction::status(503));
    for number in 0..10 {
        stage.push([(1, number)]);
        stage.settle_down(MINUTE).await;
        assert_eq!(
            stage.troubles().is_empty(),
            number == 0,
            "a trickle of events that are given up makes the pod ready"
        );
    }
    stage.settle_down(60 * MINUTE).await;
    assert_eq!((stage.settled().len(), stage.troubles()), (10, Vec::new()));
}

/// What one attempt encodes, connects to and waits for holds up no other.
#[tokio::test(start_paused = true)]
async fn each_attempt_runs_in_a_task_of_its_own() {
    let stage = Stage::new(settings(EventMode::Binary));
    stage.push((0..8).map(|item| (item, 0)));
    stage.settle_down(SECOND).await;
    let tasks: BTreeSet<String> = stage.sink.requests().iter().map(|request| format!("{:?}", request.task)).collect();
    assert_eq!(tasks.len(), 8, "requests share a task");
}

/// A gap's event is not tried at once while the sink takes long.
#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_gap_does_not_overtake_what_was_left_out_meanwhile() {
    let mut settings = settings(EventMode::Binary);
    settings.limits.concurrency = 1;
    settings.memory.lane = 10 * OF_ITEM_1;
    let stage = Stage::new(settings);
    let mut tries = 0;
    stage.sink.script(move |ids| {
        tries += usize::from(ids[0] == "20-0");
        let status = if ids[0] == "20-0" && tries == 1 { 400 } else { 200 };
        Reaction { after: SECOND, ..Reaction::status(status) }
    });
    // It is left out whole: there is no room to park it. The gap of item 1 is tried only after that.
    stage.push_gated([
        ((20, 0), BarrierRole::None),
        ((1, 0), BarrierRole::Barrier(0)),
        ((20, 1), BarrierRole::After(0)),
    ]);
    stage.settle_down(5 * SECOND).await;
    assert_eq!(stage.settled(), [(1, 0)], "an event overtook the one before it");
    assert_eq!((stage.left_out(), stage.kept()), (vec![(20, 0), (20, 1)], 0));
    stage.settle_down(10 * MINUTE).await;
    // Both together are too long for a lane: they come one by one.
    for expected in [2, 1] {
        assert_eq!(stage.push_due(false).len(), expected);
        stage.settle_down(MINUTE).await;
    }
    assert_eq!((stage.settled(), stage.kept()), (vec![(1, 0), (20, 0), (20, 1)], 0));
}

#[tokio::test(start_paused = true)]
async fn items_that_are_parked_do_not_hide_that_a_sink_takes_nothing_of_a_quiet_table() {
    for bad in [400, 500] {
        let stage = Stage::new(settings(EventMode::Binary));
        stage.sink.script(move |ids| Reaction::status(if ids[0].starts_with("1-") { bad } else { 200 }));
        stage.push([(1, 0), (2, 0)]);
        stage.settle_down(30 * MINUTE).await;
        assert_eq!((stage.parked(), stage.settled().len(), stage.outage()), (1, 1, None));
        stage.sink.script(|_| Reaction::status(500));
        stage.push([(3, 0), (4, 0)]);
        stage.settle_down(5 * MINUTE).await;
        assert!(stage.outage().is_some(), "{bad}: nobody says that the sink is down");
        assert_eq!((stage.parked(), stage.troubles().len()), (1, 1), "{bad}: the pod is ready");
        stage.sink.script(|_| Reaction::status(200));
        stage.settle_down(MINUTE).await;
        assert_eq!((stage.settled().len(), stage.parked(), stage.outage()), (4, 0, None), "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_fails_on_after_an_outage_leaves_the_pod_ready() {
    let stage = Stage::new(settings(EventMode::Binary));
    stage.sink.script(|_| Reaction::status(500));
    stage.push([(1, 0), (SECOND_TABLE, 0)]);
    stage.settle_down(5 * MINUTE).await;
    assert_eq!(stage.troubles().len(), 2);
    stage.sink.script(|ids| Reaction::status(if ids[0].starts_with("1-") { 500 } else { 200 }));
    stage.settle_down(5 * MINUTE).await;
    assert_eq!((stage.settled().len(), stage.outage()), (1, None));
    assert_eq!(stage.troubles(), Vec::<String>::new(), "the sink works again");
}

#[tokio::test(start_paused = true)]
async fn a_lane_is_not_left_out_with_an_event_that_will_not_come_again() {
    let mut settings = settings(EventMode::Binary);
    settings.memory.lane = 10 * OF_ITEM_1;
    let stage = Stage::new(settings);
    stage.sink.script(|ids| Reaction::status(if ids[0] == "20-0" { 400 } else { 200 }));
    stage.push_gated([((20, 0), BarrierRole::None), ((20, 1), BarrierRole::Barrier(0))]);
    stage.settle_down(SECOND).await;
    assert_eq!((stage.parked(), stage.left_out()), (1, vec![]), "it was parked with the one behind it");
    stage.sink.script(|_| Reaction::status(200));
    stage.settle_down(MINUTE).await;
    assert_eq!((stage.settled(), stage.kept()), (vec![(20, 0), (20, 1)], 0));
}
