//! How many requests a second are offered to the sink and taken by it. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// How often requests start: since a mark that is 32 to 64 requests old.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Offered {
    marks: [Option<Instant>; 2],
    starts: [u32; 2],
}

impl Offered {
    const A_MARK: u32 = 32;

    pub(super) fn count(&mut self, now: Instant) {
        if self.starts[1] >= Self::A_MARK || self.marks[1].is_none() {
            self.marks = [self.marks[1].or(Some(now)), Some(now)];
            self.starts = [self.starts[1], 0];
        }
        self.starts[1] += 1;
    }

    /// Requests a second.
    pub(super) fn rate(&self, now: Instant) -> f64 {
        let since = self.marks[0].map_or(Duration::ZERO, |mark| now.saturating_duration_since(mark));
        f64::from(self.starts[0] + self.starts[1]) / since.as_secs_f64().max(0.001)
    }
}

/// What the sink takes, over the last second and over a longer time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    since: Option<Instant>,
    count: u32,
    second: Option<Instant>,
    in_second: u32,
    second_before: f64,
}

impl Taken {
    const SECOND: Duration = Duration::from_secs(1);
    /// A shorter time tells no average.
    const SHORT: f64 = 0.2;

    /// Counts from a moment on, which may be to come.
    pub(super) fn from(moment: Instant) -> Self {
        Self { since: Some(moment), count: 0, second: Some(moment), in_second: 0, second_before: 0.0 }
    }

    pub(super) fn count(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        self.count = self.count.saturating_add(1);
        self.in_second += 1;
        let length = now.saturating_duration_since(*self.second.get_or_insert(now));
        if length >= Self::SECOND {
            self.second_before = f64::from(self.in_second) / length.as_secs_f64();
            (self.second, self.in_second) = (Some(now), 0);
        }
    }

    /// Requests a second in the last whole second; zero before there was one.
    pub(super) fn second_before(&self) -> f64 {
        self.second_before
    }

    /// Requests a second in the last whole second and in what has passed of the next; nothing before a second has passed.
    pub(super) fn lately(&self, now: Instant) -> Option<f64> {
        let length = self.second.map_or(0.0, |second| now.saturating_duration_since(second).as_secs_f64());
        let before = if self.second_before > 0.0 { 1.0 } else { 0.0 };
        (before + length >= 1.0).then(|| (self.second_before + f64::from(self.in_second)) / (before + length))
    }

    /// Requests a second from the beginning until now, if that is long enough to tell; it begins again.
    pub(super) fn average(&mut self, now: Instant) -> Option<f64> {
        let since = self.since.replace(now)?;
        let count = std::mem::take(&mut self.count);
        let length = now.saturating_duration_since(since).as_secs_f64();
        (length > Self::SHORT).then(|| f64::from(count) / length)
    }
}
