//! Reads one shard from a position to its end.
//!
//! Contract:
//! - Every record behind the position is handed down once and in order, whatever iterators do: an iterator that expired
//!   is replaced by one behind the last record read. `LATEST` is asked for once, by a reader that was told so, and never
//!   by a restarted or repeated attempt.
//! - The next page is asked for while the last one is being delivered, as far as the table's budget goes.
//! - Where continuity cannot be proved a [`Gap`] is handed down in that place.
//! - Dropping the reader at any await loses nothing that was stored: what it had not handed down was not counted.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::client::{IteratorStart, StreamsClient as _};
use super::pace::Fill;
use super::reading::{OnDataLoss, Reading, Step, Stopped, Task};
use super::update::{ShardPage, Update};
use crate::aws::errors::{CallError, ErrorKind};
use crate::backoff::pause_after;
use crate::clock;
use crate::records::{
    Entry, Gap, LossReason, Page, Position, RETENTION, Record, SequenceNumber, ShardId, ShardNumber, StreamDetails,
    Undecodable,
};
use crate::telemetry::events;

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Credentials and permissions are mended by people.
const DENIED_PAUSE_MIN: Duration = Duration::from_secs(2);
const DENIED_PAUSE_MAX: Duration = Duration::from_secs(30);
/// After so many failures in a row the iterator itself may be the trouble.
const FAILURES_BEFORE_NEW_ITERATOR: u32 = 3;

pub struct ShardReader {
    /// What it shares with the table's other readers.
    pub reading: Arc<Reading>,
    pub facts: Arc<StreamDetails>,
    pub id: ShardId,
    pub number: ShardNumber,
    pub position: Position,
    /// Begin with `LATEST`, and say so here once that is done; the position tells where to go on if that iterator is
    /// lost before a record was read.
    pub latest: Option<oneshot::Sender<()>>,
    /// Every record behind the position is owed to the sink. Not so for the first start of a stream, which takes what
    /// is there.
    pub owed: bool,
    /// When it was last known that nothing behind the position had been trimmed.
    pub vouched: SystemTime,
    /// Cancelled once the shard is known to take no more records.
    pub closed: CancellationToken,
    /// When the parent's end was read.
    pub handed_over: Option<Instant>,
    /// Bookkeeping; begin with the default.
    pub state: State,
}

#[derive(Default)]
pub struct State {
    iterator: Option<String>,
    /// A loss that was noticed and has not been handed down.
    loss: Option<LossReason>,
    failures: u32,
    /// The iterator began at the oldest record, not at the newest.
    may_be_old: bool,
    quiet_since: Option<Instant>,
    told_caught_up: bool,
}

/// How reading a shard ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Everything was read and handed down.
    Read,
    /// AWS does not know the shard, or its stream.
    Missing(Position),
    /// Data was lost and the policy is to stop.
    Lost,
    /// The process is shutting down.
    Stopped,
}

impl ShardReader {
    /// Reads until the shard ends.
    pub async fn run(mut self) -> End {
        let ended = self.read_on().await;
        self.reading.activity.end(Task::Shard(self.number));
        match ended {
            Ok(end) => end,
            Err(Stopped) => End::Stopped,
        }
    }

    async fn read_on(&mut self) -> Result<End, Stopped> {
        self.state.quiet_since = Some(Instant::now());
        loop {
            self.begin(Step::Room);
            let reservation = self.reading.budget.reserve().await;
            match self.poll().await {
                Ok(page) => {
                    self.arrived();
                    let (fill, ended) = (Fill::of(page.records.len(), page.bytes), page.next_iterator.is_none());
                    self.state.iterator = page.next_iterator.clone();
                    let entries = self.sort_out(page.records);
                    let lost = entries.last().is_some_and(Entry::stops);
                    let in_hand = reservation.arrived(entries.iter().map(Entry::cost).sum());
                    self.hand_down(entries, fill).await?;
                    in_hand.handed_down();
                    if lost || ended {
                        return Ok(if lost { End::Lost } else { End::Read });
                    }
                    self.pause(fill).await;
                }
                Err(error) => {
                    drop(reservation);
                    if let Some(end) = self.react(&error).await {
                        return Ok(end);
                    }
                }
            }
        }
    }

    fn begin(&self, step: Step) {
        self.reading.activity.begin(Task::Shard(self.number), step);
    }

    async fn poll(&mut self) -> Result<Page, CallError> {
        let iterator = match &self.state.iterator {
            Some(iterator) => iterator.clone(),
            None => self.new_iterator().await?,
        };
        self.begin(Step::call());
        let page = self.reading.client.get_records(&iterator).await;
        self.state.iterator = Some(iterator);
        page
    }

    async fn new_iterator(&mut self) -> Result<String, CallError> {
        let from = match self.position {
            _ if self.latest.is_some() => IteratorStart::Latest,
            Position::Start | Position::Since(_) => self.oldest(),
            // Behind a loss nothing can be asked for but the oldest record there is.
            Position::After(_) if self.state.loss.is_some() => IteratorStart::Oldest,
            Position::After(sequence) => IteratorStart::After(sequence),
        };
        self.begin(Step::call());
        let iterator = self.reading.client.get_shard_iterator(&self.facts.arn, &self.id, from).await?;
        if let Some(begun) = self.latest.take() {
            // Nobody listens any more when the process is shutting down.
            let _ = begun.send(());
        }
        // Behind LATEST everything is new, even if its creation time was rounded down below the start.
        self.state.may_be_old = from == IteratorStart::Oldest;
        Ok(iterator)
    }

