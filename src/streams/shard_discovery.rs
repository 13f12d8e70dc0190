//! What to ask `DescribeStream` next, and what its answers prove. Pure: time is an argument.
//!
//! Contract:
//! - A whole listing is taken page by page and goes on where an error interrupted it. It is repeated [`PASS_INTERVAL`] after the last
//!   one; its pages then take their turns in the whole process, while the first page alone is asked for once a minute, which tells
//!   whether the stream is disabled. Whoever is in doubt has it taken sooner, and in a hurry.
//! - A shard that ended without a known child is searched for: one alone by asking for its children, several by listing
//!   what is new behind the last shard known, so that a hundred handovers at once cost a few calls. Where no shard is known,
//!   each one's children are asked for. A service that answers none of this is met by a whole listing. A search ends after
//!   three minutes: what turns up later is found by the listings.
//! - A listing that leads nowhere ends: a page that names the shard it was asked for, or one that it named before, as the last.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::client::StreamStatus;
use crate::records::ShardId;

/// How often the whole listing is taken when nothing calls for it sooner, and how often the stream's state is asked for.
pub const PASS_INTERVAL: Duration = Duration::from_secs(60);

/// A search has a whole listing taken at most so often for each of its pages.
const INTERVAL_OF_A_PAGE: Duration = Duration::from_secs(2);

/// After a handover somebody looks this soon for siblings that the answer may have lacked.
const FOLLOW_UP: Duration = Duration::from_secs(5);

/// Two listings that lack something are two witnesses only if so much time is between them.
pub const BETWEEN_WITNESSES: Duration = Duration::from_secs(20);

/// A shard, or a stream, counts as gone when AWS has denied it so often, each time [`BETWEEN_WITNESSES`] after the last.
pub const DENIALS_OF_EXISTENCE: u32 = 3;

const SEARCH_PAUSE_MIN: Duration = Duration::from_millis(50);
const SEARCH_PAUSE_MAX: Duration = Duration::from_secs(5);
const FAILED_SEARCH_PAUSE: Duration = Duration::from_millis(200);
/// At this try, a search also asks for a whole listing.
const TRY_WITH_PASS: u32 = 3;
/// A stream that is enabled has the children of a shard that ended; listings that lag have them a few minutes later.
const SEARCH_TIME: Duration = Duration::from_secs(3 * 60);
/// A cursor that fails this often may itself be the trouble: the listing starts over.
const FAILURES_BEFORE_RESTART: u32 = 5;
/// A listing that leads nowhere so often in a row shows all that it ever will.
const CUT_LISTINGS: u32 = 3;
const CUT_LISTING_PAUSE: Duration = Duration::from_secs(1);

/// One question for `DescribeStream`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListingQuery {
    /// The next page of the whole listing, behind this shard.
    Page(Option<String>),
    /// The first page alone.
    Status,
    /// What is listed behind the last shard known.
    Tail(String),
    /// The children of this shard.
    Children(ShardId),
}

/// What an answer says besides its shards.
#[derive(Debug, Clone)]
pub struct ListingAnswer<'a> {
    /// Where the listing goes on.
    pub next: Option<String>,
    /// The last shard of the page.
    pub last: Option<&'a str>,
    pub status: StreamStatus,
}

/// Decides what to ask next.
#[derive(Debug)]
pub struct ShardDiscovery {
    cursor: Option<String>,
    pass_due: Instant,
    /// Somebody waits for the listing.
    is_urgent: bool,
    status_due: Instant,
    /// Pages of the listing under way, and of the last one that was whole.
    pages: u32,
    last_pages: u32,
    /// Where the listings under way were continued.
    visited: BTreeSet<String>,
    tail_visited: BTreeSet<String>,
    /// Listings in a row that led nowhere.
    cut: u32,
    /// When the last whole listing ended.
    completed: Option<Instant>,
    /// Since when whole listings, at least [`BETWEEN_WITNESSES`] apart, say that the stream is disabled; and whether two do.
    disabled: Option<Instant>,
    is_disabled: bool,
    failures: u32,
    /// Nothing is asked before, since a question failed.
    resume: Instant,
    tail: Option<String>,
    searches: BTreeMap<ShardId, ChildSearch>,
    siblings: SiblingSearch,
}

#[derive(Debug)]
struct ChildSearch {
    begun: Instant,
    tries: u32,
    due: Instant,
}

/// Of whose children one was found may have another one, which the answer lacked.
#[derive(Debug, Default)]
struct SiblingSearch {
    due: Option<Instant>,
    parents: BTreeSet<ShardId>,
}

