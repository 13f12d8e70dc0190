//! What a response of the sink means for each event of the request. Pure.
//!
//! Contract:
//! - A 2xx is a success, whatever else is odd about it; in batch mode its body may name events that were not taken.
//! - Everything else is a fault of the sink, and the same event may work later, or of the event: then another try would fail in the same
//!   way. 401 and 403 are faults of the sink's set-up, 404 of its routing; a proxy or a broker answers them while it is being changed.
//!   Redirects that are not followed and all other 4xx say that this request will never be taken.
//!
//! What names failed events has the form of AWS Lambda: `{"batchItemFailures":[{"itemIdentifier":"<id or sequence number>"}]}`, also in
//! the spelling of .NET (`BatchItemFailures`, `ItemIdentifier`). An answer that does not speak of failures means that all events were
//! taken. One that does in another form, and one that could not be read, mean that none was.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::sink::{BodyEnd, RetryAfter, SinkResponse, TransportError, without_mark};

/// What a response of the sink, or its absence, means for the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseClass {
    Delivered,
    /// The sink asks for less: 429, 503.
    Overloaded,
    /// No connection, or no answer in time.
    Unreachable,
    /// Another fault of the sink: the same event may work later.
    SinkFault,
    /// The fault lies with the event: another try would fail in the same way.
    EventFault,
    /// The sink took the request and says that it did not take this event.
    NotTaken,
    /// Nothing was sent, for want of something of this process: no event pays for that.
    Unsent,
}

impl ResponseClass {
    /// Of an HTTP status.
    pub fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Delivered,
            429 | 503 => Self::Overloaded,
            401 | 403 | 404 | 408 | 409 | 425 | 500..=599 => Self::SinkFault,
            _ => Self::EventFault,
        }
    }

    fn of_error(error: TransportError) -> Self {
        match error {
            _ if error.is_own() => Self::Unsent,
            TransportError::Timeout | TransportError::Connect => Self::Unreachable,
            _ => Self::SinkFault,
        }
    }
}

/// Why a request failed as a whole, or an event of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedResponse {
    pub class: ResponseClass,
    /// How long the sink asks to be left alone; 429 and 503 alone may ask.
    pub retry_after: Option<Duration>,
    /// In a line for people.
    pub why: String,
}

impl FailedResponse {
    /// What was wrong at the moment `now`; nothing if the request was accepted.
    pub fn of(response: &SinkResponse, now: SystemTime) -> Option<Self> {
        match response {
            SinkResponse::Accepted { .. } => None,
            SinkResponse::Refused { status, .. } if status.is_success() => {
                let code = status.as_u16();
                let why =
                    format!("the sink answers with {code}, but X-Amz-Function-Error says that its function failed");
                Some(Self { class: ResponseClass::NotTaken, retry_after: None, why })
            }
            SinkResponse::Refused { status, retry_after, .. } => {
                let class = ResponseClass::of_status(status.as_u16());
                let retry_after = retry_after.filter(|_| class == ResponseClass::Overloaded);
                let retry_after = retry_after.map(|asked| pause_from(asked, now));
                Some(Self { class, retry_after, why: format!("HTTP {status}") })
            }
            SinkResponse::Failed { error, message } => {
                Some(Self { class: ResponseClass::of_error(*error), retry_after: None, why: message.clone() })
            }
        }
    }

    /// The sink's answer to a batch does not count an event as taken.
    pub fn not_taken(reply: &BatchResponse) -> Self {
        let why = match reply {
            BatchResponse::AllFailed(why) => format!("the sink answers with success, but {why}"),
            _ => "the sink answers with success, but names this event as failed".to_owned(),
        };
        Self { class: ResponseClass::NotTaken, retry_after: None, why }
    }
}

fn pause_from(asked: RetryAfter, now: SystemTime) -> Duration {
    match asked {
        RetryAfter::Delay(pause) => pause,
        RetryAfter::At(moment) => moment.duration_since(now).unwrap_or_default(),
    }
}

/// The list's name without what spellings differ in.
const LIST: &[u8] = b"batchitemfailures";

const NAMES_STRANGERS: &str = "its answer names failures that are not of these events";
const NOT_UNDERSTOOD: &str = "its answer speaks of batchItemFailures in a form that is not understood";
const CUT: &str = "its answer is not whole";
const ILLEGIBLE: &str = "its answer is compressed in a way that is not understood";

/// Only the list is looked at: what else is there need not even be representable, such as half of a character.
#[derive(Deserialize)]
struct Form {
    #[serde(default, rename = "batchItemFailures", alias = "BatchItemFailures", deserialize_with = "present")]
    failures: Option<Value>,
}

/// Tells `null` from a member that is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// A sink's answer to a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchResponse {
    /// It has taken all events.
    AllTaken,
    /// It may have taken none of them, and why.
    AllFailed(&'static str),
    /// It has taken all but these.
    Failed(BTreeSet<String>),
}

