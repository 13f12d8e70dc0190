//! Metrics and logs: what the process reports about itself.
//!
//! Contract: an operational event is one struct in [`events`] that both logs and counts, so that the two cannot drift apart. What
//! happens to single records is only counted. A problem that repeats itself is logged once a minute with a count, and no kind of line comes
//! more than ten times a minute for a table. Nothing here holds item data or secrets, and nothing here is waited for.

pub mod events;
mod line_limiter;
pub mod logs;
pub mod metrics;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

pub use self::line_limiter::report_left_out;
use self::metrics::{LEASE_CHANGE_KINDS, Metrics, TableMetrics};
use crate::clock;

/// All that one table says about itself.
pub struct TableTelemetry {
    table: String,
    metrics: TableMetrics,
    recent: RecentProblems,
    reports: ReportLimiter,
}

impl TableTelemetry {
    /// The telemetry of the table that the user named so.
    pub fn new(table: &str, metrics: &Metrics) -> Arc<Self> {
        let metrics = metrics.table(table);
        Arc::new(Self {
            table: table.to_owned(),
            metrics,
            recent: RecentProblems::default(),
            reports: ReportLimiter::default(),
        })
    }

    /// The table's label in logs and metrics.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The table's counters and gauges.
    pub fn metrics(&self) -> &TableMetrics {
        &self.metrics
    }

    /// The table's last warnings and errors.
    pub fn recent(&self) -> &RecentProblems {
        &self.recent
    }

    /// Whether a problem that repeats itself is to be reported: the first time, and then once a minute with how often it
    /// happened since.
    pub fn report_due(&self, kind: &str) -> Option<u64> {
        self.reports.report_due(kind, Instant::now())
    }

    /// Whether something happened since a problem was last reported, and its next report is due: how often.
    pub fn report_pending(&self, kind: &str) -> Option<u64> {
        self.reports.report_pending(kind, Instant::now())
    }

    /// A problem is over: its next report is due at once. Returns how often it happened, if it did.
    pub fn report_over(&self, kind: &str) -> Option<u64> {
        self.reports.forget_kind(kind)
    }

    /// The same for a warning that is also shown among the recent problems.
    fn warning_due(&self, code: &'static str, why: &str) -> Option<u64> {
        let times = self.report_due(code)?;
        self.recent.add(code, why);
        Some(times)
    }

    /// So many records were read.
    pub fn records_read(&self, records: usize) {
        self.metrics.records_read.inc_by(records as u64);
    }

    /// So many of the records read are not wanted.
    pub fn records_filtered(&self, records: usize) {
        self.metrics.records_filtered.inc_by(records as u64);
    }

    /// How many shards are in each stage.
    pub fn shards(&self, reading: usize, waiting: usize, finished: usize) {
        let set =
            |state: &str, count: usize| self.metrics.shards.with_label_values(&[&*self.table, state]).set(count as i64);
        set("reading", reading);
        set("waiting", waiting);
        set("finished", finished);
        set("elsewhere", 0);
    }

    /// The lease of the table has changed hands so: `taken`, `received`, `released` or `lost`. `is_held`: by this process.
    fn lease_changed(&self, kind: &str, is_held: bool) {
        self.metrics.lease_changes.with_label_values(&[&*self.table, kind]).inc();
        self.set_lease_held(is_held);
    }

    /// The table has leases, of which this process claims some of this duration; it has none yet.
    pub fn set_lease_duration(&self, duration: Duration) {
        self.metrics.lease_duration.with_label_values(&[&*self.table]).set(duration.as_secs_f64());
        self.set_lease_held(false);
    }

    /// Whether this process has the lease of the table. Of a table without leases nobody says so. Its changes are counted from zero on, so
    /// that whoever watches sees the first one.
    pub fn set_lease_held(&self, is_held: bool) {
        for kind in LEASE_CHANGE_KINDS {
            self.metrics.lease_changes.with_label_values(&[&*self.table, kind]);
        }
        self.metrics.lease_held.with_label_values(&[&*self.table]).set(is_held.into());
    }

    /// A position was stored that had moved, at this moment.
    pub fn progress_stored(&self, now: SystemTime) {
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.metrics.last_progress.with_label_values(&[&*self.table]).set(since_epoch.as_secs_f64());
    }

    /// AWS has said what time it is; a process whose clock is wrong tells wrong ages.
    pub fn clock_compared(&self, theirs: SystemTime, ours: SystemTime) {
        let ahead = theirs.duration_since(ours).map(|by| by.as_secs_f64());
        let offset = ahead.unwrap_or_else(|behind| -behind.duration().as_secs_f64());
        self.metrics.clock_offset.with_label_values(&[&*self.table]).set(offset.trunc() + 0.0); // not "-0"
    }

