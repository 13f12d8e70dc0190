//! Each fault of the adapter is noticed, under its own sentence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Sabotage;
use crate::fault::Fault;
use crate::judge::Sentence;
use crate::life::{run, run_sabotaged};
use crate::plan::{Plan, Scale, Settings, Start, minutes};

/// The judge has to find it within so many worlds of those that it may happen in.
const WORLDS: usize = 10;

/// A sabotage, what it breaks, and in which worlds it can.
struct Case {
    sabotage: Sabotage,
    breaks: Sentence,
    /// What goes wrong in the world besides, all of it; nothing else does.
    faults: &'static [Fault],
    start: Option<Start>,
}

const fn case(sabotage: Sabotage, breaks: Sentence, faults: &'static [Fault]) -> Case {
    Case { sabotage, breaks, faults, start: None }
}

impl Case {
    const fn starting(self, start: Start) -> Self {
        Self { start: Some(start), ..self }
    }
}

#[rustfmt::skip]
const CASES: [Case; 34] = {
    use Fault::*;
    use Sabotage::*;
    use Sentence::*;
    [
        case(StoresTooFar, SettledAndNeverTaken, &[]),
        case(FinishesOpenShards, SettledAndNeverTaken, &[]),
        case(StoresChildBeforeParent, NotAPrefix, &[]),
        case(ForgetsAShard, Forgotten, &[]),
        case(NeverStores, Repeated, &[]).starting(Start::TrimHorizon),
        case(NeverLoads, Repeated, &[]).starting(Start::TrimHorizon),
        case(NeverLoads, Lost, &[Stops]).starting(Start::Latest),
        case(KeeperDies, Ended, &[]),
        case(LosesARecord, Lost, &[]),
        case(SwapsNeighbours, OutOfOrder, &[]),
        case(TakesRecordsForBroken, FalseGap, &[]),
        case(TakesPositionsForTrimmed, FalseGap, &[Kills]),
        case(ReadsNewShardsFromTheirEnd, Lost, &[]),
        case(TakesLatestForOldest, BeforeStart, &[]).starting(Start::Latest),
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
        case(DropsWhatItMayNot, Lost, &[SinkOutage]),
        case(PostsLate, Late, &[]),
        case(APostHangs, NotDelivered, &[]),
        case(BuffersSixteenfold, Memory, &[LargeRecords, SinkOutage]),
        case(IgnoresTheStart, BeforeStart, &[]).starting(Start::Latest),
        case(WaitsForATable, NotReady, &[]),
        case(StopsByItself, Ended, &[]),
    ]
};

/// Small worlds that have what the case needs, and nothing else that goes wrong.
fn worlds(case: &Case) -> impl Iterator<Item = Plan> {
    let wanted: BTreeSet<Fault> = case.faults.iter().copied().collect();
    let others: BTreeSet<Fault> = Fault::ALL.iter().copied().filter(|fault| !wanted.contains(fault)).collect();
    let start = case.start;
    let fits = move |plan: &Plan| {
        let lasts = plan.healed.saturating_sub(plan.first_start);
        plan.scale == Scale::Small
            && lasts < minutes(40)
            && plan.faults == wanted
            && start.is_none_or(|start| plan.settings.start == start)
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
                while let Some(case) = CASES.get(next.fetch_add(1, Ordering::Relaxed)) {
                    #[allow(clippy::disallowed_methods)]
                    let begun = std::time::Instant::now();
                    let place = found_in(case);
                    println!("{:?} {:?} {place:?} {:?}", case.sabotage, case.breaks, begun.elapsed());
                    found.lock().unwrap().insert((case.sabotage, case.breaks), place);
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    for ((sabotage, sentence), place) in &found {
        let place = place.map_or("not found".to_owned(), |(place, seed)| format!("world {place}, seed {seed}"));
        println!("{:<28} {:<22} {place}", format!("{sabotage:?}"), format!("{sentence:?}"));
    }
    assert!(found.values().all(Option::is_some), "the judge is too kind to some");
}
