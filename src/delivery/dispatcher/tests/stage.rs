//! A dispatcher, its sinks and its books, as tests need them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::StatusCode;
use tokio::task::JoinHandle;

use super::*;
use crate::backoff::Backoff;
use crate::config::{EventData, EventProfile};
use crate::delivery::lanes::BarrierRole;

use crate::delivery::retry::{OnUndeliverable, RetryLimits};
use crate::event::{Encoder, EncoderSettings, Packaging};
use crate::progress::{AckToken, Acknowledger};
use crate::readiness::{Health, TableHealth};
use crate::records::Entry;
use crate::records::Page;
use crate::sink::{BodyEnd, RetryAfter, SinkResponse, TransportError};
use crate::telemetry::TableTelemetry;
use crate::telemetry::metrics::Metrics;

/// An item and which of its changes.
pub(super) type Change = (u64, u64);

/// What a sink does with a request.
#[derive(Debug, Clone)]
pub(super) struct Reaction {
    pub(super) after: Duration,
    pub(super) answer: SinkResponse,
}

impl Reaction {
    pub(super) fn status(status: u16) -> Self {
        Self::body(status, "")
    }

    pub(super) fn body(status: u16, body: &str) -> Self {
        let (status, body) = (StatusCode::from_u16(status).unwrap(), Bytes::copy_from_slice(body.as_bytes()));
        let answer = match status.is_success() {
            true => SinkResponse::Accepted { status, body, end: BodyEnd::Whole },
            false => SinkResponse::Refused { status, retry_after: None, body_start: body },
        };
        Self { after: Duration::from_millis(1), answer }
    }

    /// A refusal that asks for a pause.
    pub(super) fn pause(status: u16, pause: RetryAfter) -> Self {
        let (status, body_start) = (StatusCode::from_u16(status).unwrap(), Bytes::new());
        Self { after: Duration::ZERO, answer: SinkResponse::Refused { status, retry_after: Some(pause), body_start } }
    }

