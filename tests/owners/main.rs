//! Several processes and one table of positions: the real binary, a scripted AWS, a scripted sink, an embedded DynamoDB for the positions.
//!
//! `SOAK_ROUNDS` sets how often the tests with chance repeat what they do. `POSITIONS_ENDPOINT` names another DynamoDB.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // it runs in real time

#[path = "../support/mod.rs"]
mod support;

mod accidents;
mod group;
mod rollovers;
