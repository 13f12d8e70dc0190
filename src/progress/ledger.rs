//! One table's books: what was read, what is settled, and the state to store. Pure: time is an argument.
//!
//! It applies what reading hands down, in order, and adds the parts that [`Progress`] does not know: ids, streams, and how
//! far behind the table is.
//!
//! Contract: [`Ledger::state`] is always a state from which a later run loses nothing and sees an item's newest state last.
//! A stream that follows another one has no position before everything in the earlier one is settled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{BrokenBooks, Progress, Standing, Ticket};
use crate::checkpoint::{StoredOrder, StoredShard, StoredStream, StoredTable, UnfinishedShard};
use crate::clock;
use crate::records::{Position, ShardId, ShardNumber, StreamDetails};

/// What is stored of a shard that does not change is stored anew this often: its age tells a later run whether anything can have
/// been trimmed in the meantime.
pub const VERIFICATION: Duration = Duration::from_secs(5 * 60);

/// The books of one table.
#[derive(Debug, Default)]
pub struct Ledger {
    progress: Progress,
    streams: Vec<Stream>,
    shards: BTreeMap<ShardNumber, Shard>,
    changes: u64,
    order: StoredOrder,
}

#[derive(Debug)]
struct Stream {
    facts: Arc<StreamDetails>,
    start: Position,
    ended: bool,
    /// What an earlier run has stored and reading has not taken up yet, by shard: it stays stored.
    untaken: BTreeMap<String, StoredShard>,
}

#[derive(Debug)]
struct Shard {
    id: ShardId,
    stream: usize,
    parent: Option<ShardId>,
    /// When it was found finished.
    finished: Option<SystemTime>,
    /// Whether the last page held all there was.
    caught_up: bool,
    newest: Option<SystemTime>,
    /// What was to be stored of it last, until it is finished.
    last: Option<(Position, SystemTime)>,
}

impl Ledger {
    /// Takes over what an earlier run has stored, so that it stays stored until reading takes it up.
    pub fn with_stored(stored: &StoredTable) -> Self {
        let mut ledger = Self::default();
        for StoredStream { arn, start, done, shards } in &stored.streams {
            ledger.streams.push(Stream {
                facts: Arc::new(StreamDetails::from_arn(arn)),
                start: *start,
                ended: *done,
                untaken: shards.clone(),
            });
        }
        ledger
    }

    /// Lanes are of whole shards, not of items.
    pub fn order_by_shard(&mut self) {
        self.order = StoredOrder::Shard;
    }

    /// A stream is going to be read.
    pub fn open_stream(&mut self, facts: &Arc<StreamDetails>, start: Position) {
        match self.stream(&facts.arn) {
            Some(stream) => self.streams[stream].facts = facts.clone(),
            None => {
                self.streams.push(Stream { facts: facts.clone(), start, ended: false, untaken: BTreeMap::new() });
                self.changes += 1;
            }
        }
    }

    /// A stream was read to its end.
    ///
    /// # Errors
    /// When it was never opened.
    pub fn end_stream(&mut self, arn: &str) -> Result<(), BrokenBooks> {
        let stream = self.known_stream(arn)?;
        self.streams[stream].ended = true;
        self.streams[stream].untaken.clear();
        self.changes += 1;
        Ok(())
    }

    /// A shard is going to be read.
    ///
    /// # Errors
    /// When its stream was never opened.
    pub fn open_shard(
        &mut self,
        number: ShardNumber,
        id: &ShardId,
        arn: &str,
        parent: Option<ShardId>,
        from: Position,
    ) -> Result<(), BrokenBooks> {
        let stream = self.known_stream(arn)?;
        let ancestors = match parent.as_ref().and_then(|parent| self.number(stream, parent)) {
            Some(parent) => vec![parent],
            None => self.unfinished_before(stream),
        };
        self.progress.open(number, from, ancestors);
        self.streams[stream].untaken.remove(&**id);
        let shard =
            Shard { id: id.clone(), stream, parent, finished: None, caught_up: false, newest: None, last: None };
        self.shards.insert(number, shard);
        Ok(())
    }

    /// A shard need not be read; it was finished then.
    ///
    /// # Errors
    /// When its stream was never opened.
    pub fn skip_shard(
        &mut self,
        number: ShardNumber,
        id: &ShardId,
        arn: &str,
        parent: Option<ShardId>,
        at: SystemTime,
    ) -> Result<(), BrokenBooks> {
        let stream = self.known_stream(arn)?;
        self.progress.open(number, Position::Start, Vec::new());
        self.progress.end(number)?;
        self.streams[stream].untaken.remove(&**id);
        let shard =
            Shard { id: id.clone(), stream, parent, finished: Some(at), caught_up: true, newest: None, last: None };
        self.shards.insert(number, shard);
        Ok(())
    }

