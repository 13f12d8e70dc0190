//! How much the sink takes: a rate, a ceiling of requests in flight, and whether it is down. Pure: time is an argument.
//!
//! Contract:
//! - The rate is found by measuring. It goes down on congestion of first attempts, at most once a round trip; never on latency, on
//!   other faults or on retries. It goes up only while events wait for it, which the controller sees itself: a request that starts
//!   as soon as the rate allows it has waited. Failures that do not depend on the rate do not move it.
//! - In flight are at most `rate x time of an attempt x 2`, at least 2, and never more than is configured. A sink that never says
//!   that it is congested gets that number, however slow it is: one that scales on what is under way needs it.
//! - When three lanes were asked to wait within a round trip, nothing starts before the last of these moments.
//! - The sink is down when the first attempts of 64 distinct items failed in a row, or those of all that there are for five
//!   seconds. Congestion may be our own doing: it proves that only of a sink that took nothing for a second. Then one probe a
//!   second starts until one succeeds. The sink is down as well when so many distinct items in a row were refused, or ten times as
//!   many as may be in flight. After an outage each success doubles what may be in flight.
//! - It is never stuck: while no request is under way, there is a moment at which one may start.

mod attempt_times;
mod evidence;
mod lane_row;
mod rate;
mod sink_pause;
mod spacing;
mod throughput;

use std::time::Duration;

use tokio::time::Instant;

use self::attempt_times::AttemptTimes;
use self::lane_row::{ENOUGH, LaneRow};
pub use self::rate::Cause;
use self::rate::{RateFinder, Started};
use self::sink_pause::{LanePause, SinkPause};
use self::spacing::Spacing;

/// From one probe to the next.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Fewer items than [`ENOUGH`] prove an outage after this.
const FEW_ITEMS: Duration = Duration::from_secs(5);

/// Congestion proves an outage only if the sink took nothing for so long.
const CONGESTION_PATIENCE: Duration = Duration::from_secs(1);

/// A sink that was wrongly taken for one that refuses everything needs so many times more refusals for it, where those who are refused
/// are kept.
const MOST_ROWS_OF_PROOF: u32 = 64;

/// That is forgotten after so long.
const FORGET_REFUSALS: Duration = Duration::from_secs(10 * 60);

/// Round trips until one was measured.
const FIRST_ROUND_TRIP: Duration = Duration::from_millis(10);

/// What an attempt is to its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptKind {
    FirstAttempt,
    Retry,
    /// An event that could not be delivered, on its way to the dead-letter sink. Counts as a first attempt there.
    DeadLetter,
}

/// What is configured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ControllerLimits {
    /// Requests in flight, at least 1.
    pub concurrency: usize,
    /// Events a second; nothing: no limit.
    pub rate_max: Option<f64>,
    /// Who is refused is kept and tried again: after a restart all of those come in a row.
    pub keeps_refused: bool,
}

/// A request under way, to be given back when it has ended.
#[derive(Debug, Clone, Copy)]
pub struct Permit {
    number: u64,
    kind: AttemptKind,
    start: Instant,
    rate: Started,
}

impl Permit {
    /// When it started.
    pub fn start(&self) -> Instant {
        self.start
    }
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptReport {
    /// Whose item it was.
    pub lane: u64,
    pub outcome: Outcome,
    /// How many lanes hold an event now that is not expected to fail: what is parked proves nothing in either way.
    pub waiting_lanes: usize,
}

/// What an answer, or its absence, says of the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Accepted,
    /// The event's fault: 400 and the like.
    Refused,
    /// 429, 503, no connection, no answer in time.
    Congested {
        retry_after: Option<Duration>,
    },
    /// Another fault of the sink: its set-up, its routing, itself.
    Failed,
    /// Our own fault: nothing was sent.
    Unsent,
}

/// What a report did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    None,
    /// The sink counts as down now.
    WentDown(DownReason),
    /// It works again, after so long.
    CameUp(Duration),
}

/// Why the sink counts as down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownReason {
    /// Requests fail.
    Failing,
    /// It answers and takes no event.
    Refusing,
}

impl DownReason {
    /// The reason in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Refusing => "refusing",
        }
    }
}

/// What the controller knows, for people to look at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ControllerView {
    /// Requests a second; nothing: no limit.
    pub rate: Option<f64>,
    /// Requests that may be in flight.
    pub ceiling: usize,
    pub in_flight: usize,
    /// Requests a second that the sink takes, if that was measured.
    pub capacity: Option<f64>,
    /// The median time of the latest attempts that the sink dealt with.
    pub attempt_time: Option<Duration>,
    /// Why rate or ceiling moved last.
    pub moved: Cause,
    /// Since when the sink counts as down, and why.
    pub down: Option<(Instant, DownReason)>,
    /// Until when nothing starts because the sink asked for that.
    pub paused_until: Option<Instant>,
}

