//! What a sink says of the single events of a batch that it has answered with success. Pure.
//!
//! The form is that of AWS Lambda: `{"batchItemFailures":[{"itemIdentifier":"<id or sequence number>"}]}`. Everything
//! that is not of this form means that all events were taken; a list that cannot be trusted means that none was.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

/// What some libraries write before their JSON: U+FEFF.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

const LIST: &[u8] = b"batchItemFailures";

/// Only the list is looked at: what else is there need not even be representable, such as half of a character.
#[derive(Deserialize)]
struct Form {
    #[serde(default, rename = "batchItemFailures")]
    failures: Option<Value>,
}

/// A sink's answer to a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It has taken all events.
    AllTaken,
    /// It names failures, but not which.
    AllFailed,
    /// It has taken all but these.
    Failed(BTreeSet<String>),
}

impl Reply {
    /// Reads the body of a 2xx; `complete` tells whether all of it is here.
    pub fn read(body: &[u8], complete: bool) -> Self {
        let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body).trim_ascii_start();
        match body.first() {
            Some(b'{') => {}
            Some(_) => return Self::AllTaken,
            None if complete => return Self::AllTaken,
            None => return Self::AllFailed,
        }
        if !complete {
            // The names of failures may be in what is missing.
            return Self::AllFailed;
        }
        match serde_json::from_slice::<Form>(body).map(|form| form.failures) {
            Ok(None | Some(Value::Null)) => Self::AllTaken,
            Ok(Some(Value::Array(failures))) if failures.is_empty() => Self::AllTaken,
            Ok(Some(Value::Array(failures))) => {
                let names: Option<BTreeSet<String>> = failures.iter().map(identifier).collect();
                names.map_or(Self::AllFailed, Self::Failed)
            }
            Ok(Some(_)) => Self::AllFailed,
            Err(_) if body.windows(LIST.len()).any(|part| part == LIST) => Self::AllFailed,
            Err(_) => Self::AllTaken,
        }
    }

    /// The reply as it stands for these events: a name that none of them has makes it [`Reply::AllFailed`].
    pub fn about<'n>(self, events: impl Iterator<Item = [&'n str; 3]>) -> Self {
        let Self::Failed(names) = &self else { return self };
        let known: BTreeSet<&str> =
            events.flat_map(|event| event.into_iter().filter(|name| names.contains(*name))).collect();
        if known.len() == names.len() { self } else { Self::AllFailed }
    }

    /// Whether an event of these names was taken.
    pub fn took(&self, event: [&str; 3]) -> bool {
        match self {
            Self::AllTaken => true,
            Self::AllFailed => false,
            Self::Failed(names) => !event.iter().any(|name| names.contains(*name)),
        }
    }
}

fn identifier(failure: &Value) -> Option<String> {
    failure.get("itemIdentifier")?.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [[&str; 3]; 3] = [["a", "1", "0001"], ["b", "2", "0002"], ["c", "3", "0003"]];

    fn taken(body: &str) -> Vec<&'static str> {
        let reply = Reply::read(body.as_bytes(), true).about(EVENTS.into_iter());
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
            r#"[{"batchItemFailures":[{"itemIdentifier":"a"}]}]"#,
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
        ] {
            assert_eq!(taken(body).len(), 0, "{body}");
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
        assert_eq!(Reply::read(br#" {"batchItemFailures":[{"itemId"#, false), Reply::AllFailed);
        assert_eq!(Reply::read(b"thank yo", false), Reply::AllTaken);
        assert_eq!(Reply::read(b"", false), Reply::AllFailed, "its body never came");
        assert_eq!(Reply::read(b" \r\n", false), Reply::AllFailed);
        assert_eq!(Reply::read(b"", true), Reply::AllTaken);
    }
}
