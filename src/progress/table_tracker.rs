//! What is known of one table's shards: lineage, where each is read, what of it is settled, and what is stored. Pure: time is an
//! argument.
//!
//! Contract:
//! - At every moment [`TableTracker::take_changes`] brings what is stored to a state from which a later run loses nothing: for each
//!   item, what is stored as settled is a prefix of its history over shards and streams. So a shard is not read before its
//!   ancestors were, in this run or in earlier ones, and what an earlier run has stored stays stored until reading has taken it
//!   over.
//! - Only who has opened a shard has its [`ShardHandle`], and an [`AckToken`] is one record that was read of it.
//! - With order by shard each shard has a lane of its own, and who opens one reads nothing of it before
//!   [`TableTracker::ancestors_are_settled`].
//! - Costs grow with what changes, not with the number of shards, but for what people look at ([`TableTracker::view`],
//!   [`TableTracker::lag`]) and [`TableTracker::verify`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::left_out_lanes::LeftOutLanes;
use super::lineage::{Counts, Lineage};
use super::shard_progress::ShardProgress;
use super::tracked_shard::{Barrier, Phase, TrackedShard, age, oldest_kept};
pub use super::tracked_shard::{Loss, PROOF_OF_EMPTINESS, PageRead, ShardView};
use super::tracked_stream::TrackedStream;
pub use super::tracked_stream::{OpenedShard, ShardHandle, StreamHandle};
use super::unstored::UnstoredShards;
use crate::checkpoint::{
    StopChange, StoredChanges, StoredShard, StoredStop, StoredTable, StreamChanges, UnfinishedShard,
};
use crate::records::{Position, RETENTION, SequenceNumber, ShardId, ShardNumber, StreamDetails};

/// The shards of one table.
#[derive(Debug, Default)]
pub struct TableTracker {
    /// Oldest first.
    streams: Vec<TrackedStream>,
    /// Lanes are of shards, not of items.
    pub(super) is_ordered_by_shard: bool,
    pub(super) unsettled: usize,
    /// How often shards, or what was not read of a stream, were done with.
    finished: u64,
    /// Entries that are owed are counted, in the order in which they are handed on.
    pub(super) next_ordinal: u64,
    pub(super) left_out: LeftOutLanes,
    /// What is not stored as it is: shards, streams, and shards that are not known any more.
    pub(super) dirty: UnstoredShards,
    dirty_streams: BTreeSet<StreamHandle>,
    forgotten: BTreeSet<(StreamHandle, ShardId)>,
    /// The table is read no further; and whether that is not stored as it is.
    stopped: Option<StoredStop>,
    is_stop_dirty: bool,
    /// A stream that was lost as a whole holds what follows it.
    pub(super) barrier: Option<Barrier>,
}

/// One entry that was read and is not settled. It is given back once.
#[derive(Debug, PartialEq, Eq)]
pub struct AckToken {
    pub(super) shard: ShardHandle,
    pub(super) ordinal: u64,
}

impl AckToken {
    /// Whether it was given before the one of this ordinal.
    pub(super) fn is_before(&self, ordinal: u64) -> bool {
        self.ordinal < ordinal
    }
}

#[cfg(test)]
impl AckToken {
    /// One that nobody gives back to a tracker.
    pub(crate) fn unique(number: u64) -> Self {
        Self { shard: ShardHandle { stream: StreamHandle(0), shard: 0 }, ordinal: number }
    }

    pub(crate) fn number(&self) -> u64 {
        self.ordinal
    }
}

impl TableTracker {
    /// Begins with what an earlier run has stored. `is_ordered_by_shard`: lanes are of shards, not of items.
    pub fn restored(stored: StoredTable, is_ordered_by_shard: bool) -> Self {
        let streams = stored.streams.into_iter().map(TrackedStream::restored).collect();
        Self { streams, stopped: stored.stopped, is_ordered_by_shard, ..Self::default() }
    }

    /// Why the table is read no further, if it is not.
    pub fn stopped(&self) -> Option<&StoredStop> {
        self.stopped.as_ref()
    }

    /// The table is read no further, until somebody says that it may; or it is, whatever an earlier run has said.
    pub fn set_stopped(&mut self, stopped: Option<StoredStop>) {
        (self.stopped, self.is_stop_dirty) = (stopped, true);
    }

