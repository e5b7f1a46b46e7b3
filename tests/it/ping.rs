//! Pings in the name of a local domain: over the way that stanzas take, and never a word of them to
//! the old server.

use fedgate::{
    admin::{Control, Server},
    config::model,
    ops::report::Ping,
    proxy::PingRefused,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::world::{Manner, Plan, World, attribute, soon};

impl World {
    /// Pings the honest peer, whose answer is `answer` with the id of the ping.
    async fn pinged(&mut self, answer: impl Fn(&str) -> String) -> Ping {
        let monitor = self.app.monitor().clone();
        let (local, remote) = ("old.test".parse().unwrap(), "good.test".parse().unwrap());
        // the futures of a test together are large for the stack of its thread
        let answering = Box::pin(async {
            let ping = self.good.arrival().await;
            assert!(ping.starts_with("<iq from='old.test' to='good.test' id='"), "{ping}");
            assert!(ping.ends_with(" type='get'><ping xmlns='urn:xmpp:ping'/></iq>"), "{ping}");
            let id = attribute(&ping, "id").to_owned();
            let mut stream = self.good.open("old.test").await;
            stream.say(&answer(&id)).await;
            stream
        });
        let pinging = Box::pin(monitor.ping(&local, &remote));
        let both = Box::pin(async { tokio::join!(pinging, answering) });
        let (ping, _stream) = soon("an answer", both).await;
        ping.unwrap()
    }
}

fn result(id: &str) -> String {
    format!("<iq type='result' id='{id}' from='good.test' to='old.test'/>")
}

#[tokio::test]
async fn every_milestone_has_its_time_and_the_old_server_hears_nothing() {
    let mut world = World::start().await;
    let first = world.pinged(result).await;
    assert!(first.ok && !first.was_open, "{first:?}");
    assert_eq!(first.answer.as_deref(), Some("result"));
    let times = [first.opened_ms, first.written_ms, first.answered_ms].map(Option::unwrap);
    assert!(times.is_sorted(), "{first:?}");
    for part in ["connected to host1.good.test", "STARTTLS", "proven by pkix"] {
        let has = first.steps.iter().any(|step| step.text.contains(part));
        assert!(has, "{part}: {first:?}");
    }
    assert!(first.steps.is_sorted_by_key(|step| step.ms));
    // a message around the answer goes its way
    let message = "<message from='ann@good.test' to='bob@old.test'><body>x</body></message>";
    let error = "<error type='cancel'>\
        <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    let second = world
        .pinged(|id| {
            let iq = format!("<iq type='error' id='{id}' from='good.test' to='old.test'>");
            format!("{message}{iq}{error}</iq>{message}")
        })
        .await;
    assert!(second.ok && second.was_open, "{second:?}");
    assert_eq!(second.answer.as_deref(), Some("service-unavailable"));
    assert_eq!((second.steps.len(), second.opened_ms), (0, None));
    for _ in 0..2 {
        assert_eq!(world.legacy.arrival().await, message);
    }
    // which also sees that nothing else came
    world.is_alive().await;
}

#[tokio::test]
async fn an_answer_to_what_nobody_asked_is_an_ordinary_stanza() {
    let mut world = World::start().await;
    let stray = result("fedgate-ping-00000000000000000000000000000000");
    let mut stream = world.good.open("old.test").await;
    stream.say(&stray).await;
    assert_eq!(world.legacy.arrival().await, stray);
    world.is_alive().await;
}

#[tokio::test]
async fn a_ping_that_does_not_arrive_says_why_and_nothing_bounces() {
    let mut world = World::start().await;
    world.good.behave(Manner::Invalid);
    let monitor = world.app.monitor().clone();
    let (local, remote) = ("old.test".parse().unwrap(), "gone.test".parse().unwrap());
    let ping = soon("an end", monitor.ping(&local, &remote)).await.unwrap();
    assert!(!ping.ok && ping.answered_ms.is_none(), "{ping:?}");
    assert!(ping.opened_ms.is_none() && ping.written_ms.is_none(), "{ping:?}");
    assert!(ping.steps.iter().any(|step| step.text.contains("need the level")), "{ping:?}");
    assert!(ping.failure.unwrap().contains("gone.test"));
    let again = soon("an end", monitor.ping(&local, &remote)).await.unwrap();
    assert!(again.failure.unwrap().contains("fedgate retry"));
    world.good.behave(Manner::Honest);
    for (from, to) in [("good.test", "old.test"), ("old.test", "rooms.old.test")] {
        let refused = monitor.ping(&from.parse().unwrap(), &to.parse().unwrap()).await;
        assert!(matches!(refused, Err(PingRefused::Pair(_))), "{refused:?}");
    }
    world.is_alive().await;
}

#[tokio::test]
async fn rules_hold_for_pings_too() {
    let config = "rules: [{ match: good.test, allow: inbound }]";
    let mut world = World::with(Plan { config, ..Plan::DEFAULT }).await;
    let monitor = world.app.monitor().clone();
    let (local, remote) = ("old.test".parse().unwrap(), "good.test".parse().unwrap());
    let ping = soon("an end", monitor.ping(&local, &remote)).await.unwrap();
    assert!(ping.failure.is_some_and(|why| why.contains("denied by")), "refused by a rule");
    assert_eq!(world.good.arrived(), Vec::<String>::new());
    assert_eq!(world.legacy.arrived(), Vec::<String>::new());
}

#[tokio::test]
async fn the_admin_socket_takes_a_pair_and_nothing_else() {
    let world = World::start().await;
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("admin.sock");
    let config = model::Admin {
        socket: Some(socket.clone()),
        http: Vec::new(),
        token_file: None,
        write: false,
    };
    let (control, _orders) = Control::new();
    let mut server = Server::new(world.app.monitor().clone(), control);
    let bound = server.bind(&config).unwrap();
    server.serve(bound);
    let post = async |body: &str| {
        let mut socket = UnixStream::connect(&socket).await.unwrap();
        let request = format!(
            "POST /api/ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon("an answer", socket.read_to_string(&mut answer)).await.unwrap();
        answer
    };
    for (body, status, words) in [
        (r#"{"local": "old.test"}"#, "400", "missing field"),
        (r#"{"local": "old.test", "remote": "x"}"#, "400", "the domain"),
        (r#"{"local": "old.test", "remote": "a.test", "id": "1"}"#, "400", "unknown field"),
        (r#"{"local": "a.test", "remote": "old.test"}"#, "409", "from a local domain"),
        (r#"{"local": "old.test", "remote": "gone.test"}"#, "200", "\"ok\":false"),
    ] {
        let answer = post(body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(words), "{answer}");
    }
    server.stop().await;
}
