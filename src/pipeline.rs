//! From the pages of a table's shards to events for delivery.
//!
//! Contract: whatever is read is entered in the table's progress before it is handed to delivery, in the order in which it was
//! read. What an earlier run has settled goes no further, nor does what belongs to a lane that is left out: its room is given back at
//! once. Nothing is kept here that has to be stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tokio::sync::mpsc;

use crate::config;
use crate::delivery::handover::Handover;
use crate::delivery::lanes::BarrierRole;
use crate::delivery::pending_event::{BoxedEvent, PendingEvent};
use crate::event::{Encoder, EncoderSettings, Packaging, gap_id};
use crate::progress::TableProgress;
use crate::progress::page_entry::{Owed, PageEntry};
use crate::progress::table_tracker::{PageRead, TableTracker};
use crate::records::{Entry, LaneId, PADDED_DIGITS, StreamDetails};
use crate::streams::{PassPage, ShardPage};

/// Takes one table's pages.
pub struct Pipeline {
    progress: Arc<TableProgress>,
    event: config::Event,
    packaging: Packaging,
    events: mpsc::Sender<Handover>,
    encoders: BTreeMap<String, Arc<Encoder>>,
    activity: Arc<PipelineActivity>,
}

/// What a pipeline has done, for those who watch that it goes on.
#[derive(Debug, Default)]
pub struct PipelineActivity(AtomicU64);

impl PipelineActivity {
    /// How many pages it has begun to take in.
    pub fn pages_taken(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Pipeline {
    /// A pipeline into `events`.
    pub fn new(
        progress: Arc<TableProgress>,
        event: config::Event,
        events: mpsc::Sender<Handover>,
        activity: Arc<PipelineActivity>,
    ) -> Self {
        let packaging = Packaging::new(event.mode, &event.overrides);
        Self { progress, event, packaging, events, encoders: BTreeMap::new(), activity }
    }

    /// Takes pages until nobody sends any more, or nobody takes events.
    pub async fn run(mut self, mut pages: mpsc::Receiver<ShardPage>) {
        while let Some(page) = pages.recv().await {
            self.activity.0.fetch_add(1, Ordering::AcqRel);
            let events = self.enter(page);
            if !events.is_empty() && self.events.send(Handover::Events(events)).await.is_err() {
                return;
            }
        }
    }

    /// Enters a page. Returns the events for what of it is owed; the rest gives its room back.
    fn enter(&mut self, page: ShardPage) -> Vec<BoxedEvent> {
        let (encoder, read_at) = (self.encoder(&page.details, &page.entries), page.read_at);
        // Names of lanes are hashes: they are made before the table is locked.
        let lanes: Vec<LaneId> = page.entries.iter().map(lane_of).collect();
        let EnteredPage { owed, settled_cost } = self.progress.change(|tracker| enter(tracker, page, lanes));
        self.progress.buffer().release(settled_cost);
        owed.into_iter().map(|(entry, owed)| self.pending_event(entry, owed, &encoder, read_at)).collect()
    }

    fn pending_event(&self, content: Entry, owed: Owed, encoder: &Arc<Encoder>, recorded: SystemTime) -> BoxedEvent {
        let Owed { token, lane, barrier } = owed;
        let barrier_role = match (&content, barrier.map(|barrier| encoder.lane_key(barrier))) {
            (_, None) => BarrierRole::None,
            (Entry::Gap(_), Some(barrier)) => BarrierRole::Barrier(barrier),
            (Entry::Record(_), Some(barrier)) => BarrierRole::After(barrier),
        };
        Box::new(PendingEvent {
            lane: encoder.lane_key(lane),
            barrier_role,
            cost: content.cost(),
            content,
            recorded,
            encoder: encoder.clone(),
            token,
            acknowledger: self.progress.clone(),
            dead_letter: None,
            is_detached: false,
        })
    }

    /// The stream's encoder. The first page with records decides how wide the stream's sequence numbers are.
    fn encoder(&mut self, details: &StreamDetails, entries: &[Entry]) -> Arc<Encoder> {
        if let Some(encoder) = self.encoders.get(&details.arn) {
            return encoder.clone();
        }
        let widest = entries.iter().filter_map(sequence_digits).max();
        let encoder = Arc::new(Encoder::new(EncoderSettings {
            profile: self.event.profile,
            data: self.event.data,
            packaging: self.packaging.clone(),
            table_arn: details.table_arn.clone(),
            stream_arn: details.arn.clone(),
            key_schema: details.key_schema.clone(),
            sequence_width: widest.unwrap_or_default().max(PADDED_DIGITS),
        }));
        if widest.is_some() {
            self.encoders.insert(details.arn.clone(), encoder.clone());
        }
        encoder
    }
}

/// What came of entering a page.
struct EnteredPage {
    owed: Vec<(Entry, Owed)>,
    /// What the entries that are not owed took of the buffer.
    settled_cost: usize,
}

/// Enters a page's entries, of which each has its lane, in order.
fn enter(tracker: &mut TableTracker, page: ShardPage, lanes: Vec<LaneId>) -> EnteredPage {
    let mut entered = PageEntry::of(tracker, page.shard);
    let (mut owed, mut settled_cost) = (Vec::with_capacity(page.entries.len()), 0);
    // Only entries of a pass have them.
    let mut places = page.pass.iter().flat_map(|pass| &pass.places).copied();
    for (entry, lane) in page.entries.into_iter().zip(lanes) {
        let owes = match (&entry, places.next()) {
            (Entry::Record(record), None) => entered.record(record.sequence_number(), lane, record.created_at()),
            (Entry::Gap(gap), None) => entered.gap(gap, lane),
            (Entry::Record(record), Some(place)) => entered.again(place, lane, record.created_at()),
            (Entry::Gap(gap), Some(place)) => Some(entered.gap_again(gap, place, lane)),
        };
        match owes {
            Some(owes) => owed.push((entry, owes)),
            None => settled_cost += entry.cost(),
        }
    }
    let (asked_at, is_caught_up, is_last) = (page.asked_at, page.is_caught_up, page.is_last);
    match page.pass {
        None => entered.read(PageRead { asked_at, is_caught_up, is_last }),
        Some(PassPage { to, is_over, .. }) => entered.passed(to, is_over),
    }
    EnteredPage { owed, settled_cost }
}

fn sequence_digits(entry: &Entry) -> Option<usize> {
    match entry {
        Entry::Record(record) => Some(record.sequence_number().as_str().len()),
        Entry::Gap(_) => None,
    }
}

/// The lane of an entry: its item's, or the gap's own.
fn lane_of(entry: &Entry) -> LaneId {
    match entry {
        Entry::Record(record) => record.lane_id(),
        Entry::Gap(gap) => LaneId::of_gap(&gap_id(gap)),
    }
}

#[cfg(test)]
mod tests;
