//! Few questions, and none without an end.

use super::StreamStatus::{Disabled, Enabled};
use super::*;

/// How long a page waits for its turn.
const TURN: Duration = Duration::from_millis(1_500);

fn answered(
    discovery: &mut ShardDiscovery,
    query: &ListingQuery,
    next: Option<String>,
    last: Option<&str>,
    status: StreamStatus,
    now: Instant,
) -> bool {
    discovery.answered(query, ListingAnswer { next, last, status }, now, || now + TURN)
}

fn listed(discovery: &mut ShardDiscovery, last: &str, now: Instant) {
    let query = discovery.next(now).unwrap();
    assert!(answered(discovery, &query, None, Some(last), Enabled, now));
}

#[test]
fn a_listing_goes_on_where_an_error_interrupted_it() {
    let now = Instant::now();
    let mut discovery = ShardDiscovery::new(now);
    let first = discovery.next(now).unwrap();
    assert_eq!(first, ListingQuery::Page(None));
    assert!(!answered(&mut discovery, &first, Some("s100".into()), Some("s100"), Enabled, now));
    let second = discovery.next(now).unwrap();
    assert_eq!(second, ListingQuery::Page(Some("s100".into())));
    discovery.failed(&second, Duration::from_secs(1), now);
    assert_eq!(discovery.next(now), None);
    assert_eq!(discovery.next(now + Duration::from_secs(1)), Some(second));
}

#[test]
fn the_children_of_one_ended_shard_are_asked_for_at_once() {
    let now = Instant::now();
    let mut discovery = ShardDiscovery::new(now);
    listed(&mut discovery, "s2", now);
    assert_eq!(discovery.next(now), None);
    discovery.search_children("s1".into(), now);
    assert_eq!(discovery.next(now), Some(ListingQuery::Children("s1".into())));
}

#[test]
fn a_hundred_handovers_at_once_cost_a_few_calls() {
    let now = Instant::now();
    let mut discovery = ShardDiscovery::new(now);
    listed(&mut discovery, "s2", now);
    for n in 0..100 {
        discovery.search_children(format!("s{n}").into(), now);
    }
    let mut calls = 0;
    while let Some(query) = discovery.next(now) {
        calls += 1;
        assert!(matches!(query, ListingQuery::Tail(_)), "{query:?}");
        answered(&mut discovery, &query, None, Some("s200"), Enabled, now);
        discovery.end_searches(now, |_| true);
    }
    assert_eq!(calls, 1);
}

#[test]
fn a_search_goes_on_while_nothing_is_found_and_has_a_whole_listing_taken() {
    let mut now = Instant::now();
    let mut discovery = ShardDiscovery::new(now);
    listed(&mut discovery, "s2", now);
    discovery.search_children("s1".into(), now);
    let mut kinds = Vec::new();
    for _ in 0..8 {
        now = now.max(discovery.due());
        let query = discovery.next(now).unwrap();
        kinds.push(match query {
            ListingQuery::Children(_) => 'c',
            ListingQuery::Tail(_) => 't',
            ListingQuery::Page(_) | ListingQuery::Status => 'p',
        });
        answered(&mut discovery, &query, None, Some("s2"), Enabled, now);
    }
    let kinds: String = kinds.into_iter().collect();
    assert!(kinds.starts_with("ctcp"), "{kinds}");
}

#[test]
fn a_cursor_that_keeps_failing_is_given_up() {
    let mut now = Instant::now();
    let mut discovery = ShardDiscovery::new(now);
    let first = discovery.next(now).unwrap();
    answered(&mut discovery, &first, Some("gone".into()), None, Enabled, now);
    for _ in 0..5 {
        now = discovery.due();
        let query = discovery.next(now).unwrap();
        discovery.failed(&query, Duration::from_secs(1), now);
    }
    assert_eq!(discovery.next(discovery.due()), Some(ListingQuery::Page(None)));
}

#[test]
fn two_shards_that_end_before_any_was_listed_are_searched_for_one_by_one() {
    let mut now = Instant::now();
    let mut discovery = ShardDiscovery::new(now);
    // The first listing of a stream that an earlier run had begun shows nothing.
    let query = discovery.next(now).unwrap();
    answered(&mut discovery, &query, None, None, Enabled, now);
    discovery.search_children("s1".into(), now);
    discovery.search_children("s2".into(), now);
    let mut children = Vec::new();
    for _ in 0..20 {
        now = now.max(discovery.due());
        let query = discovery.next(now).expect("due, and nothing to ask: the reader spins");
        answered(&mut discovery, &query, None, None, Enabled, now);
        children.extend(matches!(query, ListingQuery::Children(_)).then_some(query));
    }
    for shard in ["s1", "s2"] {
        assert!(children.contains(&ListingQuery::Children(shard.into())), "{shard}: {children:?}");
    }
}

