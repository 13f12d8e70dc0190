//! How the page follows what happens.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::net::TcpListener;

use crate::browser::{Browser, DESK, PHONE};
use crate::canned::{Canned, healthy, id, large, shard, table};

/// A port that is closed, or cut, is what the browser complains of itself.
fn refused(message: &str) -> bool {
    message.contains("net::ERR_") || message.contains("the server responded with a status of 502")
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_that_nobody_answers_how_old_the_data_is_and_when_it_is_over() {
    let mut port = Canned::serve(healthy(vec![large(12, 1)])).await;
    let mut browser = Browser::open_live(&port.url(), DESK);
    assert_eq!(browser.text("#link"), "live");
    assert_eq!(browser.see("document.querySelector('#lost').hidden"), true);
    port.stop().await;
    browser.wait("document.body.dataset.link === 'lost'");
    browser.wait(r"/The data is ([4-9]|\d\d) s old/.test(document.querySelector('#lost').innerText)");
    let box_of_it = "(box => [box.height > 20, box.bottom === window.innerHeight])(document.querySelector('#lost').getBoundingClientRect())";
    assert_eq!(browser.see(box_of_it), json!([true, true]), "it is not seen, or not at the bottom of the window");
    let said = browser.text("#lost");
    assert!(said.starts_with("The adapter has not answered since "), "{said}");
    assert_eq!(browser.text("#link"), "the adapter does not answer");
    assert_eq!(browser.see("document.querySelector('#link').getAttribute('role')"), "status", "nobody is told");
    assert_eq!(browser.text("#tables tbody th"), "orders", "the last known stays");
    browser.is_accessible("lost");
    browser.shoot("lost", false);
    port.start().await;
    browser.wait("document.body.dataset.link === 'live'");
    assert_eq!(browser.see("document.querySelector('#lost').hidden"), true);
    browser.close_expecting(refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_a_proxy_that_is_not_the_adapters_is_no_answer() {
    let port = Canned::serve(healthy(vec![])).await;
    let log_in = || async { ([("content-type", "text/html")], "<html>please log in</html>") };
    let trouble = Router::new()
        .route("/a/status", get(|| async { (StatusCode::BAD_GATEWAY, "no upstream") }))
        .route("/b/status", get(log_in));
    let origin = proxy(trouble, &["/a", "/b"], &port).await;
    for (path, why) in [("/a/", "HTTP 502"), ("/b/", "not valid JSON")] {
        let mut browser = Browser::open(&format!("{origin}{path}"), DESK);
        browser.wait("document.body.dataset.link === 'lost'");
        assert!(browser.text("#lost").contains(why), "{}", browser.text("#lost"));
        assert_eq!(browser.text("#age"), "no data yet");
        browser.close_expecting(refused);
    }
}

/// As `kubectl proxy` and ingresses with a prefix do it; the last slash is easily forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn it_works_below_a_path_prefix_with_and_without_the_last_slash() {
    const PREFIX: &str = "/proxy/pods/adapter:8080";
    let port = Canned::serve(healthy(vec![table("orders", vec![shard(&id(1), None, 0.0)], vec![])])).await;
    let origin = proxy(Router::new(), &[PREFIX], &port).await;
    for path in [PREFIX, "/proxy/pods/adapter:8080/"] {
        let mut browser = Browser::open_live(&format!("{origin}{path}"), DESK);
        assert_eq!(browser.text("#tables tbody th"), "orders", "{path}");
        let links = browser.see("[...document.querySelectorAll('nav a')].map(link => link.pathname)");
        assert_eq!(links, json!(["status", "metrics", "readyz"].map(|name| format!("{PREFIX}/{name}"))), "{path}");
        for request in browser.requests() {
            assert!(request.starts_with("data:") || request.starts_with(&format!("{origin}{PREFIX}")), "{request}");
        }
        browser.close();
    }
}

/// Hands what lies below the prefixes on to the port, without the prefix; `own` answers before it.
async fn proxy(own: Router, prefixes: &'static [&str], port: &Canned) -> String {
    let target = port.address;
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let router = own.fallback(async move |mut request: Request| {
        let path = request.uri().path().to_owned();
        let Some(rest) = prefixes.iter().find_map(|prefix| path.strip_prefix(prefix)) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        *request.uri_mut() = format!("http://{target}/{}", rest.trim_start_matches('/')).parse().unwrap();
        client.request(request).await.unwrap().map(Body::new).into_response()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    origin
}

#[tokio::test(flavor = "multi_thread")]
async fn new_numbers_come_in_by_themselves_and_nothing_moves_or_loses_the_focus() {
    for view in [DESK, PHONE] {
        let port = Canned::serve(healthy(vec![large(20, 2)])).await;
        let mut browser = Browser::open_live(&port.url(), view);
        browser.see("(document.querySelector('details.shards summary').focus(), window.mark = document.querySelector('#tables tbody tr'), 0)");
        for delivered in [7, 8_888_888] {
            let mut next = large(20, 2);
            next["events_delivered"] = delivered.into();
            next["unsettled_events"] = (delivered / 3).into();
            next["shards"][3]["lag_seconds"] = 50.into();
            port.says(healthy(vec![next]));
            let shown = if delivered == 7 { "7" } else { "8,888,888" };
            browser.wait(&format!("document.querySelector('#tables tbody tr').cells[8].innerText === '{shown}'"));
        }
        assert_eq!(browser.see("document.activeElement.tagName"), "SUMMARY");
        assert_eq!(
            browser.see("window.mark === document.querySelector('#tables tbody tr')"),
            true,
            "rows are made anew"
        );
        let shifted = browser.see("window.shifted").as_f64().unwrap();
        assert!(shifted < 0.01, "{} px wide: {shifted}", view.width);
        browser.close();
    }
}

/// A forgotten tab asks nothing; whoever comes back to it sees new data at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_tab_in_the_background_asks_nothing_until_it_is_looked_at_again() {
    let port = Canned::serve(healthy(vec![large(2, 1)])).await;
    let mut browser = Browser::open_live(&port.url(), DESK);
    let hide = |hidden: bool| {
        format!(
            "(Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }}),
            document.dispatchEvent(new Event('visibilitychange')), 0)"
        )
    };
    let asked = |browser: &mut Browser| browser.requests().iter().filter(|url| url.ends_with("/status")).count();
    browser.see(&hide(true));
    let before = asked(&mut browser);
    // By its own clock the page would have asked twice meanwhile.
    browser.wait("/, [789] s old/.test(document.querySelector('#age').innerText)");
    assert_eq!(asked(&mut browser), before);
    browser.see(&hide(false));
    browser.wait("/, [01] s old/.test(document.querySelector('#age').innerText)");
    assert_eq!(asked(&mut browser), before + 1);
    browser.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_shards_that_go_are_shown_no_longer() {
    let other = || table("users", vec![shard(&id(1), None, 0.0)], vec![]);
    let port = Canned::serve(healthy(vec![large(20, 2), other()])).await;
    let mut browser = Browser::open_live(&port.url(), DESK);
    assert_eq!(browser.see("document.querySelectorAll('rect.box').length"), 24);
    port.says(healthy(vec![other()]));
    browser.wait("document.querySelectorAll('section').length === 1");
    assert_eq!(browser.see("document.querySelectorAll('rect.box').length"), 1);
    assert_eq!(browser.text("#table-0 h2"), "users");
    port.says(healthy(vec![]));
    browser.wait("document.querySelectorAll('section, #tables tbody tr').length === 0");
    browser.close();
}
