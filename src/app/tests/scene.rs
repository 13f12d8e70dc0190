//! All parts of one table against scripted streams, a sink and a store in memory, each of which can be put to sleep.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::task::JoinSet;

use super::*;
use crate::app::stalls::{self, Watched};
use crate::pipeline::Pipeline;

pub(super) const OLD: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-01-01T00:00:00.000";
pub(super) const NEW: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-02-02T00:00:00.000";

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
pub(super) struct Shard {
    pub(super) parent: Option<String>,
    pub(super) records: Vec<u64>,
    pub(super) closed: bool,
}

/// A stream.
#[derive(Default)]
pub(super) struct Stream {
    pub(super) disabled: bool,
    pub(super) shards: BTreeMap<String, Shard>,
}

/// What AWS, the sink and the store do.
#[derive(Default)]
pub(super) struct Script {
    pub(super) streams: BTreeMap<&'static str, Stream>,
    pub(super) latest: Option<&'static str>,
    /// Records below this number are gone.
    pub(super) trimmed: u64,
    /// Operations that are denied, that answer `ResourceNotFoundException` so many times, and that never answer.
    pub(super) denied: BTreeSet<&'static str>,
    pub(super) not_found: BTreeMap<&'static str, u32>,
    pub(super) silent: BTreeSet<&'static str>,
    /// What the sink answers (0: 200), and after how long; none: never.
    pub(super) status: u16,
    pub(super) sink_never_answers: bool,
    pub(super) sink_takes: Duration,
    /// Shards on a page of a listing (0: all), and the chance that a listing leaves a shard out.
    pub(super) page: usize,
    pub(super) leaves_out: f64,
    pub(super) store_fails: bool,
    pub(super) store_takes: Duration,
    pub(super) delivered: Vec<String>,
    pub(super) saved: Vec<TableState>,
}

#[derive(Default)]
pub(super) struct Land(pub(super) Mutex<Script>);

impl Land {
    pub(super) fn script<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a shard to a stream, which becomes the table's newest.
    pub(super) fn shard(&self, stream: &'static str, id: &str, parent: Option<&str>, records: &[u64], closed: bool) {
        self.script(|script| {
            let shard = Shard { parent: parent.map(str::to_owned), records: records.to_vec(), closed };
            script.streams.entry(stream).or_default().shards.insert(id.to_owned(), shard);
            script.latest = Some(stream);
        });
    }

    pub(super) fn write(&self, stream: &'static str, id: &str, number: u64) {
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

impl StreamsClient for Land {
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
            let listed = |(id, shard): (&String, &Shard)| ListedShard { id: id.clone(), parent: shard.parent.clone() };
            let mut asked = found
                .shards
                .iter()
                .filter(|(id, shard)| {
                    behind.as_ref().is_none_or(|behind| *id > behind) && (parent.is_none() || shard.parent == parent)
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
            let found = script.streams.get(stream).and_then(|stream| stream.shards.get(shard));
            let records = &found.ok_or(ErrorKind::NotFound)?.records;
            let next = match from {
                IteratorStart::Oldest => 0,
                IteratorStart::Latest => records.len(),
                IteratorStart::After(number) => {
                    let number: u64 = number.to_string().parse().unwrap();
                    if number + 1 < trimmed {
                        return Err(ErrorKind::Trimmed);
                    }
                    records.iter().take_while(|record| **record <= number).count()
                }
            };
            Ok(format!("{stream}|{shard}|{next}"))
        })
    }

    fn get_records<'a>(&'a self, iterator: &'a str) -> Call<'a, Page> {
        self.answer("GetRecords", move |script| {
            let parts: Vec<&str> = iterator.split('|').collect();
            let found = script.streams.get(parts[0]).and_then(|stream| stream.shards.get(parts[1]));
            let shard = found.ok_or(ErrorKind::NotFound)?;
            let texts: Vec<String> =
                shard.records.iter().skip(parts[2].parse().unwrap()).map(|number| record(*number)).collect();
            let next = match shard.closed {
                true => String::new(),
                false => format!(r#","NextShardIterator":"{}|{}|{}""#, parts[0], parts[1], shard.records.len()),
            };
            Ok(Page::parse(Bytes::from(format!(r#"{{"Records":[{}]{next}}}"#, texts.join(",")))).unwrap())
        })
    }
}

impl Sink for Land {
    fn post(&self, message: Message, _timeout: Duration) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            if self.script(|script| script.sink_never_answers) {
                std::future::pending::<()>().await;
            }
            let takes = self.script(|script| script.sink_takes);
            tokio::time::sleep(takes).await;
            self.script(|script| {
                if script.status != 0 {
                    let status = StatusCode::from_u16(script.status).unwrap();
                    return Answer::Refused { status, retry_after: None, body_start: Bytes::new() };
                }
                let id = message.headers.get("ce-id").map(|id| id.to_str().unwrap().to_owned());
                script.delivered.push(id.unwrap_or_default());
                Answer::Accepted { status: StatusCode::OK, body: Bytes::new(), complete: true }
            })
        })
    }
}

impl CheckpointStore for Land {
    fn load<'a>(&'a self, _table: &'a str) -> BoxFuture<'a, Result<Option<TableState>, StoreError>> {
        Box::pin(ready(Ok(None)))
    }

    fn save<'a>(&'a self, _table: &'a str, state: TableState) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let takes = self.script(|script| script.store_takes);
            tokio::time::sleep(takes).await;
            self.script(|script| match script.store_fails {
                true => Err(StoreError("no space left".to_owned())),
                false => {
                    script.saved.push(state);
                    Ok(())
                }
            })
        })
    }
}

