//! Does what a response means for each event of the request: it is settled, tried again, parked, left out, or goes to the dead-letter
//! sink; and it tells telemetry and readiness.
//!
//! Contract:
//! - An event is acknowledged once, and only when it has come to its end.
//! - While the sink refuses everything, no event is given up because it was refused; while it is down, none is parked for its faults.
//! - Parked events together take at most about the share of one lane. What is parked beyond is left out, and comes again when there is
//!   room for it, or after [`READMISSION`].
//! - The process is not ready because of the sink only while the sink is down as a whole, and something waits for it, or did a short while ago.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::FinishedAttempt;
use super::lanes::{LaneItem as _, LaneKey, LaneSlice, Lanes, Request, UnknownLane};
use super::parked_items::{FailedItem, ParkedItems, item_hash};
use super::pending_event::{BoxedEvent, DeadLetter, PendingEvent};
use super::response_class::{BatchResponse, FailedResponse, ResponseClass};
use super::retry::{FailedAttempt, OnUndeliverable, RetryDecision, RetryPause, RetryPolicy};
use super::sink_controller::AttemptKind;
use crate::clock;
use crate::config::EventMode;
use crate::progress::Acknowledger;
use crate::readiness::FailingCall;
use crate::sink::SinkResponse;
use crate::telemetry::{TableTelemetry, events};

/// What was left out whole is tried again so often, though nothing made room for it.
const READMISSION: Duration = Duration::from_secs(10 * 60);

/// So long after the last event was given up during an outage the process counts as kept from delivering.
const OUTAGE_KNOWN: Duration = Duration::from_secs(2 * 60);

/// What the controller says of the sink, after the attempt was reported.
#[derive(Debug, Clone, Copy)]
pub(super) struct SinkState {
    pub(super) is_down: bool,
    /// It is down because it refuses every event.
    pub(super) is_refusing: bool,
}

/// How an event came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Delivered,
    DeadLettered,
    Dropped,
}

/// Applies outcomes to lanes.
pub(super) struct Settlement {
    policy: RetryPolicy,
    mode: EventMode,
    /// The most bytes that are parked; no limit where nothing may be left out.
    parked_share: usize,
    parked_items: Arc<ParkedItems>,
    /// Tables of which an event failed while the sink was down.
    kept_waiting: BTreeMap<usize, Arc<dyn Acknowledger>>,
    /// Since when nothing is left to be sent, though they are kept waiting.
    quiet_since: Option<Instant>,
    /// Tables of which lanes were left out whole, and when those are tried again at the latest.
    left_out: BTreeMap<usize, Arc<dyn Acknowledger>>,
    readmission: Option<Instant>,
}

type EventSlice = LaneSlice<BoxedEvent>;
type EventLanes = Lanes<BoxedEvent>;

impl Settlement {
    pub(super) fn new(policy: RetryPolicy, mode: EventMode, parked_share: usize) -> Self {
        Self {
            policy,
            mode,
            parked_share,
            parked_items: Arc::default(),
            kept_waiting: BTreeMap::new(),
            quiet_since: None,
            left_out: BTreeMap::new(),
            readmission: None,
        }
    }

    pub(super) fn parked_items(&self) -> Arc<ParkedItems> {
        self.parked_items.clone()
    }

    /// Does what the response of a request means for each of its events.
    pub(super) fn apply(
        &mut self,
        lanes: &mut EventLanes,
        finished: FinishedAttempt,
        failure: Option<FailedResponse>,
        sink: SinkState,
        now: Instant,
    ) -> Result<(), UnknownLane> {
        if !sink.is_down {
            // The outage is over, though perhaps not for each event.
            self.sink_answered(now);
        }
        let FinishedAttempt { request, response, .. } = finished;
        match (request.kind, failure) {
            (AttemptKind::DeadLetter, None) => self.settle_all(lanes, request.first, End::DeadLettered, now),
            (AttemptKind::DeadLetter, Some(failure)) => {
                self.letter_failed(lanes, request.first, &failure, now);
                Ok(())
            }
            (_, None) => self.accepted(lanes, request, &response, sink, now),
            (_, Some(failure)) => {
                let is_alone = request.events() == 1;
                let failed = Failed { failure: &failure, letter: &|| DeadLetter::after(&response), is_alone, sink };
                request.into_slices().try_for_each(|slice| self.failed(lanes, slice, &failed, now))
            }
        }
    }

