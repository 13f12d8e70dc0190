//! Operational events: each one both logs and counts.
//!
//! Warnings and errors carry a `code` that names the situation and never changes: `docs/runbook/` has a page for each.
//! Everything else has none. What concerns one table has a field `table`; an item is shown by a hash of its key.

mod delivery;
mod process;
mod reading;
mod sink;

pub use delivery::{
    AttemptEnded, CheckpointFailed, CheckpointRecovered, DeadLetterSinkFailing, DeliveryFailed, EventDeadLettered,
    EventDropped, ItemParked, SinkFailing, SinkRecovered,
};
pub use process::{
    AdminFailed, ConfigWarning, Fault, Listening, ShutdownBegun, ShutdownFinished, Stalled, Starting, TableFault,
};
pub use reading::{
    AwsRecovered, AwsRefused, DataLost, ShardEnded, ShardHandedOver, ShardOpened, StreamAwaited, StreamEnded,
    StreamListed, StreamOpened,
};
pub use sink::{SinkFileUnusable, SinkFileUsable};

/// The codes of all warnings and errors. An alert or a page may rely on them.
pub const CODES: &[&str] = &[
    "DSA-ADMIN-FAILED",
    "DSA-AWS-DENIED",
    "DSA-AWS-FAILING",
    "DSA-AWS-THROTTLED",
    "DSA-CHECKPOINT-FAILED",
    "DSA-CONFIG",
    "DSA-DATA-LOSS",
    "DSA-DEAD-LETTER-SINK-FAILING",
    "DSA-DELIVERY-FAILED",
    "DSA-EVENT-DEAD-LETTERED",
    "DSA-EVENT-DROPPED",
    "DSA-FAULT",
    "DSA-ITEM-PARKED",
    "DSA-SINK-FAILING",
    "DSA-SINK-FILE",
    "DSA-STALLED",
    "DSA-STREAM-AWAITED",
];
