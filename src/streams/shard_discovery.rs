//! What to ask `DescribeStream` next. Pure: time is an argument.
//!
//! Contract:
//! - A whole listing is taken page by page and goes on where an error interrupted it; it is repeated every
//!   [`PASS_INTERVAL`].
//! - A shard that ended without a known child is searched for: one alone by asking for its children, several by listing
//!   what is new behind the last shard known, so that a hundred handovers at once cost a few calls. Where no shard is known,
//!   each one's children are asked for. A service that answers none of this is met by a whole listing.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::records::ShardId;

/// How often the whole listing is taken when nothing calls for it sooner.
pub const PASS_INTERVAL: Duration = Duration::from_secs(60);

/// After a handover a listing follows this soon, for siblings that the answer may have lacked.
const FOLLOW_UP: Duration = Duration::from_secs(5);

const SEARCH_PAUSE_MIN: Duration = Duration::from_millis(50);
const SEARCH_PAUSE_MAX: Duration = Duration::from_secs(5);
/// From this try on, a search also asks for a whole listing.
const TRIES_BEFORE_PASS: u32 = 3;
/// A cursor that fails this often may itself be the trouble: the listing starts over.
const FAILURES_BEFORE_RESTART: u32 = 5;

/// One question for `DescribeStream`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListingQuery {
    /// The next page of the whole listing, behind this shard.
    Page(Option<String>),
    /// What is listed behind the last shard known.
    Tail(String),
    /// The children of this shard.
    Children(ShardId),
}

/// Decides what to ask next.
#[derive(Debug)]
pub struct ShardDiscovery {
    cursor: Option<String>,
    pass_due: Instant,
    failures: u32,
    tail: Option<String>,
    searches: BTreeMap<ShardId, ChildSearch>,
}

#[derive(Debug)]
struct ChildSearch {
    tries: u32,
    due: Instant,
}

impl ShardDiscovery {
    /// Begins with a whole listing, at once.
    pub fn new(now: Instant) -> Self {
        Self { cursor: None, pass_due: now, failures: 0, tail: None, searches: BTreeMap::new() }
    }

    /// When there will be something to ask.
    pub fn due(&self) -> Instant {
        self.searches.values().map(|search| search.due).fold(self.pass_due, Instant::min)
    }

    /// The question to ask now, if there is one.
    pub fn next(&self, now: Instant) -> Option<ListingQuery> {
        let mut due = self.searches.iter().filter(|(_, search)| search.due <= now);
        match (due.next(), due.next(), &self.tail) {
            (Some((shard, search)), None, Some(_)) if search.tries % 2 == 0 => {
                Some(ListingQuery::Children(shard.clone()))
            }
            (Some(_), _, Some(tail)) => Some(ListingQuery::Tail(tail.clone())),
            _ if self.pass_due <= now => Some(ListingQuery::Page(self.cursor.clone())),
            // No shard was listed yet behind which new ones could be listed.
            (Some((shard, _)), _, None) => Some(ListingQuery::Children(shard.clone())),
            _ => None,
        }
    }

    /// A shard ended and no child of it is known.
    pub fn search_children(&mut self, parent: ShardId, now: Instant) {
        self.searches.entry(parent).or_insert(ChildSearch { tries: 0, due: now });
    }

    /// Gives up every search that `wanted` does not want any more; a success brings the next whole listing forward.
    pub fn retain_searches(&mut self, now: Instant, wanted: impl Fn(&ShardId) -> bool) {
        let before = self.searches.len();
        self.searches.retain(|parent, _| wanted(parent));
        if self.searches.len() < before {
            self.pass_due = self.pass_due.min(now + FOLLOW_UP);
        }
    }

    /// Takes the whole listing as soon as possible.
    pub fn list_now(&mut self, now: Instant) {
        self.pass_due = self.pass_due.min(now);
    }

