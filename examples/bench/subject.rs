//! What is measured: fedgate or a relay, each as a process of its own with the servers around it.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tempfile::TempDir;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::sleep,
};

use super::{
    conn::{Conn, PATIENCE},
    dns::NameServer,
    names::{self, LEGACY},
    neighbours::{PeerTls, Role, Server, Way, open_legacy},
    pki::{self, Identity, Issuers},
    process::{Ending, Process},
    stanzas::Direction,
};

/// What can be measured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Subject {
    /// A fedgate, by a name for the table.
    Fedgate {
        /// The name.
        label: String,
        /// The program.
        program: PathBuf,
        /// How it is made to end.
        ending: Ending,
    },
    /// The relay that encrypts on the side that fedgate encrypts on.
    TlsRelay,
    /// The relay that does not.
    TcpRelay,
    /// What accepts TLS, and carries nothing on.
    TlsAccept,
}

/// A running subject.
pub(crate) struct Running {
    pub(crate) process: Process,
    /// Where peers connect to; of relays, everybody.
    public: SocketAddr,
    /// Where the legacy server connects to.
    pub(crate) local: SocketAddr,
    /// When it was seen to listen.
    pub(crate) ready: Instant,
    /// The servers behind it. Of a relay one is where everything goes, and the other idle.
    pub(crate) legacy: Server,
    pub(crate) peers: Server,
    tls: PeerTls,
    _dns: NameServer,
    /// Its files.
    home: TempDir,
    subject: Subject,
}

/// Lines of the configuration besides the usual.
#[derive(Clone, Default, Debug)]
pub(crate) struct Extra {
    /// Further domains of the legacy server, with `, ` before each.
    pub(crate) domains: String,
    /// Further rules, as lines of YAML.
    pub(crate) rules: String,
    /// Further top-level lines.
    pub(crate) top: String,
    /// Peers come and are reached with TLS from the first byte.
    pub(crate) direct_tls: bool,
}

/// What it says, in its directory.
const LOG: &str = "log";

impl Subject {
    pub(crate) fn label(&self) -> &str {
        match self {
            Self::Fedgate { label, .. } => label,
            Self::TlsRelay => "tls-relay",
            Self::TcpRelay => "tcp-relay",
            Self::TlsAccept => "tls-accept",
        }
    }

    pub(crate) fn is_fedgate(&self) -> bool {
        matches!(self, Self::Fedgate { .. })
    }

    /// Starts it for one direction, and the servers around it. Certificates are in `directory`.
    pub(crate) async fn start(
        &self,
        direction: Direction,
        directory: &Path,
        extra: &Extra,
    ) -> anyhow::Result<Running> {
        let identity = |name| Identity::read(directory, name);
        let tls = PeerTls::new(&identity(names::PEERS)?, &identity(names::STRANGERS)?)?;
        let role = match (self, direction) {
            (Self::Fedgate { .. }, _) => [Role::Legacy, Role::Peer(tls.clone())],
            (Self::TlsRelay, Direction::Out) => [Role::Plain, Role::Tls(tls.clone())],
            _ => [Role::Plain, Role::Plain],
        };
        let [legacy, peers] = role.map(Server::start);
        let (legacy, peers) = (legacy?, peers?);
        let dns = NameServer::start(peers.address).await?;
        let home_directory = tempfile::tempdir()?;
        let home = home_directory.path();
        let [public, local] = free_addresses()?;
        let command = match self {
            Self::Fedgate { program, .. } => {
                let text = configuration(
                    directory,
                    home,
                    [public, local],
                    [&legacy, &peers],
                    dns.address,
                    extra,
                );
                let config = home.join("conf.d");
                fs::create_dir(&config)?;
                fs::write(config.join("10.yaml"), text)?;
                let mut command = Command::new(program);
                command.arg("run").arg("--config").arg(&config);
                command
            }
            Self::TlsRelay | Self::TcpRelay | Self::TlsAccept => {
                let (kind, to) = match (self, direction) {
                    (Self::TcpRelay, Direction::In) => ("tcp", legacy.address),
                    (Self::TcpRelay, Direction::Out) => ("tcp", peers.address),
                    (Self::TlsAccept, _) => ("tls-accept", legacy.address),
                    (_, Direction::In) => ("tls-in", legacy.address),
                    (_, Direction::Out) => ("tls-out", peers.address),
                };
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["relay", "--kind", kind, "--listen", &public.to_string()]);
                command.args(["--to", &to.to_string(), "--directory"]).arg(directory);
                command
            }
        };
        let ending = match self {
            Self::Fedgate { ending, .. } => *ending,
            Self::TlsRelay | Self::TcpRelay | Self::TlsAccept => Ending::Kill,
        };
        let process = Process::spawn(command, &File::create(home.join(LOG))?, ending)?;
        let (subject, ready) = (self.clone(), Instant::now());
        let mut running = Running {
            process,
            public,
            local,
            ready,
            legacy,
            peers,
            tls,
            _dns: dns,
            home: home_directory,
            subject,
        };
        running.wait_until_ready().await?;
        Ok(running)
    }
}

