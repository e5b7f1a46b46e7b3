//! What all domains have in common: the DNS responder, the clock, the state directory, and the
//! running fedgate.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
};

use rustls::pki_types::UnixTime;

use super::{
    Chain,
    report::{Item, Topic},
};
use crate::{
    auth::pkix,
    config::model::{self, Config, Dnssec},
    diagnose::Status,
    net::{
        own::OwnAddresses,
        resolver::Resolver,
        secret::{self, SecretError},
        targets::TargetTls,
    },
    ops::report::Check,
    xmpp::Domain,
};

/// Whether the DNS responder sends the legacy server to us; nothing without one.
pub(super) async fn steering(config: &Config, remote: &Domain) -> Vec<Item> {
    let mut items = Vec::new();
    for &address in &config.listen.dns {
        let asked = SocketAddr::new(reachable(address.ip()), address.port());
        let settings = model::Resolver {
            servers: vec![asked],
            timeout: config.resolver.timeout,
            dnssec: Dnssec::Off,
        };
        let about = |status, text: String| Item::new(Topic::Steer, None, status, text);
        if let Some(source) = source_to(asked)
            && !is_client(config, source)
        {
            let text = format!(
                "{asked} is not asked: it answers the \"sources\" of legacy servers alone, and \
                 {source}, from where this machine would ask, is none"
            );
            items.push(about(Status::Ok, text));
            continue;
        }
        let resolver = match Resolver::new(&settings, &OwnAddresses::default()) {
            Ok(resolver) => resolver,
            Err(error) => {
                items.push(about(Status::Unknown, Chain(&error).to_string()));
                continue;
            }
        };
        let port = config.steer.port;
        items.push(match resolver.srv_records(remote, TargetTls::StartTls).await {
            Ok(found) if found.records.iter().any(|srv| srv.port == port) => about(
                Status::Ok,
                format!("{asked} sends streams for {remote} to port {port} of this fedgate"),
            ),
            Ok(_) => about(
                Status::Critical,
                format!("{asked} answers for {remote} with something else: another name server?"),
            ),
            Err(error) => about(
                Status::Critical,
                format!(
                    "{asked}: {} (does it run, and is this machine one of its clients?)",
                    error
                ),
            ),
        });
    }
    items
}

/// The address from which this machine talks to another one. No packet is sent.
fn source_to(address: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(address).ok()?;
    Some(socket.local_addr().ok()?.ip().to_canonical())
}

/// Whether the DNS responder answers that address.
fn is_client(config: &Config, ip: IpAddr) -> bool {
    config.legacy.values().any(|legacy| legacy.sources.iter().any(|net| net.contains(&ip)))
}

/// The time is compared with nothing: it has only to be later than this program.
pub(super) fn clock() -> Item {
    let now = UnixTime::now();
    let text = pkix::utc(now);
    if now.as_secs() < EARLIEST {
        let why = format!("{text} is in the past: certificates and DNSSEC need the right time");
        return Item::new(Topic::Clock, None, Status::Critical, why);
    }
    let kept = Path::new(SYNCHRONIZED).exists();
    let text = match kept {
        true => format!("{text}, kept by systemd-timesyncd"),
        false => text,
    };
    Item::new(Topic::Clock, None, Status::Ok, text)
}

/// Whether files can be kept, and the dialback secret can be read.
pub(super) fn state_dir(config: &Config) -> Vec<Item> {
    let about = |status, text: String| Item::new(Topic::State, None, status, text);
    let dir = &config.state_dir;
    let writable = match try_out(dir) {
        Ok(()) => about(Status::Ok, format!("{} can be written to", dir.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = format!("{} is not there: fedgate never ran with it", dir.display());
            about(Status::Warning, text)
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let text = format!("{}: {error}: say selfcheck as the user of fedgate", dir.display());
            about(Status::Unknown, text)
        }
        Err(error) => about(Status::Critical, format!("{}: {error}", dir.display())),
    };
    let secret = match secret::existing_dialback_keys(config.dialback_secret.as_deref(), dir) {
        Ok(_) => about(Status::Ok, "the dialback secret is there".into()),
        Err(error) => {
            let status = match &error {
                SecretError::Read(_, source) => match source.kind() {
                    io::ErrorKind::NotFound if config.dialback_secret.is_none() => Status::Warning,
                    io::ErrorKind::PermissionDenied => Status::Unknown,
                    _ => Status::Critical,
                },
                _ => Status::Critical,
            };
            about(status, Chain(&error).to_string())
        }
    };
    vec![writable, secret]
}

/// Writes a file and takes it away again.
fn try_out(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!(".selfcheck.{}", std::process::id()));
    fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)
}

/// What the running fedgate says.
pub(super) fn running(said: Option<&Result<Vec<Check>, String>>) -> Vec<Item> {
    let about = |status, text: String| Item::new(Topic::Running, None, status, text);
    match said {
        None => vec![about(Status::Warning, "\"admin.socket\" is off: not asked".into())],
        Some(Err(why)) => vec![about(Status::Critical, why.clone())],
        Some(Ok(checks)) => checks
            .iter()
            .map(|check| {
                let status = if check.ok { Status::Ok } else { Status::Critical };
                about(status, format!("{}: {}", check.name, check.detail))
            })
            .collect(),
    }
}

/// An address under which a wildcard is reached from here.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// 2026-01-01, in seconds since 1970.
const EARLIEST: u64 = 1_767_225_600;
/// systemd-timesyncd.service(8): it is there once the clock was set.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";
