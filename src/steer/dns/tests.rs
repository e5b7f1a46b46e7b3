use hickory_proto::{
    op::{Edns, Message, OpCode, Query, ResponseCode},
    rr::{DNSClass, RData, RecordType},
};

use super::{answer::Decision, *};
use crate::config::model::Steer;
use crate::net::fake_dns::{FakeDns, Reply, Transport as Asked, Zone, fqdn};

fn settings(upstream: Vec<SocketAddr>) -> Settings {
    Settings {
        addresses: vec!["127.0.0.53".parse().unwrap()],
        port: 5270,
        local_domains: vec![Domain::parse("legacy.test").unwrap()],
        clients: Vec::new(),
        upstream,
    }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(fqdn(name), kind));
    query
}

fn answer(name: &str, kind: RecordType) -> Decision {
    answer::answer(&query(name, kind), &settings(Vec::new()))
}

#[track_caller]
fn reply(name: &str, kind: RecordType) -> Message {
    match answer(name, kind) {
        Decision::Reply(reply) => reply,
        Decision::Forward => panic!("{name} {kind} is forwarded"),
    }
}

/// A responder at work on a free port.
struct World {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

fn respond(settings: Settings) -> World {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = Arc::new(ArcSwap::from_pointee(settings));
    let responder = Responder::bind(&[loopback], settings, &[]).unwrap();
    let address = responder.local_addresses().unwrap()[0];
    let mut tasks = JoinSet::new();
    tasks.spawn(responder.run(CancellationToken::new()));
    World { address, _tasks: tasks }
}

impl World {
    async fn ask_udp(&self, query: &Message) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&query.to_vec().unwrap(), self.address).await.unwrap();
        let mut buffer = [0; 65_535];
        let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
        assert_eq!(from, self.address);
        Message::from_vec(&buffer[..len]).unwrap()
    }

    async fn ask_tcp(&self, queries: &[Message]) -> Vec<Message> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        for query in queries {
            relay::write_message(&mut stream, &query.to_vec().unwrap()).await.unwrap();
        }
        let mut replies = Vec::new();
        for _ in queries {
            let len = stream.read_u16().await.unwrap();
            let mut reply = vec![0; usize::from(len)];
            stream.read_exact(&mut reply).await.unwrap();
            replies.push(Message::from_vec(&reply).unwrap());
        }
        replies
    }
}

async fn upstream() -> FakeDns {
    let many: Vec<String> = (0..100).map(|i| format!("192.0.2.{i}")).collect();
    Zone::default()
        .addresses("peer.test", &["192.0.2.1"])
        .addresses("many.test", &many.iter().map(|a| &**a).collect::<Vec<_>>())
        .srv("_xmpp-server._tcp.legacy.test", &[(1, 2, 5269, "fedgate.test")])
        .reply("fail.test", RecordType::A, Reply::Code(ResponseCode::ServFail))
        .serve()
        .await
}

#[test]
fn every_remote_domain_is_served_by_fedgate() {
    for name in [
        "_xmpp-server._tcp.peer.test",
        "_jabber._tcp.peer.test",
        "_XMPP-Server._TCP.no.such.Domain",
    ] {
        let reply = reply(name, RecordType::SRV);
        assert_eq!(reply.response_code, ResponseCode::NoError);
        let flags = (reply.recursion_desired, reply.recursion_available, reply.authoritative);
        assert_eq!(flags, (true, true, false));
        let [record] = &reply.answers[..] else { panic!("{reply:?}") };
        assert!(record.name.eq_case(&fqdn(name)), "{}", record.name);
        assert_eq!(record.ttl, 60);
        let RData::SRV(srv) = &record.data else { panic!("{record:?}") };
        assert_eq!((srv.priority, srv.weight, srv.port), (0, 0, 5270));
        let [address] = &reply.additionals[..] else { panic!("{reply:?}") };
        assert_eq!(address.name, srv.target);
        assert_eq!(address.data, RData::from("127.0.0.53".parse::<IpAddr>().unwrap()));
    }
}

