//! One table's parts, put together in one place: for the process, its tests and the simulation alike.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tokio::sync::mpsc;

use crate::aws::NoRegion;
use crate::checkpoint::CheckpointStore;
use crate::config::{self, DeliveryOrder, StartPosition, TableRef};
use crate::pipeline::PipelineActivity;
use crate::progress::TableProgress;
use crate::progress::buffer::BufferPool;
use crate::progress::checkpointer::Checkpointer;
use crate::readiness::{Health, TableHealth};
use crate::records::InitialPosition;
use crate::streams::client::StreamsClient;
use crate::streams::client::observed::ObservedClient;
use crate::streams::stream_locator::{StreamLocator, TableTarget};
use crate::streams::table_reader::TableReader;
use crate::streams::{AccountPace, ReaderContext, ShardPage};
use crate::telemetry::TableTelemetry;
use crate::telemetry::metrics::Metrics;

/// Pages of one table that wait to be entered; the records in them are bounded by the buffer.
const PAGES_WAITING: usize = 16;

/// Makes a client of the AWS region that a table is in.
pub type Connect = dyn Fn(&TableRef) -> Result<Arc<dyn StreamsClient>, NoRegion> + Send + Sync;

/// What all tables share.
pub struct Shared {
    pub pace: Arc<AccountPace>,
    pub store: Arc<dyn CheckpointStore>,
    /// What the tables are called in the store: no two may share a name.
    pub keys: Arc<Mutex<BTreeSet<String>>>,
    pub buffer: Arc<BufferPool>,
    pub order: DeliveryOrder,
}

impl Shared {
    /// What tables share that have nothing yet.
    pub fn new(store: Arc<dyn CheckpointStore>, buffer: Arc<BufferPool>, order: DeliveryOrder) -> Self {
        Self { pace: AccountPace::of_process(), store, keys: Arc::default(), buffer, order }
    }
}

/// One table, ready to run.
pub struct Table {
    pub progress: Arc<TableProgress>,
    pub reader: TableReader,
    pub pages: mpsc::Receiver<ShardPage>,
    pub pipeline: Arc<PipelineActivity>,
    pub checkpointer: Checkpointer,
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
        let (sender, pages) = mpsc::channel(PAGES_WAITING);
        let client = ObservedClient::new(client, telemetry.clone(), health.clone());
        let progress = TableProgress::new(shared.order == DeliveryOrder::Shard, buffer.clone(), telemetry, health);
        let context = Arc::new(ReaderContext {
            client: client.clone(),
            poll_intervals: source.poll_intervals,
            progress: progress.clone(),
            buffer,
            pace: shared.pace.clone(),
            on_data_loss: source.on_data_loss,
            pages: sender,
            activity: Arc::default(),
        });
        let locator = Arc::new(StreamLocator { client, pace: shared.pace.clone(), target });
        let (store, keys) = (shared.store.clone(), shared.keys.clone());
        let reader = TableReader { context, locator, store, keys, initial: initial(source.start) };
        let (store, activity) = (shared.store.clone(), Arc::default());
        let checkpointer = Checkpointer { progress: progress.clone(), store, activity };
        Self { progress, reader, pages, pipeline: Arc::default(), checkpointer }
    }
}

fn initial(start: StartPosition) -> InitialPosition {
    match start {
        StartPosition::Latest => InitialPosition::Latest,
        StartPosition::TrimHorizon => InitialPosition::Since(SystemTime::UNIX_EPOCH),
        StartPosition::At(moment) => InitialPosition::Since(moment),
    }
}
