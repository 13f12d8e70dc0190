//! What could keep a target asleep, or send it to sleep, although something is or may be written.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::sleep;

use crate::keda::{Keda, plan, reference, scaler, trigger};
use crate::support::aws::{FakeAws, Trouble};

#[tokio::test]
async fn a_write_is_told_to_whoever_asks_more_seldom_than_tables_become_inactive() {
    let aws = FakeAws::with_table("orders", 2).await;
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let (seldom, often) = (trigger("orders", &[]), reference("bank", &[("tableName", "orders")]));
    keda.until_active(&seldom, false).await;
    // Whoever asks for the first time is told that the table is active, whether or not it is.
    keda.until_active(&often, false).await;
    aws.write("orders", 1, 1);
    keda.until_active(&often, true).await;
    keda.until_active(&often, false).await;
    assert_eq!(keda.values(&seldom).await.unwrap(), (2, 2.0), "KEDA asks for the value first");
    assert!(keda.is_active(&seldom).await.unwrap(), "it has not heard of the write");
    assert!(!keda.is_active(&seldom).await.unwrap(), "it has");
    assert_eq!(keda.value(&seldom).await, 0.0);
}

#[tokio::test]
async fn a_shard_whose_successor_is_not_listed_yet_is_counted_and_not_a_zero() {
    let aws = FakeAws::with_table("orders", 1).await;
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let of = trigger("orders", &[("scaleToZero", "false")]);
    assert_eq!(keda.value(&of).await, 1.0);
    {
        let mut world = aws.script();
        let parent = world.open_shards("orders")[0].clone();
        let child = world.roll_over("orders", &parent);
        world.shard("orders", &child).hidden = 4;
    }
    let listings = aws.script().calls.count("DescribeStream");
    while aws.script().calls.count("DescribeStream") < listings + 8 {
        assert!(keda.is_active(&of).await.unwrap(), "the stream is enabled");
        assert_eq!(keda.value(&of).await, 1.0);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_stream_that_shows_no_open_shard_yet_is_unknown() {
    let aws = FakeAws::with_table("orders", 1).await;
    {
        let mut world = aws.script();
        let parent = world.open_shards("orders")[0].clone();
        let child = world.roll_over("orders", &parent);
        world.shard("orders", &child).hidden = 3;
    }
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let of = trigger("orders", &[("scaleToZero", "false")]);
    let begun = Instant::now();
    loop {
        match keda.values(&of).await {
            Ok((_, value)) => break assert_eq!(value, 1.0),
            Err(_) => assert!(begun.elapsed() < Duration::from_secs(20), "it is never known"),
        }
    }
}

#[tokio::test]
async fn a_successor_that_is_listed_late_is_looked_for_until_it_is_there() {
    let aws = FakeAws::with_table("orders", 1).await;
    let scaler = plan(&aws.endpoint()).env("SCALER_REFRESH_INTERVAL", "10m").start_ready().await;
    let mut keda = Keda::of(&scaler).await;
    let of = trigger("orders", &[]);
    keda.until_active(&of, false).await;
    {
        let mut world = aws.script();
        let parent = world.open_shards("orders")[0].clone();
        let child = world.roll_over("orders", &parent);
        world.shard("orders", &child).hidden = 2;
        world.put("orders", "item-1");
    }
    let woken = keda.until_active(&of, true).await;
    assert!(woken < Duration::from_secs(20), "{woken:?}");
}

#[tokio::test]
async fn a_shard_that_is_listed_before_it_can_be_read_is_read_once_it_can_be() {
    let aws = FakeAws::with_table("orders", 1).await;
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let of = trigger("orders", &[]);
    keda.until_active(&of, false).await;
    aws.script().faults.next("GetShardIterator", 2, Trouble::Error("ResourceNotFoundException"));
    aws.script().roll_over_all("orders");
    let begun = Instant::now();
    while aws.script().calls.of("GetShardIterator").filter(|call| call.detail.contains("NotFound")).count() < 1 {
        assert!(begun.elapsed() < Duration::from_secs(10), "nobody asks for the new shard");
        sleep(Duration::from_millis(20)).await;
    }
    aws.write("orders", 1, 1);
    let woken = keda.until_active(&of, true).await;
    assert!(woken < Duration::from_secs(20), "{woken:?}");
}

#[tokio::test]
async fn a_table_whose_aws_hangs_delays_no_other_one() {
    let (aws, hung) = (FakeAws::with_table("orders", 1).await, FakeAws::start().await);
    let tables: Vec<String> = (0..5).map(|n| format!("hung-{n}")).collect();
    tables.iter().for_each(|table| hung.script().create_table(table, 8));
    let endpoint = hung.endpoint();
    let rules = format!(
        r#"[{{"namespaces": ["*"], "tables": ["hung-*"], "regions": ["eu-west-1"], "endpoints": ["{endpoint}"]}},
            {{"namespaces": ["*"], "tables": ["*"], "regions": ["eu-west-1"]}}]"#
    );
    let scaler = plan(&aws.endpoint()).env("SCALER_RULES", rules).start_ready().await;
    let mut keda = Keda::of(&scaler).await;
    let of = trigger("orders", &[]);
    for table in &tables {
        keda.until_active(&trigger(table, &[("awsEndpoint", &endpoint)]), true).await;
    }
    hung.script().faults.always("GetRecords", Trouble::Hang(Duration::from_secs(60)));
    keda.until_active(&of, false).await;
    sleep(Duration::from_secs(2)).await;
    aws.write("orders", 1, 1);
    let woken = keda.until_active(&of, true).await;
    assert!(woken < Duration::from_secs(3), "{woken:?}");
}

#[tokio::test]
async fn shards_that_may_not_be_read_are_not_asked_for_again_and_again() {
    let aws = FakeAws::with_table("orders", 60).await;
    aws.script().faults.always("GetShardIterator", Trouble::Error("AccessDeniedException"));
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let of = trigger("orders", &[]);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(12) {
        let _ = keda.is_active(&of).await;
        sleep(Duration::from_millis(200)).await;
    }
    let asked = aws.script().calls.count("GetShardIterator");
    assert!(asked <= 30, "{asked} calls in 12 s, all of them in vain");
    assert_eq!(keda.is_active(&of).await.map_err(|error| error.code()), Err(tonic::Code::Unavailable));
}

#[tokio::test]
async fn tables_that_are_listed_as_fast_as_allowed_do_not_become_unknown_between_two_listings() {
    const TABLES: usize = 16;
    let aws = FakeAws::start().await;
    (0..TABLES).for_each(|n| aws.script().create_table(&format!("table-{n}"), 1));
    let scaler = plan(&aws.endpoint()).env("SCALER_DESCRIBE_RATE", "1").start_ready().await;
    let mut keda = Keda::of(&scaler).await;
    let of = |n: usize| trigger(&format!("table-{n}"), &[("scaleToZero", "false")]);
    let mut streams = Vec::new();
    for n in 0..TABLES {
        streams.push(keda.stream(&of(n)).await);
    }
    sleep(Duration::from_secs(TABLES as u64 + 1)).await;
    let ask = |n: usize| {
        let mut keda = keda.clone();
        async move { keda.values(&of(n)).await.map(|(_, value)| value).map_err(|error| error.to_string()) }
    };
    assert_eq!(join_all((0..TABLES).map(ask)).await, vec![Ok(1.0); TABLES]);
}
