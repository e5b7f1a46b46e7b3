//! `fedgate health`: whether the running gate answers, for container health checks.
//!
//! The running gate is asked where it listens, so that a configuration on disk which it refused, and
//! which changes nothing, does not make it look ill. Only where it cannot be asked do the files say.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use fedgate::{
    config::{
        self,
        model::{Config, Listen},
    },
    net::tls,
    ops::report::Listeners,
    xml::writer,
    xmpp::Domain,
};
use ipnet::IpNet;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{ConfigDir, EXIT_USAGE, admin, runtime};

/// How long all of it may take. The image's `HEALTHCHECK` waits for a second more.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of that the running gate may take to say where it listens.
const SOCKET_PATIENCE: Duration = Duration::from_secs(2);
/// No answer to a stream header is longer.
const ANSWER_MAX: u64 = 4096;
/// Of a connection that is nobody else's (PROXY protocol §2.1).
const PROXY_HEADER: &[u8] = b"PROXY UNKNOWN\r\n";

#[derive(Debug, Args)]
pub(super) struct Health {
    #[command(flatten)]
    dir: ConfigDir,
    /// The admin socket; by default that of the configuration, as far as it can be read.
    #[arg(long, value_name = "PATH", env = "FEDGATE_SOCKET")]
    socket: Option<PathBuf>,
}

/// Where a stream is opened, and to which domain.
struct Door {
    address: SocketAddr,
    /// Whether TLS begins at once.
    tls: bool,
    domain: Domain,
    /// Who has to begin with a PROXY header.
    balancers: Vec<IpNet>,
}

impl Health {
    /// Opens a stream to the first public listener, or else to the first one of direct TLS.
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let end = Instant::now() + PATIENCE;
        let loaded = config::locate(&self.dir.config);
        let configured = match &loaded {
            Ok(loaded) => &loaded.config.admin.socket,
            Err(broken) => &broken.socket,
        };
        let socket = self.socket.or_else(|| configured.clone());
        let running = socket.context("\"admin.socket\" is off");
        let running = running.and_then(|socket| admin::listeners(socket, SOCKET_PATIENCE));
        let door = match (running, loaded) {
            // nothing new is taken from peers, as it is meant
            (Ok(listeners), _) if listeners.draining => return Ok(ExitCode::SUCCESS),
            (Ok(listeners), _) => Door::of(&listeners)?,
            (Err(_), Ok(loaded)) => Door::configured(loaded.config)?,
            (Err(error), Err(broken)) => {
                eprintln!("{}", broken.problems);
                eprintln!("fedgate: {error:#}; name the socket with --socket PATH");
                return Ok(ExitCode::from(EXIT_USAGE));
            }
        };
        runtime()?.block_on(door.is_answered(end)).map(|()| ExitCode::SUCCESS)
    }
}

impl Door {
    /// That of a running gate.
    fn of(listeners: &Listeners) -> anyhow::Result<Self> {
        let first = |entry: &str| listeners.listeners.iter().find(|found| found.entry == entry);
        let (listener, tls) = match (first("public"), first("direct_tls")) {
            (Some(public), _) => (public, false),
            (None, Some(direct)) => (direct, true),
            (None, None) => bail!("nothing listens for peers"),
        };
        let balancers = listeners.proxy_protocol.iter().map(|network| network.parse());
        Ok(Self {
            address: listener.address.parse().context("read the answer")?,
            tls,
            domain: Domain::parse(&listeners.domain).context("read the answer")?,
            balancers: balancers.collect::<Result<_, _>>().context("read the answer")?,
        })
    }

    /// That of one that would run with this configuration.
    fn configured(config: Config) -> anyhow::Result<Self> {
        let Listen { public, direct_tls, proxy_protocol, .. } = config.listen;
        let (address, tls) = match (public.first(), direct_tls.first()) {
            (Some(public), _) => (*public, false),
            (None, Some(direct)) => (*direct, true),
            (None, None) => bail!("no listener for peers is configured"),
        };
        let domain = config.local_domains.into_keys().next().context("no local domain")?;
        Ok(Self { address, tls, domain, balancers: proxy_protocol })
    }

    /// Opens a stream there, as a peer would.
    async fn is_answered(&self, end: Instant) -> anyhow::Result<()> {
        let mut outcome = Ok(());
        let addresses = here(self.address);
        let count = u32::try_from(addresses.len()).context("too many addresses")?;
        for (address, left) in addresses.into_iter().zip((1..=count).rev()) {
            // a silent one does not take the time of the next
            let share = end.saturating_duration_since(Instant::now()) / left;
            let asked = timeout(share, self.ask(address)).await;
            let asked = asked.unwrap_or_else(|_| Err(anyhow!("no answer in time")));
            outcome = asked.with_context(|| format!("ask {address}"));
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    async fn ask(&self, address: SocketAddr) -> anyhow::Result<()> {
        let mut socket = TcpStream::connect(address).await?;
        let own = socket.local_addr()?.ip().to_canonical();
        if self.balancers.iter().any(|network| network.contains(&own)) {
            socket.write_all(PROXY_HEADER).await?;
        }
        if self.tls {
            talk(tls::look_in(socket, &self.domain).await?.stream, &self.domain).await
        } else {
            talk(socket, &self.domain).await
        }
    }
}

async fn talk(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    domain: &Domain,
) -> anyhow::Result<()> {
    let to = domain.to_unicode();
    let header = writer::StreamHeader {
        to: Some(&to),
        version: Some(fedgate::xml::Version::V1_0),
        ..Default::default()
    };
    let mut text = Vec::new();
    header.write(&mut text);
    text.extend_from_slice(writer::FOOTER.as_bytes());
    socket.write_all(&text).await?;
    socket.flush().await?;
    let mut answer = Vec::new();
    socket.take(ANSWER_MAX).read_to_end(&mut answer).await?;
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
