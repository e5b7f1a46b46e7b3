//! `fedgate health`: whether the running gate answers, for container health checks.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use fedgate::{config, xml::writer, xmpp::Domain};

use super::EXIT_USAGE;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// No answer to a stream header is longer.
const ANSWER_MAX: u64 = 4096;

/// Opens a stream to the first public listener, as a peer would.
pub(super) fn health(dir: &Path) -> anyhow::Result<ExitCode> {
    let config = match config::load(dir) {
        Ok(loaded) => loaded.config,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let address = config.listen.public.first().context("no public listener is configured")?;
    let domain = config.local_domains.keys().next().context("no local domain is configured")?;
    let mut outcome = Ok(());
    for address in here(*address) {
        outcome = ask(address, domain).with_context(|| format!("ask {address}"));
        if outcome.is_ok() {
            break;
        }
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

fn ask(address: SocketAddr, domain: &Domain) -> anyhow::Result<()> {
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let to = domain.to_unicode();
    let header = writer::StreamHeader {
        to: Some(&to),
        version: Some(fedgate::xml::Version::V1_0),
        ..Default::default()
    };
    let mut text = Vec::new();
    header.write(&mut text);
    text.extend_from_slice(writer::FOOTER.as_bytes());
    socket.write_all(&text)?;
    let mut answer = Vec::new();
    socket.take(ANSWER_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    if !answer.contains("<stream:features") {
        bail!("the answer has no stream features: {}", answer.escape_debug());
    }
    Ok(())
}

/// Where to ask: a listener on all addresses is asked on loopback, and one of IPv6 on that of
/// IPv4 too, for containers often have no other.
fn here(address: SocketAddr) -> Vec<SocketAddr> {
    let ips: Vec<IpAddr> = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![Ipv4Addr::LOCALHOST.into()],
        IpAddr::V6(ip) if ip.is_unspecified() => {
            vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]
        }
        ip => vec![ip],
    };
    ips.into_iter().map(|ip| SocketAddr::new(ip, address.port())).collect()
}
