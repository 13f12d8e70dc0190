//! Whose turn it is. Pure: time and chance are arguments.
//!
//! Contract:
//! - Tables take turns; within a table what was read first goes first.
//! - Retries and dead letters take at most half of the places, dead letters at most a quarter; where they and first attempts wait, the
//!   two take turns. So what fails never keeps the rest from being tried.
//! - A probe is drawn over tables and items.
//! - No step moves more than [`MOST_MOVED`] lanes, however many wait.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

use tokio::time::Instant;

use super::request::{Kinds, LaneKey, LaneLoad, RequestLimits};
use super::sink_controller::AttemptKind;

/// So many pauses end in one step at most.
const MOST_MOVED: usize = 256;

/// So many pauses are looked at in one step of a search at most.
const MOST_SEEN: usize = 4_096;

/// A lane and where it stands among those whose first event was never tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) table: usize,
    /// How many events were read before its first one.
    pub(super) arrival: u64,
    /// When that was read.
    pub(super) since: Instant,
}

/// The lane whose turn it is.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) lane: LaneKey,
    place: TurnPlace,
}

/// Where a lane waited for its turn.
#[derive(Debug, Clone, Copy)]
enum TurnPlace {
    FirstAttempt(Place),
    Failed(FailedKind),
}

impl Turn {
    pub(super) fn kind(&self) -> AttemptKind {
        match self.place {
            TurnPlace::FirstAttempt(_) => AttemptKind::FirstAttempt,
            TurnPlace::Failed(kind) => kind.attempt(),
        }
    }
}

/// Lanes that wait, by what they wait for.
#[derive(Debug)]
pub(super) struct Queues {
    tables: Vec<TableQueues>,
    waiting: Counts,
    under_way: Counts,
    turns: Turns,
    /// Of the lanes whose first event was never tried.
    load: LaneLoad,
    /// Pauses that nobody asked for: they end at once when the sink works again.
    backoffs: BTreeSet<Pause>,
    /// Pauses that last as long as they last.
    pauses: BTreeSet<Pause>,
    /// Backoffs that have ended before their time.
    released: BTreeSet<Pause>,
    limits: RequestLimits,
    /// So many requests may be under way now.
    places: usize,
}

#[derive(Debug, Default)]
struct TableQueues {
    /// By when their first event was read.
    first_attempts: BTreeMap<u64, (LaneKey, Instant)>,
    retries: VecDeque<LaneKey>,
    dead_letters: VecDeque<LaneKey>,
    /// Lanes that stand still: they wait for nothing.
    held: Vec<LaneKey>,
}

/// A search for all lanes of one table that wait, and how far it has come. Meanwhile none of its lanes begins to wait.
#[derive(Debug)]
pub(super) struct LaneSearch {
    table: usize,
    place: SearchPlace,
    /// The last pause there that was looked at.
    behind: Option<Pause>,
}

/// Where a search looks: pauses become released ones, and those become turns, never the other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SearchPlace {
    Backoffs,
    Pauses,
    Released,
    Turns,
}

/// What a step of a search has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A lane, which waits for nothing any more.
    Lane(LaneKey),
    /// None so far.
    Nothing,
    /// None is left.
    End,
}

/// How many there are of each kind.
#[derive(Debug, Default)]
struct Counts {
    first_attempts: usize,
    retries: usize,
    dead_letters: usize,
}

/// Whose turn it is next.
#[derive(Debug, Default)]
struct Turns {
    first_attempts: usize,
    retries: usize,
    dead_letters: usize,
    /// It is the turn of what was never tried.
    is_of_first_attempts: bool,
    /// Of what has failed, it is the turn of a dead letter.
    is_of_dead_letters: bool,
}

/// A lane whose first event has failed waits until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pause {
    pub(super) end: Instant,
    pub(super) lane: LaneKey,
    pub(super) table: usize,
    pub(super) kind: FailedKind,
}

/// What becomes of an event that has failed: the kinds of attempts besides first ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FailedKind {
    Retry,
    DeadLetter,
}

impl FailedKind {
    fn attempt(self) -> AttemptKind {
        match self {
            Self::Retry => AttemptKind::Retry,
            Self::DeadLetter => AttemptKind::DeadLetter,
        }
    }
}

impl Counts {
    fn of(&mut self, kind: AttemptKind) -> &mut usize {
        match kind {
            AttemptKind::FirstAttempt => &mut self.first_attempts,
            AttemptKind::Retry => &mut self.retries,
            AttemptKind::DeadLetter => &mut self.dead_letters,
        }
    }

    fn failed(&self) -> usize {
        self.retries + self.dead_letters
    }

    fn all(&self) -> usize {
        self.first_attempts + self.failed()
    }
}

