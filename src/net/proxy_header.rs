//! The header by which a load balancer says whose connection it hands on: PROXY protocol, versions
//! 1 and 2 (HAProxy, `proxy-protocol.txt`).
//!
//! Not a byte behind the header is read. What the specification does not allow is refused, so that
//! nothing else is ever taken for a header.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str,
};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What begins every header of version 2 (§2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, command, family and length.
const FIXED: usize = 16;
/// A line of version 1, with its end (§2.1).
const LINE_MAX: usize = 107;
/// Addresses and further fields of version 2; balancers send some hundred bytes.
const REST_MAX: usize = 4096;

/// Whose connection it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The balancer's own, such as a health check, or nobody's that it could name.
    Balancer,
    /// That of a client.
    Client(SocketAddr),
}

/// No header that the specification allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(&'static str);

/// Reads the header, and nothing behind it.
///
/// # Errors
/// What the socket says; [`io::ErrorKind::InvalidData`] with [`Invalid`] for anything else than a
/// header.
pub async fn read(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Source> {
    let mut header = Vec::with_capacity(LINE_MAX);
    loop {
        let invalid = |invalid| io::Error::new(io::ErrorKind::InvalidData, invalid);
        match step(&header).map_err(invalid)? {
            Step::Done(source) => return Ok(source),
            Step::Read(more) => {
                let have = header.len();
                header.resize(have + more, 0);
                socket.read_exact(header.get_mut(have..).unwrap_or_default()).await?;
            }
        }
    }
}

/// What to do with the part of a header that came.
#[derive(PartialEq, Eq, Debug)]
enum Step {
    /// At least so many bytes of it are still to come.
    Read(usize),
    /// It is whole.
    Done(Source),
}

fn step(header: &[u8]) -> Result<Step, Invalid> {
    // both versions are longer than this
    match SIGNATURE.len().checked_sub(header.len()) {
        Some(more @ 1..) => Ok(Step::Read(more)),
        _ if header.starts_with(SIGNATURE) => binary(header),
        _ if header.starts_with(b"PROXY ") => line(header),
        _ => Err(Invalid("neither version of the PROXY protocol")),
    }
}

/// §2.1.
fn line(header: &[u8]) -> Result<Step, Invalid> {
    let Some(text) = header.strip_suffix(b"\r\n") else {
        return match header.len() {
            LINE_MAX.. => Err(Invalid("a PROXY line without an end")),
            _ if header.contains(&b'\n') => Err(Invalid("a PROXY line that ends in LF alone")),
            _ => Ok(Step::Read(1)),
        };
    };
    let text = str::from_utf8(text).map_err(|_| Invalid("a PROXY line that is not ASCII"))?;
    let mut words = text.split(' ').skip(1);
    let malformed = Invalid("a malformed PROXY line");
    let family = words.next();
    // the rest of the line means nothing then
    if family == Some("UNKNOWN") {
        return Ok(Step::Done(Source::Balancer));
    }
    let mut address = || -> Result<IpAddr, Invalid> {
        let text = words.next().ok_or(malformed)?;
        match family {
            Some("TCP4") => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| malformed),
            Some("TCP6") => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| malformed),
            _ => Err(malformed),
        }
    };
    let (source, _target) = (address()?, address()?);
    let mut port = || -> Result<u16, Invalid> {
        let text = words.next().ok_or(malformed)?;
        let plain =
            text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse().ok().filter(|_| plain).ok_or(malformed)
    };
    let (source_port, _target_port) = (port()?, port()?);
    match words.next() {
        None => Ok(Step::Done(Source::Client(SocketAddr::new(source, source_port)))),
        Some(_) => Err(malformed),
    }
}

/// §2.2.
fn binary(header: &[u8]) -> Result<Step, Invalid> {
    let Some([command, family, high, low]) = header.get(12..FIXED) else {
        return Ok(Step::Read(FIXED - header.len()));
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > REST_MAX {
        return Err(Invalid("a PROXY header that is too long"));
    }
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Invalid("an unknown version or command of the PROXY protocol")),
    };
    let rest = header.get(FIXED..).unwrap_or_default();
    if let Some(more @ 1..) = length.checked_sub(rest.len()) {
        return Ok(Step::Read(more));
    }
    let source = match (is_local, family) {
        (true, _) | (false, 0x00) => Source::Balancer,
        (false, 0x11) => Source::Client(tcp::<4, 12>(rest)?),
        (false, 0x21) => Source::Client(tcp::<16, 36>(rest)?),
        (false, _) => return Err(Invalid("a PROXY header for something else than TCP")),
    };
    Ok(Step::Done(source))
}

/// Source, target, source port, target port; `N` bytes an address, `ALL` together.
fn tcp<const N: usize, const ALL: usize>(rest: &[u8]) -> Result<SocketAddr, Invalid>
where
    IpAddr: From<[u8; N]>,
{
    let short = Invalid("a PROXY header without its addresses");
    let addresses = rest.first_chunk::<ALL>().ok_or(short)?;
    let source = addresses.first_chunk::<N>().ok_or(short)?;
    let port = addresses.get(2 * N..).and_then(|ports| ports.first_chunk()).ok_or(short)?;
    Ok(SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests;
