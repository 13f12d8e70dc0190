//! Reads the change streams of DynamoDB tables and posts every change as a CloudEvent.
//!
//! Three promises hold together: nothing is lost, an item's changes arrive in order, and one slow or broken event
//! never stops the others. `docs/semantics.md` states them with their conditions; each is the name of a test.
//!
//! # The rooms
//!
//! From the ground up; a room imports only rooms above its own row. `tests/house` holds which room may import which.
//!
//! | room | subject | |
//! |---|---|---|
//! | [`clock`], [`backoff`], `error_text`, [`command_output`], `spare_files`, `memory_limit`, [`ports`] | wall time, pauses, errors as text, exit codes, file descriptors kept back, the memory that is allowed, listening | leaves |
//! | [`readiness`] | what is waited for, and what stands still | no I/O |
//! | [`records`] | what is read, as AWS sent it: page, record, item key, position, gap | no I/O |
//! | [`telemetry`] | metrics and logs | |
//! | [`config`] | environment variables to [`config::Config`] | no I/O |
//! | [`aws`] | credentials, region and endpoints of every AWS client; what a refusal means | |
//! | [`event`] | record to CloudEvent to HTTP message | no I/O |
//! | [`sink`] | one attempt over HTTP: connections, TLS, credentials | |
//! | [`lease`] | who may read a table and write its positions | |
//! | [`checkpoint`] | where positions are stored | |
//! | [`progress`] | from settled events to the positions that are safe to store | no I/O |
//! | [`streams`] | table, stream, shards, pages | |
//! | [`delivery`] | when and how often: lanes, retries, dead letters | |
//! | [`pipeline`] | from the pages of one table to its events | |
//! | [`admin`] | probes, `/metrics`, `/status`, the page | |
//! | [`check`] | the subcommand that tries the same parts before a start | |
//! | `scaler` | with the feature `scaler`: what KEDA scales targets by, over gRPC | |
//! | [`commands`] | the list of subcommands and their arguments | no I/O |
//! | [`app`] | puts the parts together, watches them, and takes them down | |
//!
//! # The life of a record
//!
//! 1. `streams/shard_reader` says when the next page is due, reserves room in `progress/buffer`, and asks for it through
//!    `streams/client/observed`, which counts the call and tells [`readiness`] how it ended.
//! 2. `streams/client/aws` takes the response's body before the SDK decodes it; `records/page` finds every record in one pass,
//!    with its place (`records/position`) and its key (`records/item_key`). A [`records::Record`] is views into the page.
//! 3. The shard's reader makes entries of the page: records, and gaps where continuity fails. [`pipeline`] enters them, in order,
//!    in the table's progress (`progress/table_tracker`), where each is owed by the lane of its item until it is settled.
//! 4. `delivery/dispatcher` takes the events in. `delivery/lanes` says whose turn it is: a lane has one event under way, and what is
//!    behind a gap waits for it. `delivery/sink_controller` says whether the sink may get one now; where processes share the store, a
//!    [`lease::Tenure`] says whether this one may send it.
//! 5. `event/encoder` makes the message: attributes by `event/profile`, data by `event/data`, headers and body by `event/http`.
//! 6. `sink/http` posts it with the newest `sink/credentials`, on a connection of its pool, and returns a [`sink::SinkResponse`].
//! 7. `delivery/settlement` settles the event, or asks `delivery/retry` when and whether to try again.
//! 8. `progress/shard_progress` notes it as settled; `progress/checkpointer` stores what has changed, as [`checkpoint`] promises. From
//!    here on no restart sends the record again.
//!
//! # Terms
//!
//! | term | what it is |
//! |---|---|
//! | entry | what a shard brings: a record, or a gap where continuity cannot be proved |
//! | lane | the queue of one item's events; with order by shard, of one lineage's |
//! | settled | an event that was acknowledged, dead-lettered or dropped |
//! | position | the place in a shard behind which reading goes on after a restart |
//! | parked | an item whose event keeps failing and is retried at the slowest pace |
//! | left out | what was read of a lane that is too long, and was given up for now: it is owed and takes no memory |
//! | pass | one more reading of a shard, by its own reader, for what is left out of it |
//! | barrier | a gap, for everything that follows it in its lineage: it is sent first |
//! | lineage | a shard with the shards that continue it after a split or a rollover |
//! | lag | the age of the oldest record that is not settled |
//! | trial request | the one request at a time that a failing sink gets |
//! | lease, tenure | one process's claim to a table in a shared store, and the time for which it holds |

#![cfg_attr(test, allow(clippy::disallowed_methods))] // unit tests may read the clock, only the rest runs in simulations

/// `tokio::select!` that polls its branches in their order: a simulation must not depend on chance that it does not draw. Put the
/// end first, and last what may always be ready.
macro_rules! select {
    ($($branches:tt)*) => {
        tokio::select! { biased; $($branches)* }
    };
}

pub mod admin;
pub mod app;
pub mod aws;
pub mod backoff;
pub mod check;
pub mod checkpoint;
pub mod clock;
pub mod command_output;
pub mod commands;
pub mod config;
pub mod delivery;
mod error_text;
pub mod event;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod lease;
mod memory_limit;
pub mod pipeline;
pub mod ports;
pub mod progress;
pub mod readiness;
pub mod records;
#[cfg(feature = "scaler")]
pub mod scaler;
pub mod sink;
mod spare_files;
pub mod streams;
pub mod telemetry;