/// How much one sink takes.
#[derive(Debug)]
pub struct SinkController {
    limits: ControllerLimits,
    rate: RateFinder,
    rate_max: Spacing,
    times: AttemptTimes,
    pause: SinkPause,
    in_flight: usize,
    started: u64,
    /// Requests that the sink dealt with, and when it last did, or the first of all started.
    taken: u64,
    last_taken: Option<Instant>,
    failing: LaneRow,
    /// Whether one in that row was congested, and the rate before it.
    failing_congested: bool,
    before_failing: RateFinder,
    refused: LaneRow,
    /// How many such rows there were without a success, and how many prove that the sink is wrong as a whole.
    refused_rows: u32,
    rows_of_proof: u32,
    /// When the last proof turned out to be one.
    was_refusing: Option<Instant>,
    down: Option<Down>,
    /// What may be in flight after an outage, until it no longer matters.
    ramp: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Down {
    since: Instant,
    reason: DownReason,
    next_probe: Instant,
    /// The number of the request that probes.
    probe: Option<u64>,
}

impl SinkController {
    /// A sink of which nothing is known.
    ///
    /// Fewer than one in flight count as one; a rate that is no positive number is none.
    pub fn new(limits: ControllerLimits) -> Self {
        Self {
            limits: ControllerLimits {
                concurrency: limits.concurrency.max(1),
                rate_max: limits.rate_max.filter(|rate| rate.is_finite() && *rate > 0.0),
                ..limits
            },
            rate: RateFinder::new(),
            rate_max: Spacing::default(),
            times: AttemptTimes::new(),
            pause: SinkPause::default(),
            in_flight: 0,
            started: 0,
            taken: 0,
            last_taken: None,
            failing: LaneRow::new(),
            failing_congested: false,
            before_failing: RateFinder::new(),
            refused: LaneRow::new(),
            refused_rows: 0,
            rows_of_proof: 1,
            was_refusing: None,
            down: None,
            ramp: None,
        }
    }

    /// When one more request may start: now, or later. Nothing: not before one that is under way has ended.
    pub fn may_start(&self, now: Instant) -> Option<Instant> {
        if self.in_flight >= self.ceiling() || self.down.is_some_and(|down| down.probe.is_some()) {
            return None;
        }
        let paced = match self.down {
            Some(down) => Some(down.next_probe),
            None => self.rate.next(),
        };
        let limited = self.limits.rate_max.and_then(|_| self.rate_max.next());
        [Some(now), paced, limited, self.pause.until(now)].into_iter().flatten().max()
    }

    /// Whether the sink is down: then only probes of a single event start, where [`Self::may_start`] allows one.
    pub fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// Why it is down, if it is.
    pub fn down_reason(&self) -> Option<DownReason> {
        self.down.map(|down| down.reason)
    }

    /// A request of so many events starts now, which [`Self::may_start`] has allowed.
    pub fn started(&mut self, kind: AttemptKind, events: usize, now: Instant) -> Permit {
        self.in_flight += 1;
        self.started += 1;
        self.last_taken.get_or_insert(now);
        if let Some(rate_max) = self.limits.rate_max {
            self.rate_max.take(events.max(1) as f64, rate_max, now);
        }
        if let Some(down) = &mut self.down {
            down.probe = Some(self.started);
            down.next_probe = now + PROBE_INTERVAL;
        }
        let rate = match self.down {
            Some(_) => Started::UNMEASURED,
            None => self.rate.started(kind != AttemptKind::Retry, self.round_trip(), now),
        };
        Permit { number: self.started, kind, start: now, rate }
    }

    /// A request has ended.
    pub fn ended(&mut self, permit: Permit, report: AttemptReport, now: Instant) -> Change {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(down) = &mut self.down {
            down.probe = down.probe.filter(|probe| *probe != permit.number);
        }
        match report.outcome {
            Outcome::Accepted => self.accepted(permit, now),
            Outcome::Refused => self.refused(permit, report, now),
            Outcome::Congested { retry_after } => self.congested(permit, report, retry_after, now),
            Outcome::Failed => self.failed(permit, report, now),
            Outcome::Unsent => {
                self.rate.unsent(permit.rate);
                Change::None
            }
        }
    }

    /// A request of first attempts has failed through the sink's fault, and with it the events of these lanes too.
    pub fn others_failed(&mut self, lanes: impl Iterator<Item = u64>, now: Instant) {
        if self.down.is_none() {
            lanes.for_each(|lane| self.failing.add(lane, now));
        }
    }

    /// What is known at this moment.
    pub fn view(&self, now: Instant) -> ControllerView {
        ControllerView {
            rate: self.rate.rate(),
            ceiling: self.ceiling(),
            in_flight: self.in_flight,
            capacity: self.rate.capacity(),
            attempt_time: self.times.median(),
            moved: self.rate.moved(),
            down: self.down.map(|down| (down.since, down.reason)),
            paused_until: self.pause.until(now),
        }
    }

    /// So many requests may be in flight now.
    pub fn ceiling(&self) -> usize {
        self.settled_ceiling().min(self.ramp.unwrap_or(usize::MAX))
    }

