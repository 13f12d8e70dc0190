//! Reads one shard from a position to its end.
//!
//! Contract:
//! - Every record behind the position is handed down once and in order, whatever iterators do: an iterator that expired is replaced
//!   by one at the last record read, since a page may end between two records of one number; what was read is skipped. `LATEST` is
//!   asked for once, by a reader that was told so, and never by a restarted or repeated attempt.
//! - The next page is asked for while the last one is being delivered, as far as the table's buffer goes.
//! - With order by shard nothing is asked for before everything in the shards that this one continues is settled. Who waits for that
//!   holds no room of the buffer, however long it takes.
//! - That AWS does not know the shard is believed when it has said so three times, 20 seconds apart and with a whole listing between
//!   them, or once of a shard that was closed more than a day ago by what ids say.
//! - Where something that is owed is missing a [`Gap`] is handed down in that place. The record at the position itself proves that
//!   nothing is; where AWS does not give it, the stored state and the clock decide: see [`TableTracker::loss_before`].
//! - Dropping the reader at any await loses nothing that was stored: what it had not handed down was not counted.
//!
//! [`TableTracker::loss_before`]: crate::progress::table_tracker::TableTracker::loss_before

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::client::{IteratorStart, PAGE_RECORDS, StreamsClient as _};
use super::shard_discovery::{BETWEEN_WITNESSES, DENIALS_OF_EXISTENCE};
use super::{Listings, OnDataLoss, PollIntervals, ReaderContext, ReadingStopped, ShardPage, Step, Task};
use crate::aws::errors::{CallError, ErrorKind};
use crate::backoff::pause_after;
use crate::clock;
use crate::progress::Acknowledger as _;
use crate::progress::buffer::{Buffer, PageReservation};
use crate::progress::table_tracker::{Loss, OpenedShard, PROOF_OF_EMPTINESS};
use crate::records::{Entry, Gap, LossReason, Page, Position, Record, SequenceNumber, StreamDetails, Undecodable};
use crate::telemetry::events;

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Credentials and permissions are mended by people.
const DENIED_PAUSE_MIN: Duration = Duration::from_secs(2);
const DENIED_PAUSE_MAX: Duration = Duration::from_secs(30);
/// After so many failures in a row the iterator itself may be the trouble.
const FAILURES_BEFORE_NEW_ITERATOR: u32 = 3;
/// A closed shard is asked so often at once although its pages are empty.
const EMPTY_PAGES_AT_ONCE: u32 = 10;
const EMPTY_PAGE_PAUSE: Duration = Duration::from_millis(10);
/// Room is set aside for at least so many bytes of a page.
const EXPECTED_MIN: usize = 16 << 10;
/// Those below are told of a quiet shard this often.
const QUIET_REPORT: Duration = Duration::from_secs(30);

/// A page that was too much for the line is not asked for again so soon.
const SMALL_PAGES: Duration = Duration::from_secs(5 * 60);

/// A page near the service's limit of 1 MB was cut by size: more is waiting.
const FULL_PAGE_BYTES: usize = 900_000;

pub struct ShardReader {
    /// What it shares with the table's other readers.
    pub context: Arc<ReaderContext>,
    pub details: Arc<StreamDetails>,
    pub shard: OpenedShard,
    /// Begin with `LATEST`, and say so here once that is done; the position tells where to go on if that iterator is
    /// lost before a record was read.
    pub latest: Option<oneshot::Sender<()>>,
    /// Cancelled once the shard is known to take no more records.
    pub closed: CancellationToken,
    pub listings: Listings,
    state: ReaderState,
}

struct ReaderState {
    /// Behind the last record that was handed down, or was to be.
    position: Position,
    iterator: Option<String>,
    /// Behind the last record that this iterator gave.
    cursor: Position,
    /// The iterator is new: whether it has left something out is not known yet. Since when it gives empty pages.
    unproved: Option<Instant>,
    /// AWS has trimmed the record at the position, and nothing was read since.
    is_trimmed: bool,
    failures: u32,
    /// How often in a row AWS has said that there is no such shard.
    denials: u32,
    /// Empty pages in a row of a closed shard, and since when.
    empty_pages: u32,
    empty_since: Instant,
    /// Reading began at the oldest record, not at the newest, and no record as young as the start was read.
    may_be_old: bool,
    quiet_since: Instant,
    /// Until when those below need not be told again that the shard is quiet.
    quiet_told: Option<Instant>,
    handed_over: Option<Instant>,
    page_limit: PageLimit,
    /// What the next page is expected to weigh.
    expected: usize,
    /// When the newest record that was handed down was created.
    newest: Option<SystemTime>,
}

