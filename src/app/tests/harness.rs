//! All parts of one table against a scripted AWS, a sink and a store in memory, in virtual time. Each part can be put to
//! sleep: its wake-ups are lost meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::StatusCode;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::stalls::{self, Watched};
use crate::app::table::{OpenTable, Parts, PositionStore, Shared, Table};
use crate::aws::errors::{CallError, ErrorKind};
use crate::backoff::Backoff;
use crate::checkpoint::{CheckpointStore, SaveError, StoreError, StoredChanges, StoredTable};
use crate::config::{self, DeliveryOrder, EventData, EventMode, EventProfile, OnDataLoss, StartPosition};
use crate::delivery::dispatcher::{Dispatcher, MemoryLimits, Settings, Sinks};
use crate::delivery::lanes::RequestLimits;
use crate::delivery::retry::{OnUndeliverable, RetryLimits, RetryPolicy};
use crate::event::Message;
use crate::pipeline::Pipeline;
use crate::progress::TableProgress;
use crate::progress::buffer::BufferPool;
use crate::readiness::Health;
use crate::records::Page;
use crate::sink::{BodyEnd, Sink, SinkResponse};
use crate::streams::client::{
    Call, IteratorStart, ListedShard, ShardQuery, StreamDescription, StreamStatus, StreamsClient, TableDescription,
};
use crate::streams::stream_locator::TableTarget;
use crate::streams::table_reader;
use crate::telemetry::TableTelemetry;
use crate::telemetry::metrics::Metrics;

pub(in crate::app) const BUFFER: usize = 4 << 20;
pub(in crate::app) const IDLE_MAX: Duration = Duration::from_secs(5);
pub(in crate::app) const LONGEST_PAUSE: Duration = Duration::from_secs(30);
pub(in crate::app) const OLD: &str =
    "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-01-01T00:00:00.000";
pub(in crate::app) const NEW: &str =
    "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-02-02T00:00:00.000";

/// A part whose wake-ups are lost while it sleeps.
struct Sleeper<F> {
    part: Pin<Box<F>>,
    asleep: Arc<AtomicBool>,
    wakers: Arc<Mutex<Vec<Waker>>>,
}

impl<F: Future> Future for Sleeper<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.asleep.load(Ordering::Relaxed) {
            self.wakers.lock().unwrap().push(context.waker().clone());
            return Poll::Pending;
        }
        self.part.as_mut().poll(context)
    }
}

/// A shard: its parent, its records, whether it is closed.
#[derive(Default)]
pub(in crate::app) struct Shard {
    pub(in crate::app) parent: Option<String>,
    pub(in crate::app) records: Vec<u64>,
    pub(in crate::app) closed: bool,
}

/// A stream.
#[derive(Default)]
pub(in crate::app) struct Stream {
    pub(in crate::app) disabled: bool,
    pub(in crate::app) shards: BTreeMap<String, Shard>,
}

/// What AWS, the sink and the store do.
#[derive(Default)]
pub(in crate::app) struct Script {
    pub(in crate::app) streams: BTreeMap<&'static str, Stream>,
    pub(in crate::app) latest: Option<&'static str>,
    /// Records below this number are gone.
    pub(in crate::app) trimmed: u64,
    /// The items that records change, where that is not one of each record's own; and when a record was created, if it says so.
    pub(in crate::app) items: BTreeMap<u64, u64>,
    pub(in crate::app) created: BTreeMap<u64, u64>,
    /// Each so manieth iterator is refused as too old; 0: none.
    pub(in crate::app) expires_each: usize,
    /// Shards that AWS does not know any more.
    pub(in crate::app) gone: BTreeSet<&'static str>,
    /// Each page that was read: of which shard, from which of its records to which.
    pub(in crate::app) reads: Vec<(String, usize, usize)>,
    /// How many calls for records of each shard are under way, and how many there were at most of one.
    pub(in crate::app) reading: BTreeMap<String, usize>,
    pub(in crate::app) most_readers: usize,
    /// Records that nobody can decode, not even their numbers.
    pub(in crate::app) undecodable: BTreeSet<u64>,
    /// The most records on a page; 0: all.
    pub(in crate::app) records_a_page: usize,
    /// Operations that are denied, that answer `ResourceNotFoundException` so many times, and that never answer.
    pub(in crate::app) denied: BTreeSet<&'static str>,
    pub(in crate::app) not_found: BTreeMap<&'static str, u32>,
    pub(in crate::app) silent: BTreeSet<&'static str>,
    /// What the sink answers (0: 200), and after how long; none: never.
    pub(in crate::app) status: u16,
    pub(in crate::app) sink_never_answers: bool,
    pub(in crate::app) sink_takes: Duration,
    /// Events that the sink answers with 400 for their own sake.
    pub(in crate::app) refused: BTreeSet<String>,
    /// Shards on a page of a listing (0: all), and the chance that a listing leaves a shard out.
    pub(in crate::app) page: usize,
    pub(in crate::app) leaves_out: f64,
    /// Shards that no listing shows.
    pub(in crate::app) unlisted: BTreeSet<&'static str>,
    pub(in crate::app) store_fails: bool,
    pub(in crate::app) store_takes: Duration,
    pub(in crate::app) delivered: Vec<String>,
    /// What is stored, and what was after each save.
    pub(in crate::app) stored: StoredTable,
    pub(in crate::app) saved: Vec<StoredTable>,
}

