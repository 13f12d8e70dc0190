//! Clients that misbehave, on real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream as Client};

use axum::routing::get;
use tokio::task::JoinHandle;

use super::*;

/// More than the sockets' buffers take.
const LARGE: usize = 16 << 20;

const PATIENCE: Duration = Duration::from_secs(20);

const BRIEF: Duration = Duration::from_millis(200);
const EVER: Duration = Duration::from_secs(600);

const LONG: Limits = Limits { connections: 8, kept_back: 2, head: EVER, taking: EVER, life: EVER };

/// Where an answer takes until somebody else asks for `/go`.
fn served() -> Served {
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = gate.clone();
    let router = Router::new()
        .route("/", get(async || "hello"))
        .route("/large", get(async || "x".repeat(LARGE)))
        .route("/slow", get(move || async move { gate.notified().await }))
        .route("/go", get(move || async move { opened.notify_waiters() }));
    Served { router, always: |path| path == "/" || path == "/go" }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn server(limits: Limits) -> (SocketAddr, CancellationToken, JoinHandle<io::Result<()>>) {
    let (listener, address) = listener().await;
    let stop = CancellationToken::new();
    (address, stop.clone(), tokio::spawn(serve(listener, served(), limits, stop)))
}

async fn end(stop: CancellationToken, server: JoinHandle<io::Result<()>>) {
    stop.cancel();
    timeout(PATIENCE, server).await.expect("the server did not end").unwrap().unwrap();
}

fn connect(address: SocketAddr, text: &str) -> Client {
    let mut client = Client::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(text.as_bytes()).unwrap();
    client
}

/// Everything that a client still gets until the connection ends.
async fn rest(mut client: Client) -> Vec<u8> {
    let read = move || {
        let mut text = Vec::new();
        match client.read_to_end(&mut text) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("the connection stayed open"),
            _ => text,
        }
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

/// A client's connection, served by itself.
async fn connection(text: &str, limits: Limits) -> (Client, impl Future<Output = ()>) {
    let (listener, address) = listener().await;
    let client = connect(address, text);
    let (stream, _) = listener.accept().await.unwrap();
    let context = ClientContext {
        source: Source::of([127, 0, 0, 1].into()),
        stage: SharedStage::new(Stage::Silent),
        place: Place::Open,
    };
    (client, serve_client(stream.into(), context, Clients::new(served(), limits, CancellationToken::new()).context))
}

#[tokio::test]
async fn a_client_that_never_finishes_its_request_is_cut_off() {
    for text in ["", "GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let limits = Limits { head: BRIEF, ..LONG };
        let (client, connection) = connection(text, limits).await;
        timeout(PATIENCE, connection).await.expect("the connection stayed open");
        drop(client);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_is_cut_off() {
    for limits in [Limits { taking: BRIEF, ..LONG }, Limits { life: BRIEF, ..LONG }] {
        let (client, connection) = connection("GET /large HTTP/1.1\r\nHost: a\r\n\r\n", limits).await;
        timeout(PATIENCE, connection).await.expect("the connection stayed open");
        assert!(rest(client).await.len() < LARGE, "this test's answer is too small");
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_before_it_is_read() {
    // 64 MiB: many times what the system buffers of a connection.
    const WRITES: usize = 1024;
    let (client, connection) = connection("GET / HTTP/1.1\r\nHost: a\r\nX: ", LONG).await;
    let writing = tokio::task::spawn_blocking(move || {
        let mut client = client;
        let written = (0..WRITES).take_while(|_| client.write_all(&[b'x'; 64 << 10]).is_ok()).count();
        // The refusal may be lost where more was sent than is read.
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        (written, answer)
    });
    timeout(PATIENCE, connection).await.expect("the connection stayed open");
    let (written, answer) = writing.await.unwrap();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{:?}", String::from_utf8_lossy(&answer));
    assert!(written < WRITES, "all of it was read");
}

async fn answer_to(request: &str, address: SocketAddr) -> String {
    String::from_utf8(rest(connect(address, request)).await).unwrap()
}

#[tokio::test]
async fn who_is_being_answered_is_not_cut_off_and_probes_are_answered_beside_them() {
    let (address, stop, server) = server(LONG).await;
    let slow = "GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    // Half of the places, which is all that one source gets.
    let waiting: Vec<Client> = (0..LONG.connections / 2).map(|_| connect(address, slow)).collect();
    for _ in 0..20 {
        let answer = answer_to("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", address).await;
        assert!(answer.ends_with("hello"), "{answer}");
    }
    let mut late = connect(address, "");
    // The server takes it before it says anything.
    sleep(Duration::from_millis(50)).await;
    let _ = late.write_all(slow.as_bytes());
    let answer = String::from_utf8(rest(late).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"), "{answer}");
    answer_to("GET /go HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", address).await;
    for client in waiting {
        let answer = String::from_utf8(rest(client).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "cut off: {answer:?}");
    }
    end(stop, server).await;
}

/// It was sent before anybody accepted the connection.
#[tokio::test]
async fn a_request_that_has_come_whole_is_answered_however_many_connect_behind_it() {
    let (listener, address) = listener().await;
    let probe = connect(address, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let behind: Vec<Client> = (0..100).map(|_| connect(address, "")).collect();
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(listener, served(), LONG, stop.clone()));
    assert!(rest(probe).await.ends_with(b"hello"), "it was cut off");
    drop(behind);
    end(stop, server).await;
}

/// Probes must get through whoever else holds connections open.
#[tokio::test]
async fn when_too_many_are_connected_the_oldest_makes_room() {
    let (address, stop, server) = server(LONG).await;
    let idle: Vec<Client> = (0..LONG.connections / 2).map(|_| connect(address, "")).collect();
    for _ in 0..3 {
        let probe = connect(address, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = String::from_utf8(rest(probe).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer}");
    }
    let mut idle = idle.into_iter();
    assert_eq!(rest(idle.next().unwrap()).await, b"", "the oldest was not cut off");
    end(stop, server).await;
}

#[tokio::test]
async fn a_client_that_does_not_finish_does_not_hold_up_the_end() {
    let (address, stop, server) = server(LONG).await;
    let half = connect(address, "GET / HT");
    let unread = connect(address, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    let answered = connect(address, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    rest(answered).await;
    end(stop, server).await;
    assert!(Client::connect(address).is_err(), "the port stayed open");
    drop((half, unread));
}

#[tokio::test]
async fn an_answer_that_has_begun_is_finished_at_the_end() {
    let (address, stop, server) = server(LONG).await;
    let mut client = connect(address, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    let begun = move || client.read_exact(&mut [0]).map(|()| client);
    let client = tokio::task::spawn_blocking(begun).await.unwrap().unwrap();
    stop.cancel();
    assert!(rest(client).await.len() > LARGE, "the answer was cut off");
    end(stop, server).await;
}

#[tokio::test]
async fn what_is_no_http_does_no_harm() {
    let (address, stop, server) = server(LONG).await;
    for nonsense in ["\0\0\0\0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET /\r\n\r\n"] {
        rest(connect(address, nonsense)).await;
    }
    let answer = rest(connect(address, "GET / HTTP/1.0\r\n\r\n")).await;
    assert!(answer.ends_with(b"hello"));
    end(stop, server).await;
}
