//! The product's own delivery room in the place of the closed loop: the same backlog and the same models, on the paused clock of
//! a runtime.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dynamodb_streams_adapter::backoff::Backoff;
use dynamodb_streams_adapter::config::{EventData, EventMode, EventProfile};
use dynamodb_streams_adapter::delivery::dispatcher::{Dispatcher, MemoryLimits, Settings, Sinks};
use dynamodb_streams_adapter::delivery::handover::Handover;
use dynamodb_streams_adapter::delivery::lanes::{BarrierRole, RequestLimits};
use dynamodb_streams_adapter::delivery::pending_event::PendingEvent;
use dynamodb_streams_adapter::delivery::retry::{OnUndeliverable, RetryLimits, RetryPolicy};
use dynamodb_streams_adapter::event::{Encoder, EncoderSettings, Message, Packaging};
use dynamodb_streams_adapter::progress::{AckToken, Acknowledger};
use dynamodb_streams_adapter::readiness::{Health, TableHealth};
use dynamodb_streams_adapter::records::{Entry, Page};
use dynamodb_streams_adapter::sink::{BodyEnd, RetryAfter, Sink, SinkResponse};
use dynamodb_streams_adapter::telemetry::TableTelemetry;
use dynamodb_streams_adapter::telemetry::metrics::Metrics;
use fastrand::Rng;
use futures_util::future::BoxFuture;
use http::{StatusCode, Uri};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::closed_loop::{Delivery, Plan, Start, Story};
use super::governors::CONCURRENCY;
use super::models::{Answer, Arrival, Model, millis, seconds};

