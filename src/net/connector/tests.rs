use hickory_proto::{op::ResponseCode, rr::RecordType};
use socket2::{Domain as Family, Socket, Type};
use tokio::net::TcpListener;

use super::*;
use crate::{
    config::{model, policy::Place},
    net::{
        fake_dns::{FakeDns, Reply, Zone},
        targets::{Delegation, TargetTls},
    },
};

const LONG: Duration = Duration::from_secs(600);

fn rules() -> Rules {
    Rules { filter: Box::new(|_| None), own: OwnAddresses::default(), tcp_timeout: LONG }
}

fn target(host: &str, port: u16) -> Target {
    Target {
        host: host.into(),
        port,
        tls: TargetTls::StartTls,
        priority: 0,
        delegation: Delegation::Insecure,
    }
}

fn connector(dns: &FakeDns, targets: Vec<Target>, rules: Rules) -> Connector {
    let config = model::Resolver {
        servers: vec![dns.address],
        timeout: Duration::from_secs(20),
        dnssec: model::Dnssec::Off,
    };
    let resolver = Resolver::new(&config, &OwnAddresses::default()).unwrap();
    Connector::new(resolver, targets, rules)
}

fn denied() -> Denied {
    Denied { reason: None, rule: Place::words("policy.yaml:7") }
}

