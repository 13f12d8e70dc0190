//! From an event to the sink: per-item order with many in flight, retries, and no more than the sink takes.

mod attempt;
mod barriers;
mod batch_size;
pub mod dispatcher;
mod dispatcher_view;
pub mod handover;
mod lane;
pub mod lanes;
pub mod parked_items;
pub mod pending_event;
mod queues;
mod request;
mod request_load;
pub mod response_class;
pub mod retry;
mod settlement;
pub mod sink_controller;
