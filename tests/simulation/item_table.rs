//! The table of positions that several processes share: conditional writes in memory, and all that can come between a caller and them.
//!
//! Contract: a write happens once, as a whole, under its condition, or not at all. What its caller learns of it is another matter: an
//! answer may be lost, a write may happen long after its caller has given it up, also when the caller is dead. Source: the
//! DynamoDB Developer Guide on conditional writes and on retries, and how an HTTP client's timeout differs from the server's work.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dynamodb_streams_adapter::checkpoint::dynamodb::items::{
    Expected, Item, ItemError, ItemKey, ItemTable, Members, Stamp, Write, Written,
};
use futures_util::future::BoxFuture;
use tokio::time::sleep;

use crate::aws::table_arn;
use crate::judge::owners::LeaseWrite;
use crate::plan::several::{SharedFault, Trouble};
use crate::plan::{Moment, minutes};
use crate::world::{Inner, World};

/// What a client waits for an answer about positions.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest that a slow table takes.
const SLOWEST: Duration = Duration::from_secs(10);

/// How old a backup may be.
const BACKUPS: Duration = minutes(6);

/// The sort key of a table's lease.
pub const LEASE: &str = "lease";

/// When a write happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// As the write says.
    Whole,
    /// Whatever version it has, if nobody has claimed it under a higher epoch: a fault of the adapter.
    EpochOnly,
}

/// The table as one process reaches it.
pub struct SimulatedTable {
    pub world: Arc<World>,
    /// Leases are read and written by a client of their own.
    pub is_for_leases: bool,
    pub condition: Condition,
}

/// What is stored.
#[derive(Default)]
pub struct SharedTable {
    items: BTreeMap<ItemKey, Members>,
    /// What was there before each change, for as long as there are backups.
    log: VecDeque<(Moment, ItemKey, Option<Members>)>,
    late: BTreeMap<(Moment, u64), Sent>,
    sent: u64,
    missing_until: Moment,
    /// Troubles of the plan that have come about, by their number.
    come: usize,
}

/// A write on its way.
#[derive(Debug, Clone)]
pub struct Sent {
    pub write: Write,
    condition: Condition,
    pub process: usize,
    /// The sender's tenure or life.
    pub term: u32,
    pub at: Moment,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    /// It is refused before anything happens.
    Refused,
    /// Nothing happens, and the caller does not know.
    Lost,
    /// It happens, and the caller does not know.
    Unheard,
    /// It happens so much later.
    Late(Duration),
}

/// How a call goes.
struct Way {
    takes: Duration,
    fate: Fate,
    /// How long somebody waits who gets no answer.
    patience: Duration,
}

/// A write that its sender may give up at any time.
struct UnderWay<'w> {
    world: &'w World,
    sent: Option<Sent>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(sent) = self.sent.take() {
            let mut inner = self.world.lock();
            let now = inner.now();
            // It was on its way, or was not.
            if inner.chance.bool() {
                let later = Duration::from_millis(inner.chance.u64(..5_000));
                inner.comes_late(sent, now + later);
            }
        }
    }
}

impl SimulatedTable {
    async fn send(&self, write: Write) -> Result<Written, ItemError> {
        let world = &*self.world;
        let (way, sent) = world.look(|inner, now| {
            let way = inner.table_way(self.is_for_leases, true, now);
            let term = inner.term();
            let mut sent = Sent { write, condition: self.condition, process: world.process, term, at: now };
            inner.asks_for_lease(&mut sent);
            (way, sent)
        });
        let lease = LeaseWrite::of(&sent);
        let mut under_way = UnderWay { world, sent: Some(sent) };
        let result = world
            .edge(way.takes, |inner, now| {
                let sent = under_way.sent.take()?;
                Some(match way.fate {
                    Fate::Answered => inner.table_write(&sent, now),
                    Fate::Refused => Err(ItemError::NotDone("throttled".into())),
                    Fate::Lost => Err(unknown()),
                    Fate::Unheard => inner.table_write(&sent, now).and(Err(unknown())),
                    Fate::Late(later) => {
                        inner.comes_late(sent, now + later);
                        Err(unknown())
                    }
                })
            })
            .await;
        let result = result.unwrap_or_else(|| Err(unknown()));
        if matches!(result, Err(ItemError::Unknown(_))) {
            sleep(way.patience).await;
        }
        if let (Some(lease), Ok(Written::Done)) = (lease, &result) {
            world.look(|inner, now| inner.lease_is_granted(&lease, now));
        }
        result
    }

