//! Reads one stream: every shard once, parents before children, children immediately after them.
//!
//! Contract:
//! - At most one reader a shard, ever; a child begins when its parent's end was read, without waiting for a poll.
//! - A shard that was read to its end has a reader again while a pass over what is left out of it is due. A stream is not done with
//!   before that was made; what is left out of a stream that is gone is told as gaps, one a shard.
//! - A listing that fails, or shows less than before, changes nothing of what is being read. A shard whose parent no listing shows
//!   waits until AWS was asked for the parent itself.
//! - The stream is drained when two whole listings, at least 20 seconds apart, say that it is disabled, and every shard was read: then
//!   the next one may be read. It is listed on until AWS has forgotten it, or for a day: a listing may be late, and what it shows then
//!   is read and said. Some services enable a stream again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::client::{ShardQuery, StreamDescription};
use super::reader_state::ShardEnd;
use super::shard_discovery::{BETWEEN_WITNESSES, ListingAnswer, ListingQuery, ShardDiscovery};
use super::shard_pace::AGE_LOOK_INTERVAL;
use super::shard_reader::ShardReader;
use super::stream_existence::{Denials, failure_pause, first_answer};
use super::stream_locator::StreamLocator;
use super::stream_task::{EndedStream, RunningShard, StreamEnd, StreamTask, WHOLE_STREAM};
use super::unlisted_shard::{Existence, UnlistedShard};
use super::{Listings, OnDataLoss, ReaderContext, ReadingStopped, Step, Task, outcome_of};
use crate::aws::errors::CallError;
use crate::clock;
use crate::progress::Acknowledger as _;
use crate::progress::catch_up::{CatchUp, PassCause};
use crate::progress::table_tracker::{OpenedShard, ShardHandle, StreamHandle};
use crate::records::{Entry, Gap, InitialPosition, LossReason, Position, RETENTION, StreamDetails};
use crate::telemetry::events;

/// A question that is being asked.
type Asking = BoxFuture<'static, (ListingQuery, Result<StreamDescription, CallError>)>;

/// The reader of one stream.
pub struct StreamReader {
    context: Arc<ReaderContext>,
    locator: Arc<StreamLocator>,
    details: Arc<StreamDetails>,
    stream: StreamHandle,
    number: u32,
    is_superseded: bool,
    newest: watch::Receiver<u32>,
    /// Whom to tell whether the stream is drained; since when it is.
    drained: watch::Sender<bool>,
    drained_at: Option<Instant>,
    discovery: ShardDiscovery,
    tasks: JoinSet<(ShardHandle, TaskEnd)>,
    running: BTreeMap<ShardHandle, RunningShard>,
    /// Shards that are gone, of which nobody was told.
    vanished: Vec<(ShardHandle, Position)>,
    /// How many whole listings were taken, and who asks for another one.
    completed: watch::Sender<u64>,
    listings: Listings,
    initial: InitialPosition,
    /// An earlier run has begun with it.
    is_resumed: bool,
    /// Readers that were told to begin with `LATEST` and have not asked for it yet: what is written before they do is
    /// not read.
    beginnings: FuturesUnordered<oneshot::Receiver<()>>,
    denials: Denials,
    /// Data was lost and the policy is to stop.
    lost: bool,
    /// Changes when passes over what is left out are due.
    passes_due: watch::Receiver<u64>,
}

/// How a task about a shard ended.
enum TaskEnd {
    Read(ShardEnd),
    Asked(Existence),
}

