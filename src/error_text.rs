//! Errors in one line, and time limits.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

/// An error and its causes, joined; a cause that its effect repeats is left out.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
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

/// What `work` gives, or what is to be said when it takes longer than `limit`.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, String> {
    let answer = tokio::time::timeout(limit, work).await;
    answer.map_err(|_| format!("no answer within {}", humantime::format_duration(limit)))
}
