//! Operational events: each one both logs and counts.
//!
//! Warnings and errors carry a `code` that names the situation and never changes: `docs/runbook/` has a page for each.
//! Everything else has none. What concerns one table has a field `table`; an item is shown by a hash of its key.

mod delivery;
mod lease;
mod reading;
mod scaler;

use std::net::SocketAddr;
use std::time::Duration;

use tracing::{Level, error, info, warn};

use super::TableTelemetry;

pub use delivery::{
    AttemptEnded, DeadLetterSinkFailing, DeliveryFailed, EventDeadLettered, EventDropped, ItemParked, SinkFailing,
    SinkRecovered,
};
pub use lease::{
    HeadsLeftOut, LeaseAwaited, LeaseLost, LeaseReleased, LeaseStoreFailing, LeaseStoreRecovered, LeaseTaken,
};
pub use reading::{
    AwsRecovered, AwsRefused, DataLost, DecodableAgain, FurtherDataLost, NothingDecodable, NothingStored, RefusalClass,
    ShardEnded, ShardHandedOver, ShardLate, ShardOpened, StillStopped, StreamAwaited, StreamEnded, StreamListed,
    StreamOpened,
};
pub use scaler::{
    ScalerAsks, ScalerReaderFailing, ScalerReads, ScalerStarting, ScalerTableActive, ScalerTableFailing,
    ScalerTableInactive, ScalerTableRecovered, ScalerTlsFailing, ScalerTlsLoaded, ScalerTriggerIgnores,
    ScalerTriggerRefused,
};

/// The codes of all warnings and errors. An alert or a page may rely on them.
pub const CODES: &[&str] = &[
    "DSA-ADMIN-FAILED",
    "DSA-AWS-DENIED",
    "DSA-AWS-FAILING",
    "DSA-AWS-THROTTLED",
    "DSA-CHECKPOINT-AWAITED",
    "DSA-CHECKPOINT-CUT",
    "DSA-CHECKPOINT-FAILED",
    "DSA-CHECKPOINT-VOLUME",
    "DSA-CONFIG",
    "DSA-DATA-LOSS",
    "DSA-DEAD-LETTER-SINK-FAILING",
    "DSA-DELIVERY-FAILED",
    "DSA-EVENT-DEAD-LETTERED",
    "DSA-EVENT-DROPPED",
    "DSA-FAULT",
    "DSA-ITEM-PARKED",
    "DSA-LEASE-FAILING",
    "DSA-LEASE-LOST",
    "DSA-SCALER-READER",
    "DSA-SCALER-REFUSED",
    "DSA-SCALER-TABLE",
    "DSA-SCALER-TLS",
    "DSA-SHARD-LATE",
    "DSA-SINK-FAILING",
    "DSA-SINK-FILE",
    "DSA-STALLED",
    "DSA-STREAM-AWAITED",
    "DSA-UNDECODABLE",
];

/// Where lines come from that say how many others were left out: they are bounded by the number of those kinds.
pub(super) const LEFT_OUT_TARGET: &str = "dynamodb_streams_adapter::telemetry::left_out";

/// Lines of one kind were more than there may be in a minute.
pub struct LinesLeftOut<'a> {
    /// Level and code of the lines.
    pub level: Level,
    pub code: Option<&'a str>,
    pub table: Option<&'a str>,
    /// How their messages begin.
    pub message: &'a str,
    /// How many were left out since that was last said.
    pub times: u64,
}

impl LinesLeftOut<'_> {
    pub fn emit(&self) {
        let Self { level, code, table, message, times } = *self;
        match level {
            Level::ERROR => error!(target: LEFT_OUT_TARGET, code, table, times, "lines left out of the log: {message}"),
            Level::WARN => warn!(target: LEFT_OUT_TARGET, code, table, times, "lines left out of the log: {message}"),
            _ => info!(target: LEFT_OUT_TARGET, code, table, times, "lines left out of the log: {message}"),
        }
    }
}

/// The process starts, with a configuration that can be used.
pub struct Starting<'a> {
    pub version: &'a str,
    /// The tables, as the user named them.
    pub tables: &'a str,
    /// Scheme and authority of the sink; the rest may be secret.
    pub sink: &'a str,
}

impl Starting<'_> {
    pub fn emit(&self) {
        info!(version = self.version, tables = self.tables, sink = self.sink, "starting");
    }
}

/// The configuration has something in it that the operator should hear.
pub struct ConfigWarning<'a> {
    pub text: &'a str,
}

impl ConfigWarning<'_> {
    pub fn emit(&self) {
        warn!(code = "DSA-CONFIG", "{}", self.text);
    }
}

/// Stored positions cannot be read now. It is tried again until it works.
pub struct PositionsAwaited<'a> {
    /// None: they are the whole process's.
    pub table: Option<&'a str>,
    pub why: &'a str,
}

impl PositionsAwaited<'_> {
    pub fn emit(&self) {
        let code = "DSA-CHECKPOINT-AWAITED";
        warn!(code, table = self.table, "waiting for the stored positions, nothing is read before: {}", self.why);
    }
}

/// Stored positions can be read again.
pub struct PositionsThere<'a> {
    /// None: they are the whole process's.
    pub table: Option<&'a str>,
}