/// Listeners on the same port of each address.
async fn listeners<const N: usize>(addresses: [&str; N]) -> (u16, [TcpListener; N]) {
    loop {
        let first = TcpListener::bind((addresses[0], 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut all = vec![first];
        for address in &addresses[1..] {
            all.extend(TcpListener::bind((*address, port)).await);
        }
        if let Ok(all) = all.try_into() {
            return (port, all);
        }
    }
}

/// A port of 127.0.0.1 on which nothing listens, kept free while the socket lives.
fn closed_port() -> (u16, Socket) {
    let socket = Socket::new(Family::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    (socket.local_addr().unwrap().as_socket().unwrap().port(), socket)
}

/// A listener whose queue is full: the kernel drops what wants to connect.
async fn black_hole(address: &str, port: u16) -> io::Result<(Socket, Vec<TcpStream>)> {
    let socket = Socket::new(Family::IPV4, Type::STREAM, None)?;
    let address = SocketAddr::new(address.parse().unwrap(), port);
    socket.bind(&address.into())?;
    socket.listen(0)?;
    let mut queued = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        queued.push(stream?);
    }
    Ok((socket, queued))
}

#[tokio::test]
async fn every_address_of_a_target_is_tried_before_the_next_target() {
    let (port, _listeners) = listeners(["127.0.0.1", "127.0.0.2"]).await;
    let dns = Zone::default()
        .addresses("a.test", &["127.0.0.1", "127.0.0.2", "127.0.0.1"])
        .addresses("b.test", &["127.0.0.1"])
        .serve()
        .await;
    let targets = vec![target("a.test", port), target("b.test", port)];
    let mut connector = connector(&dns, targets, rules());
    let mut tried = Vec::new();
    while let Some(connected) = connector.next().await {
        assert_eq!(connected.stream.peer_addr().unwrap(), connected.address);
        assert!(connected.stream.nodelay().unwrap());
        tried.push((connected.target.host.to_string(), connected.address.ip().to_string()));
    }
    let expected = [("a.test", "127.0.0.1"), ("a.test", "127.0.0.2"), ("b.test", "127.0.0.1")];
    assert_eq!(tried, expected.map(|(host, ip)| (host.to_owned(), ip.to_owned())));
    assert!(connector.into_error().failures.is_empty());
}

#[test]
fn families_take_turns_and_ipv6_is_first() {
    let rules = rules();
    let allowed = |addresses| rules.candidates(addresses, 1, &mut Vec::new());
    let addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.3", "::ffff:192.0.2.4"];
    let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
    let candidates = allowed(addresses);
    let candidates: Vec<_> = candidates.iter().map(|a| a.ip().to_string()).collect();
    assert_eq!(candidates, ["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]);
    let many = (0..200).map(|i| IpAddr::from([192, 0, 2, i])).collect();
    assert_eq!(allowed(many).len(), MAX_ADDRESSES);
}

#[tokio::test]
async fn a_silent_address_does_not_hold_up_the_next_one_and_may_be_tried_again() {
    let (_hole, port, _listener) = loop {
        let (port, [listener]) = listeners(["127.0.0.3"]).await;
        if let Ok(hole) = black_hole("127.0.0.2", port).await {
            break (hole, port, listener);
        }
    };
    let dns = Zone::default().addresses("a.test", &["127.0.0.2", "127.0.0.3"]).serve().await;
    let mut connector = connector(&dns, vec![target("a.test", port)], rules());
    let winner = connector.next().await.unwrap();
    assert_eq!(winner.address.ip().to_string(), "127.0.0.3");
    connector.rules.tcp_timeout = Duration::from_millis(1);
    assert!(connector.next().await.is_none());
    let error = connector.into_error();
    assert_eq!(error.condition(), StanzaCondition::RemoteServerTimeout);
    let [ConnectFailure::Tcp { address, source }] = &error.failures[..] else {
        panic!("{error:?}")
    };
    assert_eq!(address.ip().to_string(), "127.0.0.2");
    assert_eq!(source.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn failures_are_kept_in_the_order_tried() {
    let (open, _listeners) = listeners(["127.0.0.1"]).await;
    let (closed, _socket) = closed_port();
    let dns = Zone::default()
        .addresses("closed.test", &["127.0.0.1"])
        .addresses("open.test", &["127.0.0.1"])
        .reply("broken.test", RecordType::A, Reply::Code(ResponseCode::ServFail))
        .serve()
        .await;
    let targets = vec![
        target("broken.test", open),
        target("none.test", open),
        target("closed.test", closed),
        target("open.test", open),
    ];
    let mut connector = connector(&dns, targets, rules());
    assert_eq!(connector.next().await.unwrap().target.host.as_ref(), "open.test");
    assert!(connector.next().await.is_none());
    assert_eq!(
        connector.into_error().to_string(),
        format!(
            "A broken.test: DNS error: error response: Server Failure; A none.test: no such host; \
             connect to 127.0.0.1:{closed}: Connection refused (os error 111)"
        )
    );
}

#[tokio::test]
async fn a_forbidden_address_is_never_connected_to_whatever_its_spelling() {
    let (port, [listener]) = listeners(["127.0.0.1"]).await;
    let dns = Zone::default().addresses("a.test", &["127.0.0.1", "::ffff:127.0.0.1"]).serve().await;
    let filter: AddressFilter = Box::new(|ip| (ip.is_ipv4() && ip.is_loopback()).then(denied));
    let mut connector = connector(&dns, vec![target("a.test", port)], Rules { filter, ..rules() });
    assert!(connector.next().await.is_none());
    let error = connector.into_error();
    assert_eq!(error.condition(), StanzaCondition::Forbidden);
    let message = format!("127.0.0.1:{port} is refused by the rule at policy.yaml:7");
    assert_eq!(error.to_string(), format!("{message}; {message}"));
    drop(listener);
}

#[tokio::test]
async fn own_listeners_are_never_connected_to() {
    let (port, [listener]) = listeners(["127.0.0.1"]).await;
    let own = OwnAddresses::new([listener.local_addr().unwrap()]);
    let dns = Zone::default().addresses("a.test", &["127.0.0.1"]).serve().await;
    let mut connector = connector(&dns, vec![target("a.test", port)], Rules { own, ..rules() });
    assert!(connector.next().await.is_none());
    let error = connector.into_error();
    assert_eq!(error.to_string(), format!("127.0.0.1:{port} is fedgate itself"));
    assert_eq!(error.condition(), StanzaCondition::RemoteServerNotFound);
}

#[tokio::test]
async fn a_host_that_does_not_exist_is_told_apart_from_one_that_does_not_answer() {
    let dns = Zone::default().addresses("b.test", &["127.0.0.1"]).serve().await;
    let (closed, _socket) = closed_port();
    for (targets, condition) in [
        (vec![target("a.test", 1)], StanzaCondition::RemoteServerNotFound),
        (vec![target("a.test", 1), target("b.test", closed)], StanzaCondition::RemoteServerTimeout),
    ] {
        let mut connector = connector(&dns, targets, rules());
        assert!(connector.next().await.is_none());
        assert_eq!(connector.into_error().condition(), condition);
    }
}

#[tokio::test]
async fn the_legacy_server_is_found_by_address_and_by_name() {
    let (port, _listener) = listeners(["127.0.0.1"]).await;
    for host in ["127.0.0.1", "localhost"] {
        let address = HostPort { host: host.into(), port };
        let stream = connect_legacy(&address, LONG).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().port(), port);
    }
}

#[tokio::test]
async fn a_legacy_server_that_is_down_or_unknown_is_an_error() {
    let (port, _socket) = closed_port();
    let down = HostPort { host: "127.0.0.1".into(), port };
    let error = connect_legacy(&down, LONG).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let unknown = HostPort { host: "no such host".into(), port };
    assert!(connect_legacy(&unknown, LONG).await.is_err());
}

#[tokio::test]
async fn a_connector_may_be_driven_by_any_worker() {
    let dns = Zone::default().serve().await;
    let mut connector = connector(&dns, Vec::new(), rules());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { connector.next().await.is_none() });
    assert!(tasks.join_next().await.unwrap().unwrap());
}

#[tokio::test]
async fn a_target_whose_tlsa_answer_is_missing_is_not_connected_to() {
    use hickory_proto::rr::{RData, Record};

    use crate::{
        auth::dane::{DanePlan, TlsaRecord},
        net::fake_dns::fqdn,
    };

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let record = |name: &str, kind, data: &str| {
        let data = RData::try_from_str(kind, data).unwrap();
        Record::from_rdata(fqdn(name), 300, data)
    };
    let signed = |name: &str, kind, data: &str| Reply::Full {
        code: ResponseCode::NoError,
        answers: vec![record(name, kind, data)],
        authorities: vec![],
        authentic: true,
    };
    let tlsa = |host: &str| format!("_{port}._tcp.{host}");
    let digest = "07".repeat(32);
    let zone = Zone::default()
        .reply("broken.test", RecordType::A, signed("broken.test", RecordType::A, "127.0.0.1"))
        .reply(&tlsa("broken.test"), RecordType::TLSA, Reply::Code(ResponseCode::ServFail))
        .reply("good.test", RecordType::A, signed("good.test", RecordType::A, "127.0.0.1"))
        .reply(
            &tlsa("good.test"),
            RecordType::TLSA,
            signed(&tlsa("good.test"), RecordType::TLSA, &format!("3 1 1 {digest}")),
        );
    let dns = zone.serve().await;
    let config = model::Resolver {
        servers: vec![dns.address],
        timeout: Duration::from_secs(20),
        dnssec: model::Dnssec::TrustAd,
    };
    let resolver = Resolver::new(&config, &OwnAddresses::default()).unwrap();
    let until = rustls::pki_types::UnixTime::now();
    let secure = |host| Target { delegation: Delegation::Secure { until }, ..target(host, port) };
    let rules = Rules {
        filter: Box::new(|_| None),
        own: OwnAddresses::default(),
        tcp_timeout: Duration::from_secs(20),
    };
    let targets = vec![secure("broken.test"), secure("good.test"), target("good.test", port)];
    let mut connector = Connector::new(resolver, targets, rules);
    let connected = connector.next().await.unwrap();
    assert_eq!(&*connected.target.host, "good.test");
    let DanePlan::Match(set) = &connected.plan else { panic!("{connected:?}") };
    let wanted = TlsaRecord { usage: 3, selector: 1, matching: 1, data: [7; 32].into() };
    assert_eq!((&*set.base, &set.records), ("good.test", &vec![wanted]));
    // the same endpoint without a delegation to rely on
    let connected = connector.next().await.unwrap();
    assert_eq!(connected.plan, DanePlan::NotApplicable);
    let error = connector.into_error().to_string();
    assert!(error.starts_with(&format!("TLSA _{port}._tcp.broken.test")), "{error}");
}
