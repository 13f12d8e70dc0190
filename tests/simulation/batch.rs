//! Many seeds, on all cores.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use crate::life::{Run, run};
use crate::plan::Plan;

/// What many seeds came to.
#[derive(Default)]
pub struct Summary {
    seeds: u64,
    calls: u64,
    most_calls: u64,
    lives: u64,
    /// Ended by the most calls that a seed may take.
    cut: u64,
    found: u64,
    simulated: Duration,
    handovers: Vec<Duration>,
    takeovers: Vec<Duration>,
}

impl Summary {
    fn add(&mut self, run: &Run) {
        self.join(Self {
            seeds: 1,
            calls: run.calls,
            most_calls: run.calls,
            lives: u64::from(run.lives),
            cut: u64::from(run.is_cut),
            found: u64::from(!run.findings.is_empty()),
            simulated: run.simulated,
            handovers: run.handovers.clone(),
            takeovers: run.takeovers.clone(),
        });
    }

    pub fn join(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.calls += other.calls;
        self.most_calls = self.most_calls.max(other.most_calls);
        self.lives += other.lives;
        self.cut += other.cut;
        self.found += other.found;
        self.simulated += other.simulated;
        self.handovers.extend(other.handovers);
        self.takeovers.extend(other.takeovers);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seeds = self.seeds.max(1) as f64;
        let (calls, lives) = (self.calls as f64 / seeds, self.lives as f64 / seeds);
        let days = self.simulated.as_secs_f64() / 86_400.0;
        let Self { seeds, most_calls, cut, found, .. } = self;
        write!(
            f,
            "{seeds} seeds, {days:.0} virtual days, a seed {calls:.0} calls to AWS (at most {most_calls}) and {lives:.1} lives; \
             {cut} were cut short, {found} found something"
        )?;
        for (what, times) in [("given back", &self.handovers), ("not renewed", &self.takeovers)] {
            if let Some([half, nine, most]) = shares(times) {
                let count = times.len();
                write!(
                    f,
                    "; {count} leases that were {what} were free for {half:.0?} (p50), {nine:.0?} (p99), at most {most:.0?}"
                )?;
            }
        }
        Ok(())
    }
}

/// The middle one, the 99th of 100, and the longest.
fn shares(times: &[Duration]) -> Option<[Duration; 3]> {
    let mut times = times.to_vec();
    times.sort_unstable();
    let last = times.len().checked_sub(1)?;
    Some([times[last / 2], times[last * 99 / 100], times[last]])
}

/// Whose seeds.
#[derive(Clone, Copy)]
pub enum Kind {
    /// One process in a world.
    One,
    /// Several, which share a table of positions.
    Several,
}

impl Kind {
    pub fn plan(self, seed: u64) -> Plan {
        match self {
            Self::One => Plan::draw(seed),
            Self::Several => Plan::of_several(seed),
        }
    }
}

/// Runs these seeds; shows each run to `each` as soon as it is there.
pub fn run_seeds(seeds: impl Iterator<Item = u64> + Send, each: impl Fn(&Plan, &Run) + Sync) -> Summary {
    run_kind(seeds, Kind::One, each)
}

/// The same of seeds of a kind.
pub fn run_kind(seeds: impl Iterator<Item = u64> + Send, kind: Kind, each: impl Fn(&Plan, &Run) + Sync) -> Summary {
    let (seeds, summary) = (Mutex::new(seeds), Mutex::new(Summary::default()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = next(&seeds) {
                    let plan = kind.plan(seed);
                    let run = run(plan.clone());
                    each(&plan, &run);
                    summary.lock().unwrap().add(&run);
                }
            });
        }
    });
    summary.into_inner().unwrap()
}

fn next(seeds: &Mutex<impl Iterator<Item = u64>>) -> Option<u64> {
    seeds.lock().unwrap().next()
}
