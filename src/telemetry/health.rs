//! Whether the process is ready and alive, and why not. Time is an argument.
//!
//! Contract:
//! - Ready: every table's stream was listed once and its first positions are stored, and no table went without progress
//!   for [`PATIENCE`] because AWS or the sink refuses. A denied operation that reading needs is enough at once.
//! - Started: ready was true once.
//! - Not live: only when the process cannot recover by itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a table may be refused before the process counts as not ready.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Who stands in a table's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// AWS refuses calls.
    Aws,
    /// The sink refuses events.
    Sink,
}

/// The health of the whole process.
#[derive(Debug, Default)]
pub struct Health {
    tables: Mutex<Vec<Arc<TableHealth>>>,
    started: AtomicBool,
    fatal: Mutex<Option<String>>,
}

/// One table's part in it.
#[derive(Debug)]
pub struct TableHealth {
    table: String,
    aws_hindered: AtomicBool,
    sink_hindered: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What is missing until the table is first read; none once it is.
    waiting_for: Option<String>,
    aws: Option<Hindrance>,
    sink: Option<Hindrance>,
    stopped: Option<String>,
}

#[derive(Debug)]
struct Hindrance {
    since: Instant,
    why: String,
    denied: bool,
}

impl Health {
    /// Adds a table; it is not ready yet.
    pub fn table(&self, table: &str) -> Arc<TableHealth> {
        let waiting_for = Some("the first answer of AWS".to_owned());
        let health = Arc::new(TableHealth {
            table: table.to_owned(),
            aws_hindered: AtomicBool::new(false),
            sink_hindered: AtomicBool::new(false),
            state: Mutex::new(State { waiting_for, ..State::default() }),
        });
        lock(&self.tables).push(health.clone());
        health
    }

    /// Why the process is not ready: one line a table; none if it is ready.
    pub fn not_ready(&self, now: Instant) -> Option<String> {
        let reasons: Vec<String> = lock(&self.tables).iter().filter_map(|table| table.not_ready(now)).collect();
        let fatal = lock(&self.fatal).clone();
        let reasons: Vec<String> = fatal.into_iter().chain(reasons).collect();
        if reasons.is_empty() {
            self.started.store(true, Ordering::Release);
            return None;
        }
        Some(reasons.join("\n"))
    }

    /// Whether the process has been ready once.
    pub fn has_started(&self, now: Instant) -> bool {
        self.started.load(Ordering::Acquire) || self.not_ready(now).is_none()
    }

    /// The process cannot recover by itself.
    pub fn is_fatal(&self, why: &str) {
        lock(&self.fatal).get_or_insert_with(|| why.to_owned());
    }

    /// Why the process cannot recover by itself; none if it is live.
    pub fn not_live(&self) -> Option<String> {
        lock(&self.fatal).clone()
    }
}

impl TableHealth {
    /// Reading cannot begin, or go on, before this is there.
    pub fn waiting_for(&self, what: &str) {
        lock(&self.state).waiting_for = Some(what.to_owned());
    }

    /// The stream was listed and the first positions are stored.
    pub fn is_ready(&self) {
        lock(&self.state).waiting_for = None;
    }

    /// Reading of this table has ended for good.
    pub fn stopped(&self, why: &str) {
        lock(&self.state).stopped = Some(why.to_owned());
    }

    /// Something was refused. What was refused first counts from then on, until it is cleared.
    pub fn hindered(&self, by: Obstacle, why: &str, denied: bool, now: Instant) {
        let mut state = lock(&self.state);
        let slot = match by {
            Obstacle::Aws => &mut state.aws,
            Obstacle::Sink => &mut state.sink,
        };
        match slot {
            Some(hindrance) => {
                hindrance.denied |= denied;
                why.clone_into(&mut hindrance.why);
            }
            None => *slot = Some(Hindrance { since: now, why: why.to_owned(), denied }),
        }
        self.flag(by).store(true, Ordering::Release);
    }

    /// There was progress again.
    pub fn cleared(&self, by: Obstacle) {
        let mut state = lock(&self.state);
        match by {
            Obstacle::Aws => state.aws = None,
            Obstacle::Sink => state.sink = None,
        }
        self.flag(by).store(false, Ordering::Release);
    }

    /// Whether something was refused since the last progress: an atomic load.
    pub fn is_hindered(&self, by: Obstacle) -> bool {
        self.flag(by).load(Ordering::Acquire)
    }

