use super::*;

#[test]
fn the_same_seed_is_the_same_plan() {
    for seed in 0..200 {
        assert_eq!(format!("{:?}", Plan::draw(seed)), format!("{:?}", Plan::draw(seed)), "seed {seed}");
    }
}

#[test]
fn a_kind_of_fault_that_is_removed_leaves_the_others_as_they_were() {
    // The ends of lives are what the episodes are laid around.
    let removable = |fault: &Fault| fault.comes_in_episodes();
    for seed in 0..200 {
        let whole = Plan::draw(seed);
        for removed in whole.faults.iter().copied().filter(removable) {
            let without = Plan::without(seed, &BTreeSet::from([removed]));
            let rest: Vec<&Episode> = whole.episodes.iter().filter(|episode| episode.fault != removed).collect();
            assert_eq!(
                format!("{rest:?}"),
                format!("{:?}", without.episodes.iter().collect::<Vec<_>>()),
                "seed {seed}, {removed:?}"
            );
            assert_eq!(
                format!("{:?}", whole.boundaries),
                format!("{:?}", without.boundaries),
                "seed {seed}, {removed:?}"
            );
            assert_eq!(whole.events, without.events, "seed {seed}, {removed:?}");
            assert_eq!((whole.scale, whole.healed), (without.scale, without.healed), "seed {seed}, {removed:?}");
        }
    }
}

#[test]
fn each_fault_of_several_processes_and_their_table_is_in_a_small_seed() {
    use super::several::SharedFault;
    let plans: Vec<_> = (0..40).filter_map(|seed| Plan::of_several(seed).several).collect();
    for fault in SharedFault::ALL {
        assert!(plans.iter().any(|several| several.faults.contains(fault)), "{fault:?}");
    }
    let together = |several: &several::Several| several.processes.iter().filter(|spans| !spans.is_empty()).count();
    assert!(plans.iter().any(|several| together(several) == 4), "four processes");
}
