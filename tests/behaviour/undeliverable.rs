//! Events that the sink will not take: kept, sent to the dead-letter sink, or dropped.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::support::adapter::{Adapter, Plan};
use crate::support::aws::{FakeAws, Write};
use crate::support::oracle;
use crate::support::sink::{Reaction, TestSink};
use crate::support::wait_for;

struct Stage {
    aws: FakeAws,
    sink: TestSink,
    dead: TestSink,
}

impl Stage {
    async fn new() -> Self {
        Self {
            aws: FakeAws::with_table("orders", 1).await,
            sink: TestSink::start().await,
            dead: TestSink::start().await,
        }
    }

    fn plan(&self) -> Plan {
        Plan::new(&self.aws, &self.sink, "orders")
            .env("ON_UNDELIVERABLE", "dead-letter")
            .env("DEAD_LETTER_SINK", self.dead.url().replace("http://", "http://user:hunter2@"))
    }

    fn writes(&self) -> Vec<Write> {
        self.aws.script().writes.clone()
    }

    /// The sink refuses one item's second change with this status.
    fn refuse(&self, status: u16) {
        self.sink.react_to_all(move |events| {
            match events.iter().any(|event| event.item == "item-3" && event.version == 2) {
                true => Reaction::Body(status, format!("no {}", "x".repeat(2000))),
                false => Reaction::Status(202),
            }
        });
    }

    async fn wait_for_the_others(&self, missing: usize) {
        let writes = self.writes();
        wait_for("all but the broken events", || oracle::lost(&writes, &self.sink.received()).len() == missing).await;
    }
}

