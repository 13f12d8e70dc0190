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
//! - No attempt begins for a table whose tenure is over, and those under way are cut off (`attempt.rs`): what comes of
//!   them is no fault of the sink. What is left of such a table is withdrawn ([`handover`](super::handover)); others go on meanwhile.
//! - When told to stop it starts nothing more and waits for the responses that are under way; what is not settled by then
//!   stays unsettled as owed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet, yield_now};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempt, AttemptSettings, EndedAttempt, FinishedAttempt, Tenures, may_be_delivered};
use super::batch_size::BatchSize;
use super::dispatcher_view::Turn;
pub use super::dispatcher_view::{DeliveryView, DispatcherActivity, LongestLane, SinkOutage};
use super::handover::{Handover, Withdrawals};
use super::lanes::{Kinds, LaneItem as _, Lanes, Request, RequestLimits, UnknownLane};
use super::parked_items::{ParkedItems, item_hash};
use super::pending_event::BoxedEvent;
pub use super::request_load::MemoryLimits;
use super::request_load::RequestLoad;
use super::response_class::{FailedResponse, ResponseClass};
use super::retry::{OnUndeliverable, RetryPolicy};
use super::settlement::{Settlement, SinkState};
use super::sink_controller::{
    AttemptKind, AttemptReport, Change, ControllerLimits, DownReason, Outcome, SinkController,
};
use crate::clock;
use crate::config::EventMode;
use crate::sink::Sink;
use crate::telemetry::events;

/// How long after [`Settings::timeout`] an attempt may take to be noticed as ended.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(10);

/// So many attempts that have ended are looked at before anything new is started.
const MOST_FINISHED: usize = 64;

