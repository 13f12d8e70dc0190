//! What all tasks that read one table share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::budget::Budget;
use super::client::StreamsClient;
use super::pace::Pace;
use super::rate::Rate;
use super::update::{ShardNumber, Update};
use crate::telemetry::TableTelemetry;

pub use crate::config::OnDataLoss;

/// How long DynamoDB Streams keeps a record.
///
/// Source: "stream records have a lifetime of 24 hours" in the DynamoDB Developer Guide.
pub const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// The parts that reading one table needs.
pub struct Reading {
    /// AWS.
    pub client: Arc<dyn StreamsClient>,
    /// How fast shards are polled.
    pub pace: Pace,
    /// This table's share of the buffer.
    pub budget: Arc<Budget>,
    /// Shared by all tables: an account-wide limit.
    pub describe_rate: Arc<Rate>,
    /// The policy.
    pub on_data_loss: OnDataLoss,
    /// Where updates go.
    pub updates: mpsc::Sender<Update>,
    /// Metrics, logs and health of this table.
    pub telemetry: Arc<TableTelemetry>,
    /// Hands out shard numbers.
    pub numbers: AtomicU32,
}

/// The one who takes the updates is gone: the process is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("reading was stopped")]
pub struct Stopped;

impl Reading {
    /// A number for a shard of this table.
    pub fn number(&self) -> ShardNumber {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Hands an update down; waits while those below are busy.
    ///
    /// # Errors
    /// When nobody takes updates any more.
    pub async fn tell(&self, update: Update) -> Result<(), Stopped> {
        self.updates.send(update).await.map_err(|_| Stopped)
    }
}

/// The pause after so many failed calls in a row: exponential from `min` to `max`, between a half and the whole of it.
pub fn pause_after(failures: u32, min: Duration, max: Duration) -> Duration {
    let ceiling = min.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(max);
    ceiling.mul_f64(0.5 + 0.5 * fastrand::f64())
}
