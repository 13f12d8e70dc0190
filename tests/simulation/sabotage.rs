//! Faults of the adapter, made on purpose at its seams: each breaks a sentence, and the judge must say so.
//!
//! Contract: the world and the judge are the same as in an honest run, and know nothing of it. Only what the adapter does to the
//! outside is bent, or what it is told to do: the services that it gets, and its settings. What a fault counts, it counts anew in
//! each life, as the process would.

mod aws;
pub mod shared;
mod sink;
mod store;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use dynamodb_streams_adapter::checkpoint::CheckpointStore;
use dynamodb_streams_adapter::sink::Sink;
use dynamodb_streams_adapter::streams::client::StreamsClient;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::aws::BentAws;
use self::sink::BentSink;
use self::store::BentStore;
use crate::plan::{Settings, Start};

/// What is wrong with the adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sabotage {
    /// Nothing: it is as it is.
    None,

    // What it stores.
    /// Positions lie a few records too far.
    StoresTooFar,
    /// Open shards are stored as finished.
    FinishesOpenShards,
    /// A child's position is stored while its parent's end is not.
    StoresChildBeforeParent,
    /// One save in three leaves a shard out.
    ForgetsAShard,
    /// A save is confirmed that never happened.
    NeverStores,
    /// A start does not see what is stored.
    NeverLoads,
    /// The checkpointer dies.
    CheckpointerDies,

    // What it reads.
    /// One record in twenty is lost.
    LosesARecord,
    /// Neighbours of a page change places.
    SwapsNeighbours,
    /// One record in twenty is told as undecodable.
    TakesRecordsForBroken,
    /// A position that is there is told as trimmed, and what lies behind it is passed over.
    TakesPositionsForTrimmed,
    /// A shard that begins while the process runs is read from its end.
    ReadsNewShardsFromTheirEnd,
    /// `latest` begins with the oldest record.
    TakesLatestForOldest,
    /// It is ready, and asks for `latest` half a minute later.
    BeginsBehindReady,
    /// Shards with a parent are never seen.
    SeesNoChildren,
    /// The tenth read never returns.
    AReadHangs,

    // How often it asks.
    /// Listings are asked for twelve at a time.
    ListsInDozens,
    /// A listing is asked for again and again.
    ListsWithoutEnd,
    /// A shard is read twice at a time.
    ReadsTwiceAtATime,
    /// A shard without records is asked again at once.
    ReadsWithoutPause,
    /// A quiet shard is asked as often as a busy one.
    NeverSlowsDown,
    /// Polls are twenty times slower than set.
    PollsSlowly,

    // What it posts.
    /// Each message is posted twice.
    PostsTwice,
    /// Behind each message the one before is posted again.
    PostsTheOneBeforeAgain,
    /// One message in twenty is taken for posted.
    PostsNotAll,
    /// A refusal counts as success.
    TakesRefusalForSuccess,
    /// What fails once is dropped.
    DropsWhatFailsOnce,
    /// What fails once is a dead letter.
    BuriesWhatFailsOnce,
    /// It goes on before the sink has answered.
    PostsWithoutWaiting,
    /// Events of a shard are posted side by side, although its order is set.
    IgnoresShardOrder,
    /// A message waits for a minute before it is posted.
    PostsLate,
    /// The tenth post never returns.
    APostHangs,

    // What it takes and how it ends.
    /// The buffer takes sixteen times what it may.
    BuffersSixteenfold,
    /// Everything that is there is read, whatever start is set.
    IgnoresTheStart,
    /// It waits for a table that nobody has.
    WaitsForATable,
    /// It stops although nobody asked it to.
    StopsByItself,

    // How it shares a table of positions with others.
    /// What an earlier owner may still write is not kept from being written.
    TouchesNothing,
    /// A write of its own that was delayed lands behind a newer one.
    WritesOverNewerVersions,
    /// What continues a shard is stored before it.
    StoresChildrenFirst,
    /// A renewal that fails is taken for granted.
    IgnoresTheEnd,
    /// A lease is claimed after a tenth of its time.
    ClaimsEarly,
    /// A lease is renewed when nothing is left to be saved.
    RenewsBehindSaves,
    /// What it had stored is not stored again when the table is made anew.
    ForgetsWhatItStored,
    /// An orderly end does not give the lease back.
    KeepsItsLease,
}

