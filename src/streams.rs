//! From a table to its records: which stream, which shards, which pages.

pub mod client;
pub mod position;
pub mod wire;
