//! What is known of one table, and what that means for a trigger: a value, and whether its target is active. Pure.
//!
//! Contract: value and activity come from the same view. What is not known is an error, never a zero: KEDA leaves the replicas as they
//! are then. Whenever the value is not zero the table is active, unless the trigger's own threshold says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::activity::Activity;
use super::trigger::{Metric, Trigger};
use crate::checkpoint::dynamodb::VERIFICATION_AGE;
use crate::checkpoint::{StoredShard, StoredTable};
use crate::streams::client::ListedShard;

/// How long the successor of a shard that has ended is looked for.
pub(super) const SUCCESSOR_WAIT: Duration = Duration::from_mins(5);

/// One whole listing of a table's newest stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) table_arn: String,
    pub(super) stream: Arc<str>,
    pub(super) shards: Vec<ListedShard>,
    /// Shards that were open a moment ago, and whose successors are not listed yet; with when their end was seen.
    pub(super) awaited: BTreeMap<String, Instant>,
    pub(super) taken_at: Instant,
    /// How many are open, once that was asked: thousands are listed, and all triggers ask.
    pub(super) open: OnceLock<usize>,
}

/// Why there is no newer listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) why: String,
    /// It does not pass by itself: no such table, no stream, no permission.
    pub(super) is_lasting: bool,
}

/// What is known of a table.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct TableView {
    pub(super) listing: Option<Arc<Listing>>,
    /// Since the last listing.
    pub(super) trouble: Option<Trouble>,
    /// Of a table that somebody watches.
    pub(super) activity: Option<Activity>,
    /// By consumer group.
    pub(super) lags: BTreeMap<String, Result<StoredLag, String>>,
}

/// What is stored of a shard is written anew more often than this, also when nothing changes: an adapter that has not done so does not
/// run.
const SILENCE: Duration = VERIFICATION_AGE.saturating_add(Duration::from_mins(10));

/// What an adapter's stored positions say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StoredLag {
    /// When the oldest record was created that is not settled; none: all that was read is.
    pub(super) oldest_owed: Option<SystemTime>,
    /// What was created before this moment was read, if it is not owed; none: nothing is stored.
    pub(super) read_until: Option<SystemTime>,
}

/// The answer to a trigger.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Load {
    pub(super) value: f64,
    pub(super) is_active: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unknown {
    /// Nobody has looked yet.
    #[error("{0} is not known yet")]
    NotYet(&'static str),
    /// A look has failed.
    #[error("{0}")]
    Trouble(String),
}

/// The moment of an answer, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) wall: SystemTime,
}

impl Listing {
    /// With what the listing before it says of shards whose successors are late. Nothing continues those of a disabled stream.
    pub(super) fn behind(self, before: Option<&Self>, is_enabled: bool) -> Self {
        let Some(before) = before.filter(|before| is_enabled && before.stream == self.stream) else { return self };
        let was_open: BTreeSet<&str> = before.written_to().collect();
        let parents = self.parents();
        let leaves = self.shards.iter().filter(|shard| shard.has_ended && !parents.contains(shard.id.as_str()));
        let since = |shard: &ListedShard| match before.awaited.get(&shard.id) {
            Some(since) => Some(*since),
            None => was_open.contains(shard.id.as_str()).then_some(self.taken_at),
        };
        let awaited = leaves.filter_map(|shard| Some((shard.id.clone(), since(shard)?)));
        let awaited = awaited.filter(|(_, since)| self.taken_at.duration_since(*since) < SUCCESSOR_WAIT).collect();
        Self { awaited, open: OnceLock::new(), ..self }
    }

    /// How many shards are written to.
    pub(super) fn open_shards(&self) -> usize {
        *self.open.get_or_init(|| self.written_to().count() + self.awaited.len())
    }

    /// Those without an end. A listing may show a parent without its end beside its child.
    fn written_to(&self) -> impl Iterator<Item = &str> {
        let parents = self.parents();
        let open = self.shards.iter().filter(move |shard| !shard.has_ended && !parents.contains(shard.id.as_str()));
        open.map(|shard| shard.id.as_str())
    }