impl LaneSearch {
    /// For the lanes of this table.
    pub(super) fn of(table: usize) -> Self {
        Self { table, place: SearchPlace::Backoffs, behind: None }
    }

    fn go_on_in(&mut self, place: SearchPlace) -> Found {
        (self.place, self.behind) = (place, None);
        Found::Nothing
    }
}

impl TableQueues {
    fn failed(&mut self, kind: FailedKind) -> &mut VecDeque<LaneKey> {
        match kind {
            FailedKind::Retry => &mut self.retries,
            FailedKind::DeadLetter => &mut self.dead_letters,
        }
    }

    /// A lane that waits for its turn, or stands still, and what kind of a turn it was.
    fn pop_any(&mut self) -> Option<(LaneKey, Option<AttemptKind>)> {
        let first = self.first_attempts.pop_first().map(|(_, (lane, _))| (lane, Some(AttemptKind::FirstAttempt)));
        let retry = || self.retries.pop_front().map(|lane| (lane, Some(AttemptKind::Retry)));
        let letter = || self.dead_letters.pop_front().map(|lane| (lane, Some(AttemptKind::DeadLetter)));
        let held = || self.held.pop().map(|lane| (lane, None));
        first.or_else(retry).or_else(letter).or_else(held)
    }
}

impl Queues {
    pub(super) fn new(limits: RequestLimits) -> Self {
        let limits = RequestLimits { concurrency: limits.concurrency.max(1), events: limits.events.max(1), ..limits };
        Self {
            tables: Vec::new(),
            waiting: Counts::default(),
            under_way: Counts::default(),
            turns: Turns::default(),
            load: LaneLoad::default(),
            backoffs: BTreeSet::new(),
            pauses: BTreeSet::new(),
            released: BTreeSet::new(),
            limits,
            places: limits.concurrency,
        }
    }

    pub(super) fn limits(&self) -> RequestLimits {
        self.limits
    }

    /// So many requests may be under way, if that is less than the configured number.
    pub(super) fn set_places(&mut self, places: usize) {
        self.places = places.clamp(1, self.limits.concurrency);
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way.all()
    }

    /// Whether another request may be under way.
    pub(super) fn has_place(&self) -> bool {
        self.under_way() < self.limits.concurrency
    }

    /// A request has left.
    pub(super) fn left(&mut self, kind: AttemptKind) {
        *self.under_way.of(kind) += 1;
    }

    /// A request has ended: its place is free.
    pub(super) fn ended(&mut self, kind: AttemptKind) {
        *self.under_way.of(kind) -= 1;
    }

    /// A lane whose first event was never tried waits for its turn.
    pub(super) fn push_first_attempt(&mut self, lane: LaneKey, place: Place, load: LaneLoad) {
        self.load += load;
        self.waiting.first_attempts += 1;
        self.table(place.table).first_attempts.insert(place.arrival, (lane, place.since));
    }

    /// So much more waits in a lane whose first event was never tried.
    pub(super) fn grow(&mut self, load: LaneLoad) {
        self.load += load;
    }

    /// So much less waits in such lanes.
    pub(super) fn shrink(&mut self, load: LaneLoad) {
        self.load -= load;
    }

    /// A lane whose first event has failed waits for its turn.
    pub(super) fn push_failed(&mut self, table: usize, lane: LaneKey, kind: FailedKind) {
        *self.waiting.of(kind.attempt()) += 1;
        self.table(table).failed(kind).push_back(lane);
    }

    /// A lane stands still from now on.
    pub(super) fn hold(&mut self, table: usize, lane: LaneKey) {
        self.table(table).held.push(lane);
    }

    /// The next lane of a search; it waits for nothing any more. Of a lane that was never tried the caller tells how much waited in it.
    pub(super) fn take_waiting(&mut self, search: &mut LaneSearch) -> Found {
        let (pauses, next) = match search.place {
            SearchPlace::Backoffs => (&mut self.backoffs, SearchPlace::Pauses),
            SearchPlace::Pauses => (&mut self.pauses, SearchPlace::Released),
            SearchPlace::Released => (&mut self.released, SearchPlace::Turns),
            SearchPlace::Turns => return self.take_turn(search.table),
        };
        let unseen = search.behind.map_or(Unbounded, Excluded);
        let mut seen = pauses.range((unseen, Unbounded)).take(MOST_SEEN).copied().peekable();
        if seen.peek().is_none() {
            return search.go_on_in(next);
        }
        let found = seen.inspect(|pause| search.behind = Some(*pause)).find(|pause| pause.table == search.table);
        match found {
            Some(pause) => {
                pauses.remove(&pause);
                Found::Lane(pause.lane)
            }
            None => Found::Nothing,
        }
    }