    /// The streams that an earlier run had begun and not done with, oldest first.
    pub fn unfinished_streams(&self) -> Vec<String> {
        let unfinished = self.streams.iter().filter(|stream| !stream.is_ended);
        unfinished.map(|stream| stream.details.arn.clone()).collect()
    }

    /// The table's newest stream of which anything is known.
    pub fn newest_stream(&self) -> Option<&str> {
        self.streams.last().map(|stream| &*stream.details.arn)
    }

    /// A stream is going to be read: from `start`, or from where an earlier run has begun it. `is_required`: everything in it is
    /// owed.
    pub fn open_stream(
        &mut self,
        details: Arc<StreamDetails>,
        start: Position,
        is_required: bool,
        now: SystemTime,
    ) -> StreamHandle {
        if let Some(stream) = self.find_stream(&details.arn) {
            let verified_at = self.verified_before(stream.0, &details).unwrap_or(now);
            let it = self.stream_mut(stream);
            it.details = details;
            it.verified_at.get_or_insert(verified_at);
            return stream;
        }
        let verified_at = match start {
            // What is older than a day may be gone, and nobody can know.
            Position::Since(moment) if now.duration_since(moment).is_ok_and(|age| age < RETENTION) => Some(moment),
            Position::Start => Some(self.verified_before(self.streams.len(), &details).unwrap_or(now)),
            _ => Some(now),
        };
        self.streams.push(TrackedStream {
            details,
            start,
            is_ended: false,
            verified_at,
            is_required,
            lineage: Lineage::default(),
            unfinished: 0,
        });
        let stream = StreamHandle(self.streams.len() - 1);
        self.dirty_streams.insert(stream);
        stream
    }

    /// What follows another stream was created after all that was read of that one, and not before the stream itself; none if it
    /// follows none.
    fn verified_before(&self, stream: usize, details: &StreamDetails) -> Option<SystemTime> {
        let earlier = self.streams[..stream].last()?;
        earlier.last_known().max(details.created_at()).or(Some(UNIX_EPOCH))
    }

    /// A stream that was opened, or that an earlier run has stored.
    pub fn find_stream(&self, arn: &str) -> Option<StreamHandle> {
        self.streams.iter().position(|stream| stream.details.arn == arn).map(StreamHandle)
    }

    /// Where shards of a stream begin that were never seen.
    pub fn start(&self, stream: StreamHandle) -> Position {
        self.stream(stream).start
    }

    /// A stream was read to its end, or it is gone: what was not begun of it will not be read.
    pub fn end_stream(&mut self, stream: StreamHandle) {
        self.finished += 1;
        let ended = self.stream_mut(stream).end();
        self.dirty.extend(ended.into_iter().map(|shard| ShardHandle { stream, shard }));
        self.dirty_streams.insert(stream);
    }

    /// Whether everything in earlier streams is settled.
    pub fn is_settled_before(&self, stream: StreamHandle) -> bool {
        self.streams[..stream.0].iter().all(|stream| stream.unfinished == 0)
    }

    /// Whether everything in the shards that this one continues is settled: they are read before it.
    pub fn ancestors_are_settled(&self, handle: ShardHandle) -> bool {
        let mut ancestors = std::iter::successors(self.parent(handle), |ancestor| self.parent(*ancestor));
        ancestors.all(|ancestor| self.shard(ancestor).phase != Phase::Open)
    }

    /// How often that, or [`TableTracker::is_settled_before`], may have become true of anything.
    pub fn finished(&self) -> u64 {
        self.finished
    }

    /// A listing has shown a shard.
    pub fn learn(&mut self, stream: StreamHandle, id: &str, parent: Option<&str>) {
        let it = self.stream_mut(stream);
        let (start, verified_at) = (it.start, it.verified_at.unwrap_or(SystemTime::UNIX_EPOCH));
        it.lineage.learn(id, parent, || TrackedShard::listed(id, start, verified_at));
    }

    /// A listing has reached its last page.
    pub fn complete_pass(&mut self, stream: StreamHandle) {
        self.stream_mut(stream).lineage.complete_pass();
    }

    /// Whether any listing of a stream has reached its last page.
    pub fn was_listed(&self, stream: StreamHandle) -> bool {
        self.stream(stream).lineage.was_listed()
    }

    /// Parents that no listing has shown, each once: somebody has to ask AWS for them, and say here what came of it. Not while a
    /// listing is under way.
    pub fn take_unlisted_parents(&mut self, stream: StreamHandle, now: SystemTime) -> Vec<(ShardHandle, ShardId)> {
        let parents = self.stream_mut(stream).take_unlisted_parents(now);
        parents
            .into_iter()
            .map(|shard| (ShardHandle { stream, shard }, self.stream(stream).lineage.id(shard).clone()))
            .collect()
    }

