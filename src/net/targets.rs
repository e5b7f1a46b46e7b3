//! Which hosts and ports to try for a domain, and in which order: the decision over both SRV
//! answers (RFC 6120 §3.2.1, XEP-0368 §3 and §5; protocol rules DNS-4, DNS-5) and their order
//! (RFC 2782; DNS-8). Pure: no I/O, and chance is an argument.
//!
//! Promises: a peer cannot make the list longer than `MAX_TARGETS`, nor repeat a target in it,
//! and a domain that says it has no service never falls back to its address records.

use std::{collections::HashSet, fmt, sync::Arc};

use rustls::pki_types::UnixTime;

use crate::auth::dane::SrvState;

/// How the stream on a target begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum TargetTls {
    /// TLS from the first byte (`_xmpps-server`, XEP-0368).
    Direct,
    /// A plain stream that is upgraded (`_xmpp-server`).
    StartTls,
}

impl TargetTls {
    /// The service in the SRV records of such targets.
    #[must_use]
    pub fn service(self) -> &'static str {
        match self {
            Self::Direct => "_xmpps-server",
            Self::StartTls => "_xmpp-server",
        }
    }

    /// The word for reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::StartTls => "starttls",
        }
    }
}

/// One host and port where a domain's server may be.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// The host to look up: lower case, no trailing dot. Never an address literal.
    pub host: Arc<str>,
    /// The TCP port, never 0.
    pub port: u16,
    /// How the stream begins.
    pub tls: TargetTls,
    /// The SRV priority; lower is tried first.
    pub priority: u16,
    /// Who says that this host stands for the domain.
    pub delegation: Delegation,
}

/// On what it rests that a host stands for a domain (RFC 7673 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Delegation {
    /// On SRV records that anybody can have forged.
    Insecure,
    /// On nothing: the host is the domain.
    None,
    /// On SRV records that DNSSEC vouches for.
    Secure {
        /// When they have to be asked for again.
        until: UnixTime,
    },
}

impl Delegation {
    /// The same without the time.
    #[must_use]
    pub fn state(self) -> SrvState {
        match self {
            Self::Insecure => SrvState::Insecure,
            Self::None => SrvState::None,
            Self::Secure { .. } => SrvState::Secure,
        }
    }

    /// Until when it is secure; none if it is not.
    #[must_use]
    pub fn until(self) -> Option<UnixTime> {
        match self {
            Self::Insecure | Self::None => None,
            Self::Secure { until } => Some(until),
        }
    }
}

impl Target {
    /// The one that a record names.
    pub(crate) fn of(tls: TargetTls, srv: &Srv) -> Self {
        Self {
            host: srv.target.as_str().into(),
            port: srv.port,
            tls,
            priority: srv.priority,
            delegation: srv.delegation,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// One SRV record as it came, its target in presentation form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Srv {
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    pub(crate) port: u16,
    pub(crate) target: String,
    pub(crate) delegation: Delegation,
}

/// What one SRV query said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// No such name, or no SRV records there.
    None,
    /// Records without one that could be used: a single `.`, or nothing but nonsense.
    Absent,
    /// At least one usable record.
    Records(Vec<Srv>),
}

/// What both SRV queries together say (DNS-4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// Nothing said: address records of the domain itself, port 5269.
    Fallback,
    /// The domain decidedly has no service.
    Absent,
    /// The records of both, not yet ordered.
    Targets(Vec<(TargetTls, Srv)>),
}

impl Answer {
    /// Sorts out what cannot be used: `.` beside others, ports of other services, targets that are
    /// no host names.
    pub(crate) fn new(records: Vec<Srv>) -> Self {
        if records.is_empty() {
            return Self::None;
        }
        let usable: Vec<Srv> = records
            .into_iter()
            .filter(|srv| srv.port >= FIRST_OPEN || TLS_PORTS.contains(&srv.port))
            .filter_map(|srv| Some(Srv { target: host(&srv.target)?, ..srv }))
            .collect();
        if usable.is_empty() { Self::Absent } else { Self::Records(usable) }
    }
}

