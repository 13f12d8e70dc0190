//! Whether positions can be kept in a DynamoDB table: the table, its keys, and each action that the adapter needs on it.
//!
//! The actions are tried on an item of a partition that no adapter uses, which is deleted again; should that fail, DynamoDB deletes it
//! when it expires. It looks like a lease that was given back, so that whoever prints all positions passes over it. No lease is claimed.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;

use super::fix::{PositionsNames, SET_POSITIONS_REGION};
use super::report::{Check, within};
use crate::aws::errors::{CallError, ErrorKind};
use crate::aws::{AwsSettings, Connections};
use crate::checkpoint::dynamodb::aws::AwsItems;
use crate::checkpoint::dynamodb::items::{
    Expected, ItemError, ItemKey, ItemTable as _, Members, Stamp, Write, Written,
};
use crate::clock;
use crate::config::{Config, PositionsTable};

/// Should the item not be deleted, DynamoDB deletes it some time after so long.
const LEFT_FOR: Duration = Duration::from_hours(1);

const STAMP: Stamp = Stamp { epoch: 0, version: 1 };

/// Tries the table.
pub(super) async fn check(name: &'static str, config: &Config, table: &PositionsTable, limit: Duration) -> Check {
    let settings = AwsSettings::for_positions(&config.aws, table);
    let region = table.region.as_deref().or(config.source.common_region());
    let sdk = match within(limit, Connections::load(&settings, region)).await {
        Ok(Ok(connections)) => connections.config(None).map_err(|error| error.to_string()),
        Ok(Err(invalid)) => Err(invalid.to_string()),
        Err(late) => Err(late),
    };
    let sdk = match sdk {
        Ok(sdk) => sdk,
        Err(why) => return Check::fail(name, &why).with_fix(SET_POSITIONS_REGION),
    };
    let region = sdk.region().map(ToString::to_string).unwrap_or_default();
    let names = PositionsNames::of(&table.table, &region, sdk.endpoint_url().is_some());
    // It creates nothing.
    let items = AwsItems::for_positions(&sdk, table.table.as_str(), false);
    let mut trial = Trial { names, creates: table.create, items, limit };
    match trial.run(&config.source.consumer_group).await {
        Ok(()) => {
            let PositionsNames { name: table, region, .. } = &trial.names;
            Check::ok(name, &format!("the table {table} in {region} can be read and written"))
        }
        Err(Finding { is_fatal: false, what, fix }) => Check::warn(name, &what).with_fix(fix),
        Err(Finding { what, fix, .. }) => Check::fail(name, &what).with_fix(fix),
    }
}

struct Trial {
    names: PositionsNames,
    /// A missing table is created by the adapter.
    creates: bool,
    items: AwsItems,
    limit: Duration,
}

/// Why positions cannot be kept, or not as they should; with the fix.
struct Finding {
    is_fatal: bool,
    what: String,
    fix: String,
}

impl Trial {
    async fn run(&mut self, group: &str) -> Result<(), Finding> {
        let noticed = self.describe().await?;
        self.try_item(group).await?;
        match noticed {
            Some(finding) => Err(finding),
            None => self.expiry().await,
        }
    }

    /// The table and its keys; where nobody may look at the table, the actions on items decide.
    async fn describe(&mut self) -> Result<Option<Finding>, Finding> {
        let facts = match self.answer("DescribeTable", self.items.facts()).await? {
            Ok(Some(facts)) => facts,
            Ok(None) => return Err(self.missing()),
            Err(error) if error.kind == ErrorKind::Denied => {
                let what = format!("the table's keys cannot be checked: {error}");
                return Ok(Some(self.noticed(what, self.names.for_call(&error))));
            }
            Err(error) => return Err(self.failed(&error)),
        };
        self.names.known_as(facts.arn.as_deref());
        let name = &self.names.name;
        match facts.wrong_keys {
            Some(keys) => {
                let what = format!("the table {name} has other keys than positions need: {keys}");
                let fix =
                    format!("name another table in CHECKPOINT_STORE, such as one made by: {}", self.names.create());
                Err(Finding { is_fatal: true, what, fix })
            }
            None if !facts.is_active => {
                Err(self.noticed(format!("the table {name} cannot be used yet, or any more"), self.names.wait()))
            }
            None => Ok(None),
        }
    }