    /// Whether the last whole listing has shown a shard.
    pub fn is_listed(&self, handle: ShardHandle) -> bool {
        self.stream(handle.stream).lineage.is_listed(handle.shard)
    }

    /// Whether a listing has shown a shard, or it was found.
    pub fn is_known(&self, handle: ShardHandle) -> bool {
        self.stream(handle.stream).lineage.is_known(handle.shard)
    }

    /// A parent that no listing has shown is there: it is read like any other shard.
    pub fn find(&mut self, handle: ShardHandle) {
        self.stream_mut(handle.stream).lineage.find(handle.shard);
    }

    /// A parent that no listing has shown holds nothing any more, or never did: it is opened so that its end can be entered. Not if a
    /// listing has shown it by now. Its id, if it was opened.
    pub fn open_unlisted(&mut self, handle: ShardHandle) -> Option<ShardId> {
        let id = self.id(handle).clone();
        if self.is_known(handle) {
            return None;
        }
        self.stream_mut(handle.stream).lineage.take_one(&id)?;
        Some(self.open(handle).id)
    }

    /// Whether ids say that a shard was closed so long ago that AWS has forgotten it.
    pub fn is_aged_out(&self, handle: ShardHandle, now: SystemTime) -> bool {
        self.stream(handle.stream).lineage.is_closed_before(handle.shard, oldest_kept(now))
    }

    /// Whether nothing of a stream was begun yet.
    pub fn is_untouched(&self, stream: StreamHandle) -> bool {
        let counts = self.counts(stream);
        counts.reading == 0 && counts.finished == 0
    }

    /// Whether every shard of a stream that is known was read to its end.
    pub fn is_drained(&self, stream: StreamHandle) -> bool {
        self.stream(stream).lineage.is_drained()
    }

    /// How many shards of a stream are in which stage.
    pub fn counts(&self, stream: StreamHandle) -> Counts {
        self.stream(stream).lineage.counts()
    }

    /// How many shards of all streams are in which stage.
    pub fn all_counts(&self) -> Counts {
        let counts = self.streams.iter().map(|stream| stream.lineage.counts());
        counts.fold(Counts::default(), |sum, counts| Counts {
            reading: sum.reading + counts.reading,
            waiting: sum.waiting + counts.waiting,
            finished: sum.finished + counts.finished,
        })
    }

    /// Whether a later stream of the table was begun.
    pub fn is_superseded(&self, arn: &str) -> bool {
        self.find_stream(arn).is_some_and(|stream| stream.0 + 1 < self.streams.len())
    }

    /// Opens the shards that may be read now.
    pub fn open_ready(&mut self, stream: StreamHandle) -> Vec<OpenedShard> {
        let it = self.stream_mut(stream);
        let ready = it.lineage.take_ready();
        it.date_orphans(&ready);
        ready.into_iter().map(|shard| self.open(ShardHandle { stream, shard })).collect()
    }

    /// Opens all shards that wait, whatever is known of their parents: for a start at the stream's newest records.
    pub fn open_leaves(&mut self, stream: StreamHandle) -> Vec<OpenedShard> {
        let leaves = self.stream_mut(stream).lineage.take_leaves();
        leaves.into_iter().map(|shard| self.open(ShardHandle { stream, shard })).collect()
    }

    /// Skips every shard that has a child: for a start at the stream's newest records.
    pub fn skip_parents(&mut self, stream: StreamHandle, now: SystemTime) {
        let skipped = self.stream_mut(stream).lineage.skip_parents();
        self.skip(stream, skipped, now);
    }

    /// Skips every shard that was closed before a moment: for a start at that moment.
    pub fn skip_closed_before(&mut self, stream: StreamHandle, moment: SystemTime, now: SystemTime) {
        let skipped = self.stream_mut(stream).lineage.skip_closed_before(moment);
        self.skip(stream, skipped, now);
    }

    /// Opens a shard that stands for a stream that is gone as a whole: its gap is read in it. None if that was done.
    pub fn open_lost_stream(&mut self, stream: StreamHandle, id: &str) -> Option<ShardHandle> {
        self.learn(stream, id, None);
        let shard = self.stream_mut(stream).lineage.take_one(id)?;
        Some(self.open(ShardHandle { stream, shard }).handle)
    }