/// The table of DNS-4, without its row for errors: those never come this far.
pub(crate) fn decide(direct: Answer, starttls: Answer) -> Decision {
    let (direct, starttls) = match (direct, starttls) {
        (Answer::None, Answer::None) => return Decision::Fallback,
        (Answer::None | Answer::Absent, Answer::Absent) | (Answer::Absent, Answer::None) => {
            return Decision::Absent;
        }
        (Answer::Records(direct), Answer::Records(starttls)) => (direct, starttls),
        (Answer::Records(direct), Answer::None | Answer::Absent) => (direct, Vec::new()),
        (Answer::None | Answer::Absent, Answer::Records(starttls)) => (Vec::new(), starttls),
    };
    let direct = direct.into_iter().map(|srv| (TargetTls::Direct, srv));
    let starttls = starttls.into_iter().map(|srv| (TargetTls::StartTls, srv));
    Decision::Targets(direct.chain(starttls).collect())
}

/// Orders records by priority, at equal priority direct TLS first, and at random by weight within
/// that (RFC 2782). `uniform(max)` yields an integer in `0..=max`, all equally likely.
pub(crate) fn order(
    mut records: Vec<(TargetTls, Srv)>,
    mut uniform: impl FnMut(u64) -> u64,
) -> Vec<Target> {
    // Weight 0 to the front of its group, as the algorithm of RFC 2782 wants it.
    records.sort_by_key(|(tls, srv)| (srv.priority, *tls, srv.weight != 0));
    let mut seen = HashSet::new();
    records.retain(|(tls, srv)| seen.insert((*tls, srv.target.clone(), srv.port)));
    let mut targets = Vec::new();
    for group in records.chunk_by(|a, b| (a.0, a.1.priority) == (b.0, b.1.priority)) {
        let mut group: Vec<_> = group.iter().collect();
        while !group.is_empty() && targets.len() < MAX_TARGETS {
            let sum = group.iter().map(|(_, srv)| u64::from(srv.weight)).sum();
            let chosen = uniform(sum);
            let mut running = 0;
            let at = group.iter().position(|(_, srv)| {
                running += u64::from(srv.weight);
                running >= chosen
            });
            let (tls, srv) = group.remove(at.unwrap_or(0));
            targets.push(Target::of(*tls, srv));
        }
    }
    targets
}

/// The target of a domain without SRV records (RFC 6120 §3.2.2).
pub(crate) fn fallback(domain: &str) -> Target {
    Target {
        host: domain.into(),
        port: XMPP_SERVER,
        tls: TargetTls::StartTls,
        priority: 0,
        delegation: Delegation::None,
    }
}

/// The host name in canonical form, if it is one: letters, digits, hyphens, and underscores, which
/// DNS has and some hosts use. `None` for `.`.
fn host(target: &str) -> Option<String> {
    let name = target.strip_suffix('.').unwrap_or(target).to_ascii_lowercase();
    let fits = name.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    });
    fits.then_some(name)
}

/// Targets that are tried at most; a peer could name thousands (RFC 2782 sets no bound).
pub(crate) const MAX_TARGETS: usize = 32;
/// Below this are the ports of other services: SSH, mail, name servers. A stranger's DNS does not make
/// us speak to those (RFC 2782, security considerations; protocol DNS-12).
const FIRST_OPEN: u16 = 1024;
/// But for those that get through most firewalls, where XMPP is served too.
const TLS_PORTS: [u16; 2] = [80, 443];
/// The port of a domain without SRV records (RFC 6120 §14.7).
const XMPP_SERVER: u16 = 5269;

#[cfg(test)]
mod tests {
    use super::*;

    fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Srv {
        Srv { priority, weight, port, target: target.into(), delegation: Delegation::Insecure }
    }

    fn records(target: &str) -> Answer {
        Answer::new(vec![srv(1, 1, 5269, target)])
    }

    fn hosts(targets: &[Target]) -> Vec<&str> {
        targets.iter().map(|t| &*t.host).collect()
    }

