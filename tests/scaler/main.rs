//! The scaler seen from outside: the real binary, a scripted AWS, and calls as KEDA makes them.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods)] // it runs in real time

#[path = "../support/mod.rs"]
mod support;

mod abuse;
mod activity;
mod budget;
mod calls;
#[allow(clippy::all, clippy::pedantic, reason = "generated")]
#[path = "../../src/scaler/externalscaler.rs"]
#[rustfmt::skip]
mod externalscaler;
mod keda;
mod lag;
mod plan;
mod replicas;
mod tls;
mod untrusted;
mod wakes;
