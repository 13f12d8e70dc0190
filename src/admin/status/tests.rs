//! What `/status` says of a table whose state is known.

use super::*;
use crate::delivery::dispatcher::SinkOutage;
use crate::progress::buffer::Buffer;
use crate::progress::page_entry::PageEntry;
use crate::progress::table_tracker::{PageRead, ShardHandle, StreamHandle};
use crate::records::{LaneId, Position, StreamDetails};
use crate::telemetry::metrics::Metrics;

const STREAM: &str = "arn:aws:dynamodb:eu-west-1:111122223333:table/orders/stream/2026-01-01T00:00:00.000";

struct House {
    health: Arc<Health>,
    progress: Arc<TableProgress>,
    stream: StreamHandle,
    delivery: watch::Sender<DeliveryView>,
    parked_items: Arc<ParkedItems>,
    status: Status,
}

impl House {
    fn new() -> Self {
        let (health, metrics) = (Arc::new(Health::default()), Metrics::new("1", "r").unwrap());
        let telemetry = TableTelemetry::new("orders", &metrics);
        let progress = TableProgress::new(false, Buffer::new(1 << 20), telemetry, health.table("orders"));
        let (delivery, parked_items) = (watch::Sender::default(), Arc::new(ParkedItems::default()));
        let uri = "https://broker.example:8443/token-4711?key=secret".parse().unwrap();
        let status = Status::new(health.clone(), &uri);
        let parts = Parts {
            progress: vec![progress.clone()],
            delivery: delivery.subscribe(),
            parked_items: parked_items.clone(),
        };
        status.has_started(parts);
        let facts = StreamDetails {
            arn: STREAM.to_owned(),
            table_arn: "arn:table".to_owned(),
            table: "orders".to_owned(),
            key_schema: Vec::new(),
            view_type: None,
        };
        let stream = progress.tracker().open_stream(Arc::new(facts), Position::Start, false, SystemTime::UNIX_EPOCH);
        Self { health, progress, stream, delivery, parked_items, status }
    }

    fn table(&self) -> Value {
        self.status.show()["tables"][0].clone()
    }
}

/// What a page of a shard says of it.
fn page(is_caught_up: bool, is_last: bool) -> PageRead {
    PageRead { asked_at: SystemTime::now(), is_caught_up, is_last }
}

#[tokio::test]
async fn a_lineage_can_be_followed_from_the_finished_parent_to_the_child_that_is_behind() {
    let house = House::new();
    let minute_ago = SystemTime::now().checked_sub(Duration::from_secs(60));
    {
        let mut tracker = house.progress.tracker();
        let open = |tracker: &mut crate::progress::table_tracker::TableTracker, id: &str, parent: Option<&str>| {
            tracker.learn(house.stream, id, parent);
            tracker.open_ready(house.stream).pop().unwrap().handle
        };
        let read = |tracker: &mut crate::progress::table_tracker::TableTracker, shard: ShardHandle, number: u64, at| {
            let (sequence, lane) = (number.to_string().parse().unwrap(), LaneId::of_shard("item"));
            PageEntry::of(tracker, shard).record(sequence, lane, at).unwrap();
        };
        let parent = open(&mut tracker, "parent", None);
        PageEntry::of(&mut tracker, parent).read(page(true, true));
        tracker.read_to_end(parent, Instant::now());
        let child = open(&mut tracker, "child", Some("parent"));
        read(&mut tracker, child, 7, minute_ago);
        PageEntry::of(&mut tracker, child).read(page(true, false));
        let ended = open(&mut tracker, "ended", Some("parent"));
        read(&mut tracker, ended, 8, None);
        PageEntry::of(&mut tracker, ended).read(page(true, true));
        tracker.read_to_end(ended, Instant::now());
        let grandchild = open(&mut tracker, "grandchild", Some("ended"));
        PageEntry::of(&mut tracker, grandchild).read(page(false, false));
    }
    let table = house.table();
    assert_eq!(table["finished"], json!([{"shard": "parent", "parent": null}]));
    assert_eq!(table["finished_shards"], 1);
    let states: Vec<(&str, &str, &str)> = table["shards"].as_array().unwrap().iter().map(summary).collect();
    let expected =
        [("child", "parent", "caught-up"), ("ended", "parent", "settling"), ("grandchild", "ended", "reading")];
    assert_eq!(states, expected);
    let child = &table["shards"][0];
    assert_eq!((&child["read_to"], &child["unsettled_events"]), (&json!("after 7"), &json!(1)));
    let lag = child["lag_seconds"].as_f64().unwrap();
    assert!((60.0..90.0).contains(&lag), "{child}");
    assert_eq!(table["shards"][1]["lag_seconds"], 0.0);
    assert_eq!(table["shards"][2]["settled_to"], "start");
}