/// How reading a shard ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardEnd {
    /// Everything was read and handed down, of which the newest record was created then.
    Read(Option<SystemTime>),
    /// AWS does not know the shard, or its stream.
    Missing(Position),
    /// Data was lost and the policy is to stop.
    Lost,
    /// The process is shutting down.
    Stopped,
}

/// How many records a page may have: less where the line is too slow for a whole one.
#[derive(Debug, Default)]
struct PageLimit {
    halvings: u32,
    last: Option<Instant>,
}

/// What the last page was like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fill {
    /// Cut at the service's limit: the next page has more.
    Full,
    /// Some records that are new, or none.
    Partial,
}

impl ShardReader {
    /// A reader of a shard that was opened.
    pub fn new(
        context: Arc<ReaderContext>,
        details: Arc<StreamDetails>,
        shard: OpenedShard,
        latest: Option<oneshot::Sender<()>>,
        closed: CancellationToken,
        listings: Listings,
    ) -> Self {
        let state = ReaderState {
            position: shard.from,
            iterator: None,
            cursor: Position::Start,
            unproved: None,
            is_trimmed: false,
            failures: 0,
            denials: 0,
            empty_pages: 0,
            empty_since: Instant::now(),
            may_be_old: false,
            quiet_since: Instant::now(),
            quiet_told: None,
            handed_over: shard.handed_over,
            page_limit: PageLimit::default(),
            expected: Buffer::PAGE,
            newest: None,
        };
        Self { context, details, shard, latest, closed, listings, state }
    }

    /// Reads until the shard ends.
    pub async fn run(mut self) -> ShardEnd {
        self.wait_for_ancestors().await;
        let ended = self.read_on().await;
        self.context.activity.end(self.task());
        match ended {
            Ok(end) => end,
            Err(ReadingStopped) => ShardEnd::Stopped,
        }
    }

    async fn wait_for_ancestors(&mut self) {
        self.begin(Step::Settlement);
        if self.context.progress.ancestors_are_settled(self.shard.handle).await {
            // Nothing was asked before, so that nothing was answered either; and the sink has no part in a handover.
            let now = Instant::now();
            (self.state.quiet_since, self.state.empty_since) = (now, now);
            self.state.handed_over = self.state.handed_over.map(|_| now);
        }
    }

    async fn read_on(&mut self) -> Result<ShardEnd, ReadingStopped> {
        loop {
            match self.poll().await {
                Ok((page, room, asked_at)) => {
                    self.arrived();
                    self.count_empty(page.records.is_empty());
                    let is_last = page.next_iterator.is_none() || self.is_forgotten();
                    let fill = Fill::of(page.records.len(), page.bytes, self.state.page_limit.records());
                    // One without a character says neither that the shard has ended nor where to go on.
                    self.state.iterator = page.next_iterator.clone().filter(|next| !next.is_empty());
                    let cursor = self.state.cursor;
                    let entries = self.sort_out(page.records, is_last);
                    // Records were skipped, older than the start or read before: there is more.
                    let fill = if entries.is_empty() && self.state.cursor != cursor { Fill::Full } else { fill };
                    let is_lost = entries.last().is_some_and(Entry::stops);
                    let weight = entries.iter().map(Entry::cost).sum();
                    self.state.expected = expected(self.state.expected, weight);
                    let in_hand = room.arrived(weight);
                    self.hand_down(entries, fill, asked_at, is_last && !is_lost).await?;
                    in_hand.handed_down();
                    if is_lost || is_last {
                        return Ok(if is_lost { ShardEnd::Lost } else { ShardEnd::Read(self.state.newest) });
                    }
                    self.pause(fill).await;
                }
                Err(error) => {
                    self.state.page_limit.failed(&error);
                    // Meanwhile more is waiting.
                    self.state.expected = Buffer::PAGE;
                    if let Some(end) = self.react(&error).await {
                        return Ok(end);
                    }
                }
            }
        }
    }

    fn task(&self) -> Task {
        Task::Shard(self.shard.handle)
    }

    fn begin(&self, step: Step) {
        self.context.activity.begin(self.task(), step);
    }

