//! TLSA records that are not to be had, that nobody vouches for, or that mean another.

use hickory_proto::rr::RecordType;
use tokio::time::{Duration, sleep};

use super::{
    dns::{TRUSTED, not_connected, trusting},
    offered,
};
use crate::world::{
    BOUNCE, EXTERNAL, FEATURES_END, Host, Identity, San, Service, World, header, soon,
};

#[tokio::test]
async fn a_52_a_host_whose_tlsa_records_are_not_to_be_had_is_not_connected_to() {
    let mut world = trusting("").await;
    for (domain, silent) in [("a.test", true), ("b.test", false)] {
        // its certificate is good, which nobody can know to be enough
        let host = world.host(domain).await;
        let name = format!("_{}._tcp.host1.{domain}", host.address.port());
        if silent {
            world.dns.mute(&name);
        } else {
            world.dns.fail(&name);
        }
        not_connected(&mut world, &host, "remote-server-timeout").await;
        // nor is it proven by that certificate where it connects
        assert!(!world.proves_client(&host.identity, domain).await, "{domain}");
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_53_and_a_54_records_that_nobody_vouches_for_prove_no_key() {
    let record = |world: &World, host: &Host| {
        let name = format!("_{}._tcp.host1.{}", host.address.port(), host.domain);
        let data = format!("3 0 1 {}", host.identity.sha256());
        world.dns.record(&name, RecordType::TLSA, &data);
        name
    };
    for (n, (vouched, config, doubted)) in [
        // all else is vouched for
        (true, "resolver: { dnssec: trust-ad }\n", Some("tlsa")),
        (true, "resolver: { dnssec: trust-ad }\n", Some("host")),
        (true, "resolver: { dnssec: trust-ad }\n", Some("srv")),
        (false, "resolver: { dnssec: trust-ad }\n", None),
        // the AD bit means nothing where it is not to be trusted
        (true, "", None),
    ]
    .into_iter()
    .enumerate()
    {
        let mut world = World::with(BOUNCE).await;
        world.reload(&format!("{config}{TRUSTED}")).unwrap();
        if vouched {
            world.dns.vouch();
        }
        let domain = format!("d{n}.evil.test");
        let mut host = world.host(&domain).await;
        host.identity = Identity::self_signed(&domain);
        let name = record(&world, &host);
        match doubted {
            Some("tlsa") => world.dns.doubt(&name),
            Some("host") => world.dns.doubt(&format!("host1.{domain}")),
            Some(_) => world.dns.doubt(&format!("_xmpp-server._tcp.{domain}")),
            None => {}
        }
        let _stream = world.sends(&domain).await;
        host.accept_secured().await.ends_silently().await;
        world.bounced(&domain, "remote-server-timeout").await;
        assert!(!world.proves_client(&host.identity, &domain).await, "{n}");
        world.is_alive().await;
    }
    // the same, and all of it vouched for
    let mut world = trusting(TRUSTED).await;
    let mut host = world.host("a.evil.test").await;
    host.identity = Identity::self_signed("a.evil.test");
    record(&world, &host);
    let _stream = world.sends("a.evil.test").await;
    assert!(offered(&host).await.0);
    world.bounced("a.evil.test", "remote-server-timeout").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_55_to_a_58_tlsa_records_mean_what_they_say_and_nothing_else() {
    let mut world = trusting("defaults: { level: trusted }").await;
    let own = |host: &Host| format!("3 0 1 {}", host.identity.sha256());
    let wrong = format!("3 1 1 {:064x}", 1);
    let good = |world: &World, domain: &str| world.authority.issue(&[domain]);
    let bare = |_: &World, _: &str| {
        Identity::self_signed_with(&[San::dns("other.test")], |params| {
            super::certificates::valid(params, 1_000_000_000, 1_100_000_000);
        })
    };
    type Make<'a> = &'a dyn Fn(&World, &str) -> Identity;
    type Data<'a> = &'a dyn Fn(&Host) -> Vec<String>;
    let cases: [(&str, Make<'_>, Data<'_>, bool); 13] = [
        ("usage 3, whatever names and dates are", &bare, &|h| vec![own(h)], true),
        ("usage 1 needs a chain", &bare, &|h| vec![own(h).replacen('3', "1", 1)], false),
        ("usage 1 with one", &good, &|h| vec![own(h).replacen('3', "1", 1)], true),
        ("usage 0 means a CA", &good, &|h| vec![own(h).replacen('3', "0", 1)], false),
        ("usage 2 means a CA", &bare, &|h| vec![own(h).replacen('3', "2", 1)], false),
        //
        ("a mismatch outweighs a good chain", &good, &|_| vec![wrong.clone()], false),
        ("one of several", &bare, &|h| vec![wrong.clone(), own(h)], true),
        // none that can be used is as none at all
        ("no such usage", &bare, &|h| vec![own(h).replacen('3', "4", 1)], false),
        ("no such usage, and a good chain", &good, &|h| vec![own(h).replacen('3', "4", 1)], true),
        ("no such selector", &bare, &|h| vec![own(h).replacen("3 0", "3 2", 1)], false),
        ("no such digest", &bare, &|h| vec![own(h).replacen("0 1", "0 3", 1)], false),
        ("a digest cut short", &bare, &|h| vec![own(h)[..own(h).len() - 2].to_owned()], false),
        //
        (
            "the weaker of two digests",
            &bare,
            &|h| vec![own(h), format!("3 0 2 {:0128x}", 1)],
            false,
        ),
    ];
    for (n, (what, make, data, proven)) in cases.into_iter().enumerate() {
        let domain = format!("d{n}.test");
        let mut host = world.host(&domain).await;
        host.identity = make(&world, &domain);
        let name = format!("_{}._tcp.host1.{domain}", host.address.port());
        for data in data(&host) {
            world.dns.record(&name, RecordType::TLSA, &data);
        }
        let _stream = world.sends(&domain).await;
        if proven {
            assert!(offered(&host).await.0, "{what}");
        } else {
            host.accept_secured().await.ends_silently().await;
        }
        world.bounced(&domain, "remote-server-timeout").await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_57_records_for_another_port_or_name_are_none() {
    let mut world = trusting("defaults: { level: trusted }").await;
    for (n, name) in ["_5269._tcp.host1", "_5270._tcp.host1", "_443._tcp.host1"].iter().enumerate()
    {
        let domain = format!("d{n}.test");
        let mut host = world.host(&domain).await;
        host.identity = Identity::self_signed(&domain);
        let data = format!("3 0 1 {}", host.identity.sha256());
        let port = host.address.port();
        for name in [(*name).to_owned(), format!("_{port}._tcp"), format!("_{port}._udp.host1")] {
            world.dns.record(&format!("{name}.{domain}"), RecordType::TLSA, &data);
        }
        let _stream = world.sends(&domain).await;
        host.accept_secured().await.ends_silently().await;
        world.bounced(&domain, "remote-server-timeout").await;
    }
    world.is_alive().await;
}

/// Who suppresses an answer has no pair withdrawn that rests on it: the records of the domain's other
/// servers alone contradict nobody.
#[tokio::test]
async fn no_pair_is_lost_while_the_records_of_its_server_are_not_to_be_had() {
    let mut world = trusting("").await;
    let hosts = [(); 2].map(|()| Host::bind("evil.test", Identity::self_signed("evil.test")));
    world.dns.publish("evil.test", Service::StartTls, &hosts.each_ref().map(|host| host.address));
    let names = [1, 2].map(|n| format!("_{}._tcp.host{n}.evil.test", hosts[n - 1].address.port()));
    for (name, host) in names.iter().zip(&hosts) {
        let data = format!("3 0 1 {}", host.identity.sha256());
        world.dns.record(name, RecordType::TLSA, &data);
    }
    let mut conn = world.secured(Some(&hosts[1].identity)).await;
    conn.say(header("evil.test", "old.test")).await;
    assert!(conn.until(FEATURES_END).await.contains("EXTERNAL"));
    conn.say(EXTERNAL).await;
    conn.until("<success").await;
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    // all is proven again, and nothing kept of what was asked
    world.dns.fail(&names[1]);
    let before = world.dns.asked().len();
    let rules = "rules: [{ match: other.test, proofs: pkix }]";
    world.reload(&format!("resolver: {{ dnssec: trust-ad }}\n{rules}")).unwrap();
    soon("the question", async {
        let is_it = |asked: &String| asked.starts_with(&names[1]);
        while !world.dns.asked()[before..].iter().any(is_it) {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    world.is_alive().await;
    let stanza = "<message from='m@evil.test' to='bob@old.test'/>";
    conn.say(stanza).await;
    assert_eq!(world.legacy.arrival().await, stanza);
    world.is_alive().await;
}
