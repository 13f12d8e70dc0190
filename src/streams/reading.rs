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
use super::update::{ShardNumber, Update};
use crate::readiness::TableHealth;
use crate::telemetry::{TableTelemetry, events};

pub use crate::config::OnDataLoss;

/// How long DynamoDB Streams keeps a record.
///
/// Source: "stream records have a lifetime of 24 hours" in the DynamoDB Developer Guide.
pub const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// The parts that reading one table needs.
pub struct Reading {
    /// AWS.
    pub client: Arc<ObservedClient>,
    /// How fast shards are polled.
    pub pace: Pace,
    /// This table's share of the buffer.
    pub budget: Arc<Budget>,
    /// Shared by all tables: an account-wide limit.
    pub describe_rate: Arc<RateLimiter>,
    /// The policy.
    pub on_data_loss: OnDataLoss,
    /// Where updates go.
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
    /// A shard's reader.
    Shard(ShardNumber),
}

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Room in the buffer.
    Room,
    /// AWS, or those below to take what was read.
    Others,
    /// A moment that it chose itself.
    Until(Instant),
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
    /// same step much later stands still. `free` says whether a page would find room in the buffer, `held` whether the
    /// buffer holds events, which give room back.
    pub fn overdue(&self, free: bool, held: bool, now: Instant) -> Vec<(Task, u64)> {
        let steps = self.steps();
        let room_may_come = held || steps.now.values().any(|(_, step)| *step == Step::Others);
        let is_overdue = |step: &Step| match step {
            Step::Room => free || !room_may_come,
            Step::Others => false,
            Step::Until(moment) => *moment < now,
        };
        let overdue = steps.now.iter().filter(|(_, (_, step))| is_overdue(step));
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

    /// Hands an update down; waits while those below are busy.
    ///
    /// # Errors
    /// When nobody takes updates any more.
    pub async fn tell(&self, update: Update) -> Result<(), Stopped> {
        self.updates.send(update).await.map_err(|_| Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READER: Task = Task::Shard(1);

    fn overdue(step: Step, others: &[Step], free: bool, held: bool) -> bool {
        let activity = Activity::default();
        others.iter().zip(2..).for_each(|(step, shard)| activity.begin(Task::Shard(shard), *step));
        activity.begin(READER, step);
        activity.overdue(free, held, Instant::now()).iter().any(|(task, _)| *task == READER)
    }

    #[test]
    fn who_waits_for_room_is_overdue_where_there_is_some_or_none_can_come() {
        assert!(overdue(Step::Room, &[], true, true), "a page would find room");
        assert!(overdue(Step::Room, &[Step::Room], false, false), "nothing gives room back");
        assert!(!overdue(Step::Room, &[], false, true), "events do when they are settled");
        assert!(!overdue(Step::Room, &[Step::Others], false, false), "a page that is asked for does");
    }

    #[test]
    fn who_waits_for_others_is_never_overdue_and_who_waits_for_a_moment_is_behind_it() {
        let now = Instant::now();
        assert!(!overdue(Step::Others, &[], true, true));
        assert!(!overdue(Step::Until(now + Duration::from_secs(3600)), &[], true, false));
        assert!(overdue(Step::Until(now - Duration::from_millis(1)), &[], true, false));
    }

    #[test]
    fn a_new_step_has_a_new_number_and_an_ended_task_none() {
        let (activity, now) = (Activity::default(), Instant::now());
        let number = || activity.overdue(true, false, now).first().map(|(_, number)| *number);
        activity.begin(READER, Step::Room);
        let first = number();
        assert!(first.is_some() && number() == first);
        activity.begin(READER, Step::Room);
        assert!(number() > first);
        activity.end(READER);
        assert_eq!(number(), None);
    }
}