    fn parents(&self) -> BTreeSet<&str> {
        self.shards.iter().filter_map(|shard| shard.parent.as_deref()).collect()
    }
}

impl StoredLag {
    pub(super) fn of(stored: Option<&StoredTable>) -> Self {
        let streams = stored.into_iter().flat_map(|table| &table.streams).filter(|stream| !stream.done);
        let shards = streams.flat_map(|stream| stream.shards.values());
        let mut lag = Self::default();
        for shard in shards {
            match shard {
                StoredShard::Unfinished(shard) => {
                    lag.oldest_owed = earlier(lag.oldest_owed, shard.oldest_owed);
                    lag.read_until = lag.read_until.max(Some(shard.verified_at));
                }
                StoredShard::Finished { at, .. } => lag.read_until = lag.read_until.max(Some(*at)),
            }
        }
        lag
    }

    /// How old the oldest record is that is not settled; none where nothing says so. `woken_by`: when a record was created that the
    /// scaler has seen. `is_quiet`: whether it has seen for a while that nothing was written.
    fn age(&self, woken_by: Option<SystemTime>, is_quiet: Option<bool>, now: SystemTime) -> Option<Duration> {
        let age = |moment: SystemTime| now.duration_since(moment).unwrap_or_default();
        let unread = woken_by.filter(|created| self.read_until.is_none_or(|read| read <= *created));
        let known = earlier(self.oldest_owed, unread).map(age);
        match (self.read_until, is_quiet) {
            (None, None) => known,
            (_, Some(true)) => known.or(Some(Duration::ZERO)),
            // Who has stored nothing for so long has read nothing since.
            (Some(read_until), _) if age(read_until) > SILENCE => known.max(Some(age(read_until))),
            _ => known.or(Some(Duration::ZERO)),
        }
    }
}

fn earlier(one: Option<SystemTime>, other: Option<SystemTime>) -> Option<SystemTime> {
    one.into_iter().chain(other).min()
}

impl TableView {
    /// What the trigger's target is to be scaled by. `oldest`: a listing that is older says nothing any more. `heard`: the last sign of
    /// activity of which whoever asks has heard: a later one is told, though the table is inactive again.
    pub(super) fn load(
        &self,
        trigger: &Trigger,
        now: Now,
        oldest: Duration,
        heard: Option<Instant>,
    ) -> Result<Load, Unknown> {
        let listing = self.listing(now.instant, oldest)?;
        let activity = match (&self.activity, trigger.needs_reading()) {
            (_, false) => None,
            (Some(activity), true) => Some(activity),
            (None, true) => return Err(Unknown::NotYet("whether the table is written to")),
        };
        let quiet = activity.map(|activity| activity.is_quiet(now.instant)).transpose().map_err(Unknown::Trouble)?;
        let is_news = activity.is_some_and(|activity| heard.is_none_or(|heard| heard < activity.last_sign()));
        let is_idle = trigger.scale_to_zero && quiet == Some(true) && !is_news;
        let measured = || {
            let measured = activity.and_then(Activity::measured);
            measured.ok_or(Unknown::NotYet("how much is written to the table"))
        };
        let value = match trigger.metric {
            Metric::Lag => {
                let age = self.lag(trigger)?.age(activity.and_then(Activity::woken_by), quiet, now.wall);
                let age = age.ok_or(Unknown::NotYet("what the adapter has read"))?.as_secs_f64();
                // What is owed has to be delivered, whether or not anything more is written.
                let is_active = age > trigger.activation || (trigger.scale_to_zero && !is_idle);
                return Ok(Load { value: age, is_active });
            }
            _ if is_idle => return Ok(Load { value: 0.0, is_active: false }),
            Metric::OpenShards => listing.open_shards() as f64,
            Metric::ListedShards => listing.shards.len() as f64,
            Metric::ActiveShards => measured()?.active_shards as f64,
            Metric::RecordsPerSecond => measured()?.records_per_second,
        };
        // The last look may have found nothing at a table that is not idle yet.
        let is_awaited = trigger.metric.needs_records() && trigger.scale_to_zero && trigger.activation <= 0.0;
        Ok(Load { value, is_active: is_awaited || value > trigger.activation })
    }

