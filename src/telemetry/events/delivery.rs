//! What happens between the adapter and its sink, and its store.

use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::telemetry::TableTelemetry;

/// An item's event keeps failing.
pub struct ItemParked<'a> {
    /// A hash of the item's key.
    pub item: &'a str,
    pub event: &'a str,
    /// What the sink said last.
    pub why: &'a str,
    /// How often it failed.
    pub failures: u32,
}

impl ItemParked<'_> {
    /// Logs it; parked items are counted by their gauge.
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let (item, event, failures) = (self.item, self.event, self.failures);
        let text = format!("item {item} is parked behind event {event}, other items continue: {}", self.why);
        telemetry.recent().add("DSA-ITEM-PARKED", &text);
        warn!(
            code = "DSA-ITEM-PARKED",
            table = telemetry.table(),
            item,
            event,
            failures,
            "item parked, its oldest event keeps failing, other items continue: {}",
            self.why
        );
    }
}

/// A request to a sink has ended.
pub struct AttemptEnded<'a> {
    /// The `id` of the first event in it.
    pub event: &'a str,
    pub events: usize,
    /// A status, or a fault in one word.
    pub code: &'a str,
    /// How long it took.
    pub took: Duration,
}

impl AttemptEnded<'_> {
    /// Whether anybody wants to hear of single attempts.
    pub fn is_wanted() -> bool {
        tracing::enabled!(tracing::Level::DEBUG)
    }

    /// Logs it to those who follow single events.
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let (table, event, events, code) = (telemetry.table(), self.event, self.events, self.code);
        debug!(table, event, events, code, took_seconds = self.took.as_secs_f64(), "attempt ended");
    }
}

/// An event was not taken and is tried again.
pub struct DeliveryFailed<'a> {
    pub why: &'a str,
}

impl DeliveryFailed<'_> {
    /// Logs it, the first time and then once a minute; attempts are counted where they end.
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let code = "DSA-DELIVERY-FAILED";
        let Some(times) = telemetry.warning_due(code, self.why) else { return };
        warn!(code, table = telemetry.table(), times, "delivery failed, retrying: {}", self.why);
    }
}

/// An event is given up, because the policy says so.
pub struct EventDropped<'a> {
    /// A hash of the item's key.
    pub item: &'a str,
    pub event: &'a str,
    /// What the sink said last.
    pub why: &'a str,
    /// How often it was tried.
    pub attempts: u32,
}

impl EventDropped<'_> {
    /// Logs it, the first time and then once a minute; dropped events are counted where they are settled.
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let code = "DSA-EVENT-DROPPED";
        let Some(times) = telemetry.warning_due(code, self.why) else { return };
        let (table, item, event, attempts) = (telemetry.table(), self.item, self.event, self.attempts);
        error!(code, table, item, event, attempts, times, "undeliverable event dropped: {}", self.why);
    }
}

/// An event goes to the dead-letter sink.
pub struct EventDeadLettered<'a> {
    /// A hash of the item's key.
    pub item: &'a str,
    pub event: &'a str,
    /// What the sink said last.
    pub why: &'a str,
    /// How often it was tried.
    pub attempts: u32,
}

impl EventDeadLettered<'_> {
    /// Logs it, the first time and then once a minute; dead letters are counted where they are settled.
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let code = "DSA-EVENT-DEAD-LETTERED";
        let Some(times) = telemetry.warning_due(code, self.why) else { return };
        let (table, item, event, attempts) = (telemetry.table(), self.item, self.event, self.attempts);
        warn!(
            code,
            table, item, event, attempts, times, "undeliverable event goes to the dead-letter sink: {}", self.why
        );
    }
}

/// The dead-letter sink did not take an event.
pub struct DeadLetterSinkFailing<'a> {
    pub why: &'a str,
}

impl DeadLetterSinkFailing<'_> {
    /// Logs it, the first time and then once a minute.
    pub fn emit(&self, telemetry: &TableTelemetry) {
        let code = "DSA-DEAD-LETTER-SINK-FAILING";
        let Some(times) = telemetry.warning_due(code, self.why) else { return };
        let table = telemetry.table();
        error!(code, table, times, "delivery to the dead-letter sink failed, retrying, the item waits: {}", self.why);
    }
}

/// The sink fails as a whole.
pub struct SinkFailing<'a> {
    /// What it said last.
    pub why: &'a str,
    /// It refuses every event for the event's own sake; else it cannot be reached or has a fault.
    pub is_refusing: bool,
}

impl SinkFailing<'_> {
    pub fn emit(&self) {
        let (code, why) = ("DSA-SINK-FAILING", self.why);
        match self.is_refusing {
            true => {
                warn!(code, "the sink refuses every event, delivery is limited to one trial request at a time: {why}")
            }
            false => warn!(code, "the sink is failing, delivery is limited to one trial request at a time: {why}"),
        }
    }
}

/// The sink works again.
pub struct SinkRecovered {
    /// How long it failed.
    pub after: Duration,
}

impl SinkRecovered {
    pub fn emit(&self) {
        info!(after_seconds = self.after.as_secs_f64(), "the sink works again");
    }
}
