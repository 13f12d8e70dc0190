//! One event on its way to the sink.

use std::sync::Arc;
use std::time::SystemTime;

use super::dead_letter::DeadLetter;
use super::lanes::{Cargo, Gate, LaneKey};
use crate::event::{Encoder, Extension, Message, encode_gap, gap_id};
use crate::progress::Ticket;
use crate::readiness::TableHealth;
use crate::records::{Gap, Record};
use crate::telemetry::TableTelemetry;

/// An event, with all that is needed to send it and to account for it.
pub struct Parcel {
    pub lane: LaneKey,
    /// What it has to do with gaps of its lineage.
    pub gate: Gate,
    pub content: Content,
    /// When it was read.
    pub recorded: SystemTime,
    pub encoder: Arc<Encoder>,
    /// Its entry in the books; none where its settling must move no position.
    pub ticket: Option<Ticket>,
    /// What it takes of the buffer.
    pub cost: usize,
    /// Whom to tell when it is settled.
    pub account: Arc<dyn Account>,
    /// Why it goes to the dead-letter sink, if it does.
    pub letter: Option<Box<DeadLetter>>,
}

/// What an event tells.
pub enum Content {
    Record(Record),
    /// Changes may be missing.
    Gap(Gap),
}

/// Keeps a table's books.
pub trait Account: Send + Sync {
    /// An event reached its end; called once for each parcel.
    fn settled(&self, ticket: Option<Ticket>, cost: usize);

    /// What the table says about itself.
    fn telemetry(&self) -> &TableTelemetry;

    /// The table's part in readiness.
    fn health(&self) -> &TableHealth;
}

impl Parcel {
    /// The message that tells it.
    pub fn message(&self) -> Message {
        match &self.content {
            Content::Record(record) => self.encoder.encode(record, self.recorded),
            Content::Gap(gap) => encode_gap(gap, self.encoder.packaging(), self.recorded, &[]),
        }
    }

    /// The same with further extensions.
    pub fn message_with(&self, extensions: &[Extension]) -> Message {
        match &self.content {
            Content::Record(record) => self.encoder.encode_with(record, self.recorded, extensions),
            Content::Gap(gap) => encode_gap(gap, self.encoder.packaging(), self.recorded, extensions),
        }
    }

    pub fn id(&self) -> String {
        match &self.content {
            Content::Record(record) => record.event_id().to_owned(),
            Content::Gap(gap) => gap_id(gap),
        }
    }

    /// What a sink may call it in its answer to a batch: its id, and its sequence number as AWS and as we write it.
    pub fn names(&self) -> [String; 3] {
        match &self.content {
            Content::Record(record) => {
                let sequence = record.sequence_number();
                [record.event_id().to_owned(), sequence.to_string(), sequence.padded()]
            }
            Content::Gap(gap) => [gap_id(gap), gap_id(gap), gap_id(gap)],
        }
    }

    /// When its change was made, if it tells one.
    pub fn created(&self) -> Option<SystemTime> {
        match &self.content {
            Content::Record(record) => record.created_at(),
            Content::Gap(_) => None,
        }
    }
}

impl Cargo for Parcel {
    fn settle_in(&mut self) {
        if let Content::Record(record) = &mut self.content {
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
