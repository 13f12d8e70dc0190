//! Ports that this process listens at.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// A port is taken or not allowed.
#[derive(Debug, thiserror::Error)]
#[error("{variable} {address} cannot be opened: {source}; choose another, or stop what uses it")]
pub struct PortError {
    variable: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// Listens at the address that this variable names.
///
/// # Errors
/// When nobody can.
pub(crate) fn open_port(variable: &'static str, address: SocketAddr) -> Result<TcpListener, PortError> {
    let opened = match listen(address) {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && has_no_ipv6(&error) => {
            listen((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        opened => opened,
    };
    opened.map_err(|source| PortError { variable, address, source })
}

/// Listens at an address; at `[::]` for both families, whatever the kernel's default is.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        set_ipv6_v6only(&socket, false)?;
    }
    // A port whose last connections are not forgotten yet is free.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Whether the kernel has no IPv6, or none that is switched on.
fn has_no_ipv6(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL | Errno::NOPROTOOPT))
}
