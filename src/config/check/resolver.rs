//! Name servers, and how far they are believed (protocol rule DNS-11).

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::Path,
    time::Duration,
};

use super::{is_here, overlap, without_places};
use crate::config::{
    model::{Dnssec, Listen, Resolver},
    problem::{At, Reports, Wrong},
    read::Section,
    value,
};

pub(super) fn check(
    top: &Section<'_>,
    listen: &Listen,
    directory: &Path,
    out: &mut Reports<'_>,
) -> Resolver {
    let keys = ["servers", "timeout", "dnssec", "trust_anchor"];
    let section = top.section("resolver", &keys, out);
    let given = section.as_ref().and_then(|s| s.list("servers", value::name_server, out));
    let servers = given.unwrap_or_default();
    for (server, at) in &servers {
        if listen.dns.iter().any(|own| overlap(*own, *server) && is_here(*own, *server)) {
            let wrong = Wrong::new(format!("{server} is fedgate's own DNS responder"));
            out.error(*at, wrong.hint("its answers lead back to fedgate"));
        }
    }
    let dnssec = section.as_ref().map(|s| check_dnssec(s, &servers, directory, out));
    Resolver {
        dnssec: dnssec.unwrap_or(Dnssec::Off),
        servers: without_places(servers),
        timeout: section
            .and_then(|s| s.text("timeout", |t| value::duration(t, &RANGE), out))
            .unwrap_or(TIMEOUT),
    }
}

fn check_dnssec(
    section: &Section<'_>,
    servers: &[(SocketAddr, At)],
    directory: &Path,
    out: &mut Reports<'_>,
) -> Dnssec {
    let words = [("off", Word::Off), ("trust-ad", Word::TrustAd), ("validate", Word::Validate)];
    let word = |text: &str| value::word(text, "use of DNSSEC", &words);
    let given = section.text("dnssec", word, out);
    let mode = given.unwrap_or(Word::Off);
    let trust_anchor = section.text("trust_anchor", |t| value::path(t, directory), out);
    // of a word that is none nobody knows what it was to be
    let is_known = given.is_some() || section.get("dnssec").is_none();
    if let (Some(pair), Word::Off | Word::TrustAd, true) =
        (section.pair("trust_anchor"), mode, is_known)
    {
        let wrong = Wrong::new("\"trust_anchor\" without \"dnssec: validate\"");
        out.error(pair.at, wrong.hint("nothing else is validated by it"));
    }
    match mode {
        Word::Off => Dnssec::Off,
        Word::Validate => Dnssec::Validate { trust_anchor },
        Word::TrustAd => {
            check_trusted(section, servers, out);
            Dnssec::TrustAd
        }
    }
}

/// The AD bit counts for what the way to the server is worth (RFC 4035 §4.9.3): anybody on a
/// network can set it.
fn check_trusted(section: &Section<'_>, servers: &[(SocketAddr, At)], out: &mut Reports<'_>) {
    let hint = "name a validating resolver on this host, or take \"dnssec: validate\"";
    if servers.is_empty()
        && let Some(dnssec) = section.pair("dnssec")
    {
        let wrong = "\"dnssec: trust-ad\" without \"servers\": resolv.conf can change its mind";
        out.error(dnssec.value.at, Wrong::new(wrong).hint(hint));
    }
    for (server, at) in servers {
        if server.ip() == DOCKER {
            let wrong = format!("\"dnssec: trust-ad\" trusts {server}, which validates nothing");
            let why = "it is docker's forwarder to servers on the network";
            out.error(*at, Wrong::new(wrong).hint(why));
        } else if !server.ip().to_canonical().is_loopback() {
            let wrong = format!(
                "\"dnssec: trust-ad\" trusts {server}, and anybody on the way can forge its answers"
            );
            out.error(*at, Wrong::new(wrong).hint(hint));
        }
    }
}

#[derive(Clone, Copy)]
enum Word {
    Off,
    TrustAd,
    Validate,
}

const TIMEOUT: Duration = Duration::from_secs(5);
const RANGE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// Where docker puts its own DNS server into containers.
const DOCKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
