//! One table's way from what reading hands down to the sink, and from what is settled to the store.
//!
//! Contract: whatever is read is entered in the books before it is handed to delivery, in the order in which it was read.
//! The books are locked for single entries only, never across an await. What the books do not know stops the table: nothing
//! of it is read, delivered or stored any more in this process, and the process is not ready.

pub mod keeper;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::{Notify, mpsc};

use crate::config::{self, DeliveryOrder};
use crate::delivery::lanes::{Gate, LaneKey};
use crate::delivery::parcel::{Account, Content, Parcel};
use crate::event::{Encoder, EncoderSettings, Packaging, gap_lane_key};
use crate::progress::ledger::Ledger;
use crate::progress::{BrokenBooks, Ticket};
use crate::readiness::TableHealth;
use crate::records::{Entry, Gap, Position, ShardNumber, StreamDetails};
use crate::streams::budget::Budget;
use crate::streams::update::{ShardPage, Update};
use crate::telemetry::{TableTelemetry, events};

/// One table's books and what hangs on them.
pub struct Books {
    ledger: Mutex<Ledger>,
    budget: Arc<Budget>,
    telemetry: Arc<TableTelemetry>,
    health: Arc<TableHealth>,
    settled: Notify,
    /// Something must be stored without delay.
    urgent: Notify,
    listed: AtomicBool,
    /// They met what they do not know: nothing of them may be stored.
    broken: AtomicBool,
    /// Updates that the pipeline has begun to take in.
    taken: AtomicU64,
    /// The pipeline waits for everything in earlier streams to be settled.
    waits_for_earlier_streams: AtomicBool,
}

/// Takes one table's updates.
pub struct Pipeline {
    books: Arc<Books>,
    order: DeliveryOrder,
    event: config::Event,
    packaging: Packaging,
    parcels: mpsc::Sender<Vec<Parcel>>,
    encoders: BTreeMap<String, Arc<Encoder>>,
    /// With order by shard: the lane of each shard, which is that of the shard where its lineage began.
    lanes: BTreeMap<ShardNumber, LaneKey>,
    numbers: BTreeMap<Arc<str>, ShardNumber>,
    /// With order by item: the number of the gaps in each shard's lineage, where there is one.
    gates: BTreeMap<ShardNumber, u64>,
    /// The same for a whole stream that was lost: it concerns every shard that follows.
    stream_gate: Option<u64>,
}

impl Books {
    /// Books that begin with `ledger`.
    pub fn new(
        ledger: Ledger,
        budget: Arc<Budget>,
        telemetry: Arc<TableTelemetry>,
        health: Arc<TableHealth>,
    ) -> Arc<Self> {
        let (settled, urgent) = (Notify::new(), Notify::new());
        Arc::new(Self {
            ledger: Mutex::new(ledger),
            budget,
            telemetry,
            health,
            settled,
            urgent,
            listed: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            waits_for_earlier_streams: AtomicBool::new(false),
        })
    }

    /// The ledger itself, for one entry or one look.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Whether the table's stream was listed as a whole.
    pub fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Acquire)
    }

    /// Whether the books met what they do not know: nothing of them may be stored then.
    pub fn are_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// How many updates the pipeline has begun to take in; nothing while it has a reason to take none.
    pub fn updates_taken(&self) -> Option<u64> {
        let waits = self.waits_for_earlier_streams.load(Ordering::Acquire);
        (!waits).then(|| self.taken.load(Ordering::Acquire))
    }

    fn listed(&self) {
        self.listed.store(true, Ordering::Release);
        self.urgent.notify_one();
    }

    fn break_down(&self, why: &BrokenBooks) {
        let why = why.to_string();
        self.health.stopped(&format!("{why}, a fault of the adapter itself: restart it to go on"));
        if !self.broken.swap(true, Ordering::AcqRel) {
            events::TableFault { what: &why }.emit(&self.telemetry);
        }
    }
}

impl Account for Books {
    fn settled(&self, ticket: Option<Ticket>, cost: usize) {
        let settled = ticket.map_or(Ok(()), |ticket| self.ledger().settle(ticket));
        if let Err(why) = settled {
            self.break_down(&why);
        }
        self.budget.release(cost);
        self.settled.notify_waiters();
    }

    fn telemetry(&self) -> &TableTelemetry {
        &self.telemetry
    }

    fn health(&self) -> &TableHealth {
        &self.health
    }
}

impl Pipeline {
    /// A pipeline into `parcels`.
    pub fn new(
        books: Arc<Books>,
        order: DeliveryOrder,
        event: config::Event,
        parcels: mpsc::Sender<Vec<Parcel>>,
    ) -> Self {
        let packaging = Packaging::new(event.mode, &event.overrides);
        if order == DeliveryOrder::Shard {
            books.ledger().order_by_shard();
        }
        Self {
            books,
            order,
            event,
            packaging,
            parcels,
            encoders: BTreeMap::new(),
            lanes: BTreeMap::new(),
            numbers: BTreeMap::new(),
            gates: BTreeMap::new(),
            stream_gate: None,
        }
    }

    /// Takes updates until nobody sends any more, nobody takes parcels, or the books are broken.
    pub async fn run(mut self, mut updates: mpsc::Receiver<Update>) {
        while let Some(update) = updates.recv().await {
            self.books.taken.fetch_add(1, Ordering::AcqRel);
            let entered = match update {
                Update::Page(page) => match self.enter_page(page) {
                    Ok(parcels) if parcels.is_empty() => Ok(()),
                    Ok(parcels) => match self.parcels.send(parcels).await {
                        Ok(()) => Ok(()),
                        Err(_) => return,
                    },
                    Err(why) => Err(why),
                },
                Update::ShardOpened { shard, id, facts, from, parent } => {
                    if parent.is_none() && self.order == DeliveryOrder::Shard {
                        self.earlier_streams_are_settled(&facts.arn).await;
                    }
                    self.assign_lane(shard, &id, parent.as_ref());
                    self.books.ledger().open_shard(shard, &id, &facts.arn, parent, from)
                }
                other => self.enter(other),
            };
            if let Err(why) = entered {
                self.books.break_down(&why);
            }
            if self.books.are_broken() {
                return;
            }
        }
    }

