//! What the wild does: answers, files, clusters and credentials as people have them, tried on the real binary.
//!
//! A file a kind, each with a table of its members.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // it runs in real time

#[allow(dead_code)]
#[path = "../check/harness.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../check/server.rs"]
mod server;
#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod descriptors;
mod durability;
mod labels;
mod platform;
mod shim;
mod urls;
