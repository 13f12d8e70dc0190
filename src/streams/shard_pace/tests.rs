//! How long a reader waits for the next page, and how much it asks for.

use proptest::prelude::*;

use tokio::time::sleep;

use super::*;
use crate::aws::errors::ErrorKind;

const INTERVALS: PollIntervals =
    PollIntervals { poll_interval: Duration::from_millis(250), idle_poll_interval_max: Duration::from_secs(5) };

#[test]
fn a_full_page_is_followed_at_once() {
    assert_eq!(pause(INTERVALS, Fill::of(1_000, 10_000, PAGE_RECORDS), Duration::ZERO), Duration::ZERO);
    assert_eq!(pause(INTERVALS, Fill::of(400, 1_000_000, PAGE_RECORDS), Duration::ZERO), Duration::ZERO);
}

#[test]
fn a_closed_shard_is_read_without_pauses_until_it_gives_many_empty_pages() {
    let pauses =
        |pages: &[u32]| pages.iter().map(|page| pause_of_closed(INTERVALS, *page, Duration::ZERO)).collect::<Vec<_>>();
    assert_eq!(pauses(&[0, 1, 10]), [Duration::ZERO; 3]);
    assert_eq!(pauses(&[11, 12, 13]), [10, 20, 40].map(Duration::from_millis));
    assert_eq!(pauses(&[16, 1_000, u32::MAX]), [INTERVALS.poll_interval; 3]);
    let hour = Duration::from_secs(3600);
    assert_eq!(pause_of_closed(INTERVALS, 1_000, hour), INTERVALS.idle_poll_interval_max);
}

#[test]
fn an_active_shard_is_polled_at_the_poll_interval() {
    assert_eq!(pause(INTERVALS, Fill::of(3, 5_000, PAGE_RECORDS), Duration::ZERO), INTERVALS.poll_interval);
}

/// 1 MB over a line of 50 KB a second takes 20 s, and a call ends before that.
#[tokio::test(start_paused = true)]
async fn a_page_that_does_not_arrive_is_asked_for_in_smaller_parts() {
    let error = |code: &str| {
        let (operation, code, message) = ("GetRecords", code.to_owned(), String::new());
        CallError { operation, kind: ErrorKind::Other, code, message }
    };
    let mut limit = PageLimit::default();
    limit.failed(&error("connect"));
    assert_eq!(limit.records(), 1_000);
    limit.failed(&error("timeout"));
    limit.failed(&error("timeout"));
    limit.arrived();
    assert_eq!(limit.records(), 250);
    (0..20).for_each(|_| limit.failed(&error("timeout")));
    assert_eq!(limit.records(), 1);
    for _ in 0..10 {
        sleep(SMALL_PAGES).await;
        limit.arrived();
    }
    assert_eq!(limit.records(), 1_000);
}

/// Whatever comes, passes take at most a third of the time.
#[test]
fn after_a_pass_the_next_one_waits_for_twice_as_long() {
    let begun = Instant::now();
    let mut pace = PassPace::new(begun);
    assert!(pace.next <= begun, "the first one waits for nothing");
    let ended = begun + Duration::from_secs(7);
    pace.passed(begun, ended);
    assert_eq!(pace.next, ended + Duration::from_secs(14));
}

#[test]
fn whether_something_is_about_to_be_trimmed_is_asked_once_a_minute() {
    let begun = Instant::now();
    let mut pace = PassPace::new(begun);
    let looks = (0..180).filter(|second| pace.is_time_to_look_for_age(begun + Duration::from_secs(*second))).count();
    assert_eq!(looks, 3);
}

proptest! {
    #[test]
    fn a_quiet_shard_waits_a_tenth_of_its_quiet_time_within_the_bounds(quiet_ms in 0u64..100_000_000) {
        let paused = pause(INTERVALS, Fill::of(0, 60, PAGE_RECORDS), Duration::from_millis(quiet_ms));
        prop_assert!(paused >= INTERVALS.poll_interval && paused <= INTERVALS.idle_poll_interval_max);
        let tenth = Duration::from_millis(quiet_ms) / 10;
        prop_assert!(paused == INTERVALS.poll_interval || paused == INTERVALS.idle_poll_interval_max || paused == tenth);
        prop_assert!(paused <= tenth.max(INTERVALS.poll_interval), "waited longer than a tenth of the quiet time");
    }
}
