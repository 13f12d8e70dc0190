//! Watches one table, whoever asks for it and however often: lists its shards, reads them as far as needed, looks at what adapters have
//! stored, and shows all that as one [`TableView`].
//!
//! Contract: it asks AWS at its own pace, however often it is asked; nobody waits for AWS. It ends when nobody has asked for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use super::activity::{Activity, ActivityPace, Round};
use super::shard_cursors::{EndedRound, RoundPlan, ShardCursors};
use super::table_view::{Listing, StoredLag, TableView, Trouble};
use super::trigger::{Metric, Trigger};
use crate::aws::errors::{CallError, ErrorKind};
use crate::backoff::pause_after;
use crate::checkpoint::StoredTable;
use crate::config::{ScalerPace, ScalingIdentity};
use crate::streams::RateLimiter;
use crate::streams::client::{ShardQuery, StreamStatus, StreamsClient};
use crate::telemetry::events;

/// A table for which nobody has asked so long is not watched any more, nor is what nobody has asked of it.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_mins(15);

/// The least time between two listings: one may be wanted sooner because a shard has ended.
const LISTING_SPACING: Duration = Duration::from_secs(2);

/// The pause after a first listing that failed.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);

/// Empty pages in a row that are read of a shard of an active table in one round: one proves nothing, more prove a little more. The shards
/// of an inactive table are read again soon.
const EMPTY_PAGES: usize = 3;

/// How often stored positions are looked at.
const LAG_INTERVAL: Duration = Duration::from_secs(10);

/// How often it is looked whether somebody wants what nobody has wanted.
const WANTS_INTERVAL: Duration = Duration::from_secs(1);

/// Of so many consumer groups the positions of one table are looked at, and so many at the same time: triggers name them as they like, and
/// each look is paid for.
const MOST_GROUPS: usize = 20;
const GROUPS_AT_ONCE: usize = 4;

/// Of so many who ask it is remembered what they have heard of one table.
const MOST_CALLERS: usize = 10_000;

/// A page of a listing has 100 shards; a listing with more pages than this repeats itself.
const MOST_PAGES: usize = 10_000;

/// Which table, and with whose permissions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TableKey {
    pub(super) region: String,
    pub(super) endpoint: Option<String>,
    pub(super) identity: ScalingIdentity,
    /// Its name or its ARN.
    pub(super) table: String,
}

/// What stands behind all tables.
pub(super) trait Sources: Send + Sync {
    /// DynamoDB and its streams for this table.
    fn client<'a>(&'a self, key: &'a TableKey) -> BoxFuture<'a, Result<Arc<dyn StreamsClient>, String>>;

    /// What adapters of a consumer group have stored of a table; none: nothing.
    fn stored<'a>(&'a self, group: &'a str, table_arn: &'a str) -> BoxFuture<'a, Result<Option<StoredTable>, String>>;
}

/// What all tables share.
pub(super) struct Shared {
    pub(super) sources: Arc<dyn Sources>,
    pub(super) pace: ScalerPace,
}

/// What the tables of one account in one region share, as far as can be told: where AWS does not answer, others are not held up.
pub(super) struct AccountShare {
    /// The pace of `DescribeStream`.
    pub(super) listings: RateLimiter,
    /// Reads of shards at the same time.
    pub(super) reads: Semaphore,
}

/// A table's positions are looked at for as many consumer groups as they may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "lag of {MOST_GROUPS} consumer groups is asked for already: those for which nobody asks are forgotten after 15 minutes"
)]
pub(super) struct TooManyGroups;

/// Who asks, as a number.
pub(super) type CallerId = u64;

/// A table that is watched, for those who ask.
pub(super) struct TableWatch {
    pub(super) key: TableKey,
    view: watch::Sender<TableView>,
    wants: Mutex<Wants>,
    listing_wanted: Notify,
}

/// Until when somebody wants what.
#[derive(Debug)]
struct Wants {
    anything: Instant,
    reading: Option<Instant>,
    counting: Option<Instant>,
    lags: BTreeMap<String, Instant>,
    /// The last sign of activity of which this one has heard.
    heard: BTreeMap<CallerId, Instant>,
    /// Nobody watches any more, so nobody can be promised anything.
    has_ended: bool,
}

