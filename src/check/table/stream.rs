//! What a stream's description means. Pure.

use std::collections::BTreeSet;

use super::{STREAM, VIEW_TYPE};
use crate::check::remedy::Names;
use crate::check::report::Check;
use crate::config::TableRef;
use crate::streams::client::{ListedShard, StreamDescription, StreamStatus};

/// A stream and how many shards of it were listed.
pub(super) struct Listed {
    /// Its ARN.
    pub(super) stream: String,
    /// The first page of its description.
    pub(super) description: StreamDescription,
    /// Shards on all pages that were read.
    pub(super) shards: usize,
    /// One that nobody continues: most likely still open.
    pub(super) leaf: Option<String>,
    /// Whether all pages were read.
    pub(super) is_complete: bool,
}

/// Whether changes still come.
pub(super) fn status(listed: &Listed, table: &TableRef, names: &Names) -> Check {
    let at_least = if listed.is_complete { "" } else { "at least " };
    let shards = format!("{at_least}{} shards listed", listed.shards);
    if listed.description.status == StreamStatus::Enabled {
        return Check::ok(STREAM, &format!("enabled, {shards}"));
    }
    let detail = format!("disabled, {shards}: DynamoDB adds no further changes to it");
    match table.stream_arn() {
        Some(_) => Check::fail(STREAM, &format!("{detail}, and TABLE names only this stream"))
            .mended_by(format!("export TABLE={}", names.arn)),
        None => Check::fail(STREAM, &detail).mended_by(names.enable_stream()),
    }
}

/// What events will lack.
pub(super) fn view_type(view_type: Option<&str>, names: &Names) -> Check {
    let lacking = match view_type {
        Some("NEW_AND_OLD_IMAGES") => return Check::ok(VIEW_TYPE, "NEW_AND_OLD_IMAGES"),
        Some("NEW_IMAGE") => "NEW_IMAGE: events do not contain the old image of the item",
        Some("OLD_IMAGE") => "OLD_IMAGE: events do not contain the new image of the item",
        Some("KEYS_ONLY") => "KEYS_ONLY: events contain only the key of the item",
        other => return Check::ok(VIEW_TYPE, other.unwrap_or("unknown: AWS did not return it")),
    };
    Check::warn(VIEW_TYPE, lacking).mended_by(names.replace_stream())
}

/// A shard that none of the others continues, the last of them.
pub(super) fn leaf(shards: &[ListedShard]) -> Option<String> {
    let parents: BTreeSet<&str> = shards.iter().filter_map(|shard| shard.parent.as_deref()).collect();
    shards.iter().rev().find(|shard| !parents.contains(&*shard.id)).map(|shard| shard.id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: &str, parent: Option<&str>) -> ListedShard {
        ListedShard { id: id.into(), parent: parent.map(Into::into) }
    }

    #[test]
    fn the_shard_to_try_is_one_that_none_continues() {
        assert_eq!(leaf(&[]), None);
        let story = [shard("c", Some("b")), shard("a", None), shard("b", Some("a"))];
        assert_eq!(leaf(&story).as_deref(), Some("c"));
    }
}
