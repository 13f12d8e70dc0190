//! What leaves together, and how much may.

use std::time::Duration;

use tokio::time::Instant;

use super::LaneKey;

/// How many requests, and what goes into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests under way; at least one is allowed.
    pub concurrency: usize,
    /// The most events in one request; 1 where requests carry one.
    pub events: usize,
    /// From about so many bytes on, a request is full.
    pub bytes: usize,
    /// How long an event waits for others to leave with it.
    pub wait: Duration,
}

impl Limits {
    /// One event a request, and so many requests.
    pub fn singly(concurrency: usize) -> Self {
        Self { concurrency, events: 1, bytes: usize::MAX, wait: Duration::ZERO }
    }
}

/// The kinds of departures; each has its own queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Events that were never tried.
    Fresh,
    /// One event that failed before.
    Repeat,
    /// One event to the dead-letter sink.
    Letter,
}

/// A yes or no for each kind of departure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Classes {
    /// For [`Class::Fresh`].
    pub fresh: bool,
    /// For [`Class::Repeat`].
    pub repeats: bool,
    /// For [`Class::Letter`].
    pub letters: bool,
}

impl Classes {
    pub const ALL: Self = Self { fresh: true, repeats: true, letters: true };
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    pub class: Class,
    /// The first lane that takes part: there always is one.
    pub first: Passengers,
    pub more: Vec<Passengers>,
}

/// The first events of one lane: they stay in it until they are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passengers {
    pub lane: LaneKey,
    /// How many, at least one.
    pub events: usize,
    /// How many attempts of the first one have failed so far.
    pub failures: u32,
    /// When the first one was tried for the first time; now, if this is that.
    pub first_try: Instant,
}

impl Departure {
    /// Everybody on board, lane by lane.
    pub fn passengers(&self) -> impl Iterator<Item = &Passengers> + Clone {
        std::iter::once(&self.first).chain(&self.more)
    }

    pub fn events(&self) -> usize {
        self.passengers().map(|passengers| passengers.events).sum()
    }
}
