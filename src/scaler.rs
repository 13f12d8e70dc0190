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
//! | `said` | what the log has said of triggers | no I/O |
//! | `service`, `server`, `server_tls`, `externalscaler` | KEDA's contract over gRPC | |
//!
//! Contract: every answer comes from memory, and of one view of its table; what is not known is an error. AWS is asked at the scaler's own
//! pace: the number of ScaledObjects costs nothing, that of tables does. What triggers say is untrusted: the rules decide, and no value of
//! theirs is kept or shown that was not understood.

mod activity;
mod answers;
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
#[rustfmt::skip]
mod externalscaler;
mod said;
mod server;
mod server_tls;
mod service;
mod shard_cursors;
mod sources;
mod status;
mod table_view;
mod table_watch;
mod tables;
mod trigger;

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::answers::Answers;
use self::server_tls::TlsReloader;
use self::service::ScalerService;
use self::sources::AwsSources;
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
    Parts::assemble(config, &metrics).run(Listeners { probes, calls }, stop).await
}

struct Listeners {
    probes: TcpListener,
    calls: TcpListener,
}

/// Everything that runs.
struct Parts {
    tables: Arc<Tables>,
    answers: Arc<Answers>,
    metrics: Metrics,
    admin: Arc<Admin>,
    tls: Option<TlsReloader>,
}

impl Parts {
    fn assemble(config: ScalerConfig, metrics: &Metrics) -> Self {
        let ScalerConfig { scaler: Scaler { rules, pace, tls, .. }, positions, aws, process, .. } = config;
        let sources = Arc::new(AwsSources::new(aws, positions, metrics.scaler()));
        let tables = Tables::new(Shared { sources, pace });
        let answers = Arc::new(Answers::new(rules, tables.clone(), pace.refresh_interval));
        let health = Arc::new(Health::default());
        let tls = tls.as_ref().map(|tls| TlsReloader::new(tls, &health));
        let status = Arc::new(Status::new(tables.clone(), metrics.scaler(), tls.as_ref().map(TlsReloader::current)));
        let (refreshed, shown) = (status.clone(), status);
        let admin = Arc::new(Admin {
            health,
            hosts: AdminHosts::new(process.admin_hosts),
            metrics: metrics.clone(),
            refresh: Box::new(move || refreshed.refresh()),
            status: Box::new(move || shown.show()),
        });
        Self { tables, answers, metrics: metrics.clone(), admin, tls }
    }

    /// The orderly end: no call is begun any more, streams end without an error, the watches end, and at last the probes.
    async fn run(self, listeners: Listeners, stop: CancellationToken) -> Result<(), ScalerError> {
        let Self { tables, answers, metrics, admin, tls } = self;
        let mut tasks: JoinSet<io::Result<()>> = JoinSet::new();
        let probes_end = CancellationToken::new();
        tasks.spawn(admin::serve(listeners.probes, admin, probes_end.clone()));
        let current = tls.as_ref().map(TlsReloader::current);
        if let Some(tls) = tls {
            tasks.spawn(tls.keep());
        }
        let service = server::service(ScalerService::new(answers, metrics.scaler(), stop.clone()));
        let serving = server::serve(listeners.calls, service, current, stop.clone());
        let ended = select! {
            ended = serving => ended.map_err(|error| ScalerError::Fault(error.to_string())),
            Some(ended) = tasks.join_next() => Err(fault(ended)),
            () = tables.keep() => Ok(()),
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

fn fault(ended: Result<io::Result<()>, JoinError>) -> ScalerError {
    ScalerError::Fault(match ended {
        Ok(Ok(())) => "a server has ended".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    })
}
