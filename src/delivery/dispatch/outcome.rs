//! What an answer means for the events that were on board.

use std::time::Duration;

use tokio::time::Instant;

use super::{Dispatcher, DispatcherFault, Done, SinkOutage};
use crate::clock;
use crate::config::EventMode;
use crate::delivery::dead_letter::DeadLetter;
use crate::delivery::health::Change;
use crate::delivery::lanes::{Class, LaneKey, Passengers};
use crate::delivery::parcel::Parcel;
use crate::delivery::parked_items::item_hash;
use crate::delivery::partial::Reply;
use crate::delivery::retry::{FailedAttempt, Fate, Verdict, honours_retry_after, judge};
use crate::readiness::FailingCall;
use crate::sink::{RetryAfter, SinkResponse};
use crate::telemetry::{TableTelemetry, events};

/// Why an attempt failed.
struct Failure {
    verdict: Verdict,
    /// The pause that the sink asks for.
    asked: Option<Duration>,
    why: String,
}

/// How an event came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Delivered,
    DeadLettered,
    Dropped,
}

impl Dispatcher {
    pub(super) fn finish(&mut self, done: Done) {
        let now = Instant::now();
        self.count(&done);
        self.deadlines.remove(&done.number);
        self.lanes.arrived(done.departure.class);
        if done.departure.class == Class::Fresh {
            self.batch_size.answered(done.bytes, done.departure.events(), &done.answer);
        }
        match (done.departure.class, self.failure(&done.answer)) {
            (Class::Letter, None) => self.settle(done.departure.first.lane, End::DeadLettered, now),
            (Class::Letter, Some(failure)) => self.letter_failed(&done, &failure, now),
            (_, None) => {
                self.sink_is_up(now);
                self.accepted(&done, now);
            }
            (_, Some(failure)) => {
                if matches!(failure.verdict, Verdict::SinkFault | Verdict::Unsent) {
                    self.sink_failed(&done, &failure, now);
                } else {
                    self.sink_is_up(now);
                }
                let alone = done.departure.events() == 1;
                for passengers in done.departure.passengers() {
                    self.failed(passengers, &failure, &done.answer, alone, now);
                }
            }
        }
    }

    fn count(&self, done: &Done) {
        let is_letter = done.departure.class == Class::Letter;
        let code = match &done.answer {
            SinkResponse::Accepted { status, .. } | SinkResponse::Refused { status, .. } => status.as_str(),
            SinkResponse::Failed { error, .. } => error.as_str(),
        };
        for passengers in done.departure.passengers() {
            if let Some(parcel) = self.lanes.first(passengers.lane) {
                let telemetry = parcel.acknowledger.telemetry();
                telemetry.metrics().in_flight.sub(passengers.events as i64);
                if !is_letter {
                    telemetry.events_attempted(passengers.events, passengers.failures == 0, code);
                }
            }
        }
        let Some(first) = self.lanes.first(done.departure.first.lane) else { return };
        let telemetry = first.acknowledger.telemetry();
        if events::AttemptEnded::is_wanted() {
            let (event, events, took) = (&first.id(), done.departure.events(), done.took);
            events::AttemptEnded { event, events, code, took }.emit(telemetry);
        }
        if is_letter {
            telemetry.dead_letter_attempt(code);
        } else {
            telemetry.delivery_attempt(code, done.took);
        }
    }

    /// What was wrong; nothing if it was accepted.
    fn failure(&self, answer: &SinkResponse) -> Option<Failure> {
        match answer {
            SinkResponse::Accepted { .. } => None,
            SinkResponse::Refused { status, retry_after, .. } => {
                let code = status.as_u16();
                let asked = retry_after.filter(|_| honours_retry_after(code)).map(|asked| self.pause_for(asked));
                if status.is_success() {
                    let why =
                        format!("the sink answers with {code}, but X-Amz-Function-Error says that its function failed");
                    return Some(Failure { verdict: Verdict::NotTaken, asked: None, why });
                }
                Some(Failure { verdict: judge(code), asked, why: format!("HTTP {status}") })
            }
            SinkResponse::Failed { error, message } => {
                let verdict = if error.is_own() { Verdict::Unsent } else { Verdict::SinkFault };
                Some(Failure { verdict, asked: None, why: message.clone() })
            }
        }
    }

