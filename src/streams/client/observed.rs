//! Every call of one table, counted and timed; and what it means for readiness.
//!
//! Contract: a call that AWS refuses counts against readiness until its own operation, or reading itself, succeeds again. The
//! first refusal of a kind is logged, and then one a minute; the end of a long one is logged too.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Call, IteratorStart, ShardQuery, StreamDescription, StreamsClient, TableDescription};
use crate::aws::errors::{CallError, ErrorKind};
use crate::clock;
use crate::readiness::{Dependency, FailingCall, Recovery, TableHealth};
use crate::records::Page;
use crate::telemetry::{TableTelemetry, events};

/// A refusal that lasted at least so long is worth a line in the log when it ends.
const LONG: Duration = Duration::from_secs(10);

/// A client whose calls appear in a table's metrics and in its readiness.
pub struct ObservedClient {
    client: Arc<dyn StreamsClient>,
    telemetry: Arc<TableTelemetry>,
    health: Arc<TableHealth>,
}

impl ObservedClient {
    /// Watches what `client` does for one table.
    pub fn new(client: Arc<dyn StreamsClient>, telemetry: Arc<TableTelemetry>, health: Arc<TableHealth>) -> Arc<Self> {
        Arc::new(Self { client, telemetry, health })
    }

    /// AWS answered what reading needs: there is something to read, and what it has not refused for long is over.
    pub fn answered(&self) {
        self.health.mark_reading();
        if self.health.is_failing(Dependency::Aws) {
            self.recovered(self.health.forget_stale(Instant::now()));
        }
    }

    /// AWS refused a call that reading needs.
    pub fn refused(&self, error: &CallError) {
        let (text, denied) = (error.to_string(), error.kind == ErrorKind::Denied);
        self.health.record_failure(FailingCall::Aws(error.operation), &text, denied, Instant::now());
        if let Some(times) = self.telemetry.report_due(&format!("{} {}", error.operation, error.code)) {
            let class = match error.kind {
                ErrorKind::Denied => events::RefusalClass::Denied,
                ErrorKind::Throttled | ErrorKind::LimitExceeded => events::RefusalClass::Throttled,
                _ => events::RefusalClass::Failing,
            };
            events::AwsRefused { class, aws_code: &error.code, text: &text, times }.emit(&self.telemetry);
        }
    }

    /// A record was read that could be decoded.
    pub fn decoded(&self) {
        if self.health.decoded() {
            events::DecodableAgain.emit(&self.telemetry);
        }
    }

    /// A record was read that could not be decoded.
    pub fn undecodable(&self, why: &str) {
        if self.health.undecodable(why) {
            events::NothingDecodable { why }.emit(&self.telemetry);
        }
    }

    /// Reading waits for something that AWS does not have yet, such as the table or its stream.
    pub fn mark_waiting_for(&self, what: &str) {
        self.health.mark_waiting_for(what);
        if self.telemetry.report_due(what).is_some() {
            events::StreamAwaited { what }.emit(&self.telemetry);
        }
    }

    fn call_ended(&self, operation: &'static str, result: &str, took: Duration) {
        self.telemetry.aws_call(operation, result, took);
        if self.health.is_failing(Dependency::Aws) {
            self.recovered(self.clear(operation, result));
        }
    }

    fn clear(&self, operation: &'static str, result: &str) -> Option<Recovery> {
        let now = Instant::now();
        match (operation, result) {
            ("GetRecords", "records" | "empty") => self.health.progressed(now),
            // The one stands in for the other where that is denied.
            ("ListStreams", "ok") => {
                let own = self.health.cleared(FailingCall::Aws("ListStreams"), now);
                self.health.cleared(FailingCall::Aws("DescribeTable"), now).or(own)
            }
            (_, "ok") => self.health.cleared(FailingCall::Aws(operation), now),
            _ => None,
        }
    }

    /// Short refusals are common; the log has the end of the others.
    fn recovered(&self, recovery: Option<Recovery>) {
        let worth_logging = recovery.filter(|recovery| recovery.denied || recovery.after >= LONG);
        if let Some(recovery) = worth_logging.filter(|_| !self.health.is_failing(Dependency::Aws)) {
            events::AwsRecovered { after: recovery.after }.emit(&self.telemetry);
        }
    }

    fn count<'a, T: 'a>(
        &'a self,
        operation: &'static str,
        call: Call<'a, T>,
        result: impl Fn(&T) -> &'static str + Send + 'a,
    ) -> Call<'a, T>
    where
        Result<T, CallError>: Send,
    {
        Box::pin(async move {
            let begun = Instant::now();
            let answer = call.await;
            let result = match &answer {
                Ok(answer) => result(answer),
                Err(error) => &error.code,
            };
            self.call_ended(operation, result, begun.elapsed());
            answer
        })
    }
}

impl StreamsClient for ObservedClient {
    fn region(&self) -> Option<&str> {
        self.client.region()
    }

    fn describe_table<'a>(&'a self, table: &'a str) -> Call<'a, TableDescription> {
        self.count("DescribeTable", self.client.describe_table(table), |_| "ok")
    }

    fn list_streams<'a>(&'a self, table: &'a str) -> Call<'a, Vec<String>> {
        self.count("ListStreams", self.client.list_streams(table), |_| "ok")
    }

    fn describe_stream<'a>(&'a self, stream: &'a str, shards: ShardQuery<'a>) -> Call<'a, StreamDescription> {
        let said = |answer: &StreamDescription| {
            if let Some(moment) = answer.answered_at {
                self.telemetry.clock_compared(moment, clock::now());
            }
            "ok"
        };
        self.count("DescribeStream", self.client.describe_stream(stream, shards), said)
    }

    fn get_shard_iterator<'a>(&'a self, stream: &'a str, shard: &'a str, from: IteratorStart) -> Call<'a, String> {
        self.count("GetShardIterator", self.client.get_shard_iterator(stream, shard, from), |_| "ok")
    }

    fn get_records<'a>(&'a self, iterator: &'a str, limit: u32) -> Call<'a, Page> {
        let result = |page: &Page| if page.records.is_empty() { "empty" } else { "records" };
        self.count("GetRecords", self.client.get_records(iterator, limit), result)
    }
}

#[cfg(test)]
mod tests;