/// Asks what is due until a moment, each answered with nothing new; counts the questions.
fn idle(discovery: &mut ShardDiscovery, pages: u32, from: Instant, time: Duration) -> u32 {
    let (mut now, mut calls) = (from, 0);
    loop {
        now = now.max(discovery.due());
        if now > from + time {
            return calls;
        }
        let query = discovery.next(now).expect("due, and nothing to ask: the reader spins");
        let next = match &query {
            ListingQuery::Page(None) if pages > 1 => Some("1".to_owned()),
            ListingQuery::Page(Some(behind)) => {
                let page: u32 = behind.parse().unwrap();
                (page + 1 < pages).then(|| (page + 1).to_string())
            }
            _ => None,
        };
        let last = next.clone().unwrap_or_else(|| "last".to_owned());
        let answer = ListingAnswer { next, last: Some(&last), status: Enabled };
        discovery.answered(&query, answer, now, || now + TURN);
        discovery.end_searches(now, |_| false);
        calls += 1;
    }
}

#[test]
fn a_stream_that_nothing_happens_to_costs_a_call_a_minute_for_each_page_as_far_as_its_turns_allow() {
    let hour = Duration::from_secs(3_600);
    for (pages, most) in [(1, 62), (10, 10 * 60), (70, 2_000), (700, 2_600 + 700)] {
        let now = Instant::now();
        let mut discovery = ShardDiscovery::new(now);
        let calls = idle(&mut discovery, pages, now, hour);
        assert!(calls <= most && calls >= 59, "{pages} pages: {calls} calls an hour, at most {most} are wanted");
    }
}

#[test]
fn a_search_that_finds_nothing_ends() {
    let now = Instant::now();
    let mut discovery = ShardDiscovery::new(now);
    listed(&mut discovery, "s2", now);
    (0..600).for_each(|n| discovery.search_children(format!("s{n}").into(), now));
    let first = idle(&mut discovery, 1, now, SEARCH_TIME);
    assert!(first < 200, "{first} calls for 600 shards that nothing continues");
    let later = idle(&mut discovery, 1, now + SEARCH_TIME + Duration::from_secs(60), Duration::from_secs(600));
    assert!(later <= 13, "{later} calls in ten minutes after that");
}

/// A process that stopped while its first listing ran reads thousands of old shards at once when it comes back.
#[test]
fn shards_that_end_during_the_first_listing_do_not_hold_it_up() {
    let now = Instant::now();
    let mut discovery = ShardDiscovery::new(now);
    for page in 0..70 {
        let later = now + FOLLOW_UP;
        let query = discovery.next(later).unwrap();
        assert!(matches!(query, ListingQuery::Page(_)), "page {page}: {query:?}");
        for shard in 0..100 {
            discovery.search_children(format!("s{page}-{shard}").into(), now);
        }
        // Half of them have a child on this page.
        discovery.end_searches(now, |shard| shard.len() % 2 == 0);
        let next = (page < 69).then(|| format!("s{page}"));
        answered(&mut discovery, &query, next, Some(&format!("s{page}")), Enabled, later);
    }
    assert!(matches!(discovery.next(now + FOLLOW_UP), Some(ListingQuery::Tail(_))));
}

#[test]
fn somebody_looks_for_a_sibling_that_the_answer_lacked() {
    for (pages, parents) in [(1, 1), (3, 1), (3, 40)] {
        let now = Instant::now();
        let mut discovery = ShardDiscovery::new(now);
        idle(&mut discovery, pages, now, Duration::from_secs(1));
        (0..parents).for_each(|n| discovery.search_children(format!("s{n}").into(), now));
        discovery.end_searches(now, |_| true);
        assert_eq!(discovery.due(), now + FOLLOW_UP);
        let query = discovery.next(now + FOLLOW_UP);
        let expected = match (pages, parents) {
            (1, _) => ListingQuery::Page(None),
            (_, 1) => ListingQuery::Children("s0".into()),
            _ => ListingQuery::Tail("last".to_owned()),
        };
        assert_eq!(query, Some(expected), "{pages} pages, {parents} parents");
        let calls = idle(&mut discovery, pages, now + FOLLOW_UP, Duration::from_secs(20));
        assert_eq!(calls, 1, "{pages} pages, {parents} parents");
    }
}

/// `LastEvaluatedShardId` is the shard that was asked from, or leads in a circle, again and again.
#[test]
fn a_listing_that_leads_nowhere_ends() {
    for circle in [vec!["a", "a"], vec!["a", "b", "a"], vec!["a", "b", "b"]] {
        let mut now = Instant::now();
        let mut discovery = ShardDiscovery::new(now);
        let (mut calls, mut place) = (0, 0);
        let ended = loop {
            now = now.max(discovery.due());
            let query = discovery.next(now).unwrap();
            place = if query == ListingQuery::Page(None) { 0 } else { (place + 1).min(circle.len() - 1) };
            calls += 1;
            assert!(calls < 20, "{circle:?}: asked for ever");
            if answered(&mut discovery, &query, Some(circle[place].to_owned()), None, Enabled, now) {
                break now;
            }
        };
        assert!(discovery.due() > ended + Duration::from_secs(10), "{circle:?}: asked again at once");
    }
}

