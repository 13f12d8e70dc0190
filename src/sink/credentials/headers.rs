//! What the files of a token and of headers hold.

use ::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use ::http::{HeaderMap, HeaderName, HeaderValue};

/// The most bytes of a file with a token or with headers.
pub(super) const FILE_LIMIT: u64 = 64 * 1024;

/// What the client itself says about a request and its connection.
const OURS: [HeaderName; 11] = [
    CONNECTION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The same, where there is no constant for the name.
const OURS_TOO: [&str; 2] = ["keep-alive", "proxy-connection"];

/// The header `Authorization` for a file that holds a bearer token, RFC 6750. One line end behind it is allowed.
pub(super) fn bearer(content: &[u8]) -> Result<HeaderValue, String> {
    let token = content.strip_suffix(b"\n").unwrap_or(content);
    let token = token.strip_suffix(b"\r").unwrap_or(token);
    if token.is_empty() {
        return Err("it is empty: expected a token".to_owned());
    }
    if token.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Err("it has several lines: expected one token and nothing else".to_owned());
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err("it has blanks or characters that are not allowed in a token".to_owned());
    }
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat()).map_err(|_| "it cannot be sent")?;
    value.set_sensitive(true);
    Ok(value)
}

/// The headers of a file, a line `Name: value` for each; blank lines and lines that begin with `#` say nothing.
pub(super) fn headers(content: &[u8], authorization_is_free: bool) -> Result<HeaderMap, String> {
    let text = str::from_utf8(content).map_err(|_| "it is not UTF-8")?;
    let mut headers = HeaderMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = header(line, authorization_is_free).map_err(|why| format!("line {}: {why}", index + 1))?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn header(line: &str, authorization_is_free: bool) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = line.split_once(':').ok_or("expected `Name: value`")?;
    let name: HeaderName = name.parse().map_err(|_| "the text before the colon is not a header name")?;
    if name.as_str().starts_with("ce-") || OURS.contains(&name) || OURS_TOO.contains(&name.as_str()) {
        return Err(format!("{name} is set by the adapter itself"));
    }
    if name == AUTHORIZATION && !authorization_is_free {
        return Err("authorization is set already, by SINK_TOKEN_FILE or by the user in K_SINK".to_owned());
    }
    let mut value: HeaderValue = value
        .trim()
        .parse()
        .map_err(|_| format!("the value of {name} has characters that are not allowed in a header"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line() {
        for content in ["abc.def-_~+/=", "abc.def-_~+/=\n", "abc.def-_~+/=\r\n"] {
            let value = bearer(content.as_bytes()).expect("a token");
            assert_eq!(value, "Bearer abc.def-_~+/=");
            assert!(value.is_sensitive());
        }
        for (content, why) in [
            ("", "empty"),
            ("\n", "empty"),
            ("a\nb", "several lines"),
            ("a\n\n", "several lines"),
            ("a\rb", "several lines"),
            ("\na", "several lines"),
            ("a b", "blanks"),
            ("\u{e9}", "characters"),
        ] {
            let error = bearer(content.as_bytes()).expect_err(content);
            assert!(error.contains(why), "{content:?}: {error}");
        }
    }

    #[test]
    fn headers_are_lines_and_a_name_may_come_twice() {
        let content = b"# for the gateway\n\nX-Api-Key: k: 1\r\n  x-tenant:  a \nX-Tenant: b\nx-empty:\n";
        let headers = headers(content, false).expect("headers");
        let values = |name: &str| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(values("x-api-key"), ["k: 1"]);
        assert_eq!(values("x-tenant"), ["a", "b"]);
        assert_eq!(values("x-empty"), [""]);
        assert!(headers.values().all(HeaderValue::is_sensitive));
        assert_eq!(headers.keys_len(), 3);
    }

    #[test]
    fn what_the_adapter_says_itself_cannot_be_said_otherwise() {
        for name in [
            "ce-id",
            "CE-anything",
            "Content-Type",
            "content-length",
            "Host",
            "connection",
            "keep-alive",
            "te",
            "transfer-encoding",
            "upgrade",
            "trailer",
            "proxy-connection",
            "proxy-authorization",
            "expect",
        ] {
            let error = headers(format!("x: y\n{name}: hunter2").as_bytes(), true).expect_err(name);
            assert!(error.starts_with("line 2: ") && error.contains(&name.to_lowercase()), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_broken_line_is_named_and_not_shown() {
        for line in ["hunter2", "hun ter2: x", ": hunter2", "x: hunter2\u{7}"] {
            let error = headers(format!("# one\n{line}\n").as_bytes(), true).expect_err(line);
            assert!(error.starts_with("line 2: ") && !error.contains("ter2"), "{error}");
        }
        assert!(headers(&[0xff], true).is_err());
    }

    #[test]
    fn authorization_is_taken_where_nothing_else_sets_it() {
        let content = b"Authorization: ApiKey hunter2";
        assert_eq!(headers(content, true).expect("allowed")["authorization"], "ApiKey hunter2");
        let error = headers(content, false).expect_err("set already");
        assert!(error.contains("SINK_TOKEN_FILE") && !error.contains("hunter2"), "{error}");
    }
}