impl ShardDiscovery {
    /// Begins with a whole listing, at once.
    pub fn new(now: Instant) -> Self {
        Self {
            cursor: None,
            pass_due: now,
            is_urgent: true,
            status_due: now + PASS_INTERVAL,
            pages: 0,
            last_pages: 0,
            visited: BTreeSet::new(),
            tail_visited: BTreeSet::new(),
            cut: 0,
            completed: None,
            disabled: None,
            is_disabled: false,
            failures: 0,
            resume: now,
            tail: None,
            searches: BTreeMap::new(),
            siblings: SiblingSearch::default(),
        }
    }

    /// When there will be something to ask.
    pub fn due(&self) -> Instant {
        let searches = self.searches.values().map(|search| search.due);
        searches.chain(self.siblings.due).fold(self.pass_due.min(self.status_due), Instant::min).max(self.resume)
    }

    /// The question to ask now, if there is one.
    pub fn next(&self, now: Instant) -> Option<ListingQuery> {
        if now < self.resume {
            return None;
        }
        let mut due = self.searches.iter().filter(|(_, search)| search.due <= now);
        match (due.next(), due.next(), &self.tail) {
            (Some((shard, search)), None, Some(_)) if search.tries % 2 == 0 => {
                Some(ListingQuery::Children(shard.clone()))
            }
            (Some(_), _, Some(tail)) => Some(ListingQuery::Tail(tail.clone())),
            // The first whole listing shows siblings as well, and nothing is ready before it ends.
            _ if self.tail.is_none() && self.pass_due <= now => Some(ListingQuery::Page(self.cursor.clone())),
            _ if self.siblings.due.is_some_and(|due| due <= now) => self.look_for_siblings(),
            _ if self.pass_due <= now => Some(ListingQuery::Page(self.cursor.clone())),
            // No shard was listed yet behind which new ones could be listed.
            (Some((shard, _)), _, None) => Some(ListingQuery::Children(shard.clone())),
            _ => (self.status_due <= now).then_some(ListingQuery::Status),
        }
    }

    /// A short listing shows all siblings; of a few parents the children are asked for, of many what is new is listed.
    fn look_for_siblings(&self) -> Option<ListingQuery> {
        match (&self.tail, self.siblings.parents.first()) {
            (Some(_), _) if self.last_pages <= 1 && self.cursor.is_none() => Some(ListingQuery::Page(None)),
            (Some(tail), _) if self.siblings.parents.len() > 2 => Some(ListingQuery::Tail(tail.clone())),
            (_, parent) => parent.map(|parent| ListingQuery::Children(parent.clone())),
        }
    }

    /// A shard ended and no child of it is known.
    pub fn search_children(&mut self, parent: ShardId, now: Instant) {
        self.searches.entry(parent).or_insert(ChildSearch { begun: now, tries: 0, due: now });
    }

    /// Ends every search that has `found` a child, and each that has lasted long enough. Where the stream is disabled there need be
    /// none.
    pub fn end_searches(&mut self, now: Instant, found: impl Fn(&ShardId) -> bool) {
        let is_over = |search: &ChildSearch| self.is_disabled || search.begun + SEARCH_TIME <= now;
        let ended = self.searches.extract_if(.., |parent, search| found(parent) || is_over(search));
        let parents: Vec<ShardId> = ended.map(|(parent, _)| parent).filter(|parent| found(parent)).collect();
        if !parents.is_empty() {
            self.siblings.due.get_or_insert(now + FOLLOW_UP);
            self.siblings.parents.extend(parents);
        }
        if self.searches.is_empty() && self.siblings.due.is_none() {
            // Nobody asks for the rest of what is new.
            self.tail_visited.clear();
        }
    }

    /// Takes the whole listing in a hurry, at the earliest so much time after the last one.
    pub fn list_after(&mut self, pause: Duration, now: Instant) {
        let earliest = self.completed.map_or(now, |completed| (completed + pause).max(now));
        self.pass_due = self.pass_due.min(earliest);
        self.is_urgent = true;
    }

    /// Whether no listing is under way, so that nothing which it has shown waits for its next page.
    pub fn is_at_rest(&self) -> bool {
        self.cursor.is_none() && self.tail_visited.is_empty()
    }

    /// Whether two whole listings, some time apart, have said that the stream is disabled.
    pub fn is_disabled(&self) -> bool {
        self.is_disabled
    }

