//! An attempt without a status is told with its reason.

use super::server::{Script, Step, answer};
use super::*;

async fn fault_of(script: Script) -> (TransportError, String) {
    let server = Server::start([script]).await;
    failed(sink_of(&server).post(message(), PATIENCE).await)
}

#[tokio::test]
async fn nobody_listening_is_a_connect_fault() {
    let address =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let sink = sink(settings(&format!("http://{address}/")), Tuning::default());
    let (fault, message) = failed(sink.post(message(), PATIENCE).await);
    assert_eq!(fault, TransportError::Connect);
    assert!(message.to_lowercase().contains("connection refused"), "{message}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_connect_fault() {
    let sink = sink(settings("http://sink.invalid/"), Tuning::default());
    let (fault, message) = failed(sink.post(message(), PATIENCE).await);
    assert_eq!(fault, TransportError::Connect);
    assert!(message.contains("dns error"), "{message}");
}

#[tokio::test]
async fn a_connection_cut_before_the_answer_is_a_reset() {
    for end in [Step::Close, Step::Reset] {
        assert_eq!(fault_of(vec![Step::Read, end.clone()]).await.0, TransportError::Reset, "after the request");
        assert_eq!(fault_of(vec![end.clone()]).await.0, TransportError::Reset, "at once");
        let half_a_head = Step::Write(b"HTTP/1.1 200 OK\r\ncontent-".to_vec());
        assert_eq!(
            fault_of(vec![Step::Read, half_a_head, end]).await.0,
            TransportError::Reset,
            "in the head of the answer"
        );
    }
}

#[tokio::test]
async fn what_is_not_http_is_malformed() {
    let oversized = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(256 * 1024));
    let too_many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(1000));
    for response in ["SSH-2.0-OpenSSH_9.9\r\n\r\n", "HTTP/1.1 abc OK\r\n\r\n", &oversized, &too_many] {
        let (fault, message) = fault_of(answer(response)).await;
        assert_eq!(fault, TransportError::Malformed, "{message}");
    }
}

#[tokio::test]
async fn silence_is_a_timeout_wherever_it_begins() {
    let scripts: [Script; 3] = [
        vec![Step::Hang],
        vec![Step::Read, Step::Hang],
        [answer("HTTP/1.1 200 OK\r\ncontent-"), vec![Step::Hang]].concat(),
    ];
    for script in scripts {
        let server = Server::start([script]).await;
        let (fault, message) = failed(sink_of(&server).post(message(), Duration::from_millis(100)).await);
        assert_eq!((fault, &*message), (TransportError::Timeout, "no answer within 100ms"));
    }
}

#[tokio::test]
async fn a_timeout_longer_than_the_clock_is_no_fault() {
    let server = Server::start([answer("HTTP/1.1 204 No Content\r\n\r\n")]).await;
    assert_eq!(sink_of(&server).post(message(), Duration::MAX).await, accepted(204, ""));
}