#[test]
fn what_is_no_domain_is_led_nowhere() {
    for remote in
        ["typo_name", "test", "foo_bar.test", "10.0.0.1", "xn--strae-oqa.test", "xn--a.test"]
    {
        for service in ["_xmpp-server", "_jabber"] {
            let reply = reply(&format!("{service}._tcp.{remote}"), RecordType::SRV);
            let [record] = &reply.answers[..] else { panic!("{remote}: {reply:?}") };
            let RData::SRV(srv) = &record.data else { panic!("{record:?}") };
            assert_eq!(srv.target, fqdn("nowhere.fedgate.internal"), "{remote}");
            assert!(reply.additionals.is_empty());
        }
    }
    for kind in [RecordType::A, RecordType::AAAA] {
        let reply = reply("nowhere.FEDGATE.internal", kind);
        assert_eq!((reply.response_code, reply.answers.len()), (ResponseCode::NoError, 0));
    }
    // one label that looks like two
    let mut name = fqdn("a.test");
    for label in [&b"b.c"[..], b"_tcp", b"_xmpp-server"] {
        name = name.prepend_label(label).unwrap();
    }
    let mut query = Message::query();
    query.add_query(Query::query(name, RecordType::SRV));
    let Decision::Reply(reply) = answer::answer(&query, &settings(Vec::new())) else {
        panic!("forwarded")
    };
    assert!(reply.additionals.is_empty());
}

#[test]
fn the_target_has_an_address_of_one_family() {
    let name = "steer.FEDGATE.internal";
    assert_eq!(reply(name, RecordType::A).answers.len(), 1);
    for kind in [RecordType::AAAA, RecordType::HTTPS] {
        let reply = reply(name, kind);
        assert_eq!((reply.response_code, reply.answers.len()), (ResponseCode::NoError, 0));
    }
    let mut settings = settings(Vec::new());
    settings.addresses = vec!["fd00::53".parse().unwrap()];
    for (kind, answers) in [(RecordType::A, 0), (RecordType::AAAA, 1)] {
        let Decision::Reply(reply) = answer::answer(&query(name, kind), &settings) else {
            panic!("forwarded")
        };
        assert_eq!(reply.answers.len(), answers);
    }
}

#[test]
fn the_longest_name_of_many_replicas_has_an_answer_that_every_resolver_takes() {
    let mut settings = settings(Vec::new());
    settings.addresses = (1..=Steer::MAX_ADDRESSES)
        .map(|n| format!("fd00:1234:5678:9abc:def0:1234:5678:{n}").parse().unwrap())
        .collect();
    let label = "x".repeat(63);
    let name = format!("_xmpp-server._tcp.{label}.{label}.{label}.{}", "x".repeat(43));
    let mut query = query(&name, RecordType::SRV);
    query.set_edns(Edns::new());
    let Decision::Reply(reply) = answer::answer(&query, &settings) else { panic!("forwarded") };
    assert_eq!((reply.answers.len(), reply.additionals.len()), (1, Steer::MAX_ADDRESSES));
    let bytes = reply.to_vec().unwrap();
    assert!(bytes.len() <= 512, "{}", bytes.len());
    let again = Message::from_vec(&bytes).unwrap();
    let given: Vec<IpAddr> =
        again.additionals.iter().filter_map(|record| record.data.ip_addr()).collect();
    assert_eq!(given, settings.addresses);

    let query = self::query("steer.fedgate.internal", RecordType::AAAA);
    let Decision::Reply(reply) = answer::answer(&query, &settings) else { panic!("forwarded") };
    assert_eq!(reply.answers.len(), Steer::MAX_ADDRESSES);
}

#[test]
fn direct_tls_is_denied() {
    let reply = reply("_xmpps-server._tcp.peer.test", RecordType::SRV);
    assert_eq!(reply.response_code, ResponseCode::NoError);
    assert!(reply.answers.is_empty());
}

#[test]
fn local_domains_and_everything_else_are_forwarded() {
    for (name, kind) in [
        ("_xmpp-server._tcp.legacy.test", RecordType::SRV),
        ("_jabber._tcp.LEGACY.test", RecordType::SRV),
        ("_xmpps-server._tcp.legacy.test", RecordType::SRV),
        ("_xmpp-client._tcp.peer.test", RecordType::SRV),
        ("_xmpp-server._udp.peer.test", RecordType::SRV),
        ("_xmpp-server._tcp", RecordType::SRV),
        ("_tcp.peer.test", RecordType::SRV),
        ("_xmpp-server._tcp.peer.test", RecordType::TXT),
        ("peer.test", RecordType::A),
        ("x.steer.fedgate.internal", RecordType::A),
        (".", RecordType::NS),
    ] {
        assert_eq!(answer(name, kind), Decision::Forward, "{name} {kind}");
    }
    for remote in ["a.legacy.test", "legacy.test.peer.test", "xlegacy.test"] {
        reply(&format!("_xmpp-server._tcp.{remote}"), RecordType::SRV);
    }
    let mut chaos = query("_xmpp-server._tcp.peer.test", RecordType::SRV);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(answer::answer(&chaos, &settings(Vec::new())), Decision::Forward);
}

