//! What the dispatcher is handed: events, and the wish that nothing of a table is left with it.
//!
//! Contract: both come through one channel, so that whoever has stopped handing in a table's events and then asks for its withdrawal has
//! withdrawn all of them. What is withdrawn stays owed: no attempt for it begins any more, those under way have ended, and nothing that was
//! known of the table here outlives it. No step of that takes longer the more there is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::lanes::{LaneItem as _, Lanes, Request, Withdrawal};
use super::pending_event::BoxedEvent;
use super::settlement::Settlement;
use crate::progress::Acknowledger;

/// So many events are withdrawn in one step: a few milliseconds.
const PORTION: usize = 2_048;

/// What the dispatcher takes in.
pub enum Handover {
    /// A page's events, in their order.
    Events(Vec<BoxedEvent>),
    /// Nothing of a table is to be left here. Its tenure is over: see [`Acknowledger::tenure`].
    Withdrawal(TableWithdrawal),
}

/// The wish to withdraw a table.
pub struct TableWithdrawal {
    table: Arc<dyn Acknowledger>,
    done: oneshot::Sender<()>,
}

impl TableWithdrawal {
    /// Of this table; and what tells when nothing of it is left. If that is dropped, there is no dispatcher any more.
    pub fn of(table: Arc<dyn Acknowledger>) -> (Self, oneshot::Receiver<()>) {
        let (done, is_done) = oneshot::channel();
        (Self { table, done }, is_done)
    }
}

/// The withdrawals that are not done, and what keeps them waiting.
#[derive(Default)]
pub(super) struct Withdrawals {
    wanted: VecDeque<(TableWithdrawal, Withdrawal)>,
    /// How much is under way of each table that has an owner for a time.
    under_way: BTreeMap<usize, usize>,
}

impl Withdrawals {
    /// One more is wanted.
    pub(super) fn begin(&mut self, wanted: TableWithdrawal) {
        let withdrawal = Withdrawal::of(wanted.table.table());
        self.wanted.push_back((wanted, withdrawal));
    }

    /// A request with events of tables that have an owner for a time is under way.
    pub(super) fn launched(&mut self, request: &Request<BoxedEvent>) {
        for slice in request.slices() {
            *self.under_way.entry(slice.head.table()).or_default() += 1;
        }
    }

    /// A request has ended: cheap where no table has an owner for a time.
    pub(super) fn ended(&mut self, request: &Request<BoxedEvent>) {
        if self.under_way.is_empty() {
            return;
        }
        for slice in request.slices() {
            let table = slice.head.table();
            if let Some(under_way) = self.under_way.get_mut(&table) {
                *under_way -= 1;
                if *under_way == 0 {
                    self.under_way.remove(&table);
                }
            }
        }
    }

    /// Withdraws a portion. Says whether the next one can follow at once; else nothing is to be withdrawn, or an attempt has to end first.
    pub(super) fn go_on(&mut self, lanes: &mut Lanes<BoxedEvent>, settlement: &mut Settlement) -> bool {
        let under_way = &self.under_way;
        let is_possible = |(_, it): &(TableWithdrawal, Withdrawal)| !under_way.contains_key(&it.table());
        let Some(place) = self.wanted.iter().position(is_possible) else { return false };
        if let Some(events) = lanes.withdraw(&mut self.wanted[place].1, PORTION) {
            settlement.give_back(events);
            return true;
        }
        if let Some((TableWithdrawal { table, done }, _)) = self.wanted.remove(place) {
            settlement.forget(&*table);
            // Who does not wait for it any more is ending.
            let _ = done.send(());
        }
        !self.wanted.is_empty()
    }
}