    /// An event will never be sent, because its body would be too long.
    pub(super) fn refuse(
        &mut self,
        lanes: &mut EventLanes,
        slice: EventSlice,
        why: &str,
        now: Instant,
    ) -> Result<(), UnknownLane> {
        if self.policy.on_undeliverable != OnUndeliverable::Block {
            let failure = FailedResponse { class: ResponseClass::EventFault, retry_after: None, why: why.to_owned() };
            let sink = SinkState { is_down: false, is_refusing: false };
            let failed = Failed { failure: &failure, letter: &|| DeadLetter::too_long(why), is_alone: true, sink };
            return self.failed(lanes, slice, &failed, now);
        }
        let (key, event, failures) = (slice.lane, slice.head.id(), slice.failures + 1);
        let held = lanes.hold(slice, now).ok_or(UnknownLane)?;
        let telemetry = held.acknowledger.telemetry();
        self.parked_items.failed(
            telemetry.table(),
            FailedItem { lane: key, event: &event, failures, why },
            clock::now(),
        );
        telemetry.metrics().parked.inc();
        events::ItemParked { item: &item_hash(key), event: &event, why, failures }.emit(telemetry);
        // Its position stays owed; nobody keeps the event.
        held.acknowledger.release(held.cost);
        Ok(())
    }

    /// Events of one lane for which there is no room: they stay owed, and come again.
    pub(super) fn leave_out(&mut self, events: Vec<BoxedEvent>) {
        let Some(first) = events.first() else { return };
        let acknowledger = first.acknowledger.clone();
        let tokens = events.into_iter().filter_map(|event| Some((event.token?, event.cost)));
        acknowledger.leave_out(tokens.collect());
    }

    /// Events of one table that nobody keeps any more, nor brings again in this tenure: they stay owed.
    pub(super) fn give_back(&self, events: Vec<BoxedEvent>) {
        let Some(first) = events.first() else { return };
        first.acknowledger.release(events.iter().map(|event| event.cost).sum());
    }

    /// Looks whether nothing is left to be sent. Where the last event was given up during an outage, nobody tries the sink before there is
    /// another one: after a while it is not known any more that the sink is down.
    pub(super) fn look_for_quiet(&mut self, is_quiet: bool, now: Instant) {
        if !is_quiet || self.kept_waiting.is_empty() {
            self.quiet_since = None;
        } else if now >= *self.quiet_since.get_or_insert(now) + OUTAGE_KNOWN {
            self.sink_answered(now);
        }
    }

    fn sink_answered(&mut self, now: Instant) {
        let tables = std::mem::take(&mut self.kept_waiting);
        tables.into_values().for_each(|table| table.health().sink_answered(now));
    }

    /// Nothing of a table is left here.
    pub(super) fn forget(&mut self, table: &dyn Acknowledger) {
        self.kept_waiting.remove(&table.table());
        table.health().sink_took();
        self.left_out.remove(&table.table());
        let telemetry = table.telemetry();
        self.parked_items.forget(telemetry.table());
        telemetry.metrics().parked.set(0);
    }

    /// When there is something to do at the latest, besides outcomes.
    pub(super) fn next_change(&self) -> Option<Instant> {
        let forgotten = self.quiet_since.map(|since| since + OUTAGE_KNOWN);
        self.readmission.into_iter().chain(forgotten).min()
    }

    /// Lanes that were left out whole come again, if it is time.
    pub(super) fn readmit_due(&mut self, now: Instant) {
        if self.readmission.is_some_and(|readmission| readmission <= now) {
            self.readmit();
        }
    }

    fn readmit(&mut self) {
        self.readmission = None;
        std::mem::take(&mut self.left_out).into_values().for_each(|table| table.readmit());
    }

    /// The sink took the request; of a batch it may not have taken everything.
    fn accepted(
        &mut self,
        lanes: &mut EventLanes,
        request: Request<BoxedEvent>,
        response: &SinkResponse,
        sink: SinkState,
        now: Instant,
    ) -> Result<(), UnknownLane> {
        let reply = match response {
            SinkResponse::Accepted { body, end, .. } if self.mode == EventMode::Batch => {
                BatchResponse::read(body, *end)
            }
            _ => BatchResponse::AllTaken,
        };
        if reply == BatchResponse::AllTaken {
            return request.into_slices().try_for_each(|slice| self.settle_all(lanes, slice, End::Delivered, now));
        }
        let names: Vec<Vec<[String; 3]>> =
            request.slices().map(|slice| slice.events().map(|event| event.names()).collect()).collect();
        let reply = reply.about(names.iter().flatten().map(texts));
        let failure = FailedResponse::not_taken(&reply);
        let failed = Failed { failure: &failure, letter: &|| DeadLetter::after(response), is_alone: true, sink };
        for (slice, names) in request.into_slices().zip(&names) {
            let taken = names.iter().take_while(|names| reply.took(texts(names))).count();
            if let Some(rest) = self.settle(lanes, slice, taken, End::Delivered, now)? {
                self.failed(lanes, rest, &failed, now)?;
            }
        }
        Ok(())
    }

