//! The real port and page over a `/status` that the test makes up.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use dynamodb_streams_adapter::admin::{self, Admin, AdminHosts};
use dynamodb_streams_adapter::telemetry::metrics::Metrics;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The port. It is closed when it is dropped.
pub struct Canned {
    status: Arc<Mutex<Value>>,
    pub address: SocketAddr,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Canned {
    pub async fn serve(status: Value) -> Self {
        let status = Arc::new(Mutex::new(status));
        let mut canned = Self { status, address: "127.0.0.1:0".parse().unwrap(), running: None };
        canned.start().await;
        canned
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// From now on it says this.
    pub fn says(&self, status: Value) {
        *self.status.lock().unwrap() = status;
    }

    /// Opens the port, at the address of last time if there was one.
    pub async fn start(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (stop, status) = (CancellationToken::new(), self.status.clone());
        let admin = Admin {
            health: Arc::default(),
            metrics: Metrics::new("1", "r").unwrap(),
            refresh: Box::new(|| {}),
            status: Box::new(move || status.lock().unwrap().clone()),
            hosts: AdminHosts::default(),
        };
        let stopped = stop.clone();
        let server = tokio::spawn(async move { admin::serve(listener, Arc::new(admin), stopped).await.unwrap() });
        self.running = Some((stop, server));
    }

    /// Closes the port.
    pub async fn stop(&mut self) {
        let (stop, server) = self.running.take().unwrap();
        stop.cancel();
        server.await.unwrap();
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        if let Some((stop, _)) = &self.running {
            stop.cancel();
        }
    }
}

/// What a healthy adapter says of these tables.
pub fn healthy(tables: Vec<Value>) -> Value {
    json!({
        "version": "1.2.3", "time": "2026-01-01T12:00:00Z", "started": "2026-01-01T08:00:00Z", "not_ready": null,
        "sink": sink(), "dead_letter_sink": null, "longest_lane": null,
        "tables": tables,
    })
}

/// A sink that takes all it gets.
pub fn sink() -> Value {
    json!({
        "url": "http://broker.example", "state": "up", "failing_since": null, "last_error": null, "rate": null,
        "capacity": null, "limited_by": null, "paused_until": null, "in_flight": 3, "max_in_flight": 64,
        "attempt_seconds": 0.012,
    })
}

/// A table that is caught up.
pub fn table(name: &str, shards: Vec<Value>, finished: Vec<Value>) -> Value {
    json!({
        "table": name, "waiting_for": null, "not_ready": null, "lag_seconds": 0.0, "unsettled_events": 12,
        "in_flight_events": 3, "parked_items": 0, "parked": [], "buffered_bytes": 123_456, "buffer_is_full": false,
        "records_read": 1_234_567, "events_delivered": 1_234_555, "positions_unstored_for_seconds": 0.4,
        "last_errors": {"aws": null, "sink": null, "store": null}, "recent_errors": [],
        "shards": shards, "waiting_shards": 0, "finished_shards": finished.len(), "finished": finished,
    })
}

/// An id as AWS makes them.
pub fn id(number: usize) -> String {
    format!("shardId-{:020}-{:08x}", 1_767_225_600_000 + number, number * 2_654_435_761 % 0x1_0000_0000)
}

/// An open shard.
pub fn shard(id: &str, parent: Option<&str>, lag: f64) -> Value {
    json!({
        "stream": "arn:aws:dynamodb:eu-west-1:111122223333:table/orders/stream/2026-01-01T00:00:00.000",
        "shard": id, "parent": parent, "state": if lag > 0.0 { "reading" } else { "caught-up" },
        "read_to": "after 100000000000000000000042", "settled_to": "after 100000000000000000000041",
        "unsettled_events": 4, "caught_up": lag == 0.0, "lag_seconds": lag, "newest_record": "2026-01-01T11:59:58Z",
    })
}

/// So many lineages of which the first of every seven has been split, over finished shards of `generations`.
pub fn large(lineages: usize, generations: usize) -> Value {
    let (mut shards, mut finished) = (Vec::new(), Vec::new());
    for lineage in 0..lineages {
        let mut parent: Option<String> = None;
        for generation in 0..generations {
            let own = id(lineage * 100 + generation);
            finished.push(json!({"shard": own, "parent": parent}));
            parent = Some(own);
        }
        for child in 0..if lineage % 7 == 0 { 2 } else { 1 } {
            let lag = [0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 90.0, 0.0, 0.0, 0.0, 0.0, 7200.0][lineage % 12];
            shards.push(shard(&id(lineage * 100 + 90 + child), parent.as_deref(), lag));
        }
    }
    let mut table = table("orders", shards, finished);
    table["lag_seconds"] = 7200.into();
    table
}
