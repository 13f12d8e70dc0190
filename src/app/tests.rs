//! One table's parts against a client, a sink and a store in memory; and which ends of tasks are faults.

mod findings;
mod scene;

use std::collections::VecDeque;
use std::future::ready;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::table::Parts;
use super::*;
use crate::aws::errors::{CallError, ErrorKind};
use crate::backoff::Backoff;
use crate::checkpoint::StoreError;
use crate::checkpoint::TableState;
use crate::config::{DeliveryOrder, EventData, EventProfile, OnDataLoss, StartPosition};
use crate::delivery::retry::{OnUndeliverable, RetryLimits};
use crate::delivery::sink::{Answer, Sink};
use crate::event::Message;
use crate::streams::client::{
    Call, IteratorStart, ListedShard, ShardQuery, StreamDescription, StreamStatus, StreamsClient, TableDescription,
};
use crate::streams::stream_locator::TableTarget;
use crate::streams::update::Update;
use crate::streams::wire::Page;
use crate::telemetry::TableTelemetry;

const STREAM: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-01-02T03:04:05.678";
pub(super) const BUFFER: usize = 4 << 20;
pub(super) const IDLE_MAX: Duration = Duration::from_secs(5);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A table with one shard, a sink and a store, all of which do as they are told.
#[derive(Default)]
pub(super) struct World {
    records: Mutex<VecDeque<u64>>,
    pub(super) denies: AtomicBool,
    /// What the sink answers; 0 stands for 200.
    pub(super) status: AtomicU16,
    pub(super) store_fails: AtomicBool,
}

impl World {
    pub(super) fn write(&self, number: u64) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push_back(number);
    }

    fn answer<'a, T: Send + 'a>(&self, operation: &'static str, answer: T) -> Call<'a, T> {
        let (kind, code, message) = (ErrorKind::Denied, "AccessDeniedException".to_owned(), "no".to_owned());
        let denied = self.denies.load(Ordering::Relaxed);
        Box::pin(ready(if denied { Err(CallError { operation, kind, code, message }) } else { Ok(answer) }))
    }
}

impl StreamsClient for World {
    fn describe_table<'a>(&'a self, table: &'a str) -> Call<'a, TableDescription> {
        let description = TableDescription { arn: table.to_owned(), latest_stream: Some(STREAM.to_owned()) };
        self.answer("DescribeTable", description)
    }

    fn list_streams<'a>(&'a self, _table: &'a str) -> Call<'a, Vec<String>> {
        self.answer("ListStreams", vec![STREAM.to_owned()])
    }

    fn describe_stream<'a>(&'a self, _stream: &'a str, _shards: ShardQuery<'a>) -> Call<'a, StreamDescription> {
        let description = StreamDescription {
            table: "Orders".to_owned(),
            status: StreamStatus::Enabled,
            view_type: None,
            key_schema: vec!["id".to_owned()],
            shards: vec![ListedShard { id: "shard".to_owned(), parent: None }],
            next: None,
            answered_at: None,
        };
        self.answer("DescribeStream", description)
    }

    fn get_shard_iterator<'a>(&'a self, _stream: &'a str, _shard: &'a str, _from: IteratorStart) -> Call<'a, String> {
        self.answer("GetShardIterator", "iterator".to_owned())
    }

    fn get_records<'a>(&'a self, _iterator: &'a str) -> Call<'a, Page> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let texts: Vec<String> = records.drain(..).map(record).collect();
        let page = format!(r#"{{"Records":[{}],"NextShardIterator":"iterator"}}"#, texts.join(","));
        self.answer("GetRecords", Page::parse(Bytes::from(page)).unwrap())
    }
}

fn record(number: u64) -> String {
    format!(
        r#"{{"eventID":"{number}","eventName":"MODIFY","dynamodb":{{"Keys":{{"id":{{"N":"{number}"}}}},"SequenceNumber":"{number:021}"}}}}"#
    )
}

impl Sink for World {
    fn post(&self, _message: Message, _timeout: Duration) -> BoxFuture<'_, Answer> {
        let status = match self.status.load(Ordering::Relaxed) {
            0 => StatusCode::OK,
            status => StatusCode::from_u16(status).unwrap(),
        };
        Box::pin(ready(match status.is_success() {
            true => Answer::Accepted { status, body: Bytes::new(), complete: true },
            false => Answer::Refused { status, retry_after: None, body_start: Bytes::new() },
        }))
    }
}

impl CheckpointStore for World {
    fn load<'a>(&'a self, _table: &'a str) -> BoxFuture<'a, Result<Option<TableState>, StoreError>> {
        Box::pin(ready(Ok(None)))
    }

    fn save<'a>(&'a self, _table: &'a str, _state: TableState) -> BoxFuture<'a, Result<(), StoreError>> {
        let fails = self.store_fails.load(Ordering::Relaxed);
        Box::pin(ready(if fails { Err(StoreError("no space left".to_owned())) } else { Ok(()) }))
    }
}