    /// The same long after an outage.
    ///
    /// The mean, not the median: with one slow request in ten it is the mean that says how many are in flight. A probe does not
    /// wait for what is under way since before the outage.
    fn settled_ceiling(&self) -> usize {
        let needed = match (self.rate.rate(), self.times.mean()) {
            (Some(rate), Some(time)) if self.down.is_none() => (rate * time.as_secs_f64() * 2.0).ceil() as usize,
            _ => usize::MAX,
        };
        needed.max(2).min(self.limits.concurrency)
    }

    fn round_trip(&self) -> Duration {
        self.times.mean().unwrap_or(FIRST_ROUND_TRIP)
    }

    fn accepted(&mut self, permit: Permit, now: Instant) -> Change {
        self.dealt_with(permit, now);
        self.refused.clear();
        self.refused_rows = 0;
        if self.was_refusing.is_some_and(|last| now.saturating_duration_since(last) > FORGET_REFUSALS) {
            (self.rows_of_proof, self.was_refusing) = (1, None);
        }
        self.ramp = self.ramp.map(|ramp| ramp * 2).filter(|ramp| *ramp < self.limits.concurrency);
        self.come_up(now)
    }

    fn refused(&mut self, permit: Permit, report: AttemptReport, now: Instant) -> Change {
        self.dealt_with(permit, now);
        match self.down {
            Some(Down { reason: DownReason::Failing, .. }) => self.come_up(now),
            Some(_) => Change::None,
            None if permit.kind == AttemptKind::Retry => Change::None,
            None => {
                self.refused.add(report.lane, now);
                let enough = ENOUGH.min(self.settled_ceiling().saturating_mul(10));
                if self.refused.len() < enough {
                    return Change::None;
                }
                self.refused.clear();
                self.refused_rows += 1;
                match self.refused_rows >= self.rows_of_proof {
                    true => self.go_down(DownReason::Refusing, now),
                    false => Change::None,
                }
            }
        }
    }

    fn congested(
        &mut self,
        permit: Permit,
        report: AttemptReport,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Change {
        let round_trip = self.round_trip().max(now.saturating_duration_since(permit.start));
        self.begin_row();
        self.failing_congested = true;
        let lane_pause = |pause| LanePause { lane: report.lane, pause, taken: self.taken };
        let asked = retry_after.map(lane_pause).and_then(|asked| self.pause.asked(asked, round_trip, now));
        if self.down.is_none() {
            self.rate.ended(permit.rate, true, now);
            if let Some(asked) = asked {
                self.rate.paused(permit.rate, asked, now + asked, now);
            }
        }
        self.one_more_failed(permit, report, now)
    }

    fn failed(&mut self, permit: Permit, report: AttemptReport, now: Instant) -> Change {
        self.begin_row();
        if self.down.is_none() {
            self.rate.ended(permit.rate, false, now);
        }
        self.one_more_failed(permit, report, now)
    }

    /// The sink took a request and answered for it.
    fn dealt_with(&mut self, permit: Permit, now: Instant) {
        self.times.record(now.saturating_duration_since(permit.start));
        self.taken += 1;
        self.rate.taken(now);
        self.last_taken = Some(now);
        self.failing.clear();
        if self.down.is_none() {
            self.rate.ended(permit.rate, false, now);
        }
    }

    /// If this is the first failure of a row, what is known now is what an outage must not spoil.
    fn begin_row(&mut self) {
        if self.failing.since().is_none() && self.down.is_none() {
            self.before_failing = self.rate;
            self.failing_congested = false;
        }
    }

    fn one_more_failed(&mut self, permit: Permit, report: AttemptReport, now: Instant) -> Change {
        if permit.kind != AttemptKind::Retry {
            self.failing.add(report.lane, now);
        }
        let Some(since) = self.failing.since().filter(|_| self.down.is_none()) else { return Change::None };
        let is_doubtful = self.failing_congested
            && self.last_taken.is_some_and(|taken| now.saturating_duration_since(taken) < CONGESTION_PATIENCE);
        let are_many = self.failing.len() >= ENOUGH && !is_doubtful;
        let are_all =
            self.failing.len() >= report.waiting_lanes.max(1) && now.saturating_duration_since(since) >= FEW_ITEMS;
        if are_many || are_all { self.go_down(DownReason::Failing, now) } else { Change::None }
    }

    fn go_down(&mut self, reason: DownReason, now: Instant) -> Change {
        self.down = Some(Down { since: now, reason, next_probe: now + PROBE_INTERVAL, probe: None });
        if reason == DownReason::Refusing {
            self.before_failing = self.rate;
        }
        self.rate.outage();
        Change::WentDown(reason)
    }

    fn come_up(&mut self, now: Instant) -> Change {
        let Some(down) = self.down.take() else { return Change::None };
        if down.reason == DownReason::Refusing && self.limits.keeps_refused {
            // Some are taken: the next row of refusals proves less.
            self.rows_of_proof = (self.rows_of_proof * 2).min(MOST_ROWS_OF_PROOF);
            self.was_refusing = Some(now);
        }
        self.failing.clear();
        self.refused.clear();
        self.ramp = Some(1);
        self.rate.resume(self.before_failing, self.pause.until(now), now);
        Change::CameUp(now.saturating_duration_since(down.since))
    }
}

#[cfg(test)]
mod tests;
