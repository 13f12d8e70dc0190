//! An HTTP response as an [`Answer`].

use std::time::Duration;

use ::http::header::RETRY_AFTER;
use ::http::{HeaderMap, response};
use bytes::Bytes;

use super::body::Body;
use crate::sink::{Answer, BODY_START, RetryAfter};

/// The answer that a response is.
pub(super) fn from_parts(head: &response::Parts, body: Body) -> Answer {
    let Body { bytes: body, complete } = body;
    let status = head.status;
    if status.is_success() {
        return Answer::Accepted { status, body, complete };
    }
    // Copied, because a refusal can be kept for long and would keep the whole body.
    let body_start = Bytes::copy_from_slice(&body[..body.len().min(BODY_START)]);
    Answer::Refused { status, retry_after: retry_after(&head.headers), body_start }
}

/// RFC 9110, section 10.2.3: a number of seconds, or a date in any of HTTP's three forms.
fn retry_after(headers: &HeaderMap) -> Option<RetryAfter> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(RetryAfter::Delay(Duration::from_secs(seconds)));
    }
    httpdate::parse_http_date(text).ok().map(RetryAfter::At)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn parse(text: &'static str) -> Option<RetryAfter> {
        retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().expect("a header value"))]))
    }

    #[test]
    fn seconds_and_all_three_kinds_of_date_are_understood() {
        assert_eq!(parse("120"), Some(RetryAfter::Delay(Duration::from_secs(120))));
        assert_eq!(parse("0"), Some(RetryAfter::Delay(Duration::ZERO)));
        let date = Some(RetryAfter::At(UNIX_EPOCH + Duration::from_secs(784_111_777)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), date);
        assert_eq!(parse("Sunday, 06-Nov-94 08:49:37 GMT"), date);
        assert_eq!(parse("Sun Nov  6 08:49:37 1994"), date);
    }

    #[test]
    fn nonsense_is_no_request_to_wait_and_no_number_is_too_long() {
        for text in ["", "soon", "-1", "1.5", "+3"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse("99999999999999999999999"), Some(RetryAfter::Delay(Duration::from_secs(u64::MAX))));
    }
}
