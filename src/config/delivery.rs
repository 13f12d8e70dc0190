//! How events are delivered.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::choice::{Choice, choices};
use super::parse;
use super::reader::{Reader, Reported};
use super::variables;

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
    /// What follows when the sink refuses an event for good.
    pub on_undeliverable: OnUndeliverable,
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
    /// What follows when the sink refuses an event for good.
    OnUndeliverable {
        /// Its item waits while the event is tried at the slowest pace.
        Block = "block",
    }
}

/// The bounds of the pauses between attempts: the first is positive and no longer than the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
}

/// The bounds do not make a backoff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a backoff needs a positive shortest pause that is no longer than its longest")]
pub struct InvalidBackoff;

impl Backoff {
    /// Pauses from `min` to `max`.
    ///
    /// # Errors
    /// When `min` is zero or longer than `max`.
    pub fn new(min: Duration, max: Duration) -> Result<Self, InvalidBackoff> {
        match min.is_zero() || min > max {
            true => Err(InvalidBackoff),
            false => Ok(Self { min, max }),
        }
    }

    /// The shortest pause before jitter.
    pub fn min(&self) -> Duration {
        self.min
    }

    /// The longest pause, `Retry-After` included.
    pub fn max(&self) -> Duration {
        self.max
    }

    fn read(reader: &mut Reader) -> Result<Self, Reported> {
        let min = reader.value(&variables::RETRY_BACKOFF_MIN, parse::duration);
        let max = reader.value(&variables::RETRY_BACKOFF_MAX, parse::duration);
        let (min, max) = (min?, max?);
        Self::new(min, max).map_err(|_| {
            let why = parse::reversed("RETRY_BACKOFF_MIN", min, "RETRY_BACKOFF_MAX", max);
            reader.refused_pair(&variables::RETRY_BACKOFF_MIN, &variables::RETRY_BACKOFF_MAX, why)
        })
    }
}

impl Delivery {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, Reported> {
        let order = reader.value(&variables::DELIVERY_ORDER, DeliveryOrder::parse);
        let concurrency = reader.value(&variables::DELIVERY_CONCURRENCY, parse::concurrency);
        let timeout = timeout(reader);
        let backoff = Backoff::read(reader);
        let on_undeliverable = reader.value(&variables::ON_UNDELIVERABLE, OnUndeliverable::parse);
        Ok(Self {
            order: order?,
            concurrency: concurrency?,
            timeout: timeout?,
            backoff: backoff?,
            on_undeliverable: on_undeliverable?,
        })
    }
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
