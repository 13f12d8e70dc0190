//! The calls to AWS, by the AWS SDK.
//!
//! The only file that knows the SDK's clients and outputs. What the SDK does by itself: signing, endpoints, credentials,
//! up to three attempts a call. See [`connect`](super::connect) for how long a call may take.

use std::fmt;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client as Tables;
use aws_sdk_dynamodbstreams::Client as Streams;
use aws_sdk_dynamodbstreams::operation::describe_stream::DescribeStreamOutput;
use aws_sdk_dynamodbstreams::types::{
    KeyType, Shard, ShardFilter, ShardFilterType, ShardIteratorType, StreamDescription as Described,
    StreamStatus as Status,
};
use aws_smithy_types::config_bag::FrozenLayer;

use super::errors::{call_error, malformed};
use super::interceptors::{AnsweredAt, Slot};
use super::raw_get_records::{RawGetRecords, stock_configuration};
use super::{
    Call, CallError, IteratorStart, ListedShard, ShardQuery, StreamDescription, StreamStatus, StreamsClient,
    TableDescription,
};
use crate::records::Page;

/// DynamoDB and DynamoDB Streams of one region. Clones share connections and credentials.
#[derive(Clone)]
pub struct AwsClient {
    tables: Tables,
    streams: Streams,
    stock_get_records: FrozenLayer,
}

impl AwsClient {
    /// Takes region, endpoints, credentials, timeouts and retries from `config`.
    pub fn new(config: &SdkConfig) -> Self {
        Self { tables: Tables::new(config), streams: Streams::new(config), stock_get_records: stock_configuration() }
    }

    async fn describe_table(&self, table: &str) -> Result<TableDescription, CallError> {
        const OPERATION: &str = "DescribeTable";
        let answer = self.tables.describe_table().table_name(table).send().await;
        let described = answer.map_err(|error| call_error(OPERATION, error))?.table;
        let described = described.ok_or_else(|| malformed(OPERATION, "the response contains no table"))?;
        let arn = described.table_arn.ok_or_else(|| malformed(OPERATION, "the response contains no table ARN"))?;
        Ok(TableDescription { arn, latest_stream: described.latest_stream_arn })
    }

    async fn list_streams(&self, table: &str) -> Result<Vec<String>, CallError> {
        const OPERATION: &str = "ListStreams";
        let mut streams = Vec::new();
        let mut behind: Option<String> = None;
        loop {
            let call = self.streams.list_streams().table_name(table).set_exclusive_start_stream_arn(behind.clone());
            let answer = call.send().await.map_err(|error| call_error(OPERATION, error))?;
            streams.extend(answer.streams.unwrap_or_default().into_iter().filter_map(|stream| stream.stream_arn));
            match answer.last_evaluated_stream_arn {
                None => return Ok(streams),
                same if same == behind => return Err(malformed(OPERATION, "the pages of the response repeat")),
                next => behind = next,
            }
        }
    }

    async fn describe_stream(&self, stream: &str, shards: ShardQuery<'_>) -> Result<StreamDescription, CallError> {
        const OPERATION: &str = "DescribeStream";
        let answered_at = Slot::new();
        let call = self.streams.describe_stream().stream_arn(stream);
        let call = match shards {
            ShardQuery::First => call,
            ShardQuery::Behind(shard) => call.exclusive_start_shard_id(shard),
            ShardQuery::ChildrenOf(shard) => call.shard_filter(children_of(shard)),
        };
        let answer = call.customize().interceptor(AnsweredAt(answered_at.clone())).send().await;
        let answer = answer.map_err(|error| call_error(OPERATION, error))?;
        let description = description(answer).ok_or_else(|| malformed(OPERATION, "the response contains no stream"))?;
        Ok(StreamDescription { answered_at: answered_at.take(), ..description })
    }

    async fn get_shard_iterator(&self, stream: &str, shard: &str, from: IteratorStart) -> Result<String, CallError> {
        const OPERATION: &str = "GetShardIterator";
        let call = self.streams.get_shard_iterator().stream_arn(stream).shard_id(shard);
        let call = match from {
            IteratorStart::Oldest => call.shard_iterator_type(ShardIteratorType::TrimHorizon),
            IteratorStart::Latest => call.shard_iterator_type(ShardIteratorType::Latest),
            IteratorStart::After(number) => {
                call.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).sequence_number(number.as_str())
            }
        };
        let answer = call.send().await.map_err(|error| call_error(OPERATION, error))?;
        answer.shard_iterator.ok_or_else(|| malformed(OPERATION, "the response contains no iterator"))
    }

    async fn get_records(&self, iterator: &str) -> Result<Page, CallError> {
        const OPERATION: &str = "GetRecords";
        let page = Slot::new();
        let keep_page = RawGetRecords { stock: self.stock_get_records.clone(), page: page.clone() };
        let call = self.streams.get_records().shard_iterator(iterator).customize().interceptor(keep_page);
        call.send().await.map_err(|error| call_error(OPERATION, error))?;
        page.take().ok_or_else(|| malformed(OPERATION, "the answer was not read as a page"))
    }
}

impl StreamsClient for AwsClient {
    fn describe_table<'a>(&'a self, table: &'a str) -> Call<'a, TableDescription> {
        Box::pin(self.describe_table(table))
    }

    fn list_streams<'a>(&'a self, table: &'a str) -> Call<'a, Vec<String>> {
        Box::pin(self.list_streams(table))
    }

    fn describe_stream<'a>(&'a self, stream: &'a str, shards: ShardQuery<'a>) -> Call<'a, StreamDescription> {
        Box::pin(self.describe_stream(stream, shards))
    }

    fn get_shard_iterator<'a>(&'a self, stream: &'a str, shard: &'a str, from: IteratorStart) -> Call<'a, String> {
        Box::pin(self.get_shard_iterator(stream, shard, from))
    }

    fn get_records<'a>(&'a self, iterator: &'a str) -> Call<'a, Page> {
        Box::pin(self.get_records(iterator))
    }
}

impl fmt::Debug for AwsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let region = self.streams.config().region().map(ToString::to_string);
        f.debug_struct("AwsClient").field("region", &region).finish_non_exhaustive()
    }
}

fn children_of(shard: &str) -> ShardFilter {
    ShardFilter::builder().r#type(ShardFilterType::ChildShards).shard_id(shard).build()
}

/// Absent where the answer describes no stream, names no table, or lists a shard without an id.
fn description(answer: DescribeStreamOutput) -> Option<StreamDescription> {
    let described = answer.stream_description?;
    Some(StreamDescription {
        status: status(&described),
        view_type: described.stream_view_type.as_ref().map(|view| view.as_str().to_owned()),
        key_schema: key_schema(&described),
        table: described.table_name?,
        shards: described.shards.unwrap_or_default().into_iter().map(listed).collect::<Option<_>>()?,
        next: described.last_evaluated_shard_id,
        answered_at: None,
    })
}

/// A status that this program does not know counts as enabled: reading on is never wrong.
fn status(described: &Described) -> StreamStatus {
    match described.stream_status {
        Some(Status::Disabling | Status::Disabled) => StreamStatus::Disabled,
        _ => StreamStatus::Enabled,
    }
}

fn key_schema(described: &Described) -> Vec<String> {
    let (partition, sort): (Vec<_>, Vec<_>) =
        described.key_schema().iter().partition(|element| *element.key_type() == KeyType::Hash);
    partition.into_iter().chain(sort).map(|element| element.attribute_name().to_owned()).collect()
}

fn listed(shard: Shard) -> Option<ListedShard> {
    Some(ListedShard { id: shard.shard_id?, parent: shard.parent_shard_id })
}
