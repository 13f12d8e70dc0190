//! One table, from the search for its name to its last save: the one task that owns whatever reads, enters and stores it.
//!
//! Contract:
//! - Where processes share the store, the table is read only under a tenure. When that is over, everything that read, entered and stored
//!   has ended, and nothing of the table is left with delivery, before its lease is waited for again: what is known of it is loaded anew.
//! - The orderly end ([`TableStop`]): reading ends first. Once delivery has its last answers, positions are stored once more, and then the
//!   lease is given back. Until then it is renewed. A tenure that ends on the way ends all of that: another process goes on.
//! - A table that is read no further, because of `ON_DATA_LOSS=stop` or of a fault that concerns it alone, stays this process's.

use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, select};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::fault::Fault;
use super::table::{OpenTable, PositionStore, Table};
use super::table_lease::{AcquiredLease, TableLease};
use crate::checkpoint::CheckpointStore;
use crate::config;
use crate::delivery::handover::{Handover, TableWithdrawal};
use crate::lease::Tenure;
use crate::pipeline::Pipeline;
use crate::progress::checkpointer::Fenced;
use crate::streams::table_reader;

/// What tells a table to end, and is told how far that is.
#[derive(Debug, Clone, Default)]
pub struct TableStop {
    /// Reading is to end.
    pub reading: CancellationToken,
    /// Nobody reads the table any more, and nobody will.
    pub has_read: CancellationToken,
    /// Delivery has ended: the last save, then the lease.
    pub storing: CancellationToken,
}

/// One table and what it needs to run.
pub struct TableTask {
    pub table: Table,
    pub event: config::Event,
    /// Those who deliver.
    pub events: mpsc::Sender<Handover>,
}

/// What the table is read with: during one tenure, or for as long as the process lives where the table is nobody else's.
struct ReadingSession<'t> {
    store: Arc<dyn CheckpointStore>,
    tenure: Option<&'t Tenure>,
    /// For another process, which may have begun later than this one.
    has_waited: bool,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SessionEnd {
    /// As the process does, in order.
    Stopped,
    /// The tenure is over: another process goes on.
    Over,
}

/// What runs during one session.
struct Running {
    /// The reader, and the pipeline, which ends behind it.
    reading: JoinSet<Part>,
    reader: AbortHandle,
    checkpointer: JoinSet<Result<(), Fenced>>,
}

/// A part that has ended by itself, which a stop for the sake of this table alone does: both say why where it happens.
enum Part {
    Reader,
    Pipeline,
}

impl TableTask {
    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// When a part of it ends that should not.
    pub async fn run(self, stop: TableStop) -> Result<(), Fault> {
        let _has_read = stop.has_read.clone().drop_guard();
        let key = select! {
            () = stop.reading.cancelled() => return Ok(()),
            key = self.table.find_key() => key,
        };
        let Some(key) = key else {
            stop.reading.cancelled().await;
            return Ok(());
        };
        match self.table.store.clone() {
            PositionStore::Own(store) => {
                let session = ReadingSession { store, tenure: None, has_waited: false };
                self.read(&key, session, &stop).await.map(|_| ())
            }
            PositionStore::Leased { store, owner, duration } => {
                let lease = TableLease::new(store, &key, &owner, duration, self.table.progress.clone());
                self.read_under_leases(&key, lease, &stop).await
            }
        }
    }

    /// Reads the table whenever it is this process's.
    async fn read_under_leases(&self, key: &str, mut lease: TableLease, stop: &TableStop) -> Result<(), Fault> {
        let mut is_first = true;
        loop {
            let acquired = select! {
                () = stop.reading.cancelled() => None,
                acquired = lease.acquire() => Some(acquired),
            };
            let Some(AcquiredLease { granted, has_waited }) = acquired else {
                stop.has_read.cancel();
                lease.give_up().await;
                return Ok(());
            };
            let session = ReadingSession {
                store: lease.positions(&granted),
                tenure: Some(&granted.tenure),
                has_waited: has_waited || !is_first,
            };
            let end = {
                let keeping = pin!(lease.keep(&granted));
                let reading = pin!(self.read(key, session, stop));
                match select(reading, keeping).await {
                    // It is over for the one who keeps it too, who says so.
                    Either::Left((Ok(SessionEnd::Over), keeping)) => {
                        keeping.await;
                        SessionEnd::Over
                    }
                    Either::Left((end, _)) => end?,
                    Either::Right(((), reading)) => reading.await?,
                }
            };
            if end == SessionEnd::Stopped {
                // Nobody else's end waits for a store that does not answer.
                stop.has_read.cancel();
                lease.release(&granted).await;
                return Ok(());
            }
            self.withdraw().await;
            is_first = false;
        }
    }