    /// A shard was read to its end, or is gone: its children may be read.
    pub fn read_to_end(&mut self, handle: ShardHandle, at: Instant) {
        self.shard_mut(handle).read_at = Some(at);
        self.stream_mut(handle.stream).lineage.read_to_end(handle.shard);
    }

    /// The newest record of a shard that was read, and may not be entered yet, was created then: what continues the shard holds
    /// nothing older.
    pub fn hand_over(&mut self, handle: ShardHandle, newest: Option<SystemTime>) {
        self.shard_mut(handle).handed_down = newest;
    }

    /// A shard's id, as AWS names it.
    pub fn shard_id(&self, handle: ShardHandle) -> &ShardId {
        self.id(handle)
    }

    /// Whether a listing has shown a shard of this id, or an earlier run has stored it.
    pub fn has_shard(&self, stream: StreamHandle, id: &str) -> bool {
        self.stream(stream).lineage.number(id).is_some()
    }

    /// Whether a shard is known that continues this one.
    pub fn has_child(&self, stream: StreamHandle, id: &str) -> bool {
        self.stream(stream).lineage.has_child(id)
    }

    /// Shards that are being read although a child is known: they are closed and will end. Each is returned at least once.
    pub fn take_closed(&mut self, stream: StreamHandle) -> Vec<ShardHandle> {
        let closed = self.stream_mut(stream).lineage.take_closed();
        closed.into_iter().map(|shard| ShardHandle { stream, shard }).collect()
    }

    /// Forgets shards that are finished, listed no more, and were kept long enough.
    pub fn forget_finished(&mut self, stream: StreamHandle, now: SystemTime) {
        for (shard, id) in self.stream_mut(stream).forget_finished(now) {
            self.dirty.remove(ShardHandle { stream, shard });
            self.forgotten.insert((stream, id));
            self.dirty_streams.insert(stream);
        }
    }

    /// What is missing between a shard's position and `first`, the first record that is still there, in so far as AWS did not
    /// give the record at the position itself; nothing where nothing is. Without a `first` nothing is there any more.
    ///
    /// Records live for a day: what can only be younger is there. `is_trimmed`: AWS has said that the record at the position is
    /// gone. Where that one is younger than a day, a day means nothing.
    pub fn loss_before(
        &self,
        handle: ShardHandle,
        first: Option<SequenceNumber>,
        is_trimmed: bool,
        now: SystemTime,
    ) -> Option<Loss> {
        self.shard(handle).loss_before(first, is_trimmed, now)
    }

    /// Whether something is missing because AWS does not know a shard that was not read to its end.
    pub fn is_loss(&self, handle: ShardHandle, now: SystemTime) -> bool {
        self.shard(handle).is_loss(now)
    }

    /// A page of a shard is going to be entered.
    pub(super) fn begin_page(&mut self, handle: ShardHandle) {
        if !self.shard(handle).is_entered {
            // All pages of its ancestors were entered before its own first one, and not all of them when it was opened.
            let inherited = self.ancestor(handle).and_then(|ancestor| self.shard(ancestor).barrier.clone());
            let barrier = inherited.or_else(|| self.barrier.clone());
            let shard = self.shard_mut(handle);
            (shard.is_entered, shard.barrier) = (true, barrier);
        }
        let next = self.next_ordinal;
        self.shard_mut(handle).progress.number_from(next);
    }

    /// An entry was settled: its event was acknowledged, or given up by policy.
    pub fn settle(&mut self, token: &AckToken) {
        let handle = token.shard;
        let Some(lane) = self.shard_mut(handle).progress.settle(token.ordinal) else { return };
        self.unsettled -= 1;
        self.left_out.settle(lane, token.ordinal);
        self.dirty.insert(handle);
        self.finish_if_done(handle);
    }

    /// Entries are counted from here on.
    pub(super) fn number_from(&mut self, ordinal: u64) {
        self.next_ordinal = ordinal;
    }

    /// The ordinal of the next entry that is owed.
    pub(super) fn next_ordinal(&self) -> u64 {
        self.next_ordinal
    }

    /// Records read and not settled, those that are left out excepted.
    pub fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// Whether something is not stored as it is.
    pub fn has_changes(&self) -> bool {
        self.is_stop_dirty || !(self.dirty.is_empty() && self.dirty_streams.is_empty() && self.forgotten.is_empty())
    }

