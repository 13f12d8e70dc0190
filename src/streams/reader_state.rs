//! Where the reader of a shard stands, and where it stood before a pass over what is left out.

use std::time::SystemTime;

use tokio::time::Instant;

use super::shard_pace::PageLimit;
use crate::progress::buffer::Buffer;
use crate::progress::catch_up::PassCause;
use crate::records::{Position, Record, SequenceNumber, Undecodable};

/// Where a reader stands.
pub(super) struct ReaderState {
    /// Behind the last record that was handed down, or was to be.
    pub(super) position: Position,
    pub(super) iterator: Option<String>,
    /// At which record the first iterator of a pass begins: the first one that is owed.
    pub(super) at: Option<SequenceNumber>,
    /// Behind the last record that this iterator gave.
    pub(super) cursor: Position,
    /// The iterator is new: whether it has left something out is not known yet. Since when it gives empty pages.
    pub(super) unproved: Option<Instant>,
    /// AWS has trimmed the record at the position, and nothing was read since.
    pub(super) is_trimmed: bool,
    pub(super) failures: u32,
    /// How often in a row AWS has said that there is no such shard.
    pub(super) denials: u32,
    /// Empty pages in a row of a closed shard, and since when.
    pub(super) empty_pages: u32,
    pub(super) empty_since: Instant,
    /// Reading began at the oldest record, not at the newest, and no record as young as the start was read.
    pub(super) may_be_old: bool,
    pub(super) quiet_since: Instant,
    /// Until when those below need not be told again that the shard is quiet.
    pub(super) quiet_told: Option<Instant>,
    pub(super) handed_over: Option<Instant>,
    pub(super) page_limit: PageLimit,
    /// What the next page is expected to weigh.
    pub(super) expected: usize,
    /// When the newest record that was handed down was created.
    pub(super) newest: Option<SystemTime>,
}

/// How reading a shard ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardEnd {
    /// Everything was read and handed down, of which the newest record was created then.
    Read(Option<SystemTime>),
    /// Of a shard that was read to its end before: no pass over it is due any more.
    CaughtUp,
    /// AWS does not know the shard, or its stream.
    Missing(Position),
    /// Data was lost and the policy is to stop.
    Lost,
    /// The process is shutting down.
    Stopped,
}

/// Where a reader stood when it began a pass.
pub(super) struct BeforePass {
    pub(super) state: ReaderState,
    pub(super) begun: Instant,
    pub(super) cause: PassCause,
}

impl ReaderState {
    /// Of a reader that begins at this position.
    pub(super) fn at(position: Position) -> Self {
        Self {
            position,
            iterator: None,
            at: None,
            cursor: Position::Start,
            unproved: None,
            is_trimmed: false,
            failures: 0,
            denials: 0,
            empty_pages: 0,
            empty_since: Instant::now(),
            may_be_old: false,
            quiet_since: Instant::now(),
            quiet_told: None,
            handed_over: None,
            page_limit: PageLimit::default(),
            expected: Buffer::PAGE,
            newest: None,
        }
    }
}

/// A record's number, if it can be told.
pub(super) fn sequence_of(record: &Result<Record, Undecodable>) -> Option<SequenceNumber> {
    match record {
        Ok(record) => Some(record.sequence_number()),
        Err(undecodable) => undecodable.sequence_number,
    }
}

/// The records of a page, of which none is numbered lower than one before it: by its number such a one would count as read before, and
/// would be lost without a word. It is undecodable instead.
pub(super) fn in_order(mut records: Vec<Result<Record, Undecodable>>) -> Vec<Result<Record, Undecodable>> {
    let mut highest = None;
    for record in &mut records {
        let number = sequence_of(record);
        if number.is_some() && number < highest {
            let reason = "SequenceNumber is lower than that of a record before it".to_owned();
            *record = Err(Undecodable { reason, sequence_number: None });
        } else {
            highest = number.or(highest);
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::records::Page;

    fn page(records: &[(&str, &str)]) -> Vec<Result<Record, Undecodable>> {
        let record = |(keys, number): &(&str, &str)| {
            let change = format!(r#"{{"Keys":{keys},"SequenceNumber":"{number}"}}"#);
            format!(r#"{{"eventID":"id","eventName":"INSERT","dynamodb":{change}}}"#)
        };
        let records: Vec<String> = records.iter().map(record).collect();
        let body = format!(r#"{{"Records":[{}]}}"#, records.join(","));
        Page::parse(Bytes::from(body)).expect("a page").records
    }

    #[test]
    fn a_record_that_is_numbered_lower_than_one_before_it_has_no_place() {
        const KEYS: &str = r#"{"k":{"S":"a"}}"#;
        for low in ["4", "0", "000000000000000000000000000004"] {
            for keys in [KEYS, "7"] {
                let records = in_order(page(&[(KEYS, "5"), (keys, low), (KEYS, "5"), (KEYS, "10")]));
                let refused = records[1].as_ref().expect_err("its number is lower");
                assert_eq!(refused.sequence_number, None, "{low}");
                assert!(refused.reason.contains("lower"), "{}", refused.reason);
                let others: Vec<_> = records.iter().filter_map(sequence_of).map(|number| number.to_string()).collect();
                assert_eq!(others, ["5", "5", "10"], "other services give several records one number");
            }
        }
    }
}
