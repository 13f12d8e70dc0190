//! Reads the change streams of DynamoDB tables and posts every change as a CloudEvent.
//!
//! Three promises hold together: nothing is lost, an item's changes arrive in order, and one slow or broken event
//! never stops the others. `docs/semantics.md` states them precisely; each is the name of a test.
//!
//! The modules follow a record's journey from the top down, and so do their imports:
//!
//! | module | subject | |
//! |---|---|---|
//! | [`config`] | environment to [`config::Config`] | no I/O |
//! | [`streams`] | table, stream, shards, pages of records | |
//! | [`event`] | record to CloudEvent | no I/O |
//! | [`delivery`] | CloudEvent to sink: lanes, retries, the HTTP client | |
//! | [`progress`] | settled events to the positions that are safe to store | no I/O |
//! | [`pipeline`] | one table's way through all of these | |
//! | [`checkpoint`] | where positions live | |
//! | [`telemetry`] | metrics, logs, health | |
//! | [`admin`] | probes, `/metrics`, `/status` | |
//! | [`check`] | the same parts tried without an event, before or beside a running adapter | |
//! | [`app`] | puts the parts together and takes them down | |
//! | [`clock`], [`backoff`], [`command_output`], `error_text` | wall time, pauses, exit codes, errors as text: below all | |

#![cfg_attr(test, allow(clippy::disallowed_methods))] // unit tests may read the clock, only the rest runs in simulations

pub mod admin;
pub mod app;
pub mod aws;
pub mod backoff;
pub mod check;
pub mod checkpoint;
pub mod clock;
pub mod command_output;
pub mod config;
pub mod delivery;
mod error_text;
pub mod event;
pub mod pipeline;
pub mod progress;
pub mod readiness;
pub mod streams;
pub mod telemetry;
