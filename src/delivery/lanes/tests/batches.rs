//! Who leaves together, and who never does.

use super::*;

fn batches() -> Limits {
    Limits { concurrency: 4, events: 4, bytes: 1000, wait: SECOND }
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
    let mut requests = Requests::new(Limits { bytes: 20, ..batches() });
    requests.push(0, event(0));
    assert_eq!(requests.numbers(), [0; 0]);
    requests.push(1, event(1));
    requests.push(2, event(2));
    let mut shown = Vec::new();
    let departure = requests.lanes.start(Classes::ALL, requests.now, |event| {
        shown.push(event.number);
        shown.len() <= 2
    });
    assert_eq!(departure.map(|departure| departure.events()), Some(2), "what did not fit is on board");
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
    let (departure, numbers) = requests.depart(Classes::ALL).expect("more than enough");
    assert_eq!(numbers, [0, 1, 2, 3]);
    assert_eq!((departure.first.events, departure.more.len()), (4, 0));
    requests.now += SECOND;
    assert_eq!(requests.start(), None, "the item has events under way");
    requests.lanes.arrived(Class::Fresh);
    for number in 0..4 {
        assert_eq!(requests.lanes.settle(7, requests.now), Some((event(number), false)));
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
    requests.lanes.arrived(Class::Fresh);
    requests.lanes.settle(7, requests.now);
    requests.lanes.retry(7, requests.now, false, requests.now);
    requests.lanes.settle(8, requests.now);
    let (departure, numbers) = requests.depart(Classes::ALL).expect("due at once");
    assert_eq!((departure.class, numbers), (Class::Repeat, vec![1]), "a poisoned event took others with it");
    requests.settle(7);
    assert_eq!(requests.numbers(), [2]);
}

#[test]
fn whoever_was_in_a_request_that_failed_never_travels_with_others_again() {
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
        let (departure, numbers) = requests.depart(Classes { fresh: false, ..Classes::ALL }).expect("due");
        assert_eq!((departure.class, numbers), (Class::Repeat, vec![number]));
        assert_eq!(departure.first.failures, 1, "it was in one request that failed");
        requests.settle(7);
    }
    requests.now += SECOND;
    assert_eq!(requests.numbers(), [80, 81, 82, 83]);
    assert_eq!(requests.numbers(), [4, 5], "these were in none");
}

#[test]
fn what_was_behind_a_dropped_event_in_its_request_goes_alone_and_at_once() {
    let mut requests = Requests::new(batches());
    for number in 0..4 {
        requests.push(7, event(number));
    }
    assert_eq!(requests.numbers(), [0, 1, 2, 3]);
    requests.settle(7);
    requests.lanes.put_back(7);
    for number in 1..4 {
        assert_eq!((requests.numbers(), requests.start()), (vec![number], None));
        requests.settle(7);
    }
    assert!(requests.lanes.is_empty());
}

#[test]
fn who_did_not_fit_into_a_request_goes_first_into_the_next() {
    let mut requests = Requests::new(Limits { events: 3, ..batches() });
    for key in 0..6 {
        requests.push(key, event(key as u32));
    }
    let mut room = 1;
    let small = requests.lanes.start(Classes::ALL, requests.now, |_| std::mem::take(&mut room) > 0);
    assert_eq!(small.map(|departure| departure.first.lane), Some(0));
    assert_eq!(requests.numbers(), [1, 2, 3], "it lost its turn");
}

#[test]
fn an_events_age_counts_from_its_own_first_attempt() {
    let mut requests = Requests::new(batches());
    let begun = requests.now;
    let first_try = |requests: &mut Requests| {
        requests.now += SECOND;
        let (departure, _) = requests.depart(Classes::ALL).expect("it has waited long enough");
        departure.first.first_try - begun
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