async fn settled(adapter: &Adapter, name: &str) -> f64 {
    adapter.metric(name, &[("table", "orders")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_the_whole_event_with_the_reason_and_its_item_goes_on_in_order() {
    for mode in ["binary", "structured", "batch"] {
        let stage = Stage::new().await;
        stage.refuse(400);
        let secret = format!("{}?access_token=hunter2", stage.sink.url().replace("http://", "http://user:hunter2@"));
        let adapter = stage.plan().env("K_SINK", secret).env("EVENT_MODE", mode).start_ready().await;
        stage.aws.write("orders", 5, 4);
        stage.wait_for_the_others(1).await;
        wait_for("the dead letter", || stage.dead.distinct() == 1).await;
        let letter = stage.dead.received().remove(0);
        let refused = stage.sink.received().into_iter().find(|event| event.id == letter.id).expect("it was tried");
        assert_eq!(letter.data, refused.data, "{mode}: not the original data");
        let mut attributes = letter.attributes.clone();
        assert_eq!(attributes.remove("knativeerrordest").as_deref(), Some(&*stage.sink.url()), "{mode}");
        assert_eq!(attributes.remove("knativeerrorcode").as_deref(), Some("400"), "{mode}");
        let data = attributes.remove("knativeerrordata").expect("the sink has said something");
        let start = format!("no {}", "x".repeat(765));
        assert_eq!(BASE64_STANDARD.decode(data).expect("base64"), start.into_bytes(), "{mode}");
        assert_eq!(attributes, refused.attributes, "{mode}: not the original attributes");
        let order: Vec<u64> =
            stage.sink.accepted().iter().filter(|event| event.item == "item-3").map(|event| event.version).collect();
        assert_eq!(order, [1, 3, 4], "{mode}");
        assert_eq!(settled(&adapter, "events_dead_lettered_total").await, 1.0);
        assert_eq!(settled(&adapter, "events_delivered_total").await, 19.0);
        assert_eq!(settled(&adapter, "parked_items").await, 0.0);
        assert_eq!(adapter.logged_code("DSA-EVENT-DEAD-LETTERED").len(), 1);
        assert!(!adapter.log_text().contains("hunter2"), "a password in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_sink_that_is_down_holds_its_item_and_the_position_and_loses_nothing() {
    let mut stage = Stage::new().await;
    let folder = tempfile::tempdir().unwrap();
    stage.refuse(400);
    stage.dead.down();
    let plan = stage.plan().keeping_positions(&folder);
    let adapter = plan.start_ready().await;
    stage.aws.write("orders", 5, 4);
    // The broken event and the two behind it.
    stage.wait_for_the_others(3).await;
    wait_for("the trouble to be said", || !adapter.logged_code("DSA-DEAD-LETTER-SINK-FAILING").is_empty()).await;
    assert_eq!(settled(&adapter, "events_dead_lettered_total").await, 0.0);
    adapter.kill();

    stage.dead.up().await;
    stage.dead.react(|event| Reaction::Status(if event.earlier < 2 { 400 } else { 200 }));
    let adapter = plan.start_ready().await;
    wait_for("the dead letter", || stage.dead.distinct() == 1).await;
    stage.wait_for_the_others(1).await;
    assert!(stage.dead.received().len() >= 3, "only a success of the dead-letter sink settles an event");
    assert!(adapter.metric("dead_letter_attempts_total", &[("code", "400")]).await >= 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_sink_is_down_dead_letters_still_go() {
    let stage = Stage::new().await;
    stage.sink.react(|_| Reaction::Status(503));
    let adapter = stage.plan().env("RETRY_MAX_ATTEMPTS", "3").start_ready().await;
    stage.aws.write("orders", 6, 1);
    wait_for("the dead letters", || stage.dead.distinct() == 6).await;
    for letter in stage.dead.received() {
        assert_eq!(letter.attributes["knativeerrorcode"], "503");
        let tries = stage.sink.received().iter().filter(|event| event.id == letter.id).count();
        assert_eq!(tries, 3, "RETRY_MAX_ATTEMPTS is 3");
    }
    assert_eq!(settled(&adapter, "events_dead_lettered_total").await, 6.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transport_error_is_code_500_without_data() {
    let stage = Stage::new().await;
    stage.sink.react(|event| if event.item == "item-3" { Reaction::Reset } else { Reaction::Status(202) });
    let _adapter = stage.plan().env("RETRY_MAX_AGE", "200ms").start_ready().await;
    stage.aws.write("orders", 5, 1);
    wait_for("the dead letter", || stage.dead.distinct() == 1).await;
    let letter = stage.dead.received().remove(0);
    assert_eq!(letter.attributes["knativeerrorcode"], "500");
    assert!(!letter.attributes.contains_key("knativeerrordata"));
    let tries: Vec<_> = stage.sink.received().into_iter().filter(|event| event.id == letter.id).collect();
    let age = letter.arrived - tries[0].arrived;
    assert!(age >= Duration::from_millis(200), "given up after {age:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_event_is_counted_and_reported_and_its_item_goes_on() {
    let stage = Stage::new().await;
    stage.refuse(422);
    let adapter = Plan::new(&stage.aws, &stage.sink, "orders").env("ON_UNDELIVERABLE", "drop").start_ready().await;
    stage.aws.write("orders", 5, 4);
    stage.wait_for_the_others(1).await;
    assert_eq!(settled(&adapter, "events_dropped_total").await, 1.0);
    let said = adapter.logged_code("DSA-EVENT-DROPPED");
    let dropped = stage.sink.received().into_iter().find(|event| event.item == "item-3" && event.version == 2).unwrap();
    assert_eq!((said.len(), said[0]["event"].as_str()), (1, Some(dropped.id.as_str())));
    let tries = stage.sink.received().iter().filter(|event| event.item == "item-3" && event.version == 2).count();
    assert_eq!(tries, 1, "a refusal needs no second opinion");
    assert_eq!(adapter.metric("lag_seconds", &[]).await, 0.0, "a dropped event holds the position");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_batches_only_the_broken_event_is_given_up() {
    let stage = Stage::new().await;
    stage.sink.react_to_all(|events| {
        let broken = events.iter().any(|event| event.item == "item-3" && event.version == 2);
        Reaction::Status(if broken { 400 } else { 200 })
    });
    let plan = Plan::new(&stage.aws, &stage.sink, "orders").env("ON_UNDELIVERABLE", "drop");
    let adapter = plan.env("EVENT_MODE", "batch").env("RETRY_MAX_ATTEMPTS", "1").start_ready().await;
    stage.aws.write("orders", 5, 4);
    stage.wait_for_the_others(1).await;
    assert_eq!(settled(&adapter, "events_dropped_total").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_parked_items_are_ten_lines_in_the_log_and_the_number_of_the_others() {
    const ITEMS: usize = 300;
    const PARKED: usize = ITEMS - ITEMS / 10;
    let stage = Stage::new().await;
    stage.aws.write("orders", ITEMS, 1);
    stage.sink.react_to_all(|events| match events.iter().all(|event| event.item.ends_with('0')) {
        true => Reaction::Status(202),
        false => Reaction::Status(400),
    });
    let mut adapter = stage.plan().env("ON_UNDELIVERABLE", "block").without("DEAD_LETTER_SINK").start().await;
    for _ in 0..2_000 {
        if settled(&adapter, "parked_items").await == PARKED as f64 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(settled(&adapter, "parked_items").await, PARKED as f64);
    adapter.signal("TERM");
    assert_eq!(adapter.exit().await.code(), Some(0));
    wait_for("its last line", || !adapter.logged("stopped").is_empty()).await;
    let lines = adapter.logged_code("DSA-ITEM-PARKED");
    let (rest, single): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["times"].is_number());
    let left_out: u64 = rest.iter().map(|line| line["times"].as_u64().unwrap()).sum();
    assert!(single.len() <= 10 && rest.len() == 1, "{lines:?}");
    assert_eq!(single.len() as u64 + left_out, PARKED as u64);
}
