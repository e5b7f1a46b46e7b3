//! The sockets for streams, as they are made.

use std::{
    io,
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::net::{handover, tune::tune};

/// Connections that the kernel holds ready.
pub(super) const BACKLOG: i32 = 1024;

/// For which `write_stall` a listening socket has the options that its connections take over.
pub(super) type Tuned = Option<Duration>;

/// Listens on an address, whose port it takes over from `old` sockets that may have it.
pub(super) fn bind(
    address: SocketAddr,
    stall: Duration,
    old: &[BorrowedFd<'_>],
) -> io::Result<(TcpListener, Tuned)> {
    let mut tuned = None;
    let socket = handover::bind(old, |shares_port| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shares_port)?;
        socket.set_nonblocking(true)?;
        tuned = tune(&socket, stall).ok().map(|()| stall);
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    })?;
    Ok((TcpListener::from_std(socket.into())?, tuned))
}

/// Further descriptors of sockets.
pub(super) fn copies<'a>(
    sockets: impl IntoIterator<Item = BorrowedFd<'a>>,
) -> io::Result<Vec<OwnedFd>> {
    sockets.into_iter().map(|socket| socket.try_clone_to_owned()).collect()
}