impl PositionsThere<'_> {
    pub fn emit(&self) {
        info!(table = self.table, "the stored positions are there");
    }
}

/// Positions are stored, and their volume lacks something that would make them safer.
pub struct VolumeLacks<'a> {
    /// The file of positions.
    pub path: &'a str,
    /// What is not promised there.
    pub what: &'a str,
    /// The file system's answer.
    pub error: &'a str,
}

impl VolumeLacks<'_> {
    pub fn emit(&self) {
        let Self { path, what, error } = *self;
        let code = "DSA-CHECKPOINT-VOLUME";
        warn!(code, path, "positions are stored, their volume promises less than others: {path}: {what} ({error})");
    }
}

/// The port for probes and metrics is open.
pub struct Listening {
    pub address: SocketAddr,
}

impl Listening {
    pub fn emit(&self) {
        info!(address = %self.address, "listening");
    }
}

/// The process was told to end.
pub struct ShutdownBegun {
    /// What was under way.
    pub in_flight: usize,
}

impl ShutdownBegun {
    pub fn emit(&self) {
        info!(in_flight = self.in_flight, "shutting down: reading stopped, waiting for responses of the sink");
    }
}

/// The process ends in order.
pub struct ShutdownFinished {
    /// Events that were read and not settled: they come again after a restart.
    pub unsettled: usize,
    /// How long it took.
    pub took: Duration,
}

impl ShutdownFinished {
    pub fn emit(&self) {
        info!(unsettled = self.unsettled, took_seconds = self.took.as_secs_f64(), "stopped");
    }
}

/// The port cannot be served any more.
pub struct AdminFailed<'a> {
    pub error: &'a str,
}

impl AdminFailed<'_> {
    /// Logs it; probes find out by themselves.
    pub fn emit(&self) {
        error!(code = "DSA-ADMIN-FAILED", "the HTTP server failed, probes and metrics are not served: {}", self.error);
    }
}

/// The program met a state that cannot be, or one of its tasks ended unasked.
pub struct Fault<'a> {
    pub what: &'a str,
}

impl Fault<'_> {
    /// Logs it; the process ends with exit code 70.
    pub fn emit(&self) {
        error!(code = "DSA-FAULT", "a fault of the adapter itself: {}", self.what);
    }
}

/// One table's part of the program met a state that cannot be.
pub struct TableFault<'a> {
    pub what: &'a str,
}

impl TableFault<'_> {
    /// Logs it; the table is read no further, the others go on.
    pub fn emit(&self, telemetry: &TableTelemetry) {
        telemetry.recent().add("DSA-FAULT", &format!("reading stopped: {}", self.what));
        let table = telemetry.table();
        error!(
            code = "DSA-FAULT",
            table, "a fault of the adapter itself, reading of this table stopped: {}", self.what
        );
    }
}

/// A part of the process stands still without a reason, or goes on again.
pub struct Stalled<'a> {
    /// Which, and what it should be doing; none when it goes on again.
    pub what: Option<&'a str>,
}

impl Stalled<'_> {
    /// Logs it; the liveness probe fails until it goes on.
    pub fn emit(&self) {
        match self.what {
            Some(what) => {
                error!(code = "DSA-STALLED", "a part of the adapter is blocked, the liveness probe fails: {what}")
            }
            None => info!("no part of the adapter is blocked any more, the liveness probe succeeds again"),
        }
    }
}

/// A file cannot be used as it is now.
pub struct SinkFileUnusable<'a> {
    /// Which, and why; nothing of its content.
    pub text: &'a str,
    /// Whether nothing can be sent. Otherwise the other files, or what this one held before, are used.
    pub stops_delivery: bool,
}

impl SinkFileUnusable<'_> {
    /// Logs it; attempts that fail for it are counted where they are made.
    pub fn emit(&self) {
        let text = self.text;
        match self.stops_delivery {
            true => error!(code = "DSA-SINK-FILE", "delivery stopped: {text}"),
            false => {
                warn!(
                    code = "DSA-SINK-FILE",
                    "a sink file is not usable, delivery continues without it or with its previous content: {text}"
                )
            }
        }
    }
}

/// A file can be used that could not be used before, or is not there any more and not needed.
pub struct SinkFileUsable<'a> {
    pub path: &'a str,
}

impl SinkFileUsable<'_> {
    pub fn emit(&self) {
        info!(path = self.path, "the sink file is usable again");
    }
}

/// Positions could not be stored.
pub struct CheckpointFailed<'a> {
    pub error: &'a str,
}

impl CheckpointFailed<'_> {
    /// Logs it; attempts are counted where they are made.
    pub fn emit(&self, telemetry: &TableTelemetry) {
        telemetry.recent().add("DSA-CHECKPOINT-FAILED", self.error);
        error!(
            code = "DSA-CHECKPOINT-FAILED",
            table = telemetry.table(),
            "positions are not stored, delivery continues; a restart would deliver events again: {}",
            self.error
        );
    }
}

/// Positions are stored again.
pub struct CheckpointRecovered {
    /// How often that had failed.
    pub failed: u64,
}

impl CheckpointRecovered {
    pub fn emit(&self, telemetry: &TableTelemetry) {
        info!(table = telemetry.table(), failed = self.failed, "positions are stored again");
    }
}
