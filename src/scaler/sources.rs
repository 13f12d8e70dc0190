//! What stands behind the tables: AWS with the credentials that the rules name, and the adapters' table of positions.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

use super::standing::CurrentStanding;
use super::table_watch::{FORGOTTEN_AFTER, Sources, TableKey};
use crate::aws::{AwsSettings, Connections};
use crate::checkpoint::StoredTable;
use crate::checkpoint::dynamodb::aws::AwsItems;
use crate::checkpoint::dynamodb::peek;
use crate::config::{self, PositionsTable, ScalingIdentity};
use crate::records::Page;
use crate::streams::client::aws::AwsClient;
use crate::streams::client::{Call, IteratorStart, ShardQuery, StreamDescription, StreamsClient, TableDescription};
use crate::telemetry::metrics::ScalerMetrics;

/// A region at an endpoint with somebody's permissions.
type Place = (String, Option<String>, ScalingIdentity);

/// A client, and when somebody wanted it last.
type Wanted = (Arc<dyn StreamsClient>, Instant);

/// AWS, and the table of positions if there is one. Nothing is asked before it is needed.
pub(super) struct AwsSources {
    aws: config::Aws,
    positions: Option<PositionsTable>,
    items: OnceCell<AwsItems>,
    /// Triggers may name many regions: those that nobody wants any more are let go.
    clients: Mutex<BTreeMap<Place, Wanted>>,
    standing: CurrentStanding,
    metrics: ScalerMetrics,
}

impl AwsSources {
    /// Asks AWS about streams only while `standing` says that this replica reads.
    pub(super) fn new(
        aws: config::Aws,
        positions: Option<PositionsTable>,
        standing: CurrentStanding,
        metrics: ScalerMetrics,
    ) -> Self {
        Self { aws, positions, items: OnceCell::new(), clients: Mutex::default(), standing, metrics }
    }

    async fn client_for(&self, key: &TableKey) -> Result<Arc<dyn StreamsClient>, String> {
        let place = (key.region.clone(), key.endpoint.clone(), key.identity.clone());
        if let Some((known, wanted)) = self.clients.lock().await.get_mut(&place) {
            *wanted = Instant::now();
            return Ok(known.clone());
        }
        let settings = AwsSettings::for_scaling(&self.aws, &key.identity, key.endpoint.as_deref());
        let connections = Connections::load(&settings, Some(&key.region)).await.map_err(|error| error.to_string())?;
        let sdk = connections.config(None).map_err(|error| error.to_string())?;
        let (standing, metrics) = (self.standing.clone(), self.metrics.clone());
        let client = Arc::new(CountedClient { client: AwsClient::new(&sdk), standing, metrics });
        let mut clients = self.clients.lock().await;
        clients.retain(|_, (_, wanted)| wanted.elapsed() < FORGOTTEN_AFTER);
        Ok(clients.entry(place).or_insert((client, Instant::now())).0.clone())
    }

    async fn stored_of(&self, group: &str, table_arn: &str) -> Result<Option<StoredTable>, String> {
        let Some(table) = &self.positions else {
            return Err("the metric lag needs the adapters' table of positions: set CHECKPOINT_STORE".to_owned());
        };
        let items = self.items.get_or_try_init(|| self.open_positions(table)).await?;
        peek(items, group, table_arn).await.map_err(|error| error.to_string())
    }

    async fn open_positions(&self, table: &PositionsTable) -> Result<AwsItems, String> {
        let settings = AwsSettings::for_positions(&self.aws, table);
        let connections =
            Connections::load(&settings, table.region.as_deref()).await.map_err(|error| error.to_string())?;
        let sdk = connections.config(None).map_err(|error| format!("{error}, or set CHECKPOINT_REGION"))?;
        Ok(AwsItems::for_positions(&sdk, table.table.as_str(), false))
    }
}

impl Sources for AwsSources {
    fn client<'a>(&'a self, key: &'a TableKey) -> BoxFuture<'a, Result<Arc<dyn StreamsClient>, String>> {
        self.client_for(key).boxed()
    }

    fn stored<'a>(&'a self, group: &'a str, table_arn: &'a str) -> BoxFuture<'a, Result<Option<StoredTable>, String>> {
        self.stored_of(group, table_arn).boxed()
    }
}

/// A client whose calls are counted, and made only while this replica reads.
struct CountedClient {
    client: AwsClient,
    standing: CurrentStanding,
    metrics: ScalerMetrics,
}

impl CountedClient {
    fn count<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        call: Call<'a, T>,
        result: impl Fn(&T) -> &'static str + Send + 'a,
    ) -> Call<'a, T> {
        Box::pin(async move {
            let reads = self.standing.borrow().reads();
            if !reads {
                // Another replica may read already. The watch that wants this is being ended.
                pending::<()>().await;
            }
            let answer = call.await;
            let result = match &answer {
                Ok(answer) => result(answer),
                Err(error) => &error.code,
            };
            self.metrics.aws_called(operation, result);
            answer
        })
    }
}

impl StreamsClient for CountedClient {
    fn describe_table<'a>(&'a self, table: &'a str) -> Call<'a, TableDescription> {
        self.count("DescribeTable", StreamsClient::describe_table(&self.client, table), |_| "ok")
    }

    fn list_streams<'a>(&'a self, table: &'a str) -> Call<'a, Vec<String>> {
        self.count("ListStreams", StreamsClient::list_streams(&self.client, table), |_| "ok")
    }

    fn describe_stream<'a>(&'a self, stream: &'a str, shards: ShardQuery<'a>) -> Call<'a, StreamDescription> {
        self.count("DescribeStream", StreamsClient::describe_stream(&self.client, stream, shards), |_| "ok")
    }

    fn get_shard_iterator<'a>(&'a self, stream: &'a str, shard: &'a str, from: IteratorStart) -> Call<'a, String> {
        self.count("GetShardIterator", StreamsClient::get_shard_iterator(&self.client, stream, shard, from), |_| "ok")
    }

    fn get_records<'a>(&'a self, iterator: &'a str, limit: u32) -> Call<'a, Page> {
        let result = |page: &Page| if page.records.is_empty() { "empty" } else { "records" };
        self.count("GetRecords", StreamsClient::get_records(&self.client, iterator, limit), result)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::watch;

    use super::super::standing::Standing;
    use super::*;
    use crate::telemetry::metrics::Metrics;

    #[tokio::test(start_paused = true)]
    async fn clients_of_regions_that_nobody_names_any_more_are_let_go() {
        let metrics = Metrics::new("0", "unknown").expect("metrics");
        let standing = watch::Sender::new(Standing::Alone).subscribe();
        let sources = AwsSources::new(config::Aws::default(), None, standing, metrics.scaler());
        let (identity, table) = (ScalingIdentity::OfProcess, "orders".to_owned());
        let key = |region: &str| TableKey {
            region: region.to_owned(),
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            identity: identity.clone(),
            table: table.clone(),
        };
        for n in 0..5 {
            sources.client_for(&key(&format!("region-{n}"))).await.expect("a client");
        }
        tokio::time::advance(FORGOTTEN_AFTER - Duration::from_secs(1)).await;
        sources.client_for(&key("region-0")).await.expect("a client");
        tokio::time::advance(Duration::from_secs(2)).await;
        sources.client_for(&key("region-new")).await.expect("a client");
        let kept: Vec<String> = sources.clients.lock().await.keys().map(|(region, ..)| region.clone()).collect();
        assert_eq!(kept, ["region-0", "region-new"]);
    }
}
