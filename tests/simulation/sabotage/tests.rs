//! Each fault of the adapter is noticed, under its own sentence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Sabotage;
use crate::fault::Fault;
use crate::judge::Sentence;
use crate::life::{run, run_sabotaged};
use crate::plan::several::{SharedFault, Trouble};
use crate::plan::{Episode, Plan, Scale, Settings, Start, minutes};

/// The judge has to find it within so many worlds of those that it may happen in.
const WORLDS: usize = 20;

/// The same where several processes share a table: what a fault needs is rarer there.
const SHARED_WORLDS: usize = 60;

/// A sabotage, what it breaks, and in which worlds it can.
struct Case {
    sabotage: Sabotage,
    breaks: Sentence,
    /// What goes wrong in the world besides, all of it; nothing else does.
    faults: &'static [Fault],
    /// With which settings.
    fits: fn(&Settings) -> bool,
}

const fn case(sabotage: Sabotage, breaks: Sentence, faults: &'static [Fault]) -> Case {
    Case { sabotage, breaks, faults, fits: |_| true }
}

impl Case {
    /// Only with such settings.
    const fn set(self, fits: fn(&Settings) -> bool) -> Self {
        Self { fits, ..self }
    }
}

#[rustfmt::skip]
const CASES: [Case; 39] = {
    use Fault::*;
    use Sabotage::*;
    use Sentence::*;
    [
        case(StoresTooFar, SettledAndNeverTaken, &[]),
        case(FinishesOpenShards, SettledAndNeverTaken, &[]),
        case(StoresChildBeforeParent, NotAPrefix, &[]),
        case(ForgetsAShard, Forgotten, &[]),
        case(NeverStores, Repeated, &[]).set(|it| it.start == Start::TrimHorizon),
        case(NeverLoads, Repeated, &[]).set(|it| it.start == Start::TrimHorizon),
        case(NeverLoads, Lost, &[Stops]).set(|it| it.start == Start::Latest),
        case(CheckpointerDies, Ended, &[]),
        case(LosesARecord, Lost, &[]),
        case(SwapsNeighbours, OutOfOrder, &[]),
        case(TakesRecordsForBroken, FalseGap, &[]),
        case(TakesPositionsForTrimmed, FalseGap, &[Kills]),
        case(ReadsNewShardsFromTheirEnd, Lost, &[]),
        case(TakesLatestForOldest, BeforeStart, &[]).set(|it| it.start == Start::Latest),
        case(BeginsBehindReady, Lost, &[]).set(|it| it.start == Start::Latest),
        case(SeesNoChildren, NotDelivered, &[]),
        case(AReadHangs, NotDelivered, &[]),
        case(AReadHangs, NotAlive, &[]),
        case(ListsInDozens, AccountLimit, &[]),
        case(ListsWithoutEnd, ListingBudget, &[]),
        case(ReadsTwiceAtATime, TwoReaders, &[]),
        case(ReadsWithoutPause, ShardRate, &[]),
        case(NeverSlowsDown, IdleBudget, &[]),
        case(PollsSlowly, Late, &[]),
        case(PostsTwice, Repeated, &[]),
        case(PostsTheOneBeforeAgain, Stale, &[]),
        case(PostsNotAll, SettledAndNeverTaken, &[]),
        case(TakesRefusalForSuccess, Lost, &[SinkOutage]),
        case(DropsWhatFailsOnce, Lost, &[SinkOutage]).set(|it| it.undeliverable == "block"),
        case(DropsWhatFailsOnce, Lost, &[SinkOutage]).set(|it| it.undeliverable == "drop" && it.max_attempts > Some(2)),
        case(BuriesWhatFailsOnce, Lost, &[SinkOutage]).set(|it| it.undeliverable == "block"),
        case(PostsWithoutWaiting, OutOfOrder, &[]),
        case(IgnoresShardOrder, OutOfOrder, &[]).set(|it| it.by_shard && it.mode != "batch"),
        case(PostsLate, Late, &[]),
        case(APostHangs, NotDelivered, &[]),
        case(BuffersSixteenfold, Memory, &[LargeRecords, SinkOutage]),
        case(IgnoresTheStart, BeforeStart, &[]).set(|it| it.start == Start::Latest),
        case(WaitsForATable, NotReady, &[]),
        case(StopsByItself, Ended, &[]),
    ]
};

/// Small worlds that have what the case needs, and nothing else that goes wrong.
fn worlds(case: &Case) -> impl Iterator<Item = Plan> {
    let wanted: BTreeSet<Fault> = case.faults.iter().copied().collect();
    let others: BTreeSet<Fault> = Fault::ALL.iter().copied().filter(|fault| !wanted.contains(fault)).collect();
    let settings = case.fits;
    let fits = move |plan: &Plan| {
        let lasts = plan.healed.saturating_sub(plan.first_start);
        plan.scale == Scale::Small && lasts < minutes(40) && plan.faults == wanted && settings(&plan.settings)
    };
    (0..).map(move |seed| Plan::without(seed, &others)).filter(fits)
}

fn finds(run: &crate::life::Run, sentence: Sentence) -> bool {
    run.findings.iter().any(|finding| finding.sentence == sentence)
}

/// In which world, counted from 1, the sabotage is found, and nothing of the kind in an honest run; its seed.
fn found_in(case: &Case) -> Option<(usize, u64)> {
    let found = |plan: &Plan| {
        finds(&run_sabotaged(plan.clone(), case.sabotage), case.breaks) && !finds(&run(plan.clone()), case.breaks)
    };
    let (place, plan) = worlds(case).take(WORLDS).enumerate().find(|(_, plan)| found(plan))?;
    Some((place + 1, plan.seed))
}