    /// A success that names these events as failed.
    pub(super) fn naming(ids: &[String]) -> Self {
        let named: Vec<String> = ids.iter().map(|id| format!(r#"{{"itemIdentifier":"{id}"}}"#)).collect();
        Self::body(200, &format!(r#"{{"batchItemFailures":[{}]}}"#, named.join(",")))
    }

    /// No answer, after so long.
    pub(super) fn fault(fault: TransportError, after: Duration) -> Self {
        Self { after, answer: SinkResponse::Failed { error: fault, message: fault.as_str().to_owned() } }
    }
}

/// A request that a sink got.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) at: Instant,
    pub(super) ids: Vec<String>,
    /// Of its body.
    pub(super) bytes: usize,
    /// In which it was posted.
    pub(super) task: Option<tokio::task::Id>,
}

type Script = Box<dyn FnMut(&[String]) -> Reaction + Send>;

pub(super) struct Scripted {
    script: Mutex<Script>,
    requests: Mutex<Vec<Request>>,
    /// The events of the requests that are under way.
    under_way: Mutex<Vec<Vec<String>>>,
    most: AtomicUsize,
}

impl Scripted {
    fn new() -> Arc<Self> {
        let script: Script = Box::new(|_| Reaction::status(200));
        Arc::new(Self {
            script: Mutex::new(script),
            requests: Mutex::default(),
            under_way: Mutex::default(),
            most: AtomicUsize::new(0),
        })
    }

    pub(super) fn script(&self, script: impl FnMut(&[String]) -> Reaction + Send + 'static) {
        *lock(&self.script) = Box::new(script);
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        lock(&self.requests).clone()
    }

    /// The most requests that were under way at once.
    pub(super) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

impl Sink for Scripted {
    fn post(&self, message: Message, _timeout: Duration) -> BoxFuture<'_, SinkResponse> {
        Box::pin(async move {
            let ids = ids(&message);
            let bytes = message.body.len();
            lock(&self.requests).push(Request {
                at: Instant::now(),
                ids: ids.clone(),
                bytes,
                task: tokio::task::try_id(),
            });
            {
                let mut under_way = lock(&self.under_way);
                assert!(!under_way.iter().flatten().any(|id| ids.contains(id)), "one of {ids:?} is under way twice");
                under_way.push(ids.clone());
                self.most.fetch_max(under_way.len(), Ordering::Relaxed);
            }
            let reaction = lock(&self.script)(&ids);
            tokio::time::sleep(reaction.after).await;
            lock(&self.under_way).retain(|others| *others != ids);
            reaction.answer
        })
    }
}

/// The events of a message, whatever its mode.
fn ids(message: &Message) -> Vec<String> {
    if let Some(id) = message.headers.get("ce-id") {
        return vec![id.to_str().unwrap().to_owned()];
    }
    let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
    let id = |event: &serde_json::Value| event["id"].as_str().unwrap().to_owned();
    body.as_array().map_or_else(|| vec![id(&body)], |events| events.iter().map(id).collect())
}

/// Books that remember what was settled.
struct Desk {
    telemetry: Arc<TableTelemetry>,
    health: Arc<TableHealth>,
    settled: Mutex<Vec<Change>>,
    /// What was left out and did not come again, in order.
    left_out: Mutex<Vec<Change>>,
    /// How often lanes that were left out whole may come again.
    readmissions: AtomicUsize,
    /// What was released of events that nobody keeps.
    released: AtomicUsize,
    table: usize,
}

/// What a parcel costs tells the desk which one it is.
const COST: usize = 1_000_000;

/// An item from [`SECOND_TABLE`] on is one of the second table.
const TABLES: [&str; 2] = ["Orders", "Customers"];
pub(super) const SECOND_TABLE: u64 = 1_000_000;

fn table_of(item: u64) -> usize {
    usize::from(item >= SECOND_TABLE)
}

impl Acknowledger for Desk {
    fn acknowledge(&self, _token: Option<AckToken>, cost: usize) {
        lock(&self.settled).push(((cost / COST) as u64, (cost % COST) as u64));
    }

    fn release(&self, cost: usize) {
        self.released.fetch_add(cost, Ordering::Relaxed);
    }

    fn leave_out(&self, left_out: Vec<(AckToken, usize)>) {
        let changes = left_out.iter().map(|(_, cost)| ((cost / COST) as u64, (cost % COST) as u64));
        lock(&self.left_out).extend(changes);
    }

    fn may_leave_out(&self, _token: &AckToken) -> bool {
        true
    }

    /// Behind what was left out of its lane nothing is kept.
    fn is_left_out(&self, token: &AckToken) -> bool {
        let (item, _) = change_of(token);
        lock(&self.left_out).iter().any(|(left_out, _)| *left_out == item)
    }

    fn readmit(&self) {
        self.readmissions.fetch_add(1, Ordering::Relaxed);
    }

    fn table(&self) -> usize {
        self.table
    }

    fn telemetry(&self) -> &TableTelemetry {
        &self.telemetry
    }

    fn health(&self) -> &TableHealth {
        &self.health
    }
}

/// A token tells which change it is of.
fn token_of((item, version): Change) -> AckToken {
    AckToken::unique(item * COST as u64 + version)
}

fn change_of(token: &AckToken) -> Change {
    (token.number() / COST as u64, token.number() % COST as u64)
}

pub(super) struct Stage {
    pub(super) sink: Arc<Scripted>,
    pub(super) letters: Arc<Scripted>,
    pub(super) begun: Instant,
    pub(super) delivery: watch::Receiver<DeliveryView>,
    parked_items: Arc<ParkedItems>,
    encoder: Arc<Encoder>,
    /// By table.
    desks: Vec<Arc<Desk>>,
    events: mpsc::Sender<Vec<BoxedEvent>>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), DispatcherFault>>,
}

/// Eight requests at once; batches of up to ten.
pub(super) fn settings(mode: EventMode) -> Settings {
    let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30)).unwrap();
    let limits = match mode {
        EventMode::Batch => {
            RequestLimits { concurrency: 8, events: 10, bytes: usize::MAX, wait: Duration::from_millis(50) }
        }
        EventMode::Binary | EventMode::Structured => RequestLimits::singly(8),
    };
    let policy = RetryPolicy { backoff, limits: RetryLimits::default(), on_undeliverable: OnUndeliverable::Block };
    let destination = Uri::from_static("http://sink.example/");
    let (timeout, memory) = (Duration::from_secs(30), MemoryLimits::of(1 << 40, 16 << 20, false));
    Settings { limits, rate_max: None, memory, mode, timeout, policy, destination }
}

impl Stage {
    pub(super) fn new(settings: Settings) -> Self {
        let (sink, letters) = (Scripted::new(), Scripted::new());
        let encoder = Arc::new(Encoder::new(EncoderSettings {
            profile: EventProfile::Aws,
            data: EventData::DynamodbJson,
            packaging: Packaging::new(settings.mode, &BTreeMap::new()),
            table_arn: "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders".to_owned(),
            stream_arn: "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026".to_owned(),
            key_schema: vec!["id".to_owned()],
            sequence_width: 40,
        }));
        let (metrics, all_health) = (Metrics::new("t", "t").unwrap(), Health::default());
        let desks = TABLES.iter().enumerate().map(|(table, name)| {
            let (telemetry, health) = (TableTelemetry::new(name, &metrics), all_health.table(name));
            health.mark_ready();
            Arc::new(Desk {
                telemetry,
                health,
                settled: Mutex::default(),
                left_out: Mutex::default(),
                readmissions: AtomicUsize::new(0),
                released: AtomicUsize::new(0),
                table,
            })
        });
        let desks: Vec<Arc<Desk>> = desks.collect();
        let sinks = Sinks { sink: sink.clone(), dead_letters: Some(letters.clone()) };
        let (events, intake) = mpsc::channel(1000);
        let stop = CancellationToken::new();
        let dispatcher = Dispatcher::new(sinks, settings);
        let (delivery, parked_items) = (dispatcher.view(), dispatcher.parked_items());
        let running = tokio::spawn(dispatcher.run(intake, stop.clone()));
        Self { sink, letters, begun: Instant::now(), delivery, parked_items, encoder, desks, events, stop, running }
    }

