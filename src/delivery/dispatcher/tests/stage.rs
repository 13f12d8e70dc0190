//! A dispatcher, its sinks and its books, as tests need them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::StatusCode;
use tokio::task::JoinHandle;

use super::*;
use crate::backoff::Backoff;
use crate::clock::SimulatedClock;
use crate::config::{EventData, EventProfile};
use crate::delivery::handover::{Handover, TableWithdrawal};
use crate::delivery::lanes::BarrierRole;
use crate::delivery::pending_event::PendingEvent;

use crate::delivery::retry::{OnUndeliverable, RetryLimits};
use crate::event::{Encoder, EncoderSettings, Message, Packaging};
use crate::lease::Tenure;
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

    fn count(&self) -> usize {
        lock(&self.requests).len()
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
            let _under_way = UnderWay(&self.under_way, ids);
            tokio::time::sleep(reaction.after).await;
            reaction.answer
        })
    }
}

/// A request, until it is answered or cut off.
struct UnderWay<'a>(&'a Mutex<Vec<Vec<String>>>, Vec<String>);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        lock(self.0).retain(|others| *others != self.1);
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

/// Books that remember what was settled, and what is left out: as the tracker of a table does.
struct Desk {
    telemetry: Arc<TableTelemetry>,
    health: Arc<TableHealth>,
    settled: Mutex<Vec<Change>>,
    left_out: Mutex<LeftOut>,
    /// How often lanes that were left out whole may come again.
    readmissions: AtomicUsize,
    /// What was released of events that nobody keeps.
    released: AtomicUsize,
    /// What was handed in and not given back, in bytes.
    kept: AtomicI64,
    table: usize,
    /// None: the table is nobody else's.
    tenure: Mutex<Option<Arc<Tenure>>>,
}

/// What was handed on, and what of that was given back to be handed on again.
#[derive(Default)]
struct LeftOut {
    next_ordinal: u64,
    /// By ordinal: what was handed on, is owed, and is not left out.
    handed_on: BTreeMap<u64, Change>,
    /// Of those: what is about to be trimmed.
    must_stay: BTreeSet<u64>,
    /// What was left out and did not come again, in order.
    changes: Vec<Change>,
    /// Items that were left out whole.
    wait_for_room: BTreeSet<u64>,
}

impl LeftOut {
    /// A change is handed on under a new number, unless its item is left out: then it is so, too.
    fn hand_on(&mut self, change: Change, must_stay: bool) -> u64 {
        self.next_ordinal += 1;
        match self.changes.iter().any(|(item, _)| *item == change.0) {
            true => self.changes.push(change),
            false => {
                self.handed_on.insert(self.next_ordinal, change);
            }
        }
        if must_stay {
            self.must_stay.insert(self.next_ordinal);
        }
        self.next_ordinal
    }

    /// From this one on the item's changes are left out.
    fn leave_out(&mut self, ordinal: u64) {
        let Some((item, _)) = self.handed_on.get(&ordinal).copied() else { return };
        let of_item = |_: &u64, change: &mut Change| change.0 == item;
        let given_up: Vec<(u64, Change)> = self.handed_on.extract_if(ordinal.., of_item).collect();
        assert!(given_up.iter().all(|(ordinal, _)| !self.must_stay.contains(ordinal)), "{given_up:?} had to stay");
        self.changes.retain(|change| change.0 != item || !given_up.iter().any(|(_, given_up)| given_up == change));
        let place = self.changes.iter().position(|change| change.0 == item).unwrap_or(self.changes.len());
        self.changes.splice(place..place, given_up.into_iter().map(|(_, change)| change));
        match self.is_handed_on(item) {
            true => self.wait_for_room.remove(&item),
            false => self.wait_for_room.insert(item),
        };
    }

    fn is_handed_on(&self, item: u64) -> bool {
        self.handed_on.values().any(|change| change.0 == item)
    }

    /// What may come again: of items of which nothing is owed, and for which there is room.
    fn due(&mut self) -> Vec<Change> {
        let (handed_on, wait_for_room) = (&self.handed_on, &self.wait_for_room);
        let is_due = |change: &mut Change| {
            !wait_for_room.contains(&change.0) && !handed_on.values().any(|other| other.0 == change.0)
        };
        self.changes.extract_if(.., is_due).collect()
    }
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
    fn acknowledge(&self, token: Option<AckToken>, cost: usize) {
        let settled = token.and_then(|token| lock(&self.left_out).handed_on.remove(&token.number()));
        assert!(settled.is_some(), "{cost} was settled and not owed");
        lock(&self.settled).push(change_of(cost));
        self.give_back(cost);
    }

    fn release(&self, cost: usize) {
        self.released.fetch_add(cost, Ordering::Relaxed);
        self.give_back(cost);
    }

    fn leave_out(&self, left_out: Vec<(AckToken, usize)>) {
        for (token, cost) in left_out {
            lock(&self.left_out).leave_out(token.number());
            self.give_back(cost);
        }
    }

    fn may_leave_out(&self, token: &AckToken) -> bool {
        !lock(&self.left_out).must_stay.contains(&token.number())
    }

    fn is_left_out(&self, token: &AckToken) -> bool {
        !lock(&self.left_out).handed_on.contains_key(&token.number())
    }

    fn readmit(&self) {
        lock(&self.left_out).wait_for_room.clear();
        self.readmissions.fetch_add(1, Ordering::Relaxed);
    }

    fn table(&self) -> usize {
        self.table
    }

    fn tenure(&self) -> Option<Arc<Tenure>> {
        lock(&self.tenure).clone()
    }