/// How the parts are set up.
pub(super) struct Plan {
    pub(super) order: DeliveryOrder,
    pub(super) start: StartPosition,
    pub(super) on_data_loss: OnDataLoss,
    pub(super) stored: TableState,
    pub(super) settings: Settings,
    pub(super) idle_max: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            order: DeliveryOrder::Item,
            start: StartPosition::TrimHorizon,
            on_data_loss: OnDataLoss::Continue,
            stored: TableState::default(),
            settings: settings(),
            idle_max: IDLE_MAX,
        }
    }
}

/// The parts, running.
pub(super) struct Scene {
    pub(super) land: Arc<Land>,
    pub(super) health: Arc<Health>,
    pub(super) books: Arc<Books>,
    pub(super) reading: Arc<AtomicBool>,
    pub(super) pipeline: Arc<AtomicBool>,
    pub(super) dispatcher: Arc<AtomicBool>,
    pub(super) keeper: Arc<AtomicBool>,
    wakers: Arc<Mutex<Vec<Waker>>>,
    tasks: JoinSet<()>,
}

impl Scene {
    pub(super) fn new(land: Arc<Land>, plan: Plan) -> Self {
        let health = Arc::new(Health::default());
        let telemetry = TableTelemetry::new("Orders", &Metrics::new("t", "t").unwrap());
        let rate = Arc::new(RateLimiter::describe_stream());
        let shared = Shared { describe_rate: rate, store: land.clone(), budget: BUFFER };
        let target = TableTarget { table: "Orders".to_owned(), stream: None };
        let (key, stored, health_of_table) = ("Orders".to_owned(), plan.stored, health.table("Orders"));
        let parts = Parts { client: land.clone(), target, key, stored, telemetry, health: health_of_table };
        let pace = config::Pace { poll_interval: Duration::from_millis(250), idle_poll_interval_max: plan.idle_max };
        let source = config::Source { start: plan.start, on_data_loss: plan.on_data_loss, pace, ..source() };
        let tables = [Table::assemble(parts, &source, &shared)];
        let dispatcher = Dispatcher::new(Sinks { sink: land.clone(), dead_letters: Some(land.clone()) }, plan.settings);
        let (sender, parcels) = mpsc::channel(64);
        let watched = Watched::new(&tables, dispatcher.activity(), sender.downgrade());
        let [Table { books, follower, updates, keeper }] = tables;
        let mut scene = Self {
            land,
            health: health.clone(),
            books: books.clone(),
            reading: Arc::default(),
            pipeline: Arc::default(),
            dispatcher: Arc::default(),
            keeper: Arc::default(),
            wakers: Arc::default(),
            tasks: JoinSet::new(),
        };
        scene.tasks.spawn(stalls::watch(watched, health));
        scene.run(scene.reading.clone(), follower.run());
        scene.run(scene.pipeline.clone(), Pipeline::new(books, plan.order, event(), sender).run(updates));
        scene.run(scene.dispatcher.clone(), dispatcher.run(parcels, CancellationToken::new()));
        scene.run(scene.keeper.clone(), keeper.run(CancellationToken::new()));
        scene
    }

    fn run<F: Future + Send + 'static>(&mut self, asleep: Arc<AtomicBool>, part: F) {
        let part = Sleeper { part: Box::pin(part), asleep, wakers: self.wakers.clone() };
        self.tasks.spawn(async move {
            part.await;
        });
    }

    /// Ends a part's sleep; it misses nothing of what happened meanwhile.
    pub(super) fn awake(&self, part: &AtomicBool) {
        part.store(false, Ordering::Relaxed);
        self.wakers.lock().unwrap().drain(..).for_each(Waker::wake);
    }

    pub(super) fn delivered(&self) -> Vec<String> {
        self.land.script(|script| script.delivered.clone())
    }

    pub(super) fn last_saved(&self) -> TableState {
        self.land.script(|script| script.saved.last().cloned()).unwrap_or_default()
    }

    /// Waits so long; what the probe said first that was not "ok".
    pub(super) async fn alarm_within(&self, time: Duration) -> Option<String> {
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
