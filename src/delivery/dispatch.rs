//! The one task that sends events: takes parcels in, keeps lanes, starts attempts, and settles what came of them.
//!
//! Contract:
//! - It always takes parcels in; how many there can be is bounded by whoever reads them.
//! - An event is settled when the sink has acknowledged it, or the dead-letter sink has, or the policy is to drop it;
//!   and never before.
//! - When told to stop it starts nothing more and waits for the answers that are under way; what is not settled by then
//!   stays unsettled as owed.

mod outcome;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::Uri;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::batch_size::BatchSize;
use super::health::{Attempt, SinkHealth};
use super::lanes::{Class, Classes, Departure, Lanes, Limits};
use super::parcel::Parcel;
use super::parked_items::ParkedItems;
use super::retry::Policy;
use crate::config::EventMode;
use crate::event::Message;
use crate::event::http::batch;
use crate::sink::{Sink, SinkResponse};
use crate::telemetry::events;

/// How long after [`Settings::timeout`] an attempt may take to be noticed as ended.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(10);

/// How events are delivered.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Requests under way at once, whole process, and what goes into one.
    pub limits: Limits,
    pub mode: EventMode,
    /// Time for one attempt.
    pub timeout: Duration,
    /// Pauses between attempts, and when to give up.
    pub policy: Policy,
    /// Where the sink is: dead letters say so.
    pub destination: Uri,
}

/// Where events go, and where those go that cannot be delivered there.
pub struct Sinks {
    pub sink: Arc<dyn Sink>,
    /// The dead-letter sink; needed only by the policy that uses it.
    pub dead_letters: Option<Arc<dyn Sink>>,
}

/// Delivers the events of all tables.
pub struct Dispatcher {
    lanes: Lanes<Parcel>,
    health: SinkHealth,
    sinks: Sinks,
    settings: Settings,
    attempts: FuturesUnordered<BoxFuture<'static, Done>>,
    outage: watch::Sender<Option<SinkOutage>>,
    batch_size: BatchSize,
    /// The last probe of a failing sink was an event that had never been tried.
    probed_fresh: bool,
    parked_items: Arc<ParkedItems>,
    activity: Arc<DispatcherActivity>,
    turns: u64,
    started: u64,
    /// When each attempt under way must have ended, by its number; none where that is beyond the clock.
    deadlines: BTreeMap<u64, Option<Instant>>,
    /// An event under way was not in its lane: nobody knows what was delivered any more.
    fault: Option<DispatcherFault>,
}

/// A state that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a request has ended whose event is in no lane")]
pub struct DispatcherFault;

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

    fn turn(&self) -> std::sync::MutexGuard<'_, Turn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sink fails as a whole, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkOutage {
    /// When that was noticed.
    pub since: SystemTime,
    /// What it said last.
    pub why: String,
}

/// An attempt that has ended.
struct Done {
    number: u64,
    /// The request's body.
    bytes: usize,
    departure: Departure,
    attempt: Attempt,
    answer: SinkResponse,
    took: Duration,
}

impl Dispatcher {
    /// A dispatcher that sends to `sinks`.
    pub fn new(sinks: Sinks, settings: Settings) -> Self {
        Self {
            lanes: Lanes::new(settings.limits),
            health: SinkHealth::new(settings.policy.backoff),
            batch_size: BatchSize::new(settings.limits.bytes),
            sinks,
            settings,
            attempts: FuturesUnordered::new(),
            outage: watch::Sender::default(),
            probed_fresh: false,
            parked_items: Arc::default(),
            activity: Arc::default(),
            turns: 0,
            started: 0,
            deadlines: BTreeMap::new(),
            fault: None,
        }
    }

    /// The items whose events keep failing, now and later.
    pub fn parked_items(&self) -> Arc<ParkedItems> {
        self.parked_items.clone()
    }

    /// What it is doing, now and later.
    pub fn activity(&self) -> Arc<DispatcherActivity> {
        self.activity.clone()
    }

    /// Whether the sink fails as a whole, now and later.
    pub fn outage(&self) -> watch::Receiver<Option<SinkOutage>> {
        self.outage.subscribe()
    }

