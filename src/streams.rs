//! From a table to its records: which stream, which shards, which pages; and the pace of calls that AWS limits for the whole
//! account.

pub mod budget;
pub mod client;
pub mod discovery;
pub mod follow;
pub mod lineage;
pub mod pace;
pub mod reading;
pub mod shard_reader;
pub mod stream_locator;
pub mod stream_reader;
pub mod update;

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Lets calls pass at an even rate, whoever makes them.
///
/// Even spacing, not a bucket with a burst: then no window of a second ever holds more than the rate.
#[derive(Debug)]
pub struct RateLimiter {
    interval: Duration,
    next: Mutex<Option<Instant>>,
}

impl RateLimiter {
    /// `DescribeStream` is limited to 10 calls a second for an account; one process stays below that.
    ///
    /// Source: "Quotas for DynamoDB Streams" in the DynamoDB Developer Guide.
    pub fn describe_stream() -> Self {
        Self::every(Duration::from_millis(125))
    }

    /// One call each `interval`.
    pub fn every(interval: Duration) -> Self {
        Self { interval, next: Mutex::new(None) }
    }

    /// Waits for this call's turn.
    pub async fn wait_turn(&self) {
        sleep_until(self.book_turn()).await;
    }

    /// The moment of this call's turn, for those who wait themselves.
    pub fn book_turn(&self) -> Instant {
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let turn = next.map_or(now, |next| next.max(now));
        *next = Some(turn + self.interval);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_second_ever_holds_more_than_ten_calls() {
        let rate = RateLimiter::describe_stream();
        let mut calls = Vec::new();
        for n in 0..100u64 {
            if n % 17 == 0 {
                tokio::time::advance(Duration::from_millis(n * 7)).await;
            }
            rate.wait_turn().await;
            calls.push(Instant::now());
        }
        for window in calls.windows(11) {
            assert!(window[10] - window[0] >= Duration::from_secs(1), "eleven calls within a second");
        }
    }
}