    fn listing(&self, now: Instant, oldest: Duration) -> Result<&Listing, Unknown> {
        let fresh = self.listing.as_deref().filter(|listing| now.duration_since(listing.taken_at) <= oldest);
        match (fresh, &self.trouble) {
            (_, Some(trouble)) if trouble.is_lasting => Err(Unknown::Trouble(trouble.why.clone())),
            (Some(listing), _) => Ok(listing),
            (None, Some(trouble)) => Err(Unknown::Trouble(trouble.why.clone())),
            (None, None) => Err(Unknown::NotYet("which shards the table has")),
        }
    }

    fn lag(&self, trigger: &Trigger) -> Result<&StoredLag, Unknown> {
        match self.lags.get(&trigger.consumer_group) {
            Some(Ok(lag)) => Ok(lag),
            Some(Err(why)) => Err(Unknown::Trouble(why.clone())),
            None => Err(Unknown::NotYet("what the adapter has stored")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::scaler::activity::{ActivityPace, Round};

    const FRESH: Duration = Duration::from_secs(600);

    fn trigger(more: &[(&str, &str)]) -> Trigger {
        let all = [&[("tableName", "orders"), ("awsRegion", "eu-west-1")], more].concat();
        let metadata: BTreeMap<_, _> =
            all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Trigger::parse(&metadata).expect("a trigger").0
    }

    fn now() -> Now {
        Now { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045) }
    }

    fn shard(id: &str, parent: Option<&str>, has_ended: bool) -> ListedShard {
        ListedShard { id: id.to_owned(), parent: parent.map(str::to_owned), has_ended }
    }

    /// Three generations of one lineage, one more whose parent does not show its end yet, a split, and a shard that has just ended.
    fn listing(at: Instant) -> Listing {
        let shards = vec![
            shard("a1", None, true),
            shard("a2", Some("a1"), true),
            shard("a3", Some("a2"), false),
            shard("b1", None, false),
            shard("b2", Some("b1"), false),
            shard("c1", None, true),
            shard("c2", Some("c1"), false),
            shard("c3", Some("c1"), false),
            // Its child is not listed yet.
            shard("d1", None, true),
        ];
        let (table_arn, awaited) = ("arn".to_owned(), BTreeMap::new());
        Listing { table_arn, stream: "stream".into(), shards, awaited, taken_at: at, open: OnceLock::new() }
    }

    #[test]
    fn a_shard_that_has_just_ended_counts_until_its_successor_is_listed_or_nothing_continues_it() {
        let now = Instant::now();
        let of = |shards: Vec<ListedShard>, at: Instant| Listing { shards, ..listing(at) };
        let open = of(vec![shard("a1", None, false), shard("b1", None, false), shard("z", None, true)], now);
        assert_eq!(open.open_shards(), 2);
        let ended = vec![shard("a1", None, true), shard("b1", None, false), shard("z", None, true)];
        let later = now + Duration::from_secs(60);
        let late = of(ended.clone(), later).behind(Some(&open), true);
        assert_eq!(late.open_shards(), 2, "a1 goes on somewhere, z has long ended");
        assert_eq!(of(ended.clone(), later).behind(Some(&open), false).open_shards(), 1, "the stream is disabled");
        let still = of(ended.clone(), later + SUCCESSOR_WAIT / 2).behind(Some(&late), true);
        assert_eq!(still.open_shards(), 2);
        let given_up = of(ended.clone(), later + SUCCESSOR_WAIT).behind(Some(&still), true);
        assert_eq!(given_up.open_shards(), 1);
        let split = [ended, vec![shard("a2", Some("a1"), false), shard("a3", Some("a1"), false)]].concat();
        assert_eq!(of(split, later).behind(Some(&late), true).open_shards(), 3);
    }

    fn activity(now: Instant, is_quiet: bool, active_shards: usize) -> Activity {
        let minute = Duration::from_secs(60);
        let mut activity = Activity::since(now - minute);
        let round = Round { active_shards, records_per_second: 7.25, ..Round::default() };
        let idle_after = if is_quiet { minute } else { minute * 10 };
        activity.round(&round, now, ActivityPace { poll_interval: minute, idle_after });
        activity
    }

    fn view(now: Now, is_quiet: bool, active_shards: usize) -> TableView {
        TableView {
            listing: Some(Arc::new(listing(now.instant))),
            activity: Some(activity(now.instant, is_quiet, active_shards)),
            ..TableView::default()
        }
    }

    fn load(view: &TableView, more: &[(&str, &str)], now: Now) -> (f64, bool) {
        let load = view.load(&trigger(more), now, FRESH, Some(now.instant)).expect("a load");
        (load.value, load.is_active)
    }

    #[test]
    fn open_shards_are_those_that_are_written_to_and_listed_shards_all() {
        let now = now();
        let view = view(now, false, 1);
        assert_eq!(load(&view, &[], now), (4.0, true));
        assert_eq!(load(&view, &[("metric", "listed-shards")], now), (9.0, true));
        assert_eq!(load(&view, &[("metric", "active-shards")], now), (1.0, true));
        assert_eq!(load(&view, &[("metric", "records-per-second")], now), (7.25, true));
    }

    #[test]
    fn an_idle_table_is_zero_and_inactive_unless_the_trigger_does_not_scale_to_zero() {
        let now = now();
        let view = view(now, true, 0);
        for metric in ["open-shards", "active-shards", "records-per-second"] {
            assert_eq!(load(&view, &[("metric", metric)], now), (0.0, false), "{metric}");
        }
        assert_eq!(load(&view, &[("scaleToZero", "false")], now), (4.0, true));
        assert_eq!(load(&view, &[("metric", "listed-shards")], now), (9.0, true), "as KEDA's own");
        assert_eq!(load(&view, &[("metric", "listed-shards"), ("scaleToZero", "true")], now), (0.0, false));
    }

    #[test]
    fn activation_is_strict_as_keda_s_own() {
        let now = now();
        let view = view(now, false, 1);
        assert_eq!(load(&view, &[("activationShardCount", "3")], now), (4.0, true));
        assert_eq!(load(&view, &[("activationShardCount", "4")], now), (4.0, false));
    }

    #[test]
    fn a_caller_hears_of_a_write_once_although_the_table_is_idle_again() {
        let now = now();
        let view = view(now, true, 0);
        let sign = view.activity.as_ref().map(Activity::last_sign).expect("a sign");
        let of = |more: &[(&str, &str)], heard| {
            let load = view.load(&trigger(more), now, FRESH, heard).expect("a load");
            (load.value, load.is_active)
        };
        for not_heard in [None, Some(sign - Duration::from_millis(1))] {
            assert_eq!(of(&[], not_heard), (4.0, true));
            assert_eq!(of(&[("metric", "active-shards")], not_heard), (0.0, true));
        }
        assert_eq!(of(&[], Some(sign)), (0.0, false));
    }

    #[test]
    fn a_table_that_is_not_idle_yet_stays_active_although_the_last_look_found_nothing() {
        let now = now();
        assert_eq!(load(&view(now, false, 0), &[("metric", "active-shards")], now), (0.0, true));
    }

    #[test]
    fn what_is_not_known_is_an_error_and_never_a_zero() {
        let now = now();
        let unknown =
            |view: &TableView, more: &[(&str, &str)]| view.load(&trigger(more), now, FRESH, None).expect_err("unknown");
        assert!(matches!(unknown(&TableView::default(), &[]), Unknown::NotYet(_)));
        let whole = view(now, false, 1);
        assert!(matches!(unknown(&TableView { activity: None, ..whole.clone() }, &[]), Unknown::NotYet(_)));
        let unmeasured = TableView { activity: Some(Activity::since(now.instant)), ..whole.clone() };
        assert!(matches!(unknown(&unmeasured, &[("metric", "active-shards")]), Unknown::NotYet(_)));
        assert_eq!(load(&unmeasured, &[], now), (4.0, true), "but shards are counted");
        let old = Listing { taken_at: now.instant, ..listing(now.instant) };
        let later = Now { instant: now.instant + FRESH + Duration::from_secs(1), ..now };
        let stale = TableView { listing: Some(Arc::new(old)), ..whole.clone() };
        assert!(stale.load(&trigger(&[]), later, FRESH, None).is_err());
        let gone = Some(Trouble { why: "no such table".to_owned(), is_lasting: true });
        assert_eq!(unknown(&TableView { trouble: gone, ..whole.clone() }, &[]).to_string(), "no such table");
        let passing = Some(Trouble { why: "timeout".to_owned(), is_lasting: false });
        assert_eq!(load(&TableView { trouble: passing, ..whole.clone() }, &[], now), (4.0, true));
        assert!(unknown(&whole, &[("metric", "lag")]).to_string().contains("what the adapter has stored"));
    }

    fn lag(stored: StoredLag, is_quiet: bool, more: &[(&str, &str)], now: Now) -> Result<(f64, bool), Unknown> {
        let mut view = view(now, is_quiet, 0);
        view.lags.insert("default".to_owned(), Ok(stored));
        let heard = Some(now.instant);
        let load = view.load(&trigger(&[&[("metric", "lag")], more].concat()), now, FRESH, heard)?;
        Ok((load.value, load.is_active))
    }

    #[test]
    fn lag_is_the_age_of_the_oldest_record_that_is_owed_and_keeps_an_idle_table_active() {
        let now = now();
        let ago = |seconds| Some(now.wall - Duration::from_secs(seconds));
        let owed = StoredLag { oldest_owed: ago(90), read_until: ago(5) };
        assert_eq!(lag(owed.clone(), true, &[], now), Ok((90.0, true)));
        assert_eq!(lag(owed, true, &[("activationLagSeconds", "90")], now), Ok((90.0, false)));
        let settled = StoredLag { oldest_owed: None, read_until: ago(5) };
        assert_eq!(lag(settled.clone(), true, &[], now), Ok((0.0, false)));
        assert_eq!(lag(settled, false, &[], now), Ok((0.0, true)));
    }

    #[test]
    fn an_adapter_that_stores_nothing_counts_as_behind_while_something_may_be_written() {
        let now = now();
        let ago = |seconds| Some(now.wall - Duration::from_secs(seconds));
        let silent = StoredLag { oldest_owed: None, read_until: ago(7200) };
        assert_eq!(lag(silent.clone(), true, &[], now), Ok((0.0, false)), "it was scaled to zero");
        assert_eq!(lag(silent, false, &[], now), Ok((7200.0, true)));
        assert_eq!(lag(StoredLag::default(), true, &[], now), Ok((0.0, false)));
        assert!(lag(StoredLag::default(), false, &[("scaleToZero", "false")], now).is_err(), "nobody knows");
    }

    #[test]
    fn a_table_on_which_nothing_happens_is_not_behind_although_its_adapter_stores_seldom() {
        let wall = now().wall;
        let age = |minutes: u64, is_quiet| {
            let read_until = Some(wall - Duration::from_mins(minutes));
            StoredLag { oldest_owed: None, read_until }.age(None, is_quiet, wall)
        };
        // Nobody looks for activity, or the scaler has just begun to.
        for is_quiet in [None, Some(false)] {
            assert_eq!(age(62, is_quiet), Some(Duration::ZERO), "an idle shard is stored once an hour");
            assert_eq!(age(80, is_quiet), Some(Duration::from_mins(80)), "no adapter runs");
        }
    }

    #[test]
    fn a_record_that_woke_the_table_is_owed_until_the_adapter_has_read_it() {
        let wall = now().wall;
        let ago = |seconds| Some(wall - Duration::from_secs(seconds));
        let age = |read_until| StoredLag { oldest_owed: None, read_until }.age(ago(30), Some(false), wall);
        assert_eq!(age(None), Some(Duration::from_secs(30)), "it has never run");
        assert_eq!(age(ago(100)), Some(Duration::from_secs(30)));
        assert_eq!(age(ago(10)), Some(Duration::ZERO));
    }
}
