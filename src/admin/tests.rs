//! What the port answers, over HTTP.

mod page;

use std::net::SocketAddr;

use axum::http::{HeaderMap, Method, Request};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinHandle;

use super::*;
use crate::readiness::FailingCall;

const LIVE: [&str; 3] = ["/livez", "/healthz", "/q/health/live"];
const READY: [&str; 4] = ["/readyz", "/readiness", "/q/health/ready", "/health"];
const STARTED: [&str; 2] = ["/startupz", "/q/health/started"];

struct Port {
    admin: Arc<Admin>,
    address: SocketAddr,
    client: Client<HttpConnector, Empty<Bytes>>,
    stop: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
}

impl Port {
    async fn open() -> Self {
        Self::open_with(false).await
    }

    async fn open_with(metrics_only: bool) -> Self {
        let metrics = Metrics::new("1", "r").unwrap();
        let read = metrics.table("orders").records_read;
        let admin = Arc::new(Admin {
            health: Arc::default(),
            metrics,
            refresh: Box::new(move || read.inc()),
            status: Box::new(|| serde_json::json!({"tables": [{"table": "orders"}]})),
            hosts: AdminHosts::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (shown, token) = (admin.clone(), stop.clone());
        let server = tokio::spawn(async move {
            match metrics_only {
                true => serve_metrics(listener, shown, token).await,
                false => serve(listener, shown, token).await,
            }
        });
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { admin, address, client, stop, server }
    }

    async fn ask(&self, method: Method, path: &str) -> (u16, HeaderMap, String) {
        self.ask_for(None, method, path).await
    }

    async fn ask_for(&self, accept: Option<&str>, method: Method, path: &str) -> (u16, HeaderMap, String) {
        let request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        let request = accept.into_iter().fold(request, |request, accept| request.header("accept", accept));
        let answer = self.client.request(request.body(Empty::new()).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.ask(Method::GET, path).await;
        (status, body)
    }

    async fn all_answer(&self, paths: &[&str], expected: u16) {
        for path in paths {
            let (status, body) = self.get(path).await;
            let no_content = *path == "/health" && expected == 200;
            assert_eq!(status, if no_content { 204 } else { expected }, "{path}: {body}");
            assert_eq!(body == "ok\n", expected == 200 && !no_content, "{path}: {body}");
        }
    }

    async fn close(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), self.server).await;
        ended.expect("the server did not end").unwrap().unwrap();
    }
}

#[tokio::test]
async fn probes_answer_under_every_name_that_controllers_use() {
    let port = Port::open().await;
    let table = port.admin.health.table("orders");
    port.all_answer(&LIVE, 200).await;
    port.all_answer(&READY, 503).await;
    port.all_answer(&STARTED, 503).await;
    table.mark_ready();
    port.all_answer(&LIVE, 200).await;
    port.all_answer(&READY, 200).await;
    port.all_answer(&STARTED, 200).await;
    table.record_failure(FailingCall::Aws("GetRecords"), "allow dynamodb:GetRecords", true, Instant::now());
    port.all_answer(&LIVE, 200).await;
    port.all_answer(&READY, 503).await;
    port.all_answer(&STARTED, 200).await;
    port.admin.health.set_stalled(Some("the dispatcher starts no request".to_owned()));
    port.all_answer(&LIVE, 503).await;
    port.all_answer(&READY, 503).await;
    port.all_answer(&STARTED, 200).await;
    port.close().await;
}

/// `kubectl describe` shows the body of a failed probe.
#[tokio::test]
async fn a_probe_that_fails_says_why_in_a_line_for_each_table() {
    let port = Port::open().await;
    let (orders, users) = (port.admin.health.table("orders"), port.admin.health.table("users"));
    orders.mark_waiting_for("a stream");
    users.mark_stopped("data was lost");
    for path in READY.iter().chain(&STARTED) {
        let (_, why) = port.get(path).await;
        assert_eq!(why, "table orders: waiting for a stream\ntable users: reading stopped: data was lost\n", "{path}");
    }
    port.admin.health.set_stalled(Some("the dispatcher starts no request".to_owned()));
    assert_eq!(port.get("/livez").await.1, "the dispatcher starts no request\n");
    port.close().await;
}

#[tokio::test]
async fn metrics_are_brought_up_to_date_when_they_are_shown() {
    let port = Port::open().await;
    for scrape in 1..=2 {
        let (status, headers, text) = port.ask(Method::GET, "/metrics").await;
        assert_eq!((status, &headers["content-type"]), (200, &"text/plain; version=0.0.4".parse().unwrap()));
        let sample = format!("dynamodb_streams_adapter_records_read_total{{table=\"orders\"}} {scrape}\n");
        assert!(text.contains(&sample), "{text}");
    }
    port.close().await;
}

#[tokio::test]
async fn status_is_json_that_people_can_read() {
    let port = Port::open().await;
    let (status, headers, text) = port.ask(Method::GET, "/status").await;
    assert_eq!((status, &headers["content-type"]), (200, &"application/json".parse().unwrap()));
    assert!(text.lines().count() > 3 && text.ends_with('\n'), "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["tables"][0]["table"], "orders");
    port.close().await;
}

#[tokio::test]
async fn the_first_page_names_the_others() {
    let port = Port::open().await;
    let (status, text) = port.get("/").await;
    assert_eq!(status, 200);
    for path in text.split_whitespace().filter(|word| word.starts_with('/')) {
        assert_ne!(port.get(path).await.0, 404, "{path}");
    }
    assert!(text.contains("/metrics") && text.contains("/status") && text.contains("/readyz"), "{text}");
    port.close().await;
}

/// The second is what Firefox sends.
#[tokio::test]
async fn browsers_get_a_page_and_everybody_else_a_text() {
    let port = Port::open().await;
    for accept in ["text/html", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"] {
        let (status, headers, body) = port.ask_for(Some(accept), Method::GET, "/").await;
        assert_eq!((status, &headers["content-type"]), (200, &"text/html; charset=utf-8".parse().unwrap()));
        assert!(body.starts_with("<!doctype html>"), "{accept}: {body}");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(headers["vary"], "accept");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        let (_, head, body) = port.ask_for(Some(accept), Method::HEAD, "/").await;
        assert_eq!((&head["content-length"], body.as_str()), (&headers["content-length"], ""));
    }
    for accept in [None, Some("*/*"), Some("text/plain"), Some("application/json")] {
        let (status, headers, body) = port.ask_for(accept, Method::GET, "/").await;
        assert_eq!((status, &headers["content-type"]), (200, &"text/plain; charset=utf-8".parse().unwrap()));
        assert!(body.contains("/readyz") && !body.contains('<'), "{accept:?}: {body}");
        assert_eq!(headers["vary"], "accept", "{accept:?}");
    }
    port.close().await;
}

#[tokio::test]
async fn status_is_never_taken_from_a_cache() {
    let port = Port::open().await;
    let (_, headers, _) = port.ask(Method::GET, "/status").await;
    assert_eq!(headers["cache-control"], "no-store");
    port.close().await;
}

#[tokio::test]
async fn head_answers_as_get_without_a_body() {
    let port = Port::open().await;
    port.admin.health.table("orders").mark_ready();
    let others = ["/", "/status", "/metrics", "/nowhere"];
    for path in LIVE.iter().chain(&READY).chain(&STARTED).chain(&others) {
        let (head, _, body) = port.ask(Method::HEAD, path).await;
        assert_eq!((head, body.as_str()), (port.get(path).await.0, ""), "{path}");
    }
    port.close().await;
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let port = Port::open().await;
    for path in ["/nowhere", "/livez/", "/LIVEZ", "/debug/pprof", "//", "/q/health"] {
        assert_eq!(port.get(path).await.0, 404, "{path}");
    }
    for path in ["/", "/livez", "/readyz", "/health", "/metrics", "/status"] {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::from_bytes(b"BREW").unwrap()]
        {
            let (status, headers, _) = port.ask(method.clone(), path).await;
            assert_eq!(status, 405, "{method} {path}");
            assert_eq!(headers["allow"], "GET,HEAD", "{method} {path}");
        }
    }
    port.close().await;
}

#[tokio::test]
async fn the_port_for_metrics_shows_the_same_metrics_and_nothing_else() {
    let port = Port::open_with(true).await;
    let (status, metrics) = port.get("/metrics").await;
    assert!(status == 200 && metrics.contains("records_read_total{table=\"orders\"} 1"), "{status} {metrics}");
    for path in LIVE.iter().chain(&READY).chain(&STARTED).chain(&["/", "/status"]) {
        assert_eq!(port.get(path).await.0, 404, "{path}");
    }
    port.close().await;
}

/// Rendering it costs milliseconds with thousands of shards.
#[tokio::test(start_paused = true)]
async fn status_is_rendered_once_a_second_whoever_asks() {
    let renderings = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = renderings.clone();
    let admin = Admin {
        health: Arc::default(),
        metrics: Metrics::new("1", "r").unwrap(),
        refresh: Box::new(|| {}),
        status: Box::new(move || count.fetch_add(1, std::sync::atomic::Ordering::Relaxed).into()),
        hosts: AdminHosts::default(),
    };
    let rendered = RenderedStatus { admin: Arc::new(admin), newest: Mutex::default() };
    for second in 0..3 {
        for _ in 0..100 {
            assert_eq!(rendered.text().await, format!("{second}\n"));
            tokio::time::advance(Duration::from_millis(9)).await;
        }
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    assert_eq!(renderings.load(std::sync::atomic::Ordering::Relaxed), 3);
}