    fn take_turn(&mut self, table: usize) -> Found {
        let Some((lane, kind)) = self.table(table).pop_any() else { return Found::End };
        if let Some(kind) = kind {
            *self.waiting.of(kind) -= 1;
        }
        Found::Lane(lane)
    }

    /// A lane whose first event has failed pauses; `is_backoff`: until the sink works again, if that is earlier.
    pub(super) fn push_pause(&mut self, pause: Pause, is_backoff: bool) {
        if is_backoff {
            self.backoffs.insert(pause)
        } else {
            self.pauses.insert(pause)
        };
    }

    /// The sink works again: nobody waits for the end of a backoff.
    pub(super) fn end_backoffs(&mut self) {
        self.released.append(&mut self.backoffs);
    }

    /// Lanes whose pause is not over, for tests.
    #[cfg(test)]
    pub(super) fn pausing(&self) -> usize {
        self.backoffs.len() + self.pauses.len()
    }

    /// Lanes whose pause is over wait for their turn again.
    pub(super) fn end_pauses(&mut self, now: Instant) {
        for _ in 0..MOST_MOVED {
            let is_over = |pauses: &BTreeSet<Pause>| pauses.first().is_some_and(|pause| pause.end <= now);
            let pause = match () {
                () if is_over(&self.backoffs) => self.backoffs.pop_first(),
                () if is_over(&self.pauses) => self.pauses.pop_first(),
                () => self.released.pop_first(),
            };
            let Some(pause) = pause else { return };
            self.push_failed(pause.table, pause.lane, pause.kind);
        }
    }