    /// The next page, the room that it was given, and when it was asked for.
    async fn poll(&mut self) -> Result<(Page, PageReservation, SystemTime), CallError> {
        let iterator = match self.state.iterator.take() {
            Some(iterator) => iterator,
            // That takes no room.
            None => self.new_iterator().await?,
        };
        self.begin(Step::Room);
        let room = self.context.buffer.reserve(self.state.expected).await;
        let asked_at = clock::now();
        self.begin(Step::call());
        let page = self.context.client.get_records(&iterator, self.state.page_limit.records()).await;
        self.state.iterator = Some(iterator);
        Ok((page?, room, asked_at))
    }

    async fn new_iterator(&mut self) -> Result<String, CallError> {
        let from = match self.state.position {
            _ if self.latest.is_some() => IteratorStart::Latest,
            Position::Start | Position::Since(_) => IteratorStart::Oldest,
            // Nothing can be asked for but the oldest record there is.
            behind if behind.is_before_records() || self.state.is_trimmed => IteratorStart::Oldest,
            Position::After(record) => IteratorStart::At(record.sequence),
        };
        self.begin(Step::call());
        let iterator = self.context.client.get_shard_iterator(&self.details.arn, &self.shard.id, from).await?;
        if let Some(begun) = self.latest.take() {
            // Nobody listens any more when the process is shutting down.
            let _ = begun.send(());
        }
        // Behind LATEST everything is new, even if its creation time was rounded down below the start.
        match from {
            IteratorStart::Latest => self.state.may_be_old = false,
            IteratorStart::Oldest => self.state.may_be_old = true,
            IteratorStart::At(_) => {}
        }
        self.state.unproved = (from != IteratorStart::Latest).then(Instant::now);
        self.state.cursor = Position::Start;
        Ok(iterator)
    }

    /// Bookkeeping after an answer.
    fn arrived(&mut self) {
        (self.state.failures, self.state.denials) = (0, 0);
        self.state.page_limit.arrived();
        self.context.client.answered();
        if let Some(since) = self.state.handed_over.take() {
            events::ShardHandedOver { stream: &self.details.arn, shard: &self.shard.id, took: since.elapsed() }
                .emit(self.context.progress.telemetry());
        }
    }

    fn count_empty(&mut self, is_empty: bool) {
        if !is_empty || !self.closed.is_cancelled() {
            (self.state.empty_pages, self.state.empty_since) = (0, Instant::now());
        }
        self.state.empty_pages += u32::from(is_empty);
    }

    /// Whether the service has forgotten the shard and does not say so: it is closed, no listing shows it, and its pages are empty.
    fn is_forgotten(&self) -> bool {
        let is_empty = self.state.empty_pages > 0 && self.state.empty_since.elapsed() >= PROOF_OF_EMPTINESS;
        is_empty && self.closed.is_cancelled() && !self.context.progress.tracker().is_listed(self.shard.handle)
    }

