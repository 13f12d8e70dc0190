//! A backlog of many items that is delivered through a governor to a model: one event of an item at a time, retries after a
//! pause with full jitter. Virtual time, and timers that tick in milliseconds as the runtime's do.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use dynamodb_streams_adapter::delivery::sink_controller::{AttemptKind, Permit};
use fastrand::Rng;
use tokio::time::Instant;

use super::governors::{CONCURRENCY, Ended, Governor};
use super::models::{Answer, Arrival, Model, millis, seconds};

/// A run.
pub struct Plan {
    pub items: usize,
    /// Events in a request, at most.
    pub batch: usize,
    pub length: Duration,
    pub seed: u64,
}

/// An event that was delivered.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    pub at: Duration,
    pub attempts: u32,
    /// The last attempt.
    pub took: Duration,
    /// From the first attempt's start to the last one's: what failures cost it.
    pub delayed: Duration,
}

/// A request that was started.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    pub at: Duration,
    pub is_down: bool,
    pub answered: Duration,
    pub answer: Answer,
    pub item: u64,
}

#[derive(Debug, Default)]
pub struct Story {
    pub deliveries: Vec<Delivery>,
    pub starts: Vec<Start>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Lane {
    attempts: u32,
    first: Duration,
}

struct UnderWay {
    lanes: Vec<usize>,
    kind: AttemptKind,
    start: Duration,
    answer: Answer,
    permit: Option<Permit>,
}

struct Loop<'a> {
    plan: &'a Plan,
    governor: &'a mut dyn Governor,
    model: &'a mut dyn Model,
    chance: Rng,
    epoch: Instant,
    now: Duration,
    lanes: Vec<Lane>,
    ready: VecDeque<usize>,
    retries: BinaryHeap<Reverse<(Duration, usize)>>,
    retry_was_last: bool,
    retries_under_way: usize,
    under_way: Vec<Option<UnderWay>>,
    ends: BinaryHeap<Reverse<(Duration, usize)>>,
    story: Story,
}

/// Delivers for as long as the plan says.
pub fn run(plan: &Plan, governor: &mut dyn Governor, model: &mut dyn Model) -> Story {
    let mut run = Loop {
        plan,
        governor,
        model,
        chance: Rng::with_seed(plan.seed),
        epoch: Instant::now(),
        now: Duration::ZERO,
        lanes: vec![Lane::default(); plan.items],
        ready: (0..plan.items).collect(),
        retries: BinaryHeap::new(),
        retry_was_last: false,
        retries_under_way: 0,
        under_way: Vec::new(),
        ends: BinaryHeap::new(),
        story: Story::default(),
    };
    while run.now < plan.length {
        let allowed = run.start_all();
        run.now = run.next_moment(allowed);
        run.end_all();
    }
    run.story
}

impl Loop<'_> {
    /// Starts what may start; returns when the next may.
    fn start_all(&mut self) -> Option<Instant> {
        loop {
            let now = self.epoch + self.now;
            let allowed = self.governor.may_start(now);
            if self.ends.len() >= CONCURRENCY || allowed.is_none_or(|at| at > now) {
                return allowed;
            }
            if !self.start_one(now) {
                return None;
            }
        }
    }

    fn start_one(&mut self, now: Instant) -> bool {
        let is_due = self.retries.peek().is_some_and(|retry| retry.0.0 <= self.now);
        let may_retry = is_due && self.retries_under_way < CONCURRENCY / 2;
        let retry = may_retry && (!self.retry_was_last || self.ready.is_empty());
        let most = if self.governor.is_down() { 1 } else { self.plan.batch };
        let mut lanes = Vec::new();
        while lanes.len() < most {
            let lane = if retry {
                self.retries.peek().filter(|retry| retry.0.0 <= self.now).map(|retry| retry.0.1)
            } else {
                self.ready.pop_front()
            };
            let Some(lane) = lane else { break };
            if retry {
                self.retries.pop();
            }
            lanes.push(lane);
        }
        if lanes.is_empty() {
            return false;
        }
        self.retry_was_last = retry;
        self.retries_under_way += usize::from(retry);
        let kind = if retry { AttemptKind::Retry } else { AttemptKind::FirstAttempt };
        self.send(lanes, kind, now);
        true
    }

    fn send(&mut self, lanes: Vec<usize>, kind: AttemptKind, now: Instant) {
        for lane in &lanes {
            let lane = &mut self.lanes[*lane];
            if lane.attempts == 0 {
                lane.first = self.now;
            }
            lane.attempts += 1;
        }
        let is_down = self.governor.is_down();
        let item = lanes[0] as u64;
        let permit = self.governor.started(kind, lanes.len(), now);
        let (after, answer) = self.model.arrive(Arrival { item, events: lanes.len() }, self.now, &mut self.chance);
        let answered = self.now + after;
        self.story.starts.push(Start { at: self.now, is_down, answered, answer, item });
        self.ends.push(Reverse((answered, self.under_way.len())));
        self.under_way.push(Some(UnderWay { lanes, kind, start: self.now, answer, permit }));
    }

    fn next_moment(&self, allowed: Option<Instant>) -> Duration {
        let end = self.ends.peek().map(|end| end.0.0);
        let retry = self.retries.peek().map(|retry| retry.0.0).filter(|due| *due > self.now);
        let allowed = allowed.map(|at| at.saturating_duration_since(self.epoch)).filter(|at| *at > self.now);
        let has_place = self.ends.len() < CONCURRENCY;
        let timer = retry.into_iter().chain(allowed).filter(|_| has_place).min();
        let tick = timer.map(|at| millis(at.as_nanos().div_ceil(1_000_000) as u64));
        end.into_iter().chain(tick).min().unwrap_or(self.plan.length)
    }

    fn end_all(&mut self) {
        while let Some(Reverse((at, number))) = self.ends.peek().copied().filter(|end| end.0.0 <= self.now) {
            self.ends.pop();
            let under_way = self.under_way[number].take().expect("a request ends once");
            self.end_one(under_way, at);
        }
    }

    fn end_one(&mut self, under_way: UnderWay, at: Duration) {
        self.retries_under_way -= usize::from(under_way.kind == AttemptKind::Retry);
        let took = at - under_way.start;
        let lane = under_way.lanes[0] as u64;
        let ended = Ended { lane, answer: under_way.answer, took, waiting_lanes: self.plan.items };
        self.governor.ended(under_way.permit, &ended, self.epoch + self.now);
        for lane in under_way.lanes {
            let Lane { attempts, first } = self.lanes[lane];
            match under_way.answer {
                Answer::Accepted => {
                    let delayed = under_way.start - first;
                    self.story.deliveries.push(Delivery { at, attempts, took, delayed });
                    self.lanes[lane] = Lane::default();
                    self.ready.push_back(lane);
                }
                Answer::Congested(retry_after) => {
                    let ceiling = millis(100 << attempts.min(12)).min(seconds(30));
                    let pause = millis(100) + (ceiling - millis(100)).mul_f64(self.chance.f64());
                    let pause = pause.max(retry_after.unwrap_or_default().min(seconds(30)));
                    self.retries.push(Reverse((self.now + pause, lane)));
                }
            }
        }
    }
}
