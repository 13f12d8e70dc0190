//! What waits in lanes, and what leaves them together. Pure.

use std::ops::{AddAssign, SubAssign};
use std::time::Duration;

use tokio::time::Instant;

use super::sink_controller::AttemptKind;

/// Identifies a lane. Two items whose keys collide share a lane, which costs some speed and no order.
pub type LaneKey = u64;

/// What lanes need to know of an event.
pub trait LaneItem {
    /// Called when the event is going to be kept for long: let go of what it shares with others.
    fn detach(&mut self) {}

    /// About how many bytes it adds to a request.
    fn size(&self) -> usize {
        0
    }

    /// What it has to do with barriers.
    fn barrier_role(&self) -> BarrierRole {
        BarrierRole::None
    }

    /// Whether it comes again if it is not kept.
    fn may_be_left_out(&self) -> bool {
        true
    }

    /// Whether its lane was left out while it waited behind a barrier: it comes again, behind what was left out before it.
    fn is_left_out(&self) -> bool {
        false
    }

    /// Which table it is of, counted from 0.
    fn table(&self) -> usize {
        0
    }
}

/// What an event has to do with barriers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarrierRole {
    None,
    /// It waits while a barrier of this number is there that was never tried.
    After(u64),
    /// It is a barrier, and it waits for an earlier one of the same number.
    Barrier(u64),
}

/// How many requests, and what goes into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    /// Requests under way; at least one is allowed.
    pub concurrency: usize,
    /// The most events in one request; 1 where requests carry one.
    pub events: usize,
    /// From about so many bytes on, a request is full.
    pub bytes: usize,
    /// How long an event waits for others to leave with it.
    pub wait: Duration,
}

impl RequestLimits {
    /// One event a request, and so many requests.
    pub fn singly(concurrency: usize) -> Self {
        Self { concurrency, events: 1, bytes: usize::MAX, wait: Duration::ZERO }
    }
}

/// A yes or no for each kind of attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds {
    pub first_attempts: bool,
    pub retries: bool,
    pub dead_letters: bool,
}

impl Kinds {
    /// Requests of every kind.
    pub const ALL: Self = Self { first_attempts: true, retries: true, dead_letters: true };

    /// Whether there is a kind among them at all.
    pub fn any(self) -> bool {
        self.first_attempts || self.retries || self.dead_letters
    }
}

/// Events that leave together. They are its own until somebody tells the lanes what came of them.
#[derive(Debug)]
pub struct Request<T> {
    pub kind: AttemptKind,
    /// The first lane that takes part: there always is one.
    pub first: LaneSlice<T>,
    pub more: Vec<LaneSlice<T>>,
}

/// The first events of one lane.
#[derive(Debug)]
pub struct LaneSlice<T> {
    pub lane: LaneKey,
    pub head: T,
    /// Those behind the first one, in order.
    pub rest: Vec<T>,
    /// How many attempts of the first one have failed so far.
    pub failures: u32,
    /// When the first one was tried for the first time; now, if this is that.
    pub first_try: Instant,
    /// It has the request for itself.
    pub is_alone: bool,
    /// The first one was never in a request of its own before.
    pub is_untested: bool,
}

impl<T> Request<T> {
    /// Lane by lane.
    pub fn slices(&self) -> impl Iterator<Item = &LaneSlice<T>> + Clone {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// Lane by lane, to be taken apart.
    pub fn into_slices(self) -> impl Iterator<Item = LaneSlice<T>> {
        std::iter::once(self.first).chain(self.more)
    }

    /// How many events it carries.
    pub fn events(&self) -> usize {
        self.slices().map(LaneSlice::len).sum()
    }
}

impl<T> LaneSlice<T> {
    /// In order.
    pub fn events(&self) -> impl Iterator<Item = &T> + Clone {
        std::iter::once(&self.head).chain(&self.rest)
    }

    /// In order, to be kept.
    pub fn into_events(self) -> impl DoubleEndedIterator<Item = T> {
        std::iter::once(self.head).chain(self.rest)
    }

    /// How many events it has; at least one.
    #[expect(clippy::len_without_is_empty, reason = "none is empty")]
    pub fn len(&self) -> usize {
        1 + self.rest.len()
    }
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LaneLoad {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

impl LaneLoad {
    pub(super) fn of(event: &impl LaneItem) -> Self {
        Self { events: 1, bytes: event.size() }
    }
}

impl AddAssign for LaneLoad {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.bytes += other.bytes;
    }
}

impl SubAssign for LaneLoad {
    fn sub_assign(&mut self, other: Self) {
        self.events -= other.events;
        self.bytes -= other.bytes;
    }
}
