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
//! - What is left out of the shard is brought back by passes: the reader goes back to where the first of it lies, hands down what
//!   comes again, and goes on where it stood. A pass ends early when nothing it was begun for is to be brought any more. A reader of a
//!   shard that was read to its end makes passes only.
//! - Dropping the reader at any await loses nothing that was stored: what it had not handed down was not counted.
//!
//! [`TableTracker::loss_before`]: crate::progress::table_tracker::TableTracker::loss_before

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::client::{IteratorStart, StreamsClient as _};
use super::reader_state::{BeforePass, ReaderState, ShardEnd, in_order, sequence_of};
use super::shard_discovery::{BETWEEN_WITNESSES, DENIALS_OF_EXISTENCE};
use super::shard_pace::{Fill, PassPace, expected, failure_pause, pause, pause_of_closed};
use super::stream_task::RunningShard;
use super::{Listings, OnDataLoss, PassPage, ReaderContext, ReadingStopped, ShardPage, Step, Task};
use crate::aws::errors::{CallError, ErrorKind};
use crate::clock;
use crate::progress::Acknowledger as _;
use crate::progress::buffer::{Buffer, PageInHand, PageReservation};
use crate::progress::catch_up::{CatchUp, PassCause};
use crate::progress::left_out::{PassStart, Place, Reread};
use crate::progress::table_tracker::{Loss, OpenedShard, PROOF_OF_EMPTINESS};
use crate::records::{
    Entry, Gap, LaneId, LossReason, Page, Position, Record, RecordNumber, SequenceNumber, StreamDetails, Undecodable,
};
use crate::telemetry::events;

/// After so many failures in a row the iterator itself may be the trouble.
const FAILURES_BEFORE_NEW_ITERATOR: u32 = 3;
/// Those below are told of a quiet shard this often.
const QUIET_REPORT: Duration = Duration::from_secs(30);

/// The reader of one shard.
pub struct ShardReader {
    /// What it shares with the table's other readers.
    context: Arc<ReaderContext>,
    details: Arc<StreamDetails>,
    shard: OpenedShard,
    /// Begin with `LATEST`, and say so here once that is done; the position tells where to go on if that iterator is
    /// lost before a record was read.
    pub(super) latest: Option<oneshot::Sender<()>>,
    /// Cancelled once the shard is known to take no more records.
    closed: CancellationToken,
    listings: Listings,
    /// Notified when a pass is due.
    pass_due: Arc<Notify>,
    /// The shard was read to its end: passes are all that there is to do.
    has_ended: bool,
    state: ReaderState,
    /// While a pass is under way: where the reader stood.
    before_pass: Option<BeforePass>,
    pass_pace: PassPace,
}

/// A page that has arrived.
struct PolledPage {
    page: Page,
    /// What was set aside for it in the buffer.
    room: PageReservation,
    asked_at: SystemTime,
}

/// What comes again of a page of a pass.
#[derive(Default)]
struct PassEntries {
    entries: Vec<Entry>,
    /// Where each of them lies.
    places: Vec<Reread>,
}

impl PassEntries {
    fn push(&mut self, entry: Entry, place: Reread) {
        self.entries.push(entry);
        self.places.push(place);
    }
}

impl ShardReader {
    /// A reader of a shard that was opened, which is told what `running` says of it.
    pub(super) fn new(
        context: Arc<ReaderContext>,
        details: Arc<StreamDetails>,
        shard: OpenedShard,
        running: &RunningShard,
        listings: Listings,
    ) -> Self {
        Self {
            context,
            details,
            latest: None,
            closed: running.closed.clone(),
            listings,
            pass_due: running.pass_due.clone(),
            has_ended: running.has_ended,
            state: ReaderState { handed_over: shard.handed_over, ..ReaderState::at(shard.from) },
            shard,
            before_pass: None,
            pass_pace: PassPace::new(Instant::now()),
        }
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
        while self.has_something_to_read().await {
            let end = match self.poll().await {
                Ok(polled) => self.page_arrived(polled).await?,
                Err(error) => self.react(&error).await,
            };
            if let Some(end) = end {
                return Ok(end);
            }
        }
        Ok(ShardEnd::CaughtUp)
    }

    /// Hands down what a page brings. Says how reading ended, if it did.
    async fn page_arrived(&mut self, polled: PolledPage) -> Result<Option<ShardEnd>, ReadingStopped> {
        self.note_answer();
        self.count_empty(polled.page.records.is_empty());
        let is_last = polled.page.next_iterator.is_none() || self.is_forgotten();
        match self.before_pass {
            None => self.read_page(polled, is_last).await,
            Some(_) => self.read_page_of_pass(polled, is_last).await,
        }
    }

