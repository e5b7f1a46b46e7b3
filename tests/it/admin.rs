//! The admin interface, asked over its sockets while streams are open.

use std::{net::SocketAddr, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use fedgate::{
    admin::{Command, Control, Order, Server},
    config::model,
    ops::report::{Certificate, Check, Domain, Done, Failure, Status, Stream},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::world::{BOUNCE, EXTERNAL, FEATURES_END, FOOTER, World, header, message_to, soon};

/// The interface to a world's gate.
struct Desk {
    server: Server,
    orders: mpsc::Receiver<Order>,
    directory: TempDir,
}

/// An answer.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Desk {
    fn at(world: &World) -> Self {
        Self::with(world, |_| {})
    }

    fn with(world: &World, change: impl FnOnce(&mut model::Admin)) -> Self {
        let directory = TempDir::new().unwrap();
        let mut config = model::Admin {
            socket: Some(directory.path().join("admin.sock")),
            http: vec!["127.0.0.1:0".parse().unwrap()],
            token_file: None,
            write: false,
        };
        change(&mut config);
        let (control, orders) = Control::new();
        let mut server = Server::new(world.app.monitor().clone(), control);
        let bound = server.bind(&config).unwrap_or_else(|error| panic!("{error}"));
        server.serve(bound);
        Self { server, orders, directory }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    fn http(&self) -> SocketAddr {
        self.server.addresses()[0]
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        let length = body.len();
        self.ask(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    /// By the socket.
    async fn ask(&self, request: &str) -> Answer {
        ask(UnixStream::connect(self.socket()).await.unwrap(), request).await
    }

    /// By TCP.
    async fn ask_tcp(&self, request: &str) -> Answer {
        ask(TcpStream::connect(self.http()).await.unwrap(), request).await
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        self.get(path).await.json()
    }

    /// Asks until it is so.
    async fn until<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        is_so: impl Fn(&T) -> bool,
    ) -> T {
        let asked = async {
            loop {
                let found: T = self.json(path).await;
                if is_so(&found) {
                    return found;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        soon(path, asked).await
    }
}

impl Answer {
    fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

async fn ask(mut socket: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Answer {
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    let whole = async {
        loop {
            let mut chunk = [0; 4096];
            let n = socket.read(&mut chunk).await.unwrap();
            text.extend_from_slice(&chunk[..n]);
            if let Some(answer) = parse(&text) {
                return answer;
            }
            assert!(n > 0, "{}", String::from_utf8_lossy(&text));
        }
    };
    timeout(Duration::from_secs(20), whole).await.expect("an answer")
}

fn parse(text: &[u8]) -> Option<Answer> {
    let text = std::str::from_utf8(text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    (body.len() >= length.parse().unwrap()).then(|| Answer {
        status: head[9..12].parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

#[tokio::test]
async fn a_stream_is_told_with_its_pair_proof_and_stanzas() {
    let mut world = World::start().await;
    let desk = Desk::at(&world);
    let mut conn = world.authenticated("evil.test").await;
    let stanza = "<message from='m@evil.test' to='bob@old.test'/>";
    conn.say(stanza).await;
    world.legacy.arrival().await;
    let streams: Vec<Stream> = desk.json("/api/streams").await;
    let stream = streams.iter().find(|s| s.side == "peer").unwrap();
    assert_eq!((&*stream.origin, stream.listener.as_deref()), ("accepted", Some("public")));
    assert_eq!((stream.tls.as_deref(), &*stream.level), (Some("TLSv1.3"), "trusted"));
    assert_eq!((stream.stanzas_in, stream.bytes_in), (1, stanza.len() as u64));
    let pair = &stream.pairs[0];
    assert_eq!((&*pair.sender, &*pair.target), ("evil.test", "old.test"));
    assert_eq!((&*pair.direction, &*pair.proof), ("inbound", "pkix"));
    assert!(stream.certificate.as_ref().unwrap().names.contains("evil.test"));
    let onward: Vec<Stream> = desk
        .until("/api/streams", |all: &Vec<Stream>| {
            all.iter().any(|s| s.side == "legacy" && s.origin == "opened" && s.stanzas_out == 1)
        })
        .await;
    assert!(onward.len() > 1);
    let of_it: Vec<Stream> = desk.json("/api/streams?domain=evil.test").await;
    assert!(of_it.len() > 1 && of_it.iter().any(|s| s.id == stream.id), "{of_it:?}");
    let of_other: Vec<Stream> = desk.json("/api/streams?domain=other.test").await;
    assert!(of_other.is_empty() && desk.get("/api/streams?domain=-").await.status == 400);
    let one: Stream = desk.json(&format!("/api/streams/{}", stream.id)).await;
    assert_eq!(one.id, stream.id);
    assert_eq!(desk.get("/api/streams/999999").await.status, 404);
    let domains: Vec<Domain> = desk.json("/api/domains").await;
    let domain = domains.iter().find(|d| d.domain == "evil.test").unwrap();
    assert!(domain.inbound && !domain.outbound && domain.failure.is_none());
    assert_eq!(
        (domain.stanzas_in, &*domain.level, &domain.proofs[..]),
        (1, "trusted", &["pkix".to_owned()][..])
    );
    let status: Status = desk.json("/api/status").await;
    assert_eq!((status.streams.peer_accepted, status.stanzas.inbound), (1, 1));
    let metrics = desk.get("/metrics").await;
    assert!(metrics.head.contains("application/openmetrics-text"), "{}", metrics.head);
    for line in [
        "fedgate_stanzas_total{direction=\"inbound\"} 1",
        "fedgate_pairs{direction=\"inbound\"} 1",
        "fedgate_streams{side=\"peer\",origin=\"accepted\",level=\"trusted\",proof=\"pkix\",tls=\"TLSv1.3\"} 1",
        "fedgate_negotiations_total{side=\"peer\",origin=\"accepted\",result=\"ok\"} 1",
        "fedgate_legacy_up{legacy=\"old\"} 1",
        "fedgate_draining 0",
    ] {
        assert!(metrics.body.lines().any(|l| l == line), "{line} is not in\n{}", metrics.body);
    }
    // it goes with the stream
    drop(conn);
    desk.until("/api/streams", |all: &Vec<Stream>| all.iter().all(|s| s.id != stream.id)).await;
    desk.server.stop().await;
    world.is_alive().await;
}

#[tokio::test]
async fn pairs_of_before_an_authentication_are_not_shown_behind_it() {
    // RFC 6120 §6.4.6
    let mut world = World::start().await;
    let desk = Desk::at(&world);
    let mut conn = world.secured(Some(&world.authority.issue(&["evil.test", "b.test"]))).await;
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    for domain in ["evil.test", "b.test"] {
        conn.say(format!("<db:result from='{domain}' to='old.test'>k</db:result>")).await;
        conn.until("type='valid'/>").await;
    }
    let senders = |all: &[Stream]| {
        let stream = all.iter().find(|s| s.side == "peer").unwrap();
        stream.pairs.iter().map(|pair| pair.sender.clone()).collect::<Vec<_>>()
    };
    let streams: Vec<Stream> = desk.json("/api/streams").await;
    assert_eq!(senders(&streams).len(), 2);
    conn.say(EXTERNAL).await;
    conn.until("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    conn.say(header("evil.test", "old.test")).await;
    conn.until(FEATURES_END).await;
    conn.say("<message from='m@evil.test' to='bob@old.test'/>").await;
    world.legacy.arrival().await;
    let streams: Vec<Stream> = desk.json("/api/streams").await;
    assert_eq!(senders(&streams), ["evil.test"]);
    world.is_alive().await;
}

#[tokio::test]
async fn a_failure_is_told_until_it_is_forgotten() {
    let mut world = World::with(BOUNCE).await;
    let desk = Desk::at(&world);
    let mut stream = world.legacy.open("nowhere.test").await;
    for n in 0..2 {
        stream.say(&message_to("nowhere.test")).await;
        world.legacy.arrival().await;
        if n == 0 {
            let _: Vec<Failure> =
                desk.until("/api/failures", |all: &Vec<Failure>| all.len() == 1).await;
        }
    }
    let failures: Vec<Failure> = desk.json("/api/failures").await;
    let failure = &failures[0];
    assert_eq!((&*failure.direction, &*failure.local), ("outbound", "old.test"));
    assert_eq!(failure.remote, "nowhere.test");
    assert!(failure.count >= 1 && failure.first <= failure.last);
    assert!(failure.retry.is_some_and(|at| at >= failure.last), "{failure:?}");
    assert_eq!(failure.attempts.last().unwrap().detail, failure.detail);
    let domains: Vec<Domain> = desk.json("/api/domains").await;
    let domain = domains.iter().find(|d| d.domain == "nowhere.test").unwrap();
    assert_eq!(domain.failure.as_ref().unwrap().reason, failure.reason);
    let done: Done = desk.post("/api/retry", r#"{"domain":"nowhere.test"}"#).await.json();
    assert_eq!((done.ok, &*done.detail), (true, "1 tried again"));
    let count = failure.count;
    desk.until("/api/failures", |all: &Vec<Failure>| all[0].count > count).await;
    let done: Done = desk.post("/api/forget", r#"{"domain":"other.test"}"#).await.json();
    assert_eq!(done.detail, "0 forgotten");
    let done: Done = desk.post("/api/forget", r#"{"domain":"nowhere.test"}"#).await.json();
    assert_eq!(done.detail, "1 forgotten");
    let failures: Vec<Failure> = desk.json("/api/failures").await;
    assert_eq!(failures, []);
    // of a domain that comes back nothing is left
    world.is_alive().await;
}

#[tokio::test]
async fn what_goes_out_is_counted_for_its_peer() {
    let mut world = World::start().await;
    let desk = Desk::at(&world);
    world.is_alive().await;
    let is_out = |d: &Domain| d.domain == "good.test" && d.stanzas_out == 1;
    let domains: Vec<Domain> =
        desk.until("/api/domains", |all: &Vec<Domain>| all.iter().any(is_out)).await;
    let domain = domains.iter().find(|d| d.domain == "good.test").unwrap();
    assert!(domain.outbound && domain.bytes_out > 50, "{domain:?}");
    assert_eq!(domain.level, "trusted");
    assert!(domain.certificate_expires.is_some());
    let streams: Vec<Stream> = desk.json("/api/streams").await;
    let opened = streams.iter().find(|s| s.side == "peer" && s.origin == "opened").unwrap();
    assert_eq!(opened.address, Some(world.good.address.to_string()));
    assert_eq!((opened.stanzas_out, &*opened.pairs[0].direction), (1, "outbound"));
    let body = format!("{{\"stream\":{}}}", opened.id);
    assert_eq!(desk.post("/api/close", &body).await.status, 200);
    desk.until("/api/streams", |all: &Vec<Stream>| all.iter().all(|s| s.id != opened.id)).await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_failure_tells_how_far_it_came_step_by_step() {
    let mut world = World::with(BOUNCE).await;
    let desk = Desk::at(&world);
    world.reload("rules: [{ match: evil.test, level: trusted }]").unwrap();
    // TLS comes about, with a certificate of another name
    let identity = world.authority.issue(&["other.test"]);
    let host = crate::world::Host::bind("evil.test", identity);
    world.dns.publish("evil.test", crate::world::Service::StartTls, &[host.address]);
    let _stream = world.sends("evil.test").await;
    let _conn = host.accept_secured().await;
    let failures: Vec<Failure> =
        desk.until("/api/failures", |all: &Vec<Failure>| !all.is_empty()).await;
    let failure = &failures[0];
    assert_eq!((&*failure.stage, &*failure.reason, failure.returned), ("proof", "not-proven", 1));
    let steps: Vec<_> = failure.attempts[0].steps.iter().map(|step| &*step.text).collect();
    let begins = [
        "outbound stanzas need the level trusted",
        "DNS names ",
        "connected to ",
        "STARTTLS: TLSv1.3 ",
        "not proven: ",
        "given up: ",
    ];
    assert!(steps.iter().zip(begins).all(|(step, begin)| step.starts_with(begin)), "{steps:#?}");
    assert!(steps[3].contains("certificate of other.test"), "{steps:#?}");
    world.bounced("evil.test", "remote-server-timeout").await;
    world.is_alive().await;
}

#[tokio::test]
async fn a_refused_peer_is_a_failure_inbound() {
    let world = World::start().await;
    let desk = Desk::at(&world);
    let identity = world.authority.issue(&["other.test"]);
    let mut conn = world.secured(Some(&identity)).await;
    conn.say(crate::world::header("evil.test", "old.test")).await;
    conn.until("</stream:features>").await;
    conn.say("<db:result from='evil.test' to='old.test'>k</db:result>").await;
    conn.until("type='error'").await;
    let failures: Vec<Failure> =
        desk.until("/api/failures", |all: &Vec<Failure>| !all.is_empty()).await;
    assert_eq!((&*failures[0].direction, &*failures[0].remote), ("inbound", "evil.test"));
    assert_eq!((&*failures[0].stage, failures[0].retry), ("auth", None));
}

#[tokio::test]
async fn what_the_other_end_says_when_it_ends_a_stream_is_told() {
    let mut world = World::start().await;
    let desk = Desk::at(&world);
    let mut events = world.app.monitor().watch();
    let mut told = async |stream: u64| loop {
        let event = soon("an event", events.recv()).await.unwrap();
        if (&*event.what, event.stream) == ("closed", Some(stream)) {
            return event.detail;
        }
    };
    let error = |condition: &str, text: &str| {
        let namespace = "urn:ietf:params:xml:ns:xmpp-streams";
        format!(
            "<stream:error><{condition} xmlns='{namespace}'/><text xmlns='{namespace}'>{text}</text>\
             </stream:error>"
        )
    };
    let shown = async |side: &str, has_pairs: bool| {
        let streams: Vec<Stream> = desk.json("/api/streams").await;
        let is = |s: &&Stream| {
            s.side == side && s.origin == "accepted" && s.pairs.is_empty() != has_pairs
        };
        // those of before may not be gone yet
        streams.iter().filter(is).map(|s| s.id).max().unwrap()
    };
    // of a peer that restarts, and of one that was let in before
    for (condition, reason) in [("system-shutdown", "stream"), ("policy-violation", "rejected")] {
        let is_in = reason == "rejected";
        let mut conn = match is_in {
            true => world.authenticated("evil.test").await,
            false => world.proven("evil.test").await,
        };
        let stream = shown("peer", is_in).await;
        conn.say(error(condition, "why not")).await;
        assert_eq!(conn.rest().await, FOOTER);
        let detail = format!("{reason}: stream error {condition} (why not)");
        assert_eq!(told(stream).await, detail);
    }
    let failures: Vec<Failure> = desk.json("/api/failures").await;
    assert_eq!(failures, []);
    // of a peer that does not want us
    let (mut conn, _) = world.unproven("evil.test").await;
    let stream = shown("peer", false).await;
    conn.say(error("policy-violation", "your certificate is rubbish")).await;
    conn.rest().await;
    let said = "stream error policy-violation (your certificate is rubbish)";
    assert_eq!(told(stream).await, format!("rejected: {said}"));
    let failures: Vec<Failure> = desk.json("/api/failures").await;
    let failure = &failures[0];
    assert_eq!((&*failure.direction, &*failure.remote), ("inbound", "evil.test"));
    assert_eq!((&*failure.stage, &*failure.reason), ("auth", "rejected"));
    assert_eq!(failure.detail, format!("{said}, from 127.0.0.1"));
    // of the legacy server
    let mut legacy = world.legacy.open("good.test").await;
    let stream = shown("legacy", true).await;
    legacy.say("<stream:error>old style</stream:error>").await;
    assert_eq!(told(stream).await, "stream: stream error: old style");
    world.is_alive().await;
}

#[tokio::test]
async fn streams_can_be_closed() {
    let mut world = World::start().await;
    let desk = Desk::at(&world);
    let mut one = world.authenticated("evil.test").await;
    let mut two = world.authenticated("other.test").await;
    let streams: Vec<Stream> = desk.json("/api/streams").await;
    let of = |domain: &str| {
        let has = |s: &&Stream| s.side == "peer" && s.pairs.iter().any(|p| p.sender == domain);
        streams.iter().find(has).unwrap().id
    };
    let body = format!("{{\"stream\":{}}}", of("evil.test"));
    let done: Done = desk.post("/api/close", &body).await.json();
    assert!(done.ok, "{done:?}");
    one.ends_with("reset").await;
    let done: Done = desk.post("/api/close", r#"{"domain":"OTHER.test"}"#).await.json();
    assert!(done.ok, "{done:?}");
    two.ends_with("reset").await;
    let again = desk.post("/api/close", r#"{"stream":999999}"#).await;
    assert_eq!(again.status, 409);
    assert_eq!(desk.post("/api/close", "{}").await.status, 400);
    assert_eq!(desk.post("/api/close", r#"{"domain":"a b"}"#).await.status, 400);
    world.is_alive().await;
}

#[tokio::test]
async fn orders_go_to_the_process_and_their_outcome_comes_back() {
    let world = World::start().await;
    let mut desk = Desk::at(&world);
    let (control, orders) = (desk.socket(), &mut desk.orders);
    let asked =
        tokio::spawn(async move {
            let socket = UnixStream::connect(control).await.unwrap();
            let body = r#"{"level":"debug"}"#;
            let length = body.len();
            ask(socket, &format!(
            "POST /api/log-level HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await
        });
    let order = soon("the order", orders.recv()).await.unwrap();
    assert_eq!(order.command, Command::LogLevel("debug".into()));
    let done = Done { ok: false, detail: "no".into(), problems: vec!["why".into()] };
    order.reply.send(done.clone()).unwrap();
    let answer = soon("the answer", asked).await.unwrap();
    assert_eq!((answer.status, answer.json::<Done>()), (409, done));
}

#[tokio::test]
async fn whether_it_is_ready_is_told_check_by_check() {
    let mut world = World::start().await;
    let desk = Desk::at(&world);
    let ready = desk.get("/readyz").await;
    assert_eq!(ready.status, 200, "{}", ready.body);
    let names: Vec<_> = ready.json::<Vec<Check>>().into_iter().map(|check| check.name).collect();
    assert_eq!(names, ["listeners", "certificates", "legacy", "resolver", "draining"]);
    let certificates: Vec<Certificate> = desk.json("/api/certificates").await;
    assert_eq!(certificates.len(), 2);
    assert!(certificates.iter().all(|c| c.ok && c.days_left.is_some_and(|days| days >= 0)));
    world.app.drain();
    let ready = desk.get("/readyz").await;
    assert_eq!(ready.status, 503);
    let checks: Vec<Check> = ready.json();
    assert!(!checks.iter().find(|check| check.name == "draining").unwrap().ok);
    for path in ["/livez", "/healthz"] {
        assert_eq!((desk.get(path).await.status, &*desk.get(path).await.body), (200, "ok\n"));
    }
    assert!(desk.get("/metrics").await.body.contains("\nfedgate_draining 1\n"));
    world.app.shutdown().await;
}

#[tokio::test]
async fn over_tcp_others_get_nothing_and_nothing_changes() {
    let world = World::start().await;
    let desk = Desk::at(&world);
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\n{more}\r\n");
    for (path, more, status) in [
        ("/api/status", "Host: 127.0.0.1\r\n", 200),
        ("/api/status", "Host: rebound.example\r\n", 421),
        ("/", "Host: rebound.example\r\n", 421),
        ("/nothing", "Host: rebound.example\r\n", 421),
        ("/nothing", "Host: localhost\r\n", 404),
        ("/api/status", "Host: localhost\r\nOrigin: https://evil.example\r\n", 403),
        ("/", "Host: localhost\r\n", 200),
        ("/api/reload", "Host: localhost\r\n", 405),
    ] {
        assert_eq!(desk.ask_tcp(&get(path, more)).await.status, status, "{path} {more}");
    }
    let post = "POST /api/drain HTTP/1.1\r\nHost: localhost\r\n\
                Content-Type: application/json\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(desk.ask_tcp(post).await.status, 403);
    let page = desk.ask_tcp(&get("/", "Host: localhost\r\n")).await;
    assert!(page.head.contains("content-security-policy: default-src 'none'"), "{}", page.head);
    let mode = std::fs::metadata(desk.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    // what is too large is told so, and what is no HTTP ends
    let large = format!("{{\"domain\":\"{}\"}}", "a".repeat(20_000));
    assert_eq!(desk.post("/api/forget", &large).await.status, 413);
    let config = desk.get("/api/config").await;
    assert!(config.body.contains("old.test") && config.body.starts_with("version: 1"));
}

#[tokio::test]
async fn a_token_is_asked_for_and_the_configuration_can_change_it() {
    let world = World::start().await;
    let token = "0123456789abcdef0123";
    let mut desk = Desk::with(&world, |config| {
        let path = config.socket.as_ref().unwrap().with_file_name("token");
        std::fs::write(&path, token).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        (config.token_file, config.write) = (Some(path), true);
    });
    let get = |path: &str, token: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
    };
    assert_eq!(desk.ask_tcp(&get("/api/status", "wrong-wrong-wrong")).await.status, 401);
    assert_eq!(desk.ask_tcp(&get("/api/status", token)).await.status, 200);
    let ready = desk.ask_tcp("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!((ready.status, &*ready.body), (200, "ready\n"), "yes, and no more");
    let post = |token: &str| {
        format!(
            "POST /api/forget HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: 0\r\n\r\n"
        )
    };
    assert_eq!(desk.ask_tcp(&post("x")).await.status, 401);
    assert_eq!(desk.ask_tcp(&post(token)).await.status, 200);
    // another address, no socket, no token
    let old = desk.http();
    let config = model::Admin {
        socket: None,
        http: vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()],
        token_file: None,
        write: false,
    };
    let bound = desk.server.bind(&config).unwrap_or_else(|error| panic!("{error}"));
    desk.server.serve(bound);
    assert_eq!(desk.ask_tcp(&get("/api/status", "")).await.status, 200);
    assert!(!desk.socket().exists());
    assert!(desk.server.addresses().contains(&old), "what stays wanted is not bound anew");
    desk.server.stop().await;
}

#[tokio::test]
async fn the_socket_of_a_live_process_is_not_taken_and_that_of_a_dead_one_is() {
    let world = World::start().await;
    let desk = Desk::at(&world);
    let config = model::Admin {
        socket: Some(desk.socket()),
        http: Vec::new(),
        token_file: None,
        write: false,
    };
    let (control, _orders) = Control::new();
    let other = Server::new(world.app.monitor().clone(), control);
    let error = other.bind(&config).err().unwrap().to_string();
    assert!(error.contains("is in use"), "{error}");
    assert_eq!(desk.get("/livez").await.status, 200);
    let left = desk.directory.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    let config = model::Admin { socket: Some(left), ..config };
    assert!(other.bind(&config).is_ok());
}

#[tokio::test]
async fn who_watches_is_told_what_is_so_and_what_happens() {
    let mut world = World::start().await;
    let desk = Desk::at(&world);
    let mut socket = UnixStream::connect(desk.socket()).await.unwrap();
    socket.write_all(b"GET /api/watch HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    let mut until = async |what: &str| {
        let read = async {
            while !seen.contains(what) {
                let mut chunk = vec![0; 4096];
                let n = socket.read(&mut chunk).await.unwrap();
                assert!(n > 0, "{seen}");
                seen.push_str(&String::from_utf8_lossy(&chunk[..n]));
            }
        };
        soon(what, read).await;
    };
    until("event: state\ndata: {\"status\":").await;
    let _conn = world.authenticated("evil.test").await;
    until("event: event\ndata: {").await;
    until("\"what\":\"authorized\"").await;
    until("\"remote\":\"evil.test\"").await;
    until("\"domain\":\"evil.test\"").await;
    drop(socket);
    // nobody is kept out by those who left
    for _ in 0..40 {
        let mut socket = UnixStream::connect(desk.socket()).await.unwrap();
        socket.write_all(b"GET /api/watch?events HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        soon("an answer", socket.read_exact(&mut head)).await.unwrap();
        assert!(head.ends_with(b"200") || head.ends_with(b"503"));
    }
    desk.server.stop().await;
    world.is_alive().await;
}

/// Watches; the end comes as the last chunk.
async fn watch(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    token: &str,
) -> impl AsyncRead + Unpin {
    let request = format!(
        "GET /api/watch?events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    assert!(soon("the first", seen(&mut socket, ": watching")).await.contains(" 200 "));
    socket
}

/// Reads until there is `what`.
async fn seen(socket: &mut (impl AsyncRead + Unpin), what: &str) -> String {
    let mut text = String::new();
    while !text.contains(what) {
        let mut chunk = [0; 4096];
        let n = socket.read(&mut chunk).await.unwrap();
        assert!(n > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&chunk[..n]));
    }
    text
}

const LAST_CHUNK: &str = "0\r\n\r\n";

#[tokio::test]
async fn who_watches_by_tcp_has_to_ask_again_when_the_token_is_another_or_the_address_goes() {
    let world = World::start().await;
    let mut desk = Desk::at(&world);
    let config = |token: &str, http: Vec<SocketAddr>| {
        let path = desk.directory.path().join(token);
        std::fs::write(&path, token).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let socket = Some(desk.directory.path().join("admin.sock"));
        model::Admin { socket, http, token_file: Some(path), write: false }
    };
    let [first, second] = ["first-0123456789", "second-0123456789"];
    let any = "127.0.0.1:0".parse().unwrap();
    let configs = [config(first, vec![any]), config(second, vec![any]), config(second, vec![])];
    let serve = |server: &mut Server, config: &model::Admin| {
        let bound = server.bind(config).unwrap_or_else(|error| panic!("{error}"));
        server.serve(bound);
    };
    serve(&mut desk.server, &configs[0]);
    let tcp = async |desk: &Desk| TcpStream::connect(desk.http()).await.unwrap();
    let mut by_socket = watch(UnixStream::connect(desk.socket()).await.unwrap(), "").await;
    let mut by_first = watch(tcp(&desk).await, first).await;
    // who may read is the same
    serve(&mut desk.server, &model::Admin { write: true, ..configs[0].clone() });
    let while_ = Duration::from_millis(100);
    timeout(while_, seen(&mut by_first, LAST_CHUNK)).await.unwrap_err();
    serve(&mut desk.server, &configs[1]);
    soon("the end", seen(&mut by_first, LAST_CHUNK)).await;
    let mut by_second = watch(tcp(&desk).await, second).await;
    serve(&mut desk.server, &configs[2]);
    soon("the end", seen(&mut by_second, LAST_CHUNK)).await;
    timeout(while_, seen(&mut by_socket, LAST_CHUNK)).await.unwrap_err();
    desk.server.stop().await;
}

#[tokio::test]
async fn http_may_move_to_an_address_that_overlaps_the_old_one() {
    let world = World::start().await;
    let mut desk = Desk::at(&world);
    let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), desk.http().port());
    let addresses = [at("0.0.0.0"), at("::"), at("127.0.0.1")];
    for address in addresses {
        let config = model::Admin {
            socket: Some(desk.socket()),
            http: vec![address],
            token_file: None,
            write: false,
        };
        let bound = desk.server.bind(&config).unwrap_or_else(|error| panic!("{error}"));
        desk.server.serve(bound);
        let socket = TcpStream::connect(("127.0.0.1", address.port())).await.unwrap();
        let answer = ask(socket, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!((answer.status, desk.http()), (200, address));
        let other = std::net::TcpListener::bind(address);
        assert_eq!(other.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    }
    desk.server.stop().await;
}

/// Asks for the page over and over and reads none of it, until no more is taken: the interface is
/// stuck with an answer.
async fn asks_and_does_not_read<S: AsyncWrite + Unpin>(mut socket: S) -> S {
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    while timeout(Duration::from_millis(300), socket.write_all(&request)).await.is_ok() {}
    socket
}

#[tokio::test]
async fn who_does_not_read_keeps_nobody_from_the_socket_and_delays_no_end() {
    let world = World::start().await;
    let desk = Desk::at(&world);
    let mut strangers = Vec::new();
    for _ in 0..65 {
        let mut socket = TcpStream::connect(desk.http()).await.unwrap();
        socket.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
        strangers.push(socket);
    }
    for _ in 0..2 {
        assert_eq!(desk.get("/livez").await.status, 200);
    }
    // their places are still taken
    assert_eq!(ask(strangers.swap_remove(0), "Host: localhost\r\n\r\n").await.status, 200);
    drop(strangers);
    let tcp = TcpStream::connect(desk.http()).await.unwrap();
    let _tcp = asks_and_does_not_read(tcp).await;
    let unix = UnixStream::connect(desk.socket()).await.unwrap();
    let _unix = asks_and_does_not_read(unix).await;
    soon("the end", desk.server.stop()).await;
}
