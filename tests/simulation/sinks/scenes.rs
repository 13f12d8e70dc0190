//! The sinks that are tried, and what their runs show.

use std::time::Duration;

use super::closed_loop::{Delivery, Plan, Story, run};
use super::governors::{CONCURRENCY, Governor};
use super::models::{Arrival, Away, Limited, Model, Random, Windows, Workers, millis, seconds};

/// A sink, and what it takes at most.
pub struct Scene {
    pub name: &'static str,
    sink: fn() -> Box<dyn Model>,
    /// Events a second, retries left out.
    pub capacity: f64,
    pub items: usize,
    pub batch: usize,
    /// When the sink changes; how soon the loop has found that out is measured from then on.
    pub changes: u64,
    /// What is measured: the steady state, where there is one.
    pub from: u64,
    pub until: u64,
}

/// What a run shows.
#[derive(Debug)]
pub struct Figures {
    /// As a share of the capacity.
    pub goodput: f64,
    pub attempts: f64,
    /// The last attempt of an event: median and 99th percentile.
    pub took: [Duration; 2],
    /// From the start of an event's first attempt to that of its last one.
    pub delayed: [Duration; 2],
    /// From the change to the first of three seconds with nine tenths of the capacity.
    pub found: Option<Duration>,
}

impl Scene {
    const fn new(name: &'static str, capacity: f64, sink: fn() -> Box<dyn Model>) -> Self {
        Self { name, sink, capacity, items: 5_000, batch: 1, changes: 0, from: 60, until: 240 }
    }

    pub fn play(&self, governor: &mut dyn Governor, seed: u64) -> Story {
        run(&self.plan(seed), governor, &mut *(self.sink)())
    }

    /// The same through the product's own delivery room.
    pub fn play_for_real(&self, seed: u64) -> Story {
        super::real::run(&self.plan(seed), (self.sink)())
    }

    fn plan(&self, seed: u64) -> Plan {
        Plan { items: self.items, batch: self.batch, length: seconds(self.until), seed }
    }

    pub fn figures(&self, story: &Story) -> Figures {
        let (from, length) = (seconds(self.from), (self.until - self.from) as f64);
        let steady: Vec<&Delivery> = story.deliveries.iter().filter(|delivery| delivery.at >= from).collect();
        let attempts: u32 = steady.iter().map(|delivery| delivery.attempts).sum();
        let count = steady.len() as f64;
        let quantiles = |of: fn(&Delivery) -> Duration| {
            let mut all: Vec<Duration> = steady.iter().map(|delivery| of(delivery)).collect();
            all.sort_unstable();
            [0.5, 0.99].map(|quantile| all.get((count * quantile) as usize).copied().unwrap_or_default())
        };
        Figures {
            goodput: count / length / self.capacity,
            attempts: f64::from(attempts) / count.max(1.0),
            took: quantiles(|delivery| delivery.took),
            delayed: quantiles(|delivery| delivery.delayed),
            found: self.found(story),
        }
    }

    fn found(&self, story: &Story) -> Option<Duration> {
        let mut seconds_of = vec![0.0; self.until as usize + 1];
        for delivery in &story.deliveries {
            if let Some(second) = seconds_of.get_mut(delivery.at.as_secs() as usize) {
                *second += 1.0;
            }
        }
        let is_full = |window: &[f64]| window.iter().all(|second| *second >= 0.9 * self.capacity);
        let after = seconds_of.get(self.changes as usize..)?;
        after.windows(3).position(is_full).map(|second| seconds(second as u64))
    }
}

fn limited(per_second: fn(Duration) -> f64, retry_after: Option<u64>) -> Box<dyn Model> {
    Box::new(Limited { retry_after: retry_after.map(seconds), ..Limited::new(per_second) })
}

fn strict(per_second: fn(Duration) -> f64, pause: u64) -> Box<dyn Model> {
    Box::new(Limited { retry_after: Some(seconds(pause)), is_strict: true, ..Limited::new(per_second) })
}

/// As many workers as there are places.
fn random(share: f64) -> Box<dyn Model> {
    Box::new(Random { share, rest: Workers::new(CONCURRENCY, millis(10), usize::MAX) })
}

const fn before(change: u64, now: Duration) -> bool {
    now.as_secs() < change
}

