//! What is known of one shard besides its relation to others: how far it has come, whether anything of it can be missing, what is to
//! be stored of it. Pure: time is an argument.
//!
//! Contract: `verified_at` is never later than the creation of anything in the shard, or in what continues it, that was not read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::left_out::Reread;
use super::lineage::Restored;
use super::shard_progress::{Settled, ShardProgress};
use crate::checkpoint::{StoredShard, UnfinishedShard};
use crate::clock::whole_second;
use crate::records::{Gap, LaneId, LossReason, Position, RETENTION, SequenceNumber};

/// After so much time of empty pages no record is left between a position and the end of its shard. One empty page proves nothing.
pub const PROOF_OF_EMPTINESS: Duration = Duration::from_secs(60);

/// One shard.
#[derive(Debug)]
pub(super) struct TrackedShard {
    pub(super) phase: Phase,
    pub(super) progress: ShardProgress,
    /// It was read to its end.
    pub(super) is_ended: bool,
    /// When that was, in this run.
    pub(super) read_at: Option<Instant>,
    /// When its last page was asked for, in this run.
    pub(super) end_asked: Option<SystemTime>,
    /// When the newest record was created that was read in this run, whether it is entered or not.
    pub(super) handed_down: Option<SystemTime>,
    /// Everything from its start on is owed: nobody may take it for what lies before a first start.
    pub(super) is_required: bool,
    /// Everything in it that was not read was created at this moment or later.
    pub(super) verified_at: SystemTime,
    /// That moment as it is stored.
    pub(super) stored_verification: SystemTime,
    /// Since when it gave empty pages only, and none of them was full.
    empty_since: Option<SystemTime>,
    /// Whether the last page held all there was, as far as one can know.
    pub(super) is_caught_up: bool,
    /// The creation time of the newest record that was read, in this run, or the start's moment.
    newest: Option<SystemTime>,
    /// Its own lane: that of its gaps in what is stored of it; with order by shard that of all that is delivered of it.
    pub(super) lane: LaneId,
    pub(super) barrier: Option<Barrier>,
    /// A page of it was entered.
    pub(super) is_entered: bool,
    /// Its reader makes no pass before this moment.
    pub(super) rests_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
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
pub(super) struct Barrier {
    /// What they have in common: the lane of the first one.
    pub(super) name: LaneId,
    /// The lanes that lost something; none: any may have.
    lanes: Option<Arc<BTreeSet<LaneId>>>,
}

/// Changes may be missing between a position and what is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// How many items' lanes lost something; none if any may have.
    pub lanes: Option<usize>,
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

/// What a page has brought.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PageEntries {
    pub(super) count: usize,
    /// That nothing is behind a gap was proved.
    pub(super) is_empty_behind: bool,
    /// The last record does not say when it was created.
    pub(super) is_undated: bool,
}

