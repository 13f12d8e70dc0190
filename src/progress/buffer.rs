//! The memory that records may take between being read and being settled: one pool for the process, of which each table has a part.
//!
//! Contract:
//! - A page is asked for only when there is room for what it is expected to weigh. So what is held exceeds the limit by at most what
//!   pages weigh more than was expected, and pages under way are bounded besides, by four times as many as would fit.
//! - A half of the pool is the tables' in equal shares, the other half is whoever's needs it: one table's parked events never stop
//!   another. Whoever holds nothing may always ask for one page.
//! - When the room is used up reading waits; it goes on by itself as events are settled. Of those who wait for a table's room each
//!   gets its turn, and so does each table.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Pages under way at a time, for each whole one that the pool has room for: most weigh little.
const PAGES_A_MEBIBYTE: usize = 4;

/// The process's memory for records.
#[derive(Debug)]
pub struct BufferPool {
    /// What is set aside for each table, and what is for all.
    share: usize,
    common: usize,
    /// The most pages under way at a time.
    most_pages: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    parts: Vec<Part>,
    /// What the tables use beyond their shares.
    beyond: usize,
    /// Pages under way.
    pages: usize,
    /// How many readers wait, and whose turn it is.
    waiting: usize,
    turn: usize,
}

/// What one table has of it.
#[derive(Debug, Default)]
struct Part {
    used: usize,
    /// What of that is set aside for pages under way.
    reserved: usize,
    waiting: VecDeque<WaitingReader>,
}

#[derive(Debug)]
struct WaitingReader {
    bytes: usize,
    granted: oneshot::Sender<PageReservation>,
}

/// A reader that waits; when it gives up, those behind it go on.
struct WaitingTurn<'p> {
    pool: &'p Arc<BufferPool>,
    waiting: oneshot::Receiver<PageReservation>,
}

/// Room that was given to readers who waited for it, to be sent to them.
type Grants = Vec<(oneshot::Sender<PageReservation>, PageReservation)>;

/// One table's part of the pool.
#[derive(Debug, Clone)]
pub struct Buffer {
    pool: Arc<BufferPool>,
    table: usize,
}

/// Room for one page that has been asked for and not yet arrived; gives the room back when dropped.
#[derive(Debug)]
pub struct PageReservation {
    buffer: Buffer,
    bytes: usize,
}

/// A page that has arrived and was not handed down yet; gives its room back when dropped.
#[derive(Debug)]
#[must_use]
pub struct PageInHand {
    buffer: Buffer,
    bytes: usize,
}

impl BufferPool {
    /// A pool of so many bytes for so many tables.
    pub fn new(limit: usize, tables: usize) -> Arc<Self> {
        let tables = tables.max(1);
        let share = limit / 2 / tables;
        let most_pages = (limit / Buffer::PAGE * PAGES_A_MEBIBYTE).max(2 * tables);
        Arc::new(Self { share, common: limit - share * tables, most_pages, state: Mutex::default() })
    }

