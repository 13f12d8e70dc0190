//! Answers of sinks as frameworks, proxies and functions write them: a success counts once, and what names a failure is heard.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::raw_sink::{Answer, Ids, RawSink};
use crate::support::adapter::Plan;
use crate::support::aws::FakeAws;
use crate::support::sink::TestSink;
use crate::support::wait_for;

/// How an answer says that an event of this id has failed.
type Form = fn(&str) -> Vec<u8>;

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn ok(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\n{head}content-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

/// Delivers 24 events to this sink, until it has them all and the adapter owes nothing; returns how often each came.
async fn deliver(mode: &str, sink: &RawSink) -> Vec<usize> {
    let (aws, unused) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let plan = Plan::new(&aws, &unused, "orders").env("K_SINK", sink.url()).env("EVENT_MODE", mode);
    let adapter = plan.env("RETRY_BACKOFF_MIN", "10ms").start_ready().await;
    aws.write("orders", 24, 1);
    wait_for("all events", || sink.times().len() == 24).await;
    while adapter.metric("events_delivered_total", &[]).await < 24.0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(adapter.terminate().await, Some(0));
    sink.times().into_values().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_counts_once_whatever_else_the_answer_says() {
    let gzipped = ok("content-encoding: gzip\r\n", &gzip("{}"));
    let many = "x: y\r\n".repeat(150);
    for (what, mode, answer) in [
        ("150 headers", "binary", Answer::keeping(ok(&many, b""))),
        ("a warning of PHP", "binary", Answer::keeping(ok("PHP Warning: Undefined index\r\n", b""))),
        ("HTML among the headers", "structured", Answer::keeping(ok("<br />\r\n", b""))),
        ("a line without a colon", "batch", Answer::keeping(ok("Notice\r\n", b"{}"))),
        ("gzip that nobody asked for", "batch", Answer::keeping(gzipped)),
        ("a member in capitals", "batch", Answer::keeping(ok("", br#"{"BatchItemFailures":[]}"#))),
        ("a body that ends with the connection", "batch", Answer::closing("HTTP/1.1 200 OK\r\n\r\n{}")),
        ("HTTP/1.0", "binary", Answer::closing("HTTP/1.0 200 OK\r\n\r\nok")),
        ("idle connections that end soon", "binary", Answer::keeping(ok("keep-alive: timeout=1\r\n", b""))),
    ] {
        let Answer { bytes, closes } = answer;
        let sink = RawSink::start(move |_, _| Answer { bytes: bytes.clone(), closes }).await;
        let times = deliver(mode, &sink).await;
        assert!(times.iter().all(|times| *times == 1), "{what}: {times:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_an_answer_names_as_failed_comes_again_however_the_answer_is_written() {
    let failed = |form: Form| {
        move |ids: &Ids, before: usize| Answer::keeping(if before == 0 { form(&ids[0]) } else { ok("", b"{}") })
    };
    let forms: [(&str, Form); 6] = [
        ("gzip", |id| {
            let body = format!(r#"{{"batchItemFailures":[{{"itemIdentifier":"{id}"}}]}}"#);
            ok("content-encoding: gzip\r\n", &gzip(&body))
        }),
        ("capitals", |id| ok("", format!(r#"{{"BatchItemFailures":[{{"ItemIdentifier":"{id}"}}]}}"#).as_bytes())),
        ("another coding", |_| ok("content-encoding: br\r\n", b"\x1b\x02\x80")),
        ("inside a text", |id| ok("", format!(r#"{{"body":"{{\"batchItemFailures\":[\"{id}\"]}}"}}"#).as_bytes())),
        ("another spelling", |id| ok("", format!(r#"{{"batch_item_failures":[{{"id":"{id}"}}]}}"#).as_bytes())),
        ("a function that failed", |_| ok("x-amz-function-error: Unhandled\r\n", b"{}")),
    ];
    for (what, form) in forms {
        let sink = RawSink::start(failed(form)).await;
        deliver("batch", &sink).await;
        let (first, times) = (sink.requests()[0][0].clone(), sink.times());
        assert_eq!(times[&first], 2, "{what}: the event that failed did not come again");
    }
}

/// One event of an item would be delivered in each `DELIVERY_TIMEOUT`.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_an_end_does_not_hold_up_the_next_event_of_its_item() {
    let sink = RawSink::start(|_, _| Answer::keeping("HTTP/1.1 202 Accepted\r\n\r\n")).await;
    let (aws, unused) = (FakeAws::with_table("orders", 1).await, TestSink::start().await);
    let plan = Plan::new(&aws, &unused, "orders").env("K_SINK", sink.url()).env("DELIVERY_TIMEOUT", "1h");
    let adapter = plan.start_ready().await;
    aws.write("orders", 1, 4);
    wait_for("four events of one item", || sink.requests().len() == 4).await;
    adapter.kill();
}
