//! One request on its way: its message is made, posted, and answered, or it is cut off because a tenure ends.
//!
//! Contract:
//! - An attempt of a table that this process owns for a time goes no step further once that time is over, by the clocks at that step. What
//!   was written to the sink by then may still arrive.
//! - A request with events of several tables ends with the first of their tenures.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::Uri;
use tokio::time::Instant;

use super::lanes::{LaneItem as _, LaneSlice, Request};
use super::pending_event::BoxedEvent;
use super::sink_controller::{AttemptKind, Permit};
use crate::clock;
use crate::config::EventMode;
use crate::event::Message;
use crate::event::http::batch;
use crate::lease::Tenure;
use crate::sink::{Sink, SinkResponse};
use crate::telemetry::events;

/// A request that may start.
pub(super) struct Attempt {
    /// Attempts are counted.
    pub(super) number: u64,
    pub(super) permit: Permit,
    pub(super) request: Request<BoxedEvent>,
    /// What was set aside for the request's body.
    pub(super) reserved: usize,
    pub(super) tenures: Tenures,
}

/// How an attempt is made.
#[derive(Debug, Clone)]
pub(super) struct AttemptSettings {
    pub(super) mode: EventMode,
    pub(super) timeout: Duration,
    /// Where the sink is: dead letters say so.
    pub(super) destination: Uri,
}

/// An attempt that has ended with an answer, or because none came.
pub(super) struct FinishedAttempt {
    pub(super) number: u64,
    pub(super) permit: Permit,
    pub(super) request: Request<BoxedEvent>,
    pub(super) reserved: usize,
    /// Of the request's body.
    pub(super) bytes: usize,
    pub(super) response: SinkResponse,
    pub(super) took: Duration,
}

/// What an attempt came to: itself if a tenure ended first, and then nobody knows what of it arrives.
pub(super) type EndedAttempt = Result<FinishedAttempt, Attempt>;

/// The tenures during which a request may be under way; none where its tables are nobody else's.
#[derive(Debug, Default)]
pub(super) struct Tenures(Vec<Arc<Tenure>>);

impl Tenures {
    /// Of a request.
    pub(super) fn of(request: &Request<BoxedEvent>) -> Self {
        let mut tenures = Self::default();
        for tenure in request.slices().filter_map(|slice| slice.head.acknowledger.tenure()) {
            if !tenures.0.iter().any(|known| Arc::ptr_eq(known, &tenure)) {
                tenures.0.push(tenure);
            }
        }
        tenures
    }

    /// Whether there is none that could end.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of them last at this moment.
    pub(super) fn last(&self, now: Instant) -> bool {
        self.0.is_empty() || self.0.iter().all(|tenure| tenure.lasts(now, clock::now()))
    }

    /// What a request comes to; nothing if a tenure ends first.
    async fn during<T>(&self, request: impl Future<Output = T>) -> Option<T> {
        if self.is_empty() {
            return Some(request.await);
        }
        let (mut request, mut ends) = (pin!(request), self.ends());
        poll_fn(|context| self.poll_during(context, &mut ends, |context| request.as_mut().poll(context))).await
    }

    fn ends(&self) -> FuturesUnordered<impl Future<Output = ()>> {
        self.0.iter().map(|tenure| tenure.over().cancelled()).collect()
    }

    /// A machine that was suspended wakes everybody at once: who is not told yet that the time is over sees it here.
    fn poll_during<T>(
        &self,
        context: &mut Context<'_>,
        ends: &mut FuturesUnordered<impl Future<Output = ()>>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Option<T>> {
        if ends.poll_next_unpin(context).is_ready() || !self.last(Instant::now()) {
            return Poll::Ready(None);
        }
        poll(context).map(Some)
    }
}

/// Whether a slice's events may be delivered at this moment.
pub(super) fn may_be_delivered(slice: &LaneSlice<BoxedEvent>, now: Instant) -> bool {
    slice.head.acknowledger.tenure().is_none_or(|tenure| tenure.lasts(now, clock::now()))
}

impl Attempt {
    /// Posts it.
    ///
    /// # Errors
    /// The attempt itself, if a tenure ended first: nobody knows what of it arrives.
    pub(super) async fn post(mut self, sink: &dyn Sink, settings: &AttemptSettings) -> EndedAttempt {
        let message = compose(&mut self.request, settings.mode, &settings.destination);
        let bytes = message.body.len();
        let Some(response) = self.tenures.during(sink.post(message, settings.timeout)).await else { return Err(self) };
        let Self { number, permit, request, reserved, .. } = self;
        Ok(FinishedAttempt { number, permit, request, reserved, bytes, response, took: permit.start().elapsed() })
    }
}

impl FinishedAttempt {
    /// Counts it, for the request and for each table's events.
    pub(super) fn count(&self) {
        let is_letter = self.request.kind == AttemptKind::DeadLetter;
        let code = match &self.response {
            SinkResponse::Accepted { status, .. } | SinkResponse::Refused { status, .. } => status.as_str(),
            SinkResponse::Failed { error, .. } => error.as_str(),
        };
        for slice in self.request.slices() {
            let telemetry = slice.head.acknowledger.telemetry();
            telemetry.metrics().in_flight.sub(slice.len() as i64);
            if !is_letter {
                telemetry.events_attempted(slice.len(), slice.failures == 0, code);
            }
        }
        let first = &self.request.first.head;
        let telemetry = first.acknowledger.telemetry();
        if events::AttemptEnded::is_wanted() {
            let (event, events, took) = (&first.id(), self.request.events(), self.took);
            events::AttemptEnded { event, events, code, took }.emit(telemetry);
        }
        if is_letter {
            telemetry.dead_letter_attempt(code);
        } else {
            telemetry.delivery_attempt(code, self.took);
        }
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
