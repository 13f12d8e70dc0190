//! A bound for log lines: whatever a sink, AWS or the data do, a kind of line comes at most [`LINES_A_MINUTE`] times a minute for a table.
//!
//! Contract:
//! - A kind is a place in the program that logs, with the fields `code` and `table` of what it logs: no text, however it varies, makes
//!   another one. So an event that is added later is bounded without anybody thinking of it, and libraries' lines are, too.
//! - What is left out is counted, and said a minute after the first of it ([`report_left_out`]), with level and code of its kind.
//! - `debug` and `trace` are not bounded: who asks for them wants all.
//! - So many kinds at most are told apart that memory is bounded; beyond them, tables of one kind share its lines.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, dispatcher};
use tracing_subscriber::layer::{Context, Layer};

use super::events::{LEFT_OUT_TARGET, LinesLeftOut};

/// How many lines of a kind there are in a minute.
pub(super) const LINES_A_MINUTE: u32 = 10;

pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// More tables of kinds than these share their kind's lines.
const MAX_KINDS: usize = 4096;

/// How much of a message is repeated where lines are left out, in characters.
const LONGEST_MESSAGE: usize = 100;

/// Says how many lines were left out, where that is due, or all of it at the end: to whoever listens to this thread.
pub fn report_left_out(now: Instant, is_end: bool) {
    let left_out = dispatcher::get_default(|dispatch| {
        dispatch.downcast_ref::<LineLimiter>().map(|limiter| limiter.take_left_out(now, is_end))
    });
    for LeftOut { labels, level, message, times } in left_out.unwrap_or_default() {
        let [code, table] = [&labels.code, &labels.table].map(|label| Some(&**label).filter(|label| !label.is_empty()));
        LinesLeftOut { level, code, table, message: &message, times }.emit();
    }
}

/// Lets so many lines through.
#[derive(Debug, Default)]
pub(super) struct LineLimiter(Mutex<BTreeMap<KindKey, Kind>>);

/// Where a line is logged, as tracing names the place, and what it is labelled with.
type KindKey = (&'static str, Labels);

/// What tells the lines of a place apart; empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    code: String,
    table: String,
}

#[derive(Debug)]
struct Kind {
    /// When the minute began, and how many lines there were in it.
    since: Instant,
    lines: u32,
    left_out: Option<(Instant, LeftOut)>,
}

/// Lines that were left out and not told of.
#[derive(Debug)]
struct LeftOut {
    labels: Labels,
    level: Level,
    message: String,
    times: u64,
}

impl<S: Subscriber> Layer<S> for LineLimiter {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        *metadata.level() > Level::INFO || metadata.target() == LEFT_OUT_TARGET || self.admits(event, Instant::now())
    }
}

impl LineLimiter {
    fn admits(&self, event: &Event<'_>, now: Instant) -> bool {
        // What others wrote to format their values runs before the lock is held.
        let (mut labels, message) = (Labels::default(), beginning(event));
        event.record(&mut labels);
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key_for(&mut kinds, event.metadata().name(), labels, now);
        let labels = key.1.clone();
        let kind = kinds.entry(key).or_insert_with(|| Kind { since: now, lines: 0, left_out: None });
        if now.duration_since(kind.since) >= MINUTE {
            (kind.since, kind.lines) = (now, 0);
        }
        if kind.lines < LINES_A_MINUTE {
            kind.lines += 1;
            return true;
        }
        let level = *event.metadata().level();
        let (_, left_out) = kind.left_out.get_or_insert((now, LeftOut { labels, level, message, times: 0 }));
        left_out.times += 1;
        false
    }

    fn take_left_out(&self, now: Instant, is_end: bool) -> Vec<LeftOut> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = kinds.values_mut().filter_map(|kind| {
            let left_out = kind.left_out.take_if(|(since, _)| is_end || now.duration_since(*since) >= MINUTE);
            left_out.map(|(_, left_out)| left_out)
        });
        due.collect()
    }
}

/// The key of a kind; that of all tables where there are too many.
fn key_for(kinds: &mut BTreeMap<KindKey, Kind>, name: &'static str, labels: Labels, now: Instant) -> KindKey {
    let key = (name, labels);
    if kinds.len() >= MAX_KINDS && !kinds.contains_key(&key) {
        kinds.retain(|_, kind| kind.left_out.is_some() || now.duration_since(kind.since) < MINUTE);
    }
    if kinds.len() < MAX_KINDS || kinds.contains_key(&key) { key } else { (name, Labels::default()) }
}

/// The beginning of what a line says: what follows is another text each time.
fn beginning(event: &Event<'_>) -> String {
    let mut message = Message::default();
    event.record(&mut message);
    let beginning = message.0.split(": ").next().unwrap_or_default();
    beginning.chars().take(LONGEST_MESSAGE).collect()
}

impl Visit for Labels {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "code" => value.clone_into(&mut self.code),
            "table" => value.clone_into(&mut self.table),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

/// What a line says.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            // A string takes everything.
            let _ = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests;
