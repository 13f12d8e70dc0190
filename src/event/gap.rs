//! The event that says: here the changes are not known to be complete.
//!
//! It is built with the CloudEvents SDK and travels like every other event. Its `id` is made from the stream, the
//! shard and the position alone, so that the same gap noticed twice is recognised by `source` and `id`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::SystemTime;

use cloudevents::{Event, EventBuilder, EventBuilderV10};
use serde_json::json;

use super::http::{Message, wire_len};
use super::{Extension, Packaging, key};
use crate::clock;
use crate::records::Gap;

/// The events' type.
const TYPE: &str = "com.amazonaws.dynamodb.gap";

/// The `id` of a gap's event: a function of the stream, the shard and the position.
///
/// The position is that of the lost record where it is known, else that of the last record before the gap. What
/// follows the gap has no part in it: it moves while the gap is noticed again.
pub(crate) fn gap_id(gap: &Gap) -> String {
    let position = match (gap.lost, gap.after) {
        (Some(lost), _) => format!("at {lost}"),
        (None, Some(after)) => format!("after {after}"),
        (None, None) => "start".to_owned(),
    };
    let place = json!([gap.stream_arn, gap.shard, position]).to_string();
    format!("gap-{}", key::hash(&place))
}

/// A number for the gaps of its shard: their lane, apart from all items.
pub(crate) fn gap_lane_key(gap: &Gap) -> u64 {
    let mut lane = DefaultHasher::new();
    ("gap", &gap.stream_arn, &gap.shard).hash(&mut lane);
    lane.finish()
}

/// The message that tells the gap, which was noticed at `noticed`, with further extensions.
pub(crate) fn encode_gap(gap: &Gap, packaging: &Packaging, noticed: SystemTime, extensions: &[Extension]) -> Message {
    packaging.message_with(gap_event(gap, noticed), extensions)
}

/// The event; `time` is the moment at which the gap was noticed.
fn gap_event(gap: &Gap, noticed: SystemTime) -> Event {
    let place = gap.shard.as_deref().unwrap_or(&gap.stream_arn);
    let mut event = EventBuilderV10::new()
        .id(gap_id(gap))
        .ty(TYPE)
        .source(&gap.table_arn)
        .subject(place)
        .extension("partitionkey", printable(place))
        .data("application/json", gap_data(gap));
    if let Some(time) = clock::utc_in_millis(noticed) {
        event = event.extension("recordedtime", clock::rfc3339(time)).time(time);
    }
    event.build().expect("id, source and type are set, and an ARN is never empty")
}

fn gap_data(gap: &Gap) -> serde_json::Value {
    json!({
        "table": table_name(&gap.table_arn),
        "stream": gap.stream_arn,
        "shard": gap.shard,
        "after": gap.after,
        "before": gap.before,
        "reason": gap.reason.as_str(),
    })
}

/// The name in a table's ARN; the whole text where it is none.
fn table_name(arn: &str) -> &str {
    arn.split_once(":table/").map_or(arn, |(_, name)| name)
}

/// A text that needs no percent-encoding: itself, or its hash.
fn printable(text: &str) -> String {
    if wire_len(text) == text.len() { text.to_owned() } else { format!("~{}", key::hash(text)) }
}

#[cfg(test)]
mod tests;
