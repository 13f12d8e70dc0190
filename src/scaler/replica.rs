//! One of several replicas: waits for the lease that they share, reads while it has it, and knows meanwhile who does.
//!
//! Contract: the watches of tables begin when the lease is granted, and have ended before it is given back. At the end of the process it is
//! given back at once, so that another replica reads within a second.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::standing::{CurrentStanding, OtherReader, Reading, Standing};
use super::tables::Tables;
use crate::aws::{AwsSettings, Connections, InvalidSettings, NoRegion};
use crate::checkpoint::dynamodb::DynamoStore;
use crate::checkpoint::dynamodb::aws::AwsItems;
use crate::config::{Aws, PositionsTable, ScalerReplicas};
use crate::error_text::shown;
use crate::lease::{GrantedLease, LeaseHolder, LeaseView, owner_name};
use crate::readiness::Health;
use crate::telemetry::metrics::{InvalidMetrics, Metrics};
use crate::telemetry::{TableTelemetry, events};

/// What stands before the lease's name, where positions have their consumer group. They have an ARN behind it, which no lease's name is.
const GROUP: &str = "scaler";

/// Why replicas can never share a lease as they are configured.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// DynamoDB cannot be called.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// Nobody says where the table is.
    #[error("{0}, or set CHECKPOINT_REGION")]
    Region(#[from] NoRegion),
    /// What a lease shows of its owner is cut and cleaned.
    #[error("SCALER_ADVERTISED_ADDRESS: {0} cannot stand in a lease; use the IP address")]
    Address(String),
    /// A fault of this program.
    #[error(transparent)]
    Metrics(#[from] InvalidMetrics),
}

/// This process among the replicas.
pub(super) struct Replica {
    holder: LeaseHolder,
    shown: Shown,
    telemetry: Arc<TableTelemetry>,
}

/// What it shows of itself.
struct Shown {
    me: OtherReader,
    standing: watch::Sender<Standing>,
    health: Arc<Health>,
}

impl Replica {
    /// Asks nothing of DynamoDB yet. `bound`: where this replica listens.
    ///
    /// # Errors
    /// What can never work as it is configured.
    pub(super) async fn open(
        replicas: &ScalerReplicas,
        bound: SocketAddr,
        positions: &PositionsTable,
        aws: &Aws,
        health: &Arc<Health>,
    ) -> Result<Self, ReplicaError> {
        let owner = owner_name(&replicas.advertised.with_port(bound.port()));
        let me = OtherReader::of(&owner).filter(|_| shown(&owner) == owner);
        let me = me.ok_or_else(|| ReplicaError::Address(replicas.advertised.to_string()))?;
        let settings = AwsSettings::for_positions(aws, positions);
        let sdk = Connections::load(&settings, positions.region.as_deref()).await?.config(None)?;
        let duration = positions.lease_duration;
        let items = Arc::new(AwsItems::for_leases(&sdk, positions.table.as_str(), positions.create, duration));
        let store = Arc::new(DynamoStore::new(GROUP, items.clone(), items));
        // A scaler delivers no table: what is counted of a table's lease is not shown, `scaler_reads` is.
        let apart = Metrics::new(env!("CARGO_PKG_VERSION"), "")?;
        let telemetry = TableTelemetry::new(&format!("{GROUP} {}", replicas.lease_name), &apart);
        let holder = LeaseHolder::new(store, &replicas.lease_name, &owner, duration, telemetry.clone());
        let shown = Shown { me, standing: watch::Sender::new(Standing::Alone), health: health.clone() };
        shown.show_nobody("nobody has looked yet which replica reads".to_owned());
        Ok(Self { holder, shown, telemetry })
    }

    pub(super) fn standing(&self) -> CurrentStanding {
        self.shown.standing.subscribe()
    }

    /// What reports of this replica are counted by.
    pub(super) fn telemetry(&self) -> Arc<TableTelemetry> {
        self.telemetry.clone()
    }

    /// Takes its turns at reading until `stop` is cancelled.
    pub(super) async fn run(mut self, tables: &Tables, stop: &CancellationToken) {
        while let Some(granted) = self.acquire(stop).await {
            tables.begin();
            self.shown.show_reader(&granted);
            let is_ending = select! {
                () = stop.cancelled() => true,
                _ = self.holder.keep(&granted) => false,
            };
            self.shown.show_nobody("this replica has read until now, and another one does not yet".to_owned());
            tables.end().await;
            if is_ending {
                self.holder.release(&granted).await;
                return;
            }
        }
    }

    /// Waits for the lease; none at the end of the process.
    async fn acquire(&mut self, stop: &CancellationToken) -> Option<GrantedLease> {
        let Self { holder, shown, .. } = self;
        let mut view = holder.view();
        {
            let mut acquired = pin!(holder.acquire());
            loop {
                select! {
                    () = stop.cancelled() => break,
                    granted = &mut acquired => return Some(granted),
                    Ok(()) = view.changed() => shown.follow(&view.borrow_and_update()),
                }
            }
        }
        holder.give_up().await;
        None
    }
}

impl Shown {
    fn follow(&self, view: &LeaseView) {
        match view {
            LeaseView::Awaited { owner } => self.show_other(owner),
            LeaseView::Unavailable { error } => {
                self.health.set_missing(Some(format!("the replicas' lease: {error}")));
                // Whoever read when it was seen last may read on, and says itself whether it does.
                self.standing.send_if_modified(|standing| {
                    if let Standing::Nobody(why) = standing {
                        *why = format!("which one reads cannot be seen: {error}");
                    }
                    false
                });
            }
            LeaseView::Unknown | LeaseView::Held { .. } | LeaseView::Over => {}
        }
    }

    fn show_other(&self, owner: &str) {
        match OtherReader::of(owner) {
            Some(other) if other.address != self.me.address => {
                self.health.set_missing(None);
                let is_same = matches!(&*self.standing.borrow(), Standing::Other(known) if *known == other);
                if !is_same {
                    events::ScalerAsks { address: &other.address }.emit();
                    self.standing.send_replace(Standing::Other(other));
                }
            }
            Some(_) => self.show_nobody("the lease is still that of an earlier run of this replica".to_owned()),
            None => self.show_nobody(format!("the lease is that of {owner}, which has no address")),
        }
    }

    fn show_reader(&self, granted: &GrantedLease) {
        events::ScalerReads.emit();
        let reading = Reading { owner: self.me.owner.clone(), tenure: granted.tenure.clone() };
        self.standing.send_replace(Standing::Reader(reading));
        self.health.set_missing(None);
    }

    fn show_nobody(&self, why: String) {
        self.health.set_missing(Some(format!("a replica that reads: {why}")));
        self.standing.send_replace(Standing::Nobody(why));
    }
}
