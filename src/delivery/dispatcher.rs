//! The one task that decides what is sent when: it takes events in, keeps lanes, starts attempts, and has settled what came of them.
//!
//! A request's life: an event comes in and joins its lane ([`lanes`](super::lanes)). When the controller of its sink permits one more
//! request ([`sink_controller`](super::sink_controller)), the lane whose turn it is gives its first event away, in batch mode several.
//! From then on the request is a task of its own, which makes the message and posts it: encoding, connecting and TLS hold up nobody
//! else. It brings back the events and the response. The controller learns how it ended, and `settlement` does
//! what the response means for each event: it is acknowledged, or goes back to the front of its lane for a retry, or to the dead-letter
//! sink, or it is dropped.
//!
//! Contract:
//! - It always takes events in; how many there can be is bounded by whoever reads them.
//! - An event is settled when the sink has acknowledged it, or the dead-letter sink has, or the policy is to drop it;
//!   and never before.
//! - The bodies under way take at most [`MemoryLimits::bodies`], or are one. What would be longer than
//!   [`MemoryLimits::event_bytes`] is never made.
//! - When told to stop it starts nothing more and waits for the responses that are under way; what is not settled by then
//!   stays unsettled as owed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::Uri;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::batch_size::BatchSize;
use super::lanes::{Kinds, LaneItem as _, Lanes, Request, RequestLimits, UnknownLane};
use super::parked_items::{ParkedItems, item_hash};
use super::pending_event::BoxedEvent;
pub use super::request_load::MemoryLimits;
use super::request_load::RequestLoad;
use super::response_class::{FailedResponse, ResponseClass};
use super::retry::{OnUndeliverable, RetryPolicy};
use super::settlement::{FinishedAttempt, Settlement, SinkState};
use super::sink_controller::{
    AttemptKind, AttemptReport, Change, ControllerLimits, ControllerView, DownReason, Outcome, SinkController,
};
use crate::clock;
use crate::config::EventMode;
use crate::event::Message;
use crate::event::http::batch;
use crate::sink::Sink;
use crate::telemetry::events;

/// How long after [`Settings::timeout`] an attempt may take to be noticed as ended.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(10);

/// So many attempts that have ended are looked at before anything new is started.
const MOST_FINISHED: usize = 64;

/// How often what people look at is brought up to date, at most.
const VIEW_INTERVAL: Duration = Duration::from_millis(250);

/// How events are delivered.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Requests under way at once, whole process, and what goes into one.
    pub limits: RequestLimits,
    /// Events a second that are sent at most; none where the sink alone decides.
    pub rate_max: Option<f64>,
    pub memory: MemoryLimits,
    pub mode: EventMode,
    /// Time for one attempt.
    pub timeout: Duration,
    /// Pauses between attempts, and when to give up.
    pub policy: RetryPolicy,
    /// Where the sink is: dead letters say so.
    pub destination: Uri,
}

/// Where events go, and where those go that cannot be delivered there.
pub struct Sinks {
    pub sink: Arc<dyn Sink>,
    /// The dead-letter sink; needed only by the policy that uses it.
    pub dead_letters: Option<Arc<dyn Sink>>,
}

/// A sink, and how much it takes.
struct Outlet {
    sink: Arc<dyn Sink>,
    controller: SinkController,
}

/// Delivers the events of all tables.
pub struct Dispatcher {
    lanes: Lanes<BoxedEvent>,
    sink: Outlet,
    dead_letters: Option<Outlet>,
    settlement: Settlement,
    settings: Settings,
    attempts: JoinSet<FinishedAttempt>,
    /// Bytes of the bodies under way, as far as they are known before they are made.
    bodies: usize,
    /// The next request has to wait until one of those is gone.
    waits_for_bodies: bool,
    batch_size: BatchSize,
    activity: Arc<DispatcherActivity>,
    turns: u64,
    started: u64,
    /// When each attempt under way must have ended, by its number; none where that is beyond the clock.
    deadlines: BTreeMap<u64, Option<Instant>>,
    view: watch::Sender<DeliveryView>,
    viewed: Option<Instant>,
}

