//! The resolver against signed zones, good and bad.

use std::io::Write as _;

use hickory_proto::{
    op::ResponseCode,
    rr::{Record, rdata::SOA},
};
use proptest::prelude::*;

use super::{
    signed_zones::{Denial, Fault, SignedZone, World},
    *,
};
use crate::{
    auth::dane::TlsaState,
    net::{
        fake_dns::{FakeDns, Reply, Zone, cname, fqdn, srv},
        targets::TargetTls,
    },
    xmpp::StanzaCondition,
};

const KEY: &str = "3 1 1 0c72ac70b745ac19998811b131d662c9ac69dbdbe7cb23e5b514b56664c5d3d6";
const OTHER: &str = "2 0 2 \
    0c72ac70b745ac19998811b131d662c9ac69dbdbe7cb23e5b514b56664c5d3d6\
    0c72ac70b745ac19998811b131d662c9ac69dbdbe7cb23e5b514b56664c5d3d6";

/// A zone with a service: SRV, addresses and TLSA.
fn served(zone: SignedZone, apex: &str) -> SignedZone {
    zone.record("_xmpp-server._tcp", RecordType::SRV, &format!("5 0 5269 xmpp.{apex}."))
        .record("_xmpp-server._tcp", RecordType::SRV, &format!("10 0 5270 other.{apex}."))
        .record("xmpp", RecordType::A, "192.0.2.1")
        .record("xmpp", RecordType::A, "192.0.2.2")
        .record("_5269._tcp.xmpp", RecordType::TLSA, KEY)
        .record("_5269._tcp.xmpp", RecordType::TLSA, OTHER)
}

fn zone(apex: &str) -> SignedZone {
    served(SignedZone::new(apex), apex)
}

fn unsigned(apex: &str) -> SignedZone {
    served(SignedZone::unsigned(apex), apex)
}

/// All good and bad zones under one root.
fn world() -> Arc<World> {
    let srv = RecordType::SRV;
    let alias = RecordType::CNAME;
    let secure = zone("secure.test")
        .record("to-secure", alias, "xmpp.three.test.")
        .record("to-unsigned", alias, "xmpp.unsigned.test.")
        .record("to-bogus", alias, "xmpp.bogus.test.")
        .record("to-nothing", alias, "nothing.three.test.")
        .record("via-unsigned", alias, "to-secure.unsigned.test.")
        .record("_xmpp-server._tcp.alias", alias, "_xmpp-server._tcp.three.test.")
        .record("_xmpp-server._tcp.out", alias, "_xmpp-server._tcp.unsigned.test.")
        .record("_xmpp-server._tcp.none", srv, "0 0 0 .")
        .record("_xmpps-server._tcp.moved", srv, "0 0 443 to-secure.secure.test.")
        .record("_xmpps-server._tcp.moved", srv, "0 0 5223 moved.secure.test.")
        .record("moved", alias, "bare.secure.test.")
        .record("_5223._tcp.moved", RecordType::TLSA, KEY)
        .record("bare", RecordType::A, "192.0.2.3")
        .record("bare", RecordType::AAAA, "2001:db8::3")
        .record("_5269._tcp.bare", RecordType::TLSA, KEY)
        .record("*.wild", RecordType::A, "192.0.2.9")
        .record("here.wild", RecordType::A, "192.0.2.10")
        .record("_tcp.ent.wild", RecordType::A, "192.0.2.11")
        .record("wild-alias", alias, "any.wild.secure.test.")
        .dname("dname", "three.test");
    let zones = vec![
        SignedZone::new("."),
        SignedZone::new("test").denying(Denial::Nsec3),
        secure,
        zone("three.test")
            .denying(Denial::Nsec3)
            .record("_443._tcp.xmpp", RecordType::TLSA, KEY)
            .record("*.wild", RecordType::A, "192.0.2.9")
            .record("here.wild", RecordType::A, "192.0.2.10")
            .record("_tcp.ent.wild", RecordType::A, "192.0.2.11"),
        unsigned("unsigned.test").record("to-secure", alias, "xmpp.secure.test."),
        zone("bogus.test").with(Fault::Tampered),
        zone("expired.test").signed_between(-7200, -3600),
        zone("early.test").signed_between(3600, 7200),
        zone("wrongds.test").with(Fault::ForeignDs),
        zone("stripped.test").with(Fault::Stripped),
        zone("unproven.test").with(Fault::Unproven),
        zone("optout.test").denying(Denial::OptOut),
        unsigned("child.optout.test"),
        zone("signed.optout.test"),
    ];
    Arc::new(World::new(zones))
}

