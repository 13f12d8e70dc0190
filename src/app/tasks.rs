//! Every task of the process, and the ports that it serves.
//!
//! Contract: the tasks are started together. One that ends although nothing asked it to is a [`Fault`]. The orderly end goes from the
//! top down.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

pub use super::fault::Fault;
use super::stalls::{self, Watched};
use super::table::Table;
use super::table_task::{TableStop, TableTask};
use crate::admin::{self, Admin};
use crate::config;
use crate::delivery::dispatcher::{DeliveryView, Dispatcher, DispatcherFault};
use crate::delivery::handover::Handover;
use crate::delivery::parked_items::ParkedItems;
use crate::ports::{PortError, open_port};
use crate::progress::TableProgress;
use crate::readiness::Health;
use crate::sink::CredentialReloader;
use crate::telemetry::{self, events};

/// Pages that were read and wait to be put into lanes; what they hold is bounded by the buffer.
const PAGES_WAITING: usize = 64;

/// Kept back from the time to stop, for the last store of positions.
const TIME_TO_STORE: Duration = Duration::from_secs(2);

/// How often it is looked whether lines were left out of the log that nobody was told of.
const LEFT_OUT_INTERVAL: Duration = Duration::from_secs(5);

/// The ports that are open before anything else happens.
pub(super) struct Ports {
    pub(super) all: TcpListener,
    pub(super) metrics: Option<TcpListener>,
}

impl Ports {
    pub(super) fn open(all: SocketAddr, metrics: Option<SocketAddr>) -> Result<Self, PortError> {
        let all = open_port("HTTP_ADDRESS", all)?;
        let metrics = metrics.map(|address| open_port("METRICS_ADDRESS", address)).transpose()?;
        Ok(Self { all, metrics })
    }

    /// Where they are; that of the probes first.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        [Some(&self.all), self.metrics.as_ref()].into_iter().flatten().filter_map(|it| it.local_addr().ok()).collect()
    }
}

/// Answers probes and those who look, before anything else runs and until everything else has ended.
pub(super) struct Server {
    tasks: JoinSet<io::Result<()>>,
    stop: CancellationToken,
}

impl Server {
    pub(super) fn start(ports: Ports, admin: Arc<Admin>) -> Self {
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        if let Some(listener) = ports.metrics {
            tasks.spawn(admin::serve_metrics(listener, admin.clone(), stop.clone()));
        }
        tasks.spawn(admin::serve(ports.all, admin, stop.clone()));
        Self { tasks, stop }
    }

    /// Waits until it ends, which it should not; for ever if there is none.
    pub(super) async fn fault(&mut self) -> Fault {
        match self.tasks.join_next().await {
            None => std::future::pending().await,
            Some(Ok(Err(error))) => {
                events::AdminFailed { error: &error.to_string() }.emit();
                Fault::Admin(error)
            }
            Some(Ok(Ok(()))) => Fault::Ended("server of probes"),
            Some(Err(failed)) => Fault::Failed("server of probes", failed),
        }
    }

    pub(super) async fn end(mut self) {
        self.stop.cancel();
        self.tasks.shutdown().await;
    }
}

/// Everything that runs, from the top down.
pub struct Tasks {
    /// Each table, from its reader to its last save, and what tells it to end.
    tables: JoinSet<Result<(), Fault>>,
    table_stops: Vec<TableStop>,
    dispatcher: JoinSet<Result<(), DispatcherFault>>,
    /// Each sink's credentials, read again when they change.
    credentials: JoinSet<()>,
    server: Server,
    /// The search for parts that stand still.
    watchers: JoinSet<()>,
    progress: Vec<Arc<TableProgress>>,
    delivery: watch::Receiver<DeliveryView>,
    parked_items: Arc<ParkedItems>,
    /// Keeps the dispatcher from ending when every table is read no further.
    _events: mpsc::Sender<Handover>,
    stop_dispatcher: CancellationToken,
}

impl Tasks {
    pub(super) fn start(
        tables: Vec<Table>,
        dispatcher: Dispatcher,
        credentials: Vec<CredentialReloader>,
        health: Arc<Health>,
        event: &config::Event,
    ) -> Self {
        let (sender, events) = mpsc::channel(PAGES_WAITING);
        let mut tasks = Self {
            tables: JoinSet::new(),
            table_stops: Vec::new(),
            dispatcher: JoinSet::new(),
            credentials: JoinSet::new(),
            server: Server { tasks: JoinSet::new(), stop: CancellationToken::new() },
            watchers: JoinSet::new(),
            progress: tables.iter().map(|table| table.progress.clone()).collect(),
            delivery: dispatcher.view(),
            parked_items: dispatcher.parked_items(),
            _events: sender.clone(),
            stop_dispatcher: CancellationToken::new(),
        };
        let watched = Watched::new(&tables, dispatcher.activity(), sender.downgrade());
        tasks.watchers.spawn(stalls::watch(watched, health));
        tasks.watchers.spawn(report_left_out());
        tasks.dispatcher.spawn(dispatcher.run(events, tasks.stop_dispatcher.clone()));
        for reloader in credentials {
            tasks.credentials.spawn(reloader.run());
        }
        for table in tables {
            let stop = TableStop::default();
            tasks.table_stops.push(stop.clone());
            tasks.tables.spawn(TableTask { table, event: event.clone(), events: sender.clone() }.run(stop));
        }
        tasks
    }

