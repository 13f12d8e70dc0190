//! Entries that belong to a table that is not there any more. Pure.
//!
//! An owner that has not learned yet that its table was deleted and made anew may create an entry in the new one: of a shard, or of a
//! later stream. It would say that something is settled, and what its ancestors owe would be gone. So each entry of a stream has
//! a number drawn by chance when it is created, those of its shards have the same, and that of the next stream names it.

use std::collections::BTreeMap;

use super::entries::{Entry, EntryName};
use super::plan::Entries;

/// Entries that no other entry vouches for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Strays {
    /// In their place stands what another owner has created: they are certainly of an earlier table.
    pub replaced: Vec<EntryName>,
    /// What they belong to is not there. Somebody may have deleted it.
    pub orphans: Vec<EntryName>,
}

impl Strays {
    pub(super) fn of(entries: &Entries<'_>) -> Self {
        let (mut strays, mut known, mut last) = (Self::default(), BTreeMap::new(), None);
        for (name, entry) in entries {
            match (name, entry) {
                (EntryName::Stream { label, .. }, Entry::Stream(stream)) if stream.follows == last => {
                    known.insert(label.as_str(), stream.incarnation);
                    last = Some(stream.incarnation);
                }
                (EntryName::Stream { .. }, _) => strays.add(name, last.is_some()),
                (EntryName::Shard { stream, .. }, Entry::Shard(shard)) => match known.get(stream.as_str()) {
                    Some(incarnation) if *incarnation == shard.incarnation => {}
                    other => strays.add(name, other.is_some()),
                },
                _ => {}
            }
        }
        // What a stray stream has is replaced with it.
        let labels: Vec<&str> = strays.replaced.iter().filter_map(label).collect();
        let (replaced, orphans) = strays.orphans.iter().cloned().partition(|name| match name {
            EntryName::Shard { stream, .. } => labels.contains(&stream.as_str()),
            _ => false,
        });
        let replaced: Vec<EntryName> = replaced;
        Self { replaced: [strays.replaced.clone(), replaced].concat(), orphans }
    }

    fn add(&mut self, name: &EntryName, is_replaced: bool) {
        match is_replaced {
            true => self.replaced.push(name.clone()),
            false => self.orphans.push(name.clone()),
        }
    }

    pub(super) fn all(self) -> Vec<EntryName> {
        [self.replaced, self.orphans].concat()
    }
}

fn label(name: &EntryName) -> Option<&str> {
    match name {
        EntryName::Stream { label, .. } => Some(label),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::entries::{ShardEntry, StreamEntry};
    use super::*;
    use crate::checkpoint::StoredShard;
    use crate::records::Position;

    fn stream(place: u32, incarnation: u32, follows: Option<u32>) -> (EntryName, Entry) {
        let (arn, start) = (format!("s{place}"), Position::Start);
        let name = EntryName::Stream { place, label: arn.clone() };
        (name, Entry::Stream(StreamEntry { arn, start, done: false, incarnation, follows }))
    }

    fn shard(stream: u32, incarnation: u32) -> (EntryName, Entry) {
        let name = EntryName::Shard { stream: format!("s{stream}"), id: "p".to_owned() };
        let shard = StoredShard::at(Position::Start, UNIX_EPOCH, None);
        (name, Entry::Shard(ShardEntry { incarnation, shard }))
    }

    #[test]
    fn entries_of_another_table_are_told_from_those_whose_table_is_unknown() {
        let sound = [stream(0, 7, None), stream(1, 8, Some(7)), shard(0, 7), shard(1, 8)];
        let replaced = [stream(0, 1, None), stream(1, 8, Some(7)), shard(0, 7), shard(1, 8)];
        let orphans = [stream(1, 8, Some(7)), shard(0, 7), shard(1, 8)];
        for (entries, of_other_tables, without) in [(&sound[..], 0, 0), (&replaced, 3, 0), (&orphans, 0, 3)] {
            let strays = Strays::of(&entries.iter().map(|(name, entry)| (name, entry)).collect());
            assert_eq!((strays.replaced.len(), strays.orphans.len()), (of_other_tables, without), "{strays:?}");
        }
    }
}
