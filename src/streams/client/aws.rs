//! The calls to AWS, by the AWS SDK.
//!
//! The only file that knows the SDK's clients of DynamoDB and its streams. What the SDK does by itself: signing, endpoints,
//! credentials, up to three attempts a call. See [`crate::aws`] for how long a call may take.
//!
//! `GetRecords` replaces the SDK's response deserializer. Decoding attribute values into the SDK's types and writing them out
//! again costs ten times what a look at the body's structure does, and loses how AWS wrote them. So an interceptor puts its own
//! deserializer in the place of the operation's: it makes a [`Page`] of a successful answer's body and hands everything else to
//! the one that it replaced. Retries, signing, endpoints and errors stay the SDK's.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client as Tables;
use aws_sdk_dynamodbstreams::Client as Streams;
use aws_sdk_dynamodbstreams::operation::describe_stream::DescribeStreamOutput;
use aws_sdk_dynamodbstreams::operation::get_records::{GetRecords, GetRecordsOutput};
use aws_sdk_dynamodbstreams::types::{
    KeyType, Shard, ShardFilter, ShardFilterType, ShardIteratorType, StreamDescription as Described,
    StreamStatus as Status,
};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::context::{BeforeSerializationInterceptorContextMut, Error, Output};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::client::runtime_plugin::RuntimePlugin;
use aws_smithy_runtime_api::client::ser_de::{DeserializeResponse, SharedResponseDeserializer};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::{ConfigBag, FrozenLayer};
use aws_smithy_types::date_time::{DateTime, Format};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;

use super::{
    Call, IteratorStart, ListedShard, ShardQuery, StreamDescription, StreamStatus, StreamsClient, TableDescription,
};
use crate::aws::errors::{CallError, ErrorKind, call_error, is_caused_by};
use crate::records::{MalformedPage, Page, StreamDetails};

/// The most pages of a table's streams, of 100 each: a stream is listed for a day, and a table does not get one every nine seconds.
const MAX_STREAM_PAGES: usize = 100;

/// DynamoDB and DynamoDB Streams of one region. Clones share connections and credentials.
#[derive(Clone)]
pub struct AwsClient {
    tables: Tables,
    streams: Streams,
    stock_get_records: FrozenLayer,
    region: Option<String>,
}

impl AwsClient {
    /// Takes region, endpoints, credentials, timeouts and retries from `config`.
    pub fn new(config: &SdkConfig) -> Self {
        let region = config.region().map(ToString::to_string);
        let stock_get_records = stock_configuration();
        Self { tables: Tables::new(config), streams: Streams::new(config), stock_get_records, region }
    }

    async fn describe_table(&self, table: &str) -> Result<TableDescription, CallError> {
        const OPERATION: &str = "DescribeTable";
        let answer = self.tables.describe_table().table_name(table).send().await;
        let described = answer.map_err(|error| call_error(OPERATION, error))?.table;
        let described = described.ok_or_else(|| malformed(OPERATION, "the response contains no table"))?;
        let latest_stream = described.latest_stream_arn;
        let of_stream = || latest_stream.as_deref().map(|stream| StreamDetails::from_arn(stream).table_arn);
        let arn = described.table_arn.or_else(of_stream);
        let arn = arn.ok_or_else(|| malformed(OPERATION, "the response contains no table ARN"))?;
        Ok(TableDescription { arn, latest_stream })
    }

    async fn list_streams(&self, table: &str) -> Result<Vec<String>, CallError> {
        const OPERATION: &str = "ListStreams";
        let mut streams = Vec::new();
        let mut behind: Option<String> = None;
        for _ in 0..MAX_STREAM_PAGES {
            let call = self.streams.list_streams().table_name(table).set_exclusive_start_stream_arn(behind.clone());
            let answer = call.send().await.map_err(|error| call_error(OPERATION, error))?;
            streams.extend(answer.streams.unwrap_or_default().into_iter().filter_map(|stream| stream.stream_arn));
            match answer.last_evaluated_stream_arn {
                None => return Ok(streams),
                same if same == behind => break,
                next => behind = next,
            }
        }
        Err(malformed(OPERATION, "the pages of the response repeat or do not end; check AWS_ENDPOINT_URL"))
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
        let description = description(stream, answer);
        let description = description.ok_or_else(|| malformed(OPERATION, "the response contains no stream"))?;
        Ok(StreamDescription { answered_at: answered_at.take(), ..description })
    }

    async fn get_shard_iterator(&self, stream: &str, shard: &str, from: IteratorStart) -> Result<String, CallError> {
        const OPERATION: &str = "GetShardIterator";
        let call = self.streams.get_shard_iterator().stream_arn(stream).shard_id(shard);
        let call = match from {
            IteratorStart::Oldest => call.shard_iterator_type(ShardIteratorType::TrimHorizon),
            IteratorStart::Latest => call.shard_iterator_type(ShardIteratorType::Latest),
            IteratorStart::At(number) => {
                call.shard_iterator_type(ShardIteratorType::AtSequenceNumber).sequence_number(number.as_str())
            }
        };
        let answer = call.send().await.map_err(|error| call_error(OPERATION, error))?;
        answer.shard_iterator.ok_or_else(|| malformed(OPERATION, "the response contains no iterator"))
    }

