//! Sinks that mean harm: what they answer costs nobody but themselves.

use std::sync::{Arc, OnceLock};

use crate::raw_sink::{Answer, RawSink};
use crate::support::adapter::{Adapter, Plan};
use crate::support::aws::FakeAws;
use crate::support::sink::TestSink;
use crate::support::wait_for;

const CONCURRENCY: usize = 8;

fn descriptors(adapter: &Adapter) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", adapter.pid())).unwrap().count()
}

/// Each user was a client of its own, with connections of its own.
#[tokio::test(flavor = "multi_thread")]
async fn redirects_that_name_a_new_user_each_time_are_not_followed_and_open_no_connections() {
    let authority = Arc::new(OnceLock::<String>::new());
    let own = authority.clone();
    let sink = RawSink::start(move |_, before| {
        let location = format!("//user-{before}:secret@{}/events", own.get().unwrap());
        Answer::keeping(format!("HTTP/1.1 307 T\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"))
    })
    .await;
    authority.set(sink.url().trim_start_matches("http://").trim_end_matches('/').to_owned()).unwrap();
    let (aws, unused) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let plan = Plan::new(&aws, &unused, "orders").env("K_SINK", sink.url());
    let adapter = plan.env("DELIVERY_CONCURRENCY", CONCURRENCY.to_string()).start_ready().await;
    let before = descriptors(&adapter);
    aws.write("orders", 60, 1);
    wait_for("many answers", || sink.requests().len() >= 300).await;
    let more = descriptors(&adapter).saturating_sub(before);
    assert!(more <= 2 * CONCURRENCY, "{more} more descriptors after {} answers", sink.requests().len());
    assert!(adapter.get("/livez").await.0 == 200);
}