#[derive(Default)]
pub(in crate::app) struct FakeServices(pub(in crate::app) Mutex<Script>);

impl FakeServices {
    pub(in crate::app) fn script<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a shard to a stream, which becomes the table's newest.
    pub(in crate::app) fn shard(
        &self,
        stream: &'static str,
        id: &str,
        parent: Option<&str>,
        records: &[u64],
        closed: bool,
    ) {
        self.script(|script| {
            let shard = Shard { parent: parent.map(str::to_owned), records: records.to_vec(), closed };
            script.streams.entry(stream).or_default().shards.insert(id.to_owned(), shard);
            script.latest = Some(stream);
        });
    }

    pub(in crate::app) fn write(&self, stream: &'static str, id: &str, number: u64) {
        self.script(|script| script.streams.get_mut(stream).unwrap().shards.get_mut(id).unwrap().records.push(number));
    }

    fn error<T>(operation: &'static str, kind: ErrorKind) -> Result<T, CallError> {
        Err(CallError { operation, kind, code: format!("{kind:?}"), message: "no".to_owned() })
    }

    fn answer<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        answer: impl FnOnce(&mut Script) -> Result<T, ErrorKind> + Send + 'a,
    ) -> Call<'a, T> {
        Box::pin(async move {
            if self.script(|script| script.silent.contains(operation)) {
                std::future::pending::<()>().await;
            }
            // Calls take time, so that others get their turn.
            tokio::time::sleep(Duration::from_millis(10)).await;
            let result = self.script(|script| {
                if script.denied.contains(operation) {
                    return Err(ErrorKind::Denied);
                }
                if let Some(left) = script.not_found.get_mut(operation).filter(|left| **left > 0) {
                    *left -= 1;
                    return Err(ErrorKind::NotFound);
                }
                answer(script)
            });
            result.or_else(|kind| Self::error(operation, kind))
        })
    }
}

impl StreamsClient for FakeServices {
    fn describe_table<'a>(&'a self, table: &'a str) -> Call<'a, TableDescription> {
        self.answer("DescribeTable", move |script| {
            Ok(TableDescription { arn: table.to_owned(), latest_stream: script.latest.map(str::to_owned) })
        })
    }

    fn list_streams<'a>(&'a self, _table: &'a str) -> Call<'a, Vec<String>> {
        self.answer("ListStreams", |script| Ok(script.streams.keys().map(|arn| (*arn).to_owned()).collect()))
    }