impl World {
    /// A table of this world, not running yet.
    pub(super) fn table(self: &Arc<Self>, health: &Health) -> Table {
        let telemetry = TableTelemetry::new("Orders", &Metrics::new("t", "t").unwrap());
        let health = health.table("Orders");
        let rate = Arc::new(RateLimiter::describe_stream());
        let shared = Shared { describe_rate: rate, store: self.clone(), budget: BUFFER };
        let target = TableTarget { table: "Orders".to_owned(), stream: None };
        let (key, stored) = ("Orders".to_owned(), TableState::default());
        Table::assemble(Parts { client: self.clone(), target, key, stored, telemetry, health }, &source(), &shared)
    }

    /// The dispatcher to its sink.
    pub(super) fn dispatcher(self: &Arc<Self>) -> Dispatcher {
        Dispatcher::new(Sinks { sink: self.clone(), dead_letters: None }, settings())
    }
}

pub(super) fn source() -> config::Source {
    config::Source {
        tables: Vec::new(),
        start: StartPosition::TrimHorizon,
        checkpoint: config::CheckpointStore::Memory,
        consumer_group: "default".to_owned(),
        pace: config::Pace { poll_interval: Duration::from_millis(250), idle_poll_interval_max: IDLE_MAX },
        on_data_loss: OnDataLoss::Continue,
    }
}

pub(super) fn settings() -> Settings {
    let backoff = Backoff::new(Duration::from_millis(100), LONGEST_PAUSE).unwrap();
    Settings {
        limits: Limits::singly(8),
        mode: EventMode::Binary,
        timeout: Duration::from_secs(30),
        policy: Policy { backoff, limits: RetryLimits::default(), on_undeliverable: OnUndeliverable::Block },
        destination: http::Uri::from_static("http://sink.example/"),
    }
}

pub(super) fn event() -> config::Event {
    config::Event {
        profile: EventProfile::Aws,
        data: EventData::DynamodbJson,
        mode: EventMode::Binary,
        overrides: Default::default(),
    }
}

/// All tasks of a process with one table.
async fn tasks() -> (Tasks, Arc<World>, mpsc::WeakSender<Update>, Arc<Health>) {
    let (world, health) = (Arc::new(World::default()), Arc::new(Health::default()));
    let table = world.table(&health);
    let updates = table.follower.reading.updates.downgrade();
    let admin = Arc::new(Admin {
        health: health.clone(),
        metrics: Metrics::new("t", "t").unwrap(),
        refresh: Box::new(|| {}),
        status: Box::new(|| serde_json::Value::Null),
    });
    let ports = Ports { all: TcpListener::bind("127.0.0.1:0").await.unwrap(), metrics: None };
    let tasks = Tasks::start(vec![table], world.dispatcher(), admin, ports, DeliveryOrder::Item, &event());
    (tasks, world, updates, health)
}

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn every_task_that_ends_unasked_is_a_fault_and_the_rest_still_ends_in_order() {
    for task in ["dispatcher", "keeper of positions", "server of probes"] {
        let (mut tasks, ..) = tasks().await;
        assert!(tasks.fault().now_or_never().is_none(), "nothing has ended yet");
        tasks.stop_early(task);
        let fault = timeout(SOON, tasks.fault()).await.unwrap_or_else(|_| panic!("{task} has ended unnoticed"));
        assert_eq!(fault.to_string(), format!("the task {task} has ended unexpectedly"));
        timeout(SOON, tasks.stop(Duration::from_secs(1))).await.expect("the rest does not end").unwrap();
    }
}

#[tokio::test]
async fn a_dispatcher_that_fails_while_it_stops_is_a_fault() {
    let (mut tasks, ..) = tasks().await;
    tasks.fail_while_stopping();
    let stopped = timeout(SOON, tasks.stop(Duration::from_secs(1))).await.expect("the rest does not end");
    assert!(matches!(stopped, Err(Fault::Dispatcher(_))), "{stopped:?}");
}

#[tokio::test]
async fn a_table_that_stops_over_broken_books_ends_no_other() {
    let (mut tasks, _world, updates, health) = tasks().await;
    updates.upgrade().unwrap().send(Update::ShardEnded { shard: 77 }).await.unwrap();
    while health.not_ready(tokio::time::Instant::now()).is_none_or(|why| !why.contains("shard number 77")) {
        goes_on(&mut tasks, Duration::from_millis(10)).await;
    }
    goes_on(&mut tasks, Duration::from_millis(500)).await;
    tasks.stop(Duration::from_secs(1)).await.unwrap();
}

async fn goes_on(tasks: &mut Tasks, time: Duration) {
    if let Ok(fault) = timeout(time, tasks.fault()).await {
        panic!("the process ends over one table: {fault}");
    }
}
