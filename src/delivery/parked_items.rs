//! Which items are parked, for people to look at.
//!
//! Contract: an item is shown by a hash of its key and by nothing else of it. At most [`MOST`] items are remembered; how
//! many there are is said by the gauge. One that was left out is remembered at its next failure once there is room.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::telemetry::shortened;

/// How many items of a table are remembered.
pub const MOST: usize = 100;

/// The items whose events keep failing, by table and lane.
#[derive(Debug, Default)]
pub struct ParkedItems(Mutex<BTreeMap<String, BTreeMap<u64, ParkedItem>>>);

/// An item whose event keeps failing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedItem {
    /// A hash of its key, as the log shows it.
    pub item: String,
    /// The id of the event that keeps failing.
    pub event: String,
    /// How often its event failed.
    pub failures: u32,
    /// What the sink said last.
    pub why: String,
    /// When the item was parked.
    pub since: SystemTime,
    /// When its event failed last.
    pub last: SystemTime,
}

/// The failure of an event whose item is parked.
#[derive(Debug, Clone, Copy)]
pub struct FailedItem<'a> {
    /// The item's lane.
    pub lane: u64,
    /// The event's id.
    pub event: &'a str,
    /// How often the event has failed, this time included.
    pub failures: u32,
    /// What the sink said, or why nothing was sent.
    pub why: &'a str,
}

/// How a log or a page names the item of this lane.
pub fn item_hash(lane: u64) -> String {
    format!("{:08x}", lane >> 32)
}

impl ParkedItems {
    /// An event of a table failed at the moment `now`, and its item is parked or stays so.
    pub fn failed(&self, table: &str, failed: FailedItem<'_>, now: SystemTime) {
        let FailedItem { lane, event, failures, why } = failed;
        let mut tables = self.lock();
        let items = tables.entry(table.to_owned()).or_default();
        if items.len() >= MOST && !items.contains_key(&lane) {
            return;
        }
        let since = items.get(&lane).map_or(now, |item| item.since);
        let (item, event, why) = (item_hash(lane), event.to_owned(), shortened(why));
        items.insert(lane, ParkedItem { item, event, failures, why, since, last: now });
    }

    /// The item is parked no longer.
    pub fn settled(&self, table: &str, lane: u64) {
        if let Some(items) = self.lock().get_mut(table) {
            items.remove(&lane);
        }
    }

    /// Nothing of the table is parked any more.
    pub fn forget(&self, table: &str) {
        self.lock().remove(table);
    }

    /// Those of a table that are remembered, the longest parked first.
    pub fn items(&self, table: &str) -> Vec<ParkedItem> {
        let mut items: Vec<ParkedItem> =
            self.lock().get(table).into_iter().flat_map(BTreeMap::values).cloned().collect();
        items.sort_by_key(|item| item.since);
        items
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<u64, ParkedItem>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_parked_item_keeps_its_beginning_and_shows_its_last_failure() {
        let parked = ParkedItems::default();
        let failed = FailedItem { lane: 0xabcd_ef01_2345_6789, event: "e1", failures: 3, why: "HTTP 400" };
        parked.failed("orders", failed, at(1));
        parked.failed("orders", FailedItem { failures: 4, why: "HTTP 413", ..failed }, at(9));
        let expected = ParkedItem {
            item: "abcdef01".to_owned(),
            event: "e1".to_owned(),
            failures: 4,
            why: "HTTP 413".to_owned(),
            since: at(1),
            last: at(9),
        };
        assert_eq!(parked.items("orders"), [expected]);
        parked.settled("orders", 0xabcd_ef01_2345_6789);
        assert_eq!(parked.items("orders"), []);
    }

    #[test]
    fn a_broken_sink_does_not_fill_the_memory_and_an_item_that_was_left_out_comes_later() {
        let parked = ParkedItems::default();
        for lane in 0..10_000 {
            let failed = FailedItem { lane, event: "e", failures: 1, why: &"long ".repeat(1_000) };
            parked.failed("orders", failed, at(lane));
        }
        let items = parked.items("orders");
        assert_eq!((items.len(), items[0].since), (MOST, at(0)));
        assert!(items.iter().all(|item| item.why.len() < 1_000));
        parked.settled("orders", 0);
        let again = FailedItem { lane: 9_999, event: "e", failures: 2, why: "again" };
        parked.failed("orders", again, at(20_000));
        assert_eq!(parked.items("orders").last().map(|item| item.failures), Some(2));
    }
}
