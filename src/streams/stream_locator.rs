//! Which stream a table has now.
//!
//! `DescribeTable` says it. Where that is denied the listing of streams serves as well: those who come from an adapter that
//! used the one may not have the permission for the other.

use std::sync::Arc;

use super::AccountPace;
use super::client::{ShardQuery, StreamStatus, StreamsClient};
use crate::aws::errors::{CallError, ErrorKind};
use crate::config::TableRef;
use crate::records::StreamDetails;

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

    /// The table's name where nothing more is known of it: only AWS can say which one that is.
    pub fn bare_name(&self) -> Option<&str> {
        let is_bare = self.stream.is_none() && !self.table.starts_with("arn:");
        is_bare.then_some(&*self.table)
    }
}

/// What a look at the table found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocatedStream {
    Stream(String),
    /// Nothing to read; what is missing, in words.
    Nothing(String),
}

/// What a look for the table itself found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocatedTable {
    /// The table's ARN, or that of the only stream that is meant.
    Arn(String),
    /// What is missing, in words.
    Nothing(String),
}

const NO_TABLE: &str = "the table: it does not exist in this region and account";
const NO_STREAM: &str = "a stream: the table has none; enable DynamoDB Streams on it";

/// Looks for a table's stream.
pub struct StreamLocator {
    pub client: Arc<dyn StreamsClient>,
    pub pace: Arc<AccountPace>,
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
                None => LocatedStream::Nothing(NO_STREAM.to_owned()),
            }),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(LocatedStream::Nothing(NO_TABLE.to_owned())),
            // Whoever replaced an adapter that used ListStreams may not have the other permission.
            Err(error) if error.kind == ErrorKind::Denied => self.find_by_listing(error).await,
            Err(error) => Err(error),
        }
    }

    /// Which table that is, whatever it was called. AWS is asked only where it was called by its name.
    ///
    /// # Errors
    /// When AWS did not answer the question.
    pub async fn identify(&self) -> Result<LocatedTable, CallError> {
        let TableTarget { table, stream } = &self.target;
        if let Some(arn) = stream.as_ref().or(Some(table).filter(|table| table.starts_with("arn:"))) {
            return Ok(LocatedTable::Arn(arn.clone()));
        }
        match self.client.describe_table(table).await {
            Ok(description) => Ok(LocatedTable::Arn(description.arn)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(LocatedTable::Nothing(NO_TABLE.to_owned())),
            Err(error) if error.kind == ErrorKind::Denied => {
                let streams = self.list_streams().await.map_err(|_| error)?;
                let arn = streams.first().map(|stream| StreamDetails::from_arn(stream).table_arn);
                Ok(arn.map_or_else(|| LocatedTable::Nothing(NO_STREAM.to_owned()), LocatedTable::Arn))
            }
            Err(error) => Err(error),
        }
    }

    async fn find_by_listing(&self, denied: CallError) -> Result<LocatedStream, CallError> {
        let Ok(streams) = self.list_streams().await else {
            return Err(denied);
        };
        let mut newest = None;
        for stream in streams {
            self.pace.describe_stream.wait_turn().await;
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

    /// All streams that the table has, or had in the last day.
    ///
    /// # Errors
    /// When AWS did not answer the question.
    pub async fn list_streams(&self) -> Result<Vec<String>, CallError> {
        let name = self.target.table.rsplit('/').next().unwrap_or(&self.target.table);
        self.pace.list_streams.wait_turn().await;
        self.client.list_streams(name).await
    }

    /// Whether the table has another stream than this one. Only then is a stream that AWS does not know really gone: a
    /// wrong region or account, and a moment of confusion, look the same.
    pub async fn is_replaced(&self, stream: &str) -> bool {
        matches!(self.find().await, Ok(LocatedStream::Stream(current)) if current != stream)
    }
}
