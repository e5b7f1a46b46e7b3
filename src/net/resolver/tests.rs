use hickory_proto::op::ResponseCode;
use hickory_resolver::net::DnsError;

use super::*;
use crate::{
    net::{
        fake_dns::{FakeDns, Reply, Transport, Zone, cname, srv},
        targets::TargetTls,
    },
    xmpp::StanzaCondition,
};

const DIRECT: &str = "_xmpps-server._tcp.peer.test";
const STARTTLS: &str = "_xmpp-server._tcp.peer.test";

fn resolver(dns: &FakeDns) -> Resolver {
    resolver_with(dns, Duration::from_secs(20))
}

fn resolver_with(dns: &FakeDns, timeout: Duration) -> Resolver {
    resolver_of(&[dns], timeout)
}

fn resolver_of(dns: &[&FakeDns], timeout: Duration) -> Resolver {
    let servers = dns.iter().map(|dns| dns.address).collect();
    let config = model::Resolver { servers, timeout, dnssec: Dnssec::Off };
    Resolver::new(&config, &OwnAddresses::default()).unwrap()
}

/// A server that does the same with every question.
async fn always(reply: Reply) -> FakeDns {
    Zone::before(Arc::new(move |_, _| reply.clone())).serve().await
}

async fn service(zone: Zone) -> Result<Vec<Target>, ResolveError> {
    let dns = zone.serve().await;
    resolver(&dns).service(&Domain::parse("peer.test").unwrap()).await
}

async fn addresses(zone: Zone) -> Result<Vec<String>, ResolveError> {
    let dns = zone.serve().await;
    let addresses = resolver(&dns).addresses("host.test").await?;
    assert_eq!((addresses.security, &addresses.canonical), (Security::Insecure, &None));
    Ok(addresses.ips.iter().map(ToString::to_string).collect())
}

fn target(tls: TargetTls, host: &str, port: u16, priority: u16) -> Target {
    Target { host: host.into(), port, tls, priority, delegation: Delegation::Insecure }
}

#[tokio::test]
async fn records_of_both_services_are_merged_by_priority() {
    let zone = Zone::default()
        .srv(DIRECT, &[(10, 0, 5270, "Tls.Peer.test")])
        .srv(STARTTLS, &[(10, 0, 5269, "a.peer.test"), (5, 0, 443, "b.peer.test")]);
    assert_eq!(
        service(zone).await.unwrap(),
        [
            target(TargetTls::StartTls, "b.peer.test", 443, 5),
            target(TargetTls::Direct, "tls.peer.test", 5270, 10),
            target(TargetTls::StartTls, "a.peer.test", 5269, 10),
        ]
    );
}

#[tokio::test]
async fn a_domain_without_srv_records_falls_back_to_itself() {
    let domain = [Target {
        delegation: Delegation::None,
        ..target(TargetTls::StartTls, "peer.test", 5269, 0)
    }];
    assert_eq!(service(Zone::default()).await.unwrap(), domain);
    let no_data = Zone::default().addresses(DIRECT, &["127.0.0.1"]);
    assert_eq!(service(no_data).await.unwrap(), domain);
}

#[tokio::test]
async fn a_domain_that_says_dot_has_no_service() {
    for name in [DIRECT, STARTTLS] {
        let error = service(Zone::default().srv(name, &[(0, 0, 0, ".")])).await.unwrap_err();
        assert_eq!(error.condition(), StanzaCondition::RemoteServerNotFound);
        assert_eq!(error.to_string(), "SRV peer.test: the domain says that it has no such service");
    }
}

#[tokio::test]
async fn no_fallback_and_no_other_service_where_an_answer_is_missing() {
    for broken in [
        Reply::Code(ResponseCode::ServFail),
        Reply::Code(ResponseCode::Refused),
        Reply::Garbage,
        Reply::Referral,
    ] {
        for (name, other) in [(DIRECT, STARTTLS), (STARTTLS, DIRECT)] {
            let alone = Zone::default().reply(name, RecordType::SRV, broken.clone());
            let beside = alone.clone().srv(other, &[(0, 0, 5269, "a.peer.test")]);
            for zone in [alone, beside] {
                let error = service(zone).await.unwrap_err();
                assert!(matches!(error, ResolveError::Temporary { .. }), "{broken:?}: {error}");
                assert_eq!(error.condition(), StanzaCondition::RemoteServerTimeout);
                assert_eq!(error.to_string(), format!("SRV {name}"));
            }
        }
    }
}