    fn settle_all(
        &mut self,
        lanes: &mut EventLanes,
        slice: EventSlice,
        end: End,
        now: Instant,
    ) -> Result<(), UnknownLane> {
        let all = slice.len();
        self.settle(lanes, slice, all, end, now).map(|_| ())
    }

    /// The slice's first events have come to their end. Returns what is left of it.
    fn settle(
        &mut self,
        lanes: &mut EventLanes,
        slice: EventSlice,
        count: usize,
        end: End,
        now: Instant,
    ) -> Result<Option<EventSlice>, UnknownLane> {
        let (key, mut made_room) = (slice.lane, false);
        let parked_items = &self.parked_items;
        let rest = lanes.settle(slice, count, now, |event, was_parked| {
            made_room |= was_parked;
            if was_parked {
                no_longer_parked(parked_items, event.acknowledger.telemetry(), key);
            }
            if matches!(end, End::Delivered) {
                event.acknowledger.health().sink_took();
            }
            end.count(&event);
            event.acknowledge();
        })?;
        if made_room && lanes.parked_bytes() <= self.parked_share / 2 {
            self.readmit();
        }
        Ok(rest)
    }

    /// The slice's first event failed, and with it what travelled behind it in the same request.
    fn failed(
        &mut self,
        lanes: &mut EventLanes,
        slice: EventSlice,
        failed: &Failed,
        now: Instant,
    ) -> Result<(), UnknownLane> {
        self.report_failure(&slice.head.acknowledger, failed, now);
        match self.decide(&slice, failed, now) {
            RetryDecision::Again => self.retry(lanes, slice, failed.failure, now),
            RetryDecision::Parked => self.park(lanes, slice, failed.failure, now),
            RetryDecision::Dropped => self.drop_event(lanes, slice, failed, now)?,
            RetryDecision::DeadLetter => self.divert(lanes, slice, failed, now),
        }
        Ok(())
    }

    /// Tells readiness what a failure says of the sink.
    fn report_failure(&mut self, table: &Arc<dyn Acknowledger>, failed: &Failed, now: Instant) {
        match failed.is_events_fault() {
            true => table.health().sink_took(),
            false => table.health().sink_refused(now),
        }
        if failed.sink.is_down {
            table.health().record_failure(FailingCall::Sink, &failed.failure.why, false, now);
            self.kept_waiting.insert(table.table(), table.clone());
        }
    }

    fn decide(&self, slice: &EventSlice, failed: &Failed, now: Instant) -> RetryDecision {
        let Failed { failure, is_alone, sink, .. } = *failed;
        let (attempts, age) = (slice.failures + 1, now.duration_since(slice.first_try));
        match self.policy.decide(FailedAttempt { class: failure.class, attempts, age, alone: is_alone }) {
            _ if failure.class == ResponseClass::EventFault && sink.is_refusing => RetryDecision::Again,
            // While the sink is down that says nothing of the event.
            RetryDecision::Parked if sink.is_down && !failed.is_events_fault() => RetryDecision::Again,
            decision => decision,
        }
    }

    fn drop_event(
        &mut self,
        lanes: &mut EventLanes,
        slice: EventSlice,
        failed: &Failed,
        now: Instant,
    ) -> Result<(), UnknownLane> {
        let (item, event, attempts) = (&item_hash(slice.lane), &slice.head.id(), slice.failures + 1);
        let why = &failed.failure.why;
        events::EventDropped { item, event, why, attempts }.emit(slice.head.acknowledger.telemetry());
        if let Some(rest) = self.settle(lanes, slice, 1, End::Dropped, now)? {
            lanes.put_back(rest, now);
        }
        Ok(())
    }

    /// The slice's first event goes to the dead-letter sink.
    fn divert(&mut self, lanes: &mut EventLanes, mut slice: EventSlice, failed: &Failed, now: Instant) {
        let (key, acknowledger) = (slice.lane, slice.head.acknowledger.clone());
        let (item, event, attempts) = (&item_hash(key), &slice.head.id(), slice.failures + 1);
        let why = &failed.failure.why;
        events::EventDeadLettered { item, event, why, attempts }.emit(acknowledger.telemetry());
        slice.head.dead_letter = Some(Box::new((failed.letter)()));
        if lanes.divert(slice, now) {
            no_longer_parked(&self.parked_items, acknowledger.telemetry(), key);
        }
    }