    fn telemetry(&self) -> &TableTelemetry {
        &self.telemetry
    }

    fn health(&self) -> &TableHealth {
        &self.health
    }
}

impl Desk {
    fn give_back(&self, cost: usize) {
        let kept = self.kept.fetch_sub(cost as i64, Ordering::Relaxed);
        assert!(kept >= cost as i64, "{cost} was given back twice");
    }
}

fn change_of(cost: usize) -> Change {
    ((cost / COST) as u64, (cost % COST) as u64)
}

pub(super) struct Stage {
    pub(super) sink: Arc<Scripted>,
    pub(super) letters: Arc<Scripted>,
    pub(super) begun: Instant,
    pub(super) delivery: watch::Receiver<DeliveryView>,
    parked_items: Arc<ParkedItems>,
    pub(super) activity: Arc<DispatcherActivity>,
    encoder: Arc<Encoder>,
    /// By table.
    desks: Vec<Arc<Desk>>,
    events: mpsc::Sender<Handover>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), DispatcherFault>>,
    /// Wall time goes by as the test's does.
    _clock: SimulatedClock,
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
                kept: AtomicI64::new(0),
                table,
                tenure: Mutex::default(),
            })
        });
        let desks: Vec<Arc<Desk>> = desks.collect();
        let sinks = Sinks { sink: sink.clone(), dead_letters: Some(letters.clone()) };
        let (events, intake) = mpsc::channel(1000);
        let stop = CancellationToken::new();
        let dispatcher = Dispatcher::new(sinks, settings);
        let (delivery, parked_items, activity) = (dispatcher.view(), dispatcher.parked_items(), dispatcher.activity());
        let running = tokio::spawn(dispatcher.run(intake, stop.clone()));
        Self {
            sink,
            letters,
            begun: Instant::now(),
            delivery,
            parked_items,
            activity,
            encoder,
            desks,
            events,
            stop,
            running,
            _clock: crate::clock::start_at(SystemTime::now()),
        }
    }

    /// Hands these changes in, as one page; their id is `item-version`.
    pub(super) fn push(&self, changes: impl IntoIterator<Item = Change>) {
        self.push_gated(changes.into_iter().map(|change| (change, BarrierRole::None)));
    }

    /// The same, with what they have to do with barriers.
    pub(super) fn push_gated(&self, changes: impl IntoIterator<Item = (Change, BarrierRole)>) {
        let page = changes
            .into_iter()
            .map(|(change, barrier_role)| {
                let must_stay = matches!(barrier_role, BarrierRole::Barrier(_));
                Box::new(PendingEvent { barrier_role, ..*self.event(change, must_stay) })
            })
            .collect();
        self.hand_in(page);
    }

    /// Hands in again what was left out and may come again; returns it.
    pub(super) fn push_due(&self, must_stay: bool) -> Vec<Change> {
        let due: Vec<Change> = self.desks.iter().flat_map(|desk| lock(&desk.left_out).due()).collect();
        let page: Vec<BoxedEvent> = due.iter().map(|change| self.event(*change, must_stay)).collect();
        self.hand_in(page);
        due
    }

    /// A table is this process's for so long, unless that is ended or renewed.
    pub(super) fn own(&self, table: usize, duration: Duration) -> Arc<Tenure> {
        let tenure = Arc::new(Tenure::granted(duration, Instant::now(), crate::clock::now()));
        *lock(&self.desks[table].tenure) = Some(tenure.clone());
        tenure
    }

    /// Has a table withdrawn, and waits until nothing of it is left. Its books forget what is owed.
    pub(super) async fn withdraw(&self, table: usize) {
        let desk = &self.desks[table];
        let (wanted, is_done) = TableWithdrawal::of(desk.clone());
        assert!(self.events.try_send(Handover::Withdrawal(wanted)).is_ok(), "nobody takes it");
        is_done.await.expect("the dispatcher runs");
        assert_eq!(desk.kept.load(Ordering::Relaxed), 0, "memory of events that nobody has");
        assert_eq!(desk.telemetry.metrics().in_flight.get(), 0);
        assert_eq!(desk.telemetry.metrics().parked.get(), 0);
        assert_eq!(self.parked_items.items(TABLES[table]), [], "nobody retries them");
        *lock(&desk.left_out) = LeftOut::default();
    }

    fn hand_in(&self, page: Vec<BoxedEvent>) {
        assert!(self.events.try_send(Handover::Events(page)).is_ok(), "nobody takes events");
    }

    fn event(&self, (item, version): Change, must_stay: bool) -> BoxedEvent {
        let (desk, cost) = (&self.desks[table_of(item)], item as usize * COST + version as usize);
        let ordinal = lock(&desk.left_out).hand_on((item, version), must_stay);
        desk.kept.fetch_add(cost as i64, Ordering::Relaxed);
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
            token: Some(AckToken::unique(ordinal)),
            cost,
            acknowledger: desk.clone(),
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
        self.desks.iter().flat_map(|desk| lock(&desk.left_out).changes.clone()).collect()
    }

    /// What was left out comes again from now on; returns it.
    pub(super) fn take_left_out(&self) -> Vec<Change> {
        self.desks.iter().flat_map(|desk| std::mem::take(&mut lock(&desk.left_out).changes)).collect()
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

    /// How many requests there were.
    pub(super) fn requests(&self) -> usize {
        self.sink.count() + self.letters.count()
    }

    /// Bytes of what was handed in and not given back.
    pub(super) fn kept(&self) -> i64 {
        self.desks.iter().map(|desk| desk.kept.load(Ordering::Relaxed)).sum()
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
