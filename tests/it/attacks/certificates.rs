//! Certificates that are for another, or for nothing that counts, shown by peers
//! that connect and by servers that the gate connects to.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Eku, GeneralSubtree,
    IsCa, KeyUsagePurpose, NameConstraints,
};
use rustls::pki_types::UnixTime;
use x509_parser::time::ASN1Time;

use crate::world::{BOUNCE, Identity, San, World};

/// The certificate is valid between these, in seconds since 1970.
pub(super) fn valid(params: &mut CertificateParams, from: u64, to: u64) {
    let time = |seconds| ASN1Time::from_timestamp(i64::try_from(seconds).unwrap()).unwrap();
    params.not_before = time(from).to_datetime();
    params.not_after = time(to).to_datetime();
}

/// In both directions this certificate proves the domain, or does not.
async fn both(world: &mut World, identity: &Identity, domain: &str, proven: bool, what: &str) {
    assert_eq!(world.proves_client(identity, domain).await, proven, "{what}: of a client");
    assert_eq!(world.proves_server(identity, domain).await, proven, "{what}: of a server");
}

#[tokio::test]
async fn a_39_what_a_certificate_is_for_is_servers_in_either_direction() {
    let mut world = World::with(BOUNCE).await;
    for (n, (purposes, proven)) in [
        (vec![], true),
        (vec![Eku::ServerAuth], true),
        (vec![Eku::ClientAuth, Eku::ServerAuth], true),
        (vec![Eku::ClientAuth], false),
        (vec![Eku::CodeSigning], false),
    ]
    .into_iter()
    .enumerate()
    {
        let domain = format!("d{n}.test");
        let identity = world.authority.issue_with(&[San::dns(&domain)], |params| {
            params.extended_key_usages.clone_from(&purposes);
        });
        both(&mut world, &identity, &domain, proven, &format!("{purposes:?}")).await;
    }
    world.is_alive().await;
}

/// For each case a domain of its own: `good.test` in it stands for that.
async fn names(world: &mut World, cases: &[(San, &str, bool)]) {
    for (n, (name, wanted, proven)) in cases.iter().enumerate() {
        let own = |text: &str| {
            let text = text.replace("good.test", &format!("good{n}.test"));
            text.replace("GOOD.test", &format!("GOOD{n}.test"))
        };
        let name = match name {
            San::Dns(text) => San::Dns(own(text)),
            San::Srv(text) => San::Srv(own(text)),
            San::Xmpp(text) => San::Xmpp(own(text)),
        };
        let shown = match &name {
            San::Dns(text) | San::Srv(text) | San::Xmpp(text) => format!("{text:?} for {wanted}"),
        };
        // what is odd does not spoil its neighbour
        let neighbour = format!("neighbour{n}.test");
        let identity = world.authority.issue_with(&[name, San::dns(&neighbour)], |_| {});
        both(world, &identity, &own(wanted), *proven, &shown).await;
        both(world, &identity, &neighbour, true, &format!("beside {shown}")).await;
    }
}

