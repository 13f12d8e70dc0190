//! What is stored, as lines for people and as JSON. Pure.

use std::collections::BTreeSet;

use crate::checkpoint::{StoredPositions, StoredShard, StoredStream, StoredTable};
use crate::clock::rfc3339;

/// One line for each entry.
pub(super) fn show(positions: &StoredPositions) -> String {
    lines(positions).iter().map(|line| format!("{line}\n")).collect()
}

pub(super) fn export(positions: &StoredPositions) -> String {
    let mut text = serde_json::to_string_pretty(positions).expect("maps of texts are always JSON");
    text.push('\n');
    text
}

/// The lines that go and those that come.
pub(super) fn differences(before: &StoredPositions, after: &StoredPositions) -> String {
    let (old, new) = (lines(before), lines(after));
    let removed = old.difference(&new).map(|line| format!("- {line}\n"));
    let added = new.difference(&old).map(|line| format!("+ {line}\n"));
    removed.chain(added).collect()
}

fn lines(positions: &StoredPositions) -> BTreeSet<String> {
    let tables =
        positions.iter().flat_map(|(group, tables)| tables.iter().map(move |(table, stored)| (group, table, stored)));
    tables.flat_map(|(group, table, stored)| table_lines(group, table, stored)).collect()
}

fn table_lines(group: &str, table: &str, stored: &StoredTable) -> Vec<String> {
    let stopped = stored.stopped.iter().map(|stop| {
        let (at, why) = (rfc3339(stop.at), &stop.why);
        format!("{group} {table}: stopped at {at}, because of a data loss and ON_DATA_LOSS=stop: {why}")
    });
    stopped.chain(stored.streams.iter().flat_map(|stream| stream_lines(group, table, stream))).collect()
}

fn stream_lines(group: &str, table: &str, stream: &StoredStream) -> Vec<String> {
    let name = format!("{group} {table} {}", stream.arn);
    let done = if stream.done { ", done with" } else { "" };
    let mut lines = vec![format!("{name}: shards that are not listed from {}{done}", stream.start)];
    lines.extend(stream.shards.iter().map(|(id, shard)| format!("{name} {id}: {}", described(shard))));
    lines
}

fn described(shard: &StoredShard) -> String {
    match shard {
        StoredShard::Finished { at, .. } => format!("finished at {}", rfc3339(*at)),
        StoredShard::Unfinished(shard) if shard.heads.is_empty() => shard.safe.to_string(),
        StoredShard::Unfinished(shard) => {
            let (lanes, newest) = (shard.heads.len(), shard.newest_settled);
            format!("{}, and {newest} except for records of {lanes} lanes", shard.safe)
        }
    }
}
