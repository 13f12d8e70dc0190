//! Positions never pass what is not settled, also across a lineage.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn at(number: u64) -> Position {
    Position::After(format!("{number:021}").parse().unwrap())
}

fn number_of(position: Position) -> u64 {
    match position {
        Position::Start | Position::Since(_) => 0,
        Position::After(sequence) => sequence.as_str().parse().unwrap(),
    }
}

#[test]
fn acknowledgements_out_of_order_hold_the_position_at_the_oldest_open_one() {
    let mut progress = Progress::default();
    progress.open(1, Position::Start, vec![]);
    let tickets: Vec<Ticket> = (1..=4).map(|n| progress.read(1, at(n), None).unwrap()).collect();

    progress.settle(tickets[1]).unwrap();
    progress.settle(tickets[3]).unwrap();
    assert_eq!(progress.standing(1), Some(Standing::Reading(Position::Start)));
    progress.settle(tickets[0]).unwrap();
    assert_eq!(progress.standing(1), Some(Standing::Reading(at(2))));
    progress.settle(tickets[2]).unwrap();
    assert_eq!(progress.standing(1), Some(Standing::Reading(at(4))));
}

#[test]
fn a_child_has_no_position_until_its_parent_is_settled() {
    let mut progress = Progress::default();
    progress.open(1, Position::Start, vec![]);
    let parked = progress.read(1, at(1), None).unwrap();
    progress.end(1).unwrap();
    progress.open(2, Position::Start, vec![1]);
    let child = progress.read(2, at(2), None).unwrap();
    progress.settle(child).unwrap();

    assert_eq!(progress.standing(1), Some(Standing::Reading(Position::Start)));
    assert_eq!(progress.standing(2), None, "a child's position past an unsettled parent would lose the order");
    progress.settle(parked).unwrap();
    assert_eq!(progress.standing(1), Some(Standing::Finished));
    assert_eq!(progress.standing(2), Some(Standing::Reading(at(2))));
}

#[test]
fn a_grandchild_waits_for_its_grandparent_even_when_its_parent_is_done() {
    let mut progress = Progress::default();
    progress.open(1, Position::Start, vec![]);
    let parked = progress.read(1, at(1), None).unwrap();
    progress.end(1).unwrap();
    progress.open(2, Position::Start, vec![1]);
    progress.end(2).unwrap();
    progress.open(3, Position::Start, vec![2]);

    assert_eq!(progress.standing(2), None);
    assert_eq!(progress.standing(3), None);
    progress.settle(parked).unwrap();
    assert_eq!(progress.standing(2), Some(Standing::Finished));
    assert_eq!(progress.standing(3), Some(Standing::Reading(Position::Start)));
}

#[test]
fn millions_settled_behind_a_parked_event_cost_no_memory() {
    let mut progress = Progress::default();
    progress.open(1, Position::Start, vec![]);
    progress.read(1, at(1), None).unwrap();
    for n in 2..200_000 {
        let ticket = progress.read(1, at(n), None).unwrap();
        progress.settle(ticket).unwrap();
    }
    assert_eq!(progress.shards[&1].unsettled.len(), 1);
    assert_eq!(progress.standing(1), Some(Standing::Reading(Position::Start)));
}

#[test]
fn a_shard_that_was_never_opened_is_said_to_be_unknown() {
    let mut progress = Progress::default();
    progress.open(1, Position::Start, vec![]);
    let ticket = progress.read(1, at(1), None).unwrap();
    let unknown = BrokenBooks::UnknownShard(2);
    assert_eq!(progress.read(2, at(1), None), Err(unknown.clone()));
    assert_eq!(progress.settle(Ticket { shard: 2, ..ticket }), Err(unknown.clone()));
    assert_eq!(progress.end(2), Err(unknown));
    assert_eq!(progress.unsettled(), 1, "what is known stays as it was");
}