    fn enter(&mut self, update: Update) -> Result<(), BrokenBooks> {
        let mut ledger = self.books.ledger();
        match update {
            Update::StreamOpened { facts, start } => {
                ledger.open_stream(&facts, start);
                drop(ledger);
                self.books.urgent.notify_one();
            }
            Update::StreamEnded { facts } => ledger.end_stream(&facts.arn)?,
            Update::ShardSkipped { shard, id, facts, parent, at } => {
                ledger.skip_shard(shard, &id, &facts.arn, parent, at)?;
            }
            Update::ShardEnded { shard } => ledger.end_shard(shard)?,
            Update::ShardForgotten { shard } => {
                ledger.forget_shard(shard);
                drop(ledger);
                self.forget(shard);
            }
            Update::StreamListed => {
                drop(ledger);
                self.books.listed();
            }
            Update::Page(_) | Update::ShardOpened { .. } => {}
        }
        Ok(())
    }

    /// With order by shard nothing else keeps an item's order across two streams.
    async fn earlier_streams_are_settled(&self, arn: &str) {
        self.books.waits_for_earlier_streams.store(true, Ordering::Release);
        loop {
            let settled = self.books.settled.notified();
            if self.books.ledger().is_settled_before(arn) {
                break;
            }
            settled.await;
        }
        self.books.waits_for_earlier_streams.store(false, Ordering::Release);
    }

    fn assign_lane(&mut self, shard: ShardNumber, id: &Arc<str>, parent: Option<&Arc<str>>) {
        let parent = parent.and_then(|parent| self.numbers.get(parent)).copied();
        let gate = parent.and_then(|parent| self.gates.get(&parent)).copied().or(self.stream_gate);
        self.gates.extend(gate.map(|gate| (shard, gate)));
        let lane = parent.and_then(|parent| self.lanes.get(&parent)).copied().unwrap_or_else(|| {
            let mut hasher = DefaultHasher::new();
            (self.books.telemetry.table(), id).hash(&mut hasher);
            hasher.finish()
        });
        self.lanes.insert(shard, lane);
        self.numbers.insert(id.clone(), shard);
    }

    fn forget(&mut self, shard: ShardNumber) {
        self.lanes.remove(&shard);
        self.gates.remove(&shard);
        self.numbers.retain(|_, number| *number != shard);
    }

    /// A gap goes before whatever was read behind it in its lineage; it shares a lane with the lineage's other gaps.
    fn gate_of(&mut self, shard: ShardNumber, gap: &Gap) -> u64 {
        let number = *self.gates.entry(shard).or_insert_with(|| gap_lane_key(gap));
        if gap.shard.is_none() {
            self.stream_gate = Some(number);
        }
        number
    }

    fn enter_page(&mut self, page: ShardPage) -> Result<Vec<Parcel>, BrokenBooks> {
        let encoder = self.encoder(&page.facts);
        let lane = self.lanes.get(&page.shard).copied().filter(|_| self.order == DeliveryOrder::Shard);
        let books = self.books.clone();
        let mut ledger = books.ledger();
        let mut parcels = Vec::with_capacity(page.entries.len());
        for entry in page.entries {
            let cost = entry.cost();
            let (lane, gate, ticket, content) = match entry {
                Entry::Record(record) => {
                    let position = Position::After(record.sequence_number());
                    let ticket = ledger.read(page.shard, position, record.created_at())?;
                    let gate = self.gates.get(&page.shard).filter(|_| lane.is_none());
                    let gate = gate.map_or(Gate::None, |gate| Gate::Behind(*gate));
                    (lane.unwrap_or_else(|| encoder.lane_key(&record)), gate, Some(ticket), Content::Record(record))
                }
                Entry::Gap(gap) => {
                    let ticket = enter_gap(&mut ledger, page.shard, &gap)?;
                    let number = self.gate_of(page.shard, &gap);
                    let gate = lane.map_or(Gate::Barrier(number), |_| Gate::None);
                    (lane.unwrap_or(number), gate, ticket, Content::Gap(gap))
                }
            };
            let (encoder, account) = (encoder.clone(), self.books.clone());
            let recorded = page.read_at;
            parcels.push(Parcel { lane, gate, content, recorded, encoder, ticket, cost, account, letter: None });
        }
        ledger.page_read(page.shard, page.caught_up)?;
        Ok(parcels)
    }

    fn encoder(&mut self, facts: &StreamDetails) -> Arc<Encoder> {
        let encoder = self.encoders.entry(facts.arn.clone()).or_insert_with(|| {
            Arc::new(Encoder::new(EncoderSettings {
                profile: self.event.profile,
                data: self.event.data,
                packaging: self.packaging.clone(),
                table_arn: facts.table_arn.clone(),
                stream_arn: facts.arn.clone(),
                key_schema: facts.key_schema.clone(),
            }))
        });
        encoder.clone()
    }
}

/// A gap at which reading stops holds the position for good: only a restart gets past it.
fn enter_gap(ledger: &mut Ledger, shard: ShardNumber, gap: &Gap) -> Result<Option<Ticket>, BrokenBooks> {
    let behind = gap.resume.unwrap_or(Position::Start);
    let ticket = ledger.read(shard, behind, None::<SystemTime>)?;
    Ok(gap.resume.map(|_| ticket))
}

#[cfg(test)]
mod tests;
