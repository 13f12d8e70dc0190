//! Who may be connected, and who makes room.
//!
//! Contract:
//! - Nobody whose request is complete is cut off to make room, also if nobody has read it yet. Of the others those go first who have said
//!   nothing, the oldest first.
//! - A source has at most half of the places, and takes one from another source only if that one has more.
//! - Some places are kept back for when all others are taken by requests that are being answered. Whoever gets one of them is answered
//!   little: probes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Where connections come from: an address, or a network of IPv6 that one host can have all addresses of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source(IpAddr);

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => Self(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()),
            address => Self(address),
        }
    }
}

/// How far a client has come with its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// Nothing has come since it connected or was answered.
    Silent,
    /// A part of a request has come.
    Asking,
    /// A whole request has come, and nobody has read it yet.
    Whole,
    /// The answer to a request is being made.
    Answered,
    /// An answer is on its way.
    Taking,
}

/// A client's stage, seen by its connection and by those who look for room.
#[derive(Debug, Clone)]
pub(super) struct SharedStage(Arc<AtomicU8>);

impl SharedStage {
    pub(super) fn new(stage: Stage) -> Self {
        Self(Arc::new(AtomicU8::new(stage as u8)))
    }

    pub(super) fn set(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Relaxed);
    }

    /// Something of a request was read. Whoever is being answered may already say more.
    pub(super) fn note_read(&self) {
        [Stage::Silent, Stage::Whole].into_iter().for_each(|stage| _ = self.advance(stage, Stage::Asking));
    }

    /// All that was to be written is written.
    pub(super) fn flushed(&self) {
        self.advance(Stage::Taking, Stage::Silent);
    }

    /// Says whether it was at `from`; where it is at another one it stays there.
    fn advance(&self, from: Stage, to: Stage) -> bool {
        self.0.compare_exchange(from as u8, to as u8, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The stage of a client that may be cut off to make room.
    fn evictable_stage(&self) -> Option<Stage> {
        let stage = self.0.load(Ordering::Relaxed);
        [Stage::Silent, Stage::Asking].into_iter().find(|it| *it as u8 == stage)
    }
}

/// What cuts a client off.
pub(super) trait Handle {
    /// What it has said that nobody has read yet; silent where that is nothing.
    fn unread(&self) -> Stage;
}

/// How many places there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) open: usize,
    /// More of them, for when those are taken.
    pub(super) kept_back: usize,
}

/// What a client may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Everything.
    Open,
    /// What is always answered.
    KeptBack,
}

/// A client that is connected; `H` is what cuts it off.
#[derive(Debug)]
struct Client<H> {
    source: Source,
    stage: SharedStage,
    place: Place,
    handle: H,
}

/// All who are connected, the oldest first.
#[derive(Debug)]
pub(super) struct Places<H> {
    sizes: Sizes,
    clients: Vec<Client<H>>,
}

impl<H: Handle> Places<H> {
    pub(super) fn new(sizes: Sizes) -> Self {
        Self { sizes, clients: Vec::new() }
    }

    /// Forgets those who have gone.
    pub(super) fn forget(&mut self, has_gone: impl Fn(&H) -> bool) {
        self.clients.retain(|client| !has_gone(&client.handle));
    }

    /// A place for a client of this source and, where another client has to make room for it, the one to cut off; none if there is no place.
    /// `suits`: a place that is kept back may be of use to it.
    pub(super) fn find(&mut self, source: Source, suits: bool) -> Option<(Place, Option<H>)> {
        let places = if suits { &[Place::Open, Place::KeptBack][..] } else { &[Place::Open] };
        places.iter().find_map(|place| Some((*place, self.room(source, *place)?)))
    }

    pub(super) fn take(&mut self, source: Source, stage: SharedStage, place: Place, handle: H) {
        self.clients.push(Client { source, stage, place, handle });
    }

    /// The client to cut off where there is one too many, whichever it is; none if no client may be cut off.
    pub(super) fn evict(&mut self) -> Option<H> {
        self.evict_where(|_, _| true)
    }

    /// Room of a kind, and the client that is cut off for it, if one has to be; none if there is no room.
    fn room(&mut self, source: Source, place: Place) -> Option<Option<H>> {
        let size = if place == Place::Open { self.sizes.open } else { self.sizes.kept_back };
        let (own, taken) = (self.of(source, place), self.clients.iter().filter(|client| client.place == place).count());
        let has_its_share = own >= size.div_ceil(2);
        if taken < size && !has_its_share {
            return Some(None);
        }
        let evicted = self.evict_where(|client, count| {
            client.place == place && (client.source == source || !has_its_share && count > own)
        });
        evicted.map(Some)
    }

    /// Removes the first one that may be cut off. Who counts as silent is looked at once more before: under a flood its request may wait to
    /// be read.
    fn evict_where(&mut self, suits: impl Fn(&Client<H>, usize) -> bool) -> Option<H> {
        loop {
            let first = self.first_to_evict(&suits)?;
            let client = &self.clients[first];
            let unread = client.handle.unread();
            if unread == Stage::Silent || !client.stage.advance(Stage::Silent, unread) {
                return Some(self.clients.remove(first).handle);
            }
        }
    }

