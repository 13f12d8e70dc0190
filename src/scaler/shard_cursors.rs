//! Reads the shards of one table only as far as it takes to see whether something is written to them.
//!
//! Contract: a shard that was listed when watching began is read from then on, every later one from its start: what is written while
//! somebody watches is seen. Of each shard one page is read a round, or a few empty ones. Whatever was read is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::activity::{Failure, Round};
use super::table_view::{Listing, SUCCESSOR_WAIT};
use crate::aws::errors::{CallError, ErrorKind};
use crate::records::Page;
use crate::streams::client::{Call, IteratorStart, PAGE_RECORDS, StreamsClient};

/// Shards of one table that are read at the same time.
const AT_ONCE: usize = 8;

/// How long a call is waited for: a round ends when all its calls have ended.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// A page of so many bytes may have been cut: AWS ends it at a megabyte.
const FULL_PAGE: usize = 600_000;

/// A shard of a stream.
type ShardKey = (Arc<str>, String);

/// Where the shards of a table are being read.
#[derive(Debug, Default)]
pub(super) struct ShardCursors {
    /// What the first listing showed; none before it.
    first_listed: Option<BTreeSet<ShardKey>>,
    open: BTreeMap<ShardKey, Cursor>,
    /// Read to the end, and since when that is known.
    finished: BTreeMap<ShardKey, Instant>,
}

#[derive(Debug, Clone)]
struct Cursor {
    /// None: one has to be asked for.
    iterator: Option<String>,
    from: IteratorStart,
    since: Instant,
}

/// What a round takes.
pub(super) struct RoundPlan<'p> {
    pub(super) client: &'p dyn StreamsClient,
    /// Calls of all tables at the same time.
    pub(super) calls: &'p Semaphore,
    /// Whether records are to be counted, and not only noticed.
    pub(super) counts: bool,
    /// Pages that are read of a shard while they are empty.
    pub(super) pages: usize,
}

/// What came of asking for iterators.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// Why one of them is missing.
    pub(super) failure: Option<Failure>,
    /// What was written before now to one of the shards is not seen.
    begins_now: bool,
}

/// What a round has brought.
#[derive(Debug)]
pub(super) struct EndedRound {
    pub(super) round: Round,
    /// The listing does not show the shards as they are now.
    pub(super) is_out_of_date: bool,
}

/// What one shard brought.
#[derive(Debug)]
enum Seen {
    Nothing(Cursor),
    Records(PageSeen, Cursor),
    /// Its last page, with what was on it.
    End(Option<PageSeen>),
    /// AWS does not know it, or not yet.
    Unknown,
    /// Something was trimmed, or nobody knows what came after the last look.
    Lost(Cursor),
    Failed(Failure, Cursor),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct PageSeen {
    oldest: Option<SystemTime>,
    per_second: f64,
}

impl ShardCursors {
    /// Takes in what a listing shows.
    pub(super) fn follow(&mut self, listing: &Listing, now: Instant) {
        let key = |id: &str| (listing.stream.clone(), id.to_owned());
        let first_listed = self.first_listed.get_or_insert_with(|| {
            let ended = listing.shards.iter().filter(|shard| shard.has_ended);
            self.finished.extend(ended.map(|shard| (key(&shard.id), now)));
            listing.shards.iter().map(|shard| key(&shard.id)).collect()
        });
        for shard in &listing.shards {
            let key = key(&shard.id);
            if !self.finished.contains_key(&key) {
                let is_first = first_listed.contains(&key);
                let from = if is_first { IteratorStart::Latest } else { IteratorStart::Oldest };
                self.open.entry(key).or_insert(Cursor { iterator: None, from, since: now });
            }
        }
        // Shards that are not listed any more need not be remembered; of earlier streams what is open is read to its end.
        let is_listed: BTreeSet<ShardKey> = listing.shards.iter().map(|shard| key(&shard.id)).collect();
        self.finished.retain(|key, _| is_listed.contains(key));
        first_listed.retain(|key| is_listed.contains(key));
    }

