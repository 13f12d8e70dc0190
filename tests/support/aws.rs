//! DynamoDB Streams over HTTP, as AWS behaves and misbehaves, scripted from the test.

mod calls;
mod faults;
pub mod model;
mod server;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::task::JoinHandle;

pub use faults::Trouble;
pub use model::{Children, LastPage, World, Write};

/// A scripted AWS on loopback. It ends when it is dropped.
pub struct FakeAws {
    world: Arc<Mutex<World>>,
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl FakeAws {
    /// Starts one without tables.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let world = Arc::new(Mutex::new(World::default()));
        let server = tokio::spawn(server::serve(listener, world.clone()));
        Self { world, address, server }
    }

    /// Starts one with a table that has a stream of so many shards.
    pub async fn with_table(name: &str, shards: usize) -> Self {
        let aws = Self::start().await;
        aws.script().create_table(name, shards);
        aws
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The world behind it, to look at or to change.
    pub fn script(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Writes `versions` versions of each of `items` items, in turns.
    pub fn write(&self, table: &str, items: usize, versions: usize) {
        let mut world = self.script();
        for _ in 0..versions {
            for item in 0..items {
                world.put(table, &format!("item-{item}"));
            }
        }
    }

    /// Writes so many changes of random items, a few at a time, until all are written.
    pub async fn write_slowly(&self, table: &str, items: usize, writes: usize, pause: Duration) {
        for n in 0..writes {
            self.script().put(table, &format!("item-{}", (n * 7919) % items));
            if n % 5 == 4 {
                tokio::time::sleep(pause).await;
            }
        }
    }
}

impl Drop for FakeAws {
    fn drop(&mut self) {
        self.server.abort();
    }
}