#[test]
fn what_is_new_is_listed_to_its_end_although_its_pages_repeat() {
    let now = Instant::now();
    let mut discovery = ShardDiscovery::new(now);
    listed(&mut discovery, "s", now);
    discovery.search_children("x".into(), now);
    discovery.search_children("y".into(), now);
    for next in ["a", "b", "a"] {
        let query = discovery.next(now).unwrap();
        assert!(matches!(query, ListingQuery::Tail(_)), "{query:?}");
        assert!(!answered(&mut discovery, &query, Some(next.to_owned()), None, Enabled, now));
    }
    assert!(discovery.next(now).is_none() && discovery.is_at_rest());
}

/// Two listings right after one another are one witness.
#[test]
fn a_stream_is_disabled_when_two_listings_some_time_apart_say_so() {
    let mut now = Instant::now();
    let mut discovery = ShardDiscovery::new(now);
    listed(&mut discovery, "s", now);
    now += PASS_INTERVAL;
    let query = discovery.next(now).unwrap();
    answered(&mut discovery, &query, None, Some("s"), Disabled, now);
    assert!(!discovery.is_disabled());
    assert_eq!(discovery.due(), now + BETWEEN_WITNESSES);
    now += BETWEEN_WITNESSES;
    let query = discovery.next(now).unwrap();
    answered(&mut discovery, &query, None, Some("s"), Disabled, now);
    assert!(discovery.is_disabled());
    now = discovery.due();
    let query = discovery.next(now).unwrap();
    answered(&mut discovery, &query, None, Some("s"), Enabled, now);
    assert!(!discovery.is_disabled(), "it was enabled again");
}

/// Every partition's shard ends every four hours: the calls of an hour, in which each child is named at once.
#[test]
fn rollovers_every_four_hours_cost_less_than_a_call_a_second_at_1_000_partitions_and_two_at_10_000() {
    let hour = Duration::from_secs(3_600);
    for (partitions, most) in [(4_u32, 100), (1_000, 3_600), (10_000, 7_200)] {
        let (begin, mut ended) = (Instant::now(), 0);
        let (mut now, mut calls, pages) = (begin, 0, (partitions * 7).div_ceil(100));
        let mut discovery = ShardDiscovery::new(begin);
        // The first listing is no part of it.
        idle(&mut discovery, pages, begin, Duration::ZERO);
        let ends = |number: u32| begin + 4 * hour / partitions * number;
        loop {
            now = now.max(discovery.due().min(ends(ended)));
            if now > begin + hour {
                break;
            }
            if ends(ended) <= now {
                discovery.search_children(format!("s{ended}").into(), now);
                ended += 1;
            }
            let Some(query) = discovery.next(now) else { continue };
            calls += 1;
            let next = match &query {
                ListingQuery::Page(None) => 1,
                ListingQuery::Page(Some(behind)) => behind.parse::<u32>().unwrap() + 1,
                _ => pages,
            };
            let next = (next < pages).then(|| next.to_string());
            let answer = ListingAnswer { next, last: Some("last"), status: Enabled };
            discovery.answered(&query, answer, now, || now + TURN);
            discovery.end_searches(now, |_| true);
        }
        println!("{partitions} partitions: {calls} calls an hour for {ended} handovers");
        assert!(calls <= most, "{partitions} partitions: {calls} calls an hour for {ended} handovers");
    }
}

/// One kind of question is refused, again and again.
#[test]
fn a_question_that_keeps_failing_does_not_keep_the_listing_from_its_turn() {
    for parents in [1, 2, 5] {
        let mut now = Instant::now();
        let mut discovery = ShardDiscovery::new(now);
        idle(&mut discovery, 3, now, Duration::from_secs(1));
        (0..parents).for_each(|n| discovery.search_children(format!("s{n}").into(), now));
        // With children found, their siblings are looked for; without, they are searched for.
        if parents < 5 {
            discovery.end_searches(now, |_| true);
        }
        discovery.list_after(Duration::ZERO, now);
        let mut pages = 0;
        for _ in 0..50 {
            now = now.max(discovery.due());
            match discovery.next(now) {
                Some(query @ ListingQuery::Page(_)) => {
                    pages += 1;
                    answered(&mut discovery, &query, None, Some("last"), Enabled, now);
                }
                Some(query) => discovery.failed(&query, Duration::from_secs(1), now),
                None => {}
            }
        }
        assert!(pages > 0, "{parents} parents: no listing is taken");
    }
}

#[test]
fn a_listing_of_what_is_new_that_nobody_goes_on_with_is_over() {
    let now = Instant::now();
    let mut discovery = ShardDiscovery::new(now);
    listed(&mut discovery, "s", now);
    ["x", "y"].iter().for_each(|parent| discovery.search_children((*parent).into(), now));
    let query = discovery.next(now).unwrap();
    answered(&mut discovery, &query, Some("more".to_owned()), Some("more"), Disabled, now);
    assert!(!discovery.is_at_rest());
    // Both have a child on that page.
    discovery.end_searches(now, |_| true);
    let query = discovery.next(now).unwrap();
    answered(&mut discovery, &query, None, Some("s"), Disabled, now);
    assert!(discovery.is_at_rest());
}
