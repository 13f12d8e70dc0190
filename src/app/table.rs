//! One table's parts, put together in one place: for the process, its tests and the simulation alike.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::aws::NoRegion;
use crate::backoff::pause_after;
use crate::checkpoint::{CheckpointStore, StoredTable};
use crate::config::{self, StartPosition, TableRef};
use crate::pipeline::Books;
use crate::pipeline::keeper::Keeper;
use crate::progress::ledger::Ledger;
use crate::readiness::{Health, TableHealth};
use crate::streams::RateLimiter;
use crate::streams::budget::Budget;
use crate::streams::client::StreamsClient;
use crate::streams::client::observed::ObservedClient;
use crate::streams::follow::Follower;
use crate::streams::pace::Pace;
use crate::streams::reading::Reading;
use crate::streams::stream_locator::{StreamLocator, TableTarget};
use crate::streams::stream_reader::Beginning;
use crate::streams::update::Update;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::{TableTelemetry, events};

/// Updates of one table that wait to be entered in its books; the records in them are bounded by the buffer.
const UPDATES_WAITING: usize = 16;

/// Makes a client of the AWS region that a table is in.
pub type Connect = dyn Fn(&TableRef) -> Result<Arc<dyn StreamsClient>, NoRegion> + Send + Sync;

/// What all tables share.
pub struct Shared {
    pub describe_rate: Arc<RateLimiter>,
    pub store: Arc<dyn CheckpointStore>,
    /// Each table's share of the buffer.
    pub budget: usize,
}

/// One table, ready to run.
pub struct Table {
    pub books: Arc<Books>,
    pub follower: Follower,
    pub updates: mpsc::Receiver<Update>,
    pub keeper: Keeper,
}

/// What a table is made of besides its configuration.
pub struct Parts {
    pub client: Arc<dyn StreamsClient>,
    pub target: TableTarget,
    /// The table's name in the store, and what an earlier run has left there.
    pub key: String,
    pub stored: StoredTable,
    pub telemetry: Arc<TableTelemetry>,
    pub health: Arc<TableHealth>,
}

/// Why a table cannot be read as configured.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// No region.
    #[error("TABLE: {0}")]
    Connect(#[from] NoRegion),
}

/// The pauses between tries to read what is stored.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Waits for stored positions that cannot be read now; logs the first failure and its end.
pub(super) struct PositionsWait<'t> {
    /// None: they are the whole process's.
    table: Option<&'t str>,
    failures: u32,
}

impl<'t> PositionsWait<'t> {
    pub(super) fn new(table: Option<&'t str>) -> Self {
        Self { table, failures: 0 }
    }

    /// A try has failed: waits until the next one.
    pub(super) async fn failed(&mut self, why: &str) {
        if self.failures == 0 {
            events::PositionsAwaited { table: self.table, why }.emit();
        }
        self.failures += 1;
        sleep(pause_after(self.failures, PAUSE_MIN, PAUSE_MAX, fastrand::f64())).await;
    }

    /// A try has worked.
    pub(super) fn is_over(&self) {
        if self.failures > 0 {
            events::PositionsThere { table: self.table }.emit();
        }
    }
}

impl Table {
    pub(super) async fn prepare(
        table: &TableRef,
        source: &config::Source,
        connect: &Connect,
        shared: &Shared,
        metrics: &Metrics,
        health: &Health,
    ) -> Result<Self, PrepareError> {
        let (name, key) = (table.table_name().to_owned(), table.store_key().to_owned());
        let (telemetry, health) = (TableTelemetry::new(&name, metrics), health.table(&name));
        let client = connect(table)?;
        let stored = load(&*shared.store, &key, &telemetry, &health).await;
        Ok(Self::assemble(
            Parts { client, target: TableTarget::of(table), key, stored, telemetry, health },
            source,
            shared,
        ))
    }

    /// Puts one table's parts together.
    pub fn assemble(parts: Parts, source: &config::Source, shared: &Shared) -> Self {
        let Parts { client, target, key, stored, telemetry, health } = parts;
        let budget = Budget::new(shared.budget);
        let (sender, updates) = mpsc::channel(UPDATES_WAITING);
        let reading = Arc::new(Reading {
            client: ObservedClient::new(client, telemetry.clone(), health.clone()),
            pace: pace(source.poll_intervals),
            budget: budget.clone(),
            describe_rate: shared.describe_rate.clone(),
            on_data_loss: source.on_data_loss,
            updates: sender,
            telemetry: telemetry.clone(),
            health: health.clone(),
            activity: Arc::default(),
            numbers: AtomicU32::new(0),
        });
        let books = Books::new(Ledger::with_stored(&stored), budget, telemetry, health);
        let keeper = Keeper { books: books.clone(), store: shared.store.clone(), table: key, activity: Arc::default() };
        let locator = Arc::new(StreamLocator {
            client: reading.client.clone(),
            rate_limiter: reading.describe_rate.clone(),
            target,
        });
        let follower = Follower { reading, locator, stored, beginning: beginning(source.start) };
        Self { books, follower, updates, keeper }
    }
}

/// What an earlier run has left, however long it takes.
async fn load(store: &dyn CheckpointStore, key: &str, telemetry: &TableTelemetry, health: &TableHealth) -> StoredTable {
    let mut wait = PositionsWait::new(Some(telemetry.table()));
    loop {
        match store.load(key).await {
            Ok(stored) => {
                health.record_store_error(None);
                wait.is_over();
                return stored.unwrap_or_default();
            }
            Err(error) => {
                let why = error.to_string();
                health.record_store_error(Some(&why));
                wait.failed(&why).await;
            }
        }
    }
}

fn pace(intervals: config::PollIntervals) -> Pace {
    Pace { poll_interval: intervals.poll_interval, idle_max: intervals.idle_poll_interval_max }
}

fn beginning(start: StartPosition) -> Beginning {
    match start {
        StartPosition::Latest => Beginning::Latest,
        StartPosition::TrimHorizon => Beginning::Since(SystemTime::UNIX_EPOCH),
        StartPosition::At(moment) => Beginning::Since(moment),
    }
}