    /// The oldest record is the first one owed only if nothing can have been trimmed in between.
    fn oldest(&mut self) -> IteratorStart {
        let age = clock::now().duration_since(self.vouched).unwrap_or_default();
        if self.owed && age > RETENTION && self.state.loss.is_none() {
            self.lose(LossReason::Trimmed, "nothing was read for longer than DynamoDB keeps records");
        }
        IteratorStart::Oldest
    }

    /// Bookkeeping after an answer.
    fn arrived(&mut self) {
        self.state.failures = 0;
        self.vouched = clock::now();
        self.reading.client.answered();
        if let Some(since) = self.handed_over.take() {
            events::ShardHandedOver { stream: &self.facts.arn, shard: &self.id, took: since.elapsed() }
                .emit(&self.reading.telemetry);
        }
    }

    /// Turns a page into what is handed down, and moves the position behind it.
    fn sort_out(&mut self, records: Vec<Result<Record, Undecodable>>) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(records.len() + 1);
        let read = records.len();
        if let Some(reason) = self.state.loss.take() {
            let before = records.first().and_then(sequence_of);
            entries.push(Entry::Gap(self.pass_gap(reason, before, None)));
        }
        let mut records = records.into_iter().peekable();
        while let Some(record) = records.next() {
            if entries.last().is_some_and(Entry::stops) {
                break;
            }
            match record {
                Ok(record) => entries.extend(self.take(record)),
                Err(undecodable) => {
                    let before = records.peek().and_then(sequence_of);
                    self.report_loss(LossReason::Undecodable, &undecodable.reason);
                    entries.push(Entry::Gap(self.pass_gap(
                        LossReason::Undecodable,
                        before,
                        undecodable.sequence_number,
                    )));
                }
            }
        }
        self.reading.telemetry.records_read(read);
        entries
    }

    fn take(&mut self, record: Record) -> Option<Entry> {
        if let Position::Since(moment) = self.position
            && self.state.may_be_old
            && record.created_at().is_some_and(|created| created < clock::whole_second(moment))
        {
            self.reading.telemetry.records_filtered(1);
            return None;
        }
        self.position = Position::After(record.sequence_number());
        Some(Entry::Record(record))
    }

    /// The gap at the current position, which moves behind it if the policy is to read on.
    fn pass_gap(&mut self, reason: LossReason, before: Option<SequenceNumber>, lost: Option<SequenceNumber>) -> Gap {
        let mut gap = Gap::at(&self.facts, Some(&self.id), self.position, reason);
        let behind = match (reason, lost) {
            (LossReason::Undecodable, Some(lost)) => Position::After(lost),
            (LossReason::Undecodable, None) => self.position,
            _ => Position::Start,
        };
        gap.resume = (self.reading.on_data_loss == OnDataLoss::Continue).then_some(behind);
        self.position = gap.resume.unwrap_or(self.position);
        Gap { before, lost, ..gap }
    }

    fn lose(&mut self, reason: LossReason, detail: &str) {
        self.state.loss = Some(reason);
        self.report_loss(reason, detail);
    }

    fn report_loss(&self, reason: LossReason, detail: &str) {
        events::DataLost {
            stream: &self.facts.arn,
            shard: Some(&self.id),
            position: &self.position.to_string(),
            reason: reason.as_str(),
            detail,
        }
        .emit(&self.reading.telemetry);
    }

    async fn hand_down(&mut self, entries: Vec<Entry>, fill: Fill) -> Result<(), Stopped> {
        let caught_up = fill == Fill::Partial;
        if entries.is_empty() && self.state.told_caught_up {
            return Ok(());
        }
        if !entries.is_empty() {
            self.state.quiet_since = Some(Instant::now());
        }
        self.state.told_caught_up = entries.is_empty() && caught_up;
        let (shard, facts, read_at) = (self.number, self.facts.clone(), clock::now());
        let page = Update::Page(ShardPage { shard, facts, entries, read_at, caught_up });
        self.reading.tell(Task::Shard(shard), page).await
    }

    async fn pause(&self, fill: Fill) {
        let quiet = self.state.quiet_since.map(|since| since.elapsed()).unwrap_or_default();
        let pause = self.reading.pace.pause(fill, quiet, self.closed.is_cancelled());
        if !pause.is_zero() {
            self.begin(Step::Until(Instant::now() + pause));
            select! {
                () = self.closed.cancelled() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Decides what a failed call asks for; nothing means: try again.
    async fn react(&mut self, error: &CallError) -> Option<End> {
        match error.kind {
            ErrorKind::NotFound => return Some(End::Missing(self.position)),
            ErrorKind::ExpiredIterator => self.state.iterator = None,
            ErrorKind::Trimmed => {
                self.state.iterator = None;
                let first = self.state.loss.is_none();
                if first && (self.owed || matches!(self.position, Position::After(_))) {
                    self.lose(LossReason::Trimmed, &error.message);
                    return None;
                }
            }
            _ => self.reading.client.refused(error),
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

    fn failure_pause(&self, kind: ErrorKind) -> Duration {
        match kind {
            ErrorKind::Denied => pause_after(self.state.failures, DENIED_PAUSE_MIN, DENIED_PAUSE_MAX, fastrand::f64()),
            _ => pause_after(self.state.failures, PAUSE_MIN, PAUSE_MAX, fastrand::f64()),
        }
    }
}

fn sequence_of(record: &Result<Record, Undecodable>) -> Option<SequenceNumber> {
    match record {
        Ok(record) => Some(record.sequence_number()),
        Err(undecodable) => undecodable.sequence_number,
    }
}
