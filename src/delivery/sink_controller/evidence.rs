//! What a cut of the rate shows: how many requests of a cohort were congested, and whether that depends on the rate. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// The share that may always fail.
const LEAST_NOISE: f64 = 0.002;
/// What fails beyond the noise before it counts as congestion, as a share of the rest, apart from chance.
const TOLERATED: f64 = 0.05;

/// Requests after a cut whose fate says whether it was enough: more where fewer of them fail.
const COHORT: u32 = 48;
const COHORT_MAX: u32 = 256;
const COHORT_FAILURES: f64 = 6.0;
/// A cohort that is not complete after this is judged as it is; fewer than so many say nothing.
const COHORT_PATIENCE: Duration = Duration::from_secs(5);
const COHORT_MIN: u32 = 8;

/// First attempts that ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) ended: u32,
    pub(super) congested: u32,
}

impl Tally {
    pub(super) fn add(&mut self, congested: bool) {
        self.ended += 1;
        self.congested += u32::from(congested);
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { ended: self.ended + other.ended, congested: self.congested + other.congested }
    }

    pub(super) fn halved(self) -> Self {
        Self { ended: self.ended / 2, congested: self.congested / 2 }
    }

    pub(super) fn share(self) -> f64 {
        f64::from(self.congested) / f64::from(self.ended.max(1))
    }

    /// By how much the share of so many deviates by chance from this one.
    pub(super) fn deviation(self, share: f64) -> f64 {
        (share * (1.0 - share) / f64::from(self.ended.max(1))).sqrt()
    }

    /// Whether more are congested than by chance, if this share fails anyway: by four deviations and by one.
    pub(super) fn exceeds(self, noise: f64) -> bool {
        let noise = noise.max(LEAST_NOISE);
        let most = noise + TOLERATED * (1.0 - noise) + 4.0 * self.deviation(noise);
        f64::from(self.congested) > most * f64::from(self.ended) + 1.0
    }

    /// The most noise that there can be: noise fails at any rate.
    pub(super) fn most_noise(self) -> f64 {
        self.share() + 3.0 * self.deviation(self.share()) + 3.0 / f64::from(self.ended.max(1))
    }

    /// The noise that these are, rather a little more: it is corrected downwards.
    pub(super) fn noise(self) -> f64 {
        self.share() + self.deviation(self.share())
    }
}

/// What came of requests at some rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// Requests a second, retries included.
    pub(super) offered: f64,
    pub(super) tally: Tally,
}

impl Measured {
    pub(super) fn share(self) -> f64 {
        self.tally.share()
    }

    /// Requests a second that the sink took.
    pub(super) fn taken(self) -> f64 {
        self.offered * (1.0 - self.share())
    }

    /// Requests a second that it would take if none failed for other reasons.
    pub(super) fn capacity(self, noise: f64) -> f64 {
        self.taken() / (1.0 - noise.min(0.9))
    }
}

/// A cut whose effect is being measured by the next first attempts, its cohort.
#[derive(Debug, Clone, Copy)]
pub(super) struct Check {
    /// What was measured before it, if that was measured as well.
    pub(super) before: Option<Measured>,
    /// How often in a row failures looked like noise.
    pub(super) noise_like: u32,
    /// The sink takes nothing at the moment; how many it took in a row since.
    pub(super) closed: Option<u32>,
    pub(super) tally: Tally,
    since: Instant,
    started: u32,
    size: u32,
}

impl Check {
    pub(super) fn new(before: Option<Measured>, noise_like: u32, since: Instant) -> Self {
        let wanted = before.map_or(0.0, |before| COHORT_FAILURES / before.share().max(0.001));
        let size = (wanted as u32).clamp(COHORT, COHORT_MAX);
        Self { before, noise_like, closed: None, tally: Tally::default(), since, started: 0, size }
    }

    /// Whether a first attempt that starts now belongs to the cohort.
    pub(super) fn join(&mut self) -> bool {
        let joins = self.started < self.size;
        self.started += u32::from(joins);
        joins
    }

    /// One of the cohort was not sent: another one takes its place.
    pub(super) fn leave(&mut self) {
        self.started = self.started.saturating_sub(1);
    }

    /// A first attempt ended that started after the cut.
    pub(super) fn ended(&mut self, in_cohort: bool, congested: bool) {
        if in_cohort {
            self.tally.add(congested);
        }
        self.closed = self.closed.map(|taken| if congested { 0 } else { taken + 1 });
    }

    pub(super) fn is_complete(&self, now: Instant) -> bool {
        let is_late = now.saturating_duration_since(self.since) >= COHORT_PATIENCE;
        self.tally.ended >= if is_late { COHORT_MIN } else { self.size }
    }

    /// Whether as many fail as before at a rate that was clearly higher. If it were the rate, the sink would have taken as many
    /// requests now as then, and the share of failures would be that much smaller.
    pub(super) fn is_noise(&self, now: Measured, noise: f64) -> bool {
        let Some(before) = self.before.filter(|before| now.offered <= 0.8 * before.offered) else { return false };
        let by_rate = (1.0 - before.taken() / now.offered.max(f64::MIN_POSITIVE)).max(noise);
        let is_distinct = before.share() <= 0.9 && before.share() - by_rate >= 0.1 * before.share();
        is_distinct && (f64::midpoint(before.share(), by_rate)..=before.share() + 0.2).contains(&now.share())
    }
}
