//! Follows a table from stream to stream.
//!
//! Contract:
//! - What an earlier run has stored is found under the table's ARN, however the configuration names the table; a stream that the
//!   configuration names has positions of its own ([`find_key`]). Whoever has a reader run has taken over what is stored.
//! - A stream is begun when the one before it is drained, and then read from its start; what shows up late in the earlier one is read
//!   beside it. A first start begins with the table's current stream, and where there was none at that time, with everything in the
//!   first one that is created then.
//! - `DescribeTable` is asked once a minute. Where it shows another stream, `ListStreams` fills in those that came and went in between;
//!   without that permission they are not known.
//! - Whatever is missing (the table, its stream, a permission) is waited for, and said; nothing here ends by itself, except
//!   when data was lost and the policy is to stop.
//! - A stream is taken for gone only when AWS says so again and again; what is stored of it stays.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::client::observed::ObservedClient;
use super::stream_locator::{LocatedStream, LocatedTable, StreamLocator};
use super::stream_reader::StreamReader;
use super::stream_task::{EndedStream, StreamEnd, StreamTask, WHOLE_STREAM};
use super::{Activity, OnDataLoss, ReaderContext, ReadingStopped, Step, Task, outcome_of};
use crate::aws::errors::{CallError, ErrorKind};
use crate::backoff::pause_after;
use crate::checkpoint::StoredStop;
use crate::clock::{self, rfc3339};
use crate::progress::table_tracker::StreamHandle;
use crate::progress::{Acknowledger as _, TableProgress};
use crate::records::{CLOCK_MARGIN, Entry, Gap, InitialPosition, LossReason, Position, StreamDetails};
use crate::telemetry::events;

const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// How often AWS is asked for the table's newest stream while an older one is read.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// The reader of one table.
pub struct TableReader {
    /// What all its readers share.
    pub context: Arc<ReaderContext>,
    pub locator: Arc<StreamLocator>,
    /// Where a first start begins.
    pub initial: InitialPosition,
    /// When this process began, where positions outlive it: then a first start may be one that should be none.
    pub begun: Option<SystemTime>,
}

/// What of a table's streams is read, and what comes next.
struct Streams {
    /// Not begun yet, oldest first.
    queue: VecDeque<QueuedStream>,
    /// The newest one that is known, and all that were queued in this run.
    last: Option<String>,
    seen: BTreeSet<String>,
    reading: FuturesUnordered<BoxFuture<'static, ReadStream>>,
    /// Whether the newest one that was begun is drained; none if none is read.
    drained: Option<watch::Receiver<bool>>,
    /// The number of the newest one that was begun.
    newest: watch::Sender<u32>,
    /// Whatever appears is read from its start.
    has_begun: bool,
    /// Since when a first start waits for a stream.
    awaited_since: Option<SystemTime>,
}

struct QueuedStream {
    arn: String,
    is_resumed: bool,
    is_superseded: bool,
    initial: InitialPosition,
}

/// A stream of the queue that was read, and how that ended.
type ReadStream = (QueuedStream, Result<EndedStream, ReadingStopped>);

/// What a look for the table's newest stream has brought: that one, and all that are listed.
type Look = Result<(LocatedStream, Vec<String>), CallError>;

/// A table's name in the store, however long it takes to find it: what is read, not how it was spelled.
pub async fn find_key(client: &ObservedClient, locator: &StreamLocator, activity: &Activity) -> String {
    let mut failures = 0;
    loop {
        activity.begin(Task::Table, Step::search());
        match locator.identify().await {
            Ok(LocatedTable::Arn(arn)) => {
                activity.end(Task::Table);
                return arn;
            }
            Ok(LocatedTable::Nothing(what)) => client.mark_waiting_for(&what),
            Err(error) => client.refused(&error),
        }
        failures += 1;
        let pause = pause_after(failures, PAUSE_MIN, PAUSE_MAX, fastrand::f64());
        activity.begin(Task::Table, Step::Until(Instant::now() + pause));
        sleep(pause).await;
    }
}

