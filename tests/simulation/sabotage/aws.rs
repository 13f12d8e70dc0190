//! AWS, as an adapter uses it that asks too often, or makes something else of the answers.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dynamodb_streams_adapter::aws::errors::{CallError, ErrorKind};
use dynamodb_streams_adapter::records::Page;
use dynamodb_streams_adapter::streams::client::{
    Call, IteratorStart, ShardQuery, StreamDescription, StreamsClient, TableDescription,
};
use futures_util::future::{join, join_all};
use tokio::time::sleep;

use super::{Sabotage, is_each};

/// How often an adapter without end or pause asks again.
const AGAIN: usize = 60;

/// How an iterator begins that was not asked for yet.
const NOT_YET: &str = "not yet ";

pub struct BentAws {
    sabotage: Sabotage,
    client: Arc<dyn StreamsClient>,
    records: AtomicU32,
    reads: AtomicU32,
    /// Shards whose position was taken for trimmed, and iterators behind such a position.
    trimmed: Mutex<BTreeSet<String>>,
}

impl BentAws {
    pub fn new(sabotage: Sabotage, client: Arc<dyn StreamsClient>) -> Self {
        let (records, reads) = Default::default();
        Self { sabotage, client, records, reads, trimmed: Mutex::default() }
    }

    fn bend(&self, page: &mut Page) {
        match self.sabotage {
            Sabotage::LosesARecord => page.records.retain(|_| !is_each(20, &self.records)),
            Sabotage::SwapsNeighbours => page.records.chunks_exact_mut(2).for_each(<[_]>::reverse),
            Sabotage::TakesRecordsForBroken => {
                let broken = Page::parse(Bytes::from_static(br#"{"Records":[{"eventID":"broken"}]}"#));
                let broken = broken.expect("a page").records.remove(0);
                page.records.iter_mut().filter(|_| is_each(20, &self.records)).for_each(|it| *it = broken.clone());
            }
            _ => {}
        }
    }

    fn trimmed(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.trimmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of the first records behind a position that was taken for trimmed only the last is left.
    fn pass_over(&self, iterator: &str, page: &mut Page) {
        if !self.trimmed().contains(iterator) {
            return;
        }
        match page.records.pop() {
            Some(last) => page.records = vec![last],
            None => self.trimmed().extend(page.next_iterator.clone()),
        }
    }

    /// An iterator that it pretended to have is asked for now.
    async fn asked_late(&self, iterator: &str) -> Result<Option<String>, CallError> {
        let Some((stream, shard)) = iterator.strip_prefix(NOT_YET).and_then(|it| it.split_once(' ')) else {
            return Ok(None);
        };
        sleep(Duration::from_secs(30)).await;
        self.client.get_shard_iterator(stream, shard, IteratorStart::Latest).await.map(Some)
    }

    /// Where it really lets a shard begin.
    fn bent_start(&self, shard: &str, from: IteratorStart) -> Result<IteratorStart, CallError> {
        Ok(match (self.sabotage, from) {
            (Sabotage::TakesLatestForOldest, IteratorStart::Latest) => IteratorStart::Oldest,
            (Sabotage::ReadsNewShardsFromTheirEnd, IteratorStart::Oldest) => IteratorStart::Latest,
            (Sabotage::TakesPositionsForTrimmed, IteratorStart::At(_)) if self.trimmed().insert(shard.to_owned()) => {
                return Err(trimmed());
            }
            (_, from) => from,
        })
    }

    async fn describe(&self, stream: &str, shards: ShardQuery<'_>) -> Result<StreamDescription, CallError> {
        match self.sabotage {
            Sabotage::ListsInDozens => {
                join_all((1..12).map(|_| self.client.describe_stream(stream, shards))).await;
            }
            Sabotage::ListsWithoutEnd => {
                for _ in 0..AGAIN {
                    let _ = self.client.describe_stream(stream, shards).await;
                    sleep(Duration::from_millis(150)).await;
                }
            }
            _ => {}
        }
        let mut described = self.client.describe_stream(stream, shards).await?;
        if self.sabotage == Sabotage::SeesNoChildren {
            described.shards.retain(|shard| shard.parent.is_none());
        }
        Ok(described)
    }

    async fn read(&self, iterator: &str, limit: u32) -> Result<Page, CallError> {
        match self.sabotage {
            Sabotage::AReadHangs if is_each(10, &self.reads) => std::future::pending().await,
            Sabotage::ReadsTwiceAtATime => {
                return join(self.client.get_records(iterator, limit), self.client.get_records(iterator, limit))
                    .await
                    .0;
            }
            _ => {}
        }
        let asked = self.asked_late(iterator).await?;
        let iterator = asked.as_deref().unwrap_or(iterator);
        let mut page = self.client.get_records(iterator, limit).await?;
        if self.sabotage == Sabotage::ReadsWithoutPause {
            for _ in 0..AGAIN {
                let Some(next) = page.next_iterator.clone().filter(|_| page.records.is_empty()) else { break };
                page = self.client.get_records(&next, limit).await?;
            }
        }
        self.pass_over(iterator, &mut page);
        self.bend(&mut page);
        Ok(page)
    }
}

impl StreamsClient for BentAws {
    fn describe_table<'a>(&'a self, table: &'a str) -> Call<'a, TableDescription> {
        self.client.describe_table(table)
    }

    fn list_streams<'a>(&'a self, table: &'a str) -> Call<'a, Vec<String>> {
        self.client.list_streams(table)
    }

    fn describe_stream<'a>(&'a self, stream: &'a str, shards: ShardQuery<'a>) -> Call<'a, StreamDescription> {
        Box::pin(self.describe(stream, shards))
    }

    fn get_shard_iterator<'a>(&'a self, stream: &'a str, shard: &'a str, from: IteratorStart) -> Call<'a, String> {
        Box::pin(async move {
            let from = self.bent_start(shard, from)?;
            if self.sabotage == Sabotage::BeginsBehindReady && from == IteratorStart::Latest {
                return Ok(format!("{NOT_YET}{stream} {shard}"));
            }
            let iterator = self.client.get_shard_iterator(stream, shard, from).await?;
            if from == IteratorStart::Oldest && self.trimmed().contains(shard) {
                self.trimmed().insert(iterator.clone());
            }
            Ok(iterator)
        })
    }

    fn get_records<'a>(&'a self, iterator: &'a str, limit: u32) -> Call<'a, Page> {
        Box::pin(self.read(iterator, limit))
    }
}

fn trimmed() -> CallError {
    CallError {
        operation: "GetShardIterator",
        kind: ErrorKind::Trimmed,
        code: "TrimmedDataAccessException".to_owned(),
        message: "sabotaged".to_owned(),
    }
}
