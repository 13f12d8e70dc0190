//! From a table to its records: which stream, which shards, which pages.

pub mod client;
pub mod lineage;
pub mod pace;
pub mod position;
pub mod wire;
