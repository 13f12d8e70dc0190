//! Reads one stream: every shard once, parents before children, children immediately after them.
//!
//! Contract:
//! - At most one reader a shard, ever; a child begins when its parent's end was read, without waiting for a poll.
//! - A listing that fails, or shows less than before, changes nothing of what is being read.
//! - The stream is drained when it is disabled, a whole listing has been taken since, and every shard was read.

mod shards;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::client::{ShardQuery, StreamDescription, StreamStatus, StreamsClient as _};
use super::discovery::{Discovery, Query};
use super::lineage::{Lineage, Ready};
use super::reading::{Reading, Step, Stopped, Task};
use super::shard_reader::End;
use super::stream_locator::StreamLocator;
use super::update::Update;
use crate::aws::errors::{CallError, ErrorKind};
use crate::backoff::pause_after;
use crate::checkpoint::{StoredShard, StoredStream};
use crate::clock;
use crate::records::{Gap, Position, ShardId, ShardNumber, StreamDetails};
use crate::telemetry::events;

/// Finished shards are remembered this long: they stay listed for a day.
const MARKER_LIFE: Duration = Duration::from_secs(48 * 60 * 60);
/// A stream counts as gone when AWS said so this often in a row.
const DENIALS_OF_EXISTENCE: u32 = 3;

/// Where to begin with a stream that was never read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// With what is written from now on.
    Latest,
    /// With records of this moment or later that are still there.
    Since(SystemTime),
    /// With everything: an earlier stream of the table was being read.
    Everything,
}

/// How reading a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is disabled and was read to its end.
    Drained,
    /// AWS does not know it any more.
    Missing,
    /// Data was lost and the policy is to stop.
    Lost,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Drained => "disabled and read to its end",
            Outcome::Missing => "it no longer exists",
            Outcome::Lost => "data was lost",
        }
    }
}

/// A question that is being asked.
type Asking = Pin<Box<dyn Future<Output = (Query, Result<StreamDescription, CallError>)> + Send>>;

pub struct StreamReader {
    reading: Arc<Reading>,
    locator: Arc<StreamLocator>,
    facts: Arc<StreamDetails>,
    lineage: Lineage,
    discovery: Discovery,
    readers: JoinSet<(ShardId, End)>,
    running: BTreeMap<ShardId, Running>,
    /// When shards were read to their end, or finished by an earlier run.
    read_at: BTreeMap<ShardId, Finished>,
    /// Shards that AWS does not know, until a listing shows whether it is the shard or the stream that is gone.
    vanished: Vec<(ShardId, Position)>,
    beginning: Beginning,
    /// Readers that were told to begin with `LATEST` and have not asked for it yet: what is written before they do is
    /// not read.
    beginnings: FuturesUnordered<oneshot::Receiver<()>>,
    start: Position,
    disabled: bool,
    listed_since_disabled: bool,
    absent: u32,
    /// Data was lost and the policy is to stop.
    lost: bool,
}

struct Running {
    number: ShardNumber,
    closed: CancellationToken,
    owed: bool,
}

struct Finished {
    number: ShardNumber,
    at: SystemTime,
    /// When its end was read; none if it was skipped, or finished by an earlier run.
    read: Option<Instant>,
}

impl StreamReader {
    /// Reads `stream` until it is drained or gone, from where `stored` says or from `beginning`.
    ///
    /// # Errors
    /// When nobody takes updates any more.
    pub async fn read(
        reading: Arc<Reading>,
        locator: Arc<StreamLocator>,
        stream: &str,
        stored: Option<&StoredStream>,
        beginning: Beginning,
    ) -> Result<(Outcome, Option<Arc<StreamDetails>>), Stopped> {
        let Some(first) = first_answer(&reading, &locator, stream).await else {
            return Ok((Outcome::Missing, None));
        };
        let facts = Arc::new(StreamDetails {
            table: first.table.clone(),
            key_schema: first.key_schema.clone(),
            view_type: first.view_type.clone(),
            ..StreamDetails::from_arn(stream)
        });
        let now = first.answered_at.unwrap_or_else(clock::now);
        let start = stored.map_or_else(|| beginning.start(now), |stored| stored.start);
        events::StreamOpened { stream, start: &start.to_string() }.emit(&reading.telemetry);
        reading.tell(Task::Stream, Update::StreamOpened { facts: facts.clone(), start }).await?;
        let mut reader = Self::new(reading, locator, facts.clone(), beginning, start);
        if let Some(stored) = stored {
            reader.restore(stored).await?;
        }
        let outcome = reader.run(first, stored.is_none()).await?;
        reader.end_readers().await;
        Ok((outcome, Some(facts)))
    }

    fn new(
        reading: Arc<Reading>,
        locator: Arc<StreamLocator>,
        facts: Arc<StreamDetails>,
        beginning: Beginning,
        start: Position,
    ) -> Self {
        Self {
            reading,
            locator,
            facts,
            lineage: Lineage::new(),
            discovery: Discovery::new(Instant::now()),
            readers: JoinSet::new(),
            running: BTreeMap::new(),
            read_at: BTreeMap::new(),
            vanished: Vec::new(),
            beginning,
            beginnings: FuturesUnordered::new(),
            start,
            disabled: false,
            listed_since_disabled: false,
            absent: 0,
            lost: false,
        }
    }

