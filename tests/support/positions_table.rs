//! An embedded DynamoDB for tables of positions, and a way to it that can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_dynamodb::types::AttributeValue;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

/// A server of its own on loopback. It ends when it is dropped.
pub struct EmbeddedDynamoDb {
    address: SocketAddr,
    endpoint: String,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl EmbeddedDynamoDb {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = format!("http://{address}");
        let database = dynoxide::Database::memory().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let ends = async {
                let _ = stopped.await;
            };
            let _ = dynoxide::server::serve_with_shutdown(listener, database, ends).await;
        });
        Self { address, endpoint, stop: Some(stop), task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
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

/// A proxy on loopback. While it is cut, every connection ends and none leads anywhere.
pub struct Way {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
    refused: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Way {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, refused) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (is_open, opened) = watch::channel(true);
        let task = tokio::spawn(forward(listener, target, opened, refused.clone()));
        Self { address, is_open, refused, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn cut(&self) {
        self.is_open.send_replace(false);
    }

    pub fn mend(&self) {
        self.is_open.send_replace(true);
    }

    /// Connections that led nowhere.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(listener: TcpListener, target: SocketAddr, is_open: watch::Receiver<bool>, refused: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    while let Ok((mut from, _)) = listener.accept().await {
        let mut is_open = is_open.clone();
        if !*is_open.borrow() {
            refused.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        connections.spawn(async move {
            let Ok(mut to) = TcpStream::connect(target).await else { return };
            tokio::select! {
                _ = is_open.wait_for(|is_open| !is_open) => {}
                _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
            }
        });
    }
}