impl Sabotage {
    /// Those of a process that shares a table of positions.
    pub const SHARED: [Self; 8] = [
        Self::TouchesNothing,
        Self::WritesOverNewerVersions,
        Self::StoresChildrenFirst,
        Self::IgnoresTheEnd,
        Self::ClaimsEarly,
        Self::RenewsBehindSaves,
        Self::ForgetsWhatItStored,
        Self::KeepsItsLease,
    ];

    /// Those of a process by itself.
    pub const ALL: [Self; 36] = [
        Self::StoresTooFar,
        Self::FinishesOpenShards,
        Self::StoresChildBeforeParent,
        Self::ForgetsAShard,
        Self::NeverStores,
        Self::NeverLoads,
        Self::CheckpointerDies,
        Self::LosesARecord,
        Self::SwapsNeighbours,
        Self::TakesRecordsForBroken,
        Self::TakesPositionsForTrimmed,
        Self::ReadsNewShardsFromTheirEnd,
        Self::TakesLatestForOldest,
        Self::BeginsBehindReady,
        Self::SeesNoChildren,
        Self::AReadHangs,
        Self::ListsInDozens,
        Self::ListsWithoutEnd,
        Self::ReadsTwiceAtATime,
        Self::ReadsWithoutPause,
        Self::NeverSlowsDown,
        Self::PollsSlowly,
        Self::PostsTwice,
        Self::PostsTheOneBeforeAgain,
        Self::PostsNotAll,
        Self::TakesRefusalForSuccess,
        Self::DropsWhatFailsOnce,
        Self::BuriesWhatFailsOnce,
        Self::PostsWithoutWaiting,
        Self::IgnoresShardOrder,
        Self::PostsLate,
        Self::APostHangs,
        Self::BuffersSixteenfold,
        Self::IgnoresTheStart,
        Self::WaitsForATable,
        Self::StopsByItself,
    ];

    pub fn store(self, store: Arc<dyn CheckpointStore>) -> Arc<dyn CheckpointStore> {
        match self {
            Self::None => store,
            _ => Arc::new(BentStore::new(self, store)),
        }
    }

    pub fn aws(self, client: Arc<dyn StreamsClient>) -> Arc<dyn StreamsClient> {
        match self {
            Self::None => client,
            _ if Self::SHARED.contains(&self) => client,
            _ => Arc::new(BentAws::new(self, client)),
        }
    }

    pub fn sink(self, sink: Arc<dyn Sink>) -> Arc<dyn Sink> {
        match self {
            Self::None => sink,
            _ if Self::SHARED.contains(&self) => sink,
            _ => Arc::new(BentSink::new(self, sink)),
        }
    }

    /// What the process takes its settings for.
    pub fn settings(self, settings: &Settings) -> Cow<'_, Settings> {
        let mut bent = settings.clone();
        match self {
            Self::BuffersSixteenfold => bent.buffer *= 16,
            Self::NeverSlowsDown => bent.idle_max = bent.poll,
            Self::PollsSlowly => (bent.poll, bent.idle_max) = (bent.poll * 20, bent.idle_max * 20),
            Self::IgnoresTheStart => bent.start = Start::TrimHorizon,
            Self::DropsWhatFailsOnce => (bent.undeliverable, bent.max_attempts) = ("drop", Some(1)),
            Self::BuriesWhatFailsOnce => (bent.undeliverable, bent.max_attempts) = ("dead-letter", Some(1)),
            Self::IgnoresShardOrder => bent.by_shard = false,
            _ => return Cow::Borrowed(settings),
        }
        Cow::Owned(bent)
    }

    /// What it believes that it has to read.
    pub fn tables(self, mut named: Vec<String>) -> Vec<String> {
        if self == Self::WaitsForATable {
            named.push("Nobodys".to_owned());
        }
        named
    }

    /// Stops it, if it is one that stops by itself.
    pub async fn stops(self, told: &CancellationToken) {
        if self == Self::StopsByItself {
            let _ = timeout(Duration::from_secs(100), told.cancelled()).await;
            told.cancel();
        }
    }
}

/// Tells whether it is this one's turn: each nth is.
fn is_each(nth: u32, counted: &std::sync::atomic::AtomicU32) -> bool {
    let number = counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    number % nth == nth - 1
}
