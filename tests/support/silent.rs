//! An address that swallows packets: its queue of connections is full, so that the kernel drops whoever asks for one more.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// Long enough for a connection on loopback.
const PATIENCE: Duration = Duration::from_millis(300);

/// Nobody is let in at this address as long as this lives.
pub struct SilentAddress {
    pub address: SocketAddr,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl SilentAddress {
    /// Silent at this address; a free port for 0.
    pub async fn at(address: SocketAddr) -> Self {
        let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() };
        let socket = socket.expect("a socket");
        socket.set_reuseaddr(true).expect("a socket option");
        socket.bind(address).expect("a free address");
        let listener = socket.listen(0).expect("a listener");
        let address = listener.local_addr().expect("bound");
        let mut queue = Vec::new();
        while let Ok(connected) = timeout(PATIENCE, TcpStream::connect(address)).await {
            queue.push(connected.expect("a connection"));
            assert!(queue.len() < 100, "the queue has no end");
        }
        Self { address, _listener: listener, _queue: queue }
    }
}
