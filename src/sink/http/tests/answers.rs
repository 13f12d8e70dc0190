//! Every answer with a status line is told as what it is.

use std::time::{Instant, UNIX_EPOCH};

use super::server::{Step, answer};
use super::*;

async fn answer_to(script: Vec<Step>, timeout: Duration) -> SinkResponse {
    let server = Server::start([script]).await;
    sink_of(&server).post(message(), timeout).await
}

#[tokio::test]
async fn a_message_arrives_as_it_is() {
    let server = Server::start([answer("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")]).await;
    assert_eq!(sink_of(&server).post(message(), PATIENCE).await, accepted(202, ""));
    let seen = &server.seen()[0];
    assert_eq!(seen.request_line(), "POST /events?to=all HTTP/1.1");
    assert_eq!(seen.header("host"), [format!("127.0.0.1:{}", server.port())]);
    assert_eq!(seen.header("ce-id"), ["e1"]);
    assert_eq!(seen.header("content-type"), ["application/json"]);
    assert!(seen.header("user-agent")[0].starts_with("dynamodb-streams-adapter/"));
    assert_eq!(seen.body, b"{\"a\":1}");
}

#[tokio::test]
async fn configured_headers_go_with_every_message_and_win() {
    let server = Server::start([answer("HTTP/1.1 204 No Content\r\n\r\n")]).await;
    let mut settings = settings(&server.url(""));
    settings.headers.insert("ce-id", HeaderValue::from_static("overridden"));
    settings.headers.insert("x-tenant", HeaderValue::from_static("t1"));
    sink(settings, Tuning::default()).post(message(), PATIENCE).await;
    let seen = &server.seen()[0];
    assert_eq!(seen.request_line(), "POST / HTTP/1.1");
    assert_eq!((seen.header("ce-id"), seen.header("x-tenant")), (vec!["overridden"], vec!["t1"]));
}

#[tokio::test]
async fn every_2xx_is_a_success() {
    for code in [200, 201, 202, 204, 207, 299] {
        let script =
            answer(format!("HTTP/1.1 {code} Fine\r\n{}\r\n", if code == 204 { "" } else { "content-length: 0\r\n" }));
        assert_eq!(answer_to(script, PATIENCE).await, accepted(code, ""));
    }
}

#[tokio::test]
async fn every_other_status_is_told_with_the_start_of_its_body() {
    for code in [300, 303, 304, 400, 401, 403, 404, 405, 413, 418, 429, 500, 503, 599] {
        let body = if code == 304 { "" } else { "because" };
        let script = answer(format!("HTTP/1.1 {code} No\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        assert_eq!(answer_to(script, PATIENCE).await, refused(code, body));
    }
    let long = "x".repeat(10_000);
    let answer = answer_to(answer(format!("HTTP/1.1 400 No\r\ncontent-length: 10000\r\n\r\n{long}")), PATIENCE).await;
    assert!(matches!(answer, SinkResponse::Refused { body_start, .. } if body_start == long[..768]));
}

#[tokio::test]
async fn retry_after_is_told_as_seconds_or_as_a_date() {
    let date = UNIX_EPOCH + Duration::from_secs(784_111_777);
    let cases = [
        ("429 Slow", "17", RetryAfter::Delay(Duration::from_secs(17))),
        ("503 Later", "Sun, 06 Nov 1994 08:49:37 GMT", RetryAfter::At(date)),
    ];
    for (status, value, expected) in cases {
        let script = answer(format!("HTTP/1.1 {status}\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n"));
        let answer = answer_to(script, PATIENCE).await;
        assert!(
            matches!(answer, SinkResponse::Refused { retry_after, .. } if retry_after == Some(expected)),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let script = answer(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    );
    assert_eq!(answer_to(script, PATIENCE).await, accepted(200, "ok"));
}

#[tokio::test]
async fn an_accepted_message_stays_accepted_when_the_body_of_the_answer_breaks() {
    let mut script = answer("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart");
    script.push(Step::Close);
    assert_eq!(answer_to(script, PATIENCE).await, cut(200, "part"));

    let mut script = answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\nnonsense");
    script.push(Step::Reset);
    let answer = answer_to(script, PATIENCE).await;
    assert!(matches!(answer, SinkResponse::Accepted { .. }), "{answer:?}");
}

#[tokio::test]
async fn a_status_is_told_although_its_body_never_ends_and_the_attempt_keeps_to_its_time() {
    for (line, expected) in [("200 OK", cut(200, "part")), ("503 No", refused(503, "part"))] {
        let begun = Instant::now();
        let script = answer(format!("HTTP/1.1 {line}\r\ncontent-length: 100\r\n\r\npart"));
        assert_eq!(answer_to(script, Duration::from_millis(200)).await, expected);
        assert!(begun.elapsed() < PATIENCE / 2, "the body was waited for");
    }
}

#[tokio::test]
async fn a_sink_may_refuse_a_large_message_without_reading_it() {
    let script =
        vec![Step::ReadHead, Step::Write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n".to_vec()), Step::Hang];
    let server = Server::start([script]).await;
    let large = Message { body: Bytes::from(vec![b' '; 16 << 20]), ..message() };
    assert_eq!(sink_of(&server).post(large, PATIENCE).await, refused(413, ""));
}

fn parse(text: &'static str) -> Option<RetryAfter> {
    retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().expect("a header value"))]))
}

#[test]
fn seconds_and_all_three_kinds_of_date_are_understood() {
    assert_eq!(parse("120"), Some(RetryAfter::Delay(Duration::from_secs(120))));
    assert_eq!(parse("0"), Some(RetryAfter::Delay(Duration::ZERO)));
    let date = Some(RetryAfter::At(UNIX_EPOCH + Duration::from_secs(784_111_777)));
    assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), date);
    assert_eq!(parse("Sunday, 06-Nov-94 08:49:37 GMT"), date);
    assert_eq!(parse("Sun Nov  6 08:49:37 1994"), date);
}

#[test]
fn nonsense_is_no_request_to_wait_and_no_number_is_too_long() {
    for text in ["", "soon", "-1", "1.5", "+3"] {
        assert_eq!(parse(text), None, "{text:?}");
    }
    assert_eq!(parse("99999999999999999999999"), Some(RetryAfter::Delay(Duration::from_secs(u64::MAX))));
}
