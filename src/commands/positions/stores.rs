//! The stores whose positions are shown and changed: a file, and a DynamoDB table.
//!
//! A file is changed under its lock. A table of positions is changed under the lease of the table that changes, which is claimed for that
//! and given back: an owner that lives is not deposed unless that was asked for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::aws::{AwsSettings, Connections};
use crate::checkpoint::dynamodb::aws::AwsItems;
use crate::checkpoint::dynamodb::{DynamoStore, all_positions};
use crate::checkpoint::{CheckpointStore as _, FileStore, LeasedStore as _, OpenError, StoredPositions, StoredTable};
use crate::command_output::{EXIT_FAULT, EXIT_UNAVAILABLE, EXIT_USAGE};
use crate::config::{CheckpointLocation, PositionsConfig};
use crate::lease::{HeldLease, LeaseError, LeaseStore, SeenLease};

/// For how long the table is claimed; it is renewed while it is being changed.
const LEASE: Duration = Duration::from_secs(15);

/// How often the lease of another one is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How often a lease that changes is tried to be taken.
const TRIES: usize = 10;

/// Why nothing was done: the exit code, and what to print.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) u8, pub(super) String);

/// What a table becomes.
type Edited<'e> = dyn Fn(&StoredTable) -> Result<StoredTable, Refusal> + 'e;

/// A table before and after a change.
type Changed = (StoredTable, StoredTable);

pub(super) enum Store {
    File { path: PathBuf, runtime: Runtime },
    Table(TableStore),
}

pub(super) struct TableStore {
    name: String,
    items: Arc<AwsItems>,
    runtime: Runtime,
}

impl Store {
    pub(super) fn open(config: &PositionsConfig) -> Result<Self, Refusal> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Refusal(EXIT_FAULT, format!("the runtime cannot start: {error}")))?;
        match &config.location {
            CheckpointLocation::Memory => {
                let why = "CHECKPOINT_STORE is memory: name a store with --store, or a file with --file";
                Err(Refusal(EXIT_USAGE, why.to_owned()))
            }
            CheckpointLocation::File(path) => Ok(Self::File { path: path.clone(), runtime }),
            CheckpointLocation::DynamoDb(table) => {
                let settings = AwsSettings::for_positions(&config.aws, table);
                let region = table.region.as_deref().or(config.region.as_deref());
                let refused = |why: String| Refusal(EXIT_USAGE, why);
                let connections = runtime.block_on(Connections::load(&settings, region));
                let sdk = connections.map_err(|error| refused(error.to_string()))?.config(None);
                let sdk = sdk.map_err(|error| refused(format!("CHECKPOINT_STORE: {error}, or CHECKPOINT_REGION")))?;
                let name = table.table.as_str().to_owned();
                let items = Arc::new(AwsItems::for_positions(&sdk, &name, false));
                Ok(Self::Table(TableStore { name, items, runtime }))
            }
        }
    }

    /// All that is stored, also while an adapter uses the store.
    pub(super) fn look(&self) -> Result<StoredPositions, Refusal> {
        match self {
            Self::File { path, .. } => Ok(FileStore::look(path)?),
            Self::Table(table) => table.look(),
        }
    }

    /// The same where a file need not be there yet.
    pub(super) fn look_or_nothing(&self) -> Result<StoredPositions, Refusal> {
        match self {
            Self::File { path, .. } if !path.exists() => Ok(StoredPositions::default()),
            _ => self.look(),
        }
    }

    /// Makes a table what `edited` says, of what is stored when nobody else may write.
    pub(super) fn change(&self, group: &str, key: &str, take: bool, edited: &Edited<'_>) -> Result<Changed, Refusal> {
        match self {
            Self::File { path, runtime } => {
                let store = FileStore::open(path, group)?;
                let before = runtime.block_on(store.load(key)).map_err(unavailable)?.unwrap_or_default();
                let after = edited(&before)?;
                runtime.block_on(store.overwrite(key, after.clone())).map_err(unavailable)?;
                Ok((before, after))
            }
            Self::Table(table) => table.runtime.block_on(table.change(group, key, take, edited)),
        }
    }

    pub(super) fn create_table(&self) -> Result<String, Refusal> {
        match self {
            Self::File { .. } => {
                let why = "a file needs no table: name one with --store dynamodb:<table>";
                Err(Refusal(EXIT_USAGE, why.to_owned()))
            }
            Self::Table(table) => {
                table.runtime.block_on(table.items.create()).map_err(unavailable)?;
                Ok(format!("the table {} is there\n", table.name))
            }
        }
    }
}

impl TableStore {
    fn look(&self) -> Result<StoredPositions, Refusal> {
        let items = self.runtime.block_on(self.items.scan()).map_err(unavailable)?;
        all_positions(&items).map_err(unavailable)
    }

    async fn change(&self, group: &str, key: &str, take: bool, edited: &Edited<'_>) -> Result<Changed, Refusal> {
        let store = DynamoStore::new(group, self.items.clone(), self.items.clone());
        let lease = claim(&store, key, take).await?;
        let work = async {
            let before = store.positions(key, &lease).load(key).await.map_err(unavailable)?.unwrap_or_default();
            let after = edited(&before)?;
            if before != after {
                store.overwrite(key, &lease, after.clone()).await.map_err(unavailable)?;
            }
            Ok((before, after))
        };
        let changed = while_it_is_renewed(&store, key, &lease, work).await;
        // Whoever waits would get it a little later anyway.
        let _ = store.release(key, &lease).await;
        changed
    }
}

/// The table's lease; of an owner that lives only if it is to be taken.
async fn claim(leases: &dyn LeaseStore, key: &str, take: bool) -> Result<HeldLease, Refusal> {
    let owner = format!("positions-{:08x}", fastrand::u32(..));
    for _ in 0..TRIES {
        let seen = leases.look(key).await.map_err(unavailable)?;
        if !take && let Some(seen) = &seen {
            wait_until_its_over(leases, key, seen).await?;
        }
        match leases.claim(key, seen.as_ref(), 0, &owner, LEASE).await {
            Ok(lease) => return Ok(lease),
            Err(LeaseError::Lost) => {}
            Err(error) => return Err(unavailable(error)),
        }
    }
    Err(unavailable("the lease changes all the time: try again"))
}

/// An owner that lives renews its lease within a third of its time.
async fn wait_until_its_over(leases: &dyn LeaseStore, key: &str, seen: &SeenLease) -> Result<(), Refusal> {
    let Some(owner) = &seen.owner else { return Ok(()) };
    let end = tokio::time::Instant::now() + seen.duration.mul_f64(1.1);
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(LOOK).await;
        if leases.look(key).await.map_err(unavailable)?.as_ref() != Some(seen) {
            return Err(unavailable(format!(
                "{key} is owned by {owner}, which reads it: stop that adapter, or take the table from it with --take"
            )));
        }
    }
    Ok(())
}

async fn while_it_is_renewed<T>(
    leases: &dyn LeaseStore,
    key: &str,
    lease: &HeldLease,
    work: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let renewing = async {
        loop {
            tokio::time::sleep(LEASE / 3).await;
            if let Err(LeaseError::Lost) = leases.renew(key, lease).await {
                return unavailable(format!("another process has taken {key}: what was changed of it may be a part"));
            }
        }
    };
    select! {
        done = work => done,
        lost = renewing => Err(lost),
    }
}

fn unavailable(why: impl ToString) -> Refusal {
    Refusal(EXIT_UNAVAILABLE, why.to_string())
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        Self(EXIT_UNAVAILABLE, error.to_string())
    }
}
