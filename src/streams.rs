//! From a table to its records: which stream, which shards, which pages.

pub mod budget;
pub mod client;
pub mod discovery;
pub mod find;
pub mod follow;
pub mod lineage;
pub mod pace;
pub mod rate;
pub mod reading;
pub mod resume;
pub mod shard_reader;
pub mod stream_reader;
pub mod update;