    /// The next table's part.
    pub fn part(self: &Arc<Self>) -> Arc<Buffer> {
        let mut state = self.state();
        state.parts.push(Part::default());
        Arc::new(Buffer { pool: self.clone(), table: state.parts.len() - 1 })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fits(&self, state: &State, table: usize, bytes: usize) -> bool {
        let used = state.parts[table].used;
        let beyond = |used: usize| used.saturating_sub(self.share);
        let is_within = state.beyond - beyond(used) + beyond(used + bytes) <= self.common;
        used == 0 || is_within && state.pages < self.most_pages
    }

    /// Changes what a table uses.
    fn set_used(&self, state: &mut State, table: usize, used: usize) {
        let before = std::mem::replace(&mut state.parts[table].used, used);
        state.beyond = state.beyond - before.saturating_sub(self.share) + used.saturating_sub(self.share);
    }

    fn take(self: &Arc<Self>, state: &mut State, table: usize, bytes: usize) -> Option<PageReservation> {
        if !self.fits(state, table, bytes) {
            return None;
        }
        self.set_used(state, table, state.parts[table].used + bytes);
        state.parts[table].reserved += bytes;
        state.pages += 1;
        Some(PageReservation { buffer: Buffer { pool: self.clone(), table }, bytes })
    }

    /// Room was given back: whoever waits and finds room now gets it, one table after the other.
    fn grant(self: &Arc<Self>, state: &mut State) -> Grants {
        let (mut grants, mut refused) = (Vec::new(), 0);
        while state.waiting > 0 && refused < state.parts.len() {
            let table = state.turn % state.parts.len();
            state.turn = table + 1;
            let bytes = state.parts[table].waiting.front().map(|reader| reader.bytes);
            let Some(room) = bytes.and_then(|bytes| self.take(state, table, bytes)) else {
                refused += 1;
                continue;
            };
            if let Some(reader) = state.parts[table].waiting.pop_front() {
                (state.waiting, refused) = (state.waiting - 1, 0);
                grants.push((reader.granted, room));
            }
        }
        grants
    }

    /// A change after which readers who wait may find room.
    fn give_back(self: &Arc<Self>, change: impl FnOnce(&Self, &mut State)) {
        let grants = {
            let mut state = self.state();
            change(self, &mut state);
            self.grant(&mut state)
        };
        for (reader, room) in grants {
            // One that has given up waiting lets go of it, and the next one gets it.
            let _ = reader.send(room);
        }
    }
}

impl Buffer {
    /// The most that a page weighs: what is set aside where nothing better is known.
    ///
    /// Source: "maximum of 1 MB" in the description of `GetRecords` in the DynamoDB Streams API reference.
    pub const PAGE: usize = 1 << 20;

    /// The only table's part of a pool of so many bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        BufferPool::new(limit, 1).part()
    }

    /// Waits until there is room for a page that is expected to weigh so much. Safe to cancel.
    pub async fn reserve(&self, expected: usize) -> PageReservation {
        let waiting = {
            let mut state = self.pool.state();
            let is_first = state.parts[self.table].waiting.is_empty();
            if let Some(room) = is_first.then(|| self.pool.take(&mut state, self.table, expected)).flatten() {
                return room;
            }
            let (granted, waiting) = oneshot::channel();
            state.parts[self.table].waiting.push_back(WaitingReader { bytes: expected, granted });
            state.waiting += 1;
            waiting
        };
        let mut waiting = WaitingTurn { pool: &self.pool, waiting };
        match (&mut waiting.waiting).await {
            Ok(room) => room,
            // The pool outlives those who wait for it.
            Err(_) => std::future::pending().await,
        }
    }

    /// Takes room without waiting, for the little that must not wait.
    pub fn charge(&self, bytes: usize) {
        let mut state = self.pool.state();
        let used = state.parts[self.table].used + bytes;
        self.pool.set_used(&mut state, self.table, used);
    }

    /// Gives back the room of something that was settled.
    pub fn release(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.pool.give_back(|pool, state| {
            let used = state.parts[self.table].used;
            debug_assert!(used >= bytes, "released {bytes} of {used} bytes");
            pool.set_used(state, self.table, used.saturating_sub(bytes));
        });
    }

    /// Gives back all that is held: nobody has anything of it any more.
    pub fn clear(&self) {
        self.pool.give_back(|pool, state| {
            pool.set_used(state, self.table, state.parts[self.table].reserved);
        });
    }

    /// Bytes in use now, reservations included.
    pub fn used(&self) -> usize {
        self.pool.state().parts[self.table].used
    }

    /// Bytes of records that were read and are not settled.
    pub fn held(&self) -> usize {
        let state = self.pool.state();
        state.parts[self.table].used - state.parts[self.table].reserved
    }

    /// Whether the next page would find room now.
    pub fn has_room(&self) -> bool {
        let state = self.pool.state();
        let next = state.parts[self.table].waiting.front().map_or(Self::PAGE, |reader| reader.bytes);
        self.pool.fits(&state, self.table, next)
    }

    /// Whether at least a half of what the table may use is free.
    pub fn is_half_free(&self) -> bool {
        let state = self.pool.state();
        let used = state.parts[self.table].used;
        let others_beyond = state.beyond - used.saturating_sub(self.pool.share);
        used <= (self.pool.share + self.pool.common - others_beyond.min(self.pool.common)) / 2
    }

    /// Which table's part it is, counted from 0.
    pub fn table(&self) -> usize {
        self.table
    }