    /// A call to AWS took so long and ended so: `records`, `empty`, `ok` or the error's code.
    pub fn aws_call(&self, operation: &'static str, result: &str, took: Duration) {
        self.metrics.aws_calls.with_label_values(&[&*self.table, operation, result]).inc();
        self.metrics.aws_call_duration.with_label_values(&[&*self.table, operation]).observe(took.as_secs_f64());
    }

    /// A request to the sink took so long and ended so: a status, or a fault in one word.
    pub fn delivery_attempt(&self, code: &str, took: Duration) {
        self.metrics.delivery_duration.observe(took.as_secs_f64());
        match code {
            "202" => self.metrics.delivery_accepted.inc(),
            _ => self.metrics.delivery_attempts.with_label_values(&[&*self.table, code]).inc(),
        }
    }

    /// An attempt for so many events ended so; `first` is whether they were tried for the first time.
    pub fn events_attempted(&self, events: usize, first: bool, code: &str) {
        if let Some(legacy) = &self.metrics.legacy {
            legacy.attempted(events, first, code);
        }
    }

    /// A request to the dead-letter sink ended so.
    pub fn dead_letter_attempt(&self, code: &str) {
        self.metrics.dead_letter_attempts.with_label_values(&[&*self.table, code]).inc();
    }

    /// One event was delivered; `created` is its record's creation time.
    pub fn delivered(&self, created: Option<SystemTime>) {
        self.metrics.events_delivered.inc();
        let age = created.and_then(|created| clock::now().duration_since(created).ok());
        if let Some(age) = age {
            self.metrics.end_to_end.observe(age.as_secs_f64());
        }
    }
}

/// How many are remembered, and how many of one code where there are others.
const MOST_PROBLEMS: usize = 20;
const MOST_OF_A_CODE: usize = 5;

/// How much of a text is kept, in characters.
const LONGEST_TEXT: usize = 400;

/// The last warnings and errors. Many of one code do not push out those of others.
#[derive(Debug, Default)]
pub struct RecentProblems(Mutex<VecDeque<Problem>>);

/// A warning or an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// When it was logged.
    pub at: SystemTime,
    /// One of [`events::CODES`].
    pub code: &'static str,
    pub text: String,
}

impl RecentProblems {
    /// Adds one; where there are too many, an older one goes, of the same code where that has many.
    pub fn add(&self, code: &'static str, text: &str) {
        let mut problems = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.len() >= MOST_PROBLEMS {
            let of_code = problems.iter().filter(|problem| problem.code == code).count();
            // The oldest one, or that of the same code.
            let oldest = problems.iter().position(|problem| of_code < MOST_OF_A_CODE || problem.code == code);
            problems.remove(oldest.unwrap_or_default());
        }
        problems.push_back(Problem { at: clock::now(), code, text: shortened(text) });
    }

    /// All that are remembered, the newest first.
    pub fn newest_first(&self) -> Vec<Problem> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }
}

/// The beginning of a text that others wrote.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// More kinds than this are not told apart any more, so that they cannot fill the memory.
const MAX_KINDS: usize = 256;

/// What those count as that are not told apart.
const OTHER_KINDS: &str = "";

/// Remembers what was reported.
#[derive(Debug, Default)]
struct ReportLimiter(Mutex<BTreeMap<String, Reported>>);

#[derive(Debug)]
struct Reported {
    at: Instant,
    /// How often it happened since then.
    since: u64,
    /// How often it happened at all.
    ever: u64,
}

impl ReportLimiter {
    /// Whether to say it, and then how often it happened since it was reported last.
    fn report_due(&self, kind: &str, now: Instant) -> Option<u64> {
        let mut reports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reports.len() >= MAX_KINDS && !reports.contains_key(kind) {
            reports.retain(|_, last| last.since > 0 || now.duration_since(last.at) < REPORT_INTERVAL);
        }
        let is_told_apart = reports.len() < MAX_KINDS || reports.contains_key(kind);
        let kind = if is_told_apart { kind } else { OTHER_KINDS };
        match reports.get_mut(kind) {
            Some(last) if now.duration_since(last.at) < REPORT_INTERVAL => {
                last.since += 1;
                last.ever += 1;
                None
            }
            Some(last) => {
                let times = last.since + 1;
                *last = Reported { at: now, since: 0, ever: last.ever + 1 };
                Some(times)
            }
            None => {
                reports.insert(kind.to_owned(), Reported { at: now, since: 0, ever: 1 });
                Some(1)
            }
        }
    }

    /// What was held back since the last report, once the next one is due.
    fn report_pending(&self, kind: &str, now: Instant) -> Option<u64> {
        let mut reports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = reports.get_mut(kind)?;
        let is_due = last.since > 0 && now.duration_since(last.at) >= REPORT_INTERVAL;
        is_due.then(|| std::mem::replace(last, Reported { at: now, since: 0, ever: last.ever }).since)
    }

    /// Makes one kind news again; says how often it has happened, if it has.
    fn forget_kind(&self, kind: &str) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(kind).map(|reports| reports.ever)
    }
}

#[cfg(test)]
mod tests;
