//! How events are delivered.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::event::EventMode;
use super::parse::{self, Choice, choices};
use super::reader::{AlreadyReported, Reader, Warning};
use super::variable::{Accepts, Default, Group, Variable, variables};

variables! {
    BATCH_MAX_EVENTS {
        group: Group::Event,
        default: Default::Value("100"),
        accepts: Accepts::Phrase("a whole number from `1` to `1000`"),
        meaning: "Maximum number of events per request in batch mode.",
    }
    BATCH_MAX_BYTES {
        group: Group::Event,
        default: Default::Value("1MiB"),
        accepts: Accepts::Phrase("a size such as `256KiB` or `1MiB`, from `1KiB` to `1GiB`"),
        meaning: "Maximum size of a request body in batch mode; a single larger event is sent alone.",
    }
    BATCH_MAX_WAIT {
        group: Group::Event,
        default: Default::Value("100ms"),
        accepts: Accepts::Phrase("a duration, or `0` to send without waiting"),
        meaning: "Maximum time to wait for a batch to fill.",
    }
    K_SINK_TIMEOUT {
        group: Group::Delivery,
        accepts: Accepts::Phrase("whole seconds up to `86400`; 0 and negative values count as not set"),
        meaning: "Fallback for `DELIVERY_TIMEOUT`, set by the platform, in seconds.",
    }
    DELIVERY_TIMEOUT {
        group: Group::Delivery,
        default: Default::Else { value: "30s", rule: "`K_SINK_TIMEOUT`, else `30s`" },
        accepts: Accepts::Duration,
        meaning: "Timeout of one delivery attempt.",
    }
    DELIVERY_ORDER {
        group: Group::Delivery,
        default: Default::Value("item"),
        accepts: Accepts::OneOf(DeliveryOrder::NAMES),
        meaning: "Scope of the order. `item`: the changes of each item stay in order. `shard`: all changes of a shard \
            stay in order.",
    }
    DELIVERY_CONCURRENCY {
        group: Group::Delivery,
        default: Default::Value("64"),
        accepts: Accepts::Phrase("a whole number from `1` to `10000`"),
        meaning: "Maximum number of requests in flight, for the whole process.",
    }
    RETRY_BACKOFF_MIN {
        group: Group::Delivery,
        default: Default::Value("100ms"),
        accepts: Accepts::Duration,
        meaning: "First pause before a retry; the pause doubles with every retry and is jittered.",
    }
    RETRY_BACKOFF_MAX {
        group: Group::Delivery,
        default: Default::Value("30s"),
        accepts: Accepts::Duration,
        meaning: "Maximum pause before a retry, `Retry-After` included; at least `RETRY_BACKOFF_MIN`.",
    }
    RETRY_MAX_ATTEMPTS {
        group: Group::Delivery,
        accepts: Accepts::Phrase("a whole number from `1` to `1000000`"),
        meaning: "Maximum number of attempts; after that an event is undeliverable. Not set: no limit.",
    }
    RETRY_MAX_AGE {
        group: Group::Delivery,
        accepts: Accepts::Duration,
        meaning: "Maximum age of an event, from its first attempt; when an attempt fails after that, the event is \
            undeliverable. Not set: no limit.",
    }
    ON_UNDELIVERABLE {
        group: Group::Delivery,
        default: Default::Value("block"),
        accepts: Accepts::OneOf(OnUndeliverable::NAMES),
        meaning: "Reaction to an event that the sink rejects permanently or that exceeds a retry limit. `block`: the \
            item waits, and the event is retried at `RETRY_BACKOFF_MAX`; other items continue. `dead-letter`: the event \
            goes to `DEAD_LETTER_SINK`. `drop`: the event is lost.",
    }
}

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

    fn read(reader: &mut Reader) -> Result<Self, AlreadyReported> {
        let min = reader.value(&RETRY_BACKOFF_MIN, parse::duration);
        let max = reader.value(&RETRY_BACKOFF_MAX, parse::duration);
        let (min, max) = (min?, max?);
        Self::new(min, max).map_err(|_| {
            let why = parse::reversed("RETRY_BACKOFF_MIN", min, "RETRY_BACKOFF_MAX", max);
            reader.refused_pair(&RETRY_BACKOFF_MIN, &RETRY_BACKOFF_MAX, why)
        })
    }
}

impl Delivery {
    /// `mode` is the events' content mode, if it is known.
    pub(super) fn read(reader: &mut Reader, mode: Option<EventMode>) -> Result<Self, AlreadyReported> {
        let order = reader.value(&DELIVERY_ORDER, DeliveryOrder::parse);
        let concurrency = reader.value(&DELIVERY_CONCURRENCY, parse::concurrency);
        let timeout = timeout(reader);
        let backoff = Backoff::read(reader);
        let limits = RetryLimits::read(reader);
        let on_undeliverable = reader.value(&ON_UNDELIVERABLE, OnUndeliverable::parse);
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
    fn read(reader: &mut Reader) -> Result<Self, AlreadyReported> {
        let attempts = reader.optional(&RETRY_MAX_ATTEMPTS, parse::attempts);
        let age = reader.optional(&RETRY_MAX_AGE, parse::duration);
        Ok(Self { attempts: attempts?, age: age? })
    }
}

impl Batch {
    fn read(reader: &mut Reader, mode: Option<EventMode>) -> Result<Self, AlreadyReported> {
        for variable in [&BATCH_MAX_EVENTS, &BATCH_MAX_BYTES, &BATCH_MAX_WAIT] {
            if mode.is_some_and(|mode| mode != EventMode::Batch) && reader.is_changed(variable) {
                reader.warn(Warning::NoEffect { name: variable.name, unless: "EVENT_MODE=batch" });
            }
        }
        let events = reader.value(&BATCH_MAX_EVENTS, parse::batch_events);
        let bytes = reader.value(&BATCH_MAX_BYTES, parse::small_size);
        let wait = reader.value(&BATCH_MAX_WAIT, parse::wait);
        Ok(Self { events: events?, bytes: bytes?, wait: wait? })
    }
}

/// `DELIVERY_TIMEOUT`, else `K_SINK_TIMEOUT`, else the former's default; both are checked in any case.
fn timeout(reader: &mut Reader) -> Result<Duration, AlreadyReported> {
    let own = reader.optional(&DELIVERY_TIMEOUT, parse::duration);
    let platform = reader.optional(&K_SINK_TIMEOUT, parse::seconds);
    match own?.or(platform?.flatten()) {
        Some(timeout) => Ok(timeout),
        None => reader.value(&DELIVERY_TIMEOUT, parse::duration),
    }
}
