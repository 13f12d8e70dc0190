//! Models of sinks in virtual time, and what the controller makes of them, beside known algorithms of concurrency.
//!
//! `cargo test --release --test simulation the_tables_of_sinks -- --ignored --nocapture` prints the tables of
//! `docs/performance.md`.

mod closed_loop;
mod governors;
mod models;
mod real;
mod scenes;

use std::collections::BTreeSet;
use std::time::Duration;

use closed_loop::{Start, Story};
use governors::{CONCURRENCY, Governor, Limiter, Product, Rule};
use models::{Answer, seconds};
use scenes::{Figures, Scene, scenes, scenes_of};

/// Fewer where nothing is optimised.
const SEEDS: std::ops::Range<u64> = if cfg!(debug_assertions) { 1..2 } else { 1..5 };

type MakeGovernor = fn() -> Box<dyn Governor>;

const GOVERNORS: [(&str, MakeGovernor); 6] = [
    ("the controller", || Box::new(Product::new())),
    ("64 in flight", || Box::new(Limiter::new(CONCURRENCY, Rule::Fixed))),
    ("AIMD", || Box::new(Limiter::new(CONCURRENCY, Rule::Aimd))),
    ("Vegas", || Box::new(Limiter::new(20, Rule::Vegas { least: Duration::MAX }))),
    ("Gradient2", || Box::new(Limiter::new(20, Rule::Gradient2 { usual: 0.0 }))),
    ("one in flight", || Box::new(Limiter::new(1, Rule::Fixed))),
];

/// Plays the scenes of this name with the product's controller, and judges each.
fn judge(scene: &str, judge: impl Fn(&Scene, &Story, &Figures)) {
    for scene in scenes_of(scene) {
        for seed in SEEDS {
            let story = scene.play(&mut Product::new(), seed);
            let figures = scene.figures(&story);
            println!("{}, seed {seed}: {figures:?}", scene.name);
            judge(&scene, &story, &figures);
        }
    }
}

fn is_steady(figures: &Figures, goodput: f64, attempts: f64) {
    assert!(figures.goodput >= goodput, "{figures:?}");
    assert!(figures.attempts <= attempts, "{figures:?}");
}

#[test]
fn a_sink_that_says_429_beyond_its_capacity_gets_nine_tenths_of_it_with_few_attempts() {
    judge("/s, then 429", |scene, _, figures| {
        let noise = if scene.name.contains("20 %") { 1.25 } else { 1.0 };
        is_steady(figures, 0.9, 1.2 * noise);
    });
    judge("in batches", |_, _, figures| is_steady(figures, 0.9, 1.2));
    judge("second of the clock", |_, _, figures| is_steady(figures, 0.85, 1.1));
}

#[test]
fn a_sink_for_which_an_overstep_costs_ten_seconds_is_seldom_overstepped() {
    judge("to everything for 10 s", |_, _, figures| is_steady(figures, 0.9, 1.05));
}

#[test]
fn nothing_starts_in_a_pause_that_three_lanes_were_asked_for() {
    judge("to everything for 10 s", |_, story, _| {
        let refused: Vec<&Start> = story.starts.iter().filter(|start| start.answer != Answer::Accepted).collect();
        let mut pauses = 0;
        for pause in refused.chunk_by(|one, next| next.at < one.at + seconds(5)) {
            let items: BTreeSet<u64> = pause.iter().map(|start| start.item).collect();
            assert!(items.len() >= 3, "a pause that nobody had to keep");
            let mut answers: Vec<Duration> = pause.iter().map(|start| start.answered).collect();
            answers.sort_unstable();
            let kept = answers[items.len() - 1]..answers[2] + seconds(10);
            let broken = story.starts.iter().find(|start| kept.contains(&start.at) && start.at > answers[2]);
            assert!(broken.is_none(), "{kept:?}: {broken:?}");
            pauses += 1;
        }
        assert!(pauses > 2, "it was overstepped {pauses} times");
    });
}

#[test]
fn failures_at_random_cost_their_retries_and_nothing_else() {
    for (share, attempts) in [("5 % of 503 at", 1.06), ("20 % of 503 at random", 1.3), ("50 % of", 2.05)] {
        judge(share, |scene, _, figures| {
            if scene.capacity > 1_000.0 {
                is_steady(figures, 0.9, attempts);
            }
        });
    }
}

