//! Taking a port over from an old socket of this process, which is to go.
//!
//! A configuration is taken whole or not at all, so new sockets are bound while the old ones still
//! listen. The kernel has two on one port and overlapping addresses only where both have
//! `SO_REUSEPORT` at the moment of `bind` and `listen`. No socket has it but for that moment: whoever
//! comes later, such as a second fedgate, is told that the address is in use. The kernel remembers of the
//! port, until nobody has it, that it was shared: a process of the same user that itself asks to share
//! would be let in. fedgate asks where a socket of its own is to go, and nowhere else.
//!
//! Until the old one ends the kernel may still give it connections. Those that it has not accepted by
//! then are reset, as they are whenever a listener goes.

use std::{
    io,
    net::Shutdown,
    os::fd::{AsFd, BorrowedFd},
};

use socket2::SockRef;
use tracing::warn;

/// Binds by `bind`, which is told whether its socket has to share its port: so it does where the
/// address is in use, and `old` are sockets that may have it. Changes nothing about those.
///
/// # Errors
/// Those of `bind`: the address is in use also where something else than `old` has it.
pub fn bind<T: AsFd>(
    old: &[BorrowedFd<'_>],
    mut bind: impl FnMut(bool) -> io::Result<T>,
) -> io::Result<T> {
    match bind(false) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && !old.is_empty() => {}
        outcome => return outcome,
    }
    let sharing = Sharing(old);
    for socket in old {
        SockRef::from(socket).set_reuse_port(true)?;
    }
    let new = bind(true)?;
    drop(sharing);
    SockRef::from(&new).set_reuse_port(false)?;
    Ok(new)
}

/// Ends listening at once, though others may have the socket a while longer: what comes meanwhile is
/// for the new one. Who accepts on it gets an error.
pub fn end(old: BorrowedFd<'_>) {
    if let Err(error) = SockRef::from(&old).shutdown(Shutdown::Read) {
        warn!(%error, "an old socket listens until it is closed");
    }
}

/// Sockets that share their ports while this lives.
struct Sharing<'a>(&'a [BorrowedFd<'a>]);

impl Drop for Sharing<'_> {
    fn drop(&mut self) {
        for socket in self.0 {
            if let Err(error) = SockRef::from(socket).set_reuse_port(false) {
                warn!(%error, "a socket still shares its port");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn listen(address: SocketAddr, shares: bool) -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shares)?;
        socket.bind(&address.into())?;
        socket.listen(8)?;
        Ok(socket.into())
    }

    fn in_use(outcome: io::Result<TcpListener>) {
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_port_goes_over_to_an_address_that_overlaps_and_is_nobody_elses() {
        for (from, to) in [
            ("[::]:0", "0.0.0.0"),
            ("0.0.0.0:0", "::"),
            ("0.0.0.0:0", "127.0.0.1"),
            ("127.0.0.1:0", "0.0.0.0"),
            ("127.0.0.1:0", "127.0.0.1"),
        ] {
            let old = listen(from.parse().unwrap(), false).unwrap();
            let port = old.local_addr().unwrap().port();
            let address = SocketAddr::new(to.parse().unwrap(), port);
            in_use(bind(&[], |shares| listen(address, shares)));
            let new = bind(&[old.as_fd()], |shares| listen(address, shares)).unwrap();
            for other in [address, old.local_addr().unwrap()] {
                in_use(listen(other, false));
            }
            for socket in [&old, &new] {
                assert!(!SockRef::from(socket).reuse_port().unwrap());
            }
            end(old.as_fd());
            in_use(listen(address, false));
            let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
            new.accept().unwrap();
            old.accept().unwrap_err();
        }
    }

    #[test]
    fn what_does_not_come_about_leaves_the_old_socket_as_it_was() {
        let [old, other] = [(); 2].map(|()| listen("127.0.0.1:0".parse().unwrap(), false).unwrap());
        in_use(bind(&[old.as_fd()], |shares| listen(other.local_addr()?, shares)));
        assert!(!SockRef::from(&old).reuse_port().unwrap());
        assert!(!SockRef::from(&other).reuse_port().unwrap());
    }
}
