//! Which tokens and headers are accepted, and what is said about the others.

use std::fs;

use super::*;
use crate::sink::settings::TlsTrust;

#[tokio::test]
async fn a_generation_ends_with_what_connections_are_made_with_and_not_with_a_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let (token, authorities) = (folder.path().join("token"), folder.path().join("authorities"));
    fs::create_dir(&authorities).expect("a folder");
    let mut settings = SinkSettings::new("https://sink.example/".parse().expect("a URL"), 1);
    settings.trust = TlsTrust { folder: Some(authorities.clone()), ..TlsTrust::default() };
    settings.token_file = Some(TokenFile { path: token.clone(), is_required: true });
    let tuning = Tuning { reload_interval: Duration::from_secs(3600), ..Tuning::default() };
    let (credentials, reloader) = Credentials::read(settings, tuning).expect("credentials");
    tokio::spawn(reloader.run());
    let read_again = async || credentials.read_again(Instant::now() + Duration::from_secs(20)).await;
    let first = credentials.newest();
    assert!(first.missing.is_some() && first.unused.is_empty());

    fs::write(&token, "t1").expect("written");
    let second = read_again().await;
    assert_eq!((second.headers.get(AUTHORIZATION).is_some(), second.missing.as_ref()), (true, None));
    assert_eq!(second.generation, first.generation);
    assert!(Arc::ptr_eq(&second, &read_again().await), "nothing has changed");

    fs::write(authorities.join("ca.pem"), "nonsense").expect("written");
    let third = read_again().await;
    assert_eq!(third.unused.len(), 1);
    assert!(third.generation > second.generation);
}

#[test]
fn a_token_is_one_line() {
    for content in ["abc.def-_~+/=", "abc.def-_~+/=\n", "abc.def-_~+/=\r\n"] {
        let value = parse_bearer(content.as_bytes()).expect("a token");
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
        let error = parse_bearer(content.as_bytes()).expect_err(content);
        assert!(error.contains(why), "{content:?}: {error}");
    }
}

#[test]
fn headers_are_lines_and_a_name_may_come_twice() {
    let content = b"# for the gateway\n\nX-Api-Key: k: 1\r\n  x-tenant:  a \nX-Tenant: b\nx-empty:\n";
    let headers = parse_headers(content, false).expect("headers");
    let values = |name: &str| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(values("x-api-key"), ["k: 1"]);
    assert_eq!(values("x-tenant"), ["a", "b"]);
    assert_eq!(values("x-empty"), [""]);
    assert!(headers.values().all(HeaderValue::is_sensitive));
    assert_eq!(headers.keys_len(), 3);
}

#[test]
fn a_mark_before_the_text_is_no_part_of_it() {
    assert_eq!(parse_bearer("\u{feff}abc\r\n".as_bytes()).expect("a token"), "Bearer abc");
    let headers = parse_headers("\u{feff}x-team: blue\r\n".as_bytes(), true).expect("headers");
    assert_eq!(headers["x-team"], "blue");
}

#[test]
fn letters_of_other_alphabets_are_sent_in_a_header_and_refused_in_a_token() {
    let headers = parse_headers("x-team: événements".as_bytes(), true).expect("headers");
    assert_eq!(headers["x-team"].as_bytes(), "événements".as_bytes());
    let error = parse_bearer("jeton-é".as_bytes()).expect_err("no token");
    assert!(error.contains("characters that are not allowed in a token") && !error.contains("jeton"), "{error}");
}

#[test]
fn headers_that_the_adapter_sets_itself_cannot_be_set() {
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
        let error = parse_headers(format!("x: y\n{name}: hunter2").as_bytes(), true).expect_err(name);
        assert!(error.starts_with("line 2: ") && error.contains(&name.to_lowercase()), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_broken_line_is_named_and_not_shown() {
    for line in ["hunter2", "hun ter2: x", ": hunter2", "x: hunter2\u{7}"] {
        let error = parse_headers(format!("# one\n{line}\n").as_bytes(), true).expect_err(line);
        assert!(error.starts_with("line 2: ") && !error.contains("ter2"), "{error}");
    }
    assert!(parse_headers(&[0xff], true).is_err());
}

#[test]
fn authorization_is_taken_where_nothing_else_sets_it() {
    let content = b"Authorization: ApiKey hunter2";
    assert_eq!(parse_headers(content, true).expect("allowed")["authorization"], "ApiKey hunter2");
    let error = parse_headers(content, false).expect_err("set already");
    assert!(error.contains("SINK_TOKEN_FILE") && !error.contains("hunter2"), "{error}");
}