    /// Whether the listing should be taken anew because what continues a shard that has ended is not on it: more and more seldom, and
    /// not for ever.
    pub(super) fn lacks_successors(&self, listing: &Listing, now: Instant) -> bool {
        let parents: BTreeSet<&str> = listing.shards.iter().filter_map(|shard| shard.parent.as_deref()).collect();
        self.finished.iter().any(|((stream, shard), since)| {
            let waited = now.duration_since(*since);
            let is_due = now.duration_since(listing.taken_at) >= waited / 2;
            *stream == listing.stream && !parents.contains(shard.as_str()) && waited < SUCCESSOR_WAIT && is_due
        })
    }

    /// Asks for the iterators that are missing, so that what is written from now on is seen. A shard that AWS does not know is asked for
    /// again as long as it is listed.
    pub(super) async fn open(&mut self, plan: &RoundPlan<'_>) -> Opened {
        let missing = self.open.iter().filter(|(_, cursor)| cursor.iterator.is_none());
        let missing: Vec<(ShardKey, Cursor)> = missing.map(|(key, cursor)| (key.clone(), cursor.clone())).collect();
        let asked = missing.into_iter().map(|(key, cursor)| async move {
            let iterator = iterator(plan, &key, cursor.from).await;
            (key, iterator)
        });
        let mut answers = stream::iter(asked).buffer_unordered(AT_ONCE);
        let mut opened = Opened::default();
        while let Some((key, answer)) = answers.next().await {
            match answer {
                Ok(iterator) => {
                    if let Some(cursor) = self.open.get_mut(&key) {
                        opened.begins_now |= cursor.from == IteratorStart::Latest;
                        (cursor.iterator, cursor.since) = (Some(iterator), Instant::now());
                    }
                }
                Err(error) => {
                    opened.failure = Some(failure_of(&error));
                    if error.kind == ErrorKind::NotFound {
                        self.open.remove(&key);
                    }
                    // Who may not read one shard may not read the next.
                    if error.kind == ErrorKind::Denied {
                        break;
                    }
                }
            }
        }
        opened
    }

    /// Reads a little of each shard, and tells of records when they are found.
    pub(super) async fn round(
        &mut self,
        plan: &RoundPlan<'_>,
        mut tell: impl FnMut(Option<SystemTime>) + Send,
    ) -> EndedRound {
        let known = self.open.len();
        let Opened { failure, begins_now } = self.open(plan).await;
        let round = Round { failure, lost_continuity: begins_now, ..Round::default() };
        let mut ended = EndedRound { round, is_out_of_date: self.open.len() < known };
        let reads = self.open.clone().into_iter().filter(|(_, cursor)| cursor.iterator.is_some());
        let reads = reads.map(|(key, cursor)| async move {
            let seen = look(plan, &key, cursor).await;
            (key, seen)
        });
        let mut answers = stream::iter(reads).buffer_unordered(AT_ONCE);
        while let Some((key, seen)) = answers.next().await {
            if let Some(page) = seen.page() {
                tell(page.oldest);
            }
            let is_denied = seen.is_denied();
            ended.add(&seen);
            self.go_on(key, seen);
            if is_denied {
                // Who may not read one shard may not read the next.
                break;
            }
        }
        ended
    }

    /// Keeps where a shard is to be read on, if it is.
    fn go_on(&mut self, key: ShardKey, seen: Seen) {
        match seen {
            Seen::Nothing(cursor) | Seen::Records(_, cursor) | Seen::Lost(cursor) | Seen::Failed(_, cursor) => {
                self.open.insert(key, cursor);
            }
            Seen::End(_) => {
                self.open.remove(&key);
                self.finished.insert(key, Instant::now());
            }
            Seen::Unknown => {
                self.open.remove(&key);
            }
        }
    }
}

impl EndedRound {
    /// Adds what one shard brought.
    fn add(&mut self, seen: &Seen) {
        let round = &mut self.round;
        if let Some(page) = seen.page() {
            round.active_shards += 1;
            round.records_per_second += page.per_second;
            round.oldest_record = round.oldest_record.into_iter().chain(page.oldest).min();
        }
        match seen {
            Seen::Nothing(_) | Seen::Records(..) => {}
            Seen::End(_) | Seen::Unknown => self.is_out_of_date = true,
            Seen::Lost(_) => round.lost_continuity = true,
            Seen::Failed(failure, _) => round.failure = Some(failure.clone()),
        }
    }
}

impl Seen {
    /// The page that has records, if there is one.
    fn page(&self) -> Option<PageSeen> {
        match self {
            Self::Records(page, _) => Some(*page),
            Self::End(page) => *page,
            Self::Nothing(_) | Self::Unknown | Self::Lost(_) | Self::Failed(..) => None,
        }
    }

