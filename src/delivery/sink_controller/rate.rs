//! The rate of requests that the sink takes, found by measuring.
//!
//! Contract:
//! - It starts without a rate. The first congestion gives it one: what the sink took of what it was offered.
//! - It goes down only on congestion of first attempts, and only of attempts that started after it last went down: at most once
//!   a round trip. It goes up only while events wait for it.
//! - After each cut it looks at the next requests, the cohort. If they are congested as well, it goes down further, unless the
//!   share of failures is the same at the lower rate: then the rate is not what they depend on. They are noise, the cut is
//!   undone, and from then on only what exceeds the noise counts as congestion. Now and then a cut tries whether that is still so.
//! - Below a known capacity it stays for a while, learns there what share fails anyway, and then goes up until it oversteps the
//!   capacity again: slowly at first, faster as long as nothing happens.

use std::time::Duration;

use tokio::time::Instant;

use super::spacing::Spacing;

/// Requests after a cut whose fate says whether it was enough.
const COHORT: u32 = 48;
/// A cohort that is not complete after this is judged as it is.
const COHORT_PATIENCE: Duration = Duration::from_secs(5);
/// Fewer say nothing.
const COHORT_MIN: u32 = 8;

/// What is left of the measured capacity after a cut, and what the rate rises to until it may overstep it.
const AFTER_CUT: f64 = 0.9;
const WHILE_HELD: f64 = 0.97;
/// For so long it does not overstep a capacity, after `Retry-After` for so many times the pause; twice as long each time that
/// the same capacity is found, up to so many times.
const HOLD: Duration = Duration::from_secs(5);
const HOLD_PAUSES: u32 = 10;
const HOLD_LONGER: u32 = 4;

/// Growth a second: up to the known capacity, around it, beyond it, and where no capacity is known.
const TO_CAPACITY: f64 = 0.04;
const AROUND_CAPACITY: f64 = 0.04;
const BEYOND_CAPACITY: f64 = 0.35;
const UNKNOWN_CAPACITY: f64 = 1.4;
/// Growth a round trip, at most.
const A_ROUND_TRIP: f64 = 0.1;

/// Requests a second. A rate without a success is not cut below the first, no rate below the second.
const CAUTIOUS: f64 = 16.0;
const SLOWEST: f64 = 0.2;

/// The share that may always fail.
const LEAST_NOISE: f64 = 0.002;
/// Noise from which on a cut tries now and then whether it is noise.
const DOUBTFUL_NOISE: f64 = 0.05;
const TRIAL: f64 = 0.6;
const TRIAL_AFTER: Duration = Duration::from_secs(10);
const TRIAL_AFTER_MAX: Duration = Duration::from_secs(80);

/// Why the rate or the ceiling moved last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// They never did.
    Start,
    /// First attempts were answered 429 or 503, or got no connection or no answer in time.
    Congestion,
    /// The sink asked for a pause.
    RetryAfter,
    /// Events wait, and the sink takes what it gets.
    Demand,
    /// As many fail at a lower rate: it is not the rate.
    Noise,
    /// A cut that tries whether failures depend on the rate.
    Trial,
    /// The sink counts as down.
    Outage,
    /// It works again.
    Recovery,
}

impl Cause {
    /// The cause in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Congestion => "congestion",
            Self::RetryAfter => "retry-after",
            Self::Demand => "demand",
            Self::Noise => "noise",
            Self::Trial => "trial",
            Self::Outage => "outage",
            Self::Recovery => "recovery",
        }
    }
}

/// The rate, and what is known of the sink's capacity.
#[derive(Debug, Clone, Copy)]
pub(super) struct RateFinder {
    known: Known,
    noise: f64,
    phase: Phase,
    /// Changes with every cut: what started before says nothing of the new rate.
    epoch: u32,
    spacing: Spacing,
    /// First attempts of this epoch, the older ones counting for less.
    recent: Tally,
    offered: Offered,
    last_start: Option<Instant>,
    last_pause: Duration,
    /// The capacity that was found last, and how often in a row.
    found: Option<f64>,
    times_found: u32,
    next_trial: Option<Instant>,
    trial_after: Duration,
    moved: Cause,
}

/// Requests a second: what is offered, and what the sink takes, if that is known.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    rate: Option<f64>,
    capacity: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Nothing limits the rate, or it rises.
    Open,
    /// The rate was cut.
    Checking(Check),
    /// The rate stays below the known capacity until then.
    Held(Instant),
}

/// A cut whose effect is being measured.
#[derive(Debug, Clone, Copy)]
struct Check {
    /// What was known before the first of these cuts.
    origin: Known,
    /// What was measured at the rate before this one.
    before: Option<Measured>,
    since: Instant,
    last_start: Instant,
    started: u32,
    tally: Tally,
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    offered: f64,
    share: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    ended: u32,
    congested: u32,
}

