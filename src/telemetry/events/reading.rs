//! What happens while streams are read.

use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::telemetry::TableTelemetry;
use crate::telemetry::metrics::LOSS_REASONS;

/// A stream is going to be read.
pub struct StreamOpened<'a> {
    pub stream: &'a str,
    /// Where shards begin that were never seen.
    pub start: &'a str,
}

impl StreamOpened<'_> {
    pub fn emit(&self, telemetry: &TableTelemetry) {
        info!(table = telemetry.table(), stream = self.stream, start = self.start, "reading stream");
    }
}

/// A stream was listed as a whole for the first time.
pub struct StreamListed<'a> {
    pub stream: &'a str,
    pub reading: usize,
    /// Shards waiting for their parents.
    pub waiting: usize,
    /// Shards that need not be read.
    pub finished: usize,
}

impl StreamListed<'_> {
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let Self { stream, reading, waiting, finished } = *self;
        info!(table = telemetry.table(), stream, reading, waiting, finished, "stream listed");
    }
}

/// A stream was read to its end.
pub struct StreamEnded<'a> {
    pub stream: &'a str,
    pub why: &'a str,
}

impl StreamEnded<'_> {
    pub fn emit(&self, telemetry: &TableTelemetry) {
        info!(table = telemetry.table(), stream = self.stream, why = self.why, "stream ended");
    }
}

/// A listing shows a shard of a stream that was taken for drained.
pub struct ShardLate<'a> {
    pub stream: &'a str,
    pub shard: &'a str,
}

impl ShardLate<'_> {
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let Self { stream, shard } = *self;
        telemetry.recent().add("DSA-SHARD-LATE", &format!("shard {shard} was listed late"));
        warn!(
            code = "DSA-SHARD-LATE",
            table = telemetry.table(),
            stream,
            shard,
            "the stream was read to its end, and AWS lists another shard of it now: its changes follow late"
        );
    }
}

/// Reading waits for something that is not there yet.
pub struct StreamAwaited<'a> {
    pub what: &'a str,
}

impl StreamAwaited<'_> {
    pub fn emit(&self, telemetry: &TableTelemetry) {
        telemetry.recent().add("DSA-STREAM-AWAITED", &format!("waiting for {}", self.what));
        warn!(code = "DSA-STREAM-AWAITED", table = telemetry.table(), "waiting for {}", self.what);
    }
}

/// Nothing is stored of a table whose stream was there before, and what was written earlier is not asked for.
pub struct NothingStored<'a> {
    pub stream: &'a str,
}

impl NothingStored<'_> {
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let text = "no stored positions: a first start, or they were lost. With START_POSITION=latest nothing is delivered that was \
                    written before this start; docs/runbook/positions.md says what to do if they were lost";
        telemetry.recent().add("DSA-CONFIG", text);
        warn!(code = "DSA-CONFIG", table = telemetry.table(), stream = self.stream, "{text}");
    }
}

/// A shard is going to be read.
pub struct ShardOpened<'a> {
    pub stream: &'a str,
    pub shard: &'a str,
    pub from: &'a str,
}

impl ShardOpened<'_> {
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let Self { stream, shard, from } = *self;
        info!(table = telemetry.table(), stream, shard, from, "reading shard");
    }
}

/// A shard was read to its end.
pub struct ShardEnded<'a> {
    pub stream: &'a str,
    pub shard: &'a str,
}

impl ShardEnded<'_> {
    pub fn emit(&self, telemetry: &TableTelemetry) {
        info!(table = telemetry.table(), stream = self.stream, shard = self.shard, "shard read to its end");
    }
}

/// A child got its first answer after its parent's end was read.
pub struct ShardHandedOver<'a> {
    pub stream: &'a str,
    pub shard: &'a str,
    /// How long that took.
    pub took: Duration,
}

impl ShardHandedOver<'_> {
    /// Logs and counts it.
    pub fn emit(&self, telemetry: &TableTelemetry) {
        telemetry.metrics().shard_handover.observe(self.took.as_secs_f64());
        let Self { stream, shard, took } = *self;
        debug!(table = telemetry.table(), stream, shard, took_seconds = took.as_secs_f64(), "shard handed over");
    }
}