    fn is_denied(&self) -> bool {
        matches!(self, Self::Failed(Failure { is_denied: true, .. }, _))
    }
}

async fn look(plan: &RoundPlan<'_>, key: &ShardKey, mut cursor: Cursor) -> Seen {
    let limit = if plan.counts { PAGE_RECORDS } else { 1 };
    for _ in 0..plan.pages {
        let Some(iterator) = cursor.iterator.take() else { break };
        let answer = {
            let _turn = plan.calls.acquire().await;
            within_limit("GetRecords", plan.client.get_records(&iterator, limit)).await
        };
        let page = match answer {
            Ok(page) => page,
            Err(error) => return failed(error, Cursor { iterator: Some(iterator), ..cursor }),
        };
        let seen = (!page.records.is_empty()).then(|| PageSeen::of(&page, limit, cursor.since));
        match (seen, page.next_iterator) {
            (seen, None) => return Seen::End(seen),
            (Some(seen), Some(next)) => return Seen::Records(seen, from_now(plan, key, cursor, next).await),
            (None, next) => cursor.iterator = next,
        }
    }
    Seen::Nothing(cursor)
}

/// What was written until now is known to be there: only what is written from now on is news. Where nobody says where that begins, reading
/// goes on behind what was read.
async fn from_now(plan: &RoundPlan<'_>, key: &ShardKey, cursor: Cursor, next: String) -> Cursor {
    let latest = iterator(plan, key, IteratorStart::Latest).await;
    Cursor { iterator: Some(latest.unwrap_or(next)), since: Instant::now(), ..cursor }
}

fn failed(error: CallError, cursor: Cursor) -> Seen {
    let anew = |from| Cursor { iterator: None, from, since: Instant::now() };
    match error.kind {
        ErrorKind::ExpiredIterator | ErrorKind::Trimmed => Seen::Lost(anew(IteratorStart::Latest)),
        ErrorKind::NotFound => Seen::Unknown,
        _ => Seen::Failed(failure_of(&error), cursor),
    }
}

async fn iterator(plan: &RoundPlan<'_>, key: &ShardKey, from: IteratorStart) -> Result<String, CallError> {
    let _turn = plan.calls.acquire().await;
    within_limit("GetShardIterator", plan.client.get_shard_iterator(&key.0, &key.1, from)).await
}

/// One shard that does not answer must not hold up the round of all others.
async fn within_limit<T>(operation: &'static str, call: Call<'_, T>) -> Result<T, CallError> {
    timeout(CALL_LIMIT, call).await.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", CALL_LIMIT.as_secs());
        Err(CallError { operation, kind: ErrorKind::Other, code: "timeout".to_owned(), message })
    })
}

fn failure_of(error: &CallError) -> Failure {
    let is_denied = error.kind == ErrorKind::Denied;
    let hint = if is_denied { "; `scaleToZero: \"false\"` does without reading" } else { "" };
    Failure { why: format!("{error}{hint}"), is_denied }
}

impl PageSeen {
    /// Of a page with records of a shard that was looked at last at that moment. Of a page that is full the time between its records says how
    /// fast they come.
    fn of(page: &Page, limit: u32, since: Instant) -> Self {
        let created = || page.records.iter().flatten().filter_map(|record| record.created_at());
        let (oldest, newest) = (created().min(), created().max());
        let count = page.records.len();
        let waited = since.elapsed();
        let between = oldest.zip(newest).and_then(|(oldest, newest)| newest.duration_since(oldest).ok());
        let bytes: usize = page.records.iter().flatten().map(|record| record.len()).sum();
        let is_full = count >= limit as usize || (count > 1 && bytes >= FULL_PAGE);
        // Creation times are whole seconds.
        let span = match is_full {
            true => between.map_or(waited, |between| between + Duration::from_secs(1)).min(waited),
            false => waited,
        };
        Self { oldest, per_second: count as f64 / span.as_secs_f64().max(1.0) }
    }
}