    async fn read_page(&mut self, polled: PolledPage, is_last: bool) -> Result<Option<ShardEnd>, ReadingStopped> {
        let PolledPage { page, room, asked_at } = polled;
        let fill = Fill::of(page.records.len(), page.bytes, self.state.page_limit.records());
        // One without a character says neither that the shard has ended nor where to go on.
        self.state.iterator = page.next_iterator.filter(|next| !next.is_empty());
        let cursor = self.state.cursor;
        let entries = self.sort_out(page.records, is_last);
        // Records were skipped, older than the start or read before: there is more.
        let fill = if entries.is_empty() && self.state.cursor != cursor { Fill::Full } else { fill };
        let is_lost = entries.last().is_some_and(Entry::stops);
        let in_hand = self.weigh(&entries, room);
        self.hand_down(entries, fill, asked_at, is_last && !is_lost).await?;
        in_hand.handed_down();
        if is_lost {
            return Ok(Some(ShardEnd::Lost));
        }
        if is_last {
            return Ok(Some(ShardEnd::Read(self.state.newest)));
        }
        self.pause(fill).await;
        Ok(None)
    }

    /// The page's entries take what they weigh of the room that was set aside for it.
    fn weigh(&mut self, entries: &[Entry], room: PageReservation) -> PageInHand {
        let weight = entries.iter().map(Entry::cost).sum();
        self.state.expected = expected(self.state.expected, weight);
        room.arrived(weight)
    }

    /// Begins a pass if it is time. Not in a shard that was read to its end, unless there is a pass to make.
    async fn has_something_to_read(&mut self) -> bool {
        if self.before_pass.is_some() {
            return true;
        }
        if self.has_ended {
            self.begin(Step::Until(self.pass_pace.next));
            sleep_until(self.pass_pace.next).await;
        }
        self.begin_pass();
        self.before_pass.is_some() || !self.has_ended
    }

    fn begin_pass(&mut self) {
        let now = Instant::now();
        if now < self.pass_pace.next {
            return;
        }
        let is_aged = self.context.buffer.is_half_free() && self.pass_pace.is_time_to_look_for_age(now);
        let aged = is_aged.then(|| PassCause::Age(clock::now()));
        let begun = {
            let mut tracker = self.context.progress.tracker();
            let mut catch_up = CatchUp::of(&mut tracker);
            let mut causes = aged.into_iter().chain([PassCause::Due]);
            causes.find_map(|cause| Some((cause, catch_up.begin_pass(self.shard.handle, cause)?)))
        };
        let Some((cause, PassStart { from, at })) = begun else { return };
        let page_limit = std::mem::take(&mut self.state.page_limit);
        let pass = ReaderState { at: Some(at), newest: from.created, page_limit, ..ReaderState::at(from.position) };
        self.before_pass = Some(BeforePass { state: std::mem::replace(&mut self.state, pass), begun: now, cause });
    }

    /// Hands down what comes again of a page of a pass. Says how reading ended, if it did.
    async fn read_page_of_pass(
        &mut self,
        polled: PolledPage,
        is_last: bool,
    ) -> Result<Option<ShardEnd>, ReadingStopped> {
        let PolledPage { page, room, asked_at } = polled;
        let is_empty = page.records.is_empty();
        // Behind a minute of empty pages there is nothing any more.
        let is_last = is_last || is_empty && self.state.empty_since.elapsed() >= PROOF_OF_EMPTINESS;
        self.state.iterator = page.next_iterator.filter(|next| !next.is_empty());
        let PassEntries { entries, places } = self.sort_out_again(page.records, is_last);
        let is_lost = entries.last().is_some_and(Entry::stops);
        let in_hand = self.weigh(&entries, room);
        let is_over = is_last || self.is_pass_over();
        if is_over || !entries.is_empty() {
            let pass = PassPage { places, to: self.passed_to(is_last), is_over };
            self.hand_down_pass(entries, asked_at, pass).await?;
        }
        in_hand.handed_down();
        if is_lost {
            return Ok(Some(ShardEnd::Lost));
        }
        if is_over {
            self.end_pass();
        } else if is_empty {
            let pause = self.pause_of_closed();
            self.begin(Step::Until(Instant::now() + pause));
            sleep(pause).await;
        }
        Ok(None)
    }

    /// How far a pass has come: where its last page was read, as far as the shard was read before it.
    fn passed_to(&self, is_last: bool) -> Place {
        let before_pass = self.before_pass.as_ref().filter(|_| is_last);
        let position = before_pass.map_or(self.state.position, |before| before.state.position);
        Place { position, created: self.state.newest }
    }

    async fn hand_down_pass(
        &self,
        entries: Vec<Entry>,
        asked_at: SystemTime,
        pass: PassPage,
    ) -> Result<(), ReadingStopped> {
        let page = ShardPage { pass: Some(pass), ..self.shard_page(entries, asked_at) };
        self.context.hand_down(self.task(), page).await
    }

