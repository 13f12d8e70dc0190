//! Operational events: each one both logs and counts.
//!
//! Warnings and errors carry a `code` that names the situation and never changes: `docs/runbook/` has a page for each.

mod delivery;
mod process;
mod reading;

pub use delivery::{CheckpointFailed, ItemParked, SinkFailing, SinkRecovered};
pub use process::{AdminFailed, ConfigWarning, Listening, ShutdownBegun, ShutdownFinished, Starting};
pub use reading::{
    AwsRecovered, AwsRefused, DataLost, ShardEnded, ShardHandedOver, ShardOpened, StreamAwaited, StreamEnded,
    StreamListed, StreamOpened,
};
