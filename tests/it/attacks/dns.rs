//! Lies of DNS, and its silence.

use std::net::IpAddr;

use hickory_proto::rr::RecordType;

use super::offered;
use crate::world::{
    BOUNCE, Conn, FEATURES_END, FOOTER, Host, Identity, Plan, Service, World, header, message_to,
};

/// A gate that takes the AD bit for what it says, and has `more` as rules.
pub(super) async fn trusting(more: &str) -> World {
    let mut world = World::with(BOUNCE).await;
    world.dns.vouch();
    world.reload(&format!("resolver: {{ dnssec: trust-ad }}\n{more}")).unwrap();
    world
}

/// The message for the peer came back, and nobody was connected to.
pub(super) async fn not_connected(world: &mut World, host: &Host, condition: &str) {
    let _stream = world.sends(&host.domain).await;
    world.bounced(&host.domain, condition).await;
    host.nobody_waits().await;
}

/// The peer is asked by dialback, on the word of an authoritative server that is not to be had.
async fn refused_inbound(world: &World, domain: &str, condition: &str) {
    let (mut conn, _) = world.unproven(domain).await;
    conn.say(format!("<db:result from='{domain}' to='old.test'>k</db:result>")).await;
    let answer = conn.until("</db:result>").await;
    assert!(answer.contains(&format!("<{condition} ")), "{domain}: {answer}");
}

/// Whether addresses of this very name were asked for.
fn was_asked(world: &World, name: &str) -> bool {
    world.dns.asked().iter().any(|asked| asked == &format!("{name}."))
}

pub(super) const TRUSTED: &str = "rules: [{ match: '*.evil.test', level: trusted }]";