/// Whether a table may be read, of which what is stored was taken over: not if an earlier run, or another process, has stopped over a
/// loss and the policy still is to stop.
pub fn may_read(progress: &TableProgress, policy: OnDataLoss) -> bool {
    let stopped = progress.tracker().stopped().cloned();
    let Some(stop) = stopped else { return true };
    match policy {
        OnDataLoss::Continue => {
            progress.change(|tracker| tracker.set_stopped(None));
            true
        }
        OnDataLoss::Stop => {
            report_stopped(progress, &stop);
            events::StillStopped { why: &stop.why }.emit(progress.telemetry());
            false
        }
    }
}

fn report_stopped(progress: &TableProgress, StoredStop { why, at }: &StoredStop) {
    let at = rfc3339(*at);
    progress.health().mark_stopped(&format!(
        "data was lost and ON_DATA_LOSS is stop: restart with ON_DATA_LOSS=continue to resume ({why}; since {at})"
    ));
}

impl TableReader {
    /// Reads the table for as long as the process lives.
    ///
    /// # Errors
    /// When nobody takes pages any more.
    pub async fn run(self) -> Result<(), ReadingStopped> {
        let mut streams = self.restored_streams();
        let mut looking: Option<BoxFuture<'_, Look>> = None;
        let (mut look_at, mut looks) = (Instant::now(), 0);
        loop {
            events::FurtherDataLost::emit_pending(self.context.progress.telemetry());
            if !streams.is_busy()
                && let Some(stream) = streams.queue.pop_front()
            {
                self.begin(&mut streams, stream);
            }
            if looking.is_none() && look_at <= Instant::now() {
                self.context.activity.begin(Task::Table, Step::search());
                looking = Some(self.look(streams.last.clone()).boxed());
            }
            let is_looking = looking.is_some();
            if !is_looking {
                self.context.activity.begin(Task::Table, Step::Until(look_at));
            }
            select! {
                Some(ended) = streams.reading.next(), if !streams.reading.is_empty() => {
                    if !self.stream_ended(ended).await? {
                        return Ok(());
                    }
                }
                () = drained(&mut streams.drained) => {
                    // The next one is looked for at once.
                    (looks, look_at) = (0, look_at.min(Instant::now()));
                }
                look = outcome_of(&mut looking) => {
                    looking = None;
                    looks = if streams.is_busy() { 0 } else { looks + 1 };
                    self.looked(&mut streams, look);
                    let pause = pause_after(looks.max(1), PAUSE_MIN, PAUSE_MAX, fastrand::f64());
                    look_at = Instant::now() + if streams.is_idle() { pause } else { LOOK_INTERVAL };
                }
                () = sleep_until(look_at), if !is_looking => {}
            }
        }
    }

    /// The streams that an earlier run had begun with, and was not done with.
    fn restored_streams(&self) -> Streams {
        let tracker = self.context.progress.tracker();
        let unfinished = tracker.unfinished_streams().into_iter();
        let queued = unfinished.map(|arn| {
            let is_superseded = tracker.is_superseded(&arn);
            QueuedStream { arn, is_resumed: true, is_superseded, initial: InitialPosition::Everything }
        });
        let last = tracker.newest_stream().map(str::to_owned);
        Streams {
            queue: queued.collect(),
            has_begun: last.is_some(),
            awaited_since: None,
            seen: BTreeSet::new(),
            last,
            reading: FuturesUnordered::new(),
            drained: None,
            newest: watch::Sender::new(0),
        }
    }

    fn begin(&self, streams: &mut Streams, stream: QueuedStream) {
        let (drained, is_drained) = watch::channel(false);
        streams.newest.send_modify(|newest| *newest += 1);
        let task = StreamTask {
            arn: stream.arn.clone(),
            number: *streams.newest.borrow(),
            is_resumed: stream.is_resumed,
            initial: stream.initial,
            is_superseded: stream.is_superseded,
            newest: streams.newest.subscribe(),
            drained,
        };
        let reading = StreamReader::read(self.context.clone(), self.locator.clone(), task);
        streams.reading.push(reading.map(|end| (stream, end)).boxed());
        streams.drained = Some(is_drained);
    }