#[test]
fn edns_is_answered_with_edns_and_only_then() {
    let mut query = query("_xmpp-server._tcp.peer.test", RecordType::SRV);
    let reply = |query: &Message| match answer::answer(query, &settings(Vec::new())) {
        Decision::Reply(reply) => reply.edns,
        Decision::Forward => panic!("forwarded"),
    };
    assert_eq!(reply(&query), None);
    let mut edns = Edns::new();
    edns.set_max_payload(4096).set_dnssec_ok(true);
    query.set_edns(edns);
    let edns = reply(&query).unwrap();
    assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (1232, true));
}

#[test]
fn the_longest_name_has_an_answer_that_fits_into_plain_udp() {
    let label = "a".repeat(63);
    let name = format!("_xmpp-server._tcp.{label}.{label}.{label}.{}", "b".repeat(42));
    let query = query(&name, RecordType::SRV).to_vec().unwrap();
    let mut settings = settings(Vec::new());
    settings.addresses = vec!["fd00::53".parse().unwrap()];
    let Step::Reply(reply) = step(&query, &settings) else { panic!("no reply") };
    assert!(reply.len() <= 512, "{}", reply.len());
}

#[test]
fn what_is_no_query_gets_an_error_or_nothing() {
    let settings = settings(Vec::new());
    let good = query("_xmpp-server._tcp.peer.test", RecordType::SRV).to_vec().unwrap();
    let code = |bytes: &[u8]| match step(bytes, &settings) {
        Step::Reply(reply) => Some(Message::from_vec(&reply).unwrap().response_code),
        Step::Drop | Step::Forward => None,
    };
    assert_eq!(code(&good), Some(ResponseCode::NoError));
    for len in 0..12 {
        assert_eq!(step(&good[..len], &settings), Step::Drop);
    }
    for len in 12..good.len() {
        assert_eq!(code(&good[..len]), Some(ResponseCode::FormErr), "cut to {len}");
    }
    let mut answer = good.clone();
    answer[2] |= 0x80;
    assert_eq!(step(&answer, &settings), Step::Drop);
    let mut two = query("a.test", RecordType::A);
    two.add_query(Query::query(fqdn("b.test"), RecordType::A));
    assert_eq!(code(&two.to_vec().unwrap()), Some(ResponseCode::FormErr));
    let mut update = query("a.test", RecordType::SOA);
    update.metadata.op_code = OpCode::Notify;
    assert_eq!(code(&update.to_vec().unwrap()), Some(ResponseCode::NotImp));
}

#[tokio::test]
async fn steered_names_are_answered_and_others_relayed_over_both_transports() {
    let upstream = upstream().await;
    let world = respond(settings(vec![upstream.address]));
    let steered = query("_xmpp-server._tcp.PEER.test", RecordType::SRV);
    let relayed = query("Peer.Test", RecordType::A);
    let missing = query("missing.test", RecordType::A);
    let queries = [steered, relayed, missing];
    let by_tcp = world.ask_tcp(&queries).await;
    for (n, query) in queries.iter().enumerate() {
        let by_udp = world.ask_udp(query).await;
        assert_eq!(by_udp, by_tcp[n]);
        assert_eq!(by_udp.id, query.id);
        assert!(by_udp.queries[0].name().eq_case(query.queries[0].name()));
    }
    assert_eq!(by_tcp[0].answers.len(), 1);
    assert_eq!(by_tcp[1].answers[0].data, RData::from("192.0.2.1".parse::<IpAddr>().unwrap()));
    assert_eq!(by_tcp[2].response_code, ResponseCode::NXDomain);
    let asked: Vec<_> = upstream.asked().iter().map(|q| q.2).collect();
    assert_eq!(asked, [Asked::Tcp, Asked::Tcp, Asked::Udp, Asked::Udp]);
}

#[tokio::test]
async fn the_srv_records_of_a_local_domain_are_those_of_the_upstream() {
    let upstream = upstream().await;
    let world = respond(settings(vec![upstream.address]));
    let reply = world.ask_udp(&query("_xmpp-server._tcp.legacy.test", RecordType::SRV)).await;
    let RData::SRV(srv) = &reply.answers[0].data else { panic!("{reply:?}") };
    assert_eq!(srv.target, fqdn("fedgate.test"));
}

#[tokio::test]
async fn a_truncated_answer_is_relayed_as_such_and_whole_over_tcp() {
    let upstream = upstream().await;
    let world = respond(settings(vec![upstream.address]));
    let query = query("many.test", RecordType::A);
    let reply = world.ask_udp(&query).await;
    assert!(reply.truncation);
    assert_eq!(world.ask_tcp(std::slice::from_ref(&query)).await[0].answers.len(), 100);
    let mut large = query;
    large.set_edns(Edns::new()).edns.as_mut().unwrap().set_max_payload(4096);
    assert_eq!(world.ask_udp(&large).await.answers.len(), 100);
}

