//! This machine's clock against AWS's.

use std::time::Duration;

use crate::harness::{World, named, of, text};

async fn with_aws_ahead(seconds: u64) -> (Vec<serde_json::Value>, Option<i32>) {
    let world = World::new().await;
    world.aws.script().clock_ahead = Duration::from_secs(seconds);
    world.json().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_minutes_off_fails_because_signatures_would() {
    let (checks, code) = with_aws_ahead(600).await;
    assert_eq!((code, named(&checks, "fail")), (Some(69), vec!["clock"]));
    let clock = of(&checks, "clock");
    assert!(text(clock, "detail").contains("behind AWS's") && text(clock, "remedy").contains("chronyc"), "{clock}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_a_minute_off_is_a_warning() {
    let (checks, code) = with_aws_ahead(90).await;
    assert_eq!((code, named(&checks, "warn")), (Some(0), vec!["clock"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_aws_cannot_be_asked_the_sink_tells_the_time() {
    let world = World::new().await.without("AWS_REGION");
    let (checks, _) = world.json().await;
    assert!(text(of(&checks, "clock"), "detail").contains("the sink's"), "{checks:?}");
}
