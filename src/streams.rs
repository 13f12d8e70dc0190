//! From a table to its records: which stream, which shards, which pages. Here is what all who read share: the pace of calls that
//! AWS limits for the whole account, and a table's [`ReaderContext`].

pub mod client;
pub mod reader_state;
pub mod shard_discovery;
mod shard_pace;
pub mod shard_reader;
pub mod stream_existence;
pub mod stream_locator;
pub mod stream_reader;
pub mod stream_task;
pub mod table_reader;
pub mod unlisted_shard;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use self::client::observed::ObservedClient;
use self::client::{ShardQuery, StreamDescription, StreamsClient as _};
use crate::aws::CALL_TIMEOUT;
use crate::aws::errors::CallError;
use crate::clock;
use crate::progress::buffer::Buffer;
use crate::progress::left_out::{Place, Reread};
use crate::progress::table_tracker::ShardHandle;
use crate::progress::{Acknowledger as _, TableProgress};
use crate::records::{Entry, Gap, StreamDetails};
use crate::telemetry::events;

pub use crate::config::{OnDataLoss, PollIntervals};

/// Lets calls pass at an even rate, whoever makes them.
///
/// Even spacing, not a bucket with a burst: then no window of a second ever holds more than the rate.
#[derive(Debug)]
pub struct RateLimiter {
    interval: Duration,
    next: Mutex<Option<Instant>>,
}

impl RateLimiter {
    /// One call each `interval`.
    pub fn every(interval: Duration) -> Self {
        Self { interval, next: Mutex::new(None) }
    }

    /// Waits for this call's turn.
    pub async fn wait_turn(&self) {
        sleep_until(self.book_turn()).await;
    }

    /// The moment of this call's turn, for those who wait themselves.
    pub fn book_turn(&self) -> Instant {
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.map_or(now, |next| next.max(now));
        *next = Some(turn + self.interval);
        turn
    }
}

/// The calls that AWS limits for a whole account: one process stays below 10 `DescribeStream` and 5 `ListStreams` a second.
///
/// Source: "Quotas for DynamoDB Streams" in the DynamoDB Developer Guide.
#[derive(Debug)]
pub struct AccountPace {
    pub describe_stream: RateLimiter,
    /// Those of them for which nobody waits: the next pages of long listings.
    pub listing: RateLimiter,
    pub list_streams: RateLimiter,
}

impl AccountPace {
    /// The pace of one process, for all its tables.
    pub fn of_process() -> Arc<Self> {
        let [describe_stream, listing, list_streams] =
            [125, 1_500, 250].map(|millis| RateLimiter::every(Duration::from_millis(millis)));
        Arc::new(Self { describe_stream, listing, list_streams })
    }
}

/// How long after its own time limit a call may take to be noticed as ended.
const CALL_MARGIN: Duration = Duration::from_secs(20);

/// How long it may take to find a table's stream: a few calls, one after the other, each at its turn.
const SEARCH_LIMIT: Duration = CALL_TIMEOUT.saturating_mul(10);

/// What all who read one table share.
pub struct ReaderContext {
    pub client: Arc<ObservedClient>,
    /// How fast shards are polled.
    pub poll_intervals: PollIntervals,
    /// What is known of the table's shards.
    pub progress: Arc<TableProgress>,
    /// This table's part of the buffer.
    pub buffer: Arc<Buffer>,
    /// Shared by all tables: an account-wide limit.
    pub pace: Arc<AccountPace>,
    pub on_data_loss: OnDataLoss,
    /// Those below, who take what was read.
    pub pages: mpsc::Sender<ShardPage>,
    /// What each of the tasks is doing.
    pub activity: Arc<Activity>,
}

/// The whole listings of one stream, for those who are in doubt about a shard.
#[derive(Debug, Clone)]
pub struct Listings {
    /// How many were taken.
    completed: watch::Receiver<u64>,
    wanted: Arc<Notify>,
}

impl Listings {
    /// Waits for so long, and until a whole listing was taken that began before or after this moment; asks for one.
    pub async fn wait(&mut self, pause: Duration) {
        let seen = *self.completed.borrow();
        self.wanted.notify_one();
        // Whoever lists lives longer than those who wait for it.
        let listed = async { self.completed.wait_for(|completed| *completed > seen).await.is_ok() };
        tokio::join!(sleep(pause), listed);
    }
}