    /// Of those who may be cut off: of the source that has most, who has said least, the oldest. `suits` gets how many places a client's
    /// source has.
    fn first_to_evict(&self, suits: impl Fn(&Client<H>, usize) -> bool) -> Option<usize> {
        let mut counts: BTreeMap<(Source, Place), usize> = BTreeMap::new();
        self.clients.iter().for_each(|client| *counts.entry((client.source, client.place)).or_default() += 1);
        let evictable = self.clients.iter().enumerate().filter_map(|(at, client)| {
            let count = counts[&(client.source, client.place)];
            let stage = client.stage.evictable_stage().filter(|_| suits(client, count))?;
            Some((Reverse(count), stage as u8, at))
        });
        evictable.min().map(|(_, _, at)| at)
    }

    fn of(&self, source: Source, place: Place) -> usize {
        self.clients.iter().filter(|client| client.source == source && client.place == place).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { open: 8, kept_back: 2 };

    fn source(last: u8) -> Source {
        Source::of([10, 0, 0, last].into())
    }

    /// Nothing waits to be read of a client but of those that are named by a thousand and more.
    impl Handle for usize {
        fn unread(&self) -> Stage {
            if *self < 1_000 { Stage::Silent } else { Stage::Whole }
        }
    }

    /// Names are given in order of arrival. Of each client: who left for it, and whether it got a place that is kept back.
    struct Stand(Places<usize>, usize);

    impl Stand {
        fn new() -> Self {
            Self(Places::new(SIZES), 0)
        }

        fn come(&mut self, last: u8, stage: Stage) -> Option<(Place, Option<usize>)> {
            let found = self.0.find(source(last), true)?;
            self.0.take(source(last), SharedStage::new(stage), found.0, self.1);
            self.1 += 1;
            Some(found)
        }
    }

    #[test]
    fn a_source_has_half_of_the_places_and_then_makes_room_for_itself_the_silent_first() {
        let mut stand = Stand::new();
        for stage in [Stage::Asking, Stage::Silent, Stage::Answered, Stage::Silent] {
            assert_eq!(stand.come(1, stage), Some((Place::Open, None)));
        }
        for leaves in [1, 3] {
            assert_eq!(stand.come(1, Stage::Answered), Some((Place::Open, Some(leaves))));
        }
        assert_eq!(stand.come(1, Stage::Answered), Some((Place::Open, Some(0))));
        assert_eq!(stand.come(2, Stage::Silent), Some((Place::Open, None)), "others find places");
    }

    #[test]
    fn a_client_that_is_being_answered_is_not_cut_off_and_sources_share_the_places_kept_back() {
        let mut stand = Stand::new();
        for _ in 0..4 {
            assert_eq!(stand.come(1, Stage::Answered), Some((Place::Open, None)));
        }
        assert_eq!(stand.come(1, Stage::Answered), Some((Place::KeptBack, None)));
        assert_eq!(stand.come(1, Stage::Answered), None, "it has all that one source gets");
        for _ in 0..4 {
            assert_eq!(stand.come(2, Stage::Answered), Some((Place::Open, None)));
        }
        assert_eq!(stand.come(3, Stage::Answered), Some((Place::KeptBack, None)));
        assert_eq!(stand.come(4, Stage::Silent), None);
        stand.0.forget(|name| *name == 4);
        assert_eq!(stand.0.find(source(5), false), None, "it would get an answer that it has no use for");
        assert_eq!(stand.0.find(source(5), true), Some((Place::KeptBack, None)));
    }

    #[test]
    fn a_request_that_nobody_has_read_yet_is_not_cut_off() {
        let mut stand = Stand::new();
        stand.1 = 1_000;
        assert_eq!(stand.come(1, Stage::Silent), Some((Place::Open, None)), "its request is on its way");
        stand.1 = 1;
        for _ in 1..4 {
            stand.come(1, Stage::Silent);
        }
        for leaves in 1..100 {
            assert_eq!(stand.come(1, Stage::Silent), Some((Place::Open, Some(leaves))));
        }
    }

    #[test]
    fn who_has_more_makes_room_for_who_has_less_and_never_the_other_way() {
        let mut stand = Stand::new();
        for last in [1, 1, 1, 2, 3, 4, 5, 1] {
            assert_eq!(stand.come(last, Stage::Silent), Some((Place::Open, None)));
        }
        assert_eq!(stand.come(6, Stage::Silent), Some((Place::Open, Some(0))));
        assert_eq!(stand.come(2, Stage::Silent), Some((Place::Open, Some(1))));
        assert_eq!(stand.come(1, Stage::Silent), Some((Place::Open, Some(2))), "its own");
        assert_eq!(stand.0.evict(), Some(3), "two sources have two: the oldest");
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_a_mapped_address_that_of_ipv4() {
        let of = |text: &str| Source::of(text.parse().expect("an address"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