    /// A question was answered. `next` is where the listing goes on, `last` the last shard of the page. Returns whether
    /// this was the end of a whole listing.
    pub fn answered(&mut self, query: &ListingQuery, next: Option<String>, last: Option<&str>, now: Instant) -> bool {
        self.failures = 0;
        match query {
            ListingQuery::Children(parent) => self.postpone(now, |shard| shard == parent),
            ListingQuery::Tail(behind) => {
                self.tail = next.clone().or(last.map(str::to_owned)).or_else(|| Some(behind.clone()));
                if next.is_none() {
                    self.postpone(now, |_| true);
                }
            }
            ListingQuery::Page(_) => {
                if let Some(last) = last {
                    self.tail = Some(last.to_owned());
                }
                let complete = next.is_none();
                self.cursor = next;
                self.pass_due = if complete { now + PASS_INTERVAL } else { now };
                return complete;
            }
        }
        false
    }

    /// A question failed: it is asked again after a pause, where it stood.
    pub fn failed(&mut self, query: &ListingQuery, pause: Duration, now: Instant) {
        self.failures += 1;
        match query {
            ListingQuery::Page(_) => {
                self.pass_due = now + pause;
                if self.failures >= FAILURES_BEFORE_RESTART {
                    self.cursor = None;
                }
            }
            ListingQuery::Tail(_) | ListingQuery::Children(_) => {
                for search in self.searches.values_mut() {
                    search.tries += 1;
                    search.due = search.due.max(now + pause);
                }
            }
        }
    }

    /// How many questions failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn postpone(&mut self, now: Instant, asked: impl Fn(&ShardId) -> bool) {
        for (_, search) in self.searches.iter_mut().filter(|(shard, search)| search.due <= now && asked(shard)) {
            let pause = SEARCH_PAUSE_MIN.saturating_mul(1 << search.tries.min(10)).min(SEARCH_PAUSE_MAX);
            search.tries += 1;
            search.due = now + pause;
            if search.tries >= TRIES_BEFORE_PASS {
                self.pass_due = self.pass_due.min(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(discovery: &mut ShardDiscovery, last: &str, now: Instant) {
        let query = discovery.next(now).unwrap();
        assert!(discovery.answered(&query, None, Some(last), now));
    }

    #[test]
    fn a_listing_goes_on_where_an_error_interrupted_it() {
        let now = Instant::now();
        let mut discovery = ShardDiscovery::new(now);
        let first = discovery.next(now).unwrap();
        assert_eq!(first, ListingQuery::Page(None));
        assert!(!discovery.answered(&first, Some("s100".into()), Some("s100"), now));
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
            discovery.answered(&query, None, Some("s200"), now);
            discovery.retain_searches(now, |_| false);
        }
        assert_eq!(calls, 1);
    }

    #[test]
    fn a_hunt_goes_on_while_nothing_is_found_and_ends_in_a_whole_listing() {
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
                ListingQuery::Page(_) => 'p',
            });
            discovery.answered(&query, None, Some("s2"), now);
        }
        let kinds: String = kinds.into_iter().collect();
        assert!(kinds.starts_with("ctcp"), "{kinds}");
        assert!(kinds.matches('p').count() >= 2, "{kinds}");
    }

    #[test]
    fn a_cursor_that_keeps_failing_is_given_up() {
        let mut now = Instant::now();
        let mut discovery = ShardDiscovery::new(now);
        let first = discovery.next(now).unwrap();
        discovery.answered(&first, Some("gone".into()), None, now);
        for _ in 0..5 {
            now = discovery.due();
            let query = discovery.next(now).unwrap();
            discovery.failed(&query, Duration::from_secs(1), now);
        }
        assert_eq!(discovery.next(discovery.due()), Some(ListingQuery::Page(None)));
    }

    #[test]
    fn two_shards_that_end_before_any_was_listed_are_hunted_for_one_by_one() {
        let mut now = Instant::now();
        let mut discovery = ShardDiscovery::new(now);
        // The first listing of a stream that an earlier run had begun shows nothing.
        let query = discovery.next(now).unwrap();
        discovery.answered(&query, None, None, now);
        discovery.search_children("s1".into(), now);
        discovery.search_children("s2".into(), now);
        let mut children = Vec::new();
        for _ in 0..20 {
            now = now.max(discovery.due());
            let query = discovery.next(now).expect("due, and nothing to ask: the reader spins");
            discovery.answered(&query, None, None, now);
            children.extend(matches!(query, ListingQuery::Children(_)).then_some(query));
        }
        for shard in ["s1", "s2"] {
            assert!(children.contains(&ListingQuery::Children(shard.into())), "{shard}: {children:?}");
        }
    }
}