#[tokio::test]
async fn a_40_names_are_matched_whole_and_odd_ones_count_for_nothing() {
    let dns = San::dns;
    let mut world = World::with(BOUNCE).await;
    names(
        &mut world,
        &[
            (dns("GOOD.test"), "good.test", true),
            (dns("good.test\0.evil.test"), "good.test", false),
            (dns("good.test\0"), "good.test", false),
            (dns("good.test "), "good.test", false),
            (dns(" good.test"), "good.test", false),
            (dns("good.test."), "good.test", false),
            (dns(".good.test"), "good.test", false),
            (dns("good..test"), "good.test", false),
            (dns("b\u{fc}cher.good.test"), "xn--bcher-kva.good.test", false),
            (dns("xn--bcher-kva.good.test"), "xn--bcher-kva.good.test", true),
            (dns("g\u{200b}ood.test"), "good.test", false),
            (dns("*.good.test"), "a.good.test", true),
            (dns("*.good.test"), "good.test", false),
            (dns("*.good.test"), "a.b.good.test", false),
            (dns("*"), "good.test", false),
            (dns("*.test"), "good.test", false),
            (dns("*.*.good.test"), "a.b.good.test", false),
            (dns("a.*.good.test"), "a.b.good.test", false),
            (dns("w*.good.test"), "www.good.test", false),
            (dns("xn--*.good.test"), "xn--bcher-kva.good.test", false),
            (San::Srv("_xmpp-server.good.test".into()), "good.test", true),
            (San::Srv("_xmpp-server.good.test\0".into()), "good.test", false),
        ],
    )
    .await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_41_the_common_name_is_no_name() {
    let mut world = World::with(BOUNCE).await;
    for (n, names) in [vec![], vec![San::dns("other.test")]].into_iter().enumerate() {
        let domain = format!("d{n}.test");
        let identity = world.authority.issue_with(&names, |params| {
            params.distinguished_name.push(DnType::CommonName, domain.as_str());
        });
        both(&mut world, &identity, &domain, false, "CN").await;
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_42_and_a_43_names_of_other_services_and_of_users_are_not_the_domain() {
    let srv = |name: &str| San::Srv(name.to_owned());
    let xmpp = |name: &str| San::Xmpp(name.to_owned());
    let mut world = World::with(BOUNCE).await;
    names(
        &mut world,
        &[
            (srv("_xmpp-client.good.test"), "good.test", false),
            (srv("_xmpps-server.good.test"), "good.test", false),
            (srv("_https.good.test"), "good.test", false),
            (srv("_xmpp-server._tcp.good.test"), "good.test", false),
            (srv("good.test"), "good.test", false),
            (srv("_xmpp-server.good.test"), "a.good.test", false),
            (xmpp("good.test"), "good.test", true),
            (xmpp("user@good.test"), "good.test", false),
            (xmpp("good.test/resource"), "good.test", false),
            (xmpp("*.good.test"), "a.good.test", false),
        ],
    )
    .await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_44_a_constrained_ca_vouches_for_no_other_names_of_any_kind() {
    let mut world = World::with(BOUNCE).await;
    let limited = |params: &mut CertificateParams| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("good.test".to_owned())],
            excluded_subtrees: vec![GeneralSubtree::DnsName("not.good.test".to_owned())],
        });
    };
    let srv = |name: &str| San::Srv(format!("_xmpp-server.{name}"));
    let xmpp = |name: &str| San::Xmpp(name.to_owned());
    for (n, (name, proven)) in
        [(&San::dns as &dyn Fn(&str) -> San, true), (&srv, true), (&xmpp, true)]
            .into_iter()
            .enumerate()
    {
        for domain in
            [format!("a{n}.good.test"), format!("evil{n}.test"), format!("a{n}.not.good.test")]
        {
            let proven = proven && domain == format!("a{n}.good.test");
            let identity = world.authority.issue_below(limited, &[name(&domain)]);
            both(&mut world, &identity, &domain, proven, &format!("kind {n} for {domain}")).await;
        }
    }
    world.is_alive().await;
}

#[tokio::test]
async fn a_45_what_is_out_of_date_or_no_server_s_proves_nothing() {
    const DAY: u64 = 86_400;
    let now = UnixTime::now().as_secs();
    let mut world = World::with(BOUNCE).await;
    type Change<'a> = &'a dyn Fn(&mut CertificateParams);
    let cases: [(&str, Change<'_>, bool); 6] = [
        ("nothing", &|_| {}, true),
        ("expired", &|params| valid(params, now - 2 * DAY, now - DAY), false),
        ("not yet", &|params| valid(params, now + DAY, now + 2 * DAY), false),
        ("a CA's", &|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), false),
        (
            "for no signatures",
            &|params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
            false,
        ),
        (
            "for certificates",
            &|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign],
            false,
        ),
    ];
    for (n, (what, change, proven)) in cases.into_iter().enumerate() {
        let domain = format!("d{n}.test");
        let identity = world.authority.issue_with(&[San::dns(&domain)], change);
        both(&mut world, &identity, &domain, proven, what).await;
        let identity = Identity::self_signed_with(&[San::dns(&domain)], change);
        assert!(!world.proves_client(&identity, &domain).await, "{what}, self-signed");
    }
    world.is_alive().await;
}
