//! The rate of requests that the sink takes, found by measuring. Pure.
//!
//! Contract:
//! - It starts without a rate. The first congestion gives it one: what the sink took of what it was offered.
//! - It goes down only on congestion of first attempts, and only of attempts that started after it last went down: at most once
//!   a round trip. A pause that the sink asks for counts as one with the congestion that it came with.
//! - It goes up only while events wait for it.
//! - After each cut the next first attempts are its cohort. If too many of them are congested as well, the rate goes down further;
//!   if all are, the sink takes nothing at the moment, and few requests wait for it to go on.
//! - If the share of failures is the same at a lower rate, twice in a row, it does not depend on the rate: it is noise, the cuts
//!   are undone, and from then on only what exceeds the noise counts as congestion. Now and then a cut tries whether it is noise.
//! - Below a measured capacity the rate stays for a while. Then it goes up until it oversteps the capacity again: slowly around
//!   it, faster beyond it. Where an overstep costs a pause, it is rarer and slower.

use std::time::Duration;

use tokio::time::Instant;

use super::evidence::{Check, Measured, Tally};
use super::spacing::Spacing;
use super::throughput::{Offered, Taken};

/// What is left of the measured capacity after a cut, and what the rate rises to until it may overstep it: in general, and where
/// an overstep costs a pause.
const AFTER_CUT: f64 = 0.9;
const WHILE_HELD: f64 = 0.97;
const WHILE_HELD_PAUSES: f64 = 0.93;

/// For so long it does not overstep a capacity. A capacity that was found twice is known: then that is longer, and after
/// `Retry-After` so many times the pause, each time that the same is found once more, up to so many times.
const HOLD: Duration = Duration::from_secs(5);
const HOLD_LONGER: u32 = 2;
const HOLD_PAUSES: u32 = 10;
const HOLD_PAUSES_LONGER: u32 = 4;
/// A capacity that rises is looked for again after this.
const HOLD_RISING: Duration = Duration::from_secs(1);
/// Capacities that differ by less are the same.
const SAME: f64 = 0.1;

/// Growth a second: around the capacity, what the distance beyond it adds, and where none is known. Where an overstep costs a
/// pause, the first two are slower: the bursts that a sink allows make it look as if it took more.
const AROUND_CAPACITY: f64 = 0.04;
const BEYOND_CAPACITY: f64 = 0.5;
const UNKNOWN_CAPACITY: f64 = 1.4;
const CAUTION: f64 = 0.25;
/// Growth a round trip and a request, at most.
const A_ROUND_TRIP: f64 = 0.1;
const A_REQUEST: f64 = 0.25;

/// Requests a second. What the sink refused whole is not cut below the first, nothing below the second.
const CAUTIOUS: f64 = 16.0;
const SLOWEST: f64 = 0.2;
/// A sink that refuses everything gets so many times less.
const CLOSED: f64 = 8.0;
/// So many in a row tell that it goes on.
const REOPENED: u32 = 3;
/// A cohort of which the sink took less than this share of what it took in the second before is like one that it refused. What it
/// took less than the second is looked at twice: the moment may have been a bad one, as with a sink that counts by the second.
const LIKE_CLOSED: f64 = 0.25;
const DOUBTFUL: f64 = 0.8;

/// So many cuts in a row have to leave the share of failures as it was.
const CERTAIN: u32 = 2;
/// What fails beyond the noise below a measured capacity is worth a trial, beside chance; and noise from which on a trial now and
/// then is worth it.
const SUSPECT: f64 = 0.02;
const DOUBTFUL_NOISE: f64 = 0.05;
/// The rate of a trial, and the time to the next one.
const TRIAL: f64 = 0.6;
const TRIAL_AFTER: Duration = Duration::from_secs(10);
const TRIAL_AFTER_MAX: Duration = Duration::from_secs(80);
/// How many first attempts are remembered: more where much is noise, to tell what exceeds it.
const REMEMBERED: u32 = 128;
const REMEMBERED_IN_NOISE: u32 = 512;
const MUCH_NOISE: f64 = 0.1;

/// Why the rate moved last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It never did.
    Start,
    /// First attempts were answered 429 or 503, or got no connection or no answer in time.
    Congestion,
    /// The sink asked for a pause.
    RetryAfter,
    /// Events wait, and the sink takes what it gets.
    Demand,
    /// As many fail at a lower rate: it is not the rate.
    Noise,
    /// It is tried whether failures depend on the rate.
    Trial,
    /// The sink counts as down.
    Outage,
    /// It goes on after it took nothing.
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

/// What a started request is to the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Started {
    /// None where it says nothing of the rate.
    epoch: Option<u32>,
    in_cohort: bool,
}

