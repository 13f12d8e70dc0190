//! One event on its way to the sink, and what is added to it once the sink will never take it.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::Uri;

use super::request::{BarrierRole, LaneItem, LaneKey};
use crate::event::{Encoder, Extension, ExtensionValue, Message, encode_gap, gap_id};
use crate::progress::{AckToken, Acknowledger};
use crate::records::Entry;
use crate::sink::{BODY_START, SinkResponse};

/// A gap's event is short; more than it ever has.
const GAP_BODY: usize = 16 << 10;

/// An event, with all that is needed to send it and to account for it.
pub struct PendingEvent {
    pub lane: LaneKey,
    /// What it has to do with gaps of its lineage.
    pub barrier_role: BarrierRole,
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
    pub dead_letter: Option<Box<DeadLetter>>,
    /// It has let go of the page that brought it.
    pub is_detached: bool,
}

/// Lanes and requests move pointers to events.
pub type BoxedEvent = Box<PendingEvent>;

impl PendingEvent {
    /// The message that tells it. `destination` is the sink that would not take it, of a dead letter.
    pub fn message(&self, destination: &Uri) -> Message {
        let Some(letter) = &self.dead_letter else {
            return match &self.content {
                Entry::Record(record) => self.encoder.encode(record, self.recorded),
                Entry::Gap(gap) => encode_gap(gap, self.encoder.packaging(), self.recorded, &[]),
            };
        };
        let extensions = letter.extensions(destination);
        match &self.content {
            Entry::Record(record) if letter.is_without_data => {
                self.encoder.encode_without_data(record, self.recorded, &extensions)
            }
            Entry::Record(record) => self.encoder.encode_with(record, self.recorded, &extensions),
            Entry::Gap(gap) => encode_gap(gap, self.encoder.packaging(), self.recorded, &extensions),
        }
    }

    /// No less than the bytes that its message's body has, known without making it.
    pub fn body_bound(&self) -> usize {
        let letter = self.dead_letter.as_ref();
        let of_letter = letter.map_or(0, |_| DeadLetter::EXTENSIONS_LEN);
        match &self.content {
            Entry::Record(_) if letter.is_some_and(|letter| letter.is_without_data) => of_letter + GAP_BODY,
            Entry::Record(record) => self.encoder.body_bound(record) + of_letter,
            Entry::Gap(_) => GAP_BODY + of_letter,
        }
    }

    /// The bytes that its message's body has, computed without making it; of a dead letter, and of a gap, no less than that.
    pub fn body_len(&self) -> usize {
        match &self.content {
            Entry::Record(record) if self.dead_letter.is_none() => self.encoder.body_len(record, self.recorded),
            Entry::Record(_) => self.body_bound(),
            Entry::Gap(_) => self.message(&Uri::default()).body.len(),
        }
    }

    /// The `id` of its CloudEvent.
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

    /// It has come to its end.
    pub fn acknowledge(self: Box<Self>) {
        let Self { acknowledger, token, cost, .. } = *self;
        acknowledger.acknowledge(token, cost);
    }
}

impl LaneItem for BoxedEvent {
    fn detach(&mut self) {
        if !std::mem::replace(&mut self.is_detached, true)
            && let Entry::Record(record) = &mut self.content
        {
            record.detach();
        }
    }

    fn size(&self) -> usize {
        self.cost
    }

    fn barrier_role(&self) -> BarrierRole {
        self.barrier_role
    }

    fn may_be_left_out(&self) -> bool {
        self.token.as_ref().is_some_and(|token| self.acknowledger.may_leave_out(token))
    }

    fn is_left_out(&self) -> bool {
        self.token.as_ref().is_some_and(|token| self.acknowledger.is_left_out(token))
    }

    fn table(&self) -> usize {
        self.acknowledger.table()
    }
}

/// Stands for a failure without a status.
const NO_STATUS: u16 = 500;

/// Stands for a body that is too long to be sent.
const TOO_LONG: u16 = 413;

/// Why an event is a dead letter, in the extensions that Knative's dead letters have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The status of the last answer; 500 where there was none.
    code: u16,
    /// The beginning of the last answer's body.
    data: Bytes,
    /// It goes without the event's data, which is too long.
    is_without_data: bool,
}

impl DeadLetter {
    /// More bytes than its extensions add to a body: the text of what was answered is base64, and a URL is bounded by what servers take.
    const EXTENSIONS_LEN: usize = 2 * BODY_START + (8 << 10);

    /// After this response of the sink.
    pub fn after(response: &SinkResponse) -> Self {
        let (code, data) = match response {
            SinkResponse::Refused { status, body_start, .. } => (status.as_u16(), body_start.clone()),
            // The sink has answered so, and named the event among those that failed. Copied, because a dead letter can be
            // kept for long and would keep the whole body.
            SinkResponse::Accepted { status, body, .. } => {
                (status.as_u16(), Bytes::copy_from_slice(&body[..body.len().min(BODY_START)]))
            }
            SinkResponse::Failed { .. } => (NO_STATUS, Bytes::new()),
        };
        Self { code, data, is_without_data: false }
    }

    /// Of an event that was never sent, because its body would be too long.
    pub fn too_long(why: &str) -> Self {
        let why = format!("{why}; this dead letter has no data");
        Self { code: TOO_LONG, data: why.into(), is_without_data: true }
    }

    /// `knativeerrordest`, `knativeerrorcode` and, where there is some, `knativeerrordata`.
    fn extensions(&self, destination: &Uri) -> Vec<Extension> {
        let mut extensions = vec![
            ("knativeerrordest".to_owned(), ExtensionValue::String(without_query(destination))),
            ("knativeerrorcode".to_owned(), ExtensionValue::Integer(self.code.into())),
        ];
        if !self.data.is_empty() {
            extensions.push(("knativeerrordata".to_owned(), ExtensionValue::Binary(self.data.to_vec())));
        }
        extensions
    }
}

/// The URL as others may see it: a query may hold a token. Of its user the configuration has made a header already.
fn without_query(url: &Uri) -> String {
    let text = url.to_string();
    text.split_once('?').map_or(&*text, |(before, _)| before).to_owned()
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::sink::{BodyEnd, TransportError};

    #[test]
    fn a_dead_letter_keeps_the_beginning_of_a_long_answer_and_lets_go_of_the_rest() {
        let body = Bytes::from(vec![b'x'; 100_000]);
        let response = SinkResponse::Accepted { status: StatusCode::OK, body, end: BodyEnd::Whole };
        let letter = DeadLetter::after(&response);
        assert_eq!((letter.code, letter.data.len()), (200, BODY_START));
        let SinkResponse::Accepted { body, .. } = response else { unreachable!() };
        assert!(body.is_unique(), "the whole answer is kept for as long as the letter");
    }

    #[test]
    fn a_failure_without_an_answer_is_code_500_and_has_no_data() {
        let letter =
            DeadLetter::after(&SinkResponse::Failed { error: TransportError::Timeout, message: "late".to_owned() });
        let extensions = letter.extensions(&Uri::from_static("http://sink.example/"));
        let names: Vec<&str> = extensions.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["knativeerrordest", "knativeerrorcode"]);
        assert_eq!(extensions[1].1, ExtensionValue::Integer(500));
    }
}