impl Running {
    /// Opens what carries a peer's stanzas in this direction.
    pub(crate) async fn open(&self, direction: Direction, peer: usize) -> anyhow::Result<Conn> {
        self.open_with(direction, peer, Way::USUAL).await
    }

    /// The same, with a peer that comes in this way.
    pub(crate) async fn open_with(
        &self,
        direction: Direction,
        peer: usize,
        way: Way,
    ) -> anyhow::Result<Conn> {
        match (&self.subject, direction) {
            (Subject::Fedgate { .. }, Direction::In) => self.tls.open(self.public, peer, way).await,
            (Subject::Fedgate { .. }, Direction::Out) => open_legacy(self.local, peer).await,
            (Subject::TlsRelay, Direction::In) | (Subject::TlsAccept, _) => {
                self.tls.connect(self.public).await
            }
            (Subject::TlsRelay, Direction::Out) | (Subject::TcpRelay, _) => {
                Conn::open(self.public).await
            }
        }
        .with_context(|| format!("open a stream through {}", self.subject.label()))
    }

    /// The streams that this direction's stanzas arrive on.
    pub(crate) fn take_arrivals(&mut self, direction: Direction) -> UnboundedReceiver<Conn> {
        let server = match direction {
            Direction::In => &mut self.legacy,
            Direction::Out => &mut self.peers,
        };
        std::mem::replace(&mut server.streams, unbounded_channel().1)
    }

    /// The last lines of its log.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.home.path().join(LOG)).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(10))
            .map(|line| format!("\n  {line}"))
            .collect()
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let mut ports = vec![self.public];
        if self.subject.is_fedgate() {
            ports.push(self.local);
        }
        let end = Instant::now() + PATIENCE;
        for port in ports {
            while TcpStream::connect(port).is_err() {
                if let Err(error) = self.process.must_run() {
                    bail!("{}: {error}{}", self.subject.label(), self.log());
                }
                if Instant::now() > end {
                    bail!("{} does not listen{}", self.subject.label(), self.log());
                }
                sleep(Duration::from_millis(2)).await;
            }
        }
        self.ready = Instant::now();
        // What is left of those attempts is over before anything is counted.
        sleep(Duration::from_millis(50)).await;
        while self.legacy.streams.try_recv().is_ok() || self.peers.streams.try_recv().is_ok() {}
        Ok(())
    }
}

/// Two ports that are free now.
fn free_addresses() -> anyhow::Result<[SocketAddr; 2]> {
    let (one, other) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok([one.local_addr()?, other.local_addr()?])
}

/// Certificates of peers, which show them in turns: more than a program may remember.
const LEAVES: u64 = 2_000;

/// Makes the certificates of all.
pub(crate) fn make_certificates(directory: &Path, issuers: Issuers) -> anyhow::Result<()> {
    let identities: [(_, &[_], _); 3] = [
        (LEGACY, &[LEGACY], 0),
        (names::PEERS, &[names::PEERS_PATTERN, names::SHARED_PATTERN], LEAVES),
        (names::STRANGERS, &[names::STRANGERS], 0),
    ];
    pki::make(directory, issuers, &identities)
}

/// The configuration of a fedgate. There are no rates, for those are meant to slow senders down,
/// and a rule says where peers are.
fn configuration(
    directory: &Path,
    home: &Path,
    [public, local]: [SocketAddr; 2],
    [legacy, peers]: [&Server; 2],
    dns: SocketAddr,
    extra: &Extra,
) -> String {
    let (directory, home) = (directory.display(), home.display());
    let (legacy, peers) = (legacy.address, peers.address);
    let Extra { domains, rules, top, direct_tls } = extra;
    let (listener, tls) =
        if *direct_tls { ("direct_tls", "direct") } else { ("public", "starttls") };
    format!(
        "version: 1
state_dir: {home}/state
legacy: {{ old: {{ address: '{legacy}', domains: [{LEGACY}{domains}] }} }}
certificates: [{{ cert: {directory}/{LEGACY}.crt, key: {directory}/{LEGACY}.key }}]
tls: {{ roots: [{directory}/{ca}] }}
listen: {{ {listener}: ['{public}'], local: ['{local}'] }}
resolver: {{ servers: ['{dns}'] }}
networks: {{ deny_out: [] }}
log: {{ level: warn }}
limits:
  connections_per_address: 1000000
  connections: 1000000
  connections_per_domain: 1000000
  legacy_streams_per_address: 1000000
  legacy_streams: 1000000
  lookups_per_address: 10000
  dialback_rate: off
  rate: off
  stanza_rate: off
rules:
  - match: '{own}'
    connect: {{ address: '{peers}', tls: {tls} }}
    compat: {{ multiplex: off }}
{rules}
{top}
",
        ca = pki::CA,
        own = names::PEERS_PATTERN,
    )
}
