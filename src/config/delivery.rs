//! How events are delivered.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::event::EventMode;
use super::parse::{self, Choice, Lenient, choices};
use super::reader::{AlreadyReported, Reader, Warning};
use super::variable::{Accepts, Default, Group, Variable, variables};
use crate::backoff::Backoff;

variables! {
    BATCH_MAX_EVENTS as batch_max_events: NonZeroUsize = parse::batch_events {
        group: Group::Event,
        default: Default::Value("100"),
        accepts: Accepts::Phrase("a whole number from `1` to `1000`"),
        meaning: "Maximum number of events per request in batch mode.",
    }
    BATCH_MAX_BYTES as batch_max_bytes: usize = parse::small_size {
        group: Group::Event,
        default: Default::Value("1MiB"),
        accepts: Accepts::Phrase("a size such as `256KiB` or `1MiB`, from `1KiB` to `1GiB`"),
        meaning: "Maximum size of a request body in batch mode; a single larger event is sent alone.",
    }
    BATCH_MAX_WAIT as batch_max_wait: Duration = parse::wait {
        group: Group::Event,
        default: Default::Value("100ms"),
        accepts: Accepts::Phrase("a duration, or `0` to send without waiting"),
        meaning: "Maximum time to wait for a batch to fill.",
    }
    K_SINK_TIMEOUT as k_sink_timeout: Lenient<Option<Duration>> = parse::seconds {
        group: Group::Delivery,
        accepts: Accepts::Phrase("whole seconds up to `86400`; anything else counts as not set"),
        meaning: "Fallback for `DELIVERY_TIMEOUT`, set by the platform, in seconds.",
    }
    DELIVERY_TIMEOUT as delivery_timeout: Duration = parse::duration {
        group: Group::Delivery,
        default: Default::Else { value: "30s", rule: "`K_SINK_TIMEOUT`, else `30s`" },
        accepts: Accepts::Duration,
        meaning: "Timeout of one delivery attempt.",
    }
    DELIVERY_ORDER as delivery_order: DeliveryOrder = DeliveryOrder::parse {
        group: Group::Delivery,
        default: Default::Value("item"),
        accepts: Accepts::OneOf(DeliveryOrder::NAMES),
        meaning: "Scope of the order. `item`: the changes of each item stay in order. `shard`: all changes of a shard \
            stay in order, and those of its children follow.",
    }
    DELIVERY_CONCURRENCY as delivery_concurrency: NonZeroUsize = parse::concurrency {
        group: Group::Delivery,
        default: Default::Value("64"),
        accepts: Accepts::Phrase("a whole number from `1` to `10000`"),
        meaning: "Maximum number of requests in flight, for the whole process; less where the limit of open files does not \
            allow it, with a warning.",
    }
    DELIVERY_RATE_MAX as delivery_rate_max: f64 = parse::rate {
        group: Group::Delivery,
        accepts: Accepts::Phrase("a number of events a second such as `500` or `0.5`, up to `1000000`"),
        meaning: "Maximum number of events delivered per second, for the whole process. Not set: as fast as the sink takes \
            them.",
    }
    EVENT_BYTES_MAX as event_bytes_max: usize = parse::small_size {
        group: Group::Delivery,
        default: Default::Value("16MiB"),
        accepts: Accepts::Phrase("a size such as `256KiB` or `16MiB`, from `1KiB` to `1GiB`"),
        meaning: "Maximum size of the body of one event. A larger event is undeliverable: it is not sent to the sink, and a \
            dead letter of it has no data.",
    }
    RETRY_BACKOFF_MIN as retry_backoff_min: Duration = parse::duration {
        group: Group::Delivery,
        default: Default::Value("100ms"),
        accepts: Accepts::Duration,
        meaning: "First pause before a retry; the pause doubles with every retry and is jittered.",
    }
    RETRY_BACKOFF_MAX as retry_backoff_max: Duration = parse::duration {
        group: Group::Delivery,
        default: Default::Value("30s"),
        accepts: Accepts::Duration,
        meaning: "Maximum pause before a retry, `Retry-After` included unless the sink asks several items to wait; at least \
            `RETRY_BACKOFF_MIN`.",
    }
    RETRY_MAX_ATTEMPTS as retry_max_attempts: NonZeroU32 = parse::attempts {
        group: Group::Delivery,
        accepts: Accepts::Phrase("a whole number from `1` to `1000000`"),
        meaning: "Maximum number of attempts; after that an event is undeliverable. Not set: no limit.",
    }
    RETRY_MAX_AGE as retry_max_age: Duration = parse::duration {
        group: Group::Delivery,
        accepts: Accepts::Duration,
        meaning: "Maximum age of an event, from its first attempt; when an attempt fails after that, the event is \
            undeliverable. Not set: no limit.",
    }
    ON_UNDELIVERABLE as on_undeliverable: OnUndeliverable = OnUndeliverable::parse {
        group: Group::Delivery,
        default: Default::Value("block"),
        accepts: Accepts::OneOf(OnUndeliverable::NAMES),
        meaning: "Reaction to an event that the sink rejects permanently or that exceeds a retry limit. `block`: the \
            item waits, and the event is retried at `RETRY_BACKOFF_MAX`; other items continue. `dead-letter`: the event \
            goes to `DEAD_LETTER_SINK`. `drop`: the event is lost.",
    }
}