impl Tally {
    fn add(&mut self, congested: bool) {
        self.ended += 1;
        self.congested += u32::from(congested);
    }

    fn share(self) -> f64 {
        f64::from(self.congested) / f64::from(self.ended.max(1))
    }

    /// Whether more are congested than by chance, if this share fails anyway: a twentieth of the others, and four deviations.
    fn exceeds(self, noise: f64) -> bool {
        let (ended, noise) = (f64::from(self.ended), noise.max(LEAST_NOISE));
        let deviation = (noise * (1.0 - noise) * ended).sqrt();
        f64::from(self.congested) > noise * ended + 0.05 * (1.0 - noise) * ended + 4.0 * deviation + 1.0
    }
}

/// How often requests start: since a mark that is 32 to 64 requests old.
#[derive(Debug, Clone, Copy, Default)]
struct Offered {
    marks: [Option<Instant>; 2],
    starts: [u32; 2],
}

impl Offered {
    const A_MARK: u32 = 32;

    fn count(&mut self, now: Instant) {
        if self.starts[1] >= Self::A_MARK || self.marks[1].is_none() {
            self.marks = [self.marks[1].or(Some(now)), Some(now)];
            self.starts = [self.starts[1], 0];
        }
        self.starts[1] += 1;
    }

    fn rate(&self, now: Instant) -> f64 {
        let since = self.marks[0].map_or(Duration::ZERO, |mark| now.saturating_duration_since(mark));
        f64::from(self.starts[0] + self.starts[1]) / since.as_secs_f64().max(0.001)
    }
}

/// What a started request is to the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Started {
    pub(super) epoch: u32,
    pub(super) in_cohort: bool,
}

impl RateFinder {
    pub(super) fn new() -> Self {
        Self {
            known: Known::default(),
            noise: 0.0,
            phase: Phase::Open,
            epoch: 0,
            spacing: Spacing::default(),
            recent: Tally::default(),
            offered: Offered::default(),
            last_start: None,
            last_pause: Duration::ZERO,
            found: None,
            times_found: 0,
            next_trial: None,
            trial_after: TRIAL_AFTER,
            moved: Cause::Start,
        }
    }

    /// Requests a second; nothing while there is no limit.
    pub(super) fn rate(&self) -> Option<f64> {
        self.known.rate
    }

    /// What the sink takes, in requests a second, as far as that was measured.
    pub(super) fn capacity(&self) -> Option<f64> {
        self.known.capacity
    }

    pub(super) fn moved(&self) -> Cause {
        self.moved
    }

    pub(super) fn set_moved(&mut self, cause: Cause) {
        self.moved = cause;
    }

