//! Puts the parts together, runs them, and takes them down in order.
//!
//! [`run`] opens the outside world and its ports; [`assemble`] puts the parts together on whatever [`Services`] it is given, which
//! in a simulation are none of this world.
//!
//! Contract: the ports are open and probes are answered before anything else happens. What may pass, a volume that is not there or a
//! file of positions that another process uses, is waited for. Every task is owned by `Tasks` and awaited; one that ends unasked ends
//! the process. The orderly end begins at the top and goes down: reading stops, requests under way get their answers, positions are
//! stored once more, the port closes. It never takes longer than the configured time, and ends a start that is still under way at
//! once.

pub mod process;
pub mod table;
pub mod table_task;
pub mod tasks;

mod fault;
mod heartbeat;
mod positions_table;
mod stalls;
mod table_lease;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use self::positions_table::TableError;
use self::table::{Connect, PositionStore, PrepareError, Shared, Table};
use self::tasks::{Fault, Ports, Server, Tasks};
use crate::admin::status::{self, Status};
use crate::admin::{Admin, AdminHosts};
use crate::aws::{AwsSettings, Connections, InvalidSettings, NoRegion};
use crate::checkpoint::{FileStore, MemoryStore, OpenError};
use crate::config::{self, Config, EventMode, EventProfile, LegacyMetrics, TableRef};
use crate::delivery::dispatcher::{Dispatcher, MemoryLimits, Settings, Sinks};
use crate::delivery::lanes::RequestLimits;
use crate::delivery::retry::RetryPolicy;
use crate::ports::PortError;
use crate::progress::PositionsWait;
use crate::progress::buffer::BufferPool;
use crate::readiness::Health;
use crate::sink::{CredentialReloader, HttpSink, SinkSettings, SinkSetupError};
use crate::streams::client::StreamsClient;
use crate::streams::client::aws::AwsClient;
use crate::telemetry::events;
use crate::telemetry::metrics::{InvalidMetrics, LegacySettings, Metrics};