struct Bench {
    dns: FakeDns,
    resolver: Resolver,
}

impl Bench {
    async fn new() -> Self {
        let world = world();
        Self::with(&world, Zone::before(world.source()), &world.zone(".").anchors()[0]).await
    }

    /// With a table before the zones.
    async fn behind(change: impl FnOnce(Zone, &World) -> Zone) -> Self {
        let world = world();
        let zone = change(Zone::before(world.source()), &world);
        Self::with(&world, zone, &world.zone(".").anchors()[0]).await
    }

    async fn with(_: &Arc<World>, zone: Zone, anchors: &str) -> Self {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(anchors.as_bytes()).unwrap();
        let trust_anchor = Some(file.path().to_owned());
        Self::mode(zone, Dnssec::Validate { trust_anchor }).await
    }

    async fn mode(zone: Zone, dnssec: Dnssec) -> Self {
        let dns = zone.serve().await;
        let timeout = Duration::from_secs(20);
        let config = model::Resolver { servers: vec![dns.address], timeout, dnssec };
        let resolver = Resolver::new(&config, &OwnAddresses::default()).unwrap();
        Self { dns, resolver }
    }

    async fn service(&self, domain: &str) -> Result<Vec<Target>, ResolveError> {
        self.resolver.service(&Domain::parse(domain).unwrap()).await
    }

    /// The state in one word.
    async fn srv(&self, domain: &str) -> String {
        match self.service(domain).await {
            Ok(targets) => match targets[0].delegation {
                Delegation::Insecure => "insecure",
                Delegation::None => "none",
                Delegation::Secure { until } => {
                    let left = until.as_secs().saturating_sub(UnixTime::now().as_secs());
                    assert!((1..=300).contains(&left), "{left}");
                    "secure"
                }
            },
            Err(error) => word(&error),
        }
        .to_owned()
    }

    async fn host(&self, host: &str) -> String {
        match self.resolver.addresses(host).await {
            Ok(addresses) => format!(
                "{:?} {}",
                addresses.security,
                addresses.canonical.as_deref().unwrap_or("itself")
            ),
            Err(error) => word(&error).to_owned(),
        }
    }

    async fn ask(&self, name: &str, kind: RecordType) -> String {
        match self.resolver.ask(name, kind).await {
            Ok(chain) => format!("{:?} {}", chain.security, chain.records.len()),
            Err(error) => word(&error).to_owned(),
        }
    }

    async fn tlsa(&self, host: &str, port: u16) -> String {
        let addresses = match self.resolver.addresses(host).await {
            Ok(addresses) => addresses,
            Err(error) => return format!("no address: {}", word(&error)),
        };
        let target = Target {
            host: host.into(),
            port,
            tls: TargetTls::StartTls,
            priority: 0,
            delegation: Delegation::Secure { until: UnixTime::now() },
        };
        match self.resolver.tlsa(&target, &addresses).await {
            Ok(TlsaState::Records(set)) => {
                assert!(set.has_usable() && set.expires <= UnixTime::now());
                format!("{} of {}", set.records.len(), set.base)
            }
            Ok(state) => format!("{state:?}"),
            Err(error) => word(&error).to_owned(),
        }
    }
}

fn word(error: &ResolveError) -> &'static str {
    match error {
        ResolveError::Bogus { .. } => "bogus",
        ResolveError::NotFound { .. } => "not found",
        ResolveError::Temporary { .. } => "temporary",
    }
}

#[tokio::test]
async fn a_service_is_as_secure_as_its_zone() {
    let bench = Bench::new().await;
    for (domain, state) in [
        ("secure.test", "secure"),
        ("three.test", "secure"),
        ("signed.optout.test", "secure"),
        ("unsigned.test", "insecure"),
        ("child.optout.test", "insecure"),
        ("bogus.test", "bogus"),
        ("expired.test", "bogus"),
        ("early.test", "bogus"),
        ("wrongds.test", "bogus"),
        ("stripped.test", "bogus"),
        // one service is denied without proof, and so the other must not be used alone
        ("unproven.test", "bogus"),
    ] {
        // again, as it is remembered
        for _ in 0..2 {
            assert_eq!(bench.srv(domain).await, state, "{domain}");
        }
    }
    let error = bench.service("bogus.test").await.unwrap_err();
    assert_eq!(error.condition(), StanzaCondition::RemoteServerTimeout);
    assert!(error.to_string().ends_with("-server._tcp.bogus.test: dnssec validation failed"));
}