impl StreamReader {
    /// Reads a stream until nothing more can come of it, or it is gone.
    ///
    /// # Errors
    /// When nobody takes pages any more.
    pub async fn read(
        context: Arc<ReaderContext>,
        locator: Arc<StreamLocator>,
        mut task: StreamTask,
    ) -> Result<EndedStream, ReadingStopped> {
        let stream = &task.arn;
        let Some(first) = first_answer(&context, &locator, stream, task.number, task.is_superseded).await else {
            let tracker = context.progress.tracker();
            let known = tracker.find_stream(stream).filter(|stream| task.is_superseded && tracker.is_drained(*stream));
            let end = if known.is_some() { StreamEnd::Drained } else { StreamEnd::Missing };
            return Ok(EndedStream { end, handle: known });
        };
        let details = Arc::new(StreamDetails {
            table: first.table.clone(),
            key_schema: first.key_schema.clone(),
            view_type: first.view_type.clone(),
            ..StreamDetails::from_arn(stream)
        });
        let now = first.answered_at.unwrap_or_else(clock::now);
        let initial = task.initial.by_clock(now, Instant::now());
        task.initial = initial;
        let (required, start) = (initial == InitialPosition::Everything, initial.position(now));
        let (handle, start) = context.progress.change(|tracker| {
            let handle = tracker.open_stream(details.clone(), start, required, now);
            (handle, tracker.start(handle))
        });
        events::StreamOpened { stream, start: &start.to_string() }.emit(context.progress.telemetry());
        context.activity.begin(Task::Stream(task.number), Step::Settlement);
        context.progress.start_is_stored().await;
        context.progress.earlier_streams_are_settled(handle).await;
        let mut reader = Self::new(context, locator, details, handle, task);
        let end = reader.run(first).await?;
        reader.end_readers().await;
        Ok(EndedStream { end, handle: Some(handle) })
    }

    fn new(
        context: Arc<ReaderContext>,
        locator: Arc<StreamLocator>,
        details: Arc<StreamDetails>,
        stream: StreamHandle,
        task: StreamTask,
    ) -> Self {
        let StreamTask { number, is_resumed, initial, is_superseded, newest, drained, .. } = task;
        let (completed, watched) = watch::channel(0);
        let listings = Listings { completed: watched, wanted: Arc::new(Notify::new()) };
        let passes_due = context.progress.passes_due();
        Self {
            context,
            locator,
            details,
            stream,
            number,
            is_superseded,
            newest,
            drained,
            drained_at: None,
            discovery: ShardDiscovery::new(Instant::now()),
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
            vanished: Vec::new(),
            completed,
            listings,
            initial,
            is_resumed,
            beginnings: FuturesUnordered::new(),
            denials: Denials::default(),
            lost: false,
            passes_due,
        }
    }

