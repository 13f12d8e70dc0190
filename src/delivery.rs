//! A CloudEvent reaches the sink.

pub mod sink;