#[tokio::test]
async fn a_chain_of_aliases_is_as_secure_as_its_weakest_link() {
    let bench = Bench::new().await;
    for (host, state) in [
        ("xmpp.secure.test", "Secure itself"),
        ("to-secure.secure.test", "Secure xmpp.three.test"),
        ("to-unsigned.secure.test", "Insecure itself"),
        ("to-bogus.secure.test", "bogus"),
        ("to-secure.unsigned.test", "Insecure itself"),
        ("via-unsigned.secure.test", "Insecure itself"),
        ("to-nothing.secure.test", "not found"),
        ("wild-alias.secure.test", "Secure any.wild.secure.test"),
        ("xmpp.dname.secure.test", "Secure xmpp.three.test"),
        ("any.wild.secure.test", "Secure itself"),
        ("zeta.wild.secure.test", "Secure itself"),
        ("a.b.wild.secure.test", "Secure itself"),
        ("here.wild.secure.test", "Secure itself"),
        ("a.here.wild.secure.test", "not found"),
        ("any.wild.three.test", "Secure itself"),
    ] {
        for _ in 0..2 {
            assert_eq!(bench.host(host).await, state, "{host}");
        }
    }
    assert_eq!(bench.srv("alias.secure.test").await, "secure");
    assert_eq!(bench.srv("out.secure.test").await, "insecure");
    assert_eq!(bench.srv("none.secure.test").await, "not found");
}

#[tokio::test]
async fn what_is_not_there_is_denied_securely_or_not() {
    let bench = Bench::new().await;
    for (host, port, state) in [
        ("xmpp.secure.test", 5269, "2 of xmpp.secure.test"),
        ("xmpp.three.test", 5269, "2 of xmpp.three.test"),
        // the very port, whatever stands at another
        ("xmpp.secure.test", 5270, "Denied"),
        ("xmpp.three.test", 5270, "Denied"),
        ("bare.secure.test", 5270, "Denied"),
        ("any.wild.secure.test", 5269, "Denied"),
        ("xmpp.unsigned.test", 5269, "Insecure"),
        ("xmpp.unsigned.test", 5270, "Insecure"),
        ("xmpp.child.optout.test", 5270, "Insecure"),
        ("xmpp.unproven.test", 5270, "bogus"),
        ("xmpp.bogus.test", 5269, "no address: bogus"),
    ] {
        for _ in 0..2 {
            assert_eq!(bench.tlsa(host, port).await, state, "{host} {port}");
        }
    }
    // no service, and it is shown that there is none
    assert_eq!(bench.srv("bare.secure.test").await, "none");
    assert_eq!(bench.srv("nothing.three.test").await, "none");
}

#[tokio::test]
async fn records_under_the_name_behind_an_alias_come_before_those_under_its_own() {
    let bench = Bench::new().await;
    assert_eq!(bench.tlsa("to-secure.secure.test", 443).await, "1 of xmpp.three.test");
    assert_eq!(bench.tlsa("moved.secure.test", 5223).await, "1 of moved.secure.test");
    assert_eq!(bench.tlsa("moved.secure.test", 443).await, "Denied");
    // an alias that nobody vouches for leads nowhere
    assert_eq!(bench.tlsa("to-unsigned.secure.test", 5269).await, "Denied");
}

fn full(answers: Vec<Record>, authorities: Vec<Record>) -> Reply {
    let code = if answers.is_empty() { ResponseCode::NXDomain } else { ResponseCode::NoError };
    Reply::Full { code, answers, authorities, authentic: true }
}

/// The answer of an unsigned zone that there is nothing.
fn unsigned_soa(zone: &str) -> Vec<Record> {
    let soa = SOA::new(fqdn("ns.test"), fqdn("root.test"), 1, 1, 1, 1, 30);
    vec![Record::from_rdata(fqdn(zone), 300, RData::SOA(soa))]
}

