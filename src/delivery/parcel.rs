//! One event on its way to the sink.

use std::sync::Arc;
use std::time::SystemTime;

use super::dead_letter::DeadLetter;
use super::lanes::{Cargo, Gate, LaneKey};
use crate::event::{Encoder, Extension, Message, encode_gap, gap_id};
use crate::progress::{AckToken, Acknowledger};
use crate::records::Entry;

/// An event, with all that is needed to send it and to account for it.
pub struct Parcel {
    pub lane: LaneKey,
    /// What it has to do with gaps of its lineage.
    pub gate: Gate,
    pub content: Entry,
    /// When it was read.
    pub recorded: SystemTime,
    pub encoder: Arc<Encoder>,
    /// To be given back when it is settled; none where that must move no position.
    pub token: Option<AckToken>,
    /// What it takes of the buffer.
    pub cost: usize,
    /// Whom to tell when it is settled.
    pub acknowledger: Arc<dyn Acknowledger>,
    /// Why it goes to the dead-letter sink, if it does.
    pub letter: Option<Box<DeadLetter>>,
}

impl Parcel {
    /// The message that tells it.
    pub fn message(&self) -> Message {
        match &self.content {
            Entry::Record(record) => self.encoder.encode(record, self.recorded),
            Entry::Gap(gap) => encode_gap(gap, self.encoder.packaging(), self.recorded, &[]),
        }
    }

    /// The same with further extensions.
    pub fn message_with(&self, extensions: &[Extension]) -> Message {
        match &self.content {
            Entry::Record(record) => self.encoder.encode_with(record, self.recorded, extensions),
            Entry::Gap(gap) => encode_gap(gap, self.encoder.packaging(), self.recorded, extensions),
        }
    }

    pub fn id(&self) -> String {
        match &self.content {
            Entry::Record(record) => record.event_id().to_owned(),
            Entry::Gap(gap) => gap_id(gap),
        }
    }

    /// What a sink may call it in its answer to a batch: its id, and its sequence number as AWS and as we write it.
    pub fn names(&self) -> [String; 3] {
        match &self.content {
            Entry::Record(record) => {
                let sequence = record.sequence_number();
                [record.event_id().to_owned(), sequence.to_string(), self.encoder.sequence(record)]
            }
            Entry::Gap(gap) => [gap_id(gap), gap_id(gap), gap_id(gap)],
        }
    }

    /// When its change was made, if it tells one.
    pub fn created(&self) -> Option<SystemTime> {
        match &self.content {
            Entry::Record(record) => record.created_at(),
            Entry::Gap(_) => None,
        }
    }
}

impl Cargo for Parcel {
    fn settle_in(&mut self) {
        if let Entry::Record(record) = &mut self.content {
            record.detach();
        }
    }

    fn size(&self) -> usize {
        self.cost
    }

    fn gate(&self) -> Gate {
        self.gate
    }
}
