//! Memory, shutdown and the port of the process.

use std::net::SocketAddr;
use std::time::Duration;

use super::catalog;
use super::choice::{Choice, choices};
use super::parse;
use super::reader::{Reader, Reported};

/// Memory, shutdown and the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Bytes for records read and not yet settled, whole process: 1 MiB to 1 TiB.
    pub buffer_memory: usize,
    /// From SIGTERM to exit, drain included.
    pub shutdown_timeout: Duration,
    /// Where probes, metrics and status are served; port 0 lets the system choose.
    pub http_address: SocketAddr,
    /// Where metrics are served besides, and nothing else; not where `http_address` is.
    pub metrics_address: Option<SocketAddr>,
    /// Whether the counters of Knative's adapters are there besides.
    pub legacy_metrics: LegacyMetrics,
}

choices! {
    /// Whether the counters of Knative's adapters are there besides.
    LegacyMetrics {
        /// They are not.
        Off = "off",
        /// They are.
        On = "on",
    }
}

impl Process {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, Reported> {
        let buffer_memory = reader.value(&catalog::BUFFER_MEMORY, parse::size);
        let shutdown_timeout = reader.value(&catalog::SHUTDOWN_TIMEOUT, parse::duration);
        let http_address = reader.value(&catalog::HTTP_ADDRESS, parse::address);
        let metrics_address = reader.optional(&catalog::METRICS_ADDRESS, parse::address);
        let legacy_metrics = reader.value(&catalog::LEGACY_METRICS, LegacyMetrics::parse);
        let (http_address, metrics_address) = (http_address?, metrics_address?);
        let is_served_anyway = |address: &SocketAddr| *address == http_address && address.port() != 0;
        Ok(Self {
            buffer_memory: buffer_memory?,
            shutdown_timeout: shutdown_timeout?,
            http_address,
            legacy_metrics: legacy_metrics?,
            metrics_address: metrics_address.filter(|address| !is_served_anyway(address)),
        })
    }
}