/// What work comes to that is under way; waits for ever where none is.
async fn outcome_of<W: Future + Unpin>(work: &mut Option<W>) -> W::Output {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// What one page of a shard brought.
#[derive(Debug)]
pub struct ShardPage {
    pub shard: ShardHandle,
    pub details: Arc<StreamDetails>,
    /// Records and gaps, in order.
    pub entries: Vec<Entry>,
    /// When the page was asked for, and when it was read.
    pub asked_at: SystemTime,
    pub read_at: SystemTime,
    /// Whether the page held all there was, as far as one can know.
    pub is_caught_up: bool,
    /// Nothing more will come of the shard.
    pub is_last: bool,
    /// It is a page of a pass over what was left out of the shard, and brings only that.
    pub pass: Option<PassPage>,
}

/// What a page of a pass says besides its entries.
#[derive(Debug)]
pub struct PassPage {
    /// Where each of its entries lies.
    pub places: Vec<Reread>,
    /// How far the pass has come.
    pub to: Place,
    /// It was the pass's last one.
    pub is_over: bool,
}

/// What the tasks that read one table are doing, so that one that stands still can be found.
#[derive(Debug, Default)]
pub struct Activity(Mutex<Steps>);

#[derive(Debug, Default)]
struct Steps {
    begun: u64,
    now: BTreeMap<Task, (u64, Step)>,
}

/// A task that reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// The one that follows the table from stream to stream.
    Table,
    /// The one that lists the shards of a stream: the table's first one, second one, and so on in this run.
    Stream(u32),
    /// A question about a stream's shards that is being asked meanwhile.
    Query(u32),
    Shard(ShardHandle),
}

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Room in the buffer.
    Room,
    /// AWS: a call that must have ended by this moment, with an answer or without.
    Call(Instant),
    /// Those below, to take what was read.
    HandDown,
    /// A moment that it chose itself.
    Until(Instant),
    /// Delivery, to settle what was read before.
    Settlement,
    /// A whole listing of the stream's shards.
    Listing,
}

impl Step {
    /// A call that begins now.
    pub fn call() -> Self {
        Self::Call(Instant::now() + CALL_TIMEOUT + CALL_MARGIN)
    }

    /// The calls that it takes to find a table's stream, which begin now.
    pub fn search() -> Self {
        Self::Call(Instant::now() + SEARCH_LIMIT)
    }
}

/// Where there is room now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// In the buffer, for a page.
    pub free: bool,
    /// The buffer holds events, which give room back.
    pub held: bool,
    /// With those below, for what was read.
    pub below: bool,
}

impl Activity {
    /// A task begins to wait for something else.
    pub fn begin(&self, task: Task, step: Step) {
        let mut steps = self.steps();
        steps.begun += 1;
        let number = steps.begun;
        steps.now.insert(task, (number, step));
    }

    /// A task has ended.
    pub fn end(&self, task: Task) {
        self.steps().now.remove(&task);
    }

    /// Nobody reads the table any more.
    pub fn clear(&self) {
        self.steps().now.clear();
    }

    /// The tasks that should not be waiting at this moment, each with the number of its step: one that still waits in the
    /// same step much later stands still.
    pub fn overdue(&self, room: Room, now: Instant) -> Vec<(Task, u64)> {
        let steps = self.steps();
        let gives_room = |(task, (_, step)): (&Task, &(u64, Step))| match step {
            Step::Call(_) => matches!(task, Task::Shard(_)),
            Step::HandDown => true,
            Step::Room | Step::Until(_) | Step::Settlement | Step::Listing => false,
        };
        let room_may_come = room.held || steps.now.iter().any(gives_room);
        let is_overdue = |step: &Step| match step {
            Step::Room => room.free || !room_may_come,
            Step::HandDown => room.below,
            Step::Call(moment) | Step::Until(moment) => *moment < now,
            // Those below are watched themselves, and whoever lists.
            Step::Settlement | Step::Listing => false,
        };
        // Nobody looks at a question's answer while the one who asked it waits for something else.
        let is_put_aside =
            |task: &Task| matches!(task, Task::Query(stream) if steps.now.contains_key(&Task::Stream(*stream)));
        let overdue = steps.now.iter().filter(|(task, (_, step))| is_overdue(step) && !is_put_aside(task));
        overdue.map(|(task, (number, _))| (*task, *number)).collect()
    }

    /// Whether a task is in doubt about a shard, and waits for a whole listing.
    pub fn awaits_listing(&self) -> bool {
        self.steps().now.values().any(|(_, step)| *step == Step::Listing)
    }

    fn steps(&self) -> MutexGuard<'_, Steps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Table => "the search for the table's stream",
            Self::Stream(_) => "the listing of shards",
            Self::Query(_) => "a call of the listing of shards",
            Self::Shard(_) => "the reader of a shard",
        })
    }
}

/// The one who takes the pages is gone: the process is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("reading was stopped")]
pub struct ReadingStopped;

impl ReaderContext {
    /// Reading met a state that cannot be: the table stops, and says so.
    pub fn broken(&self, what: &str) -> ReadingStopped {
        self.progress.health().mark_stopped(&format!("{what}, a fault of the adapter itself: restart it to go on"));
        events::TableFault { what }.emit(self.progress.telemetry());
        ReadingStopped
    }

    /// One question about a stream's shards, at its turn.
    ///
    /// # Errors
    /// When AWS did not answer it.
    pub async fn describe_stream(
        &self,
        task: Task,
        stream: &str,
        shards: ShardQuery<'_>,
    ) -> Result<StreamDescription, CallError> {
        let turn = self.pace.describe_stream.book_turn();
        self.activity.begin(task, Step::Until(turn));
        sleep_until(turn).await;
        self.activity.begin(task, Step::call());
        self.client.describe_stream(stream, shards).await
    }