/// What people see of delivery.
#[derive(Debug, Clone, Default)]
pub struct DeliveryView {
    /// The sink fails as a whole.
    pub outage: Option<SinkOutage>,
    /// How much the sink takes.
    pub sink: Option<ControllerView>,
    /// How much the dead-letter sink takes.
    pub dead_letters: Option<ControllerView>,
    /// The item of which the most events wait, where several do: they go one after the other.
    pub longest_lane: Option<LongestLane>,
}

/// The sink fails as a whole, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkOutage {
    /// When that was noticed.
    pub since: SystemTime,
    /// It refuses every event for the event's own sake; else it cannot be reached or has a fault.
    pub is_refusing: bool,
    /// What it said last.
    pub why: String,
}

/// An item of which several events wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LongestLane {
    /// A hash of its key, as the log shows it.
    pub item: String,
    /// How many of its events wait.
    pub events: usize,
}

/// Why a dispatcher has ended unasked.
#[derive(Debug, thiserror::Error)]
pub enum DispatcherFault {
    /// A state that cannot be.
    #[error(transparent)]
    UnknownLane(#[from] UnknownLane),
    /// An attempt brought nothing back.
    #[error("an attempt has panicked: {0}")]
    Attempt(#[from] JoinError),
}

/// What a dispatcher is doing, so that one that stands still can be found.
#[derive(Debug, Default)]
pub struct DispatcherActivity(Mutex<Turn>);

#[derive(Debug, Clone, Copy, Default)]
struct Turn {
    /// How often it has looked around, and how many requests it has started.
    turns: u64,
    started: u64,
    /// When it wants to look around again, if nothing happens before.
    wake: Option<Instant>,
    /// Something may start and has not, or nothing is under way and no moment is waited for, and there are events.
    can_start: bool,
    /// The oldest attempt under way, and when it must have ended.
    oldest: Option<(u64, Instant)>,
}

impl DispatcherActivity {
    /// Why it should not be waiting at this moment, and a number that changes when it goes on: if it is still the same
    /// much later, it stands still. `handed_in` says whether there are events that it has not taken in.
    pub fn overdue(&self, handed_in: bool, now: Instant) -> Option<(&'static str, u64)> {
        let turn = *self.turn();
        if let Some((attempt, _)) = turn.oldest.filter(|(_, deadline)| *deadline < now) {
            return Some(("sees no end of a request after DELIVERY_TIMEOUT", attempt));
        }
        match turn {
            Turn { can_start: true, started, .. } => Some(("starts no request although events wait", started)),
            Turn { wake: Some(wake), turns, .. } if wake < now => Some(("did not go on after a pause", turns)),
            Turn { turns, .. } if handed_in => Some(("takes in no events", turns)),
            _ => None,
        }
    }

    /// How often it has looked around, for tests.
    #[cfg(test)]
    fn turns(&self) -> u64 {
        self.turn().turns
    }

    fn turn(&self) -> std::sync::MutexGuard<'_, Turn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet {
    fn new(sink: Arc<dyn Sink>, settings: &Settings) -> Self {
        let keeps_refused = settings.policy.on_undeliverable == OnUndeliverable::Block;
        let (concurrency, rate_max) = (settings.limits.concurrency, settings.rate_max);
        let limits = ControllerLimits { concurrency, rate_max, keeps_refused };
        Self { sink, controller: SinkController::new(limits) }
    }

    fn may_start(&self, now: Instant) -> bool {
        self.controller.may_start(now).is_some_and(|start| start <= now)
    }
}

impl Dispatcher {
    /// A dispatcher that sends to `sinks`.
    pub fn new(sinks: Sinks, settings: Settings) -> Self {
        Self {
            lanes: Lanes::new(settings.limits, settings.memory.lane),
            sink: Outlet::new(sinks.sink, &settings),
            dead_letters: sinks.dead_letters.map(|sink| Outlet::new(sink, &settings)),
            settlement: Settlement::new(settings.policy, settings.mode, settings.memory.lane),
            batch_size: BatchSize::new(settings.limits.bytes),
            settings,
            attempts: JoinSet::new(),
            bodies: 0,
            waits_for_bodies: false,
            activity: Arc::default(),
            turns: 0,
            started: 0,
            deadlines: BTreeMap::new(),
            view: watch::Sender::default(),
            viewed: None,
        }
    }

    /// The items whose events keep failing, now and later.
    pub fn parked_items(&self) -> Arc<ParkedItems> {
        self.settlement.parked_items()
    }

    /// What it is doing, now and later.
    pub fn activity(&self) -> Arc<DispatcherActivity> {
        self.activity.clone()
    }

    /// What people see of it, now and later; a quarter of a second late at most while something is sent.
    pub fn view(&self) -> watch::Receiver<DeliveryView> {
        self.view.subscribe()
    }

    /// Delivers until told to stop, or until nobody can hand events in any more and all are settled that can be.
    ///
    /// # Errors
    /// When it meets a state that cannot be; what is not settled then stays unsettled as owed.
    pub async fn run(
        mut self,
        mut pages: mpsc::Receiver<Vec<BoxedEvent>>,
        stop: CancellationToken,
    ) -> Result<(), DispatcherFault> {
        let (stopped, timer) = (stop.cancelled(), sleep_until(Instant::now()));
        tokio::pin!(stopped, timer);
        let mut is_open = true;
        while is_open || !self.lanes.is_done() {
            let now = Instant::now();
            self.start_attempts(now)?;
            let wake = self.next_wake(now);
            self.tell_activity(wake, now);
            if let Some(wake) = wake.filter(|wake| *wake != timer.deadline()) {
                timer.as_mut().reset(wake);
            }
            // Pages come first: the buffer bounds them, and a response waits for none of them.
            select! {
                () = &mut stopped => break,
                page = pages.recv(), if is_open => match page {
                    Some(page) => self.take_in(page, Instant::now()),
                    None => is_open = false,
                },
                Some(finished) = self.attempts.join_next(), if !self.attempts.is_empty() => self.finish_all(finished)?,
                () = &mut timer, if wake.is_some() => self.settlement.readmit_due(Instant::now()),
            }
        }
        events::ShutdownBegun { in_flight: self.attempts.len() }.emit();
        while let Some(finished) = self.attempts.join_next().await {
            self.finish(finished?, Instant::now())?;
        }
        Ok(())
    }

    fn tell_activity(&mut self, wake: Option<Instant>, now: Instant) {
        self.turns += 1;
        let idle = self.attempts.is_empty() && wake.is_none() && !self.lanes.is_done();
        let can_start = idle || wake.is_some_and(|wake| wake <= now);
        let oldest = self.deadlines.first_key_value().and_then(|(number, deadline)| Some((*number, (*deadline)?)));
        *self.activity.turn() = Turn { turns: self.turns, started: self.started, wake, can_start, oldest };
        // Nothing may come for long when nothing is under way.
        if self.attempts.is_empty() || self.viewed.is_none_or(|viewed| now - viewed >= VIEW_INTERVAL) {
            self.show(now);
        }
    }

    fn show(&mut self, now: Instant) {
        self.viewed = Some(now);
        let longest = self.lanes.longest();
        self.view.send_modify(|view| {
            view.sink = Some(self.sink.controller.view(now));
            view.dead_letters = self.dead_letters.as_ref().map(|outlet| outlet.controller.view(now));
            view.longest_lane = longest.map(|(lane, events)| LongestLane { item: item_hash(lane), events });
        });
    }

    fn take_in(&mut self, page: Vec<BoxedEvent>, now: Instant) {
        for event in page {
            // It was on its way here when its lane was left out: it comes again, behind what was left out before it.
            if event.is_left_out() {
                self.settlement.leave_out(vec![event]);
                continue;
            }
            let lane = event.lane;
            let beyond = self.lanes.push(lane, event, now);
            if !beyond.is_empty() {
                self.settlement.leave_out(beyond);
            }
        }
    }

    fn start_attempts(&mut self, now: Instant) -> Result<(), DispatcherFault> {
        self.waits_for_bodies = false;
        while self.lanes.has_place() {
            let is_down = self.sink.controller.is_down();
            let permitted = self.permitted(is_down, now);
            if !permitted.any() {
                break;
            }
            let mut load = self.request_load();
            let probe = is_down.then(fastrand::f64);
            let request = self.lanes.begin(permitted, probe, now, |event| load.take(event));
            self.waits_for_bodies = load.lacks_room;
            let Some(request) = request else { break };
            match load.too_long {
                Some(length) => self.refuse(request, length, now)?,
                None => self.launch(request, load.bytes, now),
            }
        }
        Ok(())
    }

    /// Which kinds of requests may start now.
    fn permitted(&mut self, is_down: bool, now: Instant) -> Kinds {
        let may_start = self.sink.may_start(now) && (!is_down || self.lanes.prepare_probe(now));
        self.lanes.set_places(self.sink.controller.ceiling());
        Kinds {
            first_attempts: may_start,
            retries: may_start,
            dead_letters: self.dead_letters.as_ref().is_some_and(|outlet| outlet.may_start(now)),
        }
    }

    fn request_load(&self) -> RequestLoad {
        let is_batch = self.settings.mode == EventMode::Batch;
        RequestLoad::new(
            is_batch,
            self.batch_size.bytes(),
            &self.settings.memory,
            self.settings.limits.concurrency,
            self.bodies,
        )
    }

    /// Posts a request in a task of its own.
    fn launch(&mut self, mut request: Request<BoxedEvent>, reserved: usize, now: Instant) {
        self.started += 1;
        self.bodies += reserved;
        for slice in request.slices() {
            slice.head.acknowledger.telemetry().metrics().in_flight.add(slice.len() as i64);
        }
        let (number, kind, mode) = (self.started, request.kind, self.settings.mode);
        // Of an event that never had a request of its own this one says what a first attempt says.
        let is_first = kind == AttemptKind::Retry && request.first.is_untested;
        let told = if is_first { AttemptKind::FirstAttempt } else { kind };
        let outlet = self.outlet(kind);
        let (permit, sink) = (outlet.controller.started(told, request.events(), now), outlet.sink.clone());
        let (timeout, destination) = (self.settings.timeout, self.settings.destination.clone());
        self.deadlines.insert(number, now.checked_add(timeout.saturating_add(TIMEOUT_MARGIN)));
        self.attempts.spawn(async move {
            let message = compose(&mut request, mode, &destination);
            let bytes = message.body.len();
            let response = sink.post(message, timeout).await;
            FinishedAttempt { number, permit, request, reserved, bytes, response, took: now.elapsed() }
        });
    }

    /// Where attempts of a kind go.
    fn outlet(&mut self, kind: AttemptKind) -> &mut Outlet {
        self.dead_letters.as_mut().filter(|_| kind == AttemptKind::DeadLetter).unwrap_or(&mut self.sink)
    }

    fn finish_all(&mut self, finished: Result<FinishedAttempt, JoinError>) -> Result<(), DispatcherFault> {
        let now = Instant::now();
        self.finish(finished?, now)?;
        for _ in 1..MOST_FINISHED {
            let Some(finished) = self.attempts.try_join_next() else { break };
            self.finish(finished?, now)?;
        }
        Ok(())
    }

    fn finish(&mut self, finished: FinishedAttempt, now: Instant) -> Result<(), DispatcherFault> {
        self.deadlines.remove(&finished.number);
        self.bodies -= finished.reserved;
        self.lanes.ended(finished.request.kind);
        if finished.request.kind == AttemptKind::FirstAttempt {
            self.batch_size.answered(finished.bytes, finished.request.events(), &finished.response);
        }
        finished.count();
        let failure = FailedResponse::of(&finished.response, clock::now());
        let change = self.report(&finished, failure.as_ref(), now);
        if finished.request.kind != AttemptKind::DeadLetter {
            self.tell_sink_state(change, &finished, failure.as_ref());
        }
        let down = self.sink.controller.down_reason();
        let sink = SinkState { is_down: down.is_some(), is_refusing: down == Some(DownReason::Refusing) };
        self.settlement.apply(&mut self.lanes, finished, failure, sink, now)?;
        for event in self.lanes.take_left_out() {
            self.settlement.leave_out(vec![event]);
        }
        Ok(())
    }

    /// Tells the controller of the sink how an attempt has ended.
    fn report(&mut self, finished: &FinishedAttempt, failure: Option<&FailedResponse>, now: Instant) -> Change {
        let report = AttemptReport {
            lane: finished.request.first.lane,
            outcome: failure.map_or(Outcome::Accepted, outcome_of),
            // What is parked is tried too seldom to say anything of the sink.
            waiting_lanes: self.lanes.in_progress(),
        };
        let outlet = self.outlet(finished.request.kind);
        let change = outlet.controller.ended(finished.permit, report, now);
        if matches!(report.outcome, Outcome::Congested { .. } | Outcome::Failed) {
            outlet.controller.others_failed(finished.request.more.iter().map(|slice| slice.lane), now);
        }
        change
    }

    fn tell_sink_state(&mut self, change: Change, finished: &FinishedAttempt, failure: Option<&FailedResponse>) {
        // Most attempts change nothing that people see.
        if change == Change::None && (failure.is_none() || !self.sink.controller.is_down()) {
            return;
        }
        let why = failure.map_or("", |failure| &failure.why);
        match change {
            Change::None => {}
            Change::WentDown(reason) => {
                let is_refusing = reason == DownReason::Refusing;
                events::SinkFailing { why, is_refusing }.emit();
                let telemetry = finished.request.first.head.acknowledger.telemetry();
                telemetry.recent().add("DSA-SINK-FAILING", why);
                let outage = SinkOutage { since: clock::now(), is_refusing, why: String::new() };
                self.view.send_modify(|view| view.outage = Some(outage));
            }
            Change::CameUp(after) => {
                events::SinkRecovered { after }.emit();
                self.view.send_modify(|view| view.outage = None);
                self.lanes.end_backoffs();
            }
        }
        self.view.send_if_modified(|view| match &mut view.outage {
            Some(outage) if failure.is_some() && outage.why != why => {
                why.clone_into(&mut outage.why);
                true
            }
            _ => false,
        });
    }

    /// An event whose body would be too long is never sent.
    fn refuse(&mut self, request: Request<BoxedEvent>, length: usize, now: Instant) -> Result<(), DispatcherFault> {
        self.lanes.ended(request.kind);
        let most = self.settings.memory.event_bytes;
        let why = format!("its body would have {length} bytes, more than EVENT_BYTES_MAX={most}");
        Ok(self.settlement.refuse(&mut self.lanes, request.first, &why, now)?)
    }

    /// When something may start that may not start now; nothing while only the end of an attempt can change that.
    fn next_wake(&mut self, now: Instant) -> Option<Instant> {
        let readmission = self.settlement.next_readmission();
        if !self.lanes.has_place() || self.waits_for_bodies {
            return readmission;
        }
        let waiting = self.lanes.waiting(now);
        let is_wanted = match self.sink.controller.is_down() {
            true => self.lanes.has_probe(),
            false => waiting.first_attempts || waiting.retries,
        };
        let sink = is_wanted.then(|| self.sink.controller.may_start(now)).flatten();
        let letters = self.dead_letters.as_ref().filter(|_| waiting.dead_letters);
        let letters = letters.and_then(|outlet| outlet.controller.may_start(now));
        [sink, letters, self.lanes.next_change(now), readmission].into_iter().flatten().min()
    }
}

/// What a response says of the sink.
fn outcome_of(failure: &FailedResponse) -> Outcome {
    match failure.class {
        ResponseClass::Delivered | ResponseClass::NotTaken => Outcome::Accepted,
        ResponseClass::Overloaded | ResponseClass::Unreachable => {
            Outcome::Congested { retry_after: failure.retry_after }
        }
        // What this process lacks keeps everything from the sink, until somebody mends it.
        ResponseClass::SinkFault | ResponseClass::Unsent => Outcome::Failed,
        ResponseClass::EventFault => Outcome::Refused,
    }
}

/// Makes the message of a request. From here on its events keep no page alive: the request may take long.
fn compose(request: &mut Request<BoxedEvent>, mode: EventMode, destination: &Uri) -> Message {
    let mut messages = Vec::new();
    let is_batch = mode == EventMode::Batch && request.kind != AttemptKind::DeadLetter;
    for slice in std::iter::once(&mut request.first).chain(&mut request.more) {
        for event in std::iter::once(&mut slice.head).chain(&mut slice.rest) {
            let message = event.message(destination);
            event.detach();
            if !is_batch {
                return message;
            }
            messages.push(message);
        }
    }
    batch(messages.iter())
}

#[cfg(test)]
mod tests;
