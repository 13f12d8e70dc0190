//! Who leaves together, and who never does.

use super::*;

fn batches() -> RequestLimits {
    RequestLimits { concurrency: 4, events: 4, bytes: 1000, wait: SECOND }
}

#[test]
fn a_request_leaves_when_it_is_full_or_its_oldest_event_has_waited_long_enough() {
    let mut requests = Requests::new(batches());
    for key in 0..3 {
        requests.push(key, event(key as u32));
        requests.now += SECOND / 10;
    }
    assert_eq!(requests.numbers(), [0; 0], "it left with an empty place although others may come");
    assert_eq!(requests.lanes.next_change(requests.now), Some(requests.now + SECOND * 7 / 10));
    requests.push(3, event(3));
    assert_eq!(requests.numbers(), [0, 1, 2, 3]);

    requests.push(9, event(9));
    requests.now += SECOND;
    assert_eq!(requests.numbers(), [9], "it waits for company for ever");
}

#[test]
fn a_request_is_full_by_bytes_too() {
    let mut requests = Requests::new(RequestLimits { bytes: 20, ..batches() });
    requests.push(0, event(0));
    assert_eq!(requests.numbers(), [0; 0]);
    requests.push(1, event(1));
    requests.push(2, event(2));
    let mut shown = Vec::new();
    let left = requests.begin(Kinds::ALL, |event| {
        shown.push(event.number);
        shown.len() <= 2
    });
    assert_eq!(left.map(|left| left.numbers.len()), Some(2), "what did not fit is on board");
    assert_eq!(requests.numbers(), [0; 0], "the third one waits for company");
    requests.now += SECOND;
    assert_eq!(requests.numbers(), [2]);
}

#[test]
fn events_of_one_item_may_leave_together_in_their_order() {
    let mut requests = Requests::new(batches());
    for number in 0..6 {
        requests.push(7, event(number));
    }
    let left = requests.depart(Kinds::ALL).expect("more than enough");
    assert_eq!(left.numbers, [0, 1, 2, 3]);
    assert_eq!((left.slices[0].1, left.slices.len()), (4, 1));
    requests.now += SECOND;
    assert_eq!(requests.start(), None, "the item has events under way");
    requests.arrived(7);
    assert_eq!(requests.settle_one(7), (event(0), false));
    for number in 1..4 {
        assert_eq!(requests.settle_one(7), (detached(number), false));
    }
    requests.now += SECOND;
    assert_eq!(requests.numbers(), [4, 5]);
}

#[test]
fn what_fails_in_company_is_tried_alone_and_its_followers_behind_it() {
    let mut requests = Requests::new(batches());
    for number in 0..3 {
        requests.push(7, event(number));
    }
    requests.push(8, event(80));
    assert_eq!(requests.numbers(), [0, 1, 2, 80]);
    requests.arrived(7);
    requests.settle_one(7);
    requests.retry_one(7, Duration::ZERO, false);
    requests.settle_one(8);
    let left = requests.depart(Kinds::ALL).expect("due at once");
    assert_eq!((left.kind, left.numbers), (AttemptKind::Retry, vec![1]), "a poisoned event took others with it");
    requests.settle(7);
    assert_eq!(requests.numbers(), [2]);
}

#[test]
fn an_event_of_a_request_that_failed_is_never_sent_with_others_again() {
    let mut requests = Requests::new(batches());
    for number in 0..4 {
        requests.push(7, event(number));
    }
    assert_eq!(requests.numbers(), [0, 1, 2, 3]);
    requests.retry(7, Duration::ZERO, false);
    requests.push(7, event(4));
    requests.push(7, event(5));
    for number in 0..4 {
        requests.push(8, event(80 + number));
        let left = requests.depart(Kinds { first_attempts: false, ..Kinds::ALL }).expect("due");
        assert_eq!((left.kind, left.numbers), (AttemptKind::Retry, vec![number]));
        assert_eq!(left.slices[0].2, 1, "it was in one request that failed");
        requests.settle(7);
    }
    requests.now += SECOND;
    assert_eq!(requests.numbers(), [4, 5, 80, 81], "the first two were in none that failed, and were read first");
}

#[test]
fn what_was_behind_a_dropped_event_in_its_request_goes_alone_and_at_once() {
    let mut requests = Requests::new(batches());
    for number in 0..4 {
        requests.push(7, event(number));
    }
    assert_eq!(requests.numbers(), [0, 1, 2, 3]);
    requests.settle(7);
    requests.put_back(7);
    for number in 1..4 {
        assert_eq!((requests.numbers(), requests.start()), (vec![number], None));
        requests.settle(7);
    }
    assert!(requests.lanes.is_empty());
}

#[test]
fn who_did_not_fit_into_a_request_goes_first_into_the_next() {
    let mut requests = Requests::new(RequestLimits { events: 3, ..batches() });
    for key in 0..6 {
        requests.push(key, event(key as u32));
    }
    let mut room = 1;
    let small = requests.begin(Kinds::ALL, |_| std::mem::take(&mut room) > 0);
    assert_eq!(small.map(|left| left.slices[0].0), Some(0));
    assert_eq!(requests.numbers(), [1, 2, 3], "it lost its turn");
}

#[test]
fn an_events_age_counts_from_its_own_first_attempt() {
    let mut requests = Requests::new(batches());
    let begun = requests.now;
    let first_try = |requests: &mut Requests| {
        requests.now += SECOND;
        let left = requests.depart(Kinds::ALL).expect("it has waited long enough");
        left.slices[0].3 - begun
    };
    requests.push(7, event(0));
    requests.push(7, event(1));
    assert_eq!(first_try(&mut requests), SECOND);
    requests.push(7, event(2));
    requests.retry(7, Duration::ZERO, false);
    assert_eq!(first_try(&mut requests), SECOND, "another attempt makes it no younger");
    requests.settle(7);
    assert_eq!(first_try(&mut requests), SECOND, "it was on board of the first request too");
    requests.settle(7);
    assert_eq!(first_try(&mut requests), 4 * SECOND, "it was never tried before");
}

/// A number, and whether it comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limited(u32, bool);

impl LaneItem for Limited {
    fn size(&self) -> usize {
        SIZE
    }

    fn may_be_left_out(&self) -> bool {
        self.1
    }
}

#[test]
fn who_was_in_a_request_that_failed_travels_alone_although_what_is_behind_is_left_out_meanwhile() {
    let (mut lanes, now) = (Lanes::new(batches(), SIZE), Instant::now());
    assert_eq!(lanes.push(7, Limited(0, true), now), []);
    assert_eq!(lanes.push(7, Limited(1, false), now), []);
    let now = now + SECOND;
    let together = lanes.begin(Kinds::ALL, None, now, |_| true).expect("they have waited for company");
    assert_eq!(together.events(), 2);
    lanes.ended(together.kind);
    lanes.retry(together.first, RetryPause::backoff(now), now);
    let first = lanes.begin(Kinds::ALL, None, now, |_| true).expect("its pause is over");
    assert_eq!(lanes.push(7, Limited(2, true), now), [Limited(2, true)]);
    lanes.ended(first.kind);
    assert_eq!(lanes.settle(first.first, 1, now, |_, _| {}).map(|rest| rest.is_some()), Ok(false));
    let second = lanes.begin(Kinds::ALL, None, now, |_| true).expect("it goes at once");
    assert_eq!(second.kind, AttemptKind::Retry, "it waits for company");
}
