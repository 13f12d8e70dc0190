//! One table's parts, put together in one place: for the process, its tests and the simulation alike.
//!
//! Contract: what people and watchers look at of a table lives as long as the process. What reads, enters and stores is made anew for each
//! tenure ([`Table::open`]).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::aws::NoRegion;
use crate::checkpoint::{CheckpointStore, LeasedStore};
use crate::clock;
use crate::config::{self, DeliveryOrder, StartPosition, TableRef};
use crate::pipeline::PipelineActivity;
use crate::progress::buffer::{Buffer, BufferPool};
use crate::progress::checkpointer::{Checkpointer, CheckpointerActivity};
use crate::progress::{Acknowledger as _, TableProgress};
use crate::readiness::{Health, TableHealth};
use crate::records::InitialPosition;
use crate::streams::client::StreamsClient;
use crate::streams::client::observed::ObservedClient;
use crate::streams::stream_locator::{StreamLocator, TableTarget};
use crate::streams::table_reader::{self, TableReader};
use crate::streams::{AccountPace, Activity, OnDataLoss, PollIntervals, ReaderContext, ShardPage};
use crate::telemetry::TableTelemetry;
use crate::telemetry::metrics::Metrics;

/// Pages of one table that wait to be entered; the records in them are bounded by the buffer.
const PAGES_WAITING: usize = 16;

/// Makes a client of the AWS region that a table is in.
pub type Connect = dyn Fn(&TableRef) -> Result<Arc<dyn StreamsClient>, NoRegion> + Send + Sync;

/// Where the positions of all tables are.
#[derive(Clone)]
pub enum PositionStore {
    /// Nobody else writes there.
    Own(Arc<dyn CheckpointStore>),
    /// Processes share it: each table has one owner at a time.
    Leased {
        store: Arc<dyn LeasedStore>,
        /// What this process is called in leases, which no other one is.
        owner: String,
        /// For how long a lease is claimed or renewed.
        duration: Duration,
    },
}

/// What all tables share.
pub struct Shared {
    pub pace: Arc<AccountPace>,
    pub store: PositionStore,
    /// What the tables are called in the store: no two may share a name.
    pub keys: Arc<Mutex<BTreeSet<String>>>,
    pub buffer: Arc<BufferPool>,
    pub order: DeliveryOrder,
}

impl Shared {
    /// What tables share that have nothing yet.
    pub fn new(store: PositionStore, buffer: Arc<BufferPool>, order: DeliveryOrder) -> Self {
        Self { pace: AccountPace::of_process(), store, keys: Arc::default(), buffer, order }
    }
}

/// One table, ready to run.
pub struct Table {
    pub progress: Arc<TableProgress>,
    pub store: PositionStore,
    pub reading: Arc<Activity>,
    pub pipeline: Arc<PipelineActivity>,
    pub checkpointer: Arc<CheckpointerActivity>,
    pub pages: Arc<PagesWaiting>,
    pub on_data_loss: OnDataLoss,
    client: Arc<ObservedClient>,
    locator: Arc<StreamLocator>,
    pace: Arc<AccountPace>,
    buffer: Arc<Buffer>,
    poll_intervals: PollIntervals,
    keys: Arc<Mutex<BTreeSet<String>>>,
    start: StartPosition,
    /// When this process began with it: its wall clock is not AWS's.
    begun: Instant,
    /// The same by the wall clock, where positions outlive the process.
    keeps_positions_since: Option<SystemTime>,
}

/// What reads, enters and stores a table during one tenure.
pub struct OpenTable {
    pub reader: TableReader,
    /// Ends when nobody reads the table any more.
    pub pages: mpsc::Receiver<ShardPage>,
    pub checkpointer: Checkpointer,
}

/// Where the pages of the present tenure wait to be entered, for those who watch that they are.
#[derive(Debug, Default)]
pub struct PagesWaiting(Mutex<Option<mpsc::WeakSender<ShardPage>>>);

impl PagesWaiting {
    /// Where they are handed in; none while nobody reads.
    pub fn sender(&self) -> Option<mpsc::Sender<ShardPage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(mpsc::WeakSender::upgrade)
    }

    fn set_sender(&self, pages: &mpsc::Sender<ShardPage>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(pages.downgrade());
    }
}

