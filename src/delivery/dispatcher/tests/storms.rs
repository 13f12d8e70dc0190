//! Sinks that do anything at all, and then behave: whatever they did, the same holds.

use std::collections::BTreeSet;
use std::sync::Mutex;

use fastrand::Rng;

use super::stage::{Change, Reaction, Stage, settings};
use super::*;
use crate::delivery::lanes::BarrierRole;
use crate::delivery::retry::RetryLimits;
use crate::sink::{SinkResponse, TransportError};

/// How long the sinks do what they like; then they behave for as long again.
const STORM: Duration = Duration::from_secs(10 * 60);

/// What was left out whole comes again at the latest after that, and has then to wait for its turn.
const READMITTED: Duration = Duration::from_secs(15 * 60);

/// The bytes of one event of item 1, as the stage counts them.
const OF_ITEM_1: usize = 1_000_000;

/// What was seen of the requests.
#[derive(Default)]
struct Seen {
    /// Events of requests that failed, with those that were behind them in the same request.
    failed: BTreeSet<Change>,
    /// Events that a sink took, or that the sink refused where the policy is to drop.
    ended: BTreeSet<Change>,
}

fn change(id: &str) -> Change {
    let (item, version) = id.split_once('-').unwrap();
    (item.parse().unwrap(), version.parse().unwrap())
}

fn weather(rng: &mut Rng) -> Settings {
    let mode = [EventMode::Binary, EventMode::Structured, EventMode::Batch][rng.usize(..3)];
    let mut settings = settings(mode);
    settings.limits.concurrency = rng.usize(1..10);
    if mode == EventMode::Batch {
        settings.limits.events = rng.usize(1..13);
        settings.limits.wait = Duration::from_millis(rng.u64(0..200));
    }
    let attempts = rng.bool().then(|| NonZeroU32::new(rng.u32(1..5)).unwrap());
    let age = rng.bool().then(|| Duration::from_secs(rng.u64(1..100)));
    settings.policy.limits = RetryLimits { attempts, age };
    settings.policy.on_undeliverable =
        [OnUndeliverable::Block, OnUndeliverable::DeadLetter, OnUndeliverable::Drop][rng.usize(..3)];
    settings.rate_max = (rng.u8(..4) == 0).then(|| f64::from(rng.u32(1..50)));
    if rng.bool() {
        // Up to three events of the costliest item.
        settings.memory.lane = rng.usize(1..30) * OF_ITEM_1;
    }
    if rng.u8(..4) == 0 {
        settings.memory.bodies = rng.usize(1..3000);
    }
    settings
}

fn reaction(rng: &mut Rng, ids: &[String], batch: bool) -> Reaction {
    let after = Duration::from_millis(rng.u64(1..2000));
    let reaction = match rng.usize(..12) {
        0 => Reaction::status(503),
        1 => Reaction::status(400),
        2 => Reaction::status(429),
        3 => Reaction::fault(TransportError::Reset, after),
        4 => return Reaction::fault(TransportError::Timeout, 30 * SECOND),
        5 | 6 if batch => Reaction::naming(&ids.iter().filter(|_| rng.bool()).cloned().collect::<Vec<_>>()),
        7 if batch => Reaction::naming(&["nobody".to_owned()]),
        _ => Reaction::status(202),
    };
    Reaction { after, ..reaction }
}

/// Which of these a sink has taken by this reaction.
fn taken(reaction: &Reaction, changes: &[Change], batch: bool) -> BTreeSet<Change> {
    let SinkResponse::Accepted { body, .. } = &reaction.answer else { return BTreeSet::new() };
    let body = String::from_utf8_lossy(body);
    let named = |(item, version): &Change| batch && body.contains(&format!("\"{item}-{version}\""));
    if batch && body.contains("nobody") {
        return BTreeSet::new();
    }
    // Of one item only what is before the first that failed.
    let before =
        |change: &Change| !changes.iter().any(|other| other.0 == change.0 && other.1 <= change.1 && named(other));
    changes.iter().copied().filter(before).collect()
}

/// Lets so much time go by, in which what is left out comes again as soon as it may, and looks whether the dispatcher stands still or
/// goes round in vain.
async fn wait(stage: &Stage, time: Duration, rng: &mut Rng, seen: &Mutex<Seen>, seed: u64) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        // Whoever comes again counts as never tried.
        let again = stage.push_due(rng.u8(..8) == 0);
        seen.lock().unwrap().failed.retain(|change| !again.contains(change));
        let (before, requests) = (stage.activity.turns(), stage.requests());
        let stands = stage.activity.overdue(false, Instant::now());
        stage.settle_down(SECOND).await;
        let still = stands.filter(|_| stands == stage.activity.overdue(false, Instant::now()));
        assert_eq!(still, None, "seed {seed}: it stands still");
        let (turns, requests) = (stage.activity.turns() - before, stage.requests() - requests);
        assert!(turns <= 20 + 4 * requests as u64, "seed {seed}: {turns} turns in a second, of {requests} requests");
    }
}

