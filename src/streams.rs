//! From a table to its records: which stream, which shards, which pages.

pub mod budget;
pub mod client;
pub mod discovery;
pub mod lineage;
pub mod pace;
pub mod position;
pub mod rate;
pub mod update;
pub mod wire;
