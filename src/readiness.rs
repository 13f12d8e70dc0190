//! Whether the process is ready and alive, and why not. Time is an argument.
//!
//! Contract:
//! - Ready: every table's stream was listed once and its first positions are stored, and no table went without progress
//!   for [`PATIENCE`] because AWS or the sink refuses. A denied operation that reading needs is enough at once, and so is that
//!   the last [`UNDECODABLE_IN_A_ROW`] records of a table could not be decoded.
//! - A table that is another process's is ready, as long as the lease that this one waits for can be looked at
//!   ([`TableHealth::mark_waiting_for_lease`]). It stays ready when this one takes over, unless what follows hinders it.
//! - While the process starts, what it waits for is the reason ([`Health::set_starting`]).
//! - Started: ready was true once.
//! - Not live: only while a part of the process stands still although nothing hinders it ([`Health::set_stalled`]).
//!
//! What is refused is kept by operation. That listings succeed says nothing about `GetRecords`, so only `GetRecords` itself
//! is progress for all; any other answer clears its own operation.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a table may be refused before the process counts as not ready.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A refusal that was not repeated for so long is over: whoever met it has given up, or what it was about is gone.
/// Everything that reading needs is tried again at least every 30 seconds.
const STALE: Duration = Duration::from_secs(120);

/// So many records without one between them that can be decoded are no odd records: what the table's service sends is not understood.
pub const UNDECODABLE_IN_A_ROW: u32 = 3;

/// What a table waits for that was never read.
const FIRST_RESPONSE: &str = "the first response of AWS";

/// Who stands in a table's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    Aws,
    /// The sink refuses events.
    Sink,
}

/// The health of the whole process.
#[derive(Debug, Default)]
pub struct Health {
    tables: Mutex<Vec<Arc<TableHealth>>>,
    /// What is missing before there are tables.
    starting: Mutex<Option<String>>,
    /// What is missing besides, at the start or later.
    missing: Mutex<Option<String>>,
    started: AtomicBool,
    stalled: Mutex<Option<String>>,
}

/// One table's part in it.
#[derive(Debug)]
pub struct TableHealth {
    table: String,
    aws_failing: AtomicBool,
    sink_failing: AtomicBool,
    /// The last attempts failed by the sink's fault.
    sink_refuses: AtomicBool,
    /// The last record could not be decoded. Changed only while the state is locked: the shards of a table are read by several threads.
    last_was_undecodable: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The stream was listed once, and the first positions are stored.
    was_listed: bool,
    /// What is missing before reading can begin or go on.
    waiting_for: Option<String>,
    /// Why positions are not stored.
    unstored: Option<String>,
    failures: BTreeMap<(Dependency, &'static str), DependencyFailure>,
    /// Since when the sink has taken nothing of the table, whether that counts against the sink as a whole or not.
    sink_refuses_since: Option<Instant>,
    stopped: Option<String>,
    /// The table is not this process's.
    lease: Option<AwaitedLease>,
    /// How many records in a row could not be decoded.
    undecodable_in_a_row: u32,
    /// What is wrong with all records that were read of late.
    undecodable: Option<String>,
}

/// A lease that is waited for.
#[derive(Debug, Default)]
struct AwaitedLease {
    /// Who has it; none: nobody, or nobody knows.
    owner: Option<String>,
}

#[derive(Debug)]
struct DependencyFailure {
    since: Instant,
    last: Instant,
    why: String,
    denied: bool,
}

/// A call that something may be in the way of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailingCall {
    /// An operation of AWS, by its name.
    Aws(&'static str),
    /// Requests to the sink.
    Sink,
}

/// How a refusal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// How long it had lasted.
    pub after: Duration,
    /// Whether permissions or credentials were missing.
    pub denied: bool,
}