impl BatchResponse {
    /// Reads the body of a 2xx.
    pub fn read(body: &[u8], end: BodyEnd) -> Self {
        let body = without_mark(body).trim_ascii_start();
        match end {
            BodyEnd::Illegible => return Self::AllFailed(ILLEGIBLE),
            BodyEnd::Cut if body.is_empty() => return Self::AllFailed(CUT),
            _ => {}
        }
        let is_object = body.first() == Some(&b'{');
        match serde_json::from_slice::<Form>(body).map(|form| form.failures) {
            Ok(Some(Value::Array(failures))) if is_object => {
                let names: Option<BTreeSet<String>> = failures.iter().map(identifier).collect();
                match names {
                    Some(names) if names.is_empty() => Self::AllTaken,
                    Some(names) => Self::Failed(names),
                    None => Self::AllFailed(NOT_UNDERSTOOD),
                }
            }
            Ok(Some(Value::Null)) if is_object => Self::AllTaken,
            // The names of failures may be in what is missing.
            Err(_) if is_object && end != BodyEnd::Whole => Self::AllFailed(CUT),
            _ if speaks_of_failures(body) => Self::AllFailed(NOT_UNDERSTOOD),
            _ => Self::AllTaken,
        }
    }

    /// The reply as it stands for these events: a name that none of them has makes it [`BatchResponse::AllFailed`].
    pub fn about<'n>(self, events: impl Iterator<Item = [&'n str; 3]>) -> Self {
        let Self::Failed(names) = &self else { return self };
        let known: BTreeSet<&str> =
            events.flat_map(|event| event.into_iter().filter(|name| names.contains(*name))).collect();
        if known.len() == names.len() { self } else { Self::AllFailed(NAMES_STRANGERS) }
    }

    /// Whether an event of these names was taken.
    pub fn took(&self, event: [&str; 3]) -> bool {
        match self {
            Self::AllTaken => true,
            Self::AllFailed(_) => false,
            Self::Failed(names) => !event.iter().any(|name| names.contains(*name)),
        }
    }
}

/// Whether the list's name is there in any spelling: with other capitals, hyphens or underscores, in UTF-16, inside a text.
fn speaks_of_failures(body: &[u8]) -> bool {
    let letters = body.iter().filter(|byte| !matches!(**byte, b'_' | b'-' | 0)).map(u8::to_ascii_lowercase);
    let letters: Vec<u8> = letters.collect();
    letters.windows(LIST.len()).any(|part| part == LIST)
}

