//! Nothing of a table is left after its withdrawal, whatever its lanes were doing, and nothing of the others is touched.

use super::*;

/// The lane's events of a table that keeps its tenure.
fn of_other(number: u32) -> Event {
    Event { table: 1, ..event(number) }
}

impl Requests {
    /// Withdraws table 0, so many events in a step. Which ones, in their order.
    fn withdraw(&mut self, most: usize) -> Vec<u32> {
        let (mut withdrawal, mut withdrawn) = (Withdrawal::of(0), Vec::new());
        while let Some(events) = self.lanes.withdraw(&mut withdrawal, most) {
            withdrawn.extend(events.iter().map(|event| event.number));
        }
        withdrawn
    }
}

/// A lane for each state that one can be in, with an event behind its first one; in those of table 1 the same numbers and 1,000.
fn in_every_state() -> Requests {
    let mut requests = Requests::singly(64);
    let key = |table: usize, key: u64| key + 1_000 * table as u64;
    let number = |table: usize, number: u32| Event { table, ..event(number + 1_000 * table as u32) };
    for table in 0..2 {
        for lane in [1, 2, 3, 4, 5] {
            requests.push(key(table, lane), number(table, 10 * lane as u32));
            requests.start().unwrap();
        }
    }
    for table in 0..2 {
        requests.retry(key(table, 1), 30 * SECOND, false);
        requests.retry(key(table, 2), 30 * SECOND, true);
        requests.retry(key(table, 3), Duration::ZERO, false);
        requests.divert(key(table, 4));
        requests.arrived(key(table, 5));
        let slice = requests.take(key(table, 5));
        requests.lanes.hold(slice, requests.now).unwrap();
        for lane in [1, 2, 3, 4, 5] {
            requests.push(key(table, lane), number(table, 10 * lane as u32 + 1));
        }
        requests.push(key(table, 6), Event { role: BarrierRole::Barrier(key(table, 9)), ..number(table, 60) });
        requests.push(key(table, 7), Event { role: BarrierRole::After(key(table, 9)), ..number(table, 70) });
        requests.push(key(table, 7), number(table, 71));
        requests.push(key(table, 8), number(table, 80));
        requests.push(key(table, 8), number(table, 81));
    }
    requests
}

#[test]
fn whatever_a_lane_waits_for_is_withdrawn_and_the_other_table_goes_on() {
    for most in [1, 3, 1_000] {
        let mut requests = in_every_state();
        requests.lanes.end_backoffs();
        requests.now += Duration::from_millis(1);
        let mut withdrawn = requests.withdraw(most);
        withdrawn.sort_unstable();
        assert_eq!(withdrawn, [10, 11, 20, 21, 30, 31, 40, 41, 51, 60, 70, 71, 80, 81], "{most} a step");
        let mut left = Vec::new();
        requests.now += 60 * SECOND;
        while let Some((key, number)) = requests.start() {
            left.push(number);
            requests.settle(key);
        }
        left.sort_unstable();
        let others = [1010, 1011, 1020, 1021, 1030, 1031, 1040, 1041, 1060, 1070, 1071, 1080, 1081];
        assert_eq!(left, others, "{most} a step");
        assert!(requests.lanes.is_done(), "something is left that nobody will try");
        assert_eq!((requests.lanes.len(), requests.lanes.parked(), requests.lanes.in_progress()), (1, 0, 0));
        assert_eq!(requests.lanes.next_change(requests.now), None);
        assert_eq!(requests.lanes.waiting(requests.now), Kinds::default());
    }
}

/// With a million lanes a step that looks at all of them would hold the other tables up.
#[test]
fn a_step_withdraws_no_more_than_it_is_told() {
    let mut requests = Requests::singly(4);
    for number in 0..10_000 {
        requests.push(u64::from(number), event(number));
        requests.push(20_000 + u64::from(number), of_other(number));
    }
    let (mut withdrawal, mut steps) = (Withdrawal::of(0), 0);
    while let Some(events) = requests.lanes.withdraw(&mut withdrawal, 100) {
        assert!(events.len() <= 100);
        steps += 1;
    }
    assert!((100..110).contains(&steps), "{steps} steps for 10,000 events");
    assert_eq!(requests.lanes.len(), 10_000);
}

/// Ten thousand items of another table are parked; the pauses of all tables are in one row.
#[test]
fn the_pauses_of_other_tables_are_passed_in_steps() {
    let mut requests = Requests::singly(4);
    for number in 0..10_000 {
        let key = u64::from(number);
        requests.push(key, if number % 100 == 0 { event(number) } else { of_other(number) });
        requests.start().unwrap();
        requests.retry(key, 30 * SECOND + Duration::from_millis(key), true);
    }
    assert_eq!(requests.withdraw(1_000).len(), 100);
    assert_eq!((requests.lanes.len(), requests.lanes.parked()), (9_900, 9_900));
}

#[test]
fn a_slice_that_is_given_up_takes_its_lane_along_and_opens_no_barrier() {
    let mut requests = Requests::singly(4);
    requests.push(1, barrier(1, 5));
    requests.push(1, event(2));
    requests.push(2, after(3, 5));
    requests.start().unwrap();
    requests.retry(1, Duration::ZERO, true);
    requests.push(3, barrier(4, 6));
    requests.push(4, after(5, 6));
    for key in [1, 3] {
        while !requests.under_way.contains_key(&key) {
            requests.start().unwrap();
        }
        requests.arrived(key);
        let slice = requests.take(key);
        let given_up: Vec<u32> = requests.lanes.give_up(slice).iter().map(|event| event.number).collect();
        assert_eq!(given_up, if key == 1 { vec![1, 2] } else { vec![4] });
    }
    assert_eq!(requests.lanes.parked(), 0);
    requests.settle(2);
    assert_eq!(requests.start(), None, "what waits for a barrier that nobody will try has overtaken it");
    assert_eq!(requests.withdraw(10), [5]);
}
