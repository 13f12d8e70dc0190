//! Behaviour seen from outside: the real binary, a scripted AWS, a scripted sink.
//!
//! The names of these tests are the promises in `docs/semantics.md`.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // it runs in real time

#[path = "../support/mod.rs"]
mod support;

mod delivery;
mod deploy;
mod lifecycle;
mod modes;
mod outage;
mod owners;
mod positions;
mod positions_table;
mod promises;
mod repetitions;
mod shards;
mod start;
mod status;
mod tls;
mod troubles;
mod undeliverable;
