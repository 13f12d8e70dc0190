//! Bodies that name failures: whole, cut, closed without a word, compressed.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};

use super::authority::Authority;
use super::server::{Script, Step, answer};
use super::*;

const NAMES_ONE: &str = r#"{"batchItemFailures":[{"itemIdentifier":"e1"}]}"#;

fn reading(url: &str) -> SinkSettings {
    SinkSettings { reads_answers: true, ..settings(url) }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

fn coded(coding: &str, body: &[u8]) -> Script {
    let head = format!("HTTP/1.1 200 OK\r\n{coding}content-length: {}\r\n\r\n", body.len());
    answer([head.as_bytes(), body].concat())
}

async fn body_of(script: Script) -> (Bytes, BodyEnd) {
    let server = Server::start([script]).await;
    match sink(reading(&server.url("/")), Tuning::default()).post(message(), PATIENCE).await {
        SinkResponse::Accepted { body, end, .. } => (body, end),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn no_compression_is_asked_for_unless_a_header_of_the_user_asks_for_it() {
    let server = Server::start(vec![answer("HTTP/1.1 204 No\r\n\r\n"); 2]).await;
    sink_of(&server).post(message(), PATIENCE).await;
    let mut settings = settings(&server.url("/"));
    settings.headers.insert("accept-encoding", HeaderValue::from_static("gzip"));
    sink(settings, Tuning::default()).post(message(), PATIENCE).await;
    let seen = server.seen();
    assert_eq!(
        (seen[0].header("accept-encoding"), seen[1].header("accept-encoding")),
        (vec!["identity"], vec!["gzip"])
    );
}

#[tokio::test]
async fn a_body_that_is_compressed_all_the_same_is_read() {
    let twice = [gzip(&NAMES_ONE.as_bytes()[..9]), gzip(&NAMES_ONE.as_bytes()[9..])].concat();
    for (coding, body) in [
        ("content-encoding: gzip\r\n", gzip(NAMES_ONE.as_bytes())),
        ("content-encoding: GZip\r\n", gzip(NAMES_ONE.as_bytes())),
        ("content-encoding: x-gzip\r\n", gzip(NAMES_ONE.as_bytes())),
        ("content-encoding: identity, gzip\r\n", gzip(NAMES_ONE.as_bytes())),
        ("content-encoding: gzip\r\n", twice),
        ("content-encoding: identity\r\n", NAMES_ONE.into()),
        ("content-encoding: \r\n", NAMES_ONE.into()),
        ("", NAMES_ONE.into()),
    ] {
        assert_eq!(body_of(coded(coding, &body)).await, (NAMES_ONE.into(), BodyEnd::Whole), "{coding:?}");
    }
    let (body, end) = body_of(coded("content-encoding: gzip\r\n", b"")).await;
    assert_eq!((body.len(), end), (0, BodyEnd::Whole), "there is nothing to decode");
}

#[tokio::test]
async fn a_body_in_a_coding_that_cannot_be_undone_is_told_as_such() {
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
    deflate.write_all(NAMES_ONE.as_bytes()).expect("memory");
    let (zipped, deflated) = (gzip(NAMES_ONE.as_bytes()), deflate.finish().expect("memory"));
    for (coding, body) in [
        ("br", &b"\x1b\x02\x80{}\x03"[..]),
        ("deflate", &deflated),
        ("zstd", b"\x28\xb5\x2f\xfd"),
        ("gzip, br", &zipped),
        ("gzip, gzip", &zipped),
        ("gzip", NAMES_ONE.as_bytes()),
        ("gzip", &zipped[..zipped.len() - 1]),
        ("gzip", &zipped[..zipped.len() / 2]),
    ] {
        let (_, end) = body_of(coded(&format!("content-encoding: {coding}\r\n"), body)).await;
        assert_eq!(end, BodyEnd::Illegible, "{coding}");
    }
}

#[tokio::test]
async fn a_small_body_that_unfolds_without_end_is_bounded() {
    let (body, end) = body_of(coded("content-encoding: gzip\r\n", &gzip(&vec![b' '; 64 << 20]))).await;
    assert_eq!((body.len(), end), (128 * 1024, BodyEnd::Cut));
}

/// `Invoke` of AWS Lambda answers 200 when the function fails.
#[tokio::test]
async fn a_function_that_failed_is_no_success_whatever_the_status_says() {
    for kind in ["Handled", "Unhandled"] {
        let script =
            answer(format!("HTTP/1.1 200 OK\r\nx-amz-function-error: {kind}\r\ncontent-length: 2\r\n\r\n{{}}"));
        let server = Server::start([script]).await;
        assert_eq!(sink_of(&server).post(message(), PATIENCE).await, refused(200, "{}"), "{kind}");
    }
}

#[tokio::test]
async fn a_body_whose_end_only_the_connection_tells_is_told_apart_from_one_that_is_cut() {
    let authority = Authority::new();
    for (head, body, end) in [
        ("", "{}", BodyEnd::Unclosed),
        ("", "", BodyEnd::Unclosed),
        ("content-length: 2\r\n", "{}", BodyEnd::Whole),
        ("content-length: 3\r\n", "{}", BodyEnd::Cut),
        ("transfer-encoding: chunked\r\n", "2\r\n{}\r\n", BodyEnd::Cut),
    ] {
        let mut script = answer(format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}"));
        script.push(Step::Vanish);
        let server = Server::start_tls(authority.server("localhost", false, &["http/1.1"]), [script]).await;
        let tuning = Tuning { system_roots: Some(authority.certificates()), ..Tuning::default() };
        let sink = sink(reading(&format!("https://localhost:{}/", server.port())), tuning);
        let answer = sink.post(message(), PATIENCE).await;
        assert!(
            matches!(answer, SinkResponse::Accepted { end: told, .. } if told == end),
            "{head:?} {body:?}: {answer:?}"
        );
    }
}