#[tokio::test]
async fn silence_is_a_temporary_error_within_the_time() {
    let dns = Zone::default().reply(STARTTLS, RecordType::SRV, Reply::Silence).serve().await;
    let error = resolver_with(&dns, Duration::from_millis(100))
        .service(&Domain::parse("peer.test").unwrap())
        .await
        .unwrap_err();
    assert!(matches!(error, ResolveError::Temporary { cause: NetError::Timeout, .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_fails_is_passed_over_while_another_answers() {
    for broken in [
        Reply::Code(ResponseCode::ServFail),
        Reply::Code(ResponseCode::Refused),
        Reply::Code(ResponseCode::NotImp),
        Reply::Code(ResponseCode::FormErr),
        Reply::Garbage,
        Reply::Referral,
        Reply::Silence,
    ] {
        let hosts: Vec<_> = (0..8).map(|i| format!("h{i}.test")).collect();
        let add = |zone: Zone, host: &String| zone.addresses(host, &["192.0.2.1"]);
        let good = hosts.iter().fold(Zone::default(), add).serve().await;
        let (first, second) = (always(broken.clone()).await, always(broken.clone()).await);
        let resolver = resolver_of(&[&first, &second, &good], Duration::from_secs(20));
        let addresses = async |host: &str| {
            let found = resolver.addresses(host).await;
            found.unwrap_or_else(|error| panic!("{broken:?}: {error:?}")).ips
        };
        assert_eq!(addresses("h0.test").await, [Ipv4Addr::new(192, 0, 2, 1)]);
        // and now it is known which is good
        let asked = first.asked().len();
        for host in &hosts {
            assert_eq!(addresses(host).await, [Ipv4Addr::new(192, 0, 2, 1)]);
        }
        assert_eq!(first.asked().len(), asked, "{broken:?}");
        // that there is nothing is an answer, too
        let error = resolver.addresses("none.test").await.unwrap_err();
        assert_eq!(error.condition(), StanzaCondition::RemoteServerNotFound);
    }
}

#[tokio::test]
async fn a_failure_is_told_rather_than_the_silence_of_others() {
    let failing = always(Reply::Code(ResponseCode::Refused)).await;
    let silent = always(Reply::Silence).await;
    for servers in [[&failing, &silent], [&silent, &failing]] {
        let error = resolver_of(&servers, Duration::from_secs(1)).addresses("host.test").await;
        let Err(ResolveError::Temporary { cause, .. }) = error else { panic!("{error:?}") };
        assert!(
            matches!(cause, NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused))),
            "{cause:?}"
        );
    }
}

#[tokio::test]
async fn a_huge_set_comes_by_tcp_and_is_cut_and_not_kept() {
    let targets: Vec<String> = (0..1000).map(|i| format!("h{i}.peer.test")).collect();
    let records: Vec<_> = targets.iter().map(|t| (7, 1, 5269, &**t)).collect();
    let dns = Zone::default().srv(STARTTLS, &records).serve().await;
    let resolver = resolver(&dns);
    for _ in 0..2 {
        let targets = resolver.service(&Domain::parse("peer.test").unwrap()).await.unwrap();
        assert_eq!(targets.len(), MAX_TARGETS);
    }
    let by_tcp = dns.asked().iter().filter(|q| q.2 == Transport::Tcp).count();
    assert_eq!(by_tcp, 2);
}

#[tokio::test]
async fn what_is_kept_is_bounded_in_bytes() {
    let label = "a".repeat(60);
    for (target, is_kept) in [("peer.test", true), (&*format!("{label}.{label}.test"), false)] {
        let targets: Vec<String> = (0..60).map(|i| format!("h{i}.{target}")).collect();
        let records: Vec<_> = targets.iter().map(|t| (7, 1, 5269, &**t)).collect();
        let dns = Zone::default().srv(STARTTLS, &records).serve().await;
        let resolver = resolver(&dns);
        for _ in 0..2 {
            resolver.service(&Domain::parse("peer.test").unwrap()).await.unwrap();
        }
        let by_tcp = dns.asked().iter().filter(|q| q.2 == Transport::Tcp).count();
        assert_eq!(by_tcp, if is_kept { 1 } else { 2 }, "{target}");
    }
}

#[tokio::test]
async fn an_alias_of_an_srv_name_is_followed() {
    const ELSEWHERE: &str = "_xmpp-server._tcp.hoster.test";
    let record = (1, 1, 5269, "xmpp.hoster.test");
    let whole = Reply::Answers(vec![cname(STARTTLS, ELSEWHERE), srv(ELSEWHERE, record)]);
    let part = Reply::Answers(vec![cname(STARTTLS, ELSEWHERE)]);
    for answer in [whole, part.clone()] {
        let zone = Zone::default()
            .reply(STARTTLS, RecordType::SRV, answer)
            .reply(STARTTLS, RecordType::CNAME, part.clone())
            .srv(ELSEWHERE, &[record]);
        assert_eq!(
            service(zone).await.unwrap(),
            [target(TargetTls::StartTls, "xmpp.hoster.test", 5269, 1)]
        );
    }
}

#[tokio::test]
async fn a_chain_of_aliases_without_end_is_a_temporary_error() {
    let name = |i| if i == 0 { STARTTLS.to_owned() } else { format!("{i}.hoster.test") };
    let mut zone = Zone::default();
    for i in 0..40 {
        let alias = Reply::Answers(vec![cname(&name(i), &name(i + 1))]);
        zone = zone.reply(&name(i), RecordType::SRV, alias.clone()).reply(
            &name(i),
            RecordType::CNAME,
            alias,
        );
    }
    let error = service(zone).await.unwrap_err();
    assert!(matches!(error, ResolveError::Temporary { .. }), "{error:?}");
}

#[tokio::test]
async fn answers_are_remembered() {
    let dns = Zone::default()
        .srv(STARTTLS, &[(0, 0, 5269, "host.test")])
        .addresses("host.test", &["127.0.0.1", "::1"])
        .serve()
        .await;
    let resolver = resolver(&dns);
    for _ in 0..3 {
        resolver.service(&Domain::parse("peer.test").unwrap()).await.unwrap();
        resolver.addresses("host.test").await.unwrap();
    }
    assert_eq!(dns.asked().len(), 4);
}

#[tokio::test]
async fn addresses_of_both_families_come_ipv6_first() {
    let zone = Zone::default().addresses("host.test", &["192.0.2.1", "2001:db8::1", "192.0.2.2"]);
    assert_eq!(addresses(zone).await.unwrap(), ["2001:db8::1", "192.0.2.1", "192.0.2.2"]);
}

#[tokio::test]
async fn one_family_is_enough_whatever_the_other_says() {
    for other in [ResponseCode::NoError, ResponseCode::ServFail] {
        let zone = Zone::default().addresses("host.test", &["192.0.2.1"]).reply(
            "host.test",
            RecordType::AAAA,
            Reply::Code(other),
        );
        assert_eq!(addresses(zone).await.unwrap(), ["192.0.2.1"]);
    }
}

#[tokio::test]
async fn a_host_without_addresses_is_not_found_unless_an_answer_is_missing() {
    let error = addresses(Zone::default()).await.unwrap_err();
    assert_eq!(error.condition(), StanzaCondition::RemoteServerNotFound);
    assert_eq!(error.to_string(), "A host.test: no such host");
    for kind in [RecordType::A, RecordType::AAAA] {
        let broken = Zone::default().reply("host.test", kind, Reply::Code(ResponseCode::ServFail));
        let error = addresses(broken).await.unwrap_err();
        assert_eq!(error.condition(), StanzaCondition::RemoteServerTimeout);
        assert_eq!(error.to_string(), format!("{kind} host.test"));
    }
}

#[tokio::test]
async fn an_alias_of_a_host_is_followed_and_other_names_are_ignored() {
    let zone = Zone::default()
        .addresses("host.test", &["192.0.2.9"])
        .addresses("real.test", &["192.0.2.1"])
        .reply("host.test", RecordType::A, Reply::Answers(vec![cname("host.test", "real.test")]))
        .reply(
            "host.test",
            RecordType::AAAA,
            Reply::Answers(vec![cname("other.test", "host.test")]),
        );
    assert_eq!(addresses(zone).await.unwrap(), ["192.0.2.1"]);
}

#[tokio::test]
async fn a_name_that_does_not_fit_into_dns_is_not_found() {
    let label = "a".repeat(63);
    let domain = format!("{label}.{label}.{label}.{}", "a".repeat(50));
    let dns = Zone::default().serve().await;
    let targets = resolver(&dns).service(&Domain::parse(&domain).unwrap()).await.unwrap();
    assert_eq!(targets[0].host.as_ref(), domain);
    let error = resolver(&dns).addresses(&format!("{domain}.{label}")).await.unwrap_err();
    assert_eq!(error.condition(), StanzaCondition::RemoteServerNotFound);
}

#[test]
fn own_listeners_are_never_asked() {
    let own = OwnAddresses::new(["127.0.0.1:53".parse().unwrap()]);
    let servers = vec!["127.0.0.1:53".parse().unwrap(), "192.0.2.53:53".parse().unwrap()];
    let mut config =
        model::Resolver { servers, timeout: Duration::from_secs(1), dnssec: Dnssec::Off };
    assert_eq!(name_servers(&config, &own).unwrap(), ["192.0.2.53:53".parse().unwrap()]);
    config.servers.truncate(1);
    assert!(matches!(name_servers(&config, &own), Err(ServersError::OnlyOwn)));
}
