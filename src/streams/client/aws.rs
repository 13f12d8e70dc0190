//! The calls, through the AWS SDK.

use std::time::SystemTime;

use aws_config::SdkConfig;
use aws_sdk_dynamodbstreams::operation::describe_stream::DescribeStreamOutput;
use aws_sdk_dynamodbstreams::types::{self, ShardFilter, ShardFilterType, ShardIteratorType};

use super::errors::{call_error, malformed};
use super::raw_answer::{KeepBody, KeepDate, Slot};
use super::{
    Call, CallError, IteratorStart, ListedShard, ShardQuery, StreamDescription, StreamStatus, StreamsClient,
    TableDescription,
};
use crate::streams::wire::Page;

/// DynamoDB and DynamoDB Streams in one region.
#[derive(Debug, Clone)]
pub struct AwsClient {
    tables: aws_sdk_dynamodb::Client,
    streams: aws_sdk_dynamodbstreams::Client,
}

/// The answer lacks what its operation promises.
#[derive(Debug, thiserror::Error)]
#[error("the answer has no {0}")]
struct Lacks(&'static str);

impl AwsClient {
    /// Clients that share a configuration's connections and credentials.
    pub fn new(config: &SdkConfig) -> Self {
        Self {
            tables: aws_sdk_dynamodb::Client::new(config),
            streams: aws_sdk_dynamodbstreams::Client::new(config),
        }
    }

    async fn table(&self, table: &str) -> Result<TableDescription, CallError> {
        let operation = "DescribeTable";
        let answer = self.tables.describe_table().table_name(table).send().await;
        let table = answer
            .map_err(|error| call_error(operation, &error))?
            .table
            .ok_or_else(|| malformed(operation, &Lacks("Table")))?;
        Ok(TableDescription {
            arn: table.table_arn.unwrap_or_default(),
            latest_stream: table.latest_stream_arn,
        })
    }

    async fn all_streams(&self, table: &str) -> Result<Vec<String>, CallError> {
        let (mut arns, mut behind) = (Vec::new(), None);
        loop {
            let request = self
                .streams
                .list_streams()
                .table_name(table)
                .set_exclusive_start_stream_arn(behind);
            let answer = request
                .send()
                .await
                .map_err(|error| call_error("ListStreams", &error))?;
            arns.extend(
                answer
                    .streams
                    .unwrap_or_default()
                    .into_iter()
                    .filter_map(|stream| stream.stream_arn),
            );
            match answer.last_evaluated_stream_arn {
                Some(next) => behind = Some(next),
                None => return Ok(arns),
            }
        }
    }

    async fn stream(&self, stream: &str, shards: ShardQuery<'_>) -> Result<StreamDescription, CallError> {
        let operation = "DescribeStream";
        let date = Slot::default();
        let request = self.streams.describe_stream().stream_arn(stream);
        let request = match shards {
            ShardQuery::First => request,
            ShardQuery::Behind(shard) => request.exclusive_start_shard_id(shard),
            ShardQuery::ChildrenOf(parent) => request.shard_filter(
                ShardFilter::builder()
                    .r#type(ShardFilterType::ChildShards)
                    .shard_id(parent)
                    .build(),
            ),
        };
        let answer = request.customize().interceptor(KeepDate(date.clone())).send().await;
        let answer = answer.map_err(|error| call_error(operation, &error))?;
        let answered_at = date.take().and_then(|date| http_date(&date));
        description(answer, answered_at).map_err(|error| malformed(operation, &error))
    }

    async fn iterator(&self, stream: &str, shard: &str, from: IteratorStart) -> Result<String, CallError> {
        let operation = "GetShardIterator";
        let request = self.streams.get_shard_iterator().stream_arn(stream).shard_id(shard);
        let request = match from {
            IteratorStart::Oldest => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
            IteratorStart::Latest => request.shard_iterator_type(ShardIteratorType::Latest),
            IteratorStart::After(sequence) => request
                .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
                .sequence_number(sequence.as_str()),
        };
        let answer = request.send().await.map_err(|error| call_error(operation, &error))?;
        answer
            .shard_iterator
            .ok_or_else(|| malformed(operation, &Lacks("ShardIterator")))
    }

    async fn page(&self, iterator: &str) -> Result<Page, CallError> {
        let operation = "GetRecords";
        let body = Slot::default();
        let request = self.streams.get_records().shard_iterator(iterator);
        let answer = request.customize().interceptor(KeepBody(body.clone())).send().await;
        answer.map_err(|error| call_error(operation, &error))?;
        let body = body.take().ok_or_else(|| malformed(operation, &Lacks("body")))?;
        Page::parse(body).map_err(|error| malformed(operation, &error))
    }
}

impl StreamsClient for AwsClient {
    fn describe_table<'a>(&'a self, table: &'a str) -> Call<'a, TableDescription> {
        Box::pin(self.table(table))
    }

    fn list_streams<'a>(&'a self, table: &'a str) -> Call<'a, Vec<String>> {
        Box::pin(self.all_streams(table))
    }

    fn describe_stream<'a>(&'a self, stream: &'a str, shards: ShardQuery<'a>) -> Call<'a, StreamDescription> {
        Box::pin(self.stream(stream, shards))
    }

    fn get_shard_iterator<'a>(&'a self, stream: &'a str, shard: &'a str, from: IteratorStart) -> Call<'a, String> {
        Box::pin(self.iterator(stream, shard, from))
    }

    fn get_records<'a>(&'a self, iterator: &'a str) -> Call<'a, Page> {
        Box::pin(self.page(iterator))
    }
}

fn description(answer: DescribeStreamOutput, answered_at: Option<SystemTime>) -> Result<StreamDescription, Lacks> {
    let stream = answer.stream_description.ok_or(Lacks("StreamDescription"))?;
    let status = match stream.stream_status {
        Some(types::StreamStatus::Disabled | types::StreamStatus::Disabling) => StreamStatus::Disabled,
        _ => StreamStatus::Enabled,
    };
    let mut keys = stream.key_schema.unwrap_or_default();
    keys.sort_by_key(|key| key.key_type != types::KeyType::Hash);
    let shards = stream.shards.unwrap_or_default().into_iter().filter_map(|shard| {
        Some(ListedShard {
            id: shard.shard_id?,
            parent: shard.parent_shard_id,
        })
    });
    Ok(StreamDescription {
        table: stream.table_name.ok_or(Lacks("TableName"))?,
        status,
        view_type: stream.stream_view_type.map(|view| view.as_str().to_owned()),
        key_schema: keys.into_iter().map(|key| key.attribute_name).collect(),
        shards: shards.collect(),
        next: stream.last_evaluated_shard_id,
        answered_at,
    })
}

fn http_date(text: &str) -> Option<SystemTime> {
    let date = aws_smithy_types::DateTime::from_str(text, aws_smithy_types::date_time::Format::HttpDate).ok()?;
    SystemTime::try_from(date).ok()
}