    async fn run(&mut self, first: StreamDescription, fresh: bool) -> Result<Outcome, Stopped> {
        self.answered(Query::Page(None), first, fresh).await?;
        let mut asking: Option<Asking> = None;
        loop {
            if self.lost {
                return Ok(Outcome::Lost);
            }
            if self.is_drained() {
                return Ok(Outcome::Drained);
            }
            if asking.is_none() {
                asking = self.discovery.next(Instant::now()).map(|query| self.ask(query));
            }
            let quiet = asking.is_none();
            match quiet {
                true => self.reading.activity.begin(Task::Stream, Step::Until(self.discovery.due())),
                // The question has steps of its own.
                false => self.reading.activity.end(Task::Stream),
            }
            select! {
                Some(ended) = self.readers.join_next(), if !self.readers.is_empty() => {
                    if let Some(outcome) = self.reader_ended(ended).await? {
                        return Ok(outcome);
                    }
                }
                (query, answer) = async { asking.as_mut().expect("guarded by the condition").await }, if !quiet => {
                    asking = None;
                    match answer {
                        Ok(page) => self.answered(query, page, fresh).await?,
                        Err(error) => self.unanswered(&query, &error),
                    }
                    if self.is_gone().await {
                        return self.give_up().await;
                    }
                }
                Some(_) = self.beginnings.next(), if !self.beginnings.is_empty() => {
                    if self.beginnings.is_empty() {
                        self.announce().await?;
                    }
                }
                () = sleep_until(self.discovery.due()), if quiet => {}
            }
        }
    }

    /// Whether the stream is gone for good: AWS said so again and again, and the table has another one.
    async fn is_gone(&mut self) -> bool {
        if self.absent < DENIALS_OF_EXISTENCE {
            return false;
        }
        self.absent = 0;
        self.reading.activity.begin(Task::Stream, Step::search());
        self.locator.is_replaced(&self.facts.arn).await
    }

    /// Ends what is still being read: the stream is gone, or its table is read no further.
    async fn end_readers(&mut self) {
        self.readers.shutdown().await;
        let shards = self.running.values().map(|running| Task::Shard(running.number));
        shards.chain([Task::Stream, Task::Query]).for_each(|task| self.reading.activity.end(task));
    }

    async fn give_up(&mut self) -> Result<Outcome, Stopped> {
        self.end_readers().await;
        for (_, running) in std::mem::take(&mut self.running) {
            self.reading.tell(Task::Stream, Update::ShardEnded { shard: running.number }).await?;
        }
        Ok(Outcome::Missing)
    }

    /// Takes up what an earlier run left.
    async fn restore(&mut self, stored: &StoredStream) -> Result<(), Stopped> {
        for (id, shard) in &stored.shards {
            if let StoredShard::Finished { at, parent } = shard {
                self.lineage.restore_read(id, parent.as_deref());
                self.skip(Ready { id: id.as_str().into(), parent: parent.as_deref().map(Arc::from) }, *at).await?;
            }
        }
        for (id, shard) in &stored.shards {
            if let StoredShard::Unfinished(shard) = shard {
                let ready = self.lineage.restore_reading(id, shard.parent.as_deref());
                self.open(ready, shard.safe, Debt { owed: true, vouched: shard.verified_at }).await?;
            }
        }
        Ok(())
    }

    fn ask(&self, query: Query) -> Asking {
        let (reading, stream) = (self.reading.clone(), self.facts.arn.clone());
        async move {
            let shards = match &query {
                Query::Page(None) => ShardQuery::First,
                Query::Page(Some(behind)) | Query::Tail(behind) => ShardQuery::Behind(behind),
                Query::Children(parent) => ShardQuery::ChildrenOf(parent),
            };
            let answer = describe(&reading, Task::Query, &stream, shards).await;
            reading.activity.end(Task::Query);
            (query, answer)
        }
        .boxed()
    }

    async fn answered(&mut self, query: Query, page: StreamDescription, fresh: bool) -> Result<(), Stopped> {
        self.absent = 0;
        self.reading.client.answered();
        for shard in &page.shards {
            self.lineage.learn(&shard.id, shard.parent.as_deref());
        }
        let last = page.shards.last().map(|shard| shard.id.as_str());
        let whole = self.discovery.answered(&query, page.next.clone(), last, Instant::now());
        if whole {
            self.pass_completed(page.status).await?;
        }
        let first_listing = fresh && !self.lineage.was_listed();
        if !(first_listing && self.beginning.needs_whole_listing()) {
            self.open_ready().await?;
        }
        Ok(())
    }

