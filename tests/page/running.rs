//! The page of the real binary, while it reads and delivers.

use crate::browser::{Browser, DESK};
use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::sink::{Reaction, TestSink};
use crate::support::wait_for;

#[tokio::test(flavor = "multi_thread")]
async fn a_split_a_parked_item_and_an_outage_are_seen_as_they_happen() {
    let (aws, sink) = (FakeAws::with_table("orders", 3).await, TestSink::start().await);
    sink.react(|event| Reaction::Status(if event.item == "item-3" { 400 } else { 202 }));
    let adapter = Plan::new(&aws, &sink, "orders").start_ready().await;
    let mut browser = Browser::open_live(&adapter.url(), DESK);
    browser.wait("document.querySelectorAll('rect.box').length === 3");
    aws.write("orders", 10, 2);
    browser.wait("document.querySelectorAll('#table-0 .parked tbody tr').length === 1");
    let parked = browser.text("#table-0 .parked tbody");
    assert!(parked.contains("HTTP 400") && !parked.contains("item-3"), "{parked}");

    let parent = aws.script().open_shards("orders")[0].clone();
    aws.script().split("orders", &parent);
    browser.wait("document.querySelectorAll('rect.box').length >= 4");

    sink.react(|_| Reaction::Status(503));
    aws.write("orders", 10, 2);
    browser.wait("document.querySelector('#sink').innerText.includes('failing')");
    assert!(browser.text("#sink").contains("503"), "{}", browser.text("#sink"));
    sink.behave();
    browser.wait("document.querySelector('#sink dd').innerText === 'up'");
    browser.wait("document.querySelector('#table-0 .parked').hidden");
    wait_for("all events", || sink.distinct() == aws.script().writes.len()).await;
    browser.wait("document.querySelector('#unsettled dd').innerText === '0'");
    assert!(browser.text("#table-0 .errors tbody").contains("DSA-SINK-FAILING"));
    browser.shoot("running", true);
    browser.close();
}
