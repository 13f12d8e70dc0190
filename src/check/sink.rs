//! The sink, one step after the other: name, connection, certificate, an answer. No event, unless one is asked for.

mod connection;
mod event;
mod files;
mod probe;

use std::time::Duration;

use self::probe::{Probe, Steps};
use super::clock::Clocks;
use super::report::Check;
use crate::config::{Config, OnUndeliverable};
use crate::sink::SinkSettings;

const EVENT: &str = "sink-event";

const SINK: Steps = Steps {
    variable: "K_SINK",
    files: "sink-files",
    dns: "sink-dns",
    tcp: "sink-tcp",
    tls: "sink-tls",
    http: "sink-http",
};

const DEAD_LETTER_SINK: Steps = Steps {
    variable: "DEAD_LETTER_SINK",
    files: "dead-letter-sink-files",
    dns: "dead-letter-sink-dns",
    tcp: "dead-letter-sink-tcp",
    tls: "dead-letter-sink-tls",
    http: "dead-letter-sink-http",
};

/// All checks of the sink, and of the one for undeliverable events where the configuration uses one.
pub(super) async fn check(config: &Config, send_event: bool, limit: Duration, clocks: &Clocks) -> Vec<Check> {
    let (events, dead_letters) =
        tokio::join!(events(config, send_event, limit, clocks), dead_letters(config, limit, clocks));
    [events, dead_letters].concat()
}

async fn events(config: &Config, send_event: bool, limit: Duration, clocks: &Clocks) -> Vec<Check> {
    let settings = SinkSettings::for_sink(config);
    let probe = Probe { sink: &config.sink, settings, steps: &SINK, limit, clocks };
    let (mut checks, failed) = probe.run().await;
    if send_event {
        checks.push(match failed {
            Some(failed) => Check::skipped(EVENT, failed),
            None => event::send(config, limit).await,
        });
    }
    checks
}

async fn dead_letters(config: &Config, limit: Duration, clocks: &Clocks) -> Vec<Check> {
    match config.dead_letter_sink.as_ref().zip(SinkSettings::for_dead_letters(config)) {
        Some((sink, settings)) if config.delivery.on_undeliverable == OnUndeliverable::DeadLetter => {
            let probe = Probe { sink, settings, steps: &DEAD_LETTER_SINK, limit, clocks };
            probe.run().await.0
        }
        _ => Vec::new(),
    }
}
