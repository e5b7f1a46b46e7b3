//! Two servers that speak nothing but plain dialback exchange messages over TLS, for each has a
//! fedgate in front. Everything runs in this process, on loopback: the servers, the fedgates, a
//! certificate authority and a name server. Nothing else is needed.
//!
//! ```text
//! montague.example        fedgate             fedgate         capulet.example
//!    old server  ─ plain ─   1  ══ TLS 1.3 ══   2   ─ plain ─   old server
//! ```
//!
//! `cargo run --release --example demo` prints what happened and ends with 0 when every message
//! arrived, once and in order; `--verbose` adds the bytes of the plain streams, the configuration
//! and fedgate's log.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use fedgate::{
    config,
    proxy::{Addresses, App, Workers},
};
use tokio::time::timeout;
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

mod authority;
mod dns;
mod exchange;
mod legacy;
mod log_tap;
mod transcript;

use authority::Authority;
use dns::NameServer;
use exchange::User;
use legacy::{LegacyServer, Style};
use log_tap::LogTap;
use transcript::{End, Way, time};

/// Two old XMPP servers talk over TLS, each behind a fedgate.
#[derive(Parser)]
struct Arguments {
    /// How the old servers open their streams.
    #[arg(long, value_enum, default_value = "jabberd2")]
    legacy: Style,
    /// Messages in each direction.
    #[arg(long, default_value_t = 5)]
    messages: usize,
    /// Also show the bytes of the plain streams, the configuration and fedgate's log.
    #[arg(long)]
    verbose: bool,
}

/// What both ends share.
struct World<'a> {
    clock: Instant,
    directory: &'a Path,
    authority: Authority,
    dns: NameServer,
}

/// One end: an old server, and the fedgate in front of it.
struct Site {
    domain: &'static str,
    /// Where everything is.
    about: String,
    server: LegacyServer,
    fedgate: App,
}

/// Nothing here takes longer, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let arrived = runtime.block_on(run(&arguments))?;
    Ok(if arrived { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let clock = Instant::now();
    let log = listen_to_log(clock, arguments.verbose)?;
    let directory = tempfile::tempdir().context("make a directory for files")?;
    let authority = Authority::new(directory.path())?;
    let dns = NameServer::start().await?;
    let world = World { clock, directory: directory.path(), authority, dns };
    let mut montague = world.site("montague.example", arguments).await?;
    let mut capulet = world.site("capulet.example", arguments).await?;

    let mut out =
        Vec::from("Two old servers that speak only plain dialback, each behind a fedgate.\n\n");
    out.extend([montague.about, capulet.about].concat().bytes());

    let mut romeo = User::new("romeo", montague.domain, arguments.messages, clock);
    let mut juliet = User::new("juliet", capulet.domain, arguments.messages, clock);
    let talk = async {
        // Both at the same moment, from cold: what makes old servers wait for each other.
        romeo.write_to(&juliet, &montague.server);
        juliet.write_to(&romeo, &capulet.server);
        tokio::try_join!(romeo.read(&mut montague.server), juliet.read(&mut capulet.server))?;
        romeo.ping(capulet.domain, &montague.server);
        juliet.ping(montague.domain, &capulet.server);
        tokio::try_join!(romeo.read(&mut montague.server), juliet.read(&mut capulet.server))
    };
    let in_time = timeout(PATIENCE, talk).await.is_ok();

    // An orderly end delivers all that is under way, so that nothing can arrive twice unseen.
    let end = async { tokio::join!(montague.fedgate.shutdown(), capulet.fedgate.shutdown()) };
    let ended = timeout(PATIENCE, end).await.is_ok();
    let (here, there) = (montague.server.wire(), capulet.server.wire());
    romeo.late(montague.server.stop().await);
    juliet.late(capulet.server.stop().await);

    let (lines, said) = (log.lines(), world.dns.said());
    let one = End { domain: montague.domain, wire: &here };
    let other = End { domain: capulet.domain, wire: &there };
    let mut all_well = true;
    for (from, to, sender, reader) in [(one, other, &romeo, &juliet), (other, one, &juliet, &romeo)]
    {
        writeln!(out, "\n{sender} → {reader}")?;
        let verbose = arguments.verbose;
        Way { from, to, log: &lines, said: &said, verbose }.write(&mut out)?;
        all_well &= reader.report(sender, &mut out)?;
    }
    for (is_well, what) in [(in_time, "the messages were not"), (ended, "the end was not")] {
        if !is_well {
            all_well = false;
            writeln!(out, "\n  WRONG: {what} there after {} s", PATIENCE.as_secs())?;
        }
    }
    if !all_well {
        writeln!(out, "\nfedgate's log:")?;
        for line in &lines {
            writeln!(out, "{}  {line}", time(line.at))?;
        }
    }
    let verdict = if all_well { "all arrived, once and in order" } else { "NOT all is well" };
    writeln!(out, "\n{verdict}; {:.2} s in all", clock.elapsed().as_secs_f64())?;
    // Who reads no further than `head` does changes nothing about the outcome.
    drop(io::stdout().write_all(&out));
    Ok(all_well)
}

fn listen_to_log(clock: Instant, verbose: bool) -> anyhow::Result<LogTap> {
    let only = |level| Targets::new().with_target("fedgate", level);
    let tap = LogTap::new(clock);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry()
        .with(tap.clone().with_filter(only(LevelFilter::INFO)))
        .with(verbose.then(|| lines.with_filter(only(LevelFilter::DEBUG))))
        .try_init()?;
    Ok(tap)
}

impl World<'_> {
    /// Starts an old server and the fedgate in front of it, and points the name server at it.
    async fn site(&self, domain: &'static str, arguments: &Arguments) -> anyhow::Result<Site> {
        let server = LegacyServer::start(domain, arguments.legacy, self.clock).await?;
        let home = self.directory.join(domain);
        fs::create_dir(&home)?;
        self.authority.issue(domain, &home)?;
        let file = self.configuration(domain, server.address());
        fs::write(home.join("fedgate.yaml"), &file)?;
        let loaded = config::load(&home).map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let fedgate = App::start(loaded.config, Workers::new(Vec::new()))?;

        let Addresses { public, local, .. } = fedgate.addresses();
        let public = *public.first().context("no public listener")?;
        let local = *local.first().context("no local listener")?;
        server.steer(local);
        self.dns.publish(domain, public)?;
        let address = server.address();
        let mut about = format!(
            "  {domain:16}  server {address}; fedgate {local} to the server, {public} to the Internet\n"
        );
        if arguments.verbose {
            about += &format!("\n{file}\n");
        }
        Ok(Site { domain, about, server, fedgate })
    }

    /// What an operator writes into a file of the directory for `--config`.
    fn configuration(&self, domain: &str, server: SocketAddr) -> String {
        let (dns, root) = (self.dns.address(), self.authority.root().display());
        format!(
            r#"version: 1
state_dir: state
legacy:
  old:
    address: "{server}"
    domains: [{domain}]
certificates:
  - {{ cert: {domain}.crt, key: {domain}.key }}
tls: {{ roots: ["{root}"] }}
# Free ports, a name server and peers on loopback: the demo has no other network.
listen: {{ public: ["127.0.0.1:0"], local: ["127.0.0.1:0"] }}
resolver: {{ servers: ["{dns}"] }}
networks: {{ deny_out: [] }}
shutdown_timeout: 5s
"#
        )
    }
}
