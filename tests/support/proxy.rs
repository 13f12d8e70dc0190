//! A TCP proxy that can be cut: then its connections hear nothing more, and new ones are refused or swallowed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How its connections fare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Bytes pass in both directions.
    Whole,
    /// Connections are closed, and new ones at once.
    Closed,
    /// Nothing passes and nothing is said, on old connections and on new ones.
    Silent,
}

/// A proxy on loopback. It ends when it is dropped.
pub struct TcpProxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    refused: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl TcpProxy {
    /// In front of an address such as `http://127.0.0.1:8000`.
    pub async fn before(endpoint: &str) -> Self {
        let target: SocketAddr = endpoint.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, refused) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let (line, watched) = watch::channel(Line::Whole);
        let server = tokio::spawn(serve(listener, target, watched, refused.clone()));
        Self { address, line, refused, server }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// Connections that led nowhere, because the line was closed.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, line: watch::Receiver<Line>, refused: Arc<AtomicUsize>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if *line.borrow() == Line::Closed {
            refused.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        connections.spawn(carry(client, target, line.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(mut client: TcpStream, target: SocketAddr, mut line: watch::Receiver<Line>) {
    loop {
        let now = *line.borrow_and_update();
        match now {
            Line::Closed => return,
            // Bytes on their way are lost with the connection.
            Line::Silent => {
                let _ = line.wait_for(|line| *line != Line::Silent).await;
                return;
            }
            Line::Whole => {}
        }
        let Ok(mut server) = TcpStream::connect(target).await else { return };
        tokio::select! {
            _ = line.changed() => {}
            _ = copy_bidirectional(&mut client, &mut server) => return,
        }
    }
}
