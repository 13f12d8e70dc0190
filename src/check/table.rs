//! One table: its stream, and every action that reading it needs, tried once.
//!
//! Nothing is consumed: an iterator at `LATEST` reads what is being written just now, and reading removes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::aws::{Access, REGION, watched};
use super::clock_skew::Clocks;
use super::fix::TableNames;
use super::report::{Check, within};
use crate::aws::errors::{CallError, ErrorKind};
use crate::config::TableRef;
use crate::streams::AccountPace;
use crate::streams::client::aws::AwsClient;
use crate::streams::client::{
    IteratorStart, ListedShard, PAGE_RECORDS, ShardQuery, StreamDescription, StreamStatus, StreamsClient,
};
use crate::streams::stream_locator::{LocatedStream, StreamLocator, TableTarget};

/// The checks of a table in their order; each needs those before it.
const STEPS: [&str; 5] = [TABLE, STREAM, VIEW_TYPE, ITERATOR, RECORDS];
const TABLE: &str = "table";
const STREAM: &str = "stream";
const VIEW_TYPE: &str = "view-type";
const ITERATOR: &str = "iterator";
const RECORDS: &str = "records";

/// What all tables share.
pub(super) struct Shared<'s> {
    pub(super) access: &'s Access,
    pub(super) clocks: &'s Clocks,
    pub(super) pace: Arc<AccountPace>,
    pub(super) limit: Duration,
}

/// All checks of one table, those that could not be tried included.
pub(super) async fn check(table: &TableRef, shared: &Shared<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    let stopped_by = match Probe::new(table, shared) {
        Ok(probe) => probe.run(&mut checks).await.err().map(|Failed(name)| name),
        Err(failed) => Some(failed),
    };
    if let Some(failed) = stopped_by {
        let tried = checks.len();
        checks.extend(STEPS.iter().skip(tried).map(|name| Check::skipped(name, failed)));
    }
    checks.into_iter().map(|check| check.about(table.as_str())).collect()
}

/// The check that the later ones would have needed.
struct Failed(&'static str);

struct Probe<'s> {
    table: &'s TableRef,
    names: TableNames,
    client: Arc<dyn StreamsClient>,
    shared: &'s Shared<'s>,
}

impl<'s> Probe<'s> {
    fn new(table: &'s TableRef, shared: &'s Shared<'s>) -> Result<Self, &'static str> {
        let connections = shared.access.connections.as_ref().map_err(|failed| *failed)?;
        let sdk = connections.config(table.region()).map_err(|_| REGION)?;
        let region = sdk.region().map(ToString::to_string).unwrap_or_default();
        let names = TableNames {
            has_endpoint: sdk.endpoint_url().is_some(),
            ..TableNames::of(table, &region, shared.access.account.as_deref())
        };
        let client = Arc::new(AwsClient::new(&watched(sdk, shared.clocks)));
        Ok(Self { table, names, client, shared })
    }

    async fn run(&self, checks: &mut Vec<Check>) -> Result<(), Failed> {
        let stream = take(checks, self.find().await)?;
        let listed = take(checks, self.describe(stream).await)?;
        checks.push(judge_view_type(listed.description.view_type.as_deref(), &self.names));
        let iterator = take(checks, self.iterator(&listed).await)?;
        checks.push(self.records(iterator).await);
        Ok(())
    }

    /// The current stream, as the adapter looks for it: `DescribeTable`, else `ListStreams`.
    async fn find(&self) -> (Check, Option<String>) {
        let found = match within(self.shared.limit, self.locator().find()).await {
            Err(late) => return (Check::fail(TABLE, &late).with_fix(self.names.reach()), None),
            Ok(Err(error)) => return (self.failed(TABLE, &error), None),
            Ok(Ok(found)) => found,
        };
        match found {
            LocatedStream::Stream(stream) => {
                let unseen = self.unseen_streams().await;
                (Check::ok(TABLE, &format!("the stream is {stream}{unseen}")), Some(stream))
            }
            LocatedStream::Nothing(what) => (self.nothing(&what).await, None),
        }
    }

    /// What is lost where the table's streams may not be listed.
    async fn unseen_streams(&self) -> &'static str {
        if self.table.stream_arn().is_some() {
            return "";
        }
        match within(self.shared.limit, self.locator().list_streams()).await {
            Ok(Err(error)) if error.kind == ErrorKind::Denied => {
                "; AWS denies ListStreams, so the changes of a stream that is created and disabled again unseen, while the \
                 adapter is away or reads the one before, would be lost"
            }
            _ => "",
        }
    }

    /// Only a table that is there can get a stream.
    async fn nothing(&self, what: &str) -> Check {
        let table = self.table.table_arn().unwrap_or(&self.names.name);
        let answer = within(self.shared.limit, self.client.describe_table(table)).await;
        let is_missing = matches!(answer, Ok(Err(error)) if error.kind == ErrorKind::NotFound);
        let fix = if is_missing { self.names.list_tables() } else { self.names.enable_stream() };
        Check::fail(TABLE, &format!("there is nothing to read yet, the adapter would wait for {what}")).with_fix(fix)
    }

    async fn describe(&self, stream: String) -> (Check, Option<Listed>) {
        let deadline = Instant::now() + self.shared.limit;
        let first = match within(self.shared.limit, self.client.describe_stream(&stream, ShardQuery::First)).await {
            Err(late) => return (Check::fail(STREAM, &late).with_fix(self.names.reach()), None),
            Ok(Err(error)) => return (self.failed(STREAM, &error), None),
            Ok(Ok(description)) => description,
        };
        let (shards, is_complete) = self.all_shards(&stream, &first, deadline).await;
        let leaf = leaf(&shards);
        let listed = Listed { stream, description: first, shards: shards.len(), leaf, is_complete };
        (judge_status(&listed, self.table, &self.names), Some(listed))
    }