#[tokio::test]
async fn the_next_upstream_is_asked_where_one_fails() {
    let good = upstream().await;
    let bad = Zone::default()
        .reply("peer.test", RecordType::A, Reply::Code(ResponseCode::Refused))
        .serve()
        .await;
    let nobody = {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.local_addr().unwrap()
    };
    let world = respond(settings(vec![nobody, bad.address, good.address]));
    let queries = [query("peer.test", RecordType::A)];
    assert_eq!(world.ask_udp(&queries[0]).await.answers.len(), 1);
    assert_eq!(world.ask_tcp(&queries).await[0].answers.len(), 1);
    assert_eq!(bad.asked().len(), 2);
}

#[tokio::test]
async fn a_failure_of_every_upstream_is_passed_on() {
    let upstream = upstream().await;
    let world = respond(settings(vec![upstream.address]));
    let failed = world.ask_udp(&query("fail.test", RecordType::A)).await;
    assert_eq!(failed.response_code, ResponseCode::ServFail);
    let world = respond(settings(Vec::new()));
    let none = world.ask_udp(&query("peer.test", RecordType::A)).await;
    assert_eq!(none.response_code, ResponseCode::ServFail);
    assert_eq!(none.queries.len(), 1);
}

#[tokio::test]
async fn a_forged_answer_does_not_reach_the_client() {
    let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let world = respond(settings(vec![upstream.local_addr().unwrap()]));
    let query = query("peer.test", RecordType::A);
    let honest = async {
        let mut buffer = [0; 512];
        let (len, from) = upstream.recv_from(&mut buffer).await.unwrap();
        let asked = Message::from_vec(&buffer[..len]).unwrap();
        let mut answer = asked.clone().into_response();
        answer.metadata.response_code = ResponseCode::Refused;
        answer.metadata.id ^= 1;
        upstream.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        answer.metadata.id ^= 1;
        answer.metadata.response_code = ResponseCode::NXDomain;
        upstream.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
    };
    let (reply, ()) = tokio::join!(world.ask_udp(&query), honest);
    assert_eq!((reply.id, reply.response_code), (query.id, ResponseCode::NXDomain));
}

#[tokio::test]
async fn strangers_get_no_answer() {
    let mut settings = settings(Vec::new());
    settings.clients = vec!["127.0.0.2/32".parse().unwrap()];
    let world = respond(settings);
    let query = query("_xmpp-server._tcp.peer.test", RecordType::SRV).to_vec().unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.send_to(&query, world.address).await.unwrap();
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    assert!(stream.read_u16().await.is_err());
    let client = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    client.send_to(&query, world.address).await.unwrap();
    let mut buffer = [0; 512];
    client.recv_from(&mut buffer).await.unwrap();
    // The stranger asked first, and would have been answered by now.
    assert!(stranger.try_recv_from(&mut buffer).is_err());
}

#[tokio::test]
async fn new_settings_hold_from_the_next_query_on() {
    let shared = Arc::new(ArcSwap::from_pointee(settings(Vec::new())));
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let responder = Responder::bind(&[loopback], shared.clone(), &[]).unwrap();
    let world = World {
        address: responder.local_addresses().unwrap()[0],
        _tasks: JoinSet::from_iter([responder.run(CancellationToken::new())]),
    };
    let query = query("_xmpp-server._tcp.legacy.test", RecordType::SRV);
    assert_eq!(world.ask_udp(&query).await.response_code, ResponseCode::ServFail);
    shared.store(Arc::new(Settings { local_domains: Vec::new(), ..settings(Vec::new()) }));
    assert_eq!(world.ask_udp(&query).await.answers.len(), 1);
}

#[tokio::test]
async fn shutdown_ends_the_responder_and_a_taken_address_is_an_error() {
    let settings = Arc::new(ArcSwap::from_pointee(settings(Vec::new())));
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let responder = Responder::bind(&[loopback], settings.clone(), &[]).unwrap();
    let address = responder.local_addresses().unwrap()[0];
    let error = Responder::bind(&[address], settings.clone(), &[]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with(&format!("bind dns responder to {address}: ")));
    // but one may take it over, and others may not
    let sockets: Vec<_> = responder.sockets().collect();
    let next = Responder::bind(&[address], settings.clone(), &sockets).unwrap();
    assert_eq!(next.local_addresses().unwrap(), [address]);
    Responder::bind(&[address], settings, &[]).unwrap_err();
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    responder.run(shutdown).await;
}