    /// Hands these changes in, as one page; their id is `item-version`.
    pub(super) fn push(&self, changes: impl IntoIterator<Item = Change>) {
        self.push_gated(changes.into_iter().map(|change| (change, BarrierRole::None)));
    }

    /// The same, with what they have to do with barriers.
    pub(super) fn push_gated(&self, changes: impl IntoIterator<Item = (Change, BarrierRole)>) {
        let page = changes
            .into_iter()
            .map(|(change, barrier_role)| Box::new(PendingEvent { barrier_role, ..*self.event(change) }))
            .collect();
        assert!(self.events.try_send(page).is_ok(), "nobody takes events");
    }

    fn event(&self, (item, version): Change) -> BoxedEvent {
        let sequence = format!("{:021}", item * 1000 + version);
        let record = format!(
            r#"{{"Records":[{{"eventID":"{item}-{version}","eventName":"MODIFY","dynamodb":{{"Keys":{{"id":{{"N":"{item}"}}}},"SequenceNumber":"{sequence}"}}}}]}}"#
        );
        let record = Page::parse(Bytes::from(record)).unwrap().records.remove(0).unwrap();
        Box::new(PendingEvent {
            lane: item,
            barrier_role: BarrierRole::None,
            content: Entry::Record(record),
            recorded: SystemTime::UNIX_EPOCH,
            encoder: self.encoder.clone(),
            token: Some(token_of((item, version))),
            cost: item as usize * COST + version as usize,
            acknowledger: self.desks[table_of(item)].clone(),
            dead_letter: None,
            is_detached: false,
        })
    }

    /// The sink fails as a whole.
    pub(super) fn outage(&self) -> Option<SinkOutage> {
        self.delivery.borrow().outage.clone()
    }

    /// Lets so much time go by.
    pub(super) async fn settle_down(&self, time: Duration) {
        tokio::time::sleep(time).await;
        assert!(!self.running.is_finished(), "the dispatcher has ended");
    }

    /// What was settled, in order.
    pub(super) fn settled(&self) -> Vec<Change> {
        self.books()()
    }

    /// The same for whoever needs it later.
    pub(super) fn books(&self) -> impl Fn() -> Vec<Change> + Send + 'static {
        let desks = self.desks.clone();
        move || desks.iter().flat_map(|desk| lock(&desk.settled).clone()).collect()
    }

    /// What was left out, in order.
    pub(super) fn left_out(&self) -> Vec<Change> {
        self.desks.iter().flat_map(|desk| lock(&desk.left_out).clone()).collect()
    }

    /// What was left out comes again from now on; returns it.
    pub(super) fn take_left_out(&self) -> Vec<Change> {
        self.desks.iter().flat_map(|desk| std::mem::take(&mut *lock(&desk.left_out))).collect()
    }

    /// How often lanes that were left out whole were let in again.
    pub(super) fn readmissions(&self) -> usize {
        self.desks.iter().map(|desk| desk.readmissions.load(Ordering::Relaxed)).sum()
    }

    /// What was given back of events that nobody keeps.
    pub(super) fn released(&self) -> usize {
        self.desks.iter().map(|desk| desk.released.load(Ordering::Relaxed)).sum()
    }

    /// Why the tables are not ready.
    pub(super) fn troubles(&self) -> Vec<String> {
        self.desks.iter().filter_map(|desk| desk.health.trouble(Instant::now())).collect()
    }

    pub(super) fn in_flight(&self) -> i64 {
        self.desks.iter().map(|desk| desk.telemetry.metrics().in_flight.get()).sum()
    }

    pub(super) fn parked(&self) -> i64 {
        let parked: i64 = self.desks.iter().map(|desk| desk.telemetry.metrics().parked.get()).sum();
        let shown = TABLES.iter().map(|table| self.parked_items.items(table).len()).sum::<usize>() as i64;
        assert_eq!(shown, parked.min(100), "two opinions of what is parked");
        parked
    }

    /// Hands nothing in any more, and waits for its end.
    pub(super) async fn close(mut self) -> Self {
        self.events = mpsc::channel(1).0;
        (&mut self.running).await.unwrap().unwrap();
        self
    }

    /// Tells it to stop, and waits for its end.
    pub(super) async fn stop(mut self) -> Self {
        self.stop.cancel();
        (&mut self.running).await.unwrap().unwrap();
        self
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