impl Health {
    /// Adds a table; it is not ready yet.
    pub fn table(&self, table: &str) -> Arc<TableHealth> {
        let waiting_for = Some(FIRST_RESPONSE.to_owned());
        let health = Arc::new(TableHealth {
            table: table.to_owned(),
            aws_failing: AtomicBool::new(false),
            sink_failing: AtomicBool::new(false),
            sink_refuses: AtomicBool::new(false),
            last_was_undecodable: AtomicBool::new(false),
            state: Mutex::new(State { waiting_for, ..State::default() }),
        });
        lock(&self.tables).push(health.clone());
        health
    }

    /// What the process waits for before its tables are there; nothing once they are.
    pub fn set_starting(&self, what: Option<String>) {
        *lock(&self.starting) = what;
    }

    /// What the process waits for besides, whatever its tables do; nothing once it is there.
    pub fn set_missing(&self, what: Option<String>) {
        *lock(&self.missing) = what;
    }

    /// Why the process is not ready: one line a table; none if it is ready.
    pub fn not_ready(&self, now: Instant) -> Option<String> {
        let starting = lock(&self.starting).as_ref().map(|what| format!("starting: waiting for {what}"));
        let tables: Vec<String> = lock(&self.tables).iter().filter_map(|table| table.not_ready(now)).collect();
        let missing = lock(&self.missing).as_ref().map(|what| format!("waiting for {what}"));
        let reasons: Vec<String> = self.not_live().into_iter().chain(starting).chain(missing).chain(tables).collect();
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

    /// A part of the process stands still although nothing hinders it; none when it goes on.
    pub fn set_stalled(&self, what: Option<String>) {
        *lock(&self.stalled) = what;
    }

    /// Which part of the process stands still; none if it is live.
    pub fn not_live(&self) -> Option<String> {
        lock(&self.stalled).clone()
    }
}

impl TableHealth {
    /// Reading cannot begin, or go on, before this is there. Nothing else is asked of AWS meanwhile, so nothing else is
    /// refused.
    pub fn mark_waiting_for(&self, what: &str) {
        let mut state = lock(&self.state);
        state.waiting_for = Some(what.to_owned());
        state.failures.retain(|(by, _), _| *by != Dependency::Aws);
        self.raise_flags(&state);
    }

    /// Nothing is waited for: AWS has something to read.
    pub fn mark_reading(&self) {
        lock(&self.state).waiting_for = None;
    }

    /// The table is not this process's, which waits for its lease: nothing is read, so nothing hinders it. `owner`: who has the lease; none:
    /// nobody, or nobody knows.
    pub fn mark_waiting_for_lease(&self, owner: Option<&str>) {
        let mut state = lock(&self.state);
        if state.lease.is_none() {
            let unstored = state.unstored.take();
            *state = State { unstored, ..State::default() };
            self.last_was_undecodable.store(false, Ordering::Release);
            self.raise_flags(&state);
        }
        state.lease = Some(AwaitedLease { owner: owner.map(str::to_owned) });
    }

    /// The table is this process's from now on.
    pub fn mark_lease_held(&self) {
        let mut state = lock(&self.state);
        let Some(lease) = state.lease.take() else { return };
        state.was_listed = lease.owner.is_some();
        if !state.was_listed {
            state.waiting_for = Some(FIRST_RESPONSE.to_owned());
        }
    }

    /// The stream was listed and the first positions are stored.
    pub fn mark_ready(&self) {
        let mut state = lock(&self.state);
        if !state.was_listed {
            state.was_listed = true;
            state.waiting_for = None;
        }
    }

    /// Positions are not stored because of this; none if they are.
    pub fn record_store_error(&self, why: Option<&str>) {
        lock(&self.state).unstored = why.map(str::to_owned);
    }

    /// Reading of this table has ended for good.
    pub fn mark_stopped(&self, why: &str) {
        lock(&self.state).stopped = Some(why.to_owned());
    }

    /// A record could not be decoded. Tells whether from now on that counts as true of all.
    pub fn undecodable(&self, why: &str) -> bool {
        let mut state = lock(&self.state);
        self.last_was_undecodable.store(true, Ordering::Release);
        state.undecodable_in_a_row = state.undecodable_in_a_row.saturating_add(1);
        if state.undecodable_in_a_row >= UNDECODABLE_IN_A_ROW {
            state.undecodable = Some(why.to_owned());
        }
        state.undecodable_in_a_row == UNDECODABLE_IN_A_ROW
    }