impl TrackedShard {
    /// One that a listing has shown.
    pub(super) fn listed(id: &str, start: Position, verified_at: SystemTime) -> Self {
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
            rests_until: None,
        }
    }

    /// One that an earlier run has stored.
    pub(super) fn restored(id: &str, stored: &StoredShard, start: Position) -> Restored<Self> {
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

    /// Everything in it was created at this moment or later, as far as others tell.
    pub(super) fn date(&mut self, verified_at: SystemTime) {
        (self.verified_at, self.stored_verification) = (verified_at, verified_at);
    }

    /// The creation time of the oldest record that is owed, or that is known to be waiting.
    pub(super) fn oldest_waiting(&self) -> Option<SystemTime> {
        let waiting = self.newest.filter(|_| !self.is_caught_up);
        self.progress.oldest_owed().into_iter().chain(waiting).min()
    }

    /// Whether it is known from before, and nothing was read of it since.
    pub(super) fn is_untouched(&self) -> bool {
        self.is_required && self.newest.is_none() && !self.is_caught_up
    }

    /// What is missing before `first`: see [`TableTracker::loss_before`].
    ///
    /// [`TableTracker::loss_before`]: super::table_tracker::TableTracker::loss_before
    pub(super) fn loss_before(&self, first: Option<SequenceNumber>, is_trimmed: bool, now: SystemTime) -> Option<Loss> {
        let mut lost: BTreeSet<LaneId> = self.progress.owed_before(first).into_keys().collect();
        lost.extend(self.progress.left_out().lost_before(first));
        let is_known = first.is_some_and(|first| self.progress.knows(first, self.lane));
        let is_early = is_trimmed && self.progress.read_created().is_none_or(|created| !is_expired(created, now));
        if !is_known && (is_early || is_expired(self.verified_at, now)) {
            return Some(Loss { lanes: None });
        }
        let lanes = lost.iter().filter(|lane| **lane != self.lane).count();
        // A gap that was told before and did not reach the sink is told again.
        (!lost.is_empty()).then_some(Loss { lanes: Some(lanes).filter(|lanes| *lanes > 0) })
    }

    /// Whether something is missing because AWS does not know the shard and it was not read to its end.
    pub(super) fn is_loss(&self, now: SystemTime) -> bool {
        let was_read = matches!(self.progress.read_to(), Position::After(_));
        self.is_required || was_read || is_expired(self.verified_at, now)
    }

    /// A record was read; `lane` is its item's. Returns its ordinal if it is owed.
    pub(super) fn record(
        &mut self,
        sequence: SequenceNumber,
        lane: LaneId,
        created: Option<SystemTime>,
    ) -> Option<u64> {
        self.date_record(created);
        self.progress.read(sequence, lane, created)
    }

    /// A record was read, of a lane that is left out; says whether it is owed.
    pub(super) fn record_left_out(
        &mut self,
        sequence: SequenceNumber,
        lane: LaneId,
        created: Option<SystemTime>,
    ) -> bool {
        self.date_record(created);
        self.progress.read_left_out(sequence, lane, created)
    }

    fn date_record(&mut self, created: Option<SystemTime>) {
        if let Some(created) = created {
            self.newest = Some(created);
            // Of a first start this may be earlier than the moment of the start, which was as good a guess as any.
            self.verified_at = created;
        }
    }

    /// Changes may be missing here; `name` is the lane of the gap's event. Returns its ordinal if it is owed; then what follows waits
    /// for it. `caught_up` gets the lanes of which nothing is left out any more.
    pub(super) fn gap(&mut self, gap: &Gap, name: LaneId, caught_up: &mut Vec<LaneId>) -> Option<u64> {
        let (ordinal, lanes) = match gap.reason {
            // It may be anybody's.
            LossReason::Undecodable => (self.progress.undecodable(gap.lost, self.lane)?, None),
            _ => {
                let lost = self.progress.owed_before(gap.before);
                let left_out: Vec<LaneId> = self.progress.left_out().lost_before(gap.before).collect();
                let lanes: Option<BTreeSet<LaneId>> = gap.lanes.map(|_| lost.keys().copied().chain(left_out).collect());
                let ordinal = self.progress.gap(self.lane, lost, lanes.is_none());
                *caught_up = self.progress.lose_left_out(ordinal, gap.before);
                if gap.before.is_none() {
                    // All that comes is new.
                    self.progress.end();
                }
                (ordinal, lanes)
            }
        };
        self.barrier = Some(Barrier::behind(self.barrier.as_ref(), name, lanes));
        Some(ordinal)
    }

    /// Changes are missing that a pass was to bring; `name` is the lane of the gap's event. Returns its ordinal, and the lanes of which
    /// nothing is left out any more. What follows waits for it.
    pub(super) fn gap_again(&mut self, gap: &Gap, place: Reread, name: LaneId) -> (u64, Vec<LaneId>) {
        let lanes: BTreeSet<LaneId> = self.progress.left_out().lost_before(gap.before).collect();
        self.barrier = Some(Barrier::behind(self.barrier.as_ref(), name, Some(lanes)));
        self.progress.gap_again(self.lane, place, gap.before)
    }

    /// What is lost if `first` is the next record that is still there in a pass; without one nothing is. `is_trimmed`: AWS has said that
    /// the record at the pass's position is gone.
    pub(super) fn loss_in_pass(
        &self,
        first: Option<SequenceNumber>,
        is_trimmed: bool,
        now: SystemTime,
    ) -> Option<Loss> {
        let is_doubtful =
            |created: Option<SystemTime>| is_trimmed || created.is_none_or(|created| is_expired(created, now));
        let left_out = self.progress.left_out();
        let is_loss = left_out.is_loss_in_pass(first, is_doubtful);
        is_loss.then(|| Loss { lanes: Some(left_out.lost_before(first).count()) })
    }

    /// The lane of a record that was handed on and is owed; none of a gap.
    pub(super) fn item_of(&self, ordinal: u64) -> Option<LaneId> {
        self.progress.lane_of(ordinal).filter(|lane| *lane != self.lane)
    }

    /// The records that were handed on and are owed, each with its lane.
    pub(super) fn handed_on(&self) -> impl Iterator<Item = (u64, LaneId)> {
        self.progress.handed_on().filter(|(_, lane)| *lane != self.lane)
    }

    /// A page with these entries was read. `is_continued`: a shard is known that continues this one.
    pub(super) fn page_read(&mut self, page: PageRead, entries: PageEntries, is_continued: bool) {
        let PageEntries { count, is_empty_behind, is_undated } = entries;
        self.is_caught_up = page.is_caught_up || page.is_last;
        if let Position::Since(moment) = self.progress.read_to()
            && count == 0
        {
            // What it held is older than the start: what is waiting may be as old as that.
            self.newest.get_or_insert(moment);
        }
        if count > 0 || !page.is_caught_up {
            self.empty_since = None;
        }
        // That it holds nothing more says nothing of what continues it.
        let proven = page.asked_at.checked_sub(PROOF_OF_EMPTINESS).filter(|_| !is_continued).unwrap_or(UNIX_EPOCH);
        if count == 0 && page.is_caught_up && !page.is_last {
            let since = *self.empty_since.get_or_insert(page.asked_at);
            if proven >= since {
                self.verified_at = self.verified_at.max(proven);
            }
        }
        if is_undated {
            self.progress.read_by(page.asked_at);
        }
        if is_empty_behind {
            self.verified_at = self.verified_at.max(proven);
        }
        if page.is_last {
            (self.is_ended, self.end_asked) = (true, Some(page.asked_at));
            self.progress.end();
        }
    }

    /// Finishes it if it was read to its end and everything in it is settled; says whether it did.
    pub(super) fn finish_if_done(&mut self) -> bool {
        let is_done = self.phase == Phase::Open && self.is_ended && self.progress.is_settled();
        if is_done {
            self.phase = Phase::Finished { at: whole_second(self.verified_at) };
        }
        is_done
    }

    /// Whether its continuity was stored so long ago, and is known better.
    pub(super) fn is_verification_due(&self, most: Duration, now: SystemTime) -> bool {
        let is_old = now.duration_since(self.stored_verification).is_ok_and(|age| age >= most);
        is_old && self.verified_at > self.stored_verification
    }

    /// What is to be stored of it.
    pub(super) fn stored(&self, parent: Option<String>) -> Option<StoredShard> {
        match self.phase {
            Phase::Listed => None,
            Phase::Finished { at } => Some(StoredShard::Finished { at, parent }),
            Phase::Open => Some(StoredShard::Unfinished(self.stored_unfinished(parent))),
        }
    }

    fn stored_unfinished(&self, parent: Option<String>) -> UnfinishedShard {
        let Settled { safe, safe_created, newest_settled, heads, oldest_owed, next_owed } = self.progress.settled();
        let verified_at = whole_second(match next_owed {
            Some(Some(created)) => self.verified_at.min(created),
            // It does not say when it was created: as long as it is owed, nothing newer is known.
            Some(None) => self.stored_verification,
            None => self.verified_at,
        });
        let newest_record = safe_created.map(whole_second).filter(|created| *created < verified_at);
        UnfinishedShard { safe, newest_settled, heads, oldest_owed, verified_at, newest_record, parent }
    }

    /// For people to look at.
    pub(super) fn view(&self, stream: &str, id: &str, parent: Option<&str>) -> ShardView {
        ShardView {
            stream: stream.to_owned(),
            id: id.to_owned(),
            parent: parent.map(str::to_owned),
            is_finished: matches!(self.phase, Phase::Finished { .. }),
            safe: self.progress.settled().safe,
            read_to: self.progress.read_to(),
            unsettled: self.progress.unsettled(),
            left_out: self.progress.left_out().lanes(),
            left_out_records: self.progress.left_out().count(),
            is_caught_up: self.is_caught_up,
            newest: self.newest,
            is_ended: self.is_ended,
            oldest_waiting: self.oldest_waiting(),
        }
    }
}

