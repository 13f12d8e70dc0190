//! What all tasks that read one table share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::RateLimiter;
use super::budget::Budget;
use super::client::observed::ObservedClient;
use super::pace::Pace;
use super::update::Update;
use crate::aws::CALL_TIMEOUT;
use crate::readiness::TableHealth;
use crate::records::ShardNumber;
use crate::telemetry::{TableTelemetry, events};

pub use crate::config::OnDataLoss;

/// How long after its own time limit a call may take to be noticed as ended.
const CALL_MARGIN: Duration = Duration::from_secs(20);

/// How long it may take to find a table's stream: a few calls, one after the other, each at its turn.
const SEARCH_LIMIT: Duration = CALL_TIMEOUT.saturating_mul(10);

/// The parts that reading one table needs.
pub struct Reading {
    pub client: Arc<ObservedClient>,
    /// How fast shards are polled.
    pub pace: Pace,
    /// This table's share of the buffer.
    pub budget: Arc<Budget>,
    /// Shared by all tables: an account-wide limit.
    pub describe_rate: Arc<RateLimiter>,
    pub on_data_loss: OnDataLoss,
    pub updates: mpsc::Sender<Update>,
    /// Metrics and logs of this table.
    pub telemetry: Arc<TableTelemetry>,
    /// This table's part in readiness.
    pub health: Arc<TableHealth>,
    /// What each of the tasks is doing.
    pub activity: Arc<Activity>,
    /// Hands out shard numbers.
    pub numbers: AtomicU32,
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
    /// The one that lists a stream's shards.
    Stream,
    /// A question about a stream's shards that is being asked meanwhile.
    Query,
    Shard(ShardNumber),
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

    /// The tasks that should not be waiting at this moment, each with the number of its step: one that still waits in the
    /// same step much later stands still.
    pub fn overdue(&self, room: Room, now: Instant) -> Vec<(Task, u64)> {
        let steps = self.steps();
        let gives_room = |(task, (_, step)): (&Task, &(u64, Step))| match step {
            Step::Call(_) => matches!(task, Task::Shard(_)),
            Step::HandDown => true,
            Step::Room | Step::Until(_) => false,
        };
        let room_may_come = room.held || steps.now.iter().any(gives_room);
        let is_overdue = |step: &Step| match step {
            Step::Room => room.free || !room_may_come,
            Step::HandDown => room.below,
            Step::Call(moment) | Step::Until(moment) => *moment < now,
        };
        // Nobody looks at a question's answer while the one who asked it waits for something else.
        let is_put_aside = |task: &Task| *task == Task::Query && steps.now.contains_key(&Task::Stream);
        let overdue = steps.now.iter().filter(|(task, (_, step))| is_overdue(step) && !is_put_aside(task));
        overdue.map(|(task, (number, _))| (*task, *number)).collect()
    }

    fn steps(&self) -> std::sync::MutexGuard<'_, Steps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Table => "the search for the table's stream",
            Self::Stream => "the listing of shards",
            Self::Query => "a call of the listing of shards",
            Self::Shard(_) => "the reader of a shard",
        })
    }
}

/// The one who takes the updates is gone: the process is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("reading was stopped")]
pub struct Stopped;

impl Reading {
    /// A number for a shard of this table.
    pub fn number(&self) -> ShardNumber {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Reading met a state that cannot be: the table stops, and says so.
    pub fn broken(&self, what: &str) -> Stopped {
        self.health.stopped(&format!("{what}, a fault of the adapter itself: restart it to go on"));
        events::TableFault { what }.emit(&self.telemetry);
        Stopped
    }

    /// Hands an update of this task down; waits while those below are busy. The task's next step begins behind it.
    ///
    /// # Errors
    /// When nobody takes updates any more.
    pub async fn tell(&self, task: Task, update: Update) -> Result<(), Stopped> {
        self.activity.begin(task, Step::HandDown);
        self.updates.send(update).await.map_err(|_| Stopped)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const READER: Task = Task::Shard(1);

    const FULL: Room = Room { free: false, held: true, below: false };

    fn overdue(step: Step, others: &[Step], room: Room) -> bool {
        let activity = Activity::default();
        others.iter().zip(2..).for_each(|(step, shard)| activity.begin(Task::Shard(shard), *step));
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
        activity.begin(Task::Query, Step::Call(Instant::now() - Duration::from_secs(1)));
        activity.begin(Task::Stream, Step::HandDown);
        assert_eq!(overdue(), None);
        activity.end(Task::Stream);
        assert_eq!(overdue(), Some(Task::Query));
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