    /// How long there has been no progress because of this; zero if there was.
    pub fn hindered_for(&self, by: Obstacle) -> Duration {
        let state = lock(&self.state);
        let hindrance = match by {
            Obstacle::Aws => &state.aws,
            Obstacle::Sink => &state.sink,
        };
        hindrance.as_ref().map(|hindrance| hindrance.since.elapsed()).unwrap_or_default()
    }

    /// The last thing that was refused, if there was no progress since.
    pub fn last_refusal(&self, by: Obstacle) -> Option<String> {
        let state = lock(&self.state);
        let hindrance = match by {
            Obstacle::Aws => &state.aws,
            Obstacle::Sink => &state.sink,
        };
        hindrance.as_ref().map(|hindrance| hindrance.why.clone())
    }

    /// What is missing before reading can begin or go on.
    pub fn awaited(&self) -> Option<String> {
        lock(&self.state).waiting_for.clone()
    }

    fn not_ready(&self, now: Instant) -> Option<String> {
        let state = lock(&self.state);
        let table = &self.table;
        if let Some(why) = &state.stopped {
            return Some(format!("table {table}: reading has stopped: {why}"));
        }
        let aws = state.aws.as_ref().filter(|aws| aws.denied || aws.is_too_long(now));
        if let Some(aws) = aws {
            return Some(format!("table {table}: AWS refuses for {} s: {}", aws.seconds(now), aws.why));
        }
        if let Some(what) = &state.waiting_for {
            let trouble = state.aws.as_ref().map(|aws| format!(" ({})", aws.why)).unwrap_or_default();
            return Some(format!("table {table}: waiting for {what}{trouble}"));
        }
        let sink = state.sink.as_ref().filter(|sink| sink.is_too_long(now))?;
        Some(format!("table {table}: the sink has taken nothing for {} s: {}", sink.seconds(now), sink.why))
    }

    fn flag(&self, by: Obstacle) -> &AtomicBool {
        match by {
            Obstacle::Aws => &self.aws_hindered,
            Obstacle::Sink => &self.sink_hindered,
        }
    }
}

impl Hindrance {
    fn seconds(&self, now: Instant) -> u64 {
        now.duration_since(self.since).as_secs()
    }

    fn is_too_long(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= PATIENCE
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_needs_every_table_to_have_been_listed() {
        let (health, now) = (Health::default(), Instant::now());
        let (orders, users) = (health.table("orders"), health.table("users"));
        orders.is_ready();
        let why = health.not_ready(now).unwrap();
        assert!(why.contains("table users: waiting for") && !why.contains("orders"), "{why}");
        assert!(!health.has_started(now));
        users.is_ready();
        assert_eq!(health.not_ready(now), None);
        assert!(health.has_started(now));
    }

    #[test]
    fn a_denied_operation_is_enough_at_once_and_other_refusals_after_a_minute() {
        let (health, now) = (Health::default(), Instant::now());
        let orders = health.table("orders");
        orders.is_ready();
        orders.hindered(Obstacle::Aws, "GetRecords failed: throttled", false, now);
        assert_eq!(health.not_ready(now + PATIENCE / 2), None);
        assert!(health.not_ready(now + PATIENCE).unwrap().contains("throttled"));
        orders.cleared(Obstacle::Aws);
        assert_eq!(health.not_ready(now + PATIENCE), None);
        orders.hindered(Obstacle::Aws, "allow dynamodb:GetRecords", true, now);
        assert!(health.not_ready(now).unwrap().contains("allow dynamodb:GetRecords"));
    }

    #[test]
    fn a_sink_that_refuses_for_a_minute_makes_the_pod_unready_but_not_dead() {
        let (health, now) = (Health::default(), Instant::now());
        let orders = health.table("orders");
        orders.is_ready();
        orders.hindered(Obstacle::Sink, "503", false, now);
        orders.hindered(Obstacle::Sink, "503", false, now + PATIENCE / 2);
        assert!(health.not_ready(now + PATIENCE).is_some(), "a later refusal must not start the minute again");
        assert_eq!(health.not_live(), None);
        assert!(health.has_started(now) || health.not_ready(now).is_none());
    }

    #[test]
    fn a_table_that_stopped_over_lost_data_stays_unready() {
        let (health, now) = (Health::default(), Instant::now());
        let orders = health.table("orders");
        orders.is_ready();
        orders.stopped("data was lost");
        assert!(health.not_ready(now).unwrap().contains("data was lost"));
        assert_eq!(health.not_live(), None);
    }
}
