//! How much of a shard's exact state fits into an item. Pure.
//!
//! Contract: what is left out is forgotten as settled, never as owed. A shard whose heads are too many keeps the first ones, and its
//! `newest_settled` becomes the last of them: what is settled behind that comes again after a restart.

use crate::checkpoint::UnfinishedShard;
use crate::records::{Position, RecordNumber};

/// The most bytes that the heads of one shard take in an item: a write unit is a kilobyte, so that a save of a shard costs ten at most.
pub(super) const HEADS_MAX_BYTES: usize = 8 * 1024;

/// What a member of a map costs besides its name and its text.
///
/// Source: "DynamoDB item sizes and formats" in the DynamoDB Developer Guide: 3 bytes a map, 1 byte a member.
const MEMBER_BYTES: usize = 1;
const MAP_BYTES: usize = 3;

/// A lane's id in hexadecimal digits.
const LANE_BYTES: usize = 32;

/// The shard with as many of its heads as fit into so many bytes, but at least one; and how many were left out.
pub(super) fn bounded(shard: UnfinishedShard, max_bytes: usize) -> (UnfinishedShard, usize) {
    let size = |head: &RecordNumber| LANE_BYTES + MEMBER_BYTES + head.to_string().len();
    // A head has more bytes than this: most shards need not be counted.
    if MAP_BYTES + shard.heads.len() * (LANE_BYTES + MEMBER_BYTES + 80) <= max_bytes {
        return (shard, 0);
    }
    let mut heads: Vec<_> = shard.heads.iter().map(|(lane, head)| (*head, *lane)).collect();
    heads.sort_unstable();
    let mut bytes = MAP_BYTES;
    let fitting = heads.iter().take_while(|(head, _)| {
        bytes += size(head);
        bytes <= max_bytes
    });
    let kept = fitting.count().max(1);
    if kept == heads.len() {
        return (shard, 0);
    }
    let last = heads[kept - 1].0;
    let kept = heads.iter().filter(|(head, _)| *head <= last).map(|(head, lane)| (*lane, *head)).collect();
    let left_out = heads.iter().filter(|(head, _)| *head > last).count();
    // What follows the last head follows an owed record: it is no older than the oldest of those.
    let verified_at =
        shard.oldest_owed.or(shard.newest_record).map_or(shard.verified_at, |at| at.min(shard.verified_at));
    // Of a shard, that is said only where it tells more.
    let newest_record = shard.newest_record.filter(|created| *created < verified_at);
    let bounded =
        UnfinishedShard { heads: kept, newest_settled: Position::After(last), verified_at, newest_record, ..shard };
    (bounded, left_out)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::StoredShard;
    use crate::records::{LaneId, SequenceNumber};

    fn number(at: usize) -> RecordNumber {
        let sequence: SequenceNumber =
            format!("{:021}", 300_000_000_000_000_000_000_u128 + at as u128 * 7).parse().unwrap();
        sequence.into()
    }

    fn lane(number: usize) -> LaneId {
        LaneId::of_shard(&number.to_string())
    }

    fn created(at: usize) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_767_323_045 + at as u64)
    }

    /// What is stored of a history: each record's lane, and whether it is settled.
    fn stored(history: &[(usize, bool)]) -> UnfinishedShard {
        let owed: Vec<usize> = (0..history.len()).filter(|at| !history[*at].1).collect();
        let newest = (0..history.len()).rev().find(|at| history[*at].1);
        let safe = owed.first().copied().unwrap_or(history.len()).checked_sub(1);
        let mut heads = BTreeMap::new();
        for at in owed.iter().filter(|at| newest.is_some_and(|newest| **at <= newest)) {
            heads.entry(lane(history[*at].0)).or_insert(number(*at));
        }
        let position = |at: Option<usize>| at.map_or(Position::Start, |at| Position::After(number(at)));
        UnfinishedShard {
            safe: position(safe),
            newest_settled: position(newest),
            heads,
            oldest_owed: owed.first().map(|at| created(*at)),
            verified_at: created(newest.map_or(0, |newest| newest + 1)),
            newest_record: None,
            parent: None,
        }
    }

    /// Many lanes, each settled from its front.
    fn history() -> impl Strategy<Value = Vec<(usize, bool)>> {
        prop::collection::vec((0usize..400, prop::bool::weighted(0.7)), 0..1200).prop_map(|records| {
            let mut blocked = std::collections::BTreeSet::new();
            let settle = |(lane, is_settled)| {
                let is_settled = is_settled && !blocked.contains(&lane);
                if !is_settled {
                    blocked.insert(lane);
                }
                (lane, is_settled)
            };
            records.into_iter().map(settle).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn what_is_owed_stays_owed_and_each_lane_stays_settled_from_its_front(history in history(), max in 100usize..9000) {
            let whole = stored(&history);
            let (bounded, left_out) = bounded(whole.clone(), max);
            prop_assert_eq!(whole.heads.len(), bounded.heads.len() + left_out);
            let bounded = bounded.check().expect("it can be stored");
            let heads_bytes: usize = bounded.heads.values().map(|head| head.to_string().len() + 33).sum::<usize>() + 3;
            prop_assert!(heads_bytes <= max.max(60), "{heads_bytes} bytes");
            let (whole, stored) = (StoredShard::Unfinished(whole), StoredShard::Unfinished(bounded.clone()));
            let mut open = std::collections::BTreeSet::new();
            for (at, (of, _)) in history.iter().enumerate() {
                let (before, after) = (whole.owes(lane(*of), number(at)), stored.owes(lane(*of), number(at)));
                prop_assert!(after || !before, "record {at} is owed and would be forgotten");
                prop_assert!(after || !open.contains(of), "record {at} counts as settled behind one that is owed");
                if after {
                    open.insert(*of);
                    let is_behind = !bounded.newest_settled.is_behind(number(at));
                    prop_assert!(!is_behind || created(at) >= bounded.verified_at, "record {at} could be trimmed unseen");
                }
            }
            if left_out == 0 {
                prop_assert_eq!(whole, stored);
            }
        }
    }

    #[test]
    fn a_hundred_heads_fit_and_a_thousand_keep_the_first_ones() {
        let history = |lanes: usize| Vec::from_iter((0..lanes).map(|lane| (lane, false)).chain([(lanes, true)]));
        assert_eq!(bounded(stored(&history(100)), HEADS_MAX_BYTES).1, 0);
        let (shard, left_out) = bounded(stored(&history(1000)), HEADS_MAX_BYTES);
        assert_eq!(shard.heads.len() + left_out, 1000);
        assert!(shard.heads.len() > 140, "{}", shard.heads.len());
        assert_eq!(shard.newest_settled, Position::After(number(shard.heads.len() - 1)));
    }
}
