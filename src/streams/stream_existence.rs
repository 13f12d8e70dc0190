//! Whether AWS knows a stream: its first answer, and how often it has to say no before it is believed.
//!
//! Contract: one denial proves nothing, AWS denies for seconds what it has shown before. A stream counts as gone when AWS has denied it
//! three times, 20 seconds apart, and has not shown it in between; and even then only if the table has another one, or the stream
//! was read to its end.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::client::{ShardQuery, StreamDescription};
use super::shard_discovery::{BETWEEN_WITNESSES, DENIALS_OF_EXISTENCE};
use super::stream_locator::StreamLocator;
use super::{ReaderContext, Step, Task};
use crate::aws::errors::{CallError, ErrorKind};
use crate::backoff::pause_after;

/// How often AWS has said that it does not know a stream, since it has last shown it.
#[derive(Debug, Default)]
pub struct Denials {
    count: u32,
    last: Option<Instant>,
}

impl Denials {
    /// A question about the stream has failed. A failure that says nothing of its existence changes nothing.
    pub fn failed(&mut self, error: &CallError, now: Instant) {
        let is_denied = error.kind == ErrorKind::NotFound;
        if is_denied && self.last.is_none_or(|last| last + BETWEEN_WITNESSES <= now) {
            (self.count, self.last) = (self.count + 1, Some(now));
        }
    }

    /// Whether they are enough to be believed. If so they are counted anew.
    pub fn take_enough(&mut self) -> bool {
        let is_enough = self.count >= DENIALS_OF_EXISTENCE;
        if is_enough {
            *self = Self::default();
        }
        is_enough
    }
}

/// The first answer for a stream, however long it takes; nothing if the stream is gone and the table has another one.
pub async fn first_answer(
    context: &ReaderContext,
    locator: &StreamLocator,
    stream: &str,
    number: u32,
    is_superseded: bool,
) -> Option<StreamDescription> {
    let (task, mut failures, mut denials) = (Task::Stream(number), 0, Denials::default());
    loop {
        match context.describe_stream(task, stream, ShardQuery::First).await {
            Ok(first) => return Some(first),
            Err(error) => {
                failures += 1;
                context.client.refused(&error);
                denials.failed(&error, Instant::now());
                if denials.take_enough() {
                    context.activity.begin(task, Step::search());
                    if is_superseded || locator.is_replaced(stream).await {
                        context.activity.end(task);
                        return None;
                    }
                }
                let due = Instant::now() + failure_pause(failures);
                context.activity.begin(task, Step::Until(due));
                sleep_until(due).await;
            }
        }
    }
}

/// How long to wait after so many questions about a stream have failed in a row.
pub fn failure_pause(failures: u32) -> Duration {
    pause_after(failures, Duration::from_millis(200), Duration::from_secs(15), fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: ErrorKind) -> CallError {
        CallError { operation: "DescribeStream", kind, code: String::new(), message: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_gone_after_three_denials_that_are_20_seconds_apart() {
        let (mut denials, begun) = (Denials::default(), Instant::now());
        let mut believed = Vec::new();
        for second in 0..100 {
            denials.failed(&refused(ErrorKind::NotFound), begun + Duration::from_secs(second));
            denials.failed(&refused(ErrorKind::Throttled), begun + Duration::from_secs(second));
            if denials.take_enough() {
                believed.push(second);
            }
        }
        assert_eq!(believed, [40, 81]);
    }
}