    /// When a pause ends, or a request will have waited long enough for company.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let released = self.released.first().map(|_| now);
        let pauses = [&self.backoffs, &self.pauses].into_iter().filter_map(|set| set.first().map(|pause| pause.end));
        let company = self.first_attempts_leave_at(now).filter(|leave| *leave > now);
        released.into_iter().chain(pauses).chain(company).min()
    }

    /// Which kinds wait for nothing but permission.
    pub(super) fn waiting(&self, now: Instant) -> Kinds {
        Kinds {
            first_attempts: self.first_attempts_leave_at(now).is_some_and(|leave| leave <= now),
            retries: self.waiting.retries > 0 && self.has_place_for(AttemptKind::Retry),
            dead_letters: self.waiting.dead_letters > 0 && self.has_place_for(AttemptKind::DeadLetter),
        }
    }

    /// Whether anything waits that could probe the sink, were it not for its backoff.
    pub(super) fn has_probe(&self) -> bool {
        let has_failed = self.waiting.retries + self.backoffs.len() + self.released.len() > 0;
        self.waiting.first_attempts > 0 || has_failed && self.has_place_for(AttemptKind::Retry)
    }

    /// Makes ready what may probe the sink: if nothing else waits, the lane whose backoff would end first. Says whether there is
    /// something.
    pub(super) fn prepare_probe(&mut self) -> bool {
        if self.waiting.first_attempts + self.waiting.retries == 0
            && self.has_place_for(AttemptKind::Retry)
            && let Some(pause) = self.backoffs.pop_first()
        {
            self.push_failed(pause.table, pause.lane, pause.kind);
        }
        self.has_probe()
    }

    /// Takes the lane whose turn it is out of its queue. `probe`: it is drawn by this chance, from 0 to 1, and nobody waits for company.
    pub(super) fn next(&mut self, permitted: Kinds, probe: Option<f64>, now: Instant) -> Option<Turn> {
        let kind = self.next_kind(permitted, probe.is_some(), now)?;
        self.turns.is_of_first_attempts = kind != AttemptKind::FirstAttempt;
        match kind {
            AttemptKind::FirstAttempt => self.take_first_attempt(probe),
            AttemptKind::Retry => self.take_failed(FailedKind::Retry, probe),
            AttemptKind::DeadLetter => self.take_failed(FailedKind::DeadLetter, None),
        }
    }

    /// The same for a further lane in a request of first attempts.
    pub(super) fn next_first_attempt(&mut self) -> Option<Turn> {
        self.take_first_attempt(None)
    }

    fn take_first_attempt(&mut self, chance: Option<f64>) -> Option<Turn> {
        let table = next_table(&mut self.tables, self.turns.first_attempts, |it| !it.first_attempts.is_empty())?;
        self.turns.first_attempts = table + 1;
        let waiting = &mut self.tables[table].first_attempts;
        let (arrival, (lane, since)) = match chance {
            None => waiting.pop_first()?,
            Some(chance) => {
                let arrival = drawn(waiting, chance)?;
                (arrival, waiting.remove(&arrival)?)
            }
        };
        self.waiting.first_attempts -= 1;
        Some(Turn { lane, place: TurnPlace::FirstAttempt(Place { table, arrival, since }) })
    }

    /// There was no room for the lane whose turn it was: it keeps its turn.
    pub(super) fn give_back(&mut self, turn: &Turn, table: usize, load: LaneLoad) {
        match turn.place {
            TurnPlace::FirstAttempt(place) => {
                self.turns.first_attempts = table;
                self.push_first_attempt(turn.lane, place, load);
            }
            TurnPlace::Failed(kind) => {
                self.tables[table].failed(kind).push_front(turn.lane);
                *self.waiting.of(kind.attempt()) += 1;
            }
        }
    }

    fn take_failed(&mut self, kind: FailedKind, chance: Option<f64>) -> Option<Turn> {
        self.turns.is_of_dead_letters = kind == FailedKind::Retry;
        let turn = match kind {
            FailedKind::Retry => &mut self.turns.retries,
            FailedKind::DeadLetter => &mut self.turns.dead_letters,
        };
        let table = next_table(&mut self.tables, *turn, |queues| !queues.failed(kind).is_empty())?;
        *turn = table + 1;
        *self.waiting.of(kind.attempt()) -= 1;
        let queue = self.tables[table].failed(kind);
        let lane = match chance {
            None => queue.pop_front(),
            Some(chance) => queue.swap_remove_front((queue.len() as f64 * chance) as usize % queue.len()),
        }?;
        Some(Turn { lane, place: TurnPlace::Failed(kind) })
    }

    /// Where there is only one place it cannot be halved, and nor can a rate: so what has failed and what was never tried take turns.
    fn next_kind(&self, permitted: Kinds, is_probe: bool, now: Instant) -> Option<AttemptKind> {
        let leave_at = if is_probe { Some(now) } else { self.first_attempts_leave_at(now) };
        let is_first =
            permitted.first_attempts && self.waiting.first_attempts > 0 && leave_at.is_some_and(|leave| leave <= now);
        match self.next_failed_kind(permitted) {
            Some(failed) if !(is_first && self.turns.is_of_first_attempts) => Some(failed),
            _ => is_first.then_some(AttemptKind::FirstAttempt),
        }
    }

    fn next_failed_kind(&self, permitted: Kinds) -> Option<AttemptKind> {
        let retries = permitted.retries && self.waiting.retries > 0 && self.has_place_for(AttemptKind::Retry);
        let letters =
            permitted.dead_letters && self.waiting.dead_letters > 0 && self.has_place_for(AttemptKind::DeadLetter);
        match (letters, retries) {
            (false, false) => None,
            (true, true) if !self.turns.is_of_dead_letters => Some(AttemptKind::Retry),
            (true, _) => Some(AttemptKind::DeadLetter),
            (false, true) => Some(AttemptKind::Retry),
        }
    }

    fn has_place_for(&self, kind: AttemptKind) -> bool {
        let (half, quarter) = ((self.limits.concurrency / 2).max(1), (self.limits.concurrency / 4).max(1));
        let has_half = self.under_way.failed() < half;
        match kind {
            AttemptKind::FirstAttempt => true,
            AttemptKind::Retry => has_half && self.under_way.retries < (self.places / 2).max(1),
            AttemptKind::DeadLetter => has_half && self.under_way.dead_letters < quarter,
        }
    }

    /// When first attempts leave: at once if they fill a request, else when the oldest has waited long enough.
    fn first_attempts_leave_at(&self, now: Instant) -> Option<Instant> {
        if self.waiting.first_attempts == 0 {
            return None;
        }
        if self.load.events >= self.limits.events || self.load.bytes >= self.limits.bytes {
            return Some(now);
        }
        let first = |queues: &TableQueues| queues.first_attempts.first_key_value().map(|(_, (_, since))| *since);
        self.tables.iter().filter_map(first).min().map(|since| since + self.limits.wait)
    }

    fn table(&mut self, table: usize) -> &mut TableQueues {
        if self.tables.len() <= table {
            self.tables.resize_with(table + 1, TableQueues::default);
        }
        &mut self.tables[table]
    }
}

/// One of those that wait: of each moment as probable as of any other.
fn drawn(waiting: &BTreeMap<u64, (LaneKey, Instant)>, chance: f64) -> Option<u64> {
    let (first, last) = (*waiting.first_key_value()?.0, *waiting.last_key_value()?.0);
    let from = first + ((last - first) as f64 * chance.clamp(0.0, 1.0)) as u64;
    waiting.range(from..).next().map(|(arrival, _)| *arrival).or(Some(last))
}

/// The next table, from `turn` on, that has something.
fn next_table(tables: &mut [TableQueues], turn: usize, has: impl Fn(&mut TableQueues) -> bool) -> Option<usize> {
    let count = tables.len();
    (0..count).map(|step| (turn + step) % count).find(|table| has(&mut tables[*table]))
}
