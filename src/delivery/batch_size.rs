//! How many bytes go into one batch: fewer after one that was too much for the sink, more again while none is. Pure.
//!
//! Contract: a batch that was too much is followed by one of half its size. Batches that are accepted grow to the configured size again;
//! a size that was too much is tried again the more seldom the more often it was. One event always fits.

use crate::sink::{SinkResponse, TransportError};

/// So many batches are accepted before a size is tried that was too much once; twice as many after each time that it is too much again.
const PATIENCE_MIN: u32 = 8;
const PATIENCE_MAX: u32 = 1024;

/// The size of the next batch.
#[derive(Debug)]
pub struct BatchSize {
    most: usize,
    now: usize,
    /// What was too much the last time.
    too_much: usize,
    /// How many batches have to be accepted before that is tried again, and how many were since the size has changed.
    patience: u32,
    accepted: u32,
}

impl BatchSize {
    /// At most so many bytes.
    pub fn new(most: usize) -> Self {
        Self { most, now: most, too_much: usize::MAX, patience: 0, accepted: 0 }
    }

    /// From so many bytes on, the next batch is full.
    pub fn bytes(&self) -> usize {
        self.now
    }

    /// A batch of so many bytes and events got this answer.
    pub fn answered(&mut self, bytes: usize, events: usize, answer: &SinkResponse) {
        match answer {
            SinkResponse::Accepted { .. } if bytes > self.now / 2 => self.grow(bytes),
            // Of several of one size that were under way the first one is news.
            _ if events > 1 && is_too_much(answer) && bytes / 2 < self.now => {
                self.patience = self.patience.saturating_mul(2).clamp(PATIENCE_MIN, PATIENCE_MAX);
                (self.now, self.too_much, self.accepted) = (bytes / 2, bytes, 0);
            }
            _ => {}
        }
    }

    fn grow(&mut self, accepted: usize) {
        self.accepted += 1;
        if accepted >= self.too_much {
            self.too_much = usize::MAX;
        }
        let next = self.now.saturating_add(self.now / 8 + 1).min(self.most);
        if next >= self.too_much && self.accepted < self.patience {
            return;
        }
        (self.now, self.accepted) = (next, 0);
        if next == self.most {
            self.patience = 0;
        }
    }
}

/// Whether fewer events may work where these did not: the sink, or a proxy before it, had not enough time or room for them.
fn is_too_much(answer: &SinkResponse) -> bool {
    match answer {
        SinkResponse::Failed { error, .. } => *error == TransportError::Timeout,
        SinkResponse::Refused { status, .. } => matches!(status.as_u16(), 408 | 413 | 504),
        SinkResponse::Accepted { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;

    use super::*;
    use crate::sink::BodyEnd;

    fn refused(status: u16) -> SinkResponse {
        let status = StatusCode::from_u16(status).expect("a status");
        SinkResponse::Refused { status, retry_after: None, body_start: Bytes::new() }
    }

    fn failed(error: TransportError) -> SinkResponse {
        SinkResponse::Failed { error, message: String::new() }
    }

    fn accepted() -> SinkResponse {
        SinkResponse::Accepted { status: StatusCode::OK, body: Bytes::new(), end: BodyEnd::Whole }
    }

    #[test]
    fn a_batch_that_is_too_much_is_followed_by_one_of_half_its_size() {
        for answer in [failed(TransportError::Timeout), refused(408), refused(413), refused(504)] {
            let mut size = BatchSize::new(1000);
            size.answered(900, 9, &answer);
            assert_eq!(size.bytes(), 450, "{answer:?}");
            size.answered(900, 9, &answer);
            assert_eq!(size.bytes(), 450, "several were under way: {answer:?}");
            size.answered(400, 4, &answer);
            assert_eq!(size.bytes(), 200, "{answer:?}");
        }
    }

    #[test]
    fn what_fails_for_another_reason_or_alone_changes_nothing() {
        let mut size = BatchSize::new(1000);
        for answer in [failed(TransportError::Connect), failed(TransportError::Reset), refused(400), refused(503)] {
            size.answered(900, 9, &answer);
            assert_eq!(size.bytes(), 1000, "{answer:?}");
        }
        size.answered(900, 1, &failed(TransportError::Timeout));
        assert_eq!(size.bytes(), 1000, "there is no smaller request than one event");
    }

    /// A sink that takes so many bytes within the timeout, for each such number.
    #[test]
    fn batches_find_the_size_that_a_sink_takes_and_the_configured_one_again() {
        for takes in [20, 100, 999] {
            let (mut size, mut failures) = (BatchSize::new(1000), 0);
            for _ in 0..100 {
                let bytes = size.bytes().max(1);
                let is_taken = bytes <= takes;
                failures += usize::from(!is_taken);
                let answer = if is_taken { accepted() } else { failed(TransportError::Timeout) };
                size.answered(bytes, bytes.max(2), &answer);
            }
            assert!(failures <= 10, "of 100 batches {failures} were too much for a sink that takes {takes} bytes");
            for _ in 0..2 * PATIENCE_MAX {
                size.answered(size.bytes(), 1, &accepted());
            }
            assert_eq!(size.bytes(), 1000, "a sink that is fast again");
        }
    }

    #[test]
    fn small_batches_that_are_accepted_say_nothing_about_large_ones() {
        let mut size = BatchSize::new(1000);
        size.answered(900, 9, &failed(TransportError::Timeout));
        for _ in 0..100 {
            size.answered(10, 1, &accepted());
        }
        assert_eq!(size.bytes(), 450);
    }
}
