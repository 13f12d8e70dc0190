//! Follows a table from stream to stream.
//!
//! Contract:
//! - What an earlier run has stored is found under the table's ARN, however the configuration names the table; a stream that the
//!   configuration names has positions of its own. Nothing is read before they were loaded.
//! - A stream that an earlier run had begun is read to its end before a newer one of the table is begun; the newer one is
//!   then read from its start. A first start begins with the table's current stream, and where there was none at that
//!   time, with everything in the first one that appears.
//! - Whatever is missing (the table, its stream, a permission) is waited for, and said; nothing here ends by itself, except
//!   when data was lost and the policy is to stop.
//! - A stream is taken for gone only when AWS says so again and again; what is stored of it stays.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::stream_locator::{LocatedStream, LocatedTable, StreamLocator};
use super::stream_reader::{StreamEnd, StreamReader, WHOLE_STREAM, report};
use super::{OnDataLoss, ReaderContext, ReadingStopped, Step, Task};
use crate::backoff::pause_after;
use crate::checkpoint::CheckpointStore;
use crate::clock;
use crate::progress::Acknowledger as _;
use crate::progress::table_tracker::StreamHandle;
use crate::records::{Entry, Gap, InitialPosition, LossReason, Position, StreamDetails};
use crate::telemetry::events;

const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);

pub struct TableReader {
    /// What all its readers share.
    pub context: Arc<ReaderContext>,
    pub locator: Arc<StreamLocator>,
    pub store: Arc<dyn CheckpointStore>,
    /// What the process's tables are called in the store: no two may share a name.
    pub keys: Arc<Mutex<BTreeSet<String>>>,
    /// Where a first start begins.
    pub initial: InitialPosition,
}

impl TableReader {
    /// Reads the table for as long as the process lives.
    ///
    /// # Errors
    /// When nobody takes pages any more.
    pub async fn run(self) -> Result<(), ReadingStopped> {
        if !self.restore().await {
            return Ok(());
        }
        let (unfinished, mut last) = {
            let tracker = self.context.progress.tracker();
            (tracker.unfinished_streams(), tracker.newest_stream().map(str::to_owned))
        };
        let mut begun = last.is_some();
        for stream in &unfinished {
            if !self.read(stream, true, InitialPosition::Everything).await? {
                return Ok(());
            }
        }
        let mut failures = 0;
        loop {
            self.context.activity.begin(Task::Table, Step::search());
            match self.locator.find().await {
                Ok(LocatedStream::Stream(stream)) if last.as_ref() != Some(&stream) => {
                    failures = 0;
                    let initial = if begun { InitialPosition::Everything } else { self.initial };
                    if !self.read(&stream, false, initial).await? {
                        return Ok(());
                    }
                    begun |= self.context.progress.tracker().newest_stream().is_some();
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
                Err(error) => self.context.client.refused(&error),
            }
            failures += 1;
            self.pause(failures).await;
        }
    }

    /// Takes over what an earlier run has stored, however long it takes; says whether to go on.
    async fn restore(&self) -> bool {
        let key = self.key().await;
        if !self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
            self.context.progress.health().stopped(&format!("TABLE names {key} twice: remove one of the two names"));
            return false;
        }
        self.context.activity.end(Task::Table);
        self.context.progress.load(&*self.store, key).await;
        true
    }

    /// The table's name in the store: what is read, not how it was spelled.
    async fn key(&self) -> String {
        let mut failures = 0;
        loop {
            self.context.activity.begin(Task::Table, Step::search());
            match self.locator.identify().await {
                Ok(LocatedTable::Arn(arn)) => return arn,
                Ok(LocatedTable::Nothing(what)) => self.wait(&what),
                Err(error) => self.context.client.refused(&error),
            }
            failures += 1;
            self.pause(failures).await;
        }
    }

    async fn pause(&self, failures: u32) {
        let pause = pause_after(failures, PAUSE_MIN, PAUSE_MAX, fastrand::f64());
        self.context.activity.begin(Task::Table, Step::Until(Instant::now() + pause));
        sleep(pause).await;
    }

    /// Reads one stream to its end; says whether to go on with the next.
    async fn read(&self, stream: &str, is_resumed: bool, initial: InitialPosition) -> Result<bool, ReadingStopped> {
        let context = self.context.clone();
        // The stream has steps of its own.
        context.activity.end(Task::Table);
        let (end, handle) = StreamReader::read(context, self.locator.clone(), stream, is_resumed, initial).await?;
        events::StreamEnded { stream, why: end.as_str() }.emit(self.context.progress.telemetry());
        match end {
            StreamEnd::Drained => {}
            StreamEnd::Lost => return Ok(self.stop()),
            StreamEnd::Missing => {
                let is_owed = initial == InitialPosition::Everything;
                if handle.is_none() && !is_owed {
                    // Nothing of it was begun.
                    return Ok(true);
                }
                if !self.stream_is_gone(stream, handle).await? {
                    return Ok(self.stop());
                }
            }
        }
        if let Some(handle) = handle.or_else(|| self.context.progress.tracker().find_stream(stream)) {
            self.context.progress.change(|tracker| tracker.end_stream(handle));
        }
        Ok(true)
    }

    fn stop(&self) -> bool {
        self.context
            .progress
            .health()
            .stopped("data was lost and ON_DATA_LOSS is stop: restart with ON_DATA_LOSS=continue to resume");
        false
    }

    /// A stream vanished before it was read to its end. Says whether to go on.
    async fn stream_is_gone(&self, stream: &str, handle: Option<StreamHandle>) -> Result<bool, ReadingStopped> {
        let details = Arc::new(StreamDetails::from_arn(stream));
        let mut gap = Gap::at(&details, None, Position::Start, LossReason::StreamMissing);
        let goes_on = self.context.on_data_loss == OnDataLoss::Continue;
        if !goes_on {
            gap.resume = None;
        }
        report(&self.context, &gap);
        // A shard of its own holds the gap, so that the next stream's events wait for its delivery.
        let shard = self.context.progress.change(|tracker| {
            let open = || tracker.open_stream(details.clone(), Position::Start, true, clock::now());
            let handle = handle.unwrap_or_else(open);
            tracker.open_lost_stream(handle, WHOLE_STREAM)
        });
        let Some(shard) = shard else { return Ok(goes_on) };
        self.context.hand_down_end(Task::Table, shard, details, vec![Entry::Gap(gap)], goes_on).await?;
        Ok(goes_on)
    }

    fn wait(&self, what: &str) {
        self.context.client.waits_for(what);
    }
}
