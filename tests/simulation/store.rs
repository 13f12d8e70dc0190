//! The real file store on a simulated disk: slow at times, and looked at by the judge after each save.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use dynamodb_streams_adapter::checkpoint::{
    CheckpointStore, FileStore, SaveError, StoreError, StoredChanges, StoredTable,
};
use futures_util::future::BoxFuture;

use crate::disk::{MemoryDisk, Outcome, Step};
use crate::fault::Fault;
use crate::plan::Moment;
use crate::world::{Inner, World};

pub struct SimulatedStore {
    pub world: Arc<World>,
    pub store: FileStore<MemoryDisk>,
}

impl CheckpointStore for SimulatedStore {
    fn load<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<Option<StoredTable>, StoreError>> {
        Box::pin(async move {
            self.wait().await;
            self.store.load(table).await
        })
    }

    fn save<'a>(&'a self, table: &'a str, changes: StoredChanges) -> BoxFuture<'a, Result<(), SaveError>> {
        Box::pin(async move {
            self.wait().await;
            let saved = self.store.save(table, changes.clone()).await;
            self.world.look(|inner, now| inner.look_at_save(table, &changes, saved.is_ok(), now));
            self.wait().await;
            saved
        })
    }
}

impl SimulatedStore {
    async fn wait(&self) {
        let takes = self.world.look(|inner, now| inner.disk_takes(now));
        self.world.edge(takes, |_, _| ()).await;
    }
}

impl Inner {
    pub fn disk_outcome(&mut self, step: Step, now: Moment) -> Outcome {
        let writes = matches!(step, Step::Create | Step::Write | Step::Sync);
        if writes && self.plan.during(Fault::FullDisk, now).is_some() {
            let kind = ErrorKind::StorageFull;
            return if self.chance.bool() { Outcome::Fails(kind) } else { Outcome::Torn(kind) };
        }
        match self.plan.during(Fault::FailingDisk, now) {
            Some(episode) if self.chance.f64() < episode.severity * 0.5 => match step {
                Step::Write => Outcome::Torn(ErrorKind::Other),
                _ => Outcome::Fails(ErrorKind::Other),
            },
            _ => Outcome::Done,
        }
    }

    /// Whether nothing has hindered writes for a while.
    pub fn disk_was_well(&self, now: Moment) -> bool {
        let since = now.saturating_sub(Duration::from_secs(60));
        let hinders = |fault| matches!(fault, Fault::FullDisk | Fault::FailingDisk | Fault::SlowDisk);
        let episodes = self.plan.episodes.iter().filter(|episode| hinders(episode.fault));
        episodes.clone().all(|episode| episode.until < since || episode.from > now)
    }

    fn disk_takes(&mut self, now: Moment) -> Duration {
        let slow = self.plan.during(Fault::SlowDisk, now).map_or(0.0, |episode| episode.severity);
        Duration::from_millis(self.chance.u64(1..6)) + Duration::from_secs_f64(20.0 * slow * self.chance.f64())
    }
}