/// So many events whose tenure is over are given up in one turn.
const MOST_GIVEN_UP: usize = 2_048;

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
    attempts: JoinSet<EndedAttempt>,
    withdrawals: Withdrawals,
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
            withdrawals: Withdrawals::default(),
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
        mut handed_in: mpsc::Receiver<Handover>,
        stop: CancellationToken,
    ) -> Result<(), DispatcherFault> {
        let (stopped, timer) = (stop.cancelled(), sleep_until(Instant::now()));
        tokio::pin!(stopped, timer);
        let mut is_open = true;
        while is_open || !self.lanes.is_done() {
            let now = Instant::now();
            let is_withdrawing = self.withdrawals.go_on(&mut self.lanes, &mut self.settlement);
            self.settlement.look_for_quiet(self.lanes.is_done(), now);
            self.start_attempts(now)?;
            let wake = self.next_wake(now);
            self.tell_activity(wake, now);
            if let Some(wake) = wake.filter(|wake| *wake != timer.deadline()) {
                timer.as_mut().reset(wake);
            }
            // Pages come first: the buffer bounds them, and a response waits for none of them.
            select! {
                () = &mut stopped => break,
                handed_in = handed_in.recv(), if is_open => match handed_in {
                    Some(Handover::Events(page)) => self.take_in(page, Instant::now()),
                    Some(Handover::Withdrawal(wanted)) => self.withdrawals.begin(wanted),
                    None => is_open = false,
                },
                Some(finished) = self.attempts.join_next(), if !self.attempts.is_empty() => self.finish_all(finished)?,
                () = &mut timer, if wake.is_some() => self.settlement.readmit_due(Instant::now()),
                () = yield_now(), if is_withdrawing => {}
            }
        }
        events::ShutdownBegun { in_flight: self.attempts.len() }.emit();
        while let Some(finished) = self.attempts.join_next().await {
            self.end_attempt(finished?, Instant::now())?;
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
        let mut given_up = 0;
        while self.lanes.has_place() && given_up < MOST_GIVEN_UP {
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
            let tenures = Tenures::of(&request);
            match load.too_long {
                _ if !tenures.last(now) => given_up += self.start_lasting(request, load.bytes, now),
                Some(length) => self.refuse(request, length, now)?,
                None => self.launch(request, load.bytes, tenures, now),
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

    /// Starts of a request what may still be delivered. How many events may not.
    fn start_lasting(&mut self, request: Request<BoxedEvent>, reserved: usize, now: Instant) -> usize {
        let (kind, events) = (request.kind, request.events());
        let Some(rest) = self.keep_lasting(request, now) else {
            self.lanes.ended(kind);
            return events;
        };
        let (left, tenures) = (rest.events(), Tenures::of(&rest));
        self.launch(rest, reserved, tenures, now);
        events - left
    }

    /// Gives up what of a request may not be delivered any more, with all that waits behind it. Returns the rest.
    fn keep_lasting(&mut self, request: Request<BoxedEvent>, now: Instant) -> Option<Request<BoxedEvent>> {
        let kind = request.kind;
        let (lasting, ended): (Vec<_>, Vec<_>) = request.into_slices().partition(|it| may_be_delivered(it, now));
        for slice in ended {
            let events = self.lanes.give_up(slice);
            self.settlement.give_back(events);
        }
        let mut lasting = lasting.into_iter();
        Some(Request { kind, first: lasting.next()?, more: lasting.collect() })
    }

    /// Posts a request in a task of its own.
    fn launch(&mut self, request: Request<BoxedEvent>, reserved: usize, tenures: Tenures, now: Instant) {
        self.started += 1;
        self.bodies += reserved;
        for slice in request.slices() {
            slice.head.acknowledger.telemetry().metrics().in_flight.add(slice.len() as i64);
        }
        if !tenures.is_empty() {
            self.withdrawals.launched(&request);
        }
        let (number, kind) = (self.started, request.kind);
        // Of an event that never had a request of its own this one says what a first attempt says.
        let is_first = kind == AttemptKind::Retry && request.first.is_untested;
        let told = if is_first { AttemptKind::FirstAttempt } else { kind };
        let outlet = self.outlet(kind);
        let (permit, sink) = (outlet.controller.started(told, request.events(), now), outlet.sink.clone());
        let Settings { mode, timeout, ref destination, .. } = self.settings;
        let settings = AttemptSettings { mode, timeout, destination: destination.clone() };
        self.deadlines.insert(number, now.checked_add(timeout.saturating_add(TIMEOUT_MARGIN)));
        let attempt = Attempt { number, permit, request, reserved, tenures };
        self.attempts.spawn(async move { attempt.post(&*sink, &settings).await });
    }

    /// Where attempts of a kind go.
    fn outlet(&mut self, kind: AttemptKind) -> &mut Outlet {
        self.dead_letters.as_mut().filter(|_| kind == AttemptKind::DeadLetter).unwrap_or(&mut self.sink)
    }

    fn finish_all(&mut self, finished: Result<EndedAttempt, JoinError>) -> Result<(), DispatcherFault> {
        let now = Instant::now();
        self.end_attempt(finished?, now)?;
        for _ in 1..MOST_FINISHED {
            let Some(finished) = self.attempts.try_join_next() else { break };
            self.end_attempt(finished?, now)?;
        }
        Ok(())
    }

    fn end_attempt(&mut self, ended: EndedAttempt, now: Instant) -> Result<(), DispatcherFault> {
        let (number, reserved, request) = match &ended {
            Ok(FinishedAttempt { number, reserved, request, .. }) => (*number, *reserved, request),
            Err(Attempt { number, reserved, request, .. }) => (*number, *reserved, request),
        };
        self.deadlines.remove(&number);
        self.bodies -= reserved;
        self.lanes.ended(request.kind);
        self.withdrawals.ended(request);
        match ended {
            Ok(finished) => self.finish(finished, now),
            Err(attempt) => {
                self.cut_off(attempt, now);
                Ok(())
            }
        }
    }

    /// A tenure ended first: nobody knows what has arrived. That says nothing of the sink, nor of the events.
    fn cut_off(&mut self, Attempt { permit, request, .. }: Attempt, now: Instant) {
        let report = AttemptReport {
            lane: request.first.lane,
            outcome: Outcome::Unsent,
            waiting_lanes: self.lanes.in_progress(),
        };
        self.outlet(request.kind).controller.ended(permit, report, now);
        for slice in request.slices() {
            slice.head.acknowledger.telemetry().metrics().in_flight.sub(slice.len() as i64);
        }
        // What was in company with others is tried again.
        let rest = self.keep_lasting(request, now);
        rest.into_iter().flat_map(Request::into_slices).for_each(|slice| self.lanes.put_back(slice, now));
    }

    fn finish(&mut self, mut finished: FinishedAttempt, now: Instant) -> Result<(), DispatcherFault> {
        if finished.request.kind == AttemptKind::FirstAttempt {
            self.batch_size.answered(finished.bytes, finished.request.events(), &finished.response);
        }
        finished.count();
        let failure = FailedResponse::of(&finished.response, clock::now());
        let change = self.report(&finished, failure.as_ref(), now);
        if finished.request.kind != AttemptKind::DeadLetter {
            self.tell_sink_state(change, &finished, failure.as_ref());
        }
        if failure.is_some() && !finished.request.slices().all(|slice| may_be_delivered(slice, now)) {
            // Before anything is decided about it.
            let Some(request) = self.keep_lasting(finished.request, now) else { return Ok(()) };
            finished.request = request;
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
        let readmission = self.settlement.next_change();
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

#[cfg(test)]
mod tests;