    async fn run(&mut self, first: StreamDescription) -> Result<StreamEnd, ReadingStopped> {
        if self.is_resumed {
            self.open_ready();
        }
        self.answered(ListingQuery::Page(None), first);
        let mut asking: Option<Asking> = None;
        let wanted = self.listings.wanted.clone();
        let mut look_for_age = Instant::now() + AGE_LOOK_INTERVAL;
        loop {
            self.end_vanished().await?;
            if self.lost {
                return Ok(StreamEnd::Lost);
            }
            if self.update_drained() {
                return Ok(StreamEnd::Drained);
            }
            if asking.is_none() {
                asking = self.discovery.next(Instant::now()).map(|query| self.ask(query));
            }
            let is_asking = asking.is_some();
            self.begin_waiting(is_asking);
            select! {
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    if let Some(end) = self.task_ended(ended).await? {
                        return Ok(end);
                    }
                }
                Ok(()) = self.passes_due.changed() => self.start_passes(PassCause::Due),
                () = sleep_until(look_for_age) => {
                    look_for_age = Instant::now() + AGE_LOOK_INTERVAL;
                    self.start_passes(PassCause::Age(clock::now()));
                }
                () = wanted.notified() => self.discovery.list_after(BETWEEN_WITNESSES, Instant::now()),
                (query, answer) = outcome_of(&mut asking) => {
                    asking = None;
                    self.query_ended(query, answer);
                    if self.is_gone().await {
                        return self.give_up().await;
                    }
                }
                Some(_) = self.beginnings.next(), if !self.beginnings.is_empty() => self.reader_has_begun(),
                () = sleep_until(self.discovery.due()), if !is_asking => {}
            }
        }
    }

    /// Tells those who watch what is waited for.
    fn begin_waiting(&self, is_asking: bool) {
        if is_asking {
            // The question has steps of its own.
            self.context.activity.end(Task::Stream(self.number));
        } else {
            self.begin(Step::Until(self.discovery.due()));
        }
    }

    /// One more reader has its iterator at `LATEST`.
    fn reader_has_begun(&mut self) {
        if self.beginnings.is_empty() {
            self.announce();
        }
    }

    fn begin(&self, step: Step) {
        self.context.activity.begin(Task::Stream(self.number), step);
    }

    /// Says whether the stream is drained to those who wait for that. Returns whether nothing more can come of it: it was drained a day
    /// ago, and the table has another one.
    fn update_drained(&mut self) -> bool {
        let is_read = self.context.progress.tracker().is_drained(self.stream);
        if !(is_read && (self.is_superseded || self.discovery.is_disabled())) {
            if self.drained_at.take().is_some() {
                self.drained.send_replace(false);
            }
            return false;
        }
        let since = *self.drained_at.get_or_insert_with(|| {
            let (stream, why) = (&*self.details.arn, StreamEnd::Drained.as_str());
            events::StreamEnded { stream, why }.emit(self.context.progress.telemetry());
            self.drained.send_replace(true);
            Instant::now()
        });
        *self.newest.borrow() > self.number && since.elapsed() >= RETENTION && self.left_out().is_empty()
    }

    /// The shards in which something is left out.
    fn left_out(&self) -> Vec<ShardHandle> {
        CatchUp::of(&mut self.context.progress.tracker()).shards(self.stream)
    }

    /// Sees to it that passes are made which are to be made now.
    fn start_passes(&mut self, cause: PassCause) {
        let shards = CatchUp::of(&mut self.context.progress.tracker()).shards_to_pass(self.stream, cause);
        for shard in shards {
            match self.running.get(&shard) {
                Some(running) => running.pass_due.notify_one(),
                None => {
                    let opened = CatchUp::of(&mut self.context.progress.tracker()).reopen(shard);
                    opened.into_iter().for_each(|shard| self.spawn_for_passes(shard));
                }
            }
        }
    }

    /// Whether the stream is gone for good: AWS said so again and again, and it was drained or the table has another one.
    async fn is_gone(&mut self) -> bool {
        if !self.denials.take_enough() {
            return false;
        }
        self.begin(Step::search());
        self.drained_at.is_some() || self.is_superseded || self.locator.is_replaced(&self.details.arn).await
    }

    /// Ends what is still being read: the stream is gone, or its table is read no further.
    async fn end_readers(&mut self) {
        self.tasks.shutdown().await;
        let shards = self.running.keys().map(|shard| Task::Shard(*shard));
        shards
            .chain([Task::Stream(self.number), Task::Query(self.number)])
            .for_each(|task| self.context.activity.end(task));
    }

    async fn give_up(&mut self) -> Result<StreamEnd, ReadingStopped> {
        self.end_readers().await;
        if self.drained_at.is_some() {
            self.lose_left_out().await?;
            return Ok(if self.lost { StreamEnd::Lost } else { StreamEnd::Drained });
        }
        if self.context.on_data_loss == OnDataLoss::Stop {
            // What is stored stays as it is, should AWS be wrong.
            return Ok(StreamEnd::Missing);
        }
        self.lose_left_out().await?;
        for (shard, _) in std::mem::take(&mut self.running) {
            self.end_shard(shard, Vec::new(), true).await?;
        }
        Ok(StreamEnd::Missing)
    }

    /// What is left out of a stream that is gone will not come again.
    async fn lose_left_out(&mut self) -> Result<(), ReadingStopped> {
        for shard in self.left_out() {
            let id = self.context.progress.tracker().shard_id(shard).clone();
            let gap = self.shard_missing(shard, &id, None);
            self.end_shard(shard, vec![Entry::Gap(gap)], !self.lost).await?;
        }
        Ok(())
    }

    fn ask(&self, query: ListingQuery) -> Asking {
        let (context, stream, number) = (self.context.clone(), self.details.arn.clone(), self.number);
        async move {
            let shards = match &query {
                ListingQuery::Page(None) | ListingQuery::Status => ShardQuery::First,
                ListingQuery::Page(Some(behind)) | ListingQuery::Tail(behind) => ShardQuery::Behind(behind),
                ListingQuery::Children(parent) => ShardQuery::ChildrenOf(parent),
            };
            let answer = context.describe_stream(Task::Query(number), &stream, shards).await;
            context.activity.end(Task::Query(number));
            (query, answer)
        }
        .boxed()
    }

    fn query_ended(&mut self, query: ListingQuery, answer: Result<StreamDescription, CallError>) {
        match answer {
            Ok(page) => self.answered(query, page),
            Err(error) => self.unanswered(&query, &error),
        }
    }

    fn answered(&mut self, query: ListingQuery, page: StreamDescription) {
        self.denials = Denials::default();
        if self.drained_at.is_none() {
            self.context.client.answered();
        }
        self.learn(&query, &page);
        let last = page.shards.last().map(|shard| shard.id.as_str());
        let answer = ListingAnswer { next: page.next.clone(), last, status: page.status };
        let turn = || self.context.pace.listing.book_turn();
        let is_whole = self.discovery.answered(&query, answer, Instant::now(), turn);
        if is_whole {
            self.pass_completed();
        }
        if self.discovery.is_disabled() {
            // No shard takes more records.
            self.running.values().for_each(|running| running.closed.cancel());
        }
        let first_listing = !self.is_resumed && !self.context.progress.tracker().was_listed(self.stream);
        if !first_listing && self.discovery.is_at_rest() {
            self.ask_for_unlisted();
        }
        if !(first_listing && self.initial.needs_whole_listing()) {
            self.open_ready();
        }
        let tracker = self.context.progress.tracker();
        self.discovery.end_searches(Instant::now(), |parent| tracker.has_child(self.stream, parent));
    }

    fn learn(&self, query: &ListingQuery, page: &StreamDescription) {
        let mut tracker = self.context.progress.tracker();
        let parent = match query {
            // A service that ignores the filter answers with any shards.
            ListingQuery::Children(parent) => Some(&**parent).filter(|parent| {
                let is_new = |id: &str| id > *parent && !tracker.has_shard(self.stream, id);
                page.shards.iter().all(|shard| shard.parent.as_deref() == Some(parent) || is_new(&shard.id))
            }),
            _ => None,
        };
        for shard in &page.shards {
            tracker.learn(self.stream, &shard.id, shard.parent.as_deref().or(parent));
        }
    }

    fn pass_completed(&mut self) {
        let is_first = self.context.progress.change(|tracker| {
            let is_first = !tracker.was_listed(self.stream);
            tracker.complete_pass(self.stream);
            tracker.forget_finished(self.stream, clock::now());
            is_first
        });
        if is_first {
            self.first_listing();
        }
        self.completed.send_modify(|completed| *completed += 1);
    }

    /// Parents that no listing shows are asked for themselves.
    fn ask_for_unlisted(&mut self) {
        let parents = self.context.progress.tracker().take_unlisted_parents(self.stream, clock::now());
        for (handle, id) in parents {
            let (context, details, listings) = (self.context.clone(), self.details.clone(), self.listings.clone());
            let asked = UnlistedShard { context, details, handle, id, listings }.ask();
            self.tasks.spawn(asked.map(move |existence| (handle, TaskEnd::Asked(existence))));
        }
    }

    fn first_listing(&mut self) {
        let (stream, initial) = (self.stream, self.initial);
        let leaves = self.context.progress.change(|tracker| {
            if !tracker.is_untouched(stream) {
                return Vec::new();
            }
            let now = clock::now();
            match initial {
                InitialPosition::Latest | InitialPosition::WrittenSince(_) => {
                    tracker.skip_parents(stream, now);
                    return tracker.open_leaves(stream);
                }
                InitialPosition::Since(moment) => tracker.skip_closed_before(stream, moment, now),
                InitialPosition::Everything => {}
            }
            Vec::new()
        });
        for leaf in leaves {
            let (begun, beginning) = oneshot::channel();
            self.beginnings.push(beginning);
            self.spawn(leaf, Some(begun));
        }
        if self.beginnings.is_empty() {
            self.announce();
        }
    }

    /// From now on everything that is written will be delivered.
    fn announce(&mut self) {
        let counts = self.context.progress.tracker().counts(self.stream);
        events::StreamListed {
            stream: &self.details.arn,
            reading: counts.reading,
            waiting: counts.waiting,
            finished: counts.finished,
        }
        .emit(self.context.progress.telemetry());
        self.context.progress.mark_listed();
    }

    fn unanswered(&mut self, query: &ListingQuery, error: &CallError) {
        self.denials.failed(error, Instant::now());
        self.context.client.refused(error);
        let pause = failure_pause(self.discovery.failures() + 1);
        self.discovery.failed(query, pause, Instant::now());
    }

    fn open_ready(&mut self) {
        let (opened, closed, counts) = self.context.progress.change(|tracker| {
            let opened = tracker.open_ready(self.stream);
            (opened, tracker.take_closed(self.stream), tracker.all_counts())
        });
        for shard in opened {
            if self.drained_at.is_some() && (self.is_superseded || self.discovery.is_disabled()) {
                events::ShardLate { stream: &self.details.arn, shard: &shard.id }
                    .emit(self.context.progress.telemetry());
            }
            match &*shard.id {
                WHOLE_STREAM => self.mark_vanished(shard),
                _ => self.spawn(shard, None),
            }
        }
        for running in closed.iter().filter_map(|shard| self.running.get(shard)) {
            running.closed.cancel();
        }
        self.context.progress.telemetry().shards(counts.reading, counts.waiting, counts.finished);
    }

    /// An earlier run has taken the stream for gone. AWS knows no such shard; what that run owed of its gap is still owed.
    fn mark_vanished(&mut self, shard: OpenedShard) {
        let OpenedShard { handle, id, from, .. } = shard;
        self.running.insert(handle, RunningShard::of(id));
        self.vanished.push((handle, from));
    }

    /// Starts the reader of a shard; with `latest` it begins with what is written from now on, and says there once it does.
    fn spawn(&mut self, shard: OpenedShard, latest: Option<oneshot::Sender<()>>) {
        events::ShardOpened { stream: &self.details.arn, shard: &shard.id, from: &shard.from.to_string() }
            .emit(self.context.progress.telemetry());
        let running = RunningShard::of(shard.id.clone());
        self.start_reader(shard, running, latest);
    }

    /// Starts a reader of a shard that was read to its end: it makes passes.
    fn spawn_for_passes(&mut self, shard: OpenedShard) {
        let running = RunningShard { has_ended: true, ..RunningShard::of(shard.id.clone()) };
        running.closed.cancel();
        self.start_reader(shard, running, None);
    }

    fn start_reader(&mut self, shard: OpenedShard, running: RunningShard, latest: Option<oneshot::Sender<()>>) {
        let handle = shard.handle;
        let (context, details, listings) = (self.context.clone(), self.details.clone(), self.listings.clone());
        let mut reader = ShardReader::new(context, details, shard, &running, listings);
        reader.latest = latest;
        self.running.insert(handle, running);
        self.tasks.spawn(reader.run().map(move |end| (handle, TaskEnd::Read(end))));
    }

    async fn task_ended(
        &mut self,
        ended: Result<(ShardHandle, TaskEnd), JoinError>,
    ) -> Result<Option<StreamEnd>, ReadingStopped> {
        let (shard, end) = match ended {
            Ok(ended) => ended,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        match end {
            TaskEnd::Read(ShardEnd::Read(newest)) => self.shard_was_read(shard, newest)?,
            TaskEnd::Read(ShardEnd::CaughtUp) => drop(self.running.remove(&shard)),
            TaskEnd::Read(ShardEnd::Missing(position)) => self.vanished.push((shard, position)),
            TaskEnd::Read(ShardEnd::Lost) => return Ok(Some(StreamEnd::Lost)),
            TaskEnd::Read(ShardEnd::Stopped) => return Err(ReadingStopped),
            TaskEnd::Asked(existence) => self.unlisted_answered(shard, existence).await?,
        }
        // One may have become due while the reader ended.
        self.start_passes(PassCause::Due);
        Ok(None)
    }

    /// What came of asking for a parent that no listing shows.
    async fn unlisted_answered(&mut self, shard: ShardHandle, existence: Existence) -> Result<(), ReadingStopped> {
        match existence {
            Existence::Listed => return Ok(()),
            Existence::Found => {
                self.context.progress.change(|tracker| tracker.find(shard));
                self.open_ready();
                return Ok(());
            }
            Existence::Empty | Existence::Gone => {}
        }
        let Some(id) = self.context.progress.change(|tracker| tracker.open_unlisted(shard)) else {
            // A listing was faster.
            return Ok(());
        };
        self.running.insert(shard, RunningShard::of(id));
        if existence == Existence::Gone {
            self.vanished.push((shard, Position::Start));
            return Ok(());
        }
        self.end_shard(shard, Vec::new(), true).await?;
        self.shard_was_read(shard, None)
    }

    /// Ends the shards that are gone.
    async fn end_vanished(&mut self) -> Result<(), ReadingStopped> {
        while let Some((shard, position)) = self.vanished.pop() {
            self.shard_is_gone(shard, position).await?;
        }
        Ok(())
    }

    /// Everything of a shard was handed down: its children go on at once.
    fn shard_was_read(&mut self, shard: ShardHandle, newest: Option<SystemTime>) -> Result<(), ReadingStopped> {
        let Some(RunningShard { id, .. }) = self.running.remove(&shard) else {
            return Err(self.context.broken("a shard was read to its end and had no reader"));
        };
        events::ShardEnded { stream: &self.details.arn, shard: &id }.emit(self.context.progress.telemetry());
        let now = Instant::now();
        let has_child = self.context.progress.change(|tracker| {
            tracker.hand_over(shard, newest);
            tracker.read_to_end(shard, now);
            tracker.has_child(self.stream, &id)
        });
        if !has_child {
            self.discovery.search_children(id, now);
        }
        self.open_ready();
        Ok(())
    }

    /// AWS does not know a shard that was not read to its end, or of which something is left out.
    async fn shard_is_gone(&mut self, shard: ShardHandle, position: Position) -> Result<(), ReadingStopped> {
        let Some(RunningShard { id, has_ended, .. }) = self.running.get(&shard) else {
            return Err(self.context.broken("a shard is gone and had no reader"));
        };
        let (id, has_ended) = (id.clone(), *has_ended);
        let mut entries = Vec::new();
        if self.context.progress.tracker().is_loss(shard, clock::now()) {
            entries.push(Entry::Gap(self.shard_missing(shard, &id, Some(position).filter(|_| !has_ended))));
        }
        self.end_shard(shard, entries, !self.lost).await?;
        match (self.lost, has_ended) {
            (true, _) => Ok(()),
            (false, true) => {
                self.running.remove(&shard);
                Ok(())
            }
            (false, false) => self.shard_was_read(shard, None),
        }
    }

    /// What is missing of a shard that is gone, told as a gap: what is left out of it, and everything behind a position, if it was not
    /// read to its end.
    fn shard_missing(&mut self, shard: ShardHandle, id: &str, position: Option<Position>) -> Gap {
        let (left_out, lanes) = CatchUp::of(&mut self.context.progress.tracker()).left_out_of(shard);
        let lanes = Some(lanes).filter(|_| position.is_none());
        let gap = Gap::at(&self.details, Some(id), position.unwrap_or(left_out), LossReason::ShardMissing);
        let mut gap = Gap { lanes, ..gap };
        if self.context.on_data_loss == OnDataLoss::Stop {
            gap.resume = None;
            self.lost = true;
        }
        self.context.report_missing(&gap);
        gap
    }

    async fn end_shard(
        &mut self,
        shard: ShardHandle,
        entries: Vec<Entry>,
        is_last: bool,
    ) -> Result<(), ReadingStopped> {
        self.context.hand_down_end(Task::Stream(self.number), shard, self.details.clone(), entries, is_last).await
    }
}
