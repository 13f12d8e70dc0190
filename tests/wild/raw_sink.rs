//! A sink that answers byte by byte what a test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What is written in answer to a request, and whether the connection is closed behind it.
pub struct Answer {
    pub bytes: Vec<u8>,
    pub closes: bool,
}

impl Answer {
    pub fn keeping(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), closes: false }
    }

    pub fn closing(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), closes: true }
    }
}

/// The ids of the events of one request, in their order.
pub type Ids = Vec<String>;

type Script = Arc<dyn Fn(&Ids, usize) -> Answer + Send + Sync>;

/// It ends when it is dropped.
pub struct RawSink {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Ids>>>,
    task: JoinHandle<()>,
}

impl RawSink {
    /// `script` gets the events of a request, and how many requests came before it.
    pub async fn start(script: impl Fn(&Ids, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, requests) = (listener.local_addr().unwrap(), Arc::default());
        let task = tokio::spawn(serve(listener, Arc::new(script), Arc::clone(&requests)));
        Self { address, requests, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub fn requests(&self) -> Vec<Ids> {
        self.requests.lock().unwrap().clone()
    }

    /// How often each event came.
    pub fn times(&self) -> std::collections::BTreeMap<String, usize> {
        let mut times = std::collections::BTreeMap::new();
        self.requests().into_iter().flatten().for_each(|id| *times.entry(id).or_default() += 1);
        times
    }
}

impl Drop for RawSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, script: Script, requests: Arc<Mutex<Vec<Ids>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(answer(stream, script.clone(), requests.clone()));
    }
}

async fn answer(mut stream: TcpStream, script: Script, requests: Arc<Mutex<Vec<Ids>>>) {
    while let Some(ids) = read_request(&mut stream).await {
        let before = {
            let mut requests = requests.lock().unwrap();
            requests.push(ids.clone());
            requests.len() - 1
        };
        let answer = script(&ids, before);
        if stream.write_all(&answer.bytes).await.is_err() || answer.closes {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Ids> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let header =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
    let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    if let Some(id) = header("ce-id") {
        return Some(vec![id]);
    }
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let id = |event: &serde_json::Value| event["id"].as_str().unwrap().to_owned();
    Some(body.as_array().map_or_else(|| vec![id(&body)], |events| events.iter().map(id).collect()))
}
