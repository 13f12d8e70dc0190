//! AWS is asked at the scaler's own pace.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::keda::{Keda, plan, reference, trigger};
use crate::support::aws::FakeAws;

#[tokio::test]
async fn a_table_is_listed_once_whoever_asks_and_however_often() {
    let aws = FakeAws::with_table("orders", 2).await;
    let scaler = plan(&aws.endpoint()).env("SCALER_REFRESH_INTERVAL", "10m").start_ready().await;
    let keda = Keda::of(&scaler).await;
    let ask = |n: usize| {
        let mut keda = keda.clone();
        async move {
            let namespace = format!("team-{}", n % 10);
            let shards = (n % 7 + 1).to_string();
            let metadata = [("tableName", "orders"), ("awsRegion", "eu-west-1"), ("shardCount", &shards)];
            assert_eq!(keda.value(&reference(&namespace, &metadata)).await, 2.0);
        }
    };
    for _ in 0..5 {
        join_all((0..100).map(ask)).await;
    }
    let world = aws.script();
    assert_eq!((world.calls.count("DescribeTable"), world.calls.count("DescribeStream")), (1, 1));
}

/// With the defaults but for the shortest time in which every table is listed, so that it takes seconds and not minutes.
#[tokio::test]
async fn five_hundred_scaled_objects_on_a_hundred_tables_stay_within_an_account_s_limits() {
    const TABLES: usize = 100;
    const OBJECTS: usize = 500;
    let aws = FakeAws::start().await;
    for table in 0..TABLES {
        aws.script().create_table(&format!("table-{table}"), 4);
    }
    let plan = plan(&aws.endpoint()).without("SCALER_DESCRIBE_RATE").env("SCALER_REFRESH_INTERVAL", "30s");
    let scaler = plan.env("SCALER_POLL_INTERVAL", "2s").env("SCALER_IDLE_AFTER", "5s").start_ready().await;
    let keda = Keda::of(&scaler).await;
    let mut opened = keda.clone();
    let mut streams = Vec::new();
    let begun = Instant::now();
    for n in 0..OBJECTS {
        streams.push(opened.stream(&trigger(&format!("table-{}", n % TABLES), &[])).await);
    }
    let ask = |n: usize| {
        let mut keda = keda.clone();
        async move { keda.values(&trigger(&format!("table-{}", n % TABLES), &[])).await.is_ok() }
    };
    let (mut slowest, mut answered) = (Duration::ZERO, 0);
    // KEDA polls each every 30 s, and asks for the HPA every 15 s: this is many times that.
    while answered < OBJECTS {
        assert!(begun.elapsed() < Duration::from_secs(90), "{answered} of {OBJECTS} are answered");
        let round = Instant::now();
        answered = join_all((0..OBJECTS).map(ask)).await.into_iter().filter(|is_known| *is_known).count();
        slowest = slowest.max(round.elapsed());
    }
    let first = begun.elapsed();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let round = Instant::now();
    assert!(join_all((0..OBJECTS).map(ask)).await.into_iter().all(|is_known| is_known));
    let known = round.elapsed();
    let world = aws.script();
    let (most, all) = (world.calls.most_in_a_second("DescribeStream"), world.calls.count("DescribeStream"));
    let reads = world.calls.most_in_a_second("GetRecords");
    println!(
        "500 ScaledObjects on 100 tables of 4 shards: at most {most} DescribeStream a second ({all} in {:?}), at most {reads} \
         GetRecords a second while all are inactive; all known after {first:?}; 1,000 calls answered in {known:?}; \
         the slowest round while tables were waited for took {slowest:?}",
        begun.elapsed()
    );
    // They leave at an even pace, and need not arrive so.
    assert!(most <= 7, "{most} in one second");
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
}

#[tokio::test]
async fn an_answer_costs_the_same_however_many_shards_are_listed() {
    let aws = FakeAws::with_table("orders", 1_000).await;
    (0..6).for_each(|_| aws.script().roll_over_all("orders"));
    let scaler = plan(&aws.endpoint()).env("SCALER_REFRESH_INTERVAL", "1m").env("SCALER_IDLE_AFTER", "1m");
    let scaler = scaler.start_ready().await;
    let mut keda = Keda::of(&scaler).await;
    let of = trigger("orders", &[]);
    keda.until_active(&of, true).await;
    assert_eq!(keda.value(&of).await, 1_000.0);
    let begun = Instant::now();
    let ask = |_| {
        let (mut keda, of) = (keda.clone(), of.clone());
        async move { keda.is_active(&of).await.unwrap() }
    };
    assert!(join_all((0..1_000).map(ask)).await.into_iter().all(|is_active| is_active));
    println!("1,000 calls about 7,000 shards took {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(2), "1,000 calls took {:?}", begun.elapsed());
}