/// How events are delivered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delivery {
    /// What is kept in order.
    pub order: DeliveryOrder,
    /// Requests in flight, whole process: at most 10,000.
    pub concurrency: NonZeroUsize,
    /// Events a second, whole process: above 0, and at most 1,000,000. None: as many as the sink takes.
    pub rate_max: Option<f64>,
    /// The longest body of one event, in bytes; a longer one makes its event undeliverable.
    pub event_bytes_max: usize,
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
    /// When its first attempt began so long ago.
    pub age: Option<Duration>,
}

/// What goes into one request of batch mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// The most events.
    pub events: NonZeroUsize,
    /// The most bytes of the body; a single longer event is sent alone.
    pub bytes: usize,
    /// How long an event waits for others.
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
    /// `mode` is the events' content mode, if it is known; `open_files` as many files as the process may have open.
    pub(super) fn read(
        reader: &mut Reader,
        mode: Option<EventMode>,
        open_files: Option<u64>,
    ) -> Result<Self, AlreadyReported> {
        let given: Given = reader.section();
        let order = reader.value(&given.delivery_order);
        let concurrency = concurrency(reader, &given, open_files);
        let rate_max = reader.optional(&given.delivery_rate_max);
        let event_bytes_max = reader.value(&given.event_bytes_max);
        let timeout = timeout(reader, &given);
        let backoff = backoff(reader, &given);
        let limits = RetryLimits::read(reader, &given);
        let on_undeliverable = reader.value(&given.on_undeliverable);
        let batch = Batch::read(reader, &given, mode);
        Ok(Self {
            order: order?,
            concurrency: concurrency?,
            rate_max: rate_max?,
            event_bytes_max: event_bytes_max?,
            timeout: timeout?,
            backoff: backoff?,
            limits: limits?,
            on_undeliverable: on_undeliverable?,
            batch: batch?,
        })
    }
}

/// What the process opens besides connections to AWS and to sinks: its ports and who is connected to them, positions, files with
/// credentials.
const OWN_FILES: u64 = 160;

/// A third of what is left is for the sink, a third for the dead-letter sink's connections, a third for AWS.
fn fitting(open_files: u64) -> NonZeroUsize {
    let fitting = usize::try_from(open_files.saturating_sub(OWN_FILES) / 3).unwrap_or(usize::MAX);
    NonZeroUsize::new(fitting).unwrap_or(NonZeroUsize::MIN)
}

/// As many requests as are asked for, or as the process can have connections for.
fn concurrency(reader: &mut Reader, given: &Given, open_files: Option<u64>) -> Result<NonZeroUsize, AlreadyReported> {
    let wanted = reader.value(&given.delivery_concurrency)?;
    let Some(open_files) = open_files.filter(|files| fitting(*files) < wanted) else { return Ok(wanted) };
    let fitting = fitting(open_files);
    reader.warn(Warning::Cut { name: DELIVERY_CONCURRENCY.name, wanted, fitting, open_files });
    Ok(fitting)
}

impl RetryLimits {
    fn read(reader: &mut Reader, given: &Given) -> Result<Self, AlreadyReported> {
        let attempts = reader.optional(&given.retry_max_attempts);
        let age = reader.optional(&given.retry_max_age);
        Ok(Self { attempts: attempts?, age: age? })
    }
}

impl Batch {
    fn read(reader: &mut Reader, given: &Given, mode: Option<EventMode>) -> Result<Self, AlreadyReported> {
        if mode.is_some_and(|mode| mode != EventMode::Batch) {
            let unless = "EVENT_MODE=batch";
            reader.warn_no_effect(&given.batch_max_events, unless);
            reader.warn_no_effect(&given.batch_max_bytes, unless);
            reader.warn_no_effect(&given.batch_max_wait, unless);
        }
        let events = reader.value(&given.batch_max_events);
        let bytes = reader.value(&given.batch_max_bytes);
        let wait = reader.value(&given.batch_max_wait);
        Ok(Self { events: events?, bytes: bytes?, wait: wait? })
    }
}

fn backoff(reader: &mut Reader, given: &Given) -> Result<Backoff, AlreadyReported> {
    let min = reader.value(&given.retry_backoff_min);
    let max = reader.value(&given.retry_backoff_max);
    let (min, max) = (min?, max?);
    Backoff::new(min, max).map_err(|_| {
        let why = parse::reversed("RETRY_BACKOFF_MIN", min, "RETRY_BACKOFF_MAX", max);
        reader.refused_pair(&given.retry_backoff_min, &given.retry_backoff_max, why)
    })
}

/// `DELIVERY_TIMEOUT`, else `K_SINK_TIMEOUT`, else the former's default; both are checked in any case.
fn timeout(reader: &mut Reader, given: &Given) -> Result<Duration, AlreadyReported> {
    let own = reader.optional(&given.delivery_timeout);
    let platform = reader.lenient(&given.k_sink_timeout);
    match own?.or(platform?.flatten()) {
        Some(timeout) => Ok(timeout),
        None => reader.value(&given.delivery_timeout),
    }
}
