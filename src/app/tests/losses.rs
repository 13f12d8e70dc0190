//! Which changes and which stored positions survive what AWS does, and what is still lost: a test that is expected to fail says
//! what and for whom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::harness::{FakeServices, NEW, OLD, RunningTable, Setup};
use crate::checkpoint::{StoredShard, StoredStream, StoredTable, UnfinishedShard};
use crate::clock;
use crate::config::{DeliveryOrder, OnDataLoss, StartPosition};
use crate::progress::Acknowledger as _;
use crate::records::{LaneId, Position};

const MINUTE: Duration = Duration::from_secs(60);

fn stored(arn: &str, drained: bool, shards: &[(&str, u64)]) -> StoredStream {
    stored_at(arn, drained, shards, clock::now())
}

fn stored_at(arn: &str, drained: bool, shards: &[(&str, u64)], stored_at: SystemTime) -> StoredStream {
    let shard = |(id, number): &(&str, u64)| {
        let position = Position::After(format!("{number:021}").parse().unwrap());
        ((*id).to_owned(), StoredShard::at(position, stored_at, None))
    };
    StoredStream {
        arn: arn.to_owned(),
        start: Position::Start,
        done: drained,
        shards: shards.iter().map(shard).collect(),
    }
}

/// Who delivered before that and was killed would have left nothing: the next process would begin at a moment of its own.
#[tokio::test(start_paused = true)]
async fn nothing_is_delivered_before_it_is_stored_where_a_first_start_begins() {
    let services = FakeServices::with_shards(&["n"]);
    services.script(|script| script.store_fails = true);
    let running = RunningTable::new(services.clone(), Setup::default());
    sleep(MINUTE).await;
    (1..=3).for_each(|number| services.write(NEW, "n", number));
    sleep(10 * MINUTE).await;
    assert!(running.delivered().is_empty(), "{:?}", running.delivered());
    assert_eq!(running.health.not_live(), None, "to wait for the store is no stall");
    services.script(|script| script.store_fails = false);
    sleep(MINUTE).await;
    assert_eq!(running.delivered().len(), 3, "what was written since the start comes as soon as that is stored");
}

/// A later stream begins where the one before ends, whoever reads it.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_does_not_hold_up_a_table_whose_start_is_stored() {
    let services = FakeServices::with_shards(&[]);
    services.shard(NEW, "n", None, &[11, 12], false);
    services.script(|script| script.store_fails = true);
    let stored = StoredTable { streams: vec![stored(OLD, true, &[])], stopped: None };
    let running = RunningTable::new(services, Setup { stored, ..Setup::default() });
    sleep(MINUTE).await;
    assert!(running.delivered().len() >= 2, "{:?}", running.delivered());
}

/// A table whose old stream vanished before it was read to its end, and that has a new one with two changes.
async fn after_a_vanished_stream(order: DeliveryOrder) -> RunningTable {
    let services = FakeServices::with_shards(&[]);
    services.shard(NEW, "n", None, &[11, 12], false);
    let stored = StoredTable { streams: vec![stored(OLD, false, &[("o", 1)])], stopped: None };
    let running = RunningTable::new(services, Setup { order, stored, ..Setup::default() });
    sleep(10 * MINUTE).await;
    running
}

#[tokio::test(start_paused = true)]
async fn with_order_by_shard_the_stream_after_a_vanished_one_is_delivered() {
    let running = after_a_vanished_stream(DeliveryOrder::Shard).await;
    assert_eq!(running.delivered().len(), 3, "the gap and two changes");
}

