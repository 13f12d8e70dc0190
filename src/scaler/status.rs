//! What the scaler shows of itself: `/status`, and gauges that are computed when somebody looks. No secrets, and of triggers nothing.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::server_tls::CurrentTls;
use super::standing::{CurrentStanding, Standing};
use super::table_view::{StoredLag, TableView};
use super::table_watch::TableWatch;
use super::tables::Tables;
use crate::clock::{self, rfc3339};
use crate::telemetry::metrics::ScalerMetrics;

/// What is shown.
pub(super) struct Status {
    tables: Arc<Tables>,
    metrics: ScalerMetrics,
    tls: Option<CurrentTls>,
    standing: CurrentStanding,
}

impl Status {
    pub(super) fn new(
        tables: Arc<Tables>,
        metrics: ScalerMetrics,
        tls: Option<CurrentTls>,
        standing: CurrentStanding,
    ) -> Self {
        Self { tables, metrics, tls, standing }
    }

    /// Brings the gauges up to date.
    pub(super) fn refresh(&self) {
        self.metrics.show_reads(self.standing.borrow().reads());
        let states: Vec<&str> = self.tables.all().iter().map(|watch| state(&watch.view().borrow())).collect();
        for state in ["active", "inactive", "unknown"] {
            self.metrics.show_tables(state, states.iter().filter(|found| **found == state).count());
        }
    }

    pub(super) fn show(&self) -> Value {
        let tables: Vec<Value> = self.tables.all().iter().map(|watch| table(watch)).collect();
        let has_certificate = self.tls.as_ref().map(|tls| tls.borrow().is_some());
        let replica = replica(&self.standing.borrow());
        let scaler = json!({
            "replica": replica,
            "tables": tables,
            "tls": self.tls.is_some(),
            "certificateLoaded": has_certificate,
        });
        json!({"time": rfc3339(clock::now()), "scaler": scaler})
    }
}

/// Which replica reads: this one, or the one that it asks, or why none is asked.
fn replica(standing: &Standing) -> Value {
    let (asks, problem) = match standing {
        Standing::Alone | Standing::Reader(_) => (None, None),
        Standing::Other(other) => (Some(other.address.as_ref()), None),
        Standing::Nobody(why) => (None, Some(why.as_str())),
    };
    json!({"reads": standing.reads(), "asks": asks, "problem": problem})
}

/// A table that nobody reads counts as active: its targets do not scale to zero.
fn state(view: &TableView) -> &'static str {
    let is_quiet = view.activity.as_ref().map_or(Ok(false), |activity| activity.is_quiet(Instant::now()));
    let is_unknown = view.listing.is_none() || view.trouble.as_ref().is_some_and(|trouble| trouble.is_lasting);
    match is_quiet {
        _ if is_unknown => "unknown",
        Err(_) => "unknown",
        Ok(true) => "inactive",
        Ok(false) => "active",
    }
}

fn table(watch: &TableWatch) -> Value {
    let shown = watch.view();
    let view = shown.borrow();
    let listing = view.listing.as_deref();
    let activity = view.activity.as_ref();
    let why = activity.and_then(|activity| activity.is_quiet(Instant::now()).err());
    let lags = view.lags.iter().map(|(group, lag)| (group.clone(), lag_json(lag)));
    json!({
        "table": watch.key.table,
        "region": watch.key.region,
        "state": state(&view),
        "stream": listing.map(|listing| listing.stream.as_ref()),
        "openShards": listing.map(|listing| listing.open_shards()),
        "listedShards": listing.map(|listing| listing.shards.len()),
        "listedSecondsAgo": listing.map(|listing| listing.taken_at.elapsed().as_secs()),
        "activeShards": activity.and_then(|activity| activity.measured()).map(|measured| measured.active_shards),
        "recordsPerSecond": activity.and_then(|activity| activity.measured()).map(|measured| measured.records_per_second),
        "problem": view.trouble.as_ref().map(|trouble| trouble.why.clone()).or(why),
        "positions": lags.collect::<serde_json::Map<_, _>>(),
    })
}

fn lag_json(lag: &Result<StoredLag, String>) -> Value {
    match lag {
        Ok(lag) => json!({"oldestOwed": lag.oldest_owed.map(rfc3339), "readUntil": lag.read_until.map(rfc3339)}),
        Err(why) => json!({"problem": why}),
    }
}
