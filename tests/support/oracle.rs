//! Knows every write and judges what arrived.
//!
//! Its checks are the promises of `docs/semantics.md`. Each returns what is wrong, in words, so that it can be tested
//! itself: see the tests at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::aws::Write;
use super::sink::Received;

/// Everything that must be right, at once; fails with what is wrong.
pub fn assert_complete_and_in_order(writes: &[Write], received: &[Received], restarts: &[Instant]) {
    let wrong = check(writes, received, restarts);
    assert!(
        wrong.is_empty(),
        "{} promises broken, among them:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(8)].join("\n")
    );
}

/// All that is wrong.
pub fn check(writes: &[Write], received: &[Received], restarts: &[Instant]) -> Vec<String> {
    let mut wrong = lost(writes, received);
    wrong.extend(invented(writes, received));
    wrong.extend(super::schemas::invalid(received));
    wrong.extend(out_of_order(writes, received));
    wrong.extend(overlapping(writes, received, restarts));
    wrong.extend(stale(writes, received));
    wrong
}

/// Writes that were never acknowledged.
pub fn lost(writes: &[Write], received: &[Received]) -> Vec<String> {
    let accepted: BTreeSet<&str> = accepted(received).map(|event| event.id.as_str()).collect();
    let lost = writes.iter().filter(|write| !accepted.contains(write.event_id.as_str()));
    lost.map(|write| format!("lost: version {} of {} ({})", write.version, write.item, write.event_id)).collect()
}

/// Events that nobody wrote.
pub fn invented(writes: &[Write], received: &[Received]) -> Vec<String> {
    let known: BTreeSet<&str> = writes.iter().map(|write| write.event_id.as_str()).collect();
    let strange = received.iter().filter(|event| !known.contains(event.id.as_str()) && !event.kind.ends_with(".gap"));
    strange.map(|event| format!("invented: {} of {:?}", event.id, event.item)).collect()
}

/// Items whose first deliveries are not in the order of their writes.
pub fn out_of_order(writes: &[Write], received: &[Received]) -> Vec<String> {
    let places = places(writes);
    let (mut seen, mut last, mut wrong) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
    for event in accepted(received) {
        let Some((item, place)) = places.get(event.id.as_str()) else { continue };
        if seen.insert(&event.id) {
            let last = last.entry(item).or_insert(0);
            if place < last {
                wrong.push(format!("out of order: {item} got its change {place} first after change {last}"));
            }
            *last = (*last).max(*place);
        }
    }
    wrong
}

/// Items of which an event was sent before the previous one was acknowledged, or after which one was left out, within
/// one life of the adapter.
pub fn overlapping(writes: &[Write], received: &[Received], restarts: &[Instant]) -> Vec<String> {
    let places = places(writes);
    let life = |event: &Received| restarts.partition_point(|restart| *restart <= event.arrived);
    let mut previous: BTreeMap<(usize, &str), (&Received, usize)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for event in received.iter().filter(|event| !event.void) {
        let Some((item, place)) = places.get(event.id.as_str()) else { continue };
        let last = previous.insert((life(event), item), (event, *place));
        let Some((last, last_place)) = last.filter(|(last, _)| last.id != event.id) else { continue };
        let together = last.request == event.request && last.accepted().is_some();
        if !together && last.accepted().is_none_or(|at| at > event.arrived) {
            wrong.push(format!("sent too early: {item}, change {place}, while {last_place} was not settled"));
        }
        if *place != last_place + 1 {
            wrong.push(format!("a jump: {item} went from change {last_place} to {place}"));
        }
    }
    wrong
}

/// Items whose last delivery is not their newest state.
pub fn stale(writes: &[Write], received: &[Received]) -> Vec<String> {
    let places = places(writes);
    let mut newest = BTreeMap::new();
    for (item, place) in places.values() {
        let newest = newest.entry(item).or_insert(0);
        *newest = (*newest).max(*place);
    }
    let last: BTreeMap<_, _> = accepted(received)
        .filter_map(|event| places.get(event.id.as_str()))
        .map(|(item, place)| (item, place))
        .collect();
    let stale = last.into_iter().filter(|(item, place)| newest[item] != **place);
    stale
        .map(|(item, place)| format!("stale: the last delivery of {item} was change {place} of {}", newest[item]))
        .collect()
}