    /// A question was answered. `turn` says when the next page of a listing may be asked for that is in no hurry. Returns whether this
    /// was the end of a whole listing.
    pub fn answered(
        &mut self,
        query: &ListingQuery,
        answer: ListingAnswer<'_>,
        now: Instant,
        turn: impl FnOnce() -> Instant,
    ) -> bool {
        self.failures = 0;
        self.status_due = now + PASS_INTERVAL;
        if answer.status == StreamStatus::Enabled {
            (self.disabled, self.is_disabled) = (None, false);
        } else if self.disabled.is_none() {
            // Two whole listings are to say so.
            self.list_after(Duration::ZERO, now);
        }
        match query {
            ListingQuery::Page(asked) => return self.page_answered(asked.as_deref(), answer, now, turn),
            ListingQuery::Tail(behind) => self.tail_answered(behind, answer, now),
            ListingQuery::Children(parent) => {
                self.siblings.remove_asked(|sibling| sibling == parent);
                self.postpone(now, |shard| shard == parent);
            }
            ListingQuery::Status => {}
        }
        false
    }

    fn tail_answered(&mut self, behind: &str, answer: ListingAnswer<'_>, now: Instant) {
        let next = continued(answer.next, Some(behind), &mut self.tail_visited);
        let is_over = next.is_none();
        self.tail = next.or(answer.last.map(str::to_owned)).or_else(|| Some(behind.to_owned()));
        if is_over {
            self.tail_visited.clear();
            self.siblings.remove_asked(|_| true);
            self.postpone(now, |_| true);
        }
    }

    fn page_answered(
        &mut self,
        asked: Option<&str>,
        answer: ListingAnswer<'_>,
        now: Instant,
        turn: impl FnOnce() -> Instant,
    ) -> bool {
        self.pages += 1;
        let has_next = answer.next.is_some();
        self.cursor = continued(answer.next, asked, &mut self.visited);
        if self.cursor.is_some() {
            self.pass_due = if self.is_urgent { now } else { turn() };
            return false;
        }
        self.visited.clear();
        let pages = std::mem::take(&mut self.pages);
        self.cut = if has_next { self.cut + 1 } else { 0 };
        if has_next && self.cut < CUT_LISTINGS {
            self.pass_due = now + CUT_LISTING_PAUSE;
            return false;
        }
        self.tail = answer.last.map(str::to_owned).or_else(|| self.tail.take());
        self.pass_completed(pages, answer.status, now);
        true
    }

    fn pass_completed(&mut self, pages: u32, status: StreamStatus, now: Instant) {
        (self.last_pages, self.completed, self.is_urgent) = (pages, Some(now), false);
        self.siblings.remove_asked(|_| true);
        self.tail_visited.clear();
        self.pass_due = now + PASS_INTERVAL;
        if status == StreamStatus::Disabled {
            let since = *self.disabled.get_or_insert(now);
            self.is_disabled = since + BETWEEN_WITNESSES <= now;
            if !self.is_disabled {
                self.list_after(BETWEEN_WITNESSES, now);
            }
        }
    }

    /// A question failed: nothing is asked before a pause has passed, and then this where it stood.
    pub fn failed(&mut self, query: &ListingQuery, pause: Duration, now: Instant) {
        self.failures += 1;
        self.resume = now + pause;
        match query {
            ListingQuery::Page(_) if self.failures >= FAILURES_BEFORE_RESTART => {
                (self.cursor, self.pages) = (None, 0);
                self.visited.clear();
            }
            ListingQuery::Page(_) | ListingQuery::Status => {}
            // Another question may be answered.
            ListingQuery::Tail(_) | ListingQuery::Children(_) => {
                // It has its turn behind a listing that is due.
                let later = self.resume + FAILED_SEARCH_PAUSE;
                for search in self.searches.values_mut() {
                    (search.tries, search.due) = (search.tries + 1, search.due.max(later));
                }
                self.siblings.due = self.siblings.due.map(|due| due.max(later));
            }
        }
    }

    /// How many questions failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn postpone(&mut self, now: Instant, asked: impl Fn(&ShardId) -> bool) {
        let mut wants_listing = false;
        for (_, search) in self.searches.iter_mut().filter(|(shard, search)| search.due <= now && asked(shard)) {
            let pause = SEARCH_PAUSE_MIN.saturating_mul(1 << search.tries.min(10)).min(SEARCH_PAUSE_MAX);
            search.tries += 1;
            search.due = now + pause;
            wants_listing |= search.tries == TRY_WITH_PASS;
        }
        if wants_listing {
            self.list_after(INTERVAL_OF_A_PAGE * self.last_pages.saturating_sub(1), now);
        }
    }
}

/// Where a listing goes on, if that is neither where it was asked from nor where it was before.
fn continued(next: Option<String>, asked: Option<&str>, visited: &mut BTreeSet<String>) -> Option<String> {
    next.filter(|next| asked != Some(next) && visited.insert(next.clone()))
}

impl SiblingSearch {
    fn remove_asked(&mut self, asked: impl Fn(&ShardId) -> bool) {
        self.parents.retain(|parent| !asked(parent));
        if self.parents.is_empty() {
            self.due = None;
        }
    }
}

#[cfg(test)]
mod tests;
