//! The page for people: one HTML document that shows `/status` and keeps it fresh.
//!
//! Contract: it loads nothing but itself and `status` beside it, so it works behind a port-forward and under a path prefix.
//! The `Content-Security-Policy` allows its own style and script, by their hashes, and nothing else.

use std::sync::LazyLock;

use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The parts in one piece.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    FRAME.replacen("<style></style>", &format!("<style>{STYLE}</style>"), 1).replacen(
        "<script></script>",
        &format!("<script>{SCRIPT}</script>"),
        1,
    )
});

static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; connect-src 'self'; img-src data:; style-src {}; script-src {}; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        source(STYLE),
        source(SCRIPT)
    )
});

/// The document with its headers.
pub(super) fn answer() -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, &POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, DOCUMENT.as_str()).into_response()
}

/// How the policy names an inline part.
fn source(part: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(part)))
}

#[cfg(test)]
mod tests;
