//! What a change makes of what is stored of a table. Pure.

use std::collections::BTreeSet;
use std::time::SystemTime;

use crate::checkpoint::{StoredPositions, StoredShard, StoredStream, StoredTable};
use crate::records::Position;

/// What a change is about.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub(super) struct Target {
    /// The table, as TABLE has it, or its ARN
    #[arg(long, value_name = "table")]
    pub(super) table: String,
    /// One stream of it, by its ARN
    #[arg(long, value_name = "ARN")]
    pub(super) stream: Option<String>,
    /// One shard, by its id
    #[arg(long, value_name = "id")]
    pub(super) shard: Option<String>,
}

/// The name under which a table is stored: the ARN of a table or a stream.
///
/// # Errors
/// Nothing is stored under such a name, or under several.
pub(super) fn key_of(positions: &StoredPositions, group: &str, table: &str) -> Result<String, String> {
    let tables = positions.get(group);
    let known: Vec<&str> = tables.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    let is_of = |key: &&&str| **key == table || key.ends_with(&format!(":table/{table}"));
    match known.iter().filter(is_of).collect::<Vec<_>>()[..] {
        [key] => Ok((*key).to_owned()),
        ref keys => {
            let what = if keys.is_empty() { "nothing is stored of" } else { "more than one table is called" };
            Err(format!("{what} table {table} in group {group}; stored are: {}", known.join(", ")))
        }
    }
}

/// Reads it again from here: what continues a shard that goes back is read again, too, as the order of each item's changes asks.
pub(super) fn set(table: &mut StoredTable, target: &Target, to: Position, now: SystemTime) -> Result<(), String> {
    if target.shard.is_none() && matches!(to, Position::After(_)) {
        return Err("a sequence number is a place in one shard: name it with --shard".to_owned());
    }
    let mut is_found = false;
    for stream in table.streams.iter_mut().filter(|stream| target.names(stream) && !stream.done) {
        match &target.shard {
            None => {
                stream.start = to;
                stream.shards.clear();
                is_found = true;
            }
            Some(id) => is_found |= set_shard(stream, id, to, now),
        }
    }
    is_found.then_some(()).ok_or_else(|| target.unknown())
}

fn set_shard(stream: &mut StoredStream, id: &str, to: Position, now: SystemTime) -> bool {
    let Some(shard) = stream.shards.get(id) else { return false };
    let parent = shard.parent().map(str::to_owned);
    let mut behind = BTreeSet::from([id.to_owned()]);
    loop {
        let is_behind = |shard: &StoredShard| shard.parent().is_some_and(|parent| behind.contains(parent));
        let next: Vec<String> =
            stream.shards.iter().filter(|(_, it)| is_behind(it)).map(|(id, _)| id.clone()).collect();
        stream.shards.retain(|id, _| !next.contains(id));
        if next.is_empty() {
            break;
        }
        behind.extend(next);
    }
    stream.shards.insert(id.to_owned(), StoredShard::at(to, now, parent));
    true
}

pub(super) fn forget(table: &mut StoredTable, target: &Target) -> Result<(), String> {
    if target.shard.is_some() {
        return Err("a shard alone cannot be forgotten: set it to a position".to_owned());
    }
    let before = table.streams.len();
    table.streams.retain(|stream| !target.names(stream));
    if target.stream.is_none() {
        table.stopped = None;
    }
    (table.streams.len() < before).then_some(()).ok_or_else(|| target.unknown())
}

impl Target {
    fn names(&self, stream: &StoredStream) -> bool {
        self.stream.as_ref().is_none_or(|arn| *arn == stream.arn)
    }