    /// A record was read; `position` lies behind it.
    ///
    /// # Errors
    /// When the shard is unknown.
    pub fn read(
        &mut self,
        shard: ShardNumber,
        position: Position,
        created: Option<SystemTime>,
    ) -> Result<Ticket, BrokenBooks> {
        let state = self.known_shard(shard)?;
        state.newest = created.or(state.newest);
        self.progress.read(shard, position, created)
    }

    /// A page was read; `caught_up` says whether it held all there was.
    ///
    /// # Errors
    /// When the shard is unknown.
    pub fn page_read(&mut self, shard: ShardNumber, caught_up: bool) -> Result<(), BrokenBooks> {
        self.known_shard(shard)?.caught_up = caught_up;
        Ok(())
    }

    /// An event was settled.
    ///
    /// # Errors
    /// When the ticket's shard is unknown.
    pub fn settle(&mut self, ticket: Ticket) -> Result<(), BrokenBooks> {
        self.progress.settle(ticket)
    }

    /// A shard was read to its end.
    ///
    /// # Errors
    /// When the shard is unknown.
    pub fn end_shard(&mut self, shard: ShardNumber) -> Result<(), BrokenBooks> {
        self.progress.end(shard)?;
        self.page_read(shard, true)
    }

    /// A finished shard is not needed any more.
    pub fn forget_shard(&mut self, shard: ShardNumber) {
        if self.progress.standing(shard) == Some(Standing::Finished) {
            self.progress.forget(shard);
            self.shards.remove(&shard);
        }
    }

    /// Counts changes: a new value means that [`Ledger::state`] may differ.
    pub fn changes(&self) -> u64 {
        self.changes + self.progress.changes()
    }

    /// Records read and not settled.
    pub fn unsettled(&self) -> usize {
        self.progress.unsettled()
    }

    /// Whether everything in the streams before this one is settled.
    pub fn is_settled_before(&self, arn: &str) -> bool {
        self.stream(arn).is_none_or(|stream| self.unfinished_before(stream).is_empty())
    }

    /// How far the table is behind: the age of the oldest record that is not settled, or that is known to be waiting.
    pub fn lag(&self, now: SystemTime) -> Duration {
        let waiting = self.shards.values().filter(|shard| !shard.caught_up).filter_map(|shard| shard.newest).min();
        let oldest = self.progress.oldest_unsettled().into_iter().chain(waiting).min();
        oldest.and_then(|oldest| now.duration_since(oldest).ok()).unwrap_or_default()
    }

    /// What is to be stored.
    pub fn state(&mut self, now: SystemTime) -> StoredTable {
        self.mark_finished(now);
        // What nobody needs more exactly takes less space.
        self.verify(clock::whole_second(now));
        let streams = self.streams.iter().enumerate().map(|(index, stream)| {
            let shards = self.shards.iter().filter(|(_, shard)| shard.stream == index);
            let done = stream.ended && self.is_finished(index);
            let shards =
                shards.filter_map(|(number, shard)| Some((shard.id.to_string(), self.stored_shard(*number, shard)?)));
            let untaken = stream.untaken.iter().map(|(id, shard)| (id.clone(), shard.clone()));
            StoredStream {
                arn: stream.facts.arn.clone(),
                start: stream.start,
                done,
                shards: if done { BTreeMap::new() } else { untaken.chain(shards).collect() },
            }
        });
        StoredTable { streams: streams.collect() }
    }

    /// A snapshot of all shards, for `/status`.
    pub fn view(&self) -> Vec<ShardView> {
        self.shards
            .iter()
            .map(|(number, shard)| ShardView {
                stream: self.streams[shard.stream].facts.arn.clone(),
                id: shard.id.to_string(),
                parent: shard.parent.as_ref().map(ToString::to_string),
                standing: self.progress.standing(*number),
                read_to: self.progress.read_to(*number),
                unsettled: self.progress.unsettled_in(*number),
                caught_up: shard.caught_up,
                newest: shard.newest,
                ended: self.progress.has_ended(*number),
                oldest_unsettled: self.progress.oldest_unsettled_in(*number),
            })
            .collect()
    }

    fn mark_finished(&mut self, now: SystemTime) {
        for (number, shard) in &mut self.shards {
            if shard.finished.is_none() && self.progress.standing(*number) == Some(Standing::Finished) {
                shard.finished = Some(now);
            }
        }
    }