    #[test]
    fn every_row_of_the_table_is_decided_as_written() {
        use Decision as D;
        let dot = || Answer::new(vec![srv(0, 0, 0, ".")]);
        let one = |tls, host| D::Targets(vec![(tls, srv(1, 1, 5269, host))]);
        let both = D::Targets(vec![
            (TargetTls::Direct, srv(1, 1, 5269, "a")),
            (TargetTls::StartTls, srv(1, 1, 5269, "b")),
        ]);
        for (direct, starttls, decision) in [
            (records("a"), records("b"), both),
            (records("a"), Answer::None, one(TargetTls::Direct, "a")),
            (records("a"), dot(), one(TargetTls::Direct, "a")),
            (Answer::None, records("b"), one(TargetTls::StartTls, "b")),
            (dot(), records("b"), one(TargetTls::StartTls, "b")),
            (dot(), Answer::None, D::Absent),
            (dot(), dot(), D::Absent),
            (Answer::None, dot(), D::Absent),
            (Answer::None, Answer::None, D::Fallback),
        ] {
            assert_eq!(
                decide(direct.clone(), starttls.clone()),
                decision,
                "{direct:?} {starttls:?}"
            );
        }
    }

    #[test]
    fn records_that_cannot_be_used_are_skipped_but_still_forbid_the_fallback() {
        let good = srv(0, 0, 5269, "XMPP.Example.");
        let kept = Answer::Records(vec![srv(0, 0, 5269, "xmpp.example")]);
        let other_ports = [0, 22, 25, 53, 1023].map(|port| srv(0, 0, port, "a"));
        for bad in [".", "a\\.b", "a..b"]
            .map(|target| srv(0, 0, 5269, target))
            .into_iter()
            .chain(other_ports)
        {
            assert_eq!(Answer::new(vec![bad.clone()]), Answer::Absent, "{bad:?}");
            assert_eq!(Answer::new(vec![bad, good.clone()]), kept);
        }
    }

    #[test]
    fn lower_priority_comes_first_and_direct_tls_at_equal_priority() {
        let targets = order(
            vec![
                (TargetTls::StartTls, srv(5, 0, 1, "c")),
                (TargetTls::StartTls, srv(1, 0, 1, "b")),
                (TargetTls::Direct, srv(9, 0, 1, "d")),
                (TargetTls::Direct, srv(1, 0, 1, "a")),
            ],
            |_| 0,
        );
        assert_eq!(hosts(&targets), ["a", "b", "c", "d"]);
    }

    #[test]
    fn the_number_drawn_picks_by_running_sum_with_weight_zero_first() {
        let group = || {
            vec![
                (TargetTls::StartTls, srv(0, 3, 1, "three")),
                (TargetTls::StartTls, srv(0, 0, 1, "zero")),
                (TargetTls::StartTls, srv(0, 1, 1, "one")),
            ]
        };
        for (draw, first) in [(0, "zero"), (1, "three"), (3, "three"), (4, "one")] {
            let mut max = Vec::new();
            let targets = order(group(), |sum| {
                max.push(sum);
                if max.len() == 1 { draw } else { 0 }
            });
            assert_eq!(hosts(&targets)[0], first, "draw {draw}");
            assert_eq!(targets.len(), 3);
            assert_eq!(max[0], 4);
        }
    }

    #[test]
    fn weights_are_honoured_over_all_draws() {
        let mut first = [0; 2];
        for draw in 0..=100 {
            let group = vec![
                (TargetTls::Direct, srv(0, 90, 1, "heavy")),
                (TargetTls::Direct, srv(0, 10, 1, "light")),
            ];
            let mut draws = [draw, 0].into_iter();
            first[usize::from(&*order(group, |_| draws.next().unwrap())[0].host == "light")] += 1;
        }
        assert_eq!(first, [91, 10]);
    }

    #[test]
    fn a_flood_of_records_is_cut_to_the_best() {
        let mut flood: Vec<_> =
            (1..=2000).map(|i| (TargetTls::StartTls, srv(i, u16::MAX, i, "flood"))).collect();
        flood.reverse();
        let targets = order(flood, |max| max);
        assert_eq!(targets.len(), MAX_TARGETS);
        assert_eq!(targets[0].priority, 1);
        assert_eq!(targets[31].priority, 32);
    }

    #[test]
    fn a_target_named_twice_is_tried_once_at_its_best_priority() {
        let targets = order(
            vec![
                (TargetTls::StartTls, srv(9, 0, 1, "a")),
                (TargetTls::StartTls, srv(3, 0, 1, "a")),
                (TargetTls::Direct, srv(9, 0, 1, "a")),
            ],
            |_| 0,
        );
        assert_eq!(targets.iter().map(|t| t.priority).collect::<Vec<_>>(), [3, 9]);
    }
}
