//! How events are delivered.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::choice::{Choice, choices};
use super::event::EventMode;
use super::parse;
use super::reader::{Reader, Reported};
use super::variables;
use super::warning::Warning;
use crate::backoff::Backoff;

/// How events are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// What is kept in order.
    pub order: DeliveryOrder,
    /// Requests in flight, whole process: at most 10,000.
    pub concurrency: NonZeroUsize,
    /// Time for one attempt.
    pub timeout: Duration,
    /// Pauses between attempts.
    pub backoff: Backoff,
    /// When an event that is retried counts as undeliverable.
    pub limits: RetryLimits,
    /// What follows when an event is undeliverable.
    pub on_undeliverable: OnUndeliverable,
    /// What goes into one request of batch mode.
    pub batch: Batch,
}

/// When an event that is retried counts as undeliverable: never, if neither is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryLimits {
    /// After so many attempts.
    pub attempts: Option<NonZeroU32>,
    /// When its first attempt was begun so long ago.
    pub age: Option<Duration>,
}

/// What goes into one request of batch mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// The most events.
    pub events: NonZeroUsize,
    /// The most bytes of the body; a single event that is longer goes by itself.
    pub bytes: usize,
    /// How long an event waits for company.
    pub wait: Duration,
}

choices! {
    /// What is kept in order.
    DeliveryOrder {
        /// The changes of each item.
        Item = "item",
        /// Everything in a shard.
        Shard = "shard",
    }
}

choices! {
    /// What follows when an event is undeliverable.
    OnUndeliverable {
        /// Its item waits while the event is tried at the slowest pace.
        Block = "block",
        /// It goes to the dead-letter sink, until that has taken it.
        DeadLetter = "dead-letter",
        /// It is given up.
        Drop = "drop",
    }
}

impl Delivery {
    /// `mode` is the events' content mode, if it is known.
    pub(super) fn read(reader: &mut Reader, mode: Option<EventMode>) -> Result<Self, Reported> {
        let order = reader.value(&variables::DELIVERY_ORDER, DeliveryOrder::parse);
        let concurrency = reader.value(&variables::DELIVERY_CONCURRENCY, parse::concurrency);
        let timeout = timeout(reader);
        let backoff = backoff(reader);
        let limits = RetryLimits::read(reader);
        let on_undeliverable = reader.value(&variables::ON_UNDELIVERABLE, OnUndeliverable::parse);
        let batch = Batch::read(reader, mode);
        Ok(Self {
            order: order?,
            concurrency: concurrency?,
            timeout: timeout?,
            backoff: backoff?,
            limits: limits?,
            on_undeliverable: on_undeliverable?,
            batch: batch?,
        })
    }
}

impl RetryLimits {
    fn read(reader: &mut Reader) -> Result<Self, Reported> {
        let attempts = reader.optional(&variables::RETRY_MAX_ATTEMPTS, parse::attempts);
        let age = reader.optional(&variables::RETRY_MAX_AGE, parse::duration);
        Ok(Self { attempts: attempts?, age: age? })
    }
}

impl Batch {
    fn read(reader: &mut Reader, mode: Option<EventMode>) -> Result<Self, Reported> {
        for variable in [&variables::BATCH_MAX_EVENTS, &variables::BATCH_MAX_BYTES, &variables::BATCH_MAX_WAIT] {
            if mode.is_some_and(|mode| mode != EventMode::Batch) && reader.is_changed(variable) {
                reader.warn(Warning::NoEffect { name: variable.name, unless: "EVENT_MODE=batch" });
            }
        }
        let events = reader.value(&variables::BATCH_MAX_EVENTS, parse::batch_events);
        let bytes = reader.value(&variables::BATCH_MAX_BYTES, parse::small_size);
        let wait = reader.value(&variables::BATCH_MAX_WAIT, parse::wait);
        Ok(Self { events: events?, bytes: bytes?, wait: wait? })
    }
}

fn backoff(reader: &mut Reader) -> Result<Backoff, Reported> {
    let min = reader.value(&variables::RETRY_BACKOFF_MIN, parse::duration);
    let max = reader.value(&variables::RETRY_BACKOFF_MAX, parse::duration);
    let (min, max) = (min?, max?);
    Backoff::new(min, max).map_err(|_| {
        let why = parse::reversed("RETRY_BACKOFF_MIN", min, "RETRY_BACKOFF_MAX", max);
        reader.refused_pair(&variables::RETRY_BACKOFF_MIN, &variables::RETRY_BACKOFF_MAX, why)
    })
}

/// `DELIVERY_TIMEOUT`, else `K_SINK_TIMEOUT`, else the former's default; both are checked in any case.
fn timeout(reader: &mut Reader) -> Result<Duration, Reported> {
    let own = reader.optional(&variables::DELIVERY_TIMEOUT, parse::duration);
    let platform = reader.optional(&variables::K_SINK_TIMEOUT, parse::seconds);
    match own?.or(platform?.flatten()) {
        Some(timeout) => Ok(timeout),
        None => reader.value(&variables::DELIVERY_TIMEOUT, parse::duration),
    }
}