    fn missing(&self) -> Finding {
        let what = format!("there is no table {} in {}", self.names.name, self.names.region);
        let fix = self.names.create();
        match self.creates {
            true => self.noticed(what + ": the adapter creates it at its start", fix),
            false => Finding { is_fatal: true, what, fix },
        }
    }

    async fn expiry(&self) -> Result<(), Finding> {
        match self.answer("DescribeTimeToLive", self.items.expires()).await? {
            Ok(true) => Ok(()),
            Ok(false) => {
                let what =
                    format!("TTL of the table {} is off: entries of finished shards stay for ever", self.names.name);
                Err(self.noticed(what, self.names.enable_expiry()))
            }
            Err(error) if error.kind == ErrorKind::Denied => {
                let what = format!("the table's TTL cannot be checked: {error}");
                Err(self.noticed(what, self.names.for_call(&error)))
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Each action on items, as the adapter does it.
    async fn try_item(&self, group: &str) -> Result<(), Finding> {
        let key = key(group);
        let put = Write { key: key.clone(), expected: Expected::Absent, to: Some(members()) };
        self.write("PutItem", put).await?;
        let read = self.read(&key).await;
        // Whatever became of the reads.
        let deleted = self.write("DeleteItem", Write { key, expected: Expected::Is(STAMP), to: None }).await;
        read.and(deleted)
    }

    async fn read(&self, key: &ItemKey) -> Result<(), Finding> {
        self.decided("GetItem", self.items.get(key)).await?;
        self.decided("Query", self.items.query(&key.partition)).await.map(drop)
    }

    async fn write(&self, operation: &'static str, write: Write) -> Result<(), Finding> {
        match self.decided(operation, self.items.write(write)).await? {
            Written::Done => Ok(()),
            Written::Conflict(_) => {
                let what = format!("{operation}: the table {} does not keep what is written", self.names.name);
                Err(Finding { is_fatal: true, what, fix: self.names.reach() })
            }
        }
    }

    async fn decided<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, ItemError>>,
    ) -> Result<T, Finding> {
        let answer = self.answer(operation, call).await?;
        answer.map_err(|error| {
            let fix = error.call().map_or_else(|| self.names.reach(), |call| self.names.for_call(call));
            Finding { is_fatal: true, what: error.to_string(), fix }
        })
    }

    /// What comes of a call within the limit of a check.
    async fn answer<T>(&self, operation: &str, call: impl Future<Output = T>) -> Result<T, Finding> {
        let answer = within(self.limit, call).await;
        answer.map_err(|late| Finding { is_fatal: true, what: format!("{operation}: {late}"), fix: self.names.reach() })
    }

    fn failed(&self, error: &CallError) -> Finding {
        Finding { is_fatal: true, what: error.to_string(), fix: self.names.for_call(error) }
    }

    fn noticed(&self, what: String, fix: String) -> Finding {
        Finding { is_fatal: false, what, fix }
    }
}

/// Under the consumer group, in case that a policy allows no other; of a table that cannot be.
fn key(group: &str) -> ItemKey {
    let partition = format!("{group} dynamodb-streams-adapter-check-{:016x}", fastrand::u64(..));
    ItemKey { partition, entry: "lease".to_owned() }
}

fn members() -> Members {
    let expires = clock::now().duration_since(UNIX_EPOCH).unwrap_or_default() + LEFT_FOR;
    let members = [
        ("duration", json!("1ms")),
        ("epoch", json!(STAMP.epoch)),
        ("version", json!(STAMP.version)),
        ("format", json!(1)),
        ("expires", json!(expires.as_secs())),
    ];
    members.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}
