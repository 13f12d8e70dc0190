//! What the probes say, and when.

use std::sync::atomic::AtomicUsize;

use super::*;

const GET_RECORDS: FailingCall = FailingCall::Aws("GetRecords");
const GET_SHARD_ITERATOR: FailingCall = FailingCall::Aws("GetShardIterator");
const DESCRIBE_STREAM: FailingCall = FailingCall::Aws("DescribeStream");

fn ready_table() -> (Health, Arc<TableHealth>, Instant) {
    let (health, now) = (Health::default(), Instant::now());
    let orders = health.table("orders");
    orders.mark_ready();
    assert_eq!(health.not_ready(now), None);
    (health, orders, now)
}

#[test]
fn ready_needs_every_table_to_have_been_listed() {
    let (health, now) = (Health::default(), Instant::now());
    let (orders, users) = (health.table("orders"), health.table("users"));
    orders.mark_ready();
    let why = health.not_ready(now).unwrap();
    assert_eq!(why, "table users: waiting for the first response of AWS");
    assert!(!health.has_started(now));
    users.mark_ready();
    assert_eq!(health.not_ready(now), None);
    assert!(health.has_started(now));
}

#[test]
fn a_denied_operation_is_enough_at_once_and_other_refusals_after_a_minute() {
    let (health, orders, now) = ready_table();
    orders.record_failure(GET_RECORDS, "GetRecords failed: throttled", false, now);
    assert_eq!(health.not_ready(now + PATIENCE / 2), None);
    assert!(health.not_ready(now + PATIENCE).unwrap().contains("throttled"));
    orders.cleared(GET_RECORDS, now);
    assert_eq!(health.not_ready(now + PATIENCE), None);
    orders.record_failure(GET_RECORDS, "allow dynamodb:GetRecords", true, now);
    assert!(health.not_ready(now).unwrap().contains("allow dynamodb:GetRecords"));
}

/// Streams are listed once a minute, so whoever takes a listing for progress never counts a minute without it.
#[test]
fn records_that_are_refused_make_the_pod_unready_although_listings_succeed() {
    let (health, orders, begun) = ready_table();
    for second in 0..60 {
        let now = begun + Duration::from_secs(second);
        orders.record_failure(GET_RECORDS, "GetRecords failed: 500", false, now);
        assert_eq!(orders.cleared(DESCRIBE_STREAM, now), None);
    }
    assert_eq!(
        health.not_ready(begun + PATIENCE).unwrap(),
        "table orders: AWS calls have failed for 60 s: GetRecords failed: 500"
    );
}

#[test]
fn listings_that_are_refused_leave_the_pod_ready_while_records_arrive() {
    let (health, orders, begun) = ready_table();
    for second in 0..300 {
        let now = begun + Duration::from_secs(second);
        orders.record_failure(DESCRIBE_STREAM, "DescribeStream failed: throttled", false, now);
        orders.progressed(now);
        assert_eq!(health.not_ready(now), None, "after {second} s");
    }
}

#[test]
fn a_denied_listing_makes_the_pod_unready_although_records_arrive() {
    let (health, orders, now) = ready_table();
    orders.record_failure(DESCRIBE_STREAM, "allow dynamodb:DescribeStream", true, now);
    assert_eq!(orders.progressed(now), None);
    assert!(health.not_ready(now).unwrap().contains("allow dynamodb:DescribeStream"));
    let over = orders.cleared(DESCRIBE_STREAM, now + PATIENCE).unwrap();
    assert_eq!(over, Recovery { after: PATIENCE, denied: true });
    assert_eq!(health.not_ready(now + PATIENCE), None);
}

/// A shard may vanish before its iterator is asked for again; nobody would ever clear that.
#[test]
fn what_is_not_refused_again_does_not_keep_the_pod_unready_for_ever() {
    let (health, orders, now) = ready_table();
    orders.record_failure(GET_SHARD_ITERATOR, "denied", true, now);
    assert_eq!(orders.forget_stale(now + STALE / 2), None);
    assert!(health.not_ready(now + STALE / 2).is_some());
    assert!(orders.forget_stale(now + STALE).is_some());
    assert_eq!(health.not_ready(now + STALE), None);
    assert!(!orders.is_failing(Dependency::Aws));
}

