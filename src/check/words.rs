//! Errors in one line.

use std::error::Error;

/// An error and its causes, joined; a cause that its effect repeats is left out.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}
