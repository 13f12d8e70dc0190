//! What people really run: sinks, files, clusters and credentials as public reports of this field's programs describe them. The real
//! binary, one file a kind, each with a table of its members.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // it runs in real time

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod raw_sink;