    /// Takes over what answers probes: it ends last.
    pub(super) fn take_over(&mut self, server: Server) {
        self.server = server;
    }

    /// Each table's progress, in the order of the configuration.
    pub fn progress(&self) -> &[Arc<TableProgress>] {
        &self.progress
    }

    /// Whether the sink fails as a whole, now and later.
    pub fn delivery(&self) -> watch::Receiver<DeliveryView> {
        self.delivery.clone()
    }

    /// The items whose events keep failing, now and later.
    pub fn parked_items(&self) -> Arc<ParkedItems> {
        self.parked_items.clone()
    }

    /// Runs until `stop` is cancelled or a task ends unasked, and takes everything down within `patience`.
    ///
    /// # Errors
    /// The fault that ended it, or else one that the orderly end met. Each is logged.
    pub async fn run_until(mut self, stop: &CancellationToken, patience: Duration) -> Result<(), Fault> {
        let ended = select! {
            () = stop.cancelled() => Ok(()),
            fault = self.fault() => Err(fault),
        };
        let ended = ended.inspect_err(report);
        let stopped = self.stop(patience).await.inspect_err(report);
        ended.and(stopped)
    }

    /// Waits until a task ends that should not: before [`Tasks::stop`] that is every task.
    pub async fn fault(&mut self) -> Fault {
        select! {
            Some(ended) = self.dispatcher.join_next() => match ended {
                Ok(Ok(())) => Fault::Ended("dispatcher"),
                Ok(Err(fault)) => Fault::Dispatcher(fault),
                Err(failed) => Fault::Failed("dispatcher", failed),
            },
            Some(ended) = self.tables.join_next() => match ended {
                Ok(Ok(())) => Fault::Ended("table"),
                Ok(Err(fault)) => fault,
                Err(failed) => Fault::Failed("table", failed),
            },
            Some(ended) = self.credentials.join_next() => Fault::unasked("reader of credentials", ended),
            fault = self.server.fault() => fault,
            Some(ended) = self.watchers.join_next() => Fault::unasked("search for stalls, or for lines left out", ended),
        }
    }

    /// Takes everything down within `patience`.
    ///
    /// # Errors
    /// When the dispatcher fails while it waits for the last answers.
    pub async fn stop(mut self, patience: Duration) -> Result<(), Fault> {
        let begun = Instant::now();
        let deadline = begun + patience;
        let reserve = TIME_TO_STORE.min(patience / 4);
        self.watchers.shutdown().await;
        self.table_stops.iter().for_each(|stop| stop.reading.cancel());
        for stop in &self.table_stops {
            let _ = timeout_at(deadline - reserve, stop.has_read.cancelled()).await;
        }
        self.stop_dispatcher.cancel();
        // Whoever runs out of time here has events without an answer: they are not stored as settled.
        let drained = match timeout_at(deadline - reserve, self.dispatcher.join_next()).await {
            Ok(Some(Ok(Err(fault)))) => Err(Fault::Dispatcher(fault)),
            Ok(Some(Err(failed))) => Err(Fault::Failed("dispatcher", failed)),
            Ok(Some(Ok(Ok(()))) | None) | Err(_) => Ok(()),
        };
        self.dispatcher.shutdown().await;
        self.credentials.shutdown().await;
        self.table_stops.iter().for_each(|stop| stop.storing.cancel());
        while let Ok(Some(_)) = timeout_at(deadline, self.tables.join_next()).await {}
        self.tables.shutdown().await;
        let unsettled = self.progress.iter().map(|progress| progress.tracker().unsettled()).sum();
        telemetry::report_left_out(Instant::now(), true);
        events::ShutdownFinished { unsettled, took: begun.elapsed() }.emit();
        self.server.end().await;
        drained
    }
}

/// Says every few seconds which lines of the log were left out, until it is ended.
async fn report_left_out() {
    let mut ticks = interval(LEFT_OUT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        telemetry::report_left_out(ticks.tick().await, false);
    }
}

pub(super) fn report(fault: &Fault) {
    events::Fault { what: &fault.to_string() }.emit();
}

#[cfg(test)]
use crate::delivery::lanes::UnknownLane;

#[cfg(test)]
impl Tasks {
    /// In the place of the dispatcher, one that fails when it is told to stop.
    pub(super) fn fail_while_stopping(&mut self) {
        self.dispatcher = JoinSet::new();
        let stop = self.stop_dispatcher.clone();
        self.dispatcher.spawn(async move {
            stop.cancelled().await;
            Err(UnknownLane.into())
        });
    }

    /// Ends one task as a fault in it would.
    pub(super) fn stop_early(&self, task: &str) {
        match task {
            "dispatcher" => self.stop_dispatcher.cancel(),
            "table" => self.table_stops.iter().for_each(|stop| stop.reading.cancel()),
            "checkpointer" => self.table_stops.iter().for_each(|stop| stop.storing.cancel()),
            "server of probes" => self.server.stop.cancel(),
            other => panic!("no task is called {other}"),
        }
    }
}
