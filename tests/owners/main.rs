//! Several processes and one table of positions over and over, by chance: the real binary, a scripted AWS, a scripted sink, an embedded
//! DynamoDB for the positions. What is judged is the whole run: nothing is lost, items keep their order, and never do two processes
//! deliver by turns. `tests/behaviour/owners.rs` has the promises to users about the same, one scene each.
//!
//! `SOAK_ROUNDS` sets how often the tests with chance repeat what they do. `POSITIONS_ENDPOINT` names another DynamoDB.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // it runs in real time

#[path = "../support/mod.rs"]
mod support;

mod accidents;
mod group;
mod rollovers;
