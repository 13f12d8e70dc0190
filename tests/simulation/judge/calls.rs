//! How often AWS is asked.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Sentence;
use crate::plan::{Moment, Plan, Scale, Settings};

/// `DescribeStream` and `ListStreams` calls that an account has in a second.
///
/// Source: "Quotas for DynamoDB Streams" in the DynamoDB Developer Guide.
const ACCOUNT: [(&str, usize); 2] = [("DescribeStream", 10), ("ListStreams", 5)];

/// Over how long listings are counted.
const WINDOW: Duration = Duration::from_secs(600);

/// More questions in a second to a shard without records than its poll interval allows.
const SPARE_POLLS: u64 = 10;

type ShardKey = (usize, usize, usize);

pub struct Calls {
    recent: BTreeMap<&'static str, VecDeque<Moment>>,
    /// Listings of this window, and what it may have.
    window: u64,
    listings: f64,
    budget: f64,
    said: bool,
    partitions: f64,
    pages: f64,
    shards: BTreeMap<ShardKey, Quiet>,
    settings: Settings,
}

/// A shard since its last record.
struct Quiet {
    since: Moment,
    asked: u64,
    /// Empty answers of the last second.
    recent: VecDeque<Moment>,
}

impl Calls {
    pub fn new(plan: &Plan) -> Self {
        let listed = plan.partitions * (plan.generations + 1);
        let pages = (listed as f64 / plan.listing_page as f64).ceil();
        let mut calls = Self {
            recent: BTreeMap::new(),
            window: 0,
            listings: 0.0,
            budget: 0.0,
            said: false,
            partitions: if plan.scale == Scale::Tables { 320.0 } else { plan.partitions as f64 },
            pages: pages * plan.tables as f64,
            shards: BTreeMap::new(),
            settings: plan.settings.clone(),
        };
        calls.budget = calls.usual();
        calls
    }

    /// One a second up to 1,000 partitions, two up to 10,000.
    fn usual(&self) -> f64 {
        let rate = if self.partitions <= 1_000.0 { 1.0 } else { 2.0 };
        rate * WINDOW.as_secs_f64()
    }

    pub fn begin_life(&mut self, now: Moment, settings: &Settings) {
        self.turn(now);
        // Everything is listed once, and again soon after.
        self.budget += 20.0 + 3.0 * self.pages;
        self.shards.clear();
        self.settings = settings.clone();
    }

    pub fn handed_over(&mut self, now: Moment) {
        self.turn(now);
        self.budget += 3.0;
    }

    pub fn called(&mut self, operation: &'static str, now: Moment) -> Option<(Sentence, String)> {
        self.turn(now);
        if operation == "DescribeStream" {
            self.listings += 1.0;
            if self.listings > self.budget && !self.said {
                self.said = true;
                let what = format!(
                    "DescribeStream was called {} times within ten minutes, {} are budgeted",
                    self.listings, self.budget
                );
                return Some((Sentence::ListingBudget, what));
            }
        }
        let (_, limit) = ACCOUNT.into_iter().find(|(name, _)| *name == operation)?;
        let recent = self.recent.entry(operation).or_default();
        recent.push_back(now);
        while recent.front().is_some_and(|at| *at + Duration::from_secs(1) <= now) {
            recent.pop_front();
        }
        (recent.len() > limit)
            .then(|| (Sentence::AccountLimit, format!("{} calls of {operation} within a second", recent.len())))
    }

    fn turn(&mut self, now: Moment) {
        let window = now.as_secs() / WINDOW.as_secs();
        if window != self.window {
            (self.window, self.listings, self.budget, self.said) = (window, 0.0, self.usual(), false);
        }
    }

    pub fn iterator_issued(&mut self, shard: ShardKey) {
        self.shards.remove(&shard);
    }

    pub fn page_sent(&mut self, shard: ShardKey, is_empty: bool, now: Moment) -> Option<(Sentence, String)> {
        let quiet = self.shards.entry(shard).or_insert_with(|| Quiet { since: now, asked: 0, recent: VecDeque::new() });
        if !is_empty {
            *quiet = Quiet { since: now, asked: 0, recent: VecDeque::new() };
            return None;
        }
        quiet.asked += 1;
        quiet.recent.push_back(now);
        while quiet.recent.front().is_some_and(|at| *at + Duration::from_secs(1) <= now) {
            quiet.recent.pop_front();
        }
        let polls = 1_000 / self.settings.poll.as_millis() as u64 + 1 + SPARE_POLLS;
        if quiet.recent.len() as u64 > polls {
            let what =
                format!("shard {shard:?} brings no records and was asked {} times within a second", quiet.recent.len());
            return Some((Sentence::ShardRate, what));
        }
        let (poll, idle) = (self.settings.poll.as_secs_f64(), self.settings.idle_max.as_secs_f64());
        let time = (now - quiet.since).as_secs_f64();
        // Each pause is a tenth of the quiet time, up to the longest.
        let allowed = 40.0 + 14.0 * (1.0 + time / (10.0 * poll)).ln() + 1.2 * time / idle;
        let what = || {
            format!(
                "shard {shard:?} was asked {} times in {time:.0} quiet seconds, {allowed:.0} are budgeted",
                quiet.asked
            )
        };
        (quiet.asked as f64 > allowed).then(|| (Sentence::IdleBudget, what()))
    }
}