/// Deliveries beyond the first of each event.
pub fn duplicates(received: &[Received]) -> usize {
    let all: Vec<&str> = accepted(received).map(|event| event.id.as_str()).collect();
    all.len() - all.iter().collect::<BTreeSet<_>>().len()
}

fn accepted(received: &[Received]) -> impl DoubleEndedIterator<Item = &Received> {
    received.iter().filter(|event| event.accepted().is_some())
}

/// Each event's item, and its place among the item's writes.
fn places(writes: &[Write]) -> BTreeMap<&str, (String, usize)> {
    let mut counts = BTreeMap::new();
    let place = |write: &Write| {
        let item = format!("{}/{}", write.table, write.item);
        let count = counts.entry(item.clone()).or_insert(0);
        *count += 1;
        (item, *count - 1)
    };
    let places: Vec<(String, usize)> = writes.iter().map(place).collect();
    writes.iter().map(|write| write.event_id.as_str()).zip(places).collect()
}

/// Each check can fail: a small story and one way to spoil it.
mod tests {
    use super::*;
    use std::time::Duration;

    fn write(item: &str, version: u64) -> Write {
        let event_id = format!("{item}{version}");
        let (table, item) = ("t".to_owned(), item.to_owned());
        Write { table, item, version, event_id, sequence: version.to_string(), shard: String::new() }
    }

    fn event(id: &str, arrived: u64, answered: Option<u64>, base: Instant) -> Received {
        let at = |ms| base + Duration::from_millis(ms);
        Received {
            id: id.to_owned(),
            kind: String::new(),
            item: id[..1].to_owned(),
            version: 0,
            attributes: BTreeMap::new(),
            data: serde_json::Value::Null,
            path: String::new(),
            authorization: None,
            arrived: at(arrived),
            answered: answered.map(|ms| (at(ms), 202)),
            earlier: 0,
            request: arrived as usize,
            void: false,
            content_type: String::new(),
        }
    }

    fn story(base: Instant) -> (Vec<Write>, Vec<Received>) {
        let writes = vec![write("a", 1), write("b", 1), write("a", 2), write("a", 3)];
        let received = vec![
            event("a1", 0, Some(5), base),
            event("b1", 1, Some(9), base),
            event("a2", 6, Some(7), base),
            event("a3", 8, Some(9), base),
        ];
        (writes, received)
    }

    #[test]
    fn a_good_story_is_accepted() {
        let (writes, received) = story(Instant::now());
        assert_eq!(check(&writes, &received, &[]), Vec::<String>::new());
    }

    #[test]
    fn a_lost_event_is_found() {
        let (writes, mut received) = story(Instant::now());
        received[1].answered = None;
        assert_eq!(lost(&writes, &received).len(), 1);
    }

    #[test]
    fn data_that_the_schema_does_not_know_is_found() {
        let (writes, mut received) = story(Instant::now());
        received[1].kind = "com.amazonaws.dynamodb.insert".to_owned();
        received[1].data = serde_json::json!({"eventName": "INSERT"});
        assert!(check(&writes, &received, &[]).iter().any(|wrong| wrong.contains("schema")));
    }

    #[test]
    fn an_invented_event_is_found() {
        let base = Instant::now();
        let (writes, mut received) = story(base);
        received.push(event("x9", 20, Some(21), base));
        assert_eq!(invented(&writes, &received).len(), 1);
    }

    #[test]
    fn an_inversion_is_found() {
        let (writes, mut received) = story(Instant::now());
        received.swap(0, 2);
        assert!(!out_of_order(&writes, &received).is_empty());
    }

    #[test]
    fn an_early_departure_is_found() {
        let base = Instant::now();
        let (writes, mut received) = story(base);
        received[2].arrived = base + Duration::from_millis(3);
        assert!(!overlapping(&writes, &received, &[]).is_empty());
    }

    #[test]
    fn a_jump_within_one_life_is_found_and_a_replay_after_a_restart_is_not() {
        let base = Instant::now();
        let (writes, mut received) = story(base);
        received.push(event("a2", 20, Some(21), base));
        received.push(event("a3", 22, Some(23), base));
        assert!(!overlapping(&writes, &received, &[]).is_empty());
        assert!(overlapping(&writes, &received, &[base + Duration::from_millis(15)]).is_empty());
    }

    #[test]
    fn an_old_state_that_comes_last_is_found() {
        let base = Instant::now();
        let (writes, mut received) = story(base);
        received.push(event("a1", 20, Some(21), base));
        assert!(!stale(&writes, &received).is_empty());
    }
}