    /// Whether a reader is waiting for room.
    pub fn is_short(&self) -> bool {
        self.pool.state().parts[self.table].waiting.iter().any(|reader| !reader.granted.is_closed())
    }
}

impl PageReservation {
    /// The page has arrived and takes so many bytes.
    pub fn arrived(self, bytes: usize) -> PageInHand {
        self.buffer.charge(bytes);
        PageInHand { buffer: self.buffer.clone(), bytes }
    }
}

impl PageInHand {
    /// From now on whoever took the page gives its room back, by [`Buffer::release`].
    pub fn handed_down(mut self) {
        self.bytes = 0;
    }
}

impl Drop for WaitingTurn<'_> {
    fn drop(&mut self) {
        self.waiting.close();
        self.pool.give_back(|_, state| {
            for part in &mut state.parts {
                while part.waiting.pop_front_if(|reader| reader.granted.is_closed()).is_some() {
                    state.waiting -= 1;
                }
            }
        });
    }
}

impl Drop for PageInHand {
    fn drop(&mut self) {
        self.buffer.release(self.bytes);
    }
}

impl Drop for PageReservation {
    fn drop(&mut self) {
        let Buffer { pool, table } = &self.buffer;
        pool.give_back(|pool, state| {
            state.pages -= 1;
            state.parts[*table].reserved -= self.bytes;
            let used = state.parts[*table].used - self.bytes;
            pool.set_used(state, *table, used);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_full_buffer_stops_reading_until_something_is_settled() {
        let buffer = Buffer::new(4 * Buffer::PAGE);
        for _ in 0..3 {
            buffer.reserve(Buffer::PAGE).await.arrived(Buffer::PAGE).handed_down();
        }
        buffer.reserve(Buffer::PAGE).await.arrived(1).handed_down();
        let mut waiting = Box::pin(buffer.reserve(Buffer::PAGE));
        assert!((&mut waiting).now_or_never().is_none(), "a page was asked for without room");
        assert!(buffer.is_short());
        buffer.release(1);
        let reservation = (&mut waiting).now_or_never().expect("reading goes on by itself");
        drop(reservation);
        assert_eq!(buffer.used(), 3 * Buffer::PAGE);
    }

    #[tokio::test]
    async fn room_that_is_only_set_aside_is_not_held() {
        let buffer = Buffer::new(4 * Buffer::PAGE);
        let reservation = buffer.reserve(Buffer::PAGE).await;
        assert_eq!((buffer.held(), buffer.used()), (0, Buffer::PAGE));
        reservation.arrived(100).handed_down();
        drop(buffer.reserve(Buffer::PAGE).await);
        assert_eq!((buffer.held(), buffer.used()), (100, 100));
    }

    #[tokio::test]
    async fn a_page_that_is_not_handed_down_gives_its_room_back() {
        let buffer = Buffer::new(4 * Buffer::PAGE);
        let page = buffer.reserve(Buffer::PAGE).await.arrived(100);
        assert_eq!((buffer.held(), buffer.used()), (100, 100));
        drop(page);
        assert_eq!((buffer.held(), buffer.used()), (0, 0));
    }

    #[tokio::test]
    async fn half_of_what_a_table_may_use_is_free_as_long_as_others_leave_it() {
        let pool = BufferPool::new(16 * Buffer::PAGE, 2);
        let (one, other) = (pool.part(), pool.part());
        assert_eq!((one.table(), other.table()), (0, 1));
        one.charge(6 * Buffer::PAGE);
        assert!(one.is_half_free(), "6 of 12");
        one.charge(1);
        assert!(!one.is_half_free() && other.is_half_free());
        one.release(1 + Buffer::PAGE);
        other.charge(8 * Buffer::PAGE);
        assert!(!one.is_half_free(), "5 of 8: the other one uses 4 of what is for all");
    }

    #[tokio::test]
    async fn every_waiting_reader_gets_its_turn() {
        let buffer = Buffer::new(2 * Buffer::PAGE);
        buffer.reserve(Buffer::PAGE).await.arrived(2 * Buffer::PAGE).handed_down();
        let mut first = Box::pin(buffer.reserve(Buffer::PAGE));
        let mut second = Box::pin(buffer.reserve(Buffer::PAGE));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        buffer.release(Buffer::PAGE);
        let reservation = (&mut first).now_or_never().unwrap();
        assert!((&mut second).now_or_never().is_none());
        drop(reservation);
        assert!((&mut second).now_or_never().is_some(), "the second reader was forgotten");
    }

    #[tokio::test]
    async fn a_reader_that_gives_up_waiting_passes_its_turn_on() {
        let buffer = Buffer::new(2 * Buffer::PAGE);
        buffer.reserve(Buffer::PAGE).await.arrived(2 * Buffer::PAGE).handed_down();
        let mut first = Box::pin(buffer.reserve(Buffer::PAGE));
        let mut second = Box::pin(buffer.reserve(Buffer::PAGE));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        buffer.release(2 * Buffer::PAGE);
        drop(first);
        assert!((&mut second).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_page_larger_than_the_whole_pool_is_read_when_nothing_else_is_held() {
        let buffer = Buffer::new(1000);
        buffer.reserve(Buffer::PAGE).await.arrived(5000).handed_down();
        assert!(buffer.reserve(1).now_or_never().is_none());
        buffer.release(5000);
        assert!(buffer.reserve(Buffer::PAGE).now_or_never().is_some());
    }

    /// Its events are parked, or its sink is down for good.
    #[tokio::test]
    async fn a_table_that_gives_nothing_back_leaves_the_others_their_shares() {
        let pool = BufferPool::new(64 * Buffer::PAGE, 8);
        let tables: Vec<Arc<Buffer>> = (0..8).map(|_| pool.part()).collect();
        let fill = |table: &Buffer| {
            let pages = std::iter::from_fn(|| table.reserve(Buffer::PAGE).now_or_never());
            pages.map(|page| page.arrived(Buffer::PAGE).handed_down()).count()
        };
        assert_eq!(fill(&tables[0]), 4 + 32, "its own share, and all that is for all");
        for table in &tables[1..] {
            assert_eq!(fill(table), 4);
        }
    }

    #[tokio::test]
    async fn pages_that_are_expected_to_be_light_do_not_wait_for_room_for_heavy_ones() {
        let pool = BufferPool::new(64 * Buffer::PAGE, 32);
        let tables: Vec<Arc<Buffer>> = (0..32).map(|_| pool.part()).collect();
        let polls: Vec<PageReservation> =
            tables.iter().flat_map(|table| [0; 8].map(|_| table.reserve(1 << 14).now_or_never().unwrap())).collect();
        assert_eq!(polls.len(), 256);
        assert!(tables[0].reserve(1 << 14).now_or_never().is_none(), "pages under way are bounded as well");
    }

    #[tokio::test]
    async fn a_reservation_that_is_given_up_does_not_hold_up_a_smaller_one_behind_it() {
        let buffer = Buffer::new(2 * Buffer::PAGE);
        buffer.reserve(Buffer::PAGE).await.arrived(Buffer::PAGE + 1).handed_down();
        let mut much = Box::pin(buffer.reserve(Buffer::PAGE));
        let mut little = Box::pin(buffer.reserve(1));
        assert!((&mut much).now_or_never().is_none() && (&mut little).now_or_never().is_none(), "each in its turn");
        drop(much);
        assert!((&mut little).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_gets_room_although_others_read_without_a_pause() {
        let buffer = Buffer::new(4 * Buffer::PAGE);
        let reader = |buffer: Arc<Buffer>, pages: Arc<AtomicUsize>| async move {
            loop {
                let reservation = buffer.reserve(Buffer::PAGE).await;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                pages.fetch_add(1, Ordering::Relaxed);
                // A full page, which the sink takes at once: the next one is asked for without a pause.
                reservation.arrived(Buffer::PAGE).handed_down();
                buffer.release(Buffer::PAGE);
            }
        };
        let pages: Vec<Arc<AtomicUsize>> = (0..8).map(|_| Arc::default()).collect();
        let mut readers = tokio::task::JoinSet::new();
        for pages in &pages {
            readers.spawn(reader(buffer.clone(), pages.clone()));
        }
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        let pages: Vec<usize> = pages.iter().map(|pages| pages.load(Ordering::Relaxed)).collect();
        assert!(pages.iter().all(|pages| *pages > 100), "pages read of each shard in a minute: {pages:?}");
    }
}