    async fn read<T>(&self, read: impl FnOnce(&mut Inner) -> T) -> Result<T, ItemError> {
        let way = self.world.look(|inner, now| inner.table_way(self.is_for_leases, false, now));
        let result = self
            .world
            .edge(way.takes, |inner, now| match way.fate {
                Fate::Refused => Err(ItemError::NotDone("throttled".into())),
                Fate::Answered if now < inner.shared.missing_until => Err(no_table()),
                Fate::Answered => Ok(read(inner)),
                Fate::Lost | Fate::Unheard | Fate::Late(_) => Err(unknown()),
            })
            .await;
        if matches!(result, Err(ItemError::Unknown(_))) {
            sleep(way.patience).await;
        }
        result
    }

    async fn pages(&self, partition: &str) -> Result<Vec<Item>, ItemError> {
        let mut items: Vec<Item> = Vec::new();
        loop {
            let behind = items.last().map(|item| item.key.clone());
            let (page, is_last) = self.read(|inner| inner.page(partition, behind.as_ref())).await?;
            items.extend(page);
            if is_last {
                return Ok(items);
            }
        }
    }
}

impl ItemTable for SimulatedTable {
    fn get<'a>(&'a self, key: &'a ItemKey) -> BoxFuture<'a, Result<Option<Members>, ItemError>> {
        Box::pin(self.read(move |inner| {
            let found = inner.shared.items.get(key).cloned();
            if key.entry == LEASE && found.is_some() {
                inner.sees_lease();
            }
            found
        }))
    }

    fn query<'a>(&'a self, partition: &'a str) -> BoxFuture<'a, Result<Vec<Item>, ItemError>> {
        Box::pin(self.pages(partition))
    }

    fn write(&self, write: Write) -> BoxFuture<'_, Result<Written, ItemError>> {
        Box::pin(self.send(write))
    }
}

impl Inner {
    fn table_way(&mut self, is_for_leases: bool, writes: bool, now: Moment) -> Way {
        let several = self.plan.several.as_ref().expect("a table is shared by several processes");
        let severity = |fault| several.during(fault, self.current, now).map(|trouble| trouble.severity);
        let patience = if is_for_leases { several.lease / 5 } else { PATIENCE };
        let slow = severity(SharedFault::SlowTable).filter(|_| !is_for_leases).unwrap_or(0.0);
        // A server's fault is told at once, and silence only ends with patience.
        let is_told = severity(SharedFault::ServerErrors).is_some();
        let takes = Duration::from_millis(self.chance.u64(2..25)) + SLOWEST.mul_f64(slow * self.chance.f64());
        let fate = self.table_fate(writes, now);
        if takes > patience && fate == Fate::Answered {
            // It happens, and the caller has given it up by then.
            return Way { takes: patience, fate: Fate::Late(takes - patience), patience: Duration::ZERO };
        }
        let takes = takes.min(patience);
        Way { takes, fate, patience: if is_told { Duration::ZERO } else { patience - takes } }
    }

    fn table_fate(&mut self, writes: bool, now: Moment) -> Fate {
        let several = self.plan.several.as_ref().expect("a table is shared by several processes");
        let severity = |fault| several.during(fault, self.current, now).map(|trouble| trouble.severity);
        let write_severity = |fault| severity(fault).filter(|_| writes).map(|severity| severity * 0.8);
        let mut hits = |share: Option<f64>| share.is_some_and(|share| self.chance.f64() < share);
        if severity(SharedFault::CutOff).is_some() {
            return Fate::Lost;
        }
        if let Some(severity) = severity(SharedFault::Away) {
            return if severity < 0.3 { Fate::Refused } else { Fate::Lost };
        }
        if hits(severity(SharedFault::Throttles)) {
            return Fate::Refused;
        }
        if hits(severity(SharedFault::ServerErrors)) {
            return if hits(Some(0.5)) { Fate::Unheard } else { Fate::Lost };
        }
        if hits(write_severity(SharedFault::LostAnswers)) {
            return Fate::Unheard;
        }
        if hits(write_severity(SharedFault::LostWrites)) {
            return Fate::Lost;
        }
        if hits(write_severity(SharedFault::LateWrites)) {
            let most = if self.chance.bool() { 5_000 } else { 90_000 };
            return Fate::Late(Duration::from_millis(self.chance.u64(1..most)));
        }
        Fate::Answered
    }

    fn comes_late(&mut self, sent: Sent, at: Moment) {
        self.shared.sent += 1;
        self.shared.late.insert((at, self.shared.sent), sent);
    }

    /// Lets happen what comes to the table by itself up to this moment.
    pub fn table_catches_up(&mut self, now: Moment) {
        let late = |inner: &Self| inner.shared.late.first_key_value().map(|((at, _), _)| *at);
        loop {
            let trouble = self.next_trouble();
            let due = [late(self), trouble.as_ref().map(|it| it.from)].into_iter().flatten().min();
            let Some(at) = due.filter(|at| *at <= now) else { return };
            match trouble.filter(|trouble| trouble.from == at) {
                Some(trouble) => {
                    self.shared.come += 1;
                    self.befalls(&trouble);
                }
                None => {
                    let Some((_, sent)) = self.shared.late.pop_first() else { return };
                    // Nobody learns what came of it.
                    let _ = self.table_write(&sent, at);
                }
            }
        }
    }