fn summary(shard: &Value) -> (&str, &str, &str) {
    let text = |name: &str| shard[name].as_str().unwrap_or_else(|| panic!("{name}: {shard}"));
    (text("shard"), text("parent"), text("state"))
}

#[tokio::test]
async fn old_finished_shards_are_counted_and_not_listed() {
    let house = House::new();
    let mut tracker = house.progress.tracker();
    for number in 0..=MOST_FINISHED {
        tracker.learn(house.stream, &number.to_string(), None);
    }
    for shard in tracker.open_ready(house.stream) {
        PageEntry::of(&mut tracker, shard.handle).read(page(true, true));
    }
    drop(tracker);
    let table = house.table();
    assert_eq!(table["finished_shards"], MOST_FINISHED + 1);
    let listed = table["finished"].as_array().unwrap();
    assert_eq!((listed.len(), &listed[0]["shard"]), (MOST_FINISHED, &json!("1")));
}

#[tokio::test]
async fn the_sink_is_shown_without_its_path_and_fails_since_a_moment_for_a_reason() {
    let house = House::new();
    let up = json!({"url": "https://broker.example:8443", "state": "up", "failing_since": null, "last_error": null});
    assert_eq!(house.status.show()["sink"], up);
    let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let outage = Some(SinkOutage { since, is_refusing: false, why: "it answered 503".to_owned() });
    house.delivery.send_modify(|delivery| delivery.outage = outage);
    let sink = house.status.show()["sink"].clone();
    assert_eq!((&sink["state"], &sink["failing_since"]), (&json!("failing"), &json!("2027-01-15T08:00:00Z")));
    assert_eq!(sink["last_error"], "it answered 503");
    let all = house.status.show().to_string();
    assert!(!all.contains("token-4711") && !all.contains("secret"), "{all}");
}

#[tokio::test]
async fn parked_items_and_troubles_are_listed_for_the_one_on_call() {
    let house = House::new();
    let telemetry = house.progress.telemetry();
    house.parked_items.failed("orders", 0x1234_5678_0000_0000, "e1", 5, "it answered 400", SystemTime::now());
    telemetry.recent().add("DSA-DATA-LOSS", "trimmed");
    crate::telemetry::events::CheckpointFailed { error: "no space left on device" }.emit(telemetry);
    house.progress.health().record_store_error(Some("no space left on device"));
    let table = house.table();
    assert_eq!(table["parked"][0]["item"], "12345678");
    assert_eq!(
        (&table["parked"][0]["failures"], &table["parked"][0]["last_error"]),
        (&json!(5), &json!("it answered 400"))
    );
    let codes: Vec<&Value> = table["recent_errors"].as_array().unwrap().iter().map(|one| &one["code"]).collect();
    assert_eq!(codes, ["DSA-CHECKPOINT-FAILED", "DSA-DATA-LOSS"]);
    assert_eq!(table["last_errors"]["store"], "no space left on device");
    assert!(table["not_ready"].as_str().unwrap().contains("no space left"), "{table}");
}

#[tokio::test]
async fn readiness_is_that_of_the_probe() {
    let house = House::new();
    let now = Instant::now();
    assert_eq!(house.status.show()["not_ready"].as_str().map(str::to_owned), house.health.not_ready(now));
    house.progress.health().mark_ready();
    assert_eq!(house.status.show()["not_ready"], Value::Null);
    assert_eq!(house.table()["not_ready"], Value::Null);
}
