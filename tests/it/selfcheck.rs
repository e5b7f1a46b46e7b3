//! What `fedgate selfcheck` says of set-ups, good and bad.

use fedgate::{
    config::model::Config,
    diagnose::{
        Status,
        selfcheck::{Options, Report, SelfcheckError, report::Topic, selfcheck},
    },
    ops::report::Check,
};

use crate::world::{Dns, Identity, Manner, Plan, Service, Style, World, soon};

fn options(domain: Option<&str>) -> Options {
    let check = Check { name: "legacy".to_owned(), ok: true, detail: "1 reached".to_owned() };
    Options { domain: domain.map(|name| name.parse().unwrap()), running: Some(Ok(vec![check])) }
}

/// What is published for both domains of the old server, and a configuration that names the real
/// ports.
fn in_order(world: &mut World) -> Config {
    let mut config = world.config();
    config.listen.dns = vec!["127.0.0.1:0".parse().unwrap()];
    config.posh.fetch = false;
    config.steer.port = world.local().port();
    world.app.reload(config.clone()).unwrap();
    let addresses = world.app.addresses();
    config.listen.public = addresses.public.clone();
    config.listen.direct_tls = addresses.direct_tls.clone();
    config.listen.local = addresses.local;
    config.listen.dns = addresses.dns;
    for domain in ["old.test", "rooms.old.test"] {
        world.dns.publish(domain, Service::StartTls, &addresses.public);
        world.dns.publish(domain, Service::Direct, &addresses.direct_tls);
    }
    config
}

async fn looked_at(config: Config, options: &Options) -> Report {
    soon("a report", selfcheck(config, options)).await.unwrap()
}

/// The texts about a topic.
fn texts(report: &Report, topic: Topic, status: Status) -> Vec<&str> {
    let items = report.items.iter();
    let wanted = items.filter(|item| item.topic == topic && item.status == status);
    wanted.map(|item| item.text.as_str()).collect()
}

#[tokio::test]
async fn a_good_set_up_is_called_good() {
    let mut world = World::start().await;
    let config = in_order(&mut world);
    let public = world.public();
    let report = looked_at(config.clone(), &options(None)).await;
    let text = report.to_text(false);
    assert_eq!(report.status, Status::Ok, "{text}");
    for domain in ["old.test", "rooms.old.test"] {
        let of = |topic| {
            let all = report.items.iter().filter(move |item| item.topic == topic);
            all.filter(|item| item.domain.as_deref() == Some(domain)).collect::<Vec<_>>()
        };
        assert_eq!(of(Topic::Reach).len(), 2, "{text}");
        assert_eq!(of(Topic::Certificate).len(), 3, "{text}");
        let seen = of(Topic::Seen);
        assert!(seen[0].text.ends_with("proven by pkix"), "{text}");
        assert!(of(Topic::Legacy)[0].text.ends_with("connected, answers dialback"), "{text}");
    }
    let reached = texts(&report, Topic::Reach, Status::Ok);
    let public = format!("{public} STARTTLS: our certificate answers");
    assert_eq!(reached.iter().filter(|text| **text == public).count(), 2, "{text}");
    assert_eq!(texts(&report, Topic::Steer, Status::Ok).len(), 1, "{text}");
    assert_eq!(texts(&report, Topic::State, Status::Ok).len(), 2, "{text}");
    assert_eq!(texts(&report, Topic::Running, Status::Ok), ["legacy: 1 reached"]);
    // with a domain come those below it, but not the other way round
    let rooms = looked_at(config.clone(), &options(Some("rooms.old.test"))).await;
    assert!(rooms.items.iter().all(|item| item.domain.as_deref() != Some("old.test")));
    let both = looked_at(config.clone(), &options(Some("old.test"))).await;
    assert_eq!(both.items.len(), report.items.len());
    let foreign = selfcheck(config, &options(Some("good.test"))).await;
    assert!(matches!(foreign, Err(SelfcheckError::NotLocal(_))), "{foreign:?}");
    world.is_alive().await;
}

#[tokio::test]
async fn what_is_wrong_is_found() {
    let mut world = World::start().await;
    let mut config = in_order(&mut world);
    // nobody listens at one address, and rooms are published nowhere
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = socket.local_addr().unwrap();
    drop(socket);
    world.dns.publish("old.test", Service::StartTls, &[closed]);
    world.dns.publish("rooms.old.test", Service::Direct, &[]);
    config.listen.public.push(closed);
    // the certificate on disk is another one than the gate shows, and of nobody
    let files = config.certificates[0].clone();
    Identity::self_signed("else.test").write(&files.cert, &files.key);
    // the old server says nothing, and another name server stands where the responder should
    world.legacy.behave(Manner::Closes);
    let other = Dns::start().await;
    config.listen.dns = vec![other.address];
    let mut options = options(None);
    options.running = Some(Err("nobody answers".to_owned()));
    let report = looked_at(config.clone(), &options).await;
    let text = report.to_text(false);
    assert_eq!(report.status, Status::Critical);
    let found = |topic, status, part: &str| {
        let texts = texts(&report, topic, status);
        assert!(texts.iter().any(|text| text.contains(part)), "{part}: {text}");
    };
    found(Topic::Reach, Status::Critical, "it is an address of this machine");
    found(Topic::Reach, Status::Critical, "another certificate answers, for old.test");
    found(Topic::Certificate, Status::Warning, "does not name old.test");
    found(Topic::Certificate, Status::Warning, "no PKIX");
    found(Topic::Legacy, Status::Critical, "waiting for the stream header");
    found(Topic::Steer, Status::Critical, "something else");
    found(Topic::Running, Status::Critical, "nobody answers");
    // without any certificate there is still something to say of the rest
    std::fs::write(&files.key, "no key").unwrap();
    config.state_dir = config.state_dir.join("nowhere");
    let report = looked_at(config, &options).await;
    let text = report.to_text(false);
    assert_eq!(texts(&report, Topic::Certificate, Status::Critical).len(), 1, "{text}");
    assert_eq!(texts(&report, Topic::State, Status::Warning).len(), 2, "{text}");
    assert_eq!(texts(&report, Topic::Legacy, Status::Critical).len(), 2, "{text}");
}

#[tokio::test]
async fn a_responder_that_is_for_another_machine_is_not_asked() {
    let plan = Plan { legacy: "    sources: [192.0.2.0/24]", ..Plan::DEFAULT };
    let mut world = World::with(plan).await;
    let config = in_order(&mut world);
    let report = looked_at(config, &options(None)).await;
    let text = report.to_text(false);
    let steer = texts(&report, Topic::Steer, Status::Ok);
    assert!(steer.len() == 1 && steer[0].contains("is not asked"), "{text}");
    assert_eq!(report.status, Status::Ok, "{text}");
}

#[tokio::test]
async fn an_old_server_answers_in_its_own_way_and_rules_may_shut_out_strangers() {
    let plan = Plan { config: "defaults: { allow: none }", style: Style::Old, ..Plan::DEFAULT };
    let mut world = World::with(plan).await;
    let config = in_order(&mut world);
    let report = looked_at(config, &options(None)).await;
    let text = report.to_text(false);
    assert_eq!(texts(&report, Topic::Legacy, Status::Ok).len(), 2, "{text}");
    let seen = texts(&report, Topic::Seen, Status::Ok);
    assert!(seen.iter().all(|text| text.starts_with("strangers are let no further")), "{text}");
    assert_eq!(seen.len(), 2, "{text}");
}
