//! Errors and other texts from outside, as one line for logs, reports and `/status`. Pure.

use std::error::Error;
use std::{io, iter};

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

/// The error and its causes, joined by `: `. A cause that the text before it already contains is left out.
///
/// It prints no `Debug`, which can hold secrets.
pub(crate) fn causes(error: Cause<'_>) -> String {
    let mut text = String::new();
    for cause in chain(error).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    text
}

/// The text with a space for every control character, so that it neither adds lines to a log nor controls a terminal.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
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
    fn a_text_becomes_one_line_and_is_cut_between_characters() {
        assert_eq!(one_line("a\r\nb\u{0}c"), "a  b c");
        assert_eq!(beginning("éé", 2), "éé");
        assert_eq!(beginning("ééé", 2), "éé");
    }
}
