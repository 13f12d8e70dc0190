//! The four calls and their values.

use tonic::Code;

use crate::keda::{Keda, plan, scaler, trigger};
use crate::support::aws::{FakeAws, Trouble};
use crate::support::{wait_for, wait_within};

/// A table whose three lineages have rolled over six times, with one split: four open shards among many.
async fn aged_table() -> FakeAws {
    let aws = FakeAws::with_table("orders", 3).await;
    let mut world = aws.script();
    for _ in 0..6 {
        world.roll_over_all("orders");
    }
    let first = world.open_shards("orders")[0].clone();
    world.split("orders", &first);
    drop(world);
    aws
}

#[tokio::test]
async fn open_shards_are_counted_and_listed_ones_only_where_that_is_asked_for() {
    let aws = aged_table().await;
    aws.script().page_shards = 5;
    let open = aws.script().open_shards("orders").len();
    assert_eq!((open, aws.script().shards("orders")), (4, 23));
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let own = trigger("orders", &[("scaleToZero", "false")]);
    assert_eq!(keda.values(&own).await.unwrap(), (4, 4.0));
    let as_keda = trigger("orders", &[("metric", "listed-shards")]);
    assert_eq!(keda.values(&as_keda).await.unwrap(), (23, 23.0));
    assert!(keda.is_active(&own).await.unwrap() && keda.is_active(&as_keda).await.unwrap());
    let threshold = trigger("orders", &[("scaleToZero", "false"), ("activationShardCount", "4")]);
    assert!(!keda.is_active(&threshold).await.unwrap(), "strictly more");
    assert_eq!(keda.unknown_method().await, Code::Unimplemented, "KEDA goes on without StreamMetricSpec");
    // A stream that is disabled has no open shard, though nothing continues its last ones.
    aws.script().disable_stream("orders");
    let begun = std::time::Instant::now();
    while keda.value(&own).await != 0.0 {
        assert!(begun.elapsed().as_secs() < 20, "closed shards are counted");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_specification_is_made_of_the_metadata_alone() {
    let aws = FakeAws::start().await;
    aws.script().faults.always("DescribeTable", Trouble::Error("AccessDeniedException"));
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let spec = keda.spec(&trigger("a.table", &[("shardCount", "3")])).await.unwrap();
    assert_eq!(spec.metric_name, "aws-dynamodb-streams-open-shards-a-table");
    assert_eq!((spec.target_size, spec.target_size_float), (3, 3.0));
    let lag = trigger("a.table", &[("metric", "lag"), ("lagSeconds", "0.5")]);
    let spec = keda.spec(&lag).await.unwrap();
    assert_eq!((spec.target_size, spec.target_size_float), (1, 0.5), "KEDA before 2.17 knows whole numbers only");
    assert!(aws.script().calls.0.is_empty(), "AWS was asked");
}

#[tokio::test]
async fn only_the_name_of_the_specification_is_answered() {
    let aws = FakeAws::with_table("orders", 1).await;
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let error = keda.named_values(&trigger("orders", &[]), "s0-other").await.expect_err("another metric");
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_stream_that_was_created_anew_is_followed() {
    let aws = aged_table().await;
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let own = trigger("orders", &[("scaleToZero", "false")]);
    assert_eq!(keda.value(&own).await, 4.0);
    aws.script().disable_stream("orders");
    aws.script().enable_stream("orders", 7);
    let mut seen = 0.0;
    let begun = std::time::Instant::now();
    while seen != 7.0 {
        assert!(begun.elapsed().as_secs() < 20, "{seen} shards are still counted");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        seen = keda.value(&own).await;
    }
}

#[tokio::test]
async fn what_is_not_known_is_an_error_and_never_a_zero() {
    let aws = FakeAws::with_table("orders", 2).await;
    aws.script().create_table_without_stream("plain");
    aws.script().create_table("denied", 2);
    aws.script().faults.always_for("denied", "DescribeStream", Trouble::Error("AccessDeniedException"));
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    for (table, word) in [("missing", "DescribeTable"), ("plain", "has no stream"), ("denied", "DescribeStream")] {
        let of = trigger(table, &[]);
        for error in [keda.values(&of).await.expect_err(table), keda.is_active(&of).await.expect_err(table)] {
            assert_eq!(error.code(), Code::Unavailable, "{error:?}");
            assert!(error.message().contains(word), "{error:?}");
        }
    }
    let of = trigger("orders", &[]);
    assert_eq!(keda.value(&of).await, 2.0);
    // What was known a moment ago is still good.
    aws.script().faults.always("DescribeStream", Trouble::Error("InternalServerError"));
    wait_for("a failed listing", || !scaler.logged_code("DSA-SCALER-TABLE").is_empty()).await;
    assert!(keda.value(&of).await >= 0.0);
    let (status, metrics) = scaler.get("/metrics").await;
    assert!(status == 200 && metrics.contains("scaler_tables{state=\"unknown\"} 3"), "{metrics}");
}

#[tokio::test]
async fn a_call_to_aws_that_never_ends_holds_up_no_answer() {
    let aws = FakeAws::with_table("orders", 1).await;
    aws.script().faults.always("DescribeTable", Trouble::Hang(std::time::Duration::from_secs(60)));
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let begun = std::time::Instant::now();
    let error = keda.is_active(&trigger("orders", &[])).await.expect_err("nobody knows");
    assert_eq!(error.code(), Code::Unavailable);
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_end_ends_streams_without_an_error_and_probes_answer_until_then() {
    let aws = FakeAws::with_table("orders", 1).await;
    let scaler = plan(&aws.endpoint()).start_ready().await;
    let mut keda = Keda::of(&scaler).await;
    let mut stream = keda.stream(&trigger("orders", &[])).await;
    assert!(stream.message().await.unwrap().unwrap().result, "what holds at the beginning");
    assert_eq!(scaler.get("/livez").await.0, 200);
    assert!(scaler.metric("scaler_streams", &[]).await == 1.0);
    scaler.signal("TERM");
    assert_eq!(stream.message().await.map_err(|status| status.code()), Ok(None), "KEDA comes back at once");
    assert_eq!(scaler.terminate().await, Some(0));
}

#[tokio::test]
async fn the_status_tells_of_tables_and_nothing_of_triggers() {
    let aws = FakeAws::with_table("orders", 2).await;
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let secret = "wJalrXUtnFEMI";
    let of = trigger("orders", &[("awsSecretAccessKeyFromEnv", secret), ("identityOwner", "operator")]);
    assert_eq!(keda.value(&of).await, 2.0);
    let status = scaler.status().await;
    let table = &status["scaler"]["tables"][0];
    assert_eq!(
        (&table["table"], &table["openShards"], &table["state"]),
        (&"orders".into(), &2.into(), &"active".into())
    );
    wait_within(std::time::Duration::from_secs(5), "a warning that says what takes its place", || {
        !scaler.logged("identityOwner").is_empty()
    })
    .await;
    let said = scaler.logged("identityOwner");
    assert!(said[0]["message"].as_str().unwrap().contains("SCALER_RULES"), "{said:?}");
    for _ in 0..5 {
        keda.value(&of).await;
    }
    assert_eq!(scaler.logged("identityOwner").len(), 1, "once");
    let metrics = scaler.get("/metrics").await.1;
    assert!(!format!("{status}{metrics}{}", scaler.log_text()).contains(secret));
}