/// However a watch ends, those who hold it see that it has.
struct Ending<'w>(&'w TableWatch);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.wants().has_ended = true;
        // Those who follow it look at once.
        self.0.view.send_modify(|_| {});
    }
}

impl TableWatch {
    pub(super) fn new(key: TableKey) -> Arc<Self> {
        let wants = Wants {
            anything: Instant::now() + FORGOTTEN_AFTER,
            reading: None,
            counting: None,
            lags: BTreeMap::new(),
            heard: BTreeMap::new(),
            has_ended: false,
        };
        let (view, wants, listing_wanted) =
            (watch::Sender::new(TableView::default()), Mutex::new(wants), Notify::new());
        Arc::new(Self { key, view, wants, listing_wanted })
    }

    /// Somebody asks for what this trigger needs.
    ///
    /// # Errors
    /// When it is of one consumer group too many.
    pub(super) fn wanted_by(&self, trigger: &Trigger) -> Result<(), TooManyGroups> {
        let now = Instant::now();
        let until = now + FORGOTTEN_AFTER;
        let mut wants = self.wants();
        if trigger.metric == Metric::Lag && !wants.lags.contains_key(&trigger.consumer_group) {
            wants.lags.retain(|_, until| *until > now);
            if wants.lags.len() >= MOST_GROUPS {
                return Err(TooManyGroups);
            }
        }
        wants.anything = until;
        if trigger.needs_reading() {
            wants.reading = Some(until);
        }
        if trigger.metric == Metric::RecordsPerSecond {
            wants.counting = Some(until);
        }
        if trigger.metric == Metric::Lag {
            wants.lags.insert(trigger.consumer_group.clone(), until);
        }
        Ok(())
    }

    /// Of which sign of activity this one has heard.
    pub(super) fn heard_by(&self, caller: CallerId) -> Option<Instant> {
        self.wants().heard.get(&caller).copied()
    }

    /// It has heard of that of this moment, and of all before.
    pub(super) fn note_heard(&self, caller: CallerId, sign: Instant) {
        let mut wants = self.wants();
        if wants.heard.len() >= MOST_CALLERS && !wants.heard.contains_key(&caller) {
            wants.heard.clear();
        }
        wants.heard.insert(caller, sign);
    }

    /// What is known, now and whenever it changes.
    pub(super) fn view(&self) -> watch::Receiver<TableView> {
        self.view.subscribe()
    }

    /// Whether nobody watches any more, or nobody has asked for a long time.
    pub(super) fn is_forgotten(&self) -> bool {
        let wants = self.wants();
        wants.has_ended || wants.anything <= Instant::now()
    }

    /// Whether what is shown does not change any more.
    pub(super) fn has_ended(&self) -> bool {
        self.wants().has_ended
    }

    fn is_reading_wanted(&self) -> bool {
        self.wants().reading.is_some_and(|until| until > Instant::now())
    }

    fn is_counting_wanted(&self) -> bool {
        self.wants().counting.is_some_and(|until| until > Instant::now())
    }

    fn wanted_groups(&self) -> BTreeSet<String> {
        let now = Instant::now();
        let mut wants = self.wants();
        wants.lags.retain(|_, until| *until > now);
        wants.lags.keys().cloned().collect()
    }

    fn wants(&self) -> MutexGuard<'_, Wants> {
        self.wants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches until it is forgotten.
    pub(super) async fn run(&self, shared: &Shared, share: &AccountShare) {
        let _ending = Ending(self);
        select! {
            () = self.until_forgotten() => {}
            () = self.keep_listing(shared, &share.listings) => {}
            () = self.keep_reading(shared, &share.reads) => {}
            () = self.keep_lags(shared) => {}
        }
    }

    async fn until_forgotten(&self) {
        while !self.is_forgotten() {
            sleep(WANTS_INTERVAL).await;
        }
    }

