//! An embedded DynamoDB for tables of positions.

use aws_sdk_dynamodb::types::AttributeValue;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server of its own on loopback. It ends when it is dropped.
pub struct EmbeddedDynamoDb {
    endpoint: String,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl EmbeddedDynamoDb {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let database = dynoxide::Database::memory().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let ends = async {
                let _ = stopped.await;
            };
            let _ = dynoxide::server::serve_with_shutdown(listener, database, ends).await;
        });
        Self { endpoint, stop: Some(stop), task }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn client(&self) -> aws_sdk_dynamodb::Client {
        let credentials = aws_sdk_dynamodb::config::Credentials::new("test", "test", None, None, "test");
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
            .region(aws_sdk_dynamodb::config::Region::new("eu-west-1"))
            .credentials_provider(credentials)
            .endpoint_url(&self.endpoint);
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    /// Sort keys of all items of a table.
    pub async fn entries(&self, table: &str) -> Vec<String> {
        let items = self.client().scan().table_name(table).send().await.unwrap().items.unwrap_or_default();
        let mut entries: Vec<String> =
            items.iter().map(|item| item["entry"].as_s().map_or_else(|_| String::new(), Clone::clone)).collect();
        entries.sort_unstable();
        entries
    }

    /// Writes a lease as an owner would that has claimed or renewed it, under the claim that stands there.
    pub async fn put_lease(&self, table: &str, partition: &str, owner: &str, version: u64) {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let number = |number: u64| AttributeValue::N(number.to_string());
        let get = self.client().get_item().table_name(table).key("group_table", text(partition));
        let found = get.key("entry", text("lease")).send().await.unwrap().item;
        let epoch = found.and_then(|lease| lease["epoch"].as_n().ok()?.parse().ok()).unwrap_or(1);
        let put = self.client().put_item().table_name(table).item("group_table", text(partition));
        let put = put.item("entry", text("lease")).item("owner", text(owner)).item("duration", text("3s"));
        let put = put.item("epoch", number(epoch)).item("version", number(version)).item("format", number(1));
        put.send().await.unwrap();
    }

    /// Writes an entry that no version knows.
    pub async fn put_strange_entry(&self, table: &str, partition: &str) {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let number = |number: u64| AttributeValue::N(number.to_string());
        let put = self.client().put_item().table_name(table).item("group_table", text(partition));
        let put = put.item("entry", text("moon")).item("epoch", number(1)).item("version", number(1));
        put.item("format", number(1)).send().await.unwrap();
    }
}

impl Drop for EmbeddedDynamoDb {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        self.task.abort();
    }
}
