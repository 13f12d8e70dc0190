//! The real parts of one table in virtual time: each is made to stand still, and `/livez` must say so.

mod live;

use std::sync::atomic::Ordering;

use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::admin::{self, Admin};
use crate::app::tests::harness::{BUFFER, FakeServices, IDLE_MAX, LONGEST_PAUSE, NEW, RunningTable, Setup};
use crate::telemetry::metrics::Metrics;

const MINUTE: Duration = Duration::from_secs(60);

/// All parts, after a minute in which a change was delivered and stored.
async fn running_for_a_minute() -> RunningTable {
    let running = RunningTable::new(FakeServices::with_shards(&["a"]), Setup::default());
    running.services.write(NEW, "a", 1);
    sleep(MINUTE).await;
    assert_eq!(running.delivered(), ["1"]);
    running
}

impl RunningTable {
    /// Fails unless the probe says for two minutes that all is well, and then that this part stands still. The part is
    /// expected to have something to do within `slack`.
    async fn stands_still(&self, part: &str, slack: Duration) {
        sleep(PATIENCE - LOOK_INTERVAL).await;
        assert_eq!(self.health.not_live(), None, "too early");
        sleep(slack + 3 * LOOK_INTERVAL).await;
        let (status, body) = livez(&self.health).await;
        assert_eq!(status, 503, "nobody noticed that {part}");
        assert!(body.contains(part), "{body}");
    }

    /// Fails unless the probe says for an hour that all is well.
    async fn assert_live(&self) {
        assert_eq!(self.alarm_within(60 * MINUTE).await, None);
        assert_eq!(livez(&self.health).await.0, 200);
    }

    /// Fails unless the probe says within an hour that this part stands still.
    async fn assert_noticed(&self, part: &str) {
        let alarm = self.alarm_within(60 * MINUTE).await;
        assert!(alarm.as_ref().is_some_and(|alarm| alarm.contains(part)), "{part}: {alarm:?}");
    }
}