    /// Takes down what is true of each shard now: where it changed, and where that was done too long ago.
    fn verify(&mut self, now: SystemTime) {
        for (number, shard) in &mut self.shards {
            let Some(Standing::Reading(position)) = self.progress.standing(*number) else { continue };
            let is_fresh = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age < VERIFICATION);
            if shard.last.is_none_or(|(last, at)| last != position || !is_fresh(at)) {
                shard.last = Some((position, now));
            }
        }
    }

    fn stored_shard(&self, number: ShardNumber, shard: &Shard) -> Option<StoredShard> {
        let parent = shard.parent.as_ref().map(ToString::to_string);
        Some(match self.progress.standing(number)? {
            Standing::Finished => StoredShard::Finished { at: shard.finished?, parent },
            Standing::Reading(_) => {
                let (position, verified_at) = shard.last?;
                StoredShard::Unfinished(UnfinishedShard {
                    safe: position,
                    newest_settled: position,
                    heads: BTreeMap::new(),
                    oldest_owed: self.progress.oldest_unsettled_in(number),
                    verified_at,
                    parent,
                    order: self.order,
                })
            }
        })
    }

    fn is_finished(&self, stream: usize) -> bool {
        let mut shards = self.shards.iter().filter(|(_, shard)| shard.stream == stream);
        shards.all(|(number, _)| self.progress.standing(*number) == Some(Standing::Finished))
    }

    fn unfinished_before(&self, stream: usize) -> Vec<ShardNumber> {
        let earlier = self.shards.iter().filter(|(_, shard)| shard.stream < stream);
        let unfinished = earlier.filter(|(number, _)| self.progress.standing(**number) != Some(Standing::Finished));
        unfinished.map(|(number, _)| *number).collect()
    }

    fn known_stream(&self, arn: &str) -> Result<usize, BrokenBooks> {
        self.stream(arn).ok_or_else(|| BrokenBooks::UnknownStream(arn.to_owned()))
    }

    fn known_shard(&mut self, shard: ShardNumber) -> Result<&mut Shard, BrokenBooks> {
        self.shards.get_mut(&shard).ok_or(BrokenBooks::UnknownShard(shard))
    }

    fn stream(&self, arn: &str) -> Option<usize> {
        self.streams.iter().position(|stream| stream.facts.arn == arn)
    }

    fn number(&self, stream: usize, id: &ShardId) -> Option<ShardNumber> {
        self.shards.iter().find(|(_, shard)| shard.stream == stream && shard.id == *id).map(|(number, _)| *number)
    }
}

/// A shard for people to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardView {
    pub stream: String,
    pub id: String,
    /// The shard that it continues, if that is known.
    pub parent: Option<String>,
    /// What may be stored of it.
    pub standing: Option<Standing>,
    /// Behind the last record read.
    pub read_to: Option<Position>,
    /// Records read and not settled.
    pub unsettled: usize,
    /// Whether the last page held all there was.
    pub caught_up: bool,
    /// The creation time of the newest record read.
    pub newest: Option<SystemTime>,
    /// Whether it was read to its end.
    pub ended: bool,
    /// The creation time of the oldest record read and not settled.
    pub oldest_unsettled: Option<SystemTime>,
}

