//! Runs seeds until it is stopped, and tells what they find: `just simulate`. One seed is told as a story: `just simulate --seed 7`.
#![allow(clippy::unwrap_used)] // a simulation that cannot run has failed

mod aws;
mod batch;
mod disk;
mod fault;
mod judge;
mod life;
mod plan;
mod said;
mod service;
mod sink;
mod store;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use batch::{needed, run_seeds};
use fault::Fault;
use judge::Sentence;
use plan::Plan;

/// Seeds between two lines that tell how far it is.
const STEP: u64 = 500;

/// Seeds of one sentence that are shrunk at a time.
const MOST_SHRUNK: usize = 60;

#[allow(clippy::disallowed_methods, reason = "it tells how long it really takes")]
fn now() -> Instant {
    Instant::now()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1)?.parse::<u64>().ok()
    };
    if let Some(seed) = number("--seed") {
        return tell(seed);
    }
    let with = faults_named(&arguments);
    let all = arguments.iter().any(|argument| argument == "--all");
    let shrink = arguments.iter().any(|argument| argument == "--shrink");
    if shrink {
        return shrink_all(number("--from").unwrap_or(0), number("--count").unwrap_or(100), &with);
    }
    let (mut from, begun) = (number("--from").unwrap_or(0), now());
    let end = number("--count").map_or(u64::MAX, |count| from + count);
    let mut known: BTreeMap<Sentence, u64> = Default::default();
    while from < end {
        let to = (from + STEP).min(end);
        let summary = run_seeds(from..to, &with, |_, _| ());
        for (sentence, seeds) in summary.by_sentence() {
            *known.entry(sentence).or_default() += seeds.len() as u64;
            for seed in seeds.iter().take(if all { usize::MAX } else { 3 }) {
                let found = &summary.found[seed];
                let finding = found.findings.iter().find(|finding| finding.sentence == sentence).unwrap();
                println!("seed {seed} {:?} {:?}\n    {finding}", found.scale, found.faults);
            }
        }
        from = to;
        let took = begun.elapsed().as_secs_f64();
        println!(
            "== seeds to {to}: {:.0} calls and {:.1} lives a seed, {} with findings, {} cut, most calls {}, {:.1} virtual days, {:.1} s so far\n   {known:?}",
            summary.calls as f64 / summary.seeds as f64,
            summary.lives as f64 / summary.seeds as f64,
            summary.found.len(),
            summary.cut,
            summary.most_calls,
            summary.simulated.as_secs_f64() / 86_400.0,
            took
        );
    }
}

/// Only seeds that have all of these faults are run: `--with Kills,HiddenShards`.
fn faults_named(arguments: &[String]) -> BTreeSet<Fault> {
    let place = arguments.iter().position(|argument| argument == "--with");
    let names = place.and_then(|place| arguments.get(place + 1)).map_or("", String::as_str);
    Fault::ALL.iter().copied().filter(|fault| names.split(',').any(|name| name == format!("{fault:?}"))).collect()
}

/// What is found, by sentence and the faults that it needs: how often, and the first seeds.
fn shrink_all(from: u64, count: u64, with: &BTreeSet<Fault>) {
    let summary = run_seeds(from..from + count, with, |_, _| ());
    let mut kinds: BTreeMap<(Sentence, BTreeSet<Fault>, String), Vec<u64>> = BTreeMap::new();
    for (sentence, seeds) in summary.by_sentence() {
        for seed in seeds.into_iter().take(MOST_SHRUNK) {
            let scale = format!("{:?}", summary.found[&seed].scale);
            kinds.entry((sentence, needed(seed, sentence), scale)).or_default().push(seed);
        }
    }
    for ((sentence, faults, scale), seeds) in kinds {
        let what = summary.found[&seeds[0]].findings.iter().find(|finding| finding.sentence == sentence).unwrap();
        println!(
            "{} x {sentence:?} {scale} {faults:?}, seeds {:?}\n    {what}",
            seeds.len(),
            &seeds[..seeds.len().min(4)]
        );
    }
}

/// The story of one seed.
fn tell(seed: u64) {
    let plan = Plan::draw(seed);
    let Plan { scale, faults, partitions, episodes, .. } = &plan;
    println!("seed {seed}: {scale:?}, {partitions} partitions, faults {faults:?}");
    for episode in episodes {
        println!(
            "    {:?} from {:?} until {:?}",
            episode.fault,
            episode.from.saturating_sub(plan::BEGIN),
            episode.until.saturating_sub(plan::BEGIN)
        );
    }
    let run = life::run(plan);
    run.story.iter().for_each(|line| println!("{line}"));
    println!("{} calls, {} lives, {:?} simulated", run.calls, run.lives, run.simulated);
    run.findings.iter().for_each(|finding| println!("FOUND {finding}"));
    for sentence in run.findings.iter().map(|finding| finding.sentence).collect::<BTreeSet<_>>() {
        println!("{sentence:?} needs {:?}", needed(seed, sentence));
    }
}
