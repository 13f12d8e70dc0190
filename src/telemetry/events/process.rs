//! What happens to the process.

use std::net::SocketAddr;
use std::time::Duration;

use tracing::{error, info, warn};

use crate::telemetry::TableTelemetry;

/// The process starts.
pub struct Starting<'a> {
    /// Its version.
    pub version: &'a str,
    /// The tables, as the user named them.
    pub tables: &'a str,
    /// Scheme and authority of the sink; the rest may be secret.
    pub sink: &'a str,
}

impl Starting<'_> {
    /// Says so.
    pub fn emit(&self) {
        info!(version = self.version, tables = self.tables, sink = self.sink, "starting");
    }
}

/// The configuration has something in it that the operator should hear.
pub struct ConfigWarning<'a> {
    /// What.
    pub text: &'a str,
}

impl ConfigWarning<'_> {
    /// Says so.
    pub fn emit(&self) {
        warn!(code = "DSA-CONFIG", "{}", self.text);
    }
}

/// The port for probes and metrics is open.
pub struct Listening {
    /// Where.
    pub address: SocketAddr,
}

impl Listening {
    /// Says so.
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
    /// Says so.
    pub fn emit(&self) {
        info!(in_flight = self.in_flight, "shutting down: reading stopped, waiting for responses of the sink");
    }
}

/// The process ends.
pub struct ShutdownFinished {
    /// Events that were read and not settled: they come again after a restart.
    pub unsettled: usize,
    /// How long it took.
    pub took: Duration,
}

impl ShutdownFinished {
    /// Says so.
    pub fn emit(&self) {
        info!(unsettled = self.unsettled, took_seconds = self.took.as_secs_f64(), "stopped");
    }
}

/// The port cannot be served any more.
pub struct AdminFailed<'a> {
    /// Why.
    pub error: &'a str,
}

impl AdminFailed<'_> {
    /// Says so; probes find out by themselves.
    pub fn emit(&self) {
        error!(code = "DSA-ADMIN-FAILED", "the HTTP server failed, probes and metrics are not served: {}", self.error);
    }
}

/// The program met a state that cannot be, or one of its tasks ended unasked.
pub struct Fault<'a> {
    /// What was seen.
    pub what: &'a str,
}

impl Fault<'_> {
    /// Says so; the process ends with exit code 70.
    pub fn emit(&self) {
        error!(code = "DSA-FAULT", "a fault of the adapter itself: {}", self.what);
    }
}

/// One table's part of the program met a state that cannot be.
pub struct TableFault<'a> {
    /// What was seen.
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
    /// Says so; the liveness probe fails until it goes on.
    pub fn emit(&self) {
        match self.what {
            Some(what) => {
                error!(code = "DSA-STALLED", "a part of the adapter is blocked, the liveness probe fails: {what}")
            }
            None => info!("no part of the adapter is blocked any more, the liveness probe succeeds again"),
        }
    }
}