    /// When the next request may start; nothing while that is any time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.known.rate.and_then(|_| self.spacing.next())
    }

    /// A request starts now.
    pub(super) fn started(&mut self, is_first: bool, round_trip: Duration, now: Instant) -> Started {
        self.offered.count(now);
        if let Some(rate) = self.known.rate {
            let waited = self.spacing.take(1.0, rate, now);
            let since = self.last_start.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
            if waited {
                self.grow(rate, since, round_trip, now);
            }
            self.last_start = Some(now);
        }
        Started { epoch: self.epoch, in_cohort: is_first && self.join_cohort(now) }
    }

    /// A request ended without having been sent.
    pub(super) fn unsent(&mut self, started: Started) {
        if let (true, Phase::Checking(check)) = (started.in_cohort && started.epoch == self.epoch, &mut self.phase) {
            check.started = check.started.saturating_sub(1);
        }
    }

    /// A first attempt ended.
    pub(super) fn ended(&mut self, started: Started, congested: bool, now: Instant) {
        if started.epoch != self.epoch {
            return;
        }
        self.recent.add(congested);
        match &mut self.phase {
            Phase::Checking(check) => {
                if started.in_cohort {
                    check.tally.add(congested);
                }
                if check.is_complete(now) {
                    let check = *check;
                    self.conclude(check, now);
                }
            }
            Phase::Open | Phase::Held(_) if congested && self.recent.exceeds(self.noise) => self.overload(now),
            Phase::Open | Phase::Held(_) => {}
        }
        if self.recent.ended >= self.remembered() {
            self.learn_noise(now);
        }
    }

    /// The sink asked for a pause until then, after it had taken requests at some rate.
    pub(super) fn paused(&mut self, started: Started, asked: Duration, until: Instant, now: Instant) {
        self.last_pause = asked;
        if started.epoch == self.epoch {
            self.overload(now);
        }
        self.moved = Cause::RetryAfter;
        // The pause is no time in which anything could have been found.
        match &mut self.phase {
            Phase::Checking(check) => check.since = until,
            Phase::Held(end) => *end += asked,
            Phase::Open => {}
        }
    }

    /// Goes on after an outage as it was before, but below the capacity.
    pub(super) fn resume(&mut self, before: Self, now: Instant) {
        let epoch = self.epoch + 1;
        *self = Self { epoch, recent: Tally::default(), offered: Offered::default(), moved: Cause::Recovery, ..before };
        self.phase = Phase::Open;
        if let Some(rate) = self.known.rate {
            self.known.rate = Some(self.known.capacity.map_or(rate, |capacity| rate.min(capacity * AFTER_CUT)));
            self.phase = Phase::Held(now + HOLD);
        }
    }

    fn grow(&mut self, rate: f64, since: Duration, round_trip: Duration, now: Instant) {
        let growth = match (self.phase, self.known.capacity) {
            (Phase::Checking(_), _) => return,
            (Phase::Held(until), Some(capacity)) if now < until => {
                if rate >= capacity * WHILE_HELD {
                    return;
                }
                TO_CAPACITY
            }
            (_, None) => UNKNOWN_CAPACITY,
            (_, Some(capacity)) if rate < capacity * 0.95 => TO_CAPACITY.max(UNKNOWN_CAPACITY * (1.0 - rate / capacity)),
            (_, Some(capacity)) if rate < capacity * 1.1 => AROUND_CAPACITY,
            (_, Some(_)) => BEYOND_CAPACITY,
        };
        if matches!(self.phase, Phase::Held(until) if now >= until) {
            self.learn_noise(now);
            self.phase = Phase::Open;
        }
        let a_second = growth.min(A_ROUND_TRIP / round_trip.as_secs_f64().max(0.001));
        // A pause between two starts is no time in which events waited for the rate.
        let waited = since.as_secs_f64().min(2.0 / rate + 0.01);
        self.known.rate = Some(rate * (1.0 + a_second * waited.min(1.0)));
        self.moved = Cause::Demand;
    }

    fn join_cohort(&mut self, now: Instant) -> bool {
        let Phase::Checking(check) = &mut self.phase else { return false };
        if check.started >= COHORT {
            return false;
        }
        check.started += 1;
        check.last_start = now;
        true
    }

    /// Requests a second that were offered lately.
    fn offered(&self, now: Instant) -> f64 {
        let offered = self.offered.rate(now);
        self.known.rate.map_or(offered, |rate| rate.min(offered))
    }

    /// More are congested than by chance.
    fn overload(&mut self, now: Instant) {
        let measured = Measured { offered: self.offered(now), share: self.recent.share() };
        let origin = self.known;
        self.cut(measured, origin, None, now);
        self.moved = Cause::Congestion;
    }

    /// Goes down to less than what the sink took of what was offered.
    fn cut(&mut self, measured: Measured, origin: Known, before: Option<Measured>, now: Instant) {
        let taken = measured.offered * (1.0 - measured.share) / (1.0 - self.noise.min(0.9));
        let rate = self.known.rate.unwrap_or(f64::MAX);
        // What little was offered says nothing of how much would have been taken.
        let is_full = self.known.rate.is_some_and(|rate| measured.offered > 0.7 * rate);
        let wanted = if measured.share >= 1.0 {
            (measured.offered / 8.0).max(CAUTIOUS)
        } else if is_full {
            taken * AFTER_CUT
        } else {
            (taken * AFTER_CUT).max(CAUTIOUS)
        };
        self.known.rate = Some(wanted.min(rate * AFTER_CUT).max(SLOWEST));
        self.known.capacity = (measured.share < 1.0).then_some(taken.max(SLOWEST));
        self.begin_check(origin, before, now);
    }

    fn begin_check(&mut self, origin: Known, before: Option<Measured>, now: Instant) {
        self.epoch += 1;
        self.recent = Tally::default();
        self.offered = Offered::default();
        let tally = Tally::default();
        self.phase = Phase::Checking(Check { origin, before, since: now, last_start: now, started: 0, tally });
    }

    /// The cohort is complete.
    fn conclude(&mut self, check: Check, now: Instant) {
        let measured = check.measured(self.known.rate);
        if !check.tally_so_far().exceeds(self.noise) {
            self.hold(now);
        } else if check.is_noise(measured, self.noise) {
            self.accept_noise(check, measured, now);
        } else {
            self.cut(measured, check.origin, Some(measured), now);
            self.moved = Cause::Congestion;
        }
    }

    /// The cut was enough: what it was derived from is the capacity.
    fn hold(&mut self, now: Instant) {
        let capacity = self.known.capacity;
        let is_same = |found: f64| capacity.is_some_and(|capacity| (capacity - found).abs() < found * 0.1);
        self.times_found = if self.found.is_some_and(is_same) { self.times_found + 1 } else { 0 };
        let rises = matches!((self.found, capacity), (Some(found), Some(capacity)) if capacity > found * 1.1);
        self.found = capacity;
        let pauses = self.last_pause.saturating_mul(HOLD_PAUSES);
        let hold = if rises { HOLD / 5 } else { HOLD.max(pauses) };
        let longer = if pauses > HOLD { HOLD_LONGER } else { 2 };
        self.phase = Phase::Held(now + hold.max(pauses).saturating_mul((self.times_found + 1).min(longer)));
    }

    fn accept_noise(&mut self, check: Check, measured: Measured, now: Instant) {
        let before = check.before.map_or(measured.share, |before| before.share);
        self.noise = f64::midpoint(before, measured.share);
        self.known = check.origin;
        self.phase = Phase::Open;
        self.recent = Tally::default();
        self.epoch += 1;
        self.offered = Offered::default();
        self.next_trial = Some(now + self.trial_after);
        self.trial_after = (self.trial_after * 2).min(TRIAL_AFTER_MAX);
        self.moved = Cause::Noise;
    }

    /// How many first attempts are remembered: more where many fail anyway, to tell what exceeds that.
    fn remembered(&self) -> u32 {
        if self.noise > 0.1 { 512 } else { 128 }
    }

    /// The share that fails at this rate is noise as far as the rate is below the capacity, and never less than that elsewhere.
    fn learn_noise(&mut self, now: Instant) {
        let share = self.recent.share();
        let weight = f64::from(self.recent.ended) / f64::from(self.remembered());
        match self.phase {
            Phase::Held(_) => self.noise += (share - self.noise) * 0.5 * weight,
            Phase::Open if weight >= 1.0 => {
                self.noise = self.noise.min(share * 1.25 + 0.01);
                self.try_noise(share, now);
            }
            _ => {}
        }
        self.recent = Tally { ended: self.recent.ended / 2, congested: self.recent.congested / 2 };
    }

    /// Tries now and then whether what counts as noise depends on the rate after all.
    fn try_noise(&mut self, share: f64, now: Instant) {
        if self.noise < DOUBTFUL_NOISE || self.next_trial.is_none_or(|trial| now < trial) {
            return;
        }
        let measured = Measured { offered: self.offered(now), share };
        let origin = self.known;
        self.known.rate = Some((measured.offered * TRIAL).max(SLOWEST));
        self.known.capacity = Some(measured.offered * (1.0 - share) / (1.0 - self.noise.min(0.9)));
        let noise = std::mem::take(&mut self.noise);
        self.begin_check(origin, Some(measured), now);
        self.noise = noise.min(LEAST_NOISE);
        self.moved = Cause::Trial;
    }
}