#[rustfmt::skip]
pub fn scenes() -> Vec<Scene> {
    vec![
        Scene::new("500/s, then 429", 500.0, || limited(|_| 500.0, None)),
        Scene::new("200/s, then 429", 200.0, || limited(|_| 200.0, None)),
        Scene::new("100/s, then 429", 100.0, || limited(|_| 100.0, None)),
        Scene::new("500/s, then 429 with `Retry-After: 1`", 500.0, || limited(|_| 500.0, Some(1))),
        Scene { from: 120, until: 600, ..Scene::new("100/s, then 429 with `Retry-After: 10`", 100.0, || limited(|_| 100.0, Some(10))) },
        Scene { from: 400, until: 1_600, ..Scene::new("100/s, beyond that 429 to everything for 10 s", 100.0, || strict(|_| 100.0, 10)) },
        Scene::new("500 in each second of the clock", 500.0, || Box::new(Windows { a_second: 500, second: 0, taken: 0 })),
        Scene { from: 60, until: 180, changes: 60, ..Scene::new("500/s, from 60 s on 250/s", 250.0, || {
            limited(|now| if before(60, now) { 500.0 } else { 250.0 }, None)
        }) },
        Scene { from: 60, until: 180, changes: 60, ..Scene::new("250/s, from 60 s on 500/s", 500.0, || {
            limited(|now| if before(60, now) { 250.0 } else { 500.0 }, None)
        }) },
        Scene { from: 60, until: 180, ..Scene::new("20/s, rising to 500/s in 60 s", 500.0, || {
            limited(|now| (20.0 + 8.0 * now.as_secs_f64()).min(500.0), None)
        }) },
        Scene { from: 90, ..Scene::new("autoscaler on concurrency, cold start of 20 s", 640.0, || {
            Box::new(Workers::new(10, millis(100), usize::MAX).with_autoscaler(7.0, seconds(20)))
        }) },
        Scene::new("800/s, stands still for 1 s in 10", 720.0, || {
            Box::new(Workers::new(8, millis(10), usize::MAX).with_pauses(seconds(10), seconds(1)))
        }),
        Scene::new("500/s by one worker, a queue of 32, then 503", 500.0, || Box::new(Workers::new(1, millis(2), 32))),
        Scene::new("500/s by 10 workers, no queue: 503", 500.0, || Box::new(Workers::new(10, millis(20), 10))),
        Scene { from: 10, until: 40, ..Scene::new("5 % of 503 at random", 6_400.0 * 0.95, || random(0.05)) },
        Scene { from: 10, until: 40, ..Scene::new("20 % of 503 at random", 6_400.0 * 0.8, || random(0.2)) },
        Scene { from: 10, until: 40, ..Scene::new("50 % of 503 at random", 6_400.0 * 0.5, || random(0.5)) },
        Scene::new("500/s, then 429; 20 % of 503 at random", 500.0, || {
            Box::new(Random { share: 0.2, rest: Limited::new(|_| 500.0) })
        }),
        Scene::new("500/s, then 429; one item in ten takes 1 s", 500.0, || {
            let took = |arrival: Arrival, _: &mut fastrand::Rng| if arrival.item.is_multiple_of(10) { seconds(1) } else { millis(10) };
            Box::new(Limited { took, ..Limited::new(|_| 500.0) })
        }),
        Scene { batch: 50, ..Scene::new("2,000 events/s in batches of 50, then 429", 2_000.0, || {
            Box::new(Limited { burst: 200.0, ..Limited::new(|_| 2_000.0) })
        }) },
        Scene { items: 3, ..Scene::new("100/s, then 429; three items in all", 100.0, || limited(|_| 100.0, None)) },
        Scene { from: 90, changes: 90, ..Scene::new("500/s, then 429; nobody listens from 60 s to 90 s", 500.0, || {
            Box::new(Away { from: seconds(60), until: seconds(90), rest: Limited::new(|_| 500.0) })
        }) },
    ]
}

/// The scenes whose names contain a text.
pub fn scenes_of(text: &str) -> Vec<Scene> {
    let found: Vec<Scene> = scenes().into_iter().filter(|scene| scene.name.contains(text)).collect();
    assert!(!found.is_empty(), "no scene is called {text}");
    found
}