#[test]
fn the_oldest_unsettled_record_is_found_over_all_shards() {
    let mut progress = Progress::default();
    let time = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    progress.open(1, Position::Start, vec![]);
    progress.open(2, Position::Start, vec![]);
    progress.read(1, at(1), Some(time(20))).unwrap();
    let older = progress.read(2, at(1), Some(time(10))).unwrap();
    assert_eq!(progress.oldest_unsettled(), Some(time(10)));
    progress.settle(older).unwrap();
    assert_eq!(progress.oldest_unsettled(), Some(time(20)));
}

/// What happens to a forest of three generations: shard 0, its children 1 and 2, and 3, the child of 1.
#[derive(Debug, Clone)]
enum Step {
    Read(u32),
    Pass(u32),
    Settle(prop::sample::Index),
    End(u32),
}

const PARENTS: [Option<u32>; 4] = [None, Some(0), Some(0), Some(1)];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u32..4).prop_map(Step::Read),
        1 => (0u32..4).prop_map(Step::Pass),
        5 => any::<prop::sample::Index>().prop_map(Step::Settle),
        1 => (0u32..4).prop_map(Step::End),
    ]
}

/// The reference: every record of every shard with whether it is settled, and nothing clever.
#[derive(Default)]
struct Reference {
    records: BTreeMap<u32, Vec<(u64, bool)>>,
    ended: BTreeMap<u32, bool>,
}

impl Reference {
    fn finished(&self, shard: u32) -> bool {
        let settled = self.records.get(&shard).is_none_or(|all| all.iter().all(|(_, settled)| *settled));
        settled && self.ended.get(&shard).copied().unwrap_or(false) && self.ancestors_finished(shard)
    }

    fn ancestors_finished(&self, shard: u32) -> bool {
        PARENTS[shard as usize].is_none_or(|parent| self.finished(parent))
    }

    fn standing(&self, shard: u32) -> Option<(bool, u64)> {
        if !self.ancestors_finished(shard) {
            return None;
        }
        let all = self.records.get(&shard).cloned().unwrap_or_default();
        let safe = all.iter().take_while(|(_, settled)| *settled).last().map_or(0, |(number, _)| *number);
        Some((self.finished(shard), safe))
    }
}

proptest! {
    #[test]
    fn standings_agree_with_a_model_that_remembers_every_record(steps in prop::collection::vec(step(), 1..200)) {
        let mut progress = Progress::default();
        let mut reference = Reference::default();
        let mut open: Vec<(Ticket, u32, u64)> = Vec::new();
        let mut next = 0;
        for shard in 0..4u32 {
            progress.open(shard, Position::Start, PARENTS[shard as usize].into_iter().collect());
        }
        for step in steps {
            next += 1;
            match step {
                Step::Read(shard) if !reference.ended.contains_key(&shard) => {
                    open.push((progress.read(shard, at(next), None).unwrap(), shard, next));
                    reference.records.entry(shard).or_default().push((next, false));
                }
                Step::Pass(shard) if !reference.ended.contains_key(&shard) => {
                    let passed = progress.read(shard, at(next), None).unwrap();
                    progress.settle(passed).unwrap();
                    reference.records.entry(shard).or_default().push((next, true));
                }
                Step::Settle(index) if !open.is_empty() => {
                    let (ticket, shard, number) = open.swap_remove(index.index(open.len()));
                    progress.settle(ticket).unwrap();
                    let records = reference.records.get_mut(&shard).unwrap();
                    records.iter_mut().find(|(n, _)| *n == number).unwrap().1 = true;
                }
                Step::End(shard) => {
                    progress.end(shard).unwrap();
                    reference.ended.insert(shard, true);
                }
                _ => {}
            }
            for shard in 0..4u32 {
                let expected = reference.standing(shard).map(|(finished, safe)| match finished {
                    true => (true, 0),
                    false => (false, safe),
                });
                let actual = progress.standing(shard).map(|standing| match standing {
                    Standing::Finished => (true, 0),
                    Standing::Reading(position) => (false, number_of(position)),
                });
                prop_assert_eq!(actual, expected, "shard {}", shard);
            }
            prop_assert_eq!(progress.unsettled(), open.len());
        }
    }
}
