//! Parents before children, each shard once, whatever listings show.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::progress::lineage::Lineage as Numbered;

/// A lineage in which nothing else is known of shards, by their ids.
struct Lineage(Numbered<()>);

impl Lineage {
    fn new() -> Self {
        Self(Numbered::default())
    }

    /// What an earlier run has stored: shards with their parents, and whether each was read.
    fn restored(shards: &[(&str, Option<&str>, bool)]) -> Self {
        let restored = shards.iter().map(|(id, parent, is_read)| {
            let (id, parent) = ((*id).into(), parent.map(Into::into));
            Restored { id, parent, is_read: *is_read, state: () }
        });
        Self(Numbered::restored(restored))
    }

    fn learn(&mut self, id: &str, parent: Option<&str>) {
        self.0.learn(id, parent, || ());
    }

    fn ids(&self, numbers: Vec<ShardNumber>) -> Vec<String> {
        numbers.into_iter().map(|number| self.0.id(number).to_string()).collect()
    }

    fn take_ready(&mut self) -> Vec<String> {
        let ready = self.0.take_ready();
        self.ids(ready)
    }

    fn take_leaves(&mut self) -> Vec<String> {
        let leaves = self.0.take_leaves();
        self.ids(leaves)
    }

    fn skip_parents(&mut self) -> Vec<String> {
        let skipped = self.0.skip_parents();
        self.ids(skipped)
    }

    fn skip_closed_before(&mut self, moment: SystemTime) -> Vec<String> {
        let skipped = self.0.skip_closed_before(moment);
        self.ids(skipped)
    }

    fn take_unlisted_parents(&mut self) -> Vec<String> {
        let parents = self.0.take_unlisted_parents(time(MOMENT), |_| ());
        self.ids(parents)
    }

    fn read_to_end(&mut self, id: &str) {
        self.0.read_to_end(self.0.number(id).unwrap());
    }

    fn forget(&mut self, id: &str) -> bool {
        self.0.forget(self.0.number(id).unwrap()).is_some()
    }
}

impl std::ops::Deref for Lineage {
    type Target = Numbered<()>;

    fn deref(&self) -> &Numbered<()> {
        &self.0
    }
}

