//! What can be said of the page without a browser; `tests/page` has the rest.

use super::super::*;

/// Text between two marks, once.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(begin).unwrap();
    let (inside, rest) = rest.split_once(end).unwrap();
    assert!(!rest.contains(begin), "more than one {begin}");
    inside
}

#[test]
fn the_policy_allows_the_style_and_the_script_that_are_in_the_page_and_no_other() {
    let response = page();
    let policy = response.headers()["content-security-policy"].to_str().unwrap();
    let script = between(&DOCUMENT, "<script>", "</script>");
    let style = between(&DOCUMENT, "<style>", "</style>");
    assert!(policy.contains(&format!("script-src {};", source(script))), "{policy}");
    assert!(policy.contains(&format!("style-src {};", source(style))), "{policy}");
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
}

/// The value of every attribute and every call that loads something.
#[test]
fn nothing_is_loaded_from_elsewhere_and_every_address_is_relative() {
    for piece in DOCUMENT.split(['"', '\'', '`', ' ', '(']) {
        let outside = piece.starts_with("//") && piece.len() > 2 && piece.as_bytes()[2].is_ascii_alphanumeric();
        let namespace = piece == "http://www.w3.org/2000/svg";
        assert!(!outside && (namespace || !piece.contains("://")), "{piece}");
    }
    for attribute in ["href=\"", "src=\""] {
        for address in DOCUMENT.split(attribute).skip(1) {
            assert!(!address.starts_with('/'), "{}", address.chars().take(40).collect::<String>());
        }
    }
}

/// What AWS and the sink say reaches the page: it must stay text.
#[test]
fn the_script_never_makes_html_of_text() {
    for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "setHTML"] {
        assert!(!SCRIPT.contains(way), "{way}");
    }
    assert!(!FRAME.contains("style=") && !FRAME.contains("onclick="), "the policy forbids them");
}

#[test]
fn the_page_stays_small_enough_to_be_read() {
    let lines: usize = [FRAME, STYLE, SCRIPT].iter().map(|part| part.lines().count()).sum();
    assert!(lines <= 500, "{lines}");
}
