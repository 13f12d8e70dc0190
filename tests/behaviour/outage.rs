//! A sink that is down for a day, in virtual time: the library's own parts, an endless shard, no network.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dynamodb_streams_adapter::app::table::{Parts, PositionStore, Shared, Table};
use dynamodb_streams_adapter::app::table_task::{TableStop, TableTask};
use dynamodb_streams_adapter::backoff::Backoff;
use dynamodb_streams_adapter::checkpoint::MemoryStore;
use dynamodb_streams_adapter::config::{
    self, CheckpointLocation, DeliveryOrder, OnDataLoss, PollIntervals, StartPosition,
};
use dynamodb_streams_adapter::delivery::dispatcher::{Dispatcher, MemoryLimits, Settings, Sinks};
use dynamodb_streams_adapter::delivery::lanes::RequestLimits;
use dynamodb_streams_adapter::delivery::retry::{OnUndeliverable, RetryLimits, RetryPolicy};
use dynamodb_streams_adapter::event::Message;
use dynamodb_streams_adapter::progress::buffer::{Buffer, BufferPool};
use dynamodb_streams_adapter::readiness::Health;
use dynamodb_streams_adapter::records::Page;
use dynamodb_streams_adapter::sink::{BodyEnd, Sink, SinkResponse};
use dynamodb_streams_adapter::streams::client::{
    Call, IteratorStart, ListedShard, ShardQuery, StreamDescription, StreamStatus, StreamsClient, TableDescription,
};
use dynamodb_streams_adapter::streams::stream_locator::TableTarget;
use dynamodb_streams_adapter::telemetry::TableTelemetry;
use dynamodb_streams_adapter::telemetry::metrics::Metrics;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const STREAM: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-01-02T03:04:05.678";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const BUFFER: usize = 4 << 20;

/// One shard with more records than anybody can hold.
struct Endless {
    read: AtomicUsize,
}

fn ready<'a, T: Send + 'a>(value: T) -> Call<'a, T> {
    Box::pin(async move { Ok(value) })
}

impl StreamsClient for Endless {
    fn describe_table<'a>(&'a self, _table: &'a str) -> Call<'a, TableDescription> {
        ready(TableDescription { arn: String::new(), latest_stream: Some(STREAM.to_owned()) })
    }

    fn list_streams<'a>(&'a self, _table: &'a str) -> Call<'a, Vec<String>> {
        ready(vec![STREAM.to_owned()])
    }

    fn describe_stream<'a>(&'a self, _stream: &'a str, _shards: ShardQuery<'a>) -> Call<'a, StreamDescription> {
        ready(StreamDescription {
            table: "Orders".to_owned(),
            status: StreamStatus::Enabled,
            view_type: None,
            key_schema: vec!["id".to_owned()],
            shards: vec![ListedShard { id: "shard".to_owned(), parent: None, has_ended: false }],
            next: None,
            answered_at: None,
        })
    }

    fn get_shard_iterator<'a>(&'a self, _stream: &'a str, _shard: &'a str, from: IteratorStart) -> Call<'a, String> {
        let index = match from {
            IteratorStart::At(sequence) => sequence.as_str().parse::<u64>().unwrap() - 1,
            _ => 0,
        };
        ready(index.to_string())
    }

    fn get_records<'a>(&'a self, iterator: &'a str, _limit: u32) -> Call<'a, Page> {
        let begin: u64 = iterator.parse().unwrap();
        let records: Vec<String> = (begin + 1..=begin + 500).map(record).collect();
        self.read.fetch_add(records.len(), Ordering::Relaxed);
        let body = format!(r#"{{"Records":[{}],"NextShardIterator":"{}"}}"#, records.join(","), begin + 500);
        ready(Page::parse(Bytes::from(body)).unwrap())
    }
}

fn record(number: u64) -> String {
    let payload = "x".repeat(1000);
    format!(
        r#"{{"eventID":"{number}","eventName":"INSERT","dynamodb":{{"Keys":{{"id":{{"S":"item-{}"}}}},"SequenceNumber":"{number:021}","NewImage":{{"payload":{{"S":"{payload}"}}}}}}}}"#,
        number % 50
    )
}

/// Refuses for a day, then takes everything.
struct DownForADay {
    begun: tokio::time::Instant,
    refused: AtomicUsize,
    taken: Mutex<Vec<u64>>,
}

