//! What is known of one table's shards: lineage, where each is read, what of it is settled, and what is stored. Pure: time is an
//! argument.
//!
//! Contract:
//! - At every moment [`TableTracker::take_changes`] brings what is stored to a state from which a later run loses nothing: for each
//!   item, what is stored as settled is a prefix of its history over shards and streams. So a shard is not read before its
//!   ancestors were, in this run or in earlier ones, and what an earlier run has stored stays stored until reading has taken it
//!   over.
//! - Only who has opened a shard has its [`ShardHandle`], and an [`AckToken`] is one record that was read of it.
//! - Costs grow with what changes, not with the number of shards, but for what people look at ([`TableTracker::view`],
//!   [`TableTracker::lag`]) and [`TableTracker::verify`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::lineage::{Counts, Lineage, Restored};
use super::shard_progress::{Settled, ShardProgress};
use crate::checkpoint::{StoredChanges, StoredShard, StoredStream, StoredTable, StreamChanges, UnfinishedShard};
use crate::clock::whole_second;
use crate::records::{
    Gap, LaneId, LossReason, Position, RETENTION, SequenceNumber, ShardId, ShardNumber, StreamDetails,
};

/// What is stored of a shard that does not change is stored anew this often: its age tells a later run whether anything can have
/// been trimmed in the meantime.
const VERIFICATION: Duration = Duration::from_secs(5 * 60);

/// Only after so much time without a record is it believed that none was left behind. One empty page proves nothing.
const PROOF_OF_EMPTINESS: Duration = Duration::from_secs(60);

/// Finished shards are remembered this long: they stay listed for a day.
const MARKER_LIFE: Duration = Duration::from_secs(48 * 60 * 60);

/// The shards of one table.
#[derive(Debug, Default)]
pub struct TableTracker {
    /// Oldest first.
    streams: Vec<Stream>,
    /// Lanes are of whole lineages, not of items.
    is_ordered_by_shard: bool,
    unsettled: usize,
    /// What is not stored as it is: shards, streams, and shards that are not known any more.
    dirty: BTreeSet<ShardHandle>,
    dirty_streams: BTreeSet<StreamHandle>,
    forgotten: BTreeSet<(StreamHandle, ShardId)>,
    /// A stream that was lost as a whole holds what follows it.
    barrier: Option<Barrier>,
}

/// One of a table's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamHandle(usize);

/// A shard that is or was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardHandle {
    stream: StreamHandle,
    shard: ShardNumber,
}

#[cfg(test)]
impl ShardHandle {
    pub const FIRST: Self = Self::nth(0);

    /// A shard that only has to be another one than others.
    pub const fn nth(shard: ShardNumber) -> Self {
        Self { stream: StreamHandle(0), shard }
    }
}

/// One entry that was read and is not settled. It is given back once.
#[derive(Debug, PartialEq, Eq)]
pub struct AckToken {
    shard: ShardHandle,
    ordinal: u64,
}

#[derive(Debug)]
struct Stream {
    details: Arc<StreamDetails>,
    /// Where shards begin that were never seen.
    start: Position,
    /// It was read to its end, or is gone.
    is_ended: bool,
    /// When something of it was last known, if ever: what a shard holds whose parent is not known may be that old.
    verified_at: Option<SystemTime>,
    /// An earlier run had begun with it, or another stream of the table.
    is_required: bool,
    lineage: Lineage<Shard>,
    /// Shards that are open.
    unfinished: usize,
}