    fn describe_stream<'a>(&'a self, stream: &'a str, shards: ShardQuery<'a>) -> Call<'a, StreamDescription> {
        let (behind, parent) = match shards {
            ShardQuery::First => (None, None),
            ShardQuery::Behind(shard) => (Some(shard.to_owned()), None),
            ShardQuery::ChildrenOf(shard) => (None, Some(shard.to_owned())),
        };
        self.answer("DescribeStream", move |script| {
            let (page, leaves_out) = (if script.page == 0 { usize::MAX } else { script.page }, script.leaves_out);
            let found = script.streams.get(stream).ok_or(ErrorKind::NotFound)?;
            let listed = |(id, shard): (&String, &Shard)| ListedShard {
                id: id.clone(),
                parent: shard.parent.clone(),
                has_ended: false,
            };
            let mut asked = found
                .shards
                .iter()
                .filter(|(id, shard)| {
                    let is_asked = behind.as_ref().is_none_or(|behind| *id > behind);
                    is_asked && (parent.is_none() || shard.parent == parent) && !script.unlisted.contains(&***id)
                })
                .map(listed)
                .peekable();
            let shards: Vec<ListedShard> = asked.by_ref().take(page).collect();
            let next = asked.peek().and_then(|_| shards.last()).map(|last| last.id.clone());
            Ok(StreamDescription {
                table: "Orders".to_owned(),
                status: if found.disabled { StreamStatus::Disabled } else { StreamStatus::Enabled },
                view_type: None,
                key_schema: vec!["id".to_owned()],
                shards: shards.into_iter().filter(|_| fastrand::f64() >= leaves_out).collect(),
                next,
                answered_at: None,
            })
        })
    }

    fn get_shard_iterator<'a>(&'a self, stream: &'a str, shard: &'a str, from: IteratorStart) -> Call<'a, String> {
        self.answer("GetShardIterator", move |script| {
            let trimmed = script.trimmed;
            if shard == "the-whole-stream" {
                // Ids of AWS have at least 28 characters.
                return Err(ErrorKind::Other);
            }
            let found = script.streams.get(stream).and_then(|stream| stream.shards.get(shard));
            let records = &found.filter(|_| !script.gone.contains(shard)).ok_or(ErrorKind::NotFound)?.records;
            let next = match from {
                IteratorStart::Oldest => records.iter().take_while(|record| **record < trimmed).count(),
                IteratorStart::Latest => records.len(),
                IteratorStart::At(number) => {
                    let number: u64 = number.to_string().parse().unwrap();
                    if number + 1 < trimmed {
                        return Err(ErrorKind::Trimmed);
                    }
                    records.iter().take_while(|record| **record < number).count()
                }
            };
            Ok(format!("{stream}|{shard}|{next}"))
        })
    }

    fn get_records<'a>(&'a self, iterator: &'a str, _limit: u32) -> Call<'a, Page> {
        let shard = iterator.split('|').nth(1).unwrap_or_default().to_owned();
        let answer = self.answer("GetRecords", move |script| {
            let is_too_old = script.reads.len().checked_rem(script.expires_each) == Some(1);
            script.reads.push((String::new(), 0, 0));
            if is_too_old {
                return Err(ErrorKind::ExpiredIterator);
            }
            let parts: Vec<&str> = iterator.split('|').collect();
            let found = script.streams.get(parts[0]).and_then(|stream| stream.shards.get(parts[1]));
            let shard = found.filter(|_| !script.gone.contains(parts[1])).ok_or(ErrorKind::NotFound)?;
            let most = shard.records.len();
            let begin = parts[2].parse::<usize>().unwrap().min(most);
            let end = if script.records_a_page == 0 { most } else { most.min(begin + script.records_a_page) };
            let text = |number: &u64| match script.undecodable.contains(number) {
                true => "{}".to_owned(),
                false => record(*number, script.items.get(number), script.created.get(number)),
            };
            let texts: Vec<String> = shard.records[begin..end].iter().map(text).collect();
            let next = match shard.closed && end == most {
                true => String::new(),
                false => format!(r#","NextShardIterator":"{}|{}|{}""#, parts[0], parts[1], end),
            };
            script.reads.pop();
            script.reads.push((parts[1].to_owned(), begin, end));
            Ok(Page::parse(Bytes::from(format!(r#"{{"Records":[{}]{next}}}"#, texts.join(",")))).unwrap())
        });
        Box::pin(async move {
            self.script(|script| {
                let readers = script.reading.entry(shard.clone()).or_default();
                *readers += 1;
                script.most_readers = script.most_readers.max(*readers);
            });
            let answer = answer.await;
            self.script(|script| *script.reading.entry(shard).or_default() -= 1);
            answer
        })
    }
}

impl Sink for FakeServices {
    fn post(&self, message: Message, _timeout: Duration) -> BoxFuture<'_, SinkResponse> {
        Box::pin(async move {
            if self.script(|script| script.sink_never_answers) {
                std::future::pending::<()>().await;
            }
            let takes = self.script(|script| script.sink_takes);
            tokio::time::sleep(takes).await;
            self.script(|script| {
                if script.status != 0 {
                    let status = StatusCode::from_u16(script.status).unwrap();
                    return SinkResponse::Refused { status, retry_after: None, body_start: Bytes::new() };
                }
                let id = message.headers.get("ce-id").map(|id| id.to_str().unwrap().to_owned());
                if id.as_ref().is_some_and(|id| script.refused.contains(id)) {
                    let status = StatusCode::BAD_REQUEST;
                    return SinkResponse::Refused { status, retry_after: None, body_start: Bytes::new() };
                }
                script.delivered.push(id.unwrap_or_default());
                SinkResponse::Accepted { status: StatusCode::OK, body: Bytes::new(), end: BodyEnd::Whole }
            })
        })
    }
}

impl CheckpointStore for FakeServices {
    fn load<'a>(&'a self, _table: &'a str) -> BoxFuture<'a, Result<Option<StoredTable>, StoreError>> {
        Box::pin(ready(Ok(Some(self.script(|script| script.stored.clone())))))
    }

    fn save<'a>(&'a self, _table: &'a str, changes: StoredChanges) -> BoxFuture<'a, Result<(), SaveError>> {
        Box::pin(async move {
            let takes = self.script(|script| script.store_takes);
            tokio::time::sleep(takes).await;
            self.script(|script| match script.store_fails {
                true => Err(SaveError::NotStored(StoreError("no space left".to_owned()))),
                false => {
                    script.stored.apply(&changes);
                    script.saved.push(script.stored.clone());
                    Ok(())
                }
            })
        })
    }
}

/// How the parts are set up.
pub(in crate::app) struct Setup {
    pub(in crate::app) order: DeliveryOrder,
    pub(in crate::app) start: StartPosition,
    pub(in crate::app) on_data_loss: OnDataLoss,
    pub(in crate::app) stored: StoredTable,
    pub(in crate::app) settings: Settings,
    pub(in crate::app) idle_max: Duration,
    pub(in crate::app) buffer: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            order: DeliveryOrder::Item,
            start: StartPosition::TrimHorizon,
            on_data_loss: OnDataLoss::Continue,
            stored: StoredTable::default(),
            settings: settings(),
            idle_max: IDLE_MAX,
            buffer: BUFFER,
        }
    }
}

impl FakeServices {
    /// Services with one stream that has these shards, open and empty.
    pub(in crate::app) fn with_shards(shards: &[&str]) -> Arc<Self> {
        let services = Arc::new(Self::default());
        shards.iter().for_each(|shard| services.shard(NEW, shard, None, &[], false));
        services
    }

    /// A table of theirs, not running yet.
    pub(in crate::app) fn table(self: &Arc<Self>, setup: Setup, health: &Health) -> Table {
        let shared = Shared::new(PositionStore::Own(self.clone()), BufferPool::new(setup.buffer, 1), setup.order);
        self.script(|script| script.stored.clone_from(&setup.stored));
        self.table_of("Orders", &shared, &setup, health)
    }

    /// The same of this name, with others of its process.
    pub(in crate::app) fn table_of(
        self: &Arc<Self>,
        name: &str,
        shared: &Shared,
        setup: &Setup,
        health: &Health,
    ) -> Table {
        let (telemetry, health) = (TableTelemetry::new(name, &Metrics::new("t", "t").unwrap()), health.table(name));
        let target = TableTarget { table: name.to_owned(), stream: None };
        let poll_intervals =
            config::PollIntervals { poll_interval: Duration::from_millis(250), idle_poll_interval_max: setup.idle_max };
        let source = config::Source {
            tables: Vec::new(),
            start: setup.start,
            checkpoint: config::CheckpointLocation::Memory,
            consumer_group: "default".to_owned(),
            poll_intervals,
            on_data_loss: setup.on_data_loss,
        };
        Table::assemble(Parts { client: self.clone(), target, telemetry, health }, &source, shared)
    }

    /// The dispatcher to their sink.
    pub(in crate::app) fn dispatcher(self: &Arc<Self>, settings: Settings) -> Dispatcher {
        Dispatcher::new(Sinks { sink: self.clone(), dead_letters: Some(self.clone()) }, settings)
    }
}

/// The parts, running.
pub(in crate::app) struct RunningTable {
    pub(in crate::app) services: Arc<FakeServices>,
    pub(in crate::app) health: Arc<Health>,
    pub(in crate::app) progress: Arc<TableProgress>,
    pub(in crate::app) reading: Arc<AtomicBool>,
    pub(in crate::app) pipeline: Arc<AtomicBool>,
    pub(in crate::app) dispatcher: Arc<AtomicBool>,
    pub(in crate::app) checkpointer: Arc<AtomicBool>,
    wakers: Arc<Mutex<Vec<Waker>>>,
    tasks: JoinSet<()>,
}

impl RunningTable {
    pub(in crate::app) fn new(services: Arc<FakeServices>, setup: Setup) -> Self {
        let health = Arc::new(Health::default());
        let dispatcher = services.dispatcher(setup.settings.clone());
        let (sender, parcels) = mpsc::channel(64);
        let tables = [services.table(setup, &health)];
        let watched = Watched::new(&tables, dispatcher.activity(), sender.downgrade());
        let [table] = tables;
        let (progress, pipeline) = (table.progress.clone(), table.pipeline.clone());
        let mut running = Self {
            services,
            health: health.clone(),
            progress: progress.clone(),
            reading: Arc::default(),
            pipeline: Arc::default(),
            dispatcher: Arc::default(),
            checkpointer: Arc::default(),
            wakers: Arc::default(),
            tasks: JoinSet::new(),
        };
        running.tasks.spawn(stalls::watch(watched, health));
        let OpenTable { reader, pages, checkpointer } = table.open("Orders", running.services.clone(), false);
        let (loaded, store) = (progress.clone(), running.services.clone());
        running.run(running.reading.clone(), async move {
            let key = table.find_key().await.expect("no other table is called so");
            loaded.load(&*store, &key).await;
            if table_reader::may_read(&loaded, table.on_data_loss) {
                let _ = reader.run().await;
            }
        });
        let pipeline = Pipeline::new(progress, event(), sender, pipeline);
        running.run(running.pipeline.clone(), pipeline.run(pages));
        running.run(running.dispatcher.clone(), dispatcher.run(parcels, CancellationToken::new()));
        running.run(running.checkpointer.clone(), checkpointer.run(CancellationToken::new()));
        running
    }

    fn run<F: Future + Send + 'static>(&mut self, asleep: Arc<AtomicBool>, part: F) {
        let part = Sleeper { part: Box::pin(part), asleep, wakers: self.wakers.clone() };
        self.tasks.spawn(async move {
            part.await;
        });
    }

    /// Ends a part's sleep; it misses nothing of what happened meanwhile.
    pub(in crate::app) fn awake(&self, part: &AtomicBool) {
        part.store(false, Ordering::Relaxed);
        self.wakers.lock().unwrap().drain(..).for_each(Waker::wake);
    }

    /// The ids of the events that the sink took, in order; that of a change is its number.
    pub(in crate::app) fn delivered(&self) -> Vec<String> {
        self.services.script(|script| script.delivered.clone())
    }

    pub(in crate::app) fn last_saved(&self) -> StoredTable {
        self.services.script(|script| script.saved.last().cloned()).unwrap_or_default()
    }

    /// Waits so long; what the probe said first that was not "ok".
    pub(in crate::app) async fn alarm_within(&self, time: Duration) -> Option<String> {
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < time {
            tokio::time::sleep(Duration::from_secs(5)).await;
            if let Some(why) = self.health.not_live() {
                return Some(why);
            }
        }
        None
    }
}

