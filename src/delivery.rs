//! From an event to the sink: per-item order with many in flight, retries, and one probe when the sink is down.

pub mod health;
pub mod lanes;
pub mod retry;
pub mod sink;
