//! The memory that one table's records may take between being read and being settled.
//!
//! Contract: a page is asked for only when there is room for a whole one, so what is held exceeds the limit by at most
//! the excess of pages that turn out larger than [`Buffer::PAGE`]. When the room is used up reading waits; it goes on
//! by itself as events are settled. Every table has a buffer of its own: one table's parked events never stop another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// One table's share of the process's buffer.
#[derive(Debug)]
pub struct Buffer {
    limit: usize,
    page: usize,
    used: AtomicUsize,
    /// What of that is set aside for pages under way.
    reserved: AtomicUsize,
    waiting: AtomicUsize,
    room: Notify,
}

/// Room for one page that has been asked for and not yet arrived; gives the room back when dropped.
#[derive(Debug)]
pub struct PageReservation {
    buffer: Arc<Buffer>,
    bytes: usize,
}

/// A page that has arrived and was not handed down yet; gives its room back when dropped.
#[derive(Debug)]
#[must_use]
pub struct PageInHand {
    buffer: Arc<Buffer>,
    bytes: usize,
}

impl Buffer {
    /// What is set aside for a page before its size is known: the most that `GetRecords` returns.
    ///
    /// Source: "maximum of 1 MB" in the description of `GetRecords` in the DynamoDB Streams API reference.
    pub const PAGE: usize = 1 << 20;

    /// A buffer of so many bytes. One too small for two pages sets aside less for each.
    pub fn new(limit: usize) -> Arc<Self> {
        let page = Self::PAGE.min(limit / 2).max(1);
        let (used, reserved, waiting) = Default::default();
        Arc::new(Self { limit, page, used, reserved, waiting, room: Notify::new() })
    }

    /// Waits until there is room for a page. Safe to cancel.
    pub async fn reserve(self: &Arc<Self>) -> PageReservation {
        loop {
            if let Some(reservation) = self.try_reserve() {
                return reservation;
            }
            let _waiting = Waiting::count(&self.waiting);
            let room = self.room.notified();
            // Room may have come up between the first look and getting in line.
            if let Some(reservation) = self.try_reserve() {
                return reservation;
            }
            room.await;
        }
    }

    /// Takes room for a page if there is any.
    pub fn try_reserve(self: &Arc<Self>) -> Option<PageReservation> {
        let fits = |used: usize| self.fits(used).then_some(used + self.page);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok()?;
        self.reserved.fetch_add(self.page, Ordering::AcqRel);
        Some(PageReservation { buffer: self.clone(), bytes: self.page })
    }

    fn fits(&self, used: usize) -> bool {
        used == 0 || used + self.page <= self.limit
    }

    /// Takes room without waiting, for the little that must not wait.
    pub fn charge(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Gives back the room of something that was settled.
    pub fn release(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::AcqRel);
        debug_assert!(before >= bytes, "released {bytes} of {before} bytes");
        if self.waiting.load(Ordering::Acquire) > 0 && before - bytes + self.page <= self.limit {
            self.room.notify_one();
        }
    }

    /// Bytes in use now, reservations included.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    /// Bytes of records that were read and are not settled.
    pub fn held(&self) -> usize {
        self.used().saturating_sub(self.reserved.load(Ordering::Acquire))
    }

    /// Whether a page would find room now.
    pub fn has_room(&self) -> bool {
        self.fits(self.used())
    }

    /// Whether a reader is waiting for room.
    pub fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
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

impl Drop for PageInHand {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.buffer.release(self.bytes);
        }
    }
}

impl Drop for PageReservation {
    fn drop(&mut self) {
        self.buffer.reserved.fetch_sub(self.bytes, Ordering::AcqRel);
        self.buffer.release(self.bytes);
    }
}

/// Counts a waiting reader for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn count(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::AcqRel);
        Self(counter)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_full_buffer_stops_reading_until_something_is_settled() {
        let buffer = Buffer::new(4 * Buffer::PAGE);
        for _ in 0..3 {
            buffer.reserve().await.arrived(Buffer::PAGE).handed_down();
        }
        buffer.reserve().await.arrived(1).handed_down();
        let mut waiting = Box::pin(buffer.reserve());
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
        let reservation = buffer.reserve().await;
        assert_eq!((buffer.held(), buffer.used()), (0, Buffer::PAGE));
        reservation.arrived(100).handed_down();
        drop(buffer.reserve().await);
        assert_eq!((buffer.held(), buffer.used()), (100, 100));
    }

    #[tokio::test]
    async fn a_page_that_is_not_handed_down_gives_its_room_back() {
        let buffer = Buffer::new(4 * Buffer::PAGE);
        let page = buffer.reserve().await.arrived(100);
        assert_eq!((buffer.held(), buffer.used()), (100, 100));
        drop(page);
        assert_eq!((buffer.held(), buffer.used()), (0, 0));
    }

    #[tokio::test]
    async fn every_waiting_reader_gets_its_turn() {
        let buffer = Buffer::new(2 * Buffer::PAGE);
        buffer.reserve().await.arrived(2 * Buffer::PAGE).handed_down();
        let mut first = Box::pin(buffer.reserve());
        let mut second = Box::pin(buffer.reserve());
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
        buffer.reserve().await.arrived(2 * Buffer::PAGE).handed_down();
        let mut first = Box::pin(buffer.reserve());
        let mut second = Box::pin(buffer.reserve());
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        buffer.release(2 * Buffer::PAGE);
        drop(first);
        assert!((&mut second).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_page_larger_than_the_whole_budget_is_read_when_nothing_else_is_held() {
        let buffer = Buffer::new(1000);
        buffer.reserve().await.arrived(5000).handed_down();
        assert!(buffer.try_reserve().is_none());
        buffer.release(5000);
        assert!(buffer.try_reserve().is_some());
    }

    /// Known: whoever asks first gets the room, not whoever waits. While the shards that fill the buffer have a backlog and the
    /// sink is fast, the others of the table are not read, for up to a day, and no probe says so.
    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "pages read of each shard in a minute")]
    async fn a_shard_gets_room_although_others_read_without_a_pause() {
        let buffer = Buffer::new(4 * Buffer::PAGE);
        let reader = |buffer: Arc<Buffer>, pages: Arc<AtomicUsize>| async move {
            loop {
                let reservation = buffer.reserve().await;
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
