//! What KEDA is answered, whatever carries it: triggers become specifications and loads.
//!
//! Contract: a specification is made of the metadata alone. A load comes from memory; of a table that nobody has asked for before it is
//! waited for, for [`DEADLINE`] at most. Whatever a trigger asks for passes the rules first.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::activity::Activity;
use super::reported_texts::ReportedTexts;
use super::table_view::{Load, Now, TableView, Unknown};
use super::table_watch::{CallerId, TableKey, TableWatch, TooManyGroups};
use super::tables::{NotWatched, Tables};
use super::trigger::{InvalidTrigger, Trigger};
use crate::clock;
use crate::config::{NotAllowed, ScalingRequest, ScalingRules};
use crate::telemetry::events;

/// How long an answer is waited for: KEDA sets no limit of its own, and asks every few seconds.
pub(super) const DEADLINE: Duration = Duration::from_secs(3);

/// A listing that is older than so many of the intervals in which it should be renewed says nothing any more, nor before this time: many
/// tables are listed no faster than an account allows.
const STALE_INTERVALS: u32 = 10;
const STALE_AFTER: Duration = Duration::from_mins(5);

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the trigger's metadata: {0}")]
    Invalid(#[from] InvalidTrigger),
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    #[error("this trigger has no metric {0:?}")]
    OtherMetric(String),
    #[error(transparent)]
    NotWatched(#[from] NotWatched),
    #[error(transparent)]
    TooManyGroups(#[from] TooManyGroups),
    #[error(transparent)]
    Unknown(#[from] Unknown),
}

/// Who asks, and for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct TriggerOf<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) metadata: &'a BTreeMap<String, String>,
}

/// A trigger that may be answered.
#[derive(Debug, Clone)]
pub(super) struct Permitted {
    trigger: Trigger,
    key: TableKey,
    caller: CallerId,
}

/// Answers triggers.
pub(super) struct Answers {
    rules: ScalingRules,
    tables: Arc<Tables>,
    oldest_listing: Duration,
    reported: Mutex<ReportedTexts>,
    /// Makes numbers of those who ask that nobody can foresee.
    hashing: RandomState,
}

/// A trigger with its table, watched for as long as this is asked now and then.
pub(super) struct Followed {
    watch: Arc<TableWatch>,
    trigger: Trigger,
    caller: CallerId,
    oldest_listing: Duration,
}

impl Answers {
    pub(super) fn new(rules: ScalingRules, tables: Arc<Tables>, refresh_interval: Duration) -> Self {
        let oldest_listing = STALE_AFTER.max(refresh_interval * STALE_INTERVALS);
        Self {
            rules,
            tables,
            oldest_listing,
            reported: Mutex::new(ReportedTexts::new(Instant::now())),
            hashing: RandomState::new(),
        }
    }

    /// The trigger's metric, and what KEDA is to divide its value by.
    ///
    /// # Errors
    /// What is wrong with the trigger, and nothing else: AWS is not asked.
    pub(super) fn specification(&self, asked: TriggerOf<'_>) -> Result<(String, f64), Refusal> {
        let Permitted { trigger, .. } = self.permit(asked)?;
        Ok((trigger.metric_name(), trigger.target))
    }

    /// The trigger, if it has this metric and may be answered, by whichever replica.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn permit_metric(&self, asked: TriggerOf<'_>, metric: &str) -> Result<Permitted, Refusal> {
        let permitted = self.permit(asked)?;
        match permitted.trigger.metric_name() == metric {
            true => Ok(permitted),
            false => Err(Refusal::OtherMetric(metric.chars().take(300).collect())),
        }
    }

    /// The value of a trigger's metric.
    ///
    /// # Errors
    /// When it is not known within `patience`.
    pub(super) async fn value(&self, permitted: &Permitted, patience: Duration) -> Result<f64, Refusal> {
        Ok(self.follow(permitted)?.load_within(patience).await?.0.value)
    }

    /// Whether a trigger's target is active. KEDA asks for the value before: with this it has heard all.
    ///
    /// # Errors
    /// When it is not known within `patience`.
    pub(super) async fn is_active(&self, permitted: &Permitted, patience: Duration) -> Result<bool, Refusal> {
        let followed = self.follow(permitted)?;
        let (load, sign) = followed.load_within(patience).await?;
        if let Some(sign) = sign {
            followed.watch.note_heard(followed.caller, sign);
        }
        Ok(load.is_active)
    }

    /// The trigger, to be asked again and again.
    ///
    /// # Errors
    /// When its table is not watched, or not for its consumer group.
    pub(super) fn follow(&self, permitted: &Permitted) -> Result<Followed, Refusal> {
        let Permitted { trigger, key, caller } = permitted;
        let watch = self.tables.watch(key)?;
        watch.wanted_by(trigger)?;
        Ok(Followed { watch, trigger: trigger.clone(), caller: *caller, oldest_listing: self.oldest_listing })
    }

    /// The trigger, if it may be answered, by whichever replica.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn permit(&self, asked: TriggerOf<'_>) -> Result<Permitted, Refusal> {
        let permitted = self.judge(asked);
        match &permitted {
            Ok((_, ignored)) => self.report_once(asked, ignored, |text| {
                events::ScalerTriggerIgnores { namespace: asked.namespace, name: asked.name, what: text }.emit();
            }),
            Err(refusal) => self.report_once(asked, &refusal.to_string(), |text| {
                events::ScalerTriggerRefused { namespace: asked.namespace, name: asked.name, why: text }.emit();
            }),
        }
        permitted.map(|(permitted, _)| permitted)
    }

    fn judge(&self, asked: TriggerOf<'_>) -> Result<(Permitted, String), Refusal> {
        let (trigger, ignored) = Trigger::parse(asked.metadata)?;
        let permission = self.rules.permission(ScalingRequest {
            namespace: asked.namespace,
            table: trigger.table.as_str(),
            region: trigger.region.as_deref(),
            endpoint: trigger.endpoint.as_deref(),
        })?;
        let key = TableKey {
            region: permission.region,
            endpoint: trigger.endpoint.clone(),
            identity: permission.identity,
            table: trigger.table.as_str().to_owned(),
        };
        let caller = self.hashing.hash_one((asked.namespace, asked.name));
        Ok((Permitted { trigger, key, caller }, ignored.to_string()))
    }

    /// Says something of a trigger once.
    fn report_once(&self, asked: TriggerOf<'_>, text: &str, emit: impl FnOnce(&str)) {
        if text.is_empty() {
            return;
        }
        let is_news = {
            let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            reported.report_due(asked.namespace, asked.name, text, Instant::now())
        };
        if is_news {
            emit(text);
        }
    }
}

