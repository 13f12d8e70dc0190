//! Counts and times every call of one table.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Call, IteratorStart, ShardQuery, StreamDescription, StreamsClient, TableDescription};
use crate::aws::errors::CallError;
use crate::records::Page;
use crate::telemetry::TableTelemetry;

/// A client whose calls appear in a table's metrics.
pub struct ObservedClient {
    client: Arc<dyn StreamsClient>,
    telemetry: Arc<TableTelemetry>,
}

impl ObservedClient {
    /// Counts what `client` does for one table.
    pub fn new(client: Arc<dyn StreamsClient>, telemetry: Arc<TableTelemetry>) -> Arc<Self> {
        Arc::new(Self { client, telemetry })
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
            self.telemetry.aws_call(operation, result, begun.elapsed());
            answer
        })
    }
}

impl StreamsClient for ObservedClient {
    fn describe_table<'a>(&'a self, table: &'a str) -> Call<'a, TableDescription> {
        self.count("DescribeTable", self.client.describe_table(table), |_| "ok")
    }

    fn list_streams<'a>(&'a self, table: &'a str) -> Call<'a, Vec<String>> {
        self.count("ListStreams", self.client.list_streams(table), |_| "ok")
    }

    fn describe_stream<'a>(&'a self, stream: &'a str, shards: ShardQuery<'a>) -> Call<'a, StreamDescription> {
        self.count("DescribeStream", self.client.describe_stream(stream, shards), |_| "ok")
    }

    fn get_shard_iterator<'a>(&'a self, stream: &'a str, shard: &'a str, from: IteratorStart) -> Call<'a, String> {
        self.count("GetShardIterator", self.client.get_shard_iterator(stream, shard, from), |_| "ok")
    }

    fn get_records<'a>(&'a self, iterator: &'a str) -> Call<'a, Page> {
        let result = |page: &Page| if page.records.is_empty() { "empty" } else { "records" };
        self.count("GetRecords", self.client.get_records(iterator), result)
    }
}
