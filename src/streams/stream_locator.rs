//! Which stream a table has now.
//!
//! `DescribeTable` says it. Where that is denied the listing of streams serves as well: those who come from an adapter that
//! used the one may not have the permission for the other.

use std::sync::Arc;

use super::RateLimiter;
use super::client::{ShardQuery, StreamStatus, StreamsClient};
use crate::aws::errors::{CallError, ErrorKind};
use crate::config::TableRef;

/// Which table, as AWS is asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableTarget {
    /// A name or an ARN that `DescribeTable` takes.
    pub table: String,
    /// The only stream that is meant, where the user named one.
    pub stream: Option<String>,
}

impl TableTarget {
    /// The table that the configuration names so.
    pub fn of(table: &TableRef) -> Self {
        let name = table.table_arn().unwrap_or(table.table_name());
        Self { table: name.to_owned(), stream: table.stream_arn().map(str::to_owned) }
    }
}

/// What a look at the table found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocatedStream {
    Stream(String),
    /// Nothing to read; what is missing, in words.
    Nothing(String),
}

/// Looks for a table's stream.
pub struct StreamLocator {
    pub client: Arc<dyn StreamsClient>,
    /// The pace of `DescribeStream` for the whole account.
    pub rate_limiter: Arc<RateLimiter>,
    pub target: TableTarget,
}

impl StreamLocator {
    /// The table's current stream.
    ///
    /// # Errors
    /// When AWS did not answer the question.
    pub async fn find(&self) -> Result<LocatedStream, CallError> {
        if let Some(stream) = &self.target.stream {
            return Ok(LocatedStream::Stream(stream.clone()));
        }
        let table = &self.target.table;
        match self.client.describe_table(table).await {
            Ok(description) => Ok(match description.latest_stream {
                Some(stream) => LocatedStream::Stream(stream),
                None => {
                    LocatedStream::Nothing("a stream: the table has none; enable DynamoDB Streams on it".to_owned())
                }
            }),
            Err(error) if error.kind == ErrorKind::NotFound => {
                Ok(LocatedStream::Nothing("the table: it does not exist in this region and account".to_owned()))
            }
            // Whoever replaced an adapter that used ListStreams may not have the other permission.
            Err(error) if error.kind == ErrorKind::Denied => self.find_by_listing(error).await,
            Err(error) => Err(error),
        }
    }

    async fn find_by_listing(&self, denied: CallError) -> Result<LocatedStream, CallError> {
        let name = self.target.table.rsplit('/').next().unwrap_or(&self.target.table);
        let Ok(streams) = self.client.list_streams(name).await else {
            return Err(denied);
        };
        let mut newest = None;
        for stream in streams {
            self.rate_limiter.wait_turn().await;
            match self.client.describe_stream(&stream, ShardQuery::First).await {
                Ok(description) if description.status == StreamStatus::Enabled => {
                    return Ok(LocatedStream::Stream(stream));
                }
                // The label at the end of an ARN is the time of its creation wherever more than one is listed.
                Ok(_) => newest = newest.max(Some(stream)),
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(newest.map_or_else(
            || LocatedStream::Nothing("a stream: the table has none that can be listed".to_owned()),
            LocatedStream::Stream,
        ))
    }

    /// Whether the table has another stream than this one. Only then is a stream that AWS does not know really gone: a
    /// wrong region or account, and a moment of confusion, look the same.
    pub async fn is_replaced(&self, stream: &str) -> bool {
        matches!(self.find().await, Ok(LocatedStream::Stream(current)) if current != stream)
    }
}