    /// Finds the shards whose continuity was stored this long ago.
    pub fn verify(&mut self, most: Duration, now: SystemTime) {
        for (index, stream) in self.streams.iter().enumerate().filter(|(_, stream)| stream.unfinished > 0) {
            for (shard, _, state) in stream.lineage.iter().filter(|(.., shard)| shard.phase == Phase::Open) {
                if state.is_verification_due(most, now) {
                    self.dirty.confirm(ShardHandle { stream: StreamHandle(index), shard });
                }
            }
        }
    }

    /// What has changed since it was taken last: a snapshot, as of now.
    pub fn take_changes(&mut self) -> StoredChanges {
        let mut changes: BTreeMap<StreamHandle, BTreeMap<String, Option<StoredShard>>> = BTreeMap::new();
        for stream in std::mem::take(&mut self.dirty_streams) {
            changes.entry(stream).or_default();
        }
        for (stream, id) in std::mem::take(&mut self.forgotten) {
            changes.entry(stream).or_default().insert(id.to_string(), None);
        }
        for handle in self.dirty.take() {
            let stored = self.stored(handle);
            if let Some(StoredShard::Unfinished(UnfinishedShard { verified_at, .. })) = &stored {
                self.shard_mut(handle).stored_verification = *verified_at;
            }
            changes.entry(handle.stream).or_default().extend(stored.map(|it| (self.id(handle).to_string(), Some(it))));
        }
        let streams = changes.into_iter().map(|(handle, shards)| {
            let stream = self.stream(handle);
            let (arn, place) = (stream.details.arn.clone(), handle.0);
            StreamChanges { arn, place, start: stream.start, done: stream.is_done(), shards }
        });
        let streams = streams.collect();
        let stopped = std::mem::take(&mut self.is_stop_dirty).then(|| match &self.stopped {
            Some(stop) => StopChange::Stop(stop.clone()),
            None => StopChange::Continue,
        });
        StoredChanges { streams, stopped }
    }

    /// These changes are not stored, or nobody knows: they are to be taken again.
    pub fn put_back(&mut self, changes: StoredChanges) {
        self.is_stop_dirty |= changes.stopped.is_some();
        for StreamChanges { place, shards, .. } in changes.streams {
            let stream = StreamHandle(place);
            self.dirty_streams.insert(stream);
            for id in shards.into_keys() {
                match self.stream(stream).lineage.number(&id) {
                    Some(shard) => self.dirty.put_back(ShardHandle { stream, shard }),
                    None => drop(self.forgotten.insert((stream, id.into()))),
                }
            }
        }
    }

    /// All shards, with what is known of each.
    pub(super) fn shards(&self) -> impl Iterator<Item = (ShardHandle, &TrackedShard)> {
        self.streams.iter().enumerate().flat_map(|(index, stream)| {
            let handle = move |shard| ShardHandle { stream: StreamHandle(index), shard };
            stream.lineage.iter().map(move |(shard, _, state)| (handle(shard), state))
        })
    }

    /// How far the table is behind: the age of the oldest record that is owed, or that is known to be waiting.
    pub fn lag(&self, now: SystemTime) -> Duration {
        let open = self.shards().map(|(_, shard)| shard).filter(|shard| shard.phase == Phase::Open);
        age(open.filter_map(TrackedShard::oldest_waiting).min(), now)
    }

    /// How old what was not read yet may be, at most. `is_refused`: AWS answers no reads, so nobody is caught up with.
    pub fn unread(&self, is_refused: bool, now: SystemTime) -> Duration {
        let behind = self.unread_shards().filter(|shard| is_refused || !shard.is_caught_up);
        age(behind.map(|shard| shard.verified_at).min(), now)
    }

    /// The same of what an earlier run has stored, and of which this one has read nothing.
    pub fn unread_since_start(&self, now: SystemTime) -> Duration {
        age(self.unread_shards().filter(|shard| shard.is_untouched()).map(|shard| shard.verified_at).min(), now)
    }

    /// Open shards that may hold something that was not read.
    fn unread_shards(&self) -> impl Iterator<Item = &TrackedShard> {
        self.shards().map(|(_, shard)| shard).filter(|shard| shard.phase == Phase::Open && !shard.is_ended)
    }

