//! A server on the loopback interface that does to each connection what the test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What the server does next on a connection.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Read one request to its end.
    Read,
    /// Read no more than a request's head.
    ReadHead,
    /// Write bytes.
    Write(Vec<u8>),
    /// Take this long.
    Pause(Duration),
    /// Wait for the test's permission.
    Await(Arc<Notify>),
    /// Close with everything sent, at once.
    Close,
    /// Close with everything sent, and of TLS without a word.
    Vanish,
    /// Cut the connection with a TCP reset.
    Reset,
    /// Stay silent until the client goes away.
    Hang,
}

/// One connection's script; at its end the server waits for the client to close.
pub(super) type Script = Vec<Step>;

/// Reads a request and answers it.
pub(super) fn answer(response: impl Into<Vec<u8>>) -> Vec<Step> {
    vec![Step::Read, Step::Write(response.into())]
}

/// A request as it came over the wire.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Which connection brought it, from 0.
    pub(super) connection: usize,
    /// Request line and headers.
    pub(super) head: String,
    /// The body.
    pub(super) body: Vec<u8>,
}

impl Seen {
    pub(super) fn request_line(&self) -> &str {
        self.head.lines().next().expect("a request line")
    }

    pub(super) fn header(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }
}

#[derive(Debug, Default)]
struct Log {
    seen: Mutex<Vec<Seen>>,
    ended: watch::Sender<usize>,
}

/// Runs one script for each connection, in the order in which they arrive. Ends with the test.
pub(super) struct Server {
    address: SocketAddr,
    log: Arc<Log>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(scripts: impl IntoIterator<Item = Script>) -> Self {
        Self::start_with(scripts, None).await
    }

    pub(super) async fn start_tls(acceptor: TlsAcceptor, scripts: impl IntoIterator<Item = Script>) -> Self {
        Self::start_with(scripts, Some(acceptor)).await
    }

    async fn start_with(scripts: impl IntoIterator<Item = Script>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let log = Arc::new(Log::default());
        let task = tokio::spawn(serve(listener, scripts.into_iter().collect(), tls, Arc::clone(&log)));
        Self { address, log, task }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The requests read so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.log.seen.lock().expect("no panic while logging").clone()
    }

    /// Waits until the client has closed so many connections, or their scripts have.
    pub(super) async fn ended(&self, connections: usize) {
        let mut ended = self.log.ended.subscribe();
        let wait = ended.wait_for(|count| *count >= connections);
        tokio::time::timeout(super::PATIENCE, wait).await.expect("the connection is closed").expect("the server lives");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, scripts: Vec<Script>, tls: Option<TlsAcceptor>, log: Arc<Log>) {
    let mut connections = tokio::task::JoinSet::new();
    for (connection, script) in scripts.into_iter().enumerate() {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let (log, tls) = (Arc::clone(&log), tls.clone());
        connections.spawn(async move {
            run(stream, tls, script, connection, &log).await;
            log.ended.send_modify(|count| *count += 1);
        });
    }
    drop(listener);
    connections.join_all().await;
}

async fn run(stream: TcpStream, tls: Option<TlsAcceptor>, script: Script, connection: usize, log: &Log) {
    if matches!(script.last(), Some(Step::Reset)) {
        stream.set_zero_linger().expect("a socket option");
    }
    match tls {
        None => follow(stream, script, connection, log).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                follow(stream, script, connection, log).await;
            }
        }
    }
}

async fn follow<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, script: Script, connection: usize, log: &Log) {
    for step in script {
        match step {
            Step::Read => {
                let Some((head, body)) = read_request(&mut stream, true).await else {
                    return;
                };
                log.seen.lock().expect("no panic while logging").push(Seen { connection, head, body });
            }
            Step::ReadHead => {
                let Some((head, body)) = read_request(&mut stream, false).await else {
                    return;
                };
                log.seen.lock().expect("no panic while logging").push(Seen { connection, head, body });
            }
            // The client may have gone already: that is part of some scripts.
            Step::Write(bytes) => drop(stream.write_all(&bytes).await),
            Step::Pause(time) => tokio::time::sleep(time).await,
            Step::Await(permission) => permission.notified().await,
            Step::Close => {
                drop(stream.shutdown().await);
                return;
            }
            Step::Vanish | Step::Reset => return,
            Step::Hang => break,
        }
    }
    drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S, with_body: bool) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("ASCII");
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().expect("a length"));
    let mut body = vec![0; if with_body { length } else { 0 }];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}