#[tokio::test]
async fn forged_answers_about_a_signed_zone_are_bogus_and_never_insecure() {
    const DIRECT: &str = "_xmpps-server._tcp.secure.test";
    const STARTTLS: &str = "_xmpp-server._tcp.secure.test";
    const TLSA: &str = "_5269._tcp.xmpp.secure.test";
    let forged = |record| Reply::Answers(vec![srv(STARTTLS, record)]);
    for reply in [
        //
        forged((0, 0, 5269, "attacker.unsigned.test")),
        Reply::Answers(vec![cname(STARTTLS, "_xmpp-server._tcp.unsigned.test")]),
        full(vec![], vec![]),
        full(vec![], unsigned_soa("secure.test")),
        full(vec![], unsigned_soa("test")),
        full(vec![], unsigned_soa("tcp.secure.test")),
        full(vec![], unsigned_soa("_tcp.secure.test")),
        full(vec![], unsigned_soa("unsigned.test")),
        full(vec![srv("other.test", (0, 0, 1, "a.test"))], unsigned_soa("unsigned.test")),
    ] {
        let shown = format!("{reply:?}");
        let bench = Bench::behind(|zone, _| zone.reply(STARTTLS, RecordType::SRV, reply)).await;
        assert_eq!(bench.srv("secure.test").await, "bogus", "{shown}");
    }
    let bench =
        Bench::behind(|zone, _| {
            zone.reply(DIRECT, RecordType::SRV, forged((0, 0, 443, "attacker.unsigned.test")))
                .reply(TLSA, RecordType::TLSA, full(vec![], unsigned_soa("unsigned.test")))
        })
        .await;
    assert_eq!(bench.tlsa("xmpp.secure.test", 5269).await, "bogus");
}

#[tokio::test]
async fn nobody_makes_a_signed_zone_look_unsigned() {
    let target = srv("_xmpp-server._tcp.secure.test", (0, 0, 5269, "attacker.unsigned.test"));
    for soa in ["secure.test", "test", ".", "unsigned.test", "_tcp.secure.test"] {
        let denied = |soa| Reply::Full {
            code: ResponseCode::NoError,
            answers: vec![],
            authorities: unsigned_soa(soa),
            authentic: true,
        };
        let bench = Bench::behind(|zone, _| {
            let name = target.name.to_ascii();
            zone.reply(&name, RecordType::SRV, Reply::Answers(vec![target.clone()]))
                .reply("secure.test", RecordType::DS, denied(soa))
                .reply("secure.test", RecordType::DNSKEY, denied(soa))
        })
        .await;
        assert_eq!(bench.srv("secure.test").await, "bogus", "{soa}");
        let asked = bench.dns.asked().len();
        assert!(asked < 200, "{soa} {asked}");
    }
}

