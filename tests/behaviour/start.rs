//! A first start at a moment in the past: what is delivered, and which shards are read.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use crate::support::adapter::Plan;
use crate::support::aws::{FakeAws, Write};
use crate::support::oracle::{self, assert_complete_and_in_order};
use crate::support::sink::TestSink;
use crate::support::wait_for;

const MINUTE: Duration = Duration::from_mins(1);

/// What was written to `orders` for ten hours.
struct Past {
    aws: FakeAws,
    /// The shards that were closed long ago.
    old: BTreeSet<String>,
    /// What was written less than 15 minutes ago.
    recent: Vec<Write>,
}

impl Past {
    /// Three shards of the table were closed six hours ago and three two hours ago. Changes of the last 15 minutes are in
    /// three that were open for the next 115 minutes and their children, older ones in all but the youngest.
    async fn new(ids_without_time: bool) -> Self {
        let aws = FakeAws::start().await;
        aws.script().page_shards = 4;
        aws.script().shard_ids_without_time = ids_without_time;
        aws.script().clock_behind = 600 * MINUTE;
        aws.script().create_table("orders", 3);
        let mut old = BTreeSet::new();
        for age in [360, 120] {
            aws.write("orders", 20, 2);
            old.extend(aws.script().open_shards("orders"));
            aws.script().clock_behind = age * MINUTE;
            aws.script().roll_over_all("orders");
        }
        aws.write("orders", 20, 2);
        let older = aws.script().writes.len();
        aws.script().clock_behind = 10 * MINUTE;
        aws.write("orders", 20, 2);
        aws.script().clock_behind = 5 * MINUTE;
        aws.script().roll_over_all("orders");
        aws.write("orders", 20, 2);
        aws.script().clock_behind = Duration::ZERO;
        let recent = aws.script().writes[older..].to_vec();
        Self { aws, old, recent }
    }

    /// The shards that an iterator was asked for.
    fn read(&self) -> BTreeSet<String> {
        self.aws.script().calls.of("GetShardIterator").map(|call| call.shard.clone()).collect()
    }

    fn all_shards(&self) -> BTreeSet<String> {
        self.aws.script().stream("orders").shards.iter().map(|shard| shard.id.clone()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_15_minutes_back_delivers_what_was_written_since_and_reads_no_shard_closed_before() {
    let time = humantime::format_rfc3339_millis(SystemTime::now() - 15 * MINUTE).to_string();
    for (start, reverse) in [("15m", false), ("15m", true), (&*time, false)] {
        let (past, sink) = (Past::new(false).await, TestSink::start().await);
        past.aws.script().reverse_listing = reverse;
        let _adapter = Plan::new(&past.aws, &sink, "orders").env("START_POSITION", start).start_ready().await;
        wait_for("what was written in the last 15 minutes", || oracle::lost(&past.recent, &sink.received()).is_empty())
            .await;
        past.aws.write("orders", 20, 1);
        let wanted = past.recent.len() + 20;
        wait_for("what is written after the start", || sink.distinct() >= wanted).await;
        let writes = past.aws.script().writes.clone();
        assert_complete_and_in_order(&writes[writes.len() - wanted..], &sink.received(), &[]);
        assert_eq!(past.read(), &past.all_shards() - &past.old, "START_POSITION={start}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_ids_of_shards_tell_no_time_all_are_read_and_nothing_is_missing() {
    let (past, sink) = (Past::new(true).await, TestSink::start().await);
    let _adapter = Plan::new(&past.aws, &sink, "orders").env("START_POSITION", "15m").start_ready().await;
    wait_for("what was written in the last 15 minutes", || oracle::lost(&past.recent, &sink.received()).is_empty())
        .await;
    assert_eq!(past.read(), past.all_shards());
    assert_complete_and_in_order(&past.recent, &sink.received(), &[]);
    assert_eq!(sink.distinct(), past.recent.len(), "older changes were delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_stored_positions_goes_on_there_whatever_the_start_position() {
    let (past, sink, folder) = (Past::new(false).await, TestSink::start().await, tempfile::tempdir().unwrap());
    let plan = Plan::new(&past.aws, &sink, "orders").keeping_positions(&folder);
    let first = plan.clone().env("START_POSITION", "15m").start_ready().await;
    wait_for("what was written in the last 15 minutes", || sink.distinct() >= past.recent.len()).await;
    assert_eq!(first.terminate().await, Some(0));
    past.aws.write("orders", 20, 1);
    let restart = Instant::now();
    let _second = plan.env("START_POSITION", "24h").start_ready().await;
    let wanted = past.recent.len() + 20;
    wait_for("what was written meanwhile", || sink.distinct() >= wanted).await;
    let writes = past.aws.script().writes.clone();
    assert_complete_and_in_order(&writes[writes.len() - wanted..], &sink.received(), &[restart]);
    assert_eq!(oracle::duplicates(&sink.received()), 0);
    assert_eq!(past.read(), &past.all_shards() - &past.old);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_stored_positions_each_start_repeats_the_last_15_minutes_and_loses_nothing_of_them() {
    let (past, sink) = (Past::new(false).await, TestSink::start().await);
    let plan = Plan::new(&past.aws, &sink, "orders").env("START_POSITION", "15m");
    let first = plan.start_ready().await;
    wait_for("what was written in the last 15 minutes", || sink.distinct() >= past.recent.len()).await;
    first.kill();
    sink.has_seen_everything().await;
    past.aws.write("orders", 20, 1);
    let restart = Instant::now();
    let _second = plan.start_ready().await;
    wait_for("all of it again, and what is new", || oracle::duplicates(&sink.received()) >= past.recent.len()).await;
    let wanted = past.recent.len() + 20;
    wait_for("what was written meanwhile", || sink.distinct() >= wanted).await;
    let writes = past.aws.script().writes.clone();
    assert_complete_and_in_order(&writes[writes.len() - wanted..], &sink.received(), &[restart]);
}