    /// Which stream is the newest now, and where it is another one than the last, which ones are listed.
    async fn look(&self, last: Option<String>) -> Look {
        let found = self.locator.find().await?;
        let listed = match &found {
            LocatedStream::Stream(stream) if last.as_ref().is_some_and(|last| last != stream) => {
                match self.locator.list_streams().await {
                    // Without the permission those that came and went in between are not known.
                    Err(error) if error.kind == ErrorKind::Denied => Vec::new(),
                    listed => listed?,
                }
            }
            _ => Vec::new(),
        };
        Ok((found, listed))
    }

    fn is_seen(&self, streams: &Streams, stream: &str) -> bool {
        streams.seen.contains(stream) || self.context.progress.tracker().find_stream(stream).is_some()
    }

    fn looked(&self, streams: &mut Streams, look: Look) {
        // While something is read, nothing is missing.
        let is_idle = streams.is_idle();
        streams.has_begun |= self.context.progress.tracker().newest_stream().is_some();
        match look {
            // An answer may be old.
            Ok((LocatedStream::Stream(stream), _)) if self.is_seen(streams, &stream) => {
                if is_idle {
                    self.wait(&format!("a new stream: {stream} is disabled and read to its end"));
                }
            }
            Ok((LocatedStream::Stream(stream), listed)) => {
                if !streams.has_begun {
                    self.report_nothing_stored(&stream);
                }
                streams.append(stream, listed, self.initial);
            }
            Ok((LocatedStream::Nothing(what), _)) if is_idle => {
                streams.awaited_since.get_or_insert_with(clock::now);
                self.wait(&what);
            }
            Err(error) if is_idle => self.context.client.refused(&error),
            Ok((LocatedStream::Nothing(_), _)) | Err(_) => {}
        }
    }

    /// Reading of a stream has ended; says whether to go on with others.
    async fn stream_ended(&self, (stream, ended): ReadStream) -> Result<bool, ReadingStopped> {
        let EndedStream { end, handle } = ended?;
        let QueuedStream { arn: stream, initial, .. } = &stream;
        match end {
            StreamEnd::Drained => {}
            StreamEnd::Lost => {
                self.report_ended(stream, end);
                return Ok(self.stop(&format!("changes in {stream} were lost, or may have been")));
            }
            StreamEnd::Missing => {
                self.report_ended(stream, end);
                let is_owed = *initial == InitialPosition::Everything;
                if handle.is_none() && !is_owed {
                    // Nothing of it was begun.
                    return Ok(true);
                }
                if !self.stream_is_gone(stream, handle).await? {
                    return Ok(self.stop(&format!("{stream} no longer exists and was not read to its end")));
                }
            }
        }
        if let Some(handle) = handle.or_else(|| self.context.progress.tracker().find_stream(stream)) {
            self.context.progress.change(|tracker| tracker.end_stream(handle));
        }
        Ok(true)
    }

    fn report_ended(&self, stream: &str, end: StreamEnd) {
        events::StreamEnded { stream, why: end.as_str() }.emit(self.context.progress.telemetry());
    }

    /// Stops reading the table, and stores that: no restart reads on, and no other process.
    fn stop(&self, why: &str) -> bool {
        let stop = StoredStop { why: why.to_owned(), at: clock::now() };
        report_stopped(&self.context.progress, &stop);
        self.context.progress.change(|tracker| tracker.set_stopped(Some(stop)));
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
        self.context.report_missing(&gap);
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

    /// A lost volume looks like a first start. Of a stream that was made since this process began nothing can have been stored.
    fn report_nothing_stored(&self, stream: &str) {
        let is_older = |begun: &SystemTime| !is_created_since(stream, *begun);
        if self.initial == InitialPosition::Latest && self.begun.as_ref().is_some_and(is_older) {
            events::NothingStored { stream }.emit(self.context.progress.telemetry());
        }
    }

    fn wait(&self, what: &str) {
        self.context.client.mark_waiting_for(what);
    }
}

impl Streams {
    /// Whether the newest stream is read, and not drained.
    fn is_busy(&self) -> bool {
        self.drained.as_ref().is_some_and(|drained| !*drained.borrow())
    }