/// What the probe answers, over HTTP and so in real time.
async fn livez(health: &Arc<Health>) -> (u16, String) {
    tokio::time::resume();
    let admin = Arc::new(Admin {
        health: health.clone(),
        metrics: Metrics::new("t", "t").unwrap(),
        refresh: Box::new(|| {}),
        status: Box::new(|| serde_json::Value::Null),
        hosts: Default::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/livez", listener.local_addr().unwrap()).parse().unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(admin::serve(listener, admin, stop.clone()));
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
    let answer = client.get(url).await.unwrap();
    let (status, body) = (answer.status().as_u16(), answer.into_body().collect().await.unwrap().to_bytes());
    stop.cancel();
    server.await.unwrap().unwrap();
    tokio::time::pause();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_that_lost_a_wake_up_fails_the_probe() {
    let running = running_for_a_minute().await;
    running.dispatcher.store(true, Ordering::Relaxed);
    running.services.write(NEW, "a", 2);
    running.stands_still("the dispatcher takes in no events", IDLE_MAX).await;
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_that_does_not_go_on_after_a_pause_fails_the_probe() {
    let running = running_for_a_minute().await;
    running.services.script(|script| script.status = 503);
    running.services.write(NEW, "a", 2);
    sleep(Duration::from_secs(9)).await;
    running.dispatcher.store(true, Ordering::Relaxed);
    running.stands_still("the dispatcher did not go on after a pause", LONGEST_PAUSE).await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_for_room_that_nobody_gives_back_fails_the_probe_until_it_gets_some() {
    let running = running_for_a_minute().await;
    running.progress.buffer().charge(BUFFER);
    running.stands_still("the reader of a shard does not go on", IDLE_MAX).await;
    running.progress.buffer().release(BUFFER);
    sleep(2 * LOOK_INTERVAL).await;
    running.assert_live().await;
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_lost_a_wake_up_fails_the_probe() {
    let running = running_for_a_minute().await;
    running.reading.store(true, Ordering::Relaxed);
    // A whole listing is due once a minute.
    running.stands_still("the listing of shards does not go on", Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_lost_a_wake_up_fails_the_probe() {
    let running = running_for_a_minute().await;
    running.pipeline.store(true, Ordering::Relaxed);
    running.services.write(NEW, "a", 2);
    running.stands_still("the pipeline takes in no pages", IDLE_MAX).await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_position_that_is_never_written_fails_the_probe() {
    let running = running_for_a_minute().await;
    running.checkpointer.store(true, Ordering::Relaxed);
    running.services.write(NEW, "a", 2);
    sleep(IDLE_MAX).await;
    assert_eq!(running.delivered().len(), 2);
    running.stands_still("changed positions are not written", IDLE_MAX).await;
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_that_never_looks_at_an_answer_fails_the_probe_although_nothing_new_comes() {
    let running = running_for_a_minute().await;
    running.services.script(|script| script.sink_takes = Duration::from_secs(2));
    running.services.write(NEW, "a", 2);
    while running.progress.tracker().unsettled() == 0 {
        sleep(Duration::from_millis(100)).await;
    }
    // The request is under way; the wake-up by its answer is lost.
    sleep(Duration::from_secs(1)).await;
    running.dispatcher.store(true, Ordering::Relaxed);
    running.assert_noticed("the dispatcher sees no end of a request").await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_outlive_their_timeout_fail_the_probe() {
    for hanging in [1, 100] {
        let running = running_for_a_minute().await;
        running.services.script(|script| script.sink_never_answers = true);
        (2..2 + hanging).for_each(|number| running.services.write(NEW, "a", number));
        sleep(Duration::from_secs(10)).await;
        // Others get their answers, where there is a place for them.
        running.services.script(|script| script.sink_never_answers = false);
        for number in 0..100 {
            running.services.write(NEW, "a", 1_000 + number);
            sleep(Duration::from_secs(2)).await;
        }
        running.assert_noticed("the dispatcher sees no end of a request").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_lost_a_wake_up_before_its_streams_first_answer_fails_the_probe() {
    let services = FakeServices::with_shards(&["a"]);
    services.script(|script| script.denied.insert("DescribeStream"));
    let running = RunningTable::new(services, Setup::default());
    sleep(MINUTE).await;
    running.reading.store(true, Ordering::Relaxed);
    running.services.script(|script| script.denied.clear());
    running.assert_noticed("does not go on").await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_outlives_every_timeout_fails_the_probe() {
    let parts = [("GetRecords", "the reader of a shard"), ("DescribeStream", "a call of the listing of shards")];
    for (operation, part) in parts {
        let running = running_for_a_minute().await;
        running.services.script(|script| script.silent.insert(operation));
        running.assert_noticed(part).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpointer_that_never_tries_again_after_a_failed_write_fails_the_probe() {
    let running = running_for_a_minute().await;
    running.services.script(|script| script.store_fails = true);
    running.services.write(NEW, "a", 2);
    sleep(Duration::from_secs(20)).await;
    running.checkpointer.store(true, Ordering::Relaxed);
    running.services.script(|script| script.store_fails = false);
    running.assert_noticed("changed positions are not written").await;
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_stands_still_with_the_last_page_in_hand_fails_the_probe() {
    let running = RunningTable::new(FakeServices::with_shards(&["a"]), Setup::default());
    sleep(MINUTE).await;
    running.dispatcher.store(true, Ordering::Relaxed);
    // As many pages as wait for the dispatcher, and one more, with which the pipeline waits for room.
    for number in 0..65 {
        running.services.write(NEW, "a", number);
        while running.progress.tracker().unsettled() <= number as usize {
            sleep(Duration::from_millis(10)).await;
        }
    }
    running.pipeline.store(true, Ordering::Relaxed);
    running.awake(&running.dispatcher);
    sleep(MINUTE).await;
    assert_eq!(running.delivered().len(), 64);
    running.assert_noticed("the pipeline takes in no pages").await;
}
