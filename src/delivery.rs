//! From an event to the sink: per-item order with many in flight, retries, and one probe when the sink is down.

mod batch_size;
pub mod dead_letter;
pub mod dispatch;
pub mod health;
pub mod lanes;
pub mod parcel;
pub mod parked_items;
pub mod partial;
pub mod retry;
pub mod sink_controller;