#[test]
fn a_sink_that_refuses_for_a_minute_makes_the_pod_unready_but_not_dead() {
    let (health, orders, now) = ready_table();
    orders.record_failure(FailingCall::Sink, "503", false, now);
    orders.record_failure(FailingCall::Sink, "503", false, now + PATIENCE / 2);
    orders.progressed(now + PATIENCE / 2);
    let why =
        health.not_ready(now + PATIENCE).expect("a later refusal, or records read, must not start the minute again");
    assert_eq!(why, "table orders: the sink has accepted nothing for 60 s: 503");
    assert_eq!(health.not_live(), None);
    assert!(health.has_started(now + PATIENCE), "started once is started");
    orders.cleared(FailingCall::Sink, now);
    assert_eq!(health.not_ready(now + PATIENCE), None);
}

#[test]
fn a_table_that_stopped_over_lost_data_stays_unready() {
    let (health, orders, now) = ready_table();
    orders.mark_stopped("data was lost");
    orders.mark_ready();
    assert!(health.not_ready(now).unwrap().contains("data was lost"));
    assert_eq!(health.not_live(), None);
}

#[test]
fn a_table_that_waits_for_its_next_stream_is_not_ready_and_says_so() {
    let (health, orders, now) = ready_table();
    orders.record_failure(DESCRIBE_STREAM, "the stream does not exist", false, now);
    orders.mark_waiting_for("a new stream");
    orders.mark_ready();
    assert_eq!(health.not_ready(now).as_deref(), Some("table orders: waiting for a new stream"));
    orders.mark_reading();
    assert_eq!(orders.awaited(), None);
    assert_eq!(health.not_ready(now), None);
}

#[test]
fn before_the_first_listing_the_probe_says_what_is_in_the_way() {
    let (health, now) = (Health::default(), Instant::now());
    let orders = health.table("orders");
    orders.record_failure(DESCRIBE_STREAM, "DescribeStream failed: connection refused", false, now);
    let why = health.not_ready(now).unwrap();
    assert!(why.ends_with("the first response of AWS (DescribeStream failed: connection refused)"), "{why}");
    orders.mark_waiting_for("table orders: it does not exist");
    assert!(health.not_ready(now).unwrap().ends_with("waiting for table orders: it does not exist"));
    orders.mark_reading();
    orders.record_store_error(Some("no space left"));
    let why = health.not_ready(now).unwrap();
    assert!(why.ends_with("its start position to be stored (no space left)"), "{why}");
}

#[test]
fn the_longest_of_several_refusals_decides_and_the_last_one_is_shown() {
    let (health, orders, now) = ready_table();
    orders.record_failure(GET_SHARD_ITERATOR, "first", false, now);
    orders.record_failure(DESCRIBE_STREAM, "second", false, now + PATIENCE / 2);
    assert!(health.not_ready(now + PATIENCE).unwrap().contains("first"));
    assert_eq!(orders.last_refusal(Dependency::Aws).as_deref(), Some("second"));
    assert_eq!(orders.last_refusal(Dependency::Sink), None);
}

#[test]
fn only_a_part_that_stands_still_fails_liveness_and_only_as_long() {
    let (health, _orders, now) = ready_table();
    health.set_stalled(Some("the dispatcher starts no request".to_owned()));
    assert_eq!(health.not_live().as_deref(), Some("the dispatcher starts no request"));
    assert!(health.not_ready(now).is_some());
    health.set_stalled(None);
    assert_eq!(health.not_live(), None);
    assert_eq!(health.not_ready(now), None);
}

#[tokio::test(start_paused = true)]
async fn a_table_of_which_no_record_can_be_decoded_is_not_ready_and_says_so_once() {
    let health = Health::default();
    let table = health.table("orders");
    table.mark_ready();
    assert_eq!([1, 2, 3, 4].map(|_| table.undecodable("no Keys")), [false, false, true, false]);
    let why = health.not_ready(Instant::now()).expect("not ready");
    assert_eq!(why, "table orders: no record can be decoded: no Keys");
    assert!(table.decoded() && !table.decoded());
    assert_eq!(health.not_ready(Instant::now()), None);
}

