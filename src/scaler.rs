//! A KEDA external scaler: says by what the targets of ScaledObjects are to be scaled, and whether they are active.
//!
//! | file | subject | |
//! |---|---|---|
//! | `trigger` | what a ScaledObject asks for | no I/O |
//! | `activity` | whether a table is written to | no I/O |
//! | `table_view` | what is known of a table, and what that means for a trigger | no I/O |
//! | `shard_cursors` | reads shards as far as it takes to see whether something is written | |
//! | `table_watch`, `tables` | one watch a table, whoever asks; the pace of an account | |
//! | `sources` | AWS with the credentials of a rule; the adapters' positions | |
//! | `answers` | triggers to specifications and loads, by the rules | |
//! | `reported_texts` | what the log has said of triggers | no I/O |
//! | `standing`, `replica` | which of several replicas reads: the one that holds their lease | |
//! | `reader_client` | the replica that reads, as another one asks it | |
//! | `calls`, `activity_stream`, `service`, `server`, `server_tls`, `externalscaler` | KEDA's contract over gRPC | |
//!
//! Contract: every answer comes from memory, and of one view of its table; what is not known is an error. AWS is asked at the scaler's own
//! pace: the number of ScaledObjects costs nothing, that of tables does. What triggers say is untrusted: the rules decide, and no value of
//! theirs is kept or shown that was not understood.

mod activity;
mod activity_stream;
mod answers;
mod calls;
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
#[rustfmt::skip]
mod externalscaler;
mod reader_client;
mod replica;
mod reported_texts;
mod server;
mod server_tls;
mod service;
mod shard_cursors;
mod sources;
mod standing;
mod status;
mod table_view;
mod table_watch;
mod tables;
mod trigger;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::join;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::answers::Answers;
use self::reader_client::ReaderClient;
use self::replica::{Replica, ReplicaError};
use self::server_tls::TlsReloader;
use self::service::ScalerService;
use self::sources::AwsSources;
use self::standing::Standing;
use self::status::Status;
use self::table_watch::Shared;
use self::tables::Tables;
use crate::admin::{self, Admin, AdminHosts};
use crate::config::{Scaler, ScalerConfig};
use crate::ports::{PortError, open_port};
use crate::readiness::Health;
use crate::telemetry::events;
use crate::telemetry::metrics::{InvalidMetrics, Metrics};

/// Why the scaler ends although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum ScalerError {
    /// A port is taken or not allowed.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A fault of this program.
    #[error(transparent)]
    Metrics(#[from] InvalidMetrics),
    /// Replicas cannot share a lease.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// A part has ended unasked; it is in the log.
    #[error("a part of the scaler has ended unasked: {0}")]
    Fault(String),
}

/// Serves KEDA until `stop` is cancelled.
///
/// # Errors
/// When it cannot start, and when one of its parts ends unasked.
pub async fn run(config: ScalerConfig, stop: CancellationToken) -> Result<(), ScalerError> {
    let version = env!("CARGO_PKG_VERSION");
    let metrics = Metrics::new(version, option_env!("VCS_REF").unwrap_or("unknown"))?;
    let probes = open_port("HTTP_ADDRESS", config.process.http_address)?;
    let calls = open_port("SCALER_ADDRESS", config.scaler.address)?;
    for text in config.warnings.iter().map(ToString::to_string) {
        events::ConfigWarning { text: &text }.emit();
    }
    events::ScalerStarting { version, has_tls: config.scaler.tls.is_some() }.emit();
    for address in [&probes, &calls].into_iter().filter_map(|port| port.local_addr().ok()) {
        events::Listening { address }.emit();
    }
    let bound = calls.local_addr().unwrap_or(config.scaler.address);
    Parts::assemble(config, &metrics, bound, &stop).await?.run(Listeners { probes, calls }, stop).await
}

struct Listeners {
    probes: TcpListener,
    calls: TcpListener,
}

/// Everything that runs.
struct Parts {
    tables: Arc<Tables>,
    service: ScalerService,
    admin: Arc<Admin>,
    tls: Option<TlsReloader>,
    /// None: there is no other.
    replica: Option<Replica>,
}

impl Parts {
    async fn assemble(
        config: ScalerConfig,
        metrics: &Metrics,
        bound: SocketAddr,
        stop: &CancellationToken,
    ) -> Result<Self, ScalerError> {
        let ScalerConfig { scaler, positions, aws, process, .. } = config;
        let Scaler { rules, pace, tls, replicas, .. } = scaler;
        let health = Arc::new(Health::default());
        let replica = match (&replicas, &positions) {
            (Some(replicas), Some(table)) => Some(Replica::open(replicas, bound, table, &aws, &health).await?),
            _ => None,
        };
        let standing =
            replica.as_ref().map_or_else(|| watch::Sender::new(Standing::Alone).subscribe(), Replica::standing);
        let sources = Arc::new(AwsSources::new(aws, positions, standing.clone(), metrics.scaler()));
        let tables = Tables::new(Shared { sources, pace });
        let answers = Arc::new(Answers::new(rules, tables.clone(), pace.refresh_interval));
        let tls = tls.as_ref().map(|tls| TlsReloader::new(tls, &health));
        let current = tls.as_ref().map(TlsReloader::current);
        let reader = ReaderClient::new(current.clone(), replica.as_ref().map(Replica::telemetry));
        let service = ScalerService::new(answers, standing.clone(), reader, metrics.scaler(), stop.clone());
        let status = Arc::new(Status::new(tables.clone(), metrics.scaler(), current, standing));
        let (refreshed, shown) = (status.clone(), status);
        let admin = Arc::new(Admin {
            health,
            hosts: AdminHosts::new(process.admin_hosts),
            metrics: metrics.clone(),
            refresh: Box::new(move || refreshed.refresh()),
            status: Box::new(move || shown.show()),
        });
        Ok(Self { tables, service, admin, tls, replica })
    }

    /// The orderly end: no call is begun any more, streams end without an error, the watches end, the replicas' lease is given back, and at
    /// last the probes end.
    async fn run(self, listeners: Listeners, stop: CancellationToken) -> Result<(), ScalerError> {
        let Self { tables, service, admin, tls, replica } = self;
        let mut tasks: JoinSet<io::Result<()>> = JoinSet::new();
        let probes_end = CancellationToken::new();
        tasks.spawn(admin::serve(listeners.probes, admin, probes_end.clone()));
        let current = tls.as_ref().map(TlsReloader::current);
        if let Some(tls) = tls {
            tasks.spawn(tls.run());
        }
        let serving = server::serve(listeners.calls, server::service(service), current, stop.clone());
        let reading = read(replica, &tables, &stop);
        let ended = select! {
            (ended, ()) = join(serving, reading) => ended.map_err(|error| ScalerError::Fault(error.to_string())),
            Some(ended) = tasks.join_next() => Err(fault(ended)),
            () = tables.forget_unwanted() => Ok(()),
        };
        if let Err(error) = &ended {
            events::Fault { what: &error.to_string() }.emit();
        }
        tables.end().await;
        probes_end.cancel();
        tasks.shutdown().await;
        ended
    }
}

/// Reads, while that is this replica's part, until `stop` is cancelled.
async fn read(replica: Option<Replica>, tables: &Tables, stop: &CancellationToken) {
    match replica {
        Some(replica) => replica.run(tables, stop).await,
        None => {
            tables.begin();
            stop.cancelled().await;
        }
    }
}

fn fault(ended: Result<io::Result<()>, JoinError>) -> ScalerError {
    ScalerError::Fault(match ended {
        Ok(Ok(())) => "a server has ended".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    })
}
