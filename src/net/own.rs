//! Which addresses are this program's own listeners, so that it never connects to itself
//! (DNS-12, DNS-13) and its name server never asks itself.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
};

/// The sockets that the program listens on.
#[derive(Clone, Debug, Default)]
pub struct OwnAddresses(Arc<[SocketAddr]>);

impl OwnAddresses {
    /// From the addresses that were bound; a wildcard stands for every address of the machine.
    pub fn new(listeners: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self(listeners.into_iter().map(canonical).collect())
    }

    /// Whether a connection to `address` would arrive at one of the listeners. What address
    /// translation in front of the machine does with it cannot be seen.
    #[must_use]
    pub fn contains(&self, address: SocketAddr) -> bool {
        let address = canonical(address);
        let mut same_port = self.0.iter().filter(|own| own.port() == address.port()).peekable();
        if same_port.peek().is_none() {
            return false;
        }
        same_port.any(|own| {
            own.ip() == address.ip()
                || (own.ip().is_unspecified() || address.ip().is_unspecified())
                    && is_of_this_machine(address.ip())
        })
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether the kernel delivers `ip` to this machine. No packet is sent.
fn is_of_this_machine(ip: IpAddr) -> bool {
    if ip.is_loopback() || ip.is_unspecified() {
        return true;
    }
    // Towards an own address the kernel talks from that address, except for secondary ones.
    let nowhere = match ip {
        IpAddr::V4(_) => NOWHERE_V4,
        IpAddr::V6(_) => NOWHERE_V6,
    };
    let any = match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    if source.is_ok_and(|source| source.ip() == ip) {
        return true;
    }
    // Those can be bound; but where `ip_nonlocal_bind` is set everything can, and says nothing.
    UdpSocket::bind((ip, 0)).is_ok() && UdpSocket::bind((nowhere, 0)).is_err()
}

/// Addresses for documentation, which no machine has (RFC 5737, RFC 3849).
const NOWHERE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const NOWHERE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

#[cfg(test)]
mod tests {
    use super::*;

    fn own(listeners: &[&str]) -> OwnAddresses {
        OwnAddresses::new(listeners.iter().map(|l| l.parse().unwrap()))
    }

    fn contains(own: &OwnAddresses, address: &str) -> bool {
        own.contains(address.parse().unwrap())
    }

    #[test]
    fn a_listener_is_known_in_every_spelling() {
        let own = own(&["127.0.0.1:5269"]);
        for address in ["127.0.0.1:5269", "[::ffff:127.0.0.1]:5269", "0.0.0.0:5269"] {
            assert!(contains(&own, address), "{address}");
        }
        for address in ["127.0.0.1:5270", "127.0.0.2:5269", "192.0.2.7:5269"] {
            assert!(!contains(&own, address), "{address}");
        }
    }

    #[test]
    fn a_wildcard_listener_is_at_every_address_of_the_machine_and_no_other() {
        let own = own(&["0.0.0.0:5269", "[::]:5269"]);
        for address in ["127.0.0.1:5269", "127.8.8.8:5269", "[::1]:5269"] {
            assert!(contains(&own, address), "{address}");
        }
        for address in ["192.0.2.7:5269", "[2001:db8::7]:5269", "127.0.0.1:443"] {
            assert!(!contains(&own, address), "{address}");
        }
    }
}