impl Started {
    /// A request beside the rate.
    pub(super) const UNMEASURED: Self = Self { epoch: None, in_cohort: false };
}

/// The rate, and what is known of the sink's capacity.
#[derive(Debug, Clone, Copy)]
pub(super) struct RateFinder {
    known: Known,
    /// What was known before the cuts that led here.
    origin: Known,
    /// The share that fails whatever the rate.
    noise: f64,
    phase: Phase,
    /// Changes with every cut: what started before says nothing of the new rate.
    epoch: u32,
    spacing: Spacing,
    /// First attempts of this epoch, the older ones counting for less.
    recent: Tally,
    offered: Offered,
    taken: Taken,
    /// The pause that the last overstep cost.
    last_pause: Duration,
    paused_until: Option<Instant>,
    /// The capacity that was found last, and how often it was found again.
    found: Option<f64>,
    found_again: u32,
    next_trial: Option<Instant>,
    trial_after: Duration,
    moved: Cause,
}

/// Requests a second: how many may start, and how many the sink takes.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    rate: Option<f64>,
    capacity: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// No limit, or one that rises.
    Open,
    /// The rate went down.
    Checking(Check),
    /// Until then the rate stays below the capacity.
    Held(Instant),
}

impl RateFinder {
    pub(super) fn new() -> Self {
        Self {
            known: Known::default(),
            origin: Known::default(),
            noise: 0.0,
            phase: Phase::Open,
            epoch: 0,
            spacing: Spacing::default(),
            recent: Tally::default(),
            offered: Offered::default(),
            taken: Taken::default(),
            last_pause: Duration::ZERO,
            paused_until: None,
            found: None,
            found_again: 0,
            next_trial: None,
            trial_after: TRIAL_AFTER,
            moved: Cause::Start,
        }
    }

    /// Requests a second; nothing while there is no limit.
    pub(super) fn rate(&self) -> Option<f64> {
        self.known.rate
    }

    /// Requests a second that the sink takes, as far as that was measured.
    pub(super) fn capacity(&self) -> Option<f64> {
        self.known.capacity
    }

    pub(super) fn moved(&self) -> Cause {
        self.moved
    }

