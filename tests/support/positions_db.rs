//! A DynamoDB for tables of positions: embedded, or the one whose address `POSITIONS_ENDPOINT` holds.

use tokio::sync::oneshot;

/// A service of DynamoDB. An embedded one ends when it is dropped.
pub struct PositionsDb {
    endpoint: String,
    _stop: Option<oneshot::Sender<()>>,
}

impl PositionsDb {
    pub async fn start() -> Self {
        if let Ok(endpoint) = std::env::var("POSITIONS_ENDPOINT") {
            return Self { endpoint, _stop: None };
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let database = dynoxide::Database::memory().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(dynoxide::server::serve_with_shutdown(listener, database, async {
            let _ = stopped.await;
        }));
        Self { endpoint, _stop: Some(stop) }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}
