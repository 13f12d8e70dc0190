//! What a gap event tells, and when two of them are the same.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use super::*;
use crate::records::{LaneId, LossReason, RecordNumber, SequenceNumber};

fn position(text: &str) -> Option<SequenceNumber> {
    Some(text.parse().expect("a sequence number"))
}

fn record(text: &str) -> Option<RecordNumber> {
    Some(text.parse().expect("a record's number"))
}

fn trimmed() -> Gap {
    Gap {
        table_arn: "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders".to_owned(),
        stream_arn: "arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/2026-01-02T03:04:05.678".to_owned(),
        shard: Some("shardId-00000001767323045000-0a1b2c3d".to_owned()),
        after: record("300000000000000499659"),
        before: None,
        lost: None,
        resume: None,
        reason: LossReason::Trimmed,
        lanes: Some(3),
    }
}

fn binary() -> Packaging {
    Packaging::new(EventMode::Binary, &BTreeMap::new())
}

fn noticed() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_767_323_060_042)
}

#[test]
fn the_event_has_the_documented_attributes_and_data() {
    let gap = trimmed();
    let message = encode_gap(&gap, &binary(), noticed(), &[]);
    let expected = [
        ("ce-specversion", "1.0"),
        ("ce-id", &gap_id(&gap)),
        ("ce-type", "com.amazonaws.dynamodb.gap"),
        ("ce-source", &gap.table_arn),
        ("ce-subject", "shardId-00000001767323045000-0a1b2c3d"),
        ("ce-partitionkey", "shardId-00000001767323045000-0a1b2c3d"),
        ("ce-time", "2026-01-02T03:04:20.042Z"),
        ("ce-recordedtime", "2026-01-02T03:04:20.042Z"),
        ("content-type", "application/json"),
    ];
    assert_eq!(message.headers.len(), expected.len());
    for (name, value) in expected {
        assert_eq!(message.headers[name], value, "{name}");
    }
    let data: Value = serde_json::from_slice(&message.body).expect("JSON");
    assert_eq!(
        data,
        json!({
            "table": "Orders", "stream": gap.stream_arn, "shard": gap.shard,
            "after": "300000000000000499659", "before": null, "reason": "trimmed", "lanes": 3,
        })
    );
}

#[test]
fn a_gap_of_a_whole_stream_is_about_the_stream() {
    let gap = Gap { shard: None, after: None, reason: LossReason::StreamMissing, ..trimmed() };
    let message = encode_gap(&gap, &binary(), noticed(), &[]);
    assert_eq!(message.headers["ce-subject"], gap.stream_arn);
    assert_eq!(message.headers["ce-partitionkey"], gap.stream_arn);
}

#[test]
fn a_gap_noticed_again_has_the_same_id_even_if_its_far_side_moved() {
    let again = Gap { before: position("300000000000000999999"), ..trimmed() };
    assert_eq!(gap_id(&trimmed()), gap_id(&again));
    assert_eq!(gap_id(&trimmed()), "gap-7a211b3c464e6d41f686b08251ef1697", "consumers remember it");
}

#[test]
fn every_other_place_has_another_id_and_another_lane() {
    let others = [
        Gap { stream_arn: "arn:other".to_owned(), ..trimmed() },
        Gap { shard: None, ..trimmed() },
        Gap { after: record("300000000000000499660"), ..trimmed() },
        Gap { after: record("300000000000000499659#1"), ..trimmed() },
        Gap { after: None, ..trimmed() },
        Gap { lost: position("300000000000000499659"), ..trimmed() },
        Gap { lost: position("300000000000000499660"), ..trimmed() },
        Gap { shard: Some("shardId-2".to_owned()), ..trimmed() },
    ];
    let ids: std::collections::BTreeSet<_> = others.iter().chain([&trimmed()]).map(gap_id).collect();
    assert_eq!(ids.len(), others.len() + 1);
    let lanes: std::collections::BTreeSet<_> = ids.iter().map(|id| LaneId::of_gap(id)).collect();
    assert_eq!(lanes.len(), ids.len());
}
