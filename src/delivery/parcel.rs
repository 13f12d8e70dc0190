//! One event on its way to the sink.

use std::sync::Arc;
use std::time::SystemTime;

use super::lanes::{Cargo, LaneKey};
use crate::event::{Encoder, Message};
use crate::progress::Ticket;
use crate::streams::update::Gap;
use crate::streams::wire::Record;
use crate::telemetry::TableTelemetry;

/// An event, with all that is needed to send it and to account for it.
pub struct Parcel {
    /// Its lane.
    pub lane: LaneKey,
    /// What it tells.
    pub content: Content,
    /// When it was read.
    pub recorded: SystemTime,
    /// Makes its message.
    pub encoder: Arc<Encoder>,
    /// Its entry in the books; none where its settling must move no position.
    pub ticket: Option<Ticket>,
    /// What it takes of the buffer.
    pub cost: usize,
    /// Whom to tell when it is settled.
    pub account: Arc<dyn Account>,
}

/// What an event tells.
pub enum Content {
    /// A change.
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
}

impl Parcel {
    /// The message that tells it.
    pub fn message(&self) -> Message {
        match &self.content {
            Content::Record(record) => self.encoder.encode(record, self.recorded),
            Content::Gap(gap) => gap.encode(self.encoder.packaging(), self.recorded, &[]),
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
}