    fn unknown(&self) -> String {
        "the table has no such stream or shard that is not done with; `positions show` prints all".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::checkpoint::StoredStop;

    fn at(number: u64) -> Position {
        Position::After(number.to_string().parse().expect("digits"))
    }

    /// A shard whose child has a child, and one that has nothing to do with them.
    fn table() -> StoredTable {
        let shard = |id: &str, parent: Option<&str>| {
            (id.to_owned(), StoredShard::at(at(9), UNIX_EPOCH, parent.map(str::to_owned)))
        };
        let shards =
            [shard("a", None), shard("b", Some("a")), shard("c", Some("b")), shard("other", Some("gone"))].into();
        let stream =
            |arn: &str, done, shards| StoredStream { arn: arn.to_owned(), start: Position::Start, done, shards };
        let stopped = Some(StoredStop { why: "trimmed".to_owned(), at: UNIX_EPOCH });
        StoredTable { streams: vec![stream("old", true, BTreeMap::new()), stream("new", false, shards)], stopped }
    }

    fn target(stream: Option<&str>, shard: Option<&str>) -> Target {
        Target { table: "Orders".to_owned(), stream: stream.map(str::to_owned), shard: shard.map(str::to_owned) }
    }

    #[test]
    fn a_shard_that_goes_back_takes_along_what_continues_it_and_nothing_else() {
        let mut changed = table();
        assert_eq!(set(&mut changed, &target(None, Some("a")), at(3), UNIX_EPOCH), Ok(()));
        let shards = &changed.streams[1].shards;
        assert_eq!(shards.keys().collect::<Vec<_>>(), ["a", "other"]);
        assert_eq!((shards["a"].safe(), shards["other"].safe()), (Some(at(3)), Some(at(9))));
    }

    #[test]
    fn a_table_that_goes_back_begins_there_in_each_stream_that_is_not_done_with() {
        let mut changed = table();
        let since = Position::Since(UNIX_EPOCH);
        assert_eq!(set(&mut changed, &target(None, None), since, UNIX_EPOCH), Ok(()));
        assert_eq!(changed.streams[0], table().streams[0]);
        assert_eq!((changed.streams[1].start, changed.streams[1].shards.len()), (since, 0));
        assert_eq!(changed.stopped, table().stopped, "a stop is not forgotten by that");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_to_do() {
        let refused = |target: Target, to| set(&mut table(), &target, to, UNIX_EPOCH).expect_err("it makes no sense");
        assert!(refused(target(None, None), at(3)).contains("--shard"));
        assert!(refused(target(None, Some("nowhere")), at(3)).contains("positions show"));
        assert!(refused(target(Some("old"), None), Position::Start).contains("done with"));
        assert!(forget(&mut table(), &target(Some("nowhere"), None)).is_err());
        assert!(forget(&mut table(), &target(None, Some("a"))).expect_err("a shard").contains("set it"));
    }

    #[test]
    fn a_stream_or_a_whole_table_can_be_forgotten() {
        let (mut one, mut all) = (table(), table());
        assert_eq!(forget(&mut one, &target(Some("old"), None)), Ok(()));
        assert_eq!(forget(&mut all, &target(None, None)), Ok(()));
        assert_eq!((one.streams.len(), one.stopped.is_some()), (1, true));
        assert_eq!(all, StoredTable::default());
    }

    #[test]
    fn a_table_is_known_by_its_name_and_by_its_arn_as_long_as_that_is_one() {
        let (one, other) = ("arn:aws:dynamodb:eu-west-1:1:table/Orders", "arn:aws:dynamodb:eu-west-1:2:table/Orders");
        let of = |keys: &[&str]| -> StoredPositions {
            let tables = keys.iter().map(|key| ((*key).to_owned(), table())).collect();
            [("blue".to_owned(), tables)].into()
        };
        assert_eq!(key_of(&of(&[one]), "blue", "Orders").as_deref(), Ok(one));
        assert_eq!(key_of(&of(&[one, other]), "blue", other).as_deref(), Ok(other));
        assert!(key_of(&of(&[one, other]), "blue", "Orders").expect_err("two").contains("more than one"));
        assert!(key_of(&of(&[one]), "blue", "Order").expect_err("none").contains(one));
        assert!(key_of(&of(&[one]), "green", "Orders").is_err());
    }
}
