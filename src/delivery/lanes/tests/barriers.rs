//! What waits behind a barrier, and what does not.

use super::*;

#[test]
fn nothing_overtakes_a_barrier_before_it_was_tried() {
    let mut requests = Requests::singly(8);
    requests.push(100, barrier(1, 5));
    requests.push(1, after(2, 5));
    requests.push(2, event(3));
    assert_eq!(requests.start(), Some((100, 1)));
    assert_eq!(requests.start(), Some((2, 3)), "what is not behind it does not wait");
    assert_eq!(requests.start(), None, "it overtook the barrier");
    requests.settle(100);
    assert_eq!(requests.start(), Some((1, 2)));
}

#[test]
fn a_barrier_that_fails_holds_nobody() {
    let mut requests = Requests::singly(8);
    requests.push(100, barrier(1, 5));
    requests.push(1, after(2, 5));
    requests.push(100, barrier(3, 5));
    requests.push(1, after(4, 5));
    requests.start();
    requests.retry(100, 30 * SECOND, true);
    assert_eq!(requests.start(), Some((1, 2)));
    requests.settle(1);
    assert_eq!(requests.start(), Some((1, 4)), "a barrier that cannot be tried for long holds others");
    requests.now += 30 * SECOND;
    assert_eq!(requests.start(), Some((100, 1)));
    requests.settle(100);
    assert_eq!(requests.start(), Some((100, 3)), "barriers come in their order");
}

#[test]
fn several_barriers_are_passed_one_after_the_other() {
    let mut requests = Requests::singly(8);
    requests.push(100, barrier(1, 5));
    requests.push(1, after(2, 5));
    requests.push(100, barrier(3, 5));
    requests.push(2, after(4, 5));
    assert_eq!((requests.start(), requests.start()), (Some((100, 1)), None));
    requests.settle(100);
    assert_eq!((requests.start(), requests.start(), requests.start()), (Some((1, 2)), Some((100, 3)), None));
    requests.settle(100);
    assert_eq!(requests.start(), Some((2, 4)));
}

#[test]
fn an_items_events_stay_in_order_when_only_some_of_them_are_behind_a_barrier() {
    // A table's next stream knows nothing of the gaps in the one before.
    let mut requests = Requests::singly(8);
    requests.push(100, barrier(1, 5));
    requests.push(1, after(2, 5));
    requests.push(1, event(3));
    requests.push(2, event(4));
    assert_eq!((requests.start(), requests.start()), (Some((100, 1)), Some((2, 4))));
    assert_eq!(requests.start(), None, "the item's newer event overtook the older one");
    requests.settle(100);
    assert_eq!((requests.start(), requests.start()), (Some((1, 2)), None));
    requests.settle(1);
    assert_eq!(requests.start(), Some((1, 3)));
    requests.settle(1);
    requests.push(100, barrier(5, 5));
    requests.push(1, event(6));
    assert_eq!(
        (requests.start(), requests.start()),
        (Some((100, 5)), Some((1, 6))),
        "a barrier holds it that it is not behind"
    );
}

#[test]
fn an_item_behind_two_barriers_waits_for_one_after_the_other_in_its_order() {
    let mut requests = Requests::singly(8);
    requests.push(100, barrier(1, 5));
    requests.push(200, barrier(2, 6));
    requests.push(1, after(3, 5));
    requests.push(1, after(4, 6));
    requests.push(1, event(5));
    assert_eq!((requests.start(), requests.start(), requests.start()), (Some((100, 1)), Some((200, 2)), None));
    requests.settle(200);
    assert_eq!(requests.start(), None, "it overtook the first barrier");
    requests.settle(100);
    for number in 3..=5 {
        assert_eq!((requests.start(), requests.start()), (Some((1, number)), None));
        requests.settle(1);
    }
}

#[test]
fn a_barrier_that_waits_in_its_lane_is_not_passed_when_the_one_before_it_was_taken() {
    let mut requests = Requests::singly(8);
    requests.push(100, barrier(1, 5));
    requests.start();
    requests.retry(100, Duration::ZERO, false);
    requests.push(100, barrier(2, 5));
    requests.start();
    requests.settle(100);
    requests.push(100, barrier(3, 5));
    requests.push(1, after(4, 5));
    assert_eq!((requests.start(), requests.start()), (Some((100, 2)), None));
    requests.settle(100);
    assert_eq!((requests.start(), requests.start()), (Some((100, 3)), None), "the last barrier was never tried");
    requests.settle(100);
    assert_eq!(requests.start(), Some((1, 4)));
}

#[test]
fn a_barrier_that_becomes_a_dead_letter_holds_nobody() {
    let mut requests = Requests::singly(8);
    requests.push(100, barrier(1, 5));
    requests.push(1, after(2, 5));
    requests.start();
    requests.divert(100);
    assert_eq!(requests.depart(FIRST).map(|left| left.numbers), Some(vec![2]), "it waits for the dead-letter sink");
}

/// A gap that is retried for days, and a later one of its lineage behind which records wait: in one lane, or each in its own.
#[test]
fn a_barrier_that_fails_again_does_not_let_go_what_waits_for_the_next_one() {
    let mut requests = Requests::singly(8);
    requests.push(100, barrier(1, 5));
    assert_eq!(requests.start(), Some((100, 1)));
    requests.retry(100, SECOND, false);
    requests.push(200, barrier(2, 5));
    requests.push(3, after(3, 5));
    requests.now += SECOND;
    let repeats = Kinds { first_attempts: false, retries: true, dead_letters: false };
    assert_eq!(requests.depart(repeats).map(|left| left.numbers), Some(vec![1]));
    requests.retry(100, SECOND, false);
    assert_eq!((requests.start(), requests.start()), (Some((200, 2)), None), "the second barrier was not tried");
    requests.retry(200, SECOND, false);
    assert_eq!(requests.start(), Some((3, 3)));
}
