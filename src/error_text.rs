//! Errors and other texts from outside, as one line for logs, reports and `/status`. Pure.
//!
//! Contract: whatever others wrote passes [`shown`] before people see it, here alone: it is one line, of bounded length, without
//! credentials. [`causes`] does so with what it joins.

mod redaction;

use std::error::Error;
use std::{io, iter};

use self::redaction::without_secrets;

/// How many characters of a text are shown. A message that helps is shorter; some services repeat the whole request.
pub const MOST_CHARS: usize = 1000;

/// How many characters of a text are looked at.
const MOST_READ: usize = 8 * MOST_CHARS;

/// How many causes of an error are told.
const MOST_CAUSES: usize = 16;

/// An error or one of its causes.
pub(crate) type Cause<'e> = &'e (dyn Error + 'static);

/// An error and everything beneath it, the outermost first.
///
/// What an [`io::Error`] carries inside is a cause that its `source` does not name.
pub(crate) fn chain(error: Cause<'_>) -> impl Iterator<Item = Cause<'_>> {
    iter::successors(Some(error), |&cause| match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner as Cause<'_>),
        None => cause.source(),
    })
}

/// The error and its causes, joined by `: `, as they may be [`shown`]. A cause that the text before it already contains is left out.
///
/// It prints no `Debug`, which can hold secrets.
pub(crate) fn causes(error: Cause<'_>) -> String {
    let mut text = String::new();
    for cause in chain(error).take(MOST_CAUSES).map(|cause| beginning(&cause.to_string(), MOST_READ).to_owned()) {
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    shown(&text)
}

/// A text that others wrote as people may see it: one line, at most [`MOST_CHARS`] characters of it and a mark that there was more,
/// without what looks like credentials.
pub fn shown(text: &str) -> String {
    let line = without_secrets(&one_line(beginning(text, MOST_READ)));
    match beginning(&line, MOST_CHARS) {
        whole if whole.len() == line.len() => line,
        cut => format!("{cut}…"),
    }
}

/// Whether a text has something that looks like credentials, of which [`shown`] leaves them out.
pub(crate) fn holds_secret(text: &str) -> bool {
    without_secrets(text) != text
}

/// The text with a space for every control character, so that it neither adds lines to a log nor controls a terminal, nor shows what it
/// says in another order.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() || is_invisible(letter) { ' ' } else { letter }).collect()
}

/// Separators of lines and paragraphs, and characters that take no room or turn the order of others.
///
/// Source: "Bidi_Control" and "Default_Ignorable_Code_Point" in the Unicode Character Database, those of General Punctuation.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// At most this many characters from the beginning of the text.
pub(crate) fn beginning(text: &str, most_chars: usize) -> &str {
    text.char_indices().nth(most_chars).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Failed {
        text: &'static str,
        #[source]
        cause: Option<Box<dyn Error + Send + Sync>>,
    }

    fn failed(text: &'static str, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Failed {
        Failed { text, cause: Some(cause.into()) }
    }

    #[test]
    fn causes_are_joined_and_none_is_repeated() {
        let inner = failed("cannot connect", failed("timed out: no route", "no route"));
        assert_eq!(causes(&failed("dispatch failure", inner)), "dispatch failure: cannot connect: timed out: no route");
        assert_eq!(causes(&Failed { text: "alone", cause: None }), "alone");
    }

    #[test]
    fn what_an_io_error_carries_is_a_cause() {
        let error = io::Error::other(failed("bad certificate", "expired"));
        assert!(chain(&error).any(|cause| cause.is::<Failed>()));
        assert_eq!(causes(&error), "bad certificate: expired");
    }

    #[test]
    fn a_text_from_outside_is_one_short_line_without_secrets() {
        let hostile = format!("a\r\nx-amz-security-token:{}\nb", "secret".repeat(100));
        assert_eq!(shown(&hostile), "a  x-amz-security-token:[redacted] b");
        assert_eq!(shown(&"é".repeat(MOST_CHARS)), "é".repeat(MOST_CHARS));
        assert_eq!(shown(&"é ".repeat(100_000)).chars().count(), MOST_CHARS + 1);
        assert_eq!(causes(&failed("bad", "http://u:hunter2@host/?hunter2")), "bad: http://[redacted]@host/?[redacted]");
    }

    #[test]
    fn a_text_becomes_one_line_and_is_cut_between_characters() {
        assert_eq!(one_line("a\r\nb\u{0}c"), "a  b c");
        assert_eq!(one_line("a\u{2028}b\u{202e}c\u{2066}d\u{feff}e"), "a b c d e");
        assert_eq!(beginning("éé", 2), "éé");
        assert_eq!(beginning("ééé", 2), "éé");
    }
}