    /// A record could be decoded: an atomic load. Tells whether that was not so of the ones before.
    pub fn decoded(&self) -> bool {
        if !self.last_was_undecodable.load(Ordering::Acquire) {
            return false;
        }
        let mut state = lock(&self.state);
        self.last_was_undecodable.store(false, Ordering::Release);
        state.undecodable_in_a_row = 0;
        state.undecodable.take().is_some()
    }

    /// Something was refused. What was refused first counts from then on, until it is cleared.
    pub fn record_failure(&self, path: FailingCall, why: &str, denied: bool, now: Instant) {
        let mut state = lock(&self.state);
        let new = || DependencyFailure { since: now, last: now, why: String::new(), denied };
        let failure = state.failures.entry(path.key()).or_insert_with(new);
        failure.last = now;
        failure.denied |= denied;
        why.clone_into(&mut failure.why);
        self.raise_flags(&state);
    }

    /// This was answered, whatever the answer said. Tells how what was in its way ended.
    pub fn cleared(&self, path: FailingCall, now: Instant) -> Option<Recovery> {
        self.clear(now, |key, _| *key == path.key())
    }

    /// An attempt failed by the sink's fault. How soon the next one follows is a setting, and says nothing of how long that lasts.
    pub fn sink_refused(&self, now: Instant) {
        let mut state = lock(&self.state);
        state.sink_refuses_since.get_or_insert(now);
        self.sink_refuses.store(true, Ordering::Release);
    }

    /// The sink took an event of the table, or answered for that event's sake: an atomic load, unless it refused before.
    pub fn sink_took(&self) {
        if self.sink_refuses.load(Ordering::Acquire) {
            let mut state = lock(&self.state);
            state.sink_refuses_since = None;
            self.sink_refuses.store(false, Ordering::Release);
        }
    }

    /// How long every attempt has failed by the sink's fault; zero after any other one.
    pub fn sink_refused_for(&self, now: Instant) -> Duration {
        lock(&self.state).sink_refuses_since.map(|since| now.duration_since(since)).unwrap_or_default()
    }

    /// The sink is not down: it took an event, or what it did not take is that event's matter.
    pub fn sink_answered(&self, now: Instant) {
        if self.is_failing(Dependency::Sink) {
            self.cleared(FailingCall::Sink, now);
        }
    }

    /// Records were answered: that is progress, whatever else is refused. Only what is denied stays in the way: reading
    /// ends over it sooner or later.
    pub fn progressed(&self, now: Instant) -> Option<Recovery> {
        let own = FailingCall::Aws("GetRecords").key();
        self.clear(now, |key, failure| *key == own || key.0 == Dependency::Aws && !failure.denied)
    }

    /// Drops what was not refused again for long.
    pub fn forget_stale(&self, now: Instant) -> Option<Recovery> {
        self.clear(now, |key, failure| key.0 == Dependency::Aws && now.duration_since(failure.last) >= STALE)
    }