    async fn pass_completed(&mut self, status: StreamStatus) -> Result<(), Stopped> {
        let first = !self.lineage.was_listed();
        self.lineage.complete_pass();
        self.listed_since_disabled = self.disabled && status == StreamStatus::Disabled;
        self.disabled = status == StreamStatus::Disabled;
        if self.disabled && !self.listed_since_disabled {
            self.discovery.hurry(Instant::now());
        }
        if first {
            self.first_listing().await?;
        }
        if self.lineage.is_in_doubt() {
            self.discovery.hurry(Instant::now());
        }
        for (id, position) in std::mem::take(&mut self.vanished) {
            self.shard_is_gone(&id, position).await?;
        }
        self.forget_old_markers().await
    }

    async fn first_listing(&mut self) -> Result<(), Stopped> {
        if self.running.is_empty() && self.read_at.is_empty() {
            let skipped = match self.beginning {
                Beginning::Latest => self.lineage.skip_parents(),
                Beginning::Since(moment) => self.lineage.skip_closed_before(moment),
                Beginning::Everything => Vec::new(),
            };
            let now = clock::now();
            for shard in skipped {
                self.skip(shard, now).await?;
            }
            if self.beginning == Beginning::Latest {
                for leaf in self.lineage.take_leaves() {
                    self.open_latest(leaf).await?;
                }
            }
        }
        if self.beginnings.is_empty() { self.announce().await } else { Ok(()) }
    }

    /// From now on everything that is written will be delivered.
    async fn announce(&mut self) -> Result<(), Stopped> {
        let counts = self.lineage.counts();
        events::StreamListed {
            stream: &self.facts.arn,
            reading: counts.reading,
            waiting: counts.waiting,
            finished: counts.finished,
        }
        .emit(&self.reading.telemetry);
        self.reading.tell(Task::Stream, Update::StreamListed).await
    }

    fn unanswered(&mut self, query: &Query, error: &CallError) {
        self.absent = if error.kind == ErrorKind::NotFound { self.absent + 1 } else { 0 };
        self.reading.client.refused(error);
        let pause = failure_pause(self.discovery.failures() + 1);
        self.discovery.failed(query, pause, Instant::now());
    }

    fn is_drained(&self) -> bool {
        self.disabled && self.listed_since_disabled && self.lineage.is_drained() && self.vanished.is_empty()
    }
}

/// Whether everything from a position on is owed, and until when nothing of it had been trimmed.
struct Debt {
    owed: bool,
    vouched: SystemTime,
}

impl Beginning {
    /// Whether no shard is opened before the first whole listing, because that decides which ones are not read at all.
    ///
    /// A shard of the first page is the oldest of its lineage: opened at once it would be read in vain, and its descendants
    /// from their start, older changes included. The price is time: a listing of 700 pages, as of a table with 10,000
    /// partitions, takes 88 s. From the oldest record on nothing is skipped, so nothing is waited for.
    fn needs_whole_listing(self) -> bool {
        match self {
            Beginning::Latest => true,
            Beginning::Since(moment) => moment > SystemTime::UNIX_EPOCH,
            Beginning::Everything => false,
        }
    }

    fn start(self, now: SystemTime) -> Position {
        match self {
            Beginning::Latest => Position::Since(now),
            Beginning::Since(moment) => Position::Since(moment),
            Beginning::Everything => Position::Start,
        }
    }
}

/// The first answer for a stream, however long it takes; nothing if the stream is gone and the table has another one.
async fn first_answer(reading: &Reading, locator: &StreamLocator, stream: &str) -> Option<StreamDescription> {
    let (mut failures, mut absent) = (0, 0);
    loop {
        match describe(reading, Task::Stream, stream, ShardQuery::First).await {
            Ok(first) => return Some(first),
            Err(error) => {
                failures += 1;
                absent = if error.kind == ErrorKind::NotFound { absent + 1 } else { 0 };
                reading.client.refused(&error);
                if absent >= DENIALS_OF_EXISTENCE {
                    reading.activity.begin(Task::Stream, Step::search());
                    if locator.is_replaced(stream).await {
                        reading.activity.end(Task::Stream);
                        return None;
                    }
                }
                let due = Instant::now() + failure_pause(failures);
                reading.activity.begin(Task::Stream, Step::Until(due));
                sleep_until(due).await;
            }
        }
    }
}

/// One question about a stream, at its turn.
async fn describe(
    reading: &Reading,
    task: Task,
    stream: &str,
    shards: ShardQuery<'_>,
) -> Result<StreamDescription, CallError> {
    let turn = reading.describe_rate.book_turn();
    reading.activity.begin(task, Step::Until(turn));
    sleep_until(turn).await;
    reading.activity.begin(task, Step::call());
    reading.client.describe_stream(stream, shards).await
}

fn failure_pause(failures: u32) -> Duration {
    pause_after(failures, Duration::from_millis(200), Duration::from_secs(15), fastrand::f64())
}

/// Says loudly that data was lost.
pub fn report(reading: &Reading, gap: &Gap) {
    events::DataLost {
        stream: &gap.stream_arn,
        shard: gap.shard.as_deref(),
        position: &gap.after.map_or_else(|| "unknown".to_owned(), |after| format!("after {after}")),
        reason: gap.reason.as_str(),
        detail: "it no longer exists",
    }
    .emit(&reading.telemetry);
}
