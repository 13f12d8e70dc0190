//! The status page as people see it, in a real browser. `tests/page/run` installs what it needs.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

#[path = "../support/mod.rs"]
mod support;

mod browser;
mod canned;
mod freshness;
mod running;
mod view;