fn record(number: u64, item: Option<&u64>, created: Option<&u64>) -> String {
    let item = item.unwrap_or(&number);
    let created = created.map(|created| format!(r#""ApproximateCreationDateTime":{created},"#)).unwrap_or_default();
    format!(
        r#"{{"eventID":"{number}","eventName":"MODIFY","dynamodb":{{{created}"Keys":{{"id":{{"N":"{item}"}}}},"SequenceNumber":"{number:021}"}}}}"#
    )
}

pub(in crate::app) fn settings() -> Settings {
    let backoff = Backoff::new(Duration::from_millis(100), LONGEST_PAUSE).unwrap();
    Settings {
        limits: RequestLimits::singly(8),
        rate_max: None,
        memory: MemoryLimits::of(1 << 30, 16 << 20, false),
        mode: EventMode::Binary,
        timeout: Duration::from_secs(30),
        policy: RetryPolicy { backoff, limits: RetryLimits::default(), on_undeliverable: OnUndeliverable::Block },
        destination: http::Uri::from_static("http://sink.example/"),
    }
}

pub(in crate::app) fn event() -> config::Event {
    config::Event {
        profile: EventProfile::Aws,
        data: EventData::DynamodbJson,
        mode: EventMode::Binary,
        overrides: Default::default(),
    }
}