    async fn get_records(&self, iterator: &str, limit: u32) -> Result<Page, CallError> {
        const OPERATION: &str = "GetRecords";
        let page = Slot::new();
        let keep_page = RawGetRecords { stock: self.stock_get_records.clone(), page: page.clone() };
        let call = self
            .streams
            .get_records()
            .shard_iterator(iterator)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .customize()
            .interceptor(keep_page);
        call.send().await.map_err(|error| {
            let is_malformed = is_caused_by::<MalformedPage>(&error);
            let error = call_error(OPERATION, error);
            if is_malformed { CallError { code: "malformed".to_owned(), ..error } } else { error }
        })?;
        page.take().ok_or_else(|| malformed(OPERATION, "the answer was not read as a page"))
    }
}

impl StreamsClient for AwsClient {
    fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

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

    fn get_records<'a>(&'a self, iterator: &'a str, limit: u32) -> Call<'a, Page> {
        Box::pin(self.get_records(iterator, limit))
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

/// Absent where the answer describes no stream or lists a shard without an id. A table that it does not name is the one in `stream`.
fn description(stream: &str, answer: DescribeStreamOutput) -> Option<StreamDescription> {
    let described = answer.stream_description?;
    Some(StreamDescription {
        status: status(&described),
        view_type: described.stream_view_type.as_ref().map(|view| view.as_str().to_owned()),
        key_schema: key_schema(&described),
        table: described.table_name.unwrap_or_else(|| StreamDetails::from_arn(stream).table),
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
    let has_ended = shard.sequence_number_range.is_some_and(|range| range.ending_sequence_number.is_some());
    Some(ListedShard { id: shard.shard_id?, parent: shard.parent_shard_id, has_ended })
}

/// An answer that the SDK accepted but that lacks what it must hold.
fn malformed(operation: &'static str, what: &str) -> CallError {
    CallError { operation, kind: ErrorKind::Other, code: "malformed".into(), message: what.into() }
}

/// Carries one value out of the SDK's machinery to the caller; a retry's value replaces the one before.
#[derive(Debug)]
struct Slot<T>(Arc<Mutex<Option<T>>>);

impl<T> Slot<T> {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn put(&self, value: Option<T>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }

    fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Keeps the moment of the answer by the service's own clock: its `Date` header.
#[derive(Debug)]
struct AnsweredAt(pub Slot<SystemTime>);

#[dyn_dispatch_hint]
impl Intercept for AnsweredAt {
    fn name(&self) -> &'static str {
        "AnsweredAt"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.put(context.response().headers().get("date").and_then(moment));
        Ok(())
    }
}

fn moment(header: &str) -> Option<SystemTime> {
    DateTime::from_str(header, Format::HttpDate).ok()?.try_into().ok()
}

/// The operation's own configuration, which holds its deserializer; the SDK gives no other way to it.
fn stock_configuration() -> FrozenLayer {
    GetRecords::new().config().expect("every operation of the SDK brings its configuration")
}

/// Puts [`KeepPage`] in the place of the operation's deserializer, for one call.
#[derive(Debug)]
struct RawGetRecords {
    pub stock: FrozenLayer,
    pub page: Slot<Page>,
}

#[dyn_dispatch_hint]
impl Intercept for RawGetRecords {
    fn name(&self) -> &'static str {
        "RawGetRecords"
    }

    fn modify_before_serialization(
        &self,
        _context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let keep = KeepPage { stock: self.stock.clone(), page: self.page.clone() };
        cfg.interceptor_state().store_put(SharedResponseDeserializer::new(keep));
        Ok(())
    }
}

/// Reads a successful answer as a [`Page`] and puts it aside; the SDK gets an output without records.
#[derive(Debug)]
struct KeepPage {
    stock: FrozenLayer,
    page: Slot<Page>,
}

impl DeserializeResponse for KeepPage {
    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        cfg: &ConfigBag,
    ) -> Result<Output, OrchestratorError<Error>> {
        if !response.status().is_success() {
            return match self.stock.load::<SharedResponseDeserializer>() {
                Some(stock) => stock.deserialize_nonstreaming_with_config(response, cfg),
                None => Err(OrchestratorError::other("the SDK's own deserializer of GetRecords is not where it was")),
            };
        }
        // A response error, unlike an operation's error, is one that the SDK tries again.
        let page = Page::parse(bytes_of(response.body())).map_err(|error| OrchestratorError::response(error.into()))?;
        self.page.put(Some(page));
        Ok(Output::erase(GetRecordsOutput::builder().build()))
    }
}

/// The body, which the SDK has loaded already, without a copy.
fn bytes_of(body: &SdkBody) -> Bytes {
    let shared = body.try_clone().and_then(|body| body.collect().now_or_never());
    match shared {
        Some(Ok(collected)) => collected.to_bytes(),
        _ => Bytes::copy_from_slice(body.bytes().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_date_header_is_a_moment_in_whole_seconds() {
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        assert_eq!(moment("Fri, 02 Jan 2026 03:04:05 GMT"), Some(expected));
        for header in ["", "soon", "2026-01-02T03:04:05Z"] {
            assert_eq!(moment(header), None, "{header}");
        }
    }

    #[test]
    fn the_body_is_not_copied() {
        let body = SdkBody::from(Bytes::from_static(b"a page"));
        let bytes = bytes_of(&body);
        assert_eq!(bytes, "a page");
        assert_eq!(Some(bytes.as_ptr()), body.bytes().map(<[u8]>::as_ptr));
        assert_eq!(bytes_of(&SdkBody::empty()), "");
    }

    #[test]
    fn the_operation_brings_the_deserializer_that_errors_are_handed_to() {
        assert!(stock_configuration().load::<SharedResponseDeserializer>().is_some());
    }
}