    /// Whether there is nothing to read.
    fn is_idle(&self) -> bool {
        !self.is_busy() && self.queue.is_empty()
    }

    /// The table has another stream; `listed` are all that it has or had lately.
    fn append(&mut self, newest: String, listed: Vec<String>, initial: InitialPosition) {
        // Whatever a stream holds that was created while one was awaited was written since the start. One that is older was there all the
        // time, and an answer that denied it was wrong.
        let is_new = || self.awaited_since.is_some_and(|since| is_created_since(&newest, since));
        let initial = if self.has_begun || is_new() { InitialPosition::Everything } else { initial };
        let last = self.last.as_deref().map(label);
        let is_between = |stream: &String| {
            last.is_some_and(|last| (last..label(&newest)).contains(&label(stream)) && label(stream) != last)
        };
        let mut streams: Vec<String> = listed.into_iter().filter(is_between).collect();
        streams.sort_by(|one, other| label(one).cmp(label(other)));
        self.last = Some(newest.clone());
        let queued = |arn| QueuedStream { arn, is_resumed: false, is_superseded: false, initial };
        streams.push(newest);
        self.seen.extend(streams.iter().cloned());
        self.queue.extend(streams.into_iter().map(queued));
    }
}

/// Waits until a stream is drained, is not any more, or has ended.
async fn drained(stream: &mut Option<watch::Receiver<bool>>) {
    let Some(drained) = stream else { return std::future::pending().await };
    if drained.changed().await.is_err() {
        *stream = None;
    }
}

/// Whether a stream was created then or later, as far as clocks tell; also where its ARN does not say when.
fn is_created_since(stream: &str, moment: SystemTime) -> bool {
    // That is less the margin for clocks.
    let created = StreamDetails::from_arn(stream).created_at();
    created.is_none_or(|created| created + 2 * CLOCK_MARGIN >= moment)
}

/// The end of a stream's ARN, which is the time of its creation.
fn label(stream: &str) -> &str {
    stream.rsplit('/').next().unwrap_or(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where reading begins in a stream with this label, which appears at a first start that had to wait for one at 01:00.
    fn start_in(label: &str) -> InitialPosition {
        let mut streams = Streams {
            queue: VecDeque::new(),
            last: None,
            seen: BTreeSet::new(),
            reading: FuturesUnordered::new(),
            drained: None,
            newest: watch::Sender::new(0),
            has_begun: false,
            awaited_since: humantime::parse_rfc3339("2026-01-08T01:00:00Z").ok(),
        };
        let stream = format!("arn:aws:dynamodb:eu-west-1:123456789012:table/Orders/stream/{label}");
        streams.append(stream, Vec::new(), InitialPosition::Latest);
        streams.queue[0].initial
    }

    /// One wrong "the table does not exist" must not bring a day of old events.
    #[test]
    fn a_stream_that_was_denied_and_is_older_than_the_start_is_begun_as_any_other() {
        for label in ["2026-01-08T00:50:00.000", "2026-01-07T01:00:00.000", "2025-01-08T01:00:00.000"] {
            assert_eq!(start_in(label), InitialPosition::Latest, "{label}");
        }
    }

    #[test]
    fn a_stream_that_was_created_while_one_was_awaited_is_read_from_its_start() {
        for label in ["2026-01-08T00:56:00.000", "2026-01-08T01:00:00.000", "2026-01-08T02:00:00.000", "orders"] {
            assert_eq!(start_in(label), InitialPosition::Everything, "{label}");
        }
    }
}
