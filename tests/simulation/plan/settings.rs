//! What the process is told in one of its lives.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;

use super::{Moment, Scale, chance, hours, log_between, minutes, one_of};
use crate::fault::Fault;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Latest,
    TrimHorizon,
    /// So long before the process starts.
    Ago(Duration),
}

/// What the process is told in one of its lives.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub start: Start,
    pub by_arn: bool,
    pub by_shard: bool,
    pub mode: &'static str,
    pub undeliverable: &'static str,
    pub max_attempts: Option<u32>,
    pub stop_on_loss: bool,
    pub poll: Duration,
    pub idle_max: Duration,
    pub timeout: Duration,
    pub buffer: usize,
    /// How far its clock is ahead of the world's, in seconds.
    pub skew: i64,
}

impl Settings {
    /// What the process's clock shows at a moment of the world.
    pub fn clock(&self, now: Moment) -> Moment {
        let off = Duration::from_secs(self.skew.unsigned_abs());
        if self.skew < 0 { now.saturating_sub(off) } else { now + off }
    }
}

impl Settings {
    /// What the start means of a process that starts now, and has nothing stored.
    pub fn first_moment(&self, now: Moment) -> Moment {
        match self.start {
            Start::Latest => now,
            Start::TrimHorizon => Moment::ZERO,
            Start::Ago(ago) => self.clock(now).saturating_sub(ago),
        }
    }
}

pub(super) fn draw_settings(seed: u64, faults: &BTreeSet<Fault>, scale: Scale) -> Settings {
    let mut rng = chance(seed, 4);
    let start = match rng.u8(..10) {
        0..4 => Start::Latest,
        4..7 => Start::TrimHorizon,
        _ => Start::Ago(log_between(&mut rng, Duration::from_secs(10), hours(3))),
    };
    let idle = match scale {
        Scale::Small => one_of(&mut rng, &[5, 5, 20]),
        Scale::Long => one_of(&mut rng, &[60, 120, 300]),
        Scale::Wide => one_of(&mut rng, &[10, 30]),
        Scale::Partitions => 60,
        Scale::Tables => 2,
    };
    let poll = one_of(&mut rng, &[250, 250, 1_000]);
    let (by_shard, mode) = (rng.u8(..6) == 0, one_of(&mut rng, &["binary", "binary", "structured", "batch"]));
    let undeliverable = one_of(&mut rng, &["block", "block", "drop", "dead-letter"]);
    let max_attempts = (rng.u8(..4) == 0).then(|| rng.u32(1..=6));
    let stop_on_loss = rng.u8(..8) == 0;
    let timeout = Duration::from_secs(one_of(&mut rng, &[1, 5, 30]));
    let by_arn = rng.u8(..4) == 0;
    let skew = rng.i64(-280..=280);
    Settings {
        start,
        by_arn,
        by_shard,
        mode,
        undeliverable,
        max_attempts: max_attempts.filter(|_| undeliverable != "block"),
        stop_on_loss: stop_on_loss && faults.contains(&Fault::ChangedSettings),
        poll: Duration::from_millis(poll),
        idle_max: Duration::from_secs(idle),
        timeout,
        buffer: if faults.contains(&Fault::LargeRecords) { 4 << 20 } else { 64 << 20 },
        skew: if faults.contains(&Fault::ClockOff) { skew } else { 0 },
    }
}

/// The settings of the next life.
pub(super) fn change_settings(rng: &mut Rng, before: &Settings, faults: &BTreeSet<Fault>) -> Settings {
    let mut after = before.clone();
    let start = one_of(rng, &[Start::Latest, Start::TrimHorizon, Start::Ago(minutes(5))]);
    let (by_shard, mode, spelled) = (rng.bool(), one_of(rng, &["binary", "structured", "batch"]), rng.bool());
    let skew = rng.i64(-280..=280);
    if faults.contains(&Fault::ChangedSettings) {
        (after.start, after.by_shard, after.mode, after.stop_on_loss) = (start, by_shard, mode, false);
    }
    if faults.contains(&Fault::ChangedSpelling) {
        after.by_arn = spelled;
    }
    if faults.contains(&Fault::ClockOff) {
        after.skew = skew;
    }
    after
}