    /// A page that was read now. There is more of the shard, and it is of no pass.
    fn shard_page(&self, entries: Vec<Entry>, asked_at: SystemTime) -> ShardPage {
        ShardPage {
            shard: self.shard.handle,
            details: self.details.clone(),
            entries,
            asked_at,
            read_at: clock::now(),
            is_caught_up: false,
            is_last: false,
            pass: None,
        }
    }

    fn pause_of_closed(&self) -> Duration {
        pause_of_closed(self.context.poll_intervals, self.state.empty_pages, self.state.empty_since.elapsed())
    }

    /// Whether a pass has nothing more to bring, or no room for it.
    fn is_pass_over(&self) -> bool {
        let is_for_age = self.before_pass.as_ref().is_some_and(|before| before.cause != PassCause::Due);
        !self.has_more_to_bring() || is_for_age && !self.context.buffer.is_half_free()
    }

    /// Goes on where the reader stood.
    fn end_pass(&mut self) {
        let Some(BeforePass { state, begun, .. }) = self.before_pass.take() else { return };
        let now = Instant::now();
        let pass = std::mem::replace(&mut self.state, state);
        self.state.page_limit = pass.page_limit;
        // Meanwhile nobody has looked whether there was something.
        (self.state.empty_pages, self.state.empty_since) = (0, now);
        self.state.unproved = self.state.unproved.map(|_| now);
        self.pass_pace.passed(begun, now);
        CatchUp::of(&mut self.context.progress.tracker()).rest(self.shard.handle, self.pass_pace.next);
    }

    fn task(&self) -> Task {
        Task::Shard(self.shard.handle)
    }

    fn begin(&self, step: Step) {
        self.context.activity.begin(self.task(), step);
    }

    /// Asks for the next page.
    async fn poll(&mut self) -> Result<PolledPage, CallError> {
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
        let page = page.map(|page| Page { records: in_order(page.records), ..page })?;
        Ok(PolledPage { page, room, asked_at })
    }

