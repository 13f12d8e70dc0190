//! What the wild does: answers, files, clusters and credentials as people really have them. One file a kind, each with a table.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // it runs in real time

#[path = "../support/mod.rs"]
mod support;

#[path = "../check/harness.rs"]
#[allow(dead_code)] // no test uses all of it
mod harness;
#[path = "../check/server.rs"]
#[allow(dead_code)]
mod server;

mod outages;
mod pages;
mod proxies;
mod service;
mod sources;
mod texts;
mod trust;