impl Sink for DownForADay {
    fn post(&self, message: Message, _timeout: Duration) -> BoxFuture<'_, SinkResponse> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if self.begun.elapsed() < DAY {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let status = http::StatusCode::SERVICE_UNAVAILABLE;
                return SinkResponse::Refused { status, retry_after: None, body_start: Bytes::new() };
            }
            self.taken.lock().unwrap().push(message.headers["ce-id"].to_str().unwrap().parse().unwrap());
            SinkResponse::Accepted { status: http::StatusCode::OK, body: Bytes::new(), end: BodyEnd::Whole }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_down_for_a_day_costs_bounded_memory_and_few_requests() {
    let client = Arc::new(Endless { read: AtomicUsize::new(0) });
    let begun = tokio::time::Instant::now();
    let sink = Arc::new(DownForADay { begun, refused: AtomicUsize::new(0), taken: Mutex::default() });
    let metrics = Metrics::new("test", "test").unwrap();
    let telemetry = TableTelemetry::new("Orders", &metrics);
    let health = Health::default().table("Orders");
    let source = config::Source {
        tables: Vec::new(),
        start: StartPosition::TrimHorizon,
        checkpoint: CheckpointLocation::Memory,
        consumer_group: "default".to_owned(),
        poll_intervals: PollIntervals {
            poll_interval: Duration::from_millis(250),
            idle_poll_interval_max: Duration::from_secs(5),
        },
        on_data_loss: OnDataLoss::Continue,
    };
    let store = PositionStore::Own(Arc::new(MemoryStore::default()));
    let shared = Shared::new(store, BufferPool::new(BUFFER, 1), DeliveryOrder::Item);
    let target = TableTarget { table: "Orders".to_owned(), stream: None };
    let parts = Parts { client: client.clone(), target, telemetry, health };
    let table = Table::assemble(parts, &source, &shared);
    let progress = table.progress.clone();
    let event = config::Event {
        profile: config::EventProfile::Aws,
        data: config::EventData::DynamodbJson,
        mode: config::EventMode::Binary,
        overrides: Default::default(),
    };
    let (parcels, intake) = mpsc::channel(16);
    let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30)).unwrap();
    let policy = RetryPolicy { backoff, limits: RetryLimits::default(), on_undeliverable: OnUndeliverable::Block };
    let settings = Settings {
        limits: RequestLimits::singly(64),
        rate_max: None,
        memory: MemoryLimits::of(1 << 30, 16 << 20, false),
        mode: config::EventMode::Binary,
        timeout: Duration::from_secs(30),
        policy,
        destination: http::Uri::from_static("http://sink.example/"),
    };
    let sinks = Sinks { sink: sink.clone(), dead_letters: None };
    let stop = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(TableTask { table, event, events: parcels }.run(TableStop::default()).map(drop));
    tasks.spawn(Dispatcher::new(sinks, settings).run(intake, stop).map(drop));

    let mut most = 0;
    while begun.elapsed() < DAY {
        tokio::time::sleep(Duration::from_secs(60)).await;
        most = most.max(progress.buffer().used());
    }
    let refused = sink.refused.load(Ordering::Relaxed);
    let read = client.read.load(Ordering::Relaxed);
    assert!(most <= BUFFER + 2 * Buffer::PAGE, "{most} bytes were held");
    assert!(read > 1000 && read < 10_000, "{read} records were read into a buffer of 4 MiB");
    assert!(refused > 1000, "{refused} probes in a day: the outage's end would be noticed late");
    let seconds = DAY.as_secs() as usize;
    assert!(refused <= seconds + 1000, "{refused} requests to a sink that was down all day: more than one a second");

    while sink.taken.lock().unwrap().len() < 3 * read {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(begun.elapsed() < DAY + Duration::from_secs(3600), "delivery did not go on after the outage");
    }
    tasks.shutdown().await;
    let taken = sink.taken.lock().unwrap();
    for item in 0..50 {
        let order: Vec<u64> = taken.iter().copied().filter(|number| number % 50 == item).collect();
        let first = if item == 0 { 50 } else { item };
        let expected: Vec<u64> = (0..order.len() as u64).map(|n| first + n * 50).collect();
        assert_eq!(order, expected, "item {item}");
    }
}
