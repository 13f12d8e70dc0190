//! What the judge is shown of the table that several processes share: each write, and who asks for leases.

use std::time::Duration;

use dynamodb_streams_adapter::checkpoint::StoredTable;
use dynamodb_streams_adapter::checkpoint::dynamodb::all_positions;
use dynamodb_streams_adapter::checkpoint::dynamodb::items::Members;

use crate::aws::table_arn;
use crate::item_table::{LEASE, Sent};
use crate::judge::owners::LeaseWrite;
use crate::plan::{Moment, Settings};
use crate::world::Inner;

/// The sort key of the entry that says that a table is read no further.
const STOPPED: &str = "stopped";

impl Inner {
    pub fn process_begins(&mut self, settings: &Settings, now: Moment) {
        let (process, life) = (self.current, self.life());
        self.judge.process_begins(process, life, settings, now);
    }

    pub fn process_ends(&mut self) {
        let process = self.current;
        self.judge.process_ends(process);
    }

    pub fn is_told_to_stop(&mut self, now: Moment) {
        let process = self.current;
        self.judge.process(process).told_to_stop = Some(now);
    }

    /// The process stands still, is suspended or has another time, up to this moment.
    pub fn process_is_disturbed(&mut self, until: Moment) {
        let process = self.current;
        self.judge.process(process).disturbed_at = Some(until);
    }

    /// Whether nothing has hindered writes of positions for a while.
    pub fn store_was_well(&self, now: Moment) -> bool {
        match self.judge.has_several() {
            true => self.judge.was_well(now.saturating_sub(Duration::from_secs(60)), now, &[]),
            false => self.disk_was_well(now),
        }
    }

    /// The table whose positions are in a partition.
    fn table_of(&self, partition: &str) -> Option<usize> {
        let arn = partition.rsplit(' ').next()?;
        self.aws.tables.iter().position(|table| table_arn(&table.name) == arn)
    }

    /// A process begins to write a lease.
    pub fn asks_for_lease(&mut self, sent: &mut Sent) {
        let Some(mut lease) = LeaseWrite::of(sent) else { return };
        let Some(table) = self.table_of(&lease.partition) else { return };
        if lease.owner.is_some() && !self.judge.holds(table, lease.process, lease.epoch) {
            self.begin_term();
            (sent.term, lease.term) = (self.term(), self.term());
        }
        self.judge.lease_asked(table, &lease);
    }

    pub fn lease_is_granted(&mut self, lease: &LeaseWrite, now: Moment) {
        if let Some(table) = self.table_of(&lease.partition) {
            self.judge.lease_granted(table, lease, now);
        }
    }

    pub fn sees_lease(&mut self) {
        let process = self.current;
        self.judge.process(process).has_seen_a_lease = true;
    }

    /// The process knows what is stored of a table: it asks for its stream, or says that it may not read it.
    pub fn has_loaded(&mut self, is_it: impl Fn(&str) -> bool) {
        let table = self.aws.tables.iter().position(|table| is_it(&table.name));
        if let Some(table) = table.filter(|_| self.judge.has_several()) {
            self.judge.has_loaded(table, self.current);
        }
    }

    /// A write has happened.
    pub fn look_at_write(&mut self, sent: &Sent, before: Option<&Members>, now: Moment) {
        let Some(table) = self.table_of(&sent.write.key.partition) else { return };
        if let Some(lease) = LeaseWrite::of(sent) {
            self.look_at_lease(table, &lease, before, now);
        } else {
            self.judge.start_stored(before, sent.write.to.as_ref(), now);
            if content(before) != content(sent.write.to.as_ref()) {
                self.look_at_items(table, now);
            }
            // What it writes before it reads on is not what it goes on from.
            if self.judge.goes_on(table, sent.term) {
                self.judge.confirms(table, now);
            }
        }
    }

    fn look_at_lease(&mut self, table: usize, lease: &LeaseWrite, before: Option<&Members>, now: Moment) {
        if !self.judge.lease_written(table, lease, before, now) {
            return;
        }
        let nothing_is_left = self.items_of(table).iter().all(|item| item.key.entry == LEASE);
        let is_witness = self.judge.witness_claims(table, lease.process, nothing_is_left);
        if nothing_is_left && !is_witness && self.judge.was_made_anew() {
            self.tell(now, "nothing is stored, and nobody knows what was: it starts for the first time".to_owned());
            self.judge.starts_anew(lease.process, &self.aws, now);
        }
    }

    /// Shows the judge what is stored of all tables.
    pub fn look_at_tables(&mut self, now: Moment) {
        (0..self.aws.tables.len()).for_each(|table| self.look_at_items(table, now));
    }

    fn look_at_items(&mut self, table: usize, now: Moment) {
        let is_stopped = self.items_of(table).iter().any(|item| item.key.entry == STOPPED);
        self.judge.stop_stored(table, is_stopped, now);
        // What nobody can read holds nothing as settled, and is not what anybody goes on from.
        let Ok(mut positions) = all_positions(&self.items_of(table)) else { return };
        let mut group = positions.pop_first().map(|(_, tables)| tables).unwrap_or_default();
        let stored = group.pop_first().map_or_else(StoredTable::default, |(_, stored)| stored);
        self.judge.stored(table, stored, &self.aws, now);
    }
}

/// An item without what says who wrote it.
fn content(members: Option<&Members>) -> Option<Members> {
    let mut members = members?.clone();
    ["epoch", "version", "owner"].into_iter().for_each(|name| {
        members.remove(name);
    });
    Some(members)
}