#[test]
fn each_fault_of_the_adapter_is_noticed() {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = CASES.get(number) else { return };
                    let place = found_in(case);
                    found.lock().unwrap().insert(number, place);
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    for (Case { sabotage, breaks, .. }, place) in CASES.iter().zip(found.values()) {
        let place = place.map_or("not found".to_owned(), |(place, seed)| format!("world {place}, seed {seed}"));
        println!("{:<28} {:<22} {place}", format!("{sabotage:?}"), format!("{breaks:?}"));
    }
    assert!(found.values().all(Option::is_some), "the judge is too kind to some");
}

#[test]
fn each_sabotage_has_a_case_and_each_sentence_is_broken_by_one() {
    let sabotaged: BTreeSet<Sabotage> = CASES.iter().map(|case| case.sabotage).collect();
    assert_eq!(sabotaged, Sabotage::ALL.into_iter().collect());
    let broken: BTreeSet<Sentence> = CASES.iter().map(|case| case.breaks).collect();
    assert_eq!(broken.last(), Some(&Sentence::Late), "the last sentence there is");
    assert_eq!(broken.len(), Sentence::Late as usize + 1);
}

/// A fault of how processes share a table, what it breaks, and in which worlds; with what is wrong around it all the time, and late writes too
/// then; and from which seed on they are looked at.
type SharedCase = (Sabotage, Sentence, &'static [SharedFault], Option<Fault>, u64);

#[rustfmt::skip]
const SHARED_CASES: [SharedCase; 8] = {
    use SharedFault::*;
    [
        (Sabotage::TouchesNothing, Sentence::Stale, &[Kills, LateWrites], Some(Fault::LimitedSink), 0),
        (Sabotage::WritesOverNewerVersions, Sentence::Forgotten, &[LateWrites], None, 0),
        (Sabotage::StoresChildrenFirst, Sentence::NotAPrefix, &[], None, 0),
        (Sabotage::IgnoresTheEnd, Sentence::AfterTheEnd, &[CutOff], None, 0),
        (Sabotage::ClaimsEarly, Sentence::TwoOwners, &[], None, 0),
        (Sabotage::RenewsBehindSaves, Sentence::Deposed, &[SlowTable], None, 0),
        (Sabotage::ForgetsWhatItStored, Sentence::Repeated, &[MadeAnew], None, 0),
        (Sabotage::KeepsItsLease, Sentence::LateTakeover, &[Rolls], None, 0),
    ]
};

/// The worlds of several processes that have these faults and no other.
fn shared_worlds(faults: &[SharedFault], always: Option<Fault>, from: u64) -> impl Iterator<Item = Plan> {
    let wanted: BTreeSet<SharedFault> = faults.iter().copied().collect();
    let others: BTreeSet<SharedFault> = SharedFault::ALL.iter().copied().filter(|it| !wanted.contains(it)).collect();
    let around: BTreeSet<Fault> = Fault::ALL.iter().copied().collect();
    let late = SharedFault::LateWrites;
    let plan = move |seed| {
        let mut plan = Plan::of_several_without(seed, &others, &around);
        let (from, until) = (plan.first_start, plan.healed);
        plan.faults.extend(always);
        plan.episodes.extend(always.map(|fault| Episode { fault, from, until, severity: 0.0, pick: 0 }));
        if let Some(several) =
            plan.several.as_mut().filter(|several| always.is_some() && several.faults.contains(&late))
        {
            several.troubles.push(Trouble { fault: late, process: 0, from, until, severity: 0.5 });
        }
        plan
    };
    (from..).map(plan).filter(move |plan| plan.several.as_ref().is_some_and(|several| several.faults == wanted))
}

fn shared_found_in((sabotage, breaks, faults, always, from): &SharedCase) -> Option<(usize, u64)> {
    let worlds = shared_worlds(faults, *always, *from).take(SHARED_WORLDS).enumerate();
    let found = worlds.map(|(place, plan)| {
        let seed = plan.several.as_ref().unwrap().seed;
        let is_found = finds(&run_sabotaged(plan.clone(), *sabotage), *breaks) && !finds(&run(plan), *breaks);
        (place, seed, is_found)
    });
    let mut found = found.filter(|(_, _, is_found)| *is_found);
    found.next().map(|(place, seed, _)| (place + 1, seed))
}

#[test]
fn each_fault_of_sharing_a_table_is_noticed() {
    let sabotaged: BTreeSet<Sabotage> = SHARED_CASES.iter().map(|(sabotage, ..)| *sabotage).collect();
    assert_eq!(sabotaged, Sabotage::SHARED.into_iter().collect());
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = SHARED_CASES.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (sabotage, breaks, ..) = case;
                    match shared_found_in(case) {
                        Some((place, seed)) => println!("{sabotage:?} {breaks:?}: world {place}, seed {seed}"),
                        None => missed.lock().unwrap().push((sabotage, breaks)),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "the judge is too kind to {missed:?}");
}

#[test]
fn a_fault_that_has_no_occasion_changes_nothing() {
    let plan = worlds(&case(Sabotage::TakesRefusalForSuccess, Sentence::Lost, &[])).next().unwrap();
    assert_eq!(run_sabotaged(plan.clone(), Sabotage::TakesRefusalForSuccess).digest, run(plan).digest);
}
