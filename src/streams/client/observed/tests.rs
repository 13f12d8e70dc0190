//! What a table says about AWS while calls are refused, and when they are not any more.

use std::future::pending;
use std::time::SystemTime;

use super::*;
use crate::readiness::Health;
use crate::telemetry::logs::capture;
use crate::telemetry::metrics::Metrics;

/// A service that nobody asks, but for its time.
struct Unasked(Option<SystemTime>);

impl StreamsClient for Unasked {
    fn describe_table<'a>(&'a self, _table: &'a str) -> Call<'a, TableDescription> {
        Box::pin(pending())
    }

    fn list_streams<'a>(&'a self, _table: &'a str) -> Call<'a, Vec<String>> {
        Box::pin(pending())
    }

    fn describe_stream<'a>(&'a self, _stream: &'a str, _shards: ShardQuery<'a>) -> Call<'a, StreamDescription> {
        let Some(answered_at) = self.0 else { return Box::pin(pending()) };
        let status = crate::streams::client::StreamStatus::Enabled;
        let (table, key_schema, shards) = ("orders".to_owned(), Vec::new(), Vec::new());
        let answered_at = Some(answered_at);
        let answer = StreamDescription { table, status, view_type: None, key_schema, shards, next: None, answered_at };
        Box::pin(async { Ok(answer) })
    }

    fn get_shard_iterator<'a>(&'a self, _stream: &'a str, _shard: &'a str, _from: IteratorStart) -> Call<'a, String> {
        Box::pin(pending())
    }

    fn get_records<'a>(&'a self, _iterator: &'a str, _limit: u32) -> Call<'a, Page> {
        Box::pin(pending())
    }
}

fn client() -> (Metrics, Health, Arc<TableHealth>, Arc<ObservedClient>) {
    client_of(Unasked(None))
}

fn client_of(service: Unasked) -> (Metrics, Health, Arc<TableHealth>, Arc<ObservedClient>) {
    let (metrics, health) = (Metrics::new("1", "r").unwrap(), Health::default());
    let table = health.table("orders");
    let client = ObservedClient::new(Arc::new(service), TableTelemetry::new("orders", &metrics), table.clone());
    (metrics, health, table, client)
}

fn error(operation: &'static str, kind: ErrorKind, code: &str) -> CallError {
    CallError { operation, kind, code: code.to_owned(), message: "service error".to_owned() }
}

fn codes(lines: &[serde_json::Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["code"].as_str()).collect()
}

/// With thirty shards on a busy table somebody is throttled every second.
#[tokio::test(start_paused = true)]
async fn an_error_that_comes_and_goes_is_logged_once_a_minute_with_a_count() {
    let (metrics, _health, _table, client) = client();
    let throttled = error("GetRecords", ErrorKind::Throttled, "ThrottlingException");
    let minute = || {
        for _ in 0..30 {
            client.call_ended("GetRecords", &throttled.code, Duration::from_millis(5));
            client.refused(&throttled);
            client.call_ended("GetRecords", "empty", Duration::from_millis(5));
            client.answered();
        }
    };
    let first = capture::objects(minute);
    assert_eq!(codes(&first), ["DSA-AWS-THROTTLED"]);
    assert_eq!(first.len(), 1, "{first:?}");
    tokio::time::advance(Duration::from_secs(60)).await;
    let second = capture::objects(minute);
    assert_eq!(second.len(), 1, "{second:?}");
    assert_eq!(second[0]["times"], 30);
    assert_eq!(second[0]["table"], "orders");
    let text = metrics.encode().unwrap();
    let series = r#"aws_calls_total{operation="GetRecords",result="ThrottlingException",table="orders"} 60"#;
    assert!(text.contains(series), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_permission_that_is_missing_is_logged_at_once_and_so_is_its_end() {
    let (_metrics, health, table, client) = client();
    table.mark_ready();
    let denied = error("GetRecords", ErrorKind::Denied, "AccessDeniedException");
    let lines = capture::objects(|| {
        client.refused(&denied);
        client.call_ended("DescribeStream", "ok", Duration::ZERO);
        client.answered();
        assert!(health.not_ready(Instant::now()).unwrap().contains("GetRecords failed"), "a listing is no permission");
        client.call_ended("GetRecords", "records", Duration::ZERO);
        client.answered();
        assert_eq!(health.not_ready(Instant::now()), None);
    });
    assert_eq!(codes(&lines), ["DSA-AWS-DENIED"]);
    assert_eq!(lines.last().unwrap()["message"], "AWS answers again");
}

/// Who replaces an adapter that used `ListStreams` may have no permission for `DescribeTable`, and needs none.
#[tokio::test(start_paused = true)]
async fn a_listing_of_streams_stands_in_for_the_description_of_the_table() {
    let (_metrics, health, table, client) = client();
    table.mark_ready();
    client.refused(&error("DescribeTable", ErrorKind::Denied, "AccessDeniedException"));
    assert!(health.not_ready(Instant::now()).is_some());
    client.call_ended("ListStreams", "ok", Duration::ZERO);
    assert_eq!(health.not_ready(Instant::now()), None);
}

#[test]
fn a_wait_for_a_stream_is_logged_once_and_shown() {
    let (_metrics, health, table, client) = client();
    let lines = capture::objects(|| {
        for _ in 0..10 {
            client.mark_waiting_for("a stream: table orders has none; enable DynamoDB Streams on it");
        }
    });
    assert_eq!(codes(&lines), ["DSA-STREAM-AWAITED"]);
    assert!(health.not_ready(Instant::now()).unwrap().contains("enable DynamoDB Streams on it"));
    client.answered();
    assert_eq!(table.awaited(), None);
}

/// Lag compares AWS's time with this machine's: who looks at it has to know when the two differ.
#[tokio::test(start_paused = true)]
async fn how_far_the_clock_is_from_that_of_aws_is_a_metric() {
    let (metrics, _health, _table, _client) = client();
    assert!(!metrics.encode().unwrap().contains("clock_offset_seconds{"), "nobody has said");
    let hour = Duration::from_hours(1);
    for (moment, shown) in [(clock::now() + hour, 3600), (clock::now() - hour, -3600), (clock::now(), 0)] {
        let (metrics, _health, _table, client) = client_of(Unasked(Some(moment)));
        client.describe_stream("arn", ShardQuery::First).await.expect("it answers");
        let text = metrics.encode().unwrap();
        let offset = text
            .lines()
            .find_map(|line| line.split_once("clock_offset_seconds{table=\"orders\"} "))
            .expect("it is known")
            .1;
        let offset: i64 = offset.parse().expect("whole seconds");
        assert!((offset - shown).abs() <= 1, "{offset} is not about {shown}");
    }
}