    /// Says loudly that AWS does not know a shard or a stream which was not read to its end.
    pub fn report_missing(&self, gap: &Gap) {
        events::DataLost {
            stream: &gap.stream_arn,
            shard: gap.shard.as_deref(),
            position: &gap.after.map_or_else(|| "unknown".to_owned(), |after| format!("after {after}")),
            reason: gap.reason.as_str(),
            detail: "it no longer exists",
        }
        .emit(self.progress.telemetry());
    }

    /// Hands down what a task has read; waits while those below are busy. The task's next step begins behind it.
    ///
    /// # Errors
    /// When nobody takes pages any more.
    pub async fn hand_down(&self, task: Task, page: ShardPage) -> Result<(), ReadingStopped> {
        self.activity.begin(task, Step::HandDown);
        self.pages.send(page).await.map_err(|_| ReadingStopped)
    }

    /// Hands down what a shard ends with that nobody reads: entries that no page has brought. They are charged to the buffer and
    /// wait for no room.
    ///
    /// # Errors
    /// When nobody takes pages any more.
    pub async fn hand_down_end(
        &self,
        task: Task,
        shard: ShardHandle,
        details: Arc<StreamDetails>,
        entries: Vec<Entry>,
        is_last: bool,
    ) -> Result<(), ReadingStopped> {
        self.buffer.charge(entries.iter().map(Entry::cost).sum());
        let now = clock::now();
        let page =
            ShardPage { shard, details, entries, asked_at: now, read_at: now, is_caught_up: true, is_last, pass: None };
        self.hand_down(task, page).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_second_ever_holds_more_than_ten_calls() {
        let rate = &AccountPace::of_process().describe_stream;
        let mut calls = Vec::new();
        for n in 0..100u64 {
            if n % 17 == 0 {
                tokio::time::advance(Duration::from_millis(n * 7)).await;
            }
            rate.wait_turn().await;
            calls.push(Instant::now());
        }
        for window in calls.windows(11) {
            assert!(window[10] - window[0] >= Duration::from_secs(1), "eleven calls within a second");
        }
    }

    const READER: Task = Task::Shard(ShardHandle::FIRST);

    const FULL: Room = Room { free: false, held: true, below: false };

    fn overdue(step: Step, others: &[Step], room: Room) -> bool {
        let activity = Activity::default();
        for (step, shard) in others.iter().zip(1..) {
            activity.begin(Task::Shard(ShardHandle::nth(shard)), *step);
        }
        activity.begin(READER, step);
        activity.overdue(room, Instant::now()).iter().any(|(task, _)| *task == READER)
    }

    #[test]
    fn who_waits_for_room_is_overdue_where_there_is_some_or_none_can_come() {
        let empty = Room { held: false, ..FULL };
        assert!(overdue(Step::Room, &[], Room { free: true, ..FULL }), "a page would find room");
        assert!(overdue(Step::Room, &[Step::Room], empty), "nothing gives room back");
        assert!(!overdue(Step::Room, &[], FULL), "events do when they are settled");
        assert!(!overdue(Step::Room, &[Step::call()], empty), "a page that is asked for does");
        assert!(!overdue(Step::Room, &[Step::HandDown], empty), "a page that is handed down does");
    }

    #[test]
    fn who_waits_for_a_call_or_a_moment_is_overdue_behind_it_and_who_hands_down_where_there_is_room() {
        let now = Instant::now();
        let (early, late) = (now + Duration::from_secs(3600), now - Duration::from_millis(1));
        for step in [Step::Until, Step::Call] {
            assert!(!overdue(step(early), &[], FULL));
            assert!(overdue(step(late), &[], FULL));
        }
        assert!(!overdue(Step::call(), &[], FULL));
        assert!(!overdue(Step::HandDown, &[], FULL));
        assert!(overdue(Step::HandDown, &[], Room { below: true, ..FULL }));
    }

    #[test]
    fn a_question_is_not_overdue_while_the_one_who_asked_it_hands_something_down() {
        let activity = Activity::default();
        let overdue = || activity.overdue(FULL, Instant::now()).first().map(|(task, _)| *task);
        activity.begin(Task::Query(1), Step::Call(Instant::now() - Duration::from_secs(1)));
        activity.begin(Task::Stream(1), Step::HandDown);
        assert_eq!(overdue(), None);
        activity.end(Task::Stream(1));
        assert_eq!(overdue(), Some(Task::Query(1)));
    }

    #[test]
    fn a_new_step_has_a_new_number_and_an_ended_task_none() {
        let (activity, now) = (Activity::default(), Instant::now());
        let number = || activity.overdue(Room { free: true, ..FULL }, now).first().map(|(_, number)| *number);
        activity.begin(READER, Step::Room);
        let first = number();
        assert!(first.is_some() && number() == first);
        activity.begin(READER, Step::Room);
        assert!(number() > first);
        activity.end(READER);
        assert_eq!(number(), None);
    }
}