    /// All pages as far as the time goes, and whether it were all.
    async fn all_shards(&self, stream: &str, first: &StreamDescription, deadline: Instant) -> (Vec<ListedShard>, bool) {
        let (mut shards, mut next) = (first.shards.clone(), first.next.clone());
        while let Some(behind) = next {
            let page = async {
                self.shared.pace.describe_stream.wait_turn().await;
                self.client.describe_stream(stream, ShardQuery::Behind(&behind)).await
            };
            match tokio::time::timeout_at(deadline, page).await {
                Ok(Ok(page)) => {
                    next = page.next.filter(|next| *next != behind);
                    shards.extend(page.shards);
                }
                _ => return (shards, false),
            }
        }
        (shards, true)
    }

    /// A token for the end of a shard; none where there is no shard yet.
    async fn iterator(&self, listed: &Listed) -> (Check, Option<Option<String>>) {
        let Some(shard) = &listed.leaf else {
            return (Check::warn(ITERATOR, "not tried because the stream has no shard yet"), Some(None));
        };
        let call = self.client.get_shard_iterator(&listed.stream, shard, IteratorStart::Latest);
        match within(self.shared.limit, call).await {
            Err(late) => (Check::fail(ITERATOR, &late).with_fix(self.names.reach()), None),
            Ok(Err(error)) => (self.failed(ITERATOR, &error), None),
            Ok(Ok(iterator)) => (Check::ok(ITERATOR, &format!("for shard {shard}")), Some(Some(iterator))),
        }
    }

    async fn records(&self, iterator: Option<String>) -> Check {
        let Some(iterator) = iterator else {
            return Check::warn(RECORDS, "not tried because the stream has no shard yet");
        };
        match within(self.shared.limit, self.client.get_records(&iterator, PAGE_RECORDS)).await {
            Err(late) => Check::fail(RECORDS, &late).with_fix(self.names.reach()),
            Ok(Err(error)) => self.failed(RECORDS, &error),
            Ok(Ok(_)) => Check::ok(RECORDS, "the shard can be read"),
        }
    }

    /// What a failed call means: being called too often is no failure, the permission is there.
    fn failed(&self, name: &'static str, error: &CallError) -> Check {
        let check = match error.kind {
            ErrorKind::Throttled | ErrorKind::LimitExceeded if name == RECORDS => Check::warn,
            _ => Check::fail,
        };
        check(name, &error.to_string()).with_fix(self.names.for_call(error))
    }

    /// The adapter's own way to look.
    fn locator(&self) -> StreamLocator {
        let (client, pace) = (self.client.clone(), self.shared.pace.clone());
        StreamLocator { client, pace, target: TableTarget::of(self.table) }
    }
}

/// Keeps the check; goes on with what it found.
fn take<T>(checks: &mut Vec<Check>, (check, found): (Check, Option<T>)) -> Result<T, Failed> {
    let name = check.name;
    checks.push(check);
    found.ok_or(Failed(name))
}

/// A stream and how many shards of it were listed.
struct Listed {
    stream: String,
    /// The first page of its description.
    description: StreamDescription,
    /// Shards on all pages that were read.
    shards: usize,
    /// One that nobody continues: most likely still open.
    leaf: Option<String>,
    /// Whether all pages were read.
    is_complete: bool,
}

/// Whether changes still come.
fn judge_status(listed: &Listed, table: &TableRef, names: &TableNames) -> Check {
    let at_least = if listed.is_complete { "" } else { "at least " };
    let shards = format!("{at_least}{} shards listed", listed.shards);
    if listed.description.status == StreamStatus::Enabled {
        return Check::ok(STREAM, &format!("enabled, {shards}"));
    }
    let detail = format!("disabled, {shards}: DynamoDB adds no further changes to it");
    match table.stream_arn() {
        Some(_) => Check::fail(STREAM, &format!("{detail}, and TABLE names only this stream"))
            .with_fix(format!("export TABLE={}", names.arn)),
        None => Check::fail(STREAM, &detail).with_fix(names.enable_stream()),
    }
}

/// What events will lack.
fn judge_view_type(view_type: Option<&str>, names: &TableNames) -> Check {
    let lacking = match view_type {
        Some("NEW_AND_OLD_IMAGES") => return Check::ok(VIEW_TYPE, "NEW_AND_OLD_IMAGES"),
        Some("NEW_IMAGE") => "NEW_IMAGE: events do not contain the old image of the item",
        Some("OLD_IMAGE") => "OLD_IMAGE: events do not contain the new image of the item",
        Some("KEYS_ONLY") => "KEYS_ONLY: events contain only the key of the item",
        other => return Check::ok(VIEW_TYPE, other.unwrap_or("unknown: AWS did not return it")),
    };
    Check::warn(VIEW_TYPE, lacking).with_fix(names.replace_stream())
}

/// A shard that none of the others continues, the last of them.
fn leaf(shards: &[ListedShard]) -> Option<String> {
    let parents: BTreeSet<&str> = shards.iter().filter_map(|shard| shard.parent.as_deref()).collect();
    shards.iter().rev().find(|shard| !parents.contains(&*shard.id)).map(|shard| shard.id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: &str, parent: Option<&str>) -> ListedShard {
        ListedShard { id: id.into(), parent: parent.map(Into::into), has_ended: false }
    }

    #[test]
    fn the_shard_to_try_is_one_that_none_continues() {
        assert_eq!(leaf(&[]), None);
        let story = [shard("c", Some("b")), shard("a", None), shard("b", Some("a"))];
        assert_eq!(leaf(&story).as_deref(), Some("c"));
    }
}
