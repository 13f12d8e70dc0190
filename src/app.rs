//! Puts the parts together, runs them, and takes them down in order.
//!
//! Contract: every task is owned by [`tasks::Tasks`] and awaited; one that ends unasked ends the process. The orderly end
//! begins at the top and goes down: reading stops, requests under way get their answers, positions are stored once more, the
//! port closes. It never takes longer than the configured time.

pub mod process;

mod heartbeat;
mod legacy;
mod stalls;
mod status;
mod table;
mod tasks;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::status::Status;
use self::table::{PrepareError, Shared, Table};
use self::tasks::{Fault, Tasks};
use crate::admin::Admin;
use crate::checkpoint::{CheckpointStore, FileStore, MemoryStore, OpenError};
use crate::config::{self, Config, EventMode, TableRef};
use crate::delivery::dispatch::{Dispatcher, Settings, Sinks};
use crate::delivery::lanes::Limits;
use crate::delivery::retry::Policy;
use crate::pipeline::Books;
use crate::sink::{CredentialReloader, HttpSink, SinkSettings, SinkSetupError};
use crate::streams::client::connect::{AwsSettings, Connections};
use crate::streams::rate::Rate;
use crate::telemetry::events;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::{InvalidMetrics, Metrics};

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
    /// The port is taken or not allowed.
    #[error("{variable} {address} cannot be opened: {source}; choose another, or stop what uses it")]
    Port {
        /// The variable that says so.
        variable: &'static str,
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The file of positions cannot be used.
    #[error("CHECKPOINT_STORE: {0}")]
    Store(#[from] OpenError),
    /// The sink can never work.
    #[error("K_SINK: {0}")]
    Sink(#[from] SinkSetupError),
    /// The dead-letter sink can never work.
    #[error("DEAD_LETTER_SINK: {0}")]
    DeadLetterSink(#[source] SinkSetupError),
    /// A table cannot be read as configured.
    #[error(transparent)]
    Table(#[from] PrepareError),
    /// A fault of this program.
    #[error(transparent)]
    Metrics(#[from] InvalidMetrics),
}

/// Runs the adapter until `stop` is cancelled.
///
/// # Errors
/// When it cannot start, and when one of its tasks ends unasked: see [`RunError`].
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let mut tasks = start(&config).await?;
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        fault = tasks.fault() => Err(fault),
    };
    if let Err(fault) = &ended {
        events::Fault { what: &fault.to_string() }.emit();
    }
    tasks.stop(config.process.shutdown_timeout).await;
    Ok(ended?)
}

async fn start(config: &Config) -> Result<Tasks, StartError> {
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), option_env!("VCS_REF").unwrap_or("unknown"))?;
    let metrics = match legacy::settings(config) {
        Some(settings) => metrics.with_legacy(settings)?,
        None => metrics,
    };
    announce(config);
    let ports = Ports::open(&config.process).await?;
    let (sinks, credentials) = open_sinks(config)?;
    let dispatcher = Dispatcher::new(sinks, delivery_settings(config));
    let health = Arc::new(Health::default());
    let connections = Connections::load(&AwsSettings::from(&config.aws), common_region(config)).await;
    let shared = Shared {
        describe_rate: Arc::new(Rate::describe_stream()),
        store: open_store(config)?,
        budget: config.process.buffer_memory / config.source.tables.len().max(1),
    };
    let mut tables = Vec::new();
    for table in &config.source.tables {
        tables.push(Table::prepare(table, &config.source, &connections, &shared, &metrics, &health).await?);
    }
    let books = tables.iter().map(|table| table.books.clone()).collect();
    let status = Status::new(books, health.clone(), &config.sink.uri, dispatcher.outage());
    let admin = watched(&tables, metrics, health, status);
    let addresses = ports.addresses();
    let tasks = Tasks::start(tables, dispatcher, credentials, admin, ports, config.delivery.order, &config.event);
    addresses.into_iter().for_each(|address| events::Listening { address }.emit());
    Ok(tasks)
}

/// The ports that are open before anything else happens.
struct Ports {
    all: TcpListener,
    metrics: Option<TcpListener>,
}

impl Ports {
    async fn open(process: &config::Process) -> Result<Self, StartError> {
        let all = open_port("HTTP_ADDRESS", process.http_address).await?;
        let metrics = match process.metrics_address {
            Some(address) => Some(open_port("METRICS_ADDRESS", address).await?),
            None => None,
        };
        Ok(Self { all, metrics })
    }

    /// Where they are; that of the probes first.
    fn addresses(&self) -> Vec<SocketAddr> {
        [Some(&self.all), self.metrics.as_ref()].into_iter().flatten().filter_map(|it| it.local_addr().ok()).collect()
    }
}

fn announce(config: &Config) {
    let tables: Vec<&str> = config.source.tables.iter().map(TableRef::as_str).collect();
    let sink = status::origin(&config.sink.uri);
    events::Starting { version: env!("CARGO_PKG_VERSION"), tables: &tables.join(","), sink: &sink }.emit();
    for warning in &config.warnings {
        events::ConfigWarning { text: &warning.to_string() }.emit();
    }
}

async fn open_port(variable: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Port { variable, address, source })
}

fn open_store(config: &Config) -> Result<Arc<dyn CheckpointStore>, StartError> {
    Ok(match &config.source.checkpoint {
        config::CheckpointStore::Memory => Arc::new(MemoryStore::default()),
        config::CheckpointStore::File(path) => Arc::new(FileStore::open(path, &config.source.consumer_group)?),
    })
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
        EventMode::Binary | EventMode::Structured => Limits::singly(concurrency),
        EventMode::Batch => {
            let config::Batch { events, bytes, wait } = delivery.batch;
            Limits { concurrency, events: events.get(), bytes, wait }
        }
    };
    let policy =
        Policy { backoff: delivery.backoff, limits: delivery.limits, on_undeliverable: delivery.on_undeliverable };
    Settings { limits, mode, timeout: delivery.timeout, policy, destination: config.sink.uri.clone() }
}

/// The region, if every table names one: then nobody need search for another.
fn common_region(config: &Config) -> Option<&str> {
    let named = config.source.tables.iter().all(|table| table.region().is_some());
    config.source.tables.first().filter(|_| named)?.region()
}

fn watched(tables: &[Table], metrics: Metrics, health: Arc<Health>, status: Status) -> Arc<Admin> {
    let books: Vec<Arc<Books>> = tables.iter().map(|table| table.books.clone()).collect();
    Arc::new(Admin {
        health,
        metrics,
        refresh: Box::new(move || books.iter().for_each(|books| status::refresh(books))),
        status: Box::new(move || status.show()),
    })
}

#[cfg(test)]
mod tests;