#[tokio::test]
async fn a_wildcard_does_not_stand_for_a_name_that_is_there() {
    // The record of the wildcard with its signature is genuine, under any name below.
    let taken = |world: &World, name: &str, kind| {
        let Reply::Full { answers, authorities, .. } = world.answer(&fqdn(name), kind) else {
            panic!("no answer");
        };
        (answers, authorities)
    };
    // genuine proofs, but of something else, and none
    let aaaa = RecordType::AAAA;
    let a = RecordType::A;
    for (there, proofs) in [
        ("here", None),
        ("here", Some(("any.wild", a))),
        ("here", Some(("zeta.wild", a))),
        ("here", Some(("here.wild", aaaa))),
        ("here", Some(("nothing", aaaa))),
        ("a.here", Some(("a.here.wild", aaaa))),
        ("a.here", Some(("any.wild", a))),
        ("ent", Some(("ent.wild", aaaa))),
        ("a.ent", Some(("a.ent.wild", aaaa))),
        ("a.ent", Some(("b.c.wild", a))),
    ]
    .into_iter()
    .flat_map(|case| ["secure.test", "three.test"].map(|zone| (case, zone)))
    .map(|((there, proofs), zone)| {
        let proofs = proofs.map(|(name, kind)| (format!("{name}.{zone}"), kind));
        (format!("{there}.wild.{zone}"), (proofs, zone))
    }) {
        let (proofs, zone_name) = proofs;
        for beside in [vec![], unsigned_soa("unsigned.test")] {
            let bench = Bench::behind(|zone, world| {
                let any = format!("any.wild.{zone_name}");
                let (mut answers, _) = taken(world, &any, a);
                answers.iter_mut().for_each(|record| record.name = fqdn(&there));
                let mut authorities = beside;
                if let Some((name, kind)) = &proofs {
                    authorities.extend(taken(world, name, *kind).1);
                }
                zone.reply(&there, a, full(answers, authorities))
            })
            .await;
            let state = bench.ask(&there, a).await;
            assert_eq!(state, "bogus", "{there} {proofs:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_validated_is_none() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused] {
        let bench =
            Bench::behind(|zone, _| {
                zone.reply("_5269._tcp.xmpp.secure.test", RecordType::TLSA, Reply::Code(code))
                    .reply("three.test", RecordType::DNSKEY, Reply::Code(code))
            })
            .await;
        //
        assert_eq!(bench.tlsa("xmpp.secure.test", 5269).await, "temporary");
        assert_eq!(bench.srv("secure.test").await, "secure");
        assert_eq!(bench.srv("three.test").await, "bogus");
    }
}

#[tokio::test]
async fn the_anchors_of_a_file_are_where_trust_begins() {
    let world = world();
    let anchors = |zone: &str, n: usize| world.zone(zone).anchors()[n].clone();
    let stranger = SignedZone::new(".").anchors();
    for (anchors, secure, unsigned, other) in [
        (anchors(".", 0), "secure", "insecure", "secure"),
        (anchors(".", 1), "secure", "insecure", "secure"),
        (anchors("test", 0), "secure", "insecure", "secure"),
        (anchors("test", 1), "secure", "insecure", "secure"),
        // islands: what is under no anchor is insecure
        (anchors("secure.test", 0), "secure", "insecure", "insecure"),
        (anchors("secure.test", 1) + &anchors("three.test", 0), "secure", "insecure", "secure"),
        (stranger[0].clone() + &anchors("secure.test", 1), "secure", "bogus", "bogus"),
        (stranger[0].clone(), "bogus", "bogus", "bogus"),
        (stranger[1].clone(), "bogus", "bogus", "bogus"),
    ] {
        let bench = Bench::with(&world, Zone::before(world.source()), &anchors).await;
        assert_eq!(bench.srv("secure.test").await, secure, "{anchors}");
        assert_eq!(bench.srv("unsigned.test").await, unsigned, "{anchors}");
        assert_eq!(bench.srv("three.test").await, other, "{anchors}");
    }
}

/// RFC 4033 §5, RFC 6840 §C.1: where a zone has an anchor of its own, nothing that the zones above say
/// of it makes it insecure.
#[tokio::test]
async fn of_several_anchors_above_a_name_the_closest_counts_alone() {
    const PRIVATE: &str = "corp.unsigned.test";
    let name = format!("_xmpp-server._tcp.{PRIVATE}");
    let zones = [zone("secure.test"), zone(PRIVATE).with(Fault::Island)];
    let above = [SignedZone::new("."), SignedZone::new("test"), unsigned("unsigned.test")];
    let world = Arc::new(World::new(above.into_iter().chain(zones).collect()));
    let root = &world.zone(".").anchors()[0];
    let own = &world.zone(PRIVATE).anchors()[0];
    let outdated = &SignedZone::new(PRIVATE).anchors()[0];
    let all = || Zone::before(world.source());
    let forged = srv(&name, (0, 0, 5269, "attacker.unsigned.test"));
    let forged = || all().reply(&name, RecordType::SRV, Reply::Answers(vec![forged.clone()]));
    let silent = || all().reply(PRIVATE, RecordType::DNSKEY, Reply::Silence);
    for (zone, anchor, private) in [
        (all(), "", "insecure"),
        (all(), own, "secure"),
        (forged(), own, "bogus"),
        (all(), outdated, "bogus"),
        // one that does not answer keeps none but its own from being validated
        (silent(), own, ""),
    ] {
        let bench = Bench::with(&world, zone, &format!("{root}{anchor}")).await;
        assert_eq!(bench.srv("secure.test").await, "secure", "{anchor}");
        assert_eq!(bench.srv("unsigned.test").await, "insecure", "{anchor}");
        if !private.is_empty() {
            assert_eq!(bench.srv(PRIVATE).await, private, "{anchor}");
        }
    }
}

#[test]
fn a_file_of_anchors_that_cannot_be_used_is_named() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"test. IN A 192.0.2.1").unwrap();
    let trust_anchor = Some(file.path().to_owned());
    let dnssec = Dnssec::Validate { trust_anchor };
    let servers = vec!["192.0.2.53:53".parse().unwrap()];
    let config = model::Resolver { servers, timeout: Duration::from_secs(1), dnssec };
    let error = Resolver::new(&config, &OwnAddresses::default()).unwrap_err();
    assert!(error.to_string().ends_with(": line 1: neither a DNSKEY nor a DS record"), "{error}");
}

