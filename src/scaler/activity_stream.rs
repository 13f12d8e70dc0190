//! One call of `StreamIsActive`: says at its beginning what holds, and then only what changes, since each `true` postpones KEDA's scaling to
//! zero.
//!
//! Contract: it ends without an error at the end of the process, and when another replica reads than the one that it was opened by, so that
//! KEDA comes back at once; after an error KEDA waits longer each time. What is not known is nothing to say, nor is that nobody reads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::answers::{Answers, DEADLINE, Followed, Permitted};
use super::calls::status;
use super::externalscaler::{IsActiveResponse, ScaledObjectRef};
use super::reader_client::{NoAnswer, ReaderClient};
use super::standing::{CurrentStanding, Reading, Standing};
use super::table_view::TableView;

/// How often a stream looks although nothing was shown: what is known grows old, and lag grows.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How often it is tried again to open a stream of a replica that does not answer.
const AWAY_INTERVAL: Duration = Duration::from_secs(1);

/// A stream, open or about to be.
pub(super) struct ActivityStream {
    pub(super) answers: Arc<Answers>,
    pub(super) reader: Arc<ReaderClient>,
    pub(super) standing: CurrentStanding,
    pub(super) stop: CancellationToken,
    pub(super) of: ScaledObjectRef,
    pub(super) permitted: Permitted,
    /// The run of a process that is to answer, if another replica asks.
    pub(super) only: Option<String>,
    pub(super) source: Source,
}

/// Where its answers come from.
pub(super) enum Source {
    NotYet,
    Own(Box<OwnStream>),
    Other(Box<Streaming<IsActiveResponse>>),
    Ended,
}

pub(super) struct OwnStream {
    /// None: there is no other replica.
    reading: Option<Reading>,
    followed: Followed,
    view: watch::Receiver<TableView>,
    sent: Option<bool>,
}

impl ActivityStream {
    /// What holds now, if it was not said before, else what holds next; none at the end.
    pub(super) async fn next(&mut self) -> Option<Result<bool, Status>> {
        if matches!(self.source, Source::NotYet) {
            match self.open().await {
                Ok(source) => self.source = source,
                Err(status) => {
                    self.source = Source::Ended;
                    return Some(Err(status));
                }
            }
        }
        match &mut self.source {
            Source::Own(own) => own.next(&self.stop).await.map(Ok),
            Source::Other(stream) => select! {
                () = self.stop.cancelled() => None,
                _ = self.standing.changed() => None,
                message = stream.message() => message.ok().flatten().map(|message| Ok(message.result)),
            },
            Source::NotYet | Source::Ended => None,
        }
    }

    /// Waits until somebody reads.
    async fn open(&mut self) -> Result<Source, Status> {
        loop {
            let standing = self.standing.borrow_and_update().clone();
            match standing {
                Standing::Alone if self.only.is_none() => return self.own(None),
                Standing::Reader(reading) if reading.lasts() && reading.is_meant_by(self.only.as_deref()) => {
                    return self.own(Some(reading));
                }
                _ if self.only.is_some() => return Ok(Source::Ended),
                Standing::Other(other) => {
                    let opened = self.reader.stream(&other, self.of.clone(), Instant::now() + DEADLINE).await;
                    match opened {
                        Ok(stream) => return Ok(Source::Other(Box::new(stream))),
                        Err(NoAnswer::Refused(status)) => return Err(status),
                        Err(NoAnswer::Unreachable(_)) => {}
                    }
                }
                Standing::Alone | Standing::Reader(_) | Standing::Nobody(_) => {}
            }
            select! {
                () = self.stop.cancelled() => return Ok(Source::Ended),
                changed = timeout(AWAY_INTERVAL, self.standing.changed()) => if let Ok(Err(_)) = changed {
                    return Ok(Source::Ended);
                },
            }
        }
    }

    fn own(&self, reading: Option<Reading>) -> Result<Source, Status> {
        let followed = self.answers.follow(&self.permitted).map_err(|refusal| status(&refusal))?;
        let view = followed.view();
        Ok(Source::Own(Box::new(OwnStream { reading, followed, view, sent: None })))
    }
}

impl OwnStream {
    async fn next(&mut self, stop: &CancellationToken) -> Option<bool> {
        let reading = self.reading.clone();
        match reading {
            None => self.next_change(stop).await,
            Some(reading) => reading.outlasts(self.next_change(stop)).await.flatten(),
        }
    }

    async fn next_change(&mut self, stop: &CancellationToken) -> Option<bool> {
        loop {
            self.view.mark_unchanged();
            // KEDA opens it anew, of a watch that goes on.
            if self.followed.has_ended() {
                return None;
            }
            // What is not known is nothing to say.
            if let Ok(load) = self.followed.load()
                && self.sent != Some(load.is_active)
            {
                self.sent = Some(load.is_active);
                return self.sent.filter(|_| !stop.is_cancelled());
            }
            select! {
                () = stop.cancelled() => return None,
                () = self.followed.changed(&mut self.view) => {}
                () = sleep_until(Instant::now() + LOOK_INTERVAL) => {}
            }
        }
    }
}