/// Why the process ends although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It cannot run as configured.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A fault of this program; it is in the log.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why the process cannot run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken or not allowed.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The file of positions cannot be used.
    #[error("CHECKPOINT_STORE: {0}")]
    Store(#[from] OpenError),
    /// The table of positions cannot be used.
    #[error("CHECKPOINT_STORE: {0}")]
    PositionsTable(#[from] TableError),
    /// The sink can never work.
    #[error("K_SINK: {0}")]
    Sink(#[from] SinkSetupError),
    /// The dead-letter sink can never work.
    #[error("DEAD_LETTER_SINK: {0}")]
    DeadLetterSink(#[source] SinkSetupError),
    /// A table cannot be read as configured.
    #[error(transparent)]
    Table(#[from] PrepareError),
    /// AWS cannot be called as configured.
    #[error(transparent)]
    Aws(#[from] InvalidSettings),
    /// A fault of this program.
    #[error(transparent)]
    Metrics(#[from] InvalidMetrics),
}

/// Runs the adapter until `stop` is cancelled.
///
/// # Errors
/// When it cannot start, and when one of its tasks ends unasked: see [`RunError`].
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let metrics = metrics(&config).map_err(StartError::from)?;
    announce(&config);
    let health = Arc::new(Health::default());
    let dead_letter_sink = config.dead_letter_sink.as_ref().map(|sink| &sink.uri);
    let status = Arc::new(Status::new(health.clone(), &metrics, &config.sink.uri, dead_letter_sink));
    let mut server = serve(&config, &metrics, &health, &status)?;
    let shutdown_timeout = config.process.shutdown_timeout;
    let started = select! {
        () = stop.cancelled() => None,
        fault = server.fault() => {
            tasks::report(&fault);
            return Err(fault.into());
        }
        tasks = start_aside(config, metrics, health, stop.clone()) => tasks?,
    };
    let Some(mut tasks) = started else {
        events::ShutdownFinished { unsettled: 0, took: Duration::ZERO }.emit();
        server.end().await;
        return Ok(());
    };
    tasks.take_over(server);
    let (delivery, parked_items) = (tasks.delivery(), tasks.parked_items());
    status.set_parts(status::Parts { progress: tasks.progress().to_vec(), delivery, parked_items });
    Ok(tasks.run_until(&stop, shutdown_timeout).await?)
}

/// What the process uses of the outside world, besides its ports.
pub struct Services {
    pub store: PositionStore,
    pub sinks: Sinks,
    /// What reads the sinks' credentials again when they change.
    pub credentials: Vec<CredentialReloader>,
    pub connect: Box<Connect>,
    /// Where the parts count; whoever shows it keeps a clone.
    pub metrics: Metrics,
    /// Where the parts tell how they are.
    pub health: Arc<Health>,
}

/// Puts all tables and what delivers their events together, and starts them.
///
/// # Errors
/// When a table cannot be read as configured: see [`PrepareError`].
pub fn assemble(config: &Config, services: Services) -> Result<Tasks, PrepareError> {
    let Services { store, sinks, credentials, connect, metrics, health } = services;
    let buffer = BufferPool::new(config.process.buffer_memory, config.source.tables.len());
    let shared = Shared::new(store, buffer, config.delivery.order);
    let mut tables = Vec::new();
    for table in &config.source.tables {
        tables.push(Table::prepare(table, &config.source, &*connect, &shared, &metrics, &health)?);
    }
    let dispatcher = Dispatcher::new(sinks, delivery_settings(config));
    Ok(Tasks::start(tables, dispatcher, credentials, health, &config.event))
}

fn metrics(config: &Config) -> Result<Metrics, InvalidMetrics> {
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), option_env!("VCS_REF").unwrap_or("unknown"))?;
    match legacy_counters(config) {
        Some(settings) => metrics.with_legacy(settings),
        None => Ok(metrics),
    }
}

/// Opens the ports and answers on them; from now on a probe says what the start waits for.
fn serve(config: &Config, metrics: &Metrics, health: &Arc<Health>, status: &Arc<Status>) -> Result<Server, StartError> {
    health.set_starting(Some("the settings of the sink and of AWS".to_owned()));
    let ports = Ports::open(config.process.http_address, config.process.metrics_address)?;
    let addresses = ports.addresses();
    let (refreshed, shown) = (status.clone(), status.clone());
    let server = Server::start(
        ports,
        Arc::new(Admin {
            health: health.clone(),
            metrics: metrics.clone(),
            refresh: Box::new(move || refreshed.refresh()),
            status: Box::new(move || shown.show()),
            hosts: AdminHosts::new(config.process.admin_hosts.clone()),
        }),
    );
    addresses.into_iter().for_each(|address| events::Listening { address }.emit());
    Ok(server)
}

/// Starts everything on a thread of its own, until `stop` is cancelled: files of the sink, of the SDK and of its profiles are read there,
/// and one of them may block for ever, a pipe or a volume that does not answer. Probes are answered and signals heard meanwhile.
async fn start_aside(
    config: Config,
    metrics: Metrics,
    health: Arc<Health>,
    stop: CancellationToken,
) -> Result<Option<Tasks>, StartError> {
    let runtime = Handle::current();
    let start = move || {
        runtime.block_on(async {
            select! {
                () = stop.cancelled() => Ok(None),
                tasks = start(&config, metrics, &health) => tasks.map(Some),
            }
        })
    };
    let started = tokio::task::spawn_blocking(start).await;
    started.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

async fn start(config: &Config, metrics: Metrics, health: &Arc<Health>) -> Result<Tasks, StartError> {
    let (sinks, credentials) = open_sinks(config)?;
    let connections = Connections::load(&AwsSettings::from(&config.aws), config.source.common_region()).await?;
    let connect = move |table: &TableRef| -> Result<Arc<dyn StreamsClient>, NoRegion> {
        Ok(Arc::new(AwsClient::new(&connections.config(table.region())?)))
    };
    let store = open_store(config, health).await?;
    let connect = Box::new(connect);
    let services = Services { store, sinks, credentials, connect, metrics, health: health.clone() };
    let tasks = assemble(config, services)?;
    health.set_starting(None);
    Ok(tasks)
}

fn announce(config: &Config) {
    let tables: Vec<&str> = config.source.tables.iter().map(TableRef::as_str).collect();
    let sink = status::origin(&config.sink.uri);
    events::Starting { version: env!("CARGO_PKG_VERSION"), tables: &tables.join(","), sink: &sink }.emit();
    for warning in &config.warnings {
        events::ConfigWarning { text: &warning.to_string() }.emit();
    }
}

/// The store, however long it takes to open it: another process may use the file, or its volume may not be there yet.
async fn open_store(config: &Config, health: &Health) -> Result<PositionStore, StartError> {
    let path = match &config.source.checkpoint {
        config::CheckpointLocation::Memory => return Ok(PositionStore::Own(Arc::new(MemoryStore::default()))),
        config::CheckpointLocation::File(path) => path.clone(),
        config::CheckpointLocation::DynamoDb(table) => return Ok(positions_table::open(config, table).await?),
    };
    let (group, mut wait) = (config.source.consumer_group.clone(), PositionsWait::new(None));
    health.set_starting(Some(format!("{} to be opened", path.display())));
    loop {
        let (path, group) = (path.clone(), group.clone());
        // A volume that does not answer blocks a thread of its own.
        let opened = tokio::task::spawn_blocking(move || FileStore::open(&path, &group)).await;
        match opened.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic())) {
            Ok(store) => {
                wait.succeeded();
                return Ok(PositionStore::Own(Arc::new(store)));
            }
            Err(error) if error.may_pass() => {
                let why = error.to_string();
                health.set_starting(Some(format!("the stored positions: {why}")));
                wait.failed(&why).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The sinks, and the tasks that keep their credentials fresh.
fn open_sinks(config: &Config) -> Result<(Sinks, Vec<CredentialReloader>), StartError> {
    let dead_letters = SinkSettings::for_dead_letters(config).map(HttpSink::new).transpose();
    let dead_letters = dead_letters.map_err(StartError::DeadLetterSink)?;
    let (sink, reloader) = HttpSink::new(SinkSettings::for_sink(config))?;
    let mut sinks = Sinks { sink: Arc::new(sink), dead_letters: None };
    let mut reloaders = vec![reloader];
    if let Some((sink, reloader)) = dead_letters {
        sinks.dead_letters = Some(Arc::new(sink));
        reloaders.push(reloader);
    }
    Ok((sinks, reloaders))
}

fn delivery_settings(config: &Config) -> Settings {
    let (delivery, mode) = (&config.delivery, config.event.mode);
    let concurrency = delivery.concurrency.get();
    let limits = match mode {
        EventMode::Binary | EventMode::Structured => RequestLimits::singly(concurrency),
        EventMode::Batch => {
            let config::Batch { events, bytes, wait } = delivery.batch;
            RequestLimits { concurrency, events: events.get(), bytes, wait }
        }
    };
    let policy =
        RetryPolicy { backoff: delivery.backoff, limits: delivery.limits, on_undeliverable: delivery.on_undeliverable };
    let may_leave_out = delivery.order == config::DeliveryOrder::Item;
    let memory = MemoryLimits::of(config.process.buffer_memory, delivery.event_bytes_max, may_leave_out);
    let (timeout, destination, rate_max) = (delivery.timeout, config.sink.uri.clone(), delivery.rate_max);
    Settings { limits, rate_max, memory, mode, timeout, policy, destination }
}

/// `awsDynamoDBSourceResource` of TriggerMesh.
const TRIGGERMESH_GROUP: &str = "awsdynamodbsources.sources.triggermesh.io";

/// Source: the defaults of `EnvConfig` in `knative.dev/eventing/pkg/adapter/v2`.
const DEFAULT_GROUP: &str = "adapter.sources.knative.dev";
const DEFAULT_NAME: &str = "adapter";

/// What they are to say, where they are wanted.
fn legacy_counters(config: &Config) -> Option<LegacySettings> {
    if config.process.legacy_metrics == LegacyMetrics::Off {
        return None;
    }
    let (resource_group, event_type, one_source) = match config.event.profile {
        EventProfile::Aws => (DEFAULT_GROUP, "", None),
        EventProfile::Triggermesh => (TRIGGERMESH_GROUP, "com.amazon.dynamodb.stream_record", None),
        EventProfile::IntegrationSource => {
            (DEFAULT_GROUP, "dev.knative.eventing.aws-ddb-streams", Some("dev.knative.eventing.aws-ddb-streams-source"))
        }
    };
    let source = |table: &TableRef| one_source.or(table.table_arn()).unwrap_or(table.table_name()).to_owned();
    let names = &config.platform_names;
    Some(LegacySettings {
        component: names.component.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned()),
        name: names.name.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned()),
        namespace: names.namespace.clone().unwrap_or_default(),
        resource_group: resource_group.to_owned(),
        event_type: event_type.to_owned(),
        event_sources: config.source.tables.iter().map(|it| (config.source.label(it), source(it))).collect(),
    })
}

#[cfg(test)]
mod tests;