    /// When the next request may start; nothing while that is any time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.known.rate.and_then(|_| self.spacing.next())
    }

    /// A request starts now.
    pub(super) fn started(&mut self, is_first: bool, round_trip: Duration, now: Instant) -> Started {
        self.offered.count(now);
        if let Some(rate) = self.known.rate
            && let Some(waited) = self.spacing.take(1.0, rate, now)
        {
            self.grow(rate, waited, round_trip, now);
        }
        let in_cohort = match &mut self.phase {
            Phase::Checking(check) => is_first && check.join(),
            Phase::Open | Phase::Held(_) => false,
        };
        Started { epoch: is_first.then_some(self.epoch), in_cohort }
    }

    /// A request ended without having been sent.
    pub(super) fn unsent(&mut self, started: Started) {
        match &mut self.phase {
            Phase::Checking(check) if started.in_cohort && started.epoch == Some(self.epoch) => check.leave(),
            _ => {}
        }
    }

    /// The sink dealt with a request.
    pub(super) fn taken(&mut self, now: Instant) {
        self.taken.count(now);
    }

    /// A request ended. It counts if it was a first attempt and started at this rate.
    pub(super) fn ended(&mut self, started: Started, congested: bool, now: Instant) {
        if started.epoch != Some(self.epoch) {
            return;
        }
        self.recent.add(congested);
        match &mut self.phase {
            Phase::Checking(check) => {
                check.ended(started.in_cohort, congested);
                let check = *check;
                if check.closed.is_some_and(|taken| taken >= REOPENED) {
                    self.reopen(now);
                } else if check.is_complete(now) {
                    self.conclude(check, now);
                }
            }
            Phase::Open | Phase::Held(_) if congested && self.recent.exceeds(self.noise) => self.overload(now),
            Phase::Open | Phase::Held(_) => {}
        }
        if self.recent.ended >= if self.noise > MUCH_NOISE { REMEMBERED_IN_NOISE } else { REMEMBERED } {
            self.forget(now);
        }
    }

    /// The sink asked for a pause until then. Afterwards it gets less than what it took before; if it was seen for less than a
    /// second, nobody knows how much that is, and the rate begins low and rises fast.
    pub(super) fn paused(&mut self, started: Started, asked: Duration, until: Instant, now: Instant) {
        if self.paused_until.is_none_or(|until| until <= now) {
            if started.epoch == Some(self.epoch) {
                self.overload(now);
            }
            let lately = self.taken.lately(now).filter(|lately| *lately > 0.0);
            self.known.capacity =
                lately.map(|lately| self.known.capacity.map_or(lately, |capacity| capacity.min(lately)));
            let wanted = self.known.capacity.map_or(CAUTIOUS, |capacity| capacity * AFTER_CUT).max(SLOWEST);
            self.known.rate = self.known.rate.map(|rate| rate.min(wanted));
            self.moved = Cause::RetryAfter;
        }
        self.last_pause = asked;
        self.paused_until = Some(until);
        self.taken = Taken::from(until);
        self.check(None, 0, until);
    }

    /// The sink counts as down.
    pub(super) fn outage(&mut self) {
        self.moved = Cause::Outage;
    }

    /// Goes on after an outage, and after the pause that there may still be, as it was before, but below the capacity.
    pub(super) fn resume(&mut self, before: Self, paused_until: Option<Instant>, now: Instant) {
        *self = Self { epoch: self.epoch, paused_until, ..before };
        self.begin_epoch();
        self.taken = Taken::from(paused_until.unwrap_or(now));
        self.moved = Cause::Recovery;
        self.phase = Phase::Open;
        if let Some(rate) = self.known.rate {
            self.known.rate = Some(self.known.capacity.map_or(rate, |capacity| rate.min(capacity * AFTER_CUT)));
            self.phase = Phase::Held(now + HOLD);
        }
    }

    /// An event waited for the rate.
    fn grow(&mut self, rate: f64, waited: Duration, round_trip: Duration, now: Instant) {
        if let Phase::Held(until) = self.phase
            && now >= until
        {
            self.phase = Phase::Open;
        }
        let a_second = self.growth(rate).min(A_ROUND_TRIP / round_trip.as_secs_f64().max(0.001));
        if a_second > 0.0 {
            self.known.rate = Some(rate * (1.0 + (a_second * waited.as_secs_f64()).min(A_REQUEST)));
            self.moved = Cause::Demand;
        }
    }

    /// Growth a second.
    fn growth(&self, rate: f64) -> f64 {
        let has_pauses = !self.last_pause.is_zero();
        let held = if has_pauses { WHILE_HELD_PAUSES } else { WHILE_HELD };
        let caution = if has_pauses { CAUTION } else { 1.0 };
        match (self.phase, self.known.capacity) {
            (Phase::Checking(_), _) => 0.0,
            (_, None) => UNKNOWN_CAPACITY,
            (Phase::Held(_), Some(capacity)) if rate >= capacity * held => 0.0,
            (Phase::Held(_), Some(_)) => AROUND_CAPACITY,
            (Phase::Open, Some(capacity)) if rate < capacity * AFTER_CUT => UNKNOWN_CAPACITY * (1.0 - rate / capacity),
            (Phase::Open, Some(capacity)) => {
                caution * (AROUND_CAPACITY + BEYOND_CAPACITY * (rate / capacity - 1.0).clamp(0.0, 1.0))
            }
        }
    }

    /// What came of these at the rate of now.
    fn measured(&self, tally: Tally, now: Instant) -> Measured {
        let offered = self.offered.rate(now);
        Measured { offered: self.known.rate.map_or(offered, |rate| rate.min(offered)), tally }
    }

    /// More are congested than by chance.
    fn overload(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Checking(_)) {
            self.origin = self.known;
        }
        self.last_pause = Duration::ZERO;
        self.cut(self.measured(self.recent, now), None, now);
    }

    /// Goes down to less than what the sink took of what was offered.
    fn cut(&mut self, measured: Measured, before: Option<Measured>, now: Instant) {
        let rate = self.known.rate.unwrap_or(f64::INFINITY);
        // What little was offered says nothing of how much would have been taken.
        let is_full = measured.offered > 0.7 * rate;
        let capacity = (measured.share() < 1.0).then(|| measured.capacity(self.noise).max(SLOWEST));
        let wanted = capacity.map_or(measured.offered / CLOSED, |capacity| capacity * AFTER_CUT);
        let wanted = if is_full && capacity.is_some() { wanted } else { wanted.max(CAUTIOUS) };
        self.known = Known { rate: Some(wanted.min(rate * AFTER_CUT).max(SLOWEST)), capacity };
        self.check(before, 0, now);
        self.moved = Cause::Congestion;
    }

    /// The next first attempts tell what this rate does.
    fn check(&mut self, before: Option<Measured>, noise_like: u32, since: Instant) {
        self.begin_epoch();
        self.phase = Phase::Checking(Check::new(before, noise_like, since));
    }

    fn begin_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.recent = Tally::default();
        self.offered = Offered::default();
    }

    /// The cohort is complete.
    fn conclude(&mut self, check: Check, now: Instant) {
        let measured = self.measured(check.tally, now);
        self.noise = self.noise.min(check.tally.most_noise());
        let lately = self.taken.second_before();
        if check.is_noise(measured, self.noise) {
            let noise_like = check.noise_like + 1;
            if noise_like >= CERTAIN {
                self.accept_noise(check, now)
            } else {
                self.try_lower(measured, noise_like, now)
            }
        } else if !check.tally.exceeds(self.noise) {
            self.hold(now);
        } else if measured.share() >= 1.0 || measured.taken() < LIKE_CLOSED * lately {
            self.close(now);
        } else if check.before.is_none() && measured.taken() < DOUBTFUL * lately {
            self.check(Some(measured), 0, now);
        } else {
            self.cut(measured, Some(measured), now);
        }
    }

    /// The sink takes nothing. That tells nothing of its capacity: it may count by the second, or stand still.
    fn close(&mut self, now: Instant) {
        let rate = self.known.rate.unwrap_or(CAUTIOUS);
        self.known.rate = Some((rate / CLOSED).max(rate.min(CAUTIOUS)));
        self.check(None, 0, now);
        if let Phase::Checking(check) = &mut self.phase {
            check.closed = Some(0);
        }
        self.moved = Cause::Congestion;
    }

    /// It goes on: with what it took in the whole time, that in which it took nothing included.
    fn reopen(&mut self, now: Instant) {
        if let Some(average) = self.taken.average(now) {
            self.known.capacity = Some(self.known.capacity.map_or(average, |capacity| capacity.min(average)));
        }
        self.rise_to_capacity();
        self.check(None, 0, now);
        self.moved = Cause::Recovery;
    }

    /// A trial, or a sink that took nothing, went lower than it takes.
    fn rise_to_capacity(&mut self) {
        let Known { rate: Some(rate), capacity: Some(capacity) } = self.known else { return };
        self.known.rate = Some(rate.max(capacity * AFTER_CUT));
    }

    /// The rate is low enough: what it was derived from is the capacity.
    fn hold(&mut self, now: Instant) {
        let (found, capacity) = (self.found, self.known.capacity);
        let ratio = found.zip(capacity).map_or(f64::NAN, |(found, capacity)| capacity / found);
        self.found_again = if (ratio - 1.0).abs() < SAME { self.found_again + 1 } else { 0 };
        self.found = capacity;
        self.rise_to_capacity();
        let pause = self.last_pause;
        let hold = match self.found_again {
            0 if ratio > 1.0 => pause.max(HOLD_RISING),
            0 => pause.max(HOLD),
            times if pause.is_zero() => HOLD * times.min(HOLD_LONGER),
            times => (pause * HOLD_PAUSES * times.min(HOLD_PAUSES_LONGER)).max(HOLD),
        };
        self.phase = Phase::Held(now + hold);
    }

    /// Failures do not depend on the rate.
    fn accept_noise(&mut self, check: Check, now: Instant) {
        let before = check.before.map_or(Tally::default(), |before| before.tally);
        self.noise = before.and(check.tally).noise();
        self.known = self.origin;
        self.begin_epoch();
        self.phase = Phase::Open;
        self.next_trial = Some(now + self.trial_after);
        self.trial_after = (self.trial_after * 2).min(TRIAL_AFTER_MAX);
        self.moved = Cause::Noise;
    }

    /// So many are remembered that the older ones count for less from now on.
    fn forget(&mut self, now: Instant) {
        self.noise = self.noise.min(self.recent.most_noise());
        let measured = self.measured(self.recent, now);
        let suspect = self.noise + SUSPECT + 2.0 * self.recent.deviation(self.noise.max(SUSPECT));
        self.recent = self.recent.halved();
        match self.phase {
            // Below the capacity nothing should fail.
            Phase::Held(_) if measured.share() > suspect => self.try_lower(measured, 0, now),
            Phase::Open if self.noise >= DOUBTFUL_NOISE && self.next_trial.is_some_and(|trial| now >= trial) => {
                self.origin = self.known;
                self.noise = 0.0;
                self.try_lower(measured, 0, now);
            }
            _ => {}
        }
    }

    /// Tries whether as many fail at a lower rate.
    fn try_lower(&mut self, measured: Measured, noise_like: u32, now: Instant) {
        let rate = Some((measured.offered * TRIAL).max(SLOWEST));
        self.known = Known { rate, capacity: Some(measured.capacity(self.noise).max(SLOWEST)) };
        self.check(Some(measured), noise_like, now);
        self.moved = Cause::Trial;
    }
}
