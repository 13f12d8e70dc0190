//! A status that is known counts, whatever else an answer says; and no answer is ever taken for another request's.

use super::server::{Step, answer};
use super::*;

const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[tokio::test]
async fn what_is_no_header_hides_no_status_and_the_message_is_sent_once() {
    let many = "x: y\r\n".repeat(200);
    for odd in [
        many.as_str(),
        "PHP Warning: Undefined index\r\n",
        "<br />\r\n",
        "no colon\r\n",
        ": no name\r\n",
        "na(me: parenthesis\r\n",
        "name : blank before the colon\r\n",
        "caf\u{e9}: not ASCII\r\n",
        "x: \u{1}control\r\n",
        "x: \u{7f}delete\r\n",
        "\"quoted\": name\r\n",
    ] {
        let server = Server::start([answer(format!("HTTP/1.1 202 Accepted\r\n{odd}content-length: 0\r\n\r\n"))]).await;
        assert_eq!(sink_of(&server).post(message(), PATIENCE).await, accepted(202, ""), "{odd:?}");
        assert_eq!(server.seen().len(), 1, "{odd:?}");
    }
}

/// A length that is not understood makes the body end with the connection: it is not used again, and what is in the body is not
/// read as an answer.
#[tokio::test]
async fn an_odd_length_makes_no_answer_another_requests() {
    let poison = "HTTP/1.1 500 Poison\r\ncontent-length: 0\r\n\r\n";
    let length = poison.len();
    for odd in [
        format!("content-length : {length}"),
        format!("content_length: {length}"),
        format!("content-length{length}"),
        format!("content-length: {length}\r\ncontent-length: {length}"),
        format!("\"content-length\": {length}"),
        "content-length : 0".to_owned(),
        "content-length: +0".to_owned(),
        "content-length: 0x0".to_owned(),
        "content-length: 0, 0".to_owned(),
        "content-length: -0".to_owned(),
        "content-length:".to_owned(),
        "content-length: 0\r\ncontent-length : 7".to_owned(),
        "transfer-encoding : chunked".to_owned(),
        "transfer-encoding: xchunked".to_owned(),
        "transfer-encoding: chunked, identity".to_owned(),
        "transfer-encoding: identity".to_owned(),
        "transfer-encoding: chunked\r\ncontent-length: 0".to_owned(),
        "x: y\r\n content-length: 0".to_owned(),
    ] {
        let first = answer(format!("HTTP/1.1 202 Accepted\r\n{odd}\r\n\r\n{poison}"));
        let server = Server::start([[first, answer(NO_CONTENT)].concat(), answer(NO_CONTENT)]).await;
        let sink = sink_of(&server);
        let answers = [sink.post(message(), PATIENCE).await, sink.post(message(), PATIENCE).await];
        for answer in &answers {
            let is_poison = matches!(answer, SinkResponse::Refused { .. });
            assert!(!is_poison, "{odd:?}: a body was taken for an answer: {answers:?}");
        }
        assert_eq!(answers[1], accepted(204, ""), "{odd:?}");
    }
}

#[tokio::test]
async fn two_different_lengths_are_refused() {
    for head in ["content-length: 0\r\ncontent-length: 5", "content-length: 5, 6"] {
        let server = Server::start([answer(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\nhello"))]).await;
        let (fault, why) = failed(sink_of(&server).post(message(), PATIENCE).await);
        assert_eq!(fault, TransportError::Malformed, "{head}: {why}");
    }
}

/// One event of an item would be delivered in each `DELIVERY_TIMEOUT`.
#[tokio::test]
async fn a_body_that_nobody_reads_is_not_waited_for() {
    for head in [
        "HTTP/1.1 202 Accepted\r\n\r\n",
        "HTTP/1.1 202 Accepted\r\ncontent-length: 10\r\n\r\n",
        "HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 500 No\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\n",
    ] {
        let server = Server::start([[answer(head), vec![Step::Hang]].concat()]).await;
        let begun = Instant::now();
        let answer = sink_of(&server).post(message(), PATIENCE).await;
        assert!(begun.elapsed() < PATIENCE / 2, "{head:?}: its body was waited for");
        assert!(!matches!(answer, SinkResponse::Failed { .. }), "{head:?}: {answer:?}");
        server.ended(1).await;
    }
}