    async fn new_iterator(&mut self) -> Result<String, CallError> {
        let from = match (self.state.at, self.state.position) {
            _ if self.latest.is_some() => IteratorStart::Latest,
            // Nothing can be asked for but the oldest record there is.
            _ if self.state.is_trimmed => IteratorStart::Oldest,
            (Some(at), _) => IteratorStart::At(at),
            (None, Position::Start | Position::Since(_)) => IteratorStart::Oldest,
            (None, behind) if behind.is_before_records() => IteratorStart::Oldest,
            (None, Position::After(record)) => IteratorStart::At(record.sequence),
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

    /// AWS has answered: no failure counts any more, and a handover is over.
    fn note_answer(&mut self) {
        (self.state.failures, self.state.denials) = (0, 0);
        self.state.page_limit.arrived();
        self.context.client.answered();
        if let Some(since) = self.state.handed_over.take() {
            events::ShardHandedOver { stream: &self.details.arn, shard: &self.shard.id, took: since.elapsed() }
                .emit(self.context.progress.telemetry());
        }
    }

    fn count_empty(&mut self, is_empty: bool) {
        if !is_empty || !(self.closed.is_cancelled() || self.before_pass.is_some()) {
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
        let is_there = match (self.state.at, self.state.position) {
            (Some(at), _) => first == Some(at),
            (None, Position::After(last)) => first == Some(last.sequence),
            (None, _) => false,
        };
        if is_there {
            return None;
        }
        let Loss { lanes } = self.loss(first, is_trimmed)?;
        Some(self.trimmed_before(first, lanes))
    }

    /// What lies behind the position and before `first` was trimmed, and something of it was owed.
    fn trimmed_before(&mut self, first: Option<SequenceNumber>, lanes: Option<usize>) -> Gap {
        self.report_loss(LossReason::Trimmed, "DynamoDB does not have it any more, and it was not settled");
        let gap = self.gap(LossReason::Trimmed, self.state.position.behind_gap(None));
        Gap { before: first, lanes, ..gap }
    }

    fn loss(&self, first: Option<SequenceNumber>, is_trimmed: bool) -> Option<Loss> {
        let (mut tracker, now) = (self.context.progress.tracker(), clock::now());
        match self.before_pass {
            None => tracker.loss_before(self.shard.handle, first, is_trimmed, now),
            Some(_) => CatchUp::of(&mut tracker).loss(self.shard.handle, first, is_trimmed, now),
        }
    }

    /// Turns a page of a pass into what comes again, and moves the position behind it. What is broken was told when it was read first.
    fn sort_out_again(&mut self, records: Vec<Result<Record, Undecodable>>, is_last: bool) -> PassEntries {
        let (mut again, mut is_told) = (PassEntries::default(), false);
        let before = self.place();
        let first = records.iter().find_map(sequence_of);
        if let Some(gap) = self.loss_before(first, records.is_empty(), is_last).map(Entry::Gap) {
            let stops = gap.stops();
            again.push(gap, Reread { number: before.position.gap(None), before });
            if stops {
                return again;
            }
            is_told = true;
        }
        let lanes: Vec<Option<LaneId>> =
            records.iter().map(|record| record.as_ref().ok().map(Record::lane_id)).collect();
        let comes_again = CatchUp::of(&mut self.context.progress.tracker()).in_pass(self.shard.handle, lanes);
        for (record, comes_again) in records.into_iter().zip(comes_again) {
            let before = self.place();
            let Some((record, number)) = self.take_again(record) else { continue };
            if comes_again {
                again.push(Entry::Record(record), Reread { number, before });
            }
        }
        if is_last && !is_told && self.has_more_to_bring() {
            let before = self.place();
            let lanes = self.loss(None, false).and_then(|loss| loss.lanes);
            let gap = Entry::Gap(self.trimmed_before(None, lanes));
            again.push(gap, Reread { number: before.position.gap(None), before });
        }
        again
    }

    /// Whether a pass has something to bring behind the position.
    fn has_more_to_bring(&self) -> bool {
        let mut tracker = self.context.progress.tracker();
        CatchUp::of(&mut tracker).has_more_behind(self.shard.handle, self.state.position)
    }

    fn place(&self) -> Place {
        Place { position: self.state.position, created: self.state.newest }
    }

    /// Moves the position behind a record of a pass; its number.
    fn take_again(&mut self, record: Result<Record, Undecodable>) -> Option<(Record, RecordNumber)> {
        let number = match &record {
            Ok(record) => self.state.cursor.next(record.sequence_number()),
            Err(undecodable) => self.state.cursor.gap(undecodable.sequence_number),
        };
        self.state.cursor = Position::After(number);
        if self.state.position.is_behind(number) {
            return None;
        }
        (self.state.position, self.state.at) = (self.state.cursor, None);
        let record = record.ok()?;
        self.state.newest = record.created_at().or(self.state.newest);
        Some((record, number))
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
        let page = ShardPage { is_caught_up, is_last, ..self.shard_page(entries, asked_at) };
        self.context.hand_down(self.task(), page).await
    }

    async fn pause(&self, fill: Fill) {
        let is_closed = self.closed.is_cancelled();
        let pause = if is_closed {
            self.pause_of_closed()
        } else {
            pause(self.context.poll_intervals, fill, self.state.quiet_since.elapsed())
        };
        if pause.is_zero() {
            return;
        }
        let next_page = Instant::now() + pause;
        loop {
            let end = self.next_pass().map_or(next_page, |pass| pass.min(next_page));
            self.begin(Step::Until(end));
            select! {
                () = self.closed.cancelled(), if !is_closed => return,
                // The next page is due no earlier for that.
                () = self.pass_due.notified() => {}
                () = sleep_until(end) => return,
            }
        }
    }

    /// When the next pass begins, if one is due.
    fn next_pass(&self) -> Option<Instant> {
        let mut tracker = self.context.progress.tracker();
        let is_due = CatchUp::of(&mut tracker).is_to_pass(self.shard.handle, PassCause::Due);
        is_due.then_some(self.pass_pace.next)
    }

    /// Decides what a failed call asks for; nothing means: try again.
    async fn react(&mut self, error: &CallError) -> Option<ShardEnd> {
        self.state.page_limit.failed(error);
        // Meanwhile more is waiting.
        self.state.expected = Buffer::PAGE;
        match error.kind {
            ErrorKind::NotFound => return self.handle_not_found().await,
            ErrorKind::ExpiredIterator => self.state.iterator = None,
            ErrorKind::Trimmed => {
                self.state.iterator = None;
                // At the oldest record there is, it was that one: nothing was asked for that is gone.
                let asked = self.state.at.is_some() || matches!(self.start(), Position::After(_));
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
            let pause = failure_pause(error.kind, self.state.failures, fastrand::f64());
            self.begin(Step::Until(Instant::now() + pause));
            sleep(pause).await;
        }
        None
    }

    /// AWS says that there is no such shard. It has said so wrongly before.
    async fn handle_not_found(&mut self) -> Option<ShardEnd> {
        (self.state.iterator, self.state.denials) = (None, self.state.denials + 1);
        let is_aged_out = self.context.progress.tracker().is_aged_out(self.shard.handle, clock::now());
        if is_aged_out || self.state.denials >= DENIALS_OF_EXISTENCE {
            let state = self.before_pass.as_ref().map_or(&self.state, |before| &before.state);
            return Some(ShardEnd::Missing(state.position));
        }
        self.begin(Step::Listing);
        self.listings.wait(BETWEEN_WITNESSES).await;
        None
    }
}
