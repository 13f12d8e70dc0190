//! To zero and back.

use std::time::{Duration, Instant};

use tonic::Code;

use crate::keda::{Keda, plan, scaler, trigger};
use crate::support::aws::{FakeAws, Trouble};
use crate::support::wait_for;

#[tokio::test]
async fn a_table_goes_to_zero_and_is_back_within_seconds_of_a_write() {
    let aws = FakeAws::with_table("orders", 3).await;
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let of = trigger("orders", &[]);
    assert!(keda.is_active(&of).await.unwrap(), "nobody knows what was written before");
    let to_zero = keda.until_active(&of, false).await;
    assert!(to_zero < Duration::from_secs(5), "{to_zero:?}");
    assert_eq!(keda.values(&of).await.unwrap(), (0, 0.0), "both, or KEDA reads the other one");
    aws.write("orders", 1, 1);
    let back = keda.until_active(&of, true).await;
    assert!(back < Duration::from_secs(3), "{back:?}");
    println!("from the first write to active: {back:?}, polling every 250 ms");
    assert_eq!(keda.value(&of).await, 3.0);
    keda.until_active(&of, false).await;
}

#[tokio::test]
async fn a_stream_of_activity_says_what_changes_and_nothing_twice() {
    let aws = FakeAws::with_table("orders", 1).await;
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let of = trigger("orders", &[]);
    let mut stream = keda.stream(&of).await;
    assert!(stream.message().await.unwrap().unwrap().result);
    assert!(!stream.message().await.unwrap().unwrap().result);
    let written = Instant::now();
    aws.write("orders", 5, 1);
    assert!(stream.message().await.unwrap().unwrap().result, "pushed");
    assert!(written.elapsed() < Duration::from_secs(3), "{:?}", written.elapsed());
    println!("from the first write to the push: {:?}, polling every 250 ms", written.elapsed());
    // Each write within the time postpones the end, and is no news.
    for _ in 0..20 {
        aws.write("orders", 5, 1);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!stream.message().await.unwrap().unwrap().result, "the only thing that changed");
    drop(stream);
    for _ in 0..200 {
        if scaler.metric("scaler_streams", &[]).await == 0.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the stream is not closed");
}

#[tokio::test]
async fn an_active_table_is_left_alone_but_for_one_look_each_time() {
    let aws = FakeAws::with_table("orders", 4).await;
    let scaler = plan(&aws.endpoint()).env("SCALER_IDLE_AFTER", "2s").start_ready().await;
    let mut keda = Keda::of(&scaler).await;
    let of = trigger("orders", &[]);
    keda.until_active(&of, true).await;
    let end = Instant::now() + Duration::from_secs(7);
    while Instant::now() < end {
        aws.write("orders", 40, 1);
        assert!(keda.is_active(&of).await.unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Four shards, every two seconds.
    let reads = aws.script().calls.count("GetRecords");
    assert!(reads <= 4 * 5, "{reads} reads of 4 shards in 7 s");
}

#[tokio::test]
async fn a_write_to_a_shard_that_came_later_is_seen() {
    let aws = FakeAws::with_table("orders", 2).await;
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let of = trigger("orders", &[]);
    keda.until_active(&of, false).await;
    aws.script().roll_over_all("orders");
    wait_for("the new shards", || {
        aws.script().calls.of("GetShardIterator").filter(|call| call.detail == "TRIM_HORIZON").count() >= 2
    })
    .await;
    assert!(!keda.is_active(&of).await.unwrap(), "a rollover is no write");
    aws.write("orders", 20, 1);
    keda.until_active(&of, true).await;
    keda.until_active(&of, false).await;
    aws.script().disable_stream("orders");
    aws.script().enable_stream("orders", 1);
    aws.write("orders", 1, 1);
    keda.until_active(&of, true).await;
}

#[tokio::test]
async fn what_was_written_while_iterators_expired_is_not_missed() {
    let aws = FakeAws::with_table("orders", 1).await;
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let of = trigger("orders", &[]);
    keda.until_active(&of, false).await;
    aws.script().iterator_epoch += 1;
    let woken = keda.until_active(&of, true).await;
    assert!(woken < Duration::from_secs(3), "nobody can say that nothing was written: {woken:?}");
}

#[tokio::test]
async fn without_permission_to_read_activity_is_unknown_and_shards_can_still_be_counted() {
    let aws = FakeAws::with_table("orders", 2).await;
    aws.script().faults.always("GetShardIterator", Trouble::Error("AccessDeniedException"));
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let begun = Instant::now();
    let error = loop {
        match keda.is_active(&trigger("orders", &[])).await {
            Err(error) => break error,
            Ok(is_active) => assert!(is_active, "never inactive"),
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "it is not noticed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("GetShardIterator") && error.message().contains("scaleToZero"), "{error:?}");
    assert_eq!(keda.value(&trigger("orders", &[("scaleToZero", "false")])).await, 2.0);
    let said: Vec<_> = scaler.logged_code("DSA-SCALER-TABLE");
    assert!(said.len() == 1 && said[0]["message"].as_str().unwrap().contains("GetShardIterator"), "{said:?}");
}

#[tokio::test]
async fn active_shards_and_records_per_second_are_measured() {
    let aws = FakeAws::with_table("orders", 4).await;
    let scaler = plan(&aws.endpoint()).env("SCALER_IDLE_AFTER", "2s").start_ready().await;
    let mut keda = Keda::of(&scaler).await;
    let shards = trigger("orders", &[("metric", "active-shards")]);
    let rate = trigger("orders", &[("metric", "records-per-second")]);
    let begun = Instant::now();
    let (mut seen, mut written) = ((0.0, 0.0), 0.0);
    // Of one item, so in one shard.
    while begun.elapsed() < Duration::from_secs(9) {
        aws.write("orders", 1, 1);
        written += 1.0;
        tokio::time::sleep(Duration::from_millis(50)).await;
        if let (Ok(shards), Ok(rate)) = (keda.values(&shards).await, keda.values(&rate).await) {
            seen = (shards.1, rate.1);
        }
    }
    assert_eq!(seen.0, 1.0, "one shard of four");
    let expected = written / begun.elapsed().as_secs_f64();
    assert!((expected / 3.0..=expected * 3.0).contains(&seen.1), "{} records a second, not {expected}", seen.1);
}

#[tokio::test]
async fn large_records_of_which_a_page_holds_few_are_not_counted_as_few() {
    let aws = FakeAws::with_table("orders", 1).await;
    aws.script().payload = 100_000;
    let scaler = plan(&aws.endpoint()).env("SCALER_IDLE_AFTER", "5s").start_ready().await;
    let mut keda = Keda::of(&scaler).await;
    let of = trigger("orders", &[("metric", "records-per-second")]);
    let begun = Instant::now();
    let mut seen = 0.0;
    // About 30 a second, of which a page holds less than ten.
    while begun.elapsed() < Duration::from_secs(8) && seen == 0.0 {
        aws.write("orders", 3, 1);
        tokio::time::sleep(Duration::from_millis(100)).await;
        seen = tokio::time::timeout(Duration::from_millis(50), keda.values(&of))
            .await
            .map_or(0.0, |answer| answer.map_or(0.0, |(_, value)| value));
    }
    // Creation times are whole seconds: four records that came within one may lie in two. Counted over the time between two looks they
    // would be one a second.
    assert!(seen >= 2.0, "{seen} records a second");
}
