//! What the judge says: which promise was broken, when, and by what.

use std::fmt;

use crate::plan::Moment;

/// What was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sentence {
    /// 1: stored as settled behind a change of the same item that is not.
    NotAPrefix,
    /// 1: stored as settled, and nobody has it.
    SettledAndNeverTaken,
    /// 1: it was stored as settled, and is not any more.
    Forgotten,
    /// 2: nobody has it, no gap tells of it, and it cannot come any more.
    Lost,
    /// 2: a gap tells of what AWS still has.
    FalseGap,
    /// 3: taken before an earlier change of its item, or behind a later one.
    OutOfOrder,
    /// 3: the last delivery of an item is not its newest state.
    Stale,
    /// 4: sent again although stored as settled, or although success was heard.
    Repeated,
    /// 4: sent although it lies before the start.
    BeforeStart,
    /// 5: more calls in a second than the account has.
    AccountLimit,
    /// 5: more `DescribeStream` in ten minutes than budgeted.
    ListingBudget,
    /// 5: a shard without records is asked too often in a second.
    ShardRate,
    /// 5: a quiet shard is asked more often than budgeted.
    IdleBudget,
    /// 5: two readers of one shard.
    TwoReaders,
    /// 6: more memory than bounded.
    Memory,
    /// 7: a change that could be delivered was not, long after all was well.
    NotDelivered,
    /// 7: not ready long after all was well.
    NotReady,
    /// 7: the liveness probe failed.
    NotAlive,
    /// 7: the process ended by itself.
    Ended,
    /// 7: in a world without faults a change came late.
    Late,
    /// 8: sent by a process whose tenure is over.
    AfterTheEnd,
    /// 8: sent by a process behind one that has claimed later.
    TwoOwners,
    /// 8: an owner that could renew its lease has lost it.
    Deposed,
    /// 8: a lease that is free is not claimed in the stated time, or not given back.
    LateTakeover,
    /// 8: a stream's start was stored, and is another.
    StartMoved,
    /// 8: a table is read of which is stored that it is to be read no further.
    ReadsOn,
}

#[derive(Debug, Clone)]
pub struct Finding {
    pub sentence: Sentence,
    pub at: Moment,
    pub what: String,
}

/// A moment as findings show it: `1h02m03`.
pub fn hours_since_begin(moment: Moment) -> String {
    let since = moment.saturating_sub(crate::plan::BEGIN).as_secs();
    format!("{}h{:02}m{:02}", since / 3600, since / 60 % 60, since % 60)
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}: {}", self.sentence, hours_since_begin(self.at), self.what)
    }
}