    /// Delivers until told to stop, or until nobody can hand parcels in any more and all are settled.
    ///
    /// # Errors
    /// When it meets a state that cannot be; what is not settled then stays unsettled as owed.
    pub async fn run(
        mut self,
        mut parcels: mpsc::Receiver<Vec<Parcel>>,
        stop: CancellationToken,
    ) -> Result<(), DispatcherFault> {
        let stopped = stop.cancelled();
        tokio::pin!(stopped);
        let mut open = true;
        while open || !self.lanes.is_empty() {
            self.start_attempts(Instant::now());
            let wake = self.next_wake(Instant::now());
            self.tell_activity(wake);
            // Pages come first: the buffer bounds them, and an answer waits for none of them.
            select! {
                () = &mut stopped => break,
                page = parcels.recv(), if open => match page {
                    Some(page) => self.take_in(page),
                    None => open = false,
                },
                Some(done) = self.attempts.next(), if !self.attempts.is_empty() => self.finish(done),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            self.fault.map_or(Ok(()), Err)?;
        }
        events::ShutdownBegun { in_flight: self.attempts.len() }.emit();
        while let Some(done) = self.attempts.next().await {
            self.finish(done);
        }
        self.fault.map_or(Ok(()), Err)
    }

    fn tell_activity(&mut self, wake: Option<Instant>) {
        self.turns += 1;
        let now = Instant::now();
        let idle = self.attempts.is_empty() && wake.is_none() && !self.lanes.is_empty();
        let can_start = idle || wake.is_some_and(|wake| wake <= now);
        let oldest = self.deadlines.first_key_value().and_then(|(number, deadline)| Some((*number, (*deadline)?)));
        *self.activity.turn() = Turn { turns: self.turns, started: self.started, wake, can_start, oldest };
    }

    fn take_in(&mut self, page: Vec<Parcel>) {
        let now = Instant::now();
        for parcel in page {
            self.lanes.push(parcel.lane, parcel, now);
        }
    }

    fn start_attempts(&mut self, now: Instant) {
        while self.lanes.has_place() {
            let allowed = self.allowed(now);
            let Some((departure, message)) = self.depart(allowed, now) else { return };
            let is_letter = departure.class == Class::Letter;
            let probe = if is_letter { None } else { self.health.started() };
            if probe.is_some() {
                self.probed_fresh = departure.class == Class::Fresh;
            }
            self.started += 1;
            let attempt = Attempt { lane: departure.first.lane, first: departure.class == Class::Fresh, probe };
            let letters = self.sinks.dead_letters.as_ref().filter(|_| is_letter);
            let (sink, timeout) = (letters.unwrap_or(&self.sinks.sink).clone(), self.settings.timeout);
            let (number, bytes) = (self.started, message.body.len());
            self.deadlines.insert(number, now.checked_add(timeout.saturating_add(TIMEOUT_MARGIN)));
            self.attempts.push(Box::pin(async move {
                let answer = sink.post(message, timeout).await;
                Done { number, bytes, departure, attempt, answer, took: now.elapsed() }
            }));
        }
    }

    /// The next request that may leave, and its message.
    fn depart(&mut self, allowed: Classes, now: Instant) -> Option<(Departure, Message)> {
        let mut load = Load { messages: Vec::new(), bytes: "[]".len(), limit: self.batch_size.bytes() };
        let mut single = None;
        // A probe that fails must not break up a whole batch.
        let room = if self.health.down_since().is_some() { 1 } else { usize::MAX };
        let departure = self.lanes.start(allowed, now, |parcel| {
            let taken = match (&parcel.letter, self.settings.mode) {
                (Some(letter), _) => {
                    single = Some(parcel.message_with(&letter.extensions(&self.settings.destination)));
                    true
                }
                (None, EventMode::Batch) => load.messages.len() < room && load.take(parcel.message()),
                (None, EventMode::Binary | EventMode::Structured) => {
                    single = Some(parcel.message());
                    true
                }
            };
            if taken {
                parcel.acknowledger.telemetry().metrics().in_flight.inc();
            }
            taken
        })?;
        let message = single.unwrap_or_else(|| batch(load.messages.iter()));
        Some((departure, message))
    }

    /// Which events wait for nothing but permission. A failing sink is probed with an event that was never tried, if there
    /// is one: one that failed before may be at fault itself. Where retries have an end, the two take turns, or a backlog
    /// would keep events from coming to theirs for as long as the sink fails.
    fn candidates(&mut self, now: Instant) -> Classes {
        let waiting = self.lanes.waiting(now);
        if self.health.down_since().is_none() || !(waiting.fresh && waiting.repeats) {
            return waiting;
        }
        let repeat = self.settings.policy.gives_up() && self.probed_fresh;
        Classes { fresh: !repeat, repeats: repeat, ..waiting }
    }

    /// Which events may start now.
    fn allowed(&mut self, now: Instant) -> Classes {
        let candidates = self.candidates(now);
        let may = |first| self.health.may_start(first, now).is_some_and(|start| start <= now);
        Classes {
            fresh: candidates.fresh && may(true),
            repeats: candidates.repeats && may(false),
            letters: candidates.letters,
        }
    }

    /// When something may start that may not start now; nothing while all places are taken.
    fn next_wake(&mut self, now: Instant) -> Option<Instant> {
        if !self.lanes.has_place() {
            return None;
        }
        let candidates = self.candidates(now);
        let fresh = candidates.fresh.then(|| self.health.may_start(true, now)).flatten();
        let repeat = candidates.repeats.then(|| self.health.may_start(false, now)).flatten();
        fresh.into_iter().chain(repeat).chain(self.lanes.next_change(now)).min()
    }
}

/// A batch that is being filled.
struct Load {
    messages: Vec<Message>,
    bytes: usize,
    limit: usize,
}

impl Load {
    /// Takes an event in, if there is room; the first one in any case.
    fn take(&mut self, message: Message) -> bool {
        let bytes = self.bytes + message.body.len() + usize::from(!self.messages.is_empty());
        if !self.messages.is_empty() && bytes > self.limit {
            return false;
        }
        self.bytes = bytes;
        self.messages.push(message);
        true
    }
}

#[cfg(test)]
mod tests;