#[test]
fn a_sink_that_slows_down_is_neither_limited_nor_kept_from_scaling() {
    judge("autoscaler", |_, _, figures| {
        is_steady(figures, 0.95, 1.0);
        assert!(figures.found.is_some_and(|found| found <= seconds(60)), "{figures:?}");
    });
    judge("stands still", |_, _, figures| is_steady(figures, 0.95, 1.0));
    judge("a queue of 32", |_, _, figures| is_steady(figures, 0.95, 1.05));
    judge("no queue", |_, _, figures| is_steady(figures, 0.75, 1.1));
}

#[test]
fn a_capacity_that_changes_is_found_again() {
    for (scene, soon) in [("on 250/s", 8), ("on 500/s", 20), ("rising", 75)] {
        judge(scene, |_, _, figures| {
            assert!(figures.found.is_some_and(|found| found <= seconds(soon)), "{figures:?}");
            assert!(figures.attempts <= 1.1, "{figures:?}");
        });
    }
}

#[test]
fn an_outage_costs_a_probe_a_second_and_ends_within_seconds() {
    judge("nobody listens", |_, story, figures| {
        let during = |from| story.starts.iter().filter(move |start| (seconds(from)..seconds(90)).contains(&start.at));
        assert!(during(60).count() <= 64 + CONCURRENCY + 60, "{} requests", during(60).count());
        assert!(during(65).all(|start| start.is_down), "it was not noticed within 5 s");
        assert!(during(65).count() <= 25, "{} probes", during(65).count());
        assert!(figures.found.is_some_and(|found| found <= seconds(3)), "{figures:?}");
    });
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for scene in scenes_of("then 429; ") {
        let play = || format!("{:?}", scene.play(&mut Product::new(), 7).starts);
        assert!(play() == play(), "{}", scene.name);
    }
}

#[test]
fn the_dispatcher_does_the_same_with_the_controller() {
    for scene in ["200/s, then 429", "three items", "100/s, then 429 with"] {
        for scene in scenes_of(scene) {
            let figures = scene.figures(&scene.play_for_real(1));
            println!("{}: {figures:?}", scene.name);
            is_steady(&figures, 0.9, 1.2);
        }
    }
}

#[test]
#[ignore = "prints the tables of docs/performance.md"]
fn the_tables_of_sinks() {
    println!(
        "| sink | goodput | attempts a delivery | last attempt: p50, p99 | delay by failures: p50, p99 | found after | by the dispatcher |"
    );
    println!("|---|---|---|---|---|---|---|");
    for scene in scenes() {
        let Figures { goodput, attempts, took, delayed, found } = scene.figures(&scene.play(&mut Product::new(), 1));
        let found = found.map_or("never".to_owned(), |found| format!("{} s", found.as_secs()));
        let [took, delayed] = [took, delayed].map(|[half, most]| format!("{}, {}", text(half), text(most)));
        let real = summary(&scene.figures(&scene.play_for_real(1)));
        println!(
            "| {} | {:.0} % | {attempts:.2} | {took} | {delayed} | {found} | {real} |",
            scene.name,
            goodput * 100.0
        );
    }
    println!("\n| sink | {} |", GOVERNORS.map(|(name, _)| name).join(" | "));
    println!("|---|{}", "---|".repeat(GOVERNORS.len()));
    for scene in scenes() {
        let cells = GOVERNORS.map(|(_, governor)| summary(&scene.figures(&scene.play(&mut *governor(), 1))));
        println!("| {} | {} |", scene.name, cells.join(" | "));
    }
}

fn summary(figures: &Figures) -> String {
    format!("{:.0} %, {:.2}", figures.goodput * 100.0, figures.attempts)
}

fn text(time: Duration) -> String {
    match time.as_secs_f64() {
        0.0 => "0".to_owned(),
        seconds if seconds < 0.9995 => format!("{:.0} ms", seconds * 1_000.0),
        seconds => format!("{seconds:.1} s"),
    }
}