    fn clear(
        &self,
        now: Instant,
        is_over: impl Fn(&(Dependency, &'static str), &DependencyFailure) -> bool,
    ) -> Option<Recovery> {
        let mut state = lock(&self.state);
        let ended = state.failures.extract_if(.., |key, failure| is_over(key, failure));
        let over = ended.map(|(_, ended)| Recovery { after: now.duration_since(ended.since), denied: ended.denied });
        let over = over
            .reduce(|one, other| Recovery { after: one.after.max(other.after), denied: one.denied || other.denied });
        self.raise_flags(&state);
        over
    }

    /// Whether something is in the way: an atomic load.
    pub fn is_failing(&self, by: Dependency) -> bool {
        self.flag(by).load(Ordering::Acquire)
    }

    /// How long something has been in the way; zero if nothing is.
    pub fn failing_for(&self, by: Dependency, now: Instant) -> Duration {
        lock(&self.state).oldest(by).map(|failure| now.duration_since(failure.since)).unwrap_or_default()
    }

    /// The last thing that was refused, if it is still in the way.
    pub fn last_refusal(&self, by: Dependency) -> Option<String> {
        let state = lock(&self.state);
        state.of(by).max_by_key(|failure| failure.last).map(|failure| failure.why.clone())
    }

    /// What is missing before reading can begin or go on.
    pub fn awaited(&self) -> Option<String> {
        let state = lock(&self.state);
        state.lease.as_ref().map(AwaitedLease::what).or_else(|| state.waiting_for.clone())
    }

    /// Why positions are not stored, if they are not.
    pub fn last_store_error(&self) -> Option<String> {
        lock(&self.state).unstored.clone()
    }

    /// Whether reading of this table has ended for good.
    pub fn has_stopped(&self) -> bool {
        lock(&self.state).stopped.is_some()
    }

    /// Why this table keeps the process from being ready; none if it does not.
    pub fn trouble(&self, now: Instant) -> Option<String> {
        lock(&self.state).not_ready(now)
    }

    fn not_ready(&self, now: Instant) -> Option<String> {
        let why = self.trouble(now)?;
        Some(format!("table {}: {why}", self.table))
    }

    fn raise_flags(&self, state: &State) {
        for by in [Dependency::Aws, Dependency::Sink] {
            self.flag(by).store(state.of(by).next().is_some(), Ordering::Release);
        }
    }

    fn flag(&self, by: Dependency) -> &AtomicBool {
        match by {
            Dependency::Aws => &self.aws_failing,
            Dependency::Sink => &self.sink_failing,
        }
    }
}

impl FailingCall {
    fn key(self) -> (Dependency, &'static str) {
        match self {
            Self::Aws(operation) => (Dependency::Aws, operation),
            Self::Sink => (Dependency::Sink, ""),
        }
    }
}

impl AwaitedLease {
    fn what(&self) -> String {
        match &self.owner {
            Some(owner) => format!("the lease of {owner}"),
            None => "its lease".to_owned(),
        }
    }
}

impl State {
    fn not_ready(&self, now: Instant) -> Option<String> {
        if let Some(lease) = &self.lease {
            let trouble = self.unstored.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            let is_known = lease.owner.is_some() && self.unstored.is_none();
            return (!is_known).then(|| format!("waiting for {}{trouble}", lease.what()));
        }
        if let Some(why) = &self.stopped {
            return Some(format!("reading stopped: {why}"));
        }
        let denied = self.of(Dependency::Aws).find(|aws| aws.denied);
        let aws = denied.or_else(|| self.oldest(Dependency::Aws).filter(|aws| aws.is_too_long(now)));
        if let Some(aws) = aws {
            return Some(format!("AWS calls have failed for {} s: {}", aws.seconds(now), aws.why));
        }
        if !self.was_listed || self.waiting_for.is_some() {
            return Some(self.awaiting());
        }
        if let Some(why) = &self.undecodable {
            return Some(format!("no record can be decoded: {why}"));
        }
        let sink = self.oldest(Dependency::Sink).filter(|sink| sink.is_too_long(now))?;
        Some(format!("the sink has accepted nothing for {} s: {}", sink.seconds(now), sink.why))
    }

    fn awaiting(&self) -> String {
        let trouble = self.oldest(Dependency::Aws).map(|aws| &aws.why).or(self.unstored.as_ref());
        let trouble = trouble.map(|why| format!(" ({why})")).unwrap_or_default();
        let what = self.waiting_for.as_deref().unwrap_or("its stream to be listed and its start position to be stored");
        format!("waiting for {what}{trouble}")
    }

    fn of(&self, by: Dependency) -> impl Iterator<Item = &DependencyFailure> {
        self.failures.iter().filter(move |((obstacle, _), _)| *obstacle == by).map(|(_, failure)| failure)
    }

    fn oldest(&self, by: Dependency) -> Option<&DependencyFailure> {
        self.of(by).min_by_key(|failure| failure.since)
    }
}

impl DependencyFailure {
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
mod tests;
