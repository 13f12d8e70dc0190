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
use crate::streams::update::Gap;

/// The events' type.
const TYPE: &str = "com.amazonaws.dynamodb.gap";

impl Gap {
    /// The event's `id`: a function of the stream, the shard and the position.
    ///
    /// The position is that of the lost record where it is known, else that of the last record before the gap. What
    /// follows the gap has no part in it: it moves while the gap is noticed again.
    pub fn id(&self) -> String {
        let position = match (self.lost, self.after) {
            (Some(lost), _) => format!("at {lost}"),
            (None, Some(after)) => format!("after {after}"),
            (None, None) => "start".to_owned(),
        };
        let place = json!([self.stream_arn, self.shard, position]).to_string();
        format!("gap-{}", key::hash(&place))
    }

    /// A number for the gaps of its shard: their lane, apart from all items.
    pub fn lane_key(&self) -> u64 {
        let mut lane = DefaultHasher::new();
        ("gap", &self.stream_arn, &self.shard).hash(&mut lane);
        lane.finish()
    }

    /// The message that tells the gap, which was noticed at `noticed`, with further extensions.
    pub fn encode(&self, packaging: &Packaging, noticed: SystemTime, extensions: &[Extension]) -> Message {
        packaging.message_with(self.event(noticed), extensions)
    }

    /// The event; `time` is the moment at which the gap was noticed.
    pub fn event(&self, noticed: SystemTime) -> Event {
        let place = self.shard.as_deref().unwrap_or(&self.stream_arn);
        let mut event = EventBuilderV10::new()
            .id(self.id())
            .ty(TYPE)
            .source(&self.table_arn)
            .subject(place)
            .extension("partitionkey", printable(place))
            .data("application/json", self.data());
        if let Some(time) = clock::utc_in_millis(noticed) {
            event = event.extension("recordedtime", clock::rfc3339(time)).time(time);
        }
        event.build().expect("id, source and type are set, and an ARN is never empty")
    }

    fn data(&self) -> serde_json::Value {
        json!({
            "table": table_name(&self.table_arn),
            "stream": self.stream_arn,
            "shard": self.shard,
            "after": self.after,
            "before": self.before,
            "reason": self.reason.as_str(),
        })
    }
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