/// AWS refused a call.
pub struct AwsRefused<'a> {
    /// What kind of refusal it is.
    pub class: RefusalClass,
    /// AWS's code, or ours where there was none.
    pub aws_code: &'a str,
    /// Which call, and why it was refused.
    pub text: &'a str,
    /// How often since it was last logged.
    pub times: u64,
}

/// What a refusal of AWS asks of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalClass {
    /// Permissions or credentials are missing.
    Denied,
    /// Calls are too many.
    Throttled,
    Failing,
}

impl AwsRefused<'_> {
    /// Logs it; calls are counted where they are made.
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let code = match self.class {
            RefusalClass::Denied => "DSA-AWS-DENIED",
            RefusalClass::Throttled => "DSA-AWS-THROTTLED",
            RefusalClass::Failing => "DSA-AWS-FAILING",
        };
        telemetry.recent().add(code, self.text);
        warn!(code, table = telemetry.table(), aws_code = self.aws_code, times = self.times, "{}", self.text);
    }
}

/// AWS answers again after calls that failed.
pub struct AwsRecovered {
    /// How long it refused.
    pub after: Duration,
}

impl AwsRecovered {
    pub fn emit(&self, telemetry: &TableTelemetry) {
        info!(table = telemetry.table(), after_seconds = self.after.as_secs_f64(), "AWS answers again");
    }
}

/// Continuity cannot be proved.
pub struct DataLost<'a> {
    pub stream: &'a str,
    /// The shard, unless the whole stream is gone.
    pub shard: Option<&'a str>,
    pub position: &'a str,
    /// `trimmed`, `shard-missing`, `stream-missing` or `undecodable`.
    pub reason: &'static str,
    pub detail: &'a str,
}

impl DataLost<'_> {
    /// Counts it, and logs the first one of a minute: a table that was not read for days may have lost something in each shard.
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let table = telemetry.table();
        telemetry.metrics().data_loss.with_label_values(&[table, self.reason]).inc();
        let Some(times) = telemetry.report_due(self.reason) else { return };
        let Self { stream, shard, position, reason, detail } = *self;
        telemetry
            .recent()
            .add("DSA-DATA-LOSS", &format!("{reason} at {position} of {}: {detail}", shard.unwrap_or(stream)));
        error!(
            code = "DSA-DATA-LOSS",
            table, stream, shard, position, reason, detail, times, "data lost or possibly lost"
        );
    }
}

/// A table was read no further because of a loss, and still is not.
pub struct StillStopped<'a> {
    /// What was lost.
    pub why: &'a str,
}

impl StillStopped<'_> {
    /// Logs it.
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let text = format!("reading stays stopped: {}", self.why);
        telemetry.recent().add("DSA-DATA-LOSS", &text);
        let table = telemetry.table();
        error!(
            code = "DSA-DATA-LOSS",
            table, "reading stays stopped, restart with ON_DATA_LOSS=continue to resume: {}", self.why
        );
    }
}

/// None of the last records could be decoded.
pub struct NothingDecodable<'a> {
    /// What is wrong with the last one; no item data.
    pub why: &'a str,
}

impl NothingDecodable<'_> {
    /// Logs it.
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let (table, why) = (telemetry.table(), self.why);
        telemetry.recent().add("DSA-UNDECODABLE", why);
        error!(code = "DSA-UNDECODABLE", table, why, "no record of the table can be decoded, changes are being lost");
    }
}

/// A record can be decoded again.
pub struct DecodableAgain;

impl DecodableAgain {
    /// Logs it.
    pub fn emit(&self, telemetry: &TableTelemetry) {
        info!(table = telemetry.table(), "records of the table can be decoded again");
    }
}

/// More places of which the same is true.
pub struct FurtherDataLost {
    pub reason: &'static str,
    /// How many since the last line.
    pub times: u64,
}

impl FurtherDataLost {
    /// Logs what [`DataLost`] has held back for a minute.
    pub fn emit_pending(telemetry: &TableTelemetry) {
        for reason in LOSS_REASONS {
            if let Some(times) = telemetry.report_pending(reason) {
                Self { reason, times }.emit(telemetry);
            }
        }
    }

    /// Logs it; it was counted before.
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let Self { reason, times } = *self;
        telemetry.recent().add("DSA-DATA-LOSS", &format!("{reason} in {times} more places"));
        error!(
            code = "DSA-DATA-LOSS",
            table = telemetry.table(),
            reason,
            times,
            "data lost or possibly lost in more places, the gap events name them"
        );
    }
}