impl Followed {
    /// What is known now; whoever asks wants it to be known, and has heard all before.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn load(&self) -> Result<Load, Unknown> {
        // The group has its place as long as this is asked.
        let _ = self.watch.wanted_by(&self.trigger);
        self.load_of(&self.watch.view().borrow(), Some(Instant::now()))
    }

    /// Whether nothing will change any more, so that it has to be followed anew.
    pub(super) fn has_ended(&self) -> bool {
        self.watch.has_ended()
    }

    /// Waits until something may have changed.
    pub(super) async fn changed(&self, view: &mut tokio::sync::watch::Receiver<TableView>) {
        // Whoever shows it is kept by this.
        let _ = view.changed().await;
    }

    pub(super) fn view(&self) -> tokio::sync::watch::Receiver<TableView> {
        self.watch.view()
    }

    fn load_of(&self, view: &TableView, heard: Option<Instant>) -> Result<Load, Unknown> {
        let now = Now { instant: Instant::now(), wall: clock::now() };
        view.load(&self.trigger, now, self.oldest_listing, heard)
    }

    /// With it comes of when the last sign of activity is that it takes into account.
    async fn load_within(&self, patience: Duration) -> Result<(Load, Option<Instant>), Unknown> {
        let (mut view, deadline) = (self.watch.view(), Instant::now() + patience);
        loop {
            let heard = self.watch.heard_by(self.caller);
            let load = {
                let view = view.borrow_and_update();
                let sign = view.activity.as_ref().map(Activity::last_sign);
                self.load_of(&view, heard).map(|load| (load, sign))
            };
            let is_awaited = matches!(load, Err(Unknown::NotYet(_)));
            if !is_awaited || timeout_at(deadline, self.changed(&mut view)).await.is_err() {
                return load;
            }
        }
    }
}
