//! Follows a table from stream to stream.
//!
//! Contract:
//! - A stream that an earlier run had begun is read to its end before a newer one of the table is begun; the newer one is
//!   then read from its start. A first start begins with the table's current stream, and where there was none at that
//!   time, with everything in the first one that appears.
//! - Whatever is missing (the table, its stream, a permission) is waited for, and said; nothing here ends by itself, except
//!   when data was lost and the policy is to stop.
//! - A stream is taken for gone only when AWS says so again and again; what is stored of it stays.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::reading::{OnDataLoss, Reading, Step, Stopped, Task};
use super::stream_locator::{LocatedStream, StreamLocator};
use super::stream_reader::{Beginning, Outcome, StreamReader, report};
use super::update::{ShardPage, Update};
use crate::backoff::pause_after;
use crate::checkpoint::{StoredStream, StoredTable};
use crate::clock;
use crate::records::{Entry, Gap, LossReason, Position, StreamDetails};
use crate::telemetry::events;

/// The id of the shard that stands for a stream that vanished: in the file of positions and in `/status`.
const WHOLE_STREAM: &str = "the-whole-stream";

const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);

pub struct Follower {
    /// What all its readers share.
    pub reading: Arc<Reading>,
    pub locator: Arc<StreamLocator>,
    /// What an earlier run has left.
    pub stored: StoredTable,
    /// Where a first start begins.
    pub beginning: Beginning,
}

impl Follower {
    /// Reads the table for as long as the process lives.
    ///
    /// # Errors
    /// When nobody takes updates any more.
    pub async fn run(self) -> Result<(), Stopped> {
        let mut begun = !self.stored.streams.is_empty();
        let mut last = self.stored.streams.last().map(|stream| stream.arn.clone());
        for stream in self.stored.streams.iter().filter(|stream| !stream.done) {
            if !self.read(&stream.arn, Some(stream), Beginning::Everything).await? {
                return Ok(());
            }
        }
        let mut failures = 0;
        loop {
            self.reading.activity.begin(Task::Table, Step::search());
            match self.locator.find().await {
                Ok(LocatedStream::Stream(stream)) if last.as_ref() != Some(&stream) => {
                    failures = 0;
                    let beginning = if begun { Beginning::Everything } else { self.beginning };
                    if !self.read(&stream, None, beginning).await? {
                        return Ok(());
                    }
                    begun = true;
                    last = Some(stream);
                }
                Ok(LocatedStream::Stream(stream)) => {
                    self.wait(&format!("a new stream: {stream} is disabled and read to its end"))
                }
                Ok(LocatedStream::Nothing(what)) => {
                    // Whatever a stream that appears later holds was written since the start.
                    begun = true;
                    self.wait(&what);
                }
                Err(error) => self.reading.client.refused(&error),
            }
            failures += 1;
            let pause = pause_after(failures, PAUSE_MIN, PAUSE_MAX, fastrand::f64());
            self.reading.activity.begin(Task::Table, Step::Until(Instant::now() + pause));
            sleep(pause).await;
        }
    }

    /// Reads one stream to its end; says whether to go on with the next.
    async fn read(&self, stream: &str, stored: Option<&StoredStream>, beginning: Beginning) -> Result<bool, Stopped> {
        let reading = self.reading.clone();
        // The stream has steps of its own.
        reading.activity.end(Task::Table);
        let (outcome, facts) = StreamReader::read(reading, self.locator.clone(), stream, stored, beginning).await?;
        let telemetry = &self.reading.telemetry;
        events::StreamEnded { stream, why: outcome.as_str() }.emit(telemetry);
        match outcome {
            Outcome::Drained => {}
            Outcome::Lost => return Ok(self.stop()),
            Outcome::Missing => {
                let facts = facts.unwrap_or_else(|| Arc::new(StreamDetails::from_arn(stream)));
                if !self.stream_is_gone(facts).await? {
                    return Ok(self.stop());
                }
                return Ok(true);
            }
        }
        if let Some(facts) = facts {
            self.reading.tell(Task::Table, Update::StreamEnded { facts }).await?;
        }
        Ok(true)
    }

    fn stop(&self) -> bool {
        self.reading
            .health
            .stopped("data was lost and ON_DATA_LOSS is stop: restart with ON_DATA_LOSS=continue to resume");
        false
    }

    /// A stream vanished before it was read to its end. Says whether to go on.
    async fn stream_is_gone(&self, facts: Arc<StreamDetails>) -> Result<bool, Stopped> {
        let mut gap = Gap::at(&facts, None, Position::Start, LossReason::StreamMissing);
        let goes_on = self.reading.on_data_loss == OnDataLoss::Continue;
        if !goes_on {
            gap.resume = None;
        }
        report(&self.reading, &gap);
        // A shard of its own holds the gap, so that the next stream's positions wait for its delivery.
        let shard = self.reading.number();
        let id = WHOLE_STREAM.into();
        let from = Position::Start;
        self.reading.tell(Task::Table, Update::StreamOpened { facts: facts.clone(), start: Position::Start }).await?;
        self.reading
            .tell(Task::Table, Update::ShardOpened { shard, id, facts: facts.clone(), from, parent: None })
            .await?;
        let page = ShardPage {
            shard,
            facts: facts.clone(),
            entries: vec![Entry::Gap(gap)],
            read_at: clock::now(),
            caught_up: true,
        };
        self.reading.budget.charge(page.entries.iter().map(Entry::cost).sum());
        self.reading.tell(Task::Table, Update::Page(page)).await?;
        if goes_on {
            self.reading.tell(Task::Table, Update::ShardEnded { shard }).await?;
            self.reading.tell(Task::Table, Update::StreamEnded { facts }).await?;
        }
        Ok(goes_on)
    }

    fn wait(&self, what: &str) {
        self.reading.client.waits_for(what);
    }
}