fn identifier(failure: &Value) -> Option<String> {
    let name = failure.get("itemIdentifier").or_else(|| failure.get("ItemIdentifier"));
    name?.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_the_contract_is_judged_as_it_says() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(ResponseClass::of_status(status), ResponseClass::Delivered, "{status}");
        }
        for status in [429, 503] {
            assert_eq!(ResponseClass::of_status(status), ResponseClass::Overloaded, "{status}");
        }
        for status in [401, 403, 404, 408, 409, 425, 500, 502, 504, 599] {
            assert_eq!(ResponseClass::of_status(status), ResponseClass::SinkFault, "{status}");
        }
        for status in [100, 300, 301, 302, 307, 308, 400, 402, 405, 410, 411, 413, 414, 415, 422, 426, 431, 451, 600] {
            assert_eq!(ResponseClass::of_status(status), ResponseClass::EventFault, "{status}");
        }
    }

    const EVENTS: [[&str; 3]; 3] = [["a", "1", "0001"], ["b", "2", "0002"], ["c", "3", "0003"]];

    fn taken(body: &str) -> Vec<&'static str> {
        taken_of(body.as_bytes(), BodyEnd::Whole)
    }

    fn taken_of(body: &[u8], end: BodyEnd) -> Vec<&'static str> {
        let reply = BatchResponse::read(body, end).about(EVENTS.into_iter());
        EVENTS.into_iter().filter(|event| reply.took(*event)).map(|[id, _, _]| id).collect()
    }

    #[test]
    fn an_event_is_named_by_its_id_or_by_its_sequence_number_in_either_form() {
        for name in ["b", "2", "0002"] {
            let body = format!(r#"{{"batchItemFailures":[{{"itemIdentifier":"{name}"}}],"more":1}}"#);
            assert_eq!(taken(&body), ["a", "c"], "{name}");
        }
        let two = r#" {"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"3"},{"itemIdentifier":"c"}]}"#;
        assert_eq!(taken(two), ["b"]);
    }

    #[test]
    fn an_answer_of_another_form_is_success() {
        for body in [
            "",
            "OK",
            "{}",
            "null",
            "[]",
            r#"{"batchItemFailures":null}"#,
            r#"{"batchItemFailures":[]}"#,
            r#"{"failures":[{"itemIdentifier":"a"}]}"#,
            r#"{"BatchItemFailures":null}"#,
            r#"{"BatchItemFailures":[]}"#,
            r#"{"batch":{"item":"failures"}}"#,
            "no item of the batch is a failure",
            "{\"failures\":",
            "{ok}",
        ] {
            assert_eq!(taken(body).len(), 3, "{body}");
        }
    }

    #[test]
    fn failures_that_cannot_be_understood_are_failures_of_all() {
        for body in [
            r#"{"batchItemFailures":[{"itemIdentifier":"stranger"}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"stranger"}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":7}]}"#,
            r#"{"batchItemFailures":[{"id":"a"}]}"#,
            r#"{"batchItemFailures":["a"]}"#,
            r#"{"batchItemFailures":"a"}"#,
            r#"{"batchItemFailures":true}"#,
            r#"{"batchItemFailures":"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"a"}]} and more"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"a"}],"batchItemFailures":[]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"a","why":"\ud83d"}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"a"}],"BatchItemFailures":[]}"#,
            r#"{"batch_item_failures":[{"item_identifier":"a"}]}"#,
            r#"{"batch-item-failures":[{"item-identifier":"a"}]}"#,
            r#"{"BATCHITEMFAILURES":[{"ITEMIDENTIFIER":"a"}]}"#,
            r#"{"batchItemFailures":[{"itemidentifier":"a"}]}"#,
            // What a proxy in front of a function makes of its answer.
            r#"{"statusCode":200,"body":"{\"batchItemFailures\":[{\"itemIdentifier\":\"a\"}]}"}"#,
            r#""{\"batchItemFailures\":[{\"itemIdentifier\":\"a\"}]}""#,
            r#"[{"batchItemFailures":[{"itemIdentifier":"a"}]}]"#,
            r#"{"result":{"batchItemFailures":[{"itemIdentifier":"a"}]}}"#,
            "<batchItemFailures><itemIdentifier>a</itemIdentifier></batchItemFailures>",
            ")]}',\n{\"batchItemFailures\":[{\"itemIdentifier\":\"a\"}]}",
        ] {
            assert_eq!(taken(body).len(), 0, "{body}");
        }
        let utf_16: Vec<u8> =
            r#"{"batchItemFailures":[{"itemIdentifier":"a"}]}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(taken_of(&utf_16, BodyEnd::Whole).len(), 0, "UTF-16");
    }

    /// The default of Newtonsoft's serializer.
    #[test]
    fn the_members_may_be_written_as_dot_net_writes_them() {
        for body in [
            r#"{"BatchItemFailures":[{"ItemIdentifier":"b"}]}"#,
            r#"{"batchItemFailures":[{"ItemIdentifier":"b"}]}"#,
            r#"{"BatchItemFailures":[{"itemIdentifier":"b"}]}"#,
        ] {
            assert_eq!(taken(body), ["a", "c"], "{body}");
        }
    }

    #[test]
    fn what_stands_beside_the_names_does_not_hide_them() {
        let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
        for beside in [r#""half of \ud83d""#, "1e999", &deep] {
            let list = r#""batchItemFailures":[{"itemIdentifier":"b"}]"#;
            assert_eq!(taken(&format!(r#"{{"why":{beside},{list}}}"#)), ["a", "c"], "{beside}");
            assert_eq!(taken(&format!(r#"{{{list},"why":{beside}}}"#)), ["a", "c"], "{beside}");
            assert_eq!(taken(&format!(r#"{{"batchItemFailures":[],"why":{beside}}}"#)).len(), 3, "{beside}");
        }
        let marked = "\u{feff}{\"batchItemFailures\":[{\"itemIdentifier\":\"b\"}]}";
        assert_eq!(taken(marked), ["a", "c"], "a byte order mark");
    }

    #[test]
    fn an_answer_that_was_cut_may_have_named_any_of_them() {
        for end in [BodyEnd::Cut, BodyEnd::Unclosed] {
            for body in [&br#" {"batchItemFailures":[{"itemId"#[..], b"{", br#"{"ok":tru"#] {
                assert_eq!(BatchResponse::read(body, end), BatchResponse::AllFailed(CUT), "{end:?}");
            }
            assert_eq!(BatchResponse::read(b"thank yo", end), BatchResponse::AllTaken, "{end:?}");
        }
        assert_eq!(BatchResponse::read(b"", BodyEnd::Cut), BatchResponse::AllFailed(CUT), "its body never came");
        assert_eq!(BatchResponse::read(b" \r\n", BodyEnd::Cut), BatchResponse::AllFailed(CUT));
        assert_eq!(BatchResponse::read(b"", BodyEnd::Whole), BatchResponse::AllTaken);
    }

    /// Servers that end TLS without a word, and bodies that end with the connection: the document says that it is whole.
    #[test]
    fn a_whole_document_is_read_however_its_connection_ended() {
        for end in [BodyEnd::Whole, BodyEnd::Unclosed, BodyEnd::Cut] {
            assert_eq!(taken_of(b"{}", end).len(), 3, "{end:?}");
            assert_eq!(taken_of(br#"{"batchItemFailures":[{"itemIdentifier":"b"}]}"#, end), ["a", "c"], "{end:?}");
        }
        assert_eq!(taken_of(b"", BodyEnd::Unclosed).len(), 3, "an empty body is a success");
    }

    #[test]
    fn what_cannot_be_read_is_no_success() {
        assert_eq!(BatchResponse::read(b"\x1b\x02\x80{}\x03", BodyEnd::Illegible), BatchResponse::AllFailed(ILLEGIBLE));
        assert_eq!(BatchResponse::read(b"{}", BodyEnd::Illegible), BatchResponse::AllFailed(ILLEGIBLE));
    }
}
