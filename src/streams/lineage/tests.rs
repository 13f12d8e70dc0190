//! Parents before children, each shard once, whatever listings show.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;

fn ids(ready: Vec<Ready>) -> BTreeSet<String> {
    ready.into_iter().map(|ready| ready.id.to_string()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_child_is_read_when_its_parent_was_read_and_not_before() {
    let mut lineage = Lineage::new();
    lineage.learn("parent", None);
    lineage.learn("child", Some("parent"));
    lineage.complete_pass();
    assert_eq!(ids(lineage.take_ready()), set(&["parent"]));
    assert_eq!(ids(lineage.take_ready()), set(&[]));
    lineage.read_to_end("parent");
    assert_eq!(ids(lineage.take_ready()), set(&["child"]));
}

#[test]
fn a_child_on_an_earlier_page_than_its_parent_waits_for_the_whole_listing() {
    let mut lineage = Lineage::new();
    lineage.learn("child", Some("parent"));
    assert_eq!(ids(lineage.take_ready()), set(&[]), "the parent may be on the next page");
    lineage.learn("parent", None);
    lineage.complete_pass();
    assert_eq!(ids(lineage.take_ready()), set(&["parent"]));
}

#[test]
fn a_child_on_an_earlier_page_waits_in_later_listings_too() {
    let mut lineage = Lineage::new();
    lineage.complete_pass();
    lineage.learn("child", Some("parent"));
    assert_eq!(ids(lineage.take_ready()), set(&[]));
    lineage.learn("parent", None);
    lineage.complete_pass();
    assert_eq!(ids(lineage.take_ready()), set(&["parent"]));
}

#[test]
fn a_shard_whose_parent_was_trimmed_is_read_once_two_whole_listings_lack_the_parent() {
    let mut lineage = Lineage::new();
    lineage.learn("child", Some("trimmed"));
    lineage.complete_pass();
    assert_eq!(ids(lineage.take_ready()), set(&[]), "one listing may leave a shard out");
    assert!(lineage.is_in_doubt());
    lineage.complete_pass();
    assert!(!lineage.is_in_doubt());
    assert_eq!(lineage.take_ready(), vec![Ready { id: "child".into(), parent: None }]);
}

#[test]
fn a_parent_that_one_listing_left_out_is_read_before_its_child() {
    let mut lineage = Lineage::new();
    lineage.learn("child", Some("parent"));
    lineage.complete_pass();
    assert_eq!(ids(lineage.take_ready()), set(&[]));
    lineage.learn("child", Some("parent"));
    lineage.learn("parent", None);
    lineage.complete_pass();
    assert_eq!(ids(lineage.take_ready()), set(&["parent"]));
    assert!(!lineage.is_in_doubt(), "nobody waits for a listing any more");
    lineage.read_to_end("parent");
    assert_eq!(ids(lineage.take_ready()), set(&["child"]));
}

#[test]
fn a_finished_shard_that_is_still_listed_is_not_read_again() {
    let mut lineage = Lineage::new();
    lineage.restore_read("done", None);
    for _ in 0..3 {
        lineage.learn("done", None);
        lineage.complete_pass();
        assert_eq!(ids(lineage.take_ready()), set(&[]));
    }
    assert!(!lineage.forget("done"), "it is still listed");
    lineage.complete_pass();
    assert!(lineage.forget("done"));
}

#[test]
fn an_empty_listing_forgets_nothing_that_is_being_read() {
    let mut lineage = Lineage::new();
    lineage.learn("shard", None);
    lineage.complete_pass();
    lineage.take_ready();
    lineage.complete_pass();
    lineage.complete_pass();
    assert!(!lineage.forget("shard"));
    assert_eq!(lineage.counts().reading, 1);
}

#[test]
fn a_shard_that_names_itself_as_parent_is_not_its_own_child() {
    let mut lineage = Lineage::new();
    lineage.learn("only", Some("only"));
    lineage.complete_pass();
    assert!(!lineage.has_child("only"));
    assert_eq!(ids(lineage.take_ready()), set(&["only"]));
}

#[test]
fn a_start_at_the_newest_records_skips_every_shard_with_a_child() {
    let mut lineage = Lineage::new();
    lineage.learn("old", None);
    lineage.learn("leaf", Some("old"));
    lineage.learn("lone", None);
    lineage.complete_pass();
    assert_eq!(ids(lineage.skip_parents()), set(&["old"]));
    assert_eq!(ids(lineage.take_leaves()), set(&["leaf", "lone"]));
    assert_eq!(ids(lineage.take_leaves()), set(&[]));
}

#[test]
fn a_restored_shard_is_taken_up_without_a_listing() {
    let mut lineage = Lineage::new();
    lineage.restore_read("parent", None);
    let ready = lineage.restore_reading("shard", Some("parent"));
    assert_eq!(ready.parent.as_deref(), Some("parent"));
    lineage.learn("shard", Some("parent"));
    lineage.learn("parent", None);
    lineage.complete_pass();
    assert_eq!(ids(lineage.take_ready()), set(&[]), "no second reader for it");
}

#[test]
fn seven_hundred_shards_are_read_each_once_in_order() {
    let mut lineage = Lineage::new();
    let name = |chain: usize, age: usize| format!("shard-{age:03}-{chain:03}");
    for age in 0..7 {
        for chain in 0..100 {
            let parent = (age > 0).then(|| name(chain, age - 1));
            lineage.learn(&name(chain, age), parent.as_deref());
        }
    }
    lineage.complete_pass();
    for age in 0..7 {
        let ready = ids(lineage.take_ready());
        assert_eq!(ready, (0..100).map(|chain| name(chain, age)).collect());
        ready.iter().for_each(|id| lineage.read_to_end(id));
    }
    assert!(lineage.is_drained());
}

/// Listings of one true forest: each shows some of it, in any order, sometimes without saying that it is complete.
#[derive(Debug, Clone)]
enum Step {
    Learn(prop::sample::Index),
    WholePass,
    End(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            6 => any::<prop::sample::Index>().prop_map(Step::Learn),
            1 => Just(Step::WholePass),
            3 => any::<prop::sample::Index>().prop_map(Step::End),
        ],
        1..120,
    )
}

proptest! {
    #[test]
    fn no_shard_is_read_twice_or_before_its_parent(
        parents in prop::collection::vec(prop::option::of(any::<prop::sample::Index>()), 1..24),
        steps in steps(),
    ) {
        // Shard i continues a shard with a smaller number, or none.
        let parent_of: Vec<Option<usize>> = parents
            .iter()
            .enumerate()
            .map(|(i, parent)| parent.filter(|_| i > 0).map(|parent| parent.index(i)))
            .collect();
        let mut lineage = Lineage::new();
        let mut started: HashMap<usize, bool> = HashMap::new();
        let learn = |lineage: &mut Lineage, i: usize| {
            lineage.learn(&i.to_string(), parent_of[i].map(|parent| parent.to_string()).as_deref());
        };
        for step in steps.into_iter().chain([Step::WholePass]) {
            match step {
                Step::Learn(index) => learn(&mut lineage, index.index(parent_of.len())),
                Step::WholePass => {
                    (0..parent_of.len()).for_each(|i| learn(&mut lineage, i));
                    lineage.complete_pass();
                }
                Step::End(index) => {
                    let reading: Vec<usize> = started.iter().filter(|(_, done)| !**done).map(|(i, _)| *i).collect();
                    if !reading.is_empty() {
                        let id = reading[index.index(reading.len())];
                        lineage.read_to_end(&id.to_string());
                        started.insert(id, true);
                    }
                }
            }
            for ready in lineage.take_ready() {
                let id: usize = ready.id.parse().unwrap();
                prop_assert!(started.insert(id, false).is_none(), "shard {} was handed out twice", id);
                if let Some(parent) = parent_of[id] {
                    prop_assert_eq!(started.get(&parent), Some(&true), "shard {} before its parent {}", id, parent);
                }
            }
        }
        // Nothing is forgotten: ending whatever is read gets every shard its turn.
        let mut guard = 0;
        while started.values().any(|done| !done) {
            guard += 1;
            prop_assert!(guard < 100);
            let reading: Vec<usize> = started.iter().filter(|(_, done)| !**done).map(|(i, _)| *i).collect();
            for id in reading {
                lineage.read_to_end(&id.to_string());
                started.insert(id, true);
            }
            for ready in lineage.take_ready() {
                started.insert(ready.id.parse().unwrap(), false);
            }
        }
        prop_assert_eq!(started.len(), parent_of.len(), "every shard was read");
    }
}