    /// The sink took the request; of a batch it may not have taken everything.
    fn accepted(&mut self, done: &Done, now: Instant) {
        let reply = match &done.answer {
            SinkResponse::Accepted { body, end, .. } if self.settings.mode == EventMode::Batch => {
                Reply::read(body, *end)
            }
            _ => Reply::AllTaken,
        };
        if reply == Reply::AllTaken {
            for passengers in done.departure.passengers() {
                (0..passengers.events).for_each(|_| self.settle(passengers.lane, End::Delivered, now));
            }
            return;
        }
        let names: Vec<Vec<[String; 3]>> =
            done.departure.passengers().map(|passengers| self.names(passengers)).collect();
        let reply = reply.about(names.iter().flatten().map(texts));
        let why = match reply {
            Reply::AllFailed(why) => format!("the sink answers with success, but {why}"),
            _ => "the sink answers with success, but names this event as failed".to_owned(),
        };
        let failure = Failure { verdict: Verdict::NotTaken, asked: None, why };
        for (passengers, names) in done.departure.passengers().zip(&names) {
            let taken = names.iter().take_while(|names| reply.took(texts(names))).count();
            (0..taken).for_each(|_| self.settle(passengers.lane, End::Delivered, now));
            if taken < passengers.events {
                self.failed(passengers, &failure, &done.answer, true, now);
            }
        }
    }

    fn names(&self, passengers: &Passengers) -> Vec<[String; 3]> {
        self.lanes.events(passengers.lane).take(passengers.events).map(Parcel::names).collect()
    }

    /// The lane's first event has come to its end.
    fn settle(&mut self, lane: LaneKey, end: End, now: Instant) {
        let Some((parcel, was_parked)) = self.lanes.settle(lane, now) else {
            return self.fault = Some(DispatcherFault);
        };
        let telemetry = parcel.acknowledger.telemetry();
        match end {
            End::Delivered => {
                telemetry.delivered(parcel.created());
            }
            End::DeadLettered => telemetry.metrics().events_dead_lettered.inc(),
            End::Dropped => telemetry.metrics().events_dropped.inc(),
        }
        parcel.acknowledger.health().sink_answered(now);
        self.not_parked(telemetry, lane, was_parked);
        parcel.acknowledger.acknowledge(parcel.token, parcel.cost);
    }

    /// The lane's first event failed, and with it whatever was on board behind it.
    fn failed(&mut self, passengers: &Passengers, failure: &Failure, answer: &SinkResponse, alone: bool, now: Instant) {
        let Some(parcel) = self.lanes.first(passengers.lane) else {
            return self.fault = Some(DispatcherFault);
        };
        let (acknowledger, lane, why) = (parcel.acknowledger.clone(), passengers.lane, failure.why.as_str());
        let telemetry = acknowledger.telemetry();
        acknowledger.health().record_failure(FailingCall::Sink, why, false, now);
        let attempts = passengers.failures + 1;
        let age = now.duration_since(passengers.first_try);
        match self.settings.policy.fate(FailedAttempt { verdict: failure.verdict, attempts, age, alone }) {
            fate @ (Fate::Again | Fate::Parked) => self.retry(passengers, failure, fate == Fate::Parked, now),
            Fate::Dropped => {
                events::EventDropped { item: &item_hash(lane), event: &parcel.id(), why, attempts }.emit(telemetry);
                self.settle(passengers.lane, End::Dropped, now);
                self.lanes.put_back(passengers.lane);
            }
            Fate::DeadLetter => {
                events::EventDeadLettered { item: &item_hash(lane), event: &parcel.id(), why, attempts }
                    .emit(telemetry);
                let was_parked = self.lanes.divert(passengers.lane, now);
                self.not_parked(telemetry, passengers.lane, was_parked);
                if let Some(parcel) = self.lanes.first_mut(passengers.lane) {
                    parcel.letter = Some(Box::new(DeadLetter::after(answer)));
                }
            }
        }
    }

