//! The one task that sends events: takes parcels in, keeps lanes, starts attempts, and settles what came of them.
//!
//! Contract:
//! - It always takes parcels in; how many there can be is bounded by whoever reads them.
//! - An event is settled when the sink has acknowledged it, and never before.
//! - When told to stop it starts nothing more and waits for the answers that are under way; what is not settled by then
//!   stays unsettled in the books.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::health::{Attempt, Change, SinkHealth};
use super::lanes::{Allowed, LaneKey, Lanes};
use super::parcel::{Account, Parcel};
use super::retry::{Backoff, Verdict, honours_retry_after, judge};
use super::sink::{Answer, RetryAfter, Sink};
use crate::telemetry::events;

/// How events are delivered.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Requests under way at once, whole process.
    pub concurrency: usize,
    /// Time for one attempt.
    pub timeout: Duration,
    /// Pauses between attempts.
    pub backoff: Backoff,
}

/// Delivers the events of all tables.
pub struct Dispatcher {
    lanes: Lanes<Parcel>,
    health: SinkHealth,
    sink: Arc<dyn Sink>,
    settings: Settings,
    attempts: FuturesUnordered<BoxFuture<'static, Done>>,
    outage: watch::Sender<Option<SinkOutage>>,
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
    attempt: Attempt,
    failures: u32,
    answer: Answer,
    account: Arc<dyn Account>,
    took: Duration,
}

impl Dispatcher {
    /// A dispatcher that sends to `sink`.
    pub fn new(sink: Arc<dyn Sink>, settings: Settings) -> Self {
        Self {
            lanes: Lanes::new(settings.concurrency),
            health: SinkHealth::new(settings.backoff),
            sink,
            settings,
            attempts: FuturesUnordered::new(),
            outage: watch::Sender::default(),
        }
    }

    /// Whether the sink fails as a whole, now and later.
    pub fn outage(&self) -> watch::Receiver<Option<SinkOutage>> {
        self.outage.subscribe()
    }

