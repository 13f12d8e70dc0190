//! A sink may move within its own house.

use super::server::answer;
use super::*;

fn moved(code: u16, location: &str) -> Vec<server::Step> {
    answer(format!("HTTP/1.1 {code} Moved\r\nlocation: {location}\r\ncontent-length: 4\r\n\r\ngone"))
}

#[tokio::test]
async fn a_redirect_within_the_host_is_followed_with_the_whole_message() {
    let mut script = moved(307, "/b?x=1");
    script.extend(moved(308, "c"));
    script.extend(answer("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"));
    let server = Server::start([script]).await;
    assert_eq!(sink_of(&server).post(message(), PATIENCE).await, accepted(202, ""));

    let seen = server.seen();
    let lines: Vec<_> = seen.iter().map(server::Seen::request_line).collect();
    assert_eq!(lines, ["POST /events?to=all HTTP/1.1", "POST /b?x=1 HTTP/1.1", "POST /c HTTP/1.1"]);
    assert!(seen.iter().all(|seen| seen.connection == 0), "one connection serves all of it");
    assert!(seen.iter().all(|seen| seen.body == b"{\"a\":1}" && seen.header("ce-id") == ["e1"]));
}

#[tokio::test]
async fn a_redirect_to_another_host_or_of_another_kind_is_the_answer() {
    let elsewhere = Server::start([answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")]).await;
    for (code, location) in [(307, elsewhere.url("/")), (308, "https://127.0.0.1/".to_owned()), (302, "/b".to_owned())]
    {
        let server = Server::start([moved(code, &location)]).await;
        assert_eq!(sink_of(&server).post(message(), PATIENCE).await, refused(code, "gone"));
    }
    assert!(elsewhere.seen().is_empty(), "nothing was sent to a host that nobody configured");
}

#[tokio::test]
async fn a_circle_of_redirects_ends_after_five() {
    let server = Server::start([(0..6).flat_map(|_| moved(307, "/again")).collect()]).await;
    assert_eq!(sink_of(&server).post(message(), PATIENCE).await, refused(307, "gone"));
    assert_eq!(server.seen().len(), 6);
}

#[tokio::test]
async fn five_redirects_are_followed() {
    let mut script: Vec<_> = (0..5).flat_map(|_| moved(307, "/again")).collect();
    script.extend(answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    let server = Server::start([script]).await;
    assert_eq!(sink_of(&server).post(message(), PATIENCE).await, accepted(200, ""));
}

#[tokio::test]
async fn all_of_a_redirected_attempt_shares_one_timeout() {
    let pause = server::Step::Pause(Duration::from_millis(150));
    let mut script: Vec<_> = (0..5).flat_map(|_| [vec![pause.clone()], moved(307, "/again")].concat()).collect();
    script.extend(answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    let server = Server::start([script]).await;
    let (fault, _) = failed(sink_of(&server).post(message(), Duration::from_millis(400)).await);
    assert_eq!(fault, TransportError::Timeout, "no hop takes 400 ms, but all together do");
}

fn target_of(from: &'static str, location: &'static str) -> Option<String> {
    let mut headers = HeaderMap::new();
    headers.insert(LOCATION, location.parse().expect("a header value"));
    let found = redirect_target(&Uri::from_static(from), StatusCode::TEMPORARY_REDIRECT, &headers);
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

/// The client keeps the connections of each authority apart.
#[test]
fn a_target_has_the_authority_of_the_sink_however_it_is_written() {
    for from in ["http://sink.example:80/a", "http://SINK.example/a", "http://sink.example/a"] {
        let (authority, _) = from.rsplit_once('/').expect("a path");
        for location in ["http://sink.example/b", "http://sink.example:80/b", "//SINK.EXAMPLE/b", "/b"] {
            assert_eq!(target_of(from, location), Some(format!("{authority}/b")), "{from} {location}");
        }
    }
}

#[test]
fn a_location_with_a_user_or_a_password_is_not_followed() {
    for location in
        ["http://u@sink.example/", "http://u:p@sink.example/", "http://:p@sink.example/", "//u@sink.example/b"]
    {
        assert_eq!(target_of("http://sink.example/", location), None, "{location}");
    }
}

#[test]
fn a_location_of_another_alphabet_is_followed_percent_encoded() {
    for (location, expected) in [
        ("/é".as_bytes(), "http://sink.example/%C3%A9"),
        (b"/\xe9", "http://sink.example/%E9"),
        (b"/a b", "http://sink.example/a%20b"),
        (b"/%C3%A9", "http://sink.example/%C3%A9"),
    ] {
        let headers = HeaderMap::from_iter([(LOCATION, ::http::HeaderValue::from_bytes(location).expect("a value"))]);
        let found =
            redirect_target(&Uri::from_static("http://sink.example/"), StatusCode::TEMPORARY_REDIRECT, &headers);
        assert_eq!(found.map(|uri| uri.to_string()).as_deref(), Some(expected), "{location:?}");
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
        assert_eq!(redirect_target(&from, status, &headers), None, "{status}");
    }
    assert_eq!(redirect_target(&from, StatusCode::PERMANENT_REDIRECT, &HeaderMap::new()), None, "no location");
}
