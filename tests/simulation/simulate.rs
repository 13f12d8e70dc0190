//! Runs seeds until it is stopped, and tells what they find: `just simulate`. One seed is told as a story: `just simulate --seed 7`,
//! also of an adapter with a fault: `--sabotage LosesARecord`.
#![allow(clippy::unwrap_used)] // a simulation that cannot run has failed

mod aws;
mod batch;
mod disk;
mod fault;
mod judge;
mod life;
mod plan;
mod sabotage;
mod said;
mod service;
mod sink;
mod store;
mod world;

use std::time::Instant;

use batch::{needed, run_seeds};
use judge::Sentence;
use plan::Plan;
use sabotage::Sabotage;

/// Seeds between two lines that tell how far it is.
const STEP: u64 = 500;

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
        let name = arguments.iter().position(|argument| argument == "--sabotage").and_then(|n| arguments.get(n + 1));
        return tell(seed, name.map_or(Sabotage::None, |name| Sabotage::named(name).expect("a kind of sabotage")));
    }
    let shrink = arguments.iter().any(|argument| argument == "--shrink");
    let (mut from, begun) = (number("--from").unwrap_or(0), now());
    let end = number("--count").map_or(u64::MAX, |count| from + count);
    let mut known: std::collections::BTreeMap<Sentence, u64> = Default::default();
    while from < end {
        let to = (from + STEP).min(end);
        let summary = run_seeds(from..to, |_, _| ());
        for (sentence, seeds) in summary.by_sentence() {
            *known.entry(sentence).or_default() += seeds.len() as u64;
            for seed in seeds.iter().take(if shrink { 8 } else { 3 }) {
                let found = &summary.found[seed];
                let finding = found.findings.iter().find(|finding| finding.sentence == sentence).unwrap();
                let faults = if shrink { needed(*seed, sentence) } else { found.faults.clone() };
                println!("seed {seed} {:?} {faults:?}\n    {finding}", found.scale);
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

/// The story of one seed, with the adapter as it is or with a fault.
fn tell(seed: u64, sabotage: Sabotage) {
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
    let run = life::run_sabotaged(plan, sabotage);
    run.story.iter().for_each(|line| println!("{line}"));
    println!("{} calls, {} lives, {:?} simulated", run.calls, run.lives, run.simulated);
    run.findings.iter().for_each(|finding| println!("FOUND {finding}"));
    for sentence in run.findings.iter().map(|finding| finding.sentence).collect::<std::collections::BTreeSet<_>>() {
        println!("{sentence:?} needs {:?}", needed(seed, sentence));
    }
}
