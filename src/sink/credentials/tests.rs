//! Which tokens and headers are accepted, and what is said about the others.

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
