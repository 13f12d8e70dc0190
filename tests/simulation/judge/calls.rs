//! How often AWS is asked.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Sentence;
use crate::fault::Fault;
use crate::plan::{Moment, Plan, Scale, Settings};

/// `DescribeStream` and `ListStreams` calls that an account has in a second.
///
/// Source: "Quotas for DynamoDB Streams" in the DynamoDB Developer Guide.
const ACCOUNT: [(&str, usize); 2] = [("DescribeStream", 10), ("ListStreams", 5)];

/// Over how long listings are counted.
const WINDOW: Duration = Duration::from_secs(600);

/// More questions in a second to a shard without records than its poll interval allows: ten at once, and with pauses that double from
/// 10 ms to a second.
const SPARE_POLLS: u64 = 17;

type ShardKey = (usize, usize, usize);

pub struct Calls {
    /// Of each process: they know nothing of each other.
    recent: BTreeMap<(&'static str, usize), VecDeque<Moment>>,
    /// Listings of this window, and what it may have.
    window: u64,
    listings: f64,
    budget: f64,
    said: bool,
    partitions: f64,
    doubts: f64,
    pages: f64,
    /// Shards on one of them.
    page: usize,
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
        // A shard is listed for a day after it was closed.
        let generations = 1.0 + crate::plan::RETENTION.as_secs_f64() / plan.rollover.as_secs_f64();
        let listed = plan.partitions as f64 * generations.min((plan.generations + 8) as f64);
        let pages = (listed / plan.listing_page as f64).ceil();
        let mut calls = Self {
            recent: BTreeMap::new(),
            window: 0,
            listings: 0.0,
            budget: 0.0,
            said: false,
            partitions: if plan.scale == Scale::Tables { 320.0 } else { plan.partitions as f64 },
            pages: pages * plan.tables as f64,
            page: plan.listing_page,
            shards: BTreeMap::new(),
            doubts: 0.0,
            settings: plan.settings.clone(),
        };
        // Each doubt has the stream listed, three times a minute at most.
        let doubts = [Fault::HiddenShards, Fault::LateShards, Fault::WrongNotFound];
        if doubts.iter().any(|fault| plan.has(*fault)) {
            calls.doubts = 30.0 * calls.pages;
        }
        if plan.has(Fault::LateChildren) {
            // Each shard that ends is asked about until its children are there.
            calls.doubts += 300.0;
        }
        calls.budget = calls.usual();
        calls
    }

    /// One a second up to 1,000 partitions, two up to 10,000.
    fn usual(&self) -> f64 {
        let rate: f64 = if self.partitions <= 1_000.0 { 1.0 } else { 2.0 };
        // Where pages are smaller than AWS's, one whole listing a minute may take more.
        let small = if self.page < 100 { 1.5 * self.pages / 60.0 } else { 0.0 };
        rate.max(small) * WINDOW.as_secs_f64() + self.doubts
    }

    pub fn begin_life(&mut self, now: Moment, settings: &Settings) {
        self.turn(now);
        // Everything is listed once, and again soon after.
        self.budget += 20.0 + 3.0 * self.pages;
        // Whoever starts does not know what the one before has asked.
        self.recent.clear();
        self.shards.clear();
        self.settings = settings.clone();
    }

    /// A stream that ends is listed twice, one that begins once.
    pub fn stream_changed(&mut self, now: Moment) {
        self.turn(now);
        self.budget += 20.0 + 2.0 * self.pages;
    }

    pub fn handed_over(&mut self, now: Moment) {
        self.turn(now);
        self.budget += 3.0;
    }

    pub fn called(&mut self, operation: &'static str, process: usize, now: Moment) -> Option<(Sentence, String)> {
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
        let recent = self.recent.entry((operation, process)).or_default();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::hours;

    fn calls() -> Calls {
        let mut calls = Calls::new(&Plan::draw(1));
        let settings =
            Settings { poll: Duration::from_millis(250), idle_max: Duration::from_secs(5), ..Plan::draw(1).settings };
        calls.begin_life(hours(100), &settings);
        calls
    }

    /// What is found when this is done so often, at even distances.
    fn evenly(
        times: u32,
        every: Duration,
        mut once: impl FnMut(Moment) -> Option<(Sentence, String)>,
    ) -> Option<Sentence> {
        (0..times).find_map(|n| once(hours(100) + every * n)).map(|(sentence, _)| sentence)
    }

    #[test]
    fn an_account_has_ten_listings_a_second() {
        let (mut kept, mut broken) = (calls(), calls());
        assert_eq!(evenly(100, Duration::from_millis(100), |now| kept.called("DescribeStream", 0, now)), None);
        let found = evenly(11, Duration::from_millis(90), |now| broken.called("DescribeStream", 0, now));
        assert_eq!(found, Some(Sentence::AccountLimit));
    }

    #[test]
    fn listings_have_a_budget_for_ten_minutes() {
        let (mut kept, mut broken) = (calls(), calls());
        assert_eq!(evenly(7_200, Duration::from_secs(1), |now| kept.called("DescribeStream", 0, now)), None);
        let found = evenly(1_200, Duration::from_millis(400), |now| broken.called("DescribeStream", 0, now));
        assert_eq!(found, Some(Sentence::ListingBudget));
    }

    #[test]
    fn a_quiet_shard_is_asked_seldom_and_a_busy_one_as_often_as_set() {
        let shard = (0, 0, 0);
        let (mut busy, mut quiet, mut slow, mut fast) = (calls(), calls(), calls(), calls());
        let poll = Duration::from_millis(250);
        assert_eq!(evenly(10_000, poll, |now| busy.page_sent(shard, false, now)), None);
        assert_eq!(evenly(10_000, poll, |now| quiet.page_sent(shard, true, now)), Some(Sentence::IdleBudget));
        assert_eq!(evenly(10_000, Duration::from_secs(5), |now| slow.page_sent(shard, true, now)), None);
        let found = evenly(100, Duration::from_millis(20), |now| fast.page_sent(shard, true, now));
        assert_eq!(found, Some(Sentence::ShardRate));
    }
}