#[derive(Debug)]
struct Shard {
    phase: Phase,
    progress: ShardProgress,
    /// It was read to its end.
    is_ended: bool,
    /// When that was, in this run.
    read_at: Option<Instant>,
    /// When its last page was asked for, in this run.
    end_asked: Option<SystemTime>,
    /// When the newest record was created that was read in this run, whether it is entered or not.
    handed_down: Option<SystemTime>,
    /// Everything from its start on is owed: nobody may take it for what lies before a first start.
    is_required: bool,
    /// Everything in it that was not read was created at this moment or later.
    verified_at: SystemTime,
    /// That moment as it is stored.
    stored_verification: SystemTime,
    /// Since when it gave empty pages only, and none of them was full.
    empty_since: Option<SystemTime>,
    /// Whether the last page held all there was, as far as one can know.
    is_caught_up: bool,
    /// The creation time of the newest record that was read, in this run.
    newest: Option<SystemTime>,
    /// The lane of its lineage.
    lane: LaneId,
    barrier: Option<Barrier>,
    /// A page of it was entered.
    is_entered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing of it was read: nothing of it is stored.
    Listed,
    Open,
    /// Everything in it is settled. Nothing that continues it was created before `at`.
    Finished {
        at: SystemTime,
    },
}

/// The gaps of a lineage, each of which has to be tried before what was read behind it.
#[derive(Debug, Clone)]
struct Barrier {
    /// What they have in common: the lane of the first one.
    name: LaneId,
    /// The lanes that lost something; none: any may have.
    lanes: Option<Arc<BTreeSet<LaneId>>>,
}

/// A shard that is to be read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedShard {
    pub handle: ShardHandle,
    pub id: ShardId,
    /// Where reading begins.
    pub from: Position,
    /// When the end of its parent was read, if that was in this run.
    pub handed_over: Option<Instant>,
}

/// Changes may be missing between a position and what is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// How many items' lanes lost something; none if any may have.
    pub lanes: Option<usize>,
}

/// An entry that was read and is owed.
#[derive(Debug)]
pub struct Owed {
    /// To be given back when it is settled; none where nothing may move past it in this run.
    pub token: Option<AckToken>,
    /// Its lane within the table: that of its item, of its lineage, or a gap's own.
    pub lane: LaneId,
    /// The name of the gaps that have to be tried before it; of a gap, that of those to which it belongs.
    pub barrier: Option<LaneId>,
}

/// What a page says of its shard, besides its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRead {
    /// When it was asked for.
    pub asked_at: SystemTime,
    /// It held all there was, as far as one can know.
    pub is_caught_up: bool,
    /// It was the last one.
    pub is_last: bool,
}

/// Enters one shard's page.
pub struct PageEntry<'t> {
    tracker: &'t mut TableTracker,
    handle: ShardHandle,
    entries: usize,
    /// That nothing is behind a gap was proved.
    is_empty_behind: bool,
    /// The last record does not say when it was created.
    is_undated: bool,
}