/// Delivers for as long as the plan says.
pub fn run(plan: &Plan, model: Box<dyn Model>) -> Story {
    fastrand::seed(plan.seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(deliver(plan, model))
}

async fn deliver(plan: &Plan, model: Box<dyn Model>) -> Story {
    let sink = Arc::new(ModelSink::new(model, plan.seed));
    let (settled, mut news) = mpsc::unbounded_channel();
    let backlog = Backlog::new(plan.batch, settled);
    let (pages, intake) = mpsc::channel(1_000);
    let dispatcher = Dispatcher::new(Sinks { sink: sink.clone(), dead_letters: None }, settings(plan.batch));
    let stop = CancellationToken::new();
    let running = tokio::spawn(dispatcher.run(intake, stop.clone()));
    let mut versions = vec![0; plan.items];
    let everything = (0..plan.items as u64).map(|item| backlog.event(item, 0)).collect();
    pages.send(Handover::Events(everything)).await.unwrap();
    let end = Instant::now() + plan.length;
    while let Ok(Some(item)) = tokio::time::timeout_at(end, news.recv()).await {
        versions[item as usize] += 1;
        pages.send(Handover::Events(vec![backlog.event(item, versions[item as usize])])).await.unwrap();
    }
    stop.cancel();
    running.await.unwrap().unwrap();
    std::mem::take(&mut sink.lock().story)
}

fn settings(batch: usize) -> Settings {
    let limits = match batch {
        1 => RequestLimits::singly(CONCURRENCY),
        events => RequestLimits { concurrency: CONCURRENCY, events, bytes: usize::MAX, wait: millis(50) },
    };
    Settings {
        limits,
        rate_max: None,
        memory: MemoryLimits::of(1 << 40, 16 << 20, false),
        mode: mode(batch),
        timeout: seconds(30),
        policy: RetryPolicy {
            backoff: Backoff::new(millis(100), seconds(30)).unwrap(),
            limits: RetryLimits::default(),
            on_undeliverable: OnUndeliverable::Block,
        },
        destination: Uri::from_static("http://sink.example/"),
    }
}

fn mode(batch: usize) -> EventMode {
    if batch > 1 { EventMode::Batch } else { EventMode::Binary }
}

/// Makes events, and hears of what was settled.
struct Backlog {
    encoder: Arc<Encoder>,
    books: Arc<Books>,
}

impl Backlog {
    fn new(batch: usize, settled: mpsc::UnboundedSender<u64>) -> Self {
        let encoder = Encoder::new(EncoderSettings {
            profile: EventProfile::Aws,
            data: EventData::DynamodbJson,
            packaging: Packaging::new(mode(batch), &BTreeMap::new()),
            table_arn: "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders".to_owned(),
            stream_arn: "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026".to_owned(),
            key_schema: vec!["id".to_owned()],
            sequence_width: 40,
        });
        let telemetry = TableTelemetry::new("Orders", &Metrics::new("t", "t").unwrap());
        let books = Books { telemetry, health: Health::default().table("Orders"), settled };
        Self { encoder: Arc::new(encoder), books: Arc::new(books) }
    }

    /// A change of an item; what it costs tells which one.
    fn event(&self, item: u64, version: u64) -> Box<PendingEvent> {
        let record = format!(
            r#"{{"Records":[{{"eventID":"{item}-{version}","eventName":"MODIFY","dynamodb":{{"Keys":{{"id":{{"N":"{item}"}}}},"SequenceNumber":"{version:021}"}}}}]}}"#
        );
        let record = Page::parse(Bytes::from(record)).unwrap().records.remove(0).unwrap();
        Box::new(PendingEvent {
            lane: item,
            barrier_role: BarrierRole::None,
            content: Entry::Record(record),
            recorded: SystemTime::UNIX_EPOCH,
            encoder: self.encoder.clone(),
            token: None,
            cost: item as usize,
            acknowledger: self.books.clone(),
            dead_letter: None,
            is_detached: false,
        })
    }
}

struct Books {
    telemetry: Arc<TableTelemetry>,
    health: Arc<TableHealth>,
    settled: mpsc::UnboundedSender<u64>,
}

impl Acknowledger for Books {
    fn acknowledge(&self, _: Option<AckToken>, cost: usize) {
        // Nobody listens when the run is over.
        let _ = self.settled.send(cost as u64);
    }

    fn release(&self, _: usize) {}

    fn telemetry(&self) -> &TableTelemetry {
        &self.telemetry
    }

    fn health(&self) -> &TableHealth {
        &self.health
    }
}

/// A model as the sink of a dispatcher, and all that it has seen.
struct ModelSink {
    began: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    model: Box<dyn Model>,
    chance: Rng,
    story: Story,
    /// Of each event that was tried: how often, and since when.
    tried: BTreeMap<(u64, u64), (u32, Duration)>,
    /// The change of each item that comes next.
    next: BTreeMap<u64, u64>,
}

impl ModelSink {
    fn new(model: Box<dyn Model>, seed: u64) -> Self {
        let (chance, story) = (Rng::with_seed(seed), Story::default());
        let inner = Inner { model, chance, story, tried: BTreeMap::new(), next: BTreeMap::new() };
        Self { began: Instant::now(), inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn arrive(&mut self, events: &[(u64, u64)], now: Duration) -> (Duration, Answer) {
        for event in events {
            let expected = self.next.get(&event.0).copied().unwrap_or_default();
            assert_eq!(event.1, expected, "item {} is not in order", event.0);
            self.tried.entry(*event).or_insert((0, now)).0 += 1;
        }
        let arrival = Arrival { item: events[0].0, events: events.len() };
        let (after, answer) = self.model.arrive(arrival, now, &mut self.chance);
        self.story.starts.push(Start { at: now, is_down: false, answered: now + after, answer, item: arrival.item });
        (after, answer)
    }

    fn accepted(&mut self, events: &[(u64, u64)], start: Duration, now: Duration) {
        for event in events {
            let (attempts, first) = self.tried.remove(event).unwrap();
            self.next.insert(event.0, event.1 + 1);
            let delivery = Delivery { at: now, attempts, took: now - start, delayed: start - first };
            self.story.deliveries.push(delivery);
        }
    }
}

impl Sink for ModelSink {
    fn post(&self, message: Message, _: Duration) -> BoxFuture<'_, SinkResponse> {
        Box::pin(async move {
            let (events, start) = (events_of(&message), self.began.elapsed());
            let (after, answer) = self.lock().arrive(&events, start);
            sleep(after).await;
            match answer {
                Answer::Accepted => {
                    self.lock().accepted(&events, start, self.began.elapsed());
                    SinkResponse::Accepted { status: StatusCode::OK, body: Bytes::new(), end: BodyEnd::Whole }
                }
                Answer::Congested(retry_after) => SinkResponse::Refused {
                    status: StatusCode::TOO_MANY_REQUESTS,
                    retry_after: retry_after.map(RetryAfter::Delay),
                    body_start: Bytes::new(),
                },
            }
        })
    }
}

/// Item and version of each event of a message.
fn events_of(message: &Message) -> Vec<(u64, u64)> {
    let parse = |id: &str| {
        let (item, version) = id.split_once('-').unwrap();
        (item.parse().unwrap(), version.parse().unwrap())
    };
    match message.headers.get("ce-id") {
        Some(id) => vec![parse(id.to_str().unwrap())],
        None => {
            let body: Vec<serde_json::Value> = serde_json::from_slice(&message.body).unwrap();
            body.iter().map(|event| parse(event["id"].as_str().unwrap())).collect()
        }
    }
}
