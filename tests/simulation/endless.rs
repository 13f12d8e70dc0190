//! For people: seeds until it is stopped, and the story of one. `just simulate`, `just story 7`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use crate::batch::{Summary, run_seeds};
use crate::fault::Fault;
use crate::judge::Sentence;
use crate::known::explanation;
use crate::life::{Run, run};
use crate::plan::several::{SharedFault, Span};
use crate::plan::{BEGIN, Moment, Plan};

/// Seeds between two lines that tell how far it is.
const STEP: u64 = 500;

#[test]
#[ignore = "it runs until it is stopped: just simulate"]
fn until_it_is_stopped() {
    let mut from = number("SIMULATION_FROM").unwrap_or(0);
    let with = faults("SIMULATION_WITH");
    let (mut total, mut known) = (Summary::default(), BTreeMap::new());
    loop {
        let found = Mutex::new(Vec::new());
        let seeds = (from..from + STEP).filter(|seed| with.is_subset(&Plan::draw(*seed).faults));
        let summary = run_seeds(seeds, |plan, run| found.lock().unwrap().extend(kinds(plan, run)));
        for (kind, seed) in found.into_inner().unwrap() {
            *known.entry(kind).or_insert(0) += 1;
            if kind.1.is_none() && known[&kind] <= 5 {
                println!("seed {seed}: {:?} needs {:?}", kind.0, needed(seed, kind.0));
                show(seed, kind.0);
            }
        }
        from += STEP;
        total.join(summary);
        println!("to seed {from}: {total}");
        known
            .iter()
            .for_each(|((sentence, name), times)| println!("    {times:>6} {sentence:?}: {}", name.unwrap_or("NEW")));
    }
}

#[test]
#[ignore = "it tells one seed's story: just story 7"]
fn story_of_a_seed() {
    let seed = number("SIMULATION_SEED").expect("SIMULATION_SEED is the seed");
    let plan = Plan::draw(seed);
    let Plan { scale, faults, partitions, episodes, .. } = &plan;
    println!("seed {seed}: {scale:?}, {partitions} partitions, {faults:?}");
    for episode in episodes {
        let (from, until) = (episode.from.saturating_sub(BEGIN), episode.until.saturating_sub(BEGIN));
        println!("    {:?} from {from:.0?} to {until:.0?}", episode.fault);
    }
    let run = run(plan);
    run.story.iter().for_each(|line| println!("{line}"));
    println!("{} calls to AWS, {} lives, {:.0?}", run.calls, run.lives, run.simulated);
    run.findings.iter().for_each(|finding| println!("FOUND {finding}"));
    let broken: BTreeSet<Sentence> = run.findings.iter().map(|finding| finding.sentence).collect();
    broken.into_iter().for_each(|sentence| println!("{sentence:?} needs {:?}", needed(seed, sentence)));
}

#[test]
#[ignore = "it tells one seed's story: just story-of-several 7"]
fn story_of_several_processes() {
    let seed = number("SIMULATION_SEED").expect("SIMULATION_SEED is the seed");
    let plan = Plan::of_several(seed);
    let several = plan.several.clone().expect("several processes");
    let at = |moment: Moment| moment.saturating_sub(BEGIN);
    println!("seed {seed}: {:?}, lease {:?}, world {} {:?}", several.faults, several.lease, plan.seed, plan.faults);
    println!("    {:?}", plan.settings);
    for (number, spans) in several.processes.iter().enumerate() {
        for Span { up, down, edge, end, skew } in spans {
            let name = char::from(b'A' + number as u8);
            println!(
                "    process {name} from {:.1?} to {:.1?}, {end:?} {edge:?}, clock {skew:+} s",
                at(*up),
                at(*down)
            );
        }
    }
    for it in &several.troubles {
        let (from, until) = (at(it.from), at(it.until));
        println!("    {:?} from {from:.1?} to {until:.1?}, process {}, {:.2}", it.fault, it.process, it.severity);
    }
    for it in &plan.episodes {
        println!("    {:?} from {:.1?} to {:.1?}", it.fault, at(it.from), at(it.until));
    }
    let run = run(plan);
    run.story.iter().for_each(|line| println!("{line}"));
    println!("{} calls to AWS, {} lives, {:.0?}", run.calls, run.lives, run.simulated);
    run.findings.iter().for_each(|finding| println!("FOUND {finding}"));
    let broken: BTreeSet<Sentence> = run.findings.iter().map(|finding| finding.sentence).collect();
    broken.into_iter().for_each(|sentence| println!("{sentence:?} needs {:?}", needed_of_several(seed, sentence)));
}

/// The kinds of faults of the processes and their table without which the seed does not find this.
fn needed_of_several(seed: u64, sentence: Sentence) -> BTreeSet<SharedFault> {
    let drawn = Plan::of_several(seed).several.map(|several| several.faults).unwrap_or_default();
    let mut removed = BTreeSet::new();
    for fault in &drawn {
        let mut without = removed.clone();
        without.insert(*fault);
        let plan = Plan::of_several_without(seed, &without, &BTreeSet::new());
        if run(plan).findings.iter().any(|finding| finding.sentence == sentence) {
            removed = without;
        }
    }
    drawn.difference(&removed).copied().collect()
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, not a number")))
}

/// The kinds of faults that a variable names, separated by commas.
fn faults(variable: &str) -> BTreeSet<Fault> {
    let text = std::env::var(variable).unwrap_or_default();
    let named = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let find = |name: &str| Fault::ALL.iter().copied().find(|fault| format!("{fault:?}") == name);
    named
        .map(|name| find(name).unwrap_or_else(|| panic!("{variable} names {name:?}, which fault.rs has not")))
        .collect()
}

type Kind = (Sentence, Option<&'static str>);

/// The sentences that a run broke, each with what is known of it.
fn kinds(plan: &Plan, run: &Run) -> BTreeMap<Kind, u64> {
    let broken = run.findings.iter().map(|finding| finding.sentence);
    broken.map(|sentence| ((sentence, explanation(plan, sentence).map(|known| known.name)), plan.seed)).collect()
}

fn show(seed: u64, sentence: Sentence) {
    let run = run(Plan::draw(seed));
    run.findings.iter().filter(|finding| finding.sentence == sentence).for_each(|finding| println!("    {finding}"));
}

/// The kinds of faults without which the seed does not find this.
fn needed(seed: u64, sentence: Sentence) -> BTreeSet<Fault> {
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