async fn storm(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    fastrand::seed(seed);
    let settings = weather(&mut rng);
    let (limits, policy, batch) = (settings.limits, settings.policy, settings.mode == EventMode::Batch);
    let stage = Stage::new(settings);
    let seen = Arc::new(Mutex::new(Seen::default()));
    let calm = stage.begun + STORM;
    let outage = stage.begun + Duration::from_secs(rng.u64(0..300));

    let (seen_by_sink, settled, mut dice) = (seen.clone(), stage.books(), rng.fork());
    stage.sink.script(move |ids| {
        let (now, mut seen) = (Instant::now(), seen_by_sink.lock().unwrap());
        let changes: Vec<Change> = ids.iter().map(|id| change(id)).collect();
        let settled = settled();
        for (place, (item, version)) in changes.iter().enumerate() {
            let earlier = (0..*version).map(|version| (*item, version));
            let late = earlier.filter(|earlier| !settled.contains(earlier) && !changes[..place].contains(earlier));
            assert_eq!(late.count(), 0, "seed {seed}: {item}-{version} was sent before the events before it");
            assert!(!settled.contains(&(*item, *version)), "seed {seed}: sent again after it was settled");
        }
        let company = changes.len() > 1 && changes.iter().any(|change| seen.failed.contains(change));
        assert!(!company, "seed {seed}: {changes:?} has one that failed before");
        let reaction = match () {
            () if now >= calm => Reaction::status(200),
            () if now >= outage && now < outage + MINUTE => Reaction::status(503),
            () => reaction(&mut dice, ids, batch),
        };
        let taken = taken(&reaction, &changes, batch);
        seen.failed.extend(changes.iter().filter(|change| !taken.contains(change)));
        seen.ended.extend(match policy.on_undeliverable {
            OnUndeliverable::Drop => changes.into_iter().collect(),
            _ => taken,
        });
        reaction
    });
    let (seen_by_letters, mut dice) = (seen.clone(), rng.fork());
    stage.letters.script(move |ids| {
        assert_eq!(policy.on_undeliverable, OnUndeliverable::DeadLetter, "seed {seed}: nobody asked for letters");
        let reaction = if Instant::now() >= calm { Reaction::status(200) } else { reaction(&mut dice, ids, false) };
        if matches!(reaction.answer, SinkResponse::Accepted { .. }) {
            seen_by_letters.lock().unwrap().ended.extend(ids.iter().map(|id| change(id)));
        }
        reaction
    });

    let mut versions = [0; 9];
    // The first one is barriers, and some changes of the others are behind them.
    let items = rng.usize(1..9);
    let role = |item: usize, behind: bool| match (item, behind) {
        (0, _) => BarrierRole::Barrier(0),
        (_, true) => BarrierRole::After(0),
        (_, false) => BarrierRole::None,
    };
    while Instant::now() < calm {
        let page: Vec<(Change, BarrierRole)> = (0..rng.usize(1..20))
            .map(|_| {
                let item = rng.usize(..items);
                versions[item] += 1;
                ((item as u64, versions[item] - 1), role(item, rng.bool()))
            })
            .collect();
        stage.push_gated(page);
        wait(&stage, Duration::from_secs(rng.u64(1..120)), &mut rng, &seen, seed).await;
    }
    // Calm: what is under way, parked or paused takes a minute at most, and then everything goes.
    wait(&stage, STORM + READMITTED, &mut rng, &seen, seed).await;
    // Where everything became a letter, nothing was left to notice the end of the outage with.
    versions[0] += 1;
    stage.push([(0, versions[0] - 1)]);
    stage.settle_down(MINUTE).await;

    let settled = stage.settled();
    let everything: BTreeSet<Change> =
        (0..items).flat_map(|item| (0..versions[item]).map(move |version| (item as u64, version))).collect();
    let distinct: BTreeSet<Change> = settled.iter().copied().collect();
    assert_eq!(settled.len(), distinct.len(), "seed {seed}: settled twice");
    assert!(distinct == everything, "seed {seed}: never settled: {:?}", everything.difference(&distinct));
    let unfounded: Vec<_> = distinct.difference(&seen.lock().unwrap().ended).copied().collect();
    assert!(unfounded.is_empty(), "seed {seed}: settled although nobody took them: {unfounded:?}");
    for item in 0..items as u64 {
        let order: Vec<u64> = settled.iter().filter(|change| change.0 == item).map(|change| change.1).collect();
        assert!(order.is_sorted(), "seed {seed}: item {item} was settled in the order {order:?}");
    }
    assert!(stage.sink.most() <= limits.concurrency, "seed {seed}");
    assert!(stage.letters.most() <= (limits.concurrency / 4).max(1), "seed {seed}");
    assert_eq!((stage.in_flight(), stage.parked()), (0, 0), "seed {seed}: gauges that drift");
    assert_eq!((stage.kept(), stage.left_out()), (0, Vec::new()), "seed {seed}: memory that nobody gives back");
    assert_eq!(stage.outage(), None, "seed {seed}: an outage without end");
}

#[test]
fn whatever_the_sinks_do_everything_is_settled_once_and_in_order() {
    let seeds = std::env::var("STORM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(100);
    for seed in 0..seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(storm(seed));
    }
}
