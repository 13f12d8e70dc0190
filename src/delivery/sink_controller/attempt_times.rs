//! How long the latest attempts took that the sink has dealt with. Pure.

use std::time::Duration;

/// So many attempts are remembered: few enough to follow a sink that gets slower, enough for one slow request in ten.
const REMEMBERED: usize = 32;

/// A ring of the latest times, in microseconds; the empty places hold nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttemptTimes {
    micros: [u32; REMEMBERED],
    known: usize,
    next: usize,
    sum: u64,
}

impl AttemptTimes {
    pub(super) fn new() -> Self {
        Self { micros: [0; REMEMBERED], known: 0, next: 0, sum: 0 }
    }

    /// Notes an attempt; more than 71 minutes count as that.
    pub(super) fn record(&mut self, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.sum += u64::from(micros);
        self.sum -= u64::from(self.micros[self.next]);
        self.micros[self.next] = micros;
        self.next = (self.next + 1) % REMEMBERED;
        self.known = REMEMBERED.min(self.known + 1);
    }

    /// The middle one of them.
    pub(super) fn median(&self) -> Option<Duration> {
        let mut sorted = self.micros;
        let known = &mut sorted[..self.known];
        known.sort_unstable();
        known.get(self.known / 2).map(|micros| Duration::from_micros(u64::from(*micros)))
    }

    pub(super) fn mean(&self) -> Option<Duration> {
        (self.known > 0).then(|| Duration::from_micros(self.sum / self.known as u64))
    }
}