    /// The slice's first event is tried again after a pause; a parked one stays parked.
    fn retry(&mut self, lanes: &mut EventLanes, slice: EventSlice, failure: &FailedResponse, now: Instant) {
        if lanes.is_parked(slice.lane) {
            return self.park(lanes, slice, failure, now);
        }
        let backoff = self.policy.backoff;
        let own = backoff.pause(slice.failures + 1, fastrand::f64());
        let asked = failure.retry_after.map(|asked| asked.min(backoff.max()));
        let pause = match asked.filter(|asked| *asked > own) {
            Some(asked) => RetryPause::asked(now + asked),
            None => RetryPause::backoff(now + own),
        };
        let acknowledger = slice.head.acknowledger.clone();
        lanes.retry(slice, pause, now);
        events::DeliveryFailed { why: &failure.why }.emit(acknowledger.telemetry());
    }

    /// The slice's first event is tried again at the slowest pace, or left out with its lane where what is parked has no room for it.
    fn park(&mut self, lanes: &mut EventLanes, slice: EventSlice, failure: &FailedResponse, now: Instant) {
        let (key, failures) = (slice.lane, slice.failures + 1);
        if !lanes.is_parked(key) && self.lacks_room(lanes, &slice) {
            return self.leave_out_whole(lanes, slice, now);
        }
        let (acknowledger, event, why) = (slice.head.acknowledger.clone(), slice.head.id(), &*failure.why);
        let telemetry = acknowledger.telemetry();
        let failed = FailedItem { lane: key, event: &event, failures, why };
        self.parked_items.failed(telemetry.table(), failed, clock::now());
        if lanes.retry(slice, RetryPause::parked(now + self.policy.backoff.max()), now) {
            telemetry.metrics().parked.inc();
            events::ItemParked { item: &item_hash(key), event: &event, why, failures }.emit(telemetry);
        }
    }

    /// Whether what is parked would take more than its share with this one.
    fn lacks_room(&self, lanes: &EventLanes, slice: &EventSlice) -> bool {
        let would_take = lanes.parked_bytes().saturating_add(slice.head.cost);
        would_take > self.parked_share && slice.head.may_be_left_out() && lanes.may_leave_out(slice.lane)
    }

    fn leave_out_whole(&mut self, lanes: &mut EventLanes, slice: EventSlice, now: Instant) {
        let acknowledger = slice.head.acknowledger.clone();
        self.left_out.insert(acknowledger.table(), acknowledger);
        self.readmission.get_or_insert(now + READMISSION);
        let events = lanes.leave_out(slice, now);
        self.leave_out(events);
    }

    /// The dead-letter sink did not take an event: only a success settles it.
    fn letter_failed(&mut self, lanes: &mut EventLanes, slice: EventSlice, failure: &FailedResponse, now: Instant) {
        events::DeadLetterSinkFailing { why: &failure.why }.emit(slice.head.acknowledger.telemetry());
        let is_slow = self.policy.backoff.is_at_its_slowest(slice.failures + 1);
        match failure.class {
            ResponseClass::EventFault => self.park(lanes, slice, failure, now),
            ResponseClass::Overloaded => self.retry(lanes, slice, failure, now),
            _ if is_slow => self.park(lanes, slice, failure, now),
            _ => self.retry(lanes, slice, failure, now),
        }
    }
}

/// What is the same for all events of a request that failed.
#[derive(Clone, Copy)]
struct Failed<'a> {
    failure: &'a FailedResponse,
    letter: &'a dyn Fn() -> DeadLetter,
    /// Only one event was in the request, or the sink has named those that failed.
    is_alone: bool,
    sink: SinkState,
}

impl Failed<'_> {
    /// Whether the failure says something of the event; otherwise it does of the sink.
    fn is_events_fault(&self) -> bool {
        matches!(self.failure.class, ResponseClass::EventFault | ResponseClass::NotTaken)
    }
}

impl End {
    fn count(self, event: &PendingEvent) {
        let telemetry = event.acknowledger.telemetry();
        match self {
            Self::Delivered => telemetry.delivered(event.created()),
            Self::DeadLettered => telemetry.metrics().events_dead_lettered.inc(),
            Self::Dropped => telemetry.metrics().events_dropped.inc(),
        }
    }
}

/// The lane's first event was parked, and is not any more.
fn no_longer_parked(parked_items: &ParkedItems, telemetry: &TableTelemetry, lane: LaneKey) {
    telemetry.metrics().parked.dec();
    parked_items.settled(telemetry.table(), lane);
}

fn texts(names: &[String; 3]) -> [&str; 3] {
    [&names[0], &names[1], &names[2]]
}
