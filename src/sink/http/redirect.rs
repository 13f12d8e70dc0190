//! Redirects that are followed: 307 and 308 within the sink's own scheme, host and port.

use ::http::header::LOCATION;
use ::http::{HeaderMap, StatusCode, Uri};
use url::Url;

/// Where to send the message instead; nothing where the answer stands as it is.
pub(super) fn target(from: &Uri, status: StatusCode, headers: &HeaderMap) -> Option<Uri> {
    if !matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
        return None;
    }
    let base = Url::parse(&from.to_string()).ok()?;
    let mut target = base.join(headers.get(LOCATION)?.to_str().ok()?).ok()?;
    if target.origin() != base.origin() {
        return None;
    }
    target.set_fragment(None);
    target.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target_of(from: &'static str, location: &'static str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, location.parse().expect("a header value"));
        let found = target(&Uri::from_static(from), StatusCode::TEMPORARY_REDIRECT, &headers);
        found.map(|uri| uri.to_string())
    }

    #[test]
    fn a_location_within_the_host_is_resolved() {
        for (location, expected) in [
            ("http://sink.example/b?x=1#part", "http://sink.example/b?x=1"),
            ("http://SINK.example:80/b", "http://sink.example/b"),
            ("//sink.example/b", "http://sink.example/b"),
            ("/b", "http://sink.example/b"),
            ("b", "http://sink.example/a/b"),
            ("?y", "http://sink.example/a/start?y"),
        ] {
            assert_eq!(target_of("http://sink.example/a/start", location).as_deref(), Some(expected), "{location}");
        }
    }

    #[test]
    fn a_location_elsewhere_is_not_followed() {
        for location in
            ["https://sink.example/", "http://sink.example:81/", "http://other.example/", "ftp://sink.example/", "//["]
        {
            assert_eq!(target_of("http://sink.example/", location), None, "{location}");
        }
    }

    #[test]
    fn only_redirects_that_keep_method_and_body_are_followed() {
        let headers = HeaderMap::from_iter([(LOCATION, "/b".parse().expect("a header value"))]);
        let from = Uri::from_static("http://sink.example/");
        for status in [200, 300, 301, 302, 303, 305, 404] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(target(&from, status, &headers), None, "{status}");
        }
        assert_eq!(target(&from, StatusCode::PERMANENT_REDIRECT, &HeaderMap::new()), None, "no location");
    }
}
