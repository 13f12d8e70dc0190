//! Leases of tables, and where their positions are stored.

use std::time::Duration;

use tracing::{info, warn};

use super::super::TableTelemetry;

/// This process reads the table from now on.
pub struct LeaseTaken<'a> {
    pub owner: &'a str,
    pub epoch: u64,
    /// Another process has given it back.
    pub was_released: bool,
}

impl LeaseTaken<'_> {
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let Self { owner, epoch, was_released } = *self;
        telemetry.lease_changed(if was_released { "received" } else { "taken" }, true);
        let table = telemetry.table();
        info!(table, owner, epoch, was_released, "this process owns the table's lease and reads the table");
    }
}

/// Another process reads the table; this one waits.
pub struct LeaseAwaited<'a> {
    /// Who has it.
    pub owner: &'a str,
    pub duration: Duration,
}

impl LeaseAwaited<'_> {
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let (table, owner, duration_seconds) = (telemetry.table(), self.owner, self.duration.as_secs_f64());
        info!(table, owner, duration_seconds, "another process reads the table, waiting for its lease");
    }
}

/// The lease was given back.
pub struct LeaseReleased;

impl LeaseReleased {
    pub fn emit(&self, telemetry: &TableTelemetry) {
        telemetry.lease_changed("released", false);
        info!(table = telemetry.table(), "the table's lease is released, another process may read it");
    }
}

/// The lease has ended before it was given back.
pub struct LeaseLost<'a> {
    pub why: &'a str,
}

impl LeaseLost<'_> {
    pub fn emit(&self, telemetry: &TableTelemetry) {
        telemetry.lease_changed("lost", false);
        telemetry.recent().add("DSA-LEASE-LOST", self.why);
        let table = telemetry.table();
        warn!(
            code = "DSA-LEASE-LOST",
            table,
            "the table's lease is lost, its delivery stops until this process or another one has it: {}",
            self.why
        );
    }
}

/// The store of leases does not do what it is asked for. Logged once a minute.
pub struct LeaseStoreFailing<'a> {
    pub error: &'a str,
}

impl LeaseStoreFailing<'_> {
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let Some(times) = telemetry.warning_due("DSA-LEASE-FAILING", self.error) else { return };
        let table = telemetry.table();
        warn!(code = "DSA-LEASE-FAILING", table, times, "the table's lease cannot be read or renewed: {}", self.error);
    }
}

/// It does again.
pub struct LeaseStoreRecovered;

impl LeaseStoreRecovered {
    pub fn emit(&self, telemetry: &TableTelemetry) {
        if let Some(failed) = telemetry.report_over("DSA-LEASE-FAILING") {
            info!(table = telemetry.table(), failed, "the table's lease can be read and renewed again");
        }
    }
}

/// The exact positions of a shard do not fit into an item.
pub struct HeadsLeftOut<'a> {
    /// Consumer group and table.
    pub positions: &'a str,
    /// Of how many items the latest save says less than was settled.
    pub heads: usize,
    /// How many saves did so since it was last said.
    pub saves: u64,
}

impl HeadsLeftOut<'_> {
    pub fn emit(&self) {
        let Self { positions, heads, saves } = *self;
        warn!(
            code = "DSA-CHECKPOINT-CUT",
            positions,
            heads,
            saves,
            "more items of a shard have unsettled changes than its stored position has room for; a restart would deliver again \
             what is settled behind the first ones"
        );
    }
}