    /// A snapshot of all shards of which anything was read, for `/status`.
    pub fn view(&self) -> Vec<ShardView> {
        let shards = self.streams.iter().flat_map(|stream| stream.lineage.iter().map(move |shard| (stream, shard)));
        let begun = shards.filter(|(_, (.., shard))| shard.phase != Phase::Listed);
        begun
            .map(|(stream, (number, id, shard))| {
                let (arn, parent) = (&stream.details.arn, stream.lineage.parent_id(number));
                shard.view(arn, id, parent.map(|parent| &**parent))
            })
            .collect()
    }

    fn open(&mut self, handle: ShardHandle) -> OpenedShard {
        let parent = self.parent(handle).map(|parent| self.shard(parent));
        let parent =
            parent.map(|parent| (parent.read_at, parent.verified_at.max(parent.handed_down.unwrap_or(UNIX_EPOCH))));
        let stream = self.stream_mut(handle.stream);
        let is_required = stream.is_required && stream.lineage.is_known(handle.shard) || parent.is_some();
        let is_young =
            matches!(stream.start, Position::Since(moment) if stream.lineage.is_created_since(handle.shard, moment));
        let shard = stream.lineage.state_mut(handle.shard);
        let handed_over = parent.and_then(|(read_at, _)| read_at);
        if shard.phase == Phase::Listed {
            if let Some((_, verified_at)) = parent {
                shard.date(verified_at);
            }
            if is_young {
                // All of it is younger than the start, even if a record says less.
                shard.progress = ShardProgress::begin(Position::Start);
            }
            (shard.phase, shard.is_required) = (Phase::Open, is_required);
            stream.unfinished += 1;
            self.dirty.insert(handle);
        }
        let (id, from) = (self.id(handle).clone(), self.shard(handle).progress.read_to());
        OpenedShard { handle, id, from, handed_over }
    }

    fn parent(&self, handle: ShardHandle) -> Option<ShardHandle> {
        let parent = self.stream(handle.stream).lineage.parent(handle.shard)?;
        Some(ShardHandle { shard: parent, ..handle })
    }

    /// The shard whose lineage this one continues in this run: its nearest ancestor that was opened, or else its oldest one. Between
    /// them an earlier run may have finished some that hold nothing of what the ancestor owes.
    fn ancestor(&self, handle: ShardHandle) -> Option<ShardHandle> {
        let was_opened = |ancestor: &ShardHandle| {
            let shard = self.shard(*ancestor);
            shard.read_at.is_some() || shard.phase == Phase::Open
        };
        let mut last = None;
        for ancestor in std::iter::successors(self.parent(handle), |ancestor| self.parent(*ancestor)) {
            last = Some(ancestor);
            if was_opened(&ancestor) {
                break;
            }
        }
        last
    }

    fn skip(&mut self, stream: StreamHandle, shards: Vec<ShardNumber>, now: SystemTime) {
        for shard in shards {
            let handle = ShardHandle { stream, shard };
            let state = self.shard_mut(handle);
            (state.phase, state.is_ended, state.is_caught_up) = (Phase::Finished { at: now }, true, true);
            self.dirty.insert(handle);
        }
    }

    pub(super) fn finish_if_done(&mut self, handle: ShardHandle) {
        if self.shard_mut(handle).finish_if_done() {
            self.finished += 1;
            self.dirty.insert(handle);
            let stream = self.stream_mut(handle.stream);
            stream.unfinished -= 1;
            if stream.is_done() {
                self.dirty_streams.insert(handle.stream);
            }
        }
    }

    fn stored(&self, handle: ShardHandle) -> Option<StoredShard> {
        let parent = self.stream(handle.stream).lineage.parent_id(handle.shard).map(ToString::to_string);
        self.shard(handle).stored(parent)
    }

    fn id(&self, handle: ShardHandle) -> &ShardId {
        self.stream(handle.stream).lineage.id(handle.shard)
    }

    pub(super) fn shard(&self, handle: ShardHandle) -> &TrackedShard {
        self.stream(handle.stream).lineage.state(handle.shard)
    }

    pub(super) fn shard_mut(&mut self, handle: ShardHandle) -> &mut TrackedShard {
        self.stream_mut(handle.stream).lineage.state_mut(handle.shard)
    }

    pub(super) fn stream(&self, stream: StreamHandle) -> &TrackedStream {
        &self.streams[stream.0]
    }

    fn stream_mut(&mut self, stream: StreamHandle) -> &mut TrackedStream {
        &mut self.streams[stream.0]
    }
}

#[cfg(test)]
mod tests;