impl ShardView {
    /// How far the shard is behind: as [`Ledger::lag`] says it of the table.
    pub fn lag(&self, now: SystemTime) -> Duration {
        let waiting = self.newest.filter(|_| !self.caught_up);
        let oldest = self.oldest_unsettled.into_iter().chain(waiting).min();
        oldest.and_then(|oldest| now.duration_since(oldest).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "arn:old";
    const NEW: &str = "arn:new";

    fn facts(arn: &str) -> Arc<StreamDetails> {
        let (arn, table_arn) = (arn.to_owned(), "arn:table".to_owned());
        Arc::new(StreamDetails { arn, table_arn, table: "t".to_owned(), key_schema: Vec::new(), view_type: None })
    }

    fn at(number: u64) -> Position {
        Position::After(number.to_string().parse().unwrap())
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000)
    }

    fn position(state: &StoredTable, stream: usize, shard: &str) -> Option<Position> {
        state.streams[stream].shards.get(shard)?.safe()
    }

    #[test]
    fn a_parents_marker_and_its_children_appear_in_one_step() {
        let mut ledger = Ledger::default();
        ledger.open_stream(&facts(OLD), Position::Start);
        ledger.open_shard(0, &"parent".into(), OLD, None, Position::Start).unwrap();
        let parked = ledger.read(0, at(1), None).unwrap();
        ledger.end_shard(0).unwrap();
        ledger.open_shard(1, &"child".into(), OLD, Some("parent".into()), Position::Start).unwrap();
        let read = ledger.read(1, at(2), None).unwrap();
        ledger.settle(read).unwrap();

        let before = ledger.state(now());
        assert_eq!(position(&before, 0, "parent"), Some(Position::Start));
        assert!(!before.streams[0].shards.contains_key("child"));
        ledger.settle(parked).unwrap();
        let after = ledger.state(now());
        let finished = StoredShard::Finished { at: now(), parent: None };
        assert_eq!(after.streams[0].shards["parent"], finished);
        assert_eq!(position(&after, 0, "child"), Some(at(2)));
    }

    #[test]
    fn a_new_streams_positions_wait_for_everything_in_the_old_one() {
        let mut ledger = Ledger::default();
        ledger.open_stream(&facts(OLD), Position::Start);
        ledger.open_shard(0, &"a".into(), OLD, None, Position::Start).unwrap();
        let parked = ledger.read(0, at(1), None).unwrap();
        ledger.end_shard(0).unwrap();
        ledger.end_stream(OLD).unwrap();
        ledger.open_stream(&facts(NEW), Position::Start);
        ledger.open_shard(1, &"b".into(), NEW, None, Position::Start).unwrap();
        let read = ledger.read(1, at(9), None).unwrap();
        ledger.settle(read).unwrap();

        let state = ledger.state(now());
        assert!(!state.streams[0].done && state.streams[1].shards.is_empty(), "{state:?}");
        assert!(!ledger.is_settled_before(NEW));
        ledger.settle(parked).unwrap();
        let state = ledger.state(now());
        assert!(state.streams[0].done);
        assert_eq!(position(&state, 1, "b"), Some(at(9)));
        assert!(ledger.is_settled_before(NEW));
    }

    #[test]
    fn a_drained_stream_of_an_earlier_run_stays_known() {
        let mut first = Ledger::default();
        first.open_stream(&facts(OLD), Position::Start);
        first.end_stream(OLD).unwrap();
        let stored = first.state(now());
        let mut second = Ledger::with_stored(&stored);
        second.open_stream(&facts(NEW), Position::Start);
        let state = second.state(now());
        assert_eq!(state.streams.iter().map(|stream| stream.done).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn what_an_earlier_run_has_stored_stays_stored_until_reading_takes_it_up() {
        let open = |number| StoredShard::at(at(number), now(), None);
        let finished = StoredShard::Finished { at: now(), parent: None };
        let shards = |entries: &[(&str, &StoredShard)]| -> BTreeMap<String, StoredShard> {
            entries.iter().map(|(id, shard)| ((*id).to_owned(), (*shard).clone())).collect()
        };
        let stream =
            |arn: &str, done, shards| StoredStream { arn: arn.to_owned(), start: Position::Start, done, shards };
        let new = shards(&[("a", &open(1)), ("b", &open(2)), ("c", &finished)]);
        let stored = StoredTable { streams: vec![stream(OLD, true, BTreeMap::new()), stream(NEW, false, new)] };
        let mut ledger = Ledger::with_stored(&stored);
        assert_eq!(ledger.state(now()), stored, "before AWS has answered");

        ledger.open_stream(&facts(NEW), Position::Start);
        assert_eq!(ledger.state(now()), stored, "before the first shard is taken up");
        ledger.open_shard(0, &"a".into(), NEW, None, at(1)).unwrap();
        let read = ledger.read(0, at(7), None).unwrap();
        ledger.settle(read).unwrap();
        let state = ledger.state(now());
        assert_eq!((position(&state, 1, "a"), position(&state, 1, "b")), (Some(at(7)), Some(at(2))));
        assert_eq!(state.streams[1].shards["c"], finished);

        ledger.end_stream(NEW).unwrap();
        assert!(!ledger.state(now()).streams[1].shards.contains_key("b"), "nobody takes it up any more");
    }

    #[test]
    fn the_lag_is_the_age_of_the_oldest_unsettled_record_and_zero_when_caught_up() {
        let mut ledger = Ledger::default();
        ledger.open_stream(&facts(OLD), Position::Start);
        ledger.open_shard(0, &"a".into(), OLD, None, Position::Start).unwrap();
        let created = |age| Some(now() - Duration::from_secs(age));
        let old = ledger.read(0, at(1), created(60)).unwrap();
        let young = ledger.read(0, at(2), created(10)).unwrap();
        ledger.page_read(0, false).unwrap();
        assert_eq!(ledger.lag(now()), Duration::from_secs(60));
        assert_eq!(ledger.view()[0].lag(now()), Duration::from_secs(60), "the shard's own");
        ledger.settle(old).unwrap();
        ledger.settle(young).unwrap();
        assert_eq!(ledger.lag(now()), Duration::from_secs(10), "a full page: more is waiting behind it");
        assert_eq!(ledger.view()[0].lag(now()), Duration::from_secs(10), "the shard's own");
        ledger.page_read(0, true).unwrap();
        assert_eq!(ledger.lag(now()), Duration::ZERO);
        assert_eq!(ledger.view()[0].lag(now()), Duration::ZERO, "the shard's own");
    }
}
