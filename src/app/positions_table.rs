//! Opens a table of positions: its own connections, and who this process is to the others that wait for it.

use std::sync::Arc;

use super::table::PositionStore;
use crate::aws::{AwsSettings, Connections, InvalidSettings, NoRegion};
use crate::checkpoint::dynamodb::DynamoStore;
use crate::checkpoint::dynamodb::aws::AwsItems;
use crate::config::{Config, PositionsTable};
use crate::lease::owner_name;

/// Why a table of positions can never be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// DynamoDB cannot be called.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// Nobody says where it is.
    #[error("{0}, or set CHECKPOINT_REGION")]
    Region(#[from] NoRegion),
}

/// Asks nothing of DynamoDB yet: what it refuses is waited for, table by table.
///
/// # Errors
/// What can never work as it is configured.
pub(super) async fn open(config: &Config, table: &PositionsTable) -> Result<PositionStore, TableError> {
    let settings = AwsSettings::for_positions(&config.aws, table);
    let region = table.region.as_deref().or(config.source.common_region());
    let sdk = Connections::load(&settings, region).await?.config(None)?;
    let (name, duration) = (table.table.as_str(), table.lease_duration);
    // Renewals have connections of their own, so that they never wait behind writes of positions.
    let apart = Connections::load(&settings, region).await?.config(None)?;
    let items = Arc::new(AwsItems::for_positions(&sdk, name, table.create));
    let leases = Arc::new(AwsItems::for_leases(&apart, name, table.create, duration));
    let store = Arc::new(DynamoStore::new(&config.source.consumer_group, items, leases));
    Ok(PositionStore::Leased { store, owner: owner(config.platform_names.pod.as_deref()), duration })
}

/// What this process is called in leases: the pod or the machine, and a part of its own, since a container that is started again has the
/// same name.
fn owner(pod: Option<&str>) -> String {
    let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
    owner_name(&pod.map_or_else(host, str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_known_by_its_pod_and_two_processes_of_one_pod_are_told_apart() {
        let (one, other) = (owner(Some("orders-0")), owner(Some("orders-0")));
        assert!(one.starts_with("orders-0") && one != other, "{one} {other}");
        assert!(owner(None).len() > 9, "{}", owner(None));
    }
}
