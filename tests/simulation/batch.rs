//! Many seeds, on all cores.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::fault::Fault;
use crate::judge::Sentence;
use crate::life::{Run, run};
use crate::plan::{Plan, Scale};

/// What many seeds came to.
#[derive(Default)]
pub struct Summary {
    pub seeds: u64,
    pub calls: u64,
    pub most_calls: u64,
    pub lives: u64,
    pub cut: u64,
    pub simulated: Duration,
    pub found: BTreeMap<u64, Found>,
}

/// What a seed found.
pub struct Found {
    pub faults: BTreeSet<Fault>,
    pub scale: Scale,
    pub findings: Vec<crate::judge::Finding>,
}

impl Summary {
    fn add(&mut self, plan: &Plan, run: Run) {
        self.seeds += 1;
        self.calls += run.calls;
        self.most_calls = self.most_calls.max(run.calls);
        self.lives += u64::from(run.lives);
        self.cut += u64::from(run.is_cut);
        self.simulated += run.simulated;
        if !run.findings.is_empty() {
            let found = Found { faults: plan.faults.clone(), scale: plan.scale, findings: run.findings };
            self.found.insert(plan.seed, found);
        }
    }

    /// Each sentence that was broken, with the seeds that did.
    pub fn by_sentence(&self) -> BTreeMap<Sentence, Vec<u64>> {
        let mut sentences: BTreeMap<Sentence, Vec<u64>> = BTreeMap::new();
        for (seed, found) in &self.found {
            let broken: BTreeSet<Sentence> = found.findings.iter().map(|finding| finding.sentence).collect();
            broken.into_iter().for_each(|sentence| sentences.entry(sentence).or_default().push(*seed));
        }
        sentences
    }
}

/// Runs these seeds, as far as they have the faults `with`; each finding is shown to `each` as soon as it is there.
pub fn run_seeds(seeds: Range<u64>, with: &BTreeSet<Fault>, each: impl Fn(&Plan, &Run) + Sync) -> Summary {
    let (next, summary) = (AtomicU64::new(seeds.start), Mutex::new(Summary::default()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let plan = Plan::draw(seed);
                    if !plan.faults.is_superset(with) {
                        continue;
                    }
                    let run = run(plan.clone());
                    each(&plan, &run);
                    summary.lock().unwrap().add(&plan, run);
                }
            });
        }
    });
    summary.into_inner().unwrap()
}

/// The kinds of faults without which the seed does not find this.
pub fn needed(seed: u64, sentence: Sentence) -> BTreeSet<Fault> {
    let drawn = Plan::draw(seed).faults;
    let mut removed = BTreeSet::new();
    for fault in &drawn {
        let mut without = removed.clone();
        without.insert(*fault);
        if run(Plan::without(seed, &without)).findings.iter().any(|finding| finding.sentence == sentence) {
            removed = without;
        }
    }
    drawn.difference(&removed).copied().collect()
}