    async fn keep_listing(&self, shared: &Shared, limiter: &RateLimiter) {
        let mut failures = 0;
        loop {
            match self.list(shared, limiter).await {
                Ok(listing) => {
                    failures = 0;
                    self.show_listing(listing);
                }
                Err(trouble) => {
                    failures += 1;
                    self.show_trouble(trouble);
                }
            }
            let interval = shared.pace.refresh_interval;
            match failures {
                // Tables that were asked for together are not listed together for ever.
                0 => self.wait_for_listing(interval.mul_f64(0.9 + 0.2 * fastrand::f64())).await,
                _ => sleep(pause_after(failures, FAILURE_PAUSE.min(interval), interval, fastrand::f64())).await,
            }
        }
    }

    /// Waits so long, or until a shard has ended.
    async fn wait_for_listing(&self, interval: Duration) {
        let spacing = LISTING_SPACING.min(interval);
        sleep(spacing).await;
        let _ = timeout(interval - spacing, self.listing_wanted.notified()).await;
    }

    async fn list(&self, shared: &Shared, limiter: &RateLimiter) -> Result<Listing, Trouble> {
        let passing = |why: String| Trouble { why, is_lasting: false };
        let client = shared.sources.client(&self.key).await.map_err(passing)?;
        let table = client.describe_table(&self.key.table).await.map_err(|error| trouble(&error))?;
        let Some(stream) = table.latest_stream else {
            let why = format!("the table {} has no stream: enable one", self.key.table);
            return Err(Trouble { why, is_lasting: true });
        };
        let before = self.view.borrow().listing.clone();
        let (mut shards, mut behind): (Vec<_>, Option<String>) = (Vec::new(), None);
        for _ in 0..MOST_PAGES {
            limiter.wait_turn().await;
            let query = behind.as_deref().map_or(ShardQuery::First, ShardQuery::Behind);
            let page = client.describe_stream(&stream, query).await.map_err(|error| trouble(&error))?;
            shards.extend(page.shards);
            match page.next {
                None => {
                    let (awaited, taken_at) = (BTreeMap::new(), Instant::now());
                    let (table_arn, stream, open) = (table.arn, stream.into(), OnceLock::new());
                    let listing = Listing { table_arn, stream, shards, awaited, taken_at, open };
                    let is_enabled = page.status == StreamStatus::Enabled;
                    let listing = listing.behind(before.as_deref(), is_enabled);
                    return match listing.open_shards() {
                        0 if is_enabled => Err(passing(format!("{} does not list an open shard yet", listing.stream))),
                        _ => Ok(listing),
                    };
                }
                same if same == behind => break,
                next => behind = next,
            }
        }
        Err(passing(format!("the listing of {stream} repeats itself")))
    }

    fn show_listing(&self, listing: Listing) {
        self.view.send_modify(|view| {
            if view.trouble.take().is_some() {
                events::ScalerTableRecovered { table: &self.key.table }.emit();
            }
            view.listing = Some(Arc::new(listing));
        });
    }

    fn show_trouble(&self, trouble: Trouble) {
        self.view.send_if_modified(|view| {
            let is_new = view.trouble.as_ref() != Some(&trouble);
            if is_new {
                events::ScalerTableFailing { table: &self.key.table, why: &trouble.why }.emit();
            }
            view.trouble = Some(trouble);
            is_new
        });
    }

    async fn keep_reading(&self, shared: &Shared, reads: &Semaphore) {
        let mut view = self.view();
        loop {
            while !self.is_reading_wanted() {
                sleep(WANTS_INTERVAL).await;
            }
            // Whoever shows the view lives as long as this.
            let Ok(_) = view.wait_for(|view| view.listing.is_some()).await.map(drop) else { return };
            self.read_while_wanted(shared, reads).await;
            self.show_activity(None);
            sleep(WANTS_INTERVAL).await;
        }
    }