    fn retry(&mut self, passengers: &Passengers, failure: &Failure, parked: bool, now: Instant) {
        let (lane, failures) = (passengers.lane, passengers.failures + 1);
        let backoff = self.settings.policy.backoff;
        let parked = parked || self.lanes.is_parked(lane);
        let pause = if parked { backoff.max() } else { backoff.pause(failures, fastrand::f64()) };
        let due = now + pause.max(failure.asked.unwrap_or_default());
        let is_news = self.lanes.retry(lane, due, parked, now);
        let Some(parcel) = self.lanes.first(lane) else { return };
        let telemetry = parcel.acknowledger.telemetry();
        if !parked {
            events::DeliveryFailed { why: &failure.why }.emit(telemetry);
            return;
        }
        let event = parcel.id();
        self.parked_items.failed(telemetry.table(), lane, &event, failures, &failure.why, clock::now());
        if is_news {
            telemetry.metrics().parked.inc();
            events::ItemParked { item: &item_hash(lane), event: &event, why: &failure.why, failures }.emit(telemetry);
        }
    }

    /// The dead-letter sink did not take an event: only a success settles it.
    fn letter_failed(&mut self, done: &Done, failure: &Failure, now: Instant) {
        let passengers = &done.departure.first;
        if let Some(parcel) = self.lanes.first(passengers.lane) {
            let telemetry = parcel.acknowledger.telemetry();
            let why = format!("dead-letter sink: {}", failure.why);
            parcel.acknowledger.health().record_failure(FailingCall::Sink, &why, false, now);
            events::DeadLetterSinkFailing { why: &failure.why }.emit(telemetry);
        }
        let slow = self.settings.policy.backoff.is_at_its_slowest(passengers.failures + 1);
        self.retry(passengers, failure, slow || failure.verdict == Verdict::EventFault, now);
    }

    fn sink_failed(&mut self, done: &Done, failure: &Failure, now: Instant) {
        let why = &failure.why;
        if self.health.failed(done.attempt, failure.asked, now, fastrand::f64()) == Change::WentDown {
            events::SinkFailing { why }.emit();
            if let Some(parcel) = self.lanes.first(done.attempt.lane) {
                parcel.acknowledger.telemetry().recent().add("DSA-SINK-FAILING", why);
            }
            self.outage.send_replace(Some(SinkOutage { since: clock::now(), why: String::new() }));
        }
        self.outage.send_if_modified(|outage| match outage {
            Some(outage) if outage.why != *why => {
                why.clone_into(&mut outage.why);
                true
            }
            _ => false,
        });
    }

    fn sink_is_up(&mut self, now: Instant) {
        if let Change::CameUp(after) = self.health.answered(now) {
            events::SinkRecovered { after }.emit();
            self.outage.send_replace(None);
            self.lanes.end_all_pauses();
        }
    }

    /// The lane's first event is parked no more, if it was.
    fn not_parked(&self, telemetry: &TableTelemetry, lane: LaneKey, was_parked: bool) {
        if was_parked {
            telemetry.metrics().parked.dec();
            self.parked_items.settled(telemetry.table(), lane);
        }
    }

    fn pause_for(&self, asked: RetryAfter) -> Duration {
        let pause = match asked {
            RetryAfter::Delay(pause) => pause,
            RetryAfter::At(moment) => moment.duration_since(clock::now()).unwrap_or_default(),
        };
        pause.min(self.settings.policy.backoff.max())
    }
}

fn texts(names: &[String; 3]) -> [&str; 3] {
    [&names[0], &names[1], &names[2]]
}
