//! What parses that which others send, as targets for a fuzzer: each takes any bytes and panics where a promise is broken.
//!
//! `fuzz/` feeds them; `cargo test` feeds them the inputs in `fuzz/corpus/`, among which are all that were ever found. Only tests and
//! the feature `fuzzing` have this file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};

use crate::checkpoint;
use crate::config::{Config, EnvironmentFacts, EventData, EventMode, EventProfile, GivenValue};
use crate::delivery::response_class::{BatchResponse, FailedResponse};
use crate::error_text::{MOST_CHARS, shown};
use crate::event::{Encoder, EncoderSettings, Packaging};
use crate::records::{Page, Record};
use crate::sink::{BodyEnd, HttpSink, SinkResponse, redirect_target};

/// One parser, or several that get the same.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of its folder in `fuzz/corpus/`.
    pub name: &'static str,
    /// Panics where a promise is broken.
    pub feed: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 10] = [
    Target { name: "page", feed: page },
    Target { name: "keys", feed: keys },
    Target { name: "image", feed: image },
    Target { name: "batch_response", feed: batch_response },
    Target { name: "response_headers", feed: response_headers },
    Target { name: "positions_file", feed: positions_file },
    Target { name: "positions_entry", feed: positions_entry },
    Target { name: "overrides", feed: overrides },
    Target { name: "environment", feed: environment },
    Target { name: "error_text", feed: error_text },
];

/// An answer of `GetRecords`.
fn page(input: &[u8]) {
    if let Ok(page) = Page::parse(Bytes::copy_from_slice(input)) {
        assert_eq!(page.bytes, input.len());
        page.records.iter().flatten().for_each(encode);
    }
}

/// The key of an item.
fn keys(input: &[u8]) {
    within(r#"{"Records":[{"eventID":"e","eventName":"REMOVE","dynamodb":{"SequenceNumber":"1","Keys":"#, input);
}

/// An image of an item, in all forms.
fn image(input: &[u8]) {
    let before = r#"{"Records":[{"eventID":"e","eventName":"MODIFY","dynamodb":{"SequenceNumber":"1","Keys":{"k":{"S":"a"}},"NewImage":"#;
    within(before, input);
}

fn within(before: &str, input: &[u8]) {
    page(&[before.as_bytes(), input, b"}}]}"].concat());
}

/// Makes a record's event in every form and mode. Its length is known before it is made, and what is JSON is JSON.
fn encode(record: &Record) {
    let forms = [
        (EventProfile::Aws, EventData::DynamodbJson),
        (EventProfile::Aws, EventData::Json),
        (EventProfile::Triggermesh, EventData::DynamodbJson),
        (EventProfile::IntegrationSource, EventData::DynamodbJson),
    ];
    for (profile, data) in forms {
        for mode in [EventMode::Binary, EventMode::Structured] {
            let encoder = Encoder::new(EncoderSettings {
                profile,
                data,
                packaging: Packaging::new(mode, &BTreeMap::new()),
                table_arn: "arn:aws:dynamodb:eu-west-1:123456789012:table/t".to_owned(),
                stream_arn: "arn:aws:dynamodb:eu-west-1:123456789012:table/t/stream/s".to_owned(),
                key_schema: vec!["k".to_owned()],
                sequence_width: 40,
            });
            let message = encoder.encode(record, SystemTime::UNIX_EPOCH);
            let body = &message.body;
            assert_eq!(body.len(), encoder.body_len(record, SystemTime::UNIX_EPOCH), "{profile:?} {data:?} {mode:?}");
            assert!(body.len() <= encoder.body_bound(record), "{profile:?} {data:?} {mode:?}");
            let parsed = serde_json::from_slice::<serde::de::IgnoredAny>(body);
            assert!(parsed.is_ok(), "{profile:?} {data:?} {mode:?}: {parsed:?}");
        }
    }
}

/// The body of a sink's answer to a batch.
fn batch_response(input: &[u8]) {
    for end in [BodyEnd::Whole, BodyEnd::Unclosed, BodyEnd::Cut, BodyEnd::Illegible] {
        let response = BatchResponse::read(input, end);
        let names = ["e", "1", "0001"];
        let took = response.took(names);
        match response.about([names].into_iter()) {
            BatchResponse::AllTaken => assert!(took),
            BatchResponse::Failed(failed) => assert!(!took && failed.iter().all(|name| names.contains(&&**name))),
            BatchResponse::AllFailed(_) => {}
        }
    }
}

/// `Retry-After` and `Location`.
fn response_headers(input: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(input) else { return };
    let headers = HeaderMap::from_iter([(RETRY_AFTER, value.clone()), (LOCATION, value)]);
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let refused =
        SinkResponse::Refused { status, retry_after: HttpSink::retry_after(&headers), body_start: Bytes::new() };
    assert!(FailedResponse::of(&refused, SystemTime::UNIX_EPOCH).is_some());
    for from in ["http://sink.example:80/a/b?c", "https://user-agent.example/"] {
        let from = Uri::from_static(from);
        if let Some(target) = redirect_target(&from, StatusCode::TEMPORARY_REDIRECT, &headers) {
            assert_eq!((target.scheme(), target.authority()), (from.scheme(), from.authority()));
        }
    }
}

/// A file of positions.
fn positions_file(input: &[u8]) {
    checkpoint::fuzz_file(input);
}

/// An item of a table of positions: its sort key, a line break, and its attributes.
fn positions_entry(input: &[u8]) {
    let Some((key, members)) = std::str::from_utf8(input).ok().and_then(|text| text.split_once('\n')) else { return };
    if let Ok(members) = serde_json::from_str(members) {
        checkpoint::dynamodb::fuzz_entry(key, &members);
    }
}

/// `K_CE_OVERRIDES`.
fn overrides(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        read([("TABLE", "orders"), ("K_SINK", "http://sink/"), ("K_CE_OVERRIDES", text)].into_iter());
    }
}