#[tokio::test]
async fn a_50_a_certificate_for_a_host_that_only_dns_names_proves_nothing() {
    // whoever answers for the domain in DNS has a good certificate, for their own host
    let mut world = World::with(BOUNCE).await;
    world.reload(TRUSTED).unwrap();
    for domain in ["victim.test", "a.evil.test"] {
        let mut host = world.host(domain).await;
        host.identity = world.authority.issue(&[&format!("host1.{domain}")]);
        let _stream = world.sends(domain).await;
        if domain == "victim.test" {
            let (external, conn) = offered(&host).await;
            assert!(!external);
            drop(conn);
        } else {
            host.accept_secured().await.ends_silently().await;
        }
        world.bounced(domain, "remote-server-timeout").await;
        // nor where it connects
        let mut conn = world.secured(Some(&host.identity)).await;
        conn.say(header(domain, "old.test")).await;
        assert!(!conn.until(FEATURES_END).await.contains("EXTERNAL"));
    }
    // signed records may name it (RFC 7673 §4.1)
    let mut world = trusting(TRUSTED).await;
    let mut host = world.host("a.evil.test").await;
    host.identity = world.authority.issue(&["host1.a.evil.test"]);
    let _stream = world.sends("a.evil.test").await;
    assert!(offered(&host).await.0);
    world.bounced("a.evil.test", "remote-server-timeout").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_51_a_question_that_fails_leads_to_no_other_way() {
    let mut world = World::with(BOUNCE).await;
    for (n, (failing, published)) in [
        (&["_xmpp-server._tcp", "_xmpps-server._tcp"][..], None),
        (&["_xmpp-server._tcp"], None),
        (&["_xmpps-server._tcp"], None),
        // one that answers does not stand in for the other
        (&["_xmpps-server._tcp"], Some(Service::StartTls)),
        (&["_xmpp-server._tcp"], Some(Service::Direct)),
    ]
    .into_iter()
    .enumerate()
    {
        let domain = format!("d{n}.test");
        let host = Host::bind(&domain, world.authority.issue(&[&domain]));
        world.dns.address(&domain, host.address.ip());
        if let Some(service) = published {
            world.dns.publish(&domain, service, &[host.address]);
        }
        for service in failing {
            world.dns.fail(&format!("{service}.{domain}"));
        }
        not_connected(&mut world, &host, "remote-server-timeout").await;
        refused_inbound(&world, &domain, "remote-server-timeout").await;
        assert!(!was_asked(&world, &domain), "a fallback to {domain} itself");
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_59_dns_leads_nobody_into_the_own_network() {
    let plan = Plan { deny_out: "[private, loopback, link-local]", ..BOUNCE };
    let mut world = World::with(plan).await;
    let honest = world.good.address;
    let rule = format!("{{ match: good.test, connect: {{ address: '{honest}', tls: starttls }} }}");
    world.reload(&format!("rules: [{rule}]")).unwrap();
    let host = Host::bind_at("127.0.0.66:0".parse().unwrap(), "x", Identity::self_signed("x"));
    for (n, (address, port)) in [
        // the legacy server's own port, and one that nobody should know of
        ("127.0.0.1", world.legacy.address.port()),
        ("127.0.0.1", world.local().port()),
        ("127.0.0.66", host.address.port()),
        ("::1", 5269),
        ("::ffff:127.0.0.66", host.address.port()),
        ("64:ff9b::127.0.0.66", host.address.port()),
        ("0.0.0.0", world.legacy.address.port()),
        ("::", world.legacy.address.port()),
        ("10.0.0.1", 5269),
        ("172.16.0.1", 5269),
        ("192.168.0.1", 5269),
        ("100.64.0.1", 5269),
        ("169.254.169.254", 80),
        ("fe80::1", 5269),
        ("fd00::1", 5269),
        ("::ffff:10.0.0.1", 5269),
        ("64:ff9b::10.0.0.1", 5269),
        ("224.0.0.1", 5269),
        ("255.255.255.255", 5269),
    ]
    .into_iter()
    .enumerate()
    {
        let address: IpAddr = address.parse().unwrap();
        for service in [Service::StartTls, Service::Direct] {
            let direct = matches!(service, Service::Direct);
            let domain = format!("d{n}{}.test", if direct { "d" } else { "s" });
            world.dns.publish(&domain, service, &[(address, port).into()]);
            let _stream = world.sends(&domain).await;
            world.bounced(&domain, "forbidden").await;
            refused_inbound(&world, &domain, "forbidden").await;
        }
    }
    host.nobody_waits().await;
    // as for a peer, nobody came to the legacy server
    let ours = |header: &String| header.contains("from: Some(\"old.test\")");
    assert!(!world.legacy.headers().iter().any(ours));
    world.is_alive().await;
}

#[tokio::test]
async fn a_60_the_address_that_was_judged_is_the_one_that_is_connected_to() {
    // each answer names another address, and holds for no time
    let mut world = World::with(BOUNCE).await;
    let rules = "rules: [{ address: 127.0.0.66, allow: none }]";
    world.reload(rules).unwrap();
    let open = world.host("evil.test").await;
    let mut guarded = open.address;
    guarded.set_ip("127.0.0.66".parse().unwrap());
    let guarded = Host::bind_at(guarded, "evil.test", open.identity.clone());
    // three, for the gate may ask twice for one connection
    let [first, second] = [open.address.ip(), guarded.address.ip()];
    world.dns.turn("host1.evil.test", &[first, second, second]);
    let (mut arrived, mut refused) = (0, 0);
    for _ in 0..12 {
        let _stream = world.sends("evil.test").await;
        tokio::select! {
            mut conn = open.accept_open() => {
                conn.until(&message_to("evil.test")).await;
                conn.say(FOOTER).await;
                conn.rest().await;
                arrived += 1;
            }
            bounce = world.legacy.arrival() => {
                assert!(bounce.contains("<forbidden "), "{bounce}");
                refused += 1;
            }
        }
        world.reload(rules).unwrap(); // makes the gate try at once
    }
    assert!(arrived > 0 && refused > 0, "{arrived} {refused}");
    guarded.nobody_waits().await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_61_of_a_thousand_servers_only_some_are_tried() {
    let mut world = World::with(BOUNCE).await;
    // bound, and not listened on
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = socket.local_addr().unwrap().port();
    for n in 0..1000 {
        let target = format!("host{n}.flood.test");
        let data = format!("{} {n} {nobody} {target}.", n % 7);
        world.dns.record("_xmpp-server._tcp.flood.test", RecordType::SRV, &data);
        world.dns.address(&target, "127.0.0.1".parse().unwrap());
    }
    let _stream = world.sends("flood.test").await;
    world.bounced("flood.test", "remote-server-timeout").await;
    let mut tried: Vec<_> = world.dns.asked();
    tried.retain(|name| name.starts_with("host") && name.ends_with(".flood.test."));
    tried.sort();
    tried.dedup();
    assert!((1..=32).contains(&tried.len()), "{}", tried.len());
    // nor is anybody connected to at the ports of other services
    for port in [0, 22, 25, 53, 1023] {
        let (domain, target) = (format!("p{port}.test"), format!("host.p{port}.test"));
        let data = format!("0 0 {port} {target}.");
        for service in ["_xmpp-server", "_xmpps-server"] {
            world.dns.record(&format!("{service}._tcp.{domain}"), RecordType::SRV, &data);
        }
        world.dns.address(&target, "127.0.0.1".parse().unwrap());
        let _stream = world.sends(&domain).await;
        world.bounced(&domain, "remote-server-not-found").await;
        assert!(!was_asked(&world, &target));
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_67_certificates_of_strangers_are_looked_into_a_few_at_a_time() {
    const STREAMS: usize = 12;
    const AT_ONCE: usize = 3;
    let config = "limits: { lookups_per_address: 3, connections_per_address: 100 }\n\
        resolver: { dnssec: trust-ad }";
    let mut world = World::start().await;
    world.reload(config).unwrap();
    let identity = Identity::self_signed("stranger.test");
    let mut conns = Vec::new();
    for n in 0..STREAMS {
        world.dns.silence(&format!("d{n}.claimed.test"));
        let mut conn = world.secured_from("127.0.0.66", Some(&identity)).await;
        conn.say(header(&format!("d{n}.claimed.test"), "old.test")).await;
        conns.push(conn);
    }
    let claimed = |world: &World| {
        let mut names = world.dns.asked();
        names.retain(|name| name.ends_with(".claimed.test."));
        let label = |name: &String| name.rsplit('.').nth(3).unwrap().to_owned();
        names.iter().map(label).collect::<std::collections::HashSet<_>>()
    };
    // another address has its own share
    let mut other: Conn = world.secured_from("127.0.0.77", Some(&identity)).await;
    other.say(header("free.test", "old.test")).await;
    other.until(FEATURES_END).await;
    let names = claimed(&world);
    assert!((1..=AT_ONCE).contains(&names.len()), "{names:?}");
    // nobody is proven, and each is told so
    for conn in &mut conns {
        let features = conn.until(FEATURES_END).await;
        assert!(!features.contains("EXTERNAL"), "{features}");
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_69_a_domain_without_the_service_has_none_at_its_own_address_either() {
    let mut world = World::with(BOUNCE).await;
    for (n, (direct, starttls)) in
        [(true, false), (false, true), (true, true)].into_iter().enumerate()
    {
        let domain = format!("d{n}.test");
        let host = Host::bind(&domain, world.authority.issue(&[&domain]));
        world.dns.address(&domain, host.address.ip());
        for (says, service) in [(direct, "_xmpps-server"), (starttls, "_xmpp-server")] {
            if says {
                let name = format!("{service}._tcp.{domain}");
                world.dns.record(&name, RecordType::SRV, "0 0 0 .");
            }
        }
        not_connected(&mut world, &host, "remote-server-not-found").await;
        refused_inbound(&world, &domain, "remote-server-not-found").await;
        assert!(!was_asked(&world, &domain), "a fallback to {domain} itself");
    }
    world.is_alive().await;
}