/// What a table is made of besides its configuration.
pub struct Parts {
    pub client: Arc<dyn StreamsClient>,
    pub target: TableTarget,
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

impl Table {
    pub(super) fn prepare(
        table: &TableRef,
        source: &config::Source,
        connect: &Connect,
        shared: &Shared,
        metrics: &Metrics,
        health: &Health,
    ) -> Result<Self, PrepareError> {
        let label = source.label(table);
        let (telemetry, health) = (TableTelemetry::new(&label, metrics), health.table(&label));
        let client = connect(table)?;
        Ok(Self::assemble(Parts { client, target: TableTarget::of(table), telemetry, health }, source, shared))
    }

    /// Puts one table's parts together.
    pub fn assemble(parts: Parts, source: &config::Source, shared: &Shared) -> Self {
        let Parts { client, target, telemetry, health } = parts;
        let buffer = shared.buffer.part();
        let client = ObservedClient::new(client, telemetry.clone(), health.clone());
        let progress = TableProgress::new(shared.order == DeliveryOrder::Shard, buffer.clone(), telemetry, health);
        let locator = StreamLocator { client: client.clone(), pace: shared.pace.clone(), target };
        Self {
            progress,
            store: shared.store.clone(),
            reading: Arc::default(),
            pipeline: Arc::default(),
            checkpointer: Arc::default(),
            pages: Arc::default(),
            on_data_loss: source.on_data_loss,
            client,
            locator: Arc::new(locator),
            pace: shared.pace.clone(),
            buffer,
            poll_intervals: source.poll_intervals,
            keys: shared.keys.clone(),
            start: source.start,
            begun: Instant::now(),
            keeps_positions_since: (source.checkpoint != config::CheckpointLocation::Memory).then(clock::now),
        }
    }

    /// The table's name in the store, however long it takes to find it; none if another table of this process has it.
    pub async fn find_key(&self) -> Option<String> {
        self.show_stored();
        let key = table_reader::find_key(&self.client, &self.locator, &self.reading).await;
        let is_new = self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        if !is_new {
            self.progress.health().mark_stopped(&format!("TABLE names {key} twice: remove one of the two names"));
        }
        is_new.then_some(key)
    }

    /// Until AWS has said which table is meant, what is stored of the only one of that name says how far behind it is. Where processes
    /// share the store nobody can tell: an owner may be at work.
    fn show_stored(&self) {
        let PositionStore::Own(store) = &self.store else { return };
        let named = self.locator.target.bare_name();
        if let Some(stored) = named.and_then(|name| store.load_by_name(name, self.client.region())) {
            self.progress.restore(stored);
        }
    }

    /// What reads, enters and stores the table until a tenure ends, or for as long as the process lives. What is stored was taken over.
    /// `has_waited`: for another process, which may have begun later than this one.
    pub fn open(&self, key: &str, store: Arc<dyn CheckpointStore>, has_waited: bool) -> OpenTable {
        let (sender, pages) = mpsc::channel(PAGES_WAITING);
        self.pages.set_sender(&sender);
        let context = Arc::new(ReaderContext {
            client: self.client.clone(),
            poll_intervals: self.poll_intervals,
            progress: self.progress.clone(),
            buffer: self.buffer.clone(),
            pace: self.pace.clone(),
            on_data_loss: self.on_data_loss,
            pages: sender,
            activity: self.reading.clone(),
        });
        let (progress, activity) = (self.progress.clone(), self.checkpointer.clone());
        OpenTable {
            reader: TableReader {
                context,
                locator: self.locator.clone(),
                initial: self.initial(has_waited),
                begun: self.keeps_positions_since,
            },
            pages,
            checkpointer: Checkpointer { progress, store, key: key.to_owned(), activity },
        }
    }

    /// Where a first start begins. Who was kept waiting has to deliver what was written meanwhile, if the one before has stored no start.
    fn initial(&self, has_waited: bool) -> InitialPosition {
        match self.start {
            StartPosition::Latest if has_waited => InitialPosition::WrittenSince(self.begun),
            StartPosition::Latest => InitialPosition::Latest,
            StartPosition::TrimHorizon => InitialPosition::Since(SystemTime::UNIX_EPOCH),
            StartPosition::At(moment) => InitialPosition::Since(moment),
        }
    }
}