impl TableTracker {
    /// Begins with what an earlier run has stored. `is_ordered_by_shard`: lanes are of whole lineages, not of items.
    pub fn restored(stored: StoredTable, is_ordered_by_shard: bool) -> Self {
        let streams = stored.streams.into_iter().map(Stream::restored).collect();
        Self { streams, is_ordered_by_shard, ..Self::default() }
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
            let it = self.stream_mut(stream);
            it.details = details;
            it.verified_at.get_or_insert(now);
            return stream;
        }
        let verified_at = match start {
            // What is older than a day may be gone, and nobody can know.
            Position::Since(moment) if now.duration_since(moment).is_ok_and(|age| age < RETENTION) => Some(moment),
            _ => Some(now),
        };
        let lineage = Lineage::default();
        let (is_ended, unfinished) = (false, 0);
        self.streams.push(Stream { details, start, is_ended, verified_at, is_required, lineage, unfinished });
        let stream = StreamHandle(self.streams.len() - 1);
        self.dirty_streams.insert(stream);
        stream
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
        let Self { streams, dirty, .. } = self;
        let it = &mut streams[stream.0];
        it.is_ended = true;
        for shard in it.lineage.waiting() {
            let state = it.lineage.state_mut(shard);
            if state.phase == Phase::Open {
                state.phase = Phase::Finished { at: state.verified_at };
                it.unfinished -= 1;
                dirty.insert(ShardHandle { stream, shard });
            }
        }
        self.dirty_streams.insert(stream);
    }

    /// Whether everything in earlier streams is settled.
    pub fn is_settled_before(&self, stream: StreamHandle) -> bool {
        self.streams[..stream.0].iter().all(|stream| stream.unfinished == 0)
    }

    /// A listing has shown a shard.
    pub fn learn(&mut self, stream: StreamHandle, id: &str, parent: Option<&str>) {
        let it = self.stream_mut(stream);
        let (start, verified_at) = (it.start, it.verified_at.unwrap_or(SystemTime::UNIX_EPOCH));
        it.lineage.learn(id, parent, || Shard::listed(id, start, verified_at));
    }

    /// A listing has reached its last page.
    pub fn complete_pass(&mut self, stream: StreamHandle) {
        self.stream_mut(stream).lineage.complete_pass();
    }

    pub fn was_listed(&self, stream: StreamHandle) -> bool {
        self.stream(stream).lineage.was_listed()
    }

    /// Whether a shard waits for another listing to lack its parent.
    pub fn is_in_doubt(&self, stream: StreamHandle) -> bool {
        self.stream(stream).lineage.is_in_doubt()
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

    pub fn counts(&self, stream: StreamHandle) -> Counts {
        self.stream(stream).lineage.counts()
    }

    /// Opens the shards that may be read now.
    pub fn open_ready(&mut self, stream: StreamHandle) -> Vec<OpenedShard> {
        let ready = self.stream_mut(stream).lineage.take_ready();
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

    pub fn shard_id(&self, handle: ShardHandle) -> &ShardId {
        self.id(handle)
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
        let is_old = |at: SystemTime, shard: &Shard| {
            let ended = shard.end_asked.map_or(at, |asked| asked.max(at));
            now.duration_since(ended).is_ok_and(|age| age > MARKER_LIFE)
        };
        let it = self.stream_mut(stream);
        let old =
            it.lineage.iter().filter(|(.., shard)| matches!(shard.phase, Phase::Finished { at } if is_old(at, shard)));
        let old: Vec<ShardNumber> = old.map(|(number, ..)| number).collect();
        for (id, _) in old.into_iter().filter_map(|number| it.lineage.forget(number)).collect::<Vec<_>>() {
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
        let (shard, own) = (self.shard(handle), gap_lane(self.id(handle)));
        let lost = shard.progress.owed_before(first);
        let is_known = first.is_some_and(|first| shard.progress.knows(first, own));
        let is_early = is_trimmed && shard.progress.read_created().is_none_or(|created| !is_expired(created, now));
        if !is_known && (is_early || is_expired(shard.verified_at, now)) {
            return Some(Loss { lanes: None });
        }
        let lanes = lost.keys().filter(|lane| **lane != own).count();
        // A gap that was told before and did not reach the sink is told again.
        (!lost.is_empty()).then_some(Loss { lanes: Some(lanes).filter(|lanes| *lanes > 0) })
    }

    /// Whether something is missing because AWS does not know a shard that was not read to its end.
    pub fn is_loss(&self, handle: ShardHandle, now: SystemTime) -> bool {
        let shard = self.shard(handle);
        let was_read = matches!(shard.progress.read_to(), Position::After(_));
        shard.is_required || was_read || is_expired(shard.verified_at, now)
    }

    /// Enters a page of a shard.
    pub fn page(&mut self, handle: ShardHandle) -> PageEntry<'_> {
        if !self.shard(handle).is_entered {
            // All pages of its ancestors were entered before its own first one, and not all of them when it was opened.
            let inherited = self.ancestor(handle).and_then(|ancestor| self.shard(ancestor).barrier.clone());
            let barrier = inherited.or_else(|| self.barrier.clone());
            let shard = self.shard_mut(handle);
            (shard.is_entered, shard.barrier) = (true, barrier);
        }
        PageEntry { tracker: self, handle, entries: 0, is_empty_behind: false, is_undated: false }
    }

    /// An entry was settled: its event was acknowledged, or given up by policy.
    pub fn settle(&mut self, token: &AckToken) {
        let handle = token.shard;
        let progress = &mut self.shard_mut(handle).progress;
        let before = progress.unsettled();
        progress.settle(token.ordinal);
        self.unsettled -= before - self.shard(handle).progress.unsettled();
        self.dirty.insert(handle);
        self.finish_if_done(handle);
    }

    /// Records read and not settled.
    pub fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// Whether something is not stored as it is.
    pub fn has_changes(&self) -> bool {
        !(self.dirty.is_empty() && self.dirty_streams.is_empty() && self.forgotten.is_empty())
    }

    /// Finds the shards whose continuity was stored too long ago.
    pub fn verify(&mut self, now: SystemTime) {
        for (index, stream) in self.streams.iter().enumerate().filter(|(_, stream)| stream.unfinished > 0) {
            for (shard, _, state) in stream.lineage.iter().filter(|(.., shard)| shard.phase == Phase::Open) {
                let is_old = now.duration_since(state.stored_verification).is_ok_and(|age| age >= VERIFICATION);
                if is_old && state.verified_at > state.stored_verification {
                    self.dirty.insert(ShardHandle { stream: StreamHandle(index), shard });
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
        for handle in std::mem::take(&mut self.dirty) {
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
        StoredChanges { streams: streams.collect() }
    }

    /// These changes are not stored, or nobody knows: they are to be taken again.
    pub fn put_back(&mut self, changes: StoredChanges) {
        for StreamChanges { place, shards, .. } in changes.streams {
            let stream = StreamHandle(place);
            self.dirty_streams.insert(stream);
            for id in shards.into_keys() {
                match self.stream(stream).lineage.number(&id) {
                    Some(shard) => self.dirty.insert(ShardHandle { stream, shard }),
                    None => self.forgotten.insert((stream, id.into())),
                };
            }
        }
    }

    /// How far the table is behind: the age of the oldest record that is owed, or that is known to be waiting.
    pub fn lag(&self, now: SystemTime) -> Duration {
        let open = self.streams.iter().flat_map(|stream| stream.lineage.iter());
        let open = open.map(|(.., shard)| shard).filter(|shard| shard.phase == Phase::Open);
        let oldest = open.filter_map(Shard::oldest_waiting).min();
        oldest.and_then(|oldest| now.duration_since(oldest).ok()).unwrap_or_default()
    }

    /// A snapshot of all shards of which anything was read, for `/status`.
    pub fn view(&self) -> Vec<ShardView> {
        let shards = self.streams.iter().flat_map(|stream| stream.lineage.iter().map(move |shard| (stream, shard)));
        let begun = shards.filter(|(_, (.., shard))| shard.phase != Phase::Listed);
        begun
            .map(|(stream, (number, id, shard))| ShardView {
                stream: stream.details.arn.clone(),
                id: id.to_string(),
                parent: stream.lineage.parent_id(number).map(ToString::to_string),
                is_finished: matches!(shard.phase, Phase::Finished { .. }),
                safe: shard.progress.settled().safe,
                read_to: shard.progress.read_to(),
                unsettled: shard.progress.unsettled(),
                is_caught_up: shard.is_caught_up,
                newest: shard.newest,
                is_ended: shard.is_ended,
                oldest_waiting: shard.oldest_waiting(),
            })
            .collect()
    }

    fn open(&mut self, handle: ShardHandle) -> OpenedShard {
        let parent = self.parent(handle).map(|parent| self.shard(parent));
        let parent =
            parent.map(|parent| (parent.read_at, parent.verified_at.max(parent.handed_down.unwrap_or(UNIX_EPOCH))));
        let lane = self.ancestor(handle).map(|ancestor| self.shard(ancestor).lane);
        let stream = self.stream_mut(handle.stream);
        let is_required = stream.is_required || parent.is_some();
        let shard = stream.lineage.state_mut(handle.shard);
        let handed_over = parent.and_then(|(read_at, _)| read_at);
        shard.lane = lane.unwrap_or(shard.lane);
        if let Some((_, verified_at)) = parent
            && shard.phase == Phase::Listed
        {
            (shard.verified_at, shard.stored_verification) = (verified_at, verified_at);
        }
        if shard.phase == Phase::Listed {
            if handed_over.is_some() {
                // What follows a shard that was read here is owed from its first record on, whatever the start was.
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
        let Counts { reading, waiting, finished } = self.counts(handle.stream);
        let ancestors = std::iter::successors(self.parent(handle), |ancestor| self.parent(*ancestor));
        // Listings that contradict themselves can make a circle.
        for ancestor in ancestors.take(reading + waiting + finished) {
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

    fn finish_if_done(&mut self, handle: ShardHandle) {
        let shard = self.shard_mut(handle);
        if shard.phase == Phase::Open && shard.is_ended && shard.progress.unsettled() == 0 {
            shard.phase = Phase::Finished { at: whole_second(shard.verified_at) };
            self.dirty.insert(handle);
            let stream = self.stream_mut(handle.stream);
            stream.unfinished -= 1;
            if stream.is_done() {
                self.dirty_streams.insert(handle.stream);
            }
        }
    }

    fn stored(&self, handle: ShardHandle) -> Option<StoredShard> {
        let shard = self.shard(handle);
        let parent = self.stream(handle.stream).lineage.parent_id(handle.shard).map(ToString::to_string);
        match shard.phase {
            Phase::Listed => None,
            Phase::Finished { at } => Some(StoredShard::Finished { at, parent }),
            Phase::Open => {
                let Settled { safe, safe_created, newest_settled, heads, oldest_owed, next_owed } =
                    shard.progress.settled();
                let verified_at = match next_owed {
                    Some(Some(created)) => shard.verified_at.min(created),
                    // It does not say when it was created: as long as it is owed, nothing newer is known.
                    Some(None) => shard.stored_verification,
                    None => shard.verified_at,
                };
                let verified_at = whole_second(verified_at);
                let newest_record = safe_created.map(whole_second).filter(|created| *created < verified_at);
                Some(StoredShard::Unfinished(UnfinishedShard {
                    safe,
                    newest_settled,
                    heads,
                    oldest_owed,
                    verified_at,
                    newest_record,
                    parent,
                }))
            }
        }
    }

    fn id(&self, handle: ShardHandle) -> &ShardId {
        self.stream(handle.stream).lineage.id(handle.shard)
    }

    fn shard(&self, handle: ShardHandle) -> &Shard {
        self.stream(handle.stream).lineage.state(handle.shard)
    }

    fn shard_mut(&mut self, handle: ShardHandle) -> &mut Shard {
        self.stream_mut(handle.stream).lineage.state_mut(handle.shard)
    }

    fn stream(&self, stream: StreamHandle) -> &Stream {
        &self.streams[stream.0]
    }

    fn stream_mut(&mut self, stream: StreamHandle) -> &mut Stream {
        &mut self.streams[stream.0]
    }
}

impl PageEntry<'_> {
    /// A record was read; `lane` is its item's. Returns what it owes, or nothing if an earlier run has settled it.
    pub fn record(&mut self, sequence: SequenceNumber, lane: LaneId, created: Option<SystemTime>) -> Option<Owed> {
        self.entries += 1;
        self.is_undated = created.is_none();
        let is_ordered_by_shard = self.tracker.is_ordered_by_shard;
        let shard = self.tracker.shard_mut(self.handle);
        if let Some(created) = created {
            shard.newest = Some(created);
            shard.verified_at = shard.verified_at.max(created);
        }
        let read = shard.progress.read(sequence, lane, created);
        let barrier = shard.barrier.as_ref().filter(|barrier| barrier.holds(lane));
        let barrier = barrier.filter(|_| !is_ordered_by_shard).map(|barrier| barrier.name);
        let lane = if is_ordered_by_shard { shard.lane } else { lane };
        read.map(|ordinal| Owed { token: Some(self.owe(ordinal)), lane, barrier }).or_else(|| self.settled_before())
    }

    /// Changes may be missing here; `name` is the lane of the gap's event. Returns what it owes, or nothing if an earlier run has
    /// settled it.
    pub fn gap(&mut self, gap: &Gap, name: LaneId) -> Option<Owed> {
        self.entries += 1;
        let is_ordered_by_shard = self.tracker.is_ordered_by_shard;
        self.is_empty_behind = gap.reason == LossReason::Trimmed && gap.before.is_none();
        let own = gap_lane(self.tracker.id(self.handle));
        let shard = self.tracker.shard_mut(self.handle);
        let (ordinal, lanes) = match gap.reason {
            // It may be anybody's.
            LossReason::Undecodable => (shard.progress.undecodable(gap.lost, own), None),
            _ => {
                let lost = shard.progress.owed_before(gap.before);
                let lanes: Option<BTreeSet<LaneId>> = gap.lanes.map(|_| lost.keys().copied().collect());
                let ordinal = shard.progress.gap(own, lost, lanes.is_none());
                if gap.before.is_none() {
                    // All that comes is new.
                    shard.progress.end();
                }
                (Some(ordinal), lanes)
            }
        };
        let Some(ordinal) = ordinal else { return self.settled_before() };
        let barrier = Barrier::behind(shard.barrier.as_ref(), name, lanes);
        shard.barrier = Some(barrier.clone());
        let number = barrier.name;
        let lane = if is_ordered_by_shard { shard.lane } else { name };
        if gap.shard.is_none() {
            self.tracker.barrier = Some(barrier);
        }
        let token = self.owe(ordinal);
        // A gap at which reading stops holds the position for good: only a restart gets past it.
        Some(Owed { token: gap.resume.map(|_| token), lane, barrier: Some(number).filter(|_| !is_ordered_by_shard) })
    }

    /// That was all of the page.
    pub fn read(self, page: PageRead) {
        let shard = self.tracker.shard_mut(self.handle);
        shard.is_caught_up = page.is_caught_up || page.is_last;
        if self.entries > 0 || !page.is_caught_up {
            shard.empty_since = None;
        }
        if self.entries == 0 && page.is_caught_up && !page.is_last {
            let since = *shard.empty_since.get_or_insert(page.asked_at);
            let proven = page.asked_at.checked_sub(PROOF_OF_EMPTINESS).filter(|proven| *proven >= since);
            shard.verified_at = proven.map_or(shard.verified_at, |proven| proven.max(shard.verified_at));
        }
        if self.is_undated {
            shard.progress.read_by(page.asked_at);
        }
        if self.is_empty_behind {
            let proven = page.asked_at.checked_sub(PROOF_OF_EMPTINESS).unwrap_or(UNIX_EPOCH);
            shard.verified_at = shard.verified_at.max(proven);
        }
        if page.is_last {
            (shard.is_ended, shard.end_asked) = (true, Some(page.asked_at));
            shard.progress.end();
            self.tracker.dirty.insert(self.handle);
            self.tracker.finish_if_done(self.handle);
        }
    }

    fn owe(&mut self, ordinal: u64) -> AckToken {
        self.tracker.unsettled += 1;
        AckToken { shard: self.handle, ordinal }
    }

    /// What was read again is settled: the position moves.
    fn settled_before(&mut self) -> Option<Owed> {
        self.tracker.dirty.insert(self.handle);
        None
    }
}

impl Stream {
    fn restored(stored: StoredStream) -> Self {
        let StoredStream { arn, start, done, shards } = stored;
        let unfinished = shards.values().filter(|shard| matches!(shard, StoredShard::Unfinished(_))).count();
        let verified_at = shards.values().map(|shard| match shard {
            StoredShard::Unfinished(shard) => shard.verified_at,
            StoredShard::Finished { at, .. } => *at,
        });
        let started = match start {
            Position::Since(moment) if moment > SystemTime::UNIX_EPOCH => Some(moment),
            _ => None,
        };
        let verified_at = verified_at.chain(started).max();
        let lineage = Lineage::restored(shards.into_iter().map(|(id, shard)| Shard::restored(&id, &shard, start)));
        let details = Arc::new(StreamDetails::from_arn(&arn));
        Self { details, start, is_ended: done, verified_at, is_required: true, lineage, unfinished }
    }

    fn is_done(&self) -> bool {
        self.is_ended && self.unfinished == 0
    }
}

impl Shard {
    /// One that a listing has shown.
    fn listed(id: &str, start: Position, verified_at: SystemTime) -> Self {
        Self {
            phase: Phase::Listed,
            progress: ShardProgress::begin(start),
            is_ended: false,
            read_at: None,
            end_asked: None,
            handed_down: None,
            is_required: false,
            verified_at,
            stored_verification: verified_at,
            empty_since: None,
            is_caught_up: false,
            newest: None,
            lane: LaneId::of_shard(id),
            barrier: None,
            is_entered: false,
        }
    }

    fn restored(id: &str, stored: &StoredShard, start: Position) -> Restored<Self> {
        let parent = stored.parent().map(Arc::from);
        let (is_read, state) = match stored {
            StoredShard::Finished { at, .. } => {
                let phase = Phase::Finished { at: *at };
                (true, Self { phase, is_ended: true, is_caught_up: true, ..Self::listed(id, start, *at) })
            }
            StoredShard::Unfinished(shard) => {
                let (phase, progress) = (Phase::Open, ShardProgress::resume(shard));
                let listed = Self::listed(id, start, shard.verified_at);
                (false, Self { phase, progress, is_required: true, ..listed })
            }
        };
        Restored { id: id.into(), parent, is_read, state }
    }

    /// The creation time of the oldest record that is owed, or that is known to be waiting.
    fn oldest_waiting(&self) -> Option<SystemTime> {
        let waiting = self.newest.filter(|_| !self.is_caught_up);
        self.progress.oldest_owed().into_iter().chain(waiting).min()
    }
}

impl Barrier {
    /// A gap's, behind an earlier one of its lineage.
    fn behind(earlier: Option<&Self>, gap: LaneId, lanes: Option<BTreeSet<LaneId>>) -> Self {
        let Some(earlier) = earlier else { return Self { name: gap, lanes: lanes.map(Arc::new) } };
        let lanes = lanes.zip(earlier.lanes.as_deref()).map(|(lanes, earlier)| &lanes | earlier);
        Self { name: earlier.name, lanes: lanes.map(Arc::new) }
    }

    fn holds(&self, lane: LaneId) -> bool {
        self.lanes.as_ref().is_none_or(|lanes| lanes.contains(&lane))
    }
}

/// The lane of a shard's gaps in what is stored of it.
fn gap_lane(id: &str) -> LaneId {
    LaneId::of_shard(id)
}

/// Whether what was created at this moment may have been trimmed.
fn is_expired(created: SystemTime, now: SystemTime) -> bool {
    now.duration_since(created).is_ok_and(|age| age >= RETENTION)
}

/// A shard for people to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardView {
    pub stream: String,
    pub id: String,
    /// The shard that it continues, if that is known.
    pub parent: Option<String>,
    /// Everything in it is settled.
    pub is_finished: bool,
    /// Everything up to here is settled.
    pub safe: Position,
    /// Behind the last record read.
    pub read_to: Position,
    /// Records read and not settled.
    pub unsettled: usize,
    /// Whether the last page held all there was.
    pub is_caught_up: bool,
    /// The creation time of the newest record read.
    pub newest: Option<SystemTime>,
    /// Whether it was read to its end.
    pub is_ended: bool,
    /// The creation time of the oldest record that is owed, or that is known to be waiting.
    pub oldest_waiting: Option<SystemTime>,
}

impl ShardView {
    /// How far the shard is behind: as [`TableTracker::lag`] says it of the table.
    pub fn lag(&self, now: SystemTime) -> Duration {
        self.oldest_waiting.and_then(|oldest| now.duration_since(oldest).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
