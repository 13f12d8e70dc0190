//! What one seed means: how large the world is, what goes wrong in it and when, and when the process lives.
//!
//! Contract: the same seed gives the same plan. Each kind of fault draws from a source of chance of its own, so that a plan from
//! which one kind was taken away is the same plan otherwise: that is how the kinds that a finding needs are told.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;

use crate::fault::Fault;

mod settings;
pub mod several;

pub use self::settings::{Settings, Start};
use self::settings::{change_settings, draw_settings};
use self::several::Several;

/// Time since the world began.
pub type Moment = Duration;

/// Worlds begin so late that what was there before has a time too.
pub const BEGIN: Moment = hours(72);

/// How long AWS keeps records, closed shards and disabled streams.
pub const RETENTION: Duration = hours(24);

/// How long everybody behaves before the judge closes the books.
pub const HEALTHY: Duration = minutes(30);

pub const fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

pub const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// How large a world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Minutes to hours of a few shards.
    Small,
    /// Days of a few shards that are asked seldom.
    Long,
    /// Half an hour of a hundred shards.
    Wide,
    /// An hour of a thousand partitions, with a day of closed shards.
    Partitions,
    /// Many tables of many shards.
    Tables,
}

impl Scale {
    /// At most so many calls to AWS a seed.
    pub fn most_calls(self) -> u64 {
        match self {
            Scale::Small | Scale::Long | Scale::Wide => 100_000,
            Scale::Partitions | Scale::Tables => 200_000,
        }
    }
}

/// A time during which something is wrong.
#[derive(Debug, Clone)]
pub struct Episode {
    pub fault: Fault,
    pub from: Moment,
    pub until: Moment,
    /// What each fault makes of it: a chance, a choice.
    pub severity: f64,
    pub pick: u64,
}

/// What happens in the world by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    Write {
        table: usize,
        item: u32,
        burst: u32,
    },
    /// A shard is closed and continued by one or two; which, is drawn from those that are open then.
    Rollover {
        table: usize,
        split: bool,
        draw: u64,
    },
    MassRollover {
        table: usize,
    },
    /// The stream is disabled, and enabled again after the pause.
    Recreate {
        table: usize,
        pause: Duration,
    },
    /// The table is deleted and made anew under its name.
    Replace {
        table: usize,
        pause: Duration,
    },
    Enable {
        table: usize,
    },
}

/// The end of a life of the process, and the beginning of the next.
#[derive(Debug, Clone)]
pub struct Boundary {
    pub down: Moment,
    /// The life ends at this edge of the world already, if it gets there: an edge is where a call takes effect or is answered.
    pub edge: Option<u64>,
    pub up: Moment,
    pub end: End,
    pub settings: Settings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Stopped,
    Killed,
    /// The node is lost: what was not synced may be.
    PowerLost,
}

/// One seed's world.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub faults: BTreeSet<Fault>,
    pub scale: Scale,
    pub tables: usize,
    pub partitions: usize,
    /// Generations of closed shards at the beginning.
    pub generations: usize,
    pub rollover: Duration,
    /// AWS is far away: the shortest and the longest time that an ordinary call takes, in milliseconds.
    pub latency: (u64, u64),
    pub payload: usize,
    /// Shards on a page of a listing, and records on one of a shard.
    pub listing_page: usize,
    pub page_limit: usize,
    pub first_start: Moment,
    pub settings: Settings,
    pub boundaries: Vec<Boundary>,
    pub episodes: Vec<Episode>,
    pub events: Vec<(Moment, Event)>,
    /// Moments at which something else happens, or would if its fault had not been removed from the seed's.
    anchors: Vec<Moment>,
    drawn: BTreeSet<Fault>,
    /// From here on nobody misbehaves.
    pub healed: Moment,
    /// Several processes live in it, and share a table of positions.
    pub several: Option<Several>,
}

/// A source of chance for one purpose.
pub fn chance(seed: u64, purpose: u64) -> Rng {
    let mut rng =
        Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ purpose.wrapping_mul(0xD1B5_4A32_D192_ED03));
    rng.u64(..);
    rng
}

/// A number for one thing in one world that does not depend on when it is asked for.
pub fn hash(seed: u64, purpose: u64, thing: u64) -> u64 {
    chance(seed ^ thing.wrapping_mul(0xA24B_AED4_963E_E407), purpose).u64(..)
}

