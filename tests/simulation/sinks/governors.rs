//! Who says whether one more request may start: the product's controller, and known algorithms of concurrency beside it.

use std::time::Duration;

use dynamodb_streams_adapter::delivery::sink_controller::{
    AttemptKind, AttemptReport, ControllerLimits, Outcome, Permit, SinkController,
};
use tokio::time::Instant;

use super::models::Answer;

/// How many requests may be in flight at most.
pub const CONCURRENCY: usize = 64;

/// What an ended request tells.
pub struct Ended {
    pub lane: u64,
    pub answer: Answer,
    pub took: Duration,
    pub waiting_lanes: usize,
}

pub trait Governor {
    fn may_start(&self, now: Instant) -> Option<Instant>;
    fn is_down(&self) -> bool {
        false
    }
    fn started(&mut self, kind: AttemptKind, events: usize, now: Instant) -> Option<Permit>;
    fn ended(&mut self, permit: Option<Permit>, ended: &Ended, now: Instant);
}

/// The product's.
pub struct Product(pub SinkController);

impl Product {
    pub fn new() -> Self {
        Self(SinkController::new(ControllerLimits { concurrency: CONCURRENCY, rate_max: None, keeps_refused: false }))
    }
}

impl Governor for Product {
    fn may_start(&self, now: Instant) -> Option<Instant> {
        self.0.may_start(now)
    }

    fn is_down(&self) -> bool {
        self.0.is_down()
    }

    fn started(&mut self, kind: AttemptKind, events: usize, now: Instant) -> Option<Permit> {
        Some(self.0.started(kind, events, now))
    }

    fn ended(&mut self, permit: Option<Permit>, ended: &Ended, now: Instant) {
        let outcome = match ended.answer {
            Answer::Accepted => Outcome::Accepted,
            Answer::Congested(retry_after) => Outcome::Congested { retry_after },
        };
        let report = AttemptReport { lane: ended.lane, outcome, waiting_lanes: ended.waiting_lanes };
        self.0.ended(permit.expect("the product's requests have permits"), report, now);
    }
}

/// An algorithm that moves a limit of requests in flight.
pub struct Limiter {
    in_flight: usize,
    limit: f64,
    rule: Rule,
}

pub enum Rule {
    /// It never moves.
    Fixed,
    /// One more a round trip, a tenth less at each congestion.
    Aimd,
    /// By how much the latency exceeds the least one, as in Netflix's `VegasLimit`.
    Vegas { least: Duration },
    /// By the ratio of the usual to the latest latency, as in Netflix's `Gradient2Limit`.
    Gradient2 { usual: f64 },
}

impl Limiter {
    pub fn new(limit: usize, rule: Rule) -> Self {
        Self { in_flight: 0, limit: limit as f64, rule }
    }

    fn learn(&mut self, congested: bool, took: Duration, in_flight: usize) {
        let limit = self.limit;
        let is_used = in_flight as f64 * 2.0 >= limit;
        self.limit = match &mut self.rule {
            Rule::Fixed => limit,
            Rule::Aimd if congested => limit * 0.9,
            Rule::Aimd if is_used => limit + 1.0 / limit,
            Rule::Aimd => limit,
            Rule::Vegas { .. } if congested => limit - limit.log10().max(1.0),
            Rule::Vegas { least } => {
                *least = (*least).min(took);
                let queue = (limit * (1.0 - least.as_secs_f64() / took.as_secs_f64())).ceil();
                let step = limit.log10().max(1.0);
                match queue {
                    _ if !is_used => limit,
                    queue if queue <= step => limit + 6.0 * step,
                    queue if queue < 3.0 * step => limit + step,
                    queue if queue > 6.0 * step => limit - step,
                    _ => limit,
                }
            }
            Rule::Gradient2 { usual } => {
                let took = took.as_secs_f64();
                *usual = if *usual == 0.0 { took } else { *usual + (took - *usual) * 2.0 / 601.0 };
                if *usual > 2.0 * took {
                    *usual *= 0.95;
                }
                let gradient = (1.5 * *usual / took).clamp(0.5, 1.0);
                if is_used { limit * 0.8 + (limit * gradient + 4.0) * 0.2 } else { limit }
            }
        }
        .clamp(1.0, CONCURRENCY as f64);
    }
}

impl Governor for Limiter {
    fn may_start(&self, now: Instant) -> Option<Instant> {
        (self.in_flight < self.limit as usize).then_some(now)
    }

    fn started(&mut self, _: AttemptKind, _: usize, _: Instant) -> Option<Permit> {
        self.in_flight += 1;
        None
    }

    fn ended(&mut self, _: Option<Permit>, ended: &Ended, _: Instant) {
        let in_flight = self.in_flight;
        self.in_flight -= 1;
        self.learn(ended.answer != Answer::Accepted, ended.took, in_flight);
    }
}
