//! What a seed means where several processes share a table of positions: when each lives, and what happens to it and to the table.
//!
//! Contract: these seeds are a space of their own. The world around is that of a small plan, with few of its faults; each kind of fault
//! of the processes and of the table draws from a source of chance of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;

use super::{End, Event, HEALTHY, Moment, Plan, Scale, chance, hours, log_between, minutes, one_of};
use crate::fault::Fault;

macro_rules! shared_faults {
    ($($(#[doc = $doc:literal])* $name:ident,)+) => {
        /// What goes wrong with the processes, and with the table that they share.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum SharedFault {
            $($(#[doc = $doc])* $name,)+
        }

        impl SharedFault {
            pub const ALL: &[SharedFault] = &[$(SharedFault::$name,)+];
        }
    };
}

shared_faults! {
    // The processes.
    /// Rolling updates: the next process starts, the one before is stopped.
    Rolls,
    Kills,
    /// All of them are away.
    AllDown,
    /// A process is stopped by a signal, and goes on later: longer than a lease, and shorter.
    Pauses,
    /// Its machine is suspended: its monotonic clock stands still meanwhile.
    Suspensions,
    /// It does not reach the table, and everything else.
    CutOff,
    /// Wall clocks are off by minutes.
    ClocksOff,
    /// Wall clocks jump.
    ClockJumps,
    /// They stop reading a table when they find that something is lost, which a stream does that is gone at once.
    StopsOnLoss,

    // The table.
    Throttles,
    /// 5xx, and what was asked for is done or not.
    ServerErrors,
    /// A write is done, and its answer is lost.
    LostAnswers,
    /// A write is lost.
    LostWrites,
    /// A write is done long after its caller has given it up, behind newer ones.
    LateWrites,
    /// Reads and writes of positions take long. Leases do not.
    SlowTable,
    /// It does not answer at all, for minutes.
    Away,
    /// It is deleted, and made anew without anything in it.
    MadeAnew,
    /// It is deleted, and restored from a backup of some seconds or minutes before.
    Restored,
}

use SharedFault::*;

/// Something is wrong for a time.
#[derive(Debug, Clone)]
pub struct Trouble {
    pub fault: SharedFault,
    /// Which process has it; of the table it is everybody's.
    pub process: usize,
    pub from: Moment,
    pub until: Moment,
    pub severity: f64,
}

/// One life of a process.
#[derive(Debug, Clone)]
pub struct Span {
    pub up: Moment,
    pub down: Moment,
    pub edge: Option<u64>,
    pub end: End,
    /// How far its wall clock is ahead, in seconds.
    pub skew: i64,
}

/// What several processes do in one world.
#[derive(Debug, Clone)]
pub struct Several {
    pub seed: u64,
    pub faults: BTreeSet<SharedFault>,
    pub lease: Duration,
    /// Items on a page of a query.
    pub page: usize,
    /// The lives of each process.
    pub processes: Vec<Vec<Span>>,
    pub troubles: Vec<Trouble>,
}

impl Several {
    pub fn during(&self, fault: SharedFault, process: usize, now: Moment) -> Option<&Trouble> {
        let is_on = |it: &&Trouble| it.fault == fault && (it.from..it.until).contains(&now);
        self.troubles.iter().filter(is_on).find(|it| it.fault.is_of_table() || it.process == process)
    }

    /// Whether nothing was wrong with the table between these moments, but what is harmless.
    pub fn table_was_well(&self, from: Moment, until: Moment, harmless: &[SharedFault]) -> bool {
        let hinders = |it: &Trouble| (it.fault.is_of_table() || it.fault == CutOff) && !harmless.contains(&it.fault);
        !self.troubles.iter().any(|it| hinders(it) && it.from < until && it.until > from)
    }
}

impl SharedFault {
    pub fn is_of_table(self) -> bool {
        matches!(
            self,
            Throttles | ServerErrors | LostAnswers | LostWrites | LateWrites | SlowTable | Away | MadeAnew | Restored
        )
    }

    fn lengths(self) -> (Duration, Duration) {
        match self {
            Pauses | Suspensions => (Duration::from_secs(1), minutes(3)),
            ClockJumps => (Duration::from_secs(1), Duration::from_secs(2)),
            // For so long nobody finds it. A restore takes minutes: longer than any of these leases.
            MadeAnew => (Duration::from_millis(1), minutes(2)),
            Restored => (Duration::from_secs(35), minutes(4)),
            _ => (Duration::from_secs(4), minutes(4)),
        }
    }

    /// Comes in stretches of time.
    fn is_trouble(self) -> bool {
        !matches!(self, Rolls | Kills | AllDown | ClocksOff | StopsOnLoss)
    }
}

/// Faults that do more harm together.
const THEMES: &[&[SharedFault]] = &[
    &[Rolls, Kills, AllDown, StopsOnLoss, ServerErrors, LostAnswers],
    &[Pauses, Suspensions, CutOff, ClocksOff, ClockJumps],
    &[Throttles, ServerErrors, LostAnswers, LostWrites, LateWrites, SlowTable, Away],
    &[LateWrites, LostAnswers, Pauses, CutOff, Kills],
    &[MadeAnew, Restored, Rolls, Kills, LateWrites],
];

/// Of the world around, these may go wrong too.
const AROUND: &[Fault] = &[
    Fault::LateShards,
    Fault::LateChildren,
    Fault::Outages,
    Fault::Throttling,
    Fault::SlowCalls,
    Fault::ExpiringIterators,
    Fault::SmallPages,
    Fault::Recreation,
    Fault::MassRollover,
    Fault::SlowSink,
    Fault::SinkOutage,
    Fault::LimitedSink,
    Fault::Poison,
    Fault::LostResponses,
];

fn draw_faults(seed: u64) -> BTreeSet<SharedFault> {
    let mut rng = chance(seed, 301);
    let wanted = one_of(&mut rng, &[0, 1, 1, 2, 2, 3, 3, 4, 5, 6]);
    let theme = one_of(&mut rng, THEMES);
    let kinds = if rng.bool() { SharedFault::ALL } else { theme };
    let mut faults: BTreeSet<SharedFault> = (0..wanted).map(|_| one_of(&mut rng, kinds)).collect();
    if rng.u8(..10) < 6 {
        faults.insert(one_of(&mut rng, &[Rolls, Kills]));
    }
    // Together they may hide each other: nobody promises anything then.
    if faults.contains(&Suspensions) {
        faults.remove(&ClockJumps);
    }
    faults
}

/// A world to live in: small, short, and with few faults.
fn draw_world(seed: u64) -> Plan {
    let mut rng = chance(seed, 302);
    let others: BTreeSet<Fault> = Fault::ALL.iter().copied().filter(|fault| !AROUND.contains(fault)).collect();
    let is_calm = rng.bool();
    let removed = if is_calm { Fault::ALL.iter().copied().collect() } else { others };
    loop {
        let plan = Plan::without(rng.u64(1 << 32..), &removed);
        let lasts = plan.healed.saturating_sub(plan.first_start);
        if plan.scale == Scale::Small && plan.partitions < 20 && lasts < hours(1) && plan.faults.len() <= 3 {
            return plan;
        }
    }
}

impl Plan {
    /// The plan of a seed where several processes live.
    pub fn of_several(seed: u64) -> Self {
        Self::of_several_without(seed, &BTreeSet::new(), &BTreeSet::new())
    }

    /// The same without these kinds of faults.
    pub fn of_several_without(seed: u64, removed: &BTreeSet<SharedFault>, around: &BTreeSet<Fault>) -> Self {
        let mut plan = draw_world(seed);
        plan.boundaries.clear();
        plan.faults.retain(|fault| !around.contains(fault));
        plan.episodes.retain(|episode| !around.contains(&episode.fault));
        let faults: BTreeSet<SharedFault> = draw_faults(seed).difference(removed).copied().collect();
        let mut rng = chance(seed, 303);
        let (lease, page) = (one_of(&mut rng, &[10, 15, 15, 30]), one_of(&mut rng, &[1, 3, 10, 100, 100]));
        let mut several = Several {
            seed,
            faults,
            lease: Duration::from_secs(lease),
            page,
            processes: Vec::new(),
            troubles: Vec::new(),
        };
        several.draw_losses(&mut plan);
        several.draw_processes(&plan);
        several.draw_troubles(&plan);
        plan.several = Some(several);
        plan
    }
}

impl Several {
    fn draw_losses(&self, plan: &mut Plan) {
        plan.settings.stop_on_loss = self.faults.contains(&StopsOnLoss);
        if !plan.settings.stop_on_loss {
            return;
        }
        let mut rng = chance(self.seed, 308);
        plan.faults.insert(Fault::GoneAtOnce);
        // Nobody knows of a stream that comes and goes while nobody reads.
        plan.faults.remove(&Fault::Recreation);
        plan.events.retain(|(_, event)| !matches!(event, Event::Recreate { .. }));
        let span = plan.healed - plan.first_start;
        for table in 0..plan.tables {
            let pause = log_between(&mut rng, Duration::from_secs(1), minutes(2));
            let at = plan.first_start + span.mul_f64(0.1 + 0.7 * rng.f64());
            plan.events.push((at, Event::Recreate { table, pause }));
            // Not all of it was read then.
            let item = rng.u32(..3);
            plan.events.push((at - Duration::from_millis(50), Event::Write { table, item, burst: 5 }));
        }
        plan.events.sort_by_key(|(moment, _)| *moment);
    }

    fn draw_processes(&mut self, plan: &Plan) {
        let mut rng = chance(self.seed, 304);
        let slots = rng.usize(2..=4);
        let replicas = one_of(&mut rng, &[1, 2, 2, 2, 3]).min(slots);
        let mut fleet = Fleet { up: vec![None; slots], spans: vec![Vec::new(); slots], rng: chance(self.seed, 305) };
        for number in 0..replicas {
            // Two first starts at once, or nearly.
            let later = log_between(&mut rng, Duration::from_millis(1), minutes(1));
            fleet.start(number, plan.first_start + if number == 0 || rng.bool() { Duration::ZERO } else { later });
        }
        let span = plan.healed - plan.first_start;
        let mut moments: Vec<Moment> =
            (0..rng.usize(2..=9)).map(|_| plan.first_start + span.mul_f64(0.9 * rng.f64())).collect();
        moments.sort();
        for at in moments {
            let kind = one_of(&mut rng, &[Rolls, Rolls, Rolls, Kills, Kills, AllDown]);
            let draw = rng.u64(..);
            if self.faults.contains(&kind) {
                fleet.meets(kind, at, &mut chance(draw, 306));
            }
        }
        fleet.closes(plan.healed, plan.settings.stop_on_loss);
        self.processes = fleet.spans;
        let mut rng = chance(self.seed, 307);
        for span in self.processes.iter_mut().flatten() {
            let skew = rng.i64(-200..=200);
            span.skew = if self.faults.contains(&ClocksOff) { skew } else { 0 };
        }
    }

    fn draw_troubles(&mut self, plan: &Plan) {
        let ends = |spans: &Vec<Span>| spans.iter().flat_map(|span| [span.up, span.down]).collect::<Vec<_>>();
        let mut anchors: Vec<Moment> = self.processes.iter().flat_map(ends).filter(|at| *at < plan.healed).collect();
        anchors.extend(plan.anchors.iter().copied().filter(|at| *at < plan.healed));
        let span = plan.healed - plan.first_start;
        for fault in SharedFault::ALL.iter().copied().filter(|fault| fault.is_trouble()) {
            let mut rng = chance(self.seed, 310 + fault as u64);
            let (least, most) = fault.lengths();
            for _ in 0..rng.usize(1..=4) {
                let length = log_between(&mut rng, least, most);
                let near = log_between(&mut rng, Duration::from_millis(10), minutes(1));
                let any = plan.first_start + span.mul_f64(rng.f64());
                let anchor = anchors.get(rng.usize(..anchors.len() + 3)).map(|at| *at + near);
                let from = if rng.bool() { any } else { anchor.unwrap_or(any) };
                let (pick, severity) = (rng.usize(..12), rng.f64());
                let from = from.max(plan.first_start + Duration::from_millis(1));
                let process = self.one_up_at(from, pick);
                let until = match fault {
                    Restored => from + length,
                    _ => (from + length).min(plan.healed),
                };
                if until > plan.healed && fault == Restored {
                    continue;
                }
                if self.faults.contains(&fault) && from < until {
                    self.troubles.push(Trouble { fault, process, from, until, severity });
                }
            }
        }
        self.troubles.sort_by_key(|trouble| trouble.from);
    }
}

impl Several {
    /// One of those that are up, or any.
    fn one_up_at(&self, at: Moment, pick: usize) -> usize {
        let is_up = |spans: &Vec<Span>| spans.iter().any(|span| (span.up..span.down).contains(&at));
        let up: Vec<usize> = (0..self.processes.len()).filter(|process| is_up(&self.processes[*process])).collect();
        match up.len() {
            0 => pick % self.processes.len(),
            count => up[pick % count],
        }
    }
}

/// Who is up, while a plan is drawn.
struct Fleet {
    up: Vec<Option<Moment>>,
    spans: Vec<Vec<Span>>,
    rng: Rng,
}

impl Fleet {
    fn start(&mut self, process: usize, at: Moment) {
        let free = self.spans[process].last().map_or(Moment::ZERO, |span| span.down);
        self.up[process].get_or_insert(at.max(free));
    }

    fn end(&mut self, process: usize, at: Moment, end: End, edge: Option<u64>) {
        if let Some(up) = self.up[process].take() {
            let down = at.max(up + Duration::from_millis(1));
            self.spans[process].push(Span { up, down, edge, end, skew: 0 });
        }
    }

    /// One of those that are up now, or are not.
    fn one(&mut self, is_up: bool) -> Option<usize> {
        let those: Vec<usize> = (0..self.up.len()).filter(|process| self.up[*process].is_some() == is_up).collect();
        (!those.is_empty()).then(|| one_of(&mut self.rng, &those))
    }

    fn meets(&mut self, kind: SharedFault, at: Moment, rng: &mut Rng) {
        let soon = log_between(rng, Duration::from_millis(100), minutes(2));
        let edge = (rng.u8(..3) == 0).then(|| rng.u64(1..=300));
        match kind {
            Rolls => {
                let (Some(old), new) = (self.one(true), self.one(false)) else { return };
                match new {
                    // Who is to be replaced is told a while after its successor was started, sometimes before.
                    Some(new) if rng.u8(..5) > 0 => {
                        self.start(new, at);
                        self.end(old, at + soon, End::Stopped, None);
                    }
                    _ => {
                        self.end(old, at, End::Stopped, None);
                        self.start(new.unwrap_or(old), at + soon);
                    }
                }
            }
            Kills => {
                let Some(process) = self.one(true) else { return };
                self.end(process, at, End::Killed, edge);
                self.start(process, at + soon);
            }
            _ => {
                let those: Vec<usize> = (0..self.up.len()).filter(|process| self.up[*process].is_some()).collect();
                for process in those {
                    let later = soon.mul_f64(rng.f64());
                    let end = if rng.bool() { End::Killed } else { End::Stopped };
                    self.end(process, at + later.mul_f64(rng.f64() * 0.1), end, None);
                    self.start(process, at + soon + later);
                }
            }
        }
    }

    /// All live on in a world that has healed; somebody starts them anew first if they are to read on in spite of a loss.
    fn closes(&mut self, healed: Moment, anew: bool) {
        if self.up.iter().all(Option::is_none) {
            self.start(0, healed - minutes(1));
        }
        for process in 0..self.up.len() {
            if let Some(up) = &mut self.up[process] {
                *up = (*up).min(healed.max(self.spans[process].last().map_or(Moment::ZERO, |span| span.down)));
            }
            if anew && self.up[process].is_some_and(|up| up < healed) {
                self.end(process, healed - Duration::from_secs(20), End::Stopped, None);
                self.start(process, healed);
            }
            self.end(process, healed + HEALTHY, End::Stopped, None);
        }
    }
}