    /// Delivers until told to stop, or until nobody can hand parcels in any more and all are settled.
    pub async fn run(mut self, mut parcels: mpsc::Receiver<Vec<Parcel>>, stop: CancellationToken) {
        let stopped = stop.cancelled();
        tokio::pin!(stopped);
        let mut open = true;
        while open || !self.lanes.is_empty() {
            self.start_attempts(Instant::now());
            let wake = self.next_wake(Instant::now());
            tokio::select! {
                Some(done) = self.attempts.next(), if !self.attempts.is_empty() => self.finish(done),
                batch = parcels.recv(), if open => match batch {
                    Some(batch) => batch.into_iter().for_each(|parcel| self.lanes.push(parcel.lane, parcel)),
                    None => open = false,
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                () = &mut stopped => break,
            }
        }
        events::ShutdownBegun { in_flight: self.attempts.len() }.emit();
        while let Some(done) = self.attempts.next().await {
            self.finish(done);
        }
    }

    fn start_attempts(&mut self, now: Instant) {
        while self.lanes.has_place() {
            let Some(allowed) = self.allowed(now) else { return };
            let Some(departure) = self.lanes.start(allowed, now) else { return };
            let (lane, failures) = (departure.lane, departure.failures);
            let first = failures == 0;
            let parcel = departure.event;
            let (message, account) = (parcel.message(), parcel.account.clone());
            account.telemetry().metrics().in_flight.inc();
            let attempt = Attempt { lane, first, probe: self.health.started() };
            let (sink, timeout) = (self.sink.clone(), self.settings.timeout);
            self.attempts.push(Box::pin(async move {
                let answer = sink.post(message, timeout).await;
                Done { attempt, failures, answer, account, took: now.elapsed() }
            }));
        }
    }

    /// Which events may start now. While the sink fails, an event that was never tried makes the better probe: one that
    /// failed before may be at fault itself.
    fn allowed(&mut self, now: Instant) -> Option<Allowed> {
        let (fresh, due) = self.lanes.waiting(now);
        let may = |first| self.health.may_start(first, now).is_some_and(|start| start <= now);
        match (fresh && may(true), due && may(false)) {
            (true, true) if self.health.down_since().is_none() => Some(Allowed::All),
            (true, _) => Some(Allowed::Fresh),
            (false, true) => Some(Allowed::Repeats),
            (false, false) => None,
        }
    }

    /// When something may start that may not start now; nothing while all places are taken.
    fn next_wake(&mut self, now: Instant) -> Option<Instant> {
        if !self.lanes.has_place() {
            return None;
        }
        let (fresh, due) = self.lanes.waiting(now);
        let fresh = fresh.then(|| self.health.may_start(true, now)).flatten();
        let due = due.then(|| self.health.may_start(false, now)).flatten();
        fresh.into_iter().chain(due).chain(self.lanes.next_pause_end()).min()
    }

    fn finish(&mut self, done: Done) {
        let telemetry = done.account.telemetry();
        let metrics = telemetry.metrics();
        metrics.in_flight.dec();
        metrics.delivery_duration.observe(done.took.as_secs_f64());
        let now = Instant::now();
        match &done.answer {
            Answer::Accepted { status, .. } => {
                match status.as_u16() {
                    202 => metrics.delivery_accepted.inc(),
                    _ => metrics.delivery_attempts.with_label_values(&[telemetry.table(), status.as_str()]).inc(),
                }
                self.settle(done.attempt.lane);
                self.sink_is_up(now);
            }
            Answer::Refused { status, retry_after, .. } => {
                metrics.delivery_attempts.with_label_values(&[telemetry.table(), status.as_str()]).inc();
                let asked =
                    retry_after.filter(|_| honours_retry_after(status.as_u16())).map(|asked| self.pause_for(asked));
                let why = format!("it answered {status}");
                self.failed(&done, judge(status.as_u16()), asked, &why, now);
            }
            Answer::Failed { fault, message } => {
                metrics.delivery_attempts.with_label_values(&[telemetry.table(), fault.as_str()]).inc();
                self.failed(&done, Verdict::SinkFault, None, message, now);
            }
        }
    }

    fn settle(&mut self, lane: LaneKey) {
        let Some((parcel, was_parked)) = self.lanes.settle(lane) else { return };
        let telemetry = parcel.account.telemetry();
        telemetry.delivered(parcel.created());
        telemetry.sink_answered();
        telemetry.metrics().parked.sub(i64::from(was_parked));
        if was_parked {
            telemetry.parked().settled(lane);
        }
        parcel.account.settled(parcel.ticket, parcel.cost);
    }

    fn failed(&mut self, done: &Done, verdict: Verdict, asked: Option<Duration>, why: &str, now: Instant) {
        let telemetry = done.account.telemetry();
        telemetry.sink_refused(why);
        let failures = done.failures + 1;
        let backoff = self.settings.backoff;
        if verdict == Verdict::SinkFault {
            self.sink_failed(done, asked, why, now);
        } else {
            self.sink_is_up(now);
        }
        let parked = verdict == Verdict::EventFault || backoff.is_at_its_slowest(failures);
        let pause = if parked { backoff.max() } else { backoff.pause(failures, fastrand::f64()) };
        let due = now + pause.max(asked.unwrap_or_default());
        if parked {
            telemetry.parked().failed(done.attempt.lane, failures, why, SystemTime::now());
        }
        if self.lanes.retry(done.attempt.lane, due, parked) {
            telemetry.metrics().parked.inc();
            events::ItemParked { lane: done.attempt.lane, why, failures }.emit(telemetry);
        }
    }

    fn sink_failed(&mut self, done: &Done, asked: Option<Duration>, why: &str, now: Instant) {
        if self.health.failed(done.attempt, asked, now, fastrand::f64()) == Change::WentDown {
            events::SinkFailing { why }.emit();
            done.account.telemetry().recent().add("DSA-SINK-FAILING", why);
            self.outage.send_replace(Some(SinkOutage { since: SystemTime::now(), why: String::new() }));
        }
        self.outage.send_if_modified(|outage| match outage {
            Some(outage) if outage.why != why => {
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
            self.lanes.end_all_pauses(now);
        }
    }

    fn pause_for(&self, asked: RetryAfter) -> Duration {
        let pause = match asked {
            RetryAfter::Delay(pause) => pause,
            RetryAfter::At(moment) => moment.duration_since(SystemTime::now()).unwrap_or_default(),
        };
        pause.min(self.settings.backoff.max())
    }
}
