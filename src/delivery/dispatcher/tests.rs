//! The dispatcher with scripted sinks, in virtual time.

mod overload;
mod stage;
mod storms;
mod tenures;

use std::num::NonZeroU32;
use std::time::SystemTime;

use self::stage::{Reaction, Stage, settings};
use super::*;
use crate::backoff::Backoff;
use crate::delivery::lanes::BarrierRole;
use crate::delivery::retry::OnUndeliverable;
use crate::sink::{RetryAfter, TransportError};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_batch_probes_a_failing_sink_with_one_event() {
    let stage = Stage::new(settings(EventMode::Batch));
    stage.sink.script(|_| Reaction::status(503));
    stage.push((0..1000).map(|item| (item, 0)));
    stage.settle_down(MINUTE).await;
    let requests = stage.sink.requests();
    let probes: Vec<usize> = requests
        .iter()
        .filter(|request| request.at > stage.begun + 5 * SECOND)
        .map(|request| request.ids.len())
        .collect();
    assert!(probes.len() >= 2, "nobody looks whether the sink works again");
    assert!(probes.iter().all(|events| *events == 1), "batches were broken up by probes: {probes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_parked_event_is_tried_at_the_slowest_pace_whatever_the_sink_says_next() {
    let stage = Stage::new(settings(EventMode::Binary));
    let mut tries = 0;
    stage.sink.script(move |_| {
        tries += 1;
        Reaction::status(if tries == 1 { 400 } else { 503 })
    });
    stage.push([(1, 0)]);
    stage.settle_down(5 * MINUTE).await;
    let times: Vec<_> = stage.sink.requests().iter().map(|request| request.at).collect();
    assert!(times.len() > 5);
    let pauses: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| *pause >= 30 * SECOND), "{pauses:?}");
    assert_eq!(stage.parked(), 1);
    stage.sink.script(|_| Reaction::status(200));
    stage.settle_down(MINUTE).await;
    assert_eq!((stage.parked(), stage.settled().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn letters_and_probes_go_side_by_side_until_everything_is_a_letter() {
    let mut settings = settings(EventMode::Binary);
    settings.policy.on_undeliverable = OnUndeliverable::DeadLetter;
    settings.policy.limits.attempts = NonZeroU32::new(2);
    let stage = Stage::new(settings);
    stage.sink.script(|_| Reaction::status(503));
    stage.push((0..10).flat_map(|item| (0..3).map(move |version| (item, version))));
    stage.settle_down(2 * 60 * MINUTE).await;
    assert_eq!(stage.settled().len(), 30, "a probe was never released");
    assert_eq!(stage.letters.requests().len(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_does_not_keep_retried_events_from_their_end_while_the_sink_fails() {
    for on_undeliverable in [OnUndeliverable::DeadLetter, OnUndeliverable::Drop] {
        let mut settings = settings(EventMode::Binary);
        settings.policy.on_undeliverable = on_undeliverable;
        settings.policy.limits.age = Some(10 * MINUTE);
        let stage = Stage::new(settings);
        stage.sink.script(|_| Reaction::status(503));
        stage.push((0..1000).map(|item| (item, 0)));
        stage.settle_down(9 * MINUTE).await;
        assert_eq!(stage.settled().len(), 0, "given up before its time");
        stage.settle_down(4 * 60 * MINUTE).await;
        let settled = stage.settled().len();
        assert!(settled > 100, "{settled} events came to their end in four hours");
        stage.sink.script(|_| Reaction::status(200));
        stage.settle_down(MINUTE).await;
        assert_eq!(stage.settled().len(), 1000);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_sink_is_probed_with_an_event_that_was_never_tried_where_there_is_one() {
    let mut settings = settings(EventMode::Binary);
    settings.limits.concurrency = 3;
    settings.policy.backoff = Backoff::new(SECOND, SECOND).unwrap();
    let stage = Stage::new(settings);
    stage.sink.script(|ids| match ids[0].as_str() {
        "0-0" | "1-0" | "2-0" => Reaction::fault(TransportError::Timeout, 30 * SECOND),
        _ => Reaction::status(200),
    });
    stage.push((0..3).map(|item| (item, 0)));
    stage.settle_down(30 * SECOND + SECOND / 2).await;
    stage.push((3..100).map(|item| (item, 0)));
    stage.settle_down(5 * SECOND).await;
    assert_eq!(stage.settled().len(), 97, "three events that hang pass for a sink that is down");
}

#[tokio::test(start_paused = true)]
async fn retries_that_fail_in_a_row_are_no_outage() {
    let stage = Stage::new(settings(EventMode::Binary));
    stage.sink.script(|ids| Reaction::status(if ids[0].ends_with("-1") { 503 } else { 200 }));
    for item in 0..5 {
        stage.push([(item, 1)]);
        stage.settle_down(SECOND).await;
        stage.push([(100 + item, 0)]);
    }
    stage.settle_down(10 * MINUTE).await;
    assert!(stage.sink.requests().len() > 50, "nobody retries");
    assert_eq!(stage.outage(), None, "five broken events stop everybody else");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_refuses_events_for_their_own_sake_works() {
    let mut settings = settings(EventMode::Binary);
    settings.policy.on_undeliverable = OnUndeliverable::Drop;
    let stage = Stage::new(settings);
    stage.sink.script(|_| Reaction::status(400));
    stage.push((0..50).map(|item| (item, 0)));
    stage.settle_down(SECOND / 2).await;
    assert_eq!((stage.settled().len(), stage.sink.requests().len()), (50, 50), "it was taken for one that fails");
}

/// After how long an event is tried again that is refused in this way.
async fn pause_after(status: u16, asked: RetryAfter) -> Duration {
    let stage = Stage::new(settings(EventMode::Binary));
    stage.sink.script(move |_| Reaction::pause(status, asked));
    stage.push([(1, 0)]);
    stage.settle_down(5 * MINUTE).await;
    let requests = stage.sink.requests();
    requests[1].at - requests[0].at
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_sink_asks_for_is_kept_up_to_the_longest_backoff() {
    let delay = |seconds| RetryAfter::Delay(Duration::from_secs(seconds));
    assert_eq!(pause_after(429, delay(20)).await, 20 * SECOND);
    assert_eq!(pause_after(503, delay(u64::MAX)).await, 30 * SECOND);
    assert_eq!(pause_after(429, RetryAfter::At(SystemTime::now() + 60 * MINUTE)).await, 30 * SECOND);
    for nothing in [delay(0), RetryAfter::At(SystemTime::now() - MINUTE)] {
        assert!(pause_after(503, nothing).await < SECOND);
    }
    assert!(pause_after(500, delay(20)).await < SECOND, "only 429 and 503 may ask");
}

#[tokio::test(start_paused = true)]
async fn when_a_sink_works_again_nobody_waits_for_the_end_of_a_backoff() {
    let stage = Stage::new(settings(EventMode::Binary));
    stage.sink.script(|_| Reaction::status(500));
    stage.push((0..10).map(|item| (item, 0)));
    stage.settle_down(2 * MINUTE).await;
    assert!(stage.outage().is_some());
    stage.sink.script(|_| Reaction::status(200));
    stage.settle_down(2 * SECOND).await;
    assert_eq!(stage.settled().len(), 10, "they wait although the sink answers");
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_is_refused_for_its_own_sake_is_parked_at_once() {
    let mut settings = settings(EventMode::Binary);
    settings.policy.on_undeliverable = OnUndeliverable::DeadLetter;
    let stage = Stage::new(settings);
    stage.sink.script(|_| Reaction::status(400));
    stage.letters.script(|_| Reaction::status(400));
    stage.push([(1, 0), (2, 0)]);
    stage.settle_down(10 * SECOND).await;
    assert_eq!(
        (stage.parked(), stage.letters.requests().len()),
        (2, 2),
        "the slowest pace is enough for what will fail"
    );
    stage.letters.script(|_| Reaction::status(200));
    stage.settle_down(MINUTE).await;
    assert_eq!((stage.parked(), stage.settled().len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_costs_one_event_where_events_are_dropped() {
    let mut settings = settings(EventMode::Batch);
    settings.policy.on_undeliverable = OnUndeliverable::Drop;
    let stage = Stage::new(settings);
    stage.sink.script(|ids| Reaction::status(if ids.iter().any(|id| id == "3-1") { 413 } else { 200 }));
    stage.push((0..10).flat_map(|item| (0..3).map(move |version| (item, version))));
    stage.settle_down(MINUTE).await;
    assert_eq!(stage.settled().len(), 30);
    let delivered = |id: &str| {
        let requests = stage.sink.requests();
        requests.iter().any(|request| request.ids.iter().all(|id| id != "3-1") && request.ids.iter().any(|it| it == id))
    };
    let given_up: Vec<String> =
        stage.settled().iter().map(|(item, version)| format!("{item}-{version}")).filter(|id| !delivered(id)).collect();
    assert_eq!(given_up, ["3-1"]);
}

/// A slow line, or a proxy with a limit of its own.
#[tokio::test(start_paused = true)]
async fn batches_that_are_too_much_for_a_sink_become_smaller_instead_of_being_repeated() {
    for too_much in
        [Reaction::fault(TransportError::Timeout, 30 * SECOND), Reaction::status(413), Reaction::status(504)]
    {
        let stage = Stage::new(settings(EventMode::Batch));
        let reaction = too_much.clone();
        stage.sink.script(move |ids| if ids.len() > 3 { reaction.clone() } else { Reaction::status(200) });
        stage.push((0..2000).map(|item| (item, 0)));
        stage.settle_down(60 * MINUTE).await;
        assert_eq!(stage.settled().len(), 2000, "{too_much:?}");
        let requests = stage.sink.requests();
        let refused = requests.iter().filter(|request| request.ids.len() > 3).count();
        assert!(refused <= 60, "{refused} of {} requests were too much: {too_much:?}", requests.len());
    }
}

/// The sizes, in events and bytes, of the batches in which forty events of one length leave.
async fn batches_of(bytes: usize) -> Vec<(usize, usize)> {
    let mut settings = settings(EventMode::Batch);
    settings.limits.bytes = bytes;
    let stage = Stage::new(settings);
    stage.push((10..50).map(|item| (item, 0)));
    stage.settle_down(SECOND).await;
    assert_eq!(stage.settled().len(), 40, "{bytes} bytes");
    stage.sink.requests().iter().map(|request| (request.ids.len(), request.bytes)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_takes_what_fits_to_the_byte_and_one_longer_event_by_itself() {
    let alone = batches_of(1).await;
    assert!(alone.iter().all(|(events, _)| *events == 1), "{alone:?}");
    let event = alone[0].1 - "[]".len();
    let four = "[,,,]".len() + 4 * event;
    assert_eq!(batches_of(four).await, [(4, four); 10]);
    assert!(batches_of(four - 1).await.iter().all(|(events, bytes)| *events <= 3 && *bytes < four));
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_it_leaves_batches_that_wait_for_company_unsettled() {
    let mut settings = settings(EventMode::Batch);
    settings.limits.wait = MINUTE;
    let stage = Stage::new(settings);
    stage.push((0..5).map(|item| (item, 0)));
    stage.settle_down(SECOND).await;
    let stopped = Instant::now();
    let stage = stage.stop().await;
    assert_eq!(stopped.elapsed(), Duration::ZERO, "the end waits for company");
    assert_eq!((stage.settled().len(), stage.sink.requests().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_under_way_at_the_end_still_count() {
    let stage = Stage::new(settings(EventMode::Binary));
    stage.sink.script(|_| Reaction { after: 3 * SECOND, ..Reaction::status(200) });
    stage.push([(1, 0), (1, 1), (2, 0)]);
    stage.settle_down(SECOND).await;
    let stage = stage.stop().await;
    assert_eq!(stage.settled(), [(1, 0), (2, 0)]);
    assert_eq!(stage.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn when_nobody_hands_anything_in_it_delivers_what_it_has_and_ends() {
    let stage = Stage::new(settings(EventMode::Batch));
    let mut tries = 0;
    stage.sink.script(move |_| {
        tries += 1;
        Reaction::status(if tries < 5 { 503 } else { 200 })
    });
    stage.push((0..20).flat_map(|item| [(item, 0), (item, 1)]));
    assert_eq!(stage.close().await.settled().len(), 40);
}