impl Check {
    fn is_complete(&self, now: Instant) -> bool {
        let tally = self.tally;
        let is_hopeless = tally.congested >= COHORT_MIN && tally.congested * 2 >= self.started && self.started >= COHORT / 3;
        let is_late = tally.ended >= COHORT_MIN && now.saturating_duration_since(self.since) >= COHORT_PATIENCE;
        tally.ended >= COHORT || is_hopeless || is_late
    }

    /// What is under way counts as taken: what fails often ends sooner.
    fn tally_so_far(&self) -> Tally {
        Tally { ended: self.started.max(self.tally.ended), congested: self.tally.congested }
    }

    fn measured(&self, rate: Option<f64>) -> Measured {
        let span = self.last_start.saturating_duration_since(self.since).as_secs_f64();
        let offered = f64::from(self.started) / span.max(0.001);
        Measured { offered: rate.map_or(offered, |rate| rate.min(offered)), share: self.tally_so_far().share() }
    }

    /// Whether as many fail as before at a rate that was clearly higher. If it were the rate, the sink would have taken as many
    /// requests now as then, and the share of failures would be that much smaller.
    fn is_noise(&self, now: Measured, noise: f64) -> bool {
        let Some(before) = self.before.filter(|before| now.offered <= 0.8 * before.offered) else { return false };
        let by_rate = (1.0 - (1.0 - before.share) * before.offered / now.offered.max(SLOWEST)).max(noise);
        before.share - by_rate >= 0.1 * before.share
            && now.share >= f64::midpoint(before.share, by_rate)
            && now.share <= before.share + 0.2
            && before.share <= 0.9
    }
}
