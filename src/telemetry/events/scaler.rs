//! What happens in the scaler. What triggers say is shown as far as it was understood: names, and no values.

use tracing::{info, warn};

use super::super::{TableTelemetry, shortened};

/// The scaler starts, with a configuration that can be used.
pub struct ScalerStarting<'a> {
    pub version: &'a str,
    pub has_tls: bool,
}

impl ScalerStarting<'_> {
    pub fn emit(&self) {
        info!(version = self.version, tls = self.has_tls, "starting the scaler");
    }
}

/// What KEDA asks about a table cannot be answered, or not for long any more.
pub struct ScalerTableFailing<'a> {
    pub table: &'a str,
    pub why: &'a str,
}

impl ScalerTableFailing<'_> {
    pub fn emit(&self) {
        let (code, table) = ("DSA-SCALER-TABLE", self.table);
        warn!(code, table, "the table's shards are not known, KEDA leaves its targets as they are: {}", self.why);
    }
}

/// It can be answered again.
pub struct ScalerTableRecovered<'a> {
    pub table: &'a str,
}

impl ScalerTableRecovered<'_> {
    pub fn emit(&self) {
        info!(table = self.table, "the table's shards are known again");
    }
}

/// Something was written to a table to which nothing was written for a while.
pub struct ScalerTableActive<'a> {
    pub table: &'a str,
}

impl ScalerTableActive<'_> {
    pub fn emit(&self) {
        info!(table = self.table, "the table is active: something was written to it");
    }
}

/// Nothing was written to a table for a while.
pub struct ScalerTableInactive<'a> {
    pub table: &'a str,
}

impl ScalerTableInactive<'_> {
    pub fn emit(&self) {
        info!(table = self.table, "the table is inactive: nothing was written to it");
    }
}

/// A trigger has what the scaler does not use.
pub struct ScalerTriggerIgnores<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub what: &'a str,
}

impl ScalerTriggerIgnores<'_> {
    pub fn emit(&self) {
        let (namespace, name) = (shortened(self.namespace), shortened(self.name));
        info!(namespace, scaled_object = name, "the trigger has what is ignored: {}", self.what);
    }
}

/// A trigger is wrong, or asks for what no rule allows.
pub struct ScalerTriggerRefused<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub why: &'a str,
}

impl ScalerTriggerRefused<'_> {
    pub fn emit(&self) {
        let (code, namespace, name) = ("DSA-SCALER-REFUSED", shortened(self.namespace), shortened(self.name));
        warn!(code, namespace, scaled_object = name, "the trigger is refused: {}", self.why);
    }
}

/// The files of the port's TLS were read.
pub struct ScalerTlsLoaded;

impl ScalerTlsLoaded {
    pub fn emit(&self) {
        info!("the certificate of the scaler's port is loaded");
    }
}

/// They cannot be used as they are now; those that were read before are used on.
pub struct ScalerTlsFailing<'a> {
    pub why: &'a str,
}

impl ScalerTlsFailing<'_> {
    pub fn emit(&self) {
        warn!(code = "DSA-SCALER-TLS", "the certificate of the scaler's port cannot be loaded: {}", self.why);
    }
}

/// This replica reads from now on.
pub struct ScalerReads;

impl ScalerReads {
    pub fn emit(&self) {
        info!("this replica of the scaler reads, and answers for all");
    }
}

/// Another replica reads; this one asks it.
pub struct ScalerAsks<'a> {
    pub address: &'a str,
}

impl ScalerAsks<'_> {
    pub fn emit(&self) {
        info!(address = self.address, "another replica of the scaler reads, this one asks it for answers");
    }
}

/// A call has ended without an answer of any replica. Logged once a minute.
pub struct ScalerReaderFailing<'a> {
    pub why: &'a str,
}

impl ScalerReaderFailing<'_> {
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let Some(times) = telemetry.report_due("DSA-SCALER-READER") else { return };
        let code = "DSA-SCALER-READER";
        warn!(code, times, "no replica of the scaler answers, KEDA leaves its targets as they are: {}", self.why);
    }
}