/// A password, and URLs with it as people mistype them.
const PASSWORD: &str = "hunter2Qz";
const MISTYPED: [&str; 8] = [
    "http://user:hunter2Qz@host/",
    "http://user:hunter2Qzhost/",
    "http://user:hun ter@hunter2Qz@host/",
    "http//user:hunter2Qzhost",
    "https:/user:hunter2Qz",
    "HTTPS:user:hunter2Qz@",
    "file://host/?token=hunter2Qz",
    "user:hunter2Qz%40host",
];

/// Variables, a line each. Whichever of them a password is put into, nobody sees it.
fn environment(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let variables: Vec<(&str, &str)> = text.split('\n').filter_map(|line| line.split_once('=')).collect();
    read(variables.iter().copied());
    if variables.is_empty() || text.contains(PASSWORD) {
        return;
    }
    let sum: usize = input.iter().map(|byte| usize::from(*byte)).sum();
    let (place, form) = (sum % variables.len(), MISTYPED[input.len() % MISTYPED.len()]);
    let (name, value) = variables[place];
    let half = value.char_indices().nth(value.chars().count() / 2).map_or(0, |(at, _)| at);
    for spoilt in [form.to_owned(), format!("{value},{form}"), format!("{}{form}{}", &value[..half], &value[half..])] {
        let others = variables.iter().copied().enumerate().filter(|(at, _)| *at != place).map(|(_, other)| other);
        read(others.chain([(name, &*spoilt)]));
    }
}

fn read<'t>(variables: impl Iterator<Item = (&'t str, &'t str)>) {
    let assert_shown = |said: String| {
        assert!(!said.is_empty() && !said.contains(PASSWORD), "a password may be in it: {said}");
    };
    let now = SystemTime::UNIX_EPOCH;
    let facts =
        EnvironmentFacts { now, stdout_is_terminal: false, open_files: Some(1024), memory_limit: Some(1 << 30) };
    let variables = variables.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    match Config::from_env_vars(variables, &facts) {
        Ok(config) => config.warnings.iter().for_each(|warning| assert_shown(warning.to_string())),
        Err(mistakes) => {
            mistakes.mistakes.iter().for_each(|mistake| {
                let is_shown = matches!(&mistake.given, GivenValue::Text(text) if text.contains('@'));
                assert!(!is_shown, "a user and a password may be in it: {mistake}");
            });
            assert_shown(mistakes.to_string());
        }
    }
}

/// An error's text, which is shown once or twice, and what in the midst of it must not be seen.
fn error_text(input: &[u8]) {
    const PASSWORD: &str = "hunter2-hunter2";
    // Of a password that is no secret's nobody could tell.
    let text = String::from_utf8_lossy(input).replace(PASSWORD, "");
    let secrets = ["http://user:{}@host/", "password={}", "\"secretKey\": \"{}\"", "Authorization: Bearer {}"];
    let middle = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(at, _)| at);
    let (before, behind) = text.split_at(middle);
    for secret in secrets.map(|secret| secret.replace("{}", PASSWORD)) {
        let once = shown(&format!("{before} {secret} {behind}"));
        for text in [&once, &shown(&once)] {
            assert!(text.chars().count() <= MOST_CHARS + 1 && !text.contains(char::is_control), "{text:?}");
            assert!(!text.contains(PASSWORD), "{text:?} shows what {secret} holds");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn no_input_of_the_corpus_breaks_a_promise() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for target in TARGETS {
            let inputs = std::fs::read_dir(corpus.join(target.name)).expect("a folder for each target");
            let inputs: Vec<_> = inputs.map(|input| input.expect("an input").path()).collect();
            assert!(!inputs.is_empty(), "{} has no inputs", target.name);
            for input in inputs {
                println!("{}", input.display());
                (target.feed)(&std::fs::read(&input).expect("a file"));
            }
        }
    }
}