#[tokio::test]
async fn the_ad_bit_counts_where_it_is_trusted_and_nowhere_else() {
    let name = "_xmpp-server._tcp.peer.test";
    let record = || vec![srv(name, (0, 0, 5269, "host.peer.test"))];
    let authentic = |authentic| Reply::Full {
        code: ResponseCode::NoError,
        answers: record(),
        authorities: vec![],
        authentic,
    };
    for (mode, marked, state) in [
        (Dnssec::TrustAd, true, "secure"),
        (Dnssec::TrustAd, false, "insecure"),
        //
        (Dnssec::Off, true, "insecure"),
    ] {
        let zone = Zone::default().reply(name, RecordType::SRV, authentic(marked));
        let bench = Bench::mode(zone, mode.clone()).await;
        assert_eq!(bench.srv("peer.test").await, state, "{mode:?} {marked}");
        assert_eq!(bench.srv("other.test").await, "none");
    }
    // one step of an alias without it is enough
    let zone = Zone::default()
        .reply(name, RecordType::SRV, Reply::Answers(vec![cname(name, "srv.test")]))
        .reply(
            "srv.test",
            RecordType::SRV,
            full(vec![srv("srv.test", (0, 0, 5269, "a.test"))], vec![]),
        );
    let bench = Bench::mode(zone, Dnssec::TrustAd).await;
    assert_eq!(bench.srv("peer.test").await, "insecure");
}

#[tokio::test]
async fn the_records_of_all_endpoints_are_collected_for_a_client() {
    let bench = Bench::new().await;
    let published = |domain: &str| {
        let domain = Domain::parse(domain).unwrap();
        let resolver = bench.resolver.clone();
        async move { resolver.published(&domain).await }
    };
    let moved = published("moved.secure.test").await.unwrap();
    let mut bases: Vec<_> = moved.sets.iter().map(|set| set.base.to_string()).collect();
    bases.sort();
    assert_eq!(bases, ["moved.secure.test", "xmpp.three.test"]);
    assert!(moved.missing.is_none());
    // without SRV records the domain is its own endpoint
    let bare = published("bare.secure.test").await.unwrap();
    assert_eq!(bare.sets.len(), 1);
    for (domain, count) in [("unsigned.test", 0), ("none.secure.test", 0), ("secure.test", 1)] {
        assert_eq!(published(domain).await.unwrap().sets.len(), count, "{domain}");
    }
    assert!(matches!(published("bogus.test").await, Err(ResolveError::Bogus { .. })));
    let bench = Bench::behind(|zone, _| {
        let broken = Reply::Code(ResponseCode::ServFail);
        zone.reply("_5269._tcp.xmpp.secure.test", RecordType::TLSA, broken)
    })
    .await;
    let domain = Domain::parse("secure.test").unwrap();
    let published = bench.resolver.published(&domain).await.unwrap();
    assert!(published.sets.is_empty() && published.missing.is_some());
}

#[tokio::test]
async fn validated_answers_are_remembered() {
    let bench = Bench::new().await;
    bench.srv("secure.test").await;
    bench.tlsa("xmpp.secure.test", 5269).await;
    bench.tlsa("xmpp.secure.test", 5270).await;
    let asked = bench.dns.asked().len();
    bench.srv("secure.test").await;
    bench.tlsa("xmpp.secure.test", 5269).await;
    bench.tlsa("xmpp.secure.test", 5270).await;
    assert_eq!(bench.dns.asked().len(), asked);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn no_rdata_makes_it_panic(
        kind in prop_oneof![Just(52_u16), Just(39), Just(5), Just(33), Just(46), Just(43)],
        rdata in proptest::collection::vec(any::<u8>(), 1..60),
    ) {
        use hickory_proto::rr::rdata::NULL;
        let kind = RecordType::from(kind);
        let data = RData::Unknown { code: kind, rdata: NULL::with(rdata) };
        let name = "_5269._tcp.xmpp.secure.test";
        let record = Record::from_rdata(fqdn(name), 300, data.clone());
        let above = Record::from_rdata(fqdn("xmpp.secure.test"), 300, data);
        let answers = vec![record, above, cname(name, "a.secure.test")];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for authentic in [false, true] {
                let reply = full(answers.clone(), answers.clone());
                let zone = Zone::default().reply(name, RecordType::TLSA, reply);
                let mode = if authentic { Dnssec::TrustAd } else { Dnssec::Off };
                let bench = Bench::mode(zone, mode).await;
                let _ = bench.resolver.ask(name, RecordType::TLSA).await;
                let reply = full(answers.clone(), vec![]);
                let bench = Bench::behind(|zone, _| zone.reply(name, RecordType::TLSA, reply)).await;
                let _ = bench.resolver.ask(name, RecordType::TLSA).await;
            }
        });
    }
}
