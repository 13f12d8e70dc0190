//! Weeks of the adapter in virtual time: the process's own assembly against a simulated AWS, sink and volume, one seed for all
//! chance, and a judge that knows every write. `docs/simulation.md` tells how to read a finding.
//!
//! `SIMULATION_SEEDS=1000..2000` runs other seeds than the usual ones, best in an optimised build.
#![allow(clippy::unwrap_used)] // a simulation that cannot run has failed

mod aws;
mod batch;
mod disk;
mod endless;
mod fault;
mod fleet;
mod item_table;
mod judge;
mod known;
mod leases;
mod life;
mod plan;
mod sabotage;
mod said;
mod service;
mod sink;
mod sinks;
mod store;
mod turns;
mod world;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use batch::{Kind, run_kind, run_seeds};
use known::{KNOWN, explanation};
use life::run;
use plan::Plan;

/// What `cargo test` runs without optimisation: the small worlds among these.
const SEEDS: Range<u64> = 0..300;

/// The most polls of a small world.
const SMALL: u64 = 3_000;

/// The usual seeds, or those that were asked for.
fn seeds() -> Vec<u64> {
    asked_for("SIMULATION_SEEDS").map_or_else(small_worlds, Iterator::collect)
}

fn asked_for(variable: &str) -> Option<Range<u64>> {
    let text = std::env::var(variable).ok()?;
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    Some(range.unwrap_or_else(|| panic!("{variable} is {text:?}, not two numbers such as 1000..2000")))
}

fn small_worlds() -> Vec<u64> {
    SEEDS.filter(|seed| Plan::draw(*seed).polls() <= SMALL).collect()
}

#[test]
fn no_seed_breaks_a_promise_but_as_is_known() {
    let unexpected = Mutex::new(Vec::new());
    let expected: Mutex<BTreeMap<&str, u64>> = Mutex::default();
    let summary = run_seeds(seeds().into_iter(), |plan, run| {
        for finding in &run.findings {
            match explanation(plan, finding.sentence) {
                Some(known) => *expected.lock().unwrap().entry(known.name).or_default() += 1,
                None => unexpected.lock().unwrap().push(format!("seed {} {:?}: {finding}", plan.seed, plan.faults)),
            }
        }
    });
    println!("{summary}");
    expected.into_inner().unwrap().iter().for_each(|(name, times)| println!("known, found {times} times: {name}"));
    let unexpected = unexpected.into_inner().unwrap();
    assert!(unexpected.is_empty(), "\n{}\n\nThe story of a seed: just simulate --seed <seed>\n", unexpected.join("\n"));
}

#[test]
fn the_same_seed_says_the_same_twice() {
    // On threads of their own, so that nothing of a first run is left for a second.
    let told = |seed| std::thread::spawn(move || run(Plan::draw(seed))).join().unwrap();
    for seed in small_worlds().into_iter().step_by(20) {
        let (one, other) = (told(seed), told(seed));
        let differs = one.story.iter().zip(&other.story).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!((one.digest, one.calls), (other.digest, other.calls), "seed {seed}");
    }
}

#[test]
fn the_same_seed_of_several_processes_says_the_same_twice() {
    let told = |seed| std::thread::spawn(move || run(Plan::of_several(seed))).join().unwrap();
    for seed in (0..40).step_by(8) {
        let (one, other) = (told(seed), told(seed));
        let differs = one.story.iter().zip(&other.story).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!((one.digest, one.calls), (other.digest, other.calls), "seed {seed}");
    }
}

/// The seeds of several processes that `cargo test` runs without optimisation.
const SEVERAL: Range<u64> = 0..40;

#[test]
fn no_seed_of_several_processes_breaks_a_promise() {
    let seeds = asked_for("SIMULATION_SEVERAL").unwrap_or(SEVERAL);
    let found = Mutex::new(Vec::new());
    let summary = run_kind(seeds, Kind::Several, |plan, run| {
        let several = plan.several.as_ref().unwrap();
        let (seed, faults) = (several.seed, &several.faults);
        let broken = run.findings.iter().map(|finding| format!("seed {seed} {faults:?} {:?}: {finding}", plan.faults));
        let broken: Vec<String> = broken.collect();
        broken.iter().for_each(|finding| println!("{finding}"));
        found.lock().unwrap().extend(broken);
    });
    println!("{summary}");
    let found = found.into_inner().unwrap();
    assert!(found.is_empty(), "\n{}\n\nThe story of a seed: just story-of-several <seed>\n", found.join("\n"));
}

#[test]
fn each_known_fault_is_still_found_by_its_seed() {
    let gone = Mutex::new(Vec::new());
    run_seeds(KNOWN.iter().map(|known| known.seed.0), |plan, run| {
        for known in KNOWN.iter().filter(|known| known.seed.0 == plan.seed) {
            let (seed, sentence) = known.seed;
            assert!(known.explains(plan, sentence), "seed {seed} is another's: {}", known.name);
            if !run.findings.iter().any(|finding| finding.sentence == sentence) {
                gone.lock().unwrap().push(format!("seed {seed} {sentence:?}: {}", known.name));
            }
        }
    });
    let gone = gone.into_inner().unwrap();
    assert!(gone.is_empty(), "\nnot found any more; what is mended is deleted from known.rs:\n{}\n", gone.join("\n"));
}
