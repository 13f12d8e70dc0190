//! One shard's life within its stream: opened, read to its end, or gone, and forgotten at last.

use std::time::SystemTime;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Debt, Finished, MARKER_LIFE, Outcome, Running, StreamReader, report};
use crate::clock;
use crate::records::{Entry, Gap, LossReason, Position, ShardId};
use crate::streams::lineage::Ready;
use crate::streams::reading::{OnDataLoss, Stopped, Task};
use crate::streams::shard_reader::{End, ShardReader, State};
use crate::streams::stream_reader::Beginning;
use crate::streams::update::{ShardPage, Update};
use crate::telemetry::events;

impl StreamReader {
    pub(super) async fn open_ready(&mut self) -> Result<(), Stopped> {
        let owed = self.beginning == Beginning::Everything;
        for ready in self.lineage.take_ready() {
            // What follows a shard that was read here is owed from its first record on, whatever the start was.
            let follows = self.parents_end(&ready).is_some();
            let from = if follows { Position::Start } else { self.start };
            let debt = Debt { owed: owed || follows, vouched: clock::now() };
            self.open(ready, from, debt).await?;
        }
        let now = Instant::now();
        self.discovery.retain_hunts(now, |parent| !self.lineage.has_child(parent));
        for parent in self.lineage.closed_while_reading() {
            if let Some(running) = self.running.get(parent) {
                running.closed.cancel();
            }
        }
        let counts = self.lineage.counts();
        self.reading.telemetry.shards(counts.reading, counts.waiting, counts.finished);
        Ok(())
    }

    pub(super) async fn open(&mut self, ready: Ready, from: Position, debt: Debt) -> Result<(), Stopped> {
        self.spawn(ready, from, debt, false).await
    }

    /// When the end of a shard's parent was read, if that was done here.
    pub(super) fn parents_end(&self, shard: &Ready) -> Option<Instant> {
        self.read_at.get(shard.parent.as_ref()?)?.read
    }

    pub(super) async fn open_latest(&mut self, leaf: Ready) -> Result<(), Stopped> {
        self.spawn(leaf, self.start, Debt { owed: false, vouched: clock::now() }, true).await
    }

    pub(super) async fn spawn(
        &mut self,
        ready: Ready,
        from: Position,
        debt: Debt,
        latest: bool,
    ) -> Result<(), Stopped> {
        let (number, closed) = (self.reading.number(), CancellationToken::new());
        let handed_over = self.parents_end(&ready);
        let Ready { id, parent } = ready;
        events::ShardOpened { stream: &self.facts.arn, shard: &id, from: &from.to_string() }
            .emit(&self.reading.telemetry);
        let begun = latest.then(|| {
            let (begun, beginning) = oneshot::channel();
            self.beginnings.push(beginning);
            begun
        });
        let (facts, shard) = (self.facts.clone(), number);
        self.reading.tell(Task::Stream, Update::ShardOpened { shard, id: id.clone(), facts, from, parent }).await?;
        let reader = ShardReader {
            reading: self.reading.clone(),
            facts: self.facts.clone(),
            id: id.clone(),
            number,
            position: from,
            latest: begun,
            owed: debt.owed,
            vouched: debt.vouched,
            closed: closed.clone(),
            handed_over,
            state: State::default(),
        };
        self.running.insert(id.clone(), Running { number, closed, owed: debt.owed });
        self.readers.spawn(reader.run().map(move |end| (id, end)));
        Ok(())
    }

    pub(super) async fn skip(&mut self, ready: Ready, at: SystemTime) -> Result<(), Stopped> {
        let (shard, facts) = (self.reading.number(), self.facts.clone());
        self.read_at.insert(ready.id.clone(), Finished { number: shard, at, read: None });
        self.reading
            .tell(Task::Stream, Update::ShardSkipped { shard, id: ready.id, facts, parent: ready.parent, at })
            .await
    }

    pub(super) async fn reader_ended(
        &mut self,
        ended: Result<(ShardId, End), tokio::task::JoinError>,
    ) -> Result<Option<Outcome>, Stopped> {
        let (id, end) = match ended {
            Ok(ended) => ended,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        match end {
            End::Read => self.shard_was_read(&id).await?,
            End::Missing(position) => {
                self.vanished.push((id, position));
                self.discovery.hurry(Instant::now());
            }
            End::Lost => return Ok(Some(Outcome::Lost)),
            End::Stopped => return Err(Stopped),
        }
        Ok(None)
    }

    /// Everything of a shard was handed down: its children go on at once.
    pub(super) async fn shard_was_read(&mut self, id: &ShardId) -> Result<(), Stopped> {
        let Some(running) = self.running.remove(id) else {
            return Err(self.reading.broken(&format!("shard {id} was read to its end and had no reader")));
        };
        events::ShardEnded { stream: &self.facts.arn, shard: id }.emit(&self.reading.telemetry);
        let finished = Finished { number: running.number, at: clock::now(), read: Some(Instant::now()) };
        self.read_at.insert(id.clone(), finished);
        self.reading.tell(Task::Stream, Update::ShardEnded { shard: running.number }).await?;
        self.lineage.read_to_end(id);
        if !self.lineage.has_child(id) {
            self.discovery.hunt(id.clone(), Instant::now());
        }
        self.open_ready().await
    }

    /// AWS does not know a shard that was not read to its end.
    pub(super) async fn shard_is_gone(&mut self, id: &ShardId, position: Position) -> Result<(), Stopped> {
        let Some(running) = self.running.get(id) else {
            return Err(self.reading.broken(&format!("shard {id} is gone and had no reader")));
        };
        if running.owed || matches!(position, Position::After(_)) {
            let mut gap = Gap::at(&self.facts, Some(id), position, LossReason::ShardMissing);
            if self.reading.on_data_loss == OnDataLoss::Stop {
                gap.resume = None;
                self.lost = true;
            }
            report(&self.reading, &gap);
            let page = ShardPage {
                shard: running.number,
                facts: self.facts.clone(),
                entries: vec![Entry::Gap(gap)],
                read_at: clock::now(),
                caught_up: true,
            };
            self.reading.budget.charge(page.entries.iter().map(Entry::cost).sum());
            self.reading.tell(Task::Stream, Update::Page(page)).await?;
        }
        if self.lost { Ok(()) } else { self.shard_was_read(id).await }
    }

    pub(super) async fn forget_old_markers(&mut self) -> Result<(), Stopped> {
        let now = clock::now();
        let old = |finished: &Finished| now.duration_since(finished.at).is_ok_and(|age| age > MARKER_LIFE);
        let ids: Vec<ShardId> =
            self.read_at.iter().filter(|(_, finished)| old(finished)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            if self.lineage.forget(&id)
                && let Some(finished) = self.read_at.remove(&id)
            {
                self.reading.tell(Task::Stream, Update::ShardForgotten { shard: finished.number }).await?;
            }
        }
        Ok(())
    }
}
