//! Sinks that are slow, limited, growing or partly broken, as pure models: a request arrives, and the model says when it answers
//! and what. Time is virtual and counted from the start, chance comes from a seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;

/// What a sink answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Accepted,
    /// 429, or 503 with or without `Retry-After`; or no connection at all.
    Congested(Option<Duration>),
}

/// A request, as far as a sink cares.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub item: u64,
    pub events: usize,
}

pub trait Model: Send {
    /// How long the answer takes, and what it is.
    fn arrive(&mut self, arrival: Arrival, now: Duration, chance: &mut Rng) -> (Duration, Answer);
}

pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Ten milliseconds, more or less.
fn usual(chance: &mut Rng) -> Duration {
    Duration::from_micros(chance.u64(7_000..13_000))
}

/// What a refusal takes.
const QUICK: Duration = millis(2);

/// Takes so many events a second, by a bucket of tokens, and answers 429 beyond.
pub struct Limited {
    pub per_second: fn(Duration) -> f64,
    pub burst: f64,
    pub retry_after: Option<Duration>,
    /// Whether it refuses everything for as long as it asks for.
    pub is_strict: bool,
    pub took: fn(Arrival, &mut Rng) -> Duration,
    pub tokens: f64,
    pub at: Duration,
    pub refuses_until: Duration,
}

impl Limited {
    pub fn new(per_second: fn(Duration) -> f64) -> Self {
        Self {
            per_second,
            burst: 25.0,
            retry_after: None,
            is_strict: false,
            took: |_, chance| usual(chance),
            tokens: 25.0,
            at: Duration::ZERO,
            refuses_until: Duration::ZERO,
        }
    }
}

impl Model for Limited {
    fn arrive(&mut self, arrival: Arrival, now: Duration, chance: &mut Rng) -> (Duration, Answer) {
        let earned = (self.per_second)(now) * now.saturating_sub(self.at).as_secs_f64();
        (self.tokens, self.at) = ((self.tokens + earned).min(self.burst), now);
        // A batch may overdraw the bucket, or a small bucket would never take it.
        if self.tokens >= 1.0 && now >= self.refuses_until {
            self.tokens -= arrival.events as f64;
            return ((self.took)(arrival, chance), Answer::Accepted);
        }
        if self.is_strict && now >= self.refuses_until {
            self.refuses_until = now + self.retry_after.unwrap_or_default();
        }
        (QUICK, Answer::Congested(self.retry_after))
    }
}

/// Takes so many events in each second of the clock, and answers 429 for the rest of it.
pub struct Windows {
    pub a_second: u32,
    pub second: u64,
    pub taken: u32,
}

impl Model for Windows {
    fn arrive(&mut self, _: Arrival, now: Duration, chance: &mut Rng) -> (Duration, Answer) {
        if self.second != now.as_secs() {
            (self.second, self.taken) = (now.as_secs(), 0);
        }
        if self.taken >= self.a_second {
            return (QUICK, Answer::Congested(None));
        }
        self.taken += 1;
        (usual(chance), Answer::Accepted)
    }
}

/// Workers that take requests in turn, a queue in front of them, and what happens to them.
pub struct Workers {
    /// When each is free.
    free: BinaryHeap<Reverse<Duration>>,
    service: Duration,
    /// Requests that it has, those in the queue included, and when each is done.
    inside: BinaryHeap<Reverse<Duration>>,
    /// How many it has at most; what comes then gets 503.
    room: usize,
    /// Every so often it stands still for so long.
    pauses: Option<(Duration, Duration)>,
    autoscaler: Option<Autoscaler>,
}

/// Adds pods as long as there are more requests under way than so many a pod, and waits until a new one is warm.
struct Autoscaler {
    pods: usize,
    slots: usize,
    target: f64,
    cold_start: Duration,
    concurrency: f64,
    at: Duration,
    decided: Duration,
}

impl Workers {
    pub fn new(workers: usize, service: Duration, room: usize) -> Self {
        let free = (0..workers).map(|_| Reverse(Duration::ZERO)).collect();
        Self { free, service, inside: BinaryHeap::new(), room, pauses: None, autoscaler: None }
    }

    pub fn with_pauses(self, every: Duration, length: Duration) -> Self {
        Self { pauses: Some((every, length)), ..self }
    }

    /// A pod has as many workers as this has now.
    pub fn with_autoscaler(self, target: f64, cold_start: Duration) -> Self {
        let slots = self.free.len();
        let (concurrency, at, decided) = (0.0, Duration::ZERO, Duration::ZERO);
        Self { autoscaler: Some(Autoscaler { pods: 1, slots, target, cold_start, concurrency, at, decided }), ..self }
    }

    fn scale(&mut self, now: Duration) {
        let inside = self.inside.len() as f64;
        let Some(scaler) = &mut self.autoscaler else { return };
        // An average over six seconds, looked at every two.
        let weight = (now.saturating_sub(scaler.at).as_secs_f64() / 6.0).min(1.0);
        scaler.concurrency += (inside - scaler.concurrency) * weight;
        scaler.at = now;
        if now < scaler.decided + seconds(2) {
            return;
        }
        scaler.decided = now;
        let wanted = (scaler.concurrency / scaler.target).ceil() as usize;
        for _ in scaler.pods..wanted {
            scaler.pods += 1;
            self.free.extend((0..scaler.slots).map(|_| Reverse(now + scaler.cold_start)));
        }
    }
}

impl Model for Workers {
    fn arrive(&mut self, _: Arrival, now: Duration, chance: &mut Rng) -> (Duration, Answer) {
        while self.inside.peek().is_some_and(|done| done.0 <= now) {
            self.inside.pop();
        }
        self.scale(now);
        if self.inside.len() >= self.room {
            return (QUICK, Answer::Congested(None));
        }
        let free = self.free.pop().map_or(now, |free| free.0);
        let mut begins = free.max(now);
        if let Some((every, length)) = self.pauses {
            let into = Duration::from_nanos((begins.as_nanos() % every.as_nanos()) as u64);
            begins += length.saturating_sub(into);
        }
        let done = begins + self.service.mul_f64(0.7 + 0.6 * chance.f64());
        self.free.push(Reverse(done));
        self.inside.push(Reverse(done));
        (done - now, Answer::Accepted)
    }
}

/// Refuses a share of the requests, whatever the rate, and leaves the others to another sink.
pub struct Random<M> {
    pub share: f64,
    pub rest: M,
}

impl<M: Model> Model for Random<M> {
    fn arrive(&mut self, arrival: Arrival, now: Duration, chance: &mut Rng) -> (Duration, Answer) {
        if chance.f64() < self.share {
            return (usual(chance), Answer::Congested(None));
        }
        self.rest.arrive(arrival, now, chance)
    }
}

/// Nobody listens for a while.
pub struct Away<M> {
    pub from: Duration,
    pub until: Duration,
    pub rest: M,
}

impl<M: Model> Model for Away<M> {
    fn arrive(&mut self, arrival: Arrival, now: Duration, chance: &mut Rng) -> (Duration, Answer) {
        if (self.from..self.until).contains(&now) {
            return (millis(1), Answer::Congested(None));
        }
        self.rest.arrive(arrival, now, chance)
    }
}
