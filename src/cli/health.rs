//! `fedgate health`: whether the running gate answers, for container health checks.
//!
//! The running gate is asked where it listens, so that a configuration on disk which it refused, and
//! which changes nothing, does not make it look ill. Only where it cannot be asked do the files say.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use fedgate::{
    config::{self, DEFAULT_ADMIN_SOCKET},
    ops::report::Listeners,
    xml::writer,
    xmpp::Domain,
};

use super::{ConfigDir, EXIT_USAGE, admin};

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// No answer to a stream header is longer.
const ANSWER_MAX: u64 = 4096;

#[derive(Debug, Args)]
pub(super) struct Health {
    #[command(flatten)]
    dir: ConfigDir,
    /// The admin socket; by default that of the configuration, and where that cannot be read, the
    /// one in the default state directory.
    #[arg(long, value_name = "PATH", env = "FEDGATE_SOCKET")]
    socket: Option<PathBuf>,
}

/// Where a stream is opened, and to which domain.
struct Door {
    address: SocketAddr,
    domain: Domain,
}

impl Health {
    /// Opens a stream to the first public listener, as a peer would.
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let loaded = config::load(&self.dir.config).map(|loaded| loaded.config);
        let socket = match (self.socket, &loaded) {
            (Some(socket), _) => Some(socket),
            (None, Ok(config)) => config.admin.socket.clone(),
            (None, Err(_)) => Some(PathBuf::from(DEFAULT_ADMIN_SOCKET)),
        };
        let running = socket.context("\"admin.socket\" is off").and_then(admin::listeners);
        let door = match (running, loaded) {
            // nothing new is taken from peers, as it is meant
            (Ok(listeners), _) if listeners.draining => return Ok(ExitCode::SUCCESS),
            (Ok(listeners), _) => Door::of(&listeners)?,
            (Err(_), Ok(config)) => Door {
                address: *config
                    .listen
                    .public
                    .first()
                    .context("no public listener is configured")?,
                domain: config.local_domains.into_keys().next().context("no local domain")?,
            },
            (Err(error), Err(problems)) => {
                eprintln!("{problems}");
                eprintln!("fedgate: {error:#}; name the socket with --socket PATH");
                return Ok(ExitCode::from(EXIT_USAGE));
            }
        };
        let mut outcome = Ok(());
        for address in here(door.address) {
            outcome = ask(address, &door.domain).with_context(|| format!("ask {address}"));
            if outcome.is_ok() {
                break;
            }
        }
        outcome.map(|()| ExitCode::SUCCESS)
    }
}

impl Door {
    /// That of a running gate.
    fn of(listeners: &Listeners) -> anyhow::Result<Self> {
        let public = listeners.listeners.iter().find(|listener| listener.entry == "public");
        let address = &public.context("nothing listens for peers")?.address;
        Ok(Self {
            address: address.parse().context("read the answer")?,
            domain: Domain::parse(&listeners.domain).context("read the answer")?,
        })
    }
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