fn between(rng: &mut Rng, least: Duration, most: Duration) -> Duration {
    Duration::from_millis(rng.u64(least.as_millis() as u64..=most.as_millis() as u64))
}

/// Evenly on a logarithmic scale: short times as often as long ones.
fn log_between(rng: &mut Rng, least: Duration, most: Duration) -> Duration {
    let (least, most) = (least.as_secs_f64().ln(), most.as_secs_f64().ln());
    Duration::from_secs_f64((least + (most - least) * rng.f64()).exp())
}

fn one_of<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}

impl Plan {
    pub fn draw(seed: u64) -> Self {
        Self::without(seed, &BTreeSet::new())
    }

    /// The seed's plan without these kinds of faults.
    pub fn without(seed: u64, removed: &BTreeSet<Fault>) -> Self {
        let drawn = draw_faults(seed);
        let mut rng = chance(seed, 1);
        let scale = draw_scale(&mut rng, &drawn);
        let mut faults: BTreeSet<Fault> = drawn.difference(removed).copied().collect();
        // Whether many tables are read in time is told only where nothing is wrong.
        if scale == Scale::Tables && chance(seed, 8).u8(..4) > 0 {
            faults.clear();
        }
        let span = draw_span(&mut rng, scale, &drawn);
        let mut plan = Self::sized(seed, faults, scale, &mut rng);
        let life = BEGIN..BEGIN + span;
        plan.first_start = BEGIN + one_of(&mut rng, &[Duration::ZERO, minutes(1), span / 10, span / 4]);
        plan.healed = life.end;
        plan.drawn = drawn;
        plan.anchors.push(plan.first_start);
        plan.draw_older_changes();
        plan.draw_boundaries(span);
        plan.draw_stream_events(span);
        plan.draw_episodes(span);
        plan.draw_writes(&mut rng, span);
        plan.events.sort_by_key(|(moment, _)| *moment);
        plan
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// About how many polls it takes, to choose small worlds by.
    pub fn polls(&self) -> u64 {
        let shards = (self.tables * self.partitions) as f64;
        let life = (self.healed + HEALTHY).saturating_sub(self.first_start);
        let quiet = shards * life.as_secs_f64() / self.settings.idle_max.as_secs_f64();
        // Behind a change a shard is asked often for a while.
        let busy = 30.0 * self.events.len() as f64;
        (quiet + busy) as u64
    }

    /// The episode of this kind that is going on, if there is one.
    pub fn during(&self, fault: Fault, now: Moment) -> Option<&Episode> {
        self.episodes.iter().find(|episode| episode.fault == fault && (episode.from..episode.until).contains(&now))
    }

    fn sized(seed: u64, faults: BTreeSet<Fault>, scale: Scale, rng: &mut Rng) -> Self {
        let (tables, partitions, generations) = match scale {
            Scale::Small | Scale::Long => {
                let partitions = if rng.u8(..12) == 0 { 20 } else { rng.usize(1..=4) };
                (if rng.u8(..10) == 0 { 2 } else { 1 }, partitions, rng.usize(0..=2))
            }
            Scale::Wide => (1, rng.usize(40..=150), rng.usize(0..=3)),
            Scale::Partitions => (1, 1_000, 6),
            Scale::Tables => (32, 40, 0),
        };
        let rollover = match scale {
            Scale::Small => log_between(rng, minutes(2), hours(1)),
            Scale::Wide => log_between(rng, minutes(10), hours(4)),
            Scale::Long | Scale::Partitions | Scale::Tables => hours(4),
        };
        let small = faults.contains(&Fault::SmallPages);
        let (small_page, large_record) = (rng.usize(1..=5), rng.usize(20_000..=300_000));
        let page_limit = if small { small_page } else { 1_000 };
        let payload = if faults.contains(&Fault::LargeRecords) { large_record } else { 0 };
        let listing_page = match scale {
            Scale::Small | Scale::Long => one_of(rng, &[100, 100, 100, 3, 10]),
            Scale::Wide | Scale::Partitions | Scale::Tables => 100,
        };
        let is_far = scale == Scale::Tables || rng.u8(..10) == 0;
        let mut settings = draw_settings(seed, &faults, scale);
        if scale == Scale::Long && partitions >= 20 {
            settings.idle_max = Duration::from_secs(300);
        }
        Self {
            seed,
            settings,
            faults,
            scale,
            tables,
            partitions,
            generations,
            rollover,
            latency: if is_far { (150, 350) } else { (4, 30) },
            payload,
            listing_page,
            page_limit,
            first_start: BEGIN,
            boundaries: Vec::new(),
            episodes: Vec::new(),
            events: Vec::new(),
            anchors: Vec::new(),
            drawn: BTreeSet::new(),
            healed: BEGIN,
            several: None,
        }
    }

    fn draw_boundaries(&mut self, span: Duration) {
        let mut rng = chance(self.seed, 2);
        let mut settings = self.settings.clone();
        let mut moments: Vec<Moment> =
            (0..rng.usize(2..=7)).map(|_| self.first_start + span.mul_f64(0.9 * rng.f64() * rng.f64())).collect();
        moments.sort();
        // Some lives are short: the next ends soon after it began.
        for index in 1..moments.len() {
            let soon = moments[index - 1] + log_between(&mut rng, Duration::from_millis(500), minutes(3));
            if rng.u8(..3) == 0 {
                moments[index] = moments[index].min(soon);
            }
        }
        for down in moments {
            let down = down.min(self.healed - minutes(2));
            let kind = one_of(&mut rng, &[Fault::Stops, Fault::Stops, Fault::Kills, Fault::Kills, Fault::PowerLoss]);
            let edge = rng.bool().then(|| rng.u64(1..=200));
            let quick = log_between(&mut rng, Duration::from_millis(200), minutes(10));
            let (is_long, long) = (rng.u8(..3) == 0, log_between(&mut rng, hours(1), hours(40)));
            let changed = change_settings(&mut rng, &settings, &self.faults);
            if self.drawn.contains(&kind) {
                let away = if is_long && self.drawn.contains(&Fault::LongAbsence) { long } else { quick };
                self.anchors.extend([down, (down + away).min(self.healed)]);
            }
            if !self.has(kind) {
                continue;
            }
            let absence = if is_long && self.has(Fault::LongAbsence) { long } else { quick };
            settings = changed;
            let end = match kind {
                Fault::Stops => End::Stopped,
                Fault::Kills => End::Killed,
                _ => End::PowerLost,
            };
            let up = (down + absence).min(self.healed - minutes(1)).max(down);
            self.boundaries.push(Boundary { down, edge, up, end, settings: settings.clone() });
        }
        // A life begins behind the end of the one before.
        for index in 1..self.boundaries.len() {
            let earliest = self.boundaries[index - 1].up;
            let boundary = &mut self.boundaries[index];
            boundary.down = boundary.down.max(earliest);
            boundary.up = boundary.up.max(boundary.down);
        }
    }

    fn draw_episodes(&mut self, span: Duration) {
        for fault in Fault::ALL.iter().copied().filter(|fault| fault.comes_in_episodes()) {
            let mut rng = chance(self.seed, 100 + fault as u64);
            let (least, most) = fault.lengths();
            for _ in 0..rng.usize(1..=3) {
                let length = log_between(&mut rng, least, most);
                let at = self.interesting(&mut rng, span);
                let (severity, pick) = (rng.f64(), rng.u64(..));
                let from = at.saturating_sub(length.mul_f64(rng.f64())).max(BEGIN);
                let until = (from + length).min(self.healed);
                if self.has(fault) {
                    self.episodes.push(Episode { fault, from, until, severity, pick });
                }
            }
        }
    }

    /// A moment near which something else happens, or any.
    fn interesting(&self, rng: &mut Rng, span: Duration) -> Moment {
        let any = BEGIN + span.mul_f64(rng.f64());
        let anchor = self.anchors.get(rng.usize(..self.anchors.len() * 5 / 4 + 1)).copied();
        let near = log_between(rng, Duration::from_millis(100), minutes(10));
        match (anchor, rng.bool()) {
            (Some(anchor), true) => anchor.saturating_sub(near).max(BEGIN),
            (Some(anchor), false) => (anchor + near).min(self.healed),
            (None, _) => any,
        }
    }

    fn draw_stream_events(&mut self, span: Duration) {
        let mut anchors = Vec::new();
        if self.has(Fault::StreamArns) && self.first_start > BEGIN {
            // So that a table has two streams when its streams are named.
            let earlier = BEGIN + (self.first_start - BEGIN).mul_f64(chance(self.seed, 7).f64() * 0.8);
            let pause = Duration::from_secs(1);
            self.events.extend((0..self.tables).map(|table| (earlier, Event::Recreate { table, pause })));
        }
        for table in 0..self.tables {
            for (fault, most) in [(Fault::Recreation, 4), (Fault::TableReplaced, 2), (Fault::MassRollover, 3)] {
                let mut rng = chance(self.seed, 200 + fault as u64 + 100 * table as u64);
                let close_together = rng.bool();
                let mut at = self.interesting(&mut rng, span);
                for _ in 0..rng.usize(1..=most) {
                    let pause = log_between(&mut rng, Duration::from_secs(1), minutes(20));
                    let lead = log_between(&mut rng, Duration::from_millis(10), Duration::from_secs(20));
                    let (is_led, split, draw) = (rng.bool(), rng.bool(), rng.u64(..));
                    let event = match fault {
                        Fault::Recreation => Event::Recreate { table, pause },
                        Fault::TableReplaced => Event::Replace { table, pause },
                        _ => Event::MassRollover { table },
                    };
                    if self.drawn.contains(&fault) {
                        anchors.extend([at, (at + pause).min(self.healed)]);
                    }
                    if self.has(fault) && at < self.healed - minutes(1) {
                        self.events.push((at, event));
                        // A shard's end just before the stream's.
                        if is_led && at > BEGIN + lead {
                            self.events.push((at - lead, Event::Rollover { table, split, draw }));
                        }
                    }
                    let next = log_between(&mut rng, Duration::from_secs(10), minutes(30));
                    at = if close_together { at + pause + next } else { self.interesting(&mut rng, span) };
                }
            }
        }
        // Only a few tables' events are what others come near to.
        anchors.truncate(16);
        self.anchors.extend(anchors);
    }

    fn draw_writes(&mut self, rng: &mut Rng, span: Duration) {
        let (least, most) = match self.scale {
            Scale::Small => (20, 300),
            Scale::Long => (20, 150),
            Scale::Wide => (50, 500),
            Scale::Partitions => (100, 400),
            Scale::Tables => (600, 1_000),
        };
        let writes = rng.usize(least..=most) / if self.payload > 0 { 5 } else { 1 };
        let items = one_of(rng, &[1_u32, 3, 10, 100]);
        let items = if self.scale == Scale::Tables { 1_000 } else { items };
        let end = self.healed - Duration::from_secs(30);
        // In some worlds something was written before the process starts for the first time.
        let (has_backlog, ahead) = (rng.u8(..3) == 0, self.first_start - BEGIN);
        for number in 0..writes {
            let at = match rng.bool() && self.scale != Scale::Tables {
                true => self.interesting(rng, span),
                false => BEGIN + span.mul_f64(rng.f64()),
            };
            let at = if has_backlog && number % 2 == 0 { BEGIN + ahead.mul_f64(rng.f64()) } else { at };
            let burst = if rng.u8(..20) == 0 { rng.u32(2..=20) } else { 1 };
            let write = Event::Write { table: rng.usize(..self.tables), item: rng.u32(..items), burst };
            self.events.push((at.min(end), write));
        }
    }

    /// In some worlds of small pages there are many of them before those that the start asks for.
    fn draw_older_changes(&mut self) {
        const OLDER: u32 = 200;
        const NEWER: u32 = 10;
        let (mut rng, ahead) = (chance(self.seed, 9), self.first_start - BEGIN);
        let is_chosen = self.scale == Scale::Small && self.drawn.contains(&Fault::SmallPages) && rng.bool();
        if !is_chosen || ahead < minutes(1) {
            return;
        }
        let ago = (ahead / 3).min(Duration::from_secs(30));
        self.settings.start = Start::Ago(ago);
        self.rollover = self.rollover.max(hours(1));
        let older = ahead - ago - Duration::from_secs(10);
        let moments = (0..OLDER).map(|_| BEGIN + older.mul_f64(rng.f64())).collect::<Vec<_>>();
        let soon = Duration::from_secs(30);
        let moments = moments.into_iter().chain((0..NEWER).map(|n| self.first_start + soon * n / NEWER));
        let writes = moments.map(|at| (at, Event::Write { table: 0, item: rng.u32(..3), burst: 1 }));
        self.events.extend(writes.filter(|(at, _)| *at < self.healed - minutes(1)));
    }
}

/// Faults that do more harm together.
const THEMES: &[&[Fault]] = &[
    &[
        Fault::LateShards,
        Fault::HiddenShards,
        Fault::ShuffledListings,
        Fault::RepeatingPages,
        Fault::LateChildren,
        Fault::LateStatus,
        Fault::WrongNotFound,
        Fault::Recreation,
        Fault::TableReplaced,
        Fault::MassRollover,
    ],
    &[
        Fault::Stops,
        Fault::Kills,
        Fault::PowerLoss,
        Fault::LongAbsence,
        Fault::ChangedSettings,
        Fault::ChangedSpelling,
        Fault::Denials,
        Fault::Outages,
        Fault::Recreation,
        Fault::FullDisk,
        Fault::FailingDisk,
    ],
    &[
        Fault::LongDenials,
        Fault::LongSinkOutage,
        Fault::LongAbsence,
        Fault::StrictTrimming,
        Fault::ClockOff,
        Fault::Poison,
        Fault::LargeRecords,
        Fault::Recreation,
        Fault::Pauses,
    ],
    &[
        Fault::SlowSink,
        Fault::LimitedSink,
        Fault::ColdStart,
        Fault::SinkOutage,
        Fault::Poison,
        Fault::LostResponses,
        Fault::LargeRecords,
        Fault::OddRecords,
        Fault::SmallPages,
        Fault::ChangedSettings,
    ],
];

/// A few kinds of faults a seed: so each combination comes up, and what a finding needs is soon told.
fn draw_faults(seed: u64) -> BTreeSet<Fault> {
    let mut rng = chance(seed, 3);
    let wanted = one_of(&mut rng, &[0, 1, 2, 2, 3, 3, 4, 5, 6, 8]);
    let theme = one_of(&mut rng, THEMES);
    let kinds = if rng.bool() { Fault::ALL } else { theme };
    let mut faults: BTreeSet<Fault> = (0..wanted).map(|_| one_of(&mut rng, kinds)).collect();
    // Most of what is promised is promised of AWS.
    if rng.u8(..3) > 0 {
        faults.retain(|fault| !fault.is_of_another_service());
    }
    if rng.u8(..10) == 0 {
        faults.insert(Fault::SmallPages);
    }
    if wanted > 0 && rng.u8(..10) < 6 {
        faults.insert(one_of(&mut rng, &[Fault::Stops, Fault::Kills]));
    }
    if faults.contains(&Fault::LongAbsence) && !faults.contains(&Fault::Stops) {
        faults.insert(Fault::Kills);
    }
    faults
}

fn draw_scale(rng: &mut Rng, faults: &BTreeSet<Fault>) -> Scale {
    let scale = match rng.u16(..1_000) {
        0..700 => Scale::Small,
        700..900 => Scale::Long,
        900..983 => Scale::Wide,
        983..990 => Scale::Partitions,
        _ => Scale::Tables,
    };
    if faults.iter().any(|fault| fault.takes_days()) {
        return Scale::Long;
    }
    let is_large = matches!(scale, Scale::Partitions | Scale::Tables | Scale::Wide);
    // A large world that is full of large records would take more than its calls.
    if is_large && faults.contains(&Fault::LargeRecords) {
        return Scale::Small;
    }
    scale
}

fn draw_span(rng: &mut Rng, scale: Scale, faults: &BTreeSet<Fault>) -> Duration {
    let span = match scale {
        Scale::Small => log_between(rng, minutes(5), hours(3)),
        Scale::Long => log_between(rng, hours(12), hours(168)),
        Scale::Wide => between(rng, minutes(15), minutes(40)),
        Scale::Partitions => minutes(50),
        Scale::Tables => Duration::from_secs(150),
    };
    if faults.iter().any(|fault| fault.takes_days()) { span.max(hours(60)) } else { span }
}

#[cfg(test)]
mod tests;