fn ids(ready: Vec<String>) -> BTreeSet<String> {
    ready.into_iter().collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_child_is_read_when_its_parent_was_read_and_not_before() {
    let mut lineage = Lineage::new();
    lineage.learn("parent", None);
    lineage.learn("child", Some("parent"));
    lineage.0.complete_pass();
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
    lineage.0.complete_pass();
    assert_eq!(ids(lineage.take_ready()), set(&["parent"]));
}

#[test]
fn a_child_on_an_earlier_page_waits_in_later_listings_too() {
    let mut lineage = Lineage::new();
    lineage.0.complete_pass();
    lineage.learn("child", Some("parent"));
    assert_eq!(ids(lineage.take_ready()), set(&[]));
    lineage.learn("parent", None);
    lineage.0.complete_pass();
    assert_eq!(ids(lineage.take_ready()), set(&["parent"]));
}

#[test]
fn a_parent_that_no_listing_shows_is_asked_for_once_and_read_before_its_children() {
    let mut lineage = Lineage::new();
    lineage.learn("child", Some("parent"));
    lineage.learn("sibling", Some("parent"));
    lineage.0.complete_pass();
    assert_eq!(ids(lineage.take_ready()), set(&[]), "a listing may leave a shard out");
    assert_eq!(lineage.take_unlisted_parents(), ["parent"]);
    assert_eq!(lineage.take_unlisted_parents(), NONE);
    assert_eq!(lineage.take_ready(), NONE, "nobody knows what it holds, nor whose child it is");
    assert!(!lineage.is_drained());
    lineage.0.find(lineage.0.number("parent").unwrap());
    assert_eq!(lineage.take_ready(), ["parent"]);
    lineage.read_to_end("parent");
    assert_eq!(ids(lineage.take_ready()), set(&["child", "sibling"]));
}

#[test]
fn a_parent_that_is_listed_late_waits_for_its_own_parent() {
    let mut lineage = Lineage::new();
    lineage.learn("child", Some("parent"));
    lineage.0.complete_pass();
    assert_eq!(lineage.take_unlisted_parents(), ["parent"]);
    lineage.learn("parent", Some("grandparent"));
    lineage.learn("grandparent", None);
    for id in ["grandparent", "parent", "child"] {
        assert_eq!(lineage.take_ready(), [id]);
        lineage.read_to_end(id);
    }
}

#[test]
fn a_parent_that_was_closed_before_all_that_is_kept_is_not_asked_for() {
    let (old, young) = (id_of(MOMENT - MARGIN - 1, 1), id_of(MOMENT - MARGIN, 2));
    let mut lineage = Lineage::new();
    lineage.learn(&old, Some("trimmed"));
    lineage.learn(&young, Some("perhaps"));
    lineage.learn("no time", Some("unknown"));
    lineage.0.complete_pass();
    assert_eq!(ids(lineage.take_unlisted_parents()), set(&["perhaps", "unknown"]));
    assert_eq!(lineage.take_ready(), [old]);
}

#[test]
fn a_finished_shard_that_is_still_listed_is_not_read_again() {
    let mut lineage = Lineage::restored(&[("done", None, true)]);
    for _ in 0..3 {
        lineage.learn("done", None);
        lineage.0.complete_pass();
        assert_eq!(ids(lineage.take_ready()), set(&[]));
    }
    assert!(!lineage.forget("done"), "it is still listed");
    lineage.0.complete_pass();
    assert!(lineage.forget("done"));
}

#[test]
fn an_empty_listing_forgets_nothing_that_is_being_read() {
    let mut lineage = Lineage::new();
    lineage.learn("shard", None);
    lineage.0.complete_pass();
    lineage.take_ready();
    lineage.0.complete_pass();
    lineage.0.complete_pass();
    assert!(!lineage.forget("shard"));
    assert_eq!(lineage.counts().reading, 1);
}

#[test]
fn a_shard_that_names_itself_as_parent_is_not_its_own_child() {
    let mut lineage = Lineage::new();
    lineage.learn("only", Some("only"));
    lineage.0.complete_pass();
    assert!(!lineage.has_child("only"));
    assert_eq!(ids(lineage.take_ready()), set(&["only"]));
}

#[test]
fn a_start_at_the_newest_records_skips_every_shard_with_a_child() {
    let mut lineage = Lineage::new();
    lineage.learn("old", None);
    lineage.learn("leaf", Some("old"));
    lineage.learn("lone", None);
    lineage.0.complete_pass();
    assert_eq!(ids(lineage.skip_parents()), set(&["old"]));
    assert_eq!(ids(lineage.take_leaves()), set(&["leaf", "lone"]));
    assert_eq!(ids(lineage.take_leaves()), set(&[]));
}

#[test]
fn a_restored_shard_is_taken_up_without_a_listing_and_once() {
    let mut lineage =
        Lineage::restored(&[("done", None, true), ("after-done", Some("done"), false), ("orphan", Some("x"), false)]);
    assert_eq!(ids(lineage.take_ready()), set(&["after-done", "orphan"]));
    lineage.learn("after-done", Some("done"));
    lineage.learn("done", None);
    lineage.0.complete_pass();
    assert_eq!(ids(lineage.take_ready()), set(&[]), "no second reader for it");
}

#[test]
fn what_an_earlier_run_has_read_waits_again_behind_an_ancestor_that_owes_something() {
    let mut lineage = Lineage::restored(&[
        ("a", None, false),
        ("b", Some("a"), true),
        ("c", Some("b"), true),
        ("d", Some("c"), false),
        ("e", Some("c"), true),
    ]);
    lineage.learn("f", Some("e"));
    assert_eq!(ids(lineage.take_ready()), set(&["a"]), "d and f come behind everything in a");
    assert!(!lineage.forget("c"), "d would be read too early after another restart");
    lineage.read_to_end("a");
    assert_eq!(ids(lineage.take_ready()), set(&["d", "f"]));
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
    lineage.0.complete_pass();
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
        let mut started: BTreeMap<usize, bool> = BTreeMap::new();
        let learn = |lineage: &mut Lineage, i: usize| {
            lineage.learn(&i.to_string(), parent_of[i].map(|parent| parent.to_string()).as_deref());
        };
        for step in steps.into_iter().chain([Step::WholePass]) {
            match step {
                Step::Learn(index) => learn(&mut lineage, index.index(parent_of.len())),
                Step::WholePass => {
                    (0..parent_of.len()).for_each(|i| learn(&mut lineage, i));
                    lineage.0.complete_pass();
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
                let id: usize = ready.parse().unwrap();
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
                started.insert(ready.parse().unwrap(), false);
            }
        }
        prop_assert_eq!(started.len(), parent_of.len(), "every shard was read");
    }
}

/// Milliseconds of a moment in 2026.
const MOMENT: u64 = 1_769_860_800_000;
const MINUTE: u64 = 60_000;
const MARGIN: u64 = 5 * MINUTE;
const NONE: [String; 0] = [];

fn time(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

/// An id as AWS makes them, of a shard created then.
fn id_of(millis: u64, number: usize) -> String {
    format!("shardId-{millis:020}-{number:08x}")
}

/// A lineage after one whole listing of these shards and their parents.
fn listed(shards: &[(&str, Option<&str>)]) -> Lineage {
    let mut lineage = Lineage::new();
    for (id, parent) in shards {
        lineage.learn(id, *parent);
    }
    lineage.0.complete_pass();
    lineage
}

#[test]
fn a_start_at_a_moment_skips_what_was_closed_before_it() {
    let [oldest, old, current, leaf] =
        [600, 360, 120, 1].map(|minutes| id_of(MOMENT - minutes * MINUTE, minutes as usize));
    let mut lineage = listed(&[
        (&leaf, Some(&current)),
        (&current, Some(&old)),
        (&old, Some(&oldest)),
        (&oldest, Some("shardId-trimmed")),
    ]);
    let skipped = lineage.skip_closed_before(time(MOMENT));
    assert_eq!(skipped, [oldest, old], "parents first");
    assert_eq!(ids(lineage.take_ready()), set(&[&current]), "it was open until a minute before the moment");
    lineage.read_to_end(&current);
    assert_eq!(ids(lineage.take_ready()), set(&[&leaf]));
}

#[test]
fn a_shard_is_skipped_only_if_its_child_is_older_than_the_margin() {
    let parent = id_of(MOMENT - 600 * MINUTE, 1);
    for (age, is_skipped) in [(MARGIN + 1, true), (MARGIN, false), (MARGIN - 1, false), (1, false), (0, false)] {
        let child = id_of(MOMENT - age, 2);
        let mut lineage = listed(&[(&parent, None), (&child, Some(&parent))]);
        assert_eq!(lineage.skip_closed_before(time(MOMENT)).len(), usize::from(is_skipped), "{age} ms");
    }
}

#[test]
fn a_shard_is_skipped_only_if_all_its_children_are_old() {
    let parent = id_of(MOMENT - 600 * MINUTE, 1);
    let old = id_of(MOMENT - 300 * MINUTE, 2);
    for other in [id_of(MOMENT - MINUTE, 3), "shardId-00000003-orders".to_owned()] {
        let mut lineage = listed(&[(&parent, None), (&old, Some(&parent)), (&other, Some(&parent))]);
        assert_eq!(lineage.skip_closed_before(time(MOMENT)), NONE, "{other}");
    }
}

#[test]
fn a_shard_behind_one_that_is_read_is_read_too() {
    // The ids contradict each other: the second child of the oldest shard says that this was open until the moment.
    let [oldest, old, leaf] = [600, 360, 120].map(|minutes| id_of(MOMENT - minutes * MINUTE, minutes as usize));
    let late = id_of(MOMENT, 9);
    let mut lineage = listed(&[(&oldest, None), (&old, Some(&oldest)), (&late, Some(&oldest)), (&leaf, Some(&old))]);
    assert_eq!(lineage.skip_closed_before(time(MOMENT)), NONE);
}

#[test]
fn nothing_is_skipped_before_the_first_whole_listing_or_from_the_oldest_record_on() {
    let (parent, child) = (id_of(MOMENT - 600 * MINUTE, 1), id_of(MOMENT - 300 * MINUTE, 2));
    let mut lineage = Lineage::new();
    lineage.learn(&parent, None);
    lineage.learn(&child, Some(&parent));
    assert_eq!(lineage.skip_closed_before(time(MOMENT)), NONE);
    lineage.0.complete_pass();
    assert_eq!(lineage.skip_closed_before(SystemTime::UNIX_EPOCH), NONE);
    assert_eq!(lineage.skip_closed_before(time(MOMENT)).len(), 1);
}

#[test]
fn a_shard_without_a_child_or_that_is_being_read_is_not_skipped() {
    let (parent, child) = (id_of(MOMENT - 600 * MINUTE, 1), id_of(MOMENT - 300 * MINUTE, 2));
    let mut lineage = listed(&[(&parent, None), (&child, Some(&parent))]);
    assert_eq!(ids(lineage.take_ready()), set(&[&parent]));
    assert_eq!(lineage.skip_closed_before(time(MOMENT)), NONE, "the parent is being read");
    let mut lineage = listed(&[(&parent, None)]);
    assert_eq!(lineage.skip_closed_before(time(MOMENT)), NONE, "it may be open");
}

#[test]
fn contradictory_listings_end_and_skip_no_leaf() {
    let (one, two) = (id_of(MOMENT - 600 * MINUTE, 1), id_of(MOMENT - 600 * MINUTE, 2));
    let mut lineage = listed(&[(&one, Some(&two)), (&two, Some(&one))]);
    let skipped = lineage.skip_closed_before(time(MOMENT));
    assert_eq!(skipped, [two], "each is the other's parent: what is said second is not believed");
    assert_eq!(ids(lineage.take_ready()), set(&[&one]));
    let mut lineage =
        listed(&[(&id_of(MOMENT - 300 * MINUTE, 1), None), (&one, Some(&id_of(MOMENT - 300 * MINUTE, 1)))]);
    assert_eq!(lineage.skip_closed_before(time(MOMENT)), NONE, "the child is older than its parent");
}

#[test]
fn only_ids_of_the_form_that_aws_uses_have_a_time() {
    assert_eq!(created_at("shardId-00000001769860800000-0af55eea"), Some(time(MOMENT)));
    assert_eq!(created_at("shardId-00000001769860800000-000000000000"), Some(time(MOMENT)));
    for id in [
        "",
        "shardId-",
        "shardId-000000000000",
        "shardId-00000001-orders",
        "shardId-00000001769860800000",
        "shardId-00000001769860800000-",
        "shardId-00000001769860800000-orders",
        "shardId-00000001769860800000-0AF5",
        "shardId-00000001769860800000-0af5-0af5",
        "shardId-0000001769860800000-0af55eea",
        "shardId-000000001769860800000-0af55eea",
        "shardId-+0000001769860800000-0af55eea",
        "shardid-00000001769860800000-0af55eea",
        " shardId-00000001769860800000-0af55eea",
        "shardId-00000000000000000001-0af55eea",
        "shardId-00000000001769860800-0af55eea",
        "shardId-99999999999999999999-0af55eea",
        "H 19c13e9a400:0123456789abcdef0123456789abcdef",
        "the-whole-stream",
    ] {
        assert_eq!(created_at(id), None, "{id}");
    }
}

/// One shard of a true forest.
#[derive(Debug, Clone)]
struct TrueShard {
    parent: Option<usize>,
    created: u64,
    /// When its children were created: the time of the last record that it may hold. An open one has none.
    closed: Option<u64>,
    id: String,
    listed: bool,
}

/// A forest in which shards live for up to eight hours and split or roll over. Their ids are off by up to the margin,
/// some have no time, and the listing leaves some out.
fn forest() -> impl Strategy<Value = Vec<TrueShard>> {
    let shard = (
        any::<prop::sample::Index>(),
        any::<bool>(),
        0..480 * MINUTE,
        0..=2 * MARGIN,
        prop::bool::weighted(0.05),
        prop::bool::weighted(0.05),
    );
    prop::collection::vec(shard, 1..40).prop_map(|shards| {
        let mut forest: Vec<TrueShard> = Vec::new();
        for (number, (index, is_root, life, error, has_no_time, hidden)) in shards.into_iter().enumerate() {
            let parent = (number > 0 && !is_root).then(|| index.index(number));
            let created = match parent {
                None => MOMENT - 20 * 60 * MINUTE + life,
                // Siblings are created at the same time.
                Some(parent) => {
                    let TrueShard { created, closed, .. } = &mut forest[parent];
                    *closed.get_or_insert(*created + life)
                }
            };
            let id = match has_no_time {
                true => format!("shardId-{number:08}-orders"),
                false => id_of(created - MARGIN + error, number),
            };
            forest.push(TrueShard { parent, created, closed: None, id, listed: !hidden });
        }
        forest
    })
}

/// Whether the listing proves that a shard and all its ancestors were closed before the moment: said once more, slowly.
fn is_provably_old(forest: &[TrueShard], number: usize, moment: u64) -> bool {
    let time_of = |shard: &TrueShard| {
        let digits = shard.id.strip_suffix(&format!("-{:08x}", shard_number(forest, shard)))?;
        digits.strip_prefix("shardId-")?.parse::<u64>().ok()
    };
    let shard = &forest[number];
    let children: Vec<&TrueShard> =
        forest.iter().filter(|child| child.listed && child.parent == Some(number)).collect();
    let Some(own) = time_of(shard) else { return false };
    shard.listed
        && !children.is_empty()
        && children.iter().all(|child| time_of(child).is_some_and(|time| time + MARGIN < moment))
        && children.iter().filter_map(|child| time_of(child)).any(|time| time >= own)
        && shard.parent.is_none_or(|parent| !forest[parent].listed || is_provably_old(forest, parent, moment))
}

fn shard_number(forest: &[TrueShard], shard: &TrueShard) -> usize {
    forest.iter().position(|other| other.id == shard.id).unwrap()
}

proptest! {
    #[test]
    fn no_shard_that_may_hold_a_record_of_the_moment_is_skipped(forest in forest(), later in 0..10 * 60 * MINUTE) {
        let moment = MOMENT - 5 * 60 * MINUTE + later;
        let mut lineage = Lineage::new();
        for shard in forest.iter().filter(|shard| shard.listed) {
            lineage.learn(&shard.id, shard.parent.map(|parent| forest[parent].id.as_str()));
        }
        prop_assert_eq!(lineage.skip_closed_before(time(moment)), NONE);
        lineage.0.complete_pass();
        let skipped = lineage.skip_closed_before(time(moment));
        let mut seen = BTreeSet::new();
        for ready in &skipped {
            let shard = forest.iter().find(|shard| shard.id == *ready).unwrap();
            prop_assert!(shard.closed.is_some_and(|closed| closed < moment), "a wrong skip: {:?}", shard);
            if let Some(parent) = shard.parent.filter(|parent| forest[*parent].listed) {
                prop_assert!(seen.contains(&forest[parent].id), "{:?} before its parent, or without it", shard);
            }
            seen.insert(shard.id.clone());
        }
        let provable = (0..forest.len()).filter(|number| is_provably_old(&forest, *number, moment));
        prop_assert_eq!(seen.clone(), provable.map(|number| forest[number].id.clone()).collect::<BTreeSet<_>>());
        // What follows the skipped ones is read, each once.
        prop_assert_eq!(ids(lineage.skip_closed_before(time(moment))), BTreeSet::new());
        prop_assert!(ids(lineage.take_ready()).is_disjoint(&seen));
    }
}

/// A listing that contradicts itself; a file of an earlier run that believed it.
#[test]
fn shards_that_are_each_others_ancestors_are_all_read() {
    let circle = [("a", "c"), ("b", "a"), ("c", "b"), ("d", "d")];
    let mut learned = Lineage::new();
    circle.iter().for_each(|(id, parent)| learned.learn(id, Some(parent)));
    let stored: Vec<_> = circle.iter().map(|(id, parent)| (*id, Some(*parent), false)).collect();
    let mut late = Lineage::new();
    circle.iter().for_each(|(id, _)| late.learn(id, None));
    circle.iter().for_each(|(id, parent)| late.learn(id, Some(parent)));
    for (mut lineage, when) in
        [(learned, "learned"), (late, "learned without parents at first"), (Lineage::restored(&stored), "restored")]
    {
        let mut read = Vec::new();
        loop {
            let ready = lineage.take_ready();
            if ready.is_empty() {
                break;
            }
            ready.iter().for_each(|id| lineage.read_to_end(id));
            read.extend(ready);
        }
        read.sort();
        assert_eq!(read, ["a", "b", "c", "d"], "{when}");
        assert!(lineage.is_drained(), "{when}");
    }
}
