//! What `/status` says of a table whose state is known.

use super::*;
use crate::checkpoint::{StoredShard, StoredStream, StoredTable};
use crate::delivery::dispatcher::{LongestLane, SinkOutage};
use crate::delivery::parked_items::FailedItem;
use crate::delivery::sink_controller::{Cause, ControllerView, DownReason};
use crate::lease::Tenure;
use crate::progress::buffer::Buffer;
use crate::progress::page_entry::PageEntry;
use crate::progress::table_tracker::{PageRead, ShardHandle, StreamHandle};
use crate::readiness::FailingCall;
use crate::records::{LaneId, Position, StreamDetails};
use crate::telemetry::metrics::Metrics;

const STREAM: &str = "arn:aws:dynamodb:eu-west-1:111122223333:table/orders/stream/2026-01-01T00:00:00.000";

struct House {
    health: Arc<Health>,
    metrics: Metrics,
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
        progress.restore(StoredTable::default());
        let (delivery, parked_items) = (watch::Sender::default(), Arc::new(ParkedItems::default()));
        let uri = "https://broker.example:8443/token-4711?key=secret".parse().unwrap();
        let letters = "http://letters.example/token-4711".parse().unwrap();
        let status = Status::new(health.clone(), &metrics, &uri, Some(&letters));
        let parts = Parts {
            progress: vec![progress.clone()],
            delivery: delivery.subscribe(),
            parked_items: parked_items.clone(),
        };
        status.set_parts(parts);
        let facts = StreamDetails {
            arn: STREAM.to_owned(),
            table_arn: "arn:table".to_owned(),
            table: "orders".to_owned(),
            key_schema: Vec::new(),
            view_type: None,
        };
        let stream = progress.tracker().open_stream(Arc::new(facts), Position::Start, false, SystemTime::UNIX_EPOCH);
        Self { health, metrics, progress, stream, delivery, parked_items, status }
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

/// A sink that takes all it gets.
const UNLIMITED: ControllerView = ControllerView {
    rate: None,
    ceiling: 64,
    in_flight: 0,
    capacity: None,
    attempt_time: None,
    moved: Cause::Start,
    down: None,
    paused_until: None,
};

#[tokio::test]
async fn the_sink_is_shown_without_its_path_and_fails_since_a_moment_for_a_reason() {
    let house = House::new();
    let up = json!({
        "url": "https://broker.example:8443", "state": "up", "failing_since": null, "last_error": null, "rate": null,
        "capacity": null, "limited_by": null, "paused_until": null, "in_flight": null, "max_in_flight": null,
        "attempt_seconds": null,
    });
    assert_eq!(house.status.show()["sink"], up);
    let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    for (is_refusing, state) in [(false, "failing"), (true, "refusing")] {
        let outage = Some(SinkOutage { since, is_refusing, why: "it answered 503".to_owned() });
        house.delivery.send_modify(|delivery| delivery.outage = outage);
        let sink = house.status.show()["sink"].clone();
        assert_eq!((&sink["state"], &sink["failing_since"]), (&json!(state), &json!("2027-01-15T08:00:00Z")));
        assert_eq!(sink["last_error"], "it answered 503");
    }
    let all = house.status.show().to_string();
    assert!(!all.contains("token-4711") && !all.contains("secret"), "{all}");
}

#[tokio::test(start_paused = true)]
async fn how_much_the_sink_takes_is_shown_with_what_limits_it_until_that_is_over() {
    let house = House::new();
    let limited = ControllerView {
        rate: Some(489.96),
        ceiling: 25,
        in_flight: 7,
        capacity: Some(500.0),
        attempt_time: Some(Duration::from_millis(20)),
        moved: Cause::RetryAfter,
        paused_until: Some(Instant::now() + Duration::from_secs(10)),
        ..UNLIMITED
    };
    house.delivery.send_modify(|delivery| delivery.sink = Some(limited));
    let sink = house.status.show()["sink"].clone();
    assert_eq!((&sink["rate"], &sink["capacity"]), (&json!(490.0), &json!(500.0)));
    assert_eq!((&sink["in_flight"], &sink["max_in_flight"]), (&json!(7), &json!(25)));
    assert_eq!((&sink["attempt_seconds"], &sink["limited_by"]), (&json!(0.02), &json!("retry-after")));
    let until = clock::parse_rfc3339(sink["paused_until"].as_str().unwrap()).unwrap();
    let left = until.duration_since(clock::now()).unwrap();
    assert!((8..=10).contains(&left.as_secs()), "{left:?}");

    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(house.status.show()["sink"]["paused_until"], Value::Null, "a pause that is over is none");
    let free = ControllerView { moved: Cause::Demand, ..UNLIMITED };
    house.delivery.send_modify(|delivery| delivery.sink = Some(free));
    let sink = house.status.show()["sink"].clone();
    assert_eq!((&sink["rate"], &sink["limited_by"]), (&Value::Null, &Value::Null), "nothing limits it");
}

#[tokio::test(start_paused = true)]
async fn the_dead_letter_sink_is_shown_beside_the_sink_and_fails_on_its_own() {
    let house = House::new();
    tokio::time::advance(Duration::from_secs(60)).await;
    let down = Some((Instant::now() - Duration::from_secs(30), DownReason::Failing));
    house.delivery.send_modify(|delivery| {
        delivery.sink = Some(UNLIMITED);
        delivery.dead_letters = Some(ControllerView { down, moved: Cause::Outage, ..UNLIMITED });
    });
    let all = house.status.show();
    assert_eq!(all["sink"]["state"], "up");
    let letters = &all["dead_letter_sink"];
    assert_eq!((&letters["url"], &letters["state"]), (&json!("http://letters.example"), &json!("failing")));
    assert_eq!(letters["limited_by"], "outage");
    let since = clock::parse_rfc3339(letters["failing_since"].as_str().unwrap()).unwrap();
    let ago = clock::now().duration_since(since).unwrap();
    assert!((30..32).contains(&ago.as_secs()), "{ago:?}");
    house.status.refresh();
    let text = house.metrics.encode().unwrap();
    for line in ["sink_up{sink=\"sink\"} 1", "sink_up{sink=\"dead-letter\"} 0"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let alone = Status::new(house.health, &house.metrics, &"http://broker.example".parse().unwrap(), None);
    assert_eq!(alone.show()["dead_letter_sink"], Value::Null);
}

#[tokio::test]
async fn the_gauges_of_the_sink_and_of_the_longest_lane_are_as_of_the_moment_somebody_looks() {
    let house = House::new();
    house.status.refresh();
    assert!(!house.metrics.encode().unwrap().contains("sink_up{"), "nothing is known of a sink that got nothing");
    let lane = Some(LongestLane { item: "12345678".to_owned(), events: 40 });
    let outage = SinkOutage { since: SystemTime::UNIX_EPOCH, is_refusing: true, why: "it answered 400".to_owned() };
    house.delivery.send_modify(|delivery| {
        delivery.sink = Some(ControllerView { rate: Some(490.0), in_flight: 3, ceiling: 20, ..UNLIMITED });
        delivery.longest_lane = lane;
        delivery.outage = Some(outage);
    });
    assert_eq!(house.status.show()["longest_lane"], json!({"item": "12345678", "events": 40}));
    house.status.refresh();
    let text = house.metrics.encode().unwrap();
    let of_sink =
        [("up", "0"), ("request_rate_limit", "490"), ("requests_in_flight", "3"), ("requests_in_flight_limit", "20")];
    for (name, value) in of_sink {
        let line = format!("sink_{name}{{sink=\"sink\"}} {value}\n");
        assert!(text.contains(&line), "{line}: {text}");
    }
    assert!(text.contains("longest_lane_events 40\n"), "{text}");
    house.delivery.send_modify(|delivery| (delivery.longest_lane, delivery.outage) = (None, None));
    house.status.refresh();
    let text = house.metrics.encode().unwrap();
    assert!(text.contains("longest_lane_events 0\n") && text.contains("sink_up{sink=\"sink\"} 1\n"), "{text}");
    assert_eq!(house.status.show()["longest_lane"], Value::Null);
}

#[tokio::test]
async fn parked_items_and_troubles_are_listed_for_the_one_on_call() {
    let house = House::new();
    let telemetry = house.progress.telemetry();
    let failed = FailedItem { lane: 0x1234_5678_0000_0000, event: "e1", failures: 5, why: "it answered 400" };
    house.parked_items.failed("orders", failed, SystemTime::now());
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

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_shared_table_is_shown_and_that_of_another_one_is_null() {
    let house = House::new();
    assert_eq!(house.table()["lease"], Value::Null);
    let ownership = house.progress.ownership();
    ownership.wait("pod-1 ab");
    ownership.set_awaited(Some("pod-2 cd"));
    let waiting = json!({"owner": "pod-1 ab", "held": false, "ends_in_seconds": null, "waits_for": "pod-2 cd"});
    assert_eq!(house.table()["lease"], waiting);
    let granted = Tenure::granted(Duration::from_secs(30), Instant::now(), SystemTime::now());
    ownership.begin(Arc::new(granted));
    let held = json!({"owner": "pod-1 ab", "held": true, "ends_in_seconds": 30.0, "waits_for": null});
    assert_eq!(house.table()["lease"], held);
}

/// The value of a gauge of the table, as it is exported.
fn gauge(house: &House, name: &str) -> f64 {
    house.status.refresh();
    let text = house.metrics.encode().unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("dynamodb_streams_adapter_{name}")));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_a_metric_of_its_own_and_no_lag() {
    let house = House::new();
    assert_eq!(gauge(&house, "ready"), 0.0);
    let health = house.progress.health();
    health.mark_ready();
    assert_eq!(gauge(&house, "ready"), 1.0);
    health.record_failure(FailingCall::Aws("GetRecords"), "refused", true, Instant::now());
    health.sink_refused(Instant::now());
    tokio::time::advance(Duration::from_secs(100)).await;
    assert_eq!((gauge(&house, "aws_refused_seconds"), gauge(&house, "sink_refused_seconds")), (100.0, 100.0));
    assert_eq!((gauge(&house, "lag_seconds"), gauge(&house, "ready")), (0.0, 0.0));
    health.progressed(Instant::now());
    health.sink_took();
    assert_eq!((gauge(&house, "aws_refused_seconds"), gauge(&house, "sink_refused_seconds")), (0.0, 0.0));
}

#[tokio::test]
async fn a_stop_over_a_loss_does_not_look_as_if_all_was_delivered() {
    let house = House::new();
    let day = RETENTION.as_secs_f64();
    let long_ago = SystemTime::now() - RETENTION - Duration::from_secs(60);
    let shards = [("shard".to_owned(), StoredShard::at(Position::Start, long_ago, None))].into();
    let stream = StoredStream { arn: STREAM.to_owned(), start: Position::Start, done: false, shards };
    house.progress.restore(StoredTable { streams: vec![stream], ..StoredTable::default() });
    assert_eq!(gauge(&house, "lag_seconds"), 0.0, "the first page is on its way");
    house.progress.health().mark_stopped("data was lost and ON_DATA_LOSS is stop");
    let (lag, left) = (gauge(&house, "lag_seconds"), gauge(&house, "retention_headroom_seconds"));
    assert!(lag > day && left == 0.0, "behind by {lag} s, {left} s are left");
}

#[tokio::test(start_paused = true)]
async fn how_far_behind_a_table_is_whose_positions_nobody_has_read_is_no_number() {
    let house = House::new();
    let is_shown = || {
        let (lag, left) = (gauge(&house, "lag_seconds"), gauge(&house, "retention_headroom_seconds"));
        assert_eq!((lag.is_nan(), house.table()["lag_seconds"].is_null()), (left.is_nan(), left.is_nan()));
        !lag.is_nan()
    };
    assert!(is_shown());
    house.progress.reset();
    assert!(!is_shown(), "its lease is lost");
    let ownership = house.progress.ownership();
    ownership.wait("pod-1 ab");
    assert!(!is_shown(), "nobody knows who has it");
    ownership.set_awaited(Some("pod-2 cd"));
    assert!(is_shown(), "its owner knows, and this process owes nothing");
    ownership.begin(Arc::new(Tenure::granted(Duration::from_secs(30), Instant::now(), SystemTime::now())));
    assert!(!is_shown(), "its positions are on their way");
    house.progress.restore(StoredTable::default());
    assert!(is_shown());
}

/// A lag of zero would let KEDA scale down the sink's service while another process still delivers to it.
#[test]
fn a_table_that_is_lost_to_another_process_has_no_lag_and_never_one_of_zero() {
    const ROUNDS: usize = 20_000;
    let house = House::new();
    let hour_ago = SystemTime::now() - Duration::from_hours(1);
    let StoredShard::Unfinished(shard) = StoredShard::at(Position::Start, hour_ago, None) else { unreachable!() };
    let shard = StoredShard::Unfinished(crate::checkpoint::UnfinishedShard { oldest_owed: Some(hour_ago), ..shard });
    let shards = [("shard".to_owned(), shard)].into();
    let stream = StoredStream { arn: STREAM.to_owned(), start: Position::Start, done: false, shards };
    let stored = StoredTable { streams: vec![stream], stopped: None };
    house.progress.restore(stored.clone());
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                house.progress.restore(stored.clone());
                house.progress.reset();
            }
            is_over.store(true, std::sync::atomic::Ordering::Release);
        });
        let mut zeros = 0;
        while !is_over.load(std::sync::atomic::Ordering::Acquire) {
            zeros += usize::from(lag(&house.progress) == Some(Duration::ZERO));
        }
        assert_eq!(zeros, 0, "so often a table of which nothing is known looked as if everything was delivered");
    });
}
