//! How often a source of credentials is asked: once while they last, whatever wraps it, and again before they end.

use std::time::Duration;

use crate::sources::{Kind, Mood, Source};
use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::sink::TestSink;
use crate::support::{wait_for, wait_within};

/// What a run asks its process and everything else for.
fn asked_once(kind: Kind) -> (usize, usize) {
    match kind {
        Kind::Process => (1, 0),
        Kind::RoleOfProcess | Kind::RoleOfOwnProcess => (1, 1),
        Kind::RoleOfContainer => (0, 2),
        Kind::Container | Kind::Metadata | Kind::AssumedRole | Kind::WebIdentity => (0, 1),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_asked_for_once_while_they_last() {
    for kind in Kind::ALL {
        let (aws, sink) = (FakeAws::with_table("orders", 4).await, TestSink::start().await);
        aws.script().create_table("customers", 2);
        let source = Source::lasting(kind, Mood::key("GOOD"), Duration::from_secs(3600)).await;
        let adapter = source.of(Plan::new(&aws, &sink, "orders,customers")).start_ready().await;
        for round in 1..=5 {
            aws.write("orders", 20, 1);
            wait_for("the changes", || sink.received().len() >= round * 20).await;
        }
        assert!(adapter.metric("aws_calls_total", &[("operation", "GetRecords")]).await > 20.0);
        assert_eq!(source.asked(), asked_once(kind), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_asked_for_again_before_they_end() {
    for kind in Kind::ALL {
        let (aws, sink) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
        let source = Source::lasting(kind, Mood::key("GOOD"), Duration::from_secs(13)).await;
        let _adapter = source.of(Plan::new(&aws, &sink, "orders")).start_ready().await;
        let (processes, others) = asked_once(kind);
        let is_renewed = || source.asked().0 >= 2 * processes && source.asked().1 >= 2 * others;
        wait_within(Duration::from_secs(8), "another question", is_renewed).await;
    }
}
