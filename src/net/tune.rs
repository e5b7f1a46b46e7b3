//! The options of the sockets that carry streams.

use std::{io, os::fd::AsFd, time::Duration};

use socket2::{SockRef, TcpKeepalive};

/// No neighbour is probed less often while nothing goes either way.
const PROBED_AFTER: Duration = Duration::from_secs(60);
/// Probes in the time in which one has to be answered, so that losing one costs no connection.
const PROBES: u32 = 4;
/// The kernel counts in whole seconds.
const LEAST: Duration = Duration::from_secs(1);

/// Small pieces leave at once; and a neighbour whose kernel has answered nothing for `stall` is
/// dead (RFC 5482), though the connection looks well from here: what is written to it meanwhile
/// fills the kernel's buffer, and would be taken for delivered for a quarter of an hour.
///
/// What a listening socket has, the connections that it accepts have from the beginning.
///
/// # Errors
/// What the kernel says; the connection is good without them.
pub fn tune(socket: &impl AsFd, stall: Duration) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time((stall / 2).clamp(LEAST, PROBED_AFTER))
        .with_interval((stall / 2 / PROBES).clamp(LEAST, PROBED_AFTER));
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(stall))
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn tuned(stall: Duration) -> (Duration, Duration, Option<Duration>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tune(&socket, stall).unwrap();
        options(&socket)
    }

    fn options(socket: &TcpStream) -> (Duration, Duration, Option<Duration>) {
        let socket = SockRef::from(socket);
        assert!(socket.keepalive().unwrap());
        assert!(socket.tcp_nodelay().unwrap());
        let time = socket.tcp_keepalive_time().unwrap();
        (time, socket.tcp_keepalive_interval().unwrap(), socket.tcp_user_timeout().unwrap())
    }

    #[tokio::test]
    async fn an_accepted_connection_has_what_its_listener_has() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stall = Duration::from_secs(90);
        tune(&listener, stall).unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let [time, interval] = [45, 11].map(Duration::from_secs);
        assert_eq!(options(&socket), (time, interval, Some(stall)));
    }

    #[tokio::test]
    async fn a_neighbour_is_probed_several_times_before_it_is_dead() {
        for (stall, time, interval) in [(60, 30, 7), (3600, 60, 60), (1, 1, 1)] {
            let [stall, time, interval] = [stall, time, interval].map(Duration::from_secs);
            assert_eq!(tuned(stall).await, (time, interval, Some(stall)));
        }
    }
}