    async fn read_while_wanted(&self, shared: &Shared, reads: &Semaphore) {
        let ScalerPace { poll_interval, idle_after, .. } = shared.pace;
        let pace = ActivityPace { poll_interval, idle_after };
        let (mut cursors, mut activity) = (ShardCursors::default(), Activity::since(Instant::now()));
        let Some(client) = self.client(shared).await else {
            // The listing that is shown has used it: it comes again.
            sleep(WANTS_INTERVAL).await;
            return;
        };
        let plan = |counts, pages| RoundPlan { client: &*client, calls: reads, counts, pages };
        self.follow_listing(&mut cursors);
        if let Some(failure) = cursors.open(&plan(false, 1)).await.failure {
            let failed = Round { failure: Some(failure), ..Round::default() };
            activity.round(&failed, Instant::now(), pace);
        }
        self.show_activity(Some(&activity));
        let mut is_unknown = self.report_unknown(&activity, false);
        while self.is_reading_wanted() {
            sleep(activity.pause(pace)).await;
            let lacks_successors = self.follow_listing(&mut cursors);
            let pages = if activity.is_quiet(Instant::now()) == Ok(true) { 1 } else { EMPTY_PAGES };
            let plan = plan(self.is_counting_wanted(), pages);
            let tell = |created| {
                if activity.found(created, Instant::now(), pace) {
                    self.show_activity(Some(&activity));
                }
            };
            let EndedRound { round, is_out_of_date } = cursors.round(&plan, tell).await;
            activity.round(&round, Instant::now(), pace);
            self.show_activity(Some(&activity));
            is_unknown = self.report_unknown(&activity, is_unknown);
            if is_out_of_date || lacks_successors {
                self.listing_wanted.notify_one();
            }
        }
    }

    async fn client(&self, shared: &Shared) -> Option<Arc<dyn StreamsClient>> {
        // The listing has used it.
        shared.sources.client(&self.key).await.ok()
    }

    /// Whether another one is needed.
    fn follow_listing(&self, cursors: &mut ShardCursors) -> bool {
        let listing = self.view.borrow().listing.clone();
        listing.is_some_and(|listing| {
            cursors.follow(&listing, Instant::now());
            cursors.lacks_successors(&listing, Instant::now())
        })
    }

    fn show_activity(&self, activity: Option<&Activity>) {
        let now = Instant::now();
        let is_quiet = |activity: Option<&Activity>| activity.and_then(|activity| activity.is_quiet(now).ok());
        self.view.send_modify(|view| {
            let (before, after) = (is_quiet(view.activity.as_ref()), is_quiet(activity));
            match (before, after) {
                (Some(true), Some(false)) => events::ScalerTableActive { table: &self.key.table }.emit(),
                (Some(false), Some(true)) => events::ScalerTableInactive { table: &self.key.table }.emit(),
                _ => {}
            }
            view.activity = activity.cloned();
        });
    }

    /// Says in the log what has changed; whether it is unknown now.
    fn report_unknown(&self, activity: &Activity, before: bool) -> bool {
        let table = &self.key.table;
        match (before, activity.is_quiet(Instant::now())) {
            (false, Err(why)) => events::ScalerTableFailing { table, why: &why }.emit(),
            (true, Ok(_)) => events::ScalerTableRecovered { table }.emit(),
            (before, _) => return before,
        }
        !before
    }

    async fn keep_lags(&self, shared: &Shared) {
        loop {
            let listing = self.view.borrow().listing.clone();
            if let Some(listing) = listing {
                let table = &listing.table_arn;
                let looks = self.wanted_groups().into_iter().map(|group| async move {
                    let stored = shared.sources.stored(&group, table).await;
                    (group, stored.map(|stored| StoredLag::of(stored.as_ref())))
                });
                let lags: BTreeMap<_, _> = stream::iter(looks).buffer_unordered(GROUPS_AT_ONCE).collect().await;
                self.view.send_if_modified(|view| {
                    let is_new = view.lags != lags;
                    view.lags = lags;
                    is_new
                });
            }
            self.wait_for_lags().await;
        }
    }

    /// Waits for the next look, which comes at once for a group that is wanted for the first time.
    async fn wait_for_lags(&self) {
        let due = Instant::now() + LAG_INTERVAL;
        while Instant::now() < due {
            sleep(WANTS_INTERVAL).await;
            let is_missing = self.wanted_groups().iter().any(|group| !self.view.borrow().lags.contains_key(group));
            if is_missing && self.view.borrow().listing.is_some() {
                return;
            }
        }
    }
}

fn trouble(error: &CallError) -> Trouble {
    let is_lasting = matches!(error.kind, ErrorKind::NotFound | ErrorKind::Denied);
    Trouble { why: error.to_string(), is_lasting }
}