    /// Turns a page into what is handed down, and moves the position behind it.
    fn sort_out(&mut self, records: Vec<Result<Record, Undecodable>>, is_last: bool) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(records.len() + 1);
        let is_empty = records.is_empty();
        let first = records.iter().find_map(sequence_of);
        entries.extend(self.loss_before(first, is_empty, is_last).map(Entry::Gap));
        let mut records = records.into_iter().peekable();
        while let Some(record) = records.next() {
            if entries.last().is_some_and(Entry::stops) {
                break;
            }
            entries.extend(match record {
                Ok(record) => self.take(record),
                Err(undecodable) => {
                    let before = records.peek().and_then(sequence_of);
                    self.take_undecodable(&undecodable, before).map(Entry::Gap)
                }
            });
        }
        entries
    }

    /// What a new iterator has left out before `first`, once that can be told.
    fn loss_before(&mut self, first: Option<SequenceNumber>, is_empty: bool, is_last: bool) -> Option<Gap> {
        let since = self.state.unproved?;
        if first.is_none() && !is_last {
            if !is_empty {
                // Nobody knows the numbers of what it holds.
                self.state.unproved = Some(Instant::now());
                return None;
            }
            if since.elapsed() < PROOF_OF_EMPTINESS {
                return None;
            }
        }
        self.state.unproved = None;
        let is_trimmed = std::mem::take(&mut self.state.is_trimmed);
        if matches!(self.state.position, Position::After(last) if first == Some(last.sequence)) {
            return None;
        }
        let loss = self.context.progress.tracker().loss_before(self.shard.handle, first, is_trimmed, clock::now());
        let Loss { lanes } = loss?;
        self.report_loss(LossReason::Trimmed, "DynamoDB does not have it any more, and it was not settled");
        let gap = self.gap(LossReason::Trimmed, self.state.position.behind_gap(None));
        Some(Gap { before: first, lanes, ..gap })
    }

    fn take(&mut self, record: Record) -> Option<Entry> {
        let number = self.state.cursor.next(record.sequence_number());
        self.state.cursor = Position::After(number);
        if self.state.position.is_behind(number) {
            return None;
        }
        self.context.progress.telemetry().records_read(1);
        self.context.client.decoded();
        if let Position::Since(moment) = self.shard.from
            && self.state.may_be_old
            && let Some(created) = record.created_at()
        {
            if created < clock::whole_second(moment) {
                self.context.progress.telemetry().records_filtered(1);
                return None;
            }
            self.state.may_be_old = false;
        }
        self.state.position = self.state.cursor;
        self.state.newest = record.created_at().or(self.state.newest);
        Some(Entry::Record(record))
    }

    /// Where reading begins as long as no record was taken; else the position.
    fn start(&self) -> Position {
        if self.state.position.is_before_records() { self.shard.from } else { self.state.position }
    }

    fn take_undecodable(&mut self, undecodable: &Undecodable, before: Option<SequenceNumber>) -> Option<Gap> {
        let lost = undecodable.sequence_number;
        let number = self.state.cursor.gap(lost);
        self.state.cursor = self.state.cursor.behind_gap(lost);
        if self.state.position.is_behind(number) {
            return None;
        }
        self.context.progress.telemetry().records_read(1);
        self.context.client.undecodable(&undecodable.reason);
        self.report_loss(LossReason::Undecodable, &undecodable.reason);
        let gap = self.gap(LossReason::Undecodable, self.state.position.behind_gap(lost));
        Some(Gap { before, lost, lanes: Some(1), ..gap })
    }

    /// A gap at the position, which moves `behind` it if the policy is to read on.
    fn gap(&mut self, reason: LossReason, behind: Position) -> Gap {
        let mut gap = Gap::at(&self.details, Some(&self.shard.id), self.state.position, reason);
        gap.resume = (self.context.on_data_loss == OnDataLoss::Continue).then_some(behind);
        self.state.position = gap.resume.unwrap_or(self.state.position);
        gap
    }

    fn report_loss(&self, reason: LossReason, detail: &str) {
        events::DataLost {
            stream: &self.details.arn,
            shard: Some(&self.shard.id),
            position: &self.state.position.to_string(),
            reason: reason.as_str(),
            detail,
        }
        .emit(self.context.progress.telemetry());
    }

    async fn hand_down(
        &mut self,
        entries: Vec<Entry>,
        fill: Fill,
        asked_at: SystemTime,
        is_last: bool,
    ) -> Result<(), ReadingStopped> {
        let (now, is_caught_up) = (Instant::now(), fill == Fill::Partial);
        let is_quiet = entries.is_empty() && is_caught_up && !is_last;
        if is_quiet && self.state.quiet_told.is_some_and(|until| now < until) {
            return Ok(());
        }
        if !(entries.is_empty() && is_caught_up) {
            self.state.quiet_since = now;
        }
        self.state.quiet_told = is_quiet.then(|| now + QUIET_REPORT);
        let (shard, details, read_at) = (self.shard.handle, self.details.clone(), clock::now());
        let page = ShardPage { shard, details, entries, asked_at, read_at, is_caught_up, is_last };
        self.context.hand_down(self.task(), page).await
    }

    async fn pause(&self, fill: Fill) {
        let quiet = self.state.quiet_since.elapsed();
        let is_closed = self.closed.is_cancelled();
        let pause = match is_closed {
            true => {
                pause_of_closed(self.context.poll_intervals, self.state.empty_pages, self.state.empty_since.elapsed())
            }
            false => pause(self.context.poll_intervals, fill, quiet),
        };
        if !pause.is_zero() {
            self.begin(Step::Until(Instant::now() + pause));
            select! {
                () = self.closed.cancelled(), if !is_closed => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Decides what a failed call asks for; nothing means: try again.
    async fn react(&mut self, error: &CallError) -> Option<ShardEnd> {
        match error.kind {
            ErrorKind::NotFound => return self.existence_was_denied().await,
            ErrorKind::ExpiredIterator => self.state.iterator = None,
            ErrorKind::Trimmed => {
                self.state.iterator = None;
                // At the oldest record there is, it was that one: nothing was asked for that is gone.
                let asked = matches!(self.start(), Position::After(_));
                if asked && !std::mem::replace(&mut self.state.is_trimmed, true) {
                    return None;
                }
            }
            _ => self.context.client.refused(error),
        }
        self.state.failures += 1;
        if self.state.failures >= FAILURES_BEFORE_NEW_ITERATOR {
            self.state.iterator = None;
        }
        if error.kind != ErrorKind::ExpiredIterator || self.state.failures > 1 {
            let pause = self.failure_pause(error.kind);
            self.begin(Step::Until(Instant::now() + pause));
            sleep(pause).await;
        }
        None
    }

    /// AWS says that there is no such shard. It has said so wrongly before.
    async fn existence_was_denied(&mut self) -> Option<ShardEnd> {
        (self.state.iterator, self.state.denials) = (None, self.state.denials + 1);
        let is_aged_out = self.context.progress.tracker().is_aged_out(self.shard.handle, clock::now());
        if is_aged_out || self.state.denials >= DENIALS_OF_EXISTENCE {
            return Some(ShardEnd::Missing(self.state.position));
        }
        self.begin(Step::Listing);
        self.listings.wait(BETWEEN_WITNESSES).await;
        None
    }

    fn failure_pause(&self, kind: ErrorKind) -> Duration {
        match kind {
            ErrorKind::Denied => pause_after(self.state.failures, DENIED_PAUSE_MIN, DENIED_PAUSE_MAX, fastrand::f64()),
            _ => pause_after(self.state.failures, PAUSE_MIN, PAUSE_MAX, fastrand::f64()),
        }
    }
}

impl PageLimit {
    fn records(&self) -> u32 {
        (PAGE_RECORDS >> self.halvings).max(1)
    }

    /// A page did not arrive: if that took too long, or it was cut off, the next one is smaller.
    fn failed(&mut self, error: &CallError) {
        if matches!(error.code.as_str(), "timeout" | "other") {
            (self.halvings, self.last) = ((self.halvings + 1).min(PAGE_RECORDS.ilog2() + 1), Some(Instant::now()));
        }
    }

    fn arrived(&mut self) {
        if self.last.is_some_and(|last| last.elapsed() >= SMALL_PAGES) {
            self.halvings = self.halvings.saturating_sub(1);
            self.last = (self.halvings > 0).then(Instant::now);
        }
    }
}

impl Fill {
    /// Judges a page by what it held.
    fn of(records: usize, bytes: usize, limit: u32) -> Self {
        if records >= limit as usize || (records > 0 && bytes >= FULL_PAGE_BYTES) { Fill::Full } else { Fill::Partial }
    }
}

/// What the next page is expected to weigh, after one that weighed so much: room is set aside for twice that, and for an eighth of
/// what was expected before.
fn expected(before: usize, weight: usize) -> usize {
    (weight * 2).max(before / 8).clamp(EXPECTED_MIN, Buffer::PAGE)
}

/// The pause before the next page of a shard that may take more records. `quiet` is the time since the last record.
///
/// Every call is billed, empty or not, so a quiet shard is asked less and less often: whoever was quiet for a time T waits at most
/// a tenth of T for the next event.
fn pause(intervals: PollIntervals, fill: Fill, quiet: Duration) -> Duration {
    if fill == Fill::Full {
        return Duration::ZERO;
    }
    let PollIntervals { poll_interval, idle_poll_interval_max } = intervals;
    (quiet / 10).clamp(poll_interval, idle_poll_interval_max.max(poll_interval))
}

/// The pause before the next page of a shard that takes no more records: its end is near, but some services give empty pages for a
/// while, or for ever. `empty` is how long it has done that.
fn pause_of_closed(intervals: PollIntervals, empty_pages: u32, empty: Duration) -> Duration {
    let doublings = match empty_pages.checked_sub(EMPTY_PAGES_AT_ONCE) {
        None | Some(0) => return Duration::ZERO,
        Some(beyond) => (beyond - 1).min(16),
    };
    (EMPTY_PAGE_PAUSE * (1 << doublings)).min(pause(intervals, Fill::Partial, empty))
}

fn sequence_of(record: &Result<Record, Undecodable>) -> Option<SequenceNumber> {
    match record {
        Ok(record) => Some(record.sequence_number()),
        Err(undecodable) => undecodable.sequence_number,
    }
}

#[cfg(test)]
mod tests;
