//! What people really run: sinks, files, clusters and credentials as public reports of this field's programs describe them. The real
//! binary, one file a kind, each with a table of its members.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // it runs in real time

#[allow(dead_code)] // no test uses all of it
#[path = "../check/harness.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../check/server.rs"]
mod server;
#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod answers;
mod descriptors;
mod draining;
mod durability;
mod hostile_clients;
mod hostile_files;
mod hostile_sinks;
mod hostile_texts;
mod labels;
mod outages;
mod pages;
mod platform;
mod proxies;
mod raw_sink;
mod renewals;
mod service;
mod shim;
mod sources;
mod texts;
mod trust;
mod urls;
