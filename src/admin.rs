//! The port for people and machines that watch: probes, metrics, status.
//!
//! Contract: it answers from what is known, without asking AWS or the sink, so a probe never hangs on their account. It
//! shows no item data and no secrets. Other paths than those here are 404, other methods than GET and HEAD 405. No client
//! can keep others from being answered. `/` and `/status` answer only to the hosts of `AdminHosts`.
//!
//! The page for people is one HTML document that shows `/status` and keeps it fresh. It loads nothing but itself and `status`
//! beside it, so it works behind a port-forward and under a path prefix. Its `Content-Security-Policy` allows its own style and
//! script, by their hashes, and nothing else.

mod hosts;
mod server;
pub(crate) mod status;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::hosts::AdminHosts;
use self::server::Served;
use crate::readiness::Health;
use crate::telemetry::metrics::Metrics;

/// What there is, for those who want no page.
const INDEX: &str = "dynamodb-streams-adapter\n\n/livez /readyz /startupz  probes\n/metrics                  Prometheus metrics\n\
     /status                   tables, shards, positions and lag as JSON\n\
     /                         the same as a page for browsers\n";

/// What the port shows.
pub struct Admin {
    pub health: Arc<Health>,
    /// For `/metrics`.
    pub metrics: Metrics,
    /// Brings gauges up to date before they are shown.
    pub refresh: Box<dyn Fn() + Send + Sync>,
    /// For `/status`.
    pub status: Box<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// Whom `/` and `/status` answer to.
    pub hosts: AdminHosts,
}

/// How long `/status` stays as it was rendered: with thousands of shards that costs milliseconds, during which nothing is settled.
const STATUS_FRESH: Duration = Duration::from_secs(1);

/// What probes ask.
const PROBES: [&str; 9] = [
    "/livez",
    "/healthz",
    "/q/health/live",
    "/readyz",
    "/readiness",
    "/q/health/ready",
    "/health",
    "/startupz",
    "/q/health/started",
];

/// Serves until told to stop.
///
/// # Errors
/// When the port cannot be served any more.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>, stop: CancellationToken) -> std::io::Result<()> {
    let served = Served { router: router(admin), always: |path| PROBES.contains(&path) };
    server::serve(listener, served, server::Limits::default(), stop).await
}

/// Serves `/metrics` and nothing else until told to stop: for scrapers that know another port than that of the probes.
///
/// # Errors
/// When the port cannot be served any more.
pub async fn serve_metrics(listener: TcpListener, admin: Arc<Admin>, stop: CancellationToken) -> std::io::Result<()> {
    let router = Router::new().route("/metrics", get(metrics)).fallback(nothing_else).with_state(admin);
    let served = Served { router, always: |path| path == "/metrics" };
    server::serve(listener, served, server::Limits::default(), stop).await
}

fn router(admin: Arc<Admin>) -> Router {
    let rendered = Arc::new(RenderedStatus { admin: admin.clone(), newest: Mutex::default() });
    Router::new()
        .route("/", get(index))
        .route("/livez", get(live))
        .route("/healthz", get(live))
        .route("/q/health/live", get(live))
        .route("/readyz", get(ready))
        .route("/readiness", get(ready))
        .route("/q/health/ready", get(ready))
        .route("/health", get(ready_without_body))
        .route("/startupz", get(started))
        .route("/q/health/started", get(started))
        .route("/metrics", get(metrics))
        .route("/status", get(move |uri, headers| status(rendered.clone(), uri, headers)))
        .fallback(nothing)
        .with_state(admin)
}

async fn nothing() -> Response {
    (StatusCode::NOT_FOUND, "not found; / lists all paths\n").into_response()
}

async fn nothing_else() -> Response {
    (StatusCode::NOT_FOUND, "not found; this port serves /metrics only\n").into_response()
}

/// Browsers say that they take HTML; for everybody else there is a text.
async fn index(State(admin): State<Arc<Admin>>, uri: Uri, headers: HeaderMap) -> Response {
    if !admin.hosts.admit(&uri, &headers) {
        return stranger();
    }
    let accepted = headers.get_all(header::ACCEPT);
    let takes_html = accepted.iter().any(|value| value.to_str().is_ok_and(|value| value.contains("text/html")));
    let mut response = if takes_html { page() } else { INDEX.into_response() };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

async fn live(State(admin): State<Arc<Admin>>) -> Response {
    probe(admin.health.not_live())
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    probe(admin.health.not_ready(Instant::now()))
}

/// The startup probe of TriggerMesh's controller takes any 2xx; its own adapters answer 204.
async fn ready_without_body(State(admin): State<Arc<Admin>>) -> Response {
    match admin.health.not_ready(Instant::now()) {
        None => StatusCode::NO_CONTENT.into_response(),
        why => probe(why),
    }
}

async fn started(State(admin): State<Arc<Admin>>) -> Response {
    let now = Instant::now();
    probe(if admin.health.has_started(now) { None } else { admin.health.not_ready(now) })
}

fn probe(trouble: Option<String>) -> Response {
    match trouble {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    (admin.refresh)();
    let media_type = [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)];
    match admin.metrics.encode() {
        Ok(text) => (media_type, text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// To a host that nobody has named.
fn stranger() -> Response {
    (StatusCode::FORBIDDEN, "/ and /status are not served to this host name; add it to ADMIN_HOSTS\n").into_response()
}

async fn status(rendered: Arc<RenderedStatus>, uri: Uri, headers: HeaderMap) -> Response {
    if !rendered.admin.hosts.admit(&uri, &headers) {
        return stranger();
    }
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, rendered.text().await).into_response()
}

/// `/status`, as everybody gets it for a while.
struct RenderedStatus {
    admin: Arc<Admin>,
    newest: Mutex<Option<(Instant, Bytes)>>,
}

impl RenderedStatus {
    /// Those who ask while it is rendered wait for it and get the same.
    async fn text(&self) -> Bytes {
        let mut newest = self.newest.lock().await;
        match &*newest {
            Some((at, text)) if at.elapsed() < STATUS_FRESH => text.clone(),
            _ => {
                let text = Bytes::from(format!("{:#}\n", (self.admin.status)()));
                *newest = Some((Instant::now(), text.clone()));
                text
            }
        }
    }
}

const FRAME: &str = include_str!("admin/page.html");
const STYLE: &str = include_str!("admin/page.css");
const SCRIPT: &str = include_str!("admin/page.js");

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
fn page() -> Response {
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
