//! `check` as people and init containers use it: the real binary against a scripted AWS, STS and sink.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // it runs in real time

#[path = "../support/mod.rs"]
mod support;

mod arguments;
mod aws;
mod clock;
mod denied;
mod harness;
mod positions_table;
mod secrets;
mod server;
mod sink;
mod store;
mod whole;
