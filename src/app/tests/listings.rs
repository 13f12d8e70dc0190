//! What listings say late, wrongly or not at all, and what it costs to find out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::harness::{FakeServices, NEW, OLD, RunningTable, Setup};
use crate::config::StartPosition;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const NEXT: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2027-01-01T00:00:00.000";

/// Waits until so many events were taken; how long that took.
async fn delivered(running: &RunningTable, events: usize, limit: Duration) -> Duration {
    let begun = Instant::now();
    while running.delivered().len() < events {
        assert!(begun.elapsed() < limit, "{} of {events} after {limit:?}", running.delivered().len());
        sleep(Duration::from_millis(100)).await;
    }
    begun.elapsed()
}

/// A table whose first stream has one shard, of which the only change was delivered; these operations are denied.
async fn reading_old_stream(denied: &[&'static str]) -> (Arc<FakeServices>, RunningTable) {
    let services = FakeServices::with_shards(&[]);
    services.script(|script| script.denied.extend(denied));
    services.shard(OLD, "o", None, &[1], false);
    let running = RunningTable::new(services.clone(), Setup::default());
    delivered(&running, 1, MINUTE).await;
    (services, running)
}

fn disable(services: &FakeServices, stream: &'static str) {
    services.script(|script| {
        let stream = script.streams.get_mut(stream).unwrap();
        stream.disabled = true;
        stream.shards.values_mut().for_each(|shard| shard.closed = true);
    });
}

/// How long 2,000 shards that end at once wait for their children, where each has so many ancestors that are still listed.
async fn handover_of_two_thousand_shards(ancestors: usize) -> Duration {
    let name = |generation: usize, number: usize| format!("a{generation}-{number:04}");
    let shards: Vec<String> = (0..2_000).map(|number| name(ancestors, number)).collect();
    let services = FakeServices::with_shards(&shards.iter().map(String::as_str).collect::<Vec<_>>());
    for (generation, number) in (0..ancestors).flat_map(|generation| (0..2_000).map(move |number| (generation, number)))
    {
        let parent = generation.checked_sub(1).map(|before| name(before, number));
        services.shard(NEW, &name(generation, number), parent.as_deref(), &[], true);
    }
    services.script(|script| {
        script.page = 100;
        for number in (0..2_000).filter(|_| ancestors > 0) {
            let shard = script.streams.get_mut(NEW).unwrap().shards.get_mut(&name(ancestors, number)).unwrap();
            shard.parent = Some(name(ancestors - 1, number));
        }
    });
    let running = RunningTable::new(services.clone(), Setup { idle_max: SECOND, buffer: 64 << 20, ..Setup::default() });
    sleep(5 * MINUTE).await;
    for (number, shard) in shards.iter().enumerate() {
        services.shard(NEW, &format!("b{number:04}"), Some(shard), &[number as u64 + 1], false);
        services.script(|script| script.streams.get_mut(NEW).unwrap().shards.get_mut(shard).unwrap().closed = true);
    }
    delivered(&running, 2_000, MINUTE).await
}

/// At the 8 calls a second that one process makes, 20 pages of 100 new shards take 2.5 s. A quiet shard is asked once a second, so that its
/// end is seen a second later.
#[tokio::test(start_paused = true)]
async fn two_thousand_shards_that_end_at_once_are_handed_over_within_five_seconds() {
    let took = handover_of_two_thousand_shards(0).await;
    assert!(took <= 6 * SECOND, "{took:?}");
}

/// AWS lists shards for a day: with a rollover every four hours, six generations.
#[tokio::test(start_paused = true)]
async fn a_day_of_older_shards_makes_two_thousand_handovers_no_slower() {
    let took = handover_of_two_thousand_shards(6).await;
    assert!(took <= 6 * SECOND, "{took:?}");
}

/// The stream after the one that is read lives and dies before that one was read to its end.
#[tokio::test(start_paused = true)]
async fn a_stream_that_came_and_went_while_the_one_before_was_read_is_read_before_the_next() {
    let (services, running) = reading_old_stream(&[]).await;
    disable(&services, OLD);
    services.shard(NEW, "n", None, &[2, 3], true);
    disable(&services, NEW);
    services.shard(NEXT, "x", None, &[4], false);
    delivered(&running, 4, 3 * MINUTE).await;
    assert_eq!(running.delivered(), ["1", "2", "3", "4"]);
}

/// The policies that other adapters come with have no `ListStreams`.
#[tokio::test(start_paused = true)]
async fn without_list_streams_a_new_stream_is_followed_within_75_seconds_and_nobody_is_told_to_allow_it() {
    let (services, running) = reading_old_stream(&["ListStreams"]).await;
    sleep(10 * MINUTE).await;
    disable(&services, OLD);
    services.shard(NEW, "n", None, &[2], false);
    delivered(&running, 2, 75 * SECOND).await;
    assert_eq!(running.health.not_ready(Instant::now()), None);
}

/// Some services do that, where AWS makes a new stream.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_enabled_again_under_its_arn_is_read_on() {
    let (services, running) = reading_old_stream(&[]).await;
    disable(&services, OLD);
    sleep(10 * MINUTE).await;
    assert!(running.health.not_ready(Instant::now()).is_some_and(|why| why.contains("disabled")));
    services.script(|script| script.streams.get_mut(OLD).unwrap().disabled = false);
    services.shard(OLD, "p", Some("o"), &[2], false);
    delivered(&running, 2, 2 * MINUTE).await;
    assert_eq!(running.health.not_ready(Instant::now()), None);
}

