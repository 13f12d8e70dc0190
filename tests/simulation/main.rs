//! Weeks of the adapter in virtual time.
mod aws;
mod batch;
mod disk;
mod fault;
mod judge;
mod life;
mod plan;
mod sabotage;
mod said;
mod service;
mod sink;
mod store;
mod world;
