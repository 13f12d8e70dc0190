//! A record becomes a CloudEvent, and a CloudEvent an HTTP message. Nothing here does I/O, reads a clock or fails.
//!
//! Three settings are independent of each other, and each has its file: which attributes an event has
//! ([`EventProfile`](crate::config::EventProfile), `profile.rs`), the form of its data
//! ([`EventData`](crate::config::EventData), `data.rs`), and how both travel
//! ([`EventMode`](crate::config::EventMode), `http.rs`). [`Encoder`] joins them.

pub(crate) mod http;

mod data;
mod encoder;
mod output;
mod profile;

pub use self::encoder::{Encoder, EncoderSettings};
pub(crate) use self::encoder::{encode_gap, gap_id};
pub(crate) use self::http::Extension;
pub use self::http::{Message, Packaging};
pub(crate) use cloudevents::message::MessageAttributeValue as ExtensionValue;

use self::http::SharedText;
use crate::records::{PADDED_DIGITS, Record};

/// What attributes and data may know of the table whose record an event tells.
#[derive(Debug, Clone)]
struct EventContext {
    table_arn: SharedText,
    stream_arn: SharedText,
    /// The stream's region; empty where its ARN names none.
    region: String,
    /// The names of the key's attributes, partition key first.
    key_schema: Vec<String>,
    /// To how many digits sequence numbers are padded.
    sequence_width: usize,
}

impl EventContext {
    fn new(table_arn: String, stream_arn: String, key_schema: Vec<String>) -> Self {
        let region = stream_arn.split(':').nth(3).unwrap_or_default().to_owned();
        let (table_arn, stream_arn) = (SharedText::new(&table_arn), SharedText::new(&stream_arn));
        Self { table_arn, stream_arn, region, key_schema, sequence_width: PADDED_DIGITS }
    }

    fn sequence(&self, record: &Record) -> String {
        record.sequence_number().padded(self.sequence_width)
    }
}