    /// The trouble of the plan that comes about next by itself.
    fn next_trouble(&self) -> Option<Trouble> {
        let several = self.plan.several.as_ref()?;
        let own = |it: &&Trouble| matches!(it.fault, SharedFault::MadeAnew | SharedFault::Restored);
        several.troubles.iter().filter(own).nth(self.shared.come).cloned()
    }

    fn befalls(&mut self, Trouble { fault, from, until, severity, .. }: &Trouble) {
        self.shared.missing_until = self.shared.missing_until.max(*until);
        match fault {
            SharedFault::MadeAnew => {
                self.tell(
                    *from,
                    format!("the table of positions is deleted, and made anew {:.0?} later", *until - *from),
                );
                let keys: Vec<ItemKey> = self.shared.items.keys().cloned().collect();
                keys.into_iter().for_each(|key| self.set(key, None, *from));
                self.judge.table_is_another(true, *from);
            }
            _ => {
                let age = minutes(5).mul_f64(severity * severity);
                let gone = *until - *from;
                self.tell(
                    *from,
                    format!(
                        "the table of positions is deleted, and restored {gone:.0?} later from a backup {age:.0?} old"
                    ),
                );
                while let Some((_, key, before)) = self.shared.log.pop_back_if(|(at, _, _)| *at + age > *from) {
                    match before {
                        Some(members) => self.shared.items.insert(key, members),
                        None => self.shared.items.remove(&key),
                    };
                }
                let is_empty = self.shared.items.keys().all(|key| key.entry == LEASE);
                self.judge.table_is_another(is_empty, *from);
            }
        }
        self.look_at_tables(*from);
    }

    /// Makes an item so.
    fn set(&mut self, key: ItemKey, to: Option<Members>, now: Moment) {
        let before = match to {
            Some(members) => self.shared.items.insert(key.clone(), members),
            None => self.shared.items.remove(&key),
        };
        self.shared.log.push_back((now, key, before));
        while self.shared.log.pop_front_if(|(at, _, _)| *at + BACKUPS < now).is_some() {}
    }

    fn table_write(&mut self, sent: &Sent, now: Moment) -> Result<Written, ItemError> {
        if now < self.shared.missing_until {
            return Err(no_table());
        }
        let Write { key, expected, to } = &sent.write;
        let current = self.shared.items.get(key);
        let is_as_expected = match (sent.condition, *expected) {
            (Condition::EpochOnly, _) if key.entry != LEASE => current
                .and_then(stamp)
                .is_none_or(|it| it.epoch <= to.as_ref().and_then(stamp).map_or(it.epoch, |to| to.epoch)),
            (_, Expected::Absent) => current.is_none(),
            (_, Expected::Is(expected)) => current.and_then(stamp) == Some(expected),
        };
        if !is_as_expected {
            return Ok(Written::Conflict(current.cloned()));
        }
        let before = current.cloned();
        self.set(key.clone(), to.clone(), now);
        self.look_at_write(sent, before.as_ref(), now);
        Ok(Written::Done)
    }

    fn page(&self, partition: &str, behind: Option<&ItemKey>) -> (Vec<Item>, bool) {
        let size = self.plan.several.as_ref().map_or(100, |several| several.page);
        let own = self.shared.items.iter().filter(|(key, _)| key.partition == partition);
        let mut rest = own.filter(|(key, _)| behind.is_none_or(|behind| *key > behind));
        let page = rest.by_ref().take(size).map(|(key, members)| Item { key: key.clone(), members: members.clone() });
        let page: Vec<Item> = page.collect();
        let is_last = rest.next().is_none();
        (page, is_last)
    }

    /// All that is stored of a table.
    pub fn items_of(&self, table: usize) -> Vec<Item> {
        let arn = table_arn(&self.aws.tables[table].name);
        let own = self.shared.items.iter().filter(|(key, _)| key.partition.rsplit(' ').next() == Some(&*arn));
        own.map(|(key, members)| Item { key: key.clone(), members: members.clone() }).collect()
    }
}

/// The stamp of an item.
pub fn stamp(members: &Members) -> Option<Stamp> {
    let number = |name| members.get(name).and_then(serde_json::Value::as_u64);
    Some(Stamp { epoch: number("epoch")?, version: number("version")? })
}

fn unknown() -> ItemError {
    ItemError::Unknown("no answer".into())
}

fn no_table() -> ItemError {
    ItemError::NotDone("there is no such table".into())
}