impl Barrier {
    /// A gap's, behind an earlier one of its lineage.
    fn behind(earlier: Option<&Self>, gap: LaneId, lanes: Option<BTreeSet<LaneId>>) -> Self {
        let Some(earlier) = earlier else { return Self { name: gap, lanes: lanes.map(Arc::new) } };
        let lanes = lanes.zip(earlier.lanes.as_deref()).map(|(lanes, earlier)| &lanes | earlier);
        Self { name: earlier.name, lanes: lanes.map(Arc::new) }
    }

    pub(super) fn holds(&self, lane: LaneId) -> bool {
        self.lanes.as_ref().is_none_or(|lanes| lanes.contains(&lane))
    }
}

/// How far behind whoever waits for what was created then is.
pub(super) fn age(oldest: Option<SystemTime>, now: SystemTime) -> Duration {
    oldest.and_then(|oldest| now.duration_since(oldest).ok()).unwrap_or_default()
}

/// What was created before this moment may have been trimmed.
pub(super) fn oldest_kept(now: SystemTime) -> SystemTime {
    now.checked_sub(RETENTION).unwrap_or(UNIX_EPOCH)
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
    /// Records read and not settled, those that are left out excepted.
    pub unsettled: usize,
    /// Lanes that are left out because they are too long, and how many records of them.
    pub left_out: usize,
    pub left_out_records: u64,
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
    /// How far the shard is behind: the age of what is owed or waits.
    pub fn lag(&self, now: SystemTime) -> Duration {
        age(self.oldest_waiting, now)
    }
}