    /// Reads the table until it is told to stop or its tenure is over.
    async fn read(&self, key: &str, session: ReadingSession<'_>, stop: &TableStop) -> Result<SessionEnd, Fault> {
        let ReadingSession { store, tenure, has_waited } = session;
        select! {
            () = over(tenure) => return Ok(SessionEnd::Over),
            () = stop.reading.cancelled() => return Ok(SessionEnd::Stopped),
            () = self.table.progress.load(&*store, key) => {}
        }
        let may_read = table_reader::may_read(&self.table.progress, self.table.on_data_loss);
        let mut running = self.start(self.table.open(key, store, has_waited), may_read, stop.storing.clone());
        select! {
            () = over(tenure) => return running.abort(SessionEnd::Over).await,
            () = stop.reading.cancelled() => {}
            fault = running.fault(tenure) => return Err(fault),
        }
        running.end_reading().await?;
        stop.has_read.cancel();
        select! {
            () = over(tenure) => running.abort(SessionEnd::Over).await,
            stored = running.stored(tenure) => stored.map(|()| SessionEnd::Stopped),
        }
    }

    fn start(&self, open: OpenTable, may_read: bool, storing: CancellationToken) -> Running {
        let OpenTable { reader, pages, checkpointer } = open;
        let Table { progress, pipeline, .. } = &self.table;
        let pipeline = Pipeline::new(progress.clone(), self.event.clone(), self.events.clone(), pipeline.clone());
        let (mut reading, mut storing_part) = (JoinSet::new(), JoinSet::new());
        storing_part.spawn(checkpointer.run(storing));
        reading.spawn(async move {
            pipeline.run(pages).await;
            Part::Pipeline
        });
        let reader = reading.spawn(async move {
            if may_read {
                // Its pipeline ended first, or the policy is to stop.
                let _ = reader.run().await;
            }
            Part::Reader
        });
        Running { reading, reader, checkpointer: storing_part }
    }

    /// Takes all that is left of the table out of delivery, and forgets what was known of it.
    async fn withdraw(&self) {
        let (wanted, is_done) = TableWithdrawal::of(self.table.progress.clone());
        if self.events.send(Handover::Withdrawal(wanted)).await.is_ok() {
            // Nobody tells: delivery has ended, and with it what was left there.
            let _ = is_done.await;
        }
        self.table.reading.clear();
        self.table.progress.reset();
    }
}

impl Running {
    /// Waits until a part ends that should not.
    async fn fault(&mut self, tenure: Option<&Tenure>) -> Fault {
        loop {
            let fault = select! {
                Some(ended) = self.checkpointer.join_next() => checkpointer_ended(ended, tenure),
                Some(ended) = self.reading.join_next() => part_ended(ended).err(),
                // All have ended as they may: the tenure is over.
                else => std::future::pending().await,
            };
            if let Some(fault) = fault {
                return fault;
            }
        }
    }

    /// Ends reading. Whatever was read and handed on is entered.
    async fn end_reading(&mut self) -> Result<(), Fault> {
        self.reader.abort();
        while let Some(ended) = self.reading.join_next().await {
            part_ended(ended)?;
        }
        Ok(())
    }

    /// Waits for the last save.
    async fn stored(&mut self, tenure: Option<&Tenure>) -> Result<(), Fault> {
        while let Some(ended) = self.checkpointer.join_next().await {
            match ended {
                Ok(Ok(())) => return Ok(()),
                ended => {
                    if let Some(fault) = checkpointer_ended(ended, tenure) {
                        return Err(fault);
                    }
                }
            }
        }
        std::future::pending().await
    }

    /// Ends everything, and stores nothing more.
    async fn abort(mut self, end: SessionEnd) -> Result<SessionEnd, Fault> {
        self.checkpointer.shutdown().await;
        self.end_reading().await?;
        Ok(end)
    }
}

/// Waits for the end of a tenure; for ever where the table is nobody else's.
async fn over(tenure: Option<&Tenure>) {
    match tenure {
        Some(tenure) => tenure.over().cancelled().await,
        None => std::future::pending().await,
    }
}

/// A checkpointer ends unasked only when another process has taken over: then so does the tenure.
fn checkpointer_ended(ended: Result<Result<(), Fenced>, JoinError>, tenure: Option<&Tenure>) -> Option<Fault> {
    match (ended, tenure) {
        (Ok(Err(Fenced)), Some(tenure)) => {
            tenure.end();
            None
        }
        (Ok(_), _) => Some(Fault::Ended("checkpointer")),
        (Err(failed), _) => Some(Fault::Failed("checkpointer", failed)),
    }
}

/// Aborted parts have ended as they were told.
fn part_ended(ended: Result<Part, JoinError>) -> Result<(), Fault> {
    match ended {
        Ok(Part::Reader | Part::Pipeline) => Ok(()),
        Err(failed) if failed.is_cancelled() => Ok(()),
        Err(failed) => Err(Fault::Failed("reader or pipeline", failed)),
    }
}