#[tokio::test(start_paused = true)]
async fn positions_in_the_stream_after_a_vanished_one_are_stored() {
    let running = after_a_vanished_stream(DeliveryOrder::Item).await;
    assert_eq!(running.delivered().len(), 3, "the gap and two changes");
    assert_eq!(running.progress.tracker().unsettled(), 0);
    let state = running.last_saved();
    let next = state.streams.iter().find(|stream| stream.arn == NEW).unwrap();
    assert!(next.shards.contains_key("n"), "no position in the new stream is ever stored: {state:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_vanishes_while_pages_wait_leaves_the_tables_buffer_whole() {
    let services = FakeServices::with_shards(&[]);
    let shards = ["a", "b", "c", "d", "e", "f", "g", "h"];
    shards.iter().for_each(|shard| services.shard(OLD, shard, None, &[], false));
    let running = RunningTable::new(services.clone(), Setup::default());
    sleep(MINUTE).await;
    // Everybody is busy for a while: 16 updates wait, and each reader with a page besides.
    running.pipeline.store(true, Ordering::Relaxed);
    for number in 0..10 {
        shards.iter().for_each(|shard| services.write(OLD, shard, number));
        sleep(Duration::from_secs(10)).await;
    }
    services.shard(NEW, "n", None, &[7], false);
    services.script(|script| script.streams.remove(OLD));
    sleep(3 * MINUTE).await;
    running.awake(&running.pipeline);
    sleep(10 * MINUTE).await;
    assert_eq!(running.progress.tracker().unsettled(), 0);
    assert_eq!(running.progress.buffer().held(), 0, "bytes that nobody gives back before a restart");
}

#[tokio::test(start_paused = true)]
async fn a_start_at_a_moment_delivers_every_change_since_whatever_listings_leave_out_and_when_it_restarts() {
    let mut skipped = 0;
    for seed in 0..8 {
        fastrand::seed(seed);
        let now = clock::now();
        let millis = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
        let id = |minutes_ago: u64, number: u64| format!("shardId-{:020}-{number:08x}", millis - minutes_ago * 60_000);
        let (services, mut expected) = (FakeServices::with_shards(&[]), BTreeSet::new());
        // Lineages of shards of an hour each; the moment is two and a half hours ago.
        for lineage in 0..4_u64 {
            let mut parent: Option<String> = None;
            for generation in 0..6_u64 {
                let minutes_ago = (6 - generation) * 60 - lineage * 7;
                let (shard, number) = (id(minutes_ago, lineage * 10 + generation), 1 + lineage * 10 + generation);
                let closed = generation < 5;
                services.shard(NEW, &shard, parent.as_deref(), &[number], closed);
                if !closed || minutes_ago < 60 + 150 {
                    expected.insert(number.to_string());
                }
                parent = Some(shard);
            }
        }
        services.script(|script| (script.page, script.leaves_out) = (5, 0.3));
        let setup = |stored| Setup { start: StartPosition::At(now - 150 * MINUTE), stored, ..Setup::default() };
        let mut stored = StoredTable::default();
        for _ in 0..3 {
            let running = RunningTable::new(services.clone(), setup(stored));
            sleep(Duration::from_millis(fastrand::u64(1..4_000))).await;
            stored = running.last_saved();
        }
        services.script(|script| script.leaves_out = 0.1);
        let running = RunningTable::new(services.clone(), setup(stored));
        sleep(20 * MINUTE).await;
        let delivered: BTreeSet<String> = running.delivered().into_iter().collect();
        let lost: Vec<&String> = expected.difference(&delivered).collect();
        assert!(delivered.len() <= 24, "{delivered:?}");
        skipped += 24 - delivered.len();
        assert!(lost.is_empty(), "seed {seed}: {lost:?} of {expected:?} never came");
    }
    assert!(skipped > 0, "no start has left out a closed shard");
}

/// A table that had an earlier stream, restarted while AWS refuses, with a position in its shard.
async fn restarted_while_aws_refuses(services: &Arc<FakeServices>) -> RunningTable {
    services.script(|script| script.denied.extend(["DescribeStream", "DescribeTable"]));
    let running = RunningTable::new(services.clone(), Setup { stored: left_a_day_ago(), ..Setup::default() });
    sleep(MINUTE).await;
    running
}

fn left_a_day_ago() -> StoredTable {
    let day_ago = clock::now() - 25 * 60 * MINUTE;
    StoredTable { streams: vec![stored(OLD, true, &[]), stored_at(NEW, false, &[("n", 13)], day_ago)], stopped: None }
}

/// Who has positions in a file must not lose them to a restart at a bad moment: the next one would repeat up to a day.
#[tokio::test(start_paused = true)]
async fn a_restart_while_aws_refuses_keeps_the_stored_positions_of_a_table_that_had_an_earlier_stream() {
    let services = FakeServices::with_shards(&[]);
    services.shard(NEW, "n", None, &[11, 12, 13], false);
    restarted_while_aws_refuses(&services).await;
    let saved = services.script(|script| script.saved.clone());
    let lacks =
        |state: &&StoredTable| !state.streams.iter().any(|stream| stream.arn == NEW && !stream.shards.is_empty());
    assert_eq!(saved.iter().find(lacks), None, "the store has forgotten the position: a restart now repeats a day");
}

/// Without that position nobody could tell that changes behind it were trimmed.
#[tokio::test(start_paused = true)]
async fn a_loss_is_said_although_aws_refused_at_the_restart_before() {
    let services = FakeServices::with_shards(&[]);
    services.shard(NEW, "n", None, &[50], false);
    services.script(|script| script.trimmed = 50);
    let running = restarted_while_aws_refuses(&services).await;
    let saved = running.last_saved();
    // If nothing was stored, what an earlier run has left is still there.
    let stored = if saved.streams.is_empty() { left_a_day_ago() } else { saved };
    drop(running);
    services.script(|script| script.denied.clear());
    let running = RunningTable::new(services, Setup { stored, ..Setup::default() });
    sleep(MINUTE).await;
    let delivered = running.delivered();
    assert!(delivered.iter().any(|id| id.starts_with("gap-")), "changes 14 to 49 are gone; delivered: {delivered:?}");
}

/// An open shard, one answer that it is not found, and a change a minute later: how many changes are delivered.
async fn delivered_after_one_not_found(start: StartPosition) -> usize {
    let services = FakeServices::with_shards(&[]);
    services.shard(NEW, "n", None, &[], false);
    services.script(|script| script.not_found.insert("GetRecords", 1));
    let running = RunningTable::new(services, Setup { start, ..Setup::default() });
    sleep(MINUTE).await;
    running.services.write(NEW, "n", 7);
    sleep(60 * MINUTE).await;
    running.delivered().len()
}

/// One wrong `ResourceNotFoundException` for an open shard, of which nothing was delivered or stored yet.
#[tokio::test(start_paused = true)]
async fn one_answer_that_a_listed_shard_is_not_found_loses_no_change_after_a_start_with_latest() {
    assert_eq!(
        delivered_after_one_not_found(StartPosition::Latest).await,
        1,
        "the shard is listed, open, and not read"
    );
}

#[tokio::test(start_paused = true)]
async fn one_answer_that_a_listed_shard_is_not_found_loses_no_change_after_a_start_at_a_moment() {
    let start = StartPosition::At(clock::now() - 15 * MINUTE);
    assert_eq!(delivered_after_one_not_found(start).await, 1, "the shard is listed, open, and not read");
}

/// A position that is stored stays so while those of the other shards are still being taken up.
#[tokio::test(start_paused = true)]
async fn a_crash_right_after_a_restart_loses_no_stored_position() {
    let services = FakeServices::with_shards(&[]);
    let ids: Vec<String> = (0..100).map(|number| format!("s{number:03}")).collect();
    ids.iter().for_each(|id| services.shard(NEW, id, None, &[1], false));
    let shards: Vec<(&str, u64)> = ids.iter().map(|id| (id.as_str(), 1)).collect();
    let stored = StoredTable { streams: vec![stored(NEW, false, &shards)], stopped: None };
    let running = RunningTable::new(services, Setup { stored, ..Setup::default() });
    sleep(MINUTE).await;
    let saved = running.services.script(|script| script.saved.clone());
    let counts: Vec<usize> = saved.iter().map(|state| state.streams.iter().map(|one| one.shards.len()).sum()).collect();
    assert!(counts.iter().all(|count| *count == 100), "positions of 100 shards were stored, then only {counts:?}");
}

/// Where AWS was wrong, a restart with `ON_DATA_LOSS=continue` reads what was left in the shards of a stream that it denied.
#[tokio::test(start_paused = true)]
async fn a_stop_because_a_stream_is_gone_leaves_its_stored_positions_as_they_are() {
    let services = FakeServices::with_shards(&[]);
    services.shard(OLD, "o", None, &[1], false);
    let running = RunningTable::new(services.clone(), Setup { on_data_loss: OnDataLoss::Stop, ..Setup::default() });
    sleep(MINUTE).await;
    let reading = |state: &StoredTable| matches!(state.streams[0].shards.get("o"), Some(StoredShard::Unfinished(_)));
    assert!(reading(&running.last_saved()));
    // Three answers of a confused AWS; the table has a newer stream.
    services.shard(NEW, "n", None, &[2], false);
    services.script(|script| script.streams.remove(OLD));
    sleep(10 * MINUTE).await;
    assert!(running.progress.health().has_stopped());
    let state = running.last_saved();
    assert!(reading(&state), "restarted with ON_DATA_LOSS=continue it takes the shard for read: {state:?}");
}

/// Nothing of the old stream is owed.
#[tokio::test(start_paused = true)]
async fn a_first_start_is_not_stopped_over_a_stream_that_was_replaced_before_anything_was_read() {
    let services = FakeServices::with_shards(&[]);
    services.shard(NEW, "n", None, &[2], false);
    services.script(|script| script.latest = Some(OLD));
    let running = RunningTable::new(
        services.clone(),
        Setup { on_data_loss: OnDataLoss::Stop, start: StartPosition::Latest, ..Setup::default() },
    );
    sleep(Duration::from_millis(100)).await;
    services.script(|script| script.latest = Some(NEW));
    sleep(10 * MINUTE).await;
    assert!(!running.progress.health().has_stopped(), "nothing of the old stream was owed: {:?}", running.last_saved());
}

/// With order by shard the next stream waits for the last page of the one before, which nothing has to be delivered of.
#[tokio::test(start_paused = true)]
async fn with_order_by_shard_a_stream_is_read_although_the_last_page_before_it_was_entered_late() {
    let services = FakeServices::with_shards(&[]);
    services.shard(OLD, "o", None, &[1], false);
    let running = RunningTable::new(services.clone(), Setup { order: DeliveryOrder::Shard, ..Setup::default() });
    sleep(MINUTE).await;
    running.pipeline.store(true, Ordering::Relaxed);
    services.script(|script| {
        let old = script.streams.get_mut(OLD).unwrap();
        old.disabled = true;
        old.shards.get_mut("o").unwrap().closed = true;
    });
    services.shard(NEW, "n", None, &[2], false);
    sleep(10 * MINUTE).await;
    running.awake(&running.pipeline);
    sleep(10 * MINUTE).await;
    assert_eq!(running.delivered(), ["1", "2"]);
}

/// A page of which not even a number can be read says nothing of what was trimmed before it.
#[tokio::test(start_paused = true)]
async fn a_page_without_a_number_at_the_start_of_a_shard_is_no_loss_of_what_an_earlier_run_owes() {
    let number = |number: u64| format!("{number:021}").parse::<crate::records::RecordNumber>().unwrap();
    let shard = UnfinishedShard {
        safe: Position::Start,
        newest_settled: Position::After(number(3)),
        heads: BTreeMap::from([(LaneId::of_shard("an item"), number(2))]),
        oldest_owed: None,
        verified_at: clock::now(),
        newest_record: None,
        parent: None,
    };
    let shards = BTreeMap::from([("n".to_owned(), StoredShard::Unfinished(shard))]);
    let services = FakeServices::with_shards(&[]);
    services.shard(NEW, "n", None, &[1, 2, 3, 4], false);
    services.script(|script| (script.undecodable, script.records_a_page) = (BTreeSet::from([1]), 1));
    let stream = StoredStream { arn: NEW.to_owned(), start: Position::Start, done: false, shards };
    let running = RunningTable::new(
        services,
        Setup { stored: StoredTable { streams: vec![stream], stopped: None }, ..Setup::default() },
    );
    sleep(10 * MINUTE).await;
    assert_eq!(running.delivered(), ["4"]);
}

/// AWS was wrong about a stream, and the next run finds it. AWS refuses the id that stands for the stream as a whole: it is none of
/// its own.
#[tokio::test(start_paused = true)]
async fn a_stream_that_was_taken_for_gone_is_read_after_a_restart_and_so_is_the_next() {
    let services = FakeServices::with_shards(&[]);
    services.shard(OLD, "o", None, &[1], false);
    let running = RunningTable::new(services.clone(), Setup { on_data_loss: OnDataLoss::Stop, ..Setup::default() });
    sleep(MINUTE).await;
    services.shard(NEW, "n", None, &[3], false);
    let gone = services.script(|script| script.streams.remove(OLD).unwrap());
    sleep(10 * MINUTE).await;
    assert!(running.progress.health().has_stopped());
    let stored = running.last_saved();
    drop(running);
    services.script(|script| script.streams.insert(OLD, gone));
    services.write(OLD, "o", 2);
    services.script(|script| {
        let old = script.streams.get_mut(OLD).unwrap();
        (old.disabled, old.shards.get_mut("o").unwrap().closed) = (true, true);
        script.latest = Some(NEW);
    });
    let running = RunningTable::new(services, Setup { stored, ..Setup::default() });
    sleep(30 * MINUTE).await;
    let delivered = running.delivered();
    assert!(delivered.contains(&"2".to_owned()) && delivered.contains(&"3".to_owned()), "{delivered:?}");
}

/// A supervisor starts the process again and again: that must not be how a table comes to be read on.
#[tokio::test(start_paused = true)]
async fn a_stop_over_a_loss_is_stored_and_lasts_over_restarts_until_it_may_continue() {
    let services = FakeServices::with_shards(&[]);
    services.shard(OLD, "o", None, &[1], false);
    let stop = |stored| Setup { on_data_loss: OnDataLoss::Stop, stored, ..Setup::default() };
    let running = RunningTable::new(services.clone(), stop(StoredTable::default()));
    sleep(MINUTE).await;
    services.shard(NEW, "n", None, &[2], false);
    services.script(|script| script.streams.remove(OLD));
    sleep(10 * MINUTE).await;
    let (mut stored, delivered) = (running.last_saved(), running.delivered());
    let why = stored.stopped.clone().expect("the stop is not stored").why;
    assert!(why.contains(OLD), "{why}");
    drop(running);
    for _ in 0..2 {
        let running = RunningTable::new(services.clone(), stop(stored));
        sleep(10 * MINUTE).await;
        assert_eq!(running.delivered(), delivered, "a restart reads on");
        let trouble = running.health.not_ready(tokio::time::Instant::now()).expect("it is ready");
        assert!(trouble.contains("ON_DATA_LOSS=continue") && trouble.contains(OLD), "{trouble}");
        stored = services.script(|script| script.stored.clone());
    }
    let running = RunningTable::new(services.clone(), Setup { stored, ..Setup::default() });
    sleep(10 * MINUTE).await;
    assert!(running.delivered().contains(&"2".to_owned()), "{:?}", running.delivered());
    assert_eq!(running.last_saved().stopped, None, "the next restart with ON_DATA_LOSS=stop would not read");
    assert_eq!(running.health.not_ready(tokio::time::Instant::now()), None);
}
