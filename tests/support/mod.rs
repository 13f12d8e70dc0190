//! What behaviour tests are made of: a scripted AWS, a scripted sink, the real binary, and an oracle that knows every write.
#![allow(dead_code, unused_imports)] // no test uses all of it
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed
#![allow(clippy::disallowed_methods)] // it runs in real time

pub mod adapter;
pub mod aws;
pub mod body;
pub mod emulator;
pub mod oracle;
pub mod positions_table;
pub mod proxy;
pub mod schemas;
pub mod silent;
pub mod sink;
pub mod tls;

use std::time::{Duration, Instant};

/// How long a condition may take that has nothing to do with speed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until a condition holds; fails with what was waited for.
pub async fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    wait_within(PATIENCE, what, condition).await;
}

/// Like [`wait_for`], with a limit of its own.
pub async fn wait_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < limit, "waited {limit:?} in vain for this: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