/// AWS answers for a stream that was read to its end, and one of its shards was in no listing until now.
#[tokio::test(start_paused = true)]
async fn a_shard_that_is_listed_after_its_stream_was_drained_is_read() {
    let (services, running) = reading_old_stream(&[]).await;
    disable(&services, OLD);
    services.shard(NEW, "n", None, &[2], false);
    delivered(&running, 2, 2 * MINUTE).await;
    services.shard(OLD, "p", Some("o"), &[3], true);
    services.script(|script| script.latest = Some(NEW));
    delivered(&running, 3, 2 * MINUTE).await;
}

/// Its parent exists, and no listing shows it: it is found by its name, and read first.
#[tokio::test(start_paused = true)]
async fn a_parent_that_no_listing_shows_is_read_before_its_child() {
    let services = FakeServices::with_shards(&[]);
    services.script(|script| script.unlisted.insert("parent"));
    services.shard(NEW, "parent", None, &[1, 2], true);
    services.shard(NEW, "child", Some("parent"), &[3, 4], false);
    let running = RunningTable::new(services, Setup { start: StartPosition::TrimHorizon, ..Setup::default() });
    sleep(4 * MINUTE).await;
    assert_eq!(running.delivered(), Vec::<String>::new(), "nobody knows whose child the parent is");
    delivered(&running, 4, 2 * MINUTE).await;
    assert_eq!(running.delivered(), ["1", "2", "3", "4"]);
}

/// A parent that aged out before the first start is none that anybody waits for.
#[tokio::test(start_paused = true)]
async fn a_parent_that_aws_does_not_know_holds_its_child_up_for_a_minute_and_is_no_loss() {
    let services = FakeServices::with_shards(&[]);
    services.shard(NEW, "child", Some("parent"), &[1], false);
    let running = RunningTable::new(services, Setup::default());
    let took = delivered(&running, 1, MINUTE).await;
    assert!(took >= 40 * SECOND, "AWS was asked three times, 20 s apart");
    assert_eq!(running.delivered(), ["1"]);
}

/// `DescribeTable` is answered from somewhere that does not know the newest stream yet, or any more.
#[tokio::test(start_paused = true)]
async fn an_old_answer_about_the_tables_stream_has_nothing_read_again() {
    let (services, running) = reading_old_stream(&[]).await;
    disable(&services, OLD);
    services.shard(NEW, "n", None, &[2], false);
    delivered(&running, 2, 2 * MINUTE).await;
    services.script(|script| script.latest = Some(OLD));
    sleep(10 * MINUTE).await;
    services.shard(NEXT, "x", None, &[3], false);
    disable(&services, NEW);
    delivered(&running, 3, 2 * MINUTE).await;
    assert_eq!(running.delivered(), ["1", "2", "3"]);
}