#[tokio::test(start_paused = true)]
async fn single_records_that_cannot_be_decoded_do_not_make_a_table_unready() {
    let health = Health::default();
    let table = health.table("orders");
    table.mark_ready();
    for _ in 0..10 {
        assert!(!table.undecodable("no Keys") && !table.undecodable("no Keys") && !table.decoded());
    }
    assert_eq!(health.not_ready(Instant::now()), None);
}

/// With `maxUnavailable: 0` an update waits until the new process is ready, which the old one's table must not keep it from.
/// The shards of a table are read by several threads at once. Otherwise the pod would stay unready until the next restart.
#[test]
fn a_record_that_can_be_decoded_makes_a_table_ready_although_another_thread_meets_some_that_cannot_be() {
    const ROUNDS: usize = 5_000;
    let (health, orders, now) = ready_table();
    let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let reach = |place: &AtomicUsize, round| {
        while place.load(Ordering::Acquire) < round {
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                reach(&begun, round);
                for _ in 0..UNDECODABLE_IN_A_ROW {
                    orders.undecodable("no Keys");
                }
                ended.store(round, Ordering::Release);
            }
        });
        let mut unready = 0;
        for round in 1..=ROUNDS {
            begun.store(round, Ordering::Release);
            // At another moment in each round.
            (0..round % 256).for_each(|_| std::hint::spin_loop());
            orders.decoded();
            reach(&ended, round);
            orders.decoded();
            unready += usize::from(health.not_ready(now).is_some());
        }
        assert_eq!(unready, 0, "so many of {ROUNDS} rounds left the table unready behind a record that can be decoded");
    });
}

#[test]
fn a_table_that_another_process_has_is_ready_and_stays_so_when_this_one_takes_over() {
    let (health, now) = (Health::default(), Instant::now());
    let orders = health.table("orders");
    orders.mark_waiting_for_lease(None);
    assert_eq!(health.not_ready(now).as_deref(), Some("table orders: waiting for its lease"), "nobody has looked");
    orders.mark_waiting_for_lease(Some("pod-1"));
    assert_eq!((health.not_ready(now), orders.awaited().as_deref()), (None, Some("the lease of pod-1")));
    orders.record_store_error(Some("the store is away"));
    let why = "table orders: waiting for the lease of pod-1 (the store is away)";
    assert_eq!(health.not_ready(now).as_deref(), Some(why));
    orders.record_store_error(None);
    orders.mark_lease_held();
    assert_eq!((health.not_ready(now), orders.awaited()), (None, None));
    orders.record_failure(DESCRIBE_STREAM, "AccessDenied", true, now);
    assert!(health.not_ready(now).is_some(), "what then hinders it is said");
}

#[test]
fn a_process_that_is_the_first_to_have_the_lease_is_ready_once_its_table_is_listed() {
    let (health, now) = (Health::default(), Instant::now());
    let orders = health.table("orders");
    orders.mark_waiting_for_lease(None);
    orders.mark_lease_held();
    assert_eq!(health.not_ready(now).as_deref(), Some("table orders: waiting for the first response of AWS"));
    orders.mark_ready();
    assert_eq!(health.not_ready(now), None);
}

/// What hindered this process says nothing of the table while another one reads it.
#[test]
fn what_hindered_an_owner_is_over_with_its_lease() {
    let (health, orders, now) = ready_table();
    orders.record_failure(FailingCall::Sink, "503", false, now);
    orders.record_failure(DESCRIBE_STREAM, "AccessDenied", true, now);
    orders.mark_stopped("data was lost");
    (0..UNDECODABLE_IN_A_ROW).for_each(|_| {
        orders.undecodable("no Keys");
    });
    orders.mark_waiting_for_lease(None);
    orders.mark_waiting_for_lease(Some("pod-2"));
    assert_eq!(health.not_ready(now + PATIENCE), None);
    assert!(!orders.is_failing(Dependency::Aws) && !orders.is_failing(Dependency::Sink) && !orders.has_stopped());
    assert_eq!(orders.failing_for(Dependency::Aws, now + PATIENCE), Duration::ZERO, "its lag would grow");
}
